# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The error of a sky that was measured at the edge is a part of that of the flux."""

import numpy as np
import pytest
from astropy.nddata import NDData, StdDevUncertainty
from photutils.background import Background2D

from astroflux import ApertureFluxEstimator, CNNFluxEstimator
from astroflux.cutouts import iter_cutouts

SIDE, SKY, FLUX = 41, 4.0, 3000.0


def stamps(n):
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE // 2
    galaxy = FLUX * np.exp(-(x**2 + y**2) / 18) / (18 * np.pi)
    noise = StdDevUncertainty(np.ones(galaxy.shape))
    rng = np.random.default_rng(5)
    return [
        NDData(galaxy + SKY + rng.normal(size=galaxy.shape), uncertainty=noise) for _ in range(n)
    ]


def values(table, *names):
    return [table[name].value for name in names]


def test_aperture():
    """The area times the error of the sky adds to the noise of the pixels."""
    (item,) = stamps(1)
    radius = 10.0
    estimator = ApertureFluxEstimator(radius=radius)
    (of_pixels,) = values(estimator.measure(item, background=SKY), 'flux_err')
    local = estimator.measure(item, background='local')
    flux, error, lower, upper = values(local, 'flux', 'flux_err', 'flux_lower', 'flux_upper')
    (cutout,) = iter_cutouts(item, background='local')
    added = np.pi * radius**2 * cutout.sky_err
    assert error == pytest.approx(np.hypot(of_pixels, added), rel=1e-3)
    assert upper - flux == pytest.approx(error)
    assert flux - lower == pytest.approx(error)


def test_scatter_is_that_of_the_errors():
    table = ApertureFluxEstimator(radius=10.0).measure(stamps(200), background='local')
    flux, error = values(table, 'flux', 'flux_err')
    pull = (flux - np.median(flux)) / error
    assert np.std(pull) == pytest.approx(1, abs=0.15)


def test_network():
    items = stamps(8)
    estimator, names = CNNFluxEstimator(), ('flux', 'flux_err')
    local = estimator.measure(items, psf_fwhm=4.0, background='local')
    cutouts = list(iter_cutouts(items, psf_fwhm=4.0, background='local'))
    for cutout in cutouts:
        cutout.sky_err = 0.0
    flux, error = values(estimator.measure(cutouts), *names)
    assert local['flux'].value == pytest.approx(flux)
    assert (local['flux_err'].value > error).all()
    ends = ('flux_lower_95', 'flux_lower', 'flux', 'flux_upper', 'flux_upper_95')
    assert (np.diff(values(local, *ends), axis=0) > 0).all()


def test_a_map_of_the_sky_is_named_in_the_metadata():
    (item,) = stamps(1)
    sky = Background2D(item.data, 20)
    meta = ApertureFluxEstimator(radius=10.0).measure(item, background=sky).meta
    assert meta['arguments']['background'] == 'Background2D'
