# Licensed under a 3-clause BSD style license - see LICENSE.rst
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.stats import norm

from astroflux.networks import outputs
from astroflux.networks.objective import error_loss, flux_loss, shape_loss
from astroflux.networks.outputs import QUANTILES
from astroflux.networks.profile_net import achievable_scatter

N = 6
SHAPE = tuple(output.name for output in outputs.SHAPE)
ERRORS = tuple(output.error for output in outputs.SHAPE)


def make_truth(n=N, snr=100.0):
    return {
        'ln_flux': torch.linspace(3, 8, n),
        'effective_snr': torch.full((n,), snr),
        'floor': torch.zeros(n),
        **{name: torch.linspace(0, 1, n) for name in SHAPE},
    }


def make_answer(truth, n=N):
    """Return an answer that is right, with errors of zero."""
    return {
        **{name: truth[name].clone() for name in ('ln_flux', *SHAPE)},
        **{name: truth['ln_flux'].clone() for name in ('ln_start', 'ln_sersic', 'ln_free')},
        'quantiles': torch.zeros(n, len(QUANTILES)),
        **{name: torch.zeros(n) for name in ERRORS},
    }


@pytest.fixture
def truth():
    return make_truth()


@pytest.fixture
def answer(truth):
    return make_answer(truth)


# -- flux --------------------------------------------------------------------------------------


def test_nothing_to_pay_for_the_truth(answer, truth):
    loss, flux_part = flux_loss(answer, truth, floor=0.001)
    assert loss == flux_part == 0
    assert shape_loss(answer, truth) == 0
    assert error_loss(answer, truth) == 0


@pytest.mark.parametrize(('sigmas', 'expected'), [(0.5, 0.125), (-1.0, 0.5), (3.0, 2.5)])
@pytest.mark.parametrize('snr', [10.0, 1000.0])
def test_flux_loss_is_that_of_huber(sigmas, expected, snr):
    """In units of what is achievable: 1.5 / (S/N), and the floors."""
    truth = make_truth(snr=snr)
    truth['floor'] += 0.002
    answer = make_answer(truth)
    scale = np.hypot(1.5 / snr, 0.002 + 0.001)
    answer['ln_flux'] += sigmas * scale
    loss, flux_part = flux_loss(answer, truth, floor=0.001)
    assert float(flux_part) == pytest.approx(expected, rel=1e-3)
    assert loss == flux_part


@pytest.mark.parametrize(
    ('name', 'weight', 'extra'),
    [('ln_start', 0.1, 0.02), ('ln_sersic', 0.3, 0), ('ln_free', 0.3, 0)],
)
def test_steps_on_the_way_count_less(answer, truth, name, weight, extra):
    scale = np.hypot(0.015, 0.001) + extra
    answer[name] += 2 * scale
    loss, flux_part = flux_loss(answer, truth, floor=0.001)
    assert flux_part == 0
    assert float(loss) == pytest.approx(weight * 1.5, rel=1e-3)
    del answer[name]
    assert flux_loss(answer, truth, floor=0.001)[0] == 0


def test_flux_loss_is_a_mean(answer, truth):
    answer['ln_flux'][0] += 3 * float(achievable_scatter(torch.tensor(100.0), 0.0))
    assert float(flux_loss(answer, truth, floor=0.0)[0]) == pytest.approx(2.5 / N, rel=1e-3)


# -- shape -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('name', 'floor', 'gain'),
    [('ln_radius', 0.02, 1), ('concentration', 0.1, 5), ('bulge_to_total', 0.1, 3)],
)
def test_shape_loss(answer, truth, name, floor, gain):
    scale = floor + gain * float(achievable_scatter(torch.tensor(100.0)))
    answer[name] -= 0.5 * scale
    assert float(shape_loss(answer, truth)) == pytest.approx(0.125, rel=1e-3)
    answer[name] -= 2.5 * scale
    assert float(shape_loss(answer, truth)) == pytest.approx(2.5, rel=1e-3)


@pytest.mark.parametrize('loss_of', [shape_loss, error_loss])
def test_what_has_no_meaning_costs_nothing(answer, truth, loss_of):
    answer = {name: (value + 0.2).requires_grad_() for name, value in answer.items()}
    # smaller than the errors are
    answer |= {name: torch.full((N,), 0.05).requires_grad_() for name in ERRORS}
    complete = float(loss_of(answer, truth).detach())
    truth['bulge_to_total'][1:4] = torch.nan
    loss = loss_of(answer, truth)
    loss.backward()
    assert 0 < float(loss.detach()) < complete
    for name in (*SHAPE, *ERRORS, 'quantiles'):
        if answer[name].grad is not None:
            assert torch.isfinite(answer[name].grad).all()
    pulled = answer[f'bulge_to_total{"" if loss_of is shape_loss else "_error"}'].grad
    assert torch.all(pulled[1:4] == 0)
    assert torch.all(pulled[[0, 4, 5]] != 0)


def test_what_the_network_does_not_say_costs_nothing(answer, truth):
    answer = {name: value + 0.2 for name, value in answer.items()}
    answer |= {name: torch.full((N,), 0.05) for name in ERRORS}
    losses = [float(loss_of(answer, truth)) for loss_of in (shape_loss, error_loss)]
    for name in (SHAPE[-1], ERRORS[-1]):
        del answer[name]
    for loss_of, complete in zip((shape_loss, error_loss), losses, strict=True):
        assert 0 < float(loss_of(answer, truth)) < complete


def test_nothing_known_of_any_shape(answer, truth):
    truth['bulge_to_total'][:] = torch.nan
    answer['bulge_to_total'] = (answer['bulge_to_total'] + 0.3).requires_grad_()
    loss = shape_loss(answer, truth)
    loss.backward()
    assert loss == 0
    assert torch.all(answer['bulge_to_total'].grad == 0)


# -- errors ------------------------------------------------------------------------------------


def test_errors_do_not_pull_at_the_answer(answer, truth):
    answer = {name: (value + 0.1).requires_grad_() for name, value in answer.items()}
    error_loss(answer, truth).backward()
    for name in ('ln_flux', *SHAPE, 'ln_start', 'ln_sersic', 'ln_free'):
        assert answer[name].grad is None
    assert answer['quantiles'].grad.abs().min() > 0
    for name in ERRORS:
        assert answer[name].grad.abs().min() > 0


def test_pinball():
    """An upper quantile is dear if the truth is above it, and cheap if below."""
    truth = make_truth(1, snr=100.0)
    answer = make_answer(truth, 1)
    scatter = float(achievable_scatter(torch.tensor(100.0)))
    for offset, costs in ((scatter, QUANTILES), (-scatter, [1 - q for q in QUANTILES])):
        answer['ln_flux'] = truth['ln_flux'] - offset
        assert float(error_loss(answer, truth)) == pytest.approx(sum(costs), rel=1e-4)


def minimise(loss_of, n_columns):
    """Bisect each column, of which the loss is a sum of convex functions, by its gradient."""
    low, high = -torch.ones(1, n_columns), torch.ones(1, n_columns)
    for _ in range(20):
        middle = (0.5 * (low + high)).requires_grad_()
        (slope,) = torch.autograd.grad(loss_of(middle), middle)
        low = torch.where(slope < 0, middle.detach(), low)
        high = torch.where(slope < 0, high, middle.detach())
    return (0.5 * (low + high))[0].numpy()


def test_best_quantiles_are_those_of_the_errors():
    n = 4001
    truth = make_truth(n)
    answer = make_answer(truth, n)
    # truth minus answer: normal, with a mean of 0.02 and a scatter of 0.05
    levels = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    offset = torch.as_tensor(norm.ppf(levels, 0.02, 0.05), dtype=torch.float32)
    answer['ln_flux'] = truth['ln_flux'] - offset
    found = minimise(
        lambda q: error_loss({**answer, 'quantiles': q.expand(n, -1)}, truth),
        len(QUANTILES),
    )
    assert_allclose(found, norm.ppf(QUANTILES, 0.02, 0.05), atol=5e-4)


def test_best_shape_error_holds_68_percent():
    n = 4001
    truth = make_truth(n)
    answer = make_answer(truth, n)
    levels = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    deviate = torch.as_tensor(norm.ppf(levels), dtype=torch.float32)
    scatters = np.geomspace(0.03, 0.2, len(SHAPE))
    for name, scatter in zip(SHAPE, scatters, strict=True):
        answer[name] = truth[name] + scatter * deviate
    found = minimise(
        lambda e: error_loss(
            {**answer, **dict(zip(ERRORS, e.expand(n, -1).unbind(1), strict=True))}, truth
        ),
        len(SHAPE),
    )
    assert_allclose(found, scatters, rtol=2e-3)
