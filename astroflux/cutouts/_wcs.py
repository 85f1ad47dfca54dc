# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What a cutout's WCS is asked for: the pixel scale."""

import math

from astropy import units as u
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_area

__all__ = ['pixel_scale']


def pixel_scale(wcs):
    """
    Return the side in arcsec of the square that has the area of a pixel.

    The WCS is of any kind that astropy knows; celestial axes beside others are found. NaN if there
    are none.
    """
    wcs = getattr(wcs, 'low_level_wcs', wcs)
    # A slice of a WCS has the pixels of the whole.
    wcs = getattr(wcs, '_wcs', wcs)
    if not isinstance(wcs, WCS) or not wcs.has_celestial:
        return math.nan
    celestial = wcs if wcs.naxis == 2 else wcs.celestial
    area = proj_plane_pixel_area(celestial)
    unit = u.Unit(celestial.wcs.cunit[0]) * u.Unit(celestial.wcs.cunit[1])
    scale = math.sqrt(area * unit.to(u.arcsec**2)) if area > 0 else math.nan
    return scale if math.isfinite(scale) else math.nan
