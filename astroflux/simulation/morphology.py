# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Galaxies as they are: spirals, clumpy discs, mergers, halos, nuclei, discs seen edge-on."""

import math

import numpy as np

from astroflux._optional import import_optional
from astroflux.simulation.population import SERSIC_INDEX_STEP
from astroflux.simulation.structure import arms, blobs, clumps

__all__ = ['KINDS', 'morphological_profile']

# Shares of galaxies of any kind that have a nucleus and a halo as well.
NUCLEUS_FRACTION, HALO_FRACTION = 0.2, 0.25

# Shares of the light.
NUCLEUS_SHARE = (0.01, 0.3)
HALO_SHARE = (0.05, 0.4)
BULGE_SHARE = (0.0, 0.4)
ARM_SHARE = (0.2, 0.7)
SHELL_SHARE = (0.02, 0.15)
CLUMP_SHARE = (0.3, 0.8)
CONTACT_SHARE = (0.15, 0.5)
EDGE_ON_BULGE_SHARE = (0.05, 0.5)

# Lengths in half-light radii. A nucleus is a point to any survey.
NUCLEUS_RADIUS = 0.01
HALO_RADIUS = (2.0, 5.0)
BULGE_RADIUS = (0.08, 0.5)
FRAGMENT_LENGTH = (0.1, 0.4)
SHELL_RADIUS = (1.5, 5.0)
SHELL_WIDTH = (0.1, 0.4)
CONTACT_DISTANCE = (0.5, 1.3)

PITCH_ANGLE = (8.0, 35.0)
N_FRAGMENTS = (25, 60)
N_SHELLS = (1, 4)
N_SHELL_BLOBS = 12

# Half-light radius of an exponential disc, in scale lengths.
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


def _mix(share, one, other):
    """Return so much of one profile, and the rest of the other."""
    return share * one + (1 - share) * other


def _along_spiral(distance, pitch, turn, angle):
    """Return positions along a logarithmic spiral that begins at a distance."""
    distance, turned = distance * np.exp(pitch * angle), angle + turn
    return distance[:, None] * np.stack([np.cos(turned), np.sin(turned)], axis=1)


def _fragments(radius, rng):
    """Return short pieces of arms all over a disc."""
    n = rng.integers(*N_FRAGMENTS)
    pitch = math.tan(math.radians(rng.uniform(*PITCH_ANGLE)))
    # as the light of an exponential disc
    distances = radius / SCALE_LENGTHS * np.minimum(rng.gamma(2.0, 1.0, n), 2.5 * SCALE_LENGTHS)
    positions, widths = [], []
    for distance, turn in zip(distances, rng.uniform(0, 2 * np.pi, n), strict=True):
        length = radius * rng.uniform(*FRAGMENT_LENGTH)
        angle = np.linspace(-1, 1, 3) * length / max(distance, length)
        positions.append(_along_spiral(distance, pitch, turn, angle))
        widths += [0.5 * length] * 3
    weights = np.repeat(np.exp(0.6 * rng.standard_normal(n)), 3)
    return blobs(np.concatenate(positions), widths, weights)


def _spiral(radius, rng, structure):
    disc = _mix(rng.uniform(*ARM_SHARE), structure(radius, rng), _disc(radius, rng))
    return _mix(rng.uniform(*BULGE_SHARE), _bulge(radius, rng), disc)


def grand_design(radius, axis_ratio, rng):
    """Two arms that hold a part of the disc's own light, and a bulge."""
    return _spiral(radius, rng, arms)


def flocculent(radius, axis_ratio, rng):
    """Pieces of arms all over the disc, and a bulge."""
    return _spiral(radius, rng, _fragments)


def clumpy(radius, axis_ratio, rng):
    """A disc of redshift 2 to 4: most of its light in a few clumps, no bulge."""
    return _mix(rng.uniform(*CLUMP_SHARE), clumps(radius, rng), _disc(radius, rng))


def shells(radius, axis_ratio, rng):
    """A spheroid with shells or tails to five half-light radii."""
    positions, widths, weights = [], [], []
    for _ in range(rng.integers(*N_SHELLS)):
        # a shell keeps its distance, a tail does not
        pitch = rng.choice([0.0, rng.uniform(0.2, 0.6)])
        angle = np.linspace(0, rng.uniform(0.3, 1.2) * np.pi, N_SHELL_BLOBS)
        start = radius * rng.uniform(*SHELL_RADIUS) * math.exp(-pitch * angle[-1])
        piece = _along_spiral(start, pitch, rng.uniform(0, 2 * np.pi), angle)
        # wide enough to touch each other
        width = max(radius * rng.uniform(*SHELL_WIDTH), np.hypot(*(piece[-1] - piece[-2])))
        positions.append(piece)
        widths += [width] * N_SHELL_BLOBS
        weights += list(rng.uniform(0.5, 1.5) / np.maximum(np.hypot(*piece.T), radius))
    debris = blobs(np.concatenate(positions), widths, weights)
    return _mix(rng.uniform(*SHELL_SHARE), debris, _sersic(rng, (1.5, 5.0), radius))


def contact(radius, axis_ratio, rng):
    """A pair in contact, which any survey would count as one galaxy."""
    distance, angle = radius * rng.uniform(*CONTACT_DISTANCE), rng.uniform(0, 2 * np.pi)
    other = _sersic(rng, (0.7, 4.0), radius * rng.uniform(0.3, 1.0))
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

    The half-light radius of the first component of the truth is that of the main body. The profile
    is as it looks from above, of flux 1 and centered on its light; it is yet to be sheared to the
    axis ratio of that component, along its x axis.
    """
    galsim = import_optional('galsim', extra='simulate')
    radius = float(truth['half_light_radius_1'])
    profile = KINDS[rng.integers(len(KINDS))](radius, float(truth['axis_ratio_1']), rng)
    if rng.random() < HALO_FRACTION:
        halo = _sersic(rng, (0.8, 2.0), radius * rng.uniform(*HALO_RADIUS))
        profile = _mix(rng.uniform(*HALO_SHARE), halo, profile)
    if rng.random() < NUCLEUS_FRACTION:
        nucleus = galsim.Gaussian(half_light_radius=NUCLEUS_RADIUS * radius)
        share = math.exp(rng.uniform(*np.log(NUCLEUS_SHARE)))
        profile = _mix(share, nucleus.shift(profile.centroid), profile)
    return profile.shift(-profile.centroid)
