# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Processes that are forked: what they have of their parent's threads, and must not wait for."""

import os
import sys
import threading

__all__ = ['ForkLock', 'call_after_fork']


def call_after_fork(function):
    """Call a function in each process that is forked from now on, where processes can be."""
    if hasattr(os, 'register_at_fork'):
        os.register_at_fork(after_in_child=function)
    return function


class ForkLock:
    """
    A lock of threads, for a module, that is free in a forked process.

    A thread of its parent that held it is not there to release it.
    """

    def __init__(self):
        self._renew()
        call_after_fork(self._renew)

    def _renew(self):
        self._lock = threading.Lock()

    def __enter__(self):
        self._lock.acquire()

    def __exit__(self, *exc_info):
        self._lock.release()


@call_after_fork
def _compute_with_one_thread():
    """
    Let torch compute with one thread in a forked process.

    It keeps the threads that it has once computed with. In the forked process these are not there,
    but are waited for.
    """
    if (torch := sys.modules.get('torch')) and hasattr(torch, 'set_num_threads'):
        torch.set_num_threads(1)
