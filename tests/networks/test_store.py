# Licensed under a 3-clause BSD style license - see LICENSE.rst
import json
import sys
from importlib import resources

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from astroflux._tensor_files import seal
from astroflux.networks import (
    ProfileNet,
    WeightsError,
    available_weights,
    load_weights,
    save_weights,
)
from astroflux.networks.reference import answer_to_reference, compare_answers
from astroflux.networks.registry import weights_folder
from astroflux.networks.store import hash_of_tensors, state_answer
from astroflux.networks.study_net import StudyNet

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


# -- damaged files -----------------------------------------------------------------------------


def rewrite(path, *, header=None, tensors=None, drop=()):
    """Write a file anew, with all hashes as if that were meant."""
    with safe_open(path, framework='pt') as file:
        texts = {**file.metadata(), **(header or {})}
        values = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    values |= tensors or {}
    if not any(value.dtype == torch.bfloat16 for value in values.values()):
        texts['sha256'] = hash_of_tensors(values)
    texts = {name: text for name, text in texts.items() if name not in drop}
    values = {name: value for name, value in values.items() if name not in drop}
    save_file(values, path, metadata=seal(texts))


def copy_of(name, folder):
    """Return the path of a copy of weights in the package."""
    path = folder / 'copy.safetensors'
    path.write_bytes((weights_folder() / f'{name}.safetensors').read_bytes())
    return path


def tensors_in(path):
    with safe_open(path, framework='pt') as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def damaged(content, rng):
    """Return a file with some bytes changed, cut out, put in or cut off."""
    content, kind = bytearray(content), rng.integers(5)
    # as often where the texts are as where the tensors are
    end = len(content) if rng.integers(2) else 8 + int.from_bytes(content[:8], 'little')
    where = int(rng.integers(end))
    if kind == 0:
        content[where] ^= 1 << rng.integers(8)
    elif kind == 1:
        content[where : where + 16] = rng.bytes(16)
    elif kind == 2:
        del content[where:]
    elif kind == 3:
        del content[where : where + 8]
    else:
        content[where:where] = rng.bytes(8)
    return bytes(content)


@pytest.mark.parametrize('architecture', [ProfileNet, StudyNet])
def test_damaged_files_are_refused(architecture, tmp_path):
    """With one kind of error, which names the file."""
    path = tmp_path / 'a.safetensors'
    network = ProfileNet(**SMALL) if architecture is ProfileNet else StudyNet()
    save_weights(path, network, name='a', metadata={'psf_fwhm_range': [2, 6]})
    content, rng = path.read_bytes(), np.random.default_rng(8)
    for _ in range(200):
        path.write_bytes(damaged(content, rng))
        with pytest.raises(WeightsError, match=r'a\.safetensors'):
            load_weights(path)
    path.write_bytes(content)
    assert load_weights(path).name == 'a'


@pytest.mark.parametrize(
    'settings',
    [
        {'width': 1_000_000},
        {'width': 10**30},
        {'width': 4000},
        {'width': -1},
        {'width': 0},
        {'width': True},
        {'width': '8'},
        {'width': 8.0},
        {'width': None},
        {'maps': -1},
        {'maps': 4096},
        {'channels': []},
        {'channels': [4, 4, 4]},
        {'channels': [4, 4, 4, 4096]},
        {'channels': [4] * 1000},
        {'channels': 4},
        {'channels': [4, 4, 4, 'x']},
        {'n_steps': 10**9},
        {'n_steps': 0},
        {'n_neighbors': 10**9},
        {'n_neighbors': 2},
        {'sees_binning': 1},
        {'outputs': ['nonsense']},
        {'outputs': ['ln_radius']},
        {'other': 1},
    ],
    ids=str,
)
def test_bad_settings(path, settings):
    """Before memory is taken for them."""
    resource = pytest.importorskip('resource')
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rewrite(path, header={'settings': json.dumps({**SMALL, **settings})})
    with pytest.raises(WeightsError, match=r'small\.safetensors (has|does not fit)'):
        load_weights(path)
    taken = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert taken < 300e6 / (1 if sys.platform == 'darwin' else 1024)


@pytest.mark.parametrize(
    ('settings', 'text'),
    [
        ({'scale': 0.0}, 'scale must be positive'),
        ({'scale': -1}, 'out of its range: scale'),
        ({'scale': 2.0}, 'does not measure as it did when it was written: log_flux'),
        ({'stretch': 'asinh'}, 'does not measure as it did when it was written: log_flux'),
        ({'stretch': 'other'}, "stretch must be 'linear' or 'asinh'"),
        ({'dropout': 3}, 'dropout probability has to be between 0 and 1'),
        ({'n_columns': 2}, 'does not fit its architecture StudyNet'),
    ],
    ids=str,
)
def test_bad_settings_of_a_study_network(tmp_path, settings, text):
    path = copy_of('study-2024', tmp_path)
    rewrite(path, header={'settings': json.dumps(settings)})
    with pytest.raises(WeightsError, match=text):
        load_weights(path)


@pytest.mark.parametrize('name', ['sha256', 'architecture', 'settings', 'name', 'metadata'])
def test_incomplete_header(path, name):
    rewrite(path, drop=[name])
    with pytest.raises(WeightsError, match=f"lacks '{name}': it is damaged, or of a development"):
        load_weights(path)


@pytest.mark.parametrize(
    'header',
    [
        {'settings': 'x'},
        {'settings': 'null'},
        {'settings': '[' * 100_000},
        {'metadata': '0'},
        {'metadata': '{"psf_fwhm_range": [6, 2]}'},
        {'metadata': '{"psf_fwhm_range": "wide"}'},
        {'metadata': '{"half_light_radius_range": [1, NaN]}'},
        {'metadata': '{"test_rms_dex": -1}'},
        {'answer': '7'},
        {'answer': '{}'},
        {'answer': '{"network": {}}'},
        {'blocks_settings': '{}'},
    ],
    ids=lambda header: str(header)[:40],
)
def test_bad_texts(path, header):
    rewrite(path, header=header)
    with pytest.raises(WeightsError, match=r'small\.safetensors (has|states|does not)'):
        load_weights(path)


def test_changed_text(path):
    """What measurements are flagged by cannot change unnoticed."""
    tamper(path, header={'metadata': '{"psf_fwhm_range": [1, 6]}'})
    with pytest.raises(WeightsError, match='damaged or was changed: its header has the hash'):
        load_weights(path)


def changed(path, change):
    return {n: change(v) if v.is_floating_point() else v for n, v in tensors_in(path).items()}


@pytest.mark.parametrize(
    ('change', 'text'),
    [
        (torch.zeros_like, 'tensors that are all zero'),
        (lambda value: value.bfloat16(), 'is BF16 .*, want F16 or F32 or F64'),
        (lambda value: value.long(), 'is I64 .*, want F16'),
        (lambda value: value[None], r'want F16 or F32 or F64 \('),
        (lambda value: value + torch.nan, 'tensors that are not finite'),
        (lambda value: value / 0, 'tensors that are not finite'),
    ],
)
def test_changed_tensors(path, change, text):
    """Also with the hashes of what they were changed to."""
    rewrite(path, tensors=changed(path, change))
    with pytest.raises(WeightsError, match=text):
        load_weights(path)


@pytest.mark.parametrize(
    ('name', 'number'),
    [
        ('fine.0.weight', 'ln_flux'),
        ('standardise.running_mean', 'ln_flux'),
        ('propose.first.weight', 'ln_flux'),
        ('fit.free_modes', 'ln_flux'),
        ('shape.weight', 'ln_radius'),
        ('distribution.2.weight', 'ln_radius_error'),
        ('familiarity.groups.1.centre', 'novelty_1'),
        ('blocks.join.first.weight', 'ln_flux'),
    ],
)
def test_one_tensor_is_zero(name, number, tmp_path):
    """Weights that would measure, but not as they were trained to."""
    path = copy_of('profile-5', tmp_path)
    rewrite(path, tensors={name: torch.zeros_like(tensors_in(path)[name])})
    with pytest.raises(WeightsError, match=f'measure as it did .*: {number} of the reference cut'):
        load_weights(path)


def test_missing_and_unknown_tensors(path):
    name = 'correction.weight'
    value = tensors_in(path)[name]
    rewrite(path, drop=[name])
    with pytest.raises(WeightsError, match=f"it lacks the tensor '{name}'"):
        load_weights(path)
    rewrite(path, tensors={name: value, 'more': value.clone()})
    with pytest.raises(WeightsError, match="it has the tensor 'more'"):
        load_weights(path)
    rewrite(path, tensors={f'blocks.{name}': value}, drop=['more'])
    with pytest.raises(WeightsError, match=f"tensors for blocks of pixels, as '{name}', but no"):
        load_weights(path)


def test_file_without_an_answer(path):
    """One of a development version can be given an answer; its tensors stay as they are."""
    sha256 = load_weights(path).sha256
    rewrite(path, drop=['answer'])
    with pytest.raises(WeightsError, match="lacks 'answer'"):
        load_weights(path)
    state_answer(path)
    assert load_weights(path).sha256 == sha256


def test_network_without_an_answer(tmp_path):
    network = StudyNet()
    with torch.no_grad():
        network.output.bias.fill_(torch.inf)
    path = tmp_path / 'a.safetensors'
    with pytest.raises(WeightsError, match="the network 'a' has tensors that are not finite"):
        save_weights(path, network, name='a')
    assert not path.exists()


def test_answers_agree():
    """Within the tolerance; the message has both numbers."""
    stated = answer_to_reference(load_weights().network)
    # of an image whose flux is 1,520, a part of which is masked
    assert np.exp(stated['ln_flux']) == pytest.approx(1400, rel=0.1)
    compare_answers({**stated, 'ln_flux': stated['ln_flux'] * 1.00005}, stated)
    other = {**stated, 'ln_flux': stated['ln_flux'] * 1.0002}
    with pytest.raises(ValueError, match=r'ln_flux of the reference cutout is 7\.24856.*7\.24711'):
        compare_answers(other, stated)
