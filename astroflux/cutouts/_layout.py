# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Which HDU of a file is the image, what the others are, and the planes of a cube."""

import math
import re

from astroflux.cutouts._claims import refuse_many
from astroflux.cutouts._planes import ContentError, role_of

__all__ = ['check_size', 'find_image', 'pixels_of', 'plane_index', 'roles_of']


def _axes(hdu):
    """Return the shape of an image, axes of length 1 apart; empty if it is none."""
    shape = hdu.shape if hdu.is_image else ()
    if len(shape) < 2 or min(shape[-2:]) <= 1:
        return ()
    return tuple(size for size in shape[:-2] if size != 1) + shape[-2:]


def roles_of(hdus, *, cubes):
    """Return what each HDU is that says so, of the images, and of the cubes if these count."""
    roles, after_mask = {}, False
    for hdu in hdus:
        if len(_axes(hdu)) not in ((2, 3) if cubes else (2,)):
            continue
        role = role_of(hdu)
        if role is None and any(key.startswith('MP_') for key in hdu.header):
            roles[hdu], after_mask = 'mask', True
            continue
        if role is None and after_mask and not hdu.name:
            role = 'variance'
        if role is not None:
            roles[hdu] = role
        after_mask = False
    return roles


def find_image(hdus, roles, hdu, plane):
    """Return the HDU of the image: a cube if a plane is asked for, else a 2-d image."""
    ndim = 2 if plane is None else 3
    if hdu is not None:
        return _named_image(hdus, hdu, ndim)
    images = [h for h in hdus if len(_axes(h)) == ndim]
    for candidates in (
        [h for h in images if roles.get(h) == 'image'],
        [h for h in images if h not in roles],
    ):
        if candidates:
            return candidates[0]
    what = '2-d image' if plane is None else 'HDU of several planes'
    shapes = ', '.join(str(getattr(h, 'shape', 'table')) for h in hdus)
    msg = f'there is no {what} in it (the HDUs have {shapes})'
    if plane is None:
        cubes = [(i, h) for i, h in enumerate(hdus) if len(_axes(h)) == 3]
        msg += ''.join(f'; {_advice(i, h)}' for i, h in cubes[:1])
    raise ContentError(msg)


def _named_image(hdus, hdu, ndim):
    try:
        image = hdus[hdu]
    except (KeyError, IndexError):
        names = ', '.join(f'{i} {h.name!r}' for i, h in enumerate(hdus))
        msg = f'there is no HDU {hdu!r} among {names}'
        raise ContentError(msg) from None
    found = len(_axes(image))
    if found == ndim:
        return image
    if found == 3:
        raise ContentError(_advice(hdu, image))
    what = '2-d image' if ndim == 2 else 'cube of several planes'
    msg = f'HDU {hdu!r} is not a {what}'
    raise ContentError(msg)


def _advice(hdu, cube):
    return (
        f'HDU {hdu!r} holds {_planes_text(cube)}: choose one by the argument plane, as in '
        f'plane={(_bands(cube) or [0])[0]!r} (galaxies in a cube are given as an array)'
    )


def _planes_text(cube):
    names = _bands(cube)
    return f'{_axes(cube)[0]} planes' + (f' ({", ".join(names)})' if names else '')


def _bands(cube):
    """Return the names of a cube's planes, or an empty list."""
    header, n = cube.header, _axes(cube)[0]
    numbers = sorted(int(key[4:]) for key in header if re.fullmatch(r'BAND\d+', key))
    names = [str(header[f'BAND{number}']).strip() for number in numbers]
    if len(names) == n:
        return names
    text = str(header.get('BANDS') or '').strip()
    names = re.findall(r'[^\s,;]+', text)
    if len(names) != n:
        names = list(text)
    return names if len(names) == n else []


def plane_index(cube, plane):
    """Return the index of a plane that is told by its number or the name of its band."""
    names, n = _bands(cube), _axes(cube)[0]
    if plane in names:
        return names.index(plane)
    if re.fullmatch('[0-9]+', str(plane)) and int(plane) < n:
        return int(plane)
    msg = f'there is no plane {plane!r} in it: HDU {cube.name!r} holds {_planes_text(cube)}'
    raise ContentError(msg)


def check_size(hdus, most_pixels):
    """Raise `ContentError` if the HDUs that are to be read have more pixels than that."""
    refuse_many(sum(math.prod(hdu.shape) for hdu in hdus), most_pixels)


def pixels_of(hdu, index=None):
    """
    Return the image of an HDU as it is in the file, axes of length 1 dropped.

    Of a cube, the plane of that index.
    """
    try:
        data = hdu.data
    except (TypeError, ValueError) as exc:
        # So numpy says that the file has fewer pixels than its header.
        raise EOFError from exc
    data = data.reshape(_axes(hdu))
    return data[index] if data.ndim == 3 and index is not None and index < len(data) else data
