# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Numbers and tables of the study as the text of a page."""

import itertools
import math
from decimal import Decimal

import pandas as pd

from astroflux.evaluation._numbers import MISSING, error_text, number_text
from astroflux.evaluation._page import Cell, Column, PageTable, Row

__all__ = [
    'comparison_table',
    'duration_text',
    'page_table',
    'pair_texts',
]

# Rows about these are shares, and are shown in percent, as the report prints them.
SHARE_ROWS = ('accuracy',)

# Significant digits of what is found here, at the least.
DIGITS = 3

# What a number of a table is: name of a column in a file -> head of the column on the page.
# Others are named as in the file, with spaces.
TITLES = {
    'actual': 'actual log10 flux',
    'beyond_10': 'beyond 10 % [%]',
    'beyond_30': 'beyond 30 % [%]',
    'bias': 'bias [%]',
    'bias_percent': 'bias [%]',
    'correlation_error': 'its error',
    'difference': 'difference [dex]',
    'error': 'its error',
    'expected_mse': 'MSE expected by chance [dex²]',
    'expected_r2': 'R2 expected by chance',
    'high': 'to',
    'img_number': 'image',
    'information': 'mutual information [nat]',
    'low': 'from',
    'mse': 'MSE [dex²]',
    'mse_measured': 'MSE without failures [dex²]',
    'mse_over_bound': 'MSE over that of the bound',
    'n': 'galaxies',
    'n_columns': 'columns',
    'n_failed': 'failures',
    'p_value': 'p',
    'predicted': 'predicted log10 flux',
    'r2': 'R2',
    'r2_p_value': 'p of R2',
    'scatter_over_bound': 'scatter over that of the bound',
    'scatter_percent': 'scatter [%]',
    'shuffled_largest': 'largest, shuffled fluxes [nat]',
    'shuffled_median': 'median, shuffled fluxes [nat]',
    'shuffled_r2_high': '97.5 % of R2, shuffled fluxes',
    'shuffled_r2_low': '2.5 % of R2, shuffled fluxes',
    'test_loss': 'test loss [dex²]',
    'train_loss': 'train loss [dex²]',
}

# Columns whose numbers have an exponent if one of them is smaller than that.
EXPONENT = ('mse', 'mse_measured')
SMALL = 1e-3

# Columns with as many decimals as the report prints.
DECIMALS = {'actual': 6, 'predicted': 6, 'difference': 6}


def pair_texts(what, published, ours):
    """
    Write what was published and what was found here so that they compare.

    Parameters
    ----------
    what : str
        What it is.
    published, ours : float, str or None
        The two.

    Returns
    -------
    texts : tuple of str
        The published number with all its digits, and the other with as many decimals, or more
        if these are not three digits.
    """
    unit = ''
    if what.startswith(SHARE_ROWS):
        unit = ' %'
        published, ours = (
            100 * value if isinstance(value, float) else value for value in (published, ours)
        )
    decimals = _decimals(published)
    return _exact_text(published, unit), _found_text(ours, decimals, unit)


def _decimals(value):
    """Count the decimals of a number; none for text, and for a number that is whole."""
    if not isinstance(value, float) or value.is_integer():
        return None
    return -Decimal(f'{value:.12g}').as_tuple().exponent


def _exact_text(value, unit):
    if not isinstance(value, float):
        return value or MISSING
    # the product of a share and 100 is not exact
    return _minus(f'{value:,.12g}') + unit


def _found_text(value, decimals, unit):
    if not isinstance(value, float):
        return value or MISSING
    if value.is_integer():
        return _minus(f'{value:,.0f}') + unit
    if decimals is None:
        return number_text(value, DIGITS + (not unit)) + unit
    leading = math.floor(math.log10(abs(value)))
    # tiny numbers are read more easily with an exponent
    if leading < -5 and decimals < -leading:
        return number_text(value, DIGITS) + unit
    return _minus(f'{value:.{max(decimals, DIGITS - 1 - leading, 0)}f}') + unit


def _minus(text):
    return text.replace('-', '\N{MINUS SIGN}', 1) if text.startswith('-') else text


def comparison_table(caption, rows):
    """
    Make the table that sets what was published beside what was found here.

    Parameters
    ----------
    caption : str
        Of the table.
    rows : list of dict
        ``what``, ``published`` and ``ours``; or all with a ``section``, which comes first.

    Returns
    -------
    table : `~astroflux.evaluation._page.PageTable`
    """
    columns = [Column('quantity', False), Column('published'), Column('ours')]
    if rows and 'section' in rows[0]:
        columns.insert(0, Column('section', False))
    lines = []
    for row in rows:
        texts = [row['what'], *pair_texts(row['what'], *_numbers(row))]
        if 'section' in row:
            texts.insert(0, row['section'])
        lines.append(Row([Cell(text) for text in texts]))
    _mark_groups(lines)
    return PageTable(caption, columns, lines)


def _numbers(row):
    for name in ('published', 'ours'):
        value = row[name]
        yield float(value) if isinstance(value, int) else value


def page_table(path, plan):
    """
    Read a table that a stage wrote.

    Parameters
    ----------
    path : `~pathlib.Path`
        A CSV file.
    plan : `~astroflux.study.page_layout.TablePlan`
        How to show it.

    Returns
    -------
    table : `~astroflux.evaluation._page.PageTable`
        A column and that of its errors, whose name ends in ``_err``, are one. There are lines
        between the groups of rows that begin with the same text.
    """
    data = pd.read_csv(path)
    texts = pd.read_csv(path, dtype=str, keep_default_na=False) if plan.as_written else data
    names = [name for name in plan.columns or data.columns if name in data]
    errors = {f'{name}_err' for name in names}
    columns, cells = [], []
    for name in names:
        if name in errors:
            continue
        is_number = _is_number(data[name])
        columns.append(Column(_title(name, plan, is_number), is_number))
        error = data.get(f'{name}_err')
        cells.append(_column_texts(texts[name], plan, error))
    rows = [Row([Cell(text) for text in line]) for line in zip(*cells, strict=True)]
    _mark_groups(rows)
    return PageTable(plan.caption, columns, rows)


def _title(name, plan, is_number):
    if plan.as_written:
        return name
    words = name.replace('_', ' ')
    return plan.titles.get(name) or (TITLES.get(name, words) if is_number else words)


def _mark_groups(rows):
    """Begin a group where the first text changes, if rows of the same one follow each other."""
    heads = [row.cells[0].text for row in rows]
    if len(set(heads)) < len(heads):
        for number, row in enumerate(rows):
            row.starts_group = number > 0 and heads[number] != heads[number - 1]


def _is_number(values):
    return pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)


def _column_texts(values, plan, errors=None):
    """Text of a column's values."""
    if pd.api.types.is_bool_dtype(values):
        return ['yes' if value else 'no' for value in values]
    if not _is_number(values):
        return [MISSING if pd.isna(value) else str(value) for value in values]
    if pd.api.types.is_integer_dtype(values):
        return [_minus(f'{value}') for value in values]
    scale = 100 if values.name in plan.percent else 1
    if values.name in EXPONENT and values.min() < SMALL:
        return [_exponent_text(*pair) for pair in zip(values, _or_none(errors), strict=False)]
    if errors is not None:
        return [error_text(scale * a, scale * b) for a, b in zip(values, errors, strict=True)]
    decimals = DECIMALS.get(values.name, plan.decimals)
    if scale == 100:
        # one galaxy in 10,000 is to be seen
        decimals = 2
    return [_number_text(scale * value, decimals) for value in values]


def _or_none(errors):
    return itertools.repeat(math.nan) if errors is None else errors


def _exponent_text(value, error):
    if pd.isna(value):
        return MISSING
    return f'{value:.2e}' + ('' if pd.isna(error) else f' ± {error:.1e}')


def _number_text(value, decimals):
    if pd.isna(value):
        return MISSING
    if math.isinf(value):
        return _minus('-∞') if value < 0 else '∞'
    if decimals is None:
        return number_text(value, DIGITS + 1)
    text = f'{value:.{decimals}f}'
    # no minus before what rounds to zero
    return _minus(text) if float(text) else text.removeprefix('-')


def duration_text(seconds):
    """
    Write a time in the unit that suits it.

    Parameters
    ----------
    seconds : float
        The time.

    Returns
    -------
    text : str
    """
    if seconds < 100:
        return f'{seconds:.1f} s' if seconds < 10 else f'{seconds:.0f} s'
    minutes = seconds / 60
    return f'{minutes:.1f} min' if minutes < 10 else f'{minutes:.0f} min'
