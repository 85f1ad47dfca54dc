# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Read a cutout from a FITS file: a plain image, or an image with mask, noise and PSF."""

import errno
import math
import re
import stat
import warnings
import zlib
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass
from numbers import Integral
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData, StdDevUncertainty
from astropy.utils.exceptions import AstropyUserWarning

from astroflux._forks import ForkLock
from astroflux._quiet import quiet_libraries
from astroflux.cutouts._claims import MOST_PIXELS, check_tiles, unpacked
from astroflux.cutouts._headers import descriptive_header, unit_of, zeropoint_of
from astroflux.cutouts._layout import (
    SectionError,
    check_size,
    find_image,
    pixels_of,
    plane_index,
    roles_of,
    shape_of,
    window_of,
)
from astroflux.cutouts._planes import (
    ContentError,
    MaskPlaneError,
    Plane,
    is_noise,
    mask_of,
    native,
    std_of,
)
from astroflux.cutouts._wcs import wcs_of

__all__ = ['CutoutFile', 'CutoutReadError', 'read_cutout']

# What a plane of weights may be taken for.
WEIGHTS = ('mask', 'ivar')

# Pan-STARRS scales its pixels by asinh magnitudes: the factor of ln in a magnitude.
_POGSON = 2.5 / math.log(10)

# Bytes of a block of FITS, which files are padded to with zeros.
_BLOCK = 2880

_DAMAGE = re.compile('truncated|corrupt', re.IGNORECASE)

# One file is opened at a time: astropy and the library of its WCS are not made for threads.
_opening = ForkLock()


class CutoutReadError(OSError):
    """A file that does not hold a readable cutout."""


def read_cutout(
    path,
    *,
    hdu=None,
    plane=None,
    unit=None,
    mask_planes=None,
    weight='mask',
    max_pixels=MOST_PIXELS,
):
    """
    Read a cutout from a FITS file.

    The image is the HDU named IMAGE, SCI or DATA, else the first with a 2-d image. Beside it are
    found, by ``EXTNAME`` or ``EXTTYPE``:

    - the noise: ERR, RMS, SIGMA, NOISE, UNCERTAINTY (a standard deviation), VARIANCE, VAR, STAT (a
      variance), IVAR, INVVAR (its inverse), or the UNCERT of `~astropy.nddata.CCDData`. The
      keyword ``HDUCLAS3`` goes before the name;
    - a mask: MASK, DQ, and others;
    - a weight map: WEIGHT, WHT, WGT, see ``weight``;
    - a PSF image: PSF.

    Without names, an HDU whose header has ``MP_`` mask planes is the mask and the next one the
    variance. If the header has both ``BSOFTEN`` and ``BOFFSET``, the pixels are in asinh
    magnitudes, as those of Pan-STARRS, and are made linear [1]_; with one alone, the file is
    refused.

    Parameters
    ----------
    path : str or `~pathlib.Path`
        The file, compressed or not.
    hdu : int or str, optional
        HDU of the image, when it is not the one described above.
    plane : int or str, optional
        Which plane to take of an HDU that holds several, such as a cube of bands: its number,
        counted from 0, or the name of its band, if the header has ``BANDS`` or ``BAND0``,
        ``BAND1`` and so on. Mask, noise and PSF of as many planes are treated alike.
    unit : `~astropy.units.UnitBase` or str, optional
        Unit of the image, instead of its ``BUNIT``; adu without either.
    mask_planes : iterable of str or int, optional
        Which bits of the mask make a pixel unusable: names of planes that the header lists
        (``MP_BAD`` and so on), names of JWST (``'DO_NOT_USE'``), or values (1, 2, 4 ...). By
        default, of the planes that a header lists, BAD, SAT, NO_DATA and UNMASKEDNAN; of a DQ
        plane of JWST or Roman, DO_NOT_USE (1). Where the header names no telescope, a DQ plane of
        unsigned 32-bit integers is taken for one of these. Of all others, any value but zero.
    weight : {'mask', 'ivar'}
        What a weight map tells. The scale of weights is not standard (inverse variance, exposure
        time), so only its zeros mask pixels by default. ``'ivar'``: it is the inverse of the
        variance, and gives the noise if no other HDU does.
    max_pixels : int
        The most pixels that the image and what is beside it may have together, before any is read:
        what a damaged or malicious file claims may be more than there is memory for. All HDUs count
        if the file is compressed as a whole (``.gz``).

    Returns
    -------
    cutout : `~astropy.nddata.CCDData`
        With ``mask``, ``uncertainty`` (a `~astropy.nddata.StdDevUncertainty`, whatever is in the
        file), ``wcs``, ``psf`` and ``meta``; ``meta['zeropoint']`` is the AB magnitude of 1
        unit, if the header states it by ``FLUXMAG0``, ``MAGZERO``, ``MAGZPT``, ``MAGZP``,
        ``ZEROPNT`` or ``PHOTZP``, and does not say that it is of Vega.

    Raises
    ------
    CutoutReadError
        If there is no such file, it is not FITS, is truncated, or has no
        image; or its unit is not understood; or it is larger than ``max_pixels``.
    ValueError
        If a mask plane was asked for that the file does not have, or ``weight`` is unknown.

    Warns
    -----
    AstropyUserWarning
        If the WCS cannot be used; or an HDU that is read does not match its ``DATASUM`` or
        ``CHECKSUM``. Many programs copy these keywords to an image that they have changed or cut,
        and so that is no error.

    See Also
    --------
    CutoutFile : A file and how to read it, to be measured among others.

    References
    ----------
    .. [1] Waters, C. Z. et al. 2020, ApJS, 251, 4:
           ``linear = BOFFSET + BSOFTEN (exp(x / a) - exp(-x / a))`` with ``a = 2.5 log10(e)``.
    """
    options = {'mask_planes': mask_planes, 'weight': weight, 'max_pixels': max_pixels}
    return CutoutFile(path, hdu=hdu, plane=plane, unit=unit, **options).read()


@dataclass(frozen=True)
class CutoutFile:
    """
    A FITS file and how to read it: a cutout, wherever a path is one.

    For files that the defaults of `read_cutout` do not suit. They are read when they are
    measured, one after the other, and one that cannot be read has a flagged row.

    Parameters
    ----------
    path : str or `~pathlib.Path`
        The file.
    hdu, plane, unit, mask_planes, weight, max_pixels : object, optional
        As in `read_cutout`.

    Raises
    ------
    ValueError
        If ``unit`` is no unit, ``weight`` is unknown, or ``max_pixels`` is no number.

    Examples
    --------
    >>> from astroflux.cutouts import CutoutFile
    >>> files = [CutoutFile(name, plane='r', unit='nmgy') for name in ('a.fits', 'b.fits')]
    >>> str(files[0])
    'a.fits'
    """

    path: str | Path
    _: KW_ONLY
    hdu: int | str | None = None
    plane: int | str | None = None
    unit: u.UnitBase | str | None = None
    mask_planes: tuple | None = None
    weight: str = 'mask'
    max_pixels: int = MOST_PIXELS

    def __post_init__(self):
        if self.weight not in WEIGHTS:
            msg = f'weight must be one of {WEIGHTS}, got {self.weight!r}'
            raise ValueError(msg)
        if not isinstance(self.max_pixels, Integral) or self.max_pixels < 1:
            msg = f'max_pixels must be a whole number above 0, got {self.max_pixels!r}'
            raise ValueError(msg)
        # Frozen, so that it can be a key, and is the same in another process.
        if self.unit is not None:
            object.__setattr__(self, 'unit', u.Unit(self.unit))
        if self.mask_planes is not None:
            object.__setattr__(self, 'mask_planes', tuple(self.mask_planes))

    def __str__(self):
        return str(self.path)

    def read(self, section=None):
        """
        Read the file.

        Parameters
        ----------
        section : pair of slice, optional
            Rows and columns to read, of the first pixel 0. Of a file that is not compressed as a
            whole (``.gz``), only these rows or tiles are read, ``max_pixels`` counts only them,
            and ``DATASUM`` and ``CHECKSUM``, which are of all pixels, are not looked at.

        Returns
        -------
        cutout : `~astropy.nddata.CCDData`
            What `read_cutout` returns, which also says what is raised; of the section, with its
            WCS.
        """
        return self._read(section)

    def _read(self, section, own=()):
        """Read the file, or a section; ``own`` are planes of the image from files of their own."""
        with opened(self.path, self.max_pixels) as (hdus, stream, claims):
            cutout, faults = _parse(self, hdus, stream, claims, section, own)
        for fault in faults:
            try:
                warnings.warn(fault, AstropyUserWarning, stacklevel=4)
            except AstropyUserWarning:
                # the user has made it an error, which is that of one file
                raise CutoutReadError(fault) from None
        return cutout


def geometry_of(file):
    """
    Return the shape of the image of a `CutoutFile`, its WCS, and what is wrong with that.

    Its pixels are not read. The WCS is `None` if it is not celestial or cannot be used.
    `CutoutReadError` for what `read_cutout` raises it.
    """
    with opened(file.path, file.max_pixels) as (hdus, stream, _):
        image, index, _ = _chosen(file, hdus)
        shape = shape_of(image, index)
        return shape, *_wcs(image, shape, hdus, stream)


@contextmanager
def opened(path, max_pixels=MOST_PIXELS):
    """
    Open a FITS file: its HDUs, the stream that they are in, and what its headers claim.

    Whatever goes wrong with it until it is closed is a `CutoutReadError` that names it.
    """
    path = Path(path)
    try:
        _check_regular(path)
        # Opened here: astropy leaves a file open that it fails to parse.
        with path.open('rb') as file:
            claims, stream = unpacked(file, max_pixels)
            stream.seek(0)
            with _opening, quiet_libraries(), fits.open(stream, memmap=False) as hdus:
                # Reads all headers.
                len(hdus)
                if _is_damaged(hdus):
                    raise EOFError
                yield hdus, stream, claims
    except (CutoutReadError, MaskPlaneError, SectionError):
        raise
    except ContentError as exc:
        msg = f'cannot read {str(path)!r}: {exc}'
        raise CutoutReadError(msg) from None
    except FileNotFoundError as exc:
        msg = f'cannot read {str(path)!r}: there is no such file'
        raise CutoutReadError(msg) from exc
    except Exception as exc:  # a damaged file brings any error of any library
        msg = f'cannot read {str(path)!r}: {_reason(path, exc)}'
        raise CutoutReadError(msg) from exc


def _is_damaged(hdus):
    """Return whether a file ends before its last HDU does, or goes on with what is none."""
    place = hdus[-1].fileinfo()
    file, end = place['file'], place['datLoc'] + place['datSpan']
    if end > file.size:
        return True
    file.seek(end)
    return any(file.read(_BLOCK))


def _check_regular(path):
    """Raise `OSError` for what is no file, such as a pipe, which would be waited for."""
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        msg = 'it is a directory'
        raise IsADirectoryError(msg)
    if not stat.S_ISREG(mode):
        msg = f'cannot read {str(path)!r}: it is not a file, but a pipe or a device'
        raise CutoutReadError(msg)


def _reason(path, exc):
    """Say in words why astropy could not read a file."""
    if getattr(exc, 'errno', None) == errno.ELOOP:
        return 'it is a link to itself'
    if isinstance(exc, IsADirectoryError):
        return 'it is a directory'
    if isinstance(exc, PermissionError):
        return 'permission denied'
    if 'SIMPLE' in str(exc) or path.stat().st_size == 0:
        return 'it is not a FITS file'
    if isinstance(exc, EOFError | zlib.error) or _DAMAGE.search(str(exc)):
        return 'the file is truncated or damaged'
    if isinstance(exc, OSError):
        return str(exc)
    return f'its headers are damaged ({type(exc).__name__}: {exc})'


def _chosen(file, hdus):
    """Return the HDU of the image, which of its planes, and the roles of the HDUs beside it."""
    roles = roles_of(hdus, cubes=file.plane is not None)
    image = find_image(hdus, roles, file.hdu, file.plane)
    index = None if file.plane is None else plane_index(image, file.plane)
    beside = {
        hdu: role
        for hdu, role in roles.items()
        if role != 'image' and hdu is not image and hdu.ver == image.ver
    }
    return image, index, beside


def _parse(file, hdus, stream, claims, section, own):
    """Return the `CCDData`, and what is wrong that does not lose it."""
    image, index, beside = _chosen(file, hdus)
    shape = shape_of(image, index)
    window = window_of(section, shape)
    # a PSF is not of the same pixels
    windows = {hdu: None if role == 'psf' else window for hdu, role in beside.items()}
    windows[image] = window
    check_size(windows, file.max_pixels)
    claims = {hdu: claim_of(hdu, claims) for hdu in (image, *beside)}
    for hdu, claim in claims.items():
        check_tiles(hdu, claim, stream)
    header = image.header
    data = _linear(native(pixels_of(image, index, window)), header)
    unit = _unit(header) if file.unit is None else file.unit
    meta = descriptive_header(header, hdus[0].header)
    for hdu, role in beside.items():
        check_shape(f'{hdu.name or role} HDU', shape_of(hdu, index), shape, role)
    for plane in own:
        check_shape(plane.name, plane.shape, shape, plane.role)
    planes = _joined(own, [plane_of(h, role, index, windows[h]) for h, role in beside.items()])
    std = _std(planes, file.weight)
    zeropoint = zeropoint_of(meta)
    if zeropoint is not None:
        meta['HIERARCH zeropoint'] = (zeropoint, 'AB magnitude of 1 unit')
    wcs, fault = _wcs(image, shape, hdus, stream)
    name = repr(str(file))
    faults = [] if fault is None else [f'the WCS of {name} cannot be used: {fault}']
    if window is None:
        faults += _sum_faults(name, hdus, stream, claims)
    cutout = CCDData(
        data,
        unit=unit,
        mask=_mask(planes, meta, file.mask_planes),
        uncertainty=None if std is None else StdDevUncertainty(std, copy=False),
        psf=next((native(plane.pixels) for plane in planes if plane.role == 'psf'), None),
        wcs=wcs if wcs is None or window is None else wcs.slice(window),
        meta=meta,
    )
    return cutout, faults


def check_shape(name, found, shape, role):
    """Raise `ContentError` if a plane beside an image is not of the image's shape."""
    if role != 'psf' and found != shape:
        msg = f'the image has the shape {shape}, its {name} {found}'
        raise ContentError(msg)


def plane_of(hdu, role, index, window):
    """Return an HDU beside an image as a `Plane`, or the part of it that is in a window."""
    shape = shape_of(hdu, index)
    name = f'{hdu.name or role} HDU'
    return Plane(role, name, hdu.header, shape, pixels_of(hdu, index, window))


def _joined(own, planes):
    """Return planes from files of their own, and those beside the image but its noise if told."""
    if any(is_noise(plane.role, 'mask') for plane in own):
        planes = [plane for plane in planes if not is_noise(plane.role, 'mask')]
    return [*own, *planes]


def _linear(data, header):
    """Return pixels as they are, or made linear if their header says that they are not."""
    found = [name for name in ('BSOFTEN', 'BOFFSET') if name in header]
    if not found:
        return data
    if len(found) < 2:
        msg = (
            f'its header has {found[0]} alone: pixels in asinh magnitudes want BSOFTEN and BOFFSET'
        )
        raise ContentError(msg)
    with np.errstate(over='ignore', invalid='ignore'):
        data = np.sinh(data.astype(float) / _POGSON)
    return header['BOFFSET'] + 2 * header['BSOFTEN'] * data


def _unit(header):
    text = str(header.get('BUNIT') or '').strip()
    if not text:
        return u.adu
    try:
        return unit_of(text)
    except ValueError:
        msg = f'the unit BUNIT = {text!r} is not understood; state it with the argument unit'
        raise ContentError(msg) from None


def _std(planes, weight):
    """Return the noise, as standard deviations: that of a plane of weights if there is no other."""
    planes = [plane for plane in planes if is_noise(plane.role, weight)]
    planes.sort(key=lambda plane: plane.role == 'weight')
    return std_of(planes[0].pixels, planes[0].role) if planes else None


def _mask(planes, meta, mask_planes):
    """Return the pixels that a mask or a weight of zero excludes; `None` if there are no such."""
    mask = None
    for plane in planes:
        if plane.role == 'weight':
            bad = ~(plane.pixels > 0)
        elif plane.role in ('mask', 'dq'):
            telescope = meta.get('TELESCOP')
            bad = mask_of(plane.pixels, plane.role, plane.header, telescope, mask_planes)
        else:
            continue
        mask = bad if mask is None else mask | bad
    return mask


def _wcs(image, shape, hdus, stream):
    """Return the WCS, `None` if it is not celestial, and what is wrong with it."""
    try:
        return wcs_of(image.header, shape, _header_bytes(image, stream), hdus), None
    except Exception as exc:
        # wcslib has many kinds of error, and none must lose the image.
        return None, str(exc).strip()


def claim_of(hdu, claims):
    """Return what an HDU claims, by where its header is."""
    place = hdu.fileinfo()['hdrLoc']
    for claim in claims:
        if claim.header == place:
            return claim
    # headers that only astropy makes sense of
    raise EOFError


def _sum_faults(name, hdus, stream, claims):
    """Say which HDUs do not match the sums that they state: a header, or pixels, have changed."""
    for hdu, claim in claims.items():
        if fault := claim.fault(stream):
            yield (
                f'HDU {hdus.index(hdu)} of {name} may be damaged, or was changed by a program '
                f'that kept old sums: {fault}'
            )


def _header_bytes(hdu, stream):
    """Return a header as it is in the file, if that is not compressed."""
    place = hdu.fileinfo()
    stream.seek(place['hdrLoc'])
    content = stream.read(place['datLoc'] - place['hdrLoc'])
    if content.startswith((b'SIMPLE', b"XTENSION= 'IMAGE")):
        return content
    return hdu.header.tostring().encode('ascii', 'replace')
