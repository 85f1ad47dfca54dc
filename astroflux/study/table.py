# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Read a table of the study, and refuse what cannot be meant."""

import numpy as np
import pandas as pd

from astroflux.study.catalogue import COLUMNS

__all__ = ['few_rows', 'read_table']

# The report prints six decimals.
LOG_TOLERANCE = 1e-6


def read_table(path):
    """
    Read a table of the study, and check it.

    Parameters
    ----------
    path : path-like
        CSV file with the columns `COLUMNS`, in any order.

    Returns
    -------
    table : `pandas.DataFrame`
        In the order of `COLUMNS`.

    Raises
    ------
    ValueError
        If a column is missing or unknown, a value is not a finite number, a flux is not positive
        or not that of its logarithm, or an image number is there twice.
    """
    table = pd.read_csv(path, dtype={'file_name': str})
    missing = [name for name in COLUMNS if name not in table.columns]
    unknown = [name for name in table.columns if name not in COLUMNS]
    if missing or unknown:
        msg = (
            f'{path} must have the columns {", ".join(COLUMNS)}; '
            f'missing: {", ".join(missing) or "none"}; unknown: {", ".join(unknown) or "none"}'
        )
        raise ValueError(msg)
    table = table[list(COLUMNS)]
    # the flux first, for its own message
    for name in sorted(COLUMNS, key=lambda name: name != 'total_flux'):
        _check_column(path, table, name)
    log_flux = np.log10(table['total_flux'])
    _refuse(
        path,
        table,
        (table['log_total_flux'] - log_flux).abs() > LOG_TOLERANCE,
        'a log_total_flux that is not the logarithm of total_flux',
    )
    _refuse(path, table, table['img_number'].duplicated(), 'an img_number that is there twice')
    return table


def _check_column(path, table, name):
    if name == 'file_name':
        _refuse(path, table, table[name].isna(), 'no file_name')
        return
    values = pd.to_numeric(table[name], errors='coerce')
    if name == 'total_flux':
        bad = ~(values > 0) | np.isinf(values)
        _refuse(path, table, bad, 'a total_flux that is not positive and finite')
    _refuse(path, table, ~np.isfinite(values), f'a {name} that is not a finite number')


def _refuse(path, table, bad, what):
    """Raise an error that names the rows, if any is bad."""
    rows = np.flatnonzero(bad)
    if rows.size:
        msg = f'{path} has {what}: {few_rows(rows, table["file_name"].iloc[rows])}'
        raise ValueError(msg)


def few_rows(rows, names, most=5):
    """
    Name some rows of a table for a message.

    Parameters
    ----------
    rows : sequence of int
        Which.
    names : iterable of str
        Their files.
    most : int
        How many to name at the most.

    Returns
    -------
    text : str
    """
    text = ', '.join(f'row {row} ({name})' for row, name in zip(rows[:most], names, strict=False))
    return text + (f' and {len(rows) - most} more' if len(rows) > most else '')
