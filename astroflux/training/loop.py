# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The training loop: steps, averages of the weights, checkpoints, resume."""

import csv
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from astropy.table import Table
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset

from astroflux._progress import progress_bar
from astroflux._work import write_whole
from astroflux.evaluation.metrics import SNR_BINS, summarize_by
from astroflux.networks.objective import error_loss, flux_loss, shape_loss
from astroflux.networks.orientation import Orientation
from astroflux.networks.profile_net import QUANTILES, ProfileNet
from astroflux.training.library import Library
from astroflux.training.observe import ObservationSettings, draw_indices, observe

__all__ = ['OptimiserSettings', 'Stamps', 'Trainer']

LOWER, MEDIAN, UPPER = (QUANTILES.index(q) for q in (0.1587, 0.5, 0.8413))


@dataclass(frozen=True)
class OptimiserSettings:
    """
    How the network is trained.

    Attributes
    ----------
    seed : int
        Seed of the initial weights and of all observations.
    cycles : sequence of (int, float)
        Steps and highest learning rate of each cycle. In each, the rate rises
        over the first ``warmup`` steps and falls linearly to a hundredth over
        the last ``decay_fraction`` of them.
    batch_size : int
        Stamps per step.
    warmup : int
        Steps of rising.
    decay_fraction : float
        Share of falling.
    standardise_steps : int
        Steps after which the means and widths that standardise the features
        stay as they are. Those of a single batch are too noisy: a correction
        of a percent cannot be learned from features that jitter by ten.
    weight_decay : float
        Of AdamW.
    gradient_norm : float
        Gradients are clipped to this norm.
    average_decay : float
        Decay per step of the exponential moving average of the weights, which
        is what is kept in the end.
    floor : float
        Scatter of ln flux that the loss takes for perfect.
    shape_weight : float
        Weight of the shape in the loss.
    modules : sequence of str
        Which modules of the network are trained, the others stay as they are; empty: all.
    calibration_steps : int
        Steps at the end in which the averaged network's errors alone are
        trained: during the training they have learned those of the network
        that was not averaged, which are larger.
    calibration_rate : float
        Learning rate of those, falling to zero.
    """

    seed: int = 1
    cycles: tuple[tuple[int, float], ...] = ((12500, 2e-3),)
    batch_size: int = 128
    warmup: int = 500
    decay_fraction: float = 0.35
    standardise_steps: int = 1000
    weight_decay: float = 1e-2
    gradient_norm: float = 1.0
    average_decay: float = 0.999
    floor: float = 0.0005
    shape_weight: float = 0.05
    modules: tuple[str, ...] = ()
    calibration_steps: int = 500
    calibration_rate: float = 1e-3

    @property
    def steps(self):
        """Number of steps of all cycles."""
        return sum(steps for steps, _ in self.cycles)

    def rate_at(self, step):
        """Return the learning rate of a step."""
        for steps, highest in self.cycles:
            if step < steps:
                rise = min(1.0, (step + 1) / self.warmup)
                fall = max(0.01, min(1.0, (steps - step) / (self.decay_fraction * steps)))
                return highest * min(rise, fall)
            step -= steps
        return 0.0


@dataclass
class Stamps:
    """
    Galaxies, and how they are observed.

    Attributes
    ----------
    library : `~astroflux.training.library.Library`
        Noiseless stamps.
    settings : `~astroflux.training.observe.ObservationSettings`
        How to observe them.
    orient : callable
        How to turn them, as for `~astroflux.training.observe.observe`.
    """

    library: Library
    settings: ObservationSettings
    orient: Callable = Orientation.of

    def draw(self, n, rng):
        """Return which galaxies to observe, as `~astroflux.training.observe.draw_indices`."""
        return draw_indices(self.library, n, self.settings, rng)

    def observe(self, indices, rng):
        """Return an observation of some of them as tensors."""
        seen = observe(self.library, indices, self.settings, rng, orient=self.orient)
        return {name: torch.from_numpy(value) for name, value in seen.arrays().items()}


@dataclass
class _Batches(Dataset):
    """The batch of each of a range of steps."""

    stamps: Stamps
    settings: OptimiserSettings
    steps: range

    def __len__(self):
        return len(self.steps)

    def __getitem__(self, number):
        rng = np.random.default_rng([self.settings.seed, self.steps[number]])
        return self.stamps.observe(self.stamps.draw(self.settings.batch_size, rng), rng)


def _answer(network, batch):
    return network(batch['image'], batch['weight'], batch['psf'], batch['binning'])


class Trainer:
    """
    Train a `~astroflux.networks.profile_net.ProfileNet` on a stamp library.

    Parameters
    ----------
    directory : path-like
        Folder for checkpoints and the log.
    training, validation, calibration : `Stamps`
        What to train on, to follow the training with, and to learn the errors from.
    network_settings : dict
        Keyword arguments of the network.
    optimiser_settings : `OptimiserSettings`
        How to train.
    start : dict of `torch.Tensor`, optional
        Weights to start from, in place of random ones; they need not be all.
    device : str
        Where to run.
    architecture : type
        The network, or one like it.
    n_observers : int
        Processes that observe ahead of the training; 0 to observe in between.
    """

    def __init__(
        self,
        directory,
        training,
        validation,
        calibration,
        *,
        network_settings,
        optimiser_settings,
        start=None,
        device='cpu',
        architecture=ProfileNet,
        n_observers=0,
    ):
        self.n_observers = n_observers
        self.directory = Path(directory)
        self.training, self.validation, self.calibration = training, validation, calibration
        self.settings = optimiser_settings
        self.device = device
        with torch.random.fork_rng():
            torch.manual_seed(optimiser_settings.seed)
            network = architecture(**network_settings)
        if start is not None:
            network.load_state_dict(start, strict=False)
        if optimiser_settings.modules:
            for name, part in network.named_children():
                part.requires_grad_(name in optimiser_settings.modules)
        self.network = network.to(device, memory_format=torch.channels_last)
        self.average = AveragedModel(
            self.network,
            multi_avg_fn=get_ema_multi_avg_fn(optimiser_settings.average_decay),
            use_buffers=True,
        )
        self.optimiser = torch.optim.AdamW(
            [p for p in self.network.parameters() if p.requires_grad],
            lr=optimiser_settings.rate_at(0),
            weight_decay=optimiser_settings.weight_decay,
        )
        self.step = 0

    @property
    def checkpoint_path(self):
        """Where the state of the training is kept."""
        return self.directory / 'checkpoint.pt'

    def _on_device(self, batch):
        return {name: value.to(self.device) for name, value in batch.items()}

    def save_checkpoint(self):
        """Write the state; a crash while writing leaves the old one."""
        state = {
            'step': self.step,
            'network': self.network.state_dict(),
            'average': self.average.state_dict(),
            'optimiser': self.optimiser.state_dict(),
        }
        self.directory.mkdir(parents=True, exist_ok=True)
        with write_whole(self.checkpoint_path) as part:
            torch.save(state, part)

    def resume(self):
        """Go on from this folder's checkpoint."""
        # weights_only: tensors and plain numbers, no code.
        state = torch.load(self.checkpoint_path, weights_only=True, map_location=self.device)
        self.step = state['step']
        self.network.load_state_dict(state['network'])
        self.average.load_state_dict(state['average'])
        self.optimiser.load_state_dict(state['optimiser'])
        self._cut_log()

    def _cut_log(self):
        """Drop what was logged after the checkpoint: it will come again."""
        path = self.directory / 'log.csv'
        if path.exists():
            header, *rows = path.read_text().splitlines(keepends=True)
            kept = [row for row in rows if int(row.split(',')[0]) <= self.step]
            with write_whole(path) as part:
                part.write_text(''.join([header, *kept]))

    def batches(self, stamps, steps):
        """Return the observations of a range of steps, which a process of its own makes ahead."""
        batches = _Batches(stamps, self.settings, steps)
        # With a batch of its own for each step, a resumed run sees what it would have seen.
        return DataLoader(
            batches,
            batch_size=None,
            num_workers=self.n_observers,
            multiprocessing_context='fork' if self.n_observers else None,
        )

    def one_step(self, batch):
        """Take one step with a batch; return the flux's part of the loss."""
        settings = self.settings
        batch = self._on_device(batch)
        for group in self.optimiser.param_groups:
            group['lr'] = settings.rate_at(self.step)
        for module in self.network.modules():
            if isinstance(module, torch.nn.BatchNorm1d):
                module.train(self.step < settings.standardise_steps)
        answer = _answer(self.network, batch)
        loss, flux_part = flux_loss(answer, batch, floor=settings.floor)
        loss = loss + settings.shape_weight * shape_loss(answer, batch) + error_loss(answer, batch)
        self.optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), settings.gradient_norm)
        self.optimiser.step()
        self.average.update_parameters(self.network)
        self.step += 1
        return float(flux_part.detach())

    def calibrate(self, *, progress=None):
        """
        Train the errors of the averaged network, and nothing else, on galaxies of their own.

        On those of the training it is better than on any others. On the way it learns which cases
        are familiar.
        """
        settings = self.settings
        network = self.average.module.eval()
        optimiser = torch.optim.AdamW(network.distribution.parameters(), settings.calibration_rate)
        steps = range(settings.steps, settings.steps + settings.calibration_steps)
        features, snr = [], []
        batches = progress_bar(
            self.batches(self.calibration, steps),
            progress=progress,
            desc='calibrate',
            total=len(steps),
            unit=' steps',
        )
        for step, batch in zip(steps, batches, strict=True):
            for group in optimiser.param_groups:
                group['lr'] = settings.calibration_rate * (1 - (step - steps[0]) / len(steps))
            batch = self._on_device(batch)
            answer = _answer(network, batch)
            optimiser.zero_grad()
            error_loss(answer, batch).backward()
            optimiser.step()
            if network.fit:
                features.append(answer['judged'])
                snr.append(answer['detection_snr'])
        if features:
            network.familiarity.fit(torch.cat(features), torch.cat(snr))

    @torch.inference_mode()
    def validate(self):
        """
        Measure the validation stamps with the averaged weights.

        Returns a row for each bin of S/N, as `~astroflux.evaluation.summarize_by` does.
        """
        network = self.average.module.eval()
        parts = []
        drawn = self.validation.draw(
            2 * len(self.validation.library), np.random.default_rng(self.settings.seed)
        )
        for start in range(0, len(drawn), 256):
            rng = np.random.default_rng([self.settings.seed, 0, start])
            batch = self._on_device(self.validation.observe(drawn[start : start + 256], rng))
            answer = _answer(network, batch)
            offset = batch['ln_flux'] - answer['ln_flux']
            lower, median, upper = (answer['quantiles'][:, i] for i in (LOWER, MEDIAN, UPPER))
            error = median - offset
            covered = (lower < offset) & (offset < upper)
            parts.append(torch.stack([batch['snr'], error, covered.float()]).cpu().numpy())
        snr, error, covered = np.concatenate(parts, axis=1)
        errors = Table({'ln_error': error, 'covered_68': covered.astype(bool)})
        return summarize_by(snr, SNR_BINS, errors)

    def _log(self, step, loss, seconds):
        path = self.directory / 'log.csv'
        rows = [
            {'step': step, 'loss': f'{loss:.5f}', 'seconds': f'{seconds:.0f}', **dict(row)}
            for row in self.validate()
        ]
        new = not path.exists()
        with path.open('a', newline='') as file:
            writer = csv.DictWriter(file, fieldnames=rows[0])
            if new:
                writer.writeheader()
            writer.writerows(rows)

    def run(self, *, minutes_per_checkpoint=4.0, steps_per_validation=1000, progress=None):
        """
        Train to the last step.

        Parameters
        ----------
        minutes_per_checkpoint : float
            Time between checkpoints.
        steps_per_validation : int
            Steps between rows of the log.
        progress : bool, optional
            Whether to show progress: a bar on a terminal or in a notebook, lines in a log. By
            default it appears when the work takes long.

        Returns
        -------
        network : `~astroflux.networks.profile_net.ProfileNet`
            With the averaged weights, in evaluation mode.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        started = saved = time.monotonic()
        losses = []
        self.network.train()
        counts = {'total': self.settings.steps, 'initial': self.step, 'unit': ' steps'}
        bar = progress_bar(desc='train', progress=progress, **counts)
        for batch in self.batches(self.training, range(self.step, self.settings.steps)):
            losses.append(self.one_step(batch))
            bar.update()
            if self.step % steps_per_validation == 0 or self.step == self.settings.steps:
                self._log(self.step, float(np.mean(losses)), time.monotonic() - started)
                losses.clear()
            if time.monotonic() - saved > 60 * minutes_per_checkpoint:
                self.save_checkpoint()
                saved = time.monotonic()
        bar.close()
        self.save_checkpoint()
        self.calibrate(progress=progress)
        last = self.step + self.settings.calibration_steps
        self._log(last, float('nan'), time.monotonic() - started)
        return self.average.module.eval()
