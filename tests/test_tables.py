# Licensed under a 3-clause BSD style license - see LICENSE.rst
import astropy
import numpy as np
import pytest
from astropy import units as u
from astropy.table import QTable

import astroflux
from astroflux.tables import build_meta, build_table


@pytest.fixture
def columns():
    return {'flux': [10.0, np.nan], 'flux_err': [2.0, np.nan], 'flags': [0, 1024]}


def test_defaults(columns):
    table = build_table(columns, u.Jy)
    assert isinstance(table, QTable)
    assert table.colnames == [
        'id',
        'flux',
        'flux_err',
        'flux_lower',
        'flux_upper',
        'snr',
        'flags',
    ]
    assert table['flux_lower'][0] == 8 * u.Jy
    assert table['flux_upper'][0] == 12 * u.Jy
    assert table['snr'][0] == 5
    assert np.isnan(table['snr'][1])
    assert list(table['id']) == [0, 1]
    assert table['flags'].dtype == np.int32
    assert 'decode_flags' in table['flags'].info.description


def test_given_columns(columns):
    columns |= {
        'flux_lower': [7.0, 0.0],
        'flux_upper': [11.0, 0.0],
        'name': ['a', 'b'],
        'half_light_radius': [1.0, 2.0] * u.arcsec,
        'sersic_index': [1.0, 4.0],
    }
    descriptions = {'sersic_index': 'how peaked it is', 'flux': 'other', 'no_column': 'nothing'}
    table = build_table(columns, u.adu, {'method': 'x'}, descriptions)
    assert table.colnames[:2] == ['id', 'name']
    assert table.colnames[-3:] == ['flags', 'half_light_radius', 'sersic_index']
    assert table['flux_lower'][0] == 7 * u.adu
    assert table['half_light_radius'].unit == u.arcsec
    assert table['sersic_index'].info.description == 'how peaked it is'
    assert table['flux'].info.description == 'total flux'
    assert table['half_light_radius'].info.description is None
    assert table.meta['method'] == 'x'
    # the columns given are left alone
    assert 'id' not in columns


def test_dimensionless_flux_is_a_quantity(columns):
    table = build_table(columns, u.dimensionless_unscaled)
    assert isinstance(table['flux'], u.Quantity)


def test_zero_error_does_not_warn(columns):
    columns['flux_err'] = [0.0, 0.0]
    assert np.isinf(build_table(columns, u.Jy)['snr'][0])


def test_missing_column():
    with pytest.raises(ValueError, match=r"the columns \['flux_err', 'flags'\] are missing"):
        build_table({'flux': [1.0]}, u.Jy)


def test_lengths_differ(columns):
    columns['flags'] = [0]
    with pytest.raises(ValueError, match=r"one length, got .*'flux_err': 2, 'flags': 1"):
        build_table(columns, u.Jy)


def test_meta():
    meta = build_meta('Method()', arguments={'psf': 'none'}, messages={3: 'x'}, packages=['scipy'])
    assert meta['method'] == 'Method()'
    assert meta['arguments'] == {'psf': 'none'}
    assert meta['messages'] == {3: 'x'}
    assert meta['versions']['astroflux'] == astroflux.__version__
    assert meta['versions']['astropy'] == astropy.__version__
    assert 'numpy' in meta['versions']


def test_meta_imports_nothing():
    assert 'no_such_package' not in build_meta('m', packages=['no_such_package'])['versions']
