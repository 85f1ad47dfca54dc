# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Which weights ship in the package; read without loading torch."""

import json
from functools import cache
from importlib import resources
from pathlib import Path

__all__ = ['available_weights', 'default_weights']

SUFFIX = '.safetensors'


def weights_folder():
    """Return the folder of the weights files, of their model cards and of their registry."""
    return resources.files('astroflux.networks') / 'weights'


@cache
def known_hashes():
    """Return the hashes of the weights in the package by their names."""
    return json.loads((weights_folder() / 'registry.json').read_text(encoding='utf-8'))


def available_weights():
    """
    Return the names of the weights that ship in the package.

    Returns
    -------
    names : tuple of str
        The default comes first.
    """
    return tuple(known_hashes())


def default_weights():
    """
    Return the name of the weights that `~astroflux.CNNFluxEstimator` uses if none are named.

    Returns
    -------
    name : str
    """
    return available_weights()[0]


def check_weights_name(weights):
    """
    Raise `ValueError` if there are no weights of a name or path.

    Parameters
    ----------
    weights : str or path-like
        A name from `available_weights`, or the path of a file.
    """
    if weights in available_weights() or Path(weights).is_file():
        return
    path = Path(weights)
    if path.suffix == SUFFIX or len(path.parts) > 1:
        msg = f'there is no file {str(weights)!r} of weights'
    else:
        known = ', '.join(map(repr, available_weights()))
        msg = (
            f'unknown weights {str(weights)!r}: want one of {known}, or the path of a {SUFFIX} file'
        )
    raise ValueError(msg)
