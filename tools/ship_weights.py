# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Put trained weights into the package: the file, its hash, its model card.

    python tools/ship_weights.py RUN_FOLDER/NAME.safetensors [--note TEXT]

where the folder is that of ``python -m astroflux.training NAME -o RUN_FOLDER``. A note says
what was other than the configuration has it. A file of a development version, which states no
answer to the reference cutout, gets one first, with its tensors as they are:

    python tools/ship_weights.py --state-answer FILE...

Run ``python benchmarks/run.py --fresh --write`` afterwards, which fills the tables of
the card.
"""

import argparse
import csv
import json
import shutil
import textwrap
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from astroflux.evaluation._numbers import grouped_text
from astroflux.networks import load_weights
from astroflux.networks.store import state_answer

TOP = Path(__file__).parents[1]
WEIGHTS = TOP / 'astroflux' / 'networks' / 'weights'
DOCS = TOP / 'docs' / 'weights'

CARD = """\
{name}
{underline}

{description}

- Architecture: ``ProfileNet``, {n_parameters:,} parameters, settings ``{settings}``.
- SHA-256 of the tensors: ``{sha256}``
- Made by ``python -m astroflux.training {name} -o FOLDER`` from the configuration
  ``astroflux/training/configs/{name}.toml``: seeds {library_seed} (galaxies) and
  {training_seed} (initial weights, observations), {steps:,} steps of {batch_size}
  stamps.{given}{note}

Trained on
~~~~~~~~~~

{n_galaxies:,} galaxies drawn with GalSim. All lengths are in pixels, so that the weights serve
any survey.

- {own_share:.0%} in a survey's own pixels: half-light radius {radius}, PSF of {fwhm} FWHM; the
  others in blocks of pixels, as large galaxies are measured: {large_radius} and {narrow_fwhm}
  blocks. Moffat (beta {beta}) and Kolmogorov PSFs, sheared by up to {psf_shear}.
- One Sersic component of index {sersic} (drawn with a weight of its power {index_power}), or a
  bulge and a disc; {structured:.0%} are not smooth: {richer:.0%} of these are spirals with the
  light of the disc in their arms, clumpy discs, mergers, pairs in contact or discs seen edge-on,
  with nuclei and halos; the others have a ring, arms, a bar or clumps, or are lopsided. Axis
  ratio {axis_ratio}. Galaxies smaller than {compact} FWHM are the rarer the smaller.

Observed anew at every step: S/N {snr}. {whole_sky:.0%} of the stamps have a sky as in a coadd:
galaxies and stars by their number counts, pairs in excess of chance, a background that was
subtracted with the faint ones in it, correlated noise, variances that are wrong, footprints of a
detection as masks. Of the others {blend:.0%} have up to {max_neighbours} neighbours, of which
{neighbour_mask:.0%} are masked. Bad columns and blobs in {defect:.0%}; noise that changes across
the stamp in {uneven:.0%}, the sources' own photon noise in {photon:.0%}, noise correlated between
pixels in {correlated:.0%} of those without a sky; in {told:.0%} of all that is correlated the noise
is that of sums over a few pixels, as with ``noise_correlation=``; a sky residual of {sky} sigma,
and of {sky_offset} sigma in {sky_is_off:.0%}; positions off by up to two pixels; stamps cut to
{min_stamp} pixels and more in {small:.0%}; PSF withheld in {unknown:.0%}, all but its width in
another {shape_unknown:.0%}; in {exact:.0%} the PSF as it is, in {other:.0%} that of another field,
in the others one with errors, of {fwhm_error:.0%} of the width.

For galaxies in blocks of pixels the last layers have weights of their own: {blocks_steps:,} steps
on {n_blocks:,} galaxies (seed {blocks_seed}) of half-light radius {blocks_radius} and PSFs of
{blocks_fwhm} FWHM, in blocks, at S/N {blocks_snr}. There the sky is off by {sky} sigma times the
pixels of a block along a side, which are 2 to {max_binning}.

The errors were learned from {n_calibration:,} galaxies of their own (seed {calibration_seed}), in
which no PSF is that of another field; those of galaxies in blocks from {n_blocks_calibration:,}
others.

The design and the length of the training were chosen by the validation galaxies (seed
{validation_seed}), which are not trained on. The test sets of ``benchmarks/`` are of other seeds.

Where it fails
~~~~~~~~~~~~~~

- Galaxies of a half-light radius outside {radius} pixels (or, if the stamp is larger than 147
  pixels, as many blocks of them), and PSFs outside {fwhm} pixels FWHM: flag ``OUT_OF_RANGE``.
- High Sersic indices at low S/N: their wings are invisible, and the answer leans to the more
  common discs (the set ``uniform-index``).
- Large galaxies at high S/N, measured in blocks of pixels: further from the bound than others (the
  set ``large``).
- Stars' diffraction spikes: none was in the training.
- Blends at low S/N: a neighbour that noise hides is counted in. A brighter neighbour within two
  FWHM: the flag ``AMBIGUOUS``, and errors that are too small.
- Two sources nearer to each other than one FWHM: they are measured as one galaxy, and nothing
  says so.
- Several neighbours as bright as the galaxy, within seven FWHM around it: they may be taken for
  its own arms.
- Below S/N 5 the answer leans on the population that it was trained on.
- Gradients of the sky, and a sky wrong by much more than {sky_offset} sigma per pixel.

Measured on fresh isolated galaxies (``python benchmarks/run.py --write``):

.. begin isolated

Not measured yet.

.. end isolated

and on blends:

.. begin blended

Not measured yet.

.. end blended
"""


def span(low_high):
    """Format a range."""
    return ' to '.join(grouped_text(value) for value in low_high)


def _given(weights):
    """Return where a network came from whose first training was not repeated."""
    name = weights.metadata.get('first_training_of')
    if name is None:
        return ''
    return (
        f'\n  These first steps are those of ``{name}``, of the same settings: the network was '
        'given with\n  ``--network``, and what is for blocks of pixels was added.'
    )


def _of_blocks(blocks):
    """Return what the card says of the second training."""
    (part,) = blocks['library']['part']
    return {
        'n_blocks': blocks['library']['n_galaxies'],
        'blocks_seed': blocks['library']['seed'],
        'n_blocks_calibration': blocks['calibration']['n_galaxies'],
        'blocks_steps': sum(steps for steps, _ in blocks['optimiser']['cycles']),
        'blocks_radius': span(part['galaxies']['half_light_radius']),
        'blocks_fwhm': span(part['psf']['fwhm']),
        'blocks_snr': span(blocks['observation']['snr']),
        'max_binning': blocks['observation']['max_binning'],
    }


def write_card(weights, note):
    """Write the model card beside the weights."""
    source = weights.metadata['training']
    library, observation = source['library'], source['observation']
    own, rebinned = library['part']
    text = CARD.format(
        name=weights.name,
        underline='-' * len(weights.name),
        description=source['description'],
        n_parameters=weights.network.n_parameters,
        settings=json.dumps(weights.network.settings),
        sha256=weights.sha256,
        library_seed=library['seed'],
        training_seed=source['optimiser']['seed'],
        n_calibration=source['calibration']['n_galaxies'],
        calibration_seed=source['calibration']['seed'],
        validation_seed=source['validation']['seed'],
        steps=sum(steps for steps, _ in source['optimiser']['cycles']),
        batch_size=source['optimiser']['batch_size'],
        n_galaxies=library['n_galaxies'],
        own_share=own['share'],
        radius=span(own['galaxies']['half_light_radius']),
        given=_given(weights),
        note=note and f'\n{textwrap.fill(note, 96, initial_indent="  ", subsequent_indent="  ")}',
        **_of_blocks(source['blocks']),
        large_radius=span(rebinned['galaxies']['half_light_radius']),
        fwhm=span(own['psf']['fwhm']),
        narrow_fwhm=span(rebinned['psf']['fwhm']),
        beta=span(own['psf']['moffat_beta']),
        psf_shear=own['psf']['max_ellipticity'],
        sersic=span(library['galaxies']['sersic_index']),
        index_power=observation['sersic_index_power'],
        structured=library['structured_fraction'],
        richer=library['richer_fraction'],
        whole_sky=observation['sky_fraction'],
        told=observation['told_correlation_fraction'],
        sky_offset=observation['sky_offset'],
        sky_is_off=observation['sky_offset_fraction'],
        compact=observation['compact_radius'],
        axis_ratio=span(library['galaxies']['axis_ratio']),
        snr=span(observation['snr']),
        max_neighbours=observation['max_neighbours'],
        blend=observation['blend_fraction'],
        neighbour_mask=observation['neighbour_mask_fraction'],
        defect=observation['defect_fraction'],
        uneven=observation['uneven_noise_fraction'],
        photon=observation['photon_noise_fraction'],
        correlated=observation['correlated_noise_fraction'],
        sky=observation['sky_residual'],
        min_stamp=observation['min_stamp_size'],
        small=observation['small_stamp_fraction'],
        exact=observation['exact_psf_fraction'],
        other=observation['other_psf_fraction'],
        fwhm_error=observation['psf_fwhm_error'],
        unknown=observation['unknown_psf_fraction'],
        shape_unknown=observation['unknown_shape_fraction'],
    )
    (WEIGHTS / f'{weights.name}.rst').write_text(text)


def draw_training(log_path, path):
    """Draw loss and validation scatter against the step."""
    with log_path.open() as file:
        rows = list(csv.DictReader(file))
    figure = Figure(figsize=(9, 3.6), layout='constrained')
    left, right = figure.subplots(1, 2)
    bins = list(dict.fromkeys((row['low'], row['high']) for row in rows))
    first = [row for row in rows if row['low'] == bins[0][0]]
    left.plot([int(row['step']) for row in first], [float(row['loss']) for row in first], '.-')
    left.set(xlabel='step', ylabel='training loss of the flux')
    for low, high in bins:
        part = [row for row in rows if row['low'] == low]
        right.semilogy(
            [int(row['step']) for row in part],
            [100 * float(row['scatter']) for row in part],
            marker='.',
            label=f'{float(low):.0f}-{float(high):.0f}',
        )
    right.set(xlabel='step', ylabel='validation scatter (NMAD) of ln flux [%]')
    right.yaxis.set_major_formatter(StrMethodFormatter('{x:g}'))
    right.legend(title='S/N', loc='center left', bbox_to_anchor=(1, 0.5))
    figure.savefig(path, dpi=110)


def main():
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.strip(), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('source', type=Path, nargs='+', help='the weights file')
    parser.add_argument(
        '--state-answer', action='store_true', help='write answer and hash into files, no more'
    )
    parser.add_argument('--note', default='', help='for the model card')
    arguments = parser.parse_args()
    if arguments.state_answer:
        for path in arguments.source:
            state_answer(path)
            path.chmod(0o644)
        return
    (source,) = arguments.source
    weights = load_weights(source)
    target = WEIGHTS / f'{weights.name}.safetensors'
    shutil.copyfile(source, target)
    target.chmod(0o644)
    registry_path = WEIGHTS / 'registry.json'
    registry = json.loads(registry_path.read_text()) if registry_path.exists() else {}
    # the newest one is the default
    registry.pop(weights.name, None)
    registry = {weights.name: weights.sha256, **registry}
    registry_path.write_text(json.dumps(registry, indent=1) + '\n')
    write_card(weights, arguments.note)
    DOCS.mkdir(parents=True, exist_ok=True)
    # a network that was given has no log here: its figure stays
    for folder, name in ((source.parent, ''), (source.parent / 'blocks', '-blocks')):
        if (folder / 'log.csv').exists():
            draw_training(folder / 'log.csv', DOCS / f'{weights.name}{name}.png')


if __name__ == '__main__':
    main()
