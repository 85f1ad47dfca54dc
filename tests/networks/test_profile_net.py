# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The network as such; how well the trained one measures is in tests/estimators/test_cnn.py."""

import copy
import math

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch.testing import assert_close

from astroflux.networks.artefacts import ARTEFACT_OUTPUTS
from astroflux.networks.neighbors import NEIGHBOR_OUTPUTS
from astroflux.networks.objective import error_loss, flux_loss, shape_loss
from astroflux.networks.outputs import FIRST_OUTPUTS, QUANTILES, SHAPE
from astroflux.networks.photometry import Photometry
from astroflux.networks.profile_net import FIT_OUTPUTS, ProfileNet, achievable_scatter
from astroflux.networks.psf_gaussians import PSFGaussians
from astroflux.networks.psf_mixture import N_PSF_GAUSSIANS, N_PSF_NUMBERS, TYPICAL
from astroflux.networks.pyramid import CANVAS_SIZE, REACH, Pyramid, symmetric_pictures
from astroflux.networks.source_models import MODEL_PARAMETERS

SMALL = {'channels': [4, 4, 4, 4], 'maps': 2, 'width': 8}

FWHM = 4.0
# A Gaussian of that width: its area is 4 pi sigma^2; four Gaussians of (nearly) one width.
LN_VARIANCE = -math.log(8 * math.log(2))
PSF = [FWHM, 4 * math.pi * FWHM**2 * math.exp(LN_VARIANCE), *[LN_VARIANCE] * 4, 0.0, 0.0, 0.0]
PSF_SIGMA = FWHM * math.exp(0.5 * LN_VARIANCE)


def make_network(seed=0, **settings):
    """Return a small network whose layers all have something to say."""
    torch.manual_seed(seed)
    network = ProfileNet(**{**SMALL, **settings})
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.normal_(0, 0.05)
    return network.eval()


@pytest.fixture(scope='module', params=[0, 3], ids=['galaxy alone', 'with neighbors'])
def network(request):
    return make_network(n_neighbors=request.param)


@pytest.fixture(scope='module')
def batch(gaussian):
    """
    Four galaxies in noise, of which the second has no known PSF, nor the third its shape.

    The third has a neighbor.
    """
    generator = torch.Generator().manual_seed(0)
    shapes = [(3.0, 500.0), (2.0, 90.0), (5.0, 4000.0), (3.5, 20000.0)]
    images = torch.stack([gaussian(sigma, flux=flux, dx=0.3) for sigma, flux in shapes])
    images = images + torch.randn(images.shape, generator=generator)
    images[2] += gaussian(2.5, flux=3000.0, dx=14, dy=5)
    psf = torch.tensor([PSF] * 4)
    psf[1] = torch.nan
    psf[2, 1:] = torch.nan
    return images, torch.ones(1, CANVAS_SIZE, CANVAS_SIZE), psf


def run(network, *arguments):
    with torch.no_grad():
        return network(*arguments)


def shapes_of(n, with_fit=True, with_neighbors=False):
    shapes = {
        'ln_flux': (n,),
        'quantiles': (n, len(QUANTILES)),
        **dict.fromkeys(FIRST_OUTPUTS, (n,)),
        **{f'{name}_error': (n,) for name in FIRST_OUTPUTS},
        'detection_snr': (n,),
    }
    if with_fit:
        shapes |= dict.fromkeys(('ln_start', 'ln_sersic', 'ln_free', 'novelty', 'ln_fwhm'), (n,))
        shapes |= dict.fromkeys((*ARTEFACT_OUTPUTS, *(f'fit_{name}' for name in FIT_OUTPUTS)), (n,))
        # eight Gaussians of a galaxy, and four of the PSF
        shapes |= {'model': (n, len(MODEL_PARAMETERS) + 8), 'model_psf': (n, 2 * 4)}
    if with_neighbors:
        shapes |= dict.fromkeys(NEIGHBOR_OUTPUTS, (n,))
    return shapes


def assert_answer(answer, n, with_fit=True):
    """Assert what holds for any answer."""
    for name, shape in shapes_of(n, with_fit).items():
        assert answer[name].shape == shape, name
    for name, values in answer.items():
        # infinite if there is no neighbor
        assert torch.isfinite(values).all() or name == 'neighbor_distance', name
        assert not torch.isnan(values).any(), name
    assert torch.all(answer['quantiles'].diff(dim=1) > 0)
    for name in FIRST_OUTPUTS:
        assert torch.all(answer[f'{name}_error'] > 0)
    assert torch.all((answer['bulge_to_total'] > 0) & (answer['bulge_to_total'] < 1))
    assert torch.all(answer['detection_snr'] > 0)


# -- answers -----------------------------------------------------------------------------------


@pytest.mark.parametrize(('n_steps', 'n_neighbors'), [(0, 0), (1, 0), (3, 0), (1, 2), (2, 4)])
def test_answer(batch, n_steps, n_neighbors):
    network = make_network(n_steps=n_steps, n_neighbors=n_neighbors)
    answer = run(network, *batch)
    assert_answer(answer, 4, with_fit=n_steps > 0)
    names = set(shapes_of(4, n_steps > 0, n_neighbors > 0)) | ({'judged'} if n_steps else set())
    assert set(answer) == names
    if n_neighbors:
        assert answer['n_neighbors'][2] > 0
        assert torch.all(answer['n_neighbors'] <= n_neighbors)


@pytest.mark.parametrize('case', ['empty', 'nothing usable', 'half', 'very bright', 'negative'])
@pytest.mark.parametrize(('n_steps', 'n_neighbors'), [(0, 0), (2, 0), (2, 3)])
def test_odd_stamps(batch, case, n_steps, n_neighbors):
    images, weight, psf = batch
    if case == 'empty':
        images = torch.zeros_like(images)
    elif case == 'nothing usable':
        images, weight = torch.zeros_like(images), torch.zeros_like(weight)
    elif case == 'half':
        weight = weight.clone()
        weight[:, :, REACH - 3 :] = 0
        images = images * weight
    elif case == 'very bright':
        images = 1e6 * images
    else:
        images = -images
    network = make_network(n_steps=n_steps, n_neighbors=n_neighbors)
    assert_answer(run(network, images, weight, psf), 4, n_steps > 0)


def test_shared_weight(network, batch):
    images, weight, psf = batch
    weight = weight.clone()
    weight[:, :20] = 0
    images = images * weight
    shared = run(network, images, weight, psf)
    each = run(network, images, weight.expand(4, -1, -1).clone(), psf)
    for name, values in shared.items():
        assert_close(each[name], values, rtol=2e-3, atol=1e-3)
    assert_close(each['ln_flux'], shared['ln_flux'], rtol=0, atol=1e-4)


def test_galaxies_do_not_know_of_each_other(network, batch):
    images, weight, psf = batch
    together = run(network, *batch)
    for row in (1, 3):
        alone = run(network, images[row : row + 1], weight, psf[row : row + 1])
        for name, values in alone.items():
            assert_close(values[0], together[name][row], rtol=1e-3, atol=3e-3)


def test_all_inputs_count(network, batch):
    images, weight, psf = batch
    expected = run(network, *batch)['ln_flux']
    halves = weight.clone()
    halves[:, : REACH - 8] = 0
    others = [
        (images * halves, halves, psf),
        (images, 0.25 * weight, psf),
        (images, weight, psf * torch.tensor([1.3] + [1.0] * 8)),
        (images, weight, psf + torch.tensor([0.0] * 8 + [0.5])),
        (1.01 * images, weight, psf),
    ]
    for other in others:
        change = (run(network, *other)['ln_flux'] - expected).abs()
        # The known PSFs only: NaN times anything is NaN.
        assert torch.all(change[[0, 3]] > 1e-6)


# -- before any training -----------------------------------------------------------------------


def test_untrained_without_fit_is_a_mean_of_apertures_and_filters(batch):
    torch.manual_seed(0)
    network = ProfileNet(**SMALL, n_steps=0).eval()
    answer = run(network, *batch)
    images, weight, _ = batch
    pyramid, photometry = Pyramid(), Photometry()
    _, filled = pyramid(images, weight)
    seen = [
        photometry(pyramid.tile(pictures), pyramid.tile(filled.weights))
        for pictures in (filled.pictures, symmetric_pictures(filled))
    ]
    mean = torch.cat([s.flux for s in seen], dim=1).mean(dim=1)
    _, snr, ln_width = photometry.reference(seen[0])
    assert_close(answer['ln_flux'], mean.log())
    assert_close(answer['ln_radius'], ln_width)
    assert_close(answer['detection_snr'], snr)


def test_errors_scale_with_what_is_achievable(gaussian):
    """The same last layer says more of a faint galaxy than of a bright one."""
    network = make_network(n_steps=0)
    with torch.no_grad():
        network.distribution[-1].weight.zero_()
    images = torch.stack([gaussian(3.9, flux=flux) for flux in (200.0, 20000.0)])
    answer = run(network, images, torch.ones_like(images), torch.tensor([PSF] * 2))
    width = answer['quantiles'][:, -1] - answer['quantiles'][:, 0]
    scatter = achievable_scatter(answer['detection_snr'])
    assert_close(width[0] / width[1], scatter[0] / scatter[1], rtol=1e-4, atol=0)
    assert width[0] > 50 * width[1]


def test_untrained_network_begins_with_the_fit(gaussian):
    """An exponential disc, seen through a Gaussian, at S/N of several hundred."""
    galsim = pytest.importorskip('galsim')
    torch.manual_seed(0)
    profile = galsim.Exponential(half_light_radius=4.0).shear(q=0.6, beta=0.5 * galsim.radians)
    seen = galsim.Convolve(profile, galsim.Gaussian(fwhm=FWHM)).withFlux(1e4)
    size = {'nx': CANVAS_SIZE, 'ny': CANVAS_SIZE, 'scale': 1.0, 'dtype': np.float32}
    image = torch.as_tensor(seen.drawImage(offset=(0.2, -0.3), **size).array.copy())[None]
    network = ProfileNet(**SMALL, n_steps=3).eval()
    weight, psf = torch.ones_like(image), torch.tensor([PSF])
    answer = run(network, image, weight, psf)
    for name in ('ln_sersic', 'ln_free'):
        assert float(answer[name]) == pytest.approx(math.log(1e4), abs=0.03)
    assert float(answer['ln_flux']) == pytest.approx(math.log(1e4), abs=0.1)
    assert float(answer['ln_radius']) == pytest.approx(math.log(4), abs=0.1)
    # the fit has been told of the PSF: a narrower one leaves more to the galaxy
    narrower = run(network, image, weight, psf * torch.tensor([0.6, 0.36] + [1.0] * 7))
    assert float(narrower['ln_radius'] - answer['ln_radius']) > 0.05


def test_nothing_is_novel_before_the_fit(network, batch):
    answer = run(network, *batch)
    assert torch.all(answer['novelty'] < 1e-6)
    other = make_network(n_neighbors=network.settings['n_neighbors'])
    features = torch.randn(500, answer['judged'].shape[1])
    other.familiarity.fit(features, torch.linspace(5, 500, 500))
    novelty = run(other, *batch)['novelty']
    assert_close(novelty, other.familiarity(answer['judged'], answer['detection_snr']))
    assert torch.all(novelty > 0)


# -- training ----------------------------------------------------------------------------------


@pytest.mark.parametrize(('n_steps', 'n_neighbors'), [(0, 0), (2, 0), (2, 3)])
@pytest.mark.parametrize('untrained', [True, False])
def test_gradients_are_finite(batch, n_steps, n_neighbors, untrained):
    """Also with borders without weight, an empty stamp, and a PSF that is not known."""
    images, weight, psf = batch
    weight = weight.expand(4, -1, -1).clone()
    weight[:, :30] = 0
    weight[1, :, -50:] = 0
    images = images * weight
    images[3] = 0
    torch.manual_seed(1)
    settings = {'n_steps': n_steps, 'n_neighbors': n_neighbors}
    network = ProfileNet(**SMALL, **settings) if untrained else make_network(**settings)
    network.train()
    answer = network(images, weight, psf)
    truth = {
        'ln_flux': torch.tensor([500.0, 90.0, 4000.0, 1.0]).log(),
        'effective_snr': torch.tensor([50.0, 10.0, 300.0, 2.0]),
        'floor': torch.zeros(4),
        'ln_radius': torch.ones(4),
        'concentration': torch.full((4,), 3.0),
        'bulge_to_total': torch.tensor([0.2, torch.nan, 0.9, torch.nan]),
    }
    loss = flux_loss(answer, truth, floor=0.001)[0]
    (loss + shape_loss(answer, truth) + error_loss(answer, truth)).backward()
    for name, parameter in network.named_parameters():
        # Only fits need the Gaussians of the PSF; all else has a part in the answer.
        if name.startswith('psf.') and not n_steps:
            continue
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
    if not untrained:
        for name in ('fine.0.weight', 'coarse.0.weight', 'propose.first.weight', 'mix.weight'):
            assert network.get_parameter(name).grad.abs().max() > 0, name


def test_errors_do_not_pull_at_the_answer(network, batch):
    network = copy.deepcopy(network).train()
    network.zero_grad()
    answer = network(*batch)
    errors = [answer[name] for name in answer if name.endswith('_error')]
    (answer['quantiles'].sum() + sum(error.sum() for error in errors)).backward()
    pulled = {name for name, p in network.named_parameters() if p.grad is not None and p.grad.any()}
    assert pulled
    assert all(name.startswith('distribution.') for name in pulled)


def test_derivative_by_pixels(network, batch):
    """What `CNNFluxEstimator.weight_map` returns, against a finite difference."""
    images, weight, psf = (part[:1].clone() for part in batch)
    image = images.requires_grad_()
    (derivative,) = torch.autograd.grad(network(image, weight, psf)['ln_flux'].sum(), image)
    assert torch.isfinite(derivative).all()
    step = 0.02 * images.detach() / images.detach().abs().max()
    up, down = (
        run(network, images.detach() + sign * step, weight, psf)['ln_flux'] for sign in (1, -1)
    )
    # where neighbors are looked for is not differentiated
    allowed = 0.2 if network.settings['n_neighbors'] else 0.05
    assert float((derivative * step).sum()) == pytest.approx(float((up - down) / 2), rel=allowed)


def test_says_what_its_settings_name(batch):
    every = [output.name for output in SHAPE]
    answers = [run(make_network(outputs=names), *batch) for names in (every, every[:1])]
    missing = {output for output in SHAPE if output.name not in answers[1]}
    assert missing == {*SHAPE[1:]}
    names = {name for output in missing for name in (output.name, output.error)}
    assert {*answers[0]} == {*answers[1]} | names


# -- size, settings ----------------------------------------------------------------------------


def test_weights_are_small():
    network = ProfileNet()
    assert network.n_parameters == sum(p.numel() for p in network.parameters())
    assert 100_000 < network.n_parameters < 1_250_000
    stored = sum(t.numel() * t.element_size() for t in network.state_dict().values())
    assert stored < 5_000_000


@pytest.mark.parametrize('settings', [{'n_steps': 0}, {}, {'outputs': ['ln_radius']}])
def test_settings_build_it_again(batch, settings):
    network = make_network(**settings)
    again = ProfileNet(**network.settings).eval()
    again.load_state_dict(network.state_dict())
    expected = run(network, *batch)
    for name, values in run(again, *batch).items():
        assert torch.equal(values, expected[name])


# -- scatter -----------------------------------------------------------------------------------


def test_achievable_scatter():
    snr = torch.tensor([1.5, 150.0, 1e9])
    assert_allclose(achievable_scatter(snr, 0.0), [1, 0.01, 0], atol=1e-8)
    assert_allclose(achievable_scatter(snr, 0.01), [1.00005, 0.01 * math.sqrt(2), 0.01], rtol=1e-5)
    assert float(achievable_scatter(torch.tensor(1e9))) == pytest.approx(0.0005)


# -- PSF ---------------------------------------------------------------------------------------


@pytest.fixture
def numbers():
    """A full description, a width alone, nothing."""
    numbers = torch.tensor([[3.0, 25.0, -2.0, -1.0, 0.5, 2.0, 0.6, -0.4, -2.0]] * 3)
    numbers[1, 1:] = torch.nan
    numbers[2] = torch.nan
    return numbers


def test_features_of_the_psf(numbers):
    assert numbers.shape[1] == N_PSF_NUMBERS
    features = PSFGaussians().features(numbers)
    assert features.shape == (3, PSFGaussians.n_features)
    assert torch.isfinite(features).all()
    assert features[:, -2:].tolist() == [[1, 1], [1, 0], [0, 0]]
    assert_allclose(features[:2, 0], math.log(3 / 4), rtol=1e-5)
    assert torch.all(features[1, 1:-2] == 0)
    assert torch.all(features[2] == 0)
    # of its area nothing is said that the width says already
    doubled = numbers * torch.tensor([2.0, 4.0] + [1.0] * 7)
    assert_allclose(PSFGaussians().features(doubled)[0, 1:], features[0, 1:], atol=1e-6)


def test_gaussians_of_the_psf(numbers):
    psf = PSFGaussians()
    features = psf.features(numbers)
    opinion = torch.zeros(3, psf.n_opinions)
    ln_variance, weight = (part.detach() for part in psf(features, opinion))
    assert_allclose(ln_variance[0], numbers[0, 2:6] + 2 * math.log(3), rtol=1e-5)
    shares = np.exp([0, 0.6, -0.4, -2.0])
    assert_allclose(weight[0], shares / shares.sum(), rtol=1e-5)
    assert_allclose(weight.sum(dim=1), 1, rtol=1e-5)
    # where the shape is not known, a typical one
    assert_allclose(ln_variance[1], TYPICAL[:N_PSF_GAUSSIANS] + 2 * math.log(3), rtol=1e-5)
    assert_allclose(ln_variance[2], TYPICAL[:N_PSF_GAUSSIANS] + 2 * math.log(4), rtol=1e-5)


def test_opinion_counts_where_nothing_is_known(numbers):
    psf = PSFGaussians()
    features = psf.features(numbers)
    plain, _ = psf(features, torch.zeros(3, psf.n_opinions))
    opinion = torch.tensor([[0.1] + [0.2] * N_PSF_GAUSSIANS + [0.0] * 3]).expand(3, -1)
    changed, _ = psf(features, opinion)
    change = (changed - plain).detach()
    assert_allclose(change[0], 0, atol=1e-6)
    assert_allclose(change[1], 0.2, rtol=1e-4)
    assert_allclose(change[2], 0.4, rtol=1e-4)


# -- blocks of pixels --------------------------------------------------------------------------


def test_a_network_may_be_told_the_size_of_blocks(batch):
    network = make_network(sees_binning=True)
    with torch.no_grad():
        network.binning.weight.mul_(100)
    one, three = (run(network, *batch, binning)['ln_flux'] for binning in (1, 3))
    mixed = run(network, *batch, torch.tensor([1, 3, 1, 3]))['ln_flux']
    assert_close(mixed, torch.where(torch.tensor([True, False, True, False]), one, three))
    assert (one - three).abs().max() > 0.01


def test_blocks_of_one_pixel_need_no_telling(batch):
    told, not_told = make_network(sees_binning=True), make_network()
    not_told.load_state_dict(told.state_dict(), strict=False)
    with torch.no_grad():
        told.binning.bias.zero_()
    assert_close(run(told, *batch)['ln_flux'], run(not_told, *batch)['ln_flux'])
