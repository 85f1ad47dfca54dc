# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Safetensors files: tensors beside texts that say what they are, and a hash of these texts."""

import hashlib
import json
from contextlib import contextmanager

__all__ = ['check_entries', 'check_seal', 'open_tensor_file', 'read_json', 'seal']

SEAL = 'header_sha256'


def seal(header):
    """Return the texts of a header with a hash of them all."""
    return {**header, SEAL: _hash_of(header)}


def check_seal(header):
    """Raise `ValueError` if the texts of a header are not those that were sealed."""
    if header[SEAL] != (found := _hash_of(header)):
        msg = (
            f'is damaged or was changed: its header has the hash {found[:12]}..., want '
            f'{header[SEAL][:12]}...'
        )
        raise ValueError(msg)


def _hash_of(header):
    texts = sorted((name, text) for name, text in header.items() if name != SEAL)
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()


@contextmanager
def open_tensor_file(path, framework):
    """
    Open a safetensors file.

    Parameters
    ----------
    path : path-like
        The file.
    framework : {'pt', 'numpy'}
        Whose tensors it gives.

    Yields
    ------
    file : `safetensors.safe_open`
        Nothing but its header has been read.
    header : dict of str
        The texts.
    kinds : dict of tuple
        Type, as safetensors names it, and shape of each tensor by its name.

    Raises
    ------
    ValueError
        If it is no such file.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework=framework) as file:
            kinds = {}
            for name in file.keys():  # noqa: SIM118
                tensor = file.get_slice(name)
                kinds[name] = (tensor.get_dtype(), tuple(tensor.get_shape()))
            yield file, file.metadata() or {}, kinds
    except SafetensorError as exc:
        msg = f'is not a readable safetensors file: {exc}'
        raise ValueError(msg) from exc


def check_entries(header, names):
    """Raise `ValueError` if the header lacks a text, or its seal."""
    if missing := sorted({*names, SEAL} - set(header)):
        lacking = ', '.join(map(repr, missing))
        msg = f'lacks {lacking}: it is damaged, or of a development version of astroflux'
        raise ValueError(msg)


def read_json(header, name):
    """Return the dict that a text of the header holds as JSON, or raise `ValueError`."""
    try:
        value = json.loads(header[name])
    except (ValueError, RecursionError) as exc:
        msg = f'has {name} that are not JSON: {exc}'
        raise ValueError(msg) from exc
    if not isinstance(value, dict):
        msg = f'has {name} that are no names with values, but {header[name][:40]}'
        raise ValueError(msg)
    return value
