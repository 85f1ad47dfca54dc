# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The table of a test set: every method in every S/N bin."""

import numpy as np
from astropy.table import join
from report import rst_table

from astroflux.evaluation import (
    flux_error_statistics,
    paired_ratios,
    scatter_at_bound,
    summarise_comparison,
)

__all__ = ['BRIEF', 'REFERENCE', 'fit_check', 'readable', 'summary_of']

# The method that all others are compared with.
REFERENCE = 'cnn'

# Statistics of fewer galaxies tell nothing: such rows are left out.
MIN_GALAXIES = 5


def summary_of(comparison, test_set):
    """Return the statistics of all methods and bins, bin by bin, with the time per cutout."""
    edges = test_set.snr_bins
    summary = summarise_comparison(comparison, edges=edges)
    pairs = paired_ratios(comparison, REFERENCE, edges=edges)
    pairs.rename_column('n', 'n_both')
    summary = join(summary, pairs, keys=('method', 'low', 'high'), join_type='left')
    speed = {
        row['method']: 1e3 * row['cpu_time'].value / max(row['n'], 1) for row in comparison.speed
    }
    summary['ms_of_a_core'] = [speed[method] for method in summary['method']]
    summary['label'] = [comparison.labels[method] for method in summary['method']]
    order = {method: index for index, method in enumerate(comparison.labels)}
    rank = [order[method] for method in summary['method']]
    return summary[np.lexsort((rank, summary['low']))]


def _number(value, digits=3):
    if not np.isfinite(value):
        return ''
    decimals = max(0, digits - 1 - int(np.floor(np.log10(value)))) if value > 0 else 0
    return f'{value:.{decimals}f}'


def _percent(value, error=np.nan):
    """Return a fraction in percent, with its error, if there is one, to the same decimals."""
    value, error = 100 * value, 100 * error
    if not np.isfinite(value):
        return ''
    size = error if np.isfinite(error) else abs(value)
    decimals = 2 if size < 0.3 else 1 if size < 30 else 0
    return f'{value:.{decimals}f}{_plus_minus(error, decimals)}'


def _ratio(value, error):
    if not np.isfinite(value):
        return ''
    decimals = 0 if error >= 9.5 else 1 if error >= 0.95 else 2
    return f'{value:.{decimals}f}{_plus_minus(error, decimals)}'


def _plus_minus(error, decimals):
    return f' ± {error:.{decimals}f}' if np.isfinite(error) else ''


# title of a column, and its text for a row of a summary
COLUMNS = {
    'S/N': lambda row: f'{row["low"]:g}-{row["high"]:g}',
    'method': lambda row: str(row['label']),
    'n': lambda row: str(row['n']),
    'measured [%]': lambda row: _percent(row['completeness']),
    'median bias [%]': lambda row: _percent(row['bias'], row['bias_err']),
    'scatter [%]': lambda row: _percent(row['scatter'], row['scatter_err']),
    'scatter / bound': lambda row: _ratio(row['scatter_over_bound'], row['scatter_over_bound_err']),
    'rms [%]': lambda row: _percent(row['rms'], row['rms_err']),
    'rms / CNN': lambda row: (
        '' if row['method'] == REFERENCE else _ratio(row['rms_ratio'], row['rms_ratio_err'])
    ),
    'beyond 30 % [%]': lambda row: _percent(row['outliers']),
    'in 68 % interval [%]': lambda row: _percent(row['coverage_68']),
    'in 95 % interval [%]': lambda row: _percent(row['coverage_95']),
    'ms of a core': lambda row: _number(row['ms_of_a_core'], 2),
}
# what fits into a narrow page
BRIEF = (
    *('S/N', 'method', 'n', 'measured [%]', 'median bias [%]', 'scatter [%]'),
    *('scatter / bound', 'beyond 30 % [%]', 'in 68 % interval [%]', 'ms of a core'),
)


def readable(summary, *, methods=None, columns=tuple(COLUMNS)):
    """
    Return a summary as text for people.

    Parameters
    ----------
    summary : `~astropy.table.Table`
        From `summary_of`.
    methods : sequence of str, optional
        Only these.
    columns : sequence of str, optional
        Titles of the columns, of `COLUMNS`.
    """
    rows = [
        [COLUMNS[name](row) for name in columns]
        for row in summary
        if row['n'] >= MIN_GALAXIES and (methods is None or row['method'] in methods)
    ]
    return rst_table(list(columns), rows)


def fit_check(comparison):
    """
    Return a table that tells whether the light-profile fit is a fair comparator.

    How many of the galaxies of S/N above 20 it converges for; and its scatter where its model is
    right, which is where the truth has one component, against the bound of a method that knows
    nothing beforehand, as the fit does.
    """
    rows = comparison.of_method('sersic')
    truth = comparison.truth[: len(rows)]
    bright = truth['snr'] > 20
    converged = np.mean(np.isfinite(rows['flux'][bright]))
    single = (truth['n_components'] == 1) & (truth['snr'] > 50) & (truth['snr'] < 500)
    bound = np.asarray(truth['bound_without_prior'])[single]
    found = flux_error_statistics(rows[single], bound=bound)
    header = ['galaxies', 'n', 'figure', 'value']
    one = 'one component, S/N 50-500'
    table = [
        ['S/N > 20', str(bright.sum()), 'converged [%]', _percent(converged)],
        [one, str(found['n']), 'scatter [%]', _percent(found['scatter'], found['scatter_err'])],
        [one, str(found['n']), 'scatter at the bound [%]', _percent(scatter_at_bound(bound))],
        [
            one,
            str(found['n']),
            'scatter / bound',
            _ratio(found['scatter_over_bound'], found['scatter_over_bound_err']),
        ],
        [
            one,
            str(found['n']),
            'scatter of (measured - true) / error',
            _ratio(found['pull_scatter'], found['pull_scatter_err']),
        ],
    ]
    return rst_table(header, table)
