# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Put a full run of the study of 2024 where the rest of the repository finds it.

Its best network into the package, with hash and model card:

    python tools/ship_study.py RUN_FOLDER [DATA_FOLDER]

or its numbers, tables and figures into the documentation, from which the page docs/study.rst is
built; what that page says of them is held by tests/study/test_claims.py:

    python tools/ship_study.py --page RUN_FOLDER

where the run is that of ``astroflux study run --preset full -o RUN_FOLDER``, and the data are in
RUN_FOLDER/dataset if not told otherwise.
"""

import argparse
import json
import shutil
import sys
from io import StringIO
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from astropy.table import Table
from PIL import Image

from astroflux import CNNFluxEstimator
from astroflux.networks import load_weights, save_weights
from astroflux.study.dataset import load_set, read_settings
from astroflux.study.published import CNN_NAMES, PUBLISHED_LOSSES
from astroflux.study.results import STUDY_NAME, read_study
from astroflux.study.run import STAGE_NAMES
from astroflux.study.trainings import FOLDER_NAME, read_trained

TOP = Path(__file__).parents[1]
WEIGHTS = TOP / 'astroflux' / 'networks' / 'weights'
PAGE = TOP / 'docs' / 'study'

NAME = 'study-2024'

# Edges of the bins of true flux, in ADU.
FLUX_EDGES = (0, 300, 3000, 10_000, 30_000)

CARD = """\
{name}
{underline}

The best of the three networks of the study of 2024, trained again as its report says. **Kept for
comparison; not for measurements.**

- Architecture: ``StudyNet``, {n_parameters:,} parameters, stored in half precision, settings
  ``{settings}``.
- SHA-256 of the tensors: ``{sha256}``
- Made by ``astroflux study run --preset full -o FOLDER`` and ``python tools/ship_study.py FOLDER``:
  {label} of the report, Adam with the rate {learning_rate:g}, {epochs} epochs, batches of
  {batch_size}, dropout {dropout:g}, seed {seed}.

Trained on
~~~~~~~~~~

{n_train:,} galaxies drawn with GalSim to the description in the report (seed {data_seed}): a disc
and a bulge, total flux uniform in 0 to 30,000 ADU at zero point {zeropoint:g}, noise of
{noise:g} ADU per pixel, one Kolmogorov PSF of {psf_fwhm:g} arcsec FWHM, {pixel_scale:g} arcsec per
pixel, one galaxy in the middle of 143 x 143 pixels, no neighbours, no masks.

How it does
~~~~~~~~~~~

On {n_test:,} other galaxies of the same kind, with the stored weights, it is off by {rms:.3f} dex
rms (a mean squared error of log flux of {loss:.4g}; the report printed {published:g}): a median of
{median:.0f} %, and {beyond:.0f} % of the galaxies by more than 10 %. The median bias is
{bias:+.1f} %. {failed}It was chosen among the three by this very error. The plain sum of the pixels
of the same images is off by {sum_rms:.3f} dex rms{sum_failed}, a median of {sum_median:.1f} %;
{sum_beyond:.1f} % by more than 10 %.

{table}

Where it fails
~~~~~~~~~~~~~~

- Everywhere that is not its test set: other surveys, zero points, pixel scales and PSFs, noisier
  images, neighbours, masks. It sees raw pixels, so that a cutout of twice the brightness does not
  get twice the flux.
- Cutouts in any other unit than ADU raise an error.
- Faint galaxies, which most galaxies of a survey are: see the table.
- Its errors are the one number above for all galaxies, and there are no shapes.
"""


def find_best(run):
    """Return the network of the lowest test loss."""
    trained = [read_trained(run / FOLDER_NAME / f'{name}.pt') for name in CNN_NAMES]
    return min(trained, key=lambda one: np.nan_to_num(one.summary['test_loss'], nan=np.inf))


def describe_errors(actual, predicted):
    """
    Return what the card says of errors of log flux.

    Failures count as far off, but have no part in ``rms`` and ``bias``.
    """
    error = np.asarray(predicted, float) - actual
    good = np.isfinite(error)
    percent = 100 * np.abs(10 ** np.where(good, error, 0) - 1)
    percent[~good] = np.inf
    return {
        'rms': float(np.sqrt(np.mean(error[good] ** 2))),
        'median': float(np.median(percent)),
        'beyond': float(100 * np.mean(percent > 10)),
        'bias': float(100 * (10 ** np.median(error[good]) - 1)),
        'n_failed': int((~good).sum()),
    }


def table_by_flux(flux, predicted):
    """Return a table of the errors in bins of the true flux, as reStructuredText."""
    rows = []
    for low, high in pairwise(FLUX_EDGES):
        chosen = (flux > low) & (flux <= high)
        if chosen.any():
            found = describe_errors(np.log10(flux[chosen]), predicted[chosen])
            numbers = (f'{found["median"]:.0f}', f'{found["bias"]:+.0f}', f'{found["beyond"]:.0f}')
            rows.append((f'{low:,}-{high:,}', f'{chosen.sum():,}', f'{found["rms"]:.3f}', *numbers))
    names = ('flux [ADU]', 'n', 'rms [dex]', 'median error [%]', 'bias [%]', 'beyond 10 % [%]')
    text = StringIO()
    Table(rows=rows, names=names).write(text, format='ascii.rst')
    return text.getvalue().rstrip()


def write_weights(folder, best, test, settings):
    """Write the file in half precision, with the errors of the answers of just these weights."""
    path = folder / f'{NAME}.safetensors'
    metadata = {
        'log_flux_range': best.summary['log_flux_range'],
        'zeropoint': test.zeropoint,
        'noise': test.noise,
        'psf_fwhm_range': [settings.psf_fwhm / test.pixel_scale] * 2,
        'training': best.settings,
        'summary': best.summary,
    }
    options = {'name': NAME, 'dtype': torch.float16}
    save_weights(path, best.network, metadata=metadata, **options)
    flux = CNNFluxEstimator(weights=path).predict(test.cutouts()).value
    with np.errstate(invalid='ignore', divide='ignore'):
        predicted = np.log10(flux)
    metadata['test_rms_dex'] = describe_errors(test.log_flux, predicted)['rms']
    save_weights(path, best.network, metadata=metadata, **options)
    path.chmod(0o644)
    return load_weights(path), predicted


def register(folder, sha256):
    """Add the weights to the registry, of which the first entry stays the default."""
    path = folder / 'registry.json'
    registry = json.loads(path.read_text())
    registry.pop(NAME, None)
    registry[NAME] = sha256
    path.write_text(json.dumps(registry, indent=1) + '\n')


def write_card(folder, weights, predicted, test, settings):
    """Write the model card beside the weights."""
    training = weights.metadata['training']
    errors = describe_errors(test.log_flux, predicted)
    with np.errstate(invalid='ignore', divide='ignore'):
        stamp_sums = np.log10(test.images.sum(axis=(1, 2), dtype=float))
    sums = describe_errors(test.log_flux, stamp_sums)
    failed, sum_failed = errors.pop('n_failed'), sums.pop('n_failed')
    text = CARD.format(
        name=NAME,
        underline='-' * len(NAME),
        n_parameters=weights.network.n_parameters,
        settings=json.dumps(weights.network.settings),
        sha256=weights.sha256,
        label=training['name'].replace('cnn-', 'CNN '),
        **{k: training[k] for k in ('learning_rate', 'epochs', 'batch_size', 'dropout', 'seed')},
        n_train=training['n_train'],
        n_test=len(test),
        data_seed=settings.seed,
        zeropoint=test.zeropoint,
        noise=test.noise,
        psf_fwhm=settings.psf_fwhm,
        pixel_scale=test.pixel_scale,
        loss=errors['rms'] ** 2,
        published=PUBLISHED_LOSSES[training['name']][1],
        failed=f'{failed} have no answer, and no part in rms and bias. ' if failed else '',
        **errors,
        **{f'sum_{k}': value for k, value in sums.items()},
        sum_failed=f' (without {sum_failed} that are not positive)' if sum_failed else '',
        table=table_by_flux(test.flux, predicted),
    )
    (folder / f'{NAME}.rst').write_text(text)


def ship(run, data, folder=WEIGHTS):
    """Write weights, registry and card."""
    settings, test = read_settings(data), load_set(data, 'test', progress=True)
    weights, predicted = write_weights(folder, find_best(run), test, settings)
    register(folder, weights.sha256)
    write_card(folder, weights, predicted, test, settings)


def ship_page(run, folder=PAGE, *, preset='full'):
    """Replace the run that the documentation shows; one that is not whole replaces nothing."""
    study = read_study(run)
    if study['settings']['preset'] != preset:
        msg = f'want a run of the preset {preset}, got {study["settings"]["preset"]}'
        raise ValueError(msg)
    if missing := [name for name in STAGE_NAMES if name not in study['stages']]:
        msg = f'want a run with all stages; this one lacks {", ".join(missing)}'
        raise ValueError(msg)
    new = folder.with_name(f'{folder.name}.new')
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    shutil.copyfile(run / STUDY_NAME, new / STUDY_NAME)
    for stage, found in study['stages'].items():
        (new / stage).mkdir()
        for name in found['tables']:
            shutil.copyfile(run / stage / name, new / stage / name)
        for name in found['figures']:
            compress(run / stage / name, new / stage / name)
    shutil.rmtree(folder, ignore_errors=True)
    new.rename(folder)


def compress(source, target):
    """Copy a PNG with a palette of few colours, if that is smaller."""
    with Image.open(source) as image:
        few = image.convert('RGB').quantize(256, dither=Image.Dither.NONE)
    few.save(target, optimize=True)
    if target.stat().st_size > source.stat().st_size:
        shutil.copyfile(source, target)


def main():
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('run', type=Path)
    parser.add_argument('data', type=Path, nargs='?')
    parser.add_argument('--page', action='store_true', help='the results, not the network')
    options = parser.parse_args()
    try:
        if options.page:
            ship_page(options.run)
        else:
            ship(options.run, options.data or options.run / 'dataset')
    except (OSError, ValueError) as exc:
        sys.exit(str(exc))


if __name__ == '__main__':
    main()
