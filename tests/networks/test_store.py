# Licensed under a 3-clause BSD style license - see LICENSE.rst
import json
from importlib import resources

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from astroflux.networks import (
    ProfileNet,
    WeightsError,
    available_weights,
    load_weights,
    save_weights,
)

SMALL = {'channels': [4, 4, 4, 4], 'maps': 2, 'width': 8}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / 'small.safetensors'
    save_weights(path, ProfileNet(**SMALL), name='small', metadata={'psf_fwhm_range': [2, 6]})
    return path


def tamper(path, *, header=None, tensors=None):
    with safe_open(path, framework='pt') as file:
        old_header = file.metadata()
        old_tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file({**old_tensors, **(tensors or {})}, path, metadata={**old_header, **(header or {})})


def test_round_trip(path):
    network = ProfileNet(**SMALL)
    sha256 = save_weights(path, network, name='again', metadata={'seed': 3})
    weights = load_weights(path)
    assert weights.name == 'again'
    assert weights.sha256 == sha256
    assert weights.metadata == {'seed': 3}
    assert not weights.network.training
    torch.testing.assert_close(weights.network.state_dict(), network.state_dict())


def test_network_for_blocks(path):
    network, blocks = ProfileNet(**SMALL), ProfileNet(**SMALL, sees_binning=True)
    blocks.load_state_dict(network.state_dict(), strict=False)
    with torch.no_grad():
        blocks.correction.bias.fill_(0.25)
    sha256 = save_weights(path, network, name='both', blocks=blocks)
    weights = load_weights(path)
    assert weights.sha256 == sha256
    assert weights.network_for_blocks is weights.blocks
    assert not weights.blocks.training
    torch.testing.assert_close(weights.network.state_dict(), network.state_dict())
    torch.testing.assert_close(weights.blocks.state_dict(), blocks.state_dict())
    # what the two share is stored once
    with safe_open(path, framework='pt') as file:
        own = {name for name in file.keys() if name.startswith('blocks.')}  # noqa: SIM118
    assert own == {'blocks.correction.bias', 'blocks.binning.weight', 'blocks.binning.bias'}


def test_one_network_for_all(path):
    weights = load_weights(path)
    assert weights.blocks is None
    assert weights.network_for_blocks is weights.network


@pytest.mark.parametrize('name', available_weights())
def test_shipped_weights(name):
    weights = load_weights(name)
    assert weights.name == name
    low, high = weights.metadata['psf_fwhm_range']
    if name == 'study-2024':
        # all of its images have one PSF: 0.7 arcsec in pixels of 0.168
        assert low == high == pytest.approx(0.7 / 0.168)
    else:
        assert low < 3 < 6 < high
    folder = resources.files('astroflux.networks') / 'weights'
    assert json.loads((folder / 'registry.json').read_text())[name] == weights.sha256
    assert len((folder / f'{name}.safetensors').read_bytes()) < 5_000_000
    assert weights.sha256 in (folder / f'{name}.rst').read_text()


def test_unknown_name():
    with pytest.raises(WeightsError, match="unknown weights 'nonsense': want one of 'profile-5'"):
        load_weights('nonsense')


def test_wrong_hash(path):
    tamper(path, tensors={'correction.bias': torch.ones(1)})
    with pytest.raises(WeightsError, match=r'damaged or was changed: its tensors have the hash'):
        load_weights(path)


def test_not_safetensors(tmp_path):
    path = tmp_path / 'text.safetensors'
    path.write_text('not weights at all')
    with pytest.raises(WeightsError, match='not a readable safetensors file'):
        load_weights(path)


def test_other_format(path):
    tamper(path, header={'format': 'something-else'})
    with pytest.raises(WeightsError, match="its format is 'something-else'"):
        load_weights(path)


def test_unknown_architecture(path):
    tamper(path, header={'architecture': 'Oracle'})
    with pytest.raises(WeightsError, match="unknown architecture 'Oracle'"):
        load_weights(path)


def test_settings_that_do_not_fit(path):
    tamper(path, header={'settings': json.dumps({**SMALL, 'width': 9})})
    with pytest.raises(WeightsError, match='does not fit its architecture ProfileNet'):
        load_weights(path)
