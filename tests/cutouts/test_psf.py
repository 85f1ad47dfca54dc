# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The width of a PSF image, and what makes a PSF image."""

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import CCDData, NDData
from numpy.testing import assert_array_equal

from astroflux.cutouts import _psf, iter_cutouts
from astroflux.cutouts._psf import fwhm_of_image, known_psf
from astroflux.flags import MeasurementFlag as Flag

WIDTHS = (2.0, 2.5, 3.1, 3.3, 4.0, 6.0, 8.0)


def draw(profile, size, offset=(0, 0)):
    return profile.shift(*offset).drawImage(nx=size, ny=size, scale=1).array.astype(float)


@pytest.mark.parametrize('size', [42, 43, 64])
@pytest.mark.parametrize('fwhm', WIDTHS)
@pytest.mark.parametrize('kind', ['kolmogorov', 'moffat 2.5', 'moffat 3.5', 'moffat 5'])
def test_width_is_that_of_the_profile(kind, fwhm, size):
    galsim = pytest.importorskip('galsim')
    name, *beta = kind.split()
    if name == 'moffat':
        profile = galsim.Moffat(beta=float(beta[0]), fwhm=fwhm)
    else:
        profile = galsim.Kolmogorov(fwhm=fwhm)
    for offset in ((0, 0), (0.3, -0.2)):
        assert fwhm_of_image(draw(profile, size, offset)) == pytest.approx(fwhm, rel=0.04)
    sheared = profile.shear(g1=0.1)
    assert fwhm_of_image(draw(sheared, size)) == pytest.approx(fwhm, rel=0.04)


@pytest.mark.parametrize('fwhm', [2.3, 5.0])
def test_width_of_integrated_gaussian(fwhm):
    from scipy.special import erf

    sigma = fwhm / np.sqrt(8 * np.log(2))
    edges = np.arange(32) - 15.3
    side = np.diff(erf(edges / sigma / np.sqrt(2)))
    image = np.outer(side, side)
    assert fwhm_of_image(image) == pytest.approx(fwhm, rel=0.01)
    assert fwhm_of_image(1e-9 * image) == pytest.approx(fwhm, rel=0.01)


def test_width_stands_noise(gaussian_psf, rng):
    clean = fwhm_of_image(gaussian_psf)
    noisy = gaussian_psf + 0.01 * gaussian_psf.max() * rng.normal(size=gaussian_psf.shape)
    assert fwhm_of_image(noisy) == pytest.approx(clean, rel=0.03)


@pytest.mark.parametrize('shape', [(1, 1), (2, 2), (3, 5), (9, 9)])
def test_odd_images_give_a_number_or_nan(shape, rng):
    for image in (np.ones(shape), rng.random(shape), np.eye(*shape)):
        fwhm = fwhm_of_image(image / image.sum())
        assert np.isnan(fwhm) or fwhm > 0


def test_psf_is_remembered_by_content(gaussian_psf, monkeypatch):
    measured = []

    def count(psf):
        measured.append(psf)
        return fwhm_of_image(psf)

    monkeypatch.setattr(_psf, 'fwhm_of_image', count)
    _psf._known.cache_clear()
    first = known_psf(gaussian_psf)
    assert known_psf(gaussian_psf.copy()) is first
    assert not measured
    assert known_psf(gaussian_psf).fwhm == first.fwhm == fwhm_of_image(first.image)
    assert len(measured) == 1
    # The same object, with other content.
    gaussian_psf[:] = gaussian_psf**0.25
    assert known_psf(gaussian_psf).fwhm > 1.5 * first.fwhm


def test_order_in_memory_does_not_matter(gaussian_psf):
    lopsided = gaussian_psf * np.linspace(1, 2, len(gaussian_psf))
    one, other = known_psf(lopsided), known_psf(np.asfortranarray(lopsided))
    np.testing.assert_allclose(other.image, one.image, rtol=1e-14)
    assert other.fwhm == pytest.approx(one.fwhm)


def test_normalised_copy(gaussian_psf):
    before = gaussian_psf.copy()
    psf = known_psf(gaussian_psf.astype('>f4')).image
    assert psf.sum() == pytest.approx(1, rel=1e-12)
    assert psf.dtype.isnative
    assert not psf.flags.writeable
    assert_array_equal(gaussian_psf, before)


def test_psf_of_the_data_is_used_unless_there_is_a_keyword(stamp, gaussian_psf):
    wide = gaussian_psf**0.5
    item = NDData(stamp, psf=gaussian_psf)
    (own,) = iter_cutouts(item)
    assert own.psf_fwhm == pytest.approx(fwhm_of_image(gaussian_psf))
    assert own.psf.sum() == pytest.approx(1)
    assert own.flags == Flag.NOISE_ESTIMATED
    (keyword,) = iter_cutouts(item, psf=wide)
    assert keyword.psf_fwhm == pytest.approx(fwhm_of_image(wide))
    (number,) = iter_cutouts(item, psf_fwhm=3.25)
    assert number.psf_fwhm == 3.25
    assert_array_equal(number.psf, own.psf)


@pytest.mark.parametrize(
    'convert', [np.asarray, lambda p: p * u.adu, NDData, lambda p: CCDData(p, unit='')]
)
def test_kinds_of_psf(convert, stamp, gaussian_psf):
    (cutout,) = iter_cutouts(stamp, psf=convert(gaussian_psf))
    assert cutout.psf.sum() == pytest.approx(1)
    assert cutout.psf_fwhm == pytest.approx(fwhm_of_image(gaussian_psf))
