# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The pedestal of a PSF image: a constant that is no part of its wings."""

import math

import numpy as np
import scipy  # its parts load at first use

__all__ = ['pedestal_of']

# The rings, a pixel wide, from this many FWHM on, and the fewest that tell anything.
_INNERMOST = 1.0
_FEWEST_RINGS = 6

# Wings are told so well by the model, in parts of themselves and of the peak.
_RELATIVE, _FLOOR = 0.03, 1e-5

# Without a pedestal the residuals of the wings are larger than this (in units of the above), and
# with it smaller by this factor. Real wings, which no model tells exactly, are so left alone.
_MISFIT = 0.5
_GAIN = 0.5

# Ranges of ln(scale / FWHM) and ln(exponent) of the Moffat profile, and where to start.
_LOWEST, _HIGHEST, _START = (-1.6, 0.4), (2.5, 5.0), (-0.3, 1.0)

# Shapes that are tried first: ln(exponent), finest where the air is, and ln of the width, which is
# the scale over the root of the exponent: what profiles alike have in common.
_EXPONENTS, _WIDTHS = np.meshgrid(
    np.r_[0.4:1.4:26j, 1.6:5:6j], np.linspace(-2.1, 1, 9), indexing='ij'
)
_SCALES = np.exp(np.clip(_WIDTHS + _EXPONENTS / 2, _LOWEST[0], _HIGHEST[0])).reshape(-1, 1)
_EXPONENTS = np.exp(_EXPONENTS).reshape(-1, 1)

# The slope of the wide part of the wings: that of the diffraction of a round pupil, less steep
# than what the turbulence of the air makes.
_WIDE_SLOPE = 3.0


def pedestal_of(psf):
    """
    Return the constant that lies under a PSF image; 0 if none is seen.

    The means of its rings beyond the core are fitted as wings: a Moffat profile and a power of
    the radius, neither of them negative. A constant is added to these if they do not tell the
    rings without it and do so with it. One that is fainter than the wings at the edge of the
    image cannot be told from these, and is not seen.

    Parameters
    ----------
    psf : 2D `~numpy.ndarray`
        Image with a positive sum.

    Returns
    -------
    pedestal : float
        In units of the image; negative if too much was subtracted from it.
    """
    if min(psf.shape) < 2 * _FEWEST_RINGS:
        return 0.0
    peak = psf.max()
    fwhm = 2 * math.sqrt(np.count_nonzero(psf > 0.5 * peak) / math.pi)
    radius, value, error = _rings(psf / peak)
    # what was set to zero beyond a radius says nothing
    filled = np.flatnonzero((value != 0) | (error != 0))
    used = np.flatnonzero(radius > _INNERMOST * fwhm)
    used = used[used <= filled[-1]]
    if len(used) < _FEWEST_RINGS or np.abs(value[used[-3:]]).max() < _FLOOR:
        return 0.0
    rings = radius[used] / fwhm, value[used], error[used]
    # the best shape is no worse than the best of some
    if _least_misfit(*rings) <= _MISFIT:
        return 0.0
    misfit, _ = _fit(*rings, has_pedestal=False)
    if not misfit > _MISFIT:
        return 0.0
    least, pedestal = _fit(*rings, has_pedestal=True)
    # wings that fall more steeply than those of the model look like a negative one
    is_possible = pedestal > 0 or (value[used[-3:]] < 0).all()
    return pedestal * peak if is_possible and least < _GAIN * misfit else 0.0


def _rings(psf):
    """Return mean radius and value of rings about the core, and the error of the latter."""
    y, x = np.indices(psf.shape)
    core = psf > 0.5
    radius = np.hypot(x - x[core].mean(), y - y[core].mean()).ravel()
    ring = radius.astype(int)
    inside = ring < min(psf.shape) // 2
    ring, radius, psf = ring[inside], radius[inside], psf.ravel()[inside]
    number = np.bincount(ring)
    number, found = np.maximum(number, 1), number > 0
    radius, value, square = (
        np.bincount(ring, values)[found] / number[found] for values in (radius, psf, psf**2)
    )
    return radius, value, np.sqrt(np.maximum(square - value**2, 0) / number[found])


def _errors(value, error):
    return np.sqrt((_RELATIVE * value) ** 2 + error**2 + _FLOOR**2)


def _wide(radius):
    return ((1 + radius**2) / (1 + radius[0] ** 2)) ** (-_WIDE_SLOPE / 2)


def _least_misfit(radius, value, error):
    """Return the least root mean square of the residuals of some wings without a pedestal."""
    error = _errors(value, error)
    ln_moffat = -_EXPONENTS * np.log1p((radius / _SCALES) ** 2)
    moffat = np.exp(ln_moffat - ln_moffat[..., :1]) / error
    wide, seen = _wide(radius) / error, value / error
    # normal equations of two parts, neither of them negative
    a, b, c = np.square(moffat).sum(axis=1), wide @ wide, moffat @ wide
    p, q = moffat @ seen, wide @ seen
    det = np.maximum(a * b - c**2, 1e-12 * a * b)
    first, second = (p * b - q * c) / det, (q * a - p * c) / det
    is_one = (first < 0) | (second < 0)
    only_first = is_one & (np.square(np.maximum(p, 0)) / a > max(q, 0) ** 2 / b)
    first = np.where(is_one, np.where(only_first, np.maximum(p, 0) / a, 0), first)
    second = np.where(is_one, np.where(only_first, 0, max(q, 0) / b), second)
    gain = 2 * (first * p + second * q) - first**2 * a - 2 * first * second * c - second**2 * b
    return math.sqrt(max(seen @ seen - gain.max(), 0) / len(radius))


def _fit(radius, value, error, *, has_pedestal):
    """Return the root mean square of the residuals of the best wings, and the pedestal."""
    error = _errors(value, error)
    constants = [np.ones_like(radius), -np.ones_like(radius)] if has_pedestal else []
    wide = _wide(radius)

    def solve(shape):
        ln_scale, ln_exponent = shape
        ln_moffat = -math.exp(ln_exponent) * np.log1p((radius / math.exp(ln_scale)) ** 2)
        moffat = np.exp(ln_moffat - ln_moffat[0])
        design = np.array([moffat, wide, *constants]).T / error[:, None]
        weights, _ = scipy.optimize.nnls(design, value / error)
        return design @ weights - value / error, weights

    fit = scipy.optimize.least_squares(
        lambda shape: solve(shape)[0],
        _START,
        bounds=(_LOWEST, _HIGHEST),
        diff_step=1e-3,
        xtol=1e-4,
        ftol=1e-4,
    )
    residual, weights = solve(fit.x)
    pedestal = weights[2] - weights[3] if has_pedestal else 0.0
    return math.sqrt(np.mean(residual**2)), float(pedestal)
