# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Train a network on a user's own stamps."""

import copy

import numpy as np
import torch

from astroflux.networks.objective import error_loss, flux_loss
from astroflux.networks.profile_net import ProfileNet

__all__ = ['new_network', 'refine']

WEIGHT_DECAY = 1e-2
GRADIENT_NORM = 1.0

# Errors of ln(flux) below this are not worth a step: true fluxes of a user's own are
# rarely better known.
FLOOR = 0.002

# As many as the shipped networks know.
N_NEIGHBORS = 4

# What is familiar is not learned from fewer stamps; nothing is strange then.
FEWEST_FAMILIAR = 500


def new_network(seed):
    """Return an untrained `~astroflux.networks.ProfileNet`, its weights drawn by a seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return ProfileNet(n_neighbors=N_NEIGHBORS)


def refine(
    network,
    image,
    weight,
    psf,
    ln_flux,
    *,
    epochs,
    batch_size,
    learning_rate,
    seed,
    device='cpu',
):
    """
    Train a copy of a network on stamps in memory.

    The statistics that standardise the features stay as they are if the
    network has been trained before. The learning rate rises over the first
    tenth of the steps and falls along a cosine.

    Parameters
    ----------
    network : `torch.nn.Module`
        Where to start; it is not changed.
    image, weight : `~numpy.ndarray`
        ``(n, 147, 147)`` float32, as the network takes them; ``weight`` may be
        ``(1, 147, 147)``.
    psf : `~numpy.ndarray`
        ``(n, 9)``, as the network takes it.
    ln_flux : `~numpy.ndarray`
        ``(n,)``, in units of the noise.
    epochs : int
        Passes over the stamps.
    batch_size : int
        Stamps per step.
    learning_rate : float
        Its highest value.
    seed : int
        Seed of the order.
    device : str
        Where to compute.

    Returns
    -------
    network : `torch.nn.Module`
        In evaluation mode.
    """
    network = copy.deepcopy(network).to(device)
    norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm1d)]
    trained_before = int(norms[0].num_batches_tracked) > 0
    network.train()
    if trained_before:
        for norm in norms:
            norm.eval()
    rng = np.random.default_rng(seed)
    image = torch.from_numpy(image)
    weight = torch.from_numpy(weight).expand(len(image), -1, -1)
    psf = torch.as_tensor(psf, dtype=torch.float32)
    ln_flux = torch.as_tensor(ln_flux, dtype=torch.float32)

    steps_per_epoch = -(-len(image) // batch_size)
    optimiser = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, learning_rate, total_steps=epochs * steps_per_epoch, pct_start=0.1
    )
    for _ in range(epochs):
        for rows in np.array_split(rng.permutation(len(image)), steps_per_epoch):
            answer = network(*(part[rows].to(device) for part in (image, weight, psf)))
            # The true S/N and shape are not known here; the matched filter's S/N is close.
            true = ln_flux[rows].to(device)
            truth = {
                'ln_flux': true,
                'effective_snr': answer['detection_snr'].detach(),
                'floor': 0.0,
                **{o.name: torch.full_like(true, torch.nan) for o in network.outputs},
            }
            loss, _ = flux_loss(answer, truth, floor=FLOOR)
            loss = loss + error_loss(answer, truth)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), GRADIENT_NORM)
            optimiser.step()
            schedule.step()
    network.eval()
    if network.fit:
        _learn_what_is_familiar(network, image, weight, psf, batch_size, trained_before)
    return network


@torch.inference_mode()
def _learn_what_is_familiar(network, image, weight, psf, batch_size, trained_before):
    device = next(network.parameters()).device
    judged, snr = [], []
    for rows in torch.arange(len(image)).split(batch_size):
        answer = network(*(part[rows].to(device) for part in (image, weight, psf)))
        judged.append(answer['judged'])
        snr.append(answer['detection_snr'])
    judged, snr = torch.cat(judged), torch.cat(snr)
    if trained_before:
        network.familiarity.extend(judged, snr)
    elif len(judged) >= FEWEST_FAMILIAR:
        network.familiarity.fit(judged, snr)
