# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Headers that claim what nobody has, and sums that do not match: told before it is too late."""

import bz2
import gzip
import io
import lzma
import math
import warnings
import zipfile
import zlib

import numpy as np
import pytest
from astropy.io import fits
from numpy.testing import assert_array_equal

from astroflux.cutouts import CutoutFile, CutoutReadError, read_cutout
from astroflux.cutouts._claims import check_claims

IMAGE = np.random.default_rng(0).normal(size=(64, 64)).astype('f4')


def content_of(*hdus, **keywords):
    stream = io.BytesIO()
    fits.HDUList(list(hdus)).writeto(stream, **keywords)
    return stream.getvalue()


def with_card(content, keyword, value, *, form='{:8s}= {:>20s}'):
    """Return a file whose last card of a keyword is another one."""
    start = content.rindex(f'{keyword:8s}='.encode())
    card = form.format(keyword, value).encode().ljust(80)
    return content[:start] + card + content[start + 80 :]


@pytest.fixture
def refused(tmp_path):
    def refused(content, match, *, size=None, name='a.fits', **options):
        path = tmp_path / name
        path.write_bytes(content)
        if size is not None:
            # what is not written takes no place on the disk
            with path.open('r+b') as file:
                file.truncate(size)
        with pytest.raises(CutoutReadError, match=match):
            read_cutout(path, **options)

    return refused


@pytest.mark.parametrize(
    ('keyword', 'value'),
    [
        *(('NAXIS', '2147483647'), ('NAXIS', '-1'), ('NAXIS2', '-64'), ('NAXIS1', '64.5')),
        *(('NAXIS1', '9' * 40), ('BITPIX', '2147483647'), ('NAXIS1', "'64'")),
    ],
)
def test_numbers_of_an_image(refused, keyword, value):
    content = with_card(content_of(fits.PrimaryHDU(IMAGE)), keyword, value)
    refused(content, f'HDU 0 has {keyword} = {value}, want ')


@pytest.mark.parametrize(
    ('keyword', 'value'), [('TFIELDS', '2147483647'), ('PCOUNT', '-1'), ('GCOUNT', '-8')]
)
def test_numbers_of_a_table(refused, keyword, value):
    table = fits.BinTableHDU.from_columns([fits.Column('a', 'E', array=[1.0])])
    content = with_card(content_of(fits.PrimaryHDU(IMAGE), table), keyword, value)
    refused(content, f'HDU 1 has {keyword} = {value}, want ')


# some of them end the process, and not the reading alone
@pytest.mark.parametrize('keyword', ['ZTILE1', 'ZTILE2', 'ZNAXIS', 'ZNAXIS1'])
def test_numbers_of_a_compressed_image(refused, keyword):
    image = fits.CompImageHDU(IMAGE, compression_type='HCOMPRESS_1', tile_shape=(16, 64))
    content = with_card(content_of(fits.PrimaryHDU(), image), keyword, '-1')
    refused(content, f'HDU 1 has {keyword} = -1, want ')


@pytest.mark.parametrize(
    'form',
    ['naxis   = {1:>20s}', '  NAXIS = {1:>20s}', 'NAXIS=   {1:>20s}', 'NAXIS   = {1:s}/'],
    ids=str.strip,
)
def test_cards_that_look_other(refused, form):
    content = with_card(content_of(fits.PrimaryHDU(IMAGE)), 'NAXIS', '2147483647', form=form)
    refused(content, 'HDU 0 has NAXIS = 2147483647, want 0 to 999')


def test_number_that_stands_twice(refused):
    content = content_of(fits.PrimaryHDU(IMAGE))
    content = with_card(content, 'EXTEND', '128', form='NAXIS1  = {1:>20s}')
    refused(content, 'HDU 0 has NAXIS1 twice, as 64 and 128')


def test_many_hdus(refused):
    first, other = (content_of(kind()) for kind in (fits.PrimaryHDU, fits.PrimaryHDU))
    other = content_of(fits.PrimaryHDU(), fits.ImageHDU())[len(first) :]
    refused(first + other * 20_000, 'it has more than 4096 HDUs')


GIB = 2**30


def test_what_goes_on_without_an_end(refused):
    content = content_of(fits.PrimaryHDU(IMAGE))
    refused(content, 'no END in 2880000 bytes of a header, or behind', size=3 * GIB)
    refused(content.replace(b'END ', b'AND '), 'no END in 2880000 bytes', size=3 * GIB)
    refused(b'', 'it is not a FITS file', size=3 * GIB)


def test_end_that_is_none(refused):
    # astropy takes it for one, and then counts up to the number
    content = with_card(content_of(fits.PrimaryHDU(IMAGE)), 'NAXIS', '2147483647')
    refused(content.replace(b'END  ', b'END\0 '), 'truncated or damaged')
    refused(content.replace(b'SIMPLE', b'simple'), 'it is not a FITS file')
    first = content_of(fits.PrimaryHDU())
    content = content_of(fits.PrimaryHDU(), fits.ImageHDU(IMAGE))[len(first) :]
    content = with_card(content, 'NAXIS', '2147483647').replace(b'END  ', b'END\0 ')
    refused(first + content.replace(b'XTENSION', b'xtension'), 'truncated or damaged')


def test_cards_behind_the_end(refused):
    content = content_of(fits.PrimaryHDU(IMAGE, fits.Header({'BSOFTEN': 1.0})))
    place = content.index(b'BSOFTEN =' if b'BSOFTEN =' in content else b'BSOFTEN')
    moved = content[:place] + b'END'.ljust(80) + content[place:-80]
    refused(moved, 'a header has cards behind its END')


def test_little_behind_the_last_hdu_is_no_harm(tmp_path):
    path = tmp_path / 'a.fits'
    path.write_bytes(content_of(fits.PrimaryHDU(IMAGE)) + bytes(2880))
    assert_array_equal(read_cutout(path).data, IMAGE)


def large(side):
    content = content_of(fits.PrimaryHDU(IMAGE))
    return with_card(with_card(content, 'NAXIS1', str(side)), 'NAXIS2', str(side))


def test_large_images(refused):
    blocks = 1 + math.ceil(4 * 32768**2 / 2880)
    refused(large(32768), '1073741824 pixels, more than 268435456 are', size=blocks * 2880)
    # of what is compressed, no pixel is looked at
    refused(gzip.compress(large(27_000)), '729000000 pixels', name='a.fits.gz')
    image = fits.CompImageHDU(IMAGE)
    content = with_card(content_of(fits.PrimaryHDU(), image), 'ZNAXIS1', '2147483647')
    refused(content, '137438953408 pixels')


def test_gzip_of_much(refused):
    content = io.BytesIO()
    with gzip.open(content, 'wb', compresslevel=1) as stream:
        stream.write(content_of(fits.PrimaryHDU(IMAGE)))
        for _ in range(8):
            stream.write(bytes(2**20))
    refused(content.getvalue(), 'no END in 2880000 bytes', name='a.fits.gz')


def test_tile_of_much(tmp_path, refused):
    image = fits.CompImageHDU(IMAGE.astype('i4'), compression_type='GZIP_1', tile_shape=(64, 64))
    path = tmp_path / 'a.fits'
    image.writeto(path)
    assert_array_equal(read_cutout(path).data, IMAGE.astype('i4'))
    packer = zlib.compressobj(1, wbits=31)
    tile = packer.compress(bytes(2**27)) + packer.flush()
    with fits.open(path, disable_image_compression=True) as hdus:
        header = hdus[1].header
    header['PCOUNT'], header['TFORM1'] = len(tile), f'1PB({len(tile)})'
    rows = np.array([len(tile), 0], '>i4').tobytes() + tile
    primary = content_of(fits.PrimaryHDU())
    content = primary + header.tostring().encode() + rows + bytes(-len(rows) % 2880)
    refused(content, r'a tile of a compressed image of the shape \(64, 64\) holds more than that')


@pytest.mark.parametrize(('place', 'value'), [(4, 2), (8, 200)])
def test_tile_that_says_that_it_is_larger(tmp_path, refused, place, value):
    image = fits.CompImageHDU(IMAGE, compression_type='HCOMPRESS_1', tile_shape=(24, 64))
    path = tmp_path / 'a.fits'
    image.writeto(path)
    assert read_cutout(path).shape == (64, 64)
    content = bytearray(path.read_bytes())
    # what HCOMPRESS begins with; then the sides of the tile
    content[content.rindex(b'\xdd\x99') + place] = value
    refused(content, 'holds more than that')


@pytest.mark.parametrize(('name', 'value'), [('BYTEPIX', '99999'), ('BLOCKSIZE', '0')])
def test_parameters_of_tiles(refused, name, value):
    content = content_of(fits.PrimaryHDU(), fits.CompImageHDU(IMAGE))
    keyword = {'BLOCKSIZE': 'ZVAL1', 'BYTEPIX': 'ZVAL2'}[name]
    refused(with_card(content, keyword, value), f'HDU 1 has {name} = {value}, want one of ')


def test_most_pixels_are_an_option(tmp_path, refused):
    hdus = fits.PrimaryHDU(IMAGE), fits.ImageHDU(np.ones_like(IMAGE), name='ERR')
    content = content_of(*hdus, fits.ImageHDU(IMAGE))
    refused(content, '8192 pixels, more than 8191 are not read; max_pixels of', max_pixels=8191)
    path = tmp_path / 'a.fits'
    assert_array_equal(CutoutFile(path, max_pixels=8192).read().data, IMAGE)
    # all HDUs count in what is compressed as a whole
    packed = gzip.compress(content)
    refused(packed, '12288 pixels', max_pixels=12287, name='a.fits.gz')
    assert read_cutout(tmp_path / 'a.fits.gz', max_pixels=12288).shape == (64, 64)
    for wrong in (0, 1.5, '9'):
        with pytest.raises(ValueError, match='max_pixels must be a whole number above 0'):
            CutoutFile(path, max_pixels=wrong)


def zipped(*contents):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, 'w') as archive:
        for number, content in enumerate(contents):
            archive.writestr(f'{number}.fits', content)
    return stream.getvalue()


@pytest.mark.parametrize('pack', [gzip.compress, bz2.compress, lzma.compress, zipped])
def test_compressed_as_a_whole(tmp_path, refused, pack):
    hdus = fits.PrimaryHDU(IMAGE), fits.ImageHDU(np.ones_like(IMAGE), name='ERR')
    content = content_of(*hdus, checksum=True)
    path = tmp_path / 'a'
    path.write_bytes(pack(content))
    cutout = read_cutout(path)
    assert_array_equal(cutout.data, IMAGE)
    assert_array_equal(cutout.uncertainty.array, 1)
    refused(pack(content[:-8000]), 'truncated or damaged')


def test_archives_of_more_files(refused):
    content = content_of(fits.PrimaryHDU(IMAGE))
    refused(zipped(content, content), 'zip archive of 2 files, want one')


def flipped(content, place):
    content = bytearray(content)
    content[place] ^= 1
    return bytes(content)


def test_sums(tmp_path):
    hdus = (
        fits.PrimaryHDU(IMAGE),
        fits.ImageHDU(np.ones_like(IMAGE), name='ERR'),
        fits.ImageHDU(IMAGE, name='OTHER'),
    )
    content = content_of(*hdus, checksum=True)
    image, noise, other = check_claims(io.BytesIO(content))
    path = tmp_path / 'a.fits'
    for place, match in (
        (
            image.data,
            "HDU 0 of '.*a.fits' may be damaged, .*: the pixels do not match their DATASUM",
        ),
        (noise.data, 'HDU 1 of .* do not match their DATASUM'),
        # a comment
        (content.index(b'conforms'), 'HDU 0 of .*: it does not match its CHECKSUM'),
    ):
        path.write_bytes(flipped(content, place))
        with pytest.warns(UserWarning, match=match):
            assert read_cutout(path).shape == (64, 64)
    with warnings.catch_warnings():
        warnings.filterwarnings('error', message='.* may be damaged')
        with pytest.raises(CutoutReadError, match=r'may be damaged'):
            read_cutout(path)
    # what is as it was, and what is not read, brings no warning, which would be an error here
    for as_it_was in (content, flipped(content, other.data)):
        path.write_bytes(as_it_was)
        assert_array_equal(read_cutout(path).data, IMAGE)
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(IMAGE)]).writeto(
        path, checksum=True, overwrite=True
    )
    assert read_cutout(path).shape == (64, 64)


def test_sums_that_a_cut_image_has_kept(tmp_path):
    path = tmp_path / 'a.fits'
    path.write_bytes(content_of(fits.PrimaryHDU(IMAGE), checksum=True))
    fits.writeto(tmp_path / 'cut.fits', IMAGE[:32, :32], fits.getheader(path))
    with pytest.warns(UserWarning, match='changed by a program that kept old sums'):
        assert read_cutout(tmp_path / 'cut.fits').shape == (32, 32)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        read_cutout(path)
    assert not caught
