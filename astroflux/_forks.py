# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Threads and forked processes: locks that are not waited for in vain."""

import os
import sys
import threading

if sys.version_info >= (3, 12):
    from functools import cached_property
else:

    class cached_property:
        """
        That of functools as it is from Python 3.12 on.

        Before, all objects of a class share a lock: threads wait for one that measures another
        object, and a forked process for a thread that it does not have.
        """

        def __init__(self, function):
            self.function = function
            self.__doc__ = function.__doc__

        def __get__(self, instance, owner=None):
            if instance is None:
                return self
            value = vars(instance)[self.function.__name__] = self.function(instance)
            return value


__all__ = ['ForkLock', 'cached_property', 'call_after_fork']


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
