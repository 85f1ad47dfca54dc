# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Warnings where there are threads: before Python 3.14 their filters are those of all threads."""

import sys
import warnings
from contextlib import contextmanager

from astroflux._forks import ForkLock, call_after_fork

__all__ = ['keep_filters', 'quiet_libraries']

# Modules whose warnings are ignored.
LIBRARIES = r'(astropy|numpy|photutils|scipy|skimage|statmorph)(\.|$)'

# What `warnings.catch_warnings` keeps.
STATE = ('filters', 'showwarning', '_showwarnmsg_impl')


class _Shared:
    """A block that several threads may be in: the first one enters, the last one leaves."""

    def __init__(self, enter, leave):
        self.enter, self.leave = enter, leave
        self.lock = ForkLock()
        self._begin()
        call_after_fork(self._begin)

    def _begin(self):
        self.n_within, self.is_shared = 0, False

    @contextmanager
    def __call__(self):
        if getattr(sys.flags, 'context_aware_warnings', False):
            # each thread has its own filters
            with warnings.catch_warnings():
                self.enter()
                yield
            return
        with self.lock:
            if not self.n_within:
                self.kept = self.enter()
                self.is_shared = False
            self.n_within += 1
            self.is_shared |= self.n_within > 1
        try:
            yield
        finally:
            with self.lock:
                self.n_within -= 1
                if not self.n_within:
                    self.leave(self.kept, is_shared=self.is_shared)


def _ignore():
    caught = warnings.catch_warnings()
    caught.__enter__()
    warnings.filterwarnings('ignore', module=LIBRARIES)
    return caught


def _end_ignoring(caught, *, is_shared):
    caught.__exit__()


def _state():
    known = {name: getattr(warnings, name) for name in STATE if hasattr(warnings, name)}
    return known, list(warnings.filters)


def _go_back(kept, *, is_shared):
    if not is_shared:
        return
    state, filters = kept
    for name, value in state.items():
        setattr(warnings, name, value)
    warnings.filters[:] = filters
    # tells the interpreter that they have changed
    with warnings.catch_warnings():
        pass


_quiet = _Shared(_ignore, _end_ignoring)
_kept = _Shared(_state, _go_back)


def quiet_libraries():
    """
    Return a context in which the warnings of libraries are ignored, those of other modules not.

    Several threads may be in it: `warnings.catch_warnings` would leave behind what one has set.
    """
    return _quiet()


def keep_filters():
    """
    Return a context after which the filters of warnings are as before.

    Libraries use `warnings.catch_warnings`, which is not made for threads. If only one thread was
    in the context, nothing is done.
    """
    return _kept()
