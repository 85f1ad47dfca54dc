# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Train the network of the study as its report says: Adam, MSE of log flux, dropout 0.2."""

import math
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np
import pandas as pd
import torch
from sklearn.utils.parallel import Parallel, delayed
from torch.nn import functional

from astroflux._progress import progress_bar
from astroflux._work import refuse_other_settings, write_whole
from astroflux.networks.study_net import StudyNet

__all__ = ['CNNConfiguration', 'TrainedCNN', 'read_trained', 'train_all', 'train_cnn']

# Images that pass through the convolutions at once. A whole batch does not fit into the cache of
# a processor, and is slower; gradients add up to those of the batch.
CHUNK = 16

# Streams of random numbers of an epoch, and of what is drawn once.
ORDER, DROPOUT, NOISE = range(3)

# Fewer images than this, over all epochs, are not worth the start of processes.
FEW_IMAGES = 20_000

# Folder of all trainings, in that of the run: several stages show the same ones.
FOLDER_NAME = 'trainings'


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

    The settings are the configuration and the sizes of the sets. Of each epoch the history has
    ``train_loss``, a mean over it, with dropout and while the weights change, and ``test_loss``,
    after it and without dropout. The predictions are log10 of the fluxes of the test images. All
    losses of the summary are with the final weights.
    """

    settings: dict
    network: StudyNet
    history: pd.DataFrame
    predictions: np.ndarray
    summary: dict


def train_all(context, configurations):
    """
    Train networks, each in a process with a core of its own, or read those that are finished.

    When interrupted, the next call goes on from the last whole epoch of each training. Returns the
    trained networks by their names.
    """
    folder = context.folder.parent / FOLDER_NAME
    folder.mkdir(exist_ok=True)
    longest_first = sorted(configurations, key=lambda one: -one.epochs)
    n_images = len(context.train) * sum(one.epochs for one in longest_first)
    n_jobs = context.workers if n_images > FEW_IMAGES else 1
    # the images are shared by way of files, while they are used
    train = partial(delayed(train_cnn), context.train, context.test, progress=context.progress)
    trained = Parallel(n_jobs=n_jobs, temp_folder=context.folder)(
        train(one, folder / f'{one.name}.pt', position=number % n_jobs)
        for number, one in enumerate(longest_first)
    )
    return {one.settings['name']: one for one in trained}


def train_cnn(train, test, configuration, path, *, progress=None, position=0):
    """
    Train a network, or go on with its training, or read what was finished.

    The training runs in one thread, so that its result does not depend on the number of cores.
    After each epoch its state is written; a training that was interrupted ends with the same
    numbers as one that was not. A file of another training is refused.
    """
    settings = asdict(configuration) | {'n_train': len(train), 'n_test': len(test)}
    state = {'settings': settings, 'history': []}
    if path.exists():
        state = _read_state(path)
        refuse_other_settings(f'the training in {path}', state['settings'], settings)
    if 'summary' not in state:
        _train(state, path, train, test, configuration, progress, position)
    return read_trained(path)


def read_trained(path):
    """Return a network whose training is finished."""
    state = _read_state(path)
    if 'summary' not in state:
        msg = f'the training in {path} is not finished'
        raise ValueError(msg)
    with torch.random.fork_rng(devices=[]):
        network = _new_network(state['settings'])
    network.load_state_dict(state['network'])
    history, predictions = pd.DataFrame(state['history']), state['predictions'].numpy()
    return TrainedCNN(state['settings'], network.eval(), history, predictions, state['summary'])


def _read_state(path):
    # weights_only: tensors and plain values, no code
    return torch.load(path, weights_only=True)


def _write_state(state, path):
    with write_whole(path) as part:
        torch.save(state, part)


@contextmanager
def one_thread():
    """Let torch compute in one thread, with memory that it keeps, and then as before."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    # Adam's averages of gradients that have become zero run through denormal numbers.
    torch.set_flush_denormal(True)
    # After a block of nearly 32 MiB was freed, the C library of Linux keeps blocks of this size
    # for the next use; new pages from the system would cost a third of the time of a step.
    for _ in range(2):
        torch.empty(2**25 - 2**16, dtype=torch.uint8)
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.set_num_threads(n_threads)
        torch.set_flush_denormal(False)


def _seed_torch(configuration, stream, epoch):
    """Seed torch for a purpose and an epoch, so that a resumed training has the same numbers."""
    sequence = np.random.SeedSequence([configuration.seed, stream, epoch])
    torch.manual_seed(int(sequence.generate_state(1)[0]))


@one_thread()
def _train(state, path, train, test, configuration, progress, position):
    """Go on with a training from its state, and write that after each epoch and at the end."""
    torch.manual_seed(configuration.seed)
    network = _new_network(asdict(configuration))
    if configuration.columns:
        _standardize(network, train.table[list(configuration.columns)])
    optimizer = torch.optim.Adam(network.parameters(), lr=configuration.learning_rate, fused=True)
    history = state['history']
    if history:
        network.load_state_dict(state['network'])
        optimizer.load_state_dict(state['optimizer'])
    pixels = [_Pixels(part, configuration, k) for k, part in enumerate((train, test))]
    epochs = range(len(history), configuration.epochs)
    options = {'desc': configuration.name, 'unit': ' epochs', 'position': position}
    for epoch in progress_bar(epochs, progress=progress, **options):
        started = time.monotonic()
        row = {'epoch': epoch + 1}
        row['train_loss'] = _one_epoch(network, optimizer, pixels[0], configuration, epoch)
        row['test_loss'] = _loss(_predict(network.eval(), pixels[1]), pixels[1])
        row['seconds'] = time.monotonic() - started
        history.append(row)
        state |= {'network': network.state_dict(), 'optimizer': optimizer.state_dict()}
        _write_state(state, path)
    del state['optimizer']
    _seed_torch(configuration, DROPOUT, configuration.epochs)
    _write_state(state | _judge(network, *pixels, history), path)


def _new_network(settings):
    names = ('dropout', 'scale', 'stretch')
    return StudyNet(**{name: settings[name] for name in names}, n_columns=len(settings['columns']))


def _standardize(network, columns):
    """Give a network the statistics of the columns of the training set."""
    values = columns.to_numpy(float)
    scale = values.std(axis=0)
    # a column of one value says nothing, whatever its scale
    scale[scale == 0] = 1
    network.column_mean.copy_(torch.from_numpy(values.mean(axis=0)))
    network.column_scale.copy_(torch.from_numpy(scale))


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

    def batch(self, rows):
        """Return images, columns and truth of some rows, a tensor of their numbers."""
        images = self.images[rows.numpy()]
        if self.extra_noise > 0:
            for image, row in zip(images, rows.tolist(), strict=True):
                rng = np.random.default_rng([*self.stream, row])
                image += self.extra_noise * rng.standard_normal(image.shape, np.float32)
        columns = None if self.columns is None else self.columns[rows]
        return torch.from_numpy(images)[:, None], columns, self.truth[rows]


def _one_epoch(network, optimizer, pixels, configuration, epoch):
    """Pass once over the training set; return the mean loss on the way."""
    _seed_torch(configuration, ORDER, epoch)
    batches = torch.randperm(len(pixels.truth)).split(configuration.batch_size)
    _seed_torch(configuration, DROPOUT, epoch)
    network.train()
    total = 0.0
    for rows in batches:
        optimizer.zero_grad(set_to_none=False)
        for part in rows.split(CHUNK):
            image, columns, truth = pixels.batch(part)
            loss = functional.mse_loss(network(image, columns), truth, reduction='sum')
            (loss / len(rows)).backward()
            total += float(loss.detach())
        optimizer.step()
    return total / len(pixels.truth)


@torch.inference_mode()
def _predict(network, pixels):
    """Return the answers to all images in float64."""
    parts = torch.arange(len(pixels.truth)).split(CHUNK)
    return torch.cat([network(*pixels.batch(rows)[:2]) for rows in parts]).double()


def _loss(predictions, pixels):
    return float(np.mean((predictions.numpy() - pixels.truth.numpy().astype(float)) ** 2))


def _judge(network, train, test, history):
    """Return the answers to the test images, and the losses with the final weights."""
    with_dropout = _predict(network.train(), train)
    without, predictions = (_predict(network.eval(), pixels) for pixels in (train, test))
    summary = {
        'train_loss_dropout_off': _loss(without, train),
        'train_loss_dropout_on': _loss(with_dropout, train),
        'test_loss': _loss(predictions, test),
        'log_flux_range': [float(train.truth.min()), float(train.truth.max())],
        'seconds': sum(row['seconds'] for row in history),
    }
    return {'predictions': predictions, 'summary': summary}
