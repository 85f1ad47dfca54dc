# Licensed under a 3-clause BSD style license - see LICENSE.rst
import sys
import warnings

import numpy as np
import pytest
from astropy import units as u
from astropy.convolution import convolve
from photutils.aperture import CircularAperture, EllipticalAperture
from photutils.segmentation import deblend_sources, detect_sources, make_2dgaussian_kernel

from astroflux import PetrosianFluxEstimator, decode_flags
from astroflux.estimators.photometry import petrosian

statmorph = pytest.importorskip('statmorph')


@pytest.fixture
def estimator():
    return PetrosianFluxEstimator()


def by_hand(ccd, mask=None):
    """As in the documentation of statmorph, all of it measured."""
    noise = ccd.uncertainty.array
    smooth = convolve(ccd.data, make_2dgaussian_kernel(3.0, size=11), mask=mask)
    with warnings.catch_warnings(), np.errstate(all='ignore'):
        warnings.simplefilter('ignore')
        image = detect_sources(smooth, 1.5 * noise, 5, mask=mask)
        image = deblend_sources(smooth, image, 5, progress_bar=False)
        ny, nx = ccd.shape
        label = image.data[ny // 2, nx // 2]
        # statmorph 0.6 writes to the weight map
        return statmorph.SourceMorphology(ccd.data, image, label, mask=mask, weightmap=noise.copy())


def check_parity(ccd, mask=None):
    morphology = by_hand(ccd, mask)
    noise = ccd.uncertainty.array
    table = PetrosianFluxEstimator().measure(ccd)
    np.testing.assert_allclose(table['flux'][0].value, morphology.flux_ellip, rtol=1e-6)
    np.testing.assert_allclose(
        table['petrosian_radius'][0].value, morphology.rpetro_ellip, rtol=1e-6
    )
    np.testing.assert_allclose(table['concentration'], morphology.concentration, rtol=1e-5)
    np.testing.assert_allclose(table['axis_ratio'], 1 / morphology.elongation_asymmetry, rtol=1e-6)
    centre = morphology.xc_asymmetry, morphology.yc_asymmetry
    major = 2 * morphology.rpetro_ellip
    aperture = EllipticalAperture(
        centre,
        a=major,
        b=major / morphology.elongation_asymmetry,
        theta=morphology.orientation_asymmetry,
    )
    if mask is None:
        _, flux_err = aperture.do_photometry(ccd.data, error=noise)
        np.testing.assert_allclose(table['flux_err'][0].value, flux_err, rtol=1e-5)

    table = PetrosianFluxEstimator(aperture='circular').measure(ccd)
    np.testing.assert_allclose(table['flux'][0].value, morphology.flux_circ, rtol=1e-6)
    np.testing.assert_allclose(
        table['petrosian_radius'][0].value, morphology.rpetro_circ, rtol=1e-6
    )
    if mask is None:
        aperture = CircularAperture(centre, r=2 * morphology.rpetro_circ)
        _, flux_err = aperture.do_photometry(ccd.data, error=noise)
        np.testing.assert_allclose(table['flux_err'][0].value, flux_err, rtol=1e-5)


@pytest.mark.parametrize(
    ('seed', 'flux', 'scale'), [(0, 2000.0, 2.5), (1, 20000.0, 2.0), (2, 5000.0, 2.2)]
)
def test_parity(make_ccd, seed, flux, scale):
    check_parity(make_ccd((71, 71), seed=seed, flux=flux, scale=scale))


def test_parity_mask_and_neighbour(make_ccd, draw_galaxy):
    mask = np.zeros((81, 81), bool)
    mask[36:39, 46:50] = True
    ccd = make_ccd((81, 81), flux=8000.0, mask=mask)
    ccd.data += draw_galaxy((81, 81), flux=3500.0, scale=1.5, centre=(51.0, 52.0))
    check_parity(ccd, mask)
    flags = decode_flags(PetrosianFluxEstimator().measure(ccd)['flags'])[0]
    assert {'MASKED_PIXELS', 'NEIGHBOUR'} <= set(flags)


@pytest.mark.parametrize('aperture', ['elliptical', 'circular'])
def test_known_flux(make_ccd, aperture):
    # two Petrosian radii of an exponential disc hold 99.4 % of its light
    ccd = make_ccd((141, 141), flux=1e5, sigma=0.3)
    flux = PetrosianFluxEstimator(aperture=aperture).predict(ccd)
    np.testing.assert_allclose(flux.value, 1e5, rtol=0.015)


def test_extent(estimator, make_ccd):
    ccd = make_ccd((101, 101), flux=1e5, sigma=0.3)
    small = PetrosianFluxEstimator(extent=1.0).measure(ccd)
    large = estimator.measure(ccd)
    assert small['flux'][0] < 0.95 * large['flux'][0]
    # the asymmetry's centre, which is found by iteration, does not depend on it
    np.testing.assert_allclose(small['petrosian_radius'], large['petrosian_radius'], rtol=1e-6)
    wide = PetrosianFluxEstimator(eta=0.1).measure(ccd)
    assert wide['petrosian_radius'][0] > large['petrosian_radius'][0]


def test_columns(estimator, make_ccd):
    ccd = make_ccd(wcs=True)
    table = estimator.measure([ccd, ccd])
    assert table.colnames[-3:] == ['petrosian_radius', 'axis_ratio', 'concentration']
    assert table['petrosian_radius'].unit == u.arcsec
    assert abs(table['axis_ratio'][0] - 0.7) < 0.1
    assert set(table.meta['versions']) >= {'photutils', 'statmorph'}


def fake(**attributes):
    """A class that statmorph might have given, with another flag or an error."""
    original = petrosian._morphology_class()

    class Fake(original):
        def __init__(self, *args, **kwargs):
            if 'error' in attributes:
                raise attributes['error']
            super().__init__(*args, **kwargs)
            self.flag = attributes['flag']

    return lambda: Fake


@pytest.mark.parametrize(
    ('attributes', 'name', 'text'),
    [
        ({'flag': 1}, None, None),
        ({'flag': 2}, 'OUT_OF_RANGE', None),
        ({'flag': 4}, 'FAILED', 'its flux is not positive'),
        ({'error': AssertionError()}, 'FAILED', 'an assertion failed'),
        ({'error': ValueError('odd pixels')}, 'FAILED', 'ValueError: odd pixels'),
    ],
)
def test_flag(estimator, make_ccd, monkeypatch, attributes, name, text):
    monkeypatch.setattr(petrosian, '_morphology_class', fake(**attributes))
    table = estimator.measure(make_ccd(), psf_fwhm=3.0)
    assert decode_flags(table['flags'])[0] == ((name,) if name else ())
    assert np.isnan(table['flux'][0]) == (name == 'FAILED')
    if text:
        assert text in table.meta['messages'][0]


def test_missing_package(estimator, make_ccd, monkeypatch):
    monkeypatch.setitem(sys.modules, 'statmorph', None)
    with pytest.raises(ImportError, match=r"statmorph is needed.*'astroflux\[compare\]'"):
        estimator.predict(make_ccd())


@pytest.mark.parametrize(
    ('params', 'text'),
    [
        ({'aperture': 'square'}, "aperture must be 'elliptical' or 'circular', got 'square'"),
        ({'eta': 1}, 'eta must be between 0 and 1, got 1'),
        ({'extent': 0}, 'extent must be positive, got 0'),
        ({'finder__n_sigma': -1}, 'n_sigma must be positive, got -1'),
    ],
)
def test_bad_params(make_ccd, params, text):
    with pytest.raises(ValueError, match=text):
        PetrosianFluxEstimator().set_params(**params).predict(make_ccd())
