# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Numbers that are unusual where a stamp shows what is no galaxy, or not its noise."""

import math

import numpy as np
import torch
from torch import nn

from astroflux.networks.photometry import compress
from astroflux.networks.pyramid import tiles

__all__ = ['Oddity']

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


class Oddity(nn.Module):
    """
    What a fit leaves, by quadrants, and what is sharper than the PSF.

    The four quadrants are sorted: whichever of them is the strangest, it is the same number.
    A quadrant without noise, or with too much of it in each, a trail through several, are
    no neighbour; nor is a spike that the PSF cannot have made.

    Attributes
    ----------
    n_features : int
        Numbers that it gives.
    """

    n_features = 4 * 4 + 1 + 2

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
            self._sharpness(picture, ln_fwhm)[:, None],
            compress(torch.stack([pixels.amax(dim=1), -pixels.amin(dim=1)], dim=1)),
        ]
        return torch.cat(features, dim=1)

    @staticmethod
    def _sharpness(picture, ln_fwhm):
        """Return by how much a pixel stands out of a row or a column more than a star can."""
        inner = picture[:, 1:-1, 1:-1]
        beside = torch.minimum(
            picture[:, 1:-1, :-2] + picture[:, 1:-1, 2:],
            picture[:, :-2, 1:-1] + picture[:, 2:, 1:-1],
        )
        wide_enough = ln_fwhm > NARROWEST_LN_FWHM
        variance = (CORE_SIGMA * ln_fwhm.clamp(min=NARROWEST_LN_FWHM).exp()) ** 2 + 1 / 12
        above_next = MARGIN * (0.5 / variance).exp()
        excess = (inner - 0.5 * above_next[:, None, None] * beside).amax(dim=(1, 2))
        return torch.where(wide_enough, compress(excess), 0.0)
