# Licensed under a 3-clause BSD style license - see LICENSE.rst

import numpy as np
import pytest
from scipy.signal import fftconvolve

from astroflux.simulation import SkyPopulation
from astroflux.simulation.sky import (
    correlation_kernel,
    detection_limit,
    draw_footprints,
    draw_saturation,
    sky_level,
)

FWHM = 4.0
SHAPE = (1000, 1000)


def one(value):
    return (value, value)


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def light(x, y, flux, sigma=3.0, size=81):
    ys, xs = np.mgrid[:size, :size]
    return flux * np.exp(-((xs - x) ** 2 + (ys - y) ** 2) / (2 * sigma**2))


def test_a_point_source_at_the_limit_has_snr_5():
    sigma = FWHM / 2.3548
    model = light(40, 40, 1 / (2 * np.pi * sigma**2), sigma) * detection_limit(FWHM)
    assert np.sqrt((model**2).sum()) == pytest.approx(5, rel=1e-3)


def test_density_is_that_of_galaxies_above_the_limit(rng):
    sky = SkyPopulation(density=one(3.0), companion_rate=one(0.0))
    sources = sky.draw(SHAPE, FWHM, rng)
    number = (sources.is_detected & ~sources.is_star).sum()
    assert number == pytest.approx(300, abs=4 * np.sqrt(300))
    assert (np.diff(sources.flux) <= 0).all()
    assert (abs(sources.x) <= 500).all()
    assert not sources.is_companion.any()


@pytest.mark.parametrize('slope', [0.25, 0.4])
def test_counts_have_their_slope_and_turn_over(rng, slope):
    sky = SkyPopulation(
        density=one(200.0), slope=one(slope), companion_rate=one(0.0), star_share=one(1e-6)
    )
    magnitude = -2.5 * np.log10((s := sky.draw(SHAPE, FWHM, rng)).flux / s.limit)
    edges = np.arange(-3, 3.6, 1.0)
    counts = np.histogram(magnitude, edges)[0]
    found = np.diff(np.log10(counts))
    between = edges[1:-1]
    np.testing.assert_allclose(found, slope - sky.turn_over * between, atol=0.05)
    assert magnitude.max() < sky.faintest
    assert magnitude.min() >= -sky.brightest


def test_share_of_stars(rng):
    sky = SkyPopulation(density=one(20.0), star_share=one(0.25), companion_rate=one(0.0))
    sources = sky.draw(SHAPE, FWHM, rng)
    stars = sources.is_star[sources.is_detected]
    assert stars.sum() / (~stars).sum() == pytest.approx(0.25, rel=0.15)


def test_companions_are_close_and_of_like_brightness(rng):
    sky = SkyPopulation(companion_rate=one(0.5), companion_magnitude=0.5)
    sources = sky.draw((2, 2), FWHM, rng, target_flux=1e4)
    many = [sky.draw((2, 2), FWHM, rng, target_flux=1e4) for _ in range(400)]
    companions = [s for s in many if s.is_companion.any()]
    assert len(companions) / len(many) == pytest.approx(1 - np.exp(-0.5), abs=0.1)
    near = np.concatenate([np.hypot(s.x, s.y)[s.is_companion] for s in companions])
    low, high = np.multiply(sky.companion_distance, FWHM)
    assert near.min() >= low
    assert near.max() <= high + 2
    # the surface density falls with the distance to the power -0.8
    half = (0.5 * (low**1.2 + high**1.2)) ** (1 / 1.2)
    assert np.mean(near < half) == pytest.approx(0.5, abs=0.12)
    flux = np.concatenate([s.flux[s.is_companion] for s in companions])
    assert np.median(flux) == pytest.approx(1e4, rel=0.3)
    assert sources.limit == detection_limit(FWHM)


def test_empty_sky(rng):
    population = SkyPopulation(density=(0, 0))
    assert len(population.draw((300, 300), 4.0, rng).flux) == 0
    without_stars = SkyPopulation(star_share=(0, 0)).draw((300, 300), 4.0, rng)
    assert (without_stars.radius > 0).all()


@pytest.mark.parametrize('range_of', [(0, 2), (3, 2), (-1, 2)])
def test_range_that_is_none(range_of):
    with pytest.raises(ValueError, match='density is a range of positive numbers, or'):
        SkyPopulation(density=range_of)


def test_sky_is_the_same_for_the_same_seed():
    drawn = [SkyPopulation().draw((200, 200), FWHM, np.random.default_rng(3)) for _ in range(2)]
    for name in ('x', 'y', 'flux', 'radius', 'is_companion'):
        np.testing.assert_array_equal(getattr(drawn[0], name), getattr(drawn[1], name))


def test_fainter_galaxies_are_smaller(rng):
    sky = SkyPopulation(density=one(50.0))
    sources = sky.draw(SHAPE, FWHM, rng)
    radius, flux = sources.radius[~sources.is_star], sources.flux[~sources.is_star]
    slope = np.polyfit(-2.5 * np.log10(flux), np.log10(radius), 1)[0]
    assert slope == pytest.approx(sky.radius_slope, abs=0.01)


def test_background_takes_the_light_of_faint_sources(rng):
    faint = light(40, 40, 2.0)
    levels = [sky_level(faint, rng) / faint.mean() for _ in range(300)]
    assert -1.5 <= min(levels) < max(levels) <= -0.5
    assert np.mean(levels) == pytest.approx(-1, abs=0.1)


def test_only_bright_stars_saturate(rng):
    faint, bright = light(40, 40, 50.0), light(40, 40, 1e5)
    assert not draw_saturation(faint, (40, 40), 1000.0, rng).any()
    mask = draw_saturation(bright, (40, 40), 1000.0, rng)
    assert mask[bright > 1000].all()
    # a trail along the column
    height, width = np.ptp(np.nonzero(mask), axis=1)
    assert height > 1.5 * width


def test_trail_of_a_star_outside_the_image(rng):
    star = light(40, -5, 1e6, sigma=4.0)
    mask = draw_saturation(star, (40, -5), 1000.0, rng)
    assert mask[0, 40]


def test_footprints(rng):
    own, others = light(34, 40, 20.0), light(46, 40, 100.0)
    masks = {kind: draw_footprints(own, others, kind, rng) for kind in ('none', 'tight', 'grown')}
    assert not masks['none'].any()
    assert masks['tight'][40, 46]
    assert masks['grown'].sum() > masks['tight'].sum()
    for mask in masks.values():
        assert not mask[40, 34]
    # wrong ones cut into the galaxy, or miss a part of the neighbor
    wrong = [draw_footprints(own, others, 'wrong', rng) for _ in range(20)]
    own_pixels = (own > 1) & (own > others)
    assert any(mask[own_pixels].any() for mask in wrong)
    assert any((others[~mask] > 20).any() for mask in wrong)


def test_correlated_noise_keeps_the_variance_of_a_pixel(rng):
    white = rng.standard_normal((600, 600))
    kernel = correlation_kernel(rng)
    noise = fftconvolve(white, kernel, mode='valid')
    assert noise.std() == pytest.approx(1, abs=0.01)
    blocks = noise[:570, :570].reshape(19, 30, 19, 30).sum(axis=(1, 3)) / 30
    assert blocks.std() == pytest.approx(kernel.sum(), rel=0.1)
    assert kernel.sum() > 1
