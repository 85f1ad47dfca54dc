# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The steps of making one cutout: structure, usable pixels, position."""

import math
from typing import NamedTuple

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.wcs.utils import skycoord_to_pixel

from astroflux.cutouts._items import ItemFault
from astroflux.cutouts._noise import estimate_noise
from astroflux.cutouts._unusable import has_contradicting_noise, is_fill, is_no_data
from astroflux.flags import MeasurementFlag as Flag

__all__ = [
    'SMALLEST_SIDE',
    'Pixels',
    'check_structure',
    'even_noise',
    'is_inside',
    'is_masked_near',
    'position_of',
    'usable_pixels',
]

SMALLEST_SIDE = 8

# With the noise, it is estimated anew what is no data; what still changes then is no image.
_ROUNDS = 20

# What a position in pixels may be off by when it was one in the sky.
_ROUNDING = 1e-6


class Pixels(NamedTuple):
    """Pixels of a cutout: ``noise`` may be one number for all, ``mask`` `None` for no pixel."""

    data: np.ndarray
    noise: np.ndarray | float
    mask: np.ndarray | None
    flags: int


def check_structure(raw):
    """Raise `ItemFault` unless the parts of a cutout are numbers of fitting shapes."""
    shape, dtype = np.shape(raw.data), raw.data.dtype
    if dtype.kind not in 'iuf':
        msg = f'a cutout must be an array of real numbers, got the type {dtype}'
        raise ItemFault(Flag.BAD_INPUT, msg, TypeError)
    if len(shape) != 2:
        msg = f'a cutout must be a 2-d image, got a {len(shape)}-d array of shape {shape}'
        raise ItemFault(Flag.BAD_INPUT, msg, ValueError)
    if min(shape) < SMALLEST_SIDE:
        msg = f'a cutout must have {SMALLEST_SIDE} pixels or more a side, got the shape {shape}'
        raise ItemFault(Flag.BAD_INPUT, msg, ValueError)
    parts = {'mask': raw.mask, 'uncertainty': None if raw.noise is None else raw.noise.array}
    for name, array in parts.items():
        if array is not None and np.shape(array) not in (shape, ()):
            msg = f'the {name} has the shape {np.shape(array)}, the cutout has {shape}'
            raise ItemFault(Flag.BAD_INPUT, msg, ValueError)
    if raw.noise is not None and raw.noise.array.dtype.kind not in 'iuf':
        msg = f'the uncertainty must be real numbers, got the type {raw.noise.array.dtype}'
        raise ItemFault(Flag.BAD_INPUT, msg, TypeError)


def _valid_pixels(data, mask):
    """Return which pixels are neither masked nor non-finite, or None if all are."""
    with np.errstate(invalid='ignore', over='ignore'):
        if mask is None and math.isfinite(data.sum()):
            return None
    valid = np.isfinite(data)
    if mask is not None:
        valid &= ~np.asarray(mask, dtype=bool)
    if valid.all():
        return None
    if not valid.any():
        msg = 'every pixel is masked or not finite'
        raise ItemFault(Flag.NO_PIXELS, msg)
    return valid


def usable_pixels(raw, factor):
    """
    Return the pixels of a cutout whose structure was checked, in the unit of the batch.

    ``factor`` leads there from its values; `ItemFault` if no pixel can be used.
    """
    data = np.array(raw.data, dtype=float, order='C')
    if factor != 1:
        data *= factor
    valid = _valid_pixels(data, raw.mask)
    if valid is not None:
        np.copyto(data, 0.0, where=~valid)
    valid = _without(valid, is_fill(data, valid))
    if raw.noise is None:
        noise, valid = _estimated_noise(data, valid)
        flags = Flag.NOISE_ESTIMATED
    else:
        noise, valid = _given_noise(data, raw, factor, valid)
        flags = 0
    if valid is None:
        return Pixels(data, noise, None, flags)
    mask = ~valid
    np.copyto(data, 0.0, where=mask)
    if np.ndim(noise):
        noise = even_noise(np.where(mask, _typical_noise(noise, valid), noise))
    return Pixels(data, noise, mask, flags | Flag.MASKED_PIXELS)


def _without(valid, lost):
    """Return which pixels are valid if some are lost; `None` stands for all and for none."""
    if lost is None:
        return valid
    return ~lost if valid is None else valid & ~lost


def _estimated_noise(data, valid):
    """Return the noise estimated from the pixels, and which are valid."""
    for _ in range(_ROUNDS):
        if valid is not None:
            np.copyto(data, 0.0, where=~valid)
        sigma = estimate_noise(data, None if valid is None else ~valid)
        if math.isnan(sigma):
            why = 'vary too little'
            break
        if (lost := is_no_data(data, valid, sigma)) is None:
            return sigma, valid
        valid = _without(valid, lost)
    else:
        why = 'are too wild'
    msg = f'there is no uncertainty, and the pixels {why} to estimate one from them'
    raise ItemFault(Flag.BAD_NOISE, msg)


def _given_noise(data, raw, factor, valid):
    """Return the given noise, a map or one number, and which pixels are valid."""
    noise = raw.noise.std()
    if raw.noise.unit is not None:
        unit = raw.unit if raw.unit is not None else u.dimensionless_unscaled
        factor *= raw.noise.factor(unit)
    if factor != 1:
        noise = noise * factor
    with np.errstate(invalid='ignore'):
        lowest, highest = noise.min(), noise.max()
        # false if any is NaN
        if not (lowest > 0 and highest < np.inf):
            good = (noise > 0) & (noise < np.inf)
            valid = good if valid is None else good & valid
            if not valid.any():
                msg = 'no pixel has a positive, finite noise'
                raise ItemFault(Flag.BAD_NOISE, msg)
    if lowest == highest:
        noise = typical = float(lowest)
    else:
        valid = _without(valid, has_contradicting_noise(data, noise, valid))
        typical = _typical_noise(noise, valid)
    return noise, _without(valid, is_no_data(data, valid, typical))


def even_noise(noise):
    """Return a noise map as one number if it is the same everywhere."""
    if noise[0, 0] == noise[-1, -1] and noise.min() == noise.max():
        return float(noise[0, 0])
    return noise


def _typical_noise(noise, valid):
    """Return the median noise, of a sample of the pixels if they are many."""
    step = max(noise.size // 4096, 1)
    values = noise.ravel()[::step]
    if valid is not None:
        values = values[valid.ravel()[::step]]
    return np.median(values if values.size else noise[valid])


def position_of(position, shape, wcs=None, wcs_origin=(0, 0)):
    """Return the galaxy's position in pixels: that of the middle if none is given."""
    if position is None:
        ny, nx = shape
        return (nx - 1) / 2, (ny - 1) / 2
    if isinstance(position, SkyCoord):
        if wcs is None:
            msg = 'the position is a SkyCoord, but the cutout has no WCS'
            raise ItemFault(Flag.BAD_INPUT, msg, ValueError)
        position = np.subtract(skycoord_to_pixel(position, wcs), wcs_origin)
    x, y = (float(v) for v in position)
    if not (math.isfinite(x) and math.isfinite(y)):
        msg = f'the position must be finite, got ({x:g}, {y:g})'
        raise ItemFault(Flag.BAD_INPUT, msg, ValueError)
    return x, y


def is_inside(xy, shape, margin, mask=None):
    """Return whether a position is further than a margin from where pixels that are used end."""
    margin -= _ROUNDING
    for axis, (c, length) in enumerate(zip(xy[::-1], shape, strict=True)):
        first, last = 0, length - 1
        if mask is not None:
            used = np.flatnonzero(~mask.all(axis=1 - axis))
            first, last = used[0], used[-1]
        # the edge of a pixel is half of one from its middle
        if not first + margin <= c + 0.5 <= last + 1 - margin:
            return False
    return True


def is_masked_near(mask, xy, radius):
    x, y = xy
    ny, nx = mask.shape
    radius += _ROUNDING
    x0, x1 = max(math.ceil(x - radius), 0), min(math.floor(x + radius), nx - 1) + 1
    y0, y1 = max(math.ceil(y - radius), 0), min(math.floor(y + radius), ny - 1) + 1
    if x0 >= x1 or y0 >= y1:
        return False
    rows, columns = np.nonzero(mask[y0:y1, x0:x1])
    return bool(((columns + (x0 - x)) ** 2 + (rows + (y0 - y)) ** 2 <= radius**2).any())
