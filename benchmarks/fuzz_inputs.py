# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Galaxies as arrays and files, and how they are damaged: a function of a generator each."""

import gzip
import io
from functools import cache
from typing import NamedTuple

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.nddata import (
    CCDData,
    InverseVariance,
    NDData,
    StdDevUncertainty,
    VarianceUncertainty,
)
from astropy.wcs import WCS

__all__ = ['Input', 'damaged_array', 'damaged_bytes', 'damaged_file', 'galaxy', 'layouts']

SIDE, FWHM = 41, 4.0
FLUXES = (600.0, 2000.0, 10000.0)

ODD_NUMBERS = (
    *(np.nan, np.inf, -np.inf, 0.0, -1.0, 1.0, 1e20, -1e20, -3.4e38, 3.4e38, 1e308, -1e308),
    *(5e-324, 1e-310, 1e-40, -32768.0, 65535.0, 1e10, 99.0, -999.0),
)
ODD_VALUES = (
    *("'abc'", "''", "'", 'T', 'F', '-1', '0', '1', '2', '3', '8', '16', '32', '64', '-32', '-64'),
    *('1.5', '1E400', '-1E400', 'NaN', 'INF', '99999999999999999999', '1000000', '2147483648', ''),
    *("'NaN'", "'deg'", "'RA---TAN'", "'RICE_1'", "'GZIP_2'", "'nJy'", "'%s%n'", "'../x'", '\xff'),
    *("'A' / 'B'", '(1,2)', '1 / 0', "'=1+1'", "'<b>'", "'1PB(9999999)'", "'1E'", '40000000000'),
)


class Input(NamedTuple):
    """What is measured, how it was changed, and of which galaxy; fluxes grow by the factor."""

    item: object
    change: str
    flux: float
    factor: float = 1.0


@cache
def galaxy(flux):
    """Return a galaxy in white noise of 1, with its noise, PSF and WCS."""
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE // 2
    radius = np.hypot(x, y / 0.7) * np.sqrt(0.7)
    light = _smooth(np.exp(-1.678 * radius / 2.5))
    data = flux * light / light.sum() + np.random.default_rng(7).normal(0, 1, (SIDE, SIDE))
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = 'RA---TAN', 'DEC--TAN'
    wcs.wcs.crval, wcs.wcs.crpix = (150.0, 2.0), (SIDE // 2 + 1, SIDE // 2 + 1)
    wcs.wcs.cdelt = -0.2 / 3600, 0.2 / 3600
    noise = StdDevUncertainty(np.ones(data.shape))
    return CCDData(data, unit='adu', uncertainty=noise, psf=_smooth(None), wcs=wcs)


def _smooth(image):
    """Return an image that is convolved with the PSF, or the PSF itself."""
    size = 25 if image is None else len(image)
    y, x = np.mgrid[:size, :size] - size // 2
    psf = (1 + (x**2 + y**2) / (FWHM / 0.936) ** 2) ** -3.5
    psf /= psf.sum()
    if image is None:
        return psf
    turned = np.fft.fft2(image) * np.fft.fft2(np.fft.ifftshift(psf))
    return np.fft.ifft2(turned).real


# -- arrays ---------------------------------------------------------------------------------------


class _Parts:
    """The parts of a cutout while they are changed."""

    def __init__(self, ccd):
        self.data, self.noise = ccd.data.copy(), ccd.uncertainty.array.copy()
        self.psf, self.mask, self.unit, self.factor = ccd.psf.copy(), None, ccd.unit, 1.0
        self.kind = StdDevUncertainty

    def item(self):
        noise = None if self.noise is None else self.kind(self.noise, copy=False)
        try:
            return NDData(self.data, noise, mask=self.mask, unit=self.unit, psf=self.psf)
        except (TypeError, u.UnitsError):  # astropy takes no such pixels or noise
            return self.data


def damaged_array(rng):
    """Return a cutout in memory after one to three changes."""
    flux = rng.choice(FLUXES)
    parts, names = _Parts(galaxy(flux)), []
    for change in rng.choice(ARRAY_CHANGES, size=rng.choice([1, 1, 1, 2, 3]), replace=False):
        try:
            names.append(change(parts, rng))
        except (TypeError, ValueError, OverflowError):
            # what numpy refuses, nobody has
            break
        if parts.data.ndim != 2 or not parts.data.size or parts.data.dtype.kind not in 'iuf':
            break
    return Input(parts.item(), ' + '.join(names), flux, parts.factor)


def _where(shape, rng):
    """Return pixels: some at random, a row, a column, a block or a frame."""
    where = np.zeros(shape, dtype=bool)
    ny, nx = shape
    y, x = rng.integers(ny), rng.integers(nx)
    match rng.integers(6):
        case 0:
            where.flat[rng.integers(where.size, size=rng.integers(1, 6))] = True
        case 1:
            where[y : y + rng.integers(1, 4)] = True
        case 2:
            where[:, x : x + rng.integers(1, 4)] = True
        case 3:
            where[y : y + rng.integers(1, 20), x : x + rng.integers(1, 20)] = True
        case 4:
            where |= rng.random(shape) < rng.random() ** 2
        case _:
            width = rng.integers(1, 1 + max(1, min(shape) // 2))
            where[:] = True
            where[width:-width, width:-width] = False
    return where


def _values(parts, rng):
    value = rng.choice(ODD_NUMBERS)
    data = parts.data = np.array(parts.data, dtype=float)
    data[_where(data.shape, rng)] = value
    return 'odd values of pixels'


def _brighter(parts, rng):
    data = parts.data = np.array(parts.data, dtype=float)
    data[_where(data.shape, rng)] += rng.choice([-1, 1]) * 10 ** rng.uniform(-1, 6)
    return 'pixels brighter or fainter'


def _type(parts, rng):
    types = ('f2', 'f4', '>f4', '>f8', 'i2', '>i4', 'u1', 'u2', 'i8', '?', 'c8', 'O', 'U8', 'M8[s]')
    kind = rng.choice(types)
    with np.errstate(all='ignore'):
        if kind == 'M8[s]':
            parts.data = parts.data.astype('i8').astype(kind)
        else:
            whole = np.rint(parts.data) if kind.strip('>')[0] in 'iu' else parts.data
            parts.data = whole.astype(kind)
    return 'type of numbers'


def _shape(parts, rng):
    data = parts.data
    match rng.integers(7):
        case 0:
            y0, x0 = rng.integers(0, 20, 2)
            ny, nx = rng.integers(0, 42, 2)
            data = data[y0 : y0 + ny, x0 : x0 + nx]
        case 1:
            data = data.ravel()
        case 2:
            data = data.reshape([*data.shape, 1])
        case 3:
            data = data[None, None]
        case 4:
            data = np.array(data[0, 0])
        case 5:
            data = data[:, :0]
        case _:
            data = np.repeat(data, rng.integers(1, 5), axis=rng.integers(2))
    parts.data = data
    if rng.random() < 0.7 and data.ndim == 2:
        parts.noise = np.ones(data.shape)
    return 'shape'


def _padded(parts, rng):
    value = rng.choice([0.0, np.nan, 1e20, -999.0])
    width = tuple(map(tuple, rng.integers(0, 60, (2, 2))))
    parts.data = np.pad(np.array(parts.data, dtype=float), width, constant_values=value)
    if np.ndim(parts.noise) == 2:
        parts.noise = np.pad(parts.noise, width, constant_values=rng.choice([1.0, 0.0, np.nan]))
    if np.ndim(parts.mask) == 2:
        parts.mask = np.pad(parts.mask, width, constant_values=True)
    return 'padding'


def _turned(parts, rng):
    turn = (np.transpose, np.flipud, np.fliplr, np.asfortranarray, lambda a: a[::-1, ::-1])
    parts.data = turn[rng.integers(len(turn))](parts.data)
    return 'axes turned'


def _scaled(parts, rng):
    parts.factor = 10.0 ** rng.uniform(-140, 140)
    parts.data = parts.data * parts.factor
    if parts.noise is not None and parts.noise.dtype.kind == 'f':
        parts.noise = parts.noise * parts.factor
    return 'scale of pixels and noise'


def _rescaled(parts, rng):
    parts.data = parts.data * 10.0 ** rng.uniform(-310, 300)
    return 'scale of pixels alone'


def _constant(parts, rng):
    parts.data = np.full(np.shape(parts.data), rng.choice(ODD_NUMBERS))
    return 'constant image'


def _sky(parts, rng):
    ny, nx = parts.data.shape
    slope = rng.normal(0, 0.05, 2) if rng.random() < 0.5 else (0, 0)
    level = rng.choice([-1, 1]) * 10 ** rng.uniform(-2, 4)
    plane = slope[0] * np.arange(ny)[:, None] + slope[1] * np.arange(nx)
    parts.data = parts.data + level + plane
    return 'sky left or gradient'


def _noise(parts, rng):
    shape = parts.data.shape
    noise = np.ones(shape)
    match rng.integers(8):
        case 0:
            noise = None
        case 1:
            noise = np.array(rng.choice(ODD_NUMBERS))
        case 2:
            noise[_where(shape, rng)] = rng.choice(ODD_NUMBERS)
        case 3:
            noise *= 10.0 ** rng.uniform(-300, 300)
        case 4:
            noise = rng.lognormal(0, rng.uniform(0, 8), shape)
        case 5:
            noise = np.ones(rng.integers(0, 50, rng.integers(0, 4)))
        case 6:
            noise = noise.astype(rng.choice(['f2', '>f4', 'i2', '?', 'c8', 'O', 'U4']))
        case _:
            parts.kind = (VarianceUncertainty, InverseVariance)[rng.integers(2)]
    parts.noise = noise
    return 'noise'


def _mask(parts, rng):
    mask = _where(parts.data.shape, rng)
    match rng.integers(6):
        case 0:
            mask[:] = True
        case 1:
            mask = np.array(rng.random() < 0.5)
        case 2:
            mask = np.zeros(rng.integers(0, 50, rng.integers(0, 4)), dtype=bool)
        case 3:
            mask = mask.astype(rng.choice(['f4', 'i2', '>i4', 'O', 'U4', 'c8', 'S3']))
        case 4:
            ny, nx = np.array(mask.shape) // 2
            size = rng.integers(1, 8)
            mask[max(ny - size, 0) : ny + size, max(nx - size, 0) : nx + size] = True
    parts.mask = mask
    return 'mask'


def _psf(parts, rng):
    psf = np.array(_smooth(None))
    match rng.integers(10):
        case 0:
            psf = None
        case 1:
            psf[_where(psf.shape, rng)] = rng.choice(ODD_NUMBERS)
        case 2:
            psf = rng.normal(0, 1, rng.integers(0, 60, rng.integers(0, 4)))
        case 3:
            psf *= rng.choice([-1, 1]) * 10.0 ** rng.uniform(-320, 300)
        case 4:
            psf = psf[: rng.integers(1, 25), : rng.integers(1, 25)]
        case 5:
            psf = np.roll(psf, rng.integers(-9, 9, 2), (0, 1))
        case 6:
            psf = psf.astype(rng.choice(['f2', '>f4', 'i2', '?', 'c8', 'O', 'U4']))
        case 7:
            psf = np.zeros((11, 11))
            psf[5, 5] = 1
        case 8:
            psf += 10 ** rng.uniform(-5, -1) * psf.max()
        case _:
            psf = np.full(rng.integers(1, 30, 2), rng.choice(ODD_NUMBERS))
    parts.psf = psf
    return 'PSF'


def _unit(parts, rng):
    names = ('nJy', 'electron', 'mag(AB)', 'm', 'MJy / sr', 'adu / s', 'deg', '1000 adu', 'ct')
    name = names[rng.integers(len(names))]
    parts.unit = None if rng.random() < 0.1 else u.Unit(name)
    if name == '1000 adu':
        parts.factor *= 1000
    return 'unit'


ARRAY_CHANGES = (
    *(_values, _brighter, _type, _shape, _padded, _turned, _scaled, _rescaled, _constant, _sky),
    *(_noise, _noise, _mask, _mask, _psf, _psf, _unit),
)


# -- files ----------------------------------------------------------------------------------------


@cache
def layouts():
    """Return the bytes of intact files by their layout, each as a survey or a program writes it."""
    return {(name, flux): make(flux) for name, make in LAYOUTS.items() for flux in FLUXES}


def _bytes(*hdus):
    stream = io.BytesIO()
    fits.HDUList([*hdus]).writeto(stream)
    return stream.getvalue()


def _header(flux):
    header = galaxy(flux).wcs.to_header()
    header['BUNIT'] = 'adu'
    return header


def _planes(flux, names, primary=None):
    """Return HDUs of an image, its mask, its variance and so on, by their names."""
    ccd = galaxy(flux)
    ones = np.ones(ccd.shape, 'f4')
    zeros = np.zeros(ccd.shape, 'i4')
    content = {'VARIANCE': ones, 'ERR': ones, 'IVAR': ones, 'MASK': zeros, 'DQ': zeros}
    content |= {'WHT': ones, 'PSF': ccd.psf}
    hdus = [primary or fits.PrimaryHDU()]
    for name in names.split():
        data = content.get(name, ccd.data.astype('f4'))
        header = _header(flux) if name not in content else None
        hdus.append(fits.ImageHDU(data, header=header, name=name))
        if name == 'MASK':
            hdus[-1].header['MP_BAD'], hdus[-1].header['MP_SAT'] = 0, 1
    return hdus


def _hsc(flux):
    primary = fits.PrimaryHDU()
    primary.header['FLUXMAG0'] = 10 ** (0.4 * 27)
    table = fits.BinTableHDU.from_columns(
        [fits.Column('id', 'J', array=[1, 2]), fits.Column('name', '8A', array=['a', 'b'])]
    )
    return _bytes(*_planes(flux, 'IMAGE MASK VARIANCE PSF', primary), table)


def _lsst(flux):
    hdus = _planes(flux, 'IMAGE MASK VARIANCE')
    for hdu in hdus[1:]:
        hdu.header['EXTTYPE'] = hdu.name
    return _bytes(
        hdus[0],
        *(fits.CompImageHDU(h.data, h.header, h.name, compression_type='GZIP_2') for h in hdus[1:]),
    )


def _rice(flux):
    data = galaxy(flux).data.astype('f4')
    image = fits.CompImageHDU(data, _header(flux), compression_type='RICE_1', quantize_level=64)
    return _bytes(fits.PrimaryHDU(), image)


def _ccd(flux):
    hdus = galaxy(flux).to_hdu(as_image_hdu=False)
    return _bytes(*hdus)


def _cube(flux):
    data = np.stack([galaxy(flux).data.astype('f4')] * 3)
    header = fits.Header({'BANDS': 'grz'})
    return _bytes(fits.PrimaryHDU(data, header))


def _asinh(flux):
    header = fits.Header({'BSOFTEN': 5.0, 'BOFFSET': 0.0})
    data = galaxy(flux).data
    magnitudes = 2.5 / np.log(10) * np.arcsinh(data / 10.0)
    return _bytes(fits.PrimaryHDU(magnitudes.astype('f4'), header))


def _integers(flux):
    hdu = fits.PrimaryHDU(galaxy(flux).data.astype('f4'), _header(flux))
    hdu.scale('int16', bscale=0.05, bzero=0)
    return _bytes(hdu)


LAYOUTS = {
    'plain': lambda flux: _bytes(fits.PrimaryHDU(galaxy(flux).data.astype('f4'), _header(flux))),
    'integers': _integers,
    'gzip': lambda flux: gzip.compress(_hsc(flux), 1),
    'RICE': _rice,
    'HSC': _hsc,
    'LSST': _lsst,
    'HST': lambda flux: _bytes(*_planes(flux, 'SCI ERR DQ')),
    'Legacy': lambda flux: _bytes(*_planes(flux, 'IMAGE IVAR PSF')),
    'weights': lambda flux: _bytes(*_planes(flux, 'SCI WHT')),
    'CCDData': _ccd,
    'Pan-STARRS': _asinh,
    'cube': _cube,
}


def damaged_file(rng, folder, number):
    """Write a damaged FITS file, and return it as an `Input`."""
    name = list(LAYOUTS)[rng.integers(len(LAYOUTS))]
    flux = rng.choice(FLUXES)
    content = layouts()[name, flux]
    inside = name == 'gzip' and rng.random() < 0.5
    if inside:
        content = gzip.decompress(content)
    changes = []
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        change = FILE_CHANGES[rng.integers(len(FILE_CHANGES))]
        content = change(bytearray(content), rng)
        changes.append(change.__name__.strip('_').replace('_', ' '))
    if inside:
        content = gzip.compress(bytes(content), 1)
    path = folder / f'{number}.fits'
    path.write_bytes(content)
    return Input(path, f'{name}: {" + ".join(sorted({*changes}))}', flux)


def damaged_bytes(content, rng):
    """Return bytes of any file with a few of them changed."""
    for _ in range(rng.choice([1, 1, 2, 4])):
        change = BYTE_CHANGES[rng.integers(len(BYTE_CHANGES))]
        content = change(bytearray(content), rng)
    return bytes(content)


def _cards(content):
    """Return where the cards of all headers begin."""
    return [i for i in range(0, len(content) - 79, 80) if _is_card(content[i : i + 80])]


def _is_card(card):
    return (
        card[:1].isupper() and card[8:10] in (b'= ', b'  ') and max(card) < 128 and min(card) > 31
    )


def _a_card(content, rng):
    cards = _cards(content)
    return cards[rng.integers(len(cards))] if cards else None


def _value_of_a_card(content, rng):
    if (at := _a_card(content, rng)) is not None:
        value = ODD_VALUES[rng.integers(len(ODD_VALUES))].encode('latin-1')
        content[at + 10 : at + 80] = value.rjust(20).ljust(70)
    return content


def _digit_of_a_card(content, rng):
    if (at := _a_card(content, rng)) is not None:
        digits = [i for i in range(at + 10, at + 80) if chr(content[i]).isdigit()]
        if digits:
            content[rng.choice(digits)] = ord(str(rng.integers(10)))
    return content


def _bits_of_a_card(content, rng):
    if (at := _a_card(content, rng)) is not None:
        content[at + rng.integers(80)] ^= 1 << rng.integers(8)
    return content


def _card_removed(content, rng):
    if (at := _a_card(content, rng)) is not None:
        content[at : at + 80] = b' ' * 80
    return content


def _cards_swapped(content, rng):
    a, b = _a_card(content, rng), _a_card(content, rng)
    if a is not None:
        content[a : a + 80], content[b : b + 80] = content[b : b + 80], content[a : a + 80]
    return content


def _card_over_another(content, rng):
    a, b = _a_card(content, rng), _a_card(content, rng)
    if a is not None:
        content[a : a + 80] = content[b : b + 80]
    return content


def _bits(content, rng):
    for _ in range(rng.integers(1, 4) if content else 0):
        content[rng.integers(len(content))] ^= 1 << rng.integers(8)
    return content


def _run_of_bytes(content, rng):
    at, n = rng.integers(len(content) + 1), int(10 ** rng.uniform(0, 3.7))
    pattern = (b'\x00', b'\xff', b'\x7f\xc0\x00\x00', b' ', rng.bytes(n))[rng.integers(5)]
    end = min(at + n, len(content))
    content[at:end] = (pattern * n)[: end - at]
    return content


def _cut_short(content, rng):
    return content[: rng.integers(len(content) + 1)]


def _bytes_more(content, rng):
    at = rng.integers(len(content) + 1)
    content[at:at] = rng.bytes(rng.choice([1, 80, 2880]))
    return content


def _block_removed(content, rng):
    at = 2880 * rng.integers(len(content) // 2880 + 1)
    del content[at : at + 2880 * rng.integers(1, 4)]
    return content


def _block_twice(content, rng):
    at = 2880 * rng.integers(len(content) // 2880 + 1)
    content[at:at] = content[at : at + 2880 * rng.integers(1, 4)]
    return content


BYTE_CHANGES = (_bits, _run_of_bytes, _cut_short, _bytes_more)
FILE_CHANGES = (
    *(_value_of_a_card, _value_of_a_card, _value_of_a_card, _digit_of_a_card, _digit_of_a_card),
    *(_bits_of_a_card, _card_removed, _cards_swapped, _card_over_another, _bits, _bits),
    *(_run_of_bytes, _cut_short, _bytes_more, _block_removed, _block_twice),
)
