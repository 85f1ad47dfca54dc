# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Cutouts from FITS files of several makers, good and damaged."""

import gzip
import multiprocessing
import os
import pickle
import re
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData, InverseVariance, StdDevUncertainty, VarianceUncertainty
from numpy.testing import assert_allclose, assert_array_equal

from astroflux.cutouts import CutoutFile, CutoutReadError, iter_cutouts, read_cutout, readers
from astroflux.cutouts._headers import unit_of
from astroflux.flags import MeasurementFlag as Flag

PLANES = {'BAD': 0, 'SAT': 1, 'INTRP': 2, 'CR': 3, 'EDGE': 4, 'DETECTED': 5, 'NO_DATA': 8}


@pytest.fixture
def save(tmp_path):
    def write(*hdus, name='cutout.fits', **kwargs):
        path = tmp_path / name
        fits.HDUList(list(hdus)).writeto(path, overwrite=True, **kwargs)
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
    assert type(ccd.uncertainty) is StdDevUncertainty
    assert_array_equal(ccd.uncertainty.array, 2)
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
    ('name', 'sigma'),
    [
        ('VARIANCE', 0.5),
        ('stat', 0.5),
        ('ERR', 0.25),
        ('RMS', 0.25),
        ('NOISE', 0.25),
        ('UNCERTAINTY', 0.25),
        ('INVVAR', 2.0),
        ('IVAR', 2.0),
    ],
)
def test_kinds_of_noise(name, sigma, stamp, save):
    noise = fits.ImageHDU(np.full(stamp.shape, 0.25, 'f4'), name=name)
    path = save(fits.PrimaryHDU(), fits.ImageHDU(stamp, name='SCI'), noise)
    uncertainty = read_cutout(path).uncertainty
    assert type(uncertainty) is StdDevUncertainty
    assert_array_equal(uncertainty.array, sigma)
    (cutout,) = iter_cutouts(path)
    assert_array_equal(cutout.noise, sigma)


def test_header_says_which_noise(stamp, save):
    noise = fits.ImageHDU(np.full(stamp.shape, 0.25), name='ERROR')
    noise.header['HDUCLAS3'] = 'MSE'
    path = save(fits.PrimaryHDU(), fits.ImageHDU(stamp, name='SCI'), noise)
    assert_array_equal(read_cutout(path).uncertainty.array, 0.5)


def test_weights_mask_but_give_no_noise(stamp, save):
    weight = np.full(stamp.shape, 4.0)
    weight[3, 4] = 0
    hdus = [fits.PrimaryHDU(stamp), fits.ImageHDU(weight, name='WHT')]
    path = save(*hdus)
    ccd = read_cutout(path)
    assert ccd.uncertainty is None
    assert np.argwhere(ccd.mask).tolist() == [[3, 4]]
    # unless the user, the header or another plane says so
    told = read_cutout(path, weight='ivar')
    assert np.argwhere(told.mask).tolist() == [[3, 4]]
    assert_array_equal(told.uncertainty.array[~told.mask], 0.5)
    hdus[1].header['HDUCLAS3'] = 'INVMSE'
    assert_array_equal(read_cutout(save(*hdus)).uncertainty.array[0], 0.5)
    del hdus[1].header['HDUCLAS3']
    path = save(*hdus, fits.ImageHDU(np.full(stamp.shape, 3.0), name='ERR'))
    assert_array_equal(read_cutout(path, weight='ivar').uncertainty.array, 3)
    with pytest.raises(ValueError, match=r"weight must be one of .*, got 'exptime'"):
        read_cutout(path, weight='exptime')


def test_unnamed_planes_mask_where_not_zero(stamp, save):
    dq = np.zeros(stamp.shape, 'i2')
    dq[7, 8] = 512
    ccd = read_cutout(save(fits.PrimaryHDU(stamp), fits.ImageHDU(dq, name='DQ')))
    assert np.argwhere(ccd.mask).tolist() == [[7, 8]]


@pytest.fixture
def dq_file(stamp, save):
    """Pixel (0, i) has bit i of a DQ plane set alone."""

    def write(dtype, telescope=None, name='DQ'):
        dq = np.zeros(stamp.shape, dtype)
        dq[0, :14] = 1 << np.arange(14)
        primary = fits.PrimaryHDU()
        if telescope:
            primary.header['TELESCOP'] = telescope
        return save(primary, fits.ImageHDU(stamp, name='SCI'), fits.ImageHDU(dq, name=name))

    return write


@pytest.mark.parametrize(
    ('dtype', 'telescope', 'name', 'bits'),
    [
        ('u4', None, 'DQ', [0]),
        ('u4', 'JWST', 'DQ', [0]),
        ('i4', 'JWST', 'DQ', [0]),
        ('u4', 'Gemini-North', 'DQ', range(14)),
        ('i2', 'HST', 'DQ', range(14)),
        ('i4', None, 'DQ', range(14)),
        ('u4', None, 'MASK', range(14)),
    ],
)
def test_bits_that_mask_by_default(dtype, telescope, name, bits, dq_file):
    mask = read_cutout(dq_file(dtype, telescope, name)).mask
    assert np.argwhere(mask).tolist() == [[0, bit] for bit in bits]


@pytest.mark.parametrize(
    ('asked', 'bits'),
    [
        ([1], [0]),
        (['DO_NOT_USE'], [0]),
        (['jump_det', 2048], [2, 11]),
        ([6], [1, 2]),
        ((), []),
    ],
)
def test_bits_of_choice(asked, bits, dq_file):
    mask = read_cutout(dq_file('u4'), mask_planes=asked).mask
    assert np.argwhere(mask).tolist() == [[0, bit] for bit in bits]


def test_bits_that_are_not_known(dq_file):
    path = dq_file('i2', 'HST')
    match = r"the mask has no plane \['DO_NOT_USE'\], as its header names none; a bit can be"
    with pytest.raises(ValueError, match=match):
        read_cutout(path, mask_planes=['DO_NOT_USE'])
    file = CutoutFile(path, mask_planes=['DO_NOT_USE'])
    with pytest.raises(ValueError, match=match):
        list(iter_cutouts(file))
    cutout, _ = iter_cutouts([file, CutoutFile(path, mask_planes=[4])])
    assert cutout.flags == Flag.UNREADABLE
    assert cutout.label == str(path)


@pytest.fixture
def cube():
    """Three bands in one HDU, with their noise."""
    bands = np.random.default_rng(4).normal(size=(3, 12, 13)).astype('f4')
    header = fits.Header({'BANDS': 'grz', 'BAND0': 'g', 'BAND1': 'r', 'BAND2': 'z'})
    ivar = np.broadcast_to(np.array([1, 4, 16])[:, None, None], bands.shape)
    return [fits.PrimaryHDU(bands, header), fits.ImageHDU(ivar, name='INVVAR')]


def test_plane_of_a_cube(cube, save):
    path = save(*cube)
    for index, band in enumerate('grz'):
        for plane in (index, band):
            ccd = read_cutout(path, plane=plane)
            assert_array_equal(ccd.data, cube[0].data[index])
            assert_array_equal(ccd.uncertainty.array, 0.5**index)
    (cutout,) = iter_cutouts(CutoutFile(path, hdu=0, plane='z'))
    assert_array_equal(cutout.noise, 0.25)
    match = "there is no plane 'i' in it: HDU 'PRIMARY' holds 3 planes [(]g, r, z[)]"
    with pytest.raises(CutoutReadError, match=match):
        read_cutout(path, plane='i')
    with pytest.raises(CutoutReadError, match='there is no plane 3 in it'):
        read_cutout(path, plane=3)


def test_cube_without_a_plane(cube, stamp, save):
    path = save(*cube)
    match = r"HDU 0 holds 3 planes \(g, r, z\): choose one by the argument plane, as in plane='g'"
    with pytest.raises(CutoutReadError, match=match):
        read_cutout(path)
    with pytest.raises(CutoutReadError, match=match):
        read_cutout(path, hdu=0)
    for keyword in ('BAND0', 'BAND1', 'BAND2'):
        del cube[0].header[keyword]
    cube[0].header['BANDS'] = 'u,nb921,y'
    with pytest.raises(CutoutReadError, match=r"planes \(u, nb921, y\).*as in plane='u'"):
        read_cutout(save(*cube))
    del cube[0].header['BANDS']
    with pytest.raises(CutoutReadError, match=r'HDU 0 holds 3 planes: .*as in plane=0'):
        read_cutout(save(*cube))
    flat = save(fits.PrimaryHDU(stamp))
    with pytest.raises(CutoutReadError, match='there is no HDU of several planes in it'):
        read_cutout(flat, plane=0)
    with pytest.raises(CutoutReadError, match='HDU 0 is not a cube of several planes'):
        read_cutout(flat, hdu=0, plane=0)


def test_asinh_scaled_pixels_become_linear(stamp, save):
    alpha, offset, soft = 2.5 / np.log(10), 3.0, 20.0
    scaled = alpha * np.arcsinh((stamp - offset) / (2 * soft))
    header = fits.Header({'BOFFSET': offset, 'BSOFTEN': soft})
    image = fits.ImageHDU(scaled, header, name='IMAGE')
    variance = fits.ImageHDU(np.full(stamp.shape, 4.0), header, name='VARIANCE')
    ccd = read_cutout(save(fits.PrimaryHDU(), image, variance))
    assert_allclose(ccd.data, stamp, rtol=1e-12, atol=1e-12)
    assert_array_equal(ccd.uncertainty.array, 2)
    # so that they are not taken for scaled once more
    assert 'BSOFTEN' not in ccd.meta
    # with one of them, nobody knows what pixels are
    del image.header['BOFFSET']
    with pytest.raises(CutoutReadError, match='its header has BSOFTEN alone'):
        read_cutout(save(fits.PrimaryHDU(), image))


class TestCutoutFile:
    def test_is_read_as_told(self, stamp, save):
        hdus = [fits.PrimaryHDU(), fits.ImageHDU(stamp, name='A'), fits.ImageHDU(2 * stamp)]
        path = save(*hdus)
        file = CutoutFile(path, hdu=2, unit='nJy')
        assert str(file) == str(path)
        assert_array_equal(file.read().data, 2 * stamp)
        (plain,), (told,) = iter_cutouts(path), iter_cutouts(file)
        assert_array_equal(plain.data, stamp)
        assert_array_equal(told.data, 2 * stamp)
        assert told.unit == u.nJy

    def test_is_a_value(self):
        file = CutoutFile('a.fits', unit='nJy', mask_planes=['BAD', 4])
        assert file == CutoutFile('a.fits', unit=u.nJy, mask_planes=('BAD', 4))
        assert pickle.loads(pickle.dumps(file)) == file
        assert len({file, CutoutFile('a.fits', unit='nJy', mask_planes=['BAD', 4])}) == 1
        with pytest.raises(ValueError, match='furlongs'):
            CutoutFile('a.fits', unit='furlongs')

    def test_one_that_fails_is_a_row(self, stamp, save, tmp_path):
        good = CutoutFile(save(fits.PrimaryHDU(stamp)), unit='nJy')
        bad = CutoutFile(tmp_path / 'none.fits', unit='nJy')
        first, second = iter_cutouts([good, bad])
        assert_array_equal(first.data, stamp)
        assert second.flags == Flag.UNREADABLE
        assert second.label == str(bad.path)


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
    assert type(found.uncertainty) is StdDevUncertainty
    sigma = {StdDevUncertainty: 3, VarianceUncertainty: 3**0.5, InverseVariance: 3**-0.5}[kind]
    assert_allclose(found.uncertainty.array, sigma, rtol=1e-15)
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
        ('DNs', u.DN),
        ('e/s', u.electron / u.s),
        ('E-/S', u.electron / u.s),
        ('e- s-1', u.electron / u.s),
        ('Counts/S', u.ct / u.s),
        ('cps', u.ct / u.s),
        ('cps/pixel', u.ct / u.s / u.pix),
        ('cnts/s', u.ct / u.s),
        ('JY/PIXEL', u.Jy / u.pix),
        ('Jy/pix^2', u.Jy / u.pix**2),
        ('JY', u.Jy),
        ('microJy', u.uJy),
        ('uJy/arcsec**2', u.uJy / u.arcsec**2),
        ('MJY/SR', u.MJy / u.sr),
        ('mJy/sr', u.mJy / u.sr),
        ('nanomaggie', u.Unit('nmgy')),
        ('nMgy', u.Unit('nmgy')),
        ('maggies', u.Unit('mgy')),
        ('erg/s/cm2/A', u.Unit('erg / (s cm2 Angstrom)')),
        ('ergs/cm2/s/A', u.Unit('erg / (s cm2 Angstrom)')),
        ('erg/cm2/s/Ang', u.Unit('erg / (s cm2 Angstrom)')),
        ('10**(-20)*erg/s/cm**2/Angstrom', 1e-20 * u.Unit('erg / (s cm2 Angstrom)')),
        ('ERG/S/CM2/A', u.Unit('erg / (s cm2 Angstrom)')),
        ('erg s^-1 cm^-2 Hz^-1', u.Unit('erg / (s cm2 Hz)')),
        ('1e-17 e-/s', 1e-17 * u.electron / u.s),
        ('electrons per second', u.electron / u.s),
        ('photoelectrons', u.electron),
        ('photo-electrons/sec', u.electron / u.s),
        ('UNITLESS', u.dimensionless_unscaled),
    ],
)
def test_spellings_of_units(text, unit):
    assert unit_of(text) == unit


# Whether milli or mega, or if anything at all, they do not say.
@pytest.mark.parametrize('text', ['MJY', 'unknown', 'furlongs', 'MJY/BEAM'])
def test_units_that_are_not_guessed(text):
    with pytest.raises(ValueError, match='did not parse as unit'):
        unit_of(text)


@pytest.mark.parametrize(
    ('key', 'value', 'zeropoint'),
    [
        ('FLUXMAG0', 63095734448.0194, 27.0),
        ('MAGZERO', 22.5, 22.5),
        ('MAGZPT', 25, 25.0),
        ('ZEROPNT', 30.1, 30.1),
        ('PHOTZP', 30.0, 30.0),
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


@pytest.mark.parametrize(
    'cards',
    [
        {'MAGZP': 20.5, 'TELESCOP': 'WISE'},
        {'MAGZPT': 24.1, 'CASUVERS': '1.3'},
        {'PHOTZP': 30.0, 'PHOTSYS': 'Vega'},
        # per second, of an instrument, of a flux density
        {'HIERARCH FPA.ZP': 25.0},
        {'MAGZEROP': 30.0},
        {'PHOTZPT': -21.1},
    ],
)
def test_zero_points_that_mean_another_thing(cards, stamp, save):
    primary = fits.PrimaryHDU(stamp)
    primary.header.update(cards)
    assert 'zeropoint' not in read_cutout(save(primary)).meta


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


@pytest.mark.parametrize('number', [40_000_000_000, 64, -1, 'three', 2.5])
def test_number_of_a_mask_plane(tmp_path, number):
    mask = fits.ImageHDU(np.zeros((20, 20), 'i4'), name='MASK')
    mask.header['MP_BAD'] = number
    path = tmp_path / 'a.fits'
    image = fits.ImageHDU(np.zeros((20, 20), 'f4'), name='IMAGE')
    fits.HDUList([fits.PrimaryHDU(), image, mask]).writeto(path)
    with pytest.raises(CutoutReadError, match=f'MP_BAD has the number {number!r}, want 0 to 63'):
        read_cutout(path)


def test_any_error_of_a_library_is_one_of_reading(tmp_path, monkeypatch):
    """Damaged files bring errors of many kinds, each of which must fail its row alone."""
    path = tmp_path / 'a.fits'
    fits.PrimaryHDU(np.zeros((20, 20), 'f4')).writeto(path)

    def fail(*arguments):
        msg = 'unbalanced parenthesis'
        raise re.error(msg)

    monkeypatch.setattr(readers, '_parse', fail)
    with pytest.raises(CutoutReadError, match='its headers are damaged'):
        read_cutout(path)


@pytest.mark.parametrize(
    ('make', 'reason'),
    [
        (lambda path: os.mkfifo(path), 'it is not a file, but a pipe or a device'),
        (lambda path: path.symlink_to(path), 'it is a link to itself'),
        (lambda path: path.mkdir(), 'it is a directory'),
    ],
    ids=['pipe', 'link to itself', 'folder'],
)
def test_what_is_no_file(tmp_path, make, reason):
    path = tmp_path / 'a.fits'
    make(path)
    with pytest.raises(CutoutReadError, match=reason):
        read_cutout(path)


def test_more_pixels_than_are_read(tmp_path):
    header = fits.PrimaryHDU(np.zeros((8, 8), 'f4')).header
    header['NAXIS1'] = header['NAXIS2'] = 16385
    path = tmp_path / 'a.fits.gz'
    path.write_bytes(gzip.compress(header.tostring().encode()))
    with pytest.raises(CutoutReadError, match='268468225 pixels, more than 268435456 are not read'):
        read_cutout(path)


def test_threads_read(tmp_path):
    """Warnings, which tell that a file is truncated, are those of all threads."""
    good, short = tmp_path / 'good.fits', tmp_path / 'short.fits'
    hdus = [fits.PrimaryHDU(), *(fits.ImageHDU(np.ones((64, 64), 'f4')) for _ in range(2))]
    fits.HDUList(hdus).writeto(good)
    short.write_bytes(good.read_bytes()[:-8000])

    def read(path):
        try:
            return read_cutout(path).shape
        except CutoutReadError:
            return None

    with ThreadPoolExecutor(8) as pool:
        shapes = list(pool.map(read, [good, short] * 100))
    assert shapes == [(64, 64), None] * 100


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='needs fork')
def test_fork_while_another_thread_reads(tmp_path):
    path = tmp_path / 'a.fits'
    fits.PrimaryHDU(np.zeros((20, 20), 'f4')).writeto(path)
    with readers._opening, warnings.catch_warnings():
        warnings.filterwarnings('ignore', message='.*fork', category=DeprecationWarning)
        process = multiprocessing.get_context('fork').Process(target=read_cutout, args=(path,))
        process.start()
    process.join(timeout=60)
    alive = process.is_alive()
    process.kill()
    assert not alive
    assert process.exitcode == 0
