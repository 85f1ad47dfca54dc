# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What a weights file must hold to be a network: settings, and tensors of types and shapes."""

import inspect
import math

import torch

__all__ = ['check_settings', 'check_tensors', 'kinds_of']

# Numbers of layers, channels and the like in the settings are at most this, and lists so long.
LARGEST = 4096
LONGEST = 16

# How the types of floating-point numbers and integers are named in files.
FLOATS = ('F16', 'F32', 'F64')
INTEGERS = ('I64',)


def check_settings(architecture, settings):
    """
    Raise `ValueError` if settings are not of the types and ranges of an architecture.

    Parameters
    ----------
    architecture : type
        Class of the network; its defaults tell the types.
    settings : dict
        As read from a file.
    """
    parameters = inspect.signature(architecture).parameters
    for name, value in settings.items():
        if name not in parameters:
            msg = f'has the unknown setting {name[:40]!r}'
            raise ValueError(msg)
        if not _is_like(value, parameters[name].default):
            msg = f'has a setting out of its range: {name} = {repr(value)[:40]}'
            raise ValueError(msg)


def _is_like(value, default):
    """Return whether a value from JSON can stand for a default."""
    if isinstance(default, tuple):
        return (
            isinstance(value, list)
            and len(value) <= LONGEST
            and all(_is_like(item, default[0]) for item in value)
        )
    if isinstance(default, bool | str):
        return type(value) is type(default)
    if isinstance(default, int):
        return type(value) is int and 0 <= value <= LARGEST
    return type(value) in (int, float) and 0 <= value < math.inf


def kinds_of(architecture, settings):
    """
    Return what the tensors of a network are like, without their memory.

    Parameters
    ----------
    architecture : type
        Class of the network.
    settings : dict
        That `check_settings` has passed.

    Returns
    -------
    kinds : dict of tuple
        Names of possible types, and the shape, by the names of the tensors.

    Raises
    ------
    ValueError
        If no network can have such settings.
    """
    try:
        with torch.device('meta'):
            network = architecture(**settings)
    except Exception as exc:  # whatever torch says of sizes
        msg = f'has settings of no {architecture.__name__}: {str(exc)[:200]}'
        raise ValueError(msg) from exc
    return {
        name: (FLOATS if tensor.is_floating_point() else INTEGERS, tuple(tensor.shape))
        for name, tensor in network.state_dict().items()
    }


def check_tensors(wanted, stored):
    """
    Raise `ValueError` if tensors are not those of a network.

    Parameters
    ----------
    wanted : dict of tuple
        Of `kinds_of`.
    stored : dict of tuple
        Type and shape of each tensor that there is.
    """
    for what, names in (('lacks', wanted.keys() - stored), ('has', stored.keys() - wanted)):
        if names:
            msg = f'it {what} the tensor {min(names)[:60]!r}'
            raise ValueError(msg)
    for name, (types, shape) in wanted.items():
        kind, found = stored[name]
        if found != shape or kind not in types:
            msg = f'the tensor {name!r} is {kind} {found}, want {" or ".join(types)} {shape}'
            raise ValueError(msg)
