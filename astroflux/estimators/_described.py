# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Parameters and arguments of a call as values that the metadata of a table can hold."""

from collections.abc import Iterable

import numpy as np

from astroflux.cutouts._catalog import is_catalog

__all__ = ['describe', 'plain']

# What is told by its type has one of these: a Background2D, and a GriddedPSFModel.
_NAMED = ('background', 'grid_xypos')


def describe(argument):
    """An argument of a call in a word, as it may be a large array."""
    if argument is None:
        return 'none'
    if isinstance(description := getattr(argument, 'description', None), str):
        return description
    if is_catalog(argument) or any(hasattr(argument, name) for name in _NAMED):
        return type(argument).__name__
    shape = getattr(argument, 'shape', None)
    if shape is None and isinstance(argument, Iterable) and not isinstance(argument, str):
        # one for each cutout, which may be arrays of different shapes
        return 'given'
    return f'array of shape {tuple(shape)}' if shape else plain(argument)


def plain(value):
    """A parameter as a value that can be written into any table format."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return str(value)
