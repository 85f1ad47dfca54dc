# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Numbers as the text of pages, documents and terminals."""

import numpy as np

__all__ = [
    'MISSING',
    'error_text',
    'grouped_text',
    'number_text',
    'percent_text',
    'plain_text',
    'range_text',
    'ratio_text',
    'with_unit',
]

# In place of a number that there is not, on a page.
MISSING = '\N{EN DASH}'


# of pages


def number_text(value, digits=3):
    """Write a number with so many digits."""
    if not np.isfinite(value):
        return MISSING
    # Whole numbers up to a million are read more easily without an exponent; what is rounded to
    # more digits than asked for is one of them.
    plain = 10**digits - 0.5 <= abs(value) < 1e6
    return _minus(f'{value:.0f}' if plain else f'{value:.{digits}g}')


def error_text(value, error):
    """Write a value and its error, to two digits of the error."""
    if not np.isfinite(value):
        return MISSING
    if not np.isfinite(error) or error <= 0:
        return number_text(value, 4)
    n_decimals = 1 - int(np.floor(np.log10(error)))
    if n_decimals > 5 or abs(value) >= 1e6:
        return f'{_minus(f"{value:.4g}")} ± {error:.2g}'
    n_decimals = max(n_decimals, 0)
    return f'{_minus(f"{value:.{n_decimals}f}")} ± {error:.{n_decimals}f}'


def range_text(low, high, dash=MISSING):
    """Write the edges of a bin."""
    if not (np.isfinite(low) or np.isfinite(high)):
        return 'all'
    return f'{low:g}{dash}{high:g}'


def with_unit(text, unit):
    """Put the unit behind a number, if there is a number."""
    return text if text == MISSING else f'{text} {unit}'.rstrip()


def _minus(text):
    """Use the sign for minus that is as wide as a plus."""
    return text.replace('-', '\N{MINUS SIGN}', 1) if text.startswith('-') else text


# of documents, where a number that there is not is left out


def percent_text(value, error=np.nan):
    """Write percents, with their error, if there is one, to the same decimals."""
    if not np.isfinite(value):
        return ''
    size = error if np.isfinite(error) else abs(value)
    decimals = 2 if size < 0.3 else 1 if size < 30 else 0
    return f'{value:.{decimals}f}{_plus_minus(error, decimals)}'


def ratio_text(value, error):
    """Write a ratio of the order of one and its error, to the same decimals."""
    if not np.isfinite(value):
        return ''
    decimals = 0 if error >= 9.5 else 1 if error >= 0.95 else 2
    return f'{value:.{decimals}f}{_plus_minus(error, decimals)}'


def _plus_minus(error, decimals):
    return f' ± {error:.{decimals}f}' if np.isfinite(error) else ''


def plain_text(value, digits=2):
    """Write a number that is not negative with so many digits, without an exponent."""
    if not np.isfinite(value):
        return ''
    decimals = max(0, digits - 1 - int(np.floor(np.log10(value)))) if value > 0 else 0
    return f'{value:.{decimals}f}'


def grouped_text(value):
    """Write a number with three digits that count, and commas between thousands."""
    return f'{float(f"{value:.3g}"):,g}'
