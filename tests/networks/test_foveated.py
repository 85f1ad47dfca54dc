# Licensed under a 3-clause BSD style license - see LICENSE.rst
import math

import pytest
import torch

from astroflux.networks import FoveatedNet
from astroflux.networks.foveated import achievable_scatter
from astroflux.networks.foveation import CANVAS_SIZE
from astroflux.networks.loss import flux_loss
from astroflux.networks.refine import new_network, refine


@pytest.fixture(scope='module')
def stamps(gaussian):
    generator = torch.Generator().manual_seed(1)
    image = torch.stack([gaussian(s, flux=400.0 * s) for s in (1.5, 2.5, 4.0, 7.0)])
    image = image + torch.randn(image.shape, generator=generator)
    nan = float('nan')
    psf = torch.tensor([[3.5, 40.0], [4.0, nan], [nan, nan], [5.0, 80.0]])
    return image, torch.ones_like(image), psf


@pytest.fixture(scope='module')
def network():
    return new_network(0).eval()


def test_answer(network, stamps):
    answer = network(*stamps)
    assert set(answer) == {'ln_flux', 'below', 'above', 'ln_radius', 'detection_snr'}
    for value in answer.values():
        assert value.shape == (4,)
        assert torch.isfinite(value).all()
    assert (answer['below'] > 0).all()
    assert (answer['above'] > 0).all()


def test_rows_do_not_depend_on_each_other(network, stamps):
    together = network(*stamps)
    for row in range(4):
        alone = network(*(part[row : row + 1] for part in stamps))
        torch.testing.assert_close(alone['ln_flux'][0], together['ln_flux'][row])


def test_interval_does_not_pull_at_the_flux(stamps):
    network = new_network(0)
    answer = network(*stamps)
    (answer['below'].sum() + answer['above'].sum()).backward()
    touched = {name for name, p in network.named_parameters() if p.grad is not None}
    assert touched == {name for name, _ in network.named_parameters() if name.startswith('inter')}


def test_settings_rebuild_the_network():
    network = FoveatedNet(channels=(4, 4, 8, 8), maps=4, width=16)
    again = FoveatedNet(**network.settings)
    assert again.n_parameters == network.n_parameters
    assert network.n_parameters < 40_000


def test_achievable_scatter():
    snr = torch.tensor([10.0, 1e9])
    expected = [math.hypot(0.15, 0.004), 0.004]
    torch.testing.assert_close(achievable_scatter(snr), torch.tensor(expected))


def test_loss_is_lowest_at_the_percentiles():
    generator = torch.Generator().manual_seed(2)
    truth = torch.zeros(100_000)
    snr = torch.full_like(truth, 1.5 / 0.1)
    scatter = achievable_scatter(snr)
    measured = scatter * torch.randn(truth.shape, generator=generator)

    def loss(width):
        answer = {'ln_flux': measured, 'below': width * scatter, 'above': width * scatter}
        return flux_loss(answer, truth, snr)[0].item()

    assert loss(1.0) < loss(0.9)
    assert loss(1.0) < loss(1.1)


def test_refine_learns_and_leaves_the_original(stamps):
    image, valid, psf = (part.numpy() for part in stamps)
    start = new_network(0)
    before = {k: v.clone() for k, v in start.state_dict().items()}
    ln_flux = torch.log(400 * torch.tensor([1.5, 2.5, 4.0, 7.0])).numpy() + 0.2
    keywords = {'batch_size': 4, 'learning_rate': 3e-3, 'seed': 0, 'epochs': 60}
    refined = refine(start, image, valid, psf, ln_flux, **keywords)
    for name, value in start.state_dict().items():
        torch.testing.assert_close(value, before[name])

    def error(network):
        with torch.inference_mode():
            return (network.eval()(*stamps)['ln_flux'] - torch.as_tensor(ln_flux)).abs().mean()

    assert error(refined) < 0.5 * error(start)
    again = refine(new_network(0), image, valid, psf, ln_flux, **keywords)
    torch.testing.assert_close(again.state_dict(), refined.state_dict())


def test_canvas_size_is_odd():
    assert CANVAS_SIZE % 2 == 1
