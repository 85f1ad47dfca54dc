# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Write a table of measurements to a file, in the format that its suffix names."""

import json
from pathlib import Path

import numpy as np

from astroflux._work import check_replaceable, check_writable, write_whole

__all__ = ['TABLE_FORMATS', 'check_table_path', 'read_table', 'write_table']

# suffix -> astropy's name of the format
TABLE_FORMATS = {
    '.ecsv': 'ascii.ecsv',
    '.parquet': 'parquet',
    '.fits': 'fits',
    '.csv': 'ascii.csv',
}

# How a cell of a spreadsheet begins that is a formula.
_FORMULA = ('=', '+', '-', '@', '\t', '\r')


def check_table_path(path, *, overwrite=False):
    """
    Return astropy's name of the format of a table's file; raise what writing it would.

    So an unknown suffix, a missing folder or a file that may not be replaced is told before the
    work of making the table.
    """
    path = Path(path)
    if path.suffix.lower() not in TABLE_FORMATS:
        msg = f'the name of a table must end in {", ".join(TABLE_FORMATS)}; got {path.name!r}'
        raise ValueError(msg)
    if path.is_dir():
        msg = f'{path} is a folder, want a file'
        raise IsADirectoryError(msg)
    if not path.parent.is_dir():
        msg = f'the folder {path.parent} does not exist'
        raise FileNotFoundError(msg)
    check_writable(path.parent)
    check_replaceable(path)
    if path.exists() and not overwrite:
        msg = f'{path} exists and overwrite is not set'
        raise FileExistsError(msg)
    return TABLE_FORMATS[path.suffix.lower()]


def write_table(table, path, *, overwrite=False):
    """
    Write a table of measurements in the format that the suffix of the file names.

    ECSV and Parquet keep everything: units, descriptions and metadata. FITS keeps the units; the
    metadata stand in its keyword ``METADATA`` as JSON, and letters outside ASCII in names are
    written as backslash escapes. CSV holds the numbers alone, without units.
    """
    table_format = check_table_path(path, overwrite=overwrite)
    if table_format == 'fits':
        table = _for_fits(table)
    if table_format == 'ascii.csv':
        table = _for_csv(table)
    with write_whole(path) as part:
        table.write(part, format=table_format, overwrite=True)


def read_table(path):
    """
    Read a table that `write_table` wrote, with its metadata; from CSV with what it has.

    Those letters of names that FITS cannot hold stay escapes.
    """
    from astropy.table import QTable

    if TABLE_FORMATS.get(Path(path).suffix.lower()) != 'fits':
        return QTable.read(path)
    # neither NaN nor an empty text stands for a missing value
    table = QTable.read(path, format='fits', mask_invalid=False)
    # now, and not when a text is looked at that is none
    table.convert_bytestring_to_unicode()
    table.meta = json.loads(table.meta.get('METADATA', '{}'))
    return table


def _for_csv(table):
    """
    A copy that CSV can hold: without formats, or numbers would be as they are printed.

    Texts that a spreadsheet would take for a formula get an apostrophe in front of them.
    """
    table = table.copy()
    for name in table.colnames:
        table[name].info.format = None
        if table[name].dtype.kind == 'U':
            texts = [f"'{text}" if text[:1] in _FORMULA else text for text in table[name]]
            table[name] = np.array(texts)
    return table


def _for_fits(table):
    """A copy that FITS can hold: ASCII text, and no nested metadata."""
    table = table.copy()
    table.meta = {'METADATA': json.dumps(table.meta, default=str)}
    for name in table.colnames:
        if table[name].dtype.kind == 'U':
            texts = [text.encode('ascii', 'backslashreplace').decode() for text in table[name]]
            table[name] = np.array(texts)
    return table
