# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Parameters and arguments of a call as values that the metadata of a table can hold."""

import numpy as np

from astroflux.cutouts._catalog import is_catalog

__all__ = ['describe', 'plain']


def describe(argument):
    """An argument of a call in a word, as it may be a large array."""
    if argument is None:
        return 'none'
    if is_catalog(argument) or hasattr(argument, 'background'):
        return type(argument).__name__
    # those of a list may differ in shape, or be none
    if not isinstance(argument, list | tuple) and np.ndim(argument) == 0:
        return plain(argument)
    shape = getattr(argument, 'shape', None)
    return 'given' if shape is None else f'array of shape {tuple(shape)}'


def plain(value):
    """A parameter as a value that can be written into any table format."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return str(value)
