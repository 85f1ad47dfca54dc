# Licensed under a 3-clause BSD style license - see LICENSE.rst
import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import CCDData, StdDevUncertainty
from astropy.wcs import WCS


def draw_galaxy(shape=(61, 61), *, flux=2000.0, scale=2.5, axis_ratio=0.7, centre=None):
    """An inclined exponential disc of a soft core; flux is that of an infinite stamp, nearly."""
    ny, nx = shape
    x0, y0 = ((nx - 1) / 2, (ny - 1) / 2) if centre is None else centre
    y, x = np.mgrid[:ny, :nx]
    x, y = x - x0, y - y0
    angle = np.radians(30)
    major = x * np.cos(angle) + y * np.sin(angle)
    minor = (y * np.cos(angle) - x * np.sin(angle)) / axis_ratio
    core = 1.0
    profile = np.exp(-np.sqrt(major**2 + minor**2 + core**2) / scale)
    # 2 pi integral of exp(-sqrt(r^2 + c^2)/h) r dr = 2 pi h (h + c) exp(-c/h)
    total = 2 * np.pi * scale * (scale + core) * np.exp(-core / scale) * axis_ratio
    return flux * profile / total


def make_wcs(pixel_scale=0.168):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = 'RA---TAN', 'DEC--TAN'
    wcs.wcs.crval = 150.0, 2.0
    wcs.wcs.cdelt = -pixel_scale / 3600, pixel_scale / 3600
    wcs.wcs.cunit = 'deg', 'deg'
    return wcs


def make_ccd(shape=(61, 61), *, seed=0, sigma=1.0, unit='nJy', wcs=False, mask=None, **galaxy):
    """A galaxy with Gaussian noise, as `CCDData` with its uncertainty."""
    rng = np.random.default_rng(seed)
    image = draw_galaxy(shape, **galaxy) + rng.normal(0, sigma, shape)
    return CCDData(
        image,
        unit=u.Unit(unit),
        uncertainty=StdDevUncertainty(np.full(shape, float(sigma))),
        wcs=make_wcs() if wcs else None,
        mask=mask,
    )


@pytest.fixture(name='draw_galaxy', scope='session')
def draw_galaxy_fixture():
    return draw_galaxy


@pytest.fixture(name='make_ccd', scope='session')
def make_ccd_fixture():
    return make_ccd


@pytest.fixture
def many(make_ccd):
    """Six galaxies of different flux, size and shape of stamp."""
    shapes = [(61, 61), (48, 48), (61, 75), (90, 64), (50, 51), (61, 61)]
    return [
        make_ccd(shape, seed=index, flux=1500.0 * 1.5**index, scale=1.5 + 0.3 * index)
        for index, shape in enumerate(shapes)
    ]
