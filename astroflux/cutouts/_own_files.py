# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The noise and the mask of an image that are in files of their own."""

import re
from dataclasses import replace
from pathlib import Path

from astroflux.cutouts._claims import check_tiles
from astroflux.cutouts._layout import (
    SectionError,
    check_size,
    find_image,
    plane_index,
    roles_of,
    shape_of,
    window_of,
)
from astroflux.cutouts._planes import ContentError, is_noise, role_named, stated_role
from astroflux.cutouts.readers import claim_of, opened, plane_of

__all__ = ['kind_and_path', 'read_mask', 'read_noise', 'stem_of']

_KIND = re.compile(r'([A-Za-z_]+):(.+)', re.DOTALL)
_SUFFIXES = re.compile(r'(\.(fits|fit|fts))?(\.(fz|gz|bz2|xz|zip))?$', re.IGNORECASE)
_MASKS = ('mask', 'dq', 'weight')


def stem_of(path):
    """Return the name of a FITS file without its suffixes, those of compression among them."""
    name = Path(path).name
    return _SUFFIXES.sub('', name) or name


def kind_and_path(text):
    """Return what a file is said to hold, or `None`, and its path: of ``'variance:a.fits'``."""
    match = _KIND.fullmatch(str(text))
    role = match and role_named(match[1])
    return (role, match[2]) if role else (None, str(text))


def read_noise(file, noise, section):
    """
    Return the noise of an image as a `~astroflux.cutouts._planes.Plane`.

    ``noise`` is the path of its file, with what it holds in front if neither its header nor its
    name says so. `~astroflux.cutouts.CutoutReadError` if nothing does.
    """
    kind, path = kind_and_path(noise)
    with opened(path, file.max_pixels) as content:
        plane = _plane(file, content, path, kind, ('std', 'variance', 'ivar', 'weight'), section)
        if plane.role == 'weight' and file.weight == 'ivar':
            plane = replace(plane, role='ivar')
        if not is_noise(plane.role, 'mask'):
            held = 'weights, whose scale is not standard' if plane.role == 'weight' else 'no noise'
            msg = (
                f"it holds {held}: write 'ivar:PATH' if it is the inverse variance, 'variance:' or "
                "'std:' otherwise; as mask=, zeros of weights mask pixels"
            )
            raise ContentError(msg)
    return plane


def read_mask(file, mask, section):
    """
    Return the mask of an image as a `~astroflux.cutouts._planes.Plane`, or a map of weights.

    Whole numbers are a mask if neither header nor name says what they are.
    """
    kind, path = kind_and_path(mask)
    with opened(path, file.max_pixels) as content:
        plane = _plane(file, content, path, kind, _MASKS, section)
        if plane.role is None and plane.header.get('BITPIX', 8) > 0:
            plane = replace(plane, role='mask')
        if plane.role not in _MASKS:
            held = 'numbers that are not whole' if plane.role is None else f'a plane {plane.role}'
            msg = f"it holds {held}: write 'mask:PATH' or 'weight:PATH'"
            raise ContentError(msg)
    return plane


def _plane(file, content, path, kind, wanted, section):
    """Return the plane of a file that holds what is wanted, else its image."""
    hdus, stream, claims = content
    number = file.plane if any(len(shape_of(hdu)) == 3 for hdu in hdus) else None
    roles = roles_of(hdus, cubes=number is not None)
    found = [hdu for hdu, role in roles.items() if role in (wanted if kind is None else (kind,))]
    hdu = found[0] if found else find_image(hdus, {}, None, number)
    index = None if len(shape_of(hdu)) == 2 else plane_index(hdu, number)
    window = _window(section, shape_of(hdu, index))
    check_size({hdu: window}, file.max_pixels)
    check_tiles(hdu, claim_of(hdu, claims), stream)
    role = kind or _role_in_file(hdu.header, roles.get(hdu), path)
    return replace(plane_of(hdu, role, index, window), name=f'file {path!r}')


def _window(section, shape):
    """Return a section of the image as one of a file beside it."""
    try:
        return window_of(section, shape)
    except SectionError:
        msg = f'it has the shape {shape}, which the section {section} of the image is not inside of'
        raise ContentError(msg) from None


def _role_in_file(header, role, path):
    """Return what a plane is by its header, or by the last word of the name of its file."""
    role = stated_role(header) or role
    if role not in (None, 'image'):
        return role
    role = role_named(re.split('[^A-Za-z]', stem_of(path))[-1])
    return None if role in ('image', 'psf') else role
