# Licensed under a 3-clause BSD style license - see LICENSE.rst
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from photutils.aperture import CircularAperture
from torch.testing import assert_close

from astroflux.networks.photometry import APERTURE_RADII, FILTER_SIGMAS, Photometry, compress
from astroflux.networks.pyramid import CANVAS_SIZE, REACH, Pyramid

N_APERTURES = len(APERTURE_RADII)


@pytest.fixture(scope='module')
def photometry():
    return Photometry()


@pytest.fixture(scope='module')
def pyramid():
    return Pyramid()


@pytest.fixture(scope='module')
def measure(photometry, pyramid):
    def measure(image, weight=None):
        if weight is None:
            weight = torch.ones(1, CANVAS_SIZE, CANVAS_SIZE)
        raw, _ = pyramid(image, weight)
        return photometry(pyramid.tile(raw.pictures), pyramid.tile(raw.weights))

    return measure


def noise(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, CANVAS_SIZE, CANVAS_SIZE, generator=generator)


# -- apertures ---------------------------------------------------------------------------------


@pytest.mark.parametrize(('sigma', 'dx', 'dy'), [(2.0, 0, 0), (6.0, 2, 1), (18.0, -4, 3)])
def test_apertures_against_photutils(measure, gaussian, sigma, dx, dy):
    image = gaussian(sigma, flux=1000.0, dx=dx, dy=dy)
    found = measure(image[None]).flux[0, :N_APERTURES]
    apertures = [CircularAperture((REACH, REACH), radius) for radius in APERTURE_RADII]
    expected = [a.do_photometry(image.double().numpy(), method='exact')[0][0] for a in apertures]
    # blocks, of which an aperture cuts a part, cost up to 1 % of the flux
    assert_allclose(found, expected, atol=10.0)
    # single pixels within 7 pixels from the centre
    inner = np.array(APERTURE_RADII) < 7
    assert_allclose(found[inner], np.array(expected)[inner], rtol=7e-3)


def test_area_of_apertures(measure):
    sky = torch.ones(1, CANVAS_SIZE, CANVAS_SIZE)
    found = measure(sky).flux[0, :N_APERTURES]
    assert_allclose(found, np.pi * np.square(APERTURE_RADII), rtol=7e-3)


# -- matched filters ---------------------------------------------------------------------------


@pytest.mark.parametrize('number', range(len(FILTER_SIGMAS)))
def test_matched_filter_is_unbiased(measure, gaussian, number):
    image = gaussian(FILTER_SIGMAS[number], flux=500.0)
    brightness = measure(image[None])
    column = N_APERTURES + number
    assert brightness.flux[0, column] == pytest.approx(500, rel=1e-4)
    # no filter has a higher S/N than the matched one
    assert brightness.snr[0, N_APERTURES:].argmax() == number
    # the information in the pixels; blocks blur some of it away
    best = float((image.double() ** 2).sum().sqrt())
    assert 0.97 * best < brightness.snr[0, column] < best * (1 + 1e-5)


def test_matched_filter_with_missing_pixels(measure, gaussian):
    """What is masked takes no part in the fit of the amplitude."""
    weight = torch.ones(1, CANVAS_SIZE, CANVAS_SIZE)
    weight[0, :, : REACH - 13] = 0
    weight[0, REACH + 2, REACH : REACH + 3] = 0
    image = gaussian(3.9, flux=500.0)[None] * (weight > 0)
    column = N_APERTURES + FILTER_SIGMAS.index(3.9)
    assert measure(image, weight).flux[0, column] == pytest.approx(500, rel=2e-3)


# -- noise -------------------------------------------------------------------------------------


@pytest.mark.parametrize('case', ['even', 'uneven', 'masked'])
def test_noise_has_a_scatter_of_one(measure, case):
    weight = torch.ones(1, CANVAS_SIZE, CANVAS_SIZE)
    if case == 'uneven':
        # the lower half four times as noisy
        weight[:, :REACH] = 1 / 16
    elif case == 'masked':
        weight[:, :REACH] = 0
    sigma = torch.where(weight > 0, 1 / weight.clamp(min=1e-3).sqrt(), torch.zeros_like(weight))
    brightness = measure(noise(500, seed=2) * sigma, weight)
    # 500 draws tell a scatter to 3 %
    assert_allclose(brightness.snr.std(dim=0), 1, atol=0.13)
    # narrow rings: a pixel that two apertures share is counted with more noise than it has
    rings = brightness.ring_snr.std(dim=0)
    assert torch.all((rings > 0.7) & (rings < 1.13))
    assert float(brightness.snr.std(dim=0).mean()) == pytest.approx(1, abs=0.05)
    # flux and S/N differ by a number that is the same for all
    ratio = brightness.flux / brightness.snr
    assert_close(ratio, ratio[:1].expand_as(ratio), rtol=1e-3, atol=0)


def test_snr_of_an_aperture(measure, gaussian):
    """Of flux over the noise of pi r^2 pixels."""
    image = gaussian(4.0, flux=300.0)
    snr = measure(image[None]).snr[0, :N_APERTURES]
    radius = np.array(APERTURE_RADII[1:6])
    expected = 300 * (1 - np.exp(-0.5 * (radius / 4) ** 2)) / np.sqrt(np.pi) / radius
    # a pixel that an aperture cuts enters with less than its share of noise
    assert_allclose(snr[1:6], expected, rtol=0.07)
    assert np.all(snr[1:6].numpy() > expected * 0.995)


def test_rings_add_up_to_apertures(measure, gaussian):
    brightness = measure(gaussian(8.0, flux=1000.0)[None])
    flux, snr = brightness.flux[0, :N_APERTURES], brightness.snr[0, :N_APERTURES]
    variance = torch.diff((flux / snr) ** 2, prepend=torch.zeros(1))
    rings = brightness.ring_snr[0] * variance.sqrt()
    assert_close(rings.cumsum(0), flux, rtol=1e-3, atol=0)


def test_nothing_usable(measure):
    nothing = torch.zeros(2, CANVAS_SIZE, CANVAS_SIZE)
    brightness = measure(nothing, nothing[:1])
    for values in (brightness.flux, brightness.snr, brightness.ring_snr):
        assert torch.all(values == 0)
    for values in Photometry.reference(brightness):
        assert torch.isfinite(values).all()


# -- reference ---------------------------------------------------------------------------------


@pytest.mark.parametrize(('sigma', 'best'), [(1.0, 1.5), (3.9, 3.9), (9.0, 10.0), (40.0, 16.0)])
def test_reference_is_the_best_filter(measure, gaussian, sigma, best):
    brightness = measure(gaussian(sigma, flux=2000.0)[None])
    flux, snr, ln_width = Photometry.reference(brightness)
    column = N_APERTURES + FILTER_SIGMAS.index(best)
    assert ln_width.exp() == pytest.approx(best)
    assert flux == brightness.flux[0, column]
    assert snr == brightness.snr[0, column] == brightness.snr[0, N_APERTURES:].max()


def test_reference_is_positive(measure, gaussian):
    images = torch.stack([-gaussian(4.0, flux=1000.0), torch.zeros(CANVAS_SIZE, CANVAS_SIZE)])
    flux, snr, ln_width = Photometry.reference(measure(images))
    assert torch.all(flux > 0)
    assert torch.all(snr == 0.5)
    assert torch.isfinite(ln_width).all()


def test_scale_goes_through(measure, gaussian):
    image = gaussian(3.0, flux=100.0)[None] + 0.1 * noise(2)
    one, other = measure(image), measure(7 * image)
    for name in ('flux', 'snr', 'ring_snr'):
        assert_close(getattr(other, name), 7 * getattr(one, name), rtol=1e-4, atol=1e-4)
    flux, snr, ln_width = Photometry.reference(one)
    scaled_flux, scaled_snr, same_ln_width = Photometry.reference(other)
    assert_close(scaled_flux, 7 * flux, rtol=1e-4, atol=0)
    assert_close(scaled_snr, 7 * snr, rtol=1e-4, atol=0)
    assert torch.equal(same_ln_width, ln_width)


def test_image_and_noise_scale_together(measure, gaussian):
    """S/N does not know the unit."""
    image = gaussian(3.0, flux=100.0)[None] + noise(1)
    one = measure(image)
    other = measure(3 * image, torch.full((1, CANVAS_SIZE, CANVAS_SIZE), 1 / 9))
    assert_close(other.snr, one.snr, rtol=1e-4, atol=1e-5)
    assert_close(other.flux, 3 * one.flux, rtol=1e-4, atol=1e-4)


# -- coverage, compress ------------------------------------------------------------------------


def test_coverage(photometry, pyramid):
    weight = torch.ones(3, CANVAS_SIZE, CANVAS_SIZE)
    weight[1, :REACH] = 0
    weight[2] = 0
    raw, _ = pyramid(torch.zeros_like(weight), weight)
    coverage = photometry.coverage(pyramid.tile(raw.weights))
    assert_allclose(coverage[0], 1, rtol=1e-5)
    # half of each circle, and half of the row of tiles through the centre at least
    assert_allclose(coverage[1, 4:], 0.5, atol=0.05)
    assert torch.all(coverage[1] > 0.5)
    assert torch.all(coverage[2] == 0)


def test_compress_is_asinh():
    x = torch.tensor([-1e6, -30.0, -1.0, -1e-3, 0.0, 1e-3, 2.0, 1e9])
    assert_allclose(compress(x), np.arcsinh(x.numpy()), rtol=1e-6, atol=2e-7)
    x.requires_grad_()
    compress(x).sum().backward()
    assert torch.isfinite(x.grad).all()
    assert_allclose(x.grad[[1, 2, 6]], 1 / np.sqrt(1 + np.array([30.0, 1.0, 2.0]) ** 2), rtol=1e-5)
