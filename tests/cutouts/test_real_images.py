# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Real survey cutouts, when their folder is given."""

import os
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData, NDData, StdDevUncertainty

from astroflux.cutouts import iter_cutouts, noise_growth, read_cutout, write_cutout
from astroflux.cutouts._psf import known_psf
from astroflux.flags import MeasurementFlag as Flag

FOLDER = os.environ.get('ASTROFLUX_REAL_DATA')
pytestmark = pytest.mark.skipif(
    FOLDER is None, reason='ASTROFLUX_REAL_DATA does not name a folder of real images'
)


@pytest.mark.parametrize(
    ('name', 'shape', 'noise'),
    [('hsc_i_galaxy.fits', (358, 358), 0.0462), ('hsc_r_field.fits', (466, 448), 0.0520)],
)
def test_hsc_cutout_opens_in_one_call(name, shape, noise, tmp_path):
    ccd = read_cutout(Path(FOLDER) / name)
    assert isinstance(ccd, CCDData)
    assert ccd.shape == ccd.mask.shape == shape
    assert ccd.unit == u.adu
    assert type(ccd.uncertainty) is StdDevUncertainty
    assert np.median(ccd.uncertainty.array) == pytest.approx(noise, rel=0.01)
    assert ccd.meta['zeropoint'] == pytest.approx(27, abs=1e-9)
    # Neither sources nor repaired pixels are masked.
    assert ccd.mask.sum() == 0
    (cutout,) = iter_cutouts(ccd)
    # the halo of the large galaxy reaches the edge of the one, the other has none in its middle
    told = Flag.SKY_RESIDUAL if name == 'hsc_i_galaxy.fits' else Flag.OFF_CENTRE
    assert cutout.flags == Flag.PSF_UNKNOWN | told
    assert cutout.pixel_scale == pytest.approx(0.168, rel=2e-4)
    path = tmp_path / 'again.fits'
    write_cutout(ccd, path)
    assert np.array_equal(read_cutout(path).data, ccd.data)


@pytest.mark.parametrize('name', ['hsc_i_galaxy.fits', 'hsc_r_field.fits'])
def test_estimated_noise_of_a_coadd(name):
    ccd = read_cutout(Path(FOLDER) / name)
    (cutout,) = iter_cutouts(NDData(ccd.data))
    # Its noise is correlated, which the variance plane does not know.
    ratio = cutout.noise[0, 0] / np.median(ccd.uncertainty.array)
    assert ratio == pytest.approx(1, abs=0.1)


def test_correlation_of_a_coadd():
    ccd = read_cutout(Path(FOLDER) / 'hsc_r_field.fits')
    assert noise_growth(ccd.data, ccd.mask) == pytest.approx(1.2, abs=0.03)
    (cutout,) = iter_cutouts(ccd, noise_correlation='estimate', positions=(100, 200))
    assert cutout.noise_growth == pytest.approx(1.2, abs=0.03)


@pytest.mark.parametrize(('number', 'fwhm'), [(1, 2.59), (2, 3.10), (3, 2.91)])
def test_hsc_galaxies(number, fwhm):
    with np.load(Path(FOLDER) / f'hsc_galaxy_{number}.npz') as file:
        image, mask, sigma, psf = (file[k] for k in ('image', 'mask', 'sigma', 'psf'))
    item = NDData(image, mask=mask > 0, uncertainty=StdDevUncertainty(sigma), psf=psf, unit='adu')
    (cutout,) = iter_cutouts(item)
    assert cutout.psf_fwhm == pytest.approx(fwhm, abs=0.01)
    assert cutout.flags & ~Flag.MASKED_CORE == Flag.MASKED_PIXELS
    assert np.array_equal(cutout.noise[~cutout.mask], sigma[mask == 0].astype(float))
    (estimated,) = iter_cutouts(NDData(image, mask=mask > 0))
    typical = np.median(sigma[mask == 0])
    assert estimated.noise[0, 0] / typical == pytest.approx(1, abs=0.1)


def test_any_image_of_a_file_by_name():
    path = Path(FOLDER) / 'hst_cosmos_galaxies.fits'
    galaxy, psf = read_cutout(path, hdu='GAL27', unit='electron/s'), read_cutout(path, hdu='PSF27')
    (cutout,) = iter_cutouts(galaxy)
    assert cutout.unit == u.electron / u.s
    assert psf.shape == (65, 51)


def test_real_psfs_have_no_pedestal():
    psfs = []
    for path in sorted(Path(FOLDER).glob('hsc_*.npz')):
        with np.load(path) as arrays:
            images = [arrays[name] for name in arrays if 'psf' in name]
        psfs += [psf for image in images for psf in np.atleast_3d(image.T).T]
    with fits.open(Path(FOLDER) / 'hst_cosmos_galaxies.fits') as hdus:
        psfs += [hdu.data for hdu in hdus if hdu.name.startswith('PSF')]
    assert len(psfs) > 30
    assert not any(known_psf(psf).had_pedestal for psf in psfs)
    raised = [known_psf(psf + 0.005 * np.max(psf)).had_pedestal for psf in psfs[:13]]
    assert all(raised)
