# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The noise that is estimated when none is given."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from astroflux.cutouts._noise import estimate_noise


def galaxy(size, half_light_radius, snr, *, seeing=1.8):
    """An exponential disc in a Gaussian PSF, of that signal-to-noise ratio in unit noise."""
    fine = 3
    grid = np.arange(size * fine) - (size * fine - 1) / 2
    disc = np.exp(-1.678 * np.hypot(*np.meshgrid(grid, grid)) / (half_light_radius * fine))
    frequency = np.fft.fftfreq(size * fine) * fine
    transfer = np.exp(-2 * (np.pi * seeing * frequency) ** 2)
    smooth = np.fft.ifft2(np.fft.fft2(disc) * np.outer(transfer, transfer)).real
    image = smooth.reshape(size, fine, size, fine).sum(axis=(1, 3))
    return image * snr / np.sqrt((image**2).sum())


def estimates(image, rng, n=20):
    return np.array([estimate_noise(image + rng.normal(size=image.shape)) for _ in range(n)])


@pytest.mark.parametrize('snr', [0, 30, 300, 3000])
@pytest.mark.parametrize(
    ('size', 'radius', 'bias', 'worst'), [(143, 10, 0.01, 0.05), (143, 3, 0.01, 0.05)]
)
def test_large_stamps(size, radius, snr, bias, worst, rng):
    found = estimates(galaxy(size, radius, snr), rng)
    assert abs(found.mean() - 1) < bias
    assert abs(found - 1).max() < worst


@pytest.mark.parametrize('snr', [0, 30, 300])
def test_small_stamps(snr, rng):
    found = estimates(galaxy(41, 1.5, snr), rng, n=40)
    # The mean of 40 is known to 0.7 %; one is to 4 %.
    assert abs(found.mean() - 1) < 0.03
    assert np.percentile(abs(found - 1), 90) < 0.1


@pytest.mark.parametrize('shape', [(8, 8), (9, 30), (31, 31), (32, 57), (200, 90)])
def test_pure_noise_of_any_shape(shape, rng):
    found = estimates(np.zeros(shape), rng, n=60)
    assert found.mean() == pytest.approx(1, abs=0.05 + 0.5 / shape[0])


def test_background_plane_does_not_matter(rng):
    y, x = np.mgrid[:90, :80]
    plane = 1000 + 3.0 * x - 7.0 * y
    noise = rng.normal(size=plane.shape)
    assert estimate_noise(noise + plane) == pytest.approx(1, abs=0.06)


def test_neighbours_and_masks(rng):
    image = galaxy(143, 8, 500) + np.roll(galaxy(143, 2, 2000), (40, -50), (0, 1))
    image += rng.normal(size=image.shape)
    mask = rng.random(image.shape) < 0.1
    assert estimate_noise(image) == pytest.approx(1, abs=0.05)
    assert estimate_noise(np.where(mask, 0, image), mask) == pytest.approx(1, abs=0.05)


def test_few_pixels_left(rng):
    image = rng.normal(size=(64, 64))
    mask = np.ones(image.shape, bool)
    # Scattered so that no difference has its four pixels.
    mask[::7, ::5] = False
    found = estimate_noise(np.where(mask, 0, image), mask)
    assert found == pytest.approx(1, abs=0.3)


def test_correlation_of_neighbouring_pixels(rng):
    # Interpolation half-way between pixels is the worst case.
    white = rng.normal(size=(201, 201))
    image = (white[1:, 1:] + white[:-1, 1:] + white[1:, :-1] + white[:-1, :-1]) / 2
    assert estimate_noise(image) == pytest.approx(image.std(), rel=0.05)


@pytest.mark.parametrize('value', [0.0, 7.5])
def test_constant_images_do_not_tell(value):
    assert np.isnan(estimate_noise(np.full((40, 40), value)))
    mask = np.zeros((40, 40), bool)
    mask[:, 1:] = True
    assert np.isnan(estimate_noise(np.where(mask, 0, value), mask))


@pytest.mark.parametrize('exponent', [-40, -7, 40])
def test_scales_exactly(exponent, rng):
    image = rng.normal(size=(50, 61))
    image[10:14, 20:25] += 30
    # the second one is too small for differences
    for part in (image, image[:4, :4]):
        assert estimate_noise(part * 2.0**exponent) == estimate_noise(part) * 2.0**exponent


def test_does_not_change_its_input(rng):
    image = rng.normal(size=(50, 61))
    mask = rng.random(image.shape) < 0.1
    image[mask] = 0
    before = image.copy(), mask.copy()
    estimate_noise(image, mask)
    assert_array_equal(image, before[0])
    assert_array_equal(mask, before[1])
