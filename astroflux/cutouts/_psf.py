# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""PSF images: their checks, their normalisation and their width."""

import math
from functools import cached_property, lru_cache

import numpy as np
import scipy  # its parts load at first use

__all__ = ['PSFImage', 'fwhm_of_image', 'known_psf']

_ROUNDING = 1e-12

# Edges of nothing but zeros say nothing of the wings: they are cut off, down to this side.
_SMALLEST_SIDE = 11

# Below this width, a PSF is so poorly sampled that its Fourier transform is
# aliased, and a profile is fitted instead.
_WELL_SAMPLED = 3.2

# Gauss-Legendre nodes and weights for the integral over a pixel.
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(3)
_NODES, _WEIGHTS = 0.5 * _NODES, 0.5 * _WEIGHTS


class PSFImage:
    """A read-only PSF image of sum 1, and its width."""

    def __init__(self, image):
        self.image = image

    @cached_property
    def fwhm(self):
        """Its full width at half maximum in pixels, which is measured at the first use."""
        return fwhm_of_image(self.image)


def known_psf(psf):
    """
    Return a PSF image with sum 1 and its width, as a `PSFImage`.

    The last 64 are remembered by their content: equal images give the same object. `ValueError`
    if it is no 2-d image of numbers, or its sum is not positive and finite.
    """
    psf = np.asarray(psf)
    if psf.dtype.kind not in 'iuf' or psf.ndim != 2 or psf.size == 0:
        msg = f'the PSF must be a 2-d image of numbers, got shape {psf.shape} of {psf.dtype}'
        raise ValueError(msg)
    psf = np.array(psf, dtype=float)
    # the order in memory is that of the sum
    order = 'F' if psf.flags.fnc else 'C'
    return _normalised(psf.tobytes(order), psf.shape, order)


@lru_cache(maxsize=64)
def _normalised(content, shape, order):
    psf = np.frombuffer(content).reshape(shape, order=order)
    with np.errstate(all='ignore'):
        total = psf.sum()
    if not (math.isfinite(total) and total > 0):
        msg = f'the PSF must have a positive finite sum, got {total:g}'
        raise ValueError(msg)
    psf = psf[tuple(_without_zero_edges(psf, axis) for axis in (0, 1))]
    # One that has been normalised before stays as it is, to the last digit.
    if abs(total - 1) > _ROUNDING:
        psf = psf / total
        psf.setflags(write=False)
    return PSFImage(psf)


def _without_zero_edges(psf, axis):
    """Return the slice of an axis without zeros at its ends, as many off each."""
    length = psf.shape[axis]
    used = np.flatnonzero(psf.any(axis=1 - axis))
    cut = min(used[0], length - 1 - used[-1], max(0, (length - _SMALLEST_SIDE) // 2))
    return slice(cut, length - cut)


def fwhm_of_image(psf):
    """
    Return the full width at half maximum of a PSF image in pixels, the pixel taken out.

    A PSF image holds the profile integrated over pixels. The width is that of the profile itself,
    the diameter of the circle with the area above half of the maximum; NaN if the image has no
    measurable core.
    """
    # the same to the last digit, however the image lies in memory
    psf = np.ascontiguousarray(psf)
    fwhm = _fourier_fwhm(psf)
    # Written so that NaN goes to the fit.
    return fwhm if fwhm > _WELL_SAMPLED else _moffat_fwhm(psf, fwhm)


def _fourier_fwhm(psf):
    """Divide by the pixel's transfer function, and look at the core on a fine grid."""
    ny, nx = psf.shape
    y0, x0 = np.unravel_index(np.argmax(psf), psf.shape)
    half_area = np.count_nonzero(psf > 0.5 * psf[y0, x0])
    grid = np.linspace(-1, 1, 81) * (1.2 * math.sqrt(half_area / math.pi) + 2)
    fy, fx = np.fft.fftfreq(ny), np.fft.fftfreq(nx)
    transform = np.fft.fft2(psf) / (np.sinc(fy)[:, None] * np.sinc(fx))
    core = np.exp(2j * np.pi * np.outer(grid + y0, fy)) @ transform
    core = (core @ np.exp(2j * np.pi * np.outer(fx, grid + x0))).real
    peak = core.max()
    if not peak > 0:
        return math.nan
    # Pixels on the contour count by the part that lies inside.
    step_y, step_x = np.gradient(core)
    slope = np.maximum(np.hypot(step_y, step_x), 1e-6 * peak)
    area = np.clip((core - 0.5 * peak) / slope + 0.5, 0, 1).sum() * (grid[1] - grid[0]) ** 2
    return 2 * math.sqrt(area / math.pi)


def _moffat_fwhm(psf, guess):
    """Fit a circular Moffat profile, integrated over pixels, to the core."""
    y0, x0 = np.unravel_index(np.argmax(psf), psf.shape)
    guess = float(np.clip(guess, 1.0, _WELL_SAMPLED)) if math.isfinite(guess) else 2.0
    half = 6
    ys = slice(max(y0 - half, 0), y0 + half + 1)
    xs = slice(max(x0 - half, 0), x0 + half + 1)
    values = psf[ys, xs] / psf[y0, x0]
    y = (np.arange(psf.shape[0])[ys] - y0)[:, None] + _NODES
    x = (np.arange(psf.shape[1])[xs] - x0)[:, None] + _NODES

    def residual(params):
        peak, dx, dy, log_fwhm, log_beta = params
        beta = 1 + math.exp(min(log_beta, 5.0))
        alpha2 = 0.25 * math.exp(2 * min(log_fwhm, 5.0)) / (2 ** (1 / beta) - 1)
        r2 = ((y - dy) ** 2)[:, :, None, None] + ((x - dx) ** 2)[None, None]
        profile = (1 + r2 / alpha2) ** -beta
        model = np.einsum('iajb,a,b->ij', profile, _WEIGHTS, _WEIGHTS)
        return (peak * model - values).ravel()

    start = [1.2, 0.0, 0.0, math.log(guess), math.log(2.0)]
    if values.size < len(start):
        return math.nan
    fit = scipy.optimize.least_squares(
        residual, start, method='lm', max_nfev=200, xtol=1e-5, ftol=1e-6
    )
    fwhm = math.exp(min(fit.x[3], 5.0))
    return fwhm if fit.success and 0.1 < fwhm < 4 * half else math.nan
