# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Images of a survey: sections of them, noise and masks in files of their own, names."""

import pickle

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import StdDevUncertainty
from astropy.wcs import WCS
from numpy.testing import assert_allclose, assert_array_equal

from astroflux.cutouts import CutoutReadError
from astroflux.survey import SurveyImage, find_images

SHAPE = (90, 70)
SECTION = (slice(20, 65), slice(13, 70))
RNG = np.random.default_rng(8)
DATA = RNG.normal(100, 10, SHAPE)
NOISE = RNG.uniform(1, 2, SHAPE)
BAD = RNG.random(SHAPE) < 0.1


def sky_header(*, sip=False):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ['RA---TAN', 'DEC--TAN']
    wcs.wcs.crval = [150, 2]
    wcs.wcs.crpix = [30, 40]
    wcs.wcs.cdelt = [-0.2 / 3600, 0.2 / 3600]
    header = wcs.to_header()
    if sip:
        header['CTYPE1'], header['CTYPE2'] = 'RA---TAN-SIP', 'DEC--TAN-SIP'
        header['A_ORDER'] = header['B_ORDER'] = 2
        header['A_2_0'], header['B_0_2'] = 1e-4, -2e-4
    return header


def plain():
    hdu = fits.PrimaryHDU(DATA.astype('f4'), sky_header(sip=True))
    return [hdu, fits.ImageHDU(NOISE.astype('f4'), name='RMS')]


def coadd():
    """HDUs without names, of which the second has mask planes, as HSC and LSST write them."""
    mask = fits.ImageHDU(BAD.astype('i4') << 8)
    mask.header['HIERARCH MP_NO_DATA'] = 8
    image = fits.ImageHDU(DATA.astype('f4'), sky_header())
    return [fits.PrimaryHDU(), image, mask, fits.ImageHDU(NOISE.astype('f4') ** 2)]


def packed():
    """Tiles of quantized numbers, which are not of the same shape as the rows."""
    image = fits.CompImageHDU(
        DATA.astype('f4'), sky_header(), name='SCI', tile_shape=(16, 32), quantize_level=1e4
    )
    mask = fits.CompImageHDU(BAD.astype('u2'), name='DQ', compression_type='GZIP_1')
    weight = fits.CompImageHDU(NOISE.astype('f4'), name='WHT', compression_type='HCOMPRESS_1')
    return [fits.PrimaryHDU(), image, mask, weight]


def scaled():
    """Integers that stand for others, and one for NaN; asinh magnitudes; a cube of bands."""
    cube = fits.ImageHDU((np.array([DATA, DATA + 3]) * 5).round().astype('i2')[None])
    cube.header.update(BSCALE=0.25, BZERO=7, BLANK=500, BANDS='gr', BSOFTEN=1.5, BOFFSET=-2.0)
    return [fits.PrimaryHDU(), cube, fits.ImageHDU(np.array([NOISE, NOISE]), name='IVAR')]


@pytest.mark.parametrize('ending', ['.fits', '.fits.gz'])
@pytest.mark.parametrize('layout', [plain, coadd, packed, scaled])
def test_a_section_is_that_of_the_whole(layout, ending, tmp_path):
    path = tmp_path / f'image{ending}'
    fits.HDUList(layout()).writeto(path, checksum=True)
    plane = 'r' if layout is scaled else None
    image = SurveyImage(path, plane=plane)
    whole, part = image.read(), image.read(SECTION)
    assert image.shape == whole.shape == SHAPE
    assert_array_equal(part.data, whole.data[SECTION])
    assert part.data.dtype == whole.data.dtype
    assert part.unit == whole.unit
    assert (part.uncertainty is None) == (whole.uncertainty is None)
    if part.uncertainty is not None:
        assert type(part.uncertainty) is StdDevUncertainty
        assert_array_equal(part.uncertainty.array, whole.uncertainty.array[SECTION])
    assert (part.mask is None) == (whole.mask is None)
    if part.mask is not None:
        assert_array_equal(part.mask, whole.mask[SECTION])
    if layout is scaled:
        assert part.wcs is image.wcs is None
    else:
        expected = image.wcs.all_pix2world(20.5, 33.0, 0)
        # the pixel of the sky is where it was, 13 columns and 20 rows before
        assert_allclose(part.wcs.all_pix2world(7.5, 13.0, 0), expected, rtol=0, atol=1e-11)
        assert part.wcs.array_shape == part.shape


def test_what_coadds_hold(tmp_path):
    fits.HDUList(coadd()).writeto(tmp_path / 'calexp.fits')
    part = SurveyImage(tmp_path / 'calexp.fits').read(SECTION)
    assert_allclose(part.uncertainty.array, NOISE[SECTION], rtol=1e-6)
    assert_array_equal(part.mask, BAD[SECTION])


def test_no_more_than_a_section_is_taken(tmp_path):
    paths = tmp_path / 'a.fits', tmp_path / 'b.fits'
    for path, layout in zip(paths, (coadd, packed), strict=True):
        fits.HDUList(layout()).writeto(path)
    rows = slice(0, 16), slice(0, 10)
    for path, n_pixels in zip(paths, (16 * 70 * 3, 16 * 32 + 2 * 16 * 70), strict=True):
        SurveyImage(path, max_pixels=n_pixels).read(rows)
        with pytest.raises(CutoutReadError, match='pixels, more than'):
            SurveyImage(path, max_pixels=n_pixels - 1).read(rows)


@pytest.mark.parametrize(
    'section',
    [
        (slice(-5, 20), slice(0, 9)),
        (slice(0, 9), slice(80, 90)),
        (slice(0, 9, 2), slice(0, 9)),
        (slice(0, 9),),
        (3, slice(0, 9)),
    ],
)
def test_sections_that_are_none(section, tmp_path):
    fits.HDUList(plain()).writeto(tmp_path / 'a.fits')
    with pytest.raises(ValueError, match='section must be two slices'):
        SurveyImage(tmp_path / 'a.fits').read(section)


def write(path, pixels, **header):
    path.parent.mkdir(parents=True, exist_ok=True)
    hdu = fits.PrimaryHDU(pixels, sky_header())
    hdu.header.update(header)
    hdu.writeto(path)


@pytest.mark.parametrize(
    ('name', 'pixels', 'header', 'told', 'options'),
    [
        ('a_rms.fits', NOISE, {}, '{stem}_rms.fits', {}),
        ('a.var.fits', NOISE**2, {}, '{stem}.var.fits', {}),
        ('../var/a.fits', NOISE**2, {}, 'variance:../var/{stem}.fits', {}),
        ('a_2.fits', NOISE**-2, {'HDUCLAS3': 'INVMSE'}, '{stem}_2.fits', {}),
        ('a_3.fits', NOISE**2, {'EXTNAME': 'VARIANCE'}, '{stem}_3.fits', {}),
        ('a.weight.fits', NOISE**-2, {}, '{stem}.weight.fits', {'weight': 'ivar'}),
        ('a.weight.fits', NOISE**-2, {}, 'ivar:{stem}.weight.fits', {}),
    ],
)
def test_noise_in_a_file_of_its_own(name, pixels, header, told, options, tmp_path):
    folder = tmp_path / 'images'
    write(folder / 'a.fits', DATA)
    write(folder / name, pixels, **header)
    (image,) = find_images(folder, noise=told, **options)
    for section in (None, SECTION):
        noise = image.read(section).uncertainty
        assert_allclose(noise.array, NOISE[section or ...], rtol=1e-12)


def test_noise_that_nothing_tells_the_kind_of(tmp_path):
    write(tmp_path / 'a.fits', DATA)
    write(tmp_path / 'a_2.fits', NOISE)
    write(tmp_path / 'a_wht.fits', NOISE)
    for other in ('a_2', 'a_wht'):
        noise = tmp_path / f'{other}.fits'
        with pytest.raises(
            CutoutReadError, match=rf"{other}\.fits': it holds .* write 'ivar:PATH'"
        ):
            SurveyImage(tmp_path / 'a.fits', noise=noise).read()
    image = SurveyImage(tmp_path / 'a.fits', noise=f'std:{tmp_path}/a_2.fits')
    assert_array_equal(image.read().uncertainty.array, NOISE)


def test_the_told_noise_goes_before_that_of_the_file(tmp_path):
    fits.HDUList(plain()).writeto(tmp_path / 'a.fits')
    write(tmp_path / 'a_rms.fits', 3 * NOISE)
    image = SurveyImage(tmp_path / 'a.fits', noise=tmp_path / 'a_rms.fits')
    assert_array_equal(image.read().uncertainty.array, 3 * NOISE)


def test_masks_and_weight_maps_in_files_of_their_own(tmp_path):
    fits.HDUList(coadd()).writeto(tmp_path / 'a.fits')
    more = RNG.random(SHAPE) < 0.1
    write(tmp_path / 'a.flag.fits', more.astype('i2'))
    write(tmp_path / 'a.weight.fits', np.where(more, 0, NOISE))
    write(tmp_path / 'a.map.fits', np.where(more, 0, NOISE))
    for name in ('a.flag.fits', 'a.weight.fits'):
        image = SurveyImage(tmp_path / 'a.fits', mask=tmp_path / name)
        assert_array_equal(image.read(SECTION).mask, (BAD | more)[SECTION])
    with pytest.raises(CutoutReadError, match="not whole: write 'mask:PATH' or 'weight:PATH'"):
        SurveyImage(tmp_path / 'a.fits', mask=tmp_path / 'a.map.fits').read()


def test_what_is_missing_truncated_or_of_another_shape_is_named(tmp_path):
    fits.HDUList(plain()).writeto(tmp_path / 'a.fits')
    content = (tmp_path / 'a.fits').read_bytes()
    (tmp_path / 'short.fits').write_bytes(content[:-4000])
    write(tmp_path / 'other_rms.fits', NOISE[1:])
    missing, short = (SurveyImage(tmp_path / name) for name in ('missing.fits', 'short.fits'))
    for image, reason in ((missing, 'there is no such file'), (short, 'truncated')):
        for look in (lambda i: i.shape, lambda i: i.wcs, SurveyImage.read):
            with pytest.raises(CutoutReadError, match=rf'{image.name}\.fits.*{reason}'):
                look(image)
    for noise, reason in (
        ('none_rms.fits', r'none_rms\.fits.*there is no such file'),
        ('other_rms.fits', r'shape \(90, 70\), its file .*other_rms.fits. \(89, 70\)'),
    ):
        with pytest.raises(CutoutReadError, match=reason):
            SurveyImage(tmp_path / 'a.fits', noise=tmp_path / noise).read()
    write(tmp_path / 'small_rms.fits', NOISE[:9, :9])
    image = SurveyImage(tmp_path / 'a.fits', noise=tmp_path / 'small_rms.fits')
    with pytest.raises(CutoutReadError, match=r'small_rms.fits.*it has the shape \(9, 9\)'):
        image.read(SECTION)
    with pytest.raises(ValueError, match=r'an image of the shape \(90, 70\)'):
        image.read((slice(0, 9), slice(70, 80)))


def test_a_wcs_that_is_no_use_fails_by_itself(tmp_path):
    hdu = fits.PrimaryHDU(DATA, sky_header())
    hdu.header['CTYPE2'] = 'GLAT-TAN'
    hdu.writeto(tmp_path / 'a.fits')
    image = SurveyImage(tmp_path / 'a.fits')
    assert image.shape == SHAPE
    with pytest.raises(CutoutReadError, match=r'the WCS of .*a\.fits. cannot be used'):
        _ = image.wcs


def test_names_are_unique_whatever_the_order(tmp_path):
    names = ('1/a.fits', '2/a.fits.fz', '2/A.fits', '3/1/a.fits', 'b.fits')
    paths = [tmp_path / name for name in names]
    images = find_images(paths)
    assert [image.name for image in images] == [
        '3-1-a',
        'A.fits',
        'a.fits.fz',
        'b',
        f'{tmp_path.name}-1-a',
    ]
    assert find_images([*paths[::-1], paths[0]]) == images
    # parts of one file
    bands = [SurveyImage('cube.fits', plane=plane) for plane in 'gr']
    assert [image.name for image in find_images(bands)] == ['g-cube', 'r-cube']
    with pytest.raises(ValueError, match=r"'b\.fits' is given twice"):
        find_images([SurveyImage('b.fits'), SurveyImage('b.fits', unit='nJy')])


def test_images_of_folders_and_patterns(tmp_path):
    for name in ('x-image-r.fits.fz', 'x-invvar-r.fits.fz', 'x-maskbits-r.fits.fz', 'notes.txt'):
        (tmp_path / name).touch()
    (tmp_path / 'deep' / 'er').mkdir(parents=True)
    (tmp_path / 'deep' / 'er' / 'y.fits').touch()
    noise = '{stem:-image->-invvar-}.fits.fz'
    for paths in (tmp_path, [*tmp_path.glob('*.fz')], f'{tmp_path}/*-image-*'):
        (image,) = find_images(paths, noise=noise, psf='{stem}.psf', weight='ivar')
        assert image.name == 'x-image-r'
        assert image.noise == str(tmp_path / 'x-invvar-r.fits.fz')
        assert image.psf == str(tmp_path / 'x-image-r.psf')
        assert image.weight == 'ivar'
    assert [image.name for image in find_images(f'{tmp_path}/**/*.fits')] == ['y']
    for nothing in (tmp_path / 'deep', f'{tmp_path}/*.fit'):
        with pytest.raises(FileNotFoundError, match='there is no FITS file'):
            find_images(nothing)
    with pytest.raises(ValueError, match='there are no images'):
        find_images([])


def test_it_travels_without_its_wcs(tmp_path):
    fits.HDUList(plain()).writeto(tmp_path / 'a.fits')
    image = SurveyImage(tmp_path / 'a.fits', mask_planes=['BAD'], unit='nJy')
    assert image.wcs is not None
    content = pickle.dumps(image)
    assert b'WCS' not in content
    other = pickle.loads(content)
    assert other == image
    assert {image: 1}[other] == 1
    assert other.wcs.wcs.compare(image.wcs.wcs)
