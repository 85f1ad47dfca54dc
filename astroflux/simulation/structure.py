# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Discs that are not smooth: with a ring, spiral arms, a bar or clumps, or lopsided."""

import math

import numpy as np

from astroflux._optional import import_optional
from astroflux.simulation.population import SERSIC_INDEX_STEP

__all__ = ['arms', 'blobs', 'clumps', 'structured_profile']

# Share of the light in the structure, and in the bulge.
STRUCTURE_SHARE = (0.1, 0.6)
BULGE_SHARE = (0.0, 0.4)

# Lengths in half-light radii of the disc.
RING_RADIUS = (0.7, 2.0)
RING_WIDTH = (0.08, 0.25)
BAR_RADIUS = (0.3, 0.9)
BAR_AXIS_RATIO = (0.2, 0.4)
CLUMP_WIDTH = (0.04, 0.2)
PATCH_RADIUS = (0.3, 1.2)
PATCH_DISTANCE = (0.2, 1.2)
PATCH_AXIS_RATIO = (0.3, 1.0)
ARM_START = (0.3, 0.8)
ARM_WIDTH = (0.15, 0.3)

PITCH_ANGLE = (10.0, 35.0)
N_RING_BLOBS = 14
N_ARM_BLOBS = 8
N_CLUMPS = (3, 10)
N_PATCHES = (1, 4)
# a single clump further out would be a neighbour to anybody
CLUMP_REACH = 1.3


def blobs(positions, widths, weights):
    """Return round Gaussians at positions, of unit flux in all."""
    galsim = import_optional('galsim', extra='simulate')
    weights = np.asarray(weights) / np.sum(weights)
    return galsim.Sum(
        [
            galsim.Gaussian(sigma=float(width), flux=float(weight)).shift(float(x), float(y))
            for (x, y), width, weight in zip(positions, widths, weights, strict=True)
        ]
    )


def _ring(radius, rng):
    ring = radius * rng.uniform(*RING_RADIUS)
    angles = 2 * np.pi * np.arange(N_RING_BLOBS) / N_RING_BLOBS
    positions = ring * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    # wide enough to touch their neighbours, so that the ring is closed
    width = ring * max(rng.uniform(*RING_WIDTH), 2.0 / N_RING_BLOBS)
    return blobs(positions, [width] * N_RING_BLOBS, rng.uniform(0.6, 1.4, N_RING_BLOBS))


def arms(radius, rng):
    """Return a pair of arms, of unit flux."""
    pitch = math.tan(math.radians(rng.uniform(*PITCH_ANGLE)))
    angles = np.linspace(0, rng.uniform(0.6, 1.4) * np.pi, N_ARM_BLOBS)
    radii = radius * rng.uniform(*ARM_START) * np.exp(pitch * angles)
    turns = angles + rng.uniform(0, 2 * np.pi)
    arm = radii[:, None] * np.stack([np.cos(turns), np.sin(turns)], axis=1)
    widths = rng.uniform(*ARM_WIDTH) * np.maximum(radii, 0.5 * radius)
    weights = np.exp(-radii / radius) * radii * rng.uniform(0.5, 1.5, (2, N_ARM_BLOBS))
    return blobs(np.concatenate([arm, -arm]), [*widths, *widths], weights.ravel())


def clumps(radius, rng):
    """Return a few clumps, of unit flux."""
    n = rng.integers(*N_CLUMPS)
    # as the light of an exponential disc
    radii = np.minimum(radius / 1.678 * rng.gamma(2.0, 1.0, n), CLUMP_REACH * radius)
    angles = rng.uniform(0, 2 * np.pi, n)
    positions = radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    widths = radius * np.exp(rng.uniform(*np.log(CLUMP_WIDTH), n))
    return blobs(positions, widths, np.exp(0.7 * rng.standard_normal(n)))


def _bar(radius, rng):
    galsim = import_optional('galsim', extra='simulate')
    return galsim.Gaussian(half_light_radius=radius * rng.uniform(*BAR_RADIUS)).shear(
        q=rng.uniform(*BAR_AXIS_RATIO), beta=rng.uniform(0, 180) * galsim.degrees
    )


def _patches(radius, rng):
    """Return wide, smooth components beside the centre, as irregular galaxies have."""
    galsim = import_optional('galsim', extra='simulate')
    patches = []
    shares = rng.uniform(0.3, 1.0, rng.integers(*N_PATCHES))
    for share in shares / shares.sum():
        patch = galsim.Exponential(half_light_radius=radius * rng.uniform(*PATCH_RADIUS))
        shear = {'q': rng.uniform(*PATCH_AXIS_RATIO), 'beta': rng.uniform(0, 180) * galsim.degrees}
        distance, angle = radius * rng.uniform(*PATCH_DISTANCE), rng.uniform(0, 2 * np.pi)
        centre = (distance * np.cos(angle), distance * np.sin(angle))
        patches.append(share * patch.shear(**shear).shift(*centre))
    return galsim.Sum(patches)


STRUCTURES = (_ring, arms, clumps, _bar, _patches)


def structured_profile(truth, rng):
    """
    Build a disc with a bulge and a structure, as it looks from above, not inclined yet.

    The half-light radius of the first component of the truth is that of the disc. The profile has
    flux 1, is centred on its light, and its lengths are in the unit of the radius.
    """
    galsim = import_optional('galsim', extra='simulate')
    radius = float(truth['half_light_radius_1'])
    structure_share, bulge_share = rng.uniform(*STRUCTURE_SHARE), rng.uniform(*BULGE_SHARE)
    bulge_index = round(rng.uniform(1.0, 4.0) / SERSIC_INDEX_STEP) * SERSIC_INDEX_STEP
    disc_index = round(rng.uniform(0.6, 1.4) / SERSIC_INDEX_STEP) * SERSIC_INDEX_STEP
    smooth = (1 - bulge_share) * galsim.Sersic(
        n=round(disc_index, 6), half_light_radius=radius
    ) + bulge_share * galsim.Sersic(
        n=round(bulge_index, 6), half_light_radius=radius * rng.uniform(0.08, 0.5)
    )
    structure = STRUCTURES[rng.integers(len(STRUCTURES))](radius, rng)
    profile = (1 - structure_share) * smooth + structure_share * structure
    return profile.shift(-profile.centroid)
