# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
A Sersic profile fitted to the tiles of stamps, many at a time, in a few steps.

Each step is one of Gauss and Newton, with a prior: the profile and the PSF are sums
of Gaussians, whose derivatives are known. Where to start, how far to trust the
start, and how to weigh the pixels is told by a network, which learns it together
with all else: the steps can be differentiated. In the last step Gaussians of free
flux join the profile, for galaxies that are no Sersic profile.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import nn

from astroflux.networks.neighbors import Left, Light, NeighborFit
from astroflux.networks.pyramid import tiles
from astroflux.networks.sersic_mixture import LN_INDEX_RANGE
from astroflux.networks.sersic_model import PROFILE_PARAMETERS, SersicModel

__all__ = ['ProfileFit', 'ProfileGuess']

# With the level of the sky, parameters are what a step solves for.
N_PARAMETERS = len(PROFILE_PARAMETERS)
N_SOLVED = N_PARAMETERS + 1

# Where parameters may go, and how far in a step all but the flux.
LOWEST = (-60.0, -4.0, -4.0, -2.2, -2.2, -3.0, LN_INDEX_RANGE[0])
HIGHEST = (60.0, 4.0, 4.0, 2.2, 2.2, 4.0, LN_INDEX_RANGE[1])
# Neighbors may lie farther from the centre, by so many pixels.
NEIGHBOR_REACH = 72.0
LARGEST_STEP = (2.0, 2.0, 0.7, 0.7, 0.7, 0.7)

# A fit may lower the flux to this part at a step, and no further.
SMALLEST_FACTOR = 0.05

# Rings, by their radii in pixels, in which residuals are summed up.
RINGS = (0, 2, 4, 7, 11, 17, 26, 40, 200)

# Relative errors of sums of squares, typical and at worst.
ROUNDING, COARSE_ROUNDING = 1e-5, 1e-3

# Modes of free flux start with this prior, in units of the galaxy's flux.
FREE_FLUX = 0.1


@dataclass
class ProfileGuess:
    """
    Where a fit starts, and how it weighs what it sees.

    Attributes
    ----------
    start : `torch.Tensor`
        ``(n, 7)``: `~astroflux.networks.sersic_model.PROFILE_PARAMETERS`.
    ln_variance, weight : `torch.Tensor`
        ``(n, 4)``: of the Gaussians of the PSF, in square pixels; weights of sum one.
    width : `torch.Tensor`
        ``(n_steps, n, 8)``: standard deviations of the prior of each step, around its start.
    misfit : `torch.Tensor`
        ``(n_steps, n)``: relative error of the profile that is taken for granted.
    cut : `torch.Tensor`
        ``(n_steps, n)``: residuals beyond this many standard deviations lose weight.
    free_width, bend_width : `torch.Tensor`
        ``(n, n_gaussians)`` and ``(n, 2)``: standard deviations of the flux of the free modes,
        in a unit that is learned, and of the ellipse of the inner Gaussians.
    fwhm : `torch.Tensor`
        ``(n,)``, of the PSF in pixels.
    """

    start: torch.Tensor
    ln_variance: torch.Tensor
    weight: torch.Tensor
    width: torch.Tensor
    misfit: torch.Tensor
    cut: torch.Tensor
    free_width: torch.Tensor
    bend_width: torch.Tensor
    fwhm: torch.Tensor


def _solve(normal, basis, *sides):
    """
    Solve normal equations for the factors of a basis, whose prior has unit variance.

    The normal matrix was summed up in single precision: no change of a parameter is known better
    than that, beside changes of others that nearly make up for it. So a small part of its diagonal
    is added, before the basis mixes the parameters; all else is in double precision.
    """
    normal, basis = normal.double(), basis.double()
    diagonal = torch.diag_embed(normal.diagonal(dim1=1, dim2=2))
    unit = torch.eye(basis.shape[-1], dtype=normal.dtype, device=normal.device)

    def rounded(rounding):
        return basis.mT @ (normal + rounding * diagonal) @ basis + unit

    matrix = rounded(ROUNDING)
    # without an error that would lose the rest of a batch; what is infinite remains so
    factor, failed = torch.linalg.cholesky_ex(matrix)
    if failed.any():
        matrix = torch.where(failed[:, None, None] > 0, rounded(COARSE_ROUNDING), matrix)
        factor, failed = torch.linalg.cholesky_ex(matrix)
    if failed.any():
        # what is left then: each factor by itself
        alone = torch.diag_embed(matrix.diagonal(dim1=1, dim2=2))
        matrix = torch.where(failed[:, None, None] > 0, alone, matrix)
        factor, _ = torch.linalg.cholesky_ex(matrix)
    solution = torch.cholesky_solve(torch.stack(sides, dim=-1).double(), factor)
    return solution.unbind(dim=-1)


@dataclass
class _Equations:
    """
    The normal equations of a step, after the neighbors' parameters are eliminated.

    Attributes
    ----------
    normal, slope : `torch.Tensor`
        ``(n, p, p)`` and ``(n, p)``.
    kept, per_sigma : `torch.Tensor`
        ``(n, n_tiles)``: which part of its weight each tile has kept, and the inverse of the
        standard deviation.
    left : `~astroflux.networks.neighbors.Left`
        What changes of the parameters leave.
    light : `~astroflux.networks.neighbors.Light` or None
        Of the neighbors.
    """

    normal: torch.Tensor
    slope: torch.Tensor
    kept: torch.Tensor
    per_sigma: torch.Tensor
    left: Left
    light: Light | None


@dataclass
class _Solution:
    """Changes of the profile, ``(n, 8)``, what they gain, ``(n,)``, and features of the step."""

    change: torch.Tensor
    tension: torch.Tensor
    features: list


class ProfileFit(nn.Module):
    """
    Fit Sersic profiles.

    Parameters
    ----------
    n_steps : int
        Number of steps.
    n_gaussians : int
        Of the mixture that stands for a profile.
    n_neighbors : int
        Most neighbors that have profiles of their own.

    Attributes
    ----------
    n_features : int
        Numbers that a fit says of itself.
    """

    def __init__(self, n_steps=2, n_gaussians=8, n_neighbors=0):
        super().__init__()
        self.n_steps, self.n_gaussians = n_steps, n_gaussians
        self.model = SersicModel(n_gaussians)
        all_tiles = tiles()
        radius = np.hypot(all_tiles.x, all_tiles.y)
        rings = np.stack(
            [(radius >= low) & (radius < high) for low, high in pairwise(RINGS)],
            axis=1,
        ).astype(float)
        self.n_rings = rings.shape[1]
        for name, array in {
            'ring_sum': rings / np.sqrt(rings.sum(axis=0)),
            'ring_mean': rings / rings.sum(axis=0),
            'lowest': LOWEST,
            'highest': HIGHEST,
            'largest_step': LARGEST_STEP,
            'is_position': [name in ('x', 'y') for name in PROFILE_PARAMETERS],
        }.items():
            tensor = torch.as_tensor(np.array(array), dtype=torch.float32)
            self.register_buffer(name, tensor, persistent=False)
        free_modes = torch.zeros(n_gaussians, n_gaussians).fill_diagonal_(FREE_FLUX)
        self.free_modes = nn.Parameter(free_modes)
        self.neighbors = NeighborFit(n_neighbors, n_steps) if n_neighbors else None

    @property
    def n_features(self):
        """Numbers that a fit says of itself."""
        n_free = N_SOLVED + 2 + self.n_gaussians
        n_alone = self.n_steps * (N_SOLVED + 1 + self.n_rings) + 4 * self.n_rings + n_free + 2
        return n_alone + (self.neighbors.n_features if self.neighbors else 0)

    def forward(self, value, weight, guess, blocks=None, known=None):
        """
        Fit a batch.

        Parameters
        ----------
        value, weight : `torch.Tensor`
            ``(n, n_tiles)``: tiles, of unit noise where the weight is one, and their inverse
            variances; 0 where nothing is known.
        guess : `ProfileGuess`
            Where to start.
        blocks : tuple of `torch.Tensor`, optional
            Where neighbors are looked for: the picture in blocks of
            `~astroflux.networks.neighbors.NeighborFit`, and its weights.
        known : `~astroflux.networks.neighbors.Neighbors`, optional
            Neighbors whose light was subtracted from the tiles. They are fitted again, together
            with the galaxy, from where they were.

        Returns
        -------
        fit : dict of `torch.Tensor`
            ``parameters`` ``(n, 7)``; ``ln_sersic`` and ``ln_free`` ``(n,)``, ln of the flux of
            the profile alone, and with the free modes; ``pull`` ``(n, n_tiles)``, what the latter
            leaves in units of the noise, and ``model`` ``(n, 9 + n_gaussians)``, what it consists
            of: `~astroflux.networks.source_models.MODEL_PARAMETERS` and the free fluxes over
            that of the profile; ``features`` ``(n, n_features)``. With neighbors also
            ``NEIGHBOR_OUTPUTS`` of ``networks/neighbors.py``, and the tiles without their light,
            ``cleaned`` ``(n, n_tiles)``.
        """
        parameters, others, features = guess.start, None, []
        for step in range(self.n_steps):
            is_last = step == self.n_steps - 1
            modes = self.model(parameters, guess.ln_variance, guess.weight, free=is_last)
            if self.neighbors and step == 0:
                others = self.neighbors.start(*blocks, modes[:, 0], guess, known)
                if known is not None:
                    # what was taken away comes back, to be fitted
                    value = value + self.neighbors.light(known, step, guess).total
            at = self._equations(value, weight, guess, modes, others, step)
            solution = self._sersic_step(at, guess.width[step])
            features += solution.features
            if is_last:
                break
            if others:
                moved = self._moved(
                    others.parameters.flatten(0, 1),
                    at.left.of_others(solution.change),
                    reach=NEIGHBOR_REACH,
                )
                others.parameters = moved.view_as(others.parameters)
            parameters = self._moved(parameters, solution.change)
        ln_free, pull, model, of_free = self._free(parameters, at, guess, solution)
        features += of_free
        of_neighbors = {}
        if others:
            of_neighbors = self.neighbors.judge(
                others, at.light, at.left, weight, parameters, guess
            )
            features.append(of_neighbors.pop('features'))
            light = at.light.total + at.left.light_of_others(solution.change)
            of_neighbors['cleaned'] = value - light
        return {
            'parameters': self._moved(parameters, solution.change),
            'ln_sersic': parameters[:, 0] + _ln_factor(solution.change[:, 0]),
            'ln_free': ln_free,
            'pull': pull,
            'model': model,
            'features': torch.cat(features, dim=1),
            **of_neighbors,
        }

    def _equations(self, value, weight, guess, modes, others, step):
        """Return the `_Equations` of a step."""
        model = modes[:, 0]
        residual = value - model
        variance = 1 + weight * (guess.misfit[step][:, None] * model) ** 2
        light = None
        if others:
            light = self.neighbors.light(others, step, guess)
            residual = residual - light.total
            variance = variance + weight * light.misfit**2
        surprise = weight * residual**2 / variance
        kept = 1 / (1 + surprise.clamp(max=1e8) / guess.cut[step][:, None] ** 2)
        counts = weight / variance * kept
        weighted = modes * counts[:, None]
        normal = weighted @ modes.transpose(1, 2)
        slope = (weighted @ residual[:, :, None])[:, :, 0]
        left = Left(residual, modes)
        if light:
            left = light.eliminate(modes, counts, residual)
            normal, slope = left.reduced(normal, slope)
        # apart: the square root of a weight of zero must not be differentiated
        per_sigma = weight.sqrt() / variance.sqrt()
        return _Equations(normal, slope, kept, per_sigma, left, light)

    def _sersic_step(self, at, width):
        """Solve for the profile and the sky."""
        push = at.slope[:, :N_SOLVED] * width
        flux_only = nn.functional.one_hot(
            torch.zeros(len(width), dtype=torch.long, device=width.device), N_SOLVED
        )
        normal = at.normal[:, :N_SOLVED, :N_SOLVED]
        move, spread = _solve(normal, torch.diag_embed(width), push, flux_only)
        move = move.float()
        flux_variance = spread[:, 0].float() * width[:, 0] ** 2
        features = [
            move.clamp(-10, 10),
            0.5 * flux_variance.clamp(min=1e-12).log()[:, None],
            1 - at.kept @ self.ring_mean,
        ]
        return _Solution(move * width, torch.linalg.vecdot(move, push), features)

    def _free(self, parameters, at, guess, sersic):
        """Solve once more, with the free modes; compare with the profile alone."""
        n, k = len(parameters), self.n_gaussians
        width = torch.cat([guess.width[-1], guess.bend_width], dim=1)
        free = self.free_modes * guess.free_width[:, None]
        basis = torch.zeros(n, N_SOLVED + 2 + k, N_SOLVED + 2 + k, device=width.device)
        basis[:, : N_SOLVED + 2, : N_SOLVED + 2] = torch.diag_embed(width)
        basis[:, N_SOLVED + 2 :, N_SOLVED + 2 :] = free
        push = (basis.transpose(1, 2) @ at.slope[:, :, None])[:, :, 0]
        # the change of ln(flux) with each of the solved numbers
        flux = torch.cat([width[:, :1], torch.zeros_like(width[:, 1:]), free.sum(dim=1)], dim=1)
        move, spread = _solve(at.normal, basis, push, flux)
        move, flux_variance = move.float(), (spread * flux).sum(dim=1).float()
        change = (basis @ move[:, :, None])[:, :, 0]
        ln_flux = parameters[:, 0] + _ln_factor(change[:, 0] + change[:, N_SOLVED + 2 :].sum(dim=1))
        features = []
        for each in (sersic.change, change):
            pull = at.left(each) * at.per_sigma
            chi2 = (pull**2).clamp(max=1e4) @ self.ring_mean
            features += [torch.asinh(pull @ self.ring_sum), (chi2 + 0.01).log()]
        gain = (torch.linalg.vecdot(move, push) - sersic.tension).abs()
        features += [
            move.clamp(-10, 10),
            0.5 * flux_variance.clamp(min=1e-12).log()[:, None],
            (gain + 0.1).log()[:, None],
        ]
        moved = self._moved(parameters, change[:, :N_SOLVED])
        free_flux = change[:, N_SOLVED + 2 :] * (parameters[:, :1] - moved[:, :1]).exp()
        model = torch.cat([moved, change[:, N_SOLVED : N_SOLVED + 2], free_flux], dim=1)
        # the last one is of the best model that there is
        return ln_flux, pull, model, features

    def _moved(self, parameters, change, reach=0.0):
        """Return parameters after a step; ``reach`` is how much farther out they may lie."""
        ln_flux = parameters[:, :1] + _ln_factor(change[:, :1]).clamp(min=-1.2)
        step = change[:, 1:N_PARAMETERS]
        step = step.clamp(-self.largest_step, self.largest_step)
        moved = torch.cat([ln_flux, parameters[:, 1:] + step], dim=1)
        farther = reach * self.is_position
        return moved.clamp(self.lowest - farther, self.highest + farther)


def _ln_factor(relative_change):
    """Return ln(1 + change), held where the change takes all the flux away."""
    return torch.log1p(relative_change.clamp(SMALLEST_FACTOR - 1, 5.0))
