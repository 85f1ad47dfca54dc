# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
A Sersic profile seen through a PSF, in the tiles of stamps, with its derivatives.

Both are sums of Gaussians, so that the image and its derivatives are sums of exponentials,
each times a polynomial of the position.
"""

import math

import numpy as np
import torch
from torch import nn

from astroflux.networks.pyramid import BLOCKS, tiles
from astroflux.networks.sersic_mixture import LN_INDEX_RANGE, sersic_mixture

__all__ = ['PROFILE_PARAMETERS', 'SersicModel']

# Ln of the flux; the centre in pixels; the ellipse, whose axis ratio is exp(-|e|), by its
# components along the axes and the diagonals; ln of the half-light radius in pixels; ln of
# the Sersic index.
PROFILE_PARAMETERS = ('ln_flux', 'x', 'y', 'e1', 'e2', 'ln_radius', 'ln_index')


def _chebyshev(coefficients, u):
    """Return polynomials and their derivatives at ``u``, ``(n, k)`` each."""
    values, slopes = [torch.ones_like(u), u], [torch.zeros_like(u), torch.ones_like(u)]
    for _ in range(2, coefficients.shape[1]):
        slopes.append(2 * values[-1] + 2 * u * slopes[-1] - slopes[-2])
        values.append(2 * u * values[-1] - values[-2])
    values, slopes = torch.stack(values, dim=-1), torch.stack(slopes, dim=-1)
    return values @ coefficients.T, slopes @ coefficients.T


class SersicModel(nn.Module):
    """
    The image of a galaxy and its derivatives.

    Parameters
    ----------
    n_gaussians : int
        Of the mixture that stands for a profile.
    """

    def __init__(self, n_gaussians=8):
        super().__init__()
        self.n_gaussians = n_gaussians
        all_tiles = tiles()
        self._bounds = all_tiles.bounds
        x, y = all_tiles.x, all_tiles.y
        mixture = sersic_mixture(n_gaussians)
        for name, array in {
            'monomials': np.stack([x * x, x * y, y * y, x, y, np.ones_like(x)]),
            'side': all_tiles.side,
            'block_side': BLOCKS,
            'blur': np.square(BLOCKS) / 12,
            'inner': np.arange(n_gaussians) < n_gaussians // 2,
            'amplitude': mixture.amplitude,
            'ln_width': mixture.ln_width,
        }.items():
            tensor = torch.as_tensor(np.array(array), dtype=torch.float32)
            self.register_buffer(name, tensor, persistent=False)

    def forward(self, parameters, ln_variance, psf_weight, *, free=False):
        """
        Return a model's image in tiles and its derivatives.

        Parameters
        ----------
        parameters : `torch.Tensor`
            ``(n, 7)``.
        ln_variance, psf_weight : `torch.Tensor`
            ``(n, 4)`` each, the Gaussians of the PSF.
        free : bool
            Whether to add the change of the two components of the ellipse for the inner half
            of the Gaussians only, and the image of each Gaussian with the galaxy's flux.

        Returns
        -------
        modes : `torch.Tensor`
            ``(n, 8 or 10 + n_gaussians, n_tiles)``. The first is the image, which is also its
            derivative with respect to ln(flux); the eighth is the sky.
        """
        shape = self._shape(parameters)
        # A tile shows the mean over its pixels, which blurs like a Gaussian of this variance.
        blur = (ln_variance.exp()[:, None] + self.blur[:, None])[:, :, None]
        variance = shape['variance'][:, None, :, None]
        xx, xy, yy = (variance * part[:, None, None, None] for part in shape['matrix'])
        # (n, sides, Gaussians of galaxy and PSF)
        xx, yy = (xx + blur).flatten(2), (yy + blur).flatten(2)
        xy = (xy + 0 * blur).flatten(2)
        determinant = xx * yy - xy * xy
        inverse = torch.stack([yy, -xy, xx], dim=1) / determinant[:, None]
        norm = self.block_side[:, None] / (2 * math.pi * determinant.sqrt())

        coefficients = self._coefficients(shape, psf_weight, inverse, norm, free)
        exponents = self._exponents(parameters, inverse)
        modes = []
        for number, bounds in enumerate(self._bounds):
            # Far out there is nothing; numbers too small for a float would be slow.
            power = (exponents[:, number] @ self.monomials[:, bounds]).clamp(-35, 0)
            sums = coefficients[:, :, number] @ power.exp()
            modes.append(self._join(sums, parameters, bounds, free))
        return torch.cat([torch.cat(parts, dim=1) for parts in modes], dim=2)

    def _shape(self, parameters):
        """Return what depends on neither tiles nor PSF."""
        ln_flux, _, _, e1, e2, ln_radius, ln_index = parameters.unbind(dim=1)
        size = (e1 * e1 + e2 * e2 + 1e-8).sqrt()
        even, odd = size.cosh(), size.sinh() / size
        # exp(E) = even + odd E; its derivatives by e1 and e2, and itself, as that by ln(area)
        u1, u2 = e1 / size, e2 / size
        curve = even - odd
        same1, same2 = u1 * size * odd, u2 * size * odd
        along1, along2 = odd + u1 * u1 * curve, odd + u2 * u2 * curve
        cross = u1 * u2 * curve
        matrix = (even + odd * e1, odd * e2, even - odd * e1)
        change = torch.stack(
            [
                torch.stack([same1 + along1, cross, same1 - along1], dim=1),
                torch.stack([same2 + cross, along2, same2 - cross], dim=1),
                torch.stack(matrix, dim=1),
            ],
            dim=1,
        )
        low, high = LN_INDEX_RANGE
        per_ln_index = 2 / (high - low)
        u = per_ln_index * (ln_index - low) - 1
        amplitude, amplitude_slope = _chebyshev(self.amplitude, u)
        ln_width, ln_width_slope = _chebyshev(self.ln_width, u)
        flux = ln_flux.exp()[:, None]
        return {
            'matrix': matrix,
            'change': change,
            'variance': (2 * (ln_width + ln_radius[:, None])).exp(),
            'flux': flux,
            'part': flux * amplitude,
            'part_slope': flux * per_ln_index * amplitude_slope,
            'ln_width_slope': per_ln_index * ln_width_slope,
        }

    @staticmethod
    def _exponents(parameters, inverse):
        """Return the Gaussians' exponents as polynomials, ``(n, sides, gaussians, 6)``."""
        a, b, c = inverse.unbind(dim=1)
        x, y = (parameters[:, column, None, None] for column in (1, 2))
        ax, cy = a * x + b * y, b * x + c * y
        return torch.stack([-0.5 * a, -b, -0.5 * c, ax, cy, -0.5 * (ax * x + cy * y)], dim=-1)

    def _coefficients(self, shape, psf_weight, inverse, norm, free):
        """
        Return the coefficients of the Gaussians, ``(n, rows, sides, gaussians)``.

        Rows: the image; its gradient by -centre, of which two share the second; four each,
        of a quadratic function of the position, by the two components of the ellipse, ln(radius)
        and ln(index); and of the free modes.
        """
        n, k = len(norm), self.n_gaussians
        a, b, c = inverse.unbind(dim=1)

        def spread(value):
            """Return values of the galaxy's Gaussians, for all Gaussians of each side."""
            return (value[:, None, :, None] * psf_weight[:, None, None]).flatten(2) * norm

        light = spread(shape['part'])
        half = 0.5 * spread(shape['part'] * shape['variance'])
        widen = spread(shape['part'] * shape['variance'] * shape['ln_width_slope'])
        # The change of a Gaussian with its covariance: of the squares and the product of the
        # distances, and of its norm; for a change of xx, of xy, and of yy.
        aa, ab, bb, bc, cc = a * a, a * b, b * b, b * c, c * c
        both = a * c + bb
        response = [aa, 2 * ab, bb, -a, 2 * ab, 2 * both, 2 * bc, -2 * b, bb, 2 * bc, cc, -c]
        response = torch.stack(response, dim=1).unflatten(1, (3, 4)).flatten(2)
        stretch = (shape['change'] @ response).view(n, 3, 4, *norm.shape[1:])
        by_ellipse = stretch[:, :2] * half[:, None, None]
        by_radius = stretch[:, 2] * (2 * half)[:, None]
        by_index = stretch[:, 2] * widen[:, None]
        constant = by_index[:, 3:] + spread(shape['part_slope'])[:, None]
        rows = [
            light[:, None],
            light[:, None] * inverse,
            by_ellipse.flatten(1, 2),
            by_radius,
            by_index[:, :3],
            constant,
        ]
        if free:
            inner = self.inner.repeat_interleave(psf_weight.shape[1])
            unit = torch.eye(k, device=norm.device)
            own = spread(shape['flux'].expand(-1, k)).unflatten(2, (k, -1))
            own = (own[:, None] * unit[:, None, :, None]).flatten(3)
            rows += [(by_ellipse * inner).flatten(1, 2), own]
        return torch.cat(rows, dim=1)

    def _join(self, sums, parameters, bounds, free):
        """Return the modes, in groups, from the sums over Gaussians in tiles of one side."""
        x, y = self.monomials[3:5, bounds]
        dx, dy = x - parameters[:, 1, None], y - parameters[:, 2, None]
        dxx, dxy, dyy = (product[:, None] for product in (dx * dx, dx * dy, dy * dy))

        def quadratic(first, stop):
            p, q, r, constant = sums[:, first:stop].unflatten(1, (-1, 4)).unbind(dim=2)
            result = torch.addcmul(constant, dxx, p)
            return torch.addcmul(torch.addcmul(result, dxy, q), dyy, r)

        modes = [
            sums[:, :1],
            (dx * sums[:, 1] + dy * sums[:, 2])[:, None],
            (dx * sums[:, 2] + dy * sums[:, 3])[:, None],
            quadratic(4, 20),
            self.side[bounds].expand(len(sums), 1, -1),
        ]
        return [*modes, quadratic(20, 28), sums[:, 28:]] if free else modes
