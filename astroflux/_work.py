# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Work that takes long: files that are whole or not there, runs that go on, pools of processes."""

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile

from threadpoolctl import threadpool_limits

__all__ = ['check_writable', 'refuse_other_settings', 'spawn_pool', 'use_one_thread', 'write_whole']

PART_SUFFIX = '.part'


@contextmanager
def write_whole(path):
    """
    Write a file that is either whole or not there.

    Parameters
    ----------
    path : path-like
        The file. One that is there stays as it was unless the block succeeds.

    Yields
    ------
    part : `~pathlib.Path`
        What to write to: a file beside it, whose name ends in ``.part``. It takes the place of
        the file at the end of the block, and is removed if the block fails.
    """
    path = Path(path)
    part = path.with_name(path.name + PART_SUFFIX)
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def check_writable(folder):
    """
    Raise `OSError` if no file can be written to a folder, or it cannot be made.

    Parameters
    ----------
    folder : path-like
        The folder; one that is not there is not made.
    """
    folder = Path(folder)
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    try:
        # the only answer that is right for every kind of file system
        with TemporaryFile(dir=there):
            pass
    except OSError as exc:
        msg = f'no file can be written to the folder {folder}: {exc.strerror}'
        raise type(exc)(msg) from exc


def refuse_other_settings(what, begun, now):
    """
    Raise an error if work in a folder was begun with other settings.

    Parameters
    ----------
    what : str
        The beginning of the message: ``'the run in FOLDER'``.
    begun, now : dict
        Settings of the work that is there, and of the one that wants to go on with it. Those
        of levels below are compared one by one.

    Raises
    ------
    ValueError
        Which names what differs, with both values.
    """
    begun, now = _flat(begun), _flat(now)
    if names := [name for name in {**begun, **now} if begun.get(name) != now.get(name)]:
        others = ', '.join(f'{name}={begun.get(name)!r}' for name in names)
        given = ', '.join(f'{name}={now.get(name)!r}' for name in names)
        msg = f'{what} was begun with {others}, not with {given}'
        raise ValueError(msg)


def _flat(settings, prefix=''):
    """Settings without levels, by names with dots."""
    flat = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            flat |= _flat(value, f'{prefix}{name}.')
        else:
            flat[prefix + name] = value
    return flat


def spawn_pool(workers, initializer=None, initargs=()):
    """
    Return a pool of processes that share nothing with this one.

    A process that is forked after torch has computed hangs. The initializer is called once in each
    of them.
    """
    context = multiprocessing.get_context('spawn')
    return ProcessPoolExecutor(workers, context, initializer, initargs)


def use_one_thread():
    """
    Prepare a process of a pool to compute with one thread.

    There is a process for each core; more threads would only wait for each other.
    """
    if 'OMP_NUM_THREADS' not in os.environ:
        # libraries that are loaded already, and those that will look at the environment
        os.environ['OMP_NUM_THREADS'] = '1'
        threadpool_limits(1)
