# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Whether the light of a stamp is elsewhere than at the position."""

import math

import numpy as np

__all__ = ['is_elsewhere']

# The brightest block of pixels is so many errors above zero where a source is, this much brighter
# than the one at the position, and at least so many sides away. Sides in FWHM of the PSF.
_SIGNIFICANT = 10.0
_BRIGHTER = 3.0
_NEAREST = 1.5
_SCALES = (1.0, 3.0)

# At the position is a source if a disk is brighter by so many errors than disks on both sides of
# it, so many radii apart, and by this part, for some radius in FWHM of the PSF, up to a part of the
# distance of the other source.
_SOURCE = 3.0
_APART = 2.0
_PART_OF_WINGS = 0.04
_RADII = (0.5, 1.0, 2.0)
_PART = 0.5

# FWHM of the PSF in pixels if it is unknown, and the least that counts.
_TYPICAL_FWHM = 4.0
_LEAST_FWHM = 2.0


def is_elsewhere(data, noise, mask, xy, fwhm, growth=1.0):
    """
    Return whether a position has at best the wings of a brighter source elsewhere.

    Parameters
    ----------
    data : 2D `~numpy.ndarray`
        Stamp; 0 where pixels are ignored.
    noise : 2D `~numpy.ndarray` or float
        Noise (1 sigma).
    mask : 2D `~numpy.ndarray` or None
        Bool; `True` where a pixel is ignored.
    xy : tuple of float
        The position.
    fwhm : float
        That of the PSF in pixels; NaN if unknown.
    growth : float
        By how much sums of pixels scatter more than in white noise.

    Returns
    -------
    is_elsewhere : bool
    """
    fwhm = _TYPICAL_FWHM if math.isnan(fwhm) else max(fwhm, _LEAST_FWHM)
    # in units of the noise, which is told apart if it is a number
    light, sigma = (data, growth * noise) if np.ndim(noise) == 0 else (data / noise, growth)
    for scale in _SCALES:
        other = _brighter(light, xy, round(scale * fwhm), sigma)
        if other is None:
            continue
        within = _PART * math.dist(other, xy)
        radii = [factor * fwhm for factor in _RADII if factor * fwhm <= within]
        if not any(_has_source(light, mask, xy, radius, sigma) for radius in radii):
            return True
    return False


def _brighter(light, xy, side, sigma):
    """Return where the brightest block of pixels is that is brighter than the one at a place."""
    if side > min(light.shape) // 3:
        return None
    # one of them has the place in its middle
    first = [math.floor(c - side / 2 + 1) % side for c in xy[::-1]]
    numbers = [(n - start) // side for n, start in zip(light.shape, first, strict=True)]
    (y, x), (ny, nx) = first, numbers
    rows = light[y : y + ny * side, x : x + nx * side].reshape(ny, side, -1).sum(axis=1)
    blocks = rows.reshape(ny, nx, side).sum(axis=2) / (side * sigma)
    brightest = np.unravel_index(np.argmax(blocks), blocks.shape)
    own = tuple(
        min(max(int((c - start) // side), 0), n - 1)
        for c, start, n in zip(xy[::-1], first, numbers, strict=True)
    )
    other = tuple(
        start + (index + 0.5) * side - 0.5
        for start, index in zip(first[::-1], brightest[::-1], strict=True)
    )
    peak = blocks[brightest]
    is_brighter = peak > max(_SIGNIFICANT, _BRIGHTER * blocks[own])
    return other if is_brighter and math.dist(other, xy) > _NEAREST * side else None


def _has_source(light, mask, xy, radius, sigma):
    """Return whether a disk about a place is brighter than what wings from any side have there."""
    reach = (1 + _APART) * radius
    window = tuple(
        slice(max(math.ceil(c - reach), 0), max(math.floor(c + reach) + 1, 0)) for c in xy[::-1]
    )
    part = light[window]
    y = np.arange(window[0].start, window[0].start + part.shape[0])[:, None] - xy[1]
    x = np.arange(window[1].start, window[1].start + part.shape[1]) - xy[0]
    near = np.where(x**2 + y**2 <= reach**2, part, 0)
    # towards where it is brighter, and away from there
    towards = (near.sum(axis=0) @ x, near.sum(axis=1) @ y[:, 0])
    step = np.multiply(towards, _APART * radius / max(math.hypot(*towards), 1e-300))
    used = True if mask is None else ~mask[window]
    disks = [
        used & ((x - shift * step[0]) ** 2 + (y - shift * step[1]) ** 2 <= radius**2)
        for shift in (0, 1, -1)
    ]
    numbers = [np.count_nonzero(disk) for disk in disks]
    if not all(numbers):
        return True
    middle, *sides = (part[disk].mean() for disk in disks)
    error, *errors = (sigma / math.sqrt(number) for number in numbers)
    if all(side > _SOURCE * each for side, each in zip(sides, errors, strict=True)):
        # exponential wings are at the place what they are on both sides in the geometric mean
        between = math.sqrt(sides[0] * sides[1])
        slopes = [0.5 * between / side for side in sides]
    else:
        between, slopes = sum(sides) / 2, (0.5, 0.5)
    errors = [error, *(slope * each for slope, each in zip(slopes, errors, strict=True))]
    return middle - between > max(_SOURCE * math.hypot(*errors), _PART_OF_WINGS * between)
