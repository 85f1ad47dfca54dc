# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Model and residual of a field, in a file."""

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.nddata import NDDataRef, StdDevUncertainty
from astropy.wcs import WCS

from astroflux import CNNFluxEstimator
from astroflux.estimators.field import FieldMeasurement


@pytest.fixture(scope='module')
def field():
    """A galaxy in a slice of a larger image, with a masked corner."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = 'RA---TAN', 'DEC--TAN'
    wcs.wcs.crval, wcs.wcs.crpix, wcs.wcs.cdelt = (150, 2), (100, 90), (-5e-5, 5e-5)
    y, x = np.mgrid[:120, :150]
    data = np.random.default_rng(1).normal(size=(120, 150))
    data += 60 * np.exp(-0.5 * ((x - 70) ** 2 + (y - 50) ** 2) / 4)
    mask = (x < 40) & (y < 35)
    whole = NDDataRef(
        data, unit=u.nJy, wcs=wcs, mask=mask, uncertainty=StdDevUncertainty(np.ones(data.shape))
    )
    whole.meta['OBJECT'] = 'Feld\nmit Ä'
    field = FieldMeasurement(
        CNNFluxEstimator(), whole[20:, 30:], [(40.0, 30.0)], passes=1, psf_fwhm=4.7
    )
    field.run()
    return field, wcs


@pytest.mark.parametrize('name', ['a.fits', 'a.fits.fz', 'a.fits.gz'])
def test_write_images(field, tmp_path, name):
    field, wcs = field
    path = tmp_path / name
    field.write_images(path)
    assert (path.read_bytes()[:2] == b'\x1f\x8b') == name.endswith('.gz')
    with fits.open(path) as hdus:
        told = hdus[0].header
        assert (told['METHOD'], told['WEIGHTS']) == ('CNNFluxEstimator', 'profile-5')
        assert (told['NSOURCES'], told['NMODELS'], told['NPASSES']) == (1, 1, 1)
        assert told['IMAGE'] == r'Feld\nmit \xc4'
        assert 'astroflux' in told['CREATOR']
        np.testing.assert_array_equal(hdus['MODEL'].data, field.model)
        np.testing.assert_array_equal(hdus['RESIDUAL'].data, field.residual)
        header = hdus['RESIDUAL'].header
        assert header['BUNIT'] == 'nJy'
        # pixels of the slice are those of the whole image, counted from another one
        there = WCS(header).pixel_to_world(40, 30)
    assert there.separation(wcs.pixel_to_world(70, 50)) < 1e-6 * u.arcsec
    with pytest.raises(FileExistsError, match='overwrite is not set'):
        field.write_images(path)
    field.write_images(path, overwrite=True)
    assert [each.name for each in tmp_path.iterdir()] == [name]


def test_what_is_left(field):
    """Image is model plus residual, but for masked pixels; the model leaves noise."""
    field, _ = field
    used = field.weight > 0
    assert not used[:15, :10].any()
    assert (field.residual[~used] == 0).all()
    assert field.model[30, 40] == pytest.approx(60, rel=0.1)
    assert np.std(field.residual[used]) == pytest.approx(1, abs=0.05)
