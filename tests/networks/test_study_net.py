# Licensed under a 3-clause BSD style license - see LICENSE.rst
import pytest
import torch
from safetensors import safe_open
from torch import nn

from astroflux.networks import load_weights, save_weights
from astroflux.networks.store import ARCHITECTURES, hash_of_tensors
from astroflux.networks.study_net import SIDE, StudyNet


def new(seed=1, **settings):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return StudyNet(**settings)


@pytest.fixture
def network():
    return new().eval()


@pytest.fixture
def image():
    generator = torch.Generator().manual_seed(3)
    return 10 * torch.randn(3, 1, SIDE, SIDE, generator=generator)


def test_shapes(network, image):
    assert network.maps(image).shape == (3, 24, 35, 35)
    assert network.neurons(image).shape == (3, 64)
    assert network(image).shape == (3,)


def test_number_of_parameters(network):
    # weights and biases of 12 and 24 filters, 64 neurons and one output
    expected = (9 + 1) * 12 + (12 * 9 + 1) * 24 + (24 * 35 * 35 + 1) * 64 + 65
    assert network.n_parameters == expected == 1_884_465


def test_layers_are_those_of_the_report(network, image):
    """Values and gradients are those of the layers in the order that the report tells."""
    literal = nn.Sequential(
        *(network.first, nn.ReLU(), nn.MaxPool2d(2)),
        *(network.second, nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), network.dense, nn.ReLU(), nn.Dropout(0.2), network.output),
    ).eval()
    torch.testing.assert_close(network(image), literal(image)[:, 0])
    gradients = []
    for answer in (network(image), literal(image)[:, 0]):
        network.zero_grad()
        (answer**2).sum().backward()
        gradients.append([p.grad.clone() for p in network.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-3)


def test_dropout_leaves_out_a_fifth(network, image):
    network.train()
    neurons = torch.ones(1, 64)
    with torch.no_grad():
        network.output.weight.fill_(1 / 64)
        network.output.bias.zero_()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        answers = torch.stack([network.answer(neurons) for _ in range(400)])
    # each is kept in 4 of 5 cases, and then counts 5/4
    assert answers.mean().item() == pytest.approx(1, abs=0.01)
    assert answers.std().item() == pytest.approx(0.5 / 8, rel=0.15)
    network.eval()
    assert network.answer(neurons).item() == pytest.approx(1)


def test_scale_and_stretch(image):
    raw, scaled = new().eval(), new(scale=4.0).eval()
    torch.testing.assert_close(scaled(image), raw(image / 4))
    stretched = new(scale=0.5, stretch='asinh').eval()
    torch.testing.assert_close(stretched(image), raw(torch.asinh(image / 0.5)))


def test_columns_are_standardised(image):
    network = new(n_columns=2).eval()
    columns = torch.tensor([[1.0, 20.0], [2.0, 40.0], [3.0, 30.0]])
    before = network(image, (columns - torch.tensor([2.0, 30.0])) / torch.tensor([0.5, 10.0]))
    network.column_mean.copy_(torch.tensor([2.0, 30.0]))
    network.column_scale.copy_(torch.tensor([0.5, 10.0]))
    torch.testing.assert_close(network(image, columns), before)
    changed = columns.clone()
    changed[0, 0] = 9
    assert network(image, changed)[0] != before[0]


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'scale': 0}, 'scale must be positive and finite, got 0'),
        ({'scale': float('inf')}, 'scale must be positive and finite, got inf'),
        ({'stretch': 'log'}, "stretch must be 'linear' or 'asinh', got 'log'"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        StudyNet(**settings)


def test_bad_input(network):
    with pytest.raises(ValueError, match=r'\(n, 1, 143, 143\), got \(2, 1, 61, 61\)'):
        network(torch.zeros(2, 1, 61, 61))
    image = torch.zeros(2, 1, SIDE, SIDE)
    with pytest.raises(ValueError, match=r'columns of the shape None, got \(2, 1\)'):
        network(image, torch.zeros(2, 1))
    joined = new(n_columns=3)
    with pytest.raises(ValueError, match=r'columns of the shape \(2, 3\), got None'):
        joined(image)


# -- weights files -----------------------------------------------------------------------------


def test_round_trip(image, tmp_path):
    assert ARCHITECTURES['StudyNet'] is StudyNet
    network = new(scale=2.0, stretch='asinh', n_columns=1).eval()
    network.column_mean.fill_(7)
    save_weights(tmp_path / 'a.safetensors', network, name='a')
    again = load_weights(tmp_path / 'a.safetensors').network
    assert again.settings == network.settings
    columns = torch.ones(3, 1)
    assert torch.equal(again(image, columns), network(image, columns))


def test_half_precision(network, image, tmp_path):
    full, half = tmp_path / 'full.safetensors', tmp_path / 'half.safetensors'
    save_weights(full, network, name='full')
    sha256 = save_weights(half, network, name='half', dtype=torch.float16)
    assert half.stat().st_size < 0.51 * full.stat().st_size
    with safe_open(half, framework='pt') as file:
        stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}
    weights = load_weights(half)
    # of what is stored, not of what it becomes
    assert weights.sha256 == sha256 == hash_of_tensors(stored)
    again = weights.network
    for name, value in again.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, stored[name].float())
    assert not torch.equal(again.dense.weight, network.dense.weight)
    torch.testing.assert_close(again(image), network(image), rtol=2e-3, atol=2e-3)
    # the network that was saved is as it was
    assert network.dense.weight.dtype == torch.float32
