# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Pixels that hold nothing, in the ways in which images say so without a mask."""

import numpy as np
from scipy.ndimage import binary_opening, maximum_filter, minimum_filter

__all__ = ['has_contradicting_noise', 'is_fill', 'is_no_data']

# As many pixels a side of the same value are a fill: the blank edge of a mosaic, or a saturated
# core. Pixels beyond the edge of the image count as those at its edge.
_BLOCK = 5
_BEYOND = 2

# If all but so little is of one value, that is an image without noise, not one with a fill.
_LEAST_REST = 0.1

# In counts of few photons, or pixels digitized more coarsely than the noise, neighbors are equal
# in a larger part of the image than this, and equal values say nothing.
_MOST_EQUAL = 0.3

# As many pixels of the same value in a row or a column are dead, or saturated; or more of them, so
# that it happens by chance in one of so many images.
_LINE = 8
_BY_CHANCE = 1e-4

# One value in this part of the pixels or more, scattered, is no noise if the others differ.
_LEAST_SCATTERED = 0.02
_SAMPLE = 256

# Nothing on the sky is so far below the other pixels, or so far above, in units of their scatter.
_LOWEST, _HIGHEST = -1e3, 1e10
_NORMAL_MEDIAN = 0.6744897501960817

# Weights below a thousandth of the others' are what lossy compression leaves of zeros, and noise
# above this is how maps of it mark what is not to be used.
_LARGEST_NOISE = 30.0
_SMALLEST_NOISE = 1e-3

# Unless it is that of the photons of a bright source, which then stands out of it.
_SNR_OF_PHOTONS = 3.0


def is_fill(data, valid=None):
    """
    Return which pixels are of a value that noise has not, or `None` if there are none.

    They lie in blocks or lines of equal values, or are scattered and many.

    Parameters
    ----------
    data : `~numpy.ndarray`
        Image, shape ``(ny, nx)``.
    valid : `~numpy.ndarray`, optional
        Bool; which pixels can be used otherwise.

    Returns
    -------
    fill : `~numpy.ndarray` or None
        Bool. `None` as well if hardly a valid pixel would be left.
    """
    across, along = data[:, 1:] == data[:, :-1], data[1:] == data[:-1]
    if max(np.count_nonzero(across), np.count_nonzero(along)) < _LINE - 1:
        return None
    fill = _in_blocks(data, across, valid) | _in_lines(across) | _in_lines(along.T).T
    fill |= _scattered(data, data[:, 1:][across])
    rest = ~fill if valid is None else valid & ~fill
    if not fill.any() or np.count_nonzero(rest) < _LEAST_REST * data.size:
        return None
    return fill


def _in_blocks(data, equal, valid):
    """Return which pixels lie in squares of equal values."""
    wide = np.pad(data, _BEYOND, mode='edge')
    flat = maximum_filter(wide, _BLOCK) == minimum_filter(wide, _BLOCK)
    # the filters are wrong where they reach over the edge of what they are given
    inside = slice(_BLOCK // 2, -(_BLOCK // 2))
    centers = np.zeros_like(flat)
    centers[inside, inside] = flat[inside, inside]
    blocks = maximum_filter(centers, _BLOCK)[_BEYOND:-_BEYOND, _BEYOND:-_BEYOND]
    rest = ~blocks if valid is None else valid & ~blocks
    pairs = rest[:, 1:] & rest[:, :-1]
    if np.count_nonzero(equal & pairs) > _MOST_EQUAL * np.count_nonzero(pairs):
        return np.zeros_like(blocks)
    return blocks


def _scattered(data, repeated):
    """Return which pixels have the value that is repeated most often, if that is no chance."""
    none = np.zeros(data.shape, bool)
    if not repeated.size:
        return none
    values, numbers = np.unique(repeated, return_counts=True)
    same = data == values[np.argmax(numbers)]
    if np.count_nonzero(same) < _LEAST_SCATTERED * data.size:
        return none
    others = data[~same]
    others = others[:: max(1, others.size // _SAMPLE)]
    # counts, and what is digitized, have few values
    return same if np.unique(others).size > others.size / 2 else none


def _in_lines(equal):
    """Return which pixels lie in lines of equal values, from which of them equal the next one."""
    ny, n_pairs = equal.shape
    part = np.count_nonzero(equal) / equal.size
    with np.errstate(divide='ignore'):
        # as many pairs in a row come by chance once in so many images
        longest = np.log(_BY_CHANCE / equal.size) / np.log(part)
    length = max(_LINE - 1, longest)
    lines = np.zeros((ny, n_pairs + 1), bool)
    if length <= n_pairs:
        pairs = binary_opening(equal, np.ones((1, int(np.ceil(length))), bool))
        lines[:, 1:] |= pairs
        lines[:, :-1] |= pairs
    return lines


def is_no_data(data, valid=None, noise=None):
    """
    Return which pixels have values that no sky has, or `None` if there are none.

    Such as -3.4e38 or -32768, and 1e20.

    Parameters
    ----------
    data : `~numpy.ndarray`
        Image.
    valid : `~numpy.ndarray`, optional
        Bool; which pixels can be used otherwise.
    noise : float, optional
        Typical noise as stated.

    Returns
    -------
    no_data : `~numpy.ndarray` or None
        Bool.
    """
    values = data if valid is None else data[valid]
    if noise is not None and values.min() > _LOWEST * noise and values.max() < _HIGHEST * noise:
        return None
    level = np.median(values)
    with np.errstate(over='ignore'):
        scatter = max(np.median(np.abs(values - level)) / _NORMAL_MEDIAN, noise or 0.0)
        if not 0 < scatter < np.inf:
            return None
        # halved, as the difference may be larger than any number
        part = (data / 2 - level / 2) / scatter
        no_data = (part < _LOWEST / 2) | (part > _HIGHEST / 2)
    return no_data if no_data.any() else None


def has_contradicting_noise(data, noise, good):
    """
    Return which pixels have a noise that says that they hold nothing, or `None` if there are none.

    Parameters
    ----------
    data, noise : `~numpy.ndarray`
        Image and its noise.
    good : `~numpy.ndarray` or None
        Bool; which pixels have a positive, finite noise and can be used otherwise; `None` if all.

    Returns
    -------
    contradicting : `~numpy.ndarray` or None
        Bool.
    """
    values = noise if good is None else noise[good]
    if values.max() <= _LARGEST_NOISE * values.min():
        return None
    # Of a sky that is darker than the sources; a quarter, as half of the pixels may be lost.
    typical = np.quantile(values, 0.25)
    with np.errstate(invalid='ignore'):
        lost = (noise > _LARGEST_NOISE * typical) & (data < _SNR_OF_PHOTONS * noise)
    lost |= noise < _SMALLEST_NOISE * typical
    return lost if lost.any() else None
