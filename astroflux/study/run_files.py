# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The files of a run of the study: its settings, what its stages found, all of it in one."""

import json
import math
import os
from importlib import metadata
from pathlib import Path

import numpy as np

__all__ = [
    'DATA_NAME',
    'RESULTS_NAME',
    'SETTINGS_NAME',
    'STUDY_NAME',
    'fit_for_json',
    'prepare_folder',
    'read_json',
    'read_study',
    'versions',
    'write_json',
]

SETTINGS_NAME = 'settings.json'
RESULTS_NAME = 'results.json'
STUDY_NAME = 'study.json'

# Folder of the data set, unless one is given.
DATA_NAME = 'dataset'

# What numbers depend on, beside this package, whose version each stage tells of itself.
PACKAGES = ('numpy', 'scipy', 'astropy', 'photutils', 'pandas', 'scikit-learn', 'torch', 'galsim')


def versions():
    """
    Tell the versions of the other packages that the numbers of a run depend on.

    Returns
    -------
    versions : dict of str to str
    """
    installed = {}
    for name in PACKAGES:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            installed[name] = 'not installed'
    return installed


def write_json(content, path):
    """
    Write a file that is either whole or not there.

    Parameters
    ----------
    content : dict
        Fit for JSON, see `fit_for_json`.
    path : `~pathlib.Path`
        The file; it is overwritten.
    """
    part = path.with_name(f'{path.name}.part')
    part.write_text(json.dumps(content, indent=1, allow_nan=False) + '\n', encoding='utf-8')
    os.replace(part, path)


def read_json(path):
    """
    Read a file that `write_json` has written.

    Parameters
    ----------
    path : `~pathlib.Path`
        The file.

    Returns
    -------
    content : dict

    Raises
    ------
    ValueError
        If it does not hold JSON.
    """
    try:
        return json.loads(path.read_text(encoding='utf-8'))
    except ValueError as exc:
        msg = f'{path} is damaged: {exc}'
        if path.name != SETTINGS_NAME:
            msg += '. Without it, its numbers are made again'
        raise ValueError(msg) from None


def fit_for_json(value):
    """
    Make plain values of what a stage returned: numbers that are not finite become `None`.

    Parameters
    ----------
    value : object
        Numbers, text, and sequences and mappings of them; those of numpy too.

    Returns
    -------
    value : object
        Fit for JSON.

    Raises
    ------
    TypeError
        If it holds anything else.
    """
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, dict):
        return {str(name): fit_for_json(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [fit_for_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, str | int | float):
        return value
    msg = f'want numbers, text, and lists and dicts of them, got {type(value).__name__}: {value!r}'
    raise TypeError(msg)


def prepare_folder(directory, settings, *, resume=False):
    """
    Make the folder of a run; refuse one that holds another run.

    Parameters
    ----------
    directory : `~pathlib.Path`
        The folder.
    settings : dict
        Of the run: whatever its numbers depend on. They are written first.
    resume : bool
        Whether to go on with a run that is in the folder.

    Raises
    ------
    FileExistsError
        If the folder holds a run and ``resume`` is false, or results of which no one knows the
        settings.
    ValueError
        If the run in the folder was begun with other settings.
    """
    path = directory / SETTINGS_NAME
    if not path.exists():
        if found := sorted(directory.glob(f'*/{RESULTS_NAME}')):
            msg = f'{directory} holds results, such as {found[0]}, but no {SETTINGS_NAME} of them'
            raise FileExistsError(msg)
        directory.mkdir(parents=True, exist_ok=True)
        write_json(settings, path)
        return
    if not resume:
        msg = f'{directory} holds a run of the study: resume it, or name another folder'
        raise FileExistsError(msg)
    begun, now = _flat(read_json(path)), _flat(settings)
    if names := [name for name in {**begun, **now} if begun.get(name) != now.get(name)]:
        others = ', '.join(f'{name}={begun.get(name)!r}' for name in names)
        given = ', '.join(f'{name}={now.get(name)!r}' for name in names)
        msg = f'the run in {directory} was begun with {others}, not with {given}'
        raise ValueError(msg)


def _flat(settings, prefix=''):
    """Settings without levels, by names with dots."""
    flat = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            flat |= _flat(value, f'{prefix}{name}.')
        else:
            flat[prefix + name] = value
    return flat


def read_study(directory):
    """
    Read all that a run found.

    Parameters
    ----------
    directory : path-like
        Folder of the run.

    Returns
    -------
    study : dict
        ``settings``, ``machine`` and ``stages``: what each stage returned, its ``seconds``, and
        the ``version`` of this package that it ran with.

    Raises
    ------
    FileNotFoundError
        If the folder holds no run of which a stage is done.
    ValueError
        If the file is damaged.
    """
    path = Path(directory) / STUDY_NAME
    if not path.is_file():
        msg = f'{directory} holds no run of the study: it has no {STUDY_NAME}'
        raise FileNotFoundError(msg)
    return read_json(path)
