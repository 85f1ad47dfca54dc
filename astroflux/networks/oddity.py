# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Numbers that are unusual where a stamp shows what is no galaxy, or not its noise."""

import math

import numpy as np
import torch
from torch import nn

from astroflux.networks.photometry import compress
from astroflux.networks.pyramid import tiles

__all__ = ['Oddity', 'excess_over_star']

# With fewer usable tiles a quadrant says nothing.
FEWEST_TILES = 12

# The median of the absolute value of a standard normal deviate; and values that it is rarely
# below, and above.
MEDIAN_ABSOLUTE = 0.6745
QUIET, LOUD = 0.15, 3.5

# A star's core, as narrow as it may be for the width of the PSF; below some pixels nothing is
# too sharp. And how much brighter than by that its pixels may be than the next ones.
CORE_SIGMA = 0.85 / 2.355
NARROWEST_LN_FWHM = math.log(1.2)
MARGIN = 1.15

# Straight lines through a stamp: their angles in degrees, and how far they pass from the centre
# in pixels. A line takes in the tiles that it crosses, and pixels this near. It is compared with
# the lines beside it, so many offsets away, and says nothing if one of them is too short.
ANGLES = np.arange(0, 180, 7.5)
OFFSETS = np.arange(-42, 43, 6)
BESIDE = 3
NEAR = 1.5
SHORTEST_LINE = 50
# A tile is bright above this pull; what a full line lacks to be infinitely strange.
BRIGHT = 3.0
SMALLEST_GAP = 0.05

# A core that is cut off: more pixels than this are as bright as the brightest one, which is
# above the noise; by no more than a part of the noise, for rounding.
FEW_PIXELS = 4
SAME = 0.02


def _lines():
    """Return the length of each tile on each line, in pixels: ``(n_tiles, n_lines)``."""
    all_tiles = tiles()
    axes = np.meshgrid(np.deg2rad(ANGLES), OFFSETS, indexing='ij')
    angle, offset = (axis.ravel()[:, None] for axis in axes)
    distance = np.abs(all_tiles.x * np.sin(angle) - all_tiles.y * np.cos(angle) - offset)
    half = np.maximum(0.5 * all_tiles.side, NEAR)
    # small tiles are crossed side by side
    length = all_tiles.side**2 / (2 * half)
    return np.where(distance <= half, length, 0.0).T


def excess_over_star(picture, ln_fwhm):
    """
    Return by how much pixels stand out of a row or a column more than a star can.

    Parameters are those of `Oddity.forward`. Of all pixels but those at the edge; 0 where the PSF
    is as narrow as pixels.
    """
    inner = picture[:, 1:-1, 1:-1]
    beside = torch.minimum(
        picture[:, 1:-1, :-2] + picture[:, 1:-1, 2:],
        picture[:, :-2, 1:-1] + picture[:, 2:, 1:-1],
    )
    wide_enough = ln_fwhm > NARROWEST_LN_FWHM
    variance = (CORE_SIGMA * ln_fwhm.clamp(min=NARROWEST_LN_FWHM).exp()) ** 2 + 1 / 12
    above_next = MARGIN * (0.5 / variance).exp()
    excess = inner - 0.5 * above_next[:, None, None] * beside
    return torch.where(wide_enough[:, None, None], excess, 0.0)


class Oddity(nn.Module):
    """
    What a fit leaves, by quadrants and along lines; what is sharper than the PSF, or flat.

    The four quadrants are sorted: whichever of them is the strangest, it is the same number.
    A quadrant without noise, or with too much of it in each, are no neighbour; nor is light all
    along a line, as of a satellite, or a spike that the PSF cannot have made. A core whose pixels
    are all the same is saturated.

    Attributes
    ----------
    n_features : int
        Numbers that it gives.
    """

    n_features = 4 * 4 + 1 + 2 + 1 + 1

    def __init__(self):
        super().__init__()
        all_tiles = tiles()
        # larger tiles than pixels, which hold the galaxy, but for those on the axes
        quadrants = [
            np.flatnonzero(
                (all_tiles.side > 1) & (right * all_tiles.x > 0) & (up * all_tiles.y > 0)
            )
            for right in (-1, 1)
            for up in (-1, 1)
        ]
        quadrants = np.stack(quadrants)
        self.register_buffer('quadrants', torch.as_tensor(quadrants), persistent=False)
        usual = [0.0, math.sqrt(math.erf(QUIET / math.sqrt(2))), 0.0, 0.0]
        self.register_buffer('usual', torch.tensor(usual), persistent=False)
        lines = torch.as_tensor(_lines(), dtype=torch.float32)
        self.register_buffer('lines', lines, persistent=False)
        self._pixels = all_tiles.bounds[0]

    def forward(self, pull, picture, ln_fwhm):
        """
        Look for what is odd.

        Parameters
        ----------
        pull : `torch.Tensor`
            ``(n, n_tiles)``: residuals of a fit in units of the noise; 0 where nothing is known.
        picture : `torch.Tensor`
            ``(n, size, size)``: pixels, of unit noise.
        ln_fwhm : `torch.Tensor`
            ``(n,)``, of the PSF in pixels.

        Returns
        -------
        features : `torch.Tensor`
            ``(n, n_features)``.
        """
        parts = pull[:, self.quadrants]
        known, size = parts != 0, parts.abs()
        number = known.sum(dim=2)
        enough = number >= FEWEST_TILES
        number = number.clamp(min=1)
        scale = torch.where(known, size, torch.nan).nanmedian(dim=2).values / MEDIAN_ABSOLUTE
        quiet = (known & (size < QUIET)).sum(dim=2) / number
        loud = (size > LOUD).sum(dim=2) / number
        mean = parts.sum(dim=2) / number.sqrt()
        of_quadrants = torch.stack(
            [(scale + 0.01).log(), quiet.sqrt(), loud.sqrt(), compress(mean)], dim=1
        )
        # what no pixel shows is as usual
        of_quadrants = torch.where(enough[:, None], of_quadrants, self.usual[:, None])
        pixels = pull[:, self._pixels]
        features = [
            of_quadrants.sort(dim=2).values.flatten(1),
            compress(excess_over_star(picture, ln_fwhm).amax(dim=(1, 2)))[:, None],
            compress(torch.stack([pixels.amax(dim=1), -pixels.amin(dim=1)], dim=1)),
            self._line(pull)[:, None],
            self._plateau(picture)[:, None],
        ]
        return torch.cat(features, dim=1)

    def _line(self, pull):
        """Return how much farther a line of light reaches than any beside it: 1 if no farther."""
        known, bright = (
            (what.to(pull.dtype) @ self.lines).unflatten(1, (len(ANGLES), len(OFFSETS)))
            for what in (pull != 0, pull > BRIGHT)
        )
        filled = torch.where(known > SHORTEST_LINE, bright / known.clamp(min=1), torch.nan)
        beside = torch.maximum(filled[..., : -2 * BESIDE], filled[..., 2 * BESIDE :])
        farther = (filled[..., BESIDE:-BESIDE] - beside).nan_to_num(0).amax(dim=(1, 2))
        return 1 / (1 + SMALLEST_GAP - farther.clamp(min=0))

    @staticmethod
    def _plateau(picture):
        """Return how many pixels are as bright as the brightest one, from a few on."""
        brightest = picture.amax(dim=(1, 2), keepdim=True)
        number = ((picture > brightest - SAME) & (brightest > 1)).sum(dim=(1, 2))
        return (number / FEW_PIXELS).clamp(min=1).log()
