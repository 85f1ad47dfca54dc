# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Cutouts from FITS files of several makers, good and damaged."""

import gzip

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData, InverseVariance, StdDevUncertainty, VarianceUncertainty
from numpy.testing import assert_allclose, assert_array_equal

from astroflux.cutouts import CutoutReadError, iter_cutouts, read_cutout
from astroflux.cutouts._headers import unit_of
from astroflux.flags import MeasurementFlag as Flag

PLANES = {'BAD': 0, 'SAT': 1, 'INTRP': 2, 'CR': 3, 'EDGE': 4, 'DETECTED': 5, 'NO_DATA': 8}


@pytest.fixture
def save(tmp_path):
    def write(*hdus, name='cutout.fits', **kwargs):
        path = tmp_path / name
        fits.HDUList(list(hdus)).writeto(path, **kwargs)
        return path

    return write


def survey_hdus(stamp, *, named=True):
    """The HDUs of an HSC cutout, where pixel (0, i) has the i-th mask plane set alone."""
    mask = np.zeros(stamp.shape, np.int32)
    mask[0, : len(PLANES)] = [1 << bit for bit in PLANES.values()]
    primary = fits.PrimaryHDU()
    primary.header['FLUXMAG0'] = 10 ** (0.4 * 27)
    hdus = [fits.ImageHDU(a) for a in (stamp.astype('f4'), mask, np.full(stamp.shape, 4, 'f4'))]
    for name, bit in PLANES.items():
        hdus[1].header[f'HIERARCH MP_{name}'] = bit
    if named:
        for hdu, name in zip(hdus, ('IMAGE', 'MASK', 'VARIANCE'), strict=True):
            hdu.header['EXTTYPE'] = name
    return primary, *hdus


@pytest.mark.parametrize('named', [True, False])
def test_survey_layout(named, stamp, save):
    ccd = read_cutout(save(*survey_hdus(stamp, named=named)))
    assert isinstance(ccd, CCDData)
    assert_array_equal(ccd.data, stamp.astype('f4'))
    assert ccd.data.dtype.isnative
    assert ccd.unit == u.adu
    assert type(ccd.uncertainty) is VarianceUncertainty
    assert_array_equal(ccd.uncertainty.array, 4)
    assert ccd.meta['zeropoint'] == pytest.approx(27, abs=1e-12)
    masked = [name for name, bad in zip(PLANES, ccd.mask[0], strict=False) if bad]
    assert masked == ['BAD', 'SAT', 'NO_DATA']
    assert ccd.mask.sum() == 3


def test_mask_planes_of_choice(stamp, save):
    path = save(*survey_hdus(stamp))
    ccd = read_cutout(path, mask_planes=['cr', 'MP_EDGE'])
    assert np.argwhere(ccd.mask).tolist() == [[0, 3], [0, 4]]
    assert not read_cutout(path, mask_planes=()).mask.any()
    with pytest.raises(ValueError, match=r"the mask has no plane \['GHOST'\], only \['BAD', 'CR'"):
        read_cutout(path, mask_planes=['BAD', 'GHOST'])


def test_undefined_mask_pixels_are_masked(stamp, save):
    hdus = survey_hdus(stamp)
    hdus[2].data[5, 6] = 2147483647
    hdus[2].header['BLANK'] = 2147483647
    mask = read_cutout(save(*hdus)).mask
    assert mask[5, 6]
    assert mask.sum() == 4


def test_plain_image(stamp, save, sky):
    primary = fits.PrimaryHDU(stamp, header=sky.to_header())
    primary.header['OBJECT'] = 'NGC 1'
    ccd = read_cutout(save(primary))
    assert_array_equal(ccd.data, stamp)
    assert ccd.mask is ccd.uncertainty is ccd.psf is None
    assert ccd.unit == u.adu
    assert 'zeropoint' not in ccd.meta
    assert ccd.meta['OBJECT'] == 'NGC 1'
    assert 'CRPIX1' not in ccd.meta
    assert_allclose(ccd.wcs.pixel_scale_matrix, sky.pixel_scale_matrix)


def test_compressed(stamp, save):
    data = (100 * stamp).astype('i2')
    tiles = fits.CompImageHDU(data, compression_type='RICE_1')
    for path in (
        save(fits.PrimaryHDU(), tiles, name='tiles.fits'),
        save(fits.PrimaryHDU(data), name='whole.fits.gz'),
    ):
        assert_array_equal(read_cutout(path).data, data)


def test_unsigned_integers_and_axes_of_one(save, rng):
    data = rng.integers(0, 60000, (1, 1, 12, 13)).astype('u2')
    ccd = read_cutout(save(fits.PrimaryHDU(data)))
    assert_array_equal(ccd.data, data[0, 0])


def test_table_before_the_image(stamp, save):
    table = fits.BinTableHDU.from_columns([fits.Column('x', 'D', array=[1.0])])
    assert_array_equal(
        read_cutout(save(fits.PrimaryHDU(), table, fits.ImageHDU(stamp))).data, stamp
    )


@pytest.mark.parametrize(
    ('name', 'kind'),
    [
        ('VARIANCE', VarianceUncertainty),
        ('ERR', StdDevUncertainty),
        ('SIGMA', StdDevUncertainty),
        ('INVVAR', InverseVariance),
        ('IVAR', InverseVariance),
    ],
)
def test_kinds_of_noise(name, kind, stamp, save):
    noise = fits.ImageHDU(np.full(stamp.shape, 0.25), name=name)
    path = save(fits.PrimaryHDU(), fits.ImageHDU(stamp, name='SCI'), noise)
    assert type(read_cutout(path).uncertainty) is kind
    (cutout,) = iter_cutouts(path)
    expected = {VarianceUncertainty: 0.5, StdDevUncertainty: 0.25, InverseVariance: 2}[kind]
    assert_allclose(cutout.noise, expected, rtol=1e-12)


def test_weights_mask_but_give_no_noise(stamp, save):
    weight = np.ones(stamp.shape)
    weight[3, 4] = 0
    ccd = read_cutout(save(fits.PrimaryHDU(stamp), fits.ImageHDU(weight, name='WHT')))
    assert ccd.uncertainty is None
    assert np.argwhere(ccd.mask).tolist() == [[3, 4]]


def test_unnamed_planes_mask_where_not_zero(stamp, save):
    dq = np.zeros(stamp.shape, 'i2')
    dq[7, 8] = 512
    ccd = read_cutout(save(fits.PrimaryHDU(stamp), fits.ImageHDU(dq, name='DQ')))
    assert np.argwhere(ccd.mask).tolist() == [[7, 8]]


@pytest.mark.parametrize('kind', [StdDevUncertainty, VarianceUncertainty, InverseVariance])
def test_files_of_ccddata(kind, stamp, gaussian_psf, sky, tmp_path):
    mask = stamp > 10
    uncertainty = kind(np.full(stamp.shape, 3.0))
    ccd = CCDData(
        stamp, unit='electron', mask=mask, uncertainty=uncertainty, wcs=sky, psf=gaussian_psf
    )
    path = tmp_path / 'ccd.fits'
    ccd.write(path)
    found = read_cutout(path)
    assert_array_equal(found.data, stamp)
    assert_array_equal(found.mask, mask)
    assert_array_equal(found.psf, gaussian_psf)
    assert type(found.uncertainty) is kind
    assert found.unit == u.electron


def test_hdu_and_unit_of_choice(stamp, save):
    hdus = [
        fits.PrimaryHDU(stamp),
        fits.ImageHDU(2 * stamp, name='GAL7'),
        fits.ImageHDU(name='NIL'),
    ]
    hdus[0].header['BUNIT'] = 'Jy'
    path = save(*hdus)
    assert_array_equal(read_cutout(path, hdu=1).data, 2 * stamp)
    assert_array_equal(read_cutout(path, hdu='GAL7').data, 2 * stamp)
    assert read_cutout(path).unit == u.Jy
    assert read_cutout(path, unit='nJy').unit == u.nJy
    with pytest.raises(CutoutReadError, match="there is no HDU 'GAL8' among 0 'PRIMARY', 1 'GAL7'"):
        read_cutout(path, hdu='GAL8')
    with pytest.raises(CutoutReadError, match="HDU 'NIL' is not a 2-d image"):
        read_cutout(path, hdu='NIL')


@pytest.mark.parametrize(
    ('text', 'unit'),
    [
        ('ADU', u.adu),
        ('counts', u.ct),
        ('COUNTS/S', u.ct / u.s),
        ('counts/sec', u.ct / u.s),
        ('ELECTRONS/S', u.electron / u.s),
        ('e-/s', u.electron / u.s),
        ('e-', u.electron),
        ('nanomaggy', u.Unit('nmgy')),
        ('nanomaggies', u.Unit('nmgy')),
        ('MJy/sr', u.MJy / u.sr),
        ('1e-17 erg/s/cm2/Angstrom', 1e-17 * u.Unit('erg / (s cm2 Angstrom)')),
        (' DN ', u.DN),
    ],
)
def test_spellings_of_units(text, unit):
    assert unit_of(text) == unit


@pytest.mark.parametrize(
    ('key', 'value', 'zeropoint'),
    [
        ('FLUXMAG0', 63095734448.0194, 27.0),
        ('MAGZERO', 22.5, 22.5),
        ('MAGZPT', 25, 25.0),
        ('ZEROPNT', 30.1, 30.1),
        ('MAGZERO', 'unknown', None),
        ('FLUXMAG0', 0.0, None),
        ('GAIN', 2.5, None),
    ],
)
def test_zero_points(key, value, zeropoint, stamp, save):
    primary = fits.PrimaryHDU(stamp)
    primary.header[key] = value
    found = read_cutout(save(primary)).meta.get('zeropoint')
    assert found is None if zeropoint is None else found == pytest.approx(zeropoint, abs=1e-9)


def test_broken_wcs_is_told_and_left_out(stamp, save):
    primary = fits.PrimaryHDU(stamp)
    primary.header.update({'CTYPE1': 'RA---TAN', 'CTYPE2': 'DEC--SIN', 'CRVAL1': 10.0})
    path = save(primary)
    with pytest.warns(UserWarning, match=r'the WCS of .* cannot be used'):
        ccd = read_cutout(path)
    assert ccd.wcs is None
    assert_array_equal(ccd.data, stamp)


class TestDamage:
    def test_missing(self, tmp_path):
        path = tmp_path / 'none.fits'
        with pytest.raises(CutoutReadError, match=r'none\.fits.: there is no such file'):
            read_cutout(path)
        assert issubclass(CutoutReadError, OSError)

    def test_directory(self, tmp_path):
        with pytest.raises(CutoutReadError, match='it is a directory'):
            read_cutout(tmp_path)

    @pytest.mark.parametrize('content', [b'', b'This is no FITS file.\n' * 500, b'\x89PNG\r\n'])
    def test_not_fits(self, content, tmp_path):
        path = tmp_path / 'picture.fits'
        path.write_bytes(content)
        with pytest.raises(CutoutReadError, match=r'picture\.fits.: it is not a FITS file'):
            read_cutout(path)

    def test_no_image(self, save):
        table = fits.BinTableHDU.from_columns([fits.Column('x', 'D', array=[1.0])])
        path = save(fits.PrimaryHDU(), table, fits.ImageHDU(np.zeros((3, 9, 9)), name='CUBE'))
        match = r'there is no 2-d image in it \(the HDUs have \(\), table, \(3, 9, 9\)\)'
        with pytest.raises(CutoutReadError, match=match):
            read_cutout(path)

    # In the image, the header of the mask, the mask, the variance.
    @pytest.mark.parametrize('kept', [0.2, 0.45, 0.6, 0.97])
    def test_truncated(self, kept, stamp, save):
        path = save(*survey_hdus(np.tile(stamp, (3, 3))))
        content = path.read_bytes()
        path.write_bytes(content[: int(kept * len(content))])
        with pytest.raises(CutoutReadError, match='the file is truncated or damaged'):
            read_cutout(path)

    def test_truncated_at_every_block(self, stamp, save):
        path = save(*survey_hdus(stamp))
        content = path.read_bytes()
        whole = read_cutout(path)
        for size in range(2880, len(content), 2880):
            path.write_bytes(content[: size - 100])
            with pytest.raises(CutoutReadError, match=r'truncated or damaged|no 2-d image'):
                read_cutout(path)
        assert whole.uncertainty is not None

    def test_truncated_gzip(self, stamp, tmp_path, save):
        plain = save(fits.PrimaryHDU(stamp)).read_bytes()
        path = tmp_path / 'cutout.fits.gz'
        path.write_bytes(gzip.compress(plain)[:-2000])
        with pytest.raises(CutoutReadError, match='the file is truncated or damaged'):
            read_cutout(path)

    def test_damaged_header(self, stamp, save):
        path = save(fits.PrimaryHDU(stamp))
        path.write_bytes(path.read_bytes().replace(b'NAXIS2  =', b'NAXXS2  ='))
        with pytest.raises(CutoutReadError, match=r'its headers are damaged .*NAXIS2'):
            read_cutout(path)
        (cutout,) = iter_cutouts([path])
        assert cutout.flags == Flag.UNREADABLE

    def test_planes_of_another_shape(self, stamp, save):
        path = save(fits.PrimaryHDU(stamp), fits.ImageHDU(np.ones((9, 9)), name='VARIANCE'))
        match = r'the image has the shape \(33, 41\), its VARIANCE HDU \(9, 9\)'
        with pytest.raises(CutoutReadError, match=match):
            read_cutout(path)

    def test_unknown_unit(self, stamp, save):
        primary = fits.PrimaryHDU(stamp)
        primary.header['BUNIT'] = 'furlongs'
        path = save(primary)
        with pytest.raises(CutoutReadError, match="BUNIT = 'furlongs' is not understood; state it"):
            read_cutout(path)
        assert read_cutout(path, unit='ct').unit == u.ct

    def test_in_a_batch(self, stamp, save, tmp_path):
        good = save(fits.PrimaryHDU(stamp))
        bad = tmp_path / 'bad.fits'
        bad.write_bytes(b'nothing')
        first, second, third = iter_cutouts([bad, good, tmp_path / 'none.fits'])
        assert first.message == f"cannot read '{bad}': it is not a FITS file"
        assert first.label == str(bad)
        assert_array_equal(second.data, stamp)
        assert third.is_failed
