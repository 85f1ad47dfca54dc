# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""How good fluxes are, in the field's terms, each figure with a bootstrap error."""

from itertools import pairwise

import numpy as np
from astropy.stats import mad_std
from astropy.table import Table
from scipy.optimize import brentq
from scipy.special import erf
from scipy.stats import norm

__all__ = [
    'SNR_BINS',
    'flux_error_statistics',
    'flux_errors',
    'nmad',
    'rms',
    'scatter_at_bound',
    'split_into_bins',
    'summarize_by',
]

# Edges of the bins of signal-to-noise ratio that every table uses.
SNR_BINS = (5.0, 20.0, 100.0, 500.0, 3000.0)

# A flux off by more than this fraction, either way, is an outlier.
OUTLIER_THRESHOLD = 0.3

# How many 68 % intervals of a Gaussian make one of 95 %.
WIDENING = 1.96

# Resamplings for each error, by default.
N_BOOTSTRAP = 200


def flux_errors(table, true_flux):
    """
    Compare measured fluxes with the truth, galaxy by galaxy.

    Parameters
    ----------
    table : `~astropy.table.QTable`
        What ``measure`` of an estimator returns.
    true_flux : `~astropy.units.Quantity`, shape (n,)
        True total fluxes, in a unit that converts to that of the table.

    Returns
    -------
    errors : `~astropy.table.Table`
        Columns ``ln_error``, ln(measured / true), NaN where there is no positive flux;
        ``covered_68`` and ``covered_95``, whether the interval holds the truth, `False` also if
        there is no interval; without columns ``flux_lower_95`` and ``flux_upper_95``, that of
        95 % reaches 1.96 times as far from the flux, to either side, as that of 68 %; ``pull``,
        (measured - true) / ``flux_err``.
    """
    unit = table['flux'].unit
    truth = true_flux.to_value(unit)
    flux, flux_err, lower, upper = (
        np.asarray(table[name].to_value(unit))
        for name in ('flux', 'flux_err', 'flux_lower', 'flux_upper')
    )
    if 'flux_lower_95' in table.colnames:
        lower_95, upper_95 = (
            table[name].to_value(unit) for name in ('flux_lower_95', 'flux_upper_95')
        )
    else:
        lower_95, upper_95 = (flux + WIDENING * (end - flux) for end in (lower, upper))
    with np.errstate(invalid='ignore', divide='ignore'):
        return Table(
            {
                # a flux that is not positive has no logarithm
                'ln_error': np.where(flux > 0, np.log(flux / truth), np.nan),
                'covered_68': (lower <= truth) & (truth <= upper),
                'covered_95': (lower_95 <= truth) & (truth <= upper_95),
                'pull': (flux - truth) / flux_err,
            }
        )


def _mean(values):
    return np.mean(values, axis=-1)


def _median(values):
    return np.median(values, axis=-1)


def nmad(values):
    """Return 1.4826 times the median absolute deviation, along the last axis."""
    return mad_std(values, axis=-1)


def rms(values):
    """Return the root mean square, along the last axis."""
    return np.sqrt(np.mean(values**2, axis=-1))


def _outlier_fraction(values):
    return np.mean(np.abs(np.expm1(values)) > OUTLIER_THRESHOLD, axis=-1)


# Of a single galaxy these would be zero, which tells nothing.
_SPREADS = (nmad,)

# statistic -> column of the errors, and what it makes of that, galaxies along the last axis
_STATISTICS = {
    'bias': ('ln_error', _median),
    'scatter': ('ln_error', nmad),
    'rms': ('ln_error', rms),
    'outliers': ('ln_error', _outlier_fraction),
    'coverage_68': ('covered_68', _mean),
    'coverage_95': ('covered_95', _mean),
    'pull_median': ('pull', _median),
    'pull_scatter': ('pull', nmad),
}


def flux_error_statistics(errors, *, bound=None, n_bootstrap=N_BOOTSTRAP, rng=None):
    """
    Summarize the errors of fluxes.

    Parameters
    ----------
    errors : `~astropy.table.Table`
        As `flux_errors` gives it; only ``ln_error`` is required.
    bound : 1D `~numpy.ndarray`, optional
        Smallest standard deviation of ln flux that is possible for each galaxy, NaN where not
        known.
    n_bootstrap : int, optional
        Number of resamplings for the errors.
    rng : `numpy.random.Generator`, optional
        Source of randomness for them; by default one of a fixed seed.

    Returns
    -------
    statistics : dict
        ``n``, the number of galaxies, and pairs of a figure and its 1-sigma bootstrap error,
        which has the ending ``_err``; NaN where there is nothing to tell, as for the errors
        and the scatter of a single galaxy:

        - ``completeness``: the fraction with a positive flux; all else is about those;
        - ``bias``: the median of ln(measured / true);
        - ``scatter``: 1.4826 times the median absolute deviation from it (NMAD);
        - ``rms``: the root mean square of ln(measured / true), about zero;
        - ``outliers``: the fraction with a flux off by more than 30 %;
        - ``coverage_68`` and ``coverage_95``: the fraction whose interval holds the truth;
        - ``pull_median`` and ``pull_scatter``: median and NMAD of (measured - true) / error;
        - ``scatter_over_bound``: of the galaxies that have a bound, their scatter over the one
          that they would have at the bound (`scatter_at_bound`).
    """
    rng = np.random.default_rng(0) if rng is None else rng
    ln_error = np.asarray(errors['ln_error'], float)
    good = np.isfinite(ln_error)
    statistics = {'n': len(ln_error)}

    def add(name, function, values):
        statistics[name] = statistics[f'{name}_err'] = np.nan
        if len(values) > 1 or (len(values) == 1 and function not in _SPREADS):
            statistics[name] = float(function(values))
        if len(values) > 1:
            drawn = rng.integers(len(values), size=(n_bootstrap, len(values)))
            statistics[f'{name}_err'] = float(np.std(function(values[drawn])))

    add('completeness', _mean, good.astype(float))
    for name, (column, function) in _STATISTICS.items():
        known = column in errors.colnames
        values = np.asarray(errors[column], float)[good] if known else np.array([])
        add(name, function, values[np.isfinite(values)])

    bounded = good & np.isfinite(np.full(len(good), np.nan) if bound is None else bound)
    add('scatter_over_bound', nmad, ln_error[bounded])
    if bounded.any():
        at_bound = scatter_at_bound(np.asarray(bound)[bounded])
        for name in ('scatter_over_bound', 'scatter_over_bound_err'):
            statistics[name] /= at_bound
    return statistics


def scatter_at_bound(bound):
    """
    Scatter that galaxies would have if each were measured as well as is possible.

    The NMAD of a mixture of Gaussians about zero, one for each galaxy.

    Parameters
    ----------
    bound : 1D `~numpy.ndarray`
        Standard deviations of ln flux, positive.

    Returns
    -------
    scatter : float
    """
    bound = np.asarray(bound, float)

    def excess(deviation):
        return np.mean(erf(deviation / (np.sqrt(2) * bound))) - 0.5

    # Half of each Gaussian lies within its own median deviation; the margin is for rounding,
    # where all are alike.
    unit_mad = norm.ppf(0.75)
    mad = brentq(excess, 0.99 * unit_mad * bound.min(), 1.01 * unit_mad * bound.max())
    return float(mad / unit_mad)


def split_into_bins(values, edges):
    """
    Yield the edges of each bin, and which of the values are in it; NaN is in none.

    A bin holds its lower edge, the last one its upper edge, too.
    """
    values = np.asarray(values, float)
    for low, high in pairwise(edges):
        below = values <= high if high == edges[-1] else values < high
        yield low, high, (values >= low) & below


def summarize_by(values, edges, errors, *, bound=None, n_bootstrap=N_BOOTSTRAP):
    """
    Summarize the errors of fluxes in bins of a parameter of the galaxies.

    Parameters
    ----------
    values, edges
        The parameter, and its bins, as in `split_into_bins`.
    errors, bound, n_bootstrap
        As in `flux_error_statistics`.

    Returns
    -------
    rows : `~astropy.table.Table`
        One row per bin: ``low``, ``high`` and the entries of `flux_error_statistics`.
    """
    rows = []
    for low, high, inside in split_into_bins(values, edges):
        statistics = flux_error_statistics(
            errors[inside],
            bound=None if bound is None else np.asarray(bound)[inside],
            n_bootstrap=n_bootstrap,
        )
        rows.append({'low': low, 'high': high, **statistics})
    return Table(rows)
