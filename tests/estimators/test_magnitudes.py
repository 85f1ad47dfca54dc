# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""AB magnitudes of the table: where they come from, and where there are none."""

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData, NDData, StdDevUncertainty

from astroflux import ApertureFluxEstimator, CNNFluxEstimator
from astroflux.cutouts import iter_cutouts

COLUMNS = {'mag', 'mag_err', 'mag_limit'}


@pytest.fixture
def estimator():
    return ApertureFluxEstimator(radius=12.0)


@pytest.fixture
def make_adu(make_ccd):
    def make(factor=1.0, unit='adu', meta=None, **keywords):
        ccd = make_ccd(**keywords)
        noise = StdDevUncertainty(ccd.uncertainty.array * factor)
        return CCDData(ccd.data * factor, unit=unit, uncertainty=noise, meta=meta or {})

    return make


def by_hand(flux, zeropoint):
    return zeropoint - 2.5 * np.log10(flux)


def test_none_without_zero_point(estimator, make_adu):
    table = estimator.measure([make_adu(), make_adu()])
    assert not COLUMNS & {*table.colnames}
    assert 'zeropoint' not in table.meta


@pytest.mark.parametrize('zeropoint', [27, 27.0 * u.mag, 27 * u.ABmag, np.float32(27), [27.0]])
def test_argument(estimator, make_adu, zeropoint):
    table = estimator.measure(make_adu(meta={'zeropoint': 20.0}), zeropoint=zeropoint)
    flux, error = table['flux'].value, table['flux_err'].value
    np.testing.assert_allclose(table['mag'].value, by_hand(flux, 27), rtol=1e-12)
    np.testing.assert_allclose(table['mag_err'].value, 1.0857362 * error / flux, rtol=1e-7)
    limit = by_hand(flux + 1.9599640 * error, 27)
    np.testing.assert_allclose(table['mag_limit'].value, limit, rtol=1e-9)
    assert {table[name].unit for name in COLUMNS} == {u.mag}
    assert table.meta['zeropoint'] == {
        'source': 'argument',
        'unit': 'adu',
        'lowest': 27.0,
        'highest': 27.0,
    }


@pytest.mark.parametrize(
    ('unit', 'zeropoint'),
    [('nJy', 31.4), ('nmgy', 22.5), ('mgy', 0.0), ('uJy', 23.9), ('erg / (s cm2 Hz)', -48.6)],
)
def test_calibrated_units_need_none(estimator, make_adu, unit, zeropoint):
    # of the header, it is not asked for
    table = estimator.measure(make_adu(unit=unit, meta={'MAGZERO': 25.0}))
    expected = by_hand(table['flux'].value, zeropoint)
    np.testing.assert_allclose(table['mag'].value, expected, atol=1e-3)
    assert table.meta['zeropoint'] == {'source': 'unit'}


@pytest.mark.parametrize('unit', ['nJy', 'nmgy', 'MJy / sr'])
def test_zero_point_of_a_calibrated_unit(estimator, make_ccd, unit):
    ccd = make_ccd(unit=unit, wcs=True)
    with pytest.raises(ValueError, match=r'a zeropoint is given, but the unit .* is calibrated'):
        estimator.measure(ccd, zeropoint=27.0)
    # unknown is not given
    assert np.isfinite(estimator.measure([ccd], zeropoint=[np.nan])['mag'][0])


@pytest.mark.parametrize(
    ('zeropoint', 'error', 'message'),
    [
        (27 * u.STmag, u.UnitsError, r"got the unit 'mag\(ST\)'"),
        (27 * u.nJy, u.UnitsError, "got the unit 'nJy'"),
        (27 * u.dex, u.UnitsError, "got the unit 'dex'"),
        ('27', TypeError, "in the unit mag or ABmag; got '27'"),
        (True, TypeError, 'got True'),
        (np.inf, ValueError, 'zeropoint must be finite, got inf'),
        ([27, 'x'], TypeError, "zeropoint of cutout 1 must be .* got 'x'"),
        ([27, 27, 27], ValueError, 'zeropoint has 3 values for 2 cutouts'),
        (np.full((2, 2), 27.0), TypeError, 'zeropoint of cutout 0 must be'),
    ],
)
def test_bad_zero_point(estimator, make_adu, zeropoint, error, message):
    with pytest.raises(error, match=message):
        estimator.measure([make_adu(), make_adu()], zeropoint=zeropoint)


def test_each_cutout_has_its_own(estimator, make_adu):
    cutouts = [
        make_adu(meta={'zeropoint': 27.0}),
        make_adu(),
        make_adu(meta=fits.Header({'FLUXMAG0': 1e10})),
        'no_such_file.fits',
        make_adu(meta={'zeropoint': 26 * u.ABmag}),
        make_adu(meta={'zeropoint': 26 * u.STmag}),
    ]
    table = estimator.measure(cutouts)
    offset = table['mag'].value + 2.5 * np.log10(table['flux'].value)
    np.testing.assert_allclose(offset, [27, np.nan, 25, np.nan, 26, np.nan])
    np.testing.assert_array_equal(np.isnan(table['mag_limit']), np.isnan(offset))
    told = table.meta['zeropoint']
    assert (told['source'], told['lowest'], told['highest']) == ('cutouts', 25.0, 27.0)
    # what the call says stands in place of that, also where it says unknown
    table = estimator.measure(cutouts[:2], zeropoint=[np.nan, 24.0])
    offset = table['mag'].value + 2.5 * np.log10(table['flux'].value)
    np.testing.assert_allclose(offset, [np.nan, 24])


def test_a_zero_point_belongs_to_the_unit_of_its_cutout(estimator, make_adu):
    # the same image per second and per minute: 1 electron a minute is 60 times fainter
    first = make_adu(unit='electron / s')
    other = make_adu(60.0, unit='electron / min')
    zeropoint = [27.0, 27.0 + 2.5 * np.log10(60)]
    table = estimator.measure([first, other], zeropoint=zeropoint)
    assert table['flux'].unit == u.electron / u.s
    np.testing.assert_allclose(table['flux'][1], table['flux'][0])
    np.testing.assert_allclose(table['mag'][1], table['mag'][0])
    np.testing.assert_allclose(table['mag'].value, by_hand(table['flux'].value, 27.0))
    # in the unit of cutouts that were converted before
    cutouts = list(iter_cutouts([first, other], zeropoint=zeropoint))
    again = estimator.measure(cutouts[::-1])
    np.testing.assert_allclose(again['mag'], table['mag'])


def test_stack(estimator, make_ccd):
    noise = StdDevUncertainty(np.ones((2, 61, 61)))
    data = np.array([make_ccd(seed=seed).data for seed in range(2)])
    stack = NDData(data, unit='adu', uncertainty=noise, meta={'zeropoint': 27.0})
    table = estimator.measure(stack)
    np.testing.assert_allclose(table['mag'].value, by_hand(table['flux'].value, 27.0))


def test_cutouts_keep_their_zero_point(estimator, make_adu):
    cutouts = list(iter_cutouts([make_adu(), make_adu()], zeropoint=[27.0, 26.0]))
    mag = estimator.measure(cutouts)['mag'].value
    np.testing.assert_allclose(mag[0] - mag[1], 1)
    np.testing.assert_allclose(estimator.measure(cutouts, zeropoint=25)['mag'][0].value, mag[0] - 2)


def test_limit_where_the_flux_is_not_positive(estimator, make_adu):
    dark = make_adu(flux=-200.0)
    table = estimator.measure([dark, 'no_such_file.fits'], zeropoint=27.0)
    assert table['flux'][0] < 0
    np.testing.assert_array_equal(np.isnan(table['mag']), [True, True])
    np.testing.assert_array_equal(np.isnan(table['mag_err']), [True, True])
    limit = by_hand(1.9599640 * table['flux_err'].value, 27.0)
    np.testing.assert_allclose(table['mag_limit'].value, limit, rtol=1e-9)


def test_limit_of_the_network_is_that_of_its_interval(make_ccd):
    table = CNNFluxEstimator().measure(make_ccd(flux=300.0), psf_fwhm=3.0)
    expected = table['flux_upper_95'].to(u.ABmag).value
    np.testing.assert_allclose(table['mag_limit'].value, expected)
    assert table['mag_limit'][0] < table['mag'][0]


def test_only_measure_has_it(estimator, make_adu):
    with pytest.raises(TypeError, match='zeropoint'):
        estimator.predict(make_adu(), zeropoint=27.0)
