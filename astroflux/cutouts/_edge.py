# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What the edge of a stamp says of the sky and of the noise, as most of it is blank."""

import math
from statistics import median
from typing import NamedTuple

import numpy as np

__all__ = ['Edge', 'edge_of']

# Width of the frame of pixels: an eighth of the stamp, within these.
_NARROWEST, _WIDEST = 4, 8

# Resampling correlates the noise of pixels out to two neighbors.
_LAG = 3

# Values this many sigma from the level of a side are those of sources.
_CLIP = 2.5
_ROUNDS = 3

# With fewer pixels, a side says nothing; nor does a stamp with fewer sides.
_FEWEST_PIXELS = 16
_FEWEST_SIDES = 3

# Correlated noise, and sources too faint to be clipped, add to the error of the level.
_GROWTH = 1.5
_SIGNIFICANT = 5.0

# Faint sources lift the edge of a stamp by about so much of the noise. The wings of the galaxy lift
# it by no more than so many times what they lift the second frame above the first, and by so many
# times what an exponential profile tells, as real ones fall less steeply.
_FAINT_LIGHT = 0.2
_MOST_WINGS = 2.0
_WINGS = 1.5

# Sources make a side brighter than the others, but none darker: by more than so much of the noise,
# that is a slope of the sky, or a step.
_LARGEST_DIP = 0.75

# The noise of coadds is stated well to about a tenth, and the sources of a crowded sky raise the
# scatter by as much: beyond this factor, and 1.5 errors, the noise is wrong.
_NOISE_FACTOR = 1.35
_ERRORS = 1.5

# 1-sigma errors of a median and of a scatter from the median difference, times the square root of
# the number of pixels. Mixed differences of neighboring places have pixels in common.
_OF_MEDIAN, _OF_SCATTER = 1.25, 1.45
_NORMAL_MEDIAN = 0.6744897501960817


class Edge(NamedTuple):
    """
    The frame of pixels at the edge of a stamp, in units of the stated noise.

    Attributes
    ----------
    level, level_err : float
        Level of the sky, and its error in white noise.
    wings : float
        Light of the galaxy in the frame, extrapolated from two frames within the first; 0 where
        the level is not above zero by more than its error.
    scatter, scatter_err : float
        Noise as the pixels show it, over the stated one, and its error.
    dip : float
        By how much the darkest side is below that level.
    """

    level: float
    level_err: float
    wings: float
    scatter: float
    scatter_err: float
    dip: float

    @property
    def is_off_zero(self):
        """Whether the sky was not subtracted, or too much was, or not the same everywhere."""
        error = _SIGNIFICANT * _GROWTH * self.level_err
        allowed = max(error, _FAINT_LIGHT) + _WINGS * self.wings
        is_slope = self.dip > max(2 * error, _LARGEST_DIP)
        # false for NaN
        return self.level < -error or self.level > allowed or is_slope

    @property
    def contradicts_noise(self):
        """Whether the scatter of the pixels is not that of the stated noise."""
        if not self.scatter > 0:
            return False
        allowed = math.log(_NOISE_FACTOR) + _ERRORS * self.scatter_err / self.scatter
        return abs(math.log(self.scatter)) > allowed


_UNKNOWN = Edge(*6 * (math.nan,))


def edge_of(data, noise, mask=None):
    """
    Return what the edge of a stamp says.

    Sides that are brighter than the others, as they hold sources, count for little: level and
    scatter are medians over the four sides.

    Parameters
    ----------
    data : `~numpy.ndarray`
        Stamp, shape ``(ny, nx)``.
    noise : `~numpy.ndarray` or float
        Stated noise (1 sigma).
    mask : `~numpy.ndarray`, optional
        Bool; `True` where a pixel is to be ignored.

    Returns
    -------
    edge : `Edge`
        Of NaN if too few pixels are left.
    """
    width = min(max(min(data.shape) // 8, _NARROWEST), _WIDEST)
    frame = _frame(data, noise, mask, width, 0)
    scatter, n_differences = _scatter(frame)
    if math.isnan(scatter):
        return _UNKNOWN
    if scatter == 0:
        # pixels that are all the same tell no noise, but the stated one tells if they are off zero
        scatter, known = 1.0, math.nan
    else:
        known = scatter
    level, n_pixels, dip = _level(frame, scatter)
    error = _OF_MEDIAN * scatter / math.sqrt(n_pixels) if n_pixels else math.nan
    wings = 0.0
    # where nothing is to be explained, they are not looked for
    if level > _SIGNIFICANT * error:
        inner = [_frame(data, noise, mask, width, depth) for depth in (1, 2)]
        wings = _wings(level, *(_level(frame, scatter)[0] for frame in inner))
    known_err = _OF_SCATTER * known / math.sqrt(n_differences)
    return Edge(level, error, wings, known, known_err, dip)


def _frame(data, noise, mask, width, depth):
    """Return the sides of a frame that lies so many frames within the first, masked as NaN."""
    within = slice(depth * width, -depth * width or None)
    if min(data.shape) <= 2 * (depth + 1) * width:
        return np.full((4, 1, 1), np.nan)
    sides = _sides(data[within, within], width)
    sides = sides / (noise if np.ndim(noise) == 0 else _sides(noise[within, within], width))
    if mask is not None:
        sides[_sides(mask[within, within], width)] = np.nan
    return sides


def _wings(first, second, third):
    """Return how much light of the galaxy reaches the first frame, as the next ones tell it."""
    rise, next_rise = second - first, third - second
    if math.isnan(rise):
        # in a stamp that small all may be light of the galaxy
        return math.inf
    if rise <= 0:
        return 0.0
    # An exponential profile falls by the same factor from frame to frame.
    fall = rise / next_rise if next_rise > 0 else 1.0
    return rise * min(fall / (1 - fall), _MOST_WINGS) if fall < 1 else rise * _MOST_WINGS


def _sides(array, width):
    """Return the four sides of an array, ``(4, width, length)``; of longer ones a part."""
    length = min(array.shape) - width
    return np.stack(
        [
            array[:width, :length],
            array[-width:, -length:],
            array[-length:, :width].T,
            array[:length, -width:].T,
        ]
    )


def _scatter(sides):
    """Return the noise of the pixels, blind to planes, and the number of differences."""
    near, far = sides[:, :-_LAG], sides[:, _LAG:]
    differences = near[..., :-_LAG] - far[..., :-_LAG] - near[..., _LAG:] + far[..., _LAG:]
    differences = np.sort(np.abs(differences).reshape(len(sides), -1), axis=1)
    found = np.isfinite(differences).sum(axis=1)
    found_rows = [
        row[:n] for row, n in zip(differences, found, strict=True) if n >= _FEWEST_PIXELS // 2
    ]
    if len(found_rows) < _FEWEST_SIDES:
        return math.nan, 0
    scatter = median([row[len(row) // 2] for row in found_rows]) / _NORMAL_MEDIAN
    if scatter == 0:
        # of few photons most pixels have none
        scatter = math.sqrt(median([np.mean(np.square(row)) for row in found_rows]))
    return scatter / 2, int(found.sum())


def _level(sides, scatter):
    """Return the median over the sides of their levels, sources clipped, and how many pixels."""
    values = np.sort(sides.reshape(len(sides), -1), axis=1)
    found = np.isfinite(values).sum(axis=1)
    levels, used = [], 0
    for row, n in zip(values, found, strict=True):
        if n < _FEWEST_PIXELS:
            continue
        first, last = 0, n
        for _ in range(_ROUNDS):
            level = row[(first + last) // 2]
            first, last = row[:n].searchsorted((level - _CLIP * scatter, level + _CLIP * scatter))
            if last - first < n / 2:
                # nearer to the galaxy, light varies by more than the noise
                first, last = 0, n
                break
        levels.append(row[(first + last) // 2])
        used += last - first
    if len(levels) < _FEWEST_SIDES:
        return math.nan, 0, math.nan
    level = median(levels)
    return level, used, level - min(levels)
