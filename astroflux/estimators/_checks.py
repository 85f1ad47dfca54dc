# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What is a good value of a parameter, and how to say so: pairs of a predicate and a text."""

from numbers import Integral, Real

__all__ = [
    'FRACTION',
    'NOT_NEGATIVE',
    'POSITIVE',
    'POSITIVE_INTEGER',
    'check_values',
    'numbers',
    'one_of',
]


def _number(value):
    """Return a plain number as a float; raise for all else, such as a length in some unit."""
    if not isinstance(value, Real):
        raise TypeError
    return float(value)


POSITIVE = (lambda value: _number(value) > 0, 'must be positive')
NOT_NEGATIVE = (lambda value: _number(value) >= 0, 'must not be negative')
FRACTION = (lambda value: 0 <= _number(value) <= 1, 'must be between 0 and 1')
POSITIVE_INTEGER = (
    lambda value: isinstance(value, Integral) and value >= 1,
    'must be a positive integer',
)


def one_of(*values):
    """One of a few values."""
    *others, last = (repr(value) for value in values)
    return (lambda value: value in values), f'must be {", ".join(others)} or {last}'


def numbers(n, text):
    """A tuple of numbers; the text says how many."""

    def is_good(value):
        return len(value) == n and all(isinstance(item, Real) for item in value)

    return is_good, f'must be {text} numbers'


def check_values(checks, owner):
    """Raise a `ValueError` if an attribute of the owner is no good value."""
    for name, (is_good, wanted) in checks.items():
        value = getattr(owner, name)
        try:
            good = is_good(value)
        except Exception:  # of any kind but the one that is wanted, and of any library
            good = False
        if not good:
            msg = f'{name} {wanted}, got {value!r}'
            raise ValueError(msg)
