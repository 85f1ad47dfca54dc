# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What a user can do against faults, done by one who knows where they are.

Each function takes a galaxy and its stamp with the fault, and returns the stamp that is measured
instead, and keywords of ``measure``.
"""

from dataclasses import dataclass, replace

import numpy as np
from fault_galaxies import NOISE, SIDE
from photutils.background import Background2D
from scipy.ndimage import binary_dilation, convolve

__all__ = ['REMEDIES', 'Remedy']

# Light that is fainter, in sigma, nobody would mask.
FAINTEST = 0.3

# Pixels a side of the mesh of a sky.
MESH = 36

# A pixel of the image on the pixels of a PSF of half the size.
PIXEL = np.outer([0.25, 0.5, 0.25], [0.25, 0.5, 0.25])


@dataclass(frozen=True)
class Remedy:
    """
    What is done against a fault.

    Attributes
    ----------
    name : str
        For tables.
    apply : callable
        Takes a galaxy and a stamp, returns a stamp and keywords.
    """

    name: str
    apply: object


def masked(galaxy, stamp):
    """Mask what is not as it should be, and a pixel around."""
    is_wrong = np.abs(stamp.data - galaxy.stamp().data) > FAINTEST * NOISE
    return replace(stamp, mask=binary_dilation(is_wrong)), {}


def larger_stamp(galaxy, stamp):
    """Cut a stamp of ten half-light radii."""
    return galaxy.stamp('large', side=181), {}


def told_where(galaxy, stamp):
    """Tell where the galaxy is."""
    middle = SIDE // 2
    return replace(stamp, position=(middle - 25 + galaxy.x, middle + galaxy.y)), {}


def local_sky(galaxy, stamp):
    """Have the sky measured at the edge of the stamp."""
    return stamp, {'background': 'local'}


def mapped_sky(galaxy, stamp):
    """Subtract the sky in a mesh."""
    return stamp, {'background': Background2D(stamp.data, MESH)}


def told_gain(galaxy, stamp):
    """Tell how many photons a unit of the image is."""
    return stamp, {'effective_gain': 1 / NOISE}


def estimated_correlation(galaxy, stamp):
    """Have the correlation of the noise estimated."""
    return stamp, {'noise_correlation': 'estimate'}


def psf_without_pedestal(galaxy, stamp):
    """Subtract what the PSF has at its border."""
    psf = stamp.psf
    border = np.concatenate([psf[0], psf[-1], psf[:, 0], psf[:, -1]])
    psf = psf - np.median(border)
    return replace(stamp, psf=psf / psf.sum()), {}


def binned_psf(galaxy, stamp):
    """Bring the PSF to the pixels of the image."""
    psf = convolve(stamp.psf, PIXEL)[::2, ::2]
    return replace(stamp, psf=psf / psf.sum()), {}


MASKED = Remedy('masked with a margin', masked)
LOCAL_SKY = Remedy("``background='local'``", local_sky)
CORRELATION = Remedy("``noise_correlation='estimate'``", estimated_correlation)
REMEDIES = {
    'larger than the stamp': Remedy('a stamp of 181 pixels', larger_stamp),
    '25 px off the center': Remedy('``positions=``', told_where),
    'cosmic ray through the core': MASKED,
    'cosmic rays around': MASKED,
    'hot pixel': MASKED,
    'satellite through the core': MASKED,
    'satellite beside': MASKED,
    'sky +0.5 sigma': LOCAL_SKY,
    'sky -0.5 sigma': LOCAL_SKY,
    'gradient of the sky': Remedy('``background=Background2D``', mapped_sky),
    "noise without the galaxy's": Remedy('``effective_gain=``', told_gain),
    'correlated noise, growth 1.2': CORRELATION,
    'correlated noise, growth 1.8': CORRELATION,
    'PSF with a pedestal of 1 %': Remedy('pedestal subtracted', psf_without_pedestal),
    'PSF oversampled by 2, unsaid': Remedy('binned', binned_psf),
}
