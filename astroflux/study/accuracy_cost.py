# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What networks and light-profile fits cost, on the same images and one core."""

import tempfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from astroflux.estimators import CNNFluxEstimator, KronFluxEstimator
from astroflux.estimators.methods import KNOWN_METHODS, make_estimator
from astroflux.evaluation.comparison import cpu_seconds
from astroflux.study.predictions import CNN_NAMES
from astroflux.study.today_parts import positive_log10
from astroflux.study.today_tables import METHODS, ln_errors

__all__ = ['FITS', 'cost_table', 'measure_timed', 'one_core', 'run_fits']

# Short names of `astroflux.estimators.methods`, and labels.
FITS = {'sersic': 'Sersic fit', 'bulge-disc': 'bulge + disc fit'}

# A network measures the images again and again, so that there is time enough to take.
FEWEST_TIMED = 256
REPEATS = 3

# Nearly twice as fast as batches of 64, whose first maps (63 MB) the C library does not keep.
STUDY_BATCH = 16


@contextmanager
def one_core():
    """Let all libraries compute in one thread, and then as before."""
    import torch

    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(n_threads)


def measure_timed(estimator, cutouts, *, is_slow, progress=False):
    """
    Measure cutouts and take the time.

    Parameters
    ----------
    estimator : `~astroflux.estimators.base.FluxEstimator`
        How to measure.
    cutouts : list
        What to measure.
    is_slow : bool
        Whether once is enough. Otherwise the cutouts are measured over and over, at least 256,
        after one that loads what has to be loaded, and the best of three times counts.
    progress : bool, optional
        Whether to show a progress bar.

    Returns
    -------
    log_flux : 1D `~numpy.ndarray`
        log10 of the flux of each cutout, NaN without one.
    seconds : float
        Processor time per cutout.
    """
    if is_slow:
        began = cpu_seconds()
        flux = estimator.measure(cutouts, progress=progress)['flux'].value
        return positive_log10(flux), (cpu_seconds() - began) / len(cutouts)
    flux = estimator.measure(cutouts, progress=False)['flux'].value
    many = cutouts * -(-FEWEST_TIMED // len(cutouts))
    seconds = []
    for _ in range(REPEATS):
        began = cpu_seconds()
        estimator.measure(many, progress=False)
        seconds.append((cpu_seconds() - began) / len(many))
    return positive_log10(flux), min(seconds)


def run_fits(test, rows, train, *, progress=False):
    """
    Measure the same images by the networks, Kron and light-profile fits, on one core.

    Parameters
    ----------
    test : `~astroflux.study.loader.StudySet`
        The images.
    rows : sequence of int
        Which of them.
    train : `~astroflux.study.loader.StudySet`
        The training set, which a network of the study is made for.
    progress : bool, optional
        Whether to show progress bars.

    Returns
    -------
    log_flux : dict of str to 1D `~numpy.ndarray`
        log10 of the fluxes by Kron, the shipped network and the fits.
    seconds : dict of str to float
        Processor time per cutout of these, and of ``study``, a network of the study.
    missing : list of str
        How to install what the fits that were left out need.
    """
    cutouts = list(test.cutouts(rows))
    log_flux, seconds, missing = {}, {}, []
    with one_core(), tempfile.TemporaryDirectory() as folder:
        fast = {
            'study': CNNFluxEstimator(
                weights=_study_weights(Path(folder), train), batch_size=STUDY_BATCH
            ),
            'shipped': CNNFluxEstimator(),
            'kron': KronFluxEstimator(),
        }
        for name, estimator in fast.items():
            log_flux[name], seconds[name] = measure_timed(estimator, cutouts, is_slow=False)
        for name in FITS:
            if not KNOWN_METHODS[name].is_available:
                if (needs := KNOWN_METHODS[name].how_to_install) not in missing:
                    missing.append(needs)
                continue
            log_flux[name], seconds[name] = measure_timed(
                make_estimator(name), cutouts, is_slow=True, progress=progress
            )
    # of an untrained network
    del log_flux['study']
    return log_flux, seconds, missing


def _study_weights(folder, train):
    """Write the weights of a network of the study; for its speed any will do."""
    from astroflux.networks import save_weights
    from astroflux.study.cnn import CONFIGURATIONS, new_study_net

    path = folder / 'study.safetensors'
    save_weights(path, new_study_net(CONFIGURATIONS[0], train), name='untrained')
    return str(path)


def cost_table(actual, log_flux, seconds):
    """
    Put speed and accuracy of methods side by side.

    Parameters
    ----------
    actual : 1D `~numpy.ndarray`
        log10 of the true fluxes.
    log_flux : dict of str to 1D `~numpy.ndarray`
        log10 of the fluxes by each method, NaN where it has failed.
    seconds : dict of str to float
        Processor time per cutout; ``study`` is that of all networks of the study.

    Returns
    -------
    table : `~pandas.DataFrame`
        One row per method, the fastest first: ``method``; ``n`` and ``n_failed``;
        ``milliseconds`` of one core per cutout, ``per_second``, and ``speed_over_fit``, how many
        times as fast as the slowest fit; ``mse`` of log10 flux, ``median_percent`` and
        ``largest_percent``, the absolute error of the flux, all three without failures.
    """
    slowest = max((seconds[name] for name in FITS if name in seconds), default=np.nan)
    rows = []
    for name, values in log_flux.items():
        error = ln_errors(actual, values)
        good = error[np.isfinite(error)]
        percent = 100 * np.abs(np.expm1(good))
        time = seconds['study' if name in CNN_NAMES else name]
        rows.append(
            {
                'method': {**METHODS, **FITS}[name],
                'n': len(error),
                'n_failed': len(error) - len(good),
                'milliseconds': 1e3 * time,
                'per_second': 1 / time,
                'speed_over_fit': slowest / time,
                'mse': np.mean((good / np.log(10)) ** 2) if len(good) else np.nan,
                'median_percent': np.median(percent) if len(good) else np.nan,
                'largest_percent': percent.max(initial=0) if len(good) else np.nan,
            }
        )
    return pd.DataFrame(rows).sort_values('milliseconds', kind='stable', ignore_index=True)
