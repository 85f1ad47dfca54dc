# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The tables that sum up a comparison of methods."""

from itertools import combinations

import numpy as np
from astropy import units as u
from astropy.table import QTable, Table, vstack

from astroflux.evaluation._tables import TableColumn, describe
from astroflux.evaluation.metrics import (
    N_BOOTSTRAP,
    flux_error_statistics,
    scatter_at_bound,
    split_into_bins,
    summarize_by,
)
from astroflux.evaluation.parameters import PARAMETERS

__all__ = [
    'MEDIAN',
    'PAIR_COLUMNS',
    'SPEED_COLUMNS',
    'SUMMARY_COLUMNS',
    'compare_pairs',
    'drop_empty_bins',
    'fluxes_by_method',
    'labeled',
    'median_fluxes',
    'summarize_bound',
    'summarize_comparison',
    'summarize_speed',
]

# What stands for the median over the methods where the name of a method is wanted.
MEDIAN = 'median of the methods'

# The columns of the tables below, as people see them.
METHOD = TableColumn('method', 'method', 'text', 'name of the method')
SUMMARY_COLUMNS = (
    METHOD,
    TableColumn('low', 'true S/N', 'range', 'lower edge of the bin'),
    TableColumn('n', 'cutouts', 'count', 'number of galaxies'),
    TableColumn('completeness', 'with flux > 0', 'percent', 'fraction with a positive flux'),
    TableColumn('bias', 'bias', 'percent', 'median of ln(measured / true)'),
    TableColumn('scatter', 'scatter', 'percent', 'NMAD of ln(measured / true)'),
    TableColumn(
        'scatter_over_bound',
        'scatter / smallest possible',
        'value',
        'scatter over that of measurements at the information bound',
    ),
    TableColumn('rms', 'rms about 0', 'percent', 'root mean square of ln(measured / true)'),
    TableColumn('outliers', 'off by > 30 %', 'percent', 'fraction off by more than 30 %'),
    TableColumn('coverage_68', 'coverage of 68 %', 'percent', 'fraction in the 68 % interval'),
    TableColumn('coverage_95', 'coverage of 95 %', 'percent', 'fraction in the 95 % interval'),
    TableColumn('pull_scatter', 'scatter of pull', 'value', 'NMAD of (measured - true) / error'),
)
_LN_RATIO = 'ln(flux / reference)'
PAIR_COLUMNS = (
    METHOD,
    TableColumn('reference', 'reference', 'text', 'what it is compared with'),
    TableColumn('n', 'cutouts in common', 'count', 'cutouts on which both have a positive flux'),
    TableColumn('median', f'median of {_LN_RATIO}', 'percent', f'median of {_LN_RATIO}'),
    TableColumn('nmad', 'scatter of it', 'percent', f'NMAD of {_LN_RATIO}'),
    TableColumn('differing', 'differing by > 30 %', 'percent', 'fraction differing by > 30 %'),
)
SPEED_COLUMNS = (
    METHOD,
    TableColumn('n', 'cutouts', 'count', 'number of cutouts'),
    TableColumn('cpu_time', 'CPU time [s]', 'number', 'time of one core'),
    TableColumn('rate', 'cutouts per second and core', 'number', 'cutouts per time of one core'),
    TableColumn(
        'relative_time',
        'time per cutout / that of the fastest',
        'number',
        'time per cutout over that of the fastest method',
    ),
)


def labeled(table, comparison):
    """Return a copy of a table with the labels of the methods in place of their names."""
    table = table.copy()
    for name in {'method', 'reference'} & {*table.colnames}:
        table[name] = [comparison.labels.get(method, method) for method in table[name]]
    return table


def summarize_comparison(
    comparison, by='snr', *, edges=None, snr_min=None, n_bootstrap=N_BOOTSTRAP
):
    """
    Sum up the errors of each method in bins of a parameter.

    Parameters
    ----------
    comparison : `~astroflux.evaluation.Comparison`
        One with truth.
    by : str or None, optional
        Name of one of ``astroflux.evaluation.PARAMETERS``; `None` for all galaxies in one bin.
    edges : sequence of float, optional
        Edges of the bins; by default those of the parameter.
    snr_min : float, optional
        Leave out galaxies whose true S/N is not above this; needs the parameter ``snr``.
    n_bootstrap : int, optional
        Number of resamplings for the errors.

    Returns
    -------
    summary : `~astropy.table.Table`
        One row for every method and bin: ``method``, ``low``, ``high`` and the entries of
        `~astroflux.evaluation.flux_error_statistics`. The coverage is of galaxies that have an
        interval.

    Raises
    ------
    ValueError
        If the comparison has no truth, or not the parameter.
    """
    values, edges = _binned(comparison, by, edges, snr_min)
    truth = comparison.truth
    bound = np.asarray(truth['bound'], float) if 'bound' in truth.colnames else None
    tables = []
    for method in comparison.labels:
        rows = comparison.of_method(method)
        # A slow method may have the first cutouts only.
        cutouts = np.asarray(rows['cutout'], int)
        table = summarize_by(
            values[cutouts],
            edges,
            _errors(rows),
            bound=None if bound is None else bound[cutouts],
            n_bootstrap=n_bootstrap,
        )
        table.add_column(np.full(len(table), method), name='method', index=0)
        tables.append(table)
    return describe(vstack(tables), SUMMARY_COLUMNS)


def drop_empty_bins(summary):
    """Return the rows of `summarize_comparison` of bins in which any method was given a galaxy."""
    return summary[np.isin(summary['low'], summary['low'][summary['n'] > 0])]


def summarize_bound(comparison, by='snr', *, edges=None, snr_min=None):
    """
    Scatter that the galaxies of each bin would have at the bound.

    Parameters
    ----------
    comparison, by, edges, snr_min
        As in `summarize_comparison`.

    Returns
    -------
    bounds : `~astropy.table.Table`
        One row per bin: ``low``, ``high``, ``n``, the number of galaxies with a bound, and
        ``scatter``, NaN if there are none.
    """
    values, edges = _binned(comparison, by, edges, snr_min)
    truth = comparison.truth
    bound = np.full(len(truth), np.nan)
    if 'bound' in truth.colnames:
        bound = np.asarray(truth['bound'], float)
    rows = []
    for low, high, inside in split_into_bins(values, edges):
        known = bound[inside & np.isfinite(bound)]
        scatter = scatter_at_bound(known) if len(known) else np.nan
        rows.append({'low': low, 'high': high, 'n': len(known), 'scatter': scatter})
    return Table(rows)


def _binned(comparison, by, edges, snr_min):
    """Value of the parameter for each cutout, NaN where left out, and the edges of its bins."""
    truth = comparison.truth
    if truth is None:
        msg = 'the comparison has no truth; compare_pairs needs none'
        raise ValueError(msg)
    known = [name for name in PARAMETERS if name in truth.colnames]
    for name in (by, None if snr_min is None else 'snr'):
        if name not in (None, *known):
            msg = f'the truth has no parameter {name!r}; it has: {", ".join(known)}'
            raise ValueError(msg)
    if by is None:
        values, edges = np.zeros(len(truth)), (-np.inf, np.inf)
    else:
        values = np.asarray(truth[by], float)
        edges = PARAMETERS[by].edges if edges is None else tuple(edges)
    if snr_min is not None:
        values = np.where(np.asarray(truth['snr'], float) > snr_min, values, np.nan)
    return values, edges


def _errors(rows):
    """Columns for the statistics; where there is no interval, whether it holds is not known."""
    unknown = ~np.isfinite(rows['flux_lower']) | ~np.isfinite(rows['flux_upper'])
    errors = Table({name: np.asarray(rows[name], float) for name in ('ln_error', 'pull')})
    for name in ('covered_68', 'covered_95'):
        errors[name] = np.where(unknown, np.nan, np.asarray(rows[name], float))
    return errors


def fluxes_by_method(comparison):
    """All fluxes side by side, (n_methods, n_cutouts); NaN where there is no positive one."""
    measurements = comparison.measurements
    cutouts = np.asarray(measurements['cutout'], int)
    unit = u.Quantity(measurements['flux']).unit
    fluxes = np.full((len(comparison.labels), cutouts.max(initial=-1) + 1), np.nan)
    for row, method in zip(fluxes, comparison.labels, strict=True):
        own = comparison.of_method(method)
        flux = u.Quantity(own['flux']).value
        row[np.asarray(own['cutout'], int)] = _only_positive(flux)
    return u.Quantity(fluxes, unit)


def _only_positive(flux):
    return np.where(np.isfinite(flux) & (flux > 0), flux, np.nan)


def median_fluxes(fluxes):
    """
    Median over the methods, a reference where no truth is known.

    Only positive fluxes count. NaN where fewer than two methods have one: it would be compared
    with itself.
    """
    values = _only_positive(fluxes.value)
    median = np.full(values.shape[1], np.nan)
    several = np.isfinite(values).sum(axis=0) >= 2
    if several.any():
        median[several] = np.nanmedian(values[:, several], axis=0)
    return u.Quantity(median, fluxes.unit)


def compare_pairs(comparison, *, n_bootstrap=N_BOOTSTRAP):
    """
    Compare the methods with each other, and with their median.

    Parameters
    ----------
    comparison : `~astroflux.evaluation.Comparison`
        With truth or without.
    n_bootstrap : int, optional
        Number of resamplings for the errors.

    Returns
    -------
    pairs : `~astropy.table.Table`
        First one row for every method against the median of all (``reference`` is `MEDIAN`),
        then one for every pair of methods. About the ``n`` cutouts on which both have a
        positive flux: ``median`` of ln(flux / reference), ``nmad``, 1.4826 times the median
        absolute deviation from it, and ``differing``, the fraction that differs by more than
        30 %; their 1-sigma bootstrap errors have the ending ``_err``. NaN where there is
        nothing to tell.
    """
    fluxes = fluxes_by_method(comparison)
    named = dict(zip(comparison.labels, fluxes, strict=True))
    median = median_fluxes(fluxes)
    pairs = [(method, MEDIAN, named[method], median) for method in named]
    # The later method against the earlier one: the first in a call is often the yardstick.
    pairs += [
        (method, reference, named[method], named[reference])
        for reference, method in combinations(named, 2)
    ]
    rows = []
    for method, reference, flux, reference_flux in pairs:
        ln_ratio = np.log((flux / reference_flux).value)
        errors = Table({'ln_error': ln_ratio[np.isfinite(ln_ratio)]})
        statistics = flux_error_statistics(errors, n_bootstrap=n_bootstrap)
        row = {'method': method, 'reference': reference, 'n': statistics['n']}
        for name, statistic in (('median', 'bias'), ('nmad', 'scatter'), ('differing', 'outliers')):
            row[name] = statistics[statistic]
            row[f'{name}_err'] = statistics[f'{statistic}_err']
        rows.append(row)
    return describe(Table(rows), PAIR_COLUMNS)


def summarize_speed(comparison):
    """
    Speed of each method.

    Parameters
    ----------
    comparison : `~astroflux.evaluation.Comparison`
        With truth or without.

    Returns
    -------
    speed : `~astropy.table.QTable`
        ``method``, ``n`` cutouts, ``cpu_time`` in seconds of one core, ``rate`` in cutouts per
        second and core, and ``relative_time``, the time of a cutout over that of the fastest
        method; NaN where no time was taken.
    """
    n = np.asarray(comparison.speed['n'], float)
    cpu_time = u.Quantity(comparison.speed['cpu_time'], u.s).value
    rate = np.full(len(n), np.nan)
    np.divide(n, cpu_time, out=rate, where=(n > 0) & (cpu_time > 0))
    known = rate[np.isfinite(rate)]
    speed = QTable(
        {
            'method': [str(method) for method in comparison.speed['method']],
            'n': np.asarray(comparison.speed['n'], int),
            'cpu_time': cpu_time * u.s,
            'rate': rate / u.s,
            'relative_time': (known.max() if len(known) else np.nan) / rate,
        }
    )
    return describe(speed, SPEED_COLUMNS)
