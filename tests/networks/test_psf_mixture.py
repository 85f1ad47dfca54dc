# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Mixtures of Gaussians against profiles whose shape is known."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import brentq
from scipy.special import erf

from astroflux.networks.psf_mixture import (
    N_PSF_GAUSSIANS,
    N_PSF_NUMBERS,
    fit_psf_mixtures,
    in_blocks,
    psf_numbers,
)

SIZE = 43

MIXTURES = [
    # standard deviations in pixels, shares of the light
    ((1.2, 2.2, 4.2, 7.5), (0.45, 0.35, 0.15, 0.05)),
    ((1.4, 2.4, 4.2, 7.4), (0.4, 0.35, 0.2, 0.05)),
    ((1.1, 2.0, 3.8, 6.5), (0.4, 0.35, 0.2, 0.05)),
]

KINDS = ['kolmogorov', 'moffat 2.5', 'moffat 3.5', 'moffat 5']


def over_pixels(sigmas, shares, centre=(0.0, 0.0)):
    """Return a sum of Gaussians, each integrated over the pixels."""
    edges = np.arange(SIZE + 1) - SIZE / 2
    image = 0
    for sigma, share in zip(sigmas, shares, strict=True):
        x, y = (0.5 * np.diff(erf((edges - c) / sigma / np.sqrt(2))) for c in centre)
        image = image + share * np.outer(y, x)
    return image


def width_of(sigmas, shares):
    """Return the full width at half maximum of a sum of Gaussians."""
    variance = np.square(sigmas)
    peaks = np.asarray(shares) / variance

    def excess(radius):
        return peaks @ np.exp(-0.5 * radius**2 / variance) - 0.5 * peaks.sum()

    return 2 * brentq(excess, 1e-3, 30)


def unpack(parameters, fwhm):
    """Return the standard deviations in pixels and the shares of a mixture."""
    weights = np.exp(np.append(0, parameters[N_PSF_GAUSSIANS:]))
    return fwhm * np.exp(0.5 * parameters[:N_PSF_GAUSSIANS]), weights / weights.sum()


def ring_means(image):
    y, x = np.indices(image.shape) - SIZE // 2
    ring = np.hypot(x, y).round().astype(int)
    number = np.bincount(ring.ravel())[: SIZE // 2]
    return np.bincount(ring.ravel(), image.ravel())[: SIZE // 2] / number, number


def draw_psf(kind, fwhm, size=SIZE):
    galsim = pytest.importorskip('galsim')
    name, *beta = kind.split()
    if name == 'moffat':
        profile = galsim.Moffat(beta=float(beta[0]), fwhm=fwhm)
    else:
        profile = galsim.Kolmogorov(fwhm=fwhm)
    image = profile.drawImage(nx=size, ny=size, scale=1, dtype=float).array
    return image / image.sum()


@pytest.mark.parametrize(('sigmas', 'shares'), MIXTURES)
def test_four_gaussians_are_found_again(sigmas, shares):
    fwhm = width_of(sigmas, shares)
    (parameters,) = fit_psf_mixtures([over_pixels(sigmas, shares)], [fwhm])
    found_sigmas, found_shares = unpack(parameters, fwhm)
    # the pixel must have been taken out: it adds 3 % to the smallest of all
    assert_allclose(found_sigmas[0], sigmas[0], rtol=0.015)
    assert_allclose(found_sigmas, sigmas, rtol=0.06)
    assert_allclose(found_shares, shares, atol=0.025)


@pytest.mark.parametrize('fwhm', [2.0, 3.3, 7.0])
@pytest.mark.parametrize('kind', KINDS)
def test_rings_are_those_of_the_psf(kind, fwhm):
    psf = draw_psf(kind, fwhm)
    sigmas, shares = unpack(fit_psf_mixtures([psf], [fwhm])[0], fwhm)
    assert shares.min() > 0
    y, x = np.indices(psf.shape) - SIZE // 2
    variance = sigmas**2 + 1 / 12
    parts = np.exp(-0.5 * (x**2 + y**2)[..., None] / variance) / (2 * np.pi * variance)
    model, number = ring_means(parts @ shares)
    seen, _ = ring_means(psf)
    weight = number / (number @ seen**2)
    # which part of the light falls outside is no business of the shape
    factor = (number * seen) @ model / ((number * model) @ model)
    # the pixel is no Gaussian, which shows where it is as wide as the PSF
    assert np.sqrt(weight @ (factor * model - seen) ** 2) < (0.05 if fwhm == 2 else 0.015)
    # little light is beyond these images
    assert factor == pytest.approx(1, abs=0.025)


@pytest.mark.parametrize(('beta', 'fwhm'), [(2.5, 3.0), (3.0, 4.0), (4.0, 5.0)])
def test_enclosed_light_of_a_moffat(beta, fwhm):
    sigmas, shares = unpack(fit_psf_mixtures([draw_psf(f'moffat {beta}', fwhm)], [fwhm])[0], fwhm)
    radius = fwhm * np.array([0.3, 0.5, 1.0, 2.0])
    alpha = 0.5 * fwhm / np.sqrt(2 ** (1 / beta) - 1)
    # within the image, as the mixture knows little of what lies beyond
    expected = 1 - (1 + (np.append(radius, SIZE / 2) / alpha) ** 2) ** (1 - beta)
    found = (1 - np.exp(-0.5 * np.square(radius[:, None] / sigmas))) @ shares
    assert_allclose(found, expected[:-1] / expected[-1], atol=0.015)


@pytest.mark.parametrize(('beta', 'fwhm', 'size'), [(2.5, 3.0, 25), (3.0, 4.0, 25), (3.5, 4.0, 31)])
def test_wings_beyond_the_image(beta, fwhm, size):
    """They go on as they do within it, though the image's sum is one."""
    psf = draw_psf(f'moffat {beta}', fwhm, size)
    sigmas, shares = unpack(fit_psf_mixtures([psf], [fwhm])[0], fwhm)
    alpha = 0.5 * fwhm / np.sqrt(2 ** (1 / beta) - 1)
    radius = 0.5 * size
    expected = (1 + (radius / alpha) ** 2) ** (1 - beta)
    found = np.exp(-0.5 * (radius / sigmas) ** 2) @ shares
    assert found == pytest.approx(expected, rel=0.2, abs=2e-4)


def test_no_wings_where_the_image_does_not_show_any():
    """Noise in the outer part, or nothing, is not continued."""
    psf = over_pixels(*MIXTURES[0])
    y, x = np.indices(psf.shape) - SIZE // 2
    psf[np.hypot(x, y) > 0.35 * SIZE] = 0
    sigmas, shares = unpack(fit_psf_mixtures([psf], [width_of(*MIXTURES[0])])[0], 1)
    assert np.isfinite(sigmas).all()
    assert shares @ np.exp(-0.5 * (0.5 * SIZE / sigmas / width_of(*MIXTURES[0])) ** 2) < 0.01


def test_position_of_the_psf_does_not_matter():
    sigmas, shares = MIXTURES[2]
    fwhm = width_of(sigmas, shares)
    images = [over_pixels(sigmas, shares), over_pixels(sigmas, shares, (0.4, -0.3))]
    centred, shifted = fit_psf_mixtures(images, [fwhm, fwhm])
    assert_allclose(shifted, centred, atol=0.1)


def test_width_is_the_unit():
    """The same profile, drawn twice as large, has the same numbers."""
    sigmas, shares = MIXTURES[0]
    fwhm = width_of(sigmas, shares)
    images = [over_pixels(np.multiply(scale, sigmas), shares) for scale in (1.2, 1.5)]
    small, large = fit_psf_mixtures(images, [1.2 * fwhm, 1.5 * fwhm])
    # the faint wing of the larger is partly beyond the image
    assert_allclose(large, small, atol=0.3)
    assert_allclose(large[:3], small[:3], atol=0.1)


def test_unknown_width():
    images = [over_pixels(*triple) for triple in MIXTURES]
    widths = [width_of(*triple) for triple in MIXTURES]
    expected = fit_psf_mixtures([images[0], images[2]], [widths[0], widths[2]])
    found = fit_psf_mixtures(images, [widths[0], np.nan, widths[2]])
    assert found.shape == (3, N_PSF_NUMBERS - 2)
    assert np.isnan(found[1]).all()
    assert_allclose(found[[0, 2]], expected, rtol=1e-6)


def test_none_known():
    assert np.isnan(fit_psf_mixtures([over_pixels(*MIXTURES[0])], [np.nan])).all()
    assert fit_psf_mixtures([], []).shape == (0, N_PSF_NUMBERS - 2)


@pytest.mark.parametrize('widths', [(4.2, 5.0, 6.0), (3.0, 4.2, 6.0)])
def test_a_batch_is_as_good_as_one_by_one(widths):
    cases = [(kind, fwhm) for kind in KINDS for fwhm in widths]
    images, fwhm = [draw_psf(*case) for case in cases], [case[1] for case in cases]
    together = fit_psf_mixtures(images, fwhm)
    one_by_one = np.concatenate(
        [fit_psf_mixtures([image], [width]) for image, width in zip(images, fwhm, strict=True)]
    )
    assert np.ptp(together[:, 0]) > 0.2
    assert_allclose(together, one_by_one, atol=1e-3)


@pytest.mark.parametrize('total', [1.0, 0.97])
def test_numbers_of_a_psf(total):
    """Width, noise-equivalent area whatever the sum, and mixture; the first two in blocks."""
    images = [total * over_pixels(*case) for case in MIXTURES[:2]]
    fwhm = [width_of(*case) for case in MIXTURES[:2]]
    numbers = psf_numbers(images, fwhm)
    assert numbers.shape == (2, N_PSF_NUMBERS)
    assert_allclose(numbers[:, 0], fwhm)
    assert_allclose(numbers[:, 1], [i.sum() ** 2 / (i**2).sum() for i in images], rtol=1e-12)
    assert_allclose(numbers[:, 2:], fit_psf_mixtures(images, fwhm))
    blocks = in_blocks(numbers, np.array([1, 3]))
    assert_allclose(blocks[0], numbers[0])
    assert_allclose(blocks[1], numbers[1] / [3, 9, *[1] * 7])
