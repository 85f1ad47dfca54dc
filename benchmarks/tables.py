# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The table of a test set: every method in every S/N bin."""

import numpy as np
from astropy.table import join
from report import rst_table

from astroflux.evaluation import paired_ratios, summarise_comparison

__all__ = ['REFERENCE', 'readable', 'summary_of']

# The method that all others are compared with.
REFERENCE = 'cnn'


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
    return '' if not np.isfinite(value) else f'{value:#.{digits}g}'.rstrip('.')


def _percent(value, error=None):
    """Return a fraction in percent, with its error to the same decimals."""
    if not np.isfinite(value):
        return ''
    value = 100 * value
    error = None if error is None else 100 * error
    small = abs(value) if error is None else error
    decimals = 2 if small < 0.3 else 1 if small < 30 else 0
    text = f'{value:.{decimals}f}'
    return text if error is None else f'{text} ± {error:.{decimals}f}'


def _ratio(value, error):
    return '' if not np.isfinite(value) else f'{value:.2f} ± {error:.2f}'


def readable(summary, methods=None):
    """
    Return a summary as text for people.

    Parameters
    ----------
    summary : `~astropy.table.Table`
        From `summary_of`.
    methods : sequence of str, optional
        Only these.
    """
    header = [
        'S/N',
        'method',
        'n',
        'measured [%]',
        'median bias [%]',
        'scatter [%]',
        'scatter / bound',
        'rms [%]',
        'rms / CNN',
        'beyond 30 % [%]',
        'in 68 % interval [%]',
        'in 95 % interval [%]',
        'ms of a core',
    ]
    rows = [
        [
            f'{row["low"]:g}-{row["high"]:g}',
            str(row['label']),
            str(row['n']),
            _percent(row['completeness']),
            _percent(row['bias'], row['bias_err']),
            _percent(row['scatter'], row['scatter_err']),
            _ratio(row['scatter_over_bound'], row['scatter_over_bound_err']),
            _percent(row['rms']),
            _ratio(row['rms_ratio'], row['rms_ratio_err']),
            _percent(row['outliers']),
            _percent(row['coverage_68']),
            _percent(row['coverage_95']),
            _number(row['ms_of_a_core'], 2),
        ]
        for row in summary
        if row['n'] and (methods is None or row['method'] in methods)
    ]
    return rst_table(header, rows)
