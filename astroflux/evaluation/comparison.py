# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Measure the same cutouts by several methods, and keep what there is to compare."""

from datetime import UTC, datetime

import numpy as np
from astropy import units as u
from astropy.table import QTable, vstack

import astroflux
from astroflux.evaluation._comparison_data import Comparison, ExtremeCase
from astroflux.evaluation._comparison_run import Plan, cpu_seconds, run_plan, worst_cases

__all__ = ['Comparison', 'ExtremeCase', 'compare_methods', 'cpu_seconds', 'merge_comparisons']


def compare_methods(
    source,
    methods,
    *,
    labels=None,
    limits=None,
    psf_fwhm=None,
    n_extremes=6,
    workers=1,
    chunk_size=100,
    progress=True,
):
    """
    Measure the same cutouts by several methods.

    Parameters
    ----------
    source : `~astroflux.evaluation.CutoutSource`
        The cutouts, and their truth if it is known.
    methods : dict of str to `~astroflux.estimators.FluxEstimator`
        The methods, by name.
    labels : dict of str to str, optional
        How they are called in tables and figures; by default by their names.
    limits : dict of str to int, optional
        Slow methods that are to measure only the first so many cutouts. Cutouts that no method
        measures are not loaded.
    psf_fwhm : float or `~astropy.units.Quantity`, optional
        FWHM of the PSF of all cutouts; by default that of the PSF image of each.
    n_extremes : int, optional
        How many of the worst cases to keep for each method.
    workers : int, optional
        Number of processes. The result does not depend on it, but for the times. A script that
        asks for more than one must guard its main part (``if __name__ == '__main__':``), as
        `multiprocessing` explains.
    chunk_size : int, optional
        How many cutouts are loaded at a time.
    progress : bool, optional
        Whether to show a progress bar.

    Returns
    -------
    comparison : `Comparison`

    Raises
    ------
    ValueError
        If there is no cutout or no method.
    `~astropy.units.UnitsError`
        If the units of the cutouts are incompatible.

    Notes
    -----
    Times are of the processor, summed over its cores, so that they say what a method costs
    whatever else the machine is doing. Reading and parsing the cutouts is not part of them, nor
    is what a method does at its first cutout, such as loading weights.
    """
    if not methods:
        msg = 'there are no methods to compare'
        raise ValueError(msg)
    plan = Plan(source, dict(methods), dict(limits or {}), {'psf_fwhm': psf_fwhm}, n_extremes)
    if plan.n_cutouts < 1:
        msg = 'there are no cutouts to compare the methods with'
        raise ValueError(msg)
    parts = run_plan(plan, workers=workers, chunk_size=chunk_size, progress=progress)
    return _assemble(plan, labels or {}, parts, workers)


def _assemble(plan, labels, parts, workers):
    """Join the results of the chunks, in their order."""
    tables = {name: [] for name in plan.methods}
    seconds = dict.fromkeys(plan.methods, 0.0)
    extremes = {name: [] for name in plan.methods}
    packages = {}
    for part in parts:
        packages |= part['packages']
        for name, table in part['tables'].items():
            tables[name].append(table)
            seconds[name] += part['seconds'][name]
            extremes[name] += part['extremes'][name]
    counts = {name: sum(map(len, tables[name])) for name in plan.methods}
    truth = None
    if parts[0]['truth'] is not None:
        truth = vstack([part['truth'] for part in parts], metadata_conflicts='silent')
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
        extremes={name: worst_cases(cases, plan.n_extremes) for name, cases in extremes.items()},
        meta={
            'methods': {name: repr(estimator) for name, estimator in plan.methods.items()},
            'limits': plan.limits,
            'psf_fwhm': _psf_fwhm_text(plan.keywords['psf_fwhm']),
            'workers': workers,
            'versions': {'astroflux': astroflux.__version__, **packages},
            'date': datetime.now(UTC).isoformat(timespec='seconds'),
        },
    )


def _psf_fwhm_text(psf_fwhm):
    return 'of the PSF image of each cutout' if psf_fwhm is None else str(psf_fwhm)


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
