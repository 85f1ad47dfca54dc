# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Point-spread functions as mixtures of four concentric Gaussians."""

import numpy as np

__all__ = ['N_PSF_GAUSSIANS', 'N_PSF_NUMBERS', 'fit_psf_mixtures', 'in_blocks', 'psf_numbers']

N_PSF_GAUSSIANS = 4

# ln of the variances in units of FWHM**2, and ln of the later weights over the first: those
# of a typical seeing, between a Moffat and a Kolmogorov profile.
TYPICAL = np.array([-1.9, -1.0, 0.5, 2.5, -0.4, -2.0, -3.7])

# What a network is told of a PSF: width, noise-equivalent area, and these.
N_PSF_NUMBERS = 2 + len(TYPICAL)

# How far parameters may run, and how hard they are held at the typical ones
# where the image does not tell, in units of the relative residual.
LOWEST = np.array([-4.0, -3.0, -2.0, -1.0, -5.0, -6.0, -8.0])
HIGHEST = np.array([-1.2, 0.5, 2.5, 5.0, 5.0, 5.0, 4.0])
HOLD = 1e-3

N_ITERATIONS = 60

# Rings in which an image is averaged, in pixels: fine in the core. Beyond the image wings
# go on as they do in its outer part, from this fraction of its reach on: as a power of the
# radius between these two.
RINGS = np.concatenate([np.arange(0, 8, 0.5), np.arange(8, 74, 1.0)])
OUTER_PART = 0.8

# Pixels as near as this to the edge of a ring count as within it: else rounding would decide.
ON_EDGE = 1e-6
STEEPNESS = (3.0, 8.0)

# Squared residuals weigh by the area and by this power of the radius in FWHM: the total flux of
# a galaxy depends on wings that are hardly seen.
RADIUS_POWER = 1.5
INNER_RADIUS = 0.1


def _ring_means(psf):
    """Return mean squared radius, mean value and number of pixels of each ring."""
    y, x = np.indices(psf.shape)
    core = psf > 0.1 * psf.max()
    weight = np.where(core, psf, 0)
    cx, cy = (x * weight).sum() / weight.sum(), (y * weight).sum() / weight.sum()
    squared = (x - cx) ** 2 + (y - cy) ** 2
    reach = 0.5 * min(psf.shape)
    radius = np.maximum(np.sqrt(squared) - ON_EDGE, 0)
    inside = radius < min(RINGS[-1], reach)
    ring = np.digitize(radius[inside], RINGS) - 1
    number = np.bincount(ring, minlength=len(RINGS))
    squared, value = (
        np.bincount(ring, values[inside], minlength=len(RINGS)) / np.maximum(number, 1)
        for values in (squared, psf)
    )
    return _with_wings(squared, value, number, reach)


def _with_wings(squared, value, number, reach):
    """Add rings beyond the image, if its outer part tells how it goes on."""
    radius = np.sqrt(squared)
    outer = (number > 0) & (radius > OUTER_PART * reach)
    if outer.sum() < 3 or not np.all(value[outer] > 0):
        return squared, value, number
    slope, level = np.polyfit(
        np.log(radius[outer]), np.log(value[outer]), 1, w=np.sqrt(number[outer])
    )
    beyond = (number == 0) & (radius.max() < RINGS)
    width = np.diff(RINGS, append=RINGS[-1] + 1)
    middle = RINGS + 0.5 * width
    # through the outermost part, with a slope that wings have
    pivot = np.log(radius[outer]).mean()
    at_pivot = level + slope * pivot
    slope = -np.clip(-slope, *STEEPNESS)
    wing = np.exp(at_pivot + slope * (np.log(middle) - pivot))
    squared = np.where(beyond, middle**2, squared)
    value = np.where(beyond, wing, value)
    number = np.where(beyond, 2 * np.pi * middle * width, number)
    return squared, value, number


def _model(parameters, squared, fwhm):
    """Return ring values and their derivatives, ``(n, rings)`` and ``(n, rings, 8)``."""
    k = N_PSF_GAUSSIANS
    width = np.exp(parameters[:, :k]) * fwhm[:, None] ** 2
    # what the image shows has been averaged over pixels
    variance = width + 1 / 12
    logits = np.concatenate(
        [np.zeros_like(parameters[:, :1]), parameters[:, k : 2 * k - 1]], axis=1
    )
    weight = np.exp(logits)
    weight /= weight.sum(axis=1, keepdims=True)
    amplitude = np.exp(parameters[:, 2 * k - 1 :]) * weight / (2 * np.pi * variance)
    parts = amplitude[:, None] * np.exp(-0.5 * squared[:, :, None] / variance[:, None])
    whole = parts.sum(axis=2)
    by_width = (
        parts
        * (0.5 * squared[:, :, None] / variance[:, None] ** 2 - 1 / variance[:, None])
        * width[:, None]
    )
    by_weight = parts - weight[:, None] * whole[:, :, None]
    return whole, np.concatenate([by_width, by_weight[:, :, 1:], whole[:, :, None]], axis=2)


def fit_psf_mixtures(psfs, fwhm):
    """
    Fit mixtures of Gaussians to images of point-spread functions.

    By the Levenberg-Marquardt method on the images' means in rings. Wings that
    an image is too small to show are taken to go on as a power of the radius.

    Parameters
    ----------
    psfs : sequence of 2D `~numpy.ndarray`
        Images; the pixel is part of them.
    fwhm : array_like
        Full width at half maximum of each in pixels, without the pixel.

    Returns
    -------
    parameters : `~numpy.ndarray`
        ``(n, 7)``: ln of the four variances, without the pixel's, in units of
        FWHM**2; ln of the later weights over the first. NaN where the width is
        not finite.
    """
    fwhm = np.asarray(fwhm, float)
    result = np.full((len(fwhm), len(TYPICAL)), np.nan)
    rows = np.flatnonzero(np.isfinite(fwhm))
    if len(rows) == 0:
        return result
    rings = np.array([_ring_means(np.asarray(psfs[row], float)) for row in rows])
    squared, value, number = rings.transpose(1, 0, 2)
    radius = np.sqrt(squared) / fwhm[rows, None]
    weight = np.sqrt(number) * (radius + INNER_RADIUS) ** RADIUS_POWER
    weight /= np.sqrt(((weight * value) ** 2).sum(axis=1, keepdims=True))
    result[rows] = _levenberg_marquardt(squared, value, weight, fwhm[rows])
    return result


def _levenberg_marquardt(squared, value, weight, fwhm):
    n = len(fwhm)
    typical = np.append(TYPICAL, 0.0)
    lowest, highest = np.append(LOWEST, -1.0), np.append(HIGHEST, 1.0)
    hold = np.full(len(typical), HOLD**2)
    parameters = np.tile(typical, (n, 1))
    damping = np.full(n, 1e-2)
    done = np.zeros(n, bool)

    def cost_and_parts(parameters):
        model, jacobian = _model(parameters, squared, fwhm)
        residual = weight * (value - model)
        cost = (residual**2).sum(axis=1) + (hold * (parameters - typical) ** 2).sum(axis=1)
        return cost, residual, weight[:, :, None] * jacobian

    cost, residual, jacobian = cost_and_parts(parameters)
    for _ in range(N_ITERATIONS):
        normal = np.einsum('nri,nrj->nij', jacobian, jacobian) + np.diag(hold)
        slope = np.einsum('nri,nr->ni', jacobian, residual) - hold * (parameters - typical)
        diagonal = np.einsum('nii->ni', normal)
        damped = normal + np.eye(len(typical)) * (damping[:, None] * diagonal)[:, None]
        step = np.linalg.solve(damped, slope[..., None])[..., 0]
        trial = np.clip(parameters + np.clip(step, -0.7, 0.7), lowest, highest)
        new_cost, new_residual, new_jacobian = cost_and_parts(trial)
        better = (new_cost < cost) & ~done
        parameters = np.where(better[:, None], trial, parameters)
        residual = np.where(better[:, None], new_residual, residual)
        jacobian = np.where(better[:, None, None], new_jacobian, jacobian)
        done |= np.where(new_cost < cost, cost - new_cost < 1e-4 * cost, damping > 1)
        cost = np.where(better, new_cost, cost)
        damping = np.clip(np.where(better, 0.2 * damping, 5 * damping), 1e-7, 1e4)
        if done.all():
            break
    return parameters[:, :-1]


def psf_numbers(psfs, fwhm):
    """
    Return what a network is told of point-spread functions.

    Parameters
    ----------
    psfs, fwhm
        As for `fit_psf_mixtures`.

    Returns
    -------
    numbers : `~numpy.ndarray`
        ``(n, 9)``: full width at half maximum, noise-equivalent area
        ``sum(psf)**2 / sum(psf**2)``, and the numbers of `fit_psf_mixtures`.
    """
    area = [_total(psf) ** 2 / np.vdot(psf, psf) for psf in psfs]
    return np.column_stack([fwhm, area, fit_psf_mixtures(psfs, fwhm)])


def _total(psf):
    total = psf.sum()
    # of a normalised image it is one, but for rounding
    return 1.0 if abs(total - 1) < 1e-12 else total


def in_blocks(numbers, binning):
    """
    Return numbers of point-spread functions in blocks of pixels.

    Parameters
    ----------
    numbers : `~numpy.ndarray`
        ``(n, 9)``, of `psf_numbers`.
    binning : int or `~numpy.ndarray`
        Pixels along the side of a block; ``(n,)`` or one for all.

    Returns
    -------
    numbers : `~numpy.ndarray`
        With width and area in blocks; the mixture is in units of the width.
    """
    numbers = numbers.copy()
    numbers[:, 0] /= binning
    numbers[:, 1] /= np.square(binning)
    return numbers
