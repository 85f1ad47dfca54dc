# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Point-spread functions as mixtures of three concentric Gaussians."""

import numpy as np

__all__ = ['N_PSF_GAUSSIANS', 'fit_psf_mixtures']

N_PSF_GAUSSIANS = 3

# ln of the variances in units of FWHM**2, and ln of the second and third weight
# over the first: those of a Moffat profile of exponent 3.
TYPICAL = np.array([-2.17, -1.2, 0.13, 0.85, -0.25])

# How far parameters may run, and how hard they are held at the typical ones
# where the image does not tell, in units of the relative residual.
LOWEST = np.array([-4.0, -3.0, -2.0, -5.0, -6.0])
HIGHEST = np.array([-1.2, 0.5, 4.0, 5.0, 5.0])
HOLD = 1e-3

N_ITERATIONS = 30

# Rings in which an image is averaged, in pixels: fine in the core.
RINGS = np.concatenate([np.arange(0, 8, 0.5), np.arange(8, 65, 1.0)])


def _ring_means(psf):
    """Return mean squared radius, mean value and number of pixels of each ring."""
    y, x = np.indices(psf.shape)
    core = psf > 0.1 * psf.max()
    weight = np.where(core, psf, 0)
    cx, cy = (x * weight).sum() / weight.sum(), (y * weight).sum() / weight.sum()
    squared = (x - cx) ** 2 + (y - cy) ** 2
    inside = squared < min(RINGS[-1], 0.5 * max(psf.shape)) ** 2
    ring = np.digitize(np.sqrt(squared[inside]), RINGS) - 1
    number = np.bincount(ring, minlength=len(RINGS))
    means = [
        np.bincount(ring, values[inside], minlength=len(RINGS)) / np.maximum(number, 1)
        for values in (squared, psf)
    ]
    return *means, number


def _model(parameters, squared, fwhm):
    """Return ring values and their derivatives, ``(n, rings)`` and ``(n, rings, 6)``."""
    width = np.exp(parameters[:, :3]) * fwhm[:, None] ** 2
    # what the image shows has been averaged over pixels
    variance = width + 1 / 12
    logits = np.concatenate([np.zeros_like(parameters[:, :1]), parameters[:, 3:5]], axis=1)
    weight = np.exp(logits)
    weight /= weight.sum(axis=1, keepdims=True)
    amplitude = np.exp(parameters[:, 5:]) * weight / (2 * np.pi * variance)
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

    By the Levenberg-Marquardt method on the images' means in rings. The part
    of the light that falls outside an image is that of the Gaussians.

    Parameters
    ----------
    psfs : sequence of 2D `~numpy.ndarray`
        Images; the pixel is part of them.
    fwhm : array_like
        Full width at half maximum of each in pixels, without the pixel.

    Returns
    -------
    parameters : `~numpy.ndarray`
        ``(n, 5)``: ln of the three variances, without the pixel's, in units of
        FWHM**2; ln of the second and third weight over the first. NaN where
        the width is not finite.
    """
    fwhm = np.asarray(fwhm, float)
    result = np.full((len(fwhm), 5), np.nan)
    rows = np.flatnonzero(np.isfinite(fwhm))
    if len(rows) == 0:
        return result
    rings = np.array([_ring_means(np.asarray(psfs[row], float)) for row in rows])
    squared, value, number = rings.transpose(1, 0, 2)
    weight = np.sqrt(number)
    weight /= np.sqrt(((weight * value) ** 2).sum(axis=1, keepdims=True))
    result[rows] = _levenberg_marquardt(squared, value, weight, fwhm[rows])
    return result


def _levenberg_marquardt(squared, value, weight, fwhm):
    n = len(fwhm)
    typical = np.append(TYPICAL, 0.0)
    lowest, highest = np.append(LOWEST, -1.0), np.append(HIGHEST, 1.0)
    hold = np.full(6, HOLD**2)
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
        damped = normal + np.eye(6) * (damping[:, None] * diagonal)[:, None]
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
    return parameters[:, :5]
