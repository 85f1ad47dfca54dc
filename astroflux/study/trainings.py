# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Train the network of the study as its report says: Adam, MSE of log flux, dropout 0.2."""

import hashlib
import math
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.utils.parallel import Parallel, delayed
from torch.nn import functional
from tqdm import tqdm

from astroflux._work import refuse_other_settings, write_whole
from astroflux.networks.store import load_weights, save_weights
from astroflux.networks.study_net import StudyNet
from astroflux.study.results import fit_for_json, read_json, write_json, write_table

__all__ = ['CNNConfiguration', 'TrainedCNN', 'find_trained', 'train_all', 'train_cnn']

# Images that pass through the convolutions at once. A whole batch does not fit into the cache of
# a processor, and is slower; gradients add up to those of the batch.
CHUNK = 16

# Streams of random numbers of an epoch, and of what is drawn once.
ORDER, DROPOUT, NOISE = range(3)

# Fewer images than this, over all epochs, are not worth the start of processes.
FEW_IMAGES = 20_000

CHECKPOINT_NAME = 'checkpoint.pt'
WEIGHTS_NAME = 'weights.safetensors'
# The last one to be written: a folder that has it is finished.
SUMMARY_NAME = 'summary.json'


@dataclass(frozen=True)
class CNNConfiguration:
    """How a network of the study is trained; what the report states has no default."""

    name: str
    learning_rate: float
    epochs: int
    # of the initial weights, of the order of images and of the dropout
    seed: int
    batch_size: int = 64
    dropout: float = 0.2
    # what the pixels pass through, see `~astroflux.networks.study_net.StudyNet`
    scale: float = 1.0
    stretch: str = 'linear'
    # of the images, in units of that of the data set; what is added is the same in each epoch
    noise_factor: float = 1.0
    # of the table, which join the image
    columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class TrainedCNN:
    """
    A network of the study after its training.

    Of each epoch the history has ``train_loss``, a mean over it, with dropout and while the weights
    change, and ``test_loss``, after it and without dropout. The predictions are log10 of the
    fluxes of the test images. All losses of the summary are with the final weights.
    """

    configuration: CNNConfiguration
    directory: Path
    history: pd.DataFrame
    predictions: np.ndarray
    summary: dict

    @cached_property
    def network(self):
        """The network in evaluation mode."""
        return load_weights(self.directory / WEIGHTS_NAME).network

    def loss_after(self, n_epochs):
        """Return the test loss after so many epochs; the training may be longer."""
        return float(self.history['test_loss'].iloc[n_epochs - 1])


def train_cnn(train, test, configuration, *, directory, progress=True, position=0):
    """
    Train a network, or go on with its training, or read what was finished.

    The training runs in one thread, so that its result does not depend on the number of cores.
    After each epoch its state is written; a training that was interrupted ends with the same
    numbers as one that was not. A folder with another training is refused.
    """
    directory = Path(directory)
    trained = find_trained(train, test, configuration, directory)
    if trained is not None:
        return trained
    directory.mkdir(parents=True, exist_ok=True)
    fingerprint = _fingerprint(configuration, train, test)
    network = new_study_net(configuration, train)
    optimizer = torch.optim.Adam(network.parameters(), lr=configuration.learning_rate, fused=True)
    history = []
    if (directory / CHECKPOINT_NAME).exists():
        # weights_only: tensors and plain values, no code
        state = torch.load(directory / CHECKPOINT_NAME, weights_only=True)
        network.load_state_dict(state['network'])
        optimizer.load_state_dict(state['optimizer'])
        history = state['history']
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
            row = {'epoch': epoch + 1}
            row['train_loss'] = _one_epoch(network, optimizer, pixels[0], configuration, epoch, bar)
            row['test_loss'] = _loss(_predict(network, pixels[1])[0], pixels[1])
            row['seconds'] = time.monotonic() - started
            history.append(row)
            _write_checkpoint(directory, fingerprint, network, optimizer, history)
        predictions, summary = _judge(network, pixels, configuration)
    summary['variance'] = float(np.var(test.log_flux))
    summary['seconds'] = sum(row['seconds'] for row in history)
    _write_finished(directory, fingerprint, network, history, predictions, summary, test)
    return find_trained(train, test, configuration, directory)


def find_trained(train, test, configuration, directory):
    """Read a training as `train_cnn` does; `None` if it is not finished."""
    directory = Path(directory)
    is_finished = (directory / SUMMARY_NAME).exists()
    if is_finished:
        found = read_json(directory / SUMMARY_NAME)
    elif (directory / CHECKPOINT_NAME).exists():
        found = torch.load(directory / CHECKPOINT_NAME, weights_only=True)
    else:
        return None
    wanted = _fingerprint(configuration, train, test)
    refuse_other_settings(f'the training in {directory}', found['training'], wanted)
    if not is_finished:
        return None
    # JSON has every digit; a loss that diverged is none there
    history = pd.DataFrame(found['history']).astype(float).astype({'epoch': int})
    summary = {k: math.nan if v is None else v for k, v in found['summary'].items()}
    predictions = np.load(directory / 'predictions.npy', allow_pickle=False)
    return TrainedCNN(configuration, directory, history, predictions, summary)


def new_study_net(configuration, train):
    """Return an untrained network, with the statistics of the columns of a training set."""
    columns = list(configuration.columns)
    with _seeded(configuration.seed):
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


# -- files of a training -----------------------------------------------------------------------


def _fingerprint(configuration, train, test):
    """Return what makes a training what it is, as it is when it was read from a file."""
    digest = hashlib.sha256()
    for part in (train, test):
        digest.update(np.ascontiguousarray(part.table[['img_number', 'total_flux']], float))
    sizes = {'n_train': len(train), 'n_test': len(test)}
    return fit_for_json(asdict(configuration) | sizes | {'galaxies': digest.hexdigest()[:16]})


def _write_checkpoint(directory, fingerprint, network, optimizer, history):
    """Write the state of a training; a crash while writing leaves the old one."""
    state = {
        'training': fingerprint,
        'network': network.state_dict(),
        'optimizer': optimizer.state_dict(),
        'history': history,
    }
    with write_whole(directory / CHECKPOINT_NAME) as part:
        torch.save(state, part)
    # to look at while it runs
    write_table(pd.DataFrame(history), directory / 'history.csv')


def _write_finished(directory, fingerprint, network, history, predictions, summary, test):
    """Write what a training leaves, and remove its checkpoint."""
    np.save(directory / 'predictions.npy', predictions, allow_pickle=False)
    loss = summary['test_loss']
    metadata = {
        'test_rms_dex': math.sqrt(loss) if math.isfinite(loss) else None,
        'log_flux_range': summary['log_flux_range'],
        'zeropoint': test.zeropoint,
        'noise': test.noise,
        'training': fingerprint,
        'summary': fit_for_json(summary),
    }
    save_weights(
        directory / WEIGHTS_NAME, network, name=f'study-{fingerprint["name"]}', metadata=metadata
    )
    content = {'training': fingerprint, 'summary': summary, 'history': history}
    write_json(fit_for_json(content), directory / SUMMARY_NAME)
    (directory / CHECKPOINT_NAME).unlink(missing_ok=True)


# -- one training ------------------------------------------------------------------------------


@contextmanager
def one_thread():
    """Let torch compute in one thread, with memory that it keeps, and then as before."""
    n_threads = torch.get_num_threads()
    flushed = float(torch.tensor(1e-40) * 1) == 0
    torch.set_num_threads(1)
    # Adam's averages of gradients that have become zero run through denormal numbers.
    torch.set_flush_denormal(True)
    # After a block of nearly 32 MiB was freed, the C library of Linux keeps blocks of this size
    # for the next use; new pages from the system would cost a third of the time of a step.
    for _ in range(2):
        torch.empty(2**25 - 2**16, dtype=torch.uint8)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)
        torch.set_flush_denormal(flushed)


@contextmanager
def _seeded(seed):
    """Seed torch's own generator, and put it back afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


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


def _word(configuration, stream, epoch):
    """Return a seed of its own for a purpose and an epoch, so that a resumed training has it."""
    return int(np.random.SeedSequence([configuration.seed, stream, epoch]).generate_state(1)[0])


def _one_epoch(network, optimizer, pixels, configuration, epoch, bar):
    """Pass once over the training set; return the mean loss on the way."""
    generator = torch.Generator().manual_seed(_word(configuration, ORDER, epoch))
    order = torch.randperm(len(pixels), generator=generator)
    network.train()
    total = 0.0
    with _seeded(_word(configuration, DROPOUT, epoch)):
        for rows in order.split(configuration.batch_size):
            optimizer.zero_grad(set_to_none=False)
            for part in rows.split(CHUNK):
                image, columns, truth = pixels.batch(part)
                loss = functional.mse_loss(network(image, columns), truth, reduction='sum')
                (loss / len(rows)).backward()
                total += float(loss.detach())
            optimizer.step()
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
    with _seeded(_word(configuration, DROPOUT, configuration.epochs)):
        off, on = _predict(network, train, dropout=(False, True))
    (predictions,) = _predict(network, test)
    return predictions, {
        'train_loss_dropout_off': _loss(off, train),
        'train_loss_dropout_on': _loss(on, train),
        'test_loss': _loss(predictions, test),
        'log_flux_range': [float(train.truth.min()), float(train.truth.max())],
    }


# -- several trainings -------------------------------------------------------------------------


def train_all(context, trainings):
    """
    Train networks, each in a process with a core of its own, or read those that are finished.

    When interrupted, processes are stopped at once; the next call goes on from the last whole
    epoch of each training.

    """
    train, test = context.train, context.test
    missing = {
        folder: configuration
        for folder, configuration in trainings.items()
        if find_trained(train, test, configuration, folder) is None
    }
    n_images = len(train) * sum(configuration.epochs for configuration in missing.values())
    if context.workers > 1 and len(missing) > 1 and n_images > FEW_IMAGES:
        longest_first = sorted(missing.items(), key=lambda item: -item[1].epochs)
        # the images are shared by way of files, while they are used
        Parallel(n_jobs=context.workers, temp_folder=context.folder)(
            delayed(train_cnn)(
                train, test, one, directory=folder, progress=context.progress, position=line
            )
            for line, (folder, one) in enumerate(longest_first)
        )
    return {
        folder: train_cnn(train, test, configuration, directory=folder, progress=context.progress)
        for folder, configuration in trainings.items()
    }
