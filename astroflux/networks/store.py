# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Weights files: safetensors with their architecture, settings and hash."""

import hashlib
import json
import math
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from astroflux._tensor_files import check_entries, check_seal, open_tensor_file, read_json, seal
from astroflux._work import write_whole
from astroflux.networks.blueprint import check_settings, check_tensors, kinds_of
from astroflux.networks.profile_net import ProfileNet
from astroflux.networks.reference import answer_to_reference, compare_answers
from astroflux.networks.registry import (
    SUFFIX,
    check_weights_name,
    default_weights,
    known_hashes,
    weights_folder,
)
from astroflux.networks.study_net import StudyNet

__all__ = [
    'Weights',
    'WeightsError',
    'hash_of_tensors',
    'load_weights',
    'save_weights',
    'state_answer',
    'tensors_of',
]

FORMAT = 'astroflux-weights-1'
ARCHITECTURES = {'ProfileNet': ProfileNet, 'StudyNet': StudyNet}

# What a file says beside its tensors; of the network for blocks, that has settings, too.
ENTRIES = ('architecture', 'settings', 'name', 'sha256', 'metadata')
ANSWER = 'answer'
BLOCKS_SETTINGS = 'blocks_settings'

# Pairs in the metadata by which measurements are flagged.
RANGES = ('psf_fwhm_range', 'half_light_radius_range', 'log_flux_range')

# Tensors of the network for blocks of pixels begin with this; what it shares with the other
# network is stored once.
BLOCKS = 'blocks.'


class WeightsError(ValueError):
    """A weights file that is unknown, damaged or of another format."""


@dataclass(frozen=True)
class Weights:
    """
    A network and where it came from.

    Attributes
    ----------
    network : `torch.nn.Module`
        In evaluation mode.
    name : str
        Name of the weights.
    sha256 : str
        Hash of all tensors.
    metadata : dict
        What the file says of its making; among it ``psf_fwhm_range`` and
        ``half_light_radius_range``, what the training saw, in pixels.
    blocks : `torch.nn.Module` or None
        Network for galaxies in blocks of pixels, in evaluation mode; `None` if it is the same.
    """

    network: torch.nn.Module
    name: str
    sha256: str
    metadata: dict
    blocks: torch.nn.Module | None = None

    @property
    def network_for_blocks(self):
        """The network that measures galaxies in blocks of pixels."""
        return self.network if self.blocks is None else self.blocks


def hash_of_tensors(tensors):
    """Return the SHA-256, in hexadecimal, of tensors: names, types, shapes and values."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        array = tensors[name].detach().cpu().contiguous().numpy()
        digest.update(f'{name} {array.dtype} {array.shape} '.encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def tensors_of(network, blocks=None):
    """Return the tensors of a weights file: of the network for blocks what is different."""
    tensors = {k: v.detach().cpu().contiguous() for k, v in network.state_dict().items()}
    if blocks is not None:
        for name, value in blocks.state_dict().items():
            value = value.detach().cpu().contiguous()
            if name not in tensors or not torch.equal(tensors[name], value):
                tensors[f'{BLOCKS}{name}'] = value
    return tensors


def save_weights(path, network, *, name, metadata=None, blocks=None, dtype=None):
    """
    Write a network to a safetensors file.

    Parameters
    ----------
    path : path-like
        File to write.
    network : `torch.nn.Module`
        One of the architectures of this package.
    name : str
        Name of the weights.
    metadata : dict, optional
        What can be written as JSON about their making.
    blocks : `torch.nn.Module`, optional
        Network of the same architecture for galaxies in blocks of pixels, if that is another.
    dtype : `torch.dtype`, optional
        Type to store floating-point numbers in, such as `torch.float16` for half of the size.
        Loaded, they are again of the network's own type.

    Returns
    -------
    sha256 : str
        Hash of the tensors, as stored in the file.

    Raises
    ------
    WeightsError
        If the network gives no finite answer to the reference cutout, which is stored with it.
    """
    tensors = tensors_of(network, blocks)
    if dtype is not None:
        tensors = {k: v.to(dtype) if v.is_floating_point() else v for k, v in tensors.items()}
    header = {
        'format': FORMAT,
        'architecture': type(network).__name__,
        'settings': json.dumps(network.settings),
        'name': name,
        'sha256': hash_of_tensors(tensors),
        'metadata': json.dumps(metadata or {}),
    }
    if blocks is not None:
        header[BLOCKS_SETTINGS] = json.dumps(blocks.settings)
    with _errors_of(f'the network {name!r}'):
        _write(path, header, tensors)
    return header['sha256']


def state_answer(path):
    """Write the answer to the reference cutout into a weights file of a version without it."""
    with _errors_of(path):
        with open_tensor_file(path, 'pt') as (file, header, kinds):
            tensors = {name: file.get_tensor(name) for name in kinds}
        _write(path, header, tensors)


def _write(path, header, tensors):
    # of the numbers that are stored, which may be rounded
    header = {**header, ANSWER: json.dumps(_answer(*_networks(header, tensors)))}
    with write_whole(path) as part:
        try:
            save_file(tensors, part, metadata=seal(header))
        except SafetensorError as exc:
            msg = f'{path} cannot be written: {exc}'
            raise OSError(msg) from exc


@contextmanager
def _errors_of(what):
    """Raise a `WeightsError` for what is wrong with a file, or a network to be one."""
    try:
        yield
    except WeightsError:
        raise
    except ValueError as exc:
        msg = f'{what} {exc}'
        raise WeightsError(msg) from exc


def _locate(weights):
    """Return path and expected hash of weights given by name or path."""
    registry = known_hashes()
    if isinstance(weights, str) and weights in registry:
        return weights_folder() / f'{weights}{SUFFIX}', registry[weights]
    try:
        check_weights_name(weights)
    except ValueError as exc:
        raise WeightsError(str(exc)) from None
    return Path(weights), None


def load_weights(weights=None):
    """
    Load a network by the name of its weights, or from a file.

    Parameters
    ----------
    weights : str or path-like, optional
        A name from `available_weights` (`default_weights` if not given) or the
        path of a file written by `save_weights`.

    Returns
    -------
    weights : `Weights`

    Raises
    ------
    WeightsError
        If the name is unknown, the file is not readable, its tensors do not
        have the hash that it or the package states, are not finite, or do not
        fit the architecture; or if the network does not measure the reference
        cutout as it did when it was written.

    Notes
    -----
    Settings, types and shapes are checked before any memory is taken for tensors.
    """
    path, expected = _locate(default_weights() if weights is None else weights)
    with _errors_of(path):
        header, tensors = _read(path)
        _check_hash(tensors, header['sha256'], expected)
        network, blocks = _networks(header, tensors)
        stated, found = read_json(header, ANSWER), _answer(network, blocks)
        for part, answer in found.items():
            compare_answers(answer, stated.get(part))
    metadata = json.loads(header['metadata'])
    return Weights(network, header['name'], header['sha256'], metadata, blocks)


def _read(path):
    """Return header and tensors of a file; the latter are not read before all else is right."""
    with open_tensor_file(path, 'pt') as (file, header, kinds):
        if header.get('format') != FORMAT:
            msg = f'holds no astroflux weights: its format is {header.get("format")!r}'
            raise ValueError(msg)
        check_entries(header, (*ENTRIES, ANSWER))
        _check_kinds(header, kinds)
        _check_metadata(read_json(header, 'metadata'))
        check_seal(header)
        return header, {name: file.get_tensor(name) for name in kinds}


def _check_kinds(header, kinds):
    """Check settings, and types and shapes of tensors, against the architecture."""
    if header['architecture'] not in ARCHITECTURES:
        msg = f'is for the unknown architecture {header["architecture"][:40]!r}'
        raise ValueError(msg)
    architecture = ARCHITECTURES[header['architecture']]
    network = _of_part(kinds, '')
    parts = {'settings': network}
    if BLOCKS_SETTINGS in header:
        parts[BLOCKS_SETTINGS] = {**network, **_of_part(kinds, BLOCKS)}
    elif own := _of_part(kinds, BLOCKS):
        msg = f'has tensors for blocks of pixels, as {min(own)!r}, but no settings for them'
        raise ValueError(msg)
    for name, stored in parts.items():
        settings = read_json(header, name)
        check_settings(architecture, settings)
        wanted = kinds_of(architecture, settings)
        try:
            check_tensors(wanted, stored)
        except ValueError as exc:
            msg = f'does not fit its architecture {header["architecture"]}: {exc}'
            raise ValueError(msg) from exc


def _check_metadata(metadata):
    """Check what measurements use."""
    for name in set(RANGES) & set(metadata):
        low_high = metadata[name]
        is_pair = isinstance(low_high, list) and [type(x) in (int, float) for x in low_high]
        if not (is_pair == [True, True] and low_high[0] <= low_high[1]):
            msg = f'states no range as {name}, but {repr(low_high)[:40]}'
            raise ValueError(msg)
    # nobody may know it
    if (rms := metadata.get('test_rms_dex')) is None:
        return
    if type(rms) not in (int, float) or not 0 <= rms < math.inf:
        msg = f'states no error as test_rms_dex, but {repr(rms)[:40]}'
        raise ValueError(msg)


def _check_hash(tensors, *stated):
    sha256 = hash_of_tensors(tensors)
    for want in stated:
        if want not in (None, sha256):
            msg = (
                f'is damaged or was changed: its tensors have the hash {sha256[:12]}..., want '
                f'{want[:12]}...'
            )
            raise ValueError(msg)


def _of_part(values, prefix):
    """Return what belongs to one of the two networks, by the names of tensors in it."""
    return {
        name.removeprefix(prefix): value
        for name, value in values.items()
        if name.startswith(BLOCKS) == bool(prefix)
    }


def _networks(header, tensors):
    """Return the network, and that for blocks or `None`."""
    network = _build(header, 'settings', _of_part(tensors, ''))
    if BLOCKS_SETTINGS not in header:
        return network, None
    own = _of_part(tensors, BLOCKS)
    return network, _build(header, BLOCKS_SETTINGS, {**network.state_dict(), **own})


def _build(header, settings, tensors):
    """Return a network with its weights."""
    network = ARCHITECTURES[header['architecture']](**json.loads(header[settings]))
    network.load_state_dict(tensors)
    numbers = [value for value in network.state_dict().values() if value.is_floating_point()]
    if not all(value.isfinite().all() for value in numbers):
        msg = 'has tensors that are not finite'
        raise ValueError(msg)
    if not any(value.any() for value in network.parameters()):
        msg = 'has tensors that are all zero'
        raise ValueError(msg)
    return network.eval()


def _answer(network, blocks):
    """Return what the networks say of the reference cutout."""
    answer = {'network': answer_to_reference(network)}
    if blocks is not None:
        answer['blocks'] = answer_to_reference(blocks, in_blocks=True)
    return answer
