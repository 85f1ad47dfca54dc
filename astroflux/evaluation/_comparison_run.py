# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The work of a comparison: chunks of cutouts, measured in one process or in several."""

import heapq
import os
import sys
import time
from dataclasses import dataclass, field

import numpy as np
from astropy import units as u
from astropy.table import QTable

from astroflux._progress import progress_bar
from astroflux._work import call_in_processes, use_one_thread
from astroflux.cutouts import iter_cutouts
from astroflux.evaluation._comparison_data import ExtremeCase
from astroflux.evaluation.metrics import flux_errors
from astroflux.evaluation.parameters import PARAMETERS
from astroflux.evaluation.summary import median_fluxes
from astroflux.flags import decode_flags

__all__ = ['EXTREME_SNR', 'Plan', 'cpu_seconds', 'run_plan']

# What is kept of the table of a method.
COLUMNS = ('flux', 'flux_err', 'flux_lower', 'flux_upper', 'snr', 'flags')

# Below this S/N everything is uncertain, and the worst cases are those of the noise.
EXTREME_SNR = 20.0

# What an extreme case keeps of the truth, as far as it is known.
DETAILS = (*PARAMETERS, 'bound')


@dataclass
class Plan:
    """
    All that a process needs to measure a part of the cutouts.

    Cutouts and methods, as in `~astroflux.evaluation.compare_methods`; ``keywords`` are those of
    `~astroflux.cutouts.iter_cutouts`, and ``warm`` are methods that this process has used already.
    """

    source: object
    methods: dict
    limits: dict
    keywords: dict
    n_extremes: int
    warm: set = field(default_factory=set)

    @property
    def n_cutouts(self):
        """How many cutouts any method measures."""
        n = len(self.source)
        return max(min(n, self.limits.get(name, n)) for name in self.methods)


# The plan of this process: what an estimator loads or learns at its first use is kept with it.
_plan = None


def _set_plan(plan):
    global _plan
    _plan = plan


def _start_worker(plan):
    """Prepare a process that has been started for this."""
    use_one_thread()
    _set_plan(plan)


def run_plan(plan, *, workers, chunk_size, progress, folder=None):
    """
    Measure all cutouts of a plan but for the parts that a `PartFolder` has.

    Returns the parts, in their order, each with ``tables`` and ``seconds`` of each method that
    measured any of it, ``truth`` and versions of ``packages``; and the worst cases of each method.
    """
    n = plan.n_cutouts
    chunks = [(start, min(start + chunk_size, n)) for start in range(0, n, chunk_size)]
    parts = {start: folder.read(start) if folder else None for start, _ in chunks}
    extremes = {name: [] for name in plan.methods} | (folder.read_extremes() if folder else {})
    missing = [chunk for chunk in chunks if parts[chunk[0]] is None]
    for start, part in _iter_parts(plan, missing, workers, progress):
        for name, cases in part.pop('extremes').items():
            extremes[name] = _worst_cases([*extremes[name], *cases], plan.n_extremes)
        if folder:
            # in this order: a part that is there has its cases among the worst
            folder.write_extremes(extremes)
            folder.write(start, part)
            part = folder.read(start)
        parts[start] = part
    return list(parts.values()), extremes


def _iter_parts(plan, chunks, workers, progress):
    """Yield the start and the results of the chunks as they come."""
    n = plan.n_cutouts
    done = n - sum(stop - start for start, stop in chunks)
    counts = {'total': n, 'initial': done, 'unit': ' cutouts'}
    with progress_bar(desc='compare', progress=progress, **counts) as bar:
        for (start, stop), part in _measured(plan, chunks, workers):
            bar.update(stop - start)
            yield start, part


def _measured(plan, chunks, workers):
    """Yield chunks and their results, from this process or others."""
    if workers == 1:
        _set_plan(plan)
        try:
            for chunk in chunks:
                yield chunk, _measure_chunk(*chunk)
        finally:
            _set_plan(None)
        return
    results = call_in_processes(
        _measure_chunk, chunks, workers=workers, initializer=_start_worker, initargs=(plan,)
    )
    for number, part in results:
        yield chunks[number], part


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
    """Processor time of this process, of all its threads, and of its finished children."""
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
    """Return the worst cases of each method, of a chunk."""
    unit = next(iter(tables.values()))['flux'].unit
    if truth is None:
        fluxes = np.full((len(tables), len(cutouts)), np.nan)
        for row, table in zip(fluxes, tables.values(), strict=True):
            row[: len(table)] = table['flux'].to_value(unit)
        reference = median_fluxes(u.Quantity(fluxes, unit)).value
    else:
        reference = truth['flux'].to_value(unit)
    eligible = np.ones(len(cutouts), bool)
    if truth is not None and 'snr' in truth.colnames:
        eligible = np.asarray(truth['snr'], float) > EXTREME_SNR

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
    """What is known of a galaxy."""
    if truth is None:
        return {}
    values = {
        name: float(u.Quantity(truth[name][row]).value)
        for name in DETAILS
        if name in truth.colnames
    }
    return {name: value for name, value in values.items() if np.isfinite(value)}


def _versions():
    """Versions of the packages that may matter, as far as they have been imported."""
    names = (
        *('astropy', 'galsim', 'numpy', 'photutils', 'pyimfit', 'scipy', 'sep', 'sklearn'),
        *('statmorph', 'torch'),
    )
    loaded = {name: sys.modules[name] for name in names if name in sys.modules}
    return {name: str(getattr(module, '__version__', '?')) for name, module in loaded.items()}


def _worst_cases(cases, n):
    """Return the worst of some cases, the worst first, each cutout once."""
    of_cutouts = {case.cutout: case for case in cases}
    return heapq.nsmallest(
        n, of_cutouts.values(), key=lambda case: (-abs(case.ln_ratio), case.cutout)
    )
