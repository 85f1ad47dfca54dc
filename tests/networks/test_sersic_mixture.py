# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Sums of Gaussians against the Sersic profile's closed forms."""

import numpy as np
import pytest
from astropy.modeling.models import Sersic1D
from numpy.testing import assert_allclose
from scipy.special import gammainc, gammaincinv

from astroflux.networks.sersic_mixture import LN_INDEX_RANGE, sersic_mixture, to_unit_interval

RADII = np.array([0.1, 0.3, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0])


def enclosed(amplitude, width, radius):
    """Return the flux of a sum of Gaussians within radii."""
    return (1 - np.exp(-0.5 * np.square(radius[:, None] / width))) @ amplitude


@pytest.mark.parametrize('index', [0.5, 0.7, 1.0, 1.7, 2.5, 3.3, 4.0])
def test_enclosed_flux(index):
    # Graham & Driver 2005, equation 2
    expected = gammainc(2 * index, gammaincinv(2 * index, 0.5) * RADII ** (1 / index))
    amplitude, width = sersic_mixture()(index)
    assert_allclose(enclosed(amplitude, width, RADII), expected, atol=0.003)
    # The outermost light of a bulge has no Gaussian, on purpose.
    assert amplitude.sum() == pytest.approx(1, abs=0.002 if index < 1.5 else 0.008)


@pytest.mark.parametrize('index', [0.6, 1.0, 2.0, 4.0])
def test_surface_brightness(index):
    amplitude, width = sersic_mixture()(index)
    radius = np.linspace(0.3, 3, 40)
    gaussians = np.exp(-0.5 * np.square(radius[:, None] / width)) / (2 * np.pi * width**2)
    profile = Sersic1D(amplitude=1, r_eff=1, n=index)
    b_n = gammaincinv(2 * index, 0.5)
    # the flux of the profile whose brightness at its radius is one: Graham & Driver, equation 4
    grid = np.geomspace(1e-7, (60 / b_n) ** index, 200_000)
    flux = np.trapezoid(2 * np.pi * grid**2 * profile(grid), np.log(grid))
    assert_allclose(gaussians @ amplitude, profile(radius) / flux, rtol=0.05)


def test_a_gaussian_is_one_nearly():
    """The profile of index 0.5 is a Gaussian of half-light radius sqrt(2 ln 2) sigma."""
    amplitude, width = sersic_mixture()(0.5)
    radius = np.linspace(0, 2.5, 30)
    gaussians = np.exp(-0.5 * np.square(radius[:, None] / width)) / (2 * np.pi * width**2)
    sigma = 1 / np.sqrt(2 * np.log(2))
    expected = np.exp(-0.5 * (radius / sigma) ** 2) / (2 * np.pi * sigma**2)
    assert_allclose(gaussians @ amplitude, expected, atol=2e-3 * expected.max())


def test_widths_cover_core_and_wings():
    for index in np.exp(np.linspace(*LN_INDEX_RANGE, 9)):
        amplitude, width = sersic_mixture()(index)
        assert amplitude.shape == width.shape == (8,)
        assert np.all(np.diff(width) > 0)
        assert np.ptp(np.diff(np.log(width))) < 1e-9
        # narrower than what holds 5 % of the light, wider than what holds half
        inner = (gammaincinv(2 * index, 0.05) / gammaincinv(2 * index, 0.5)) ** index
        assert width[0] < inner < 0.6 < width[-1]


def test_range_of_indices_is_the_unit_interval():
    low, high = LN_INDEX_RANGE
    assert_allclose(to_unit_interval(np.array([low, 0.5 * (low + high), high])), [-1, 0, 1])
    assert np.exp(low) == pytest.approx(0.3)
    assert np.exp(high) == pytest.approx(6.3)


def test_more_gaussians_are_closer():
    expected = gammainc(8, gammaincinv(8, 0.5) * RADII**0.25)
    few, many = (abs(enclosed(*sersic_mixture(n)(4.0), RADII) - expected).max() for n in (5, 8))
    assert many < few < 0.05


def test_fitted_once():
    assert sersic_mixture() is sersic_mixture()
