# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The table of a test set: every method in every S/N bin."""

import numpy as np
from astropy.table import join
from report import rst_table

from astroflux.evaluation import (
    flux_error_statistics,
    paired_ratios,
    scatter_at_bound,
    summarize_bound,
    summarize_comparison,
)
from astroflux.evaluation._numbers import percent_text, ratio_text
from astroflux.evaluation._tables import TableColumn, document_cells

__all__ = ['BRIEF', 'REFERENCE', 'fit_check', 'readable', 'summary_of']

# The method that all others are compared with.
REFERENCE = 'cnn'

# Statistics of fewer galaxies tell nothing: such rows are left out.
MIN_GALAXIES = 5


def summary_of(comparison, test_set):
    """Return the statistics of all methods and bins, bin by bin, with the time per cutout."""
    edges = test_set.snr_bins
    summary = summarize_comparison(comparison, edges=edges)
    pairs = paired_ratios(comparison, REFERENCE, edges=edges)
    pairs.rename_column('n', 'n_both')
    summary = join(summary, pairs, keys=('method', 'low', 'high'), join_type='left')
    at_bound = dict(summarize_bound(comparison, edges=edges)['low', 'scatter'].iterrows())
    summary['scatter_at_bound'] = [at_bound[low] for low in summary['low']]
    speed = {
        row['method']: 1e3 * row['cpu_time'].value / max(row['n'], 1) for row in comparison.speed
    }
    summary['ms_of_a_core'] = [speed[method] for method in summary['method']]
    summary['label'] = [comparison.labels[method] for method in summary['method']]
    order = {method: index for index, method in enumerate(comparison.labels)}
    rank = [order[method] for method in summary['method']]
    return summary[np.lexsort((rank, summary['low']))]


COLUMNS = (
    TableColumn('low', 'S/N', 'range'),
    TableColumn('label', 'method', 'text'),
    TableColumn('n', 'n', 'count'),
    TableColumn('completeness', 'measured', 'share'),
    TableColumn('bias', 'median bias', 'percent'),
    TableColumn('scatter', 'scatter', 'percent'),
    TableColumn('scatter_over_bound', 'scatter / bound'),
    TableColumn('rms', 'rms', 'percent'),
    TableColumn('rms_ratio', 'rms / CNN'),
    TableColumn('outliers', 'beyond 30 %', 'share'),
    TableColumn('coverage_68', 'in 68 % interval', 'share'),
    TableColumn('coverage_95', 'in 95 % interval', 'share'),
    TableColumn('ms_of_a_core', 'ms of a core', 'number'),
)
# what fits into a narrow page
BRIEF = tuple(c for c in COLUMNS if c.name not in ('rms', 'rms_ratio', 'coverage_95'))


def readable(summary, *, methods=None, columns=COLUMNS):
    """
    Return a summary as text for people.

    Parameters
    ----------
    summary : `~astropy.table.Table`
        From `summary_of`.
    methods : sequence of str, optional
        Only these.
    columns : sequence of `~astroflux.evaluation._tables.TableColumn`, optional
        Some of `COLUMNS`.
    """
    shown = summary[summary['n'] >= MIN_GALAXIES]
    if methods is not None:
        shown = shown[np.isin(shown['method'], methods)]
    # that of the reference is one
    shown['rms_ratio'][shown['method'] == REFERENCE] = np.nan
    return rst_table(*document_cells(columns, shown))


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
    scatter, scatter_err, at_bound = (
        100 * value for value in (found['scatter'], found['scatter_err'], scatter_at_bound(bound))
    )
    of_single = [
        ('scatter [%]', percent_text(scatter, scatter_err)),
        ('scatter at the bound [%]', percent_text(at_bound)),
        (
            'scatter / bound',
            ratio_text(found['scatter_over_bound'], found['scatter_over_bound_err']),
        ),
        (
            'scatter of (measured - true) / error',
            ratio_text(found['pull_scatter'], found['pull_scatter_err']),
        ),
    ]
    rows = [['S/N > 20', str(bright.sum()), 'converged [%]', percent_text(100 * converged)]]
    rows += [['one component, S/N 50-500', str(found['n']), *pair] for pair in of_single]
    return rst_table(['galaxies', 'n', 'figure', 'value'], rows)
