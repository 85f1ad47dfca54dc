# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Neighbors of a galaxy: where they stand, and what they are in the fit of its profile.

They are found as maxima of what the galaxy's profile leaves, smoothed as a point source is, in
blocks of pixels. In each step of the fit they are Sersic profiles of their own, whose
parameters are solved for together with the galaxy's: what the galaxy's are worth once the
neighbors' are free is what is left of its normal equations when theirs are eliminated.
"""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import nn

from astroflux.networks.layers import highest_of_nine
from astroflux.networks.photometry import compress
from astroflux.networks.pyramid import BLOCKS, PICTURE_SIZES, tiles
from astroflux.networks.sersic_model import PROFILE_PARAMETERS, SersicModel

__all__ = ['LEVEL', 'NEIGHBOR_OUTPUTS', 'Left', 'Light', 'NeighborFit', 'Neighbors']

# What an answer says of neighbors: their number; how far the nearest one is, in pixels, infinite
# if there is none; their light
# over the galaxy's where the galaxy is, as a matched filter counts it; and the flux of the
# brightest one that could be taken for the galaxy, over the galaxy's.
NEIGHBOR_OUTPUTS = ('n_neighbors', 'neighbor_distance', 'neighbor_light', 'rival')

N_PARAMETERS = len(PROFILE_PARAMETERS)

# Of the mixture that stands for a neighbor's profile.
N_GAUSSIANS = 5

# Neighbors are looked for in the picture of blocks of this side, which holds the whole canvas.
LEVEL = 1
BLOCK, N_BLOCKS = BLOCKS[LEVEL], PICTURE_SIZES[LEVEL]

# A maximum counts from this signal-to-noise ratio on, and this far from the galaxy in FWHM and,
# where the PSF is narrower than a block, a block. What the fit makes of it is a neighbor if it
# still has that signal-to-noise ratio. The farther away, the less it matters: it is left out if its
# signal-to-noise ratio over the square of its distance in FWHM is below a limit, and of many
# those count for which this is largest.
LOWEST_SNR = 4.0
NEAREST = 1.0
LEAST_INFLUENCE = 0.3

# The galaxy's profile is taken to be wrong by this part where neighbors are looked for.
MISFIT = 0.3

# What neighbors start from: half-light radius in FWHM, Sersic index.
RADIUS, INDEX = 0.4, 1.0

# Standard deviations of the prior: of the relative flux; the position in FWHM; the ellipse; ln
# of radius and index. And the relative error of a neighbor's profile
# that is taken for granted, at the first step and later.
WIDTH = (1.0, 0.25, 0.25, 0.4, 0.4, 0.5, 0.4)
NEIGHBOR_MISFIT = (0.5, 0.1)

# The same of those that are known; and the signal-to-noise ratio that they are taken to have.
KNOWN_MISFIT = 0.05
KNOWN_SNR = 10.0

FWHM_TO_SIGMA = 1 / math.sqrt(8 * math.log(2))

ROUNDING = 1e-5

# The part of the information on the galaxy's flux that neighbors leave, at least.
LEAST_LEFT = 1e-5

# Neighbors within so many FWHM of the position may be what was meant, if they are brighter.
RIVAL_DISTANCE = 2.0

# Beyond so many FWHM it makes no difference how far away a neighbor is.
FARTHEST = 20.0


@dataclass
class Neighbors:
    """
    The neighbors of each stamp of a batch, as many for all; the last of them may not exist.

    Attributes
    ----------
    parameters : `torch.Tensor`
        ``(n, k, 7)``: `~astroflux.networks.sersic_model.PROFILE_PARAMETERS`.
    exists : `torch.Tensor`
        ``(n, k)``, 1 or 0.
    snr : `torch.Tensor`
        ``(n, k)``, of their maxima; 0 of those that do not exist.
    is_known : `torch.Tensor` or None
        ``(n, k)``, which of them were known before, and not found; `None` if none was.
    """

    parameters: torch.Tensor
    exists: torch.Tensor
    snr: torch.Tensor
    is_known: torch.Tensor | None = None

    @classmethod
    def known(cls, parameters, exists):
        """Return neighbors that are known, and no longer in the image."""
        # as bright as need be: what is known is not doubted
        snr = exists * KNOWN_SNR
        return cls(parameters, exists, snr, exists > 0)

    def joined_by(self, found, fwhm):
        """
        Return as many neighbors as were looked for: these, and then those that were found.

        What was found within the width ``(n,)`` of one of these is a part of it.
        """
        apart = found.parameters[:, :, None, 1:3] - self.parameters[:, None, :, 1:3]
        is_part = (apart.norm(dim=3) < fwhm[:, None, None]) & self.is_known[:, None]
        exists = found.exists * ~is_part.any(dim=2)
        order = torch.cat([2 * self.exists, exists], dim=1)
        place = order.argsort(dim=1, descending=True, stable=True)[:, : exists.shape[1]]

        def chosen(known, new):
            both = torch.cat([known, new], dim=1)
            return both[torch.arange(len(both), device=both.device)[:, None], place]

        return Neighbors(
            chosen(self.parameters, found.parameters),
            chosen(self.exists, exists),
            chosen(self.snr, found.snr * exists),
            chosen(self.is_known, torch.zeros_like(exists, dtype=torch.bool)),
        )

    def distance(self, parameters):
        """Return how far they are from galaxies of some parameters, ``(n, k)``, in pixels."""
        apart = self.parameters[:, :, 1:3] - parameters[:, None, 1:3]
        return (apart.square().sum(dim=2) + 1e-8).sqrt()


class _Finder(nn.Module):
    """Find the maxima of a residual that matter most."""

    def __init__(self, n_neighbors):
        super().__init__()
        self.n_neighbors = n_neighbors
        ticks, tile, factor = _blocks()
        for name, array in {
            'ticks': ticks.astype(np.float32),
            'tile': tile,
            'factor': factor.astype(np.float32),
        }.items():
            self.register_buffer(name, torch.tensor(array), persistent=False)

    def in_blocks(self, values):
        """Return a smooth image in tiles, ``(n, n_tiles)``, in blocks, ``(n, 49, 49)``."""
        return (values[:, self.tile] * self.factor).unflatten(1, (N_BLOCKS, N_BLOCKS))

    def forward(self, residual, weight, fwhm, centre):
        """
        Find neighbors.

        Parameters
        ----------
        residual, weight : `torch.Tensor`
            ``(n, 49, 49)``, in blocks.
        fwhm : `torch.Tensor`
            ``(n,)``, of the PSF in pixels.
        centre : `torch.Tensor`
            ``(n, 2)``, of the galaxy, from that of the stamp.

        Returns
        -------
        neighbors : `Neighbors`
        """
        # wider than a point source, as most are galaxies; half of a Gaussian is within FWHM / 2
        variance = (FWHM_TO_SIGMA * fwhm) ** 2 * (1 + (2 * RADIUS) ** 2) + BLOCK**2 / 12
        apart = self.ticks[:, None] - self.ticks
        kernel = (-0.5 * apart**2 / variance[:, None, None]).exp()
        # of the brightness per pixel
        score = kernel @ (BLOCK * weight * residual) @ kernel
        information = (kernel**2 @ (BLOCK**2 * weight) @ kernel**2).clamp(min=1e-6)
        snr = score / information.sqrt()
        x, y = self.ticks - centre[:, :1], self.ticks - centre[:, 1:]
        distance = (x[:, None, :] ** 2 + y[:, :, None] ** 2).sqrt()
        influence = snr * (fwhm[:, None, None] / distance.clamp(min=BLOCK)) ** 2
        highest = highest_of_nine(snr)
        counts = (snr == highest) & (snr > LOWEST_SNR) & (influence > LEAST_INFLUENCE)
        counts &= distance > (NEAREST * fwhm).clamp(min=BLOCK)[:, None, None]
        found, place = (influence * counts).flatten(1).topk(self.n_neighbors, dim=1)
        row, column = place // N_BLOCKS, place % N_BLOCKS
        flux = (score / information).flatten(1).gather(1, place) * 2 * math.pi * variance[:, None]
        exists = (found > 0).to(flux.dtype)
        zero = torch.zeros_like(flux)
        parameters = [
            flux.clamp(min=1e-3).log(),
            self.ticks[column] + self._beyond(snr, row, column),
            self.ticks[row] + self._beyond(snr.mT, column, row),
            zero,
            zero,
            zero + (RADIUS * fwhm[:, None]).log(),
            zero + math.log(INDEX),
        ]
        snr = snr.flatten(1).gather(1, place) * exists
        return Neighbors(torch.stack(parameters, dim=2), exists, snr)

    @staticmethod
    def _beyond(snr, row, column):
        """Return how far maxima are from the centres of their blocks, by a parabola."""
        lines = snr.gather(1, row[:, :, None].expand(-1, -1, N_BLOCKS))
        here = column.clamp(1, N_BLOCKS - 2)
        low, top, high = (lines.gather(2, (here + d)[:, :, None])[:, :, 0] for d in (-1, 0, 1))
        curvature = (2 * top - low - high).clamp(min=1e-3)
        beyond = BLOCK * (0.5 * (high - low) / curvature).clamp(-0.5, 0.5)
        return torch.where(column == here, beyond, 0.0)


@cache
def _blocks():
    """Return ticks, and of each block the tile that holds its centre and its value over that's."""
    ticks = BLOCK * (np.arange(N_BLOCKS) - N_BLOCKS // 2)
    all_tiles = tiles()
    y, x = (axis.ravel()[:, None] for axis in np.meshgrid(ticks, ticks, indexing='ij'))
    apart = np.maximum(abs(all_tiles.x - x), abs(all_tiles.y - y))
    tile = np.argmax(apart < all_tiles.side / 2, axis=1)
    return ticks, tile, BLOCK / all_tiles.side[tile]


class NeighborFit(nn.Module):
    """
    Neighbors as a part of the fit of a galaxy's profile.

    Parameters
    ----------
    n_neighbors : int
        Most neighbors of a galaxy; fainter ones are left to the weights of the fit.
    n_steps : int
        Steps of the fit.
    """

    n_features = 6

    def __init__(self, n_neighbors, n_steps):
        super().__init__()
        self.find = _Finder(n_neighbors)
        self.model = SersicModel(N_GAUSSIANS)
        self.ln_width = nn.Parameter(torch.zeros(n_steps, N_PARAMETERS))
        self.ln_misfit = nn.Parameter(torch.zeros(n_steps))
        self.register_buffer('width', torch.tensor(WIDTH), persistent=False)

    def start(self, blocks, weight, model, guess, known=None):
        """
        Find neighbors in what the model of a galaxy leaves, beside those that are known.

        Blocks and weights are the picture ``LEVEL`` of the pyramid, the model is in tiles.
        """
        with torch.no_grad():
            model = self.find.in_blocks(model)
            weight = weight / (1 + weight * (MISFIT * model) ** 2)
            found = self.find(blocks - model, weight, guess.fwhm, guess.start[:, 1:3])
            return found if known is None else known.joined_by(found, guess.fwhm)

    def light(self, neighbors, step, guess):
        """Return the `Light` of neighbors as they are at a step."""
        n, k = neighbors.exists.shape
        # only those that exist: mostly they are few
        exist = neighbors.exists.flatten().nonzero()[:, 0]
        galaxy = exist // k
        modes = self.model(
            neighbors.parameters.flatten(0, 1)[exist],
            guess.ln_variance[galaxy],
            guess.weight[galaxy],
        )[:, :N_PARAMETERS]
        modes = modes.new_zeros(n * k, *modes.shape[1:]).index_copy(0, exist, modes)
        modes = modes.unflatten(0, (n, k))
        width = self.width * self.ln_width[step].clamp(-3, 3).exp()
        in_pixels = torch.ones(n, N_PARAMETERS, device=width.device)
        in_pixels[:, 1:3] = guess.fwhm[:, None]
        each = modes[:, :, 0]
        total = each.sum(dim=1)
        return Light(
            number=neighbors.exists.sum(dim=1).long(),
            each=each,
            total=total,
            misfit=self._misfit(neighbors, each, total, step),
            modes=modes.flatten(1, 2),
            width=(in_pixels * width).repeat(1, k),
        )

    def _misfit(self, neighbors, each, total, step):
        """Return by how much the light of neighbors may be wrong."""
        relative = NEIGHBOR_MISFIT[step > 0] * self.ln_misfit[step].clamp(-3, 3).exp()
        if neighbors.is_known is None:
            return relative * total
        relative = torch.where(neighbors.is_known, KNOWN_MISFIT, relative)
        return (relative[:, :, None] * each).sum(dim=1)

    @staticmethod
    def judge(neighbors, light, left, weight, parameters, guess):
        """Return what is known of neighbors in the end, by name."""
        galaxy = left.modes[:, 0]
        own = weight * galaxy
        power = (own * galaxy).sum(dim=1, keepdim=True) + 1e-9
        share = (light.each @ own[:, :, None])[:, :, 0] / power
        # maxima that the fit has explained otherwise are none
        snr = ((light.each**2) @ weight[:, :, None])[:, :, 0].sqrt()
        is_one = snr > LOWEST_SNR
        distance = neighbors.distance(parameters)
        nearest = torch.where(is_one, distance / guess.fwhm[:, None], FARTHEST).amin(dim=1)
        features = [
            is_one.to(share.dtype).mean(dim=1),
            compress(10 * share.sum(dim=1)),
            compress(10 * share.amax(dim=1)),
            nearest.clamp(max=FARTHEST).log(),
            (neighbors.snr.amax(dim=1) + 1).log(),
            left.ln_lost,
        ]
        # and neither are those that may be what the galaxy's profile lacks: they are not told
        doubted = weight / (1 + weight * (MISFIT * galaxy) ** 2)
        is_told = ((light.each**2) @ doubted[:, :, None])[:, :, 0].sqrt() > LOWEST_SNR
        from_position = neighbors.parameters[:, :, 1:3].norm(dim=2)
        is_rival = is_told & (from_position < RIVAL_DISTANCE * guess.fwhm[:, None])
        if neighbors.is_known is not None:
            # of these it is known that they are not meant
            is_rival &= ~neighbors.is_known
        ratio = (neighbors.parameters[:, :, 0] - parameters[:, :1]).exp()
        return {
            'features': torch.stack(features, dim=1),
            'n_neighbors': is_told.to(share.dtype).sum(dim=1),
            'neighbor_distance': torch.where(is_told, distance, torch.inf).amin(dim=1),
            'neighbor_light': (share * is_told).sum(dim=1),
            'rival': (ratio * is_rival).amax(dim=1),
        }


@dataclass
class Light:
    """
    The light of neighbors in tiles.

    Attributes
    ----------
    number : `torch.Tensor`
        ``(n,)``, how many there are: the first ones of each.
    each : `torch.Tensor`
        ``(n, k, n_tiles)``, of each neighbor.
    total, misfit : `torch.Tensor`
        ``(n, n_tiles)``: of all, and by how much it may be wrong.
    modes : `torch.Tensor`
        ``(n, 7 k, n_tiles)``, its derivatives.
    width : `torch.Tensor`
        ``(n, 7 k)``, standard deviations of the prior of what they are derivatives by.
    """

    number: torch.Tensor
    each: torch.Tensor
    total: torch.Tensor
    misfit: torch.Tensor
    modes: torch.Tensor
    width: torch.Tensor

    def eliminate(self, modes, weight, residual):
        """Return what a galaxy's modes `Left` if these are free."""
        sides = torch.cat([modes, residual[:, None]], dim=1)
        n, p = sides.shape[:2]
        solved = sides.new_zeros(n, self.modes.shape[1], p)
        taken = sides.new_zeros(n, p - 1, p)
        # as many at a time as have as many: most have few
        for number in self.number.unique().tolist():
            if number:
                rows = (self.number == number).nonzero()[:, 0]
                some = slice(number * N_PARAMETERS)
                own = self.modes[rows, some] * self.width[rows, some, None]
                solved[rows, some], taken[rows] = _eliminated(own, weight[rows], sides[rows])
        return LeftByNeighbors(residual, modes, weight, taken, solved, self)


def _eliminated(own, weight, sides):
    """
    Return what neighbors do to make up for changes of the galaxy, and what that takes away.

    Parameters
    ----------
    own : `torch.Tensor`
        ``(n, m, n_tiles)``: their modes, in units of the prior.
    weight : `torch.Tensor`
        ``(n, n_tiles)``.
    sides : `torch.Tensor`
        ``(n, p, n_tiles)``: the galaxy's modes and the residual.

    Returns
    -------
    solved, taken : `torch.Tensor`
        ``(n, m, p)`` and ``(n, p - 1, p)``.
    """
    weighted = own * weight[:, None]
    normal = (weighted @ own.mT).double()
    normal = normal + torch.diag_embed(1 + ROUNDING * normal.diagonal(dim1=1, dim2=2))
    cross = weighted @ sides.mT
    # the one that does not raise: a row that cannot be solved is NaN, and no other
    factor, _ = torch.linalg.cholesky_ex(normal)
    solved = torch.cholesky_solve(cross.double(), factor).float()
    return solved, cross[:, :, :-1].mT @ solved


class Left:
    """What the changes of a galaxy's parameters leave of a residual."""

    def __init__(self, residual, modes):
        self.residual, self.modes = residual, modes

    def __call__(self, change):
        """Return it for changes of the first of the parameters, ``(n, n_tiles)``."""
        return self.residual - (change[:, None] @ self.modes[:, : change.shape[1]])[:, 0]


class LeftByNeighbors(Left):
    """
    The same beside neighbors, whose parameters are the best ones for each change.

    Attributes
    ----------
    solved : `torch.Tensor`
        ``(n, m, p + 1)``, the neighbors' changes for one of each of the galaxy's, which lowers
        them, and for the residual.
    ln_lost : `torch.Tensor`
        ``(n,)``, by how much the error of a galaxy's flux of known shape is larger for them.
    """

    def __init__(self, residual, modes, weight, taken, solved, light):
        super().__init__(residual, modes)
        self.solved, self._light = solved, light
        self._taken = taken
        alone = (weight * modes[:, 0] ** 2).sum(dim=1).clamp(min=1e-9)
        left = (1 - self._taken[:, 0, 0] / alone).clamp(min=LEAST_LEFT)
        self.ln_lost = -0.5 * left.log()

    def reduced(self, normal, slope):
        """Return normal equations without the neighbors' parameters."""
        rounding = torch.diag_embed(ROUNDING * normal.diagonal(dim1=1, dim2=2))
        return normal - self._taken[:, :, :-1] + rounding, slope - self._taken[:, :, -1]

    def forget_galaxy(self):
        """Let the neighbors' parameters know nothing of the galaxy's changes."""
        of_residual = self.solved[:, :, -1:]
        self.solved = torch.cat([torch.zeros_like(self.solved[:, :, :-1]), of_residual], dim=2)
        self._taken = torch.cat([0 * self._taken[:, :, :-1], self._taken[:, :, -1:]], dim=2)

    def _move(self, change):
        taken = self.solved[:, :, : change.shape[1]] @ change[:, :, None]
        return self.solved[:, :, -1] - taken[:, :, 0]

    def of_others(self, change):
        """Return the changes of the neighbors' parameters, ``(n k, 7)``."""
        return (self._move(change) * self._light.width).reshape(-1, N_PARAMETERS)

    def light_of_others(self, change):
        """Return the change of the neighbors' light."""
        move = self._move(change) * self._light.width
        return (move[:, None] @ self._light.modes)[:, 0]

    def __call__(self, change):
        """Return what changes of the galaxy's parameters leave, ``(n, n_tiles)``."""
        return super().__call__(change) - self.light_of_others(change)
