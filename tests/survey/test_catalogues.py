# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Catalogues of a survey, from files of every kind: all rows, and exact identifiers."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import QTable, Table
from numpy.testing import assert_array_equal

from astroflux.cutouts._catalog import sky_in
from astroflux.survey import read_catalogue

# Numbers that no float is equal to.
IDS = np.array([2**62 + 1, 2**53 + 1, 7, 2**62 + 3])
RA = np.array([150.1, np.nan, 150.3, 150.4])
DEC = np.array([2.1, 2.2, np.nan, 2.4])


def table():
    return Table({'source_id': IDS, 'ra': RA * u.deg, 'dec': DEC * u.deg, 'band': [*'grzi']})


def check(found, *, unit=u.deg):
    assert isinstance(found, QTable)
    assert_array_equal(np.asarray(found['source_id']), IDS)
    assert found['source_id'].dtype == np.int64
    assert found['ra'].unit == unit
    for name, values in (('ra', RA), ('dec', DEC)):
        assert_array_equal(np.asarray(getattr(found[name], 'value', found[name])), values)
    assert list(found['band']) == [*'grzi']


@pytest.mark.parametrize(
    ('name', 'how'),
    [
        ('c.fits', 'fits'),
        ('c.dat', 'fits'),
        ('c.ecsv', 'ascii.ecsv'),
        ('c.vot', 'votable'),
        ('c.parquet', 'parquet'),
    ],
)
def test_files_with_units(name, how, tmp_path):
    table().write(tmp_path / name, format=how)
    check(read_catalogue(tmp_path / name))


@pytest.mark.parametrize(('name', 'how'), [('c.csv', 'csv'), ('c.txt', 'ascii.commented_header')])
def test_files_without_units(name, how, tmp_path):
    table().write(tmp_path / name, format=how)
    check(read_catalogue(tmp_path / name), unit=None)


def test_catalogues_of_sextractor(tmp_path):
    text = '#  1 NUMBER   Running number\n#  2 X_IMAGE   Along x   [pixel]\n 1 10.5\n 2 11.5\n'
    (tmp_path / 'field.cat').write_text(text)
    found = read_catalogue(tmp_path / 'field.cat')
    assert found['NUMBER'].tolist() == [1, 2]
    assert found['X_IMAGE'].unit == u.pix
    # with the header of the image as a table in front
    head = fits.BinTableHDU(Table({'Field Header Card': ['SIMPLE']}), name='LDAC_IMHEAD')
    sources = fits.BinTableHDU(table(), name='LDAC_OBJECTS')
    fits.HDUList([fits.PrimaryHDU(), head, sources]).writeto(tmp_path / 'ldac.cat')
    check(read_catalogue(tmp_path / 'ldac.cat'))


def test_tables_in_memory():
    check(read_catalogue(table()))
    for other in (table().to_pandas(), table().to_pandas().set_index('source_id')):
        check(read_catalogue(other), unit=None)
    check(read_catalogue(pa.Table.from_pandas(table().to_pandas())), unit=None)
    with pytest.raises(TypeError, match=r'catalogue must be a path or a table .* got list'):
        read_catalogue([(1, 2)])


def test_the_table_of_the_user_stays_as_it_was():
    own = Table({'ra': [1.0], 'dec': [2.0]})
    found = read_catalogue(own)
    assert found['id'].tolist() == [0]
    assert own.colnames == ['ra', 'dec']


def test_parquet_of_other_programs(tmp_path):
    """Missing integers, texts and truths are masked; lists, times and dictionaries come along."""
    columns = {
        'objectId': pa.array(IDS),
        'parent': pa.array([IDS[0], None, 3, 4]),
        'ra': pa.array([1.0, None, 3.0, 4.0], pa.float32()),
        'patch': pa.array(['a', 'b', None, 'a']).dictionary_encode(),
        'is_star': pa.array([True, None, False, False]),
        'mags': pa.array([[1.0, 2.0]] * 4, pa.list_(pa.float64(), 2)),
        'many': pa.array([[1], [], None, [2, 3]]),
        'time': pa.array([0, 1, 2, None], pa.timestamp('ms')),
    }
    written = pa.table(columns)
    field = written.schema.field('ra').with_metadata({'unit': 'deg'})
    written = written.cast(written.schema.set(2, field))
    (tmp_path / 'parts').mkdir()
    for part in range(2):
        pq.write_table(written[2 * part :][:2], tmp_path / 'parts' / f'{part}.parquet')
    found = read_catalogue(tmp_path / 'parts')
    assert_array_equal(found['objectId'], IDS)
    assert found['parent'].tolist() == [IDS[0], None, 3, 4]
    assert_array_equal(found['ra'], [1, np.nan, 3, 4] * u.deg)
    assert found['patch'].tolist() == ['a', 'b', None, 'a']
    assert found['is_star'].tolist() == [True, None, False, False]
    assert found['mags'].shape == (4, 2)
    assert found['many'].tolist() == [[1], [], None, [2, 3]]
    assert found['time'].astype('M8[ms]').astype(int)[:3].tolist() == [0, 1, 2]


def test_parts_that_astropy_wrote(tmp_path):
    for part in range(2):
        rows = QTable(table()[2 * part :][:2])
        rows['sky'] = SkyCoord(rows['ra'] + part * u.deg, [3, 4] * u.deg)
        rows.write(tmp_path / f'{part}.parquet')
    found = read_catalogue(tmp_path)
    check(found)
    assert isinstance(found['sky'], SkyCoord)


def write_hats(folder, *, properties=None, info=None, dataset='dataset'):
    """A catalogue in two pixels of HEALPix, and a sample of it, which must not be read."""
    rows = pa.table({'source_id': IDS, 'lon': RA, 'lat': DEC})
    for part, pixel in enumerate(('Norder=0/Dir=0/Npix=4', 'Norder=1/Dir=0/Npix=17/part0')):
        path = folder / dataset / f'{pixel}.parquet'
        path.parent.mkdir(parents=True)
        pq.write_table(rows[2 * part :][:2], path)
    pq.write_table(rows[:1], folder / dataset / 'data_thumbnail.parquet')
    pq.write_metadata(rows.schema, folder / dataset / '_metadata')
    if properties:
        (folder / 'hats.properties').write_text(f'#HATS catalog\n{properties}')
    if info:
        (folder / 'catalog_info.json').write_text(json.dumps(info))


def test_hats(tmp_path):
    columns = 'hats_col_ra=lon\nhats_col_dec = lat\n'
    told = f'obs_collection=small\ndataproduct_type=object\n{columns}'
    write_hats(tmp_path / 'set' / 'new', properties=told)
    (tmp_path / 'set' / 'collection.properties').write_text('hats_primary_table_url=new\n')
    info = {'catalog_type': 'object', 'ra_column': 'lon', 'dec_column': 'lat'}
    write_hats(tmp_path / 'old', info=info, dataset='')
    for folder in ('set/new', 'set', 'old'):
        found = read_catalogue(tmp_path / folder)
        assert found.colnames == ['source_id', 'lon', 'lat']
        assert_array_equal(found['source_id'], IDS)
        # also of a part of the table
        assert_array_equal(sky_in(found[2:]).ra.deg, RA[2:])
    write_hats(tmp_path / 'margin', properties='dataproduct_type=margin\n')
    with pytest.raises(ValueError, match="of the kind 'margin', want one of"):
        read_catalogue(tmp_path / 'margin')


def test_identifiers_that_join_nothing():
    for ids, match in (
        ([5, IDS[0], 5, IDS[0], IDS[0]], "identifier 5 in the column 'ID' is on 2 rows.*rows: 2"),
        (['b', 'a', 'a'], "identifier 'a' in the column 'ID' is on 2 rows"),
        (np.ma.array([1, 2, 3], mask=[0, 1, 1]), "row 1 .* has no identifier in 'ID', of 2 such"),
        ([1.0, np.nan], "row 1 .* has no identifier in 'ID'"),
    ):
        rows = Table({'ID': ids, 'x': np.zeros(len(ids)), 'y': np.zeros(len(ids))})
        with pytest.raises(ValueError, match=match):
            read_catalogue(rows)


def test_what_is_no_catalogue(tmp_path):
    fits.PrimaryHDU(np.zeros((3, 3))).writeto(tmp_path / 'image.fits')
    pd.DataFrame({'id': [1]}).to_pickle(tmp_path / 'frame.pkl')
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'damaged.parquet').write_bytes(b'PAR1')
    for name in ('image.fits', 'frame.pkl', 'empty', 'damaged.parquet'):
        with pytest.raises(ValueError, match=f'cannot read the catalogue .*{name}'):
            read_catalogue(tmp_path / name)
    with pytest.raises(FileNotFoundError, match=r'there is no catalogue .*none\.csv'):
        read_catalogue(tmp_path / 'none.csv')
