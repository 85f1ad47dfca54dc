# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What a regression is trained on, and its files."""

import hashlib
import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np

from astroflux._forks import cached_property
from astroflux._installed import __version__
from astroflux._tensor_files import check_entries, check_seal, open_tensor_file, read_json, seal
from astroflux._work import write_whole
from astroflux.estimators.regression._features import FEATURES

__all__ = [
    'TrainingTable',
    'achievable_scatter',
    'locate_table',
    'read_training_table',
    'write_training_table',
]

SHIPPED = ('simulated-3',)
FORMAT = 'astroflux-regression-1'
ENTRIES = ('name', 'feature_names', 'sha256', 'metadata', 'params')

# Types of the arrays in files, as safetensors names them.
KINDS = {'features': 'F16', 'target': 'F32', 'scatter': 'F32', 'group': 'I32'}

# What an estimator takes from a file.
PARAMS = {'model': str, 'random_state': int | None}

# The scatter of ln flux that remains for the brightest galaxies.
SCATTER_FLOOR = 0.004


@dataclass(frozen=True, eq=False)
class TrainingTable:
    """Galaxies of known flux as a regression sees them."""

    features: np.ndarray  # (n, 26) float16, which is finer than a boosting's bins
    target: np.ndarray  # (n,) float32, ln of the true flux over the reference
    # (n,) float32, roughly the error of ln flux that any method makes; the smaller, the more a
    # galaxy weighs
    scatter: np.ndarray
    group: np.ndarray  # (n,) int32, the same for observations of the same galaxy
    name: str
    metadata: dict  # what can be written as JSON about its making

    @classmethod
    def from_features(cls, features, ln_flux, *, scatter, group, name, metadata=None):
        """
        Make a table, each number in the precision that files have.

        The true ln flux of each galaxy is in units of the noise; the others are as the
        attributes.
        """
        return cls(
            np.asarray(features.values, np.float16),
            np.asarray(ln_flux - features.ln_reference, np.float32),
            np.asarray(scatter, np.float32),
            np.asarray(group, np.int32),
            name,
            metadata or {},
        )

    @property
    def arrays(self):
        """The arrays by their names."""
        return {name: getattr(self, name) for name in ('features', 'target', 'scatter', 'group')}

    def __hash__(self):
        return hash(self.sha256)

    def __eq__(self, other):
        # By content, so that models are trained once per table, not once per object.
        return isinstance(other, TrainingTable) and self.sha256 == other.sha256

    @cached_property
    def sha256(self):
        """Hash of all arrays: names, types, shapes and values."""
        digest = hashlib.sha256()
        for name, array in self.arrays.items():
            digest.update(f'{name} {array.dtype} {array.shape} '.encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


def achievable_scatter(snr, floor=SCATTER_FLOOR):
    """Return roughly the scatter of ln flux that is achievable at a given S/N."""
    return np.hypot(1.5 / np.asarray(snr, float), floor)


def write_training_table(path, table, *, params=None):
    """Write a training table, and the parameters of the estimator that uses it, to safetensors."""
    from safetensors.numpy import save

    arrays = {name: np.ascontiguousarray(array) for name, array in table.arrays.items()}
    header = {
        'format': FORMAT,
        'astroflux_version': __version__,
        'name': table.name,
        'feature_names': json.dumps(FEATURES),
        'sha256': table.sha256,
        'metadata': json.dumps(table.metadata),
        'params': json.dumps(params or {}),
    }
    with write_whole(path) as part:
        part.write_bytes(save(arrays, metadata=seal(header)))


def read_training_table(path):
    """
    Return the training table of a file, and the parameters of the estimator that wrote it.

    Raises a `ValueError` if the file is no such table, is damaged, or has the features of another
    version, and a `FileNotFoundError` if there is none.
    """
    if not Path(path).is_file():
        msg = f'there is no training table {str(path)!r}'
        raise FileNotFoundError(msg)
    try:
        with open_tensor_file(path, 'numpy') as (file, header, kinds):
            metadata, params = _checked(header, kinds)
            arrays = {name: file.get_tensor(name) for name in KINDS}
        table = TrainingTable(**arrays, name=header['name'], metadata=metadata)
        _check_numbers(table, header['sha256'])
    except ValueError as exc:
        msg = f'{path} {exc}'
        raise ValueError(msg) from exc
    return table, params


def _checked(header, kinds):
    """Return metadata and parameters; what else a file says is checked before arrays are read."""
    if header.get('format') != FORMAT:
        msg = f'holds no training table: its format is {header.get("format")!r}'
        raise ValueError(msg)
    check_entries(header, ENTRIES)
    if header['feature_names'] != json.dumps(FEATURES):
        msg = f'has other features than this version of astroflux: {header["feature_names"][:200]}'
        raise ValueError(msg)
    n = max((shape[0] for _, shape in kinds.values() if shape), default=0)
    shapes = {name: (n, len(FEATURES)) if name == 'features' else (n,) for name in KINDS}
    wanted = {name: (kind, shapes[name]) for name, kind in KINDS.items()}
    if kinds != wanted:
        msg = f'holds no complete training table: its arrays are {kinds}, want {wanted}'
        raise ValueError(msg)
    metadata, params = read_json(header, 'metadata'), read_json(header, 'params')
    if bad := [k for k, v in params.items() if k not in PARAMS or not isinstance(v, PARAMS[k])]:
        msg = f'states parameters that are none: {bad[0][:40]} = {repr(params[bad[0]])[:40]}'
        raise ValueError(msg)
    check_seal(header)
    return metadata, params


def _check_numbers(table, stated):
    """Raise `ValueError` for numbers that are not those that were written, or make no sense."""
    if table.sha256 != stated:
        msg = (
            f'is damaged or was changed: its arrays have the hash {table.sha256[:12]}..., '
            f'want {stated[:12]}...'
        )
        raise ValueError(msg)
    # a feature may be unknown, but none is infinite
    is_finite = np.isfinite(table.target).all() and np.isfinite(table.scatter).all()
    if np.isinf(table.features).any() or not is_finite:
        msg = 'holds numbers that are not finite'
        raise ValueError(msg)
    if not (table.scatter > 0).all():
        msg = 'holds errors that are not positive'
        raise ValueError(msg)


def locate_table(name):
    """Return the path of a training table given by name or path."""
    if isinstance(name, str) and name in SHIPPED:
        return resources.files('astroflux') / 'data' / 'regression' / f'{name}.safetensors'
    path = Path(name)
    if path.is_file():
        return path
    known = ', '.join(repr(shipped) for shipped in SHIPPED)
    msg = (
        f'unknown training table {str(name)!r}: want {known}, or the path of a file that save wrote'
    )
    raise ValueError(msg)
