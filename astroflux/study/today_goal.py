# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Whether the shipped network is as good as it is asked to be, and how good is possible."""

import numpy as np
import pandas as pd

from astroflux.study.today_tables import (
    BOUND,
    METHODS,
    bound_statistics,
    ln_errors,
    method_statistics,
)

__all__ = ['GOAL_MSE', 'GOAL_SHARE', 'faintest', 'goal_table', 'part_of_the_faintest']

# What is asked of the shipped network: the MSE of log10 flux, and the share beyond 10 %.
GOAL_MSE = 2e-5
GOAL_SHARE = 1e-3

# The faintest of all, which are looked at by themselves.
FAINTEST = 0.01


def goal_table(predictions, bound, *, substitute):
    """
    Judge the shipped networks, and the bound, by the goal.

    Parameters
    ----------
    predictions, bound, substitute
        As in `~astroflux.study.today_tables.summarise`.

    Returns
    -------
    table : `~pandas.DataFrame`
        One row per method and selection of galaxies: all, those that the shipped network
        measures, all but the faintest 1 %. ``n``, ``n_failed``, ``mse``, ``beyond_10``,
        ``mse_met`` and ``share_met``, whether the goal is met, and ``mse_over_bound``.
    """
    actual = predictions['actual'].to_numpy()
    selections = {
        'all': np.ones(len(actual), bool),
        'measured': np.isfinite(predictions['shipped'].to_numpy()),
        'without the faintest 1 %': ~faintest(actual),
    }
    rows = []
    for selection, inside in selections.items():
        possible = bound_statistics(bound[inside])
        judged = {
            METHODS[name]: method_statistics(
                actual[inside],
                predictions[name].to_numpy()[inside],
                bound[inside],
                substitute=substitute,
                n_bootstrap=1,
            )
            for name in ('shipped', 'tuned')
        }
        for method, statistics in {**judged, BOUND: possible}.items():
            rows.append(
                {
                    'method': method,
                    'galaxies': selection,
                    **{name: statistics[name] for name in ('n', 'n_failed', 'mse', 'beyond_10')},
                    'mse_met': statistics['mse'] <= GOAL_MSE,
                    'share_met': statistics['beyond_10'] < GOAL_SHARE,
                    'mse_over_bound': statistics['mse'] / possible['mse'],
                }
            )
    return pd.DataFrame(rows)


def part_of_the_faintest(predictions, bound, *, substitute):
    """
    Tell how much of the MSE comes from the faintest 1 % of the galaxies.

    Parameters
    ----------
    predictions, bound, substitute
        As in `~astroflux.study.today_tables.summarise`.

    Returns
    -------
    table : `~pandas.DataFrame`
        One row for each network of today and the bound: ``method``; ``n``, how many galaxies the
        faintest are; ``brightest``, the flux of the brightest of them in ADU; ``part``, of the
        sum of the squared errors of log10 flux; ``part_measured``, the same without failures.
    """
    actual = predictions['actual'].to_numpy()
    faint = faintest(actual)
    squares = {BOUND: (bound, bound)}
    for name in ('shipped', 'tuned'):
        error = ln_errors(actual, predictions[name].to_numpy())
        guess = ln_errors(actual, substitute)
        squares[METHODS[name]] = (np.where(np.isfinite(error), error, guess), np.nan_to_num(error))
    parts = {
        method: [(values[faint] ** 2).sum() / (values**2).sum() for values in both]
        for method, both in squares.items()
    }
    return pd.DataFrame(
        [
            {
                'method': method,
                'n': int(faint.sum()),
                'brightest': float(10 ** actual[faint].max()),
                'part': part,
                'part_measured': part_measured,
            }
            for method, (part, part_measured) in parts.items()
        ]
    )


def faintest(actual):
    """
    Tell which galaxies are the faintest 1 %, at least one.

    Parameters
    ----------
    actual : 1D `~numpy.ndarray`
        log10 of the true fluxes.

    Returns
    -------
    is_faint : 1D `~numpy.ndarray` of bool
    """
    n = max(1, round(FAINTEST * len(actual)))
    is_faint = np.zeros(len(actual), bool)
    is_faint[np.argsort(actual, kind='stable')[:n]] = True
    return is_faint
