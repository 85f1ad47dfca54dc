# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Several trainings of a stage: one after another, or each in a process with a core of its own."""

import multiprocessing
import shutil
import signal
from dataclasses import replace
from multiprocessing.connection import wait

import numpy as np
from tqdm import tqdm

from astroflux.study.cnn import find_trained, train_cnn

__all__ = ['train_all']

# Fewer images than this, over all epochs, are not worth the start of processes.
FEW_IMAGES = 20_000

# Folder of the images that processes share, while they run.
SCRATCH_NAME = 'images.partial'


def train_all(context, trainings):
    """
    Train networks, or read those that are finished.

    Parameters
    ----------
    context : `~astroflux.study.context.Context`
        Galaxies, workers and whether to show progress.
    trainings : dict of `~pathlib.Path` to `~astroflux.study.cnn.CNNConfiguration`
        Folder and configuration of each.

    Returns
    -------
    trained : list of `~astroflux.study.cnn.TrainedCNN`
        In the order given. They do not depend on the number of workers.

    Raises
    ------
    RuntimeError
        If a process ended before its training did.
    ValueError
        If a folder holds another training.

    Notes
    -----
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
        scratch = context.folder / SCRATCH_NAME
        # left by a process that was killed
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        try:
            sets = [_to_file(part, scratch / f'{k}.npy') for k, part in enumerate((train, test))]
            _train_in_processes(missing, sets, context.workers, progress=context.progress)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return [
        train_cnn(train, test, configuration, directory=folder, progress=context.progress)
        for folder, configuration in trainings.items()
    ]


def _to_file(study_set, path):
    """Return the set with a file in place of its images, which processes can share."""
    np.save(path, study_set.images, allow_pickle=False)
    return replace(study_set, images=path)


def _train_in_processes(trainings, sets, workers, *, progress):
    """Run trainings, the longest first, so many at a time."""
    context = multiprocessing.get_context('spawn')
    lock = context.RLock()
    waiting = sorted(trainings.items(), key=lambda item: item[1].epochs)
    # by the line of the progress bar
    running = {}
    try:
        while waiting or running:
            for line in range(workers):
                if line not in running and waiting:
                    folder, configuration = waiting.pop()
                    running[line] = context.Process(
                        target=_train_one,
                        args=(sets, configuration, folder, lock),
                        kwargs={'progress': progress, 'position': line},
                        name=configuration.name,
                        daemon=True,
                    )
                    running[line].start()
            ended = wait([process.sentinel for process in running.values()])
            for line, process in list(running.items()):
                if process.sentinel in ended:
                    process.join()
                    del running[line]
                    if process.exitcode:
                        msg = f'the training {process.name} ended with code {process.exitcode}'
                        raise RuntimeError(msg)
    finally:
        for process in running.values():
            process.terminate()
            process.join()


def _train_one(sets, configuration, folder, lock, *, progress, position):
    """Train in this process, on images in files."""
    # an interruption from the keyboard is the business of the process that started this one
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    tqdm.set_lock(lock)
    train, test = (
        replace(part, images=np.asarray(np.load(part.images, mmap_mode='r'))) for part in sets
    )
    train_cnn(train, test, configuration, directory=folder, progress=progress, position=position)
