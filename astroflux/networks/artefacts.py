# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Numbers that tell what is no galaxy, or more than one, from the pixels as they are."""

import numpy as np
import torch
from torch import nn

from astroflux.networks.layers import highest_of_nine
from astroflux.networks.neighbors import FWHM_TO_SIGMA
from astroflux.networks.oddity import excess_over_star
from astroflux.networks.pyramid import PICTURE_SIZES, tiles

__all__ = ['ARTEFACT_OUTPUTS', 'Artefacts']

# What is said of a stamp: by how many standard deviations a pixel stands out of a row or column
# more than a star can; how much farther light reaches along a straight line through the galaxy
# than beside it, of 1 for all the way to both ends; by how many standard deviations a row or
# column of pixels lacks the light that the next ones have; and the same of the fainter one of two
# maxima, above what is between them.
ARTEFACT_OUTPUTS = ('spike', 'trail', 'gap', 'second')

# A trail is looked for in tiles this far from the centre, in pixels, and farther out, where the
# largest galaxies end. It is at these angles, in degrees; next to it is so many angles away.
NEAR_END, FAR_END = 16.0, 36.0
ANGLES = np.arange(0, 180, 3.75)
BESIDE = 4
# A tile is bright above this signal-to-noise ratio, and a line says something with so many tiles.
BRIGHT = 4.0
FEWEST_TILES = 3
# Tiles count for a line if their centre is within half their side, or this far.
NEAR = 1.5

# Rows and columns are followed so many pixels from the centre, and may be broken in as many places.
GAP_REACH = 10
WIDEST_GAP = 3
# A gap lacks this part of the light, or more; what is smoothed by the PSF never does.
LEAST_LACK = 0.3

# Two maxima are looked for as near as this to the centre, in FWHM, in the difference of the stamp
# smoothed by two Gaussians, of these widths over that of the PSF. They are two if each is at least
# so many standard deviations high, and the fainter this part of the other.
SECOND_REACH = 2.5
SHARP, BLUNT = 0.6, 1.1
LEAST_SNR = 6.0
LEAST_RATIO = 0.5


def _ends(reach):
    """Return which tiles are on either end of each line, ``(n_tiles, n_angles, 2)``, 0 or 1."""
    each = tiles()
    cos, sin = (function(np.deg2rad(ANGLES)) for function in (np.cos, np.sin))
    along = each.x[:, None] * cos + each.y[:, None] * sin
    across = np.abs(each.x[:, None] * sin - each.y[:, None] * cos)
    is_on = across <= np.maximum(each.side / 2, NEAR)[:, None]
    ends = np.stack([is_on & (along > reach), is_on & (along < -reach)], axis=2)
    return torch.as_tensor(ends.reshape(len(each.x), -1), dtype=torch.float32)


class Artefacts(nn.Module):
    """
    Look for trails, gaps, spikes and second maxima in stamps.

    Nothing here is learned, and nothing of it has a part in the flux.
    """

    def __init__(self):
        super().__init__()
        for name, reach in (('near_ends', NEAR_END), ('far_ends', FAR_END)):
            self.register_buffer(name, _ends(reach), persistent=False)
        # of numpy: where networks are only looked at, torch would import its compiler for these
        ticks = np.arange(PICTURE_SIZES[0]) - PICTURE_SIZES[0] // 2
        ticks = torch.as_tensor(ticks, dtype=torch.float32)
        self.register_buffer('ticks', ticks, persistent=False)

    def forward(self, picture, weight, tiled, tiled_weight, ln_fwhm):
        """
        Look at a batch.

        Parameters
        ----------
        picture, weight : `torch.Tensor`
            ``(n, size, size)``: pixels of unit noise where the weight, their inverse variance, is
            one; 0 where nothing is known.
        tiled, tiled_weight : `torch.Tensor`
            ``(n, n_tiles)``: the same of tiles.
        ln_fwhm : `torch.Tensor`
            ``(n,)``, of the PSF in pixels.

        Returns
        -------
        found : dict of `torch.Tensor`
            `ARTEFACT_OUTPUTS`, each ``(n,)``.
        """
        weight = weight.expand_as(picture)
        sigma = FWHM_TO_SIGMA * ln_fwhm.exp()
        return {
            'spike': self._spike(picture, weight, ln_fwhm),
            'trail': self._trail(tiled * tiled_weight.sqrt(), tiled_weight.expand_as(tiled)),
            'gap': self._gap(picture, weight, sigma),
            'second': self._second(picture * (weight > 0), sigma),
        }

    @staticmethod
    def _spike(picture, weight, ln_fwhm):
        """Return by how much a pixel stands out, of those whose neighbors are all known."""
        unknown = highest_of_nine(-weight)[:, 1:-1, 1:-1] >= 0
        is_light = picture[:, 1:-1, 1:-1] > 0
        excess = torch.where(is_light & ~unknown, excess_over_star(picture, ln_fwhm), 0.0)
        return excess.amax(dim=(1, 2))

    def _trail(self, snr, weight):
        """Return how much farther light reaches along a line than beside it."""
        near = self._bright(snr, weight, self.near_ends)
        # where the stamp ends before, that is no reason
        reaches = torch.minimum(near, self._bright(snr, weight, self.far_ends).nan_to_num(1.0))
        # half a turn further are the same lines; one that is not seen may reach as far
        beside = torch.maximum(
            *(reaches.roll(turn, 1).nan_to_num(1.0) for turn in (BESIDE, -BESIDE))
        )
        return (reaches.nan_to_num(0.0) - beside).amax(dim=1).clamp(min=0)

    @staticmethod
    def _bright(snr, weight, ends):
        """Return which part of a line is bright, at the end where less is; NaN if few tiles are."""
        known = (weight > 0).to(snr.dtype) @ ends
        bright = ((snr > BRIGHT) & (weight > 0)).to(snr.dtype) @ ends
        part = torch.where(known >= FEWEST_TILES, bright / known.clamp(min=1), torch.nan)
        return part.unflatten(1, (len(ANGLES), 2)).amin(dim=2)

    def _gap(self, picture, weight, sigma):
        """Return how sure it is that rows or columns lack their light."""
        # what the pixels would be if they were as the ones around
        blur = self._gaussian(sigma)
        light = (blur @ (picture * (weight > 0)) @ blur.mT).clamp(min=0)
        near = self.ticks.abs() <= GAP_REACH
        counts = light * weight * (near[:, None] & near)
        # by columns, then by rows; of each how much of its light is there, with its variance
        there, due = (
            torch.cat([total.sum(dim=1), total.sum(dim=2)])
            for total in (picture * counts, light * counts)
        )
        surest = torch.zeros_like(sigma)
        for width in range(1, WIDEST_GAP + 1):
            inside = [sum(total.roll(-k, 1) for k in range(width)) for total in (there, due)]
            part, variance = _part(*inside)
            lack, certainty = [], []
            for side in (1, -width):
                beside, its_variance = _part(there.roll(side, 1), due.roll(side, 1))
                lack.append(beside - part)
                certainty.append(lack[-1] / (variance + its_variance).sqrt())
            is_gap = torch.minimum(*lack) > LEAST_LACK
            certainty = torch.where(is_gap, torch.minimum(*certainty), 0.0)
            # a row or column beside, which is compared, is near the centre, too
            compared = (self.ticks > -GAP_REACH) & (self.ticks + width <= GAP_REACH)
            both = certainty[:, compared].amax(dim=1).unflatten(0, (2, -1)).amax(dim=0)
            surest = torch.maximum(surest, both)
        return surest

    def _second(self, picture, sigma):
        """Return how far a second maximum stands out of what is between it and the first."""
        # what is narrower than pixels cannot be told from noise
        sigma = sigma.clamp(min=1)
        sharp, blunt = self._gaussian(SHARP * sigma), self._gaussian(BLUNT * sigma)
        a, b = (kernel[:, len(self.ticks) // 2] for kernel in (sharp, blunt))
        noise = (a[:, :, None] * a[:, None] - b[:, :, None] * b[:, None]).square().sum(dim=(1, 2))
        snr = sharp @ picture @ sharp.mT - blunt @ picture @ blunt.mT
        snr = snr / noise.sqrt()[:, None, None]
        distance = torch.hypot(self.ticks[:, None], self.ticks)
        within = distance < SECOND_REACH * (sigma / FWHM_TO_SIGMA)[:, None, None]
        highest = highest_of_nine(snr)
        is_maximum = (snr == highest) & within & (snr > LEAST_SNR)
        heights, place = torch.where(is_maximum, snr, 0.0).flatten(1).topk(2, dim=1)
        side = len(self.ticks)
        between = (place // side).sum(dim=1) // 2 * side + (place % side).sum(dim=1) // 2
        saddle = snr.flatten(1).gather(1, between[:, None])[:, 0]
        first, second = heights.unbind(dim=1)
        return torch.where(second > LEAST_RATIO * first, second - saddle, 0.0).clamp(min=0)

    def _gaussian(self, sigma):
        """Return matrices that smooth lines of pixels, ``(n, size, size)``."""
        apart = self.ticks[:, None] - self.ticks
        kernel = (-0.5 * apart**2 / sigma.clamp(min=1)[:, None, None] ** 2).exp()
        return kernel / kernel.sum(dim=2, keepdim=True)


def _part(there, due):
    """Return the part of light that is there, and its variance, where its weighted sum is due."""
    due = due.clamp(min=1e-3)
    return there / due, 1 / due
