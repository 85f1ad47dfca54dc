# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What the edge of a stamp says of sky and noise."""

import numpy as np
import pytest
from astropy.nddata import NDData, StdDevUncertainty
from scipy.ndimage import gaussian_filter

from astroflux.cutouts import iter_cutouts
from astroflux.cutouts._edge import edge_of
from astroflux.flags import MeasurementFlag as Flag

OF_EDGE = Flag.SKY_RESIDUAL | Flag.NOISE_SUSPECT | Flag.OUT_OF_RANGE


def stamp(side, seed=0, flux=3000.0, scale=3.0, sky=0.0):
    """Return an exponential galaxy in white noise of 1."""
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    galaxy = gaussian_filter(np.exp(-np.hypot(x, y / 0.7) / scale), 1.7)
    noise = np.random.default_rng(seed).normal(size=galaxy.shape)
    return flux * galaxy / galaxy.sum() + noise + sky


def flags_of(data, noise=1.0, mask=None):
    item = NDData(data, mask=mask, uncertainty=StdDevUncertainty(np.full(data.shape, noise)))
    (cutout,) = iter_cutouts(item)
    return cutout.flags & OF_EDGE


@pytest.mark.parametrize('side', [16, 24, 41, 64, 101, 200])
def test_good_stamps_are_not_flagged(side):
    # smaller in smaller stamps
    size = {'flux': 10.0 * side, 'scale': 0.03 * side}
    assert [flags_of(stamp(side, seed, **size)) for seed in range(20)] == 20 * [0]


@pytest.mark.parametrize('side', [41, 64, 101])
@pytest.mark.parametrize('factor', [0.05, 0.5, 2, 20])
def test_wrong_noise_is_flagged(side, factor):
    flags = [flags_of(stamp(side, seed), factor) for seed in range(20)]
    assert np.mean([bool(flag & Flag.NOISE_SUSPECT) for flag in flags]) >= 0.95
    far = [bool(flag & Flag.OUT_OF_RANGE) for flag in flags]
    assert all(far) if factor in (0.05, 20) else not any(far)


@pytest.mark.parametrize(('side', 'sky'), [(41, 1.0), (64, 0.7), (101, 0.5), (101, -0.3)])
def test_sky_is_flagged(side, sky):
    assert all(flags_of(stamp(side, seed, sky=sky)) & Flag.SKY_RESIDUAL for seed in range(10))


def test_wings_of_a_bright_galaxy_are_no_sky():
    """Its light at the edge is more than ten times the error of the level."""
    data = stamp(101, flux=2e6, scale=6.0)
    edge = edge_of(data, 1.0)
    assert edge.level > 10 * edge.level_err
    assert flags_of(data) == 0


def test_sky_under_a_bright_galaxy_is_flagged():
    assert flags_of(stamp(49, flux=30000, scale=3.6, sky=3.0)) & Flag.SKY_RESIDUAL


def test_correlated_noise_is_not_suspect():
    noise = gaussian_filter(np.random.default_rng(0).normal(size=(101, 101)), 0.6)
    assert flags_of(noise / noise.std()) == 0


def test_sources_at_one_side_are_not_the_sky():
    data = stamp(101)
    data[:12] += 5 * np.random.default_rng(1).random((12, 101)) + 5
    assert flags_of(data) == 0


@pytest.mark.parametrize('direction', [(1, 0), (0, 1), (1, 1)])
def test_slope_of_the_sky(direction):
    y, x = np.mgrid[:64, :64] / 63 - 0.5
    slope = direction[0] * x + direction[1] * y
    edges = [edge_of(stamp(64) + factor * slope, 1.0) for factor in (0.5, 4.0)]
    assert [edge.is_off_zero for edge in edges] == [False, True]
    assert edges[1].dip > 1


def test_masked_edge_says_nothing():
    data = stamp(64, sky=5.0)
    mask = np.ones(data.shape, dtype=bool)
    mask[8:-8, 8:-8] = False
    assert flags_of(data, noise=5.0, mask=mask) == 0
    assert np.isnan(edge_of(data, 1.0, mask)).all()


def test_masked_pixels_do_not_count():
    data = stamp(101)
    mask = np.random.default_rng(2).random(data.shape) < 0.2
    data[mask] = 1e4
    edge = edge_of(data, 1.0, mask)
    assert edge.scatter == pytest.approx(1, abs=0.15)
    assert abs(edge.level) < 5 * edge.level_err


def test_few_photons():
    """Most pixels have none, so that their median difference is zero."""
    photons = np.random.default_rng(0).poisson(0.05, (101, 101)) - 0.05
    assert edge_of(photons, np.sqrt(0.05)).scatter == pytest.approx(1, abs=0.15)


def test_pixels_that_are_all_the_same():
    """They tell no noise, but are off zero."""
    flat = np.full((66, 63), 2.9)
    assert flags_of(flat, noise=1.0) == Flag.SKY_RESIDUAL | Flag.OUT_OF_RANGE
    assert np.isnan(edge_of(flat, 1.0).scatter)
    assert flags_of(0 * flat, noise=1.0) == 0


def test_ratio_is_told_if_noise_was_stated():
    data = stamp(101)
    with_noise = NDData(data, uncertainty=StdDevUncertainty(np.full(data.shape, 2.0)))
    stated, estimated = iter_cutouts([with_noise, data])
    assert stated.noise_ratio == pytest.approx(0.5, rel=0.1)
    assert np.isnan(estimated.noise_ratio)
    assert not estimated.flags & OF_EDGE
