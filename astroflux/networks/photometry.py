# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Apertures and matched filters around the centre of a stamp.

Everything here is linear in the image or a ratio of such numbers, so that a
network on top can be exactly equivariant in flux.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import nn

from astroflux.networks.pyramid import tiles

__all__ = ['APERTURE_RADII', 'FILTER_SIGMAS', 'Photometry', 'compress']

APERTURE_RADII = (2.0, 3.0, 4.5, 6.0, 8.0, 11.0, 15.0, 20.0, 27.0, 37.0, 51.0, 71.0)
FILTER_SIGMAS = (1.5, 2.4, 3.9, 6.2, 10.0, 16.0)

N_APERTURES = len(APERTURE_RADII)

# Below this S/N the reference flux is held, so that its logarithm exists.
LOWEST_SNR = 0.5

# Points along the side of a tile, to tell how much of it an aperture holds.
SUBSAMPLES = {1: 10, 3: 12, 7: 21, 21: 42}


def compress(x):
    """Return asinh(x), from functions that torch vectorises; its own asinh is much slower."""
    size = x.abs()
    return torch.log(size + torch.sqrt(size * size + 1)).copysign(x)


@cache
def _tile_weights():
    """Return the area within each aperture and the sum of each filter, over each tile's pixels."""
    apertures, filters = [], []
    all_tiles = tiles()
    for x, y, side in zip(all_tiles.x, all_tiles.y, all_tiles.side.astype(int), strict=True):
        n = SUBSAMPLES[side]
        ticks = ((np.arange(n) + 0.5) / n - 0.5) * side
        squared = (x + ticks) ** 2 + (y + ticks)[:, None] ** 2
        apertures.append([side**2 * np.mean(squared < r**2) for r in APERTURE_RADII])
        pixels = np.arange(side) - side // 2
        squared = (x + pixels) ** 2 + (y + pixels)[:, None] ** 2
        filters.append([np.exp(-0.5 * squared / s**2).sum() for s in FILTER_SIGMAS])
    filters = np.array(filters)
    # Denormal numbers far out would slow every product tenfold.
    filters[filters < 1e-8] = 0
    return np.array(apertures), filters / filters.sum(axis=0)


@dataclass
class Brightness:
    """
    What apertures and filters say of one image.

    Attributes
    ----------
    flux, snr : `torch.Tensor`
        ``(n, n_apertures + n_filters)``.
    ring_snr : `torch.Tensor`
        ``(n, n_apertures)``, of the rings between apertures.
    """

    flux: torch.Tensor
    snr: torch.Tensor
    ring_snr: torch.Tensor


class Photometry(nn.Module):
    """Fluxes and signal-to-noise ratios from tiles (`~astroflux.networks.pyramid.Pyramid`)."""

    n_fluxes = N_APERTURES + len(FILTER_SIGMAS)

    def __init__(self):
        super().__init__()
        apertures, filters = _tile_weights()
        # values of tiles have unit noise: a tile's sum is its value times its side
        side = tiles().side[:, None]
        linear = np.concatenate([apertures, filters], axis=1) / side
        # Constants of this module, not weights: they are not saved.
        for name, array in {
            'linear': linear,
            'power': linear**2,
            'filter_power': linear[:, N_APERTURES:] ** 2,
            'area': apertures,
        }.items():
            tensor = torch.as_tensor(array, dtype=torch.float32)
            self.register_buffer(name, tensor, persistent=False)

    def coverage(self, weight):
        """
        Return which part of each aperture's area holds usable pixels, ``(n, n_apertures)``.

        The weights are those of tiles, ``(n, n_tiles)``.
        """
        return (weight > 0).to(weight.dtype) @ self.area / self.area.sum(dim=0)

    def forward(self, value, weight):
        """
        Measure tiles.

        Parameters
        ----------
        value : `torch.Tensor`
            ``(n, n_tiles)``, of unit noise where the weight is one.
        weight : `torch.Tensor`
            Same shape or of one row: inverse variance, 0 where nothing is known.

        Returns
        -------
        brightness : `Brightness`
        """
        known = (weight > 0).to(value.dtype)
        sums = value @ self.linear
        # At least the noise of a small part, so that no aperture divides by zero.
        least = 1e-3 * self.power.sum(dim=0)
        noise = (known / weight.clamp(min=1e-6) @ self.power).maximum(least).sqrt()
        used = (known @ self.filter_power).maximum(least[N_APERTURES:])
        flux = torch.cat([sums[:, :N_APERTURES], sums[:, N_APERTURES:] / used], dim=1)
        aperture_variance = noise[:, :N_APERTURES] ** 2
        ring_variance = _between(aperture_variance).clamp(min=1)
        ring_snr = _between(sums[:, :N_APERTURES]) / ring_variance.sqrt()
        return Brightness(flux, sums / noise, ring_snr)

    @staticmethod
    def reference(brightness):
        """
        Pick the Gaussian filter of the highest signal-to-noise ratio in a `Brightness`.

        Returns its flux, S/N and ln of its width, ``(n,)`` each; positive even where there is no
        source.
        """
        flux, snr = brightness.flux[:, N_APERTURES:], brightness.snr[:, N_APERTURES:]
        best = snr.argmax(dim=1, keepdim=True)
        best_flux, best_snr = flux.gather(1, best)[:, 0], snr.gather(1, best)[:, 0]
        noise = (best_flux / best_snr).nan_to_num(nan=1.0, posinf=1.0, neginf=1.0).abs()
        floor = LOWEST_SNR * noise.clamp(min=1e-3)
        reference = torch.where(best_snr > LOWEST_SNR, best_flux, floor)
        ln_widths = torch.tensor(FILTER_SIGMAS, device=flux.device).log()
        return reference, best_snr.clamp(min=LOWEST_SNR), ln_widths[best[:, 0]]


def _between(cumulative):
    """Return the differences along the apertures, the first one from zero."""
    return torch.diff(cumulative, dim=1, prepend=torch.zeros_like(cumulative[:, :1]))
