# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""PSF images: their checks, their normalisation and their width."""

import math
from functools import lru_cache

import numpy as np
import scipy  # its parts load at first use

from astroflux._forks import cached_property
from astroflux.cutouts._pedestal import pedestal_of
from astroflux.cutouts._sharpness import core_variance, variance_of_fwhm

__all__ = ['PSFImage', 'fwhm_of_image', 'known_psf', 'parse_oversampling']

_ROUNDING = 1e-12

# Edges of nothing but zeros say nothing of the wings: they are cut off, down to this side.
_SMALLEST_SIDE = 11

# Cores of PSFs have 1.1 to 1.35 times the variance of a Gaussian of their width.
_LARGEST_VARIANCE = 1.5

# Below this width, a PSF is so poorly sampled that its Fourier transform is
# aliased, and a profile is fitted instead.
_WELL_SAMPLED = 3.2

# Gauss-Legendre nodes and weights for the integral over a pixel.
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(3)
_NODES, _WEIGHTS = 0.5 * _NODES, 0.5 * _WEIGHTS


class PSFImage:
    """
    A read-only PSF image of sum 1, in the pixels of the cutout, and its width.

    ``had_pedestal`` says whether a constant was found under it, and subtracted. If the image is
    but the middle of a larger one, the ``whole`` has the width.
    """

    def __init__(self, image, *, had_pedestal=False, whole=None):
        self.image = image
        self.had_pedestal = had_pedestal
        self._whole = image if whole is None else whole

    @cached_property
    def fwhm(self):
        """Its full width at half maximum in pixels, which is measured at the first use."""
        return fwhm_of_image(self._whole)

    @property
    def largest_variance(self):
        """More than the variance of its core in pixels, by its width alone."""
        return _LARGEST_VARIANCE * variance_of_fwhm(self.fwhm)

    @cached_property
    def core_variance(self):
        """The variance of its core in pixels, the pixel included."""
        return core_variance(self._whole)

    def within(self, shape):
        """Return it no larger than a stamp: the wings that are beyond that matter little."""
        cut = [max(0, -(-(n - most) // 2)) for n, most in zip(self.image.shape, shape, strict=True)]
        return _without_edge(self, *cut) if any(cut) else self


@lru_cache(maxsize=64)
def _without_edge(psf, n_rows, n_columns):
    """Return a PSF without so many rows and columns at each side, which stay odd or even."""
    ny, nx = psf.image.shape
    middle = psf.image[n_rows : ny - n_rows, n_columns : nx - n_columns]
    return PSFImage(_normalised(middle.copy()), had_pedestal=psf.had_pedestal, whole=psf.image)


def parse_oversampling(oversampling):
    """Return how many pixels a PSF image has per pixel of the cutout, as integers (y, x)."""
    pair = np.asarray(oversampling)
    if pair.dtype.kind not in 'iu' or pair.shape not in ((), (1,), (2,)) or not (pair >= 1).all():
        msg = f'oversampling must be 1 or a larger integer, or a pair (y, x), got {oversampling!r}'
        raise ValueError(msg)
    return tuple(np.broadcast_to(pair, 2).tolist())


def known_psf(psf, oversampling=(1, 1)):
    """
    Return a PSF image with sum 1 and its width, as a `PSFImage`.

    The last 64 are remembered by their content: equal images give the same object. A model of
    photutils has its own ``oversampling``. `ValueError` if it is no 2-d image of numbers, or its
    sum is not positive and finite.
    """
    if isinstance(psf, PSFImage):
        return psf
    if hasattr(psf, 'oversampling'):
        psf, oversampling = psf.data, parse_oversampling(psf.oversampling)
    psf = np.asarray(psf)
    if psf.dtype.kind not in 'iuf' or psf.ndim != 2 or psf.size == 0:
        msg = f'the PSF must be a 2-d image of numbers, got shape {psf.shape} of {psf.dtype}'
        raise ValueError(msg)
    psf = np.array(psf, dtype=float)
    # the order in memory is that of the sum
    order = 'F' if psf.flags.fnc else 'C'
    return _known(psf.tobytes(order), psf.shape, order, oversampling)


@lru_cache(maxsize=64)
def _known(content, shape, order, oversampling):
    psf = _normalised(np.frombuffer(content).reshape(shape, order=order))
    if oversampling != (1, 1):
        psf = _normalised(_sampled(psf, oversampling))
    pedestal = pedestal_of(psf)
    if pedestal != 0:
        psf = _normalised(psf - pedestal)
    return PSFImage(psf, had_pedestal=pedestal != 0)


def _normalised(psf):
    """Return a read-only image of sum 1, or raise `ValueError` if there is none."""
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
    return psf


def _sampled(psf, oversampling):
    """
    Return an effective PSF in the pixels of the cutout, its centroid in the middle of one.

    An effective PSF holds the light of a whole pixel of the cutout, about each of its own: every
    so manieth of these, not a sum of them, is what such a pixel receives.
    """
    core = np.maximum(psf - 0.5 * psf.max(), 0)
    axes = []
    for axis, (length, step) in enumerate(zip(psf.shape, oversampling, strict=True)):
        centre = np.average(np.arange(length), weights=core.sum(axis=1 - axis))
        # to the last digits, so that what lies on a pixel is taken as it is
        centre = round(float(centre), 6)
        reach = int(min(centre, length - 1 - centre) / step)
        axes.append(centre + step * np.arange(-reach, reach + 1))
    return scipy.ndimage.map_coordinates(psf, np.meshgrid(*axes, indexing='ij'), order=3)


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
