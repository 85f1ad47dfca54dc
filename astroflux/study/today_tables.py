# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""How good the methods of today are on the study's galaxies, in numbers."""

import numpy as np
import pandas as pd
from astropy.table import Table
from scipy.stats import norm

from astroflux.evaluation.metrics import (
    N_BOOTSTRAP,
    flux_error_statistics,
    scatter_at_bound,
    split_into_bins,
)

__all__ = [
    'BOUND',
    'FLUX_EDGES',
    'LN10',
    'METHODS',
    'SHARES',
    'SNR_EDGES',
    'bound_statistics',
    'ln_errors',
    'method_statistics',
    'summarise',
]

# Name of the column, and label.
METHODS = {
    'kron': 'Kron',
    'sum': 'stamp sum',
    'cnn-1': 'study CNN 1',
    'cnn-2': 'study CNN 2',
    'cnn-3': 'study CNN 3',
    'shipped': 'shipped network',
    'tuned': 'fine-tuned network',
}
BOUND = 'information bound'

# The last edge is that of the data set, which holds no brighter galaxy.
FLUX_EDGES = (0.0, 100.0, 300.0, 1000.0, 3000.0, 10_000.0, 20_000.0, 30_000.0)
SNR_EDGES = (0.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10_000.0, 30_000.0, np.inf)

# A flux off by more than these fractions is counted.
SHARES = {'beyond_10': 0.1, 'beyond_30': 0.3}

LN10 = np.log(10)


def ln_errors(actual, predicted):
    """
    Errors of fluxes from their decimal logarithms.

    Parameters
    ----------
    actual, predicted : 1D `~numpy.ndarray`
        log10 of the fluxes; NaN where a method has failed.

    Returns
    -------
    errors : 1D `~numpy.ndarray`
        ln(predicted / actual).
    """
    return LN10 * (np.asarray(predicted, float) - np.asarray(actual, float))


def method_statistics(
    actual, predicted, bound, *, substitute, n_bootstrap=N_BOOTSTRAP, shares=SHARES
):
    """
    Summarise the errors of one method.

    Parameters
    ----------
    actual, predicted : 1D `~numpy.ndarray`
        log10 of the fluxes; NaN where the method has failed.
    bound : 1D `~numpy.ndarray`
        Smallest standard deviation of ln flux of each galaxy.
    substitute : float
        log10 of the flux that stands for a failure.
    n_bootstrap : int, optional
        Number of resamplings for the errors.
    shares : dict of str to float, optional
        Names and thresholds of the shares of wrong fluxes.

    Returns
    -------
    statistics : dict
        ``n`` and ``n_failed``; ``mse`` of log10 flux with the substitute in the place of
        failures, and its bootstrap error ``mse_err``; ``mse_measured`` without failures;
        ``bias_percent``, the median error of the flux, and ``scatter_percent``, the NMAD of ln
        flux, both without failures; ``scatter_over_bound``; and the shares, in which failures
        count. NaN where there is nothing to tell.
    """
    ln_error = ln_errors(actual, predicted)
    failed = ~np.isfinite(ln_error)
    squared = (ln_error / LN10) ** 2
    whole = np.where(failed, (substitute - np.asarray(actual)) ** 2, squared)
    found = flux_error_statistics(
        Table({'ln_error': ln_error}), bound=bound, n_bootstrap=n_bootstrap
    )
    # a failure is beyond every threshold
    off = np.where(failed, np.inf, np.abs(np.expm1(ln_error)))
    statistics = {
        'n': len(ln_error),
        'n_failed': int(failed.sum()),
        'mse': _mean(whole),
        'mse_err': _error_of_mean(whole, n_bootstrap),
        'mse_measured': _mean(squared[~failed]),
        'bias_percent': 100 * float(np.expm1(found['bias'])),
        'scatter_percent': 100 * found['scatter'],
        'scatter_over_bound': found['scatter_over_bound'],
    }
    return statistics | {name: _mean(off > limit) for name, limit in shares.items()}


def bound_statistics(bound, *, shares=SHARES):
    """
    What a method would have that measures every galaxy as well as is possible.

    Its errors of ln flux are Gaussian, without bias.

    Parameters
    ----------
    bound : 1D `~numpy.ndarray`
        Standard deviations of ln flux, finite.
    shares : dict of str to float, optional
        As in `method_statistics`.

    Returns
    -------
    statistics : dict
        The entries of `method_statistics`.
    """
    bound = np.asarray(bound, float)
    mse = _mean((bound / LN10) ** 2)
    statistics = {
        'n': len(bound),
        'n_failed': 0,
        'mse': mse,
        # the galaxies are what they are
        'mse_err': np.nan,
        'mse_measured': mse,
        'bias_percent': 0.0 if len(bound) else np.nan,
        'scatter_percent': 100 * scatter_at_bound(bound) if len(bound) else np.nan,
        'scatter_over_bound': 1.0 if len(bound) else np.nan,
    }
    for name, limit in shares.items():
        beyond = norm.sf(np.log1p(limit) / bound) + norm.cdf(np.log1p(-limit) / bound)
        statistics[name] = _mean(beyond)
    return statistics


def _mean(values):
    return float(np.mean(values)) if len(values) else np.nan


def _error_of_mean(values, n_bootstrap):
    if len(values) < 2:
        return np.nan
    rng = np.random.default_rng(0)
    drawn = rng.integers(len(values), size=(n_bootstrap, len(values)))
    return float(values[drawn].mean(axis=1).std())


def summarise(predictions, bound, *, substitute, by=None, edges=(), n_bootstrap=N_BOOTSTRAP):
    """
    Summarise all methods, and the bound beside them.

    Parameters
    ----------
    predictions : `~pandas.DataFrame`
        ``actual`` and the columns of `METHODS`, as far as there are.
    bound : 1D `~numpy.ndarray`
        Smallest standard deviation of ln flux of each galaxy, finite.
    substitute, n_bootstrap
        As in `method_statistics`.
    by : 1D `~numpy.ndarray`, optional
        What the galaxies are split by; by default they are not.
    edges : sequence of float, optional
        Edges of the bins.

    Returns
    -------
    table : `~pandas.DataFrame`
        One row per method and bin: ``method``, with bins ``low`` and ``high``, and the entries
        of `method_statistics`.
    """
    bins = [({}, np.ones(len(predictions), bool))]
    if by is not None:
        bins = [({'low': a, 'high': b}, inside) for a, b, inside in split_into_bins(by, edges)]
    rows = []
    for name, label in METHODS.items():
        if name not in predictions:
            continue
        for limits, inside in bins:
            statistics = method_statistics(
                predictions['actual'].to_numpy()[inside],
                predictions[name].to_numpy()[inside],
                bound[inside],
                substitute=substitute,
                n_bootstrap=n_bootstrap,
            )
            rows.append({'method': label, **limits, **statistics})
    rows += [
        {'method': BOUND, **limits, **bound_statistics(bound[inside])} for limits, inside in bins
    ]
    return pd.DataFrame(rows)
