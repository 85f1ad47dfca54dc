# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tasks on a Dask cluster: that of the user, or one of this machine."""

import logging
from concurrent.futures import CancelledError
from contextlib import contextmanager

from astroflux._optional import import_optional
from astroflux._work import inherit_no_interrupts

__all__ = ['WorkerDied', 'connected', 'default_workers', 'n_threads', 'results_of']

# Bytes that a worker has at least: what an image of 4400 pixels a side takes, and some more.
MEMORY_OF_WORKER = 2e9

# Tasks that are given out for each thread: one that works, and those that wait for it.
_WAITING = 3

# Seconds to wait for a scheduler to answer.
_PATIENCE = 30


# What Dask tells the allocator of its workers makes it give back memory all the time, and to take
# it again takes as long as to measure. In bytes: free memory is kept up to the first number, and
# arrays up to the second one are made of it.
_OF_ALLOCATOR = {'MALLOC_TRIM_THRESHOLD_': 2**28, 'MALLOC_MMAP_THRESHOLD_': 2**25}


class WorkerDied(RuntimeError):
    """A task whose workers came to an end by themselves, one after the other."""


@contextmanager
def connected(client=None, workers=None):
    """
    Connect to a cluster, or have one of this machine during the block.

    Parameters
    ----------
    client : `distributed.Client` or str, optional
        A cluster, or the address of its scheduler.
    workers : int, optional
        Without these: how many processes to start, by default one for each core, as far as there is
        memory.

    Yields
    ------
    client : `distributed.Client`
        One that was given is left open.

    Raises
    ------
    ImportError
        If Dask is not installed.
    OSError
        If no scheduler answers.
    """
    distributed = import_optional('distributed', extra='survey')
    if isinstance(client, distributed.Client):
        yield client
        return
    cluster = None
    if client is None:
        # the cluster is ended by this process, and not by the keyboard before that
        with inherit_no_interrupts(), _memory_is_kept():
            cluster = distributed.LocalCluster(
                n_workers=workers or default_workers(),
                threads_per_worker=1,
                processes=True,
                # of any port that is free
                dashboard_address='127.0.0.1:0',
                silence_logs=logging.ERROR,
            )
    try:
        with distributed.Client(
            cluster or client, set_as_default=False, timeout=_PATIENCE
        ) as connection:
            yield connection
    finally:
        if cluster is not None:
            cluster.close()


def _memory_is_kept():
    """Return a block in which workers are started whose allocator keeps free memory."""
    config = import_optional('dask', extra='survey').config
    place = 'distributed.nanny.pre-spawn-environ'
    return config.set({f'{place}.{name}': value for name, value in _OF_ALLOCATOR.items()})


def default_workers():
    """Return how many processes a cluster of this machine has by default."""
    cores = import_optional('dask.system', extra='survey').CPU_COUNT
    memory = import_optional('distributed.system', extra='survey').MEMORY_LIMIT
    # each is ended by Dask if it takes more than its share
    return max(1, min(cores, int(memory // MEMORY_OF_WORKER)))


def n_threads(client):
    """Return how many tasks the workers that are there can work on at a time."""
    return sum(client.nthreads().values())


def results_of(client, function, shared, tasks):
    """
    Call a function with many tasks, few of which are given out at a time.

    Parameters
    ----------
    client : `distributed.Client`
        Where.
    function : callable
        Called with what is shared and a task. Its results do not depend on who calls it.
    shared : object
        What all calls have in common; goes to each worker once.
    tasks : iterable
        Taken one by one.

    Yields
    ------
    task, result : object
        As they come to an end. The result is an exception if one was raised; `WorkerDied` if
        several workers died of the task.

    Raises
    ------
    ConnectionError
        If the scheduler does not answer any more.
    """
    distributed = import_optional('distributed', extra='survey')
    tasks = iter(tasks)
    # a task itself, so that it is made again if the worker that has it dies
    shared = client.submit(_itself, shared, pure=False)
    given, ended = {}, distributed.as_completed(loop=client.loop)

    def give_out():
        while len(given) < _WAITING * max(n_threads(client), 1):
            task = next(tasks, None)
            if task is None:
                return
            future = client.submit(function, shared, task, pure=False)
            given[future] = task
            ended.add(future)

    try:
        give_out()
        while given:
            future = next(ended)
            task = given.pop(future)
            yield task, _result_of(future, distributed)
            future.release()
            give_out()
    except CancelledError as exc:
        msg = 'the connection to the scheduler was lost; what was measured is kept'
        raise ConnectionError(msg) from exc
    finally:
        client.cancel([shared, *given])


def _result_of(future, distributed):
    """Return what has become of a task; an exception if one was raised."""
    exc = future.exception()
    if isinstance(exc, distributed.KilledWorker):
        msg = (
            'the workers that measured it came to an end by themselves, perhaps for want of memory'
        )
        return WorkerDied(msg)
    return future.result() if exc is None else exc


def _itself(shared):
    return shared
