# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Noise that is correlated between pixels: told, measured, and carried by cutouts."""

import math

import numpy as np
import pytest
from astropy import units as u
from astropy.convolution import Gaussian2DKernel
from astropy.nddata import NDData, StdDevUncertainty
from numpy.testing import assert_allclose
from scipy.ndimage import convolve

from astroflux.cutouts import iter_cutouts, noise_growth
from astroflux.flags import MeasurementFlag as Flag

KERNEL = np.outer([0.2, 1, 0.2], [0.1, 1, 0.1])
WANTED = "must be a 2-d kernel, a number from 0.5 to 5 or 'estimate', got"


def correlated(white, kernel=KERNEL):
    kernel = np.asarray(kernel, float)
    return convolve(white, kernel / np.sqrt(np.sum(kernel**2)), mode='wrap')


def growth_by_hand(kernel, n_fields=200):
    """The definition, on many fields of noise."""
    white = np.random.default_rng(0).normal(size=(n_fields, 70, 70))
    fields = np.array([correlated(field, kernel) for field in white])
    blocks = fields.reshape(n_fields, 10, 7, 10, 7).sum(axis=(2, 4))
    return blocks.std() / (7 * fields.std())


def add_galaxies(image, number, rng):
    y, x = np.indices(image.shape)
    for _ in range(number):
        radius = np.hypot(y - rng.uniform(0, len(image)), x - rng.uniform(0, len(image)))
        scale = rng.uniform(1, 3)
        image += 10 ** rng.uniform(1.5, 4) * np.exp(-np.maximum(radius, 1) / scale) / scale**2
    return image


def one(item, **keywords):
    (cutout,) = iter_cutouts(item, **keywords)
    return cutout


@pytest.mark.parametrize(
    'kernel',
    [KERNEL, [[-0.2, 1, -0.2]], np.ones((1, 5)), Gaussian2DKernel(1.5), 1e200 * KERNEL],
    ids=['bilinear', 'sharpened', 'line', 'Gaussian', 'huge'],
)
def test_growth_of_a_kernel(stamp, kernel):
    cutout = one(stamp, noise_correlation=kernel)
    expected = growth_by_hand(np.asarray(kernel) / np.asarray(kernel).max())
    assert cutout.noise_growth == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize('growth', [0.5, 0.9, 1, 1.2, 2.6, 2.619, 3.3, np.float32(4), 5.0])
def test_number_stands_for_a_kernel(stamp, growth):
    cutout = one(stamp, noise_correlation=growth)
    assert cutout.noise_growth == growth
    weights = np.zeros(stamp.shape)
    weights[13:20, 17:24] = 1
    assert cutout.sum_growth(weights) == pytest.approx(growth, rel=1e-9)
    kernel = cutout.noise_correlation.kernel
    if growth <= 2.6:
        q = kernel[0, 1]
        assert_allclose(kernel, np.outer([q, 1, q], [q, 1, q]))
    again = one(stamp, noise_correlation=kernel)
    assert again.noise_growth == pytest.approx(growth, rel=1e-9)


def test_growth_of_a_sum_of_uneven_noise(stamp):
    rng = np.random.default_rng(1)
    weights, sigma = rng.random((2, *stamp.shape))
    sigma += 0.5
    cutout = one(NDData(stamp, uncertainty=StdDevUncertainty(sigma)), noise_correlation=KERNEL)
    noise = [correlated(rng.normal(size=stamp.shape)) * sigma for _ in range(4000)]
    scatter = np.std(np.sum(weights * noise, axis=(1, 2)))
    error = np.sqrt(np.sum((weights * sigma) ** 2)) * cutout.sum_growth(weights)
    assert error == pytest.approx(scatter, rel=0.04)
    assert cutout.sum_growth(np.zeros(stamp.shape)) == 1


def test_white_noise_by_default(stamp):
    cutout = one(stamp)
    assert cutout.noise_correlation is None
    assert cutout.noise_growth == cutout.sum_growth(np.ones(stamp.shape)) == 1


@pytest.mark.parametrize(('kernel', 'n_galaxies'), [([[1]], 0), ([[1]], 12), (KERNEL, 12)])
@pytest.mark.parametrize('unit', [1e-12, 1.0])
def test_growth_is_measured_between_galaxies(kernel, n_galaxies, unit):
    rng = np.random.default_rng(2)
    image = correlated(rng.normal(size=(251, 251)), kernel) + 3
    image = unit * add_galaxies(image, n_galaxies, rng)
    expected = one(image, noise_correlation=kernel).noise_growth
    mask = np.zeros(image.shape, bool)
    mask[:, 100:103] = mask[7::50, ::9] = True
    image[mask] = 1e9 * unit
    image[:2] = np.nan
    measured = noise_growth(image, mask)
    assert measured == pytest.approx(expected, rel=0.05)
    assert one(NDData(image, mask=mask), noise_correlation='estimate').noise_growth == (
        pytest.approx(measured, rel=1e-9)
    )


def test_growth_is_measured_in_small_cutouts():
    rng = np.random.default_rng(3)
    y, x = np.mgrid[-30:31, -30:31]
    galaxy = 30 * np.exp(-np.hypot(x, y) / 2)
    stack = np.array([correlated(rng.normal(size=(61, 61))) + galaxy for _ in range(40)])
    found = [cutout.noise_growth for cutout in iter_cutouts(stack, noise_correlation='estimate')]
    expected = one(stack[0], noise_correlation=KERNEL).noise_growth
    assert np.mean(found) == pytest.approx(expected, rel=0.05)
    assert np.std(found) < 0.12 * expected


def test_uneven_noise_is_divided_out():
    rng = np.random.default_rng(4)
    sigma = np.where(np.arange(201) < 100, 1.0, 5.0) * np.ones((201, 1))
    image = correlated(rng.normal(size=sigma.shape)) * sigma
    item = NDData(image, uncertainty=StdDevUncertainty(sigma))
    expected = one(image, noise_correlation=KERNEL).noise_growth
    found = one(item, noise_correlation='estimate', positions=(20, 180)).noise_growth
    assert found == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize('case', ['small', 'masked', 'galaxy', 'no noise'])
def test_too_little_blank_sky(case):
    rng = np.random.default_rng(5)
    image, mask = rng.normal(size=(61, 61)), np.zeros((61, 61), bool)
    if case == 'small':
        image, mask = image[:25, :25], mask[:25, :25]
    elif case == 'masked':
        mask[12:, 10:] = True
    elif case == 'galaxy':
        y, x = np.mgrid[-30:31, -30:31]
        image += 500 * np.exp(-np.hypot(x, y) / 15)
    else:
        image = np.ones(image.shape)
    assert math.isnan(noise_growth(image, mask))
    item = NDData(image, mask=mask, uncertainty=StdDevUncertainty(np.ones(image.shape)))
    cutout = one(item, noise_correlation='estimate')
    assert cutout.flags & Flag.NOISE_ASSUMED_WHITE
    assert cutout.noise_growth == 1
    assert not one(item).flags & Flag.NOISE_ASSUMED_WHITE
    # what is told later counts
    told = one(cutout, noise_correlation=1.3)
    assert told.noise_growth == 1.3
    assert not told.flags & Flag.NOISE_ASSUMED_WHITE


def test_cutouts_keep_their_correlation(stamp):
    cutout = one(stamp, noise_correlation=1.2)
    assert one(cutout) is cutout
    assert one(cutout, psf_fwhm=3.0).noise_growth == 1.2
    assert one(cutout, noise_correlation=1.4).noise_growth == 1.4
    both = iter_cutouts([stamp, cutout], noise_correlation=1.1)
    assert [each.noise_growth for each in both] == [1.1, 1.1]


@pytest.mark.parametrize(
    ('value', 'error', 'match'),
    [
        ('white', ValueError, f"{WANTED} 'white'"),
        (0.3, ValueError, f'{WANTED} 0.3: the number is the scatter of sums over 7 x 7 pixels'),
        (7, ValueError, f'{WANTED} 7'),
        (np.nan, ValueError, f'{WANTED} nan'),
        (np.inf, ValueError, f'{WANTED} inf'),
        (True, TypeError, f'{WANTED} bool'),
        ({}, TypeError, f'{WANTED} dict'),
        (['a'], TypeError, f'{WANTED} list'),
        (1.2 * u.pix, u.UnitsError, "'pix'"),
        ([1, 2, 1], ValueError, r'must be 2-d with odd sides, got the shape \(3,\)'),
        (np.ones((3, 3, 3)), ValueError, r'must be 2-d with odd sides, got the shape \(3, 3, 3\)'),
        (np.ones((3, 4)), ValueError, r'must be 2-d with odd sides, got the shape \(3, 4\)'),
        ([[1, 2], [1]], ValueError, 'must be 2-d, got rows of different lengths'),
        ([[1, np.nan, 1]], ValueError, 'must be finite, got 1 values that are not'),
        (np.zeros((3, 5)), ValueError, r'is 0 everywhere, got the shape \(3, 5\)'),
        (np.empty((0, 0)), ValueError, r'got the shape \(0, 0\)'),
    ],
    ids=str,
)
def test_wrong_values(value, error, match, stamp):
    with pytest.raises(error, match=match):
        iter_cutouts([stamp, stamp], noise_correlation=value)


def test_wrong_images():
    with pytest.raises(ValueError, match=r'the mask has the shape \(3, 3\), the image has \(9, 9'):
        noise_growth(np.zeros((9, 9)), np.zeros((3, 3)))
    with pytest.raises(ValueError, match=r'the image must be 2-d, got the shape \(9,\)'):
        noise_growth(np.zeros(9))
