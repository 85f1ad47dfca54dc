# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Warnings of libraries that say nothing which a result does not say, too."""

import sys
import warnings
from contextlib import contextmanager

from astroflux._forks import ForkLock, call_after_fork

__all__ = ['quiet_libraries']

# Modules whose warnings are ignored.
LIBRARIES = r'(astropy|numpy|photutils|scipy|skimage|statmorph)(\.|$)'

# How many blocks are being executed, in all threads, and the filters to go back to.
_lock = ForkLock()
_n_within = 0
_before = None


@call_after_fork
def _forget():
    global _n_within
    _n_within = 0


@contextmanager
def quiet_libraries():
    """
    Ignore the warnings of libraries in a block.

    The filters of warnings are those of all threads: `warnings.catch_warnings` in several of them
    leaves behind what one has set. Here the first thread sets a filter and the last one goes back,
    and warnings of other modules pass.
    """
    if getattr(sys.flags, 'context_aware_warnings', False):
        # from Python 3.14 on, filters can be those of a thread
        with warnings.catch_warnings():
            warnings.filterwarnings('ignore', module=LIBRARIES)
            yield
        return
    _enter()
    try:
        yield
    finally:
        _leave()


def _enter():
    global _n_within, _before
    with _lock:
        if not _n_within:
            _before = warnings.catch_warnings()
            _before.__enter__()
            warnings.filterwarnings('ignore', module=LIBRARIES)
        _n_within += 1


def _leave():
    global _n_within
    with _lock:
        _n_within -= 1
        if not _n_within:
            _before.__exit__(None, None, None)
