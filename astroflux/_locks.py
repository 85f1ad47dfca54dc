# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""One writer at a time: locks of folders and files, which end with the process that has them."""

import os
import threading
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # there is none on Windows, and so no lock
    fcntl = None

__all__ = ['lock_file', 'lock_folder']

# Those that a thread has, so that what it calls does not wait for itself.
_held = threading.local()


@contextmanager
def lock_folder(folder):
    """
    Be the only one to write to a folder during the block.

    Parameters
    ----------
    folder : path-like
        The folder; made if need be. During the block it has a file ``.lock``. The lock is the
        system's and ends with the process, however that ends: a file that is left behind locks
        nothing.

    Raises
    ------
    BlockingIOError
        If another process or thread has it. In the thread that has it, blocks can be nested.
    """
    folder = Path(folder)
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with _lock(folder / '.lock', folder):
            yield
    finally:
        if is_new:
            # one that is empty: what was to be written there failed
            with suppress(OSError):
                folder.rmdir()


@contextmanager
def lock_file(path):
    """Be the only one to write a file during the block, as `lock_folder` does for a folder."""
    path = Path(path)
    with _lock(path.with_name(f'.{path.name}.lock'), path):
        yield


@contextmanager
def _lock(lock, target):
    held = _held.__dict__.setdefault('locks', set())
    key = os.path.realpath(lock)
    if fcntl is None or key in held:
        yield
        return
    descriptor = _acquire(lock, target)
    held.add(key)
    try:
        yield
    finally:
        held.remove(key)
        # removed by the one that has it, and before another can
        lock.unlink(missing_ok=True)
        os.close(descriptor)


def _acquire(lock, target):
    """Return the descriptor of a file that is locked."""
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            process = os.read(descriptor, 20).decode('ascii', 'replace').strip()
            os.close(descriptor)
            msg = f'{target} is being written by another process ({process or "unknown"})'
            raise BlockingIOError(msg) from None
        except OSError:
            # a file system without locks: as good as it gets
            return descriptor
        if _is_same(descriptor, lock):
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f'{os.getpid()}\n'.encode())
            return descriptor
        # the one that had it removed it meanwhile
        os.close(descriptor)


def _is_same(descriptor, path):
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False
