# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Train a network on a user's own stamps."""

import copy
import math

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
    n_validation=0,
    device='cpu',
    tell=lambda n_stamps, history: None,
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
        Seed of the order, and of what is kept for the validation.
    n_validation : int
        How many stamps are not trained on. With some, the weights are those of the epoch after
        which their loss was least; without any, those of the last epoch.
    device : str
        Where to compute.
    tell : callable
        Is called after each step with how many stamps it had and the history so far, and after
        each epoch with 0 and the longer history.

    Returns
    -------
    network : `torch.nn.Module`
        In evaluation mode.
    history : list of dict
        Of each epoch its number ``epoch``, ``learning_rate`` at its end, ``loss``, the mean over
        the stamps while the weights change, ``validation_loss`` after it, NaN without any, and
        whether its weights are ``kept``.

    Raises
    ------
    ValueError
        If a loss is not finite.
    """
    network = copy.deepcopy(network).to(device)
    stamps = _Stamps(image, weight, psf, ln_flux, device)
    norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm1d)]
    trained_before = int(norms[0].num_batches_tracked) > 0
    rng = np.random.default_rng(seed)
    rows, held_out = np.arange(len(image)), np.arange(0)
    if n_validation:
        held_out, rows = np.split(rng.permutation(rows), [n_validation])

    steps_per_epoch = -(-len(rows) // batch_size)
    optimiser = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, learning_rate, total_steps=epochs * steps_per_epoch, pct_start=0.1
    )
    history = []
    judged_by = ['loss', 'validation_loss'] if n_validation else ['loss']
    for epoch in range(1, epochs + 1):
        _set_to_train(network, frozen=norms if trained_before else ())
        total = 0.0
        for chosen in np.array_split(rng.permutation(rows), steps_per_epoch):
            total += len(chosen) * _one_step(network, stamps, chosen, optimiser)
            schedule.step()
            tell(len(chosen), history)
        row = {
            'epoch': epoch,
            'learning_rate': schedule.get_last_lr()[0],
            'loss': total / len(rows),
            'validation_loss': _validate(network.eval(), stamps, held_out, batch_size),
            'kept': False,
        }
        _check_losses(row, judged_by, learning_rate)
        history.append(row)
        tell(0, history)
        if row['validation_loss'] <= min(other['validation_loss'] for other in history):
            kept, weights = row, copy.deepcopy(network.state_dict())
    if n_validation:
        network.load_state_dict(weights)
    else:
        kept = row
    kept['kept'] = True
    if network.fit:
        _learn_what_is_familiar(network, stamps, len(image), batch_size, trained_before)
    return network, history


def _set_to_train(network, frozen):
    """Set a network to training, but for parts of it whose statistics stay."""
    network.train()
    for part in frozen:
        part.eval()


def _check_losses(row, names, learning_rate):
    """Raise `ValueError` if a loss of an epoch is not finite."""
    if not all(math.isfinite(row[name]) for name in names):
        losses = ', '.join(f'{name} {row[name]}' for name in names)
        msg = (
            f'the training failed in epoch {row["epoch"]}: {losses}; a learning rate below '
            f'{learning_rate:g} may help'
        )
        raise ValueError(msg)


def _one_step(network, stamps, rows, optimiser):
    """Change the weights by what some stamps say; return the loss."""
    loss = stamps.loss(network, rows)
    optimiser.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), GRADIENT_NORM)
    optimiser.step()
    return float(loss.detach())


class _Stamps:
    """Stamps and their true fluxes as tensors; some of them at a time go to the device."""

    def __init__(self, image, weight, psf, ln_flux, device):
        image = torch.from_numpy(image)
        weight = torch.from_numpy(weight).expand(len(image), -1, -1)
        self.seen = image, weight, torch.as_tensor(psf, dtype=torch.float32)
        self.ln_flux = torch.as_tensor(ln_flux, dtype=torch.float32)
        self.device = device

    def answer(self, network, rows):
        """Return what a network says of some of them."""
        return network(*(part[rows].to(self.device) for part in self.seen))

    def loss(self, network, rows):
        """Return the mean loss over some of them."""
        answer = self.answer(network, rows)
        # The true S/N and shape are not known here; the matched filter's S/N is close.
        true = self.ln_flux[rows].to(self.device)
        truth = {
            'ln_flux': true,
            'effective_snr': answer['detection_snr'].detach(),
            'floor': 0.0,
            **{o.name: torch.full_like(true, torch.nan) for o in network.outputs},
        }
        loss, _ = flux_loss(answer, truth, floor=FLOOR)
        return loss + error_loss(answer, truth)


@torch.inference_mode()
def _validate(network, stamps, rows, batch_size):
    """Return the mean loss over stamps that are not trained on, NaN without any."""
    if not len(rows):
        return math.nan
    parts = np.array_split(rows, -(-len(rows) // batch_size))
    return sum(len(part) * float(stamps.loss(network, part)) for part in parts) / len(rows)


@torch.inference_mode()
def _learn_what_is_familiar(network, stamps, n_stamps, batch_size, trained_before):
    judged, snr = [], []
    for rows in torch.arange(n_stamps).split(batch_size):
        answer = stamps.answer(network, rows)
        judged.append(answer['judged'])
        snr.append(answer['detection_snr'])
    judged, snr = torch.cat(judged), torch.cat(snr)
    if trained_before:
        network.familiarity.extend(judged, snr)
    elif len(judged) >= FEWEST_FAMILIAR:
        network.familiarity.fit(judged, snr)
