# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What the network is trained on: flux, its interval, and the radius."""

import torch
from torch.nn import functional

from astroflux.networks.foveated import SCATTER_FLOOR, achievable_scatter

__all__ = ['flux_loss', 'interval_loss']

# The percentiles that the interval's ends stand for.
LOWER, UPPER = 0.1587, 0.8413


def _pinball(error, quantile):
    return torch.maximum(quantile * error, (quantile - 1) * error).mean()


def interval_loss(answer, ln_flux, snr):
    """
    Return the loss of the 68 % interval, which does not pull at the flux.

    It is the pinball loss of the two percentiles (Koenker & Bassett 1978,
    Econometrica 46, 33), divided by what is achievable at the galaxy's S/N.

    Parameters
    ----------
    answer : dict of `torch.Tensor`
        What `~astroflux.networks.foveated.FoveatedNet` returns.
    ln_flux, snr : `torch.Tensor`
        True ln flux in units of the noise, and the signal-to-noise ratio.

    Returns
    -------
    loss : `torch.Tensor`
    """
    scale = achievable_scatter(snr)
    # The truth as seen from the answer, against the ends of the interval.
    offset = (ln_flux - answer['ln_flux'].detach()) / scale
    return _pinball(offset + answer['below'] / scale, LOWER) + _pinball(
        offset - answer['above'] / scale, UPPER
    )


def flux_loss(answer, ln_flux, snr, *, floor=SCATTER_FLOOR, ln_radius=None, radius_weight=0.0):
    """
    Return the loss of a batch.

    The error of ln flux is divided by what is achievable at the galaxy's S/N,
    so that every S/N weighs alike, and enters a Huber loss. `interval_loss`
    is added.

    Parameters
    ----------
    answer : dict of `torch.Tensor`
        What `~astroflux.networks.foveated.FoveatedNet` returns.
    ln_flux, snr : `torch.Tensor`
        True ln flux in units of the noise, and the signal-to-noise ratio.
    floor : float or `torch.Tensor`
        Scatter that remains at any S/N, for
        `~astroflux.networks.foveated.achievable_scatter`: larger where a
        neighbour or a small stamp makes an exact answer impossible, so that
        such cases do not drown the others.
    ln_radius : `torch.Tensor`, optional
        True ln half-light radius in pixels.
    radius_weight : float
        Weight of the half-light radius.

    Returns
    -------
    loss, flux_part : `torch.Tensor`
        The whole, and the flux's part of it.
    """
    scale = achievable_scatter(snr, floor)
    error = (answer['ln_flux'] - ln_flux) / scale
    flux_part = functional.huber_loss(error, torch.zeros_like(error))
    loss = flux_part + interval_loss(answer, ln_flux, snr)
    if ln_radius is not None:
        radius_error = (answer['ln_radius'] - ln_radius) / (scale + 0.02)
        loss = loss + radius_weight * functional.huber_loss(
            radius_error, torch.zeros_like(radius_error)
        )
    return loss, flux_part
