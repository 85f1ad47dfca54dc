# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Read a cutout from a FITS file: a plain image, or an image with mask, noise and PSF."""

import re
import warnings
import zlib
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData, InverseVariance, StdDevUncertainty, VarianceUncertainty
from astropy.utils.exceptions import AstropyUserWarning, AstropyWarning
from astropy.wcs import WCS

from astroflux.cutouts._headers import descriptive_header, unit_of, zeropoint_of

__all__ = ['DEFAULT_MASK_PLANES', 'CutoutReadError', 'read_cutout']

# Planes whose pixel values cannot be used. The planes CR and INTRP are not
# among them: in a coadd they say that one of the exposures was repaired, and
# the values are as good as their neighbours'. Nor are those that mark regions
# (BRIGHT_OBJECT, SUSPECT, EDGE) or sources (DETECTED).
DEFAULT_MASK_PLANES = ('BAD', 'SAT', 'NO_DATA', 'UNMASKEDNAN')

_ROLES = {
    'IMAGE': 'image',
    'SCI': 'image',
    'DATA': 'image',
    'MASK': 'mask',
    'DQ': 'mask',
    'VARIANCE': VarianceUncertainty,
    'VAR': VarianceUncertainty,
    'ERR': StdDevUncertainty,
    'ERROR': StdDevUncertainty,
    'SIGMA': StdDevUncertainty,
    'STDDEV': StdDevUncertainty,
    'INVVAR': InverseVariance,
    'IVAR': InverseVariance,
    'UNCERT': 'uncertainty',
    'WHT': 'weight',
    'WEIGHT': 'weight',
    'PSF': 'psf',
    'PSFIMAGE': 'psf',
}
# The header of an UNCERT extension, which CCDData.write makes.
_UTYPES = {
    'StdDevUncertainty': StdDevUncertainty,
    'VarianceUncertainty': VarianceUncertainty,
    'InverseVariance': InverseVariance,
}
# What astropy raises for headers and pixels that contradict each other.
_FAULTS = (
    OSError,
    EOFError,
    zlib.error,
    fits.VerifyError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    MemoryError,
)
_DAMAGE = re.compile('truncated|corrupt', re.IGNORECASE)


class CutoutReadError(OSError):
    """A file that does not hold a readable cutout."""


class _MaskPlaneError(ValueError):
    """The caller's mistake, not the file's."""


def read_cutout(path, *, hdu=None, unit=None, mask_planes=DEFAULT_MASK_PLANES):
    """
    Read a cutout from a FITS file.

    The image is the HDU named IMAGE, SCI or DATA, else the first with a 2-d
    image. Beside it are found, by ``EXTNAME`` or ``EXTTYPE``: a mask (MASK,
    DQ), the noise (VARIANCE, ERR, SIGMA, INVVAR, IVAR, or the UNCERT of
    `~astropy.nddata.CCDData`), a weight map (WEIGHT, WHT; only where it is
    zero, the pixel is masked, since the scale of weights is not standard) and
    a PSF image (PSF). Without names, an HDU whose header has ``MP_`` mask
    planes is the mask and the next one the variance.

    Parameters
    ----------
    path : str or `~pathlib.Path`
        The file, compressed or not.
    hdu : int or str, optional
        HDU of the image, when it is not the one described above.
    unit : `~astropy.units.UnitBase` or str, optional
        Unit of the image, instead of its ``BUNIT``; adu without either.
    mask_planes : iterable of str
        Which planes mask a pixel, where the mask's header names planes
        (``MP_BAD`` and so on). Without names, any value but zero masks.

    Returns
    -------
    cutout : `~astropy.nddata.CCDData`
        With ``mask``, ``uncertainty`` (of the kind in the file), ``wcs``,
        ``psf`` and ``meta``; ``meta['zeropoint']`` is the AB magnitude of 1
        unit, if the header states it.

    Raises
    ------
    CutoutReadError
        If there is no such file, it is not FITS, is truncated, or has no
        image; or its unit is not understood.
    ValueError
        If a mask plane was asked for that the file does not have.
    """
    path = Path(path)
    if unit is not None:
        unit = u.Unit(unit)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter('always')
            # Opened here: astropy leaves a file open that it fails to parse.
            with path.open('rb') as stream, fits.open(stream, memmap=False) as hdus:
                # Reads all headers, and warns if a file ends too early.
                len(hdus)
                if any(_DAMAGE.search(str(warning.message)) for warning in caught):
                    raise EOFError
                cutout, fault = _parse(path, hdus, hdu, unit, mask_planes)
    except (CutoutReadError, _MaskPlaneError):
        raise
    except FileNotFoundError as exc:
        msg = f'cannot read {str(path)!r}: there is no such file'
        raise CutoutReadError(msg) from exc
    except _FAULTS as exc:
        msg = f'cannot read {str(path)!r}: {_reason(path, exc)}'
        raise CutoutReadError(msg) from exc
    if fault is not None:
        msg = f'the WCS of {str(path)!r} cannot be used: {fault}'
        warnings.warn(msg, AstropyUserWarning, stacklevel=2)
    return cutout


def _reason(path, exc):
    """Say in words why astropy could not read a file."""
    if path.is_dir():
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


def _parse(path, hdus, hdu, unit, mask_planes):
    """Return the `CCDData`, and what is wrong with its WCS if anything is."""
    roles = _roles(hdus)
    image = _find_image(path, hdus, hdu, roles)
    data = _pixels(image)
    header = image.header
    if unit is None:
        unit = _unit(path, header)
    mask = uncertainty = psf = None
    for other, role in roles.items():
        if other is image or other.ver != image.ver:
            continue
        if role == 'psf':
            psf = _pixels(other)
            continue
        if role == 'image':
            continue
        array = _pixels(other)
        if array.shape != data.shape:
            msg = (
                f'cannot read {str(path)!r}: the image has the shape {data.shape}, its '
                f'{other.name or role} HDU {array.shape}'
            )
            raise CutoutReadError(msg)
        if role in ('mask', 'weight'):
            bad = ~(array > 0) if role == 'weight' else _mask(array, other.header, mask_planes)
            mask = bad if mask is None else mask | bad
        elif uncertainty is None:
            if role == 'uncertainty':
                role = _UTYPES.get(other.header.get('UTYPE'), StdDevUncertainty)
            uncertainty = role(array)
    meta = descriptive_header(header, hdus[0].header)
    zeropoint = zeropoint_of(meta)
    if zeropoint is not None:
        meta['HIERARCH zeropoint'] = (zeropoint, 'AB magnitude of 1 unit')
    wcs, fault = _wcs(hdus, header)
    cutout = CCDData(
        data, unit=unit, mask=mask, uncertainty=uncertainty, psf=psf, wcs=wcs, meta=meta
    )
    return cutout, fault


def _is_image(hdu):
    """Return whether an HDU holds one image, axes of length 1 apart."""
    if not hdu.is_image:
        return False
    shape = hdu.shape
    return len(shape) >= 2 and all(size == 1 for size in shape[:-2]) and min(shape[-2:]) > 1


def _roles(hdus):
    """Return what each HDU is that says so."""
    roles, after_mask = {}, False
    for hdu in hdus:
        if not _is_image(hdu):
            continue
        name = str(hdu.header.get('EXTTYPE') or hdu.name).strip().upper()
        if name in _ROLES:
            roles[hdu] = _ROLES[name]
        elif any(key.startswith('MP_') for key in hdu.header):
            roles[hdu], after_mask = 'mask', True
            continue
        elif after_mask and not hdu.name:
            roles[hdu] = VarianceUncertainty
        after_mask = False
    return roles


def _find_image(path, hdus, hdu, roles):
    if hdu is not None:
        try:
            image = hdus[hdu]
        except (KeyError, IndexError):
            names = ', '.join(f'{i} {h.name!r}' for i, h in enumerate(hdus))
            msg = f'cannot read {str(path)!r}: there is no HDU {hdu!r} among {names}'
            raise CutoutReadError(msg) from None
        if _is_image(image):
            return image
        msg = f'cannot read {str(path)!r}: HDU {hdu!r} is not a 2-d image'
        raise CutoutReadError(msg)
    images = [h for h in hdus if _is_image(h)]
    for candidates in (
        [h for h in images if roles.get(h) == 'image'],
        [h for h in images if h not in roles],
    ):
        if candidates:
            return candidates[0]
    shapes = ', '.join(str(getattr(h, 'shape', 'table')) for h in hdus)
    msg = f'cannot read {str(path)!r}: there is no 2-d image in it (the HDUs have {shapes})'
    raise CutoutReadError(msg)


def _pixels(hdu):
    """Return the image of an HDU in native byte order, axes of length 1 dropped."""
    try:
        data = hdu.data
    except (TypeError, ValueError) as exc:
        # So numpy says that the file has fewer pixels than its header.
        raise EOFError from exc
    data = data.reshape(data.shape[-2:])
    return np.array(data, dtype=data.dtype.newbyteorder('='))


def _unit(path, header):
    text = str(header.get('BUNIT') or '').strip()
    if not text:
        return u.adu
    try:
        return unit_of(text)
    except ValueError:
        msg = (
            f'cannot read {str(path)!r}: the unit BUNIT = {text!r} is not understood; state it '
            'with the argument unit'
        )
        raise CutoutReadError(msg) from None


def _mask(array, header, mask_planes):
    # An integer image with undefined pixels comes as floats.
    undefined = ~np.isfinite(array)
    array = np.where(undefined, 0, array).astype(np.int64)
    planes = {key[3:].upper(): header[key] for key in header if key.startswith('MP_')}
    if not planes:
        return (array != 0) | undefined
    wanted = [str(plane).upper().removeprefix('MP_') for plane in mask_planes]
    if mask_planes is not DEFAULT_MASK_PLANES:
        missing = [plane for plane in wanted if plane not in planes]
        if missing:
            msg = f'the mask has no plane {missing}, only {sorted(planes)}'
            raise _MaskPlaneError(msg)
    bits = sum(1 << planes[plane] for plane in set(wanted) if plane in planes)
    return (array & bits != 0) | undefined


def _wcs(hdus, header):
    """Return the WCS, `None` if it is not celestial, and what is wrong with it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', AstropyWarning)
            wcs = WCS(header, fobj=hdus)
            if not wcs.has_celestial:
                return None, None
            return (wcs if wcs.naxis == 2 else wcs.celestial), None
    except Exception as exc:
        # wcslib has many kinds of error, and none must lose the image.
        return None, str(exc).strip()
