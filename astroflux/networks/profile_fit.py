# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
A Sersic profile fitted to the tiles of stamps, many at a time, in a few steps.

Each step is one of Gauss and Newton, with a prior: the profile and the PSF are sums
of Gaussians, whose derivatives are known. Where to start, how far to trust the
start, and how to weigh the pixels is told by a network, which learns it together
with all else: the steps can be differentiated. In the last step Gaussians of free
flux join the profile, for galaxies that are no Sersic profile.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import nn

from astroflux.networks.pyramid import BLOCKS, tiles
from astroflux.networks.sersic_mixture import LN_INDEX_RANGE, sersic_mixture

__all__ = ['PARAMETERS', 'ProfileFit', 'ProfileGuess']

# Ln of the flux; the centre in pixels; the ellipse, whose axis ratio is exp(-|e|), by its
# components along the axes and the diagonals; ln of the half-light radius in pixels; ln of
# the Sersic index. With the level of the sky, these are what a step solves for.
PARAMETERS = ('ln_flux', 'x', 'y', 'e1', 'e2', 'ln_radius', 'ln_index')
N_PARAMETERS = len(PARAMETERS)
N_SOLVED = N_PARAMETERS + 1

# Where parameters may go, and how far in a step all but the flux.
LOWEST = (-60.0, -4.0, -4.0, -2.2, -2.2, -3.0, LN_INDEX_RANGE[0])
HIGHEST = (60.0, 4.0, 4.0, 2.2, 2.2, 4.0, LN_INDEX_RANGE[1])
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
        ``(n, 7)``: `PARAMETERS`.
    ln_variance, weight : `torch.Tensor`
        ``(n, 3)``: of the Gaussians of the PSF, in square pixels; weights of sum one.
    width : `torch.Tensor`
        ``(n_steps, n, 8)``: standard deviations of the prior of each step, around its start.
    misfit : `torch.Tensor`
        ``(n_steps, n)``: relative error of the profile that is taken for granted.
    cut : `torch.Tensor`
        ``(n_steps, n)``: residuals beyond this many standard deviations lose weight.
    free_width, bend_width : `torch.Tensor`
        ``(n, n_gaussians)`` and ``(n, 2)``: standard deviations of the flux of the free modes,
        in a unit that is learned, and of the ellipse of the inner Gaussians.
    """

    start: torch.Tensor
    ln_variance: torch.Tensor
    weight: torch.Tensor
    width: torch.Tensor
    misfit: torch.Tensor
    cut: torch.Tensor
    free_width: torch.Tensor
    bend_width: torch.Tensor


def _chebyshev(coefficients, u):
    """Return polynomials and their derivatives at ``u``, ``(n, k)`` each."""
    values, slopes = [torch.ones_like(u), u], [torch.zeros_like(u), torch.ones_like(u)]
    for _ in range(2, coefficients.shape[1]):
        slopes.append(2 * values[-1] + 2 * u * slopes[-1] - slopes[-2])
        values.append(2 * u * values[-1] - values[-2])
    values, slopes = torch.stack(values, dim=-1), torch.stack(slopes, dim=-1)
    return values @ coefficients.T, slopes @ coefficients.T


def _solve(normal, *sides):
    """Solve with the prior's unit matrix added, in double precision."""
    normal = normal.double()
    unit = torch.eye(normal.shape[-1], dtype=normal.dtype, device=normal.device)
    diagonal = torch.diag_embed(normal.diagonal(dim1=1, dim2=2))
    # The matrix was summed up in single precision: no change of a parameter is known
    # better than that, beside changes of others that nearly make up for it.
    matrix = normal + unit + ROUNDING * diagonal
    factor, failed = torch.linalg.cholesky_ex(matrix)
    if failed.any():
        factor = torch.linalg.cholesky(matrix + COARSE_ROUNDING * diagonal)
    solution = torch.cholesky_solve(torch.stack(sides, dim=-1).double(), factor)
    return solution.unbind(dim=-1)


class ProfileFit(nn.Module):
    """
    Fit Sersic profiles.

    Parameters
    ----------
    n_steps : int
        Number of steps.
    n_gaussians : int
        Of the mixture that stands for a profile.

    Attributes
    ----------
    n_features : int
        Numbers that a fit says of itself.
    """

    def __init__(self, n_steps=2, n_gaussians=8):
        super().__init__()
        self.n_steps, self.n_gaussians = n_steps, n_gaussians
        all_tiles = tiles()
        self._bounds = all_tiles.bounds
        x, y = all_tiles.x, all_tiles.y
        radius = np.hypot(x, y)
        rings = np.stack(
            [(radius >= low) & (radius < high) for low, high in pairwise(RINGS)],
            axis=1,
        ).astype(float)
        mixture = sersic_mixture(n_gaussians)
        self.n_rings = rings.shape[1]
        for name, array in {
            'monomials': np.stack([x * x, x * y, y * y, x, y, np.ones_like(x)]),
            'side': all_tiles.side,
            'ring_sum': rings / np.sqrt(rings.sum(axis=0)),
            'ring_mean': rings / rings.sum(axis=0),
            'amplitude': mixture.amplitude,
            'ln_width': mixture.ln_width,
            'lowest': LOWEST,
            'highest': HIGHEST,
            'largest_step': LARGEST_STEP,
        }.items():
            tensor = torch.as_tensor(np.array(array), dtype=torch.float32)
            self.register_buffer(name, tensor, persistent=False)
        self.free_modes = nn.Parameter(FREE_FLUX * torch.eye(n_gaussians))

    @property
    def n_features(self):
        """Numbers that a fit says of itself."""
        n_free = N_SOLVED + 2 + self.n_gaussians
        return self.n_steps * (N_SOLVED + 1 + self.n_rings) + 4 * self.n_rings + n_free + 2

    def forward(self, value, weight, guess):
        """
        Fit a batch.

        Parameters
        ----------
        value, weight : `torch.Tensor`
            ``(n, n_tiles)``: tiles, of unit noise where the weight is one, and their inverse
            variances; 0 where nothing is known.
        guess : `ProfileGuess`
            Where to start.

        Returns
        -------
        fit : dict of `torch.Tensor`
            ``parameters`` ``(n, 7)``; ``ln_sersic`` and ``ln_free`` ``(n,)``, ln of the flux of
            the profile alone, and with the free modes; ``features`` ``(n, n_features)``.
        """
        parameters, features = guess.start, []
        for step in range(self.n_steps):
            is_last = step == self.n_steps - 1
            modes = self.modes(parameters, guess.ln_variance, guess.weight, free=is_last)
            model = modes[:, 0]
            residual = value - model
            variance = 1 + weight * (guess.misfit[step][:, None] * model) ** 2
            surprise = weight * residual**2 / variance
            kept = 1 / (1 + surprise.clamp(max=1e8) / guess.cut[step][:, None] ** 2)
            weighted = modes * (weight / variance * kept)[:, None]
            normal = weighted @ modes.transpose(1, 2)
            slope = (weighted @ residual[:, :, None])[:, :, 0]

            width = guess.width[step]
            scaled = normal[:, :N_SOLVED, :N_SOLVED] * width[:, :, None] * width[:, None]
            push = slope[:, :N_SOLVED] * width
            flux_only = nn.functional.one_hot(
                torch.zeros(len(value), dtype=torch.long, device=value.device), N_SOLVED
            )
            move, spread = _solve(scaled, push, flux_only)
            move = move.float()
            flux_variance = spread[:, 0].float() * width[:, 0] ** 2
            change = move * width
            features += [
                move.clamp(-10, 10),
                0.5 * flux_variance.clamp(min=1e-12).log()[:, None],
                1 - kept @ self.ring_mean,
            ]
            if is_last:
                ln_sersic = parameters[:, 0] + _ln_factor(change[:, 0])
                tension = torch.linalg.vecdot(move, push)
                ln_free, free_features = self._free(
                    parameters,
                    modes,
                    normal,
                    slope,
                    residual,
                    weight.sqrt() / variance.sqrt(),
                    guess,
                    change,
                    tension,
                )
                features += free_features
            parameters = self._moved(parameters, change)
        return {
            'parameters': parameters,
            'ln_sersic': ln_sersic,
            'ln_free': ln_free,
            'features': torch.cat(features, dim=1),
        }

    def _free(
        self, parameters, modes, normal, slope, residual, per_sigma, guess, change, sersic_tension
    ):
        """Solve once more, with the free modes; compare with the profile alone."""
        n, k = len(residual), self.n_gaussians
        width = torch.cat([guess.width[-1], guess.bend_width], dim=1)
        free = self.free_modes * guess.free_width[:, None]
        basis = torch.zeros(n, N_SOLVED + 2 + k, N_SOLVED + 2 + k, device=residual.device)
        basis[:, : N_SOLVED + 2, : N_SOLVED + 2] = torch.diag_embed(width)
        basis[:, N_SOLVED + 2 :, N_SOLVED + 2 :] = free
        push = (basis.transpose(1, 2) @ slope[:, :, None])[:, :, 0]
        # the change of ln(flux) with each of the solved numbers
        flux = torch.cat([width[:, :1], torch.zeros_like(width[:, 1:]), free.sum(dim=1)], dim=1)
        move, spread = _solve(basis.transpose(1, 2) @ normal @ basis, push, flux)
        move, flux_variance = move.float(), (spread * flux).sum(dim=1).float()
        free_change = (basis @ move[:, :, None])[:, :, 0]
        ln_flux = parameters[:, 0] + _ln_factor(
            free_change[:, 0] + free_change[:, N_SOLVED + 2 :].sum(dim=1)
        )
        features = []
        left = residual - (change[:, None] @ modes[:, :N_SOLVED])[:, 0]
        left_free = residual - (free_change[:, None] @ modes)[:, 0]
        for remaining in (left, left_free):
            pull = remaining * per_sigma
            chi2 = (pull**2).clamp(max=1e4) @ self.ring_mean
            features += [torch.asinh(pull @ self.ring_sum), (chi2 + 0.01).log()]
        gain = (torch.linalg.vecdot(move, push) - sersic_tension).abs()
        features += [
            move.clamp(-10, 10),
            0.5 * flux_variance.clamp(min=1e-12).log()[:, None],
            (gain + 0.1).log()[:, None],
        ]
        return ln_flux, features

    def _moved(self, parameters, change):
        ln_flux = parameters[:, :1] + _ln_factor(change[:, :1]).clamp(min=-1.2)
        step = change[:, 1:N_PARAMETERS]
        step = step.clamp(-self.largest_step, self.largest_step)
        moved = torch.cat([ln_flux, parameters[:, 1:] + step], dim=1)
        return moved.clamp(self.lowest, self.highest)

    def modes(self, parameters, ln_variance, psf_weight, *, free=False):
        """
        Return a model's image in tiles and its derivatives.

        Parameters
        ----------
        parameters : `torch.Tensor`
            ``(n, 7)``.
        ln_variance, psf_weight : `torch.Tensor`
            ``(n, 3)``, the Gaussians of the PSF.
        free : bool
            Whether to add the change of the two components of the ellipse for the inner half
            of the Gaussians only, and the image of each Gaussian with the galaxy's flux.

        Returns
        -------
        modes : `torch.Tensor`
            ``(n, 8 or 10 + n_gaussians, n_tiles)``. The first is the image, which is also its
            derivative with respect to ln(flux); the eighth is the sky.
        """
        galaxy = self._galaxy(parameters, psf_weight)
        psf_variance = ln_variance.exp()[:, None, :]
        parts = [
            self._modes_of_tiles(galaxy, psf_variance, side, bounds, free)
            for side, bounds in zip(BLOCKS, self._bounds, strict=True)
        ]
        return torch.cat(parts, dim=2)

    def _galaxy(self, parameters, psf_weight):
        """Return what does not depend on the tiles; Gaussians of galaxy and PSF last."""
        ln_flux, x, y, e1, e2, ln_radius, ln_index = parameters.unbind(dim=1)
        size = (e1 * e1 + e2 * e2 + 1e-8).sqrt()
        even, odd = size.cosh(), size.sinh() / size
        # exp(E) changes by these parts of a stretch along axes and diagonals, and of growth
        u1, u2 = e1 / size, e2 / size
        cross = u1 * u2 * (even - odd)
        turn = (
            (odd + u1 * u1 * (even - odd), cross, u1 * size * odd),
            (cross, odd + u2 * u2 * (even - odd), u2 * size * odd),
        )
        low, high = LN_INDEX_RANGE
        u = 2 * (ln_index - low) / (high - low) - 1
        amplitude, amplitude_slope = _chebyshev(self.amplitude, u)
        ln_width, ln_width_slope = _chebyshev(self.ln_width, u)
        per_ln_index = 2 / (high - low)
        flux = ln_flux.exp()[:, None, None]

        def each(value):
            return value[:, None, None]

        return {
            'x': each(x),
            'y': each(y),
            'turn': tuple(tuple(each(part) for part in parts) for parts in turn),
            'xx': each(even + odd * e1),
            'xy': each(odd * e2),
            'yy': each(even - odd * e1),
            'variance': (2 * (ln_width + ln_radius[:, None])).exp()[:, :, None],
            'flux': flux * amplitude[:, :, None] * psf_weight[:, None],
            'flux_slope': flux * per_ln_index * amplitude_slope[:, :, None] * psf_weight[:, None],
            'ln_width_slope': per_ln_index * ln_width_slope[:, :, None],
            'unit_flux': flux * psf_weight[:, None],
        }

    def _modes_of_tiles(self, galaxy, psf_variance, side, bounds, free):
        monomials = self.monomials[:, bounds]
        # A tile shows the mean over its pixels, which blurs like a Gaussian of this variance.
        blur = psf_variance + side**2 / 12
        s2 = galaxy['variance']
        xx, xy, yy = s2 * galaxy['xx'] + blur, s2 * galaxy['xy'], s2 * galaxy['yy'] + blur
        xy = xy.expand_as(xx)
        determinant = xx * yy - xy * xy
        # the inverse of the covariance
        a, b, c = yy / determinant, -xy / determinant, xx / determinant
        x, y = galaxy['x'], galaxy['y']
        exponent = torch.stack(
            [
                a,
                2 * b,
                c,
                -2 * (a * x + b * y),
                -2 * (b * x + c * y),
                a * x * x + 2 * b * x * y + c * y * y,
            ],
            dim=-1,
        ).flatten(1, 2)
        # Far out there is nothing; numbers too small for a float would be slow.
        gaussians = torch.exp(-0.5 * (exponent @ monomials).clamp(0, 70))
        norm = side / (2 * math.pi * determinant.sqrt())

        rows = self._rows(galaxy, norm, a, b, c)
        if free:
            rows += self._free_rows(galaxy, norm, a, b, c)
        coefficients = torch.stack([row.expand_as(a) for row in rows], dim=1).flatten(2)
        if free:
            own = torch.eye(self.n_gaussians, device=a.device)[None, :, :, None]
            own = own * (norm * galaxy['unit_flux'])[:, None]
            coefficients = torch.cat([coefficients, own.flatten(2)], dim=1)
        sums = coefficients @ gaussians

        dx, dy = monomials[3] - x[:, :, 0], monomials[4] - y[:, :, 0]
        dxx, dxy, dyy = dx * dx, dx * dy, dy * dy

        def quadratic(first):
            p, q, r, constant = sums[:, first : first + 4].unbind(dim=1)
            return dxx * p + dxy * q + dyy * r + constant

        modes = [
            sums[:, 0],
            dx * sums[:, 1] + dy * sums[:, 2],
            dx * sums[:, 2] + dy * sums[:, 3],
            quadratic(4),
            quadratic(8),
            quadratic(12),
            quadratic(16),
            self.side[bounds].expand(len(x), -1),
        ]
        if not free:
            return torch.stack(modes, dim=1)
        modes += [quadratic(20), quadratic(24)]
        return torch.cat([torch.stack(modes, dim=1), sums[:, 28:]], dim=1)

    @staticmethod
    def _stretch(a, b, c, turn):
        """Return the derivatives of ln(Gaussian) by a stretch along the axes, and the diagonals."""
        along = (a * a - b * b, 2 * (a * b - b * c), b * b - c * c, c - a)
        across = (2 * a * b, 2 * (a * c + b * b), 2 * b * c, -2 * b)
        grow = (a * a + b * b, 2 * (a * b + b * c), b * b + c * c, -(a + c))
        return tuple(
            tuple(p * x + q * y + r * z for x, y, z in zip(along, across, grow, strict=True))
            for p, q, r in turn
        )

    def _rows(self, galaxy, norm, a, b, c):
        """Return coefficients of the Gaussians: model, gradient, and quadratic derivatives."""
        flux, s2 = galaxy['flux'] * norm, galaxy['variance']
        xx, xy, yy = galaxy['xx'], galaxy['xy'], galaxy['yy']
        along, across = self._stretch(a, b, c, galaxy['turn'])
        grow = (
            xx * a * a + 2 * xy * a * b + yy * b * b,
            2 * (xx * a * b + xy * (a * c + b * b) + yy * b * c),
            xx * b * b + 2 * xy * b * c + yy * c * c,
            -(xx * a + 2 * xy * b + yy * c),
        )
        half = 0.5 * flux * s2
        widen = flux * s2 * galaxy['ln_width_slope']
        return [
            flux,
            flux * a,
            flux * b,
            flux * c,
            *(half * part for part in along),
            *(half * part for part in across),
            *(2 * half * part for part in grow),
            *(widen * part for part in grow[:3]),
            galaxy['flux_slope'] * norm + widen * grow[3],
        ]

    def _free_rows(self, galaxy, norm, a, b, c):
        k = self.n_gaussians
        inner = (torch.arange(k, device=a.device) < k // 2).to(a.dtype)[None, :, None]
        half = 0.5 * inner * galaxy['flux'] * norm * galaxy['variance']
        along, across = self._stretch(a, b, c, galaxy['turn'])
        return [*(half * part for part in along), *(half * part for part in across)]


def _ln_factor(relative_change):
    """Return ln(1 + change), held where the change takes all the flux away."""
    return torch.log1p(relative_change.clamp(SMALLEST_FACTOR - 1, 5.0))
