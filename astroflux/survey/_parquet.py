# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Catalogues in Parquet: a file, a folder of them, or a HATS catalogue."""

import json
from pathlib import Path

import numpy as np
from astropy.table import Column, MaskedColumn, QTable, vstack

__all__ = ['is_parquet', 'of_arrow', 'read_parquet']

_SUFFIXES = ('.parquet', '.parq', '.pq')
# What a HATS catalogue is described in, and one of HiPSCat, as it was called before.
_PROPERTIES = ('hats.properties', 'properties')
_INFO = 'catalog_info.json'
_COLLECTION = 'collection.properties'
_PARTS = 'Norder=*/Dir=*/Npix=*'
# The kinds of HATS catalogue that have each source once.
_KINDS = ('object', 'source')

# What astropy writes about the columns of a table.
_OF_ASTROPY = b'table_meta_yaml'


def is_parquet(path):
    """Return whether a path is a Parquet file, or a folder, which cannot be of another kind."""
    path = Path(path)
    return path.is_dir() or path.suffix.lower() in _SUFFIXES


def read_parquet(path):
    """
    Return a Parquet file, the files of a folder, or a HATS catalogue as a `QTable`.

    ``meta['sky_columns']`` names the columns of positions, if HATS says which they are.
    """
    path, told = _of_hats(Path(path))
    files = _files(path)
    table = _read(files)
    if told:
        table.meta['sky_columns'] = told
    return table


def _read(files):
    import pyarrow.dataset as ds
    import pyarrow.parquet as pq

    if _OF_ASTROPY in (pq.read_schema(files[0]).metadata or {}):
        tables = [QTable.read(file, format='parquet') for file in files]
        return vstack(tables, join_type='exact', metadata_conflicts='silent')
    # what the names of folders say of partitions is no column of the user's
    return of_arrow(ds.dataset(files, format='parquet', partitioning=None).to_table())


def _files(path):
    """Return the Parquet files of a path, in the order of their names."""
    if path.is_file():
        return [str(path)]
    # beside its parts, HATS has samples of them
    parts = [*path.glob(_PARTS), *path.glob(f'dataset/{_PARTS}')] or [path]
    found = {
        file
        for part in parts
        for file in ([part] if part.is_file() else part.rglob('*'))
        if file.suffix.lower() in _SUFFIXES and not file.name.startswith(('_', '.'))
    }
    if not found:
        msg = 'the folder has no Parquet files'
        raise ValueError(msg)
    return sorted(map(str, found))


def _of_hats(path):
    """Return the folder of a HATS catalogue, that of a collection's first, and its sky columns."""
    if (path / _COLLECTION).is_file():
        path = path / _properties(path / _COLLECTION)['hats_primary_table_url']
    for name in _PROPERTIES:
        if (path / name).is_file():
            told = _properties(path / name)
            kind = told.get('dataproduct_type')
            columns = [told.get('hats_col_ra'), told.get('hats_col_dec')]
            break
    else:
        told = json.loads((path / _INFO).read_text('utf-8')) if (path / _INFO).is_file() else {}
        kind, columns = told.get('catalog_type'), [told.get('ra_column'), told.get('dec_column')]
    if kind is not None and kind not in _KINDS:
        msg = f'it is a HATS catalogue of the kind {kind!r}, want one of {_KINDS}'
        raise ValueError(msg)
    return path, columns if all(columns) else None


def _properties(path):
    pairs = (line.partition('=') for line in path.read_text('utf-8').splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs if not key.startswith('#')}


def of_arrow(table):
    """
    Return a table of pyarrow as a `QTable`, in which integers stay what they are.

    What is missing is masked, and NaN among floating-point numbers. Units are those that the fields
    have in their metadata.
    """
    columns = [_column(table[i], field) for i, field in enumerate(table.schema)]
    return QTable(columns, copy=False)


def _column(values, field):
    import pyarrow as pa

    kind = field.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
        values = values.cast(kind)
    if pa.types.is_decimal(kind):
        kind = pa.float64() if kind.scale else pa.int64()
        values = values.cast(kind)
    unit = (field.metadata or {}).get(b'unit', b'').decode() or None
    missing = values.is_null().to_numpy()
    array = _array(values, kind)
    if missing.any() and not (pa.types.is_floating(kind) or pa.types.is_temporal(kind)):
        return MaskedColumn(array, name=field.name, mask=missing, unit=unit)
    return Column(array, name=field.name, unit=unit)


def _array(values, kind):
    """Return values as an array; with something in place of what is missing."""
    import pyarrow as pa

    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    if is_text:
        return np.array(values.fill_null('').to_pylist(), dtype=str)
    if pa.types.is_integer(kind):
        return values.fill_null(0).to_numpy()
    if pa.types.is_boolean(kind):
        return values.fill_null(False).to_numpy()
    if pa.types.is_floating(kind) or pa.types.is_temporal(kind):
        return values.to_numpy()
    if pa.types.is_fixed_size_list(kind) and not values.null_count:
        return np.array(values.to_pylist()).reshape(len(values), kind.list_size)
    array = np.empty(len(values), dtype=object)
    array[:] = values.to_pylist()
    return array
