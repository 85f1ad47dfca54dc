# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The catalogue of a survey, from a file of any kind."""

import os
import sys
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.io.registry import identify_format
from astropy.table import Column, QTable, Table

from astroflux._quiet import quiet_libraries
from astroflux.cutouts._catalog import as_table, identifier_column, is_table
from astroflux.survey._parquet import is_parquet, of_arrow, read_parquet
from astroflux.survey.assignment import Assignment, assign

__all__ = ['Assignment', 'assign', 'read_catalogue']


def read_catalogue(catalogue):
    """
    Return a catalogue as a table, whose rows can be told from each other.

    Parameters
    ----------
    catalogue : path-like or table
        - A file of any kind that `~astropy.table.Table` reads: FITS, ECSV, VOTable, CSV, a
          catalogue of SExtractor and others, told by the suffix or the content.
        - A Parquet file, or a folder of them.
        - The folder of a HATS catalogue, or of a collection of them.
        - A table of astropy, pandas or pyarrow, or a structured array. If the index of a
          ``DataFrame`` has a name, it is a column.

    Returns
    -------
    table : `~astropy.table.QTable`
        All rows, in order, with all columns; rows without a position are kept. Without a column of
        identifiers there is a new one, ``id``, the number of the row. Which columns are read:
        :doc:`/fields`.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no table, or an identifier is missing or on two rows.

    Examples
    --------
    >>> from astropy.table import Table
    >>> from astroflux.survey import read_catalogue
    >>> read_catalogue(Table({'ra': [150.1, 150.2], 'dec': [2.2, 2.3]})).colnames
    ['id', 'ra', 'dec']
    """
    if isinstance(catalogue, str | os.PathLike):
        table = _read(Path(catalogue))
    else:
        table = _of_memory(catalogue)
    identifier = identifier_column(table)
    if identifier is None:
        table.add_column(np.arange(len(table)), name='id', index=0)
    else:
        _check_identifiers(table[identifier], identifier)
    return table


def _of_memory(catalogue):
    if isinstance(catalogue, getattr(sys.modules.get('pyarrow'), 'Table', ())):
        return of_arrow(catalogue)
    if not is_table(catalogue):
        msg = (
            'catalogue must be a path or a table of astropy, pandas or pyarrow, got '
            f'{type(catalogue).__name__}'
        )
        raise TypeError(msg)
    if getattr(getattr(catalogue, 'index', None), 'name', None) is not None:
        catalogue = catalogue.reset_index()
    return QTable(as_table(catalogue), copy=False)


def _read(path):
    if not path.exists():
        msg = f'there is no catalogue {str(path)!r}'
        raise FileNotFoundError(msg)
    try:
        with quiet_libraries():
            table = read_parquet(path) if is_parquet(path) else _of_astropy(path)
    except Exception as exc:  # of any of astropy's readers
        msg = f'cannot read the catalogue {str(path)!r}: {exc}'
        raise ValueError(msg) from exc
    return table


def _of_astropy(path):
    """Return a table that astropy reads; text without a known suffix is guessed."""
    with path.open('rb') as file:
        found = identify_format('read', QTable, str(path), file, (str(path),), {})
    kind = found[0] if found else 'ascii'
    if kind != 'fits':
        return QTable.read(path, format=kind)
    # neither NaN nor an empty text stands for a missing value
    table = Table.read(path, format='fits', hdu=_table_hdu(path), mask_invalid=False)
    table.convert_bytestring_to_unicode()
    for name, column in table.columns.items():
        # in the byte order of the machine
        if isinstance(column, Column) and not column.dtype.isnative:
            table.replace_column(name, column.astype(column.dtype.newbyteorder('=')))
    return QTable(table, copy=False)


def _table_hdu(path):
    """Return the number of the HDU that is the table: SExtractor has another one in front."""
    with fits.open(path) as hdus:
        tables = {
            i: hdu.name
            for i, hdu in enumerate(hdus)
            if isinstance(hdu, fits.BinTableHDU | fits.TableHDU) and not hdu.is_image
        }
    if not tables:
        msg = 'it has no table'
        raise ValueError(msg)
    return next((i for i, name in tables.items() if name == 'LDAC_OBJECTS'), min(tables))


def _check_identifiers(column, name):
    """Raise `ValueError` for an identifier that is missing, or is on two rows."""
    values = np.asarray(getattr(column, 'unmasked', column))
    missing = np.zeros(len(values), dtype=bool) | getattr(column, 'mask', False)
    if values.dtype.kind == 'f':
        missing |= np.isnan(values)
    if missing.any():
        rows = np.flatnonzero(missing)
        msg = f'row {rows[0]} of the catalogue has no identifier in {name!r}, of {len(rows)} such'
        raise ValueError(msg)
    if values.dtype.kind == 'O':
        values = values.astype(str)
    unique, first, count = np.unique(values, return_index=True, return_counts=True)
    if (count > 1).any():
        twice = np.flatnonzero(count > 1)
        # the first in the order of the catalogue
        at = twice[np.argmin(first[twice])]
        msg = (
            f'the identifier {unique[at].item()!r} in the column {name!r} is on {count[at]} rows, '
            f'want one; identifiers on several rows: {len(twice)}'
        )
        raise ValueError(msg)
