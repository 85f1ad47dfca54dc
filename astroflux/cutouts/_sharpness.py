# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Whether the source at a position is sharper than the PSF, which no source of the sky is."""

import math

import numpy as np

__all__ = ['core_variance', 'is_sharper', 'variance_of_fwhm']

# The weight is a Gaussian as wide as the PSF, but not so narrow that pixels are too coarse for
# it; what is within so many of its standard deviations is looked at, and has to be there.
_LEAST_VARIANCE = 1.0
_REACH, _NEAR = 4.0, 2.0

# A source this much narrower than the PSF, by so many errors, is sharper. PSFs that are given
# are seldom wrong by as much.
_SHARP = 0.85
_ERRORS = 4.0

# No source is narrower than a PSF that is wider than any stamp.
_WIDEST = 1e6

_ROUNDS = 20
_CENTRING_ROUNDS = 3

_OF_PIXEL = 1 / 12
_FWHM_PER_SIGMA = math.sqrt(8 * math.log(2))


def variance_of_fwhm(fwhm):
    """Return the variance of a Gaussian of a FWHM, averaged over pixels: real PSFs have more."""
    return (min(fwhm, _WIDEST) / _FWHM_PER_SIGMA) ** 2 + _OF_PIXEL


def core_variance(psf):
    """
    Return the variance of the Gaussian that fits the core of a PSF image; NaN if none does.

    It is the one whose mean squared radius, weighted with the Gaussian itself, is that of the
    image.
    """
    y, x = np.unravel_index(np.argmax(psf), psf.shape)
    xy = float(x), float(y)
    area = np.count_nonzero(psf > 0.5 * psf.max())
    variance = area / math.pi / (2 * math.log(2))
    for _ in range(_ROUNDS):
        weight = max(variance, _LEAST_VARIANCE)
        core = _core(psf, xy, weight)
        if core is None:
            return math.nan
        xy, squared, weighted = core
        seen = (squared * weighted).sum() / weighted.sum()
        if not 0 < seen < 2 * weight:
            return math.nan
        # a Gaussian of this variance has that mean under the weight
        last, variance = variance, seen * weight / (2 * weight - seen)
        if abs(variance / last - 1) < 1e-3:
            break
    return variance


def is_sharper(data, noise, mask, xy, variance):
    """
    Return whether the source at a position is sharper than the PSF.

    Parameters
    ----------
    data : 2D `~numpy.ndarray`
        Stamp.
    noise : 2D `~numpy.ndarray` or float
        Noise (1 sigma).
    mask : 2D `~numpy.ndarray` or None
        Bool; `True` where a pixel is to be ignored.
    xy : tuple of float
        Where the source is, to about the width of the PSF.
    variance : float
        Of the PSF, as `core_variance` has it; NaN if unknown.

    Returns
    -------
    is_sharper : bool
        `False` if pixels are missing there, or the source is too faint to tell.
    """
    if math.isnan(variance):
        return False
    weight = max(variance, _LEAST_VARIANCE)
    rows, columns = _bounds(xy, _NEAR * math.sqrt(weight))
    is_whole = min(rows[0], columns[0]) >= 0 and all(
        stop <= n for (_, stop), n in zip((rows, columns), data.shape, strict=True)
    )
    if not is_whole or (mask is not None and mask[slice(*rows), slice(*columns)].any()):
        return False
    core = _core(data, xy, weight)
    if core is None:
        return False
    centre, squared, weighted = core
    total = weighted.sum()
    seen = (squared * weighted).sum() / total
    if np.ndim(noise):
        noise = noise[_window(noise.shape, centre, weight)]
    scatter = np.exp(-0.5 * squared / weight) * noise * (squared - seen)
    error = math.sqrt(np.vdot(scatter, scatter)) / total
    narrow = _SHARP**2 * variance
    return bool(seen + _ERRORS * error < 2 * weight * narrow / (weight + narrow))


def _core(image, xy, variance):
    """
    Return the centroid of what is at a place under a Gaussian, squared radii, weighted values.

    `None` if nothing is there, or it lies farther off than the FWHM of the Gaussian.
    """
    start, sigma = xy, math.sqrt(variance)
    for step in range(_CENTRING_ROUNDS + 1):
        window = _window(image.shape, xy, variance)
        y, x = (
            np.arange(each.start, each.stop) - c for each, c in zip(window, xy[::-1], strict=True)
        )
        down, across = (np.exp(-0.5 * apart**2 / variance) for apart in (y, x))
        weighted = image[window] * down[:, None] * across
        total = weighted.sum()
        if not 0 < total < math.inf or math.dist(xy, start) > _FWHM_PER_SIGMA * sigma:
            return None
        if step < _CENTRING_ROUNDS:
            # under the weight, the centroid of a Gaussian as wide moves half as far
            moves = [
                2 * float(weighted.sum(axis=axis) @ apart / total)
                for axis, apart in enumerate((x, y))
            ]
            if not all(map(math.isfinite, moves)):
                return None
            xy = tuple(c + min(max(move, -sigma), sigma) for c, move in zip(xy, moves, strict=True))
    return xy, y[:, None] ** 2 + x**2, weighted


def _bounds(xy, reach):
    """Return the first and the last row but one within reach of a place, and such columns."""
    return [(math.ceil(c - reach), math.floor(c + reach) + 1) for c in xy[::-1]]


def _window(shape, xy, variance):
    """Return the slices of the pixels that count."""
    bounds = _bounds(xy, _REACH * math.sqrt(variance))
    return tuple(
        slice(min(max(start, 0), n), max(min(stop, n), 0))
        for (start, stop), n in zip(bounds, shape, strict=True)
    )
