# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""One method against another on the galaxies that both have measured."""

import numpy as np
from astropy.table import Table

from astroflux.evaluation.metrics import N_BOOTSTRAP, nmad, rms, split_into_bins

__all__ = ['paired_ratios']


def paired_ratios(comparison, reference, by='snr', *, edges, n_bootstrap=N_BOOTSTRAP):
    """
    Scatter and root mean square of each method over those of a reference method.

    A method that misses the hard galaxies would look better than one that measures all; so each
    pair is compared on the galaxies for which both have a positive flux.

    Parameters
    ----------
    comparison : `~astroflux.evaluation.Comparison`
        With truth.
    reference : str
        Name of the method to compare with.
    by : str, optional
        Column of the truth to bin the galaxies by.
    edges : sequence of float
        Edges of the bins; a bin holds its lower edge, the last one its upper edge, too.
    n_bootstrap : int, optional
        Number of resamplings, of galaxies, for the errors.

    Returns
    -------
    ratios : `~astropy.table.Table`
        One row for every method and bin: ``method``, ``low``, ``high``, ``n``, the number of
        galaxies that both measured, ``scatter_ratio`` and ``rms_ratio``, above one where the
        reference is better, and their 1-sigma bootstrap errors with the ending ``_err``. NaN
        where fewer than two galaxies are left; the error of a few galaxies is NaN also where
        the reference has no scatter in some of the resamplings.

    Raises
    ------
    ValueError
        If the comparison has no truth, or the reference is not one of the methods.
    """
    if comparison.truth is None:
        msg = 'the comparison has no truth; compare_pairs needs none'
        raise ValueError(msg)
    if reference not in comparison.labels:
        msg = f'{reference!r} is not one of the methods {list(comparison.labels)}'
        raise ValueError(msg)
    values = np.asarray(comparison.truth[by], float)
    yardstick = _errors_by_cutout(comparison, reference, len(values))
    rows = []
    for method in comparison.labels:
        errors = _errors_by_cutout(comparison, method, len(values))
        both = np.isfinite(errors) & np.isfinite(yardstick)
        for low, high, in_bin in split_into_bins(values, edges):
            inside = both & in_bin
            ratios = _ratios(errors[inside], yardstick[inside], n_bootstrap)
            rows.append({'method': method, 'low': low, 'high': high, 'n': inside.sum(), **ratios})
    return Table(rows)


def _errors_by_cutout(comparison, method, n):
    """Errors of ln flux of a method, NaN for cutouts that it did not measure."""
    errors = np.full(n, np.nan)
    rows = comparison.of_method(method)
    errors[np.asarray(rows['cutout'])] = rows['ln_error']
    return errors


def _ratios(errors, yardstick, n_bootstrap):
    """Scatter and root mean square of errors over those of the yardstick, same galaxies."""
    statistics = {'scatter_ratio': nmad, 'rms_ratio': rms}
    if len(errors) < 2:
        return {f'{name}{end}': np.nan for name in statistics for end in ('', '_err')}
    drawn = np.random.default_rng(0).integers(len(errors), size=(n_bootstrap, len(errors)))
    result = {}
    with np.errstate(divide='ignore', invalid='ignore'):
        for name, statistic in statistics.items():
            resampled = statistic(errors[drawn]) / statistic(yardstick[drawn])
            result[name] = float(statistic(errors) / statistic(yardstick))
            result[f'{name}_err'] = float(np.std(resampled))
    return result
