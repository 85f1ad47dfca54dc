# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What can be wrong with a cutout: one function for each kind of fault.

Each takes a galaxy and a source of randomness, and returns the stamp that a user would have. The
noise of the sky is the same in all kinds, unless it is what is wrong.
"""

from dataclasses import replace
from functools import partial

import numpy as np
from fault_galaxies import CANVAS, NOISE, SIDE, SMALL
from scipy.signal import fftconvolve

from astroflux.cutouts._correlation import NoiseCorrelation

__all__ = ['CONTROL', 'KINDS', 'PADDINGS', 'WIDE']

MIDDLE = (slice((CANVAS - SIDE) // 2, (CANVAS + SIDE) // 2),) * 2


def _own_light(galaxy):
    """Return the light of the galaxy in its stamp."""
    return galaxy.drawn['galaxy'][MIDDLE]


# -- what is there instead of the galaxy, or beside it --------------------------------------------


def none(galaxy, rng):
    """Leave all as it is."""
    return galaxy.stamp()


def wide(galaxy, rng):
    """Show a galaxy of a half-light radius of 14 pixels instead."""
    return galaxy.stamp('wide')


def star(galaxy, rng):
    """Show a star instead of the galaxy."""
    return galaxy.stamp('star')


def blank_sky(galaxy, rng):
    """Show nothing."""
    stamp = galaxy.stamp()
    return replace(stamp, data=stamp.data - _own_light(galaxy), truth=np.nan)


def beside_another(galaxy, rng, *, other):
    """Show another galaxy, too."""
    stamp = galaxy.stamp()
    return replace(stamp, data=stamp.data + galaxy.drawn[other])


# -- where the stamp ends -------------------------------------------------------------------------


def at_edge(galaxy, rng, *, distance):
    """Cut the stamp so that the galaxy is near its left edge, and tell where it is."""
    middle = SIDE // 2
    position = distance + galaxy.x, middle + galaxy.y
    return replace(galaxy.stamp(shift=middle - distance), position=position)


def off_center(galaxy, rng, *, distance):
    """Cut the stamp so that the galaxy is not in its middle, and don't tell."""
    return galaxy.stamp(shift=distance)


def too_large(galaxy, rng):
    """Show a galaxy that is larger than its stamp."""
    stamp = galaxy.stamp('large', side=SMALL)
    # no larger than the stamp
    psf = stamp.psf[6:-6, 6:-6]
    return replace(stamp, psf=psf / psf.sum())


def padded_with_sky(galaxy, rng, *, by, source='galaxy'):
    """Cut a larger stamp."""
    return galaxy.stamp(source, side=SIDE + 2 * by)


def padded_with_masked(galaxy, rng, *, by, source='galaxy'):
    """Put masked pixels around the stamp."""
    stamp = galaxy.stamp(source)
    mask = np.pad(np.zeros(stamp.data.shape, bool), by, constant_values=True)
    noise = np.pad(stamp.noise, by, mode='edge')
    return replace(stamp, data=np.pad(stamp.data, by), noise=noise, mask=mask)


# -- light and pixels that are not the sky's ------------------------------------------------------


def _track(data, start, angle, length, peak):
    """Add a cosmic ray's track, of pixels of the same height."""
    steps = np.arange(length)
    x = np.round(start[0] + steps * np.cos(angle)).astype(int)
    y = np.round(start[1] + steps * np.sin(angle)).astype(int)
    data = data.copy()
    data[y, x] += peak
    return data


def _log_uniform(rng, low, high):
    return np.exp(rng.uniform(np.log(low), np.log(high)))


def cosmic_ray_through_core(galaxy, rng):
    """Let a cosmic ray of 4 to 12 pixels and 20 to 200 sigma pass through the galaxy's center."""
    stamp = galaxy.stamp()
    length, angle = rng.integers(4, 13), rng.uniform(0, 2 * np.pi)
    back = -length / 2
    start = galaxy.at(back * np.cos(angle), back * np.sin(angle))
    peak = NOISE * _log_uniform(rng, 20, 200)
    return replace(stamp, data=_track(stamp.data, start, angle, length, peak))


def cosmic_rays_around(galaxy, rng):
    """Scatter five cosmic rays 6 to 40 pixels from the galaxy."""
    stamp = galaxy.stamp()
    data = stamp.data
    for _ in range(5):
        distance, direction = rng.uniform(6, 40), rng.uniform(0, 2 * np.pi)
        start = galaxy.at(distance * np.cos(direction), distance * np.sin(direction))
        angle = direction + rng.uniform(-np.pi / 2, np.pi / 2)
        data = _track(data, start, angle, rng.integers(4, 13), NOISE * _log_uniform(rng, 20, 200))
    return replace(stamp, data=data)


def saturated_core(galaxy, rng):
    """Cut the pixels off at a tenth to four tenths of the peak."""
    stamp = galaxy.stamp()
    full = rng.uniform(0.1, 0.4) * _own_light(galaxy).max()
    return replace(stamp, data=np.minimum(stamp.data, full))


def bleed_trail(galaxy, rng):
    """Saturate the core, whose charge spills 10 to 40 pixels along its columns to either side."""
    stamp = saturated_core(galaxy, rng)
    x, y = galaxy.at()
    data = stamp.data.copy()
    up, down = rng.integers(10, 41, 2)
    width = rng.integers(1, 4)
    data[y - down : y + up + 1, x - width // 2 : x - width // 2 + width] = data.max()
    return replace(stamp, data=data)


def satellite(galaxy, rng, *, distance):
    """Draw a satellite's trail across the stamp, as wide as the PSF, of 5 to 30 sigma."""
    stamp = galaxy.stamp()
    x, y = galaxy.from_center()
    angle = rng.uniform(0, np.pi)
    across = x * np.sin(angle) - y * np.cos(angle) - rng.uniform(*distance)
    trail = np.exp(-0.5 * np.square(across / (galaxy.fwhm / 2.355)))
    return replace(stamp, data=stamp.data + NOISE * _log_uniform(rng, 5, 30) * trail)


def dead_columns(galaxy, rng):
    """Let two columns, from three pixels off the center on, read zero."""
    stamp = galaxy.stamp()
    x, _ = galaxy.at()
    data = stamp.data.copy()
    data[:, x + 3 : x + 5] = 0
    return replace(stamp, data=data)


def hot_pixel(galaxy, rng):
    """Let one pixel within three of the center be 30 to 300 sigma too bright."""
    stamp = galaxy.stamp()
    distance, angle = rng.uniform(0, 3), rng.uniform(0, 2 * np.pi)
    x, y = galaxy.at(distance * np.cos(angle), distance * np.sin(angle))
    data = stamp.data.copy()
    data[y, x] += NOISE * _log_uniform(rng, 30, 300)
    return replace(stamp, data=data)


# -- the sky --------------------------------------------------------------------------------------


def pedestal(galaxy, rng, *, sigma):
    """Leave a sky of so many sigma."""
    stamp = galaxy.stamp()
    return replace(stamp, data=stamp.data + sigma * NOISE)


def gradient(galaxy, rng):
    """Leave a sky that rises from -1 sigma at one side to 1 sigma at the other."""
    stamp = galaxy.stamp()
    x, y = galaxy.from_center()
    angle = rng.uniform(0, 2 * np.pi)
    slope = (x * np.cos(angle) + y * np.sin(angle)) / (SIDE / 2)
    return replace(stamp, data=stamp.data + NOISE * slope)


# -- noise, scale and PSF as they are stated ------------------------------------------------------


def wrong_map(galaxy, rng, *, factor):
    """State the noise wrong by a factor."""
    stamp = galaxy.stamp()
    return replace(stamp, noise=factor * stamp.noise)


def without_photons(galaxy, rng):
    """Count the galaxy's photons on a sky of one a pixel, and state the noise of the sky alone."""
    stamp = galaxy.stamp()
    # of one photon in the sky the noise is one photon
    photons = _own_light(galaxy) / NOISE
    counts = rng.poisson(np.maximum(photons, 0) + 1.0) - 1.0
    return replace(stamp, data=NOISE * counts)


def correlated_noise(galaxy, rng, *, growth):
    """Correlate the noise, and don't tell: the scatter of sums of 7 x 7 pixels grows so much."""
    kernel = NoiseCorrelation.of_growth(growth).kernel
    kernel = kernel / np.sqrt(np.square(kernel).sum())
    stamp = galaxy.stamp()
    noise = NOISE * fftconvolve(galaxy.white, kernel, mode='same')[MIDDLE]
    return replace(stamp, data=_own_light(galaxy) + noise)


def asinh_scaled(galaxy, rng):
    """Scale the pixels as for a display: what is far above two sigma is compressed."""
    stamp = galaxy.stamp()
    softening = 2 * NOISE
    return replace(stamp, data=softening * np.arcsinh(stamp.data / softening))


def other_psf(galaxy, rng, *, psf):
    """Give another PSF than the true one."""
    return replace(galaxy.stamp(), psf=galaxy.drawn[psf])


def psf_on_pedestal(galaxy, rng):
    """Give a PSF with a sky of a hundredth of its peak."""
    stamp = galaxy.stamp()
    psf = stamp.psf + 0.01 * stamp.psf.max()
    return replace(stamp, psf=psf / psf.sum())


# -- all of them ----------------------------------------------------------------------------------

CONTROL, WIDE = 'no fault', 'half-light radius 14 px'
KINDS = {
    CONTROL: none,
    WIDE: wide,
    'star': star,
    'blank sky': blank_sky,
    'twin at 0.5 FWHM': partial(beside_another, other='twin at half'),
    'twin at 1 FWHM': partial(beside_another, other='twin at one'),
    'twin at 2 FWHM': partial(beside_another, other='twin at two'),
    'neighbor of 10 times the flux': partial(beside_another, other='neighbor'),
    '12 px from the edge': partial(at_edge, distance=12),
    '4 px from the edge': partial(at_edge, distance=4),
    'larger than the stamp': too_large,
    '25 px off the center': partial(off_center, distance=25),
    'padded by 20 px of sky': partial(padded_with_sky, by=20),
    'padded by 60 px of sky': partial(padded_with_sky, by=60),
    'padded by 20 px, masked': partial(padded_with_masked, by=20),
    'padded by 60 px, masked': partial(padded_with_masked, by=60),
    '14 px, padded by 20 of sky': partial(padded_with_sky, by=20, source='wide'),
    '14 px, padded by 60 of sky': partial(padded_with_sky, by=60, source='wide'),
    '14 px, padded by 20, masked': partial(padded_with_masked, by=20, source='wide'),
    '14 px, padded by 60, masked': partial(padded_with_masked, by=60, source='wide'),
    'cosmic ray through the core': cosmic_ray_through_core,
    'cosmic rays around': cosmic_rays_around,
    'hot pixel': hot_pixel,
    'saturated core': saturated_core,
    'bleed trail': bleed_trail,
    'satellite through the core': partial(satellite, distance=(0, 1)),
    'satellite beside': partial(satellite, distance=(10, 20)),
    'dead columns': dead_columns,
    'sky +0.5 sigma': partial(pedestal, sigma=0.5),
    'sky -0.5 sigma': partial(pedestal, sigma=-0.5),
    'gradient of the sky': gradient,
    'noise half of the true one': partial(wrong_map, factor=0.5),
    'noise twice the true one': partial(wrong_map, factor=2.0),
    "noise without the galaxy's": without_photons,
    'correlated noise, growth 1.2': partial(correlated_noise, growth=1.2),
    'correlated noise, growth 1.8': partial(correlated_noise, growth=1.8),
    'asinh-scaled pixels': asinh_scaled,
    'PSF 20 % too broad': partial(other_psf, psf='broad psf'),
    'PSF 20 % too narrow': partial(other_psf, psf='narrow psf'),
    'PSF with a pedestal of 1 %': psf_on_pedestal,
    'PSF oversampled by 2, unsaid': partial(other_psf, psf='oversampled psf'),
}

# What is to be compared with the same stamp without padding, and which that is.
PADDINGS = {
    title: WIDE if title.startswith('14 px') else CONTROL for title in KINDS if 'padded' in title
}
