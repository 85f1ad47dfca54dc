# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of writing tables: what each format keeps."""

import json

import numpy as np
import pytest
from astropy import units as u
from astropy.table import QTable
from numpy.testing import assert_array_equal

from astroflux._table_files import check_table_path, write_table
from astroflux.tables import build_meta, build_table


@pytest.fixture
def table():
    columns = {
        'flux': [1 / 3, np.nan],
        'flux_err': [0.1, np.nan],
        'flags': [2, 2048],
        'name': ['a.fits', 'galaxie_é.fits'],
        'x': [100 / 3, np.nan],
        'y': [100 / 7, np.nan],
        'mag': [200 / 9, np.nan],
        'mag_err': [1 / 9, np.nan],
        'mag_limit': [200 / 9, np.nan],
        'ra': [1000 / 3, np.nan],
        'dec': [-10 / 3, np.nan],
        'half_light_radius': [1.0, np.nan] * u.arcsec,
    }
    meta = build_meta('Method(\n  x=1)', messages={1: 'cannot be read: é'})
    return build_table(columns, u.nJy, meta)


@pytest.mark.parametrize('suffix', ['ecsv', 'parquet', 'fits', 'FITS'])
def test_round_trip(table, tmp_path, suffix):
    path = tmp_path / f'table.{suffix}'
    before = table.copy()
    write_table(table, path)
    assert table.meta == before.meta

    read = QTable.read(path, format='fits' if suffix == 'FITS' else None)
    assert read.colnames == table.colnames
    for name in set(table.colnames) - {'name'}:
        assert read[name].unit == table[name].unit
        assert_array_equal(read[name], table[name])
        if suffix.lower() != 'fits':
            assert read[name].info.format == table[name].info.format
    assert read['flags'].dtype.kind == 'i'
    if suffix.lower() == 'fits':
        assert list(read['name']) == ['a.fits', r'galaxie_\xe9.fits']
        assert json.loads(read.meta['METADATA'])['messages'] == {'1': 'cannot be read: é'}
    else:
        assert list(read['name']) == list(table['name'])
        assert read.meta == table.meta


def test_csv(table, tmp_path):
    write_table(table, tmp_path / 'table.csv')
    read = QTable.read(tmp_path / 'table.csv', format='ascii.csv')
    assert read.colnames == table.colnames
    for name in ('x', 'flux', 'snr', 'mag', 'ra'):
        assert_array_equal(read[name], u.Quantity(table[name]).value)
    # what is in memory keeps its formats
    assert table['x'].info.format == '.2f'


@pytest.mark.parametrize('suffix', ['ecsv', 'parquet', 'fits', 'csv'])
def test_overwrite(table, tmp_path, suffix):
    path = tmp_path / f'table.{suffix}'
    write_table(table, path)
    with pytest.raises(FileExistsError, match='exists and overwrite is not set'):
        write_table(table, path)
    write_table(table, path, overwrite=True)


def test_folder_as_file(tmp_path):
    folder = tmp_path / 'a.ecsv'
    folder.mkdir()
    with pytest.raises(IsADirectoryError, match='is a folder, want a file'):
        check_table_path(folder, overwrite=True)


def test_failure_leaves_the_old_table(table, tmp_path, monkeypatch):
    path = tmp_path / 'fluxes.ecsv'
    write_table(table, path)
    before = path.read_bytes()

    def half(self, path, **keywords):
        path.write_text('# %ECSV')
        msg = 'disk full'
        raise OSError(msg)

    monkeypatch.setattr(QTable, 'write', half)
    with pytest.raises(OSError, match='disk full'):
        write_table(table[:1], path, overwrite=True)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ['fluxes.ecsv']


@pytest.mark.parametrize('name', ['=1+1', '+a', '-a', '@a', '\ta'])
def test_csv_has_no_formulas(table, tmp_path, name):
    table['name'] = name
    path = tmp_path / 'table.csv'
    write_table(table, path)
    assert set(QTable.read(path)['name']) == {f"'{name}"}
