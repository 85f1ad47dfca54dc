# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Which HDU of a file is the image, what the others are, and the planes of a cube."""

import math
import re

from astroflux.cutouts._claims import refuse_many
from astroflux.cutouts._planes import ContentError, role_of

__all__ = [
    'SectionError',
    'check_size',
    'find_image',
    'pixels_of',
    'plane_index',
    'roles_of',
    'shape_of',
    'window_of',
]


class SectionError(ValueError):
    """A section that no image has: the caller's mistake, not the file's."""


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


def shape_of(hdu, index=None):
    """Return the shape of the image of an HDU, axes of length 1 dropped; of a cube, of a plane."""
    shape = _axes(hdu)
    is_plane = len(shape) == 3 and index is not None and index < shape[0]
    return shape[1:] if is_plane else shape


def window_of(section, shape):
    """
    Return a section as two slices with a start and a stop inside an image; `None` of `None`.

    `SectionError` if it has no pixel of the image, or is counted from its end.
    """
    if section is None:
        return None
    try:
        rows, columns = section
        edges = [(s.start or 0, s.stop, s.step) for s in (rows, columns)]
        window = tuple(slice(*s.indices(n)) for s, n in zip(section, shape, strict=True))
        is_one = all(
            step in (None, 1) and start >= 0 and (stop is None or stop >= 0)
            for start, stop, step in edges
        )
    except (TypeError, ValueError, AttributeError):
        is_one = False
    if not is_one or any(s.stop <= s.start for s in window):
        msg = (
            'section must be two slices of rows and columns, without a step, that are inside an '
            f'image of the shape {shape}; got {section!r}'
        )
        raise SectionError(msg)
    return window


def check_size(windows, most_pixels):
    """Raise `ContentError` if what is to be read has more pixels: a window of each HDU, or all."""
    refuse_many(sum(_n_taken(hdu, window) for hdu, window in windows.items()), most_pixels)


def _n_taken(hdu, window):
    """Return how many pixels are taken to read a window: whole rows, or whole tiles."""
    if window is None:
        return math.prod(hdu.shape)
    tile = getattr(hdu, 'tile_shape', None)
    if tile is None:
        return (window[0].stop - window[0].start) * hdu.shape[-1]
    n_taken = math.prod(tile[:-2])
    for edges, side in zip(window, tile[-2:], strict=True):
        n_taken *= (-(-edges.stop // side) - edges.start // side) * side
    return n_taken


def pixels_of(hdu, index=None, window=None):
    """
    Return the image of an HDU as it is in the file, axes of length 1 dropped.

    Of a cube, the plane of that index. If there is a window, only its rows or tiles are read.
    """
    try:
        data = hdu.data if window is None else _section(hdu, index, window)
    except (TypeError, ValueError) as exc:
        # So numpy says that the file has fewer pixels than its header.
        raise EOFError from exc
    if window is not None:
        return data
    data = data.reshape(_axes(hdu))
    return data[index] if data.ndim == 3 and index is not None and index < len(data) else data


def _section(hdu, index, window):
    """Return a window of an HDU, of which no more is read than needed."""
    rows, columns = window
    leading = tuple(0 if n == 1 else index for n in hdu.shape[:-2])
    if hasattr(hdu, 'tile_shape'):
        return hdu.section[(*leading, rows, columns)]
    # whole rows, which are in one piece; astropy reads a row at a time where they are cut
    return hdu.section[(*leading, rows, slice(None))][:, columns]
