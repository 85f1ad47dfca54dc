# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Write an estimator of few numbers as JSON, and read it back."""

import json
from pathlib import Path

import numpy as np
from astropy import units as u

from astroflux._installed import __version__
from astroflux._work import write_whole

__all__ = ['read_estimator', 'refuse_to_replace', 'write_estimator']


def refuse_to_replace(path, *, overwrite):
    """Raise a `FileExistsError` if a file is there that may not be replaced."""
    if not overwrite and Path(path).exists():
        msg = f"'{path}' exists; overwrite=True replaces it"
        raise FileExistsError(msg)


def write_estimator(estimator, path, *, fitted=()):
    """Write the class, the parameters and the fitted attributes (those there are)."""
    params = {
        name: value
        for name, value in estimator.get_params().items()
        # a part of the estimator stands as its own parameters, ``part__name``
        if name not in estimator._unsaved and not hasattr(value, 'get_params')
    }
    content = {
        'estimator': type(estimator).__name__,
        'astroflux_version': __version__,
        'params': params,
        'fitted': {name: getattr(estimator, name) for name in fitted if hasattr(estimator, name)},
    }
    text = json.dumps(content, indent=2, default=_encode)
    with write_whole(path) as part:
        part.write_text(text + '\n', encoding='utf-8')


def read_estimator(cls, path, *, fitted=()):
    """Read an estimator of a class, or raise a `ValueError`."""
    text = Path(path).read_bytes()
    try:
        content = json.loads(text, object_hook=_decode)
    except (ValueError, TypeError, OverflowError, u.UnitsError, RecursionError) as exc:
        msg = f"'{path}' is not a file of a saved {cls.__name__}: {exc}"
        raise ValueError(msg) from exc
    if not isinstance(content, dict) or content.get('estimator') != cls.__name__:
        found = content.get('estimator') if isinstance(content, dict) else type(content).__name__
        msg = f"'{path}' does not hold a {cls.__name__}, but {found!r}"
        raise ValueError(msg)
    params, learned = (content.get(name, {}) for name in ('params', 'fitted'))
    if not (isinstance(params, dict) and isinstance(learned, dict)):
        msg = f"'{path}' must have 'params' and 'fitted' by their names"
        raise ValueError(msg)
    params = {name: _tuples(value) for name, value in params.items()}
    known = cls._get_param_names()
    if unknown := sorted(name for name in params if name.partition('__')[0] not in known):
        msg = f"'{path}' has parameters that {cls.__name__} does not know: {unknown}"
        raise ValueError(msg)
    if unsaved := sorted(set(params) & set(cls._unsaved)):
        msg = f"'{path}' has parameters that {cls.__name__} takes from no file: {unsaved}"
        raise ValueError(msg)
    parts = {name: params.pop(name) for name in list(params) if '__' in name}
    try:
        estimator = cls(**params).set_params(**parts)
        for name in learned.keys() & {*fitted}:
            setattr(estimator, name, float(learned[name]))
    except (TypeError, ValueError, AttributeError, OverflowError) as exc:
        msg = f"'{path}' is not a file of a saved {cls.__name__}: {exc}"
        raise ValueError(msg) from exc
    return estimator


def _encode(value):
    if isinstance(value, u.Quantity):
        return {'value': value.value.tolist(), 'unit': value.unit.to_string()}
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    msg = f'a parameter of type {type(value).__name__} cannot be saved'
    raise TypeError(msg)


def _decode(mapping):
    if set(mapping) == {'value', 'unit'}:
        return u.Quantity(mapping['value'], mapping['unit'])
    return mapping


def _tuples(value):
    # JSON has lists alone; parameters are tuples
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
