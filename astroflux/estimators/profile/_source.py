# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The galaxy at the position, to start a fit from, and its neighbours."""

import math
from dataclasses import dataclass

import numpy as np
from astropy.stats import gaussian_fwhm_to_sigma
from scipy.ndimage import binary_dilation, gaussian_filter, maximum

from astroflux.estimators._segments import detect_segments, split_segments
from astroflux.estimators.profile._model import MAX_SHIFT

__all__ = ['Source', 'find_source', 'find_window']

# Detection: threshold in units of the noise of a pixel, connected pixels, and the deblending.
_N_SIGMA = 1.5
_N_PIXELS = 5
_N_LEVELS = 32
_CONTRAST = 0.005
# Only brighter segments are neighbours, in units of the noise of a pixel: noise makes islands of
# the wings of an extended galaxy, and without them its flux would be too low.
_NEIGHBOUR_PEAK = 3.0

# in pixels, for the detection where the PSF is unknown
_DEFAULT_FWHM = 3.0


@dataclass(frozen=True)
class Source:
    """What the light looks like, to begin with; lengths in pixels."""

    x: float  # centroid
    y: float
    width: float  # standard deviation without the PSF, geometric mean of the axes
    ellipticity: float  # without the PSF
    angle: float  # in degrees anticlockwise from the x axis
    extent: float  # standard deviation along the major axis, with the PSF


def find_source(data, noise, cutout):
    """Return the `Source` at the position (a PSF if there is none), and the pixels of others."""
    fwhm = cutout.psf_fwhm if math.isfinite(cutout.psf_fwhm) else _DEFAULT_FWHM
    sigma = fwhm * gaussian_fwhm_to_sigma
    smooth = gaussian_filter(data, sigma)
    segmentation = detect_segments(smooth, _N_SIGMA * noise, _N_PIXELS, cutout.ignored)
    x, y = cutout.position
    if segmentation is None:
        return Source(x, y, sigma, 0.2, 0.0, sigma), np.zeros(data.shape, dtype=bool)
    label = _label_at(segmentation.data, x, y)
    if label:
        segmentation = split_segments(
            smooth, segmentation, [label], _N_PIXELS, _N_LEVELS, _CONTRAST
        )
        label = _label_at(segmentation.data, x, y)
    own = segmentation.data == label if label else np.zeros(data.shape, dtype=bool)
    peaks = maximum(smooth / noise, segmentation.data, segmentation.labels)
    bright = segmentation.labels[np.asarray(peaks) > _NEIGHBOUR_PEAK]
    others = np.isin(segmentation.data, bright) & ~own
    # the isophote of a neighbour is not all of it
    others = binary_dilation(others, iterations=max(round(fwhm / 2), 1)) & ~own
    return _measure_moments(np.where(own, data, 0.0), sigma, (x, y)), others


def _label_at(labels, x, y):
    """The segment nearest to the position, 0 if there is none where the galaxy may be."""
    rows, columns = np.nonzero(labels)
    distance = np.hypot(columns - x, rows - y)
    nearest = int(np.argmin(distance))
    return int(labels[rows[nearest], columns[nearest]]) if distance[nearest] < MAX_SHIFT else 0


def _measure_moments(light, sigma, position):
    light = np.maximum(light, 0.0)
    total = light.sum()
    if total == 0:
        return Source(*position, sigma, 0.2, 0.0, sigma)
    rows, columns = np.indices(light.shape)
    x, y = (light * columns).sum() / total, (light * rows).sum() / total
    xx = (light * (columns - x) ** 2).sum() / total
    yy = (light * (rows - y) ** 2).sum() / total
    xy = (light * (columns - x) * (rows - y)).sum() / total
    middle, spread = (xx + yy) / 2, math.hypot((xx - yy) / 2, xy)
    # the PSF taken out, as far as the noise allows
    least = (0.3 * sigma) ** 2
    major = max(middle + spread - sigma**2, 2 * least)
    minor = max(middle - spread - sigma**2, least)
    return Source(
        float(x),
        float(y),
        (major * minor) ** 0.25,
        float(np.clip(1 - math.sqrt(minor / major), 0.1, 0.7)),
        math.degrees(0.5 * math.atan2(2 * xy, xx - yy)),
        math.sqrt(max(middle + spread, sigma**2)),
    )


def find_window(source, shape, fwhm):
    """The part of the stamp in which to search, in y and x."""
    fwhm = fwhm if math.isfinite(fwhm) else _DEFAULT_FWHM
    half = math.ceil(5 * source.extent + 3 * fwhm)
    window = []
    for centre, size in zip((source.y, source.x), shape, strict=True):
        start = max(round(centre) - half, 0)
        window.append(slice(start, max(min(round(centre) + half + 1, size), start + 1)))
    return tuple(window)
