# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""From a configuration to a weights file, with everything in between on disk."""

from contextlib import contextmanager
from multiprocessing import get_all_start_methods
from pathlib import Path

import torch

from astroflux._locks import lock_folder
from astroflux.networks.store import load_weights, save_weights
from astroflux.training.configuration import read_configuration
from astroflux.training.library import load_library, render_library
from astroflux.training.loop import Stamps, Trainer

__all__ = ['make_stamps', 'make_trainer', 'train', 'trained_ranges']

# Processes beside a training on a CPU: more are not needed to keep up with it.
MOST_OBSERVERS = 2


def make_stamps(config, directory, *, workers=2, progress=None):
    """Render what stamps are missing, and read those of training, validation and calibration."""
    parts = {name: getattr(config, name) for name in ('training', 'validation', 'calibration')}
    for name, part in parts.items():
        folder = Path(directory) / name
        render_library(folder, part.library, workers=workers, progress=progress)
    return {
        name: Stamps(load_library(Path(directory) / name, part.library), part.observation)
        for name, part in parts.items()
    }


def make_trainer(config, directory, *, start=None, device='auto', workers=2, progress=None):
    """
    Render what stamps are missing and set up the training, at its first step.

    It starts from the weights ``start``, a dict of tensors, if there are such.
    """
    if device == 'auto':
        device = 'cuda' if torch.cuda.is_available() else 'cpu'
    return Trainer(
        directory,
        **make_stamps(config, directory, workers=workers, progress=progress),
        network_settings=config.network,
        optimiser_settings=config.optimiser,
        start=start,
        device=device,
        n_observers=_n_observers(workers, device),
    )


def _n_observers(workers, device):
    """Return how many of the processes observe while the network is trained."""
    # the library is shared with them, which only a fork does
    if 'fork' not in get_all_start_methods():
        return 0
    return workers if device == 'cuda' else min(max(workers - 1, 0), MOST_OBSERVERS)


@contextmanager
def _threads_beside(n_observers):
    """Leave a core to each of the processes that observe."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(max(1, n_threads - n_observers))
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)


def _train_one(config, directory, *, resume, progress, **options):
    """Train the one network of a configuration and return it."""
    trainer = make_trainer(config, directory, progress=progress, **options)
    if trainer.checkpoint_path.exists():
        if not resume:
            msg = f'{trainer.checkpoint_path} exists: resume it, or train in another folder'
            raise FileExistsError(msg)
        trainer.resume()
    with _threads_beside(trainer.n_observers):
        return trainer.run(progress=progress)


def train(
    configuration,
    directory,
    *,
    network=None,
    resume=False,
    device='auto',
    workers=2,
    progress=None,
):
    """
    Render the stamps, train the network, write the weights.

    Parameters
    ----------
    configuration : str or path-like
        Name of a shipped configuration, or the path of a TOML file.
    directory : path-like
        Folder for the rendered stamps, checkpoints, the log and the result
        ``NAME.safetensors``. Stamps that are there are used again. The second
        training, for galaxies in blocks of pixels, has the folder ``blocks`` in it.
    network : str or path-like, optional
        Weights, by name or file, that the first training need not make again: only the second
        one is done.
    resume : bool
        Whether to go on from the folder's checkpoint, if there is one.
    device : str
        ``'cpu'``, ``'cuda'``, or ``'auto'`` for a GPU if there is one.
    workers : int
        Processes for rendering. If there are more than one, some observe stamps ahead of the
        training.
    progress : bool, optional
        Whether to show progress: a bar on a terminal or in a notebook, lines in a log. By
        default it appears when the work takes long.

    Returns
    -------
    path : `~pathlib.Path`
        The weights file.

    Raises
    ------
    FileExistsError
        If the folder holds a checkpoint and ``resume`` is false.
    ValueError
        If a network is given and the configuration has no second training.
    BlockingIOError
        If another process is training in the folder.
    """
    config = read_configuration(configuration)
    directory = Path(directory)
    options = {'resume': resume, 'device': device, 'workers': workers, 'progress': progress}
    with lock_folder(directory):
        if network is None:
            trained = _train_one(config, directory, **options)
        elif config.blocks is None:
            msg = f'{config.name} trains one network, which was given: there is nothing to train'
            raise ValueError(msg)
        else:
            given = load_weights(network)
            trained = given.network
        blocks = None
        if config.blocks:
            blocks = _train_one(
                config.blocks, directory / 'blocks', start=trained.state_dict(), **options
            )
        path = directory / f'{config.name}.safetensors'
        save_weights(
            path,
            trained,
            name=config.name,
            blocks=blocks,
            metadata={
                'description': config.description,
                **trained_ranges(config.training.library),
                'training': config.source,
                # whose first training was not repeated
                **({} if network is None else {'first_training_of': given.name}),
            },
        )
        return path


def trained_ranges(library):
    """
    Return what a training saw in a survey's own pixels, the first part of its library.

    These are ``psf_fwhm_range`` and ``half_light_radius_range``, in pixels.
    """
    pixel_scale = library['pixel_scale']
    part = library['part'][0]
    galaxies = {**library['galaxies'], **part['galaxies']}
    return {
        'psf_fwhm_range': [fwhm / pixel_scale for fwhm in part['psf']['fwhm']],
        'half_light_radius_range': [r / pixel_scale for r in galaxies['half_light_radius']],
    }
