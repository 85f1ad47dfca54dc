# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What the network is told of a point-spread function, and what it makes of it."""

import math

import torch
from torch import nn

from astroflux.networks.layers import silent
from astroflux.networks.psf_mixture import N_PSF_GAUSSIANS, N_PSF_NUMBERS, TYPICAL

__all__ = ['PSFGaussians']

TYPICAL_LN_FWHM = math.log(4.0)


class PSFGaussians(nn.Module):
    """
    The point-spread function as four Gaussians, from what is known of it.

    Where nothing is given, the network's own opinion stands.
    """

    n_features = N_PSF_NUMBERS + 2
    n_opinions = len(TYPICAL) + 1

    def __init__(self):
        super().__init__()
        self.correct = nn.Sequential(
            nn.Linear(self.n_features, 16), nn.SiLU(), silent(nn.Linear(16, len(TYPICAL)))
        )
        typical = torch.as_tensor(TYPICAL, dtype=torch.float32)
        self.register_buffer('typical', typical, persistent=False)

    def features(self, psf):
        """
        Return features of width and shape, and which of the two are known: ``(n, n_features)``.

        What is unknown of the numbers of the PSF, ``(n, 9)``, is 0.
        """
        ln_fwhm = psf[:, :1].log()
        shape = torch.cat([psf[:, 1:2].log() - 2 * ln_fwhm - 1.2, psf[:, 2:] - self.typical], dim=1)
        values = torch.cat([ln_fwhm - TYPICAL_LN_FWHM, shape], dim=1)
        known = torch.isfinite(values)
        values = torch.where(known, values, torch.zeros_like(values))
        return torch.cat([values, known[:, [0, -1]].to(values.dtype)], dim=1)

    @staticmethod
    def ln_fwhm(features, opinion):
        """Return ln of the width in pixels, given or guessed, ``(n, 1)``; as for `forward`."""
        return TYPICAL_LN_FWHM + features[:, :1] + (1 - features[:, -2:-1]) * opinion[:, :1]

    def forward(self, features, opinion):
        """
        Return the Gaussians.

        Parameters
        ----------
        features : `torch.Tensor`
            Of `features`.
        opinion : `torch.Tensor`
            ``(n, n_opinions)``, what the network would say of ln(FWHM) and shape.

        Returns
        -------
        ln_variance, weight : `torch.Tensor`
            ``(n, 4)`` each.
        """
        has_shape = features[:, -1:]
        ln_fwhm = self.ln_fwhm(features, opinion)
        shape = self.typical + features[:, 2:-2] + (1 - has_shape) * opinion[:, 1:]
        shape = shape + 0.3 * self.correct(features)
        ln_variance = shape[:, :N_PSF_GAUSSIANS].clamp(-5, 5) + 2 * ln_fwhm
        logits = torch.cat([torch.zeros_like(ln_fwhm), shape[:, N_PSF_GAUSSIANS:]], dim=1)
        return ln_variance, logits.softmax(dim=1)
