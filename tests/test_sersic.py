# Licensed under a 3-clause BSD style license - see LICENSE.rst
import numpy as np
import pytest
from astropy.modeling.models import Sersic1D
from numpy.testing import assert_allclose

from astroflux._sersic import b_n, brightness, enclosed_flux, enclosing_radius

INDICES = [0.5, 1.0, 2.5, 4.0]


def test_exponential_disc():
    assert b_n(1.0) == pytest.approx(1.67835, rel=1e-5)
    scaled = 1.67835 * 0.8
    assert enclosed_flux(0.8, 1.0) == pytest.approx(1 - (1 + scaled) * np.exp(-scaled), rel=1e-5)


@pytest.mark.parametrize('index', INDICES)
def test_brightness_is_that_of_astropy_of_unit_flux(index):
    radius = np.geomspace(1e-7, (60 / b_n(index)) ** index, 200_000)
    profile = Sersic1D(amplitude=1, r_eff=1, n=index)(radius)
    flux = np.trapezoid(2 * np.pi * radius**2 * profile, np.log(radius))
    assert_allclose(brightness(radius, index), profile / flux, rtol=1e-4)


@pytest.mark.parametrize('index', INDICES)
def test_enclosed_flux_is_the_integral_of_the_brightness(index):
    radius = np.geomspace(1e-7, 2.0, 100_000)
    expected = np.trapezoid(2 * np.pi * radius**2 * brightness(radius, index), np.log(radius))
    assert enclosed_flux(2.0, index) == pytest.approx(expected, rel=1e-4)
    assert enclosed_flux(1.0, index) == pytest.approx(0.5)


def test_enclosing_radius_is_the_inverse():
    fraction, index = np.meshgrid([0.1, 0.5, 0.9], INDICES)
    assert_allclose(enclosed_flux(enclosing_radius(fraction, index), index), fraction)
