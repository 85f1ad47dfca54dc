# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What the methods do with noise that is correlated between pixels."""

import numpy as np
import pytest
from astropy.nddata import NDData, StdDevUncertainty
from numpy.testing import assert_allclose, assert_array_equal
from scipy.ndimage import convolve

from astroflux import decode_flags
from astroflux.cutouts import iter_cutouts
from astroflux.estimators import make_estimator
from astroflux.estimators._canvas import Canvases, stamps_around
from astroflux.estimators.methods import KNOWN_METHODS

KERNEL = np.outer([0.25, 1, 0.25], [0.25, 1, 0.25])
GROWTH = 1.8413

N_CUTOUTS, SIDE = 200, 51


@pytest.fixture(scope='module')
def galaxies(draw_galaxy):
    """The same galaxy in noise that is uneven, too."""
    rng = np.random.default_rng(3)
    white = rng.normal(size=(N_CUTOUTS, SIDE, SIDE))
    noise = convolve(white, KERNEL[None] / np.sqrt(np.sum(KERNEL**2)), mode='wrap')
    sigma = np.linspace(0.7, 1.4, SIDE) * np.ones((SIDE, 1))
    image = draw_galaxy((SIDE, SIDE), flux=3000)
    return NDData(image + noise * sigma, uncertainty=StdDevUncertainty(sigma))


def make_available(name, **arguments):
    method = KNOWN_METHODS[name]
    if not method.is_available:
        pytest.skip(f'needs {method.how_to_install}')
    return make_estimator(name, **arguments)


def pull_scatter(table):
    flux = table['flux'].value
    return np.std((flux - np.median(flux)) / table['flux_err'].value)


@pytest.mark.parametrize(
    ('name', 'arguments'),
    [
        ('aperture', {'radius': 8}),
        ('aperture', {'radius': 8, 'background': 'annulus', 'annulus': (12, 20)}),
        ('kron', {}),
        ('kron', {'neighbors': 'mask'}),
        ('sep', {}),
        ('growth', {}),
    ],
)
def test_errors_hold_with_the_correlation_only(galaxies, name, arguments):
    estimator = make_available(name, **arguments)
    white = estimator.measure(galaxies, psf_fwhm=3.0)
    told = estimator.measure(galaxies, psf_fwhm=3.0, noise_correlation=KERNEL)
    # other apertures depend on the noise themselves
    tolerance = 0.12 if name == 'aperture' else 0.25
    assert pull_scatter(told) == pytest.approx(1, abs=tolerance)
    assert pull_scatter(white) > 1.5
    # nothing else changes
    assert_array_equal(told['flux'], white['flux'])
    for other in (GROWTH, 'estimate'):
        table = estimator.measure(galaxies, psf_fwhm=3.0, noise_correlation=other)
        ratio = np.median((table['flux_err'] / told['flux_err']).value)
        assert ratio == pytest.approx(1, abs=0.005 if other == GROWTH else 0.05)


@pytest.mark.parametrize('name', ['petrosian', 'sextractor', 'sersic'])
def test_errors_of_slow_methods_grow(make_ccd, name):
    estimator = make_available(name)
    ccd = make_ccd((SIDE, SIDE), flux=20000)
    white = estimator.measure(ccd, psf_fwhm=3.0)
    told = estimator.measure(ccd, psf_fwhm=3.0, noise_correlation=KERNEL)
    assert told['flux'] == white['flux']
    growth = (told['flux_err'] / white['flux_err'])[0]
    # that of large apertures is nearly the sum of the kernel
    largest = KERNEL.sum() / np.sqrt(np.sum(KERNEL**2))
    assert GROWTH - 1e-3 < growth < largest


def test_error_of_an_aperture_is_exact(make_ccd):
    mask = np.random.default_rng(0).random((SIDE, SIDE)) < 0.5
    ccd = make_ccd((SIDE, SIDE), mask=mask)
    # all of the stamp
    estimator = make_estimator('aperture', radius=40)
    white, told = (
        estimator.measure(ccd, noise_correlation=correlation)['flux_err'][0]
        for correlation in (None, KERNEL)
    )
    # by the definition, over pairs of pixels
    y, x = np.nonzero(~mask)
    line = np.zeros(SIDE)
    line[:3] = np.array([1.125, 0.5, 0.0625]) / 1.125
    covariance = line[abs(y - y[:, None])] * line[abs(x - x[:, None])]
    assert (told / white).value == pytest.approx(np.sqrt(covariance.sum() / len(y)), rel=1e-9)


def test_regression_adds_what_the_noise_has_grown(galaxies):
    estimator = make_estimator('linear')
    white = estimator.measure(galaxies, psf_fwhm=3.0)
    told = estimator.measure(galaxies, psf_fwhm=3.0, noise_correlation=KERNEL)
    assert_array_equal(told['flux'], white['flux'])
    assert (told['flux_err'] > white['flux_err']).all()
    assert (told['flux_err'] < GROWTH * white['flux_err']).all()


@pytest.mark.parametrize('binning', [1, 2])
def test_canvas_has_the_noise_of_sums(make_ccd, binning):
    ccd = make_ccd((SIDE, SIDE))
    ccd.uncertainty.array[:, :20] = 2.0
    white, told = (
        Canvases(list(iter_cutouts(ccd, noise_correlation=correlation)), binning)
        for correlation in (None, GROWTH)
    )
    assert_allclose(told.scale, GROWTH * white.scale, rtol=1e-12)
    assert_allclose(told.image, white.image / GROWTH, rtol=1e-6)
    # in units of the scale
    assert_allclose(told.weight, white.weight, rtol=1e-6)
    pixels = Canvases(list(iter_cutouts(ccd, noise_correlation=GROWTH)), binning, of_sums=False)
    assert_array_equal(pixels.image, white.image)


def test_stamps_of_an_image_have_its_noise(make_ccd):
    ccd = make_ccd((200, 200))
    stamps = stamps_around([(90, 80), (30, 20)], ccd.data, 1.0, noise_growth=1.2)
    assert_allclose(Canvases(stamps).scale, 1.2)


def test_network_sees_larger_noise(make_ccd):
    network = make_estimator('cnn')
    ccd = make_ccd((SIDE, SIDE), flux=3000)
    louder = ccd.copy()
    louder.uncertainty = StdDevUncertainty(ccd.uncertainty.array * GROWTH)
    told = network.measure(ccd, psf_fwhm=3.0, noise_correlation=GROWTH)
    expected = network.measure(louder, psf_fwhm=3.0)
    for column in ('flux', 'flux_err', 'half_light_radius'):
        assert_allclose(told[column].value, expected[column].value, rtol=1e-4)
    assert network.predict(ccd, psf_fwhm=3.0, noise_correlation=GROWTH) == told['flux'][0]
    weights = network.weight_map(ccd, psf_fwhm=3.0, noise_correlation=GROWTH)
    assert_allclose(weights, network.weight_map(louder, psf_fwhm=3.0), atol=1e-3)


def test_every_call_takes_it(many):
    flux = np.full(len(many), 2000.0) * many[0].unit
    estimator = make_estimator('aperture', radius=8).fit(many, flux, noise_correlation=1.2)
    assert np.isfinite(estimator.score(many, flux, noise_correlation=KERNEL))
    table = estimator.measure(many, noise_correlation='estimate')
    assert table.meta['arguments']['noise_correlation'] == 'estimate'
    with pytest.raises(ValueError, match="or 'estimate', got 9"):
        make_estimator('cnn').fit(many, flux, noise_correlation=9)
    with pytest.raises(ValueError, match="or 'estimate', got 9"):
        make_estimator('linear').fit(many, flux, noise_correlation=9)


def test_flag_where_the_sky_is_not_seen(make_ccd):
    ccd = make_ccd((25, 25))
    table = make_estimator('aperture', radius=8).measure([ccd], noise_correlation='estimate')
    assert 'NOISE_ASSUMED_WHITE' in decode_flags(table['flags'])[0]
    assert table['flux_err'] == make_estimator('aperture', radius=8).measure([ccd])['flux_err']
