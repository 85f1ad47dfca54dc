# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What the headers of a FITS file claim, looked at before anything is taken."""

import bz2
import gzip
import io
import lzma
import math
import re
import zipfile
import zlib
from dataclasses import dataclass
from itertools import product

import numpy as np

from astroflux.cutouts._planes import ContentError

__all__ = ['MOST_PIXELS', 'Claim', 'check_claims', 'check_tiles', 'refuse_many', 'unpacked']

# The image and what is beside it have no more pixels; a user may say more. This is 16384 a side.
MOST_PIXELS = 2**28

# astropy needs 2 ms for each, and no survey's files come near it.
_MOST_HDUS = 4096
# Bytes of a header, or behind the last HDU: 36,000 cards.
_MOST_HEADER = 1000 * 2880
_BLOCK = 2880
_CARD = 80
_END = b'END'.ljust(_CARD)

# How much larger gzip's content can be than what it has packed.
_MOST_OF_GZIP = 1032
# Tiles of so many bytes are harmless.
_SMALL_TILE = 2**26

# No number of bytes is larger.
_LARGEST = 2**62

# Numbers that astropy counts up to, or takes memory for: the least and the most of them.
_RANGES = {
    **dict.fromkeys(('NAXIS', 'TFIELDS', 'ZNAXIS'), (0, 999)),
    **dict.fromkeys(('PCOUNT', 'THEAP'), (0, _LARGEST)),
    'GCOUNT': (1, _LARGEST),
    'BITPIX': (-64, 64),
}
_SUMS = ('CHECKSUM', 'DATASUM')
_NAMES = {name.encode() for name in (*_RANGES, *_SUMS)}
# Parameters of packed tiles that memory is taken by; their names are those in ZNAME1 and so on.
_OF_TILES = {'BLOCKSIZE': (8, 16, 32), 'BYTEPIX': (1, 2, 4, 8)}
_AXES = (b'NAXIS', b'ZNAXIS', b'ZTILE')
_PARAMETERS = (b'ZNAME', b'ZVAL')
_START = re.compile(rb'\s*(SIMPLE|XTENSION)', re.IGNORECASE)
_AXIS = re.compile(rb'(?:Z?NAXIS|ZTILE|ZNAME|ZVAL)\d+', re.IGNORECASE)
_CARDS = re.compile(rb'(.{8})(.{72})', re.DOTALL)
_KEYWORD = re.compile(rb'\s*([A-Z]+\d*)\s*=\s', re.IGNORECASE)
_INTEGER = re.compile(rb'\s*([+-]?\d+)\s*(/|$)')
_TEXT = re.compile(rb"\s*'([^']*)'")

_OPENERS = {b'\x1f\x8b\x08': gzip.open, b'BZh': bz2.open, b'\xfd7zXZ\x00': lzma.open}
_ZIP = b'PK\x03\x04'
_LZW = b'\x1f\x9d'


@dataclass(frozen=True)
class Claim:
    """Where the header, the data and the heap of an HDU are, by byte, and what it says of them."""

    header: int
    data: int
    heap: int
    end: int
    n_pixels: int
    tile: dict
    checksum: str | None
    datasum: str | None

    def fault(self, stream):
        """Return which stated sum its bytes contradict, in words; `None` if there is no such."""
        if self.checksum is None and self.datasum is None:
            return None
        stream.seek(self.header)
        header, data = stream.read(self.data - self.header), stream.read(self.end - self.data)
        of_data = _sum(data)
        if self.datasum is not None and self.datasum != str(of_data):
            return 'the pixels do not match their DATASUM'
        if self.checksum is not None and _folded(_sum(header) + of_data) not in (0, 2**32 - 1):
            return 'it does not match its CHECKSUM'
        return None


def _folded(total):
    """Return a sum in the ones' complement of 32 bits."""
    while total >> 32:
        total = (total & (2**32 - 1)) + (total >> 32)
    return total


def _sum(content):
    """Return the sum that the FITS standard takes of bytes."""
    content += bytes(-len(content) % 4)
    return _folded(int(np.frombuffer(content, '>u4').sum(dtype=np.uint64)))


def unpacked(stream, most_pixels):
    """
    Return the claims of a file, and the stream to read it from.

    That is the one given, or what is in it if it is compressed: no more than has been claimed.
    """
    magic = stream.read(6)
    stream.seek(0)
    opener = next((opener for start, opener in _OPENERS.items() if magic.startswith(start)), None)
    if magic.startswith(_LZW):
        msg = 'it was packed by compress (.Z): unpack it'
        raise ContentError(msg)
    if opener is None and not magic.startswith(_ZIP):
        return check_claims(stream), stream
    content = _Copy(_member(stream) if opener is None else opener(stream))
    return check_claims(content, most_pixels), content.copy


def _member(stream):
    """Return what is in a zip archive of one file."""
    archive = zipfile.ZipFile(stream)
    if len(names := archive.namelist()) != 1:
        msg = f'it is a zip archive of {len(names)} files, want one'
        raise ContentError(msg)
    return archive.open(names[0])


class _Copy:
    """A stream that is read once, from its beginning, and copied as far as it has been read."""

    def __init__(self, stream):
        self._stream = stream
        self.copy = io.BytesIO()

    def read(self, n):
        content = self._stream.read(n)
        self.copy.write(content)
        return content

    def seek(self, place):
        """Go on to a place."""
        while (n := place - self.copy.tell()) > 0:
            if not self.read(min(n, 2**22)):
                raise EOFError


def check_claims(stream, most_pixels=math.inf):
    """
    Return the `Claim` of each HDU; `ContentError` for one that nobody can want to be read.

    Its headers are read, and what they claim is not taken. What is damaged otherwise is left to
    those who read it. If a number of pixels is given, all HDUs together have no more.
    """
    claims, place, n_pixels = [], 0, 0
    while header := _header(stream, place):
        if len(claims) == _MOST_HDUS:
            msg = f'it has more than {_MOST_HDUS} HDUs'
            raise ContentError(msg)
        claims.append(_claim(header, place, len(claims)))
        n_pixels += claims[-1].n_pixels
        refuse_many(n_pixels, most_pixels)
        place = claims[-1].end
        stream.seek(place)
    return claims


def refuse_many(n_pixels, most_pixels):
    """Raise `ContentError` for more pixels than a number."""
    if n_pixels > most_pixels:
        msg = (
            f'it has {n_pixels} pixels, more than {most_pixels} are not read; max_pixels of a '
            'CutoutFile, or the option --max-pixels, raises that'
        )
        raise ContentError(msg)


def check_tiles(hdu, claim, stream):
    """
    Raise `ContentError` if a tile of a compressed image holds more than there is room for.

    What gzip has packed may be anything, and is unpacked as a whole; a tile that is too small to
    hold much is not looked at. HCOMPRESS writes as many pixels as a tile itself says, wherever
    that is in memory.
    """
    table = getattr(hdu, 'compressed_data', None)
    if table is None:
        return
    if not all(_fit_of_gzip(hdu, table, claim, stream)) or not all(
        _fit_of_hcompress(hdu, table, claim, stream)
    ):
        msg = f'a tile of a compressed image of the shape {hdu.shape} holds more than that'
        raise ContentError(msg)


def _fit_of_gzip(hdu, table, claim, stream):
    """Yield whether tiles that gzip has packed hold no more than the image."""
    most = max(8 * math.prod(hdu.shape), _SMALL_TILE)
    names = {'GZIP_COMPRESSED_DATA'}
    if hdu.compression_type.startswith('GZIP'):
        names.add('COMPRESSED_DATA')
    for name in names & {*table.columns.names}:
        # the table has their sizes and places
        tiles = np.array(table[name])
        for size, place in tiles[_MOST_OF_GZIP * tiles[:, 0].astype(float) > most].tolist():
            stream.seek(claim.heap + place)
            yield not _is_larger(stream.read(size), most)


def _fit_of_hcompress(hdu, table, claim, stream):
    """Yield whether tiles that HCOMPRESS has packed say that they have the shape that they have."""
    if hdu.compression_type != 'HCOMPRESS_1':
        return
    tiles = table['COMPRESSED_DATA'].tolist()
    for (size, place), shape in zip(tiles, _tile_shapes(hdu, claim), strict=False):
        if size:
            stream.seek(claim.heap + place)
            sides = np.frombuffer(stream.read(10)[2:], '>i4').tolist()
            # axes of length 1 apart
            yield sides == [n for n in shape if n != 1]


def _tile_shapes(hdu, claim):
    """Yield the shapes of the tiles of an image, in their order; those at the end are smaller."""
    sizes = [claim.tile.get(axis, hdu.shape[-1] if axis == 1 else 1) for axis in _axes_of(hdu)]
    ends = [range(0, n, size) for n, size in zip(hdu.shape, sizes, strict=True)]
    for starts in product(*ends):
        edges = zip(hdu.shape, starts, sizes, strict=True)
        yield tuple(min(size, n - start) for n, start, size in edges)


def _axes_of(hdu):
    """Return the numbers of the axes in the order of an array."""
    return range(len(hdu.shape), 0, -1)


def _is_larger(packed, most):
    """Return whether what gzip has packed is larger than a number of bytes."""
    size = 0
    while packed:
        unpacker = zlib.decompressobj(wbits=31)
        size += len(unpacker.decompress(packed, most + 1 - size))
        if size > most:
            return True
        # another one behind it
        packed = unpacker.unused_data
    return False


def _header(stream, place):
    """Return the bytes of the header that begins at a place; empty if there is none."""
    blocks = [stream.read(_BLOCK)]
    if place == 0 and not blocks[0].startswith(b'SIMPLE'):
        msg = 'there is no card SIMPLE'
        raise OSError(msg)
    while not _ends(blocks[-1]):
        if len(blocks) * _BLOCK >= _MOST_HEADER:
            msg = f'there is no END in {_MOST_HEADER} bytes of a header, or behind the last HDU'
            raise ContentError(msg)
        blocks.append(stream.read(_BLOCK))
        if len(blocks[-1]) < _BLOCK:
            if _START.match(blocks[0]):
                raise EOFError
            # some bytes that no HDU is made of
            return b''
    behind = blocks[-1][_place_of_end(blocks[-1]) + _CARD :]
    if any(behind[at + 8 : at + 10] == b'= ' for at in range(0, len(behind), _CARD)):
        msg = 'a header has cards behind its END, which say something of the pixels or nothing'
        raise ContentError(msg)
    return b''.join(blocks)


def _ends(block):
    return _place_of_end(block) >= 0


def _place_of_end(block):
    """Return where the card END begins, as strictly as astropy looks for it; -1 if nowhere."""
    place = block.find(_END)
    while place >= 0 and place % _CARD:
        place = block.find(_END, place + 1)
    return place


def _claim(header, place, number):
    numbers, sums = {'NAXIS': 0, 'PCOUNT': 0, 'GCOUNT': 1, 'BITPIX': 8}, {}
    seen, parameters = set(), {}
    for name, text in _cards(header):
        if name in _SUMS:
            value = _TEXT.match(text)
            sums[name] = value and value[1].decode('ascii', 'replace').strip()
            continue
        if name.startswith(('ZNAME', 'ZVAL')):
            parameters[name] = text
            continue
        value = _number(name, text, number)
        if name in seen and value != numbers[name]:
            msg = f'HDU {number} has {name} twice, as {numbers[name]} and {value}'
            raise ContentError(msg)
        seen.add(name)
        numbers[name] = value
    _check_parameters(parameters, number)
    n_pixels = _n_pixels(numbers, is_groups=b'GROUPS  =' in header)
    size = abs(numbers['BITPIX']) * n_pixels // 8
    data = place + len(header)
    checksum, datasum = (sums.get(name) or None for name in _SUMS)
    end = data + size + -size % _BLOCK
    heap = data + numbers.get('THEAP', numbers.get('NAXIS1', 0) * numbers.get('NAXIS2', 0))
    tile = {int(key[5:]): size for key, size in numbers.items() if key.startswith('ZTILE')}
    return Claim(place, data, heap, end, n_pixels, tile, checksum, datasum)


def _cards(header):
    """Yield the names of those cards that matter, however they are written, and what follows."""
    for key, rest in _CARDS.findall(header):
        name = key.strip().upper()
        if b'=' in key or name in _NAMES or name.startswith(_AXES + _PARAMETERS):
            match = _KEYWORD.match(key + rest)
            if match and (match[1].upper() in _NAMES or _AXIS.fullmatch(match[1])):
                yield match[1].decode().upper(), (key + rest)[match.end() :]


def _number(name, text, number):
    """Return the integer of a card, if it is one that can be meant."""
    least, most = _RANGES.get(name, (1 if name.startswith('ZTILE') else 0, _LARGEST))
    match = _INTEGER.match(text)
    # more digits than that are not taken for a number
    value = int(match[1]) if match and len(match[1]) < 70 else None
    if value is None or not least <= value <= most:
        shown = text.split(b'/')[0].decode('ascii', 'replace').strip()
        wanted = f'{least} or more' if most == _LARGEST else f'{least} to {most}'
        msg = f'HDU {number} has {name} = {shown}, want {wanted}'
        raise ContentError(msg)
    return value


def _check_parameters(parameters, number):
    """Raise `ContentError` for parameters of packed tiles that are of no known kind."""
    for key, text in parameters.items():
        name = _TEXT.match(text) if key.startswith('ZNAME') else None
        name = name and name[1].decode('ascii', 'replace').strip().upper()
        if name not in _OF_TILES:
            continue
        value = _number(name, parameters.get(f'ZVAL{key[5:]}', b''), number)
        if value not in _OF_TILES[name]:
            msg = f'HDU {number} has {name} = {value}, want one of {_OF_TILES[name]}'
            raise ContentError(msg)


def _n_pixels(numbers, *, is_groups):
    """Return how many values the data of an HDU have."""
    axes = [numbers.get(f'NAXIS{axis}', 0) for axis in range(1, numbers['NAXIS'] + 1)]
    if is_groups and axes and axes[0] == 0:
        axes = axes[1:]
    return numbers['GCOUNT'] * (numbers['PCOUNT'] + math.prod(axes)) if axes else 0
