# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The photometric estimators give what photutils gives when called by hand."""

import warnings

import numpy as np
import photutils.segmentation as segmentation_module
import pytest
from astropy.convolution import convolve
from astropy.nddata import CCDData, StdDevUncertainty
from astropy.table import QTable
from photutils.aperture import CircularAperture, aperture_photometry
from photutils.segmentation import SourceCatalog, make_2dgaussian_kernel

from astroflux import ApertureFluxEstimator, KronFluxEstimator, decode_flags
from astroflux.estimators import SourceFinder


def kron_by_hand(ccd, position, *, fwhm, mask=None, deblend=True):
    """As in the documentation of photutils, all segments deblended and measured."""
    noise = ccd.uncertainty.array
    smooth = convolve(
        ccd.data, make_2dgaussian_kernel(fwhm, size=2 * int(np.ceil(1.5 * fwhm)) + 1), mask=mask
    )
    image = segmentation_module.detect_sources(smooth, 1.5 * noise, 5, mask=mask)
    if deblend:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            image = segmentation_module.deblend_sources(smooth, image, 5, progress_bar=False)
    catalog = SourceCatalog(ccd.data, image, convolved_data=smooth, error=noise, mask=mask)
    label = image.data[round(position[1]), round(position[0])]
    source = catalog.select_label(label)
    return source.kron_flux, source.kron_flux_err


def crowded(make_ccd, draw_galaxy, *, mask=None):
    ccd = make_ccd((91, 81), flux=3000.0, mask=mask)
    ccd.data += draw_galaxy((91, 81), flux=2500.0, scale=1.5, centre=(51.0, 50.0))
    ccd.data += draw_galaxy((91, 81), flux=1500.0, scale=1.5, centre=(15.0, 70.0))
    ccd.data += draw_galaxy((91, 81), flux=1800.0, scale=1.5, centre=(22.0, 66.0))
    return ccd


@pytest.mark.parametrize('fwhm', [3.0, 4.7])
@pytest.mark.parametrize('deblend', [True, False])
def test_kron_crowded(make_ccd, draw_galaxy, fwhm, deblend):
    ccd = crowded(make_ccd, draw_galaxy)
    flux, flux_err = kron_by_hand(ccd, (40, 45), fwhm=fwhm, deblend=deblend)
    table = KronFluxEstimator(finder=SourceFinder(deblend=deblend)).measure(ccd, psf_fwhm=fwhm)
    np.testing.assert_allclose(table['flux'][0].value, flux, rtol=1e-10)
    np.testing.assert_allclose(table['flux_err'][0].value, flux_err, rtol=1e-10)
    assert ('NEIGHBOUR' in decode_flags(table['flags'])[0]) == deblend


def test_kron_position(make_ccd, draw_galaxy):
    ccd = crowded(make_ccd, draw_galaxy)
    flux, _ = kron_by_hand(ccd, (22, 66), fwhm=3.0)
    measured = KronFluxEstimator().predict(ccd, positions=(22, 66))
    np.testing.assert_allclose(measured.value, flux, rtol=1e-10)


def test_kron_mask_and_noise_map(make_ccd, draw_galaxy):
    mask = np.zeros((91, 81), bool)
    mask[40:44, 50:60] = True
    ccd = crowded(make_ccd, draw_galaxy, mask=mask)
    noise = np.linspace(0.8, 1.3, 91)[:, np.newaxis] * np.ones((91, 81))
    ccd = CCDData(ccd.data, unit='adu', mask=mask, uncertainty=StdDevUncertainty(noise))
    flux, flux_err = kron_by_hand(ccd, (40, 45), fwhm=3.0, mask=mask)
    table = KronFluxEstimator().measure(ccd)
    np.testing.assert_allclose(table['flux'][0].value, flux, rtol=1e-10)
    np.testing.assert_allclose(table['flux_err'][0].value, flux_err, rtol=1e-10)


@pytest.mark.parametrize('radius', [3.3, 12.0, 45.0])
def test_aperture(make_ccd, radius):
    mask = np.zeros((61, 75), bool)
    mask[30:33, 40:45] = True
    ccd = make_ccd((61, 75), mask=mask)
    position = (36.2, 31.4)
    by_hand = aperture_photometry(
        ccd.data, CircularAperture(position, r=radius), error=ccd.uncertainty.array, mask=mask
    )
    table = ApertureFluxEstimator(radius=radius).measure(ccd, positions=position)
    assert isinstance(table, QTable)
    np.testing.assert_allclose(table['flux'].value, by_hand['aperture_sum'], rtol=1e-12)
    np.testing.assert_allclose(table['flux_err'].value, by_hand['aperture_sum_err'], rtol=1e-12)
    outside = 'OUT_OF_RANGE' in decode_flags(table['flags'])[0]
    assert outside == (radius > 30)
