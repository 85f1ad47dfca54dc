# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What the network is trained on: flux and shape, and their errors."""

import torch
from torch.nn import functional

from astroflux.networks.outputs import QUANTILES, SHAPE
from astroflux.networks.profile_net import achievable_scatter

__all__ = ['error_loss', 'flux_loss', 'shape_loss']

# Weights in the loss of the flux that the fit starts from, and of those that it gives.
INTERMEDIATE = {'ln_start': 0.1, 'ln_sersic': 0.3, 'ln_free': 0.3}
# The start need not be better than that.
START_FLOOR = 0.02

# Share of a normal distribution within one standard deviation.
ONE_SIGMA = 0.6827


def _huber(error):
    return functional.huber_loss(error, torch.zeros_like(error), reduction='none')


def _mean(loss, known):
    """Return the mean over all, of which those that are not known cost nothing."""
    return torch.where(known, loss, torch.zeros_like(loss)).mean()


def flux_loss(answer, truth, *, floor):
    """
    Return the loss of the flux.

    The error of ln flux is divided by what is achievable at the galaxy's S/N,
    so that every S/N weighs alike, and enters a Huber loss; the fluxes of the
    fit on the way to it join with smaller weights.

    Parameters
    ----------
    answer : dict of `torch.Tensor`
        What `~astroflux.networks.profile_net.ProfileNet` returns.
    truth : dict of `torch.Tensor`
        ``ln_flux``, ``effective_snr``, and ``floor``: the scatter of ln flux
        that no method gets below, of a blend for instance.
    floor : float
        What is added to the latter.

    Returns
    -------
    loss, flux_part : `torch.Tensor`
        The whole, and the flux's part of it.
    """
    scale = achievable_scatter(truth['effective_snr'], truth['floor'] + floor)
    flux_part = _huber((answer['ln_flux'] - truth['ln_flux']) / scale).mean()
    loss = flux_part
    for name, weight in INTERMEDIATE.items():
        if name in answer:
            coarser = scale + START_FLOOR if name == 'ln_start' else scale
            loss = loss + weight * _huber((answer[name] - truth['ln_flux']) / coarser).mean()
    return loss, flux_part


def _shape(answer, truth):
    """Yield each output of the shape that the network has, its truth and the scale of its error."""
    scatter = achievable_scatter(truth['effective_snr'])
    for output in SHAPE:
        if output.name in answer:
            yield output, truth[output.name], output.floor + output.gain * scatter


def shape_loss(answer, truth):
    """
    Return the loss of the shape.

    As for `flux_loss`; NaN in the truth is what has no meaning.
    """
    loss = 0.0
    for output, true, scale in _shape(answer, truth):
        error = (answer[output.name] - true.nan_to_num()) / scale
        loss = loss + _mean(_huber(error), torch.isfinite(true))
    return loss


def _pinball(error, quantile):
    return torch.maximum(quantile * error, (quantile - 1) * error)


def error_loss(answer, truth):
    """
    Return the loss of the predictive distribution, which does not pull at the answer.

    It is the pinball loss of the quantiles (Koenker & Bassett 1978,
    Econometrica 46, 33), divided by what is achievable at the galaxy's S/N;
    for the shape that of the absolute error. Answer and truth are as for `flux_loss`, and the
    truth has the shape.
    """
    scatter = achievable_scatter(truth['effective_snr'])
    offset = truth['ln_flux'] - answer['ln_flux'].detach()
    loss = 0.0
    for column, quantile in enumerate(QUANTILES):
        error = (offset - answer['quantiles'][:, column]) / scatter
        loss = loss + _pinball(error, quantile).mean()
    for output, true, scale in _shape(answer, truth):
        error = (true.nan_to_num() - answer[output.name].detach()).abs()
        error = (error - answer[output.error]) / scale
        loss = loss + _mean(_pinball(error, ONE_SIGMA), torch.isfinite(true))
    return loss
