# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Measure the test images of the study by the methods of today, in parts that are kept on disk."""

import hashlib
import json
import multiprocessing
import os
import signal
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
from tqdm import tqdm

from astroflux.estimators import CNNFluxEstimator, KronFluxEstimator
from astroflux.study._output import write_table
from astroflux.study.today_bound import StudyPopulation, galaxy_bound

__all__ = ['MEASURED', 'fine_tune', 'measure_in_parts', 'measure_part', 'positive_log10']

# Columns of a part.
MEASURED = ('img_number', 'kron', 'sum', 'shipped', 'tuned', 'bound', 'snr')

# Galaxies of a part: a minute's work, which an interruption costs.
PART_SIZE = 250

SETTINGS_NAME = 'settings.json'


def positive_log10(flux):
    """
    Take the logarithm of measured fluxes.

    Parameters
    ----------
    flux : array_like
        Fluxes; any number, or none.

    Returns
    -------
    log_flux : 1D `~numpy.ndarray`
        NaN where there is no positive, finite flux.
    """
    flux = np.asarray(flux, float)
    good = np.isfinite(flux) & (flux > 0)
    return np.where(good, np.log10(np.where(good, flux, 1.0)), np.nan)


def fine_tune(train, path, *, n_images, epochs):
    """
    Fine-tune the shipped network on images of the study, unless that has been done.

    Parameters
    ----------
    train : `~astroflux.study.loader.StudySet`
        The training set, of which the first images are taken.
    path : `~pathlib.Path`
        Where the weights are, or are to be.
    n_images : int
        How many images at the most.
    epochs : int
        Passes over them. All else is as it is by default.

    Returns
    -------
    path : `~pathlib.Path`

    Raises
    ------
    ValueError
        If weights are there that were trained in another way.
    """
    from astroflux.networks import load_weights

    n_images = min(n_images, len(train))
    estimator = CNNFluxEstimator(epochs=epochs)
    wanted = {
        'weights': load_weights(estimator.weights).sha256,
        'images': n_images,
        'fluxes': hashlib.sha256(np.ascontiguousarray(train.flux[:n_images]).tobytes()).hexdigest(),
        'epochs': epochs,
        'learning_rate': estimator.learning_rate,
        'batch_size': estimator.batch_size,
        'random_state': estimator.random_state,
    }
    described = path.with_suffix('.json')
    if path.exists():
        begun = json.loads(described.read_text()) if described.exists() else {}
        if differing := [name for name in wanted if begun.get(name) != wanted[name]]:
            told = ', '.join(
                f'{name} {begun.get(name)!r}, not {wanted[name]!r}' for name in differing
            )
            msg = f'{path} was trained with {told}: remove it, or name another folder'
            raise ValueError(msg)
        return path
    cutouts = list(train.cutouts(range(n_images)))
    estimator.fit(cutouts, train.flux[:n_images] * cutouts[0].unit)
    torn = path.with_name(f'{path.name}.tmp')
    estimator.save(torn)
    # first, as weights that are there are taken for whole
    described.write_text(json.dumps(wanted, indent=1) + '\n')
    os.replace(torn, path)
    return path


def measure_part(part, settings, tuned):
    """
    Measure some galaxies by all methods, and compute their bounds.

    Parameters
    ----------
    part : `~astroflux.study.loader.StudySet`
        The galaxies.
    settings : `~astroflux.study.dataset.StudySettings`
        Of the data set.
    tuned : path-like
        Weights of the fine-tuned network.

    Returns
    -------
    table : `~pandas.DataFrame`
        The columns `MEASURED`, one row per galaxy: log10 of the flux by each method, NaN without
        a positive flux; ``bound``, the smallest standard deviation of ln flux; ``snr``.
    """
    cutouts = list(part.cutouts())
    estimators = {
        'kron': KronFluxEstimator(),
        'shipped': CNNFluxEstimator(),
        'tuned': CNNFluxEstimator(weights=str(tuned)),
    }
    columns = {
        name: positive_log10(estimator.measure(cutouts, progress=False)['flux'].value)
        for name, estimator in estimators.items()
    }
    population = StudyPopulation(settings)
    bounds = [
        galaxy_bound(
            row, settings, shape=part.images.shape[1:], noise=part.noise, population=population
        )
        for row in part.table.to_dict('records')
    ]
    columns['img_number'] = part.table['img_number'].to_numpy()
    columns['sum'] = positive_log10(part.images.sum(axis=(1, 2), dtype=float))
    columns['bound'], columns['snr'] = np.array(bounds).T
    return pd.DataFrame({name: columns[name] for name in MEASURED})


def measure_in_parts(
    study_set, folder, settings, tuned, *, workers=1, progress=False, part_size=PART_SIZE
):
    """
    Measure all galaxies of a set, in several processes, and keep each part that is done.

    Parameters
    ----------
    study_set : `~astroflux.study.loader.StudySet`
        The galaxies.
    folder : `~pathlib.Path`
        Where the parts are kept; made if need be. What is there and whole is not done again.
    settings, tuned
        As in `measure_part`.
    workers : int, optional
        Number of processes.
    progress : bool, optional
        Whether to show a progress bar.
    part_size : int, optional
        Galaxies of a part.

    Returns
    -------
    table : `~pandas.DataFrame`
        As `measure_part` gives it, in the order of the set.

    Raises
    ------
    ValueError
        If the parts in the folder are of another data set or other weights.
    """
    _check_settings(folder, settings, tuned, part_size)
    spans = [
        (start, min(start + part_size, len(study_set)))
        for start in range(0, len(study_set), part_size)
    ]
    paths = {span: folder / f'{span[0]:06d}-{span[1]:06d}.csv' for span in spans}
    numbers = study_set.table['img_number'].to_numpy()
    missing = [span for span in spans if _read_part(paths[span], numbers[slice(*span)]) is None]
    n_missing = sum(stop - start for start, stop in missing)
    with tqdm(
        total=len(study_set),
        initial=len(study_set) - n_missing,
        desc='measure',
        unit='galaxy',
        disable=not progress,
    ) as bar:
        for n_measured in _iter_written(study_set, missing, paths, settings, tuned, workers):
            bar.update(n_measured)
    parts = [_read_part(paths[span], numbers[slice(*span)]) for span in spans]
    return pd.concat(parts, ignore_index=True)


def _check_settings(folder, settings, tuned, part_size):
    """Refuse parts of other data or weights by name; write what these are of."""
    from astroflux.networks import load_weights

    wanted = {
        'data': asdict(settings),
        'shipped': load_weights(CNNFluxEstimator().weights).sha256,
        'tuned': load_weights(tuned).sha256,
        'part_size': part_size,
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / SETTINGS_NAME
    if path.exists():
        begun = json.loads(path.read_text())
        if differing := [name for name in wanted if begun.get(name) != wanted[name]]:
            told = ', '.join(
                f'{name} {begun.get(name)!r}, not {wanted[name]!r}' for name in differing
            )
            msg = f'{folder} was begun with {told}: remove it, or name another folder'
            raise ValueError(msg)
        return
    torn = path.with_name(f'{path.name}.tmp')
    torn.write_text(json.dumps(wanted, indent=1) + '\n')
    os.replace(torn, path)


def _read_part(path, numbers):
    """Read a part; `None` if it is not there, torn, or not of these galaxies."""
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError):
        return None
    if tuple(table.columns) != MEASURED or not np.array_equal(table['img_number'], numbers):
        return None
    return table


def _part_of(study_set, span):
    rows = slice(*span)
    return replace(study_set, table=study_set.table.iloc[rows], images=study_set.images[rows])


def _iter_written(study_set, spans, paths, settings, tuned, workers):
    """Measure parts into their files, and yield the number of galaxies of each as it is there."""
    if workers == 1 or len(spans) < 2:
        for span in spans:
            yield _write_part(_part_of(study_set, span), paths[span], settings, tuned)
        return
    # a fork of a process that has used torch may hang
    context = multiprocessing.get_context('spawn')
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker)
    try:
        futures = [
            pool.submit(_write_part, _part_of(study_set, span), paths[span], settings, tuned)
            for span in spans
        ]
        for future in as_completed(futures):
            yield future.result()
    finally:
        # after an interruption what has not begun is given up, and what has is kept
        pool.shutdown(cancel_futures=True)


def _write_part(part, path, settings, tuned):
    """Measure a part into its file, in whichever process; return how many galaxies it has."""
    write_table(measure_part(part, settings, tuned), path)
    return len(part)


def _start_worker():
    """Prepare a process: one thread, and an interruption is for the process that started it."""
    import torch
    from threadpoolctl import threadpool_limits

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threadpool_limits(1)
    torch.set_num_threads(1)
