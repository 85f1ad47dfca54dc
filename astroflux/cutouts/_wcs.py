# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The WCS of a cutout: from the header of a file, and the pixel scale at a position."""

import math

import numpy as np
from astropy.wcs import WCS, WcsError, Wcsprm

__all__ = ['pixel_scale', 'wcs_of']

# What astropy reads from a header itself, before or after wcslib does: distortions by SIP, tables
# and SCAMP's polynomials, and coordinates in tables.
_NEEDS_ASTROPY = (b'-SIP', b'-TAB', b'_ORDER', b'PDIS', b'QDIS', b'D2IM', b'AXISCORR', b'PV')
_CARD = 80

# wcslib crashes on bytes beyond ASCII.
_ASCII = bytes(value if value < 128 else ord('?') for value in range(256))

# The sides of a pixel are measured between these neighbors.
_STEPS = np.array([(1, 0), (-1, 0), (0, 1), (0, -1)], dtype=float)


def wcs_of(header, shape, content, hdus):
    """
    Return the celestial WCS of an image, or `None` if it has none.

    That of `~astropy.wcs.WCS`, which parses a header three times. Where there is nothing for it to
    find, wcslib gets ``content``, the header as the file has it (bytes).
    """
    if b'CTYPE' not in content:
        return None
    if any(word in content for word in _NEEDS_ASTROPY):
        wcs = WCS(header, fobj=hdus)
    else:
        wcs = WCS(naxis=2)
        wcs.wcs = Wcsprm(header=_without_end(content), relax=True)
        wcs.naxis = wcs.wcs.naxis
        wcs.fix()
        wcs.wcs.set()
    if not wcs.has_celestial:
        return None
    if wcs.naxis != 2:
        wcs = wcs.celestial
    wcs.array_shape = shape
    return wcs


def _without_end(content):
    content = content.translate(_ASCII).rstrip().removesuffix(b'END').rstrip()
    return content.ljust(-(-len(content) // _CARD) * _CARD)


def pixel_scale(wcs, xy):
    """
    Return the side in arcsec of the square that has the area of the pixel at a position.

    The area is that on the sky, with the distortion. The WCS is of any kind that astropy knows;
    celestial axes beside others are found. NaN if there are none, or the position is not on the
    sky.
    """
    try:
        area = _pixel_area(getattr(wcs, 'low_level_wcs', wcs), xy)
    except WcsError:
        return math.nan
    return math.degrees(math.sqrt(area)) * 3600 if area > 0 else math.nan


def _pixel_area(wcs, xy):
    """Return the area on the sky of the pixel at a position, in steradian; NaN if there is none."""
    # A slice of a WCS has the pixels of the whole, counted from another one.
    whole = getattr(wcs, '_wcs', wcs)
    if not isinstance(whole, WCS) or not whole.has_celestial:
        return math.nan
    if wcs.pixel_n_dim != 2:
        wcs = whole.celestial
    lon, lat = np.radians(_lon_lat(wcs, *(_STEPS + xy).T))
    sky = np.array([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])
    (ax, bx), (ay, by), (az, bz) = sky[:, ::2] - sky[:, 1::2]
    return math.hypot(ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx) / 4


def _lon_lat(wcs, x, y):
    """Return the celestial coordinates of pixels, in degrees."""
    world = wcs.pixel_to_world_values(x, y)
    if isinstance(wcs, WCS):
        return world[wcs.wcs.lng], world[wcs.wcs.lat]
    kinds = [str(kind) for kind in wcs.world_axis_physical_types]
    return [
        next(values for values, kind in zip(world, kinds, strict=True) if kind.endswith(ends))
        for ends in (('lon', 'ra'), ('lat', 'dec'))
    ]
