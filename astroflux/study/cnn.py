# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Train the network of the study as its report says: Adam, MSE of log flux, dropout 0.2."""

import math
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.nn import functional
from tqdm import tqdm

from astroflux.networks.store import load_weights
from astroflux.networks.study_net import StudyNet
from astroflux.study._cnn_files import (
    WEIGHTS_NAME,
    fingerprint_of,
    read_checkpoint,
    read_finished,
    write_checkpoint,
    write_finished,
)
from astroflux.study._one_thread import one_thread
from astroflux.study.cnn_configuration import CONFIGURATIONS, CNNConfiguration

__all__ = [
    'CONFIGURATIONS',
    'CNNConfiguration',
    'TrainedCNN',
    'find_trained',
    'new_study_net',
    'train_cnn',
]

# Images that pass through the convolutions at once. A whole batch does not fit into the cache of
# a processor, and is slower; gradients add up to those of the batch.
CHUNK = 16

# Streams of random numbers of an epoch, and of what is drawn once.
ORDER, DROPOUT, NOISE = range(3)


@dataclass(frozen=True)
class TrainedCNN:
    """
    A network of the study after its training.

    Attributes
    ----------
    configuration : `CNNConfiguration`
        How it was trained.
    directory : `~pathlib.Path`
        Where it is.
    history : `~pandas.DataFrame`
        Per epoch ``epoch``, ``train_loss`` (mean over the epoch, with dropout and while the
        weights change), ``test_loss`` (after it, without dropout) and ``seconds``.
    predictions : 1D `~numpy.ndarray`
        log10 of the flux in ADU of each test image.
    summary : dict
        ``train_loss_dropout_off`` and ``train_loss_dropout_on``, both with the final weights;
        ``test_loss``, ``variance`` of the test set's log flux, ``seconds``.
    """

    configuration: CNNConfiguration
    directory: Path
    history: pd.DataFrame
    predictions: np.ndarray
    summary: dict

    @property
    def name(self):
        """Name of the training."""
        return self.configuration.name

    @cached_property
    def network(self):
        """The network in evaluation mode."""
        return load_weights(self.directory / WEIGHTS_NAME).network


class _Pixels:
    """Batches of a set, as tensors: images, columns or `None`, log flux."""

    def __init__(self, study_set, configuration, stream):
        self.images = study_set.images
        self.truth = torch.from_numpy(study_set.log_flux.astype(np.float32))
        self.columns = None
        if configuration.columns:
            columns = study_set.table[list(configuration.columns)]
            self.columns = torch.from_numpy(np.array(columns, np.float32))
        factor = configuration.noise_factor
        self.extra_noise = np.float32(study_set.noise * math.sqrt(factor**2 - 1))
        self.stream = (configuration.seed, NOISE, stream)

    def __len__(self):
        return len(self.truth)

    def batch(self, rows):
        """Return images, columns and truth of some rows, a tensor of their numbers."""
        images = self.images[rows.numpy()]
        if self.extra_noise > 0:
            for image, row in zip(images, rows.tolist(), strict=True):
                rng = np.random.default_rng([*self.stream, row])
                image += self.extra_noise * rng.standard_normal(image.shape, np.float32)
        columns = None if self.columns is None else self.columns[rows]
        return torch.from_numpy(images)[:, None], columns, self.truth[rows]


def train_cnn(train, test, configuration, *, directory, progress=True, position=0):
    """
    Train a network, or go on with its training, or read what was finished.

    Parameters
    ----------
    train, test : `~astroflux.study.loader.StudySet`
        The galaxies.
    configuration : `CNNConfiguration`
        How to train.
    directory : path-like
        Folder of this training, for its checkpoint, ``history.csv``, ``predictions.npy``,
        ``summary.json`` and ``weights.safetensors``.
    progress : bool
        Whether to show a progress bar over the batches.
    position : int
        Line of the progress bar.

    Returns
    -------
    trained : `TrainedCNN`

    Raises
    ------
    ValueError
        If the folder holds a training of another configuration or other galaxies.

    Notes
    -----
    The training runs in one thread, so that its result does not depend on the number of cores.
    After each epoch its state is written; a training that was interrupted ends with the same
    numbers as one that was not.
    """
    directory = Path(directory)
    trained = find_trained(train, test, configuration, directory)
    if trained is not None:
        return trained
    directory.mkdir(parents=True, exist_ok=True)
    fingerprint = fingerprint_of(configuration, train, test)
    network = new_study_net(configuration, train)
    optimiser = torch.optim.Adam(network.parameters(), lr=configuration.learning_rate, fused=True)
    history = read_checkpoint(directory, fingerprint, network, optimiser)
    pixels = [_Pixels(part, configuration, k) for k, part in enumerate((train, test))]
    n_batches = -(-len(train) // configuration.batch_size)
    with (
        one_thread(),
        tqdm(
            total=configuration.epochs * n_batches,
            initial=len(history) * n_batches,
            desc=f'train {configuration.name}',
            unit='batch',
            position=position,
            leave=None,
            disable=not progress,
        ) as bar,
    ):
        for epoch in range(len(history), configuration.epochs):
            started = time.monotonic()
            train_loss = _one_epoch(network, optimiser, pixels[0], configuration, epoch, bar)
            test_loss = _loss(_predict(network, pixels[1])[0], pixels[1])
            history.append(
                {
                    'epoch': epoch + 1,
                    'train_loss': train_loss,
                    'test_loss': test_loss,
                    'seconds': time.monotonic() - started,
                }
            )
            bar.set_postfix(train=f'{train_loss:.4f}', test=f'{test_loss:.4f}')
            write_checkpoint(directory, fingerprint, network, optimiser, history)
        predictions, summary = _judge(network, pixels, configuration)
    write_finished(directory, fingerprint, network, history, predictions, summary, test)
    return find_trained(train, test, configuration, directory)


def find_trained(train, test, configuration, directory):
    """
    Read a training, if it is finished.

    Parameters
    ----------
    train, test, configuration, directory
        As for `train_cnn`.

    Returns
    -------
    trained : `TrainedCNN` or None

    Raises
    ------
    ValueError
        If the folder holds a training of another configuration or other galaxies.
    """
    finished = read_finished(directory, fingerprint_of(configuration, train, test))
    return None if finished is None else TrainedCNN(configuration, Path(directory), *finished)


def new_study_net(configuration, train):
    """
    Return an untrained network.

    Parameters
    ----------
    configuration : `CNNConfiguration`
        What it is for, and the seed.
    train : `~astroflux.study.loader.StudySet`
        The training set, whose statistics standardise the columns.

    Returns
    -------
    network : `~astroflux.networks.study_net.StudyNet`
    """
    columns = list(configuration.columns)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(configuration.seed)
        network = StudyNet(
            configuration.dropout, configuration.scale, configuration.stretch, len(columns)
        )
    if columns:
        values = train.table[columns].to_numpy(float)
        scale = values.std(axis=0)
        # a column of one value says nothing, whatever its scale
        scale[scale == 0] = 1
        network.column_mean.copy_(torch.from_numpy(values.mean(axis=0)))
        network.column_scale.copy_(torch.from_numpy(scale))
    return network


def _word(configuration, stream, epoch):
    """Return a seed of its own for a purpose and an epoch, so that a resumed training has it."""
    return int(np.random.SeedSequence([configuration.seed, stream, epoch]).generate_state(1)[0])


@contextmanager
def _seeded_dropout(configuration, epoch):
    """Seed torch's own generator, which dropout draws from, and put it back afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_word(configuration, DROPOUT, epoch))
        yield


def _one_epoch(network, optimiser, pixels, configuration, epoch, bar):
    """Pass once over the training set; return the mean loss on the way."""
    generator = torch.Generator().manual_seed(_word(configuration, ORDER, epoch))
    order = torch.randperm(len(pixels), generator=generator)
    network.train()
    total = 0.0
    with _seeded_dropout(configuration, epoch):
        for rows in order.split(configuration.batch_size):
            optimiser.zero_grad(set_to_none=False)
            for part in rows.split(CHUNK):
                image, columns, truth = pixels.batch(part)
                loss = functional.mse_loss(network(image, columns), truth, reduction='sum')
                (loss / len(rows)).backward()
                total += float(loss.detach())
            optimiser.step()
            bar.update()
    return total / len(pixels)


@torch.inference_mode()
def _predict(network, pixels, *, dropout=(False,)):
    """Return the answers to all images in float64, for dropout off or on."""
    answers = []
    for rows in torch.arange(len(pixels)).split(CHUNK):
        image, columns, _ = pixels.batch(rows)
        neurons = network.neurons(image, columns)
        answers.append(torch.stack([network.train(on).answer(neurons) for on in dropout]))
    network.eval()
    return torch.cat(answers, dim=1).numpy().astype(float)


def _loss(predictions, pixels):
    return float(np.mean((predictions - pixels.truth.numpy().astype(float)) ** 2))


def _judge(network, pixels, configuration):
    """Return the answers to the test images, and the losses with the final weights."""
    train, test = pixels
    with _seeded_dropout(configuration, configuration.epochs):
        off, on = _predict(network, train, dropout=(False, True))
    (predictions,) = _predict(network, test)
    return predictions, {
        'train_loss_dropout_off': _loss(off, train),
        'train_loss_dropout_on': _loss(on, train),
        'test_loss': _loss(predictions, test),
        'log_flux_range': [float(train.truth.min()), float(train.truth.max())],
    }
