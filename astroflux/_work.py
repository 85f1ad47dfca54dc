# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Work that takes long: files that are whole or not there, runs that go on, pools of processes."""

import multiprocessing
import os
import secrets
import signal
import threading
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile

from threadpoolctl import threadpool_limits

__all__ = [
    'call_in_processes',
    'check_replaceable',
    'check_writable',
    'inherit_no_interrupts',
    'refuse_other_settings',
    'spawn_pool',
    'use_one_thread',
    'write_whole',
]

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
        What to write to: a file beside it, whose name is nobody else's and ends in ``.part``. It
        takes the place of the file at the end of the block, and is removed if the block fails.
        If the process is killed, it stays.

    Raises
    ------
    OSError
        If the file is a symbolic link or read-only, see `check_replaceable`.
    """
    path = Path(path)
    check_replaceable(path)
    part = path.with_name(f'{path.name}.{secrets.token_hex(4)}{PART_SUFFIX}')
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def check_replaceable(path):
    """
    Raise `OSError` if a file is one that is not written to.

    That is a symbolic link, as neither to follow it nor to replace it is what everybody expects;
    and a file that is read-only, which to replace would be possible.

    Parameters
    ----------
    path : path-like
        The file; it need not exist.
    """
    if os.path.islink(path):
        msg = f'{path} is a symbolic link: name the file that it points to'
        raise OSError(msg)
    if os.path.exists(path) and not os.access(path, os.W_OK):
        msg = f'{path} is read-only'
        raise PermissionError(msg)


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

    A process that is forked after torch has computed has one thread, and no GPU. The initializer is
    called once in each of them.
    """
    context = multiprocessing.get_context('spawn')
    return ProcessPoolExecutor(workers, context, initializer, initargs)


def call_in_processes(function, arguments, *, workers, initializer=None, initargs=()):
    """
    Call a function in a pool of processes.

    Parameters
    ----------
    function : callable
        A function of a module, so that it can be sent to other processes.
    arguments : list of tuple
        Those of each call.
    workers : int
        How many processes.
    initializer, initargs : callable, tuple, optional
        Called once in each of them.

    Yields
    ------
    number, result : int, object
        Of each call, as they come to an end. An interruption from the keyboard is left to this
        process: what has begun comes to its end and is yielded, the rest is not called, and
        `KeyboardInterrupt` is raised.
    """
    pool = spawn_pool(workers, initializer, initargs)
    futures = {}
    try:
        with inherit_no_interrupts():
            for number, given in enumerate(arguments):
                futures[pool.submit(function, *given)] = number
        for future in as_completed(list(futures)):
            result = future.result()
            yield futures.pop(future), result
    except KeyboardInterrupt:
        pool.shutdown(cancel_futures=True)
        for future, number in futures.items():
            if not future.cancelled() and future.exception() is None:
                yield number, future.result()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def inherit_no_interrupts():
    """Let processes that are started in the block ignore interruptions from the keyboard."""
    if threading.current_thread() is not threading.main_thread():
        # only that one has handlers
        yield
        return
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


def use_one_thread():
    """
    Prepare a process of a pool to compute with one thread.

    There is a process for each core; more threads would only wait for each other.
    """
    if 'OMP_NUM_THREADS' not in os.environ:
        # libraries that are loaded already, and those that will look at the environment
        os.environ['OMP_NUM_THREADS'] = '1'
        threadpool_limits(1)
