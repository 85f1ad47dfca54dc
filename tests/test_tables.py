# Licensed under a 3-clause BSD style license - see LICENSE.rst
import astropy
import numpy as np
import pytest
from astropy import units as u
from astropy.table import QTable, hstack, join, vstack
from photutils.aperture import CircularAperture, aperture_photometry

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
        'snr',
        'flags',
        'flux_lower',
        'flux_upper',
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
    assert table.colnames[2:6] == ['flux', 'flux_err', 'snr', 'flags']
    assert table.colnames[-3:] == ['flux_upper', 'half_light_radius', 'sersic_index']
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


@pytest.fixture
def wide(columns):
    columns |= {
        'name': ['galaxy-1.fits', 'galaxy-2.fits'],
        'x': [100 / 3, np.nan],
        'y': [1000 / 3, np.nan],
        'mag': [20 / 3, np.nan],
        'ra': [1000 / 3, np.nan],
        'sersic_index': [4 / 3, np.nan],
        'n': [2, 3],
    } | {f'extra_{index}': [100 / 3, np.nan] for index in range(20)}
    columns['flux'][0] = 1000 / 3
    return build_table(columns, u.nJy, formats={'sersic_index': '.1f'})


def test_first_columns_are_printed(wide):
    expected = ['id', 'name', 'x', 'y', 'flux', 'flux_err', 'snr', 'flags']
    for lines in (wide.pformat(max_width=100), wide[:1].pformat(max_width=100)):
        header = lines[0].split()
        assert header[: len(expected)] == expected
        assert header[-1] == '...'
        assert all(len(line) <= 100 for line in lines)
    # the columns that are asked for, and all, are printed
    assert wide['id', 'extra_19'].pformat(max_width=100)[0].split() == ['id', 'extra_19']
    assert wide.pformat(max_width=-1)[0].split() == wide.colnames
    assert wide.pformat(max_width=10)[0].split() == ['id', '...']
    assert wide._repr_html_().count('<th>') >= len(wide.colnames)


def test_few_digits_are_printed_and_all_are_kept(wide):
    (row,) = (line.split() for line in wide[:1].pformat(max_width=-1)[3:])
    printed = dict(zip(wide.colnames, row, strict=True))
    expected = {'x': '33.33', 'flux': '333.333', 'mag': '6.6667', 'ra': '333.333333'}
    expected |= {'sersic_index': '1.3', 'extra_0': '33.33', 'n': '2'}
    assert {name: printed[name] for name in expected} == expected
    assert wide['x'][0].value == 100 / 3
    assert wide['ra'].unit == u.deg


@pytest.mark.parametrize('combine', ['join', 'join the other way', 'hstack'])
def test_joins_a_table_of_photutils(columns, combine):
    # warnings are errors
    image = np.zeros((40, 40))
    image[20, 10:30:10] = 1
    theirs = aperture_photometry(image, CircularAperture([(10, 20), (20, 20)], r=3))
    theirs['id'] -= 1
    ours = build_table(columns, u.Jy, build_meta('Method'))
    if combine == 'hstack':
        table = hstack([theirs, ours])
    else:
        pair = (theirs, ours) if combine == 'join' else (ours, theirs)
        table = join(*pair, keys='id')
    assert table.meta['method'] == 'Method'
    assert len(table) == 2
    assert {'aperture_sum', 'flux'} <= {*table.colnames}


def test_stacks_with_one_of_another_time(columns):
    one, two = (build_table(columns, u.Jy, build_meta('Method')) for _ in range(2))
    two.meta['measured'] = ['2026-01-31T12:00:00+00:00']
    assert vstack([one, two]).meta['measured'] == one.meta['measured'] + two.meta['measured']


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
