# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Stamps that the tests of this folder share."""

import numpy as np
import pytest
from astropy.wcs import WCS


@pytest.fixture
def rng():
    return np.random.default_rng(20240607)


@pytest.fixture
def stamp(rng):
    """A round galaxy in unit noise, 33 rows by 41 columns."""
    y, x = np.mgrid[:33, :41]
    return 50 * np.exp(-((x - 20) ** 2 + (y - 16) ** 2) / 18) + rng.normal(size=(33, 41))


@pytest.fixture
def gaussian_psf():
    """A PSF image of 21 pixels a side and a sum that is not 1."""
    y, x = np.mgrid[:21, :21] - 10
    return 3 * np.exp(-(x**2 + y**2) / 8)


@pytest.fixture
def sky():
    """A WCS of 0.2 arcsec per pixel."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ['RA---TAN', 'DEC--TAN']
    wcs.wcs.crval = [150.0, 2.0]
    wcs.wcs.crpix = [21, 17]
    wcs.wcs.cdelt = [-0.2 / 3600, 0.2 / 3600]
    wcs.wcs.set()
    return wcs
