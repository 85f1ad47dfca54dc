# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Positions of the table: in pixels of the image, and on the sky."""

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.nddata import CCDData, Cutout2D, NDDataRef
from astropy.wcs import WCS

from astroflux import ApertureFluxEstimator

ESTIMATOR = ApertureFluxEstimator(radius=12.0)


def make_wcs(center=(150.0, 2.0), *, kind='RA---TAN DEC--TAN', distortion=False, **keywords):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = [name + '-SIP' if distortion else name for name in kind.split()]
    wcs.wcs.crval = center
    wcs.wcs.crpix = 31, 31
    wcs.wcs.cdelt = -5e-5, 5e-5
    for name, value in keywords.items():
        setattr(wcs.wcs, name, value)
    if distortion:
        header = wcs.to_header()
        header.update({'A_ORDER': 2, 'B_ORDER': 2, 'A_2_0': 1e-4, 'B_1_1': -2e-4})
        header['CTYPE1'], header['CTYPE2'] = wcs.wcs.ctype
        wcs = WCS(header)
    return wcs


def at(make_ccd, wcs, kind=CCDData):
    ccd = make_ccd()
    return kind(ccd.data, unit='nJy', uncertainty=ccd.uncertainty, wcs=wcs)


@pytest.fixture
def many_wcs():
    return [
        make_wcs(),
        None,
        make_wcs((-10.0, 80.0)),
        make_wcs((120.0, 30.0), kind='GLON-TAN GLAT-TAN'),
        make_wcs((10.0, -30.0), radesys='FK5', equinox=1975.0),
        make_wcs((200.0, 50.0), radesys='FK4', equinox=1950.0),
        make_wcs(distortion=True),
        make_wcs(kind='DEC--TAN RA---TAN', center=(2.0, 150.0)),
        make_wcs(kind='WAVE FREQ', center=(1.0, 1.0)),
    ]


def test_positions_on_the_sky(make_ccd, many_wcs):
    items = [*(at(make_ccd, wcs) for wcs in many_wcs), 'no_such_file.fits']
    table = ESTIMATOR.measure(items, positions=[(20 + row, 30) for row in range(len(items))])
    found = SkyCoord(table['ra'], table['dec'])
    for row, wcs in enumerate(many_wcs):
        if wcs is None or not wcs.has_celestial:
            assert np.isnan(table['ra'][row])
            continue
        expected = wcs.pixel_to_world(20 + row, 30).icrs
        assert found[row].separation(expected) < 1e-6 * u.arcsec
    assert np.isnan(table['dec'][-1])
    assert np.isnan(table['x'][-1])
    assert table['ra'][2] > 0 * u.deg
    np.testing.assert_array_equal(table['x'][:-1].value, 20 + np.arange(len(many_wcs)))


def test_no_sky_without_wcs(make_ccd):
    table = ESTIMATOR.measure([at(make_ccd, None), at(make_ccd, make_wcs(kind='WAVE FREQ'))])
    assert not {'ra', 'dec'} & {*table.colnames}
    np.testing.assert_array_equal(table['x'].value, 30)


@pytest.mark.parametrize('kind', [CCDData, NDDataRef])
def test_slice_of_an_image(make_ccd, kind):
    wcs = make_wcs(kind='GLON-TAN GLAT-TAN', center=(120.0, 30.0))
    image = at(make_ccd, wcs, kind)
    table = ESTIMATOR.measure(image[2:, 6:], positions=(20, 30))
    expected = wcs.pixel_to_world(26, 32).icrs
    assert SkyCoord(table['ra'], table['dec'])[0].separation(expected) < 1e-6 * u.arcsec


@pytest.mark.parametrize(
    ('center', 'mode'), [((25, 27), 'trim'), ((4, 5), 'trim'), ((4, 5), 'partial')]
)
def test_cutouts_of_an_image(make_ccd, center, mode):
    wcs = make_wcs()
    cutout = Cutout2D(make_ccd().data * u.nJy, center, 31, wcs=wcs, mode=mode)
    table = ESTIMATOR.measure(cutout)
    np.testing.assert_allclose([table['x'][0].value, table['y'][0].value], center)
    expected = wcs.pixel_to_world(*center)
    assert SkyCoord(table['ra'], table['dec'])[0].separation(expected) < 1e-6 * u.arcsec


def test_position_of_what_is_not_detected(make_ccd):
    ccd = make_ccd()
    table = ESTIMATOR.measure(
        CCDData(ccd.data, unit='nJy', uncertainty=ccd.uncertainty, wcs=make_wcs()),
        positions=(500, 30),
    )
    assert np.isnan(table['flux'][0])
    assert table['x'][0] == 500 * u.pix
    assert np.isfinite(table['ra'][0])


def test_unusable_wcs_costs_no_row(make_ccd):
    # a projection that needs a parameter, and has none
    wcs = make_wcs(kind='RA---SZP DEC--SZP')
    wcs.wcs.set_pv([(2, 1, 0.0)])
    assert len(ESTIMATOR.measure([at(make_ccd, wcs), at(make_ccd, make_wcs())])) == 2
