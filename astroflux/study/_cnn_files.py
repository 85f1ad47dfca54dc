# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Files of a training of the study: its checkpoint, and what it leaves when it is finished."""

import hashlib
import json
import math
import os
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors import safe_open
from safetensors.torch import save_file

from astroflux.networks.store import save_weights

__all__ = [
    'WEIGHTS_NAME',
    'fingerprint_of',
    'read_checkpoint',
    'read_finished',
    'write_checkpoint',
    'write_finished',
]

CHECKPOINT_NAME = 'checkpoint.safetensors'
HISTORY_NAME = 'history.csv'
PREDICTIONS_NAME = 'predictions.npy'
WEIGHTS_NAME = 'weights.safetensors'
# The last one to be written: a folder that has it is finished.
SUMMARY_NAME = 'summary.json'

# Columns of the history.
MEASURED = ('train_loss', 'test_loss', 'seconds')

# What Adam keeps of each parameter.
ADAM_STATE = ('step', 'exp_avg', 'exp_avg_sq')


def fingerprint_of(configuration, train, test):
    """
    Return what makes a training what it is.

    Parameters
    ----------
    configuration : `~astroflux.study.cnn.CNNConfiguration`
        How to train.
    train, test : `~astroflux.study.loader.StudySet`
        The galaxies.

    Returns
    -------
    fingerprint : dict
        The configuration's attributes, ``n_train``, ``n_test`` and a hash of the fluxes.
    """
    digest = hashlib.sha256()
    for part in (train, test):
        digest.update(np.ascontiguousarray(part.table[['img_number', 'total_flux']], float))
    fingerprint = {
        **asdict(configuration),
        'n_train': len(train),
        'n_test': len(test),
        'galaxies': digest.hexdigest()[:16],
    }
    # as it is when it was read from a file
    return json.loads(json.dumps(fingerprint))


def _compare(directory, found, wanted):
    """Refuse a folder with another training."""
    if found != wanted:
        names = [name for name in wanted if found.get(name) != wanted[name]]
        begun = ', '.join(f'{name}={found.get(name)!r}' for name in names)
        given = ', '.join(f'{name}={wanted[name]!r}' for name in names)
        msg = f'the training in {directory} was begun with {begun}, not with {given}'
        raise ValueError(msg)


def write_checkpoint(directory, fingerprint, network, optimiser, history):
    """
    Write the state of a training; a crash while writing leaves the old one.

    Parameters
    ----------
    directory : `~pathlib.Path`
        Folder of the training.
    fingerprint : dict
        From `fingerprint_of`.
    network : `torch.nn.Module`
        With its weights.
    optimiser : `torch.optim.Adam`
        Of these.
    history : list of dict
        One per epoch.
    """
    tensors = {f'network.{name}': value for name, value in network.state_dict().items()}
    kept = optimiser.state_dict()['state']
    for index, state in kept.items():
        tensors |= {f'adam.{index}.{name}': state[name] for name in ADAM_STATE}
    header = {'training': json.dumps(fingerprint), 'history': json.dumps(history)}
    partial = directory / f'{CHECKPOINT_NAME}.partial'
    save_file({k: v.contiguous() for k, v in tensors.items()}, partial, metadata=header)
    os.replace(partial, directory / CHECKPOINT_NAME)
    # to look at while it runs
    pd.DataFrame(history).to_csv(directory / HISTORY_NAME, index=False)


def read_checkpoint(directory, fingerprint, network, optimiser):
    """
    Read the state of a training, if there is one.

    Parameters
    ----------
    directory, fingerprint
        As for `write_checkpoint`.
    network : `torch.nn.Module`
        It gets the weights.
    optimiser : `torch.optim.Adam`
        It gets its state.

    Returns
    -------
    history : list of dict
        One per epoch that is done.

    Raises
    ------
    ValueError
        If the training was begun differently.
    """
    path = directory / CHECKPOINT_NAME
    if not path.exists():
        return []
    with safe_open(path, framework='pt') as file:
        header = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    _compare(directory, json.loads(header['training']), fingerprint)
    network.load_state_dict(
        {k.removeprefix('network.'): v for k, v in tensors.items() if k.startswith('network.')}
    )
    state = optimiser.state_dict()
    state['state'] = {
        index: {name: tensors[f'adam.{index}.{name}'] for name in ADAM_STATE}
        for index in range(len(list(network.parameters())))
    }
    optimiser.load_state_dict(state)
    return json.loads(header['history'])


def write_finished(directory, fingerprint, network, history, predictions, summary, test):
    """
    Write what a training leaves, and remove its checkpoint.

    Parameters
    ----------
    directory, fingerprint, network, history
        As for `write_checkpoint`.
    predictions : 1D `~numpy.ndarray`
        Answers to the test images.
    summary : dict
        Losses.
    test : `~astroflux.study.loader.StudySet`
        The test images.
    """
    summary = {
        **summary,
        'variance': float(np.var(test.log_flux)),
        'seconds': sum(row['seconds'] for row in history),
    }
    pd.DataFrame(history).to_csv(directory / HISTORY_NAME, index=False)
    np.save(directory / PREDICTIONS_NAME, predictions, allow_pickle=False)
    loss = summary['test_loss']
    metadata = {
        'test_rms_dex': math.sqrt(loss) if math.isfinite(loss) else None,
        'log_flux_range': summary['log_flux_range'],
        'zeropoint': test.zeropoint,
        'noise': test.noise,
        'training': fingerprint,
        'summary': {k: _plain(v) for k, v in summary.items()},
    }
    name = f'study-{fingerprint["name"]}'
    save_weights(directory / WEIGHTS_NAME, network, name=name, metadata=metadata)
    partial = directory / f'{SUMMARY_NAME}.partial'
    content = {
        'training': fingerprint,
        'summary': metadata['summary'],
        'history': [{k: _plain(v) for k, v in row.items()} for row in history],
    }
    partial.write_text(json.dumps(content, indent=1, allow_nan=False) + '\n')
    os.replace(partial, directory / SUMMARY_NAME)
    (directory / CHECKPOINT_NAME).unlink(missing_ok=True)


def _plain(value):
    """A number as JSON has it: a loss that diverged is none."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_finished(directory, fingerprint):
    """
    Read what a training left, if it is finished.

    Parameters
    ----------
    directory : path-like
        Folder of the training.
    fingerprint : dict
        From `fingerprint_of`.

    Returns
    -------
    finished : tuple or None
        The history (`~pandas.DataFrame`), the answers to the test images and the summary.

    Raises
    ------
    ValueError
        If it is another training.
    """
    directory = Path(directory)
    path = directory / SUMMARY_NAME
    if not path.exists():
        if (directory / CHECKPOINT_NAME).exists():
            with safe_open(directory / CHECKPOINT_NAME, framework='pt') as file:
                _compare(directory, json.loads(file.metadata()['training']), fingerprint)
        return None
    content = json.loads(path.read_text())
    _compare(directory, content['training'], fingerprint)
    predictions = np.load(directory / PREDICTIONS_NAME, allow_pickle=False)
    # as JSON has numbers, every digit is there; what diverged is none
    history = pd.DataFrame(content['history']).astype(dict.fromkeys(MEASURED, float))
    summary = {k: math.nan if v is None else v for k, v in content['summary'].items()}
    return history, predictions, summary
