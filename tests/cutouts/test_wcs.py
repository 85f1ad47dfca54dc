# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The WCS from a header, and the area of a pixel at the galaxy."""

import math
import pickle

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData, NDData
from astropy.wcs import WCS
from astropy.wcs.wcsapi import SlicedLowLevelWCS
from numpy.testing import assert_allclose, assert_array_equal

from astroflux.cutouts import iter_cutouts, read_cutout
from astroflux.cutouts._wcs import pixel_scale

# of the matrix that lacks its zeros
pytestmark = pytest.mark.filterwarnings('ignore::astropy.wcs.FITSFixedWarning')

SIDE, SCALE = 41, 0.2 / 3600
MIDDLE = (20, 20)


def header_of(code='TAN', **cards):
    header = fits.Header(
        {
            'CTYPE1': f'RA---{code}',
            'CTYPE2': f'DEC--{code}',
            'CRVAL1': 150.0,
            'CRVAL2': 0.0,
            'CRPIX1': 21.0,
            'CRPIX2': 21.0,
            'CD1_1': -SCALE,
            'CD2_2': SCALE,
        }
    )
    header.update(cards)
    return header


TPV = header_of('TPV', PV1_0=0.0, PV1_1=1.02, PV2_0=0.0, PV2_1=1.02)
SIP = header_of('TAN-SIP', A_ORDER=2, B_ORDER=2, A_2_0=1e-3, B_0_2=0.0)


@pytest.mark.parametrize(
    'header',
    [
        header_of(),
        header_of(EQUINOX=2000.0, RADESYS='FK5', **{'DATE-OBS': '2014-03-31', 'MJD-OBS': 56747.0}),
        header_of(CTYPE1='GLON-CAR', CTYPE2='GLAT-CAR'),
        header_of(CTYPE3='FREQ', CRVAL3=1e9, CDELT3=1e6, CUNIT3='Hz'),
        header_of(HISTORY='reduced'),
        TPV,
        SIP,
    ],
)
@pytest.mark.parametrize('suffix', ['', '.gz'])
def test_wcs_of_a_file_is_that_of_astropy(header, suffix, tmp_path):
    shape = (1, SIDE, SIDE + 3) if 'CTYPE3' in header else (SIDE, SIDE + 3)
    path = tmp_path / f'image.fits{suffix}'
    fits.PrimaryHDU(np.ones(shape), header).writeto(path)
    with fits.open(path) as hdus:
        expected = WCS(hdus[0].header).celestial
    found = read_cutout(path).wcs
    x, y = np.array([0.0, 7, 40]), np.array([3.0, 20, 40])
    world = expected.pixel_to_world_values(x, y)
    assert_array_equal(found.pixel_to_world_values(x, y), world)
    again = pickle.loads(pickle.dumps(found))
    assert_allclose(again.pixel_to_world_values(x, y), world, rtol=1e-10, atol=1e-10)
    assert repr(found.to_header(relax=True)) == repr(expected.to_header(relax=True))
    assert found.array_shape == (SIDE, SIDE + 3)


def test_wcs_of_a_compressed_image(tmp_path):
    path = tmp_path / 'image.fits.fz'
    fits.CompImageHDU(np.ones((SIDE, SIDE)), header_of()).writeto(path)
    assert pixel_scale(read_cutout(path).wcs, MIDDLE) == pytest.approx(0.2, rel=1e-6)


def test_image_without_a_sky_has_no_wcs(tmp_path):
    for header in ({}, {'CTYPE1': 'LINEAR', 'CTYPE2': 'LINEAR'}):
        path = tmp_path / 'image.fits'
        fits.PrimaryHDU(np.ones((9, 9)), fits.Header(header)).writeto(path, overwrite=True)
        assert read_cutout(path).wcs is None


@pytest.mark.parametrize(
    ('header', 'scale'),
    [
        (header_of(), 0.2),
        (header_of(CRVAL2=90.0), 0.2),
        (header_of(CRVAL1=0.0), 0.2),
        (header_of('CAR', CRPIX2=21 - 60 / SCALE), 0.2 * math.sqrt(0.5)),
        (TPV, 0.2 * 1.02),
        (header_of(CTYPE1='DEC--TAN', CTYPE2='RA---TAN', CRVAL1=2.0), 0.2),
    ],
)
def test_scale_at_the_middle(header, scale):
    assert pixel_scale(WCS(header), MIDDLE) == pytest.approx(scale, rel=1e-6)


def test_scale_at_the_galaxy(tmp_path):
    """With SIP, the pixels of this image grow along x by 0.2 % a pixel."""
    image = np.random.default_rng(0).normal(size=(SIDE, SIDE))
    path = tmp_path / 'image.fits'
    hdu = fits.PrimaryHDU(image, SIP)
    hdu.header['BUNIT'] = 'nJy/arcsec2'
    hdu.writeto(path)
    ccd = read_cutout(path)
    middle, right = iter_cutouts([ccd, ccd], positions=[(20, 20), (30, 20)], psf_fwhm=1 * u.arcsec)
    assert middle.pixel_scale == pytest.approx(0.2, rel=1e-6)
    assert right.pixel_scale == pytest.approx(0.2 * math.sqrt(1.02), rel=1e-6)
    assert_allclose(right.data, image * right.pixel_scale**2)
    assert_allclose(right.psf_fwhm, 1 / right.pixel_scale)
    # the same for stamps of the image, which know where they were cut
    _, stamp = iter_cutouts(ccd, positions=[(20, 20), (30, 20)], psf_fwhm=1 * u.arcsec)
    assert stamp.pixel_scale == right.pixel_scale


def test_scale_of_a_part_is_that_of_its_place():
    wcs = WCS(header_of('CAR', CRPIX2=21 - 60 / SCALE))
    ccd = CCDData(np.ones((SIDE, SIDE)), unit='adu', wcs=wcs)
    whole = pixel_scale(wcs, (30, 35))
    assert pixel_scale(ccd[15:, 10:].wcs, (20, 20)) == pytest.approx(whole, rel=1e-9)
    part = SlicedLowLevelWCS(wcs, np.s_[15:, 10:])
    assert pixel_scale(part, (20, 20)) == pytest.approx(whole, rel=1e-9)


def test_cube_has_the_scale_of_its_sky():
    cube = WCS(header_of(CTYPE3='FREQ', CRVAL3=1e9, CDELT3=1e6, CUNIT3='Hz'))
    assert pixel_scale(cube, MIDDLE) == pytest.approx(0.2, rel=1e-6)
    assert pixel_scale(cube[3], MIDDLE) == pytest.approx(0.2, rel=1e-6)


def test_no_scale():
    assert math.isnan(pixel_scale(WCS(naxis=2), MIDDLE))
    assert math.isnan(pixel_scale(WCS(header_of('SIN', CD1_1=0.1, CD2_2=0.1)), (2000, 20)))
    singular = WCS(naxis=2)
    singular.wcs.ctype = ['RA---TAN', 'DEC--TAN']
    singular.wcs.cdelt = [0, 0]
    assert math.isnan(pixel_scale(singular, MIDDLE))


def test_scale_is_found_once_for_a_stack(monkeypatch):
    calls = []
    monkeypatch.setattr(
        'astroflux.cutouts._batch.pixel_scale', lambda wcs, xy: calls.append(xy) or 0.2
    )
    stack = NDData(np.ones((5, SIDE, SIDE)) * np.arange(SIDE), wcs=WCS(header_of()), unit='adu')
    assert len(list(iter_cutouts(stack))) == 5
    assert calls == [MIDDLE]
