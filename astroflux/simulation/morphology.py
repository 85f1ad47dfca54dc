# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Galaxies as they are: spirals, clumpy discs, mergers, halos, nuclei, discs seen edge-on."""

import math

import numpy as np

from astroflux._optional import import_optional
from astroflux.simulation.population import SERSIC_INDEX_STEP
from astroflux.simulation.structure import blobs

__all__ = ['KINDS', 'morphological_profile']

# Share of galaxies of any kind that have a nucleus and a halo as well, and their shares of the
# light.
NUCLEUS_FRACTION, NUCLEUS_SHARE = 0.2, (0.01, 0.3)
HALO_FRACTION, HALO_SHARE = 0.25, (0.05, 0.4)

# Lengths in half-light radii. A nucleus is a point to any survey.
NUCLEUS_RADIUS = 0.01
HALO_RADIUS = (2.0, 5.0)
BULGE_RADIUS = (0.08, 0.5)
ARM_START = (0.3, 0.8)
ARM_WIDTH = (0.12, 0.3)
FRAGMENT_LENGTH = (0.1, 0.4)
SHELL_RADIUS = (1.5, 5.0)
SHELL_WIDTH = (0.1, 0.4)
CLUMP_WIDTH = (0.06, 0.3)
CONTACT_DISTANCE = (0.5, 1.3)

# Shares of the light.
BULGE_SHARE = (0.0, 0.4)
ARM_SHARE = (0.2, 0.7)
SHELL_SHARE = (0.02, 0.15)
CLUMP_SHARE = (0.3, 0.8)
CONTACT_SHARE = (0.15, 0.5)
EDGE_ON_BULGE_SHARE = (0.05, 0.5)

PITCH_ANGLE = (8.0, 35.0)
N_ARM_BLOBS = 12
N_FRAGMENTS = (25, 60)
N_SHELLS = (1, 4)
N_SHELL_BLOBS = 12
N_CLUMPS = (3, 9)

# Radius of an exponential profile's half of the light, in scale lengths.
SCALE_LENGTHS = 1.678


def _sersic(rng, index, radius):
    galsim = import_optional('galsim', extra='simulate')
    # GalSim tabulates each index once
    index = round(round(rng.uniform(*index) / SERSIC_INDEX_STEP) * SERSIC_INDEX_STEP, 6)
    return galsim.Sersic(n=index, half_light_radius=radius)


def _disc(radius, rng):
    return _sersic(rng, (0.7, 1.3), radius)


def _bulge(radius, rng):
    return _sersic(rng, (1.0, 4.0), radius * rng.uniform(*BULGE_RADIUS))


def _turned(profile, rng, axis_ratio):
    galsim = import_optional('galsim', extra='simulate')
    return profile.shear(q=rng.uniform(*axis_ratio), beta=rng.uniform(0, 180) * galsim.degrees)


def _mix(share, one, other):
    """Return so much of one profile, and the rest of the other."""
    return share * one + (1 - share) * other


def _spiral_position(radius, start, pitch, turn, angle):
    """Return positions along a logarithmic spiral, and their distances from the center."""
    distance = radius * start * np.exp(pitch * angle)
    turned = angle + turn
    return distance[:, None] * np.stack([np.cos(turned), np.sin(turned)], axis=1), distance


def _two_arms(radius, rng):
    pitch = math.tan(math.radians(rng.uniform(*PITCH_ANGLE)))
    # out to where an exponential disc has little light left
    start = rng.uniform(*ARM_START)
    end = min(rng.uniform(0.8, 2.0) * np.pi, math.log(3.0 / start) / pitch)
    angle = np.linspace(0, end, N_ARM_BLOBS)
    arm, distance = _spiral_position(radius, start, pitch, rng.uniform(0, 2 * np.pi), angle)
    width = rng.uniform(*ARM_WIDTH) * np.maximum(distance, 0.5 * radius)
    # the light of the disc at that distance, over a stretch of the arm
    light = distance * np.exp(-SCALE_LENGTHS * distance / radius)
    weights = light * rng.uniform(0.5, 1.5, (2, N_ARM_BLOBS))
    return blobs(np.concatenate([arm, -arm]), [*width, *width], weights.ravel())


def _fragments(radius, rng):
    """Return short pieces of arms all over a disc."""
    n = rng.integers(*N_FRAGMENTS)
    pitch = math.tan(math.radians(rng.uniform(*PITCH_ANGLE)))
    middle = radius / SCALE_LENGTHS * np.minimum(rng.gamma(2.0, 1.0, n), 2.5 * SCALE_LENGTHS)
    angle = rng.uniform(0, 2 * np.pi, n)
    positions, widths = [], []
    for distance, turn in zip(middle, angle, strict=True):
        length = radius * rng.uniform(*FRAGMENT_LENGTH)
        along = np.linspace(-1, 1, 3) * length / max(distance, length)
        piece, _ = _spiral_position(distance, 1.0, pitch, turn, along)
        positions.append(piece)
        widths += [0.5 * length] * 3
    weights = np.repeat(np.exp(0.6 * rng.standard_normal(n)), 3)
    return blobs(np.concatenate(positions), widths, weights)


def _spiral(radius, rng, arms):
    share = rng.uniform(*ARM_SHARE)
    disc = _mix(share, arms(radius, rng), _disc(radius, rng))
    return _mix(rng.uniform(*BULGE_SHARE), _bulge(radius, rng), disc)


def grand_design(radius, axis_ratio, rng):
    """Two arms that hold a part of the disc's own light, and a bulge."""
    return _spiral(radius, rng, _two_arms)


def flocculent(radius, axis_ratio, rng):
    """Pieces of arms all over the disc, and a bulge."""
    return _spiral(radius, rng, _fragments)


def clumpy(radius, axis_ratio, rng):
    """A disc of redshift 2 to 4: most of its light in a few clumps, no bulge."""
    n = rng.integers(*N_CLUMPS)
    distance = radius * rng.uniform(0.1, 1.6, n)
    angle = rng.uniform(0, 2 * np.pi, n)
    positions = distance[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    widths = radius * np.exp(rng.uniform(*np.log(CLUMP_WIDTH), n))
    clumps = blobs(positions, widths, np.exp(0.7 * rng.standard_normal(n)))
    return _mix(rng.uniform(*CLUMP_SHARE), clumps, _disc(radius, rng))


def shells(radius, axis_ratio, rng):
    """A spheroid with shells or tails to five half-light radii."""
    number = rng.integers(*N_SHELLS)
    positions, widths, weights = [], [], []
    for _ in range(number):
        distance = radius * rng.uniform(*SHELL_RADIUS)
        # a shell keeps its distance, a tail does not
        pitch = rng.choice([0.0, rng.uniform(0.2, 0.6)])
        angle = np.linspace(0, rng.uniform(0.3, 1.2) * np.pi, N_SHELL_BLOBS)
        turn = rng.uniform(0, 2 * np.pi)
        piece, along = _spiral_position(distance, math.exp(-pitch * angle[-1]), pitch, turn, angle)
        positions.append(piece)
        # wide enough to touch each other
        width = max(radius * rng.uniform(*SHELL_WIDTH), np.hypot(*(piece[-1] - piece[-2])))
        widths += [width] * N_SHELL_BLOBS
        weights += list(rng.uniform(0.5, 1.5) / np.maximum(along, radius))
    debris = blobs(np.concatenate(positions), widths, weights)
    return _mix(rng.uniform(*SHELL_SHARE), debris, _sersic(rng, (1.5, 5.0), radius))


def contact(radius, axis_ratio, rng):
    """A pair in contact, which any survey would count as one galaxy."""
    distance, angle = radius * rng.uniform(*CONTACT_DISTANCE), rng.uniform(0, 2 * np.pi)
    other = _turned(_sersic(rng, (0.7, 4.0), radius * rng.uniform(0.3, 1.0)), rng, (0.4, 1.0))
    other = other.shift(distance * math.cos(angle), distance * math.sin(angle))
    return _mix(rng.uniform(*CONTACT_SHARE), other, _sersic(rng, (0.7, 4.0), radius))


def edge_on(radius, axis_ratio, rng):
    """A disc, and a bulge that stays round when the disc is inclined."""
    galsim = import_optional('galsim', extra='simulate')
    bulge = _bulge(radius, rng).shear(q=axis_ratio, beta=90 * galsim.degrees)
    return _mix(rng.uniform(*EDGE_ON_BULGE_SHARE), bulge, _disc(radius, rng))


KINDS = (grand_design, flocculent, clumpy, shells, contact, edge_on)


def morphological_profile(truth, rng):
    """
    Build a galaxy of one of the `KINDS`, some with a nucleus or a halo as well.

    Parameters
    ----------
    truth : mapping
        A row of `~astroflux.simulation.GalaxyPopulation.draw`: the half-light radius of its first
        component is that of the main body, and its axis ratio the one that the profile will be
        sheared to, along its x axis.
    rng : `numpy.random.Generator`
        Source of randomness.

    Returns
    -------
    profile : `galsim.GSObject`
        As it looks from above, of flux 1, centered on its light; lengths in the unit of the
        radius.
    """
    galsim = import_optional('galsim', extra='simulate')
    radius = float(truth['half_light_radius_1'])
    kind = KINDS[rng.integers(len(KINDS))]
    profile = kind(radius, float(truth['axis_ratio_1']), rng)
    if rng.random() < HALO_FRACTION:
        halo = _sersic(rng, (1.0, 4.0), radius * rng.uniform(*HALO_RADIUS))
        profile = _mix(rng.uniform(*HALO_SHARE), halo, profile)
    if rng.random() < NUCLEUS_FRACTION:
        nucleus = galsim.Gaussian(half_light_radius=NUCLEUS_RADIUS * radius)
        share = math.exp(rng.uniform(*np.log(NUCLEUS_SHARE)))
        profile = _mix(share, nucleus.shift(profile.centroid), profile)
    return profile.shift(-profile.centroid)
