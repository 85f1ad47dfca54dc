# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
A galaxy in twenty-six numbers that do not change with its flux and noise taken together.

The reference is the flux of the Gaussian filter that finds the galaxy best. Everything else is a
ratio to it, or in units of the noise, at radii that grow with that filter: so the numbers of two
galaxies of one shape and two sizes are alike, and few examples teach much.
"""

from dataclasses import dataclass, fields
from functools import cache

import numpy as np
from photutils.aperture import CircularAperture

from astroflux.networks.pyramid import CANVAS_SIZE, REACH

__all__ = [
    'APERTURE_RADII',
    'FEATURES',
    'FILTER_SIGMAS',
    'Features',
    'centroid_offset',
    'design',
    'join_features',
    'measure_features',
]

# In pixels.
APERTURE_RADII = (1.5, 2, 2.75, 3.5, 4.5, 6, 8, 11, 15, 20, 27, 37, 51, 71)
FILTER_SIGMAS = (1.2, 1.5, 1.9, 2.4, 3.1, 3.9, 4.9, 6.2, 7.9, 10, 12.6, 16)

# In units of the best filter's sigma: the radii of the growth curve, and of
# the circles whose usable area is told.
GROWTH_RADII = (1, 1.5, 2, 3, 4, 6, 8, 12)
AREA_RADII = (2, 6)

FEATURES = (
    'ln_snr',
    'ln_reference',
    'ln_width',
    'ln_psf_fwhm',
    'ln_psf_area',
    'elongation',
    *(f'usable_{k}' for k in AREA_RADII),
    *(f'filled_{k}' for k in AREA_RADII),
    *(f'ring_{k}' for k in GROWTH_RADII),
    *(f'symmetric_ring_{k}' for k in GROWTH_RADII),
)

# A reference below this S/N is none, but its logarithm must be a number.
LEAST_SNR = 0.5

# The light of a ring is scaled up to the ring's area by at most this factor.
MOST_SCALING = 4.0

# Ratios to the reference beyond this are noise over noise.
LARGEST_RATIO = 20.0

# The mean of the smaller of two standard normal deviates is -1/sqrt(pi).
MEAN_OF_MINIMUM = -1 / np.sqrt(np.pi)

_N_RADII, _N_FILTERS = len(APERTURE_RADII), len(FILTER_SIGMAS)


@dataclass(frozen=True)
class Features:
    """
    What was measured on a batch of canvases.

    Attributes
    ----------
    values : `~numpy.ndarray`
        ``(n, 26)``, in the order of `FEATURES`; NaN where the PSF is unknown.
    ln_reference : `~numpy.ndarray`
        ``(n,)`` ln of the reference flux in units of the noise.
    snr : `~numpy.ndarray`
        ``(n,)`` signal-to-noise ratio of the reference.
    """

    values: np.ndarray
    ln_reference: np.ndarray
    snr: np.ndarray


@cache
def _aperture_weights():
    """Return the fraction of each pixel within each aperture, ``(147 * 147, 14)``."""
    masks = [CircularAperture((REACH, REACH), r).to_mask(method='exact') for r in APERTURE_RADII]
    shape = (CANVAS_SIZE, CANVAS_SIZE)
    return np.stack([mask.to_image(shape).ravel() for mask in masks], axis=1)


@cache
def _filter_weights():
    """Return Gaussians of unit sum, and these times x**2 - y**2, 2 x y and x**2 + y**2."""
    y, x = (axis.ravel() for axis in np.mgrid[:CANVAS_SIZE, :CANVAS_SIZE].astype(float) - REACH)
    squared = x**2 + y**2
    filters = np.exp(-0.5 * squared[:, None] / np.square(FILTER_SIGMAS))
    # Denormal numbers far out would slow the products.
    filters[filters < 1e-12] = 0
    filters /= filters.sum(axis=0)
    moments = [filters * weight[:, None] for weight in (x**2 - y**2, 2 * x * y, squared)]
    return filters, np.concatenate(moments, axis=1)


@cache
def _joined_weights():
    apertures, (filters, moments) = _aperture_weights(), _filter_weights()
    return (
        np.concatenate([apertures, filters, moments], axis=1),
        np.concatenate([apertures, filters**2], axis=1),
    )


def measure_features(image, valid, psf):
    """Measure the features of a batch of `~astroflux.estimators._canvas.Canvases`."""
    n = len(image)
    flat_image, flat_valid = image.reshape(n, -1), valid.reshape(len(valid), -1)
    # The canvas turned by 180 degrees is its pixels in reverse.
    fillable = (1 - flat_valid) * flat_valid[:, ::-1]
    filled = flat_image + fillable * flat_image[:, ::-1]
    has_two_sides = flat_valid * flat_valid[:, ::-1]
    symmetric = np.minimum(filled, filled[:, ::-1]) - MEAN_OF_MINIMUM * has_two_sides

    weights, powers = _joined_weights()
    sums = _product(filled, weights)
    symmetric_sums = _product(symmetric, _aperture_weights())
    area = _product(np.ones_like(flat_valid[:1]), powers)[0, :_N_RADII]
    covered = _product(flat_valid + fillable, powers)
    usable = _product(flat_valid, _aperture_weights())
    # One row for all if all canvases have the same pixels.
    covered, usable = (np.broadcast_to(a, (n, a.shape[1])) for a in (covered, usable))

    reference, snr, best, ln_width = _reference(
        sums[:, _N_RADII : _N_RADII + _N_FILTERS], covered[:, _N_RADII:], powers
    )
    ln_radii = ln_width[:, None] + np.log(GROWTH_RADII)
    covered = covered[:, :_N_RADII]
    rings = [
        np.diff(_at_radii(_scaled_up(part, covered, area), ln_radii), axis=1, prepend=0)
        / reference[:, None]
        for part in (sums[:, :_N_RADII], symmetric_sums)
    ]
    ln_area_radii = ln_width[:, None] + np.log(AREA_RADII)
    with np.errstate(invalid='ignore'):
        fwhm, psf_area = psf[:, :2].astype(float).T
        psf_values = np.stack([np.log(fwhm), np.log(psf_area / fwhm**2)], axis=1)
    values = np.concatenate(
        [
            np.log([snr, reference]).T,
            ln_width[:, None],
            psf_values,
            _elongation(sums[:, _N_RADII + _N_FILTERS :], best)[:, None],
            _at_radii(usable / area, ln_area_radii),
            _at_radii(covered / area, ln_area_radii),
            *(np.clip(part, -LARGEST_RATIO, LARGEST_RATIO) for part in rings),
        ],
        axis=1,
    )
    return Features(values, np.log(reference), snr)


def _product(pixels, weights):
    """Return the product in double precision, rounded."""
    # Trees jump at a threshold: the size of the batch, on which the last bits
    # of a matrix product depend, must not decide on which side a number is.
    return np.float32(pixels.astype(float) @ weights).astype(float)


def centroid_offset(image, features):
    """
    Return how far from the middle the light of canvases has its centroid.

    It is that of the light under the filter nearest to the best one, in units of its sigma: below
    0.3 for galaxies that are in the middle, 0.5 to 1 if there is but the light of one beside it.

    Parameters
    ----------
    image : `~numpy.ndarray`
        Canvases, ``(n, 147, 147)``.
    features : `Features`
        What was measured on them.

    Returns
    -------
    offset : `~numpy.ndarray`
        ``(n,)``.
    """
    filters, _ = _filter_weights()
    sigmas = np.array(FILTER_SIGMAS)
    width = features.values[:, FEATURES.index('ln_width')]
    nearest = np.argmin(np.abs(width[:, None] - np.log(sigmas)), axis=1)
    pixels = np.arange(CANVAS_SIZE) - REACH
    offset = np.empty(len(image))
    for row, index in enumerate(nearest):
        light = image[row] * filters[:, index].reshape(image.shape[1:])
        along_x, along_y = light.sum(axis=0), light.sum(axis=1)
        moment = np.hypot(along_x @ pixels, along_y @ pixels)
        offset[row] = moment / (max(along_x.sum(), 1e-30) * sigmas[index])
    return offset


def join_features(parts):
    """Join the features of several batches."""
    names = [field.name for field in fields(Features)]
    return Features(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def design(values):
    """
    Return the features with sums and differences, which trees do not form by themselves.

    ``(n, 48)``: the features, the growth curves of the image and of its symmetric part, and how
    far they are apart.
    """
    values = np.asarray(values, np.float32).astype(float)
    rings = values[:, -2 * len(GROWTH_RADII) :].reshape(len(values), 2, -1)
    growth = rings.cumsum(axis=2)
    # The first circle is a ring already.
    curves = growth[:, :, 1:].reshape(len(values), -1)
    return np.concatenate([values, curves, growth[:, 0] - growth[:, 1]], axis=1)


def _reference(sums, power, powers):
    """Return flux, S/N, number and ln width of the filter of the highest S/N."""
    # At least a part of the filter, so that one of masked pixels stays finite.
    power = np.maximum(power, 1e-3 * powers[:, _N_RADII:].sum(axis=0).min())
    snrs = sums / np.sqrt(power)
    best = snrs.argmax(axis=1)
    rows = np.arange(len(sums))
    noise = 1 / np.sqrt(power[rows, best])
    snr = np.maximum(snrs[rows, best], LEAST_SNR)
    # The width between those of the filters, from a parabola through three of them.
    middle = np.clip(best, 1, _N_FILTERS - 2)
    low, centre, high = (snrs[rows, middle + step] for step in (-1, 0, 1))
    bend = low - 2 * centre + high
    shift = np.where(bend < 0, 0.5 * (low - high) / np.where(bend < 0, bend, 1), 0)
    step = np.log(FILTER_SIGMAS[-1] / FILTER_SIGMAS[0]) / (_N_FILTERS - 1)
    ln_width = np.log(FILTER_SIGMAS)[middle] + step * np.clip(shift, -1, 1)
    return snr * noise, snr, best, ln_width


def _elongation(moments, best):
    """Return (a**2 - b**2) / (a**2 + b**2) of the second moments under the best filter."""
    across = moments.reshape(len(moments), 3, _N_FILTERS)[np.arange(len(moments)), :, best]
    total = np.maximum(np.abs(across[:, 2]), 1e-9)
    return np.minimum(np.hypot(across[:, 0], across[:, 1]) / total, 2)


def _scaled_up(sums, covered, area):
    """Return sums in apertures as if no pixel were missing: each ring at its mean brightness."""
    zero = np.zeros((len(sums), 1))
    fraction = np.diff(covered, axis=1, prepend=zero) / np.diff(area, prepend=0)
    rings = np.diff(sums, axis=1, prepend=zero) / np.maximum(fraction, 1 / MOST_SCALING)
    return rings.cumsum(axis=1)


def _at_radii(curve, ln_radii):
    """Interpolate what is known at the aperture radii, linearly in ln radius."""
    known = np.log(APERTURE_RADII)
    ln_radii = np.clip(ln_radii, known[0], known[-1])
    left = np.clip(np.searchsorted(known, ln_radii) - 1, 0, _N_RADII - 2)
    part = (ln_radii - known[left]) / (known[left + 1] - known[left])
    rows = np.arange(len(curve))[:, None]
    return curve[rows, left] * (1 - part) + curve[rows, left + 1] * part
