# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The noise of observations: uneven, of photons, correlated; and what is told of it."""

import numpy as np
from scipy.ndimage import convolve

from astroflux.cutouts._correlation import NoiseCorrelation
from astroflux.networks.orientation import ORIENTATIONS
from astroflux.networks.pyramid import CANVAS_SIZE

__all__ = ['correlate', 'draw_kernels', 'noise_maps']

# Range of the noise's changes across a stamp: variances of a coarser half, slopes
# of ln(variance) over the stamp, jitter of ln(variance) per pixel.
STEP_VARIANCE = (1.2, 4.0)
SLOPE_RANGE = (-1.0, 1.0)
JITTER = 0.15

# A galaxy's own photon noise: variance at its peak over that of the sky.
PEAK_VARIANCE = (0.05, 20.0)

# Correlation with each of the next pixels, at most: that of a coadd on a new grid.
MAX_CORRELATION = 0.35


def _uneven(rng):
    """Return a map of relative variances."""
    kind = rng.integers(3)
    if kind == 0:
        variance = np.ones((CANVAS_SIZE, CANVAS_SIZE), np.float32)
        lines = variance if rng.random() < 0.5 else variance.T
        lines[: rng.integers(20, CANVAS_SIZE - 20)] = rng.uniform(*STEP_VARIANCE)
        return ORIENTATIONS[rng.integers(8)].apply(variance)
    if kind == 1:
        ticks = np.arange(CANVAS_SIZE) / CANVAS_SIZE - 0.5
        slopes = rng.uniform(*SLOPE_RANGE, 2)
        return np.exp(slopes[0] * ticks + slopes[1] * ticks[:, None]).astype(np.float32)
    jitter = rng.standard_normal((CANVAS_SIZE, CANVAS_SIZE), np.float32)
    return np.exp(np.float32(JITTER * rng.random()) * jitter)


def noise_maps(models, settings, rng):
    """
    Draw the variances of a batch of noiseless images, in units of the noise.

    Returns them as they are, and as the network is told.
    """
    true = np.ones_like(models)
    for variance in true:
        if rng.random() < settings.uneven_noise_fraction:
            variance *= _uneven(rng)
    told = true.copy()
    for model, variance, known in zip(models, true, told, strict=True):
        if rng.random() < settings.photon_noise_fraction:
            gain = np.exp(rng.uniform(*np.log(PEAK_VARIANCE))) / model.max()
            variance += np.float32(gain) * model
            if rng.random() < 0.5:
                known[:] = variance
    return true, told


def draw_kernels(n, given, settings, rng):
    """Return the kernels of correlated noise by row: the given ones, and some for other rows."""
    is_correlated = rng.random(n) < settings.correlated_noise_fraction
    others = {row: _draw_kernel(rng) for row in np.flatnonzero(is_correlated) if row not in given}
    return {**given, **others}


def _draw_kernel(rng):
    """Draw the kernel of noise that is correlated with the next pixels; the variance stays."""
    p, q = rng.uniform(0, MAX_CORRELATION, 2)
    # as in bilinear interpolation: the sum over a pixel and the next ones
    kernel = np.outer([0, 1, p], [0, 1, q])
    return kernel / np.sqrt((kernel**2).sum())


def correlate(noise, kernels, settings, rng):
    """
    Correlate white noise of some stamps, in place; return the noise that is the unit of each.

    It is one, or that which a user's ``noise_correlation`` makes of it. Blocks of pixels are so
    large that their noise is hardly correlated, but grown.
    """
    unit = np.ones(len(noise))
    for row, kernel in kernels.items():
        growth = NoiseCorrelation.of_kernel(kernel).growth
        if settings.max_binning > 1:
            noise[row] *= np.float32(growth)
        else:
            noise[row] = convolve(noise[row], kernel.astype(noise.dtype), mode='wrap')
        if rng.random() < settings.told_correlation_fraction:
            unit[row] = growth * np.exp(settings.correlation_error * rng.standard_normal())
    return unit
