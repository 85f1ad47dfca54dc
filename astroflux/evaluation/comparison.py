# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Measure the same cutouts by several methods, and keep what there is to compare."""

import heapq
import multiprocessing
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
from astropy import units as u
from astropy.table import QTable, vstack
from tqdm import tqdm

import astroflux
from astroflux.cutouts import iter_cutouts
from astroflux.evaluation.metrics import flux_errors
from astroflux.evaluation.parameters import PARAMETERS
from astroflux.flags import decode_flags

__all__ = ['Comparison', 'ExtremeCase', 'compare_methods', 'cpu_seconds', 'merge_comparisons']

COLUMNS = ('flux', 'flux_err', 'flux_lower', 'flux_upper', 'snr', 'flags')

# Below this S/N everything is uncertain, and the worst cases are those of the noise.
EXTREME_SNR = 20.0

# What `extremes` keeps of the truth, beside the parameters.
DETAILS = (*PARAMETERS, 'bound')


@dataclass
class ExtremeCase:
    """
    A cutout that a method measured badly.

    Attributes
    ----------
    cutout : int
        Number of the cutout.
    name : str
        File name or label of the cutout; empty if it has none.
    image : 2D `~numpy.ndarray`
        Pixel values; ignored pixels are 0.
    mask : 2D `~numpy.ndarray` of bool
        `True` where a pixel is ignored.
    noise : float
        Median noise per pixel.
    flux, flux_err, reference : `~astropy.units.Quantity`
        What the method measured, and the true flux (without truth: the median of the methods, where
        there are two or more).
    ln_ratio : float
        ln(flux / reference).
    flags : tuple of str
        Names of the method's flags.
    details : dict of str to float
        Parameters of the galaxy, such as ``snr``, as far as they are known.
    """

    cutout: int
    name: str
    image: np.ndarray
    mask: np.ndarray
    noise: float
    flux: u.Quantity
    flux_err: u.Quantity
    reference: u.Quantity
    ln_ratio: float
    flags: tuple[str, ...]
    details: dict[str, float]


@dataclass
class Comparison:
    """
    Several methods on the same cutouts.

    Attributes
    ----------
    title : str
        What was measured, for people.
    labels : dict of str to str
        Name of each method, in the order of the call, and how it is called in figures.
    measurements : `~astropy.table.QTable`
        One row for every method on every cutout: ``method``, ``cutout`` (its number), ``name``,
        ``flux``, ``flux_err``, ``flux_lower``, ``flux_upper``, ``snr``, ``flags`` and, with
        truth, ``ln_error``, ``covered_68``, ``covered_95`` and ``pull`` (see
        `~astroflux.evaluation.flux_errors`). A slow method may have been given the first
        cutouts only.
    truth : `~astropy.table.QTable` or None
        One row per cutout: ``flux``, the columns of `~astroflux.evaluation.PARAMETERS` that are
        known, and ``bound``, the smallest standard deviation of ln flux that is possible (NaN
        where not known).
    speed : `~astropy.table.QTable`
        One row per method: ``method``, ``n`` cutouts, ``cpu_time`` in seconds of one core.
    extremes : dict of str to list of `ExtremeCase`
        The worst cases of each method, the worst first; if S/N is known, of those above 20.
    meta : dict
        How it was made.
    """

    title: str
    labels: dict[str, str]
    measurements: QTable
    truth: QTable | None
    speed: QTable
    extremes: dict[str, list[ExtremeCase]]
    meta: dict = field(default_factory=dict)

    def of_method(self, method):
        """Return the rows of the measurements that are of one method."""
        return self.measurements[self.measurements['method'] == method]


@dataclass
class _Plan:
    """All that a process needs to measure a part of the cutouts."""

    source: object
    methods: dict
    limits: dict
    keywords: dict
    n_extremes: int
    warm: set = field(default_factory=set)


# The plan of this process: what an estimator loads or learns at its first use is kept with it.
_plan = None


def _set_plan(plan):
    global _plan
    _plan = plan


def _start_worker(plan):
    """Prepare a process that has been started for this."""
    # there is a process for each core; more threads would only wait for each other
    os.environ.setdefault('OMP_NUM_THREADS', '1')
    _set_plan(plan)


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
        Slow methods that are to measure only the first so many cutouts.
    psf_fwhm : float or `~astropy.units.Quantity`, optional
        FWHM of the PSF of all cutouts; by default that of the PSF image of each.
    n_extremes : int, optional
        How many of the worst cases to keep for each method.
    workers : int, optional
        Number of processes. The result does not depend on it, but for the times.
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
    if not len(source):
        msg = 'there are no cutouts to compare the methods with'
        raise ValueError(msg)
    if not methods:
        msg = 'there are no methods to compare'
        raise ValueError(msg)
    plan = _Plan(source, dict(methods), dict(limits or {}), {'psf_fwhm': psf_fwhm}, n_extremes)
    chunks = [
        (start, min(start + chunk_size, len(source))) for start in range(0, len(source), chunk_size)
    ]
    parts = dict(_run(plan, chunks, workers, progress))
    return _assemble(plan, labels or {}, [parts[start] for start, _ in chunks], workers)


def _run(plan, chunks, workers, progress):
    """Yield the results of the chunks as they come."""
    bar = tqdm(total=len(plan.source), desc='compare', unit='cutout', disable=not progress)
    with bar:
        if workers == 1:
            _set_plan(plan)
            try:
                for start, stop in chunks:
                    yield start, _measure_chunk(start, stop)
                    bar.update(stop - start)
            finally:
                _set_plan(None)
            return
        # a fork of a process that has used torch may hang
        context = multiprocessing.get_context('spawn')
        with ProcessPoolExecutor(
            workers, mp_context=context, initializer=_start_worker, initargs=(plan,)
        ) as pool:
            futures = {pool.submit(_measure_chunk, *chunk): chunk for chunk in chunks}
            for future in as_completed(futures):
                start, stop = futures[future]
                yield start, future.result()
                bar.update(stop - start)


def _measure_chunk(start, stop):
    """Measure some of the cutouts by every method, in this process."""
    plan = _plan
    items, truth = plan.source.load(start, stop)
    cutouts = list(iter_cutouts(items, **plan.keywords))
    tables, seconds = {}, {}
    for name, estimator in plan.methods.items():
        n = min(len(cutouts), plan.limits.get(name, stop) - start)
        if n <= 0:
            continue
        if name not in plan.warm:
            estimator.measure(cutouts[0], progress=False)
            plan.warm.add(name)
        began = cpu_seconds()
        table = estimator.measure(cutouts[:n], progress=False)
        seconds[name] = cpu_seconds() - began
        tables[name] = _standard_table(name, table, cutouts, start, truth)
    return {
        'tables': tables,
        'seconds': seconds,
        'truth': truth,
        'extremes': _extremes(tables, cutouts, truth, start, plan.n_extremes),
        'packages': _versions(),
    }


def cpu_seconds():
    """
    Processor time of this process, of all its threads, and of its finished children.

    Returns
    -------
    seconds : float
    """
    # the former has the finer resolution, but leaves out the children
    times = os.times()
    return time.process_time() + times.children_user + times.children_system


def _standard_table(name, table, cutouts, start, truth):
    """Keep what all methods give, and compare it with the truth."""
    rows = QTable()
    rows['method'] = [name] * len(table)
    rows['cutout'] = np.arange(start, start + len(table))
    rows['name'] = [cutout.label or '' for cutout in cutouts[: len(table)]]
    for column in COLUMNS:
        rows[column] = table[column]
    if truth is not None:
        errors = flux_errors(table, u.Quantity(truth['flux'][: len(table)]))
        for column in errors.colnames:
            rows[column] = errors[column]
    return rows


def _extremes(tables, cutouts, truth, start, n_extremes):
    """Return the worst cases of each method."""
    unit = next(iter(tables.values()))['flux'].unit
    if truth is None:
        fluxes = np.full((len(tables), len(cutouts)), np.nan)
        for row, table in zip(fluxes, tables.values(), strict=True):
            row[: len(table)] = table['flux'].to_value(unit)
        # one method alone would be compared with itself
        reference = np.array(
            [np.median(f[f > 0]) if (f > 0).sum() >= 2 else np.nan for f in fluxes.T]
        )
        eligible = np.ones(len(cutouts), bool)
    else:
        reference = truth['flux'].to_value(unit)
        known = 'snr' in truth.colnames
        eligible = truth['snr'] > EXTREME_SNR if known else np.ones(len(cutouts), bool)

    found = {}
    for name, table in tables.items():
        with np.errstate(invalid='ignore', divide='ignore'):
            flux = table['flux'].to_value(unit)
            ln_ratio = np.where(flux > 0, np.log(flux / reference[: len(table)]), np.nan)
        rows = np.flatnonzero(np.isfinite(ln_ratio) & eligible[: len(table)])
        worst = heapq.nlargest(n_extremes, rows, key=lambda row, ratio=ln_ratio: abs(ratio[row]))
        found[name] = [
            ExtremeCase(
                cutout=start + int(row),
                name=cutouts[row].label or '',
                image=cutouts[row].data.astype(np.float32),
                mask=cutouts[row].mask,
                noise=float(np.median(cutouts[row].noise)),
                flux=table['flux'][row],
                flux_err=table['flux_err'][row],
                reference=u.Quantity(reference[row], unit),
                ln_ratio=float(ln_ratio[row]),
                flags=decode_flags(int(table['flags'][row])),
                details=_details(truth, row),
            )
            for row in worst
        ]
    return found


def _details(truth, row):
    if truth is None:
        return {}
    values = {name: float(truth[name][row]) for name in DETAILS if name in truth.colnames}
    return {name: value for name, value in values.items() if np.isfinite(value)}


def _versions():
    """Versions of the packages that may matter, as far as they have been imported."""
    names = (
        *('astropy', 'galsim', 'numpy', 'photutils', 'pyimfit', 'scipy', 'sep', 'sklearn'),
        *('statmorph', 'torch'),
    )
    loaded = {name: sys.modules[name] for name in names if name in sys.modules}
    return {name: str(getattr(module, '__version__', '?')) for name, module in loaded.items()}


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
        extremes={name: _worst(cases, plan.n_extremes) for name, cases in extremes.items()},
        meta={
            'methods': {name: repr(estimator) for name, estimator in plan.methods.items()},
            'limits': plan.limits,
            'psf_fwhm': str(plan.keywords['psf_fwhm']),
            'workers': workers,
            'versions': {'astroflux': astroflux.__version__, **packages},
            'date': datetime.now(UTC).isoformat(timespec='seconds'),
        },
    )


def _stack(tables):
    unit = tables[0]['flux'].unit
    for table in tables:
        if not table['flux'].unit.is_equivalent(unit):
            msg = f"the cutouts have incompatible units: '{unit}' and '{table['flux'].unit}'"
            raise u.UnitsError(msg)
    return vstack(tables, metadata_conflicts='silent')


def _worst(cases, n):
    return heapq.nlargest(n, cases, key=lambda case: abs(case.ln_ratio))


def merge_comparisons(comparisons):
    """
    Join comparisons of different methods on the same cutouts.

    Parameters
    ----------
    comparisons : sequence of `Comparison`
        The first may have more cutouts than the others.

    Returns
    -------
    comparison : `Comparison`
        With the truth of the first.

    Raises
    ------
    ValueError
        If a method occurs twice, or the cutouts differ.
    """
    first = comparisons[0]
    labels, extremes, methods = {}, {}, {}
    for other in comparisons:
        if twice := set(labels) & set(other.labels):
            msg = f'the methods {sorted(twice)} are in more than one of the comparisons'
            raise ValueError(msg)
        _check_same_cutouts(first, other)
        labels |= other.labels
        extremes |= other.extremes
        methods |= other.meta.get('methods', {})
    return Comparison(
        title=first.title,
        labels=labels,
        measurements=_stack([c.measurements for c in comparisons]),
        truth=first.truth,
        speed=vstack([c.speed for c in comparisons]),
        extremes=extremes,
        meta={**first.meta, 'methods': methods},
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
