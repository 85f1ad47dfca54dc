# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Write an estimator of few numbers as JSON, and read it back."""

import json
from pathlib import Path

import numpy as np
from astropy import units as u

import astroflux

__all__ = ['read_estimator', 'write_estimator']


def write_estimator(estimator, path, *, fitted=()):
    """
    Write the class, the parameters and the fitted attributes of an estimator.

    Parameters
    ----------
    estimator : `~astroflux.estimators.base.FluxEstimator`
        The estimator; its parameters must be plain values or quantities.

    path : str or `~pathlib.Path`
        The file; it is overwritten.

    fitted : tuple of str, optional
        The fitted attributes to write, if there.
    """
    content = {
        'estimator': type(estimator).__name__,
        'astroflux_version': astroflux.__version__,
        'params': estimator.get_params(deep=False),
        'fitted': {name: getattr(estimator, name) for name in fitted if hasattr(estimator, name)},
    }
    # made in full before the file is touched, so that a failure leaves no half of it
    text = json.dumps(content, indent=2, default=_encode)
    Path(path).write_text(text + '\n', encoding='utf-8')


def read_estimator(cls, path, *, fitted=()):
    """
    Read an estimator that `write_estimator` wrote.

    Parameters
    ----------
    cls : type
        The class that the file must hold.

    path : str or `~pathlib.Path`
        The file.

    fitted : tuple of str, optional
        The fitted attributes that the file may hold.

    Returns
    -------
    estimator : ``cls``

    Raises
    ------
    ValueError
        If the file is not JSON, or does not hold an estimator of this class with the parameters
        that it knows.
    """
    text = Path(path).read_bytes()
    try:
        content = json.loads(text, object_hook=_decode)
    except ValueError as exc:
        msg = f"'{path}' is not a file of a saved {cls.__name__}: {exc}"
        raise ValueError(msg) from exc
    if not isinstance(content, dict) or content.get('estimator') != cls.__name__:
        found = content.get('estimator') if isinstance(content, dict) else type(content).__name__
        msg = f"'{path}' does not hold a {cls.__name__}, but {found!r}"
        raise ValueError(msg)
    params = {name: _tuples(value) for name, value in content.get('params', {}).items()}
    if unknown := sorted(set(params) - set(cls._get_param_names())):
        msg = f"'{path}' has parameters that {cls.__name__} does not know: {unknown}"
        raise ValueError(msg)
    estimator = cls(**params)
    for name in fitted:
        if name in content.get('fitted', {}):
            setattr(estimator, name, float(content['fitted'][name]))
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
