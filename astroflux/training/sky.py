# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The sky of an observation, made of the stamps of a library: each is rendered once."""

from dataclasses import dataclass, replace

import numpy as np

from astroflux.networks.orientation import ORIENTATIONS
from astroflux.networks.pyramid import CANVAS_SIZE, REACH
from astroflux.simulation.sky import (
    FOOTPRINTS,
    correlation_kernel,
    draw_footprints,
    draw_saturation,
    sky_level,
    source_reach,
)

__all__ = ['Sky', 'add_stamp', 'draw_sky']

# Sources this far outside the canvas still shine into it, in pixels.
MARGIN = 30

# A galaxy of the library stands for one of another radius the rarer, the more they differ:
# standard deviation of the logarithm of their ratio.
RADIUS_TOLERANCE = 0.4
# And it may be larger by this factor at most.
MOST_ENLARGED = 3.0

# Of a stamp, in pixels.
SMALLEST_REACH = 10


@dataclass
class Sky:
    """What a sky adds to an observation, in units of the noise."""

    #: Light of all sources but the galaxy.
    light: np.ndarray
    #: Pixels that cannot be used.
    mask: np.ndarray
    #: Of the background.
    level: float
    #: Of the correlation of the noise.
    kernel: np.ndarray
    #: The stated variance over the true one.
    variance_factor: float


def add_stamp(canvas, stamp, scale, dx, dy):
    """Add a stamp to a canvas, its centre moved by whole pixels."""
    half = stamp.shape[0] // 2
    top, left = REACH - half + dy, REACH - half + dx
    y0, x0 = max(top, 0), max(left, 0)
    y1 = max(min(top + stamp.shape[0], CANVAS_SIZE), y0)
    x1 = max(min(left + stamp.shape[1], CANVAS_SIZE), x0)
    part = stamp[y0 - top : y1 - top, x0 - left : x1 - left] * np.float32(scale)
    canvas[y0:y1, x0:x1] += part
    return part, (slice(y0, y1), slice(x0, x1))


def draw_sky(library, index, alone, flux, population, rng):
    """
    Draw the sky around a galaxy, of sources that share its PSF.

    ``alone`` is its light on the canvas, in units of the noise. Returns a `Sky`.
    """
    group = library.group[index]
    fwhm = library.psf[group, 0]
    side = CANVAS_SIZE + 2 * MARGIN
    sources = population.draw((side, side), fwhm, rng, target_flux=flux)
    stand_ins = _stand_ins(library, group, sources, rng)
    radius = library.truth.half_light_radius[stand_ins]
    # better a star than a galaxy that is far too large
    radius = np.where(radius > MOST_ENLARGED * sources.radius, 0.0, radius)
    sources = replace(sources, radius=radius)
    detected, faint = np.zeros((2, CANVAS_SIZE, CANVAS_SIZE), np.float32)
    mask = np.zeros(detected.shape, bool)
    full = sources.limit * 10 ** (0.4 * rng.uniform(*population.saturation))
    largest = library.stamps.shape[1] // 2
    half = np.clip(source_reach(sources, fwhm), SMALLEST_REACH, largest).astype(int)
    x, y = np.round(sources.x).astype(int), np.round(sources.y).astype(int)
    on_canvas = np.maximum(abs(x), abs(y)) < REACH + half
    orientations = rng.integers(8, size=len(sources))
    for number in np.flatnonzero(on_canvas):
        is_star = sources.is_star[number]
        if is_star:
            stamp, peak = library.stars[group], library.star_peak[group]
        else:
            stamp, peak = (part[stand_ins[number]] for part in (library.stamps, library.unit_peak))
        middle = stamp.shape[0] // 2
        part = slice(middle - half[number], middle + half[number] + 1)
        stamp = ORIENTATIONS[orientations[number]].apply(stamp[part, part])
        canvas = detected if sources.is_detected[number] else faint
        brightness = sources.flux[number] * peak
        add_stamp(canvas, stamp, brightness, x[number], y[number])
        if is_star and brightness > full * peak:
            star = np.zeros_like(canvas)
            add_stamp(star, stamp, brightness, x[number], y[number])
            place = (REACH + x[number], REACH + y[number])
            mask |= draw_saturation(star, place, full * peak, rng)
    kind = FOOTPRINTS[rng.choice(len(FOOTPRINTS), p=population.footprint_shares)]
    return Sky(
        light=detected + faint,
        mask=mask | draw_footprints(alone, detected, kind, rng),
        level=sky_level(faint, rng),
        kernel=correlation_kernel(rng),
        variance_factor=rng.uniform(*population.variance_factor),
    )


def _stand_ins(library, group, sources, rng):
    """Return for each source a galaxy of the group, preferably of about its radius."""
    first = group * library.group_size
    radii = library.truth.half_light_radius[first : first + library.group_size]
    with np.errstate(divide='ignore'):
        apart = np.log(radii) - np.log(sources.radius)[:, None]
    # stars have none: any will do
    apart = np.where(np.isfinite(apart), apart, 0)
    score = -0.5 * (apart / RADIUS_TOLERANCE) ** 2
    return first + np.argmax(score + rng.gumbel(size=score.shape), axis=1)
