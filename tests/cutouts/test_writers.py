# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What is written is read back equal."""

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData, NDData, StdDevUncertainty, VarianceUncertainty
from numpy.testing import assert_allclose, assert_array_equal

from astroflux.cutouts import read_cutout, write_cutout


@pytest.mark.parametrize('unit', ['adu', 'nJy', 'nmgy', '1e-17 erg / (s cm2 Angstrom)', 'MJy / sr'])
@pytest.mark.parametrize('dtype', ['f4', 'f8', 'i2'])
def test_round_trip(unit, dtype, stamp, gaussian_psf, sky, tmp_path):
    path = tmp_path / 'cutout.fits'
    ccd = CCDData(
        (10 * stamp).astype(dtype),
        unit=unit,
        mask=stamp > 20,
        uncertainty=VarianceUncertainty(np.full(stamp.shape, 3.3, 'f4')),
        wcs=sky,
        psf=gaussian_psf,
        meta={'zeropoint': 27.0, 'id': 12, 'truth of the flux': 1234.5, 'list': [1, 2]},
    )
    write_cutout(ccd, path)
    found = read_cutout(path)
    assert_array_equal(found.data, ccd.data)
    assert found.data.dtype == ccd.data.dtype
    assert_array_equal(found.mask, ccd.mask)
    assert_array_equal(found.uncertainty.array, np.sqrt(ccd.uncertainty.array, dtype=float))
    assert_array_equal(found.psf, gaussian_psf)
    assert found.unit == ccd.unit
    assert found.meta['zeropoint'] == pytest.approx(27, abs=1e-12)
    assert found.meta['id'] == 12
    assert found.meta['truth of the flux'] == 1234.5
    x, y = [3, 30], [4, 20]
    assert_allclose(found.wcs.pixel_to_world_values(x, y), sky.pixel_to_world_values(x, y))
    # Once more, and nothing drifts.
    again = tmp_path / 'again.fits'
    write_cutout(found, again)
    assert read_cutout(again).meta == found.meta
    assert_array_equal(read_cutout(again).uncertainty.array, found.uncertainty.array)


def test_layout(stamp, tmp_path):
    path = tmp_path / 'cutout.fits'
    nddata = NDData(
        stamp, mask=stamp > 20, uncertainty=VarianceUncertainty(stamp**2), meta={'zeropoint': 27}
    )
    write_cutout(nddata, path)
    with fits.open(path) as hdus:
        assert [hdu.name for hdu in hdus] == ['PRIMARY', 'IMAGE', 'MASK', 'VARIANCE']
        assert hdus[0].header['FLUXMAG0'] == pytest.approx(10**10.8)
        assert hdus['MASK'].header['MP_BAD'] == 0
        assert_array_equal(hdus['MASK'].data, stamp > 20)


def test_compressed_by_tiles_with_planes_of_a_mask(stamp, gaussian_psf, tmp_path):
    path = tmp_path / 'cutout.fits.fz'
    noisy = stamp + np.random.default_rng(3).normal(size=stamp.shape)
    noise = StdDevUncertainty(np.ones(stamp.shape, 'f4'))
    ccd = CCDData(noisy.astype('f4'), unit='nJy', uncertainty=noise, psf=gaussian_psf)
    full, bright = stamp > 20, stamp > 3
    write_cutout(ccd, path, mask_planes={'SAT': full, 'DETECTED': bright})
    found = read_cutout(path)
    assert 0 < abs(found.data - ccd.data).max() < 1 / 8
    assert_array_equal(found.psf, gaussian_psf)
    assert_array_equal(found.uncertainty.array, 1)
    # what is detected can be used
    assert_array_equal(found.mask, full)
    assert_array_equal(read_cutout(path, mask_planes=['DETECTED']).mask, bright)
    with fits.open(path, disable_image_compression=True) as hdus:
        assert hdus['IMAGE'].header['ZCMPTYPE'] == 'RICE_1'
        assert hdus['PSF'].is_image


def test_std_becomes_variance_in_the_unit_of_the_data(stamp, tmp_path):
    path = tmp_path / 'cutout.fits'
    uncertainty = StdDevUncertainty(np.full(stamp.shape, 2000.0), unit='uJy')
    write_cutout(CCDData(stamp, unit='mJy', uncertainty=uncertainty), path)
    found = read_cutout(path)
    with fits.open(path) as hdus:
        assert_allclose(hdus['VARIANCE'].data, 4.0, rtol=1e-12)
    assert type(found.uncertainty) is StdDevUncertainty
    assert_allclose(found.uncertainty.array, 2.0, rtol=1e-12)
    assert found.uncertainty.unit == u.mJy


def test_what_is_not_there_is_left_out(stamp, tmp_path):
    path = tmp_path / 'cutout.fits'
    write_cutout(NDData(stamp), path)
    found = read_cutout(path)
    assert found.mask is found.uncertainty is found.psf is found.wcs is None
    assert found.unit == u.adu


def test_existing_files_and_wrong_data(stamp, tmp_path):
    path = tmp_path / 'cutout.fits'
    write_cutout(NDData(stamp), path)
    with pytest.raises(OSError, match='already exists'):
        write_cutout(NDData(2 * stamp), path)
    assert_array_equal(read_cutout(path).data, stamp)
    write_cutout(NDData(2 * stamp), path, overwrite=True)
    assert_array_equal(read_cutout(path).data, 2 * stamp)
    with pytest.raises(ValueError, match=r'must be a 2-d image, got the shape \(2, 33, 41\)'):
        write_cutout(NDData(np.stack([stamp] * 2)), tmp_path / 'stack.fits')
