# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Check that a table of the study is distributed as the report says."""

import math

import numpy as np
from scipy import stats

from astroflux.study.catalogue import COLUMNS, MAX_FLUX, MAX_TWIST, MIN_FLUX, RANGES

__all__ = ['FLAT_LOG_VARIANCE', 'check_distributions', 'correlation']

# Of a Kolmogorov-Smirnov test: a table of the right distribution fails one of the eight tests in
# a thousand trials.
SMALLEST_P = 1e-4

# How many standard errors a mean, a variance or a correlation may be off.
N_SIGMA = 4.0

# Of log10 of a flux that is spread evenly from zero: minus ln(flux / maximum) is exponential.
FLAT_LOG_VARIANCE = 1 / math.log(10) ** 2
EXPONENTIAL_KURTOSIS = 9.0

# That of log10 of an even flux is -2; few galaxies scatter widely.
LARGEST_SKEWNESS = -0.5

# The tables hold three decimals, and the logarithm more than eight.
ROUNDING = 1e-8


def check_distributions(table):
    """
    Compare the columns of a table of the study with the description in the report.

    Parameters
    ----------
    table : `pandas.DataFrame`
        With the columns `~astroflux.study.loader.COLUMNS`; five galaxies at least.

    Returns
    -------
    checks : list of dict
        ``name``, what was checked; ``wanted``, a text; ``found``, a number or a list of two; and
        ``passed``. Tests of chance allow for the number of galaxies.

    Raises
    ------
    ValueError
        If the table has fewer than five rows.
    """
    if len(table) < 5:
        msg = f'want at least 5 galaxies to check their distributions, got {len(table)}'
        raise ValueError(msg)
    return [
        _check('number of columns', f'{len(COLUMNS)}', len(table.columns), len(COLUMNS)),
        *_check_identity(table),
        *_check_ranges(table),
        *_check_sums(table),
        *_check_even(table),
        *_check_log_flux(table),
        *_check_independence(table),
    ]


def correlation(one, other):
    """
    Return Pearson's correlation coefficient of two columns.

    Parameters
    ----------
    one, other : array_like
        ``(n,)`` each.

    Returns
    -------
    r : float
    """
    return float(np.corrcoef(one, other)[0, 1])


def _check(name, wanted, found, passed):
    """Make one row; ``passed`` may be the only value that passes."""
    if not isinstance(passed, bool | np.bool_):
        passed = found == passed
    return {'name': name, 'wanted': wanted, 'found': found, 'passed': bool(passed)}


def _check_identity(table):
    repeated = int(table['img_number'].duplicated().sum())
    named = table['file_name'] == [f'{number}.fits' for number in table['img_number']]
    others = int((table['num_components'] != 2).sum())
    yield _check('image numbers that are there twice', 'none', repeated, 0)
    yield _check('files not named by their number', 'none', int((~named).sum()), 0)
    yield _check('galaxies without two components', 'none', others, 0)


def _check_ranges(table):
    columns = {**RANGES, 'total_flux': (MIN_FLUX, MAX_FLUX)}
    for name, (low, high) in columns.items():
        found = [float(table[name].min()), float(table[name].max())]
        inside = low - ROUNDING <= found[0] and found[1] <= high + ROUNDING
        yield _check(f'range of {name}', f'{low:g} to {high:g}', found, inside)
    twist = float((table['PA_b'] - table['PA_d']).abs().max())
    yield _check(
        'largest angle between the bulge and the disc',
        f'at most {MAX_TWIST:g} deg',
        twist,
        twist <= MAX_TWIST + ROUNDING,
    )
    # the circle may be larger than both ellipses, not than their longest axes
    widest = np.sqrt(table[['axis_ratio_d', 'axis_ratio_b']].min(axis=1))
    radii = table[['R_e_d', 'R_e_b']]
    low, high = radii.min(axis=1) * widest, radii.max(axis=1) / widest
    outside = int(((table['R_e'] < low - 1e-6) | (table['R_e'] > high + 1e-6)).sum())
    yield _check('R_e not between the axes of the components', 'none', outside, 0)


def _check_sums(table):
    total = (table['flux_frac_d'] + table['flux_frac_b'] - 1).abs().max()
    same = (table['Bt'] - table['flux_frac_b']).abs().max()
    log = (np.log10(table['total_flux']) - table['log_total_flux']).abs().max()
    for name, found, largest in (
        ('flux fractions: largest difference of the sum from 1', total, ROUNDING),
        ('Bt: largest difference from flux_frac_b', same, ROUNDING),
        ('log_total_flux: largest difference from log10(total_flux)', log, 1e-6),
    ):
        yield _check(name, '0', float(found), bool(found <= largest))


def _check_even(table):
    """Kolmogorov-Smirnov tests; an index is one of few values, so its mean has to do."""
    columns = {
        'total_flux': (MIN_FLUX, MAX_FLUX),
        **{name: RANGES[name] for name in RANGES if not name.startswith('sersic')},
    }
    values = {name: table[name] for name in columns}
    columns['PA_b - PA_d'] = (-MAX_TWIST, MAX_TWIST)
    values['PA_b - PA_d'] = table['PA_b'] - table['PA_d']
    for name, (low, high) in columns.items():
        if name == 'flux_frac_d':
            # one less flux_frac_b
            continue
        p_value = float(stats.kstest(values[name], 'uniform', args=(low, high - low)).pvalue)
        yield _check(
            f'{name} is spread evenly: p value', f'> {SMALLEST_P:g}', p_value, p_value > SMALLEST_P
        )
    for name in ('sersic_idx_d', 'sersic_idx_b'):
        low, high = RANGES[name]
        # of evenly spaced values the scatter is slightly larger than of a flat density
        error = N_SIGMA * (high - low) / math.sqrt(12 * len(table)) * 1.06
        mean = float(table[name].mean())
        middle = (low + high) / 2
        yield _check(
            f'mean of {name}', f'{middle:g} +- {error:.2g}', mean, abs(mean - middle) < error
        )


def _check_log_flux(table):
    log_flux = table['log_total_flux']
    skewness = float(stats.skew(log_flux))
    yield _check(
        'skewness of log_total_flux (left-skewed)',
        f'-2 if the flux is flat, and < {LARGEST_SKEWNESS:g}',
        skewness,
        skewness < LARGEST_SKEWNESS,
    )
    variance = float(np.var(log_flux))
    relative = N_SIGMA * math.sqrt((EXPONENTIAL_KURTOSIS - 1) / len(table))
    error = relative * FLAT_LOG_VARIANCE
    yield _check(
        'variance of log_total_flux',
        f'{FLAT_LOG_VARIANCE:.4f} +- {error:.2g}',
        variance,
        abs(variance - FLAT_LOG_VARIANCE) < error,
    )


def _check_independence(table):
    largest = N_SIGMA / math.sqrt(len(table))
    for flux in ('total_flux', 'log_total_flux'):
        for name in ('R_e', 'Bt'):
            found = correlation(table[flux], table[name])
            yield _check(
                f'correlation of {flux} with {name}',
                f'0 +- {largest:.2g}',
                found,
                abs(found) < largest,
            )
