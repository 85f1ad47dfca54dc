# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Measure the same cutouts by several methods, and keep what there is to compare."""

from contextlib import nullcontext
from datetime import UTC, datetime

import numpy as np
from astropy import units as u
from astropy.table import QTable, vstack

from astroflux._installed import __version__
from astroflux._locks import lock_folder
from astroflux.cutouts._correlation import parse_noise_correlation
from astroflux.evaluation._comparison_data import Comparison, ExtremeCase
from astroflux.evaluation._comparison_parts import PartFolder
from astroflux.evaluation._comparison_run import Plan, cpu_seconds, run_plan
from astroflux.evaluation.sources import CutoutSource, ListSource

__all__ = ['Comparison', 'ExtremeCase', 'compare_methods', 'cpu_seconds', 'merge_comparisons']


def compare_methods(
    source,
    methods,
    *,
    labels=None,
    limits=None,
    psf_fwhm=None,
    noise_correlation=None,
    n_extremes=6,
    workers=1,
    chunk_size=100,
    resume=None,
    progress=None,
):
    """
    Measure the same cutouts by several methods.

    Parameters
    ----------
    source : `~astroflux.evaluation.CutoutSource` or sequence
        The cutouts, and their truth if it is known; or a list of cutouts, each of anything that
        ``measure`` takes as one.
    methods : dict of str to `~astroflux.estimators.FluxEstimator`
        The methods, by name.
    labels : dict of str to str, optional
        How they are called in tables and figures; by default by their names.
    limits : dict of str to int, optional
        Slow methods that are to measure only the first so many cutouts. Cutouts that no method
        measures are not loaded.
    psf_fwhm : float or `~astropy.units.Quantity`, optional
        FWHM of the PSF of all cutouts; by default that of the PSF image of each.
    noise_correlation : float, 2-d array or ``'estimate'``, optional
        How the noise is correlated between pixels, as ``measure`` takes it.
    n_extremes : int, optional
        How many of the worst cases to keep for each method.
    workers : int, optional
        Number of processes. The result does not depend on it, but for the times. A script that
        asks for more than one must guard its main part (``if __name__ == '__main__':``), as
        `multiprocessing` explains.
    chunk_size : int, optional
        How many cutouts are loaded at a time.
    resume : path-like, optional
        Folder, made if need be, for the measurements of each chunk as it is done. A comparison
        that was stopped goes on from what the folder has of it, and ends with the same
        measurements.
    progress : bool, optional
        Whether to show progress: a bar on a terminal or in a notebook, lines in a log. By
        default it appears when the work takes long.

    Returns
    -------
    comparison : `Comparison`

    Raises
    ------
    ValueError
        If there is no cutout or no method, or the folder to go on from is of a comparison of
        other cutouts or methods, or with other options.
    BlockingIOError
        If another comparison is using the folder to go on from.
    `~astropy.units.UnitsError`
        If the units of the cutouts are incompatible.

    Notes
    -----
    Times are of the processor, summed over its cores, so that they say what a method costs
    whatever else the machine is doing. They are those of ``measure``, which is given cutouts that
    have been read and parsed; the little that it does with these before it measures them is part
    of its time. What a method does once, at its first cutout, such as loading weights, is not.
    """
    if not methods:
        msg = 'there are no methods to compare'
        raise ValueError(msg)
    if not isinstance(source, CutoutSource):
        source = ListSource(source)
    # now, as what is wrong must not become a setting of the folder to go on from
    parse_noise_correlation(noise_correlation)
    keywords = {'psf_fwhm': psf_fwhm, 'noise_correlation': noise_correlation}
    plan = Plan(source, dict(methods), dict(limits or {}), keywords, n_extremes)
    if plan.n_cutouts < 1:
        msg = 'there are no cutouts to compare the methods with'
        raise ValueError(msg)
    options = {'workers': workers, 'chunk_size': chunk_size, 'progress': progress}
    with nullcontext() if resume is None else lock_folder(resume):
        folder = None
        if resume is not None:
            folder = PartFolder(resume, {**_settings(plan), 'chunk_size': chunk_size})
        parts, extremes = run_plan(plan, folder=folder, **options)
    return _assemble(plan, labels or {}, parts, extremes, workers)


def _settings(plan):
    """What the measurements depend on."""
    return {
        'source': plan.source.settings,
        'methods': _method_texts(plan),
        'learned': {name: _learned(estimator) for name, estimator in plan.methods.items()},
        'limits': plan.limits,
        'psf_fwhm': str(plan.keywords['psf_fwhm']),
        'noise_correlation': _noise_correlation_text(plan.keywords['noise_correlation']),
        'n_extremes': plan.n_extremes,
        'astroflux': __version__,
    }


def _method_texts(plan):
    return {name: repr(estimator) for name, estimator in plan.methods.items()}


def _learned(estimator):
    """What a fit has learned, which the parameters of an estimator do not tell."""
    # names as those of scikit-learn; weights and training tables have a hash
    learned = {name: value for name, value in vars(estimator).items() if name.endswith('_')}
    return {name: str(getattr(value, 'sha256', value)) for name, value in learned.items()}


def _assemble(plan, labels, parts, extremes, workers):
    """Join the results of the chunks, in their order."""
    tables = {name: [] for name in plan.methods}
    seconds = dict.fromkeys(plan.methods, 0.0)
    packages = {}
    for part in parts:
        packages |= part['packages']
        for name, table in part['tables'].items():
            tables[name].append(table)
            seconds[name] += part['seconds'][name]
    counts = {name: sum(map(len, tables[name])) for name in plan.methods}
    truth = None
    if parts[0]['truth'] is not None:
        truth = vstack([part['truth'] for part in parts], metadata_conflicts='silent')
    # told only where it is missed
    no_bound = {}
    if truth is not None and plan.source.no_bound:
        no_bound = {'no_bound': plan.source.no_bound}
    return Comparison(
        title=plan.source.title,
        labels={name: labels.get(name, name) for name in plan.methods},
        measurements=_stack([table for name in plan.methods for table in tables[name]]),
        truth=truth,
        speed=QTable(
            {
                'method': list(plan.methods),
                'n': [counts[name] for name in plan.methods],
                'cpu_time': [seconds[name] for name in plan.methods] * u.s,
            }
        ),
        extremes=extremes,
        meta={
            'methods': _method_texts(plan),
            'limits': plan.limits,
            'psf_fwhm': _psf_fwhm_text(plan.keywords['psf_fwhm']),
            'noise_correlation': _noise_correlation_text(plan.keywords['noise_correlation']),
            **no_bound,
            'workers': workers,
            'versions': {'astroflux': __version__, **packages},
            'date': datetime.now(UTC).isoformat(timespec='seconds'),
        },
    )


def _psf_fwhm_text(psf_fwhm):
    return 'of the PSF image of each cutout' if psf_fwhm is None else str(psf_fwhm)


def _noise_correlation_text(correlation):
    if correlation is None:
        return 'none'
    # a kernel as its values, whatever it is an array of
    return correlation if isinstance(correlation, str) else str(np.asarray(correlation).tolist())


def _stack(tables):
    """Join tables of measurements, if their units allow."""
    unit = tables[0]['flux'].unit
    for table in tables:
        if not table['flux'].unit.is_equivalent(unit):
            msg = f"the cutouts have incompatible units: '{unit}' and '{table['flux'].unit}'"
            raise u.UnitsError(msg)
    return vstack(tables, metadata_conflicts='silent')


def merge_comparisons(comparisons):
    """
    Join comparisons of different methods on the same cutouts.

    Parameters
    ----------
    comparisons : sequence of `Comparison`
        Any may have measured only the first of the cutouts.

    Returns
    -------
    comparison : `Comparison`
        With the title of the first, and the truth of the one with the most cutouts.

    Raises
    ------
    ValueError
        If a method occurs twice, or the true fluxes of the cutouts differ.
    """
    first = comparisons[0]
    labels, extremes = {}, {}
    by_name = {'methods': {}, 'limits': {}, 'versions': {}}
    for other in comparisons:
        if twice := set(labels) & set(other.labels):
            msg = f'the methods {sorted(twice)} are in more than one of the comparisons'
            raise ValueError(msg)
        _check_same_cutouts(first, other)
        labels |= other.labels
        extremes |= other.extremes
        for key, entries in by_name.items():
            entries.update({**other.meta.get(key, {}), **entries})
    return Comparison(
        title=first.title,
        labels=labels,
        measurements=_stack([c.measurements for c in comparisons]),
        truth=max((c.truth for c in comparisons), key=len) if first.truth is not None else None,
        speed=vstack([c.speed for c in comparisons]),
        extremes=extremes,
        meta={**first.meta, **by_name},
    )


def _check_same_cutouts(first, other):
    if (first.truth is None) != (other.truth is None):
        msg = 'only some of the comparisons know the truth'
        raise ValueError(msg)
    if first.truth is None:
        return
    n = min(len(first.truth), len(other.truth))
    if not np.array_equal(first.truth['flux'][:n], other.truth['flux'][:n]):
        msg = 'the comparisons are not of the same cutouts: their true fluxes differ'
        raise ValueError(msg)
