# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""PSF images as people have them, and stamps whose galaxy is not in the middle."""

from functools import cache

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData, NDData, StdDevUncertainty
from click.testing import CliRunner
from photutils.psf import ImagePSF
from scipy.signal import fftconvolve

from astroflux.cli import main
from astroflux.cutouts import iter_cutouts, write_cutout
from astroflux.cutouts._psf import known_psf
from astroflux.estimators.methods import available_methods, make_estimator
from astroflux.flags import MeasurementFlag as Flag

# Pixels are drawn as the mean of so many along an axis.
FINE = 24

# methods that take no second a galaxy, and one regression of three
FAST = [name for name in available_methods() if name not in ('forest', 'boosting')]


@cache
def moffat(fwhm=4.0, beta=3.5, size=41, oversampling=1, offset=(0.0, 0.0)):
    """Return a Moffat profile averaged over pixels, at the centers of finer ones."""
    n = FINE // oversampling
    fine = (size * n, size * n)
    y, x = (np.mgrid[: fine[0], : fine[1]] - (size * n - 1) / 2) / FINE
    alpha = fwhm / 2 / np.sqrt(2 ** (1 / beta) - 1)
    profile = (1 + ((x - offset[0]) ** 2 + (y - offset[1]) ** 2) / alpha**2) ** -beta
    # the means over FINE x FINE about the middle of each block of n x n, by summed areas
    reach = (FINE - n) // 2
    wide = np.pad(profile, reach, mode='edge')
    sums = np.pad(wide.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    start = n * np.arange(size)
    stop = start + n + 2 * reach
    return (
        sums[np.ix_(stop, stop)]
        - sums[np.ix_(start, stop)]
        - sums[np.ix_(stop, start)]
        + sums[np.ix_(start, start)]
    ) / FINE**2


def galaxy(snr, *, psf=None, scale=2.5, size=101, offset=(0, 0), seed=0):
    """Return an exponential galaxy of a S/N in white noise of 1; a star for a scale of 0."""
    psf = moffat(size=61) if psf is None else psf
    y, x = np.mgrid[:size, :size] - size // 2
    x, y = x - offset[0], y - offset[1]
    if scale:
        image = np.exp(-np.hypot(x, y / 0.7) / scale)
    else:
        image = ((x == 0) & (y == 0)).astype(float)
    image = fftconvolve(image, psf, mode='same')
    image *= snr / np.sqrt((image**2).sum())
    image += np.random.default_rng(seed).normal(size=image.shape)
    return CCDData(image, unit='adu', uncertainty=StdDevUncertainty(np.ones(image.shape)))


def flags_of(item, **options):
    (cutout,) = iter_cutouts(item, **options)
    return Flag(cutout.flags)


# -- pedestals of PSF images ----------------------------------------------------------------------


@pytest.mark.parametrize('part', [0.001, 0.003, 0.01])
@pytest.mark.parametrize('size', [41, 61])
def test_pedestal_of_a_psf_image_is_subtracted_and_told(size, part):
    estimator = make_estimator('cnn')
    items = [galaxy(snr, scale=scale, seed=scale) for snr in (100, 1000) for scale in (1, 3)]
    clean = moffat(size=size)
    wanted = estimator.measure(items, psf=clean)
    table = estimator.measure(items, psf=clean + part * clean.max())
    assert (table['flags'] & Flag.PSF_SUSPECT != 0).all()
    assert not (wanted['flags'] & Flag.PSF_SUSPECT).any()
    change = (table['flux'] - wanted['flux']) / wanted['flux_err']
    assert np.abs(change).max() < 1


def test_negative_pedestal_is_told():
    psf = moffat(size=61)
    raised = known_psf(psf - 0.002 * psf.max())
    assert raised.had_pedestal
    np.testing.assert_allclose(raised.image, known_psf(psf).image, atol=1e-4 * psf.max())


@pytest.mark.parametrize('fwhm', [2.5, 4.0, 6.0])
@pytest.mark.parametrize('beta', [2.2, 3.5, 50.0])
def test_real_wings_of_a_psf_image_are_left_alone(beta, fwhm):
    for size in (25, 41, 61):
        psf = moffat(fwhm, beta, size, offset=(0.2, -0.1))
        known = known_psf(psf)
        assert not known.had_pedestal
        np.testing.assert_allclose(known.image, psf / psf.sum(), rtol=1e-12)


@pytest.mark.parametrize('fwhm', [2.5, 4.0, 6.0])
def test_real_wings_of_the_atmosphere_are_left_alone(fwhm):
    galsim = pytest.importorskip('galsim')
    for size in (25, 41, 61, 101):
        profile = galsim.Kolmogorov(fwhm=fwhm).shear(g1=0.05)
        psf = profile.drawImage(nx=size, ny=size, scale=1).array.astype(float)
        assert not known_psf(psf).had_pedestal


def test_noise_of_a_psf_image_is_no_pedestal():
    psf = moffat(size=41)
    for seed in range(50):
        noise = np.random.default_rng(seed).normal(size=psf.shape)
        assert not known_psf(psf + 0.003 * psf.max() * noise).had_pedestal


# -- oversampled PSF images -----------------------------------------------------------------------


@pytest.mark.parametrize('oversampling', [2, 3, 4])
@pytest.mark.parametrize('name', FAST)
def test_oversampled_psf_is_that_of_the_pixels(name, oversampling):
    estimator = make_estimator(name)
    item = galaxy(100)
    wanted = estimator.measure(item, psf=moffat(size=41))[0]
    for size in (41 * oversampling, 41 * oversampling - 1):
        fine = moffat(size=size, oversampling=oversampling)
        for options in (
            {'psf': fine, 'oversampling': oversampling},
            {'psf': ImagePSF(fine, oversampling=oversampling)},
        ):
            row = estimator.measure(item, **options)[0]
            assert abs(row['flux'] - wanted['flux']) < 0.1 * wanted['flux_err']
            assert row['flags'] == wanted['flags']


def test_centroid_of_an_oversampled_psf_counts():
    wanted = known_psf(moffat(size=31)).image
    for offset in ((0, 0), (0.25, 0.5), (-0.4, 0.1)):
        fine = moffat(size=124, oversampling=4, offset=offset)
        psf = known_psf(fine, (4, 4)).image
        assert psf.shape[0] % 2 == psf.shape[1] % 2 == 1
        size = min(psf.shape)
        cut = [slice((n - size) // 2, (n + size) // 2) for n in psf.shape]
        edge = (31 - size) // 2
        middle = wanted[edge : 31 - edge, edge : 31 - edge]
        np.testing.assert_allclose(psf[tuple(cut)], middle, atol=0.003 * wanted.max())


def test_oversampling_is_of_the_own_psf_of_a_cutout_too(tmp_path):
    item, fine = galaxy(100), moffat(size=123, oversampling=3)
    (wanted,) = iter_cutouts(item, psf=fine, oversampling=3)
    own = NDData(item, psf=fine)
    (of_data,) = iter_cutouts(own, oversampling=3)
    (of_model,) = iter_cutouts(NDData(item, psf=ImagePSF(fine, oversampling=3)))
    of_each, of_other = iter_cutouts([item, item], psf=[fine, None], oversampling=(3, 3))
    for cutout in (of_data, of_model, of_each):
        np.testing.assert_array_equal(cutout.psf, wanted.psf)
    assert of_other.psf is None
    # a cutout that is ready has its PSF in its own pixels
    (again,) = iter_cutouts(wanted, positions=(50, 50), oversampling=3)
    np.testing.assert_array_equal(again.psf, wanted.psf)
    path = tmp_path / 'cutout.fits'
    write_cutout(CCDData(item, psf=fine), path)
    with fits.open(path) as hdus:
        assert 'PSF' in hdus
    command = ['measure', str(path), '-o', str(tmp_path / 'a.ecsv'), '--psf-oversampling', '3']
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    flux = make_estimator('cnn').predict(item, psf=fine, oversampling=3)
    text = (tmp_path / 'a.ecsv').read_text()
    assert f'{flux.value:.5g}'[:5] in text


@pytest.mark.parametrize('oversampling', [0, -2, 2.5, 'two', [2, 2, 2], None])
def test_oversampling_that_is_none(oversampling):
    with pytest.raises(ValueError, match='oversampling must be 1 or a larger integer'):
        iter_cutouts(galaxy(100), psf=moffat(), oversampling=oversampling)


# -- PSFs that are broader than the source --------------------------------------------------------


@pytest.mark.parametrize('oversampling', [2, 3, 4])
@pytest.mark.parametrize('scale', [0, 0.8])
def test_psf_broader_than_the_source_is_told(scale, oversampling):
    """As it is if nobody says that it is oversampled."""
    fine = moffat(size=41 * oversampling, oversampling=oversampling)
    items = [galaxy(60, scale=scale, seed=seed) for seed in range(20)]
    by_image = [flags_of(item, psf=fine) for item in items]
    by_width = [flags_of(item, psf_fwhm=4.0 * oversampling) for item in items]
    for flags in (by_image, by_width):
        assert np.mean([Flag.PSF_SUSPECT in each for each in flags]) > 0.95


@pytest.mark.parametrize('snr', [5, 20, 100, 1000])
def test_stars_are_as_sharp_as_their_psf(snr):
    told = []
    for seed in range(40):
        psf = moffat((2.0, 4.0)[seed % 2], (2.5, 4.0)[seed % 3 // 2], offset=(0.1 * (seed % 5), 0))
        star = galaxy(snr, psf=psf, scale=0, seed=seed)
        told += [flags_of(star, psf=moffat((2.0, 4.0)[seed % 2], (2.5, 4.0)[seed % 3 // 2]))]
    assert not any(Flag.PSF_SUSPECT in each for each in told)


def test_too_narrow_psf_is_not_told():
    """A galaxy may be as much broader than the PSF as it likes."""
    assert Flag.PSF_SUSPECT not in flags_of(galaxy(300), psf_fwhm=2.0)


# -- stamps whose light is elsewhere --------------------------------------------------------------


@pytest.mark.parametrize('name', FAST)
def test_light_elsewhere_is_told_by_all_methods(name):
    estimator = make_estimator(name)
    for scale in (1.5, 5):
        item = galaxy(500, scale=scale, size=201, offset=(25, 0))
        row = estimator.measure(item, psf_fwhm=4.0)[0]
        assert row['flags'] & Flag.OFF_CENTRE
        known = estimator.measure(item, psf_fwhm=4.0, positions=(125, 100))[0]
        assert not known['flags'] & Flag.OFF_CENTRE


def test_position_that_is_given_is_not_doubted():
    item = galaxy(500, size=201, offset=(25, 0))
    assert Flag.OFF_CENTRE in flags_of(item)
    assert Flag.OFF_CENTRE not in flags_of(item, positions=(100, 100))


@pytest.mark.parametrize('ratio', [3, 10, 20])
def test_galaxy_beside_a_brighter_one_is_not_elsewhere(ratio):
    told = []
    for seed in range(20):
        offset = 15 * np.cos(1.3 * seed), 15 * np.sin(1.3 * seed)
        item = galaxy(50, seed=seed)
        item.data = item.data + galaxy(50 * ratio, offset=offset, seed=seed + 100).data
        told.append(Flag.OFF_CENTRE in flags_of(item, psf_fwhm=4.0))
    assert np.mean(told) <= 0.05


def test_blank_stamp_is_not_elsewhere():
    pixels = np.random.default_rng(0).normal(size=(101, 101))
    blank = NDData(pixels, uncertainty=StdDevUncertainty(np.ones(pixels.shape)))
    assert Flag.OFF_CENTRE not in flags_of(blank)
