# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The network: a foveated stamp in, ln flux with its 68 % interval out."""

import math

import torch
from torch import nn
from torch.nn import functional

from astroflux.networks.foveation import Foveation

__all__ = ['FoveatedNet', 'achievable_scatter']

# No mixture of apertures is taken to be below this fraction of the reference.
MINIMUM_MIX = 0.05

# The scatter of ln flux that remains for the brightest galaxies.
SCATTER_FLOOR = 0.004


def achievable_scatter(snr, floor=SCATTER_FLOOR):
    """
    Return roughly the scatter of ln flux that is achievable at a given S/N.

    The information limit of a galaxy of unknown shape is about 1.5 / (S/N);
    a floor keeps the brightest galaxies from ruling the training.

    Parameters
    ----------
    snr : `torch.Tensor`
        Signal-to-noise ratio.
    floor : float or `torch.Tensor`
        What remains at any S/N.

    Returns
    -------
    scatter : `torch.Tensor`
    """
    return ((1.5 / snr) ** 2 + floor**2).sqrt()


class _ResidualBlock(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        return functional.relu(x + self.second(functional.relu(self.first(x))))


def _stack(n_channels, n_out):
    """Halve the resolution four times, then keep ``n_out`` maps of 4 x 4."""
    n_in, *n_later = n_channels
    # No block at the first resolution, where it would cost as much as all others.
    layers = [nn.Conv2d(3, n_in, 3, stride=2, padding=1), nn.ReLU()]
    for n in n_later:
        layers += [nn.Conv2d(n_in, n, 3, stride=2, padding=1), nn.ReLU(), _ResidualBlock(n)]
        n_in = n
    return nn.Sequential(*layers, nn.Conv2d(n_in, n_out, 1), nn.ReLU(), nn.Flatten())


class FoveatedNet(nn.Module):
    """
    Total flux of the central galaxy of a stamp.

    The ln flux is that of a softmax mix of aperture and filter fluxes plus a
    learned residual, all relative to the best matched filter: exactly
    equivariant in flux, and a small correction where the galaxy is bright.

    Parameters
    ----------
    channels : sequence of int
        Channels of the four stages of each convolutional stack.
    maps : int
        Channels kept from each stack, as 4 x 4 maps.
    width : int
        Units of the dense layers.

    Attributes
    ----------
    settings : dict
        The parameters, to build the network again.
    """

    def __init__(self, channels=(16, 24, 48, 64), maps=32, width=256):
        super().__init__()
        self.settings = {'channels': list(channels), 'maps': maps, 'width': width}
        self.foveation = Foveation()
        self.fine = _stack(channels, maps)
        self.coarse = _stack(channels, maps)
        self.standardise = nn.BatchNorm1d(Foveation.n_features, affine=False, momentum=0.01)
        self.first = nn.Linear(Foveation.n_features + 2 * 16 * maps, width)
        self.second = nn.Linear(width, width)
        self.third = nn.Linear(width, width)
        self.mix = nn.Linear(width, Foveation.n_candidates)
        self.residual = nn.Linear(width, 1)
        self.radius = nn.Linear(width, 1)
        self.interval = nn.Sequential(nn.Linear(width, 64), nn.SiLU(), nn.Linear(64, 2))
        for layer in (self.residual, self.radius, self.mix):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, image, valid, psf):
        """
        Measure a batch of stamps.

        Parameters
        ----------
        image : `torch.Tensor`
            ``(n, 147, 147)`` float32 in units of the noise, centred on the galaxy.
        valid : `torch.Tensor`
            Same shape or ``(1, 147, 147)``, 1 where a pixel exists and can be
            used, else 0; there ``image`` must be 0, too.
        psf : `torch.Tensor`
            ``(n, 2)``: full width at half maximum in pixels, and
            noise-equivalent area ``sum(psf)**2 / sum(psf**2)`` in square
            pixels; NaN where unknown.

        Returns
        -------
        answer : dict of `torch.Tensor`
            All of shape ``(n,)``: ``ln_flux`` (of the flux in units of the
            noise); ``below`` and ``above``, the distances in ln flux to the
            16th and 84th percentiles; ``ln_radius`` of the half-light radius
            in pixels; ``detection_snr`` of the best matched filter.
        """
        view = self.foveation(image, valid, psf)
        maps = [self.fine(_dense_last(view['fine'])), self.coarse(_dense_last(view['coarse']))]
        hidden = torch.cat([self.standardise(view['features']), *maps], dim=1)
        hidden = functional.silu(self.first(hidden))
        hidden = hidden + functional.silu(self.second(hidden))
        hidden = hidden + functional.silu(self.third(hidden))

        mix = (self.mix(hidden).softmax(dim=1) * view['candidates']).sum(dim=1)
        residual = self.residual(hidden)[:, 0]
        ln_flux = view['ln_reference'] + mix.clamp(min=MINIMUM_MIX).log() + residual
        # The interval learns from the answer but must not pull at it.
        distances = functional.softplus(self.interval(hidden.detach()))
        distances = distances * achievable_scatter(view['reference_snr'])[:, None]
        return {
            'ln_flux': ln_flux,
            'below': distances[:, 0],
            'above': distances[:, 1],
            'ln_radius': view['ln_width'] + self.radius(hidden)[:, 0],
            'detection_snr': view['reference_snr'],
        }

    @property
    def n_parameters(self):
        """Number of trained parameters."""
        return sum(math.prod(p.shape) for p in self.parameters())


def _dense_last(pictures):
    """Put the channels last in memory, which convolutions on a CPU prefer."""
    return pictures.contiguous(memory_format=torch.channels_last)
