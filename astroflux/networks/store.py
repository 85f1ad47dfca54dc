# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Weights files: safetensors with their architecture, settings and hash."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from astroflux._work import write_whole
from astroflux.networks.profile_net import ProfileNet
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
    'tensors_of',
]

ARCHITECTURES = {'ProfileNet': ProfileNet, 'StudyNet': StudyNet}


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
    """
    tensors = tensors_of(network, blocks)
    if dtype is not None:
        tensors = {k: v.to(dtype) if v.is_floating_point() else v for k, v in tensors.items()}
    sha256 = hash_of_tensors(tensors)
    header = {
        'format': 'astroflux-weights-1',
        'architecture': type(network).__name__,
        'settings': json.dumps(network.settings),
        'name': name,
        'sha256': sha256,
        'metadata': json.dumps(metadata or {}),
    }
    if blocks is not None:
        header['blocks_settings'] = json.dumps(blocks.settings)
    with write_whole(path) as part:
        try:
            save_file(tensors, part, metadata=header)
        except SafetensorError as exc:
            msg = f'{path} cannot be written: {exc}'
            raise OSError(msg) from exc
    return sha256


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


def _read(path):
    try:
        with safe_open(path, framework='pt') as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as exc:
        msg = f'{path} is not a readable safetensors file: {exc}'
        raise WeightsError(msg) from exc
    if header.get('format') != 'astroflux-weights-1':
        msg = f'{path} holds no astroflux weights: its format is {header.get("format")!r}'
        raise WeightsError(msg)
    return header, tensors


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
        have the hash that it or the package states, or do not fit the
        architecture.
    """
    path, expected = _locate(default_weights() if weights is None else weights)
    header, tensors = _read(path)
    sha256 = hash_of_tensors(tensors)
    for stated in (header['sha256'], expected):
        if stated is not None and sha256 != stated:
            msg = (
                f'{path} is damaged or was changed: its tensors have the hash '
                f'{sha256[:12]}..., want {stated[:12]}...'
            )
            raise WeightsError(msg)
    if header['architecture'] not in ARCHITECTURES:
        msg = f'{path} is for the unknown architecture {header["architecture"]!r}'
        raise WeightsError(msg)
    network = _build(path, header, 'settings', _without_prefix(tensors, ''))
    blocks = None
    if 'blocks_settings' in header:
        own = _without_prefix(tensors, BLOCKS)
        blocks = _build(path, header, 'blocks_settings', {**network.state_dict(), **own})
    return Weights(network, header['name'], sha256, json.loads(header['metadata']), blocks)


def _without_prefix(tensors, prefix):
    """Return the tensors of one of the two networks, by their names in it."""
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(BLOCKS) == bool(prefix)
    }


def _build(path, header, settings, tensors):
    """Return a network with its weights."""
    network = ARCHITECTURES[header['architecture']](**json.loads(header[settings]))
    try:
        network.load_state_dict(tensors)
    except RuntimeError as exc:
        msg = f'{path} does not fit its architecture {header["architecture"]}: {exc}'
        raise WeightsError(msg) from exc
    return network.eval()
