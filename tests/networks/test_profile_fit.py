# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The fit of a profile, against finite differences and images that GalSim draws."""

import math

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch.testing import assert_close

from astroflux.networks.profile_fit import ProfileFit, ProfileGuess, _solve
from astroflux.networks.pyramid import CANVAS_SIZE, Pyramid, tiles
from astroflux.networks.sersic_mixture import sersic_mixture
from astroflux.networks.sersic_model import PROFILE_PARAMETERS, SersicModel

# The point-spread function of all tests: standard deviations in pixels, and shares.
PSF_SIGMAS = (1.4, 2.2, 4.5)
PSF_SHARES = (0.55, 0.3, 0.15)

PSF_FWHM = 4.2

# flux, x, y, Sersic index, half-light radius, axis ratio, position angle
GALAXIES = [
    (1e4, 0.3, -0.4, 1.0, 4.0, 0.6, 30.0),
    (1e4, -0.2, 0.1, 0.6, 3.0, 0.9, -50.0),
    (1e4, 0.0, 0.3, 2.5, 5.0, 0.4, 100.0),
    (1e4, 0.1, 0.1, 4.0, 4.0, 0.7, 10.0),
    (1e4, 0.2, 0.1, 1.0, 12.0, 0.5, 70.0),
]


def psf_gaussians(n, dtype=torch.float32):
    ln_variance = 2 * torch.tensor([PSF_SIGMAS], dtype=dtype).log()
    return ln_variance.expand(n, -1), torch.tensor([PSF_SHARES], dtype=dtype).expand(n, -1)


def parameters_of(galaxies, dtype=torch.float32):
    """Return the parameters; the axis ratio is exp(-|e|)."""
    rows = []
    for flux, x, y, index, radius, axis_ratio, angle in galaxies:
        size, twice = -math.log(axis_ratio), math.radians(2 * angle)
        e1, e2 = size * math.cos(twice), size * math.sin(twice)
        rows.append([math.log(flux), x, y, e1, e2, math.log(radius), math.log(index)])
    return torch.tensor(rows, dtype=dtype)


def guess_of(start, n_steps=1, *, width=1.0, free=1e-3, bend=1e-3, cut=1e4, misfit=0.0):
    """Return a guess that leaves everything open, but for the free modes."""
    n = len(start)
    ln_variance, weight = psf_gaussians(n)
    widths = torch.as_tensor(width, dtype=torch.float32).expand(n_steps, n, 8)
    return ProfileGuess(
        start=start,
        ln_variance=ln_variance,
        weight=weight,
        width=widths,
        misfit=torch.full((n_steps, n), misfit),
        cut=torch.full((n_steps, n), cut),
        free_width=torch.full((n, 8), free),
        bend_width=torch.full((n, 2), bend),
        fwhm=torch.full((n,), PSF_FWHM),
    )


def model_of(galaxies):
    """Return the tiles of galaxies, as the fit itself has them."""
    parameters = parameters_of(galaxies)
    with torch.no_grad():
        return parameters, SersicModel()(parameters, *psf_gaussians(len(parameters)))[:, 0]


def draw(profile, flux, x=0.0, y=0.0):
    """Return the tiles of a galaxy that GalSim draws."""
    galsim = pytest.importorskip('galsim')
    psf = galsim.Sum(
        [galsim.Gaussian(sigma=s, flux=f) for s, f in zip(PSF_SIGMAS, PSF_SHARES, strict=True)]
    )
    image = galsim.Convolve(profile, psf).withFlux(flux)
    size = {'nx': CANVAS_SIZE, 'ny': CANVAS_SIZE, 'scale': 1.0, 'dtype': np.float32}
    image = torch.as_tensor(image.drawImage(offset=(x, y), **size).array.copy())
    pyramid = Pyramid()
    raw, _ = pyramid(image[None], torch.ones(1, CANVAS_SIZE, CANVAS_SIZE))
    return pyramid.tile(raw.pictures)


def sersic(index, radius, axis_ratio, angle):
    galsim = pytest.importorskip('galsim')
    profile = galsim.Sersic(n=index, half_light_radius=radius)
    return profile.shear(q=axis_ratio, beta=angle * galsim.degrees)


@pytest.fixture(scope='module')
def drawn():
    """Parameters and tiles of all galaxies, noiseless, by GalSim."""
    pytest.importorskip('galsim')
    values = [draw(sersic(*shape), flux, x, y) for flux, x, y, *shape in GALAXIES]
    return parameters_of(GALAXIES), torch.cat(values)


def norm(values):
    return float(torch.linalg.vector_norm(values))


# -- modes -------------------------------------------------------------------------------------


def finite_difference(fit, parameters, name, step=1e-4):
    column = PROFILE_PARAMETERS.index(name)
    psf = psf_gaussians(1, torch.float64)
    with torch.no_grad():
        up, down = (
            fit.model(parameters + sign * step * torch.eye(7).double()[column], *psf)[:, 0]
            for sign in (1, -1)
        )
    return (up - down)[0] / (2 * step)


def modes_of(fit, parameters, **keywords):
    with torch.no_grad():
        return fit.model(parameters, *psf_gaussians(1, torch.float64), **keywords)[0]


ROUND = (150.0, 0.3, -0.4, 1.5, 4.0, 1.0, 0.0)
ELONGATED = (150.0, 0.3, -0.4, 2.2, 5.0, 0.45, 65.0)


@pytest.mark.parametrize('name', PROFILE_PARAMETERS)
@pytest.mark.parametrize('galaxy', [ROUND, ELONGATED])
def test_modes_are_derivatives(galaxy, name):
    fit, parameters = ProfileFit(1).double(), parameters_of([galaxy], torch.float64)
    mode = modes_of(fit, parameters)[PROFILE_PARAMETERS.index(name)]
    expected = finite_difference(fit, parameters, name)
    assert norm(mode - expected) < 1e-5 * norm(expected)


def test_single_precision_is_enough():
    double = modes_of(ProfileFit(1).double(), parameters_of([ELONGATED], torch.float64), free=True)
    with torch.no_grad():
        single = SersicModel()(parameters_of([ELONGATED]), *psf_gaussians(1), free=True)[0]
    assert double.shape == single.shape == (18, Pyramid().n_tiles)
    for one, other in zip(single, double, strict=True):
        assert norm(one - other) < 3e-4 * norm(other)


def test_sky_is_a_constant():
    _, value = model_of(GALAXIES[:1])
    with torch.no_grad():
        modes = SersicModel()(parameters_of(GALAXIES[:1]), *psf_gaussians(1))[0]
    assert_close(modes[0], value[0])
    assert_allclose(modes[7], tiles().side)


def test_free_modes_are_the_gaussians():
    fit, parameters = ProfileFit(1).double(), parameters_of([ELONGATED], torch.float64)
    modes = modes_of(fit, parameters, free=True)
    assert_close(modes[:8], modes_of(fit, parameters))
    # the profile is their sum
    amplitude, _ = sersic_mixture(8)(ELONGATED[3])
    total = torch.as_tensor(amplitude) @ modes[10:]
    assert norm(total - modes[0]) < 1e-5 * norm(modes[0])
    # each holds the galaxy's flux, but for what is beyond the canvas
    flux = modes[10:14] @ torch.as_tensor(tiles().side)
    assert_allclose(flux, 150.0, rtol=1e-3)


def test_bent_modes_are_those_of_the_inner_gaussians():
    fit, parameters = ProfileFit(1).double(), parameters_of([ELONGATED], torch.float64)
    modes = modes_of(fit, parameters, free=True)
    fit.model.amplitude[4:] = 0
    inner = modes_of(fit, parameters)
    assert_close(modes[8:10], inner[3:5])
    assert norm(modes[8] - modes[3]) > 0.1 * norm(modes[3])


def test_image_against_galsim(drawn):
    parameters, value = drawn
    with torch.no_grad():
        model = SersicModel()(parameters, *psf_gaussians(len(parameters)))[:, 0]
    peak = value.max(dim=1).values
    assert_allclose((model - value).abs().max(dim=1).values / peak, 0, atol=0.005)
    # and for profiles without a cusp much better
    assert_allclose((model - value)[[0, 1]].abs().max(dim=1).values / peak[[0, 1]], 0, atol=8e-4)
    side = torch.as_tensor(tiles().side, dtype=torch.float32)
    assert_allclose(model @ side, value @ side, rtol=0.004)


def test_flux_is_that_of_all_the_light():
    """Not of what lies on the canvas."""
    _, value = model_of([(1000.0, 0.0, 0.0, 1.0, 5.0, 0.7, 0.0)])
    assert float(value[0] @ torch.as_tensor(tiles().side).float()) == pytest.approx(1000, rel=2e-3)
    parameters, beyond = model_of([(1000.0, 0.0, 0.0, 1.0, 45.0, 0.7, 0.0)])
    assert float(beyond[0] @ torch.as_tensor(tiles().side).float()) < 850
    guess = guess_of(parameters)
    fit = ProfileFit(1)(beyond, torch.ones_like(beyond), guess)
    assert float(fit['ln_sersic'][0].detach()) == pytest.approx(math.log(1000), abs=1e-3)


# -- fits --------------------------------------------------------------------------------------

OFF = torch.tensor([0.3, 0.4, -0.3, 0.15, -0.15, 0.25, 0.3])


@pytest.mark.parametrize('sign', [1, -1])
def test_fit_recovers_flux_and_shape(drawn, sign):
    parameters, value = drawn
    guess = guess_of(parameters + sign * OFF, 4)
    with torch.no_grad():
        fit = ProfileFit(4)(value, torch.ones_like(value), guess)
    assert_allclose(fit['ln_sersic'], parameters[:, 0], atol=0.002)
    assert_allclose(fit['ln_free'], parameters[:, 0], atol=0.004)
    assert_allclose(fit['parameters'], parameters, atol=0.01)


def test_fit_stands_noise():
    """Of S/N 100: the errors that it states are those that it makes."""
    _, value = model_of(GALAXIES[:1])
    value = value * (100 / norm(value))
    start = parameters_of(GALAXIES[:1])
    start[:, 0] += math.log(float(value.max() / model_of(GALAXIES[:1])[1].max()))
    n = 400
    generator = torch.Generator().manual_seed(1)
    noisy = value + torch.randn(n, value.shape[1], generator=generator)
    with torch.no_grad():
        fit = ProfileFit(2)(noisy, torch.ones_like(noisy), guess_of(start.expand(n, -1), 2))
    error = (fit['ln_sersic'] - start[:, 0]).numpy()
    per_step = 8 + 1 + 8
    stated = float(fit['features'][:, per_step + 8].exp().median())
    assert np.std(error) == pytest.approx(stated, rel=0.12)
    assert np.mean(error) == pytest.approx(0, abs=4 * stated / np.sqrt(n))
    # between that of a known shape, and a few times as much
    assert 0.01 < stated < 0.03


@pytest.mark.parametrize(
    ('bulge_to_total', 'bulge_radius', 'disc_radius'), [(0.3, 1.5, 6.0), (0.5, 1.5, 5.0)]
)
def test_free_modes_help_where_there_is_no_sersic_profile(
    bulge_to_total, bulge_radius, disc_radius
):
    disc, bulge = sersic(1.0, disc_radius, 0.5, 30), sersic(4.0, bulge_radius, 0.9, 30)
    value = draw((1 - bulge_to_total) * disc + bulge_to_total * bulge, 1e5)
    start = parameters_of([(1e5, 0, 0, 1.5, 4.0, 0.6, 30)])
    with torch.no_grad():
        fit = ProfileFit(2)(value, torch.ones_like(value), guess_of(start, 2, free=1.0, bend=0.5))
    sersic_error, free_error = (
        abs(float(fit[name]) - math.log(1e5)) for name in ('ln_sersic', 'ln_free')
    )
    assert free_error < 0.015 < 0.05 < sersic_error


def test_free_modes_that_are_held_say_nothing(drawn):
    parameters, value = drawn
    guess = guess_of(parameters + OFF, 2, free=1e-6, bend=1e-6)
    with torch.no_grad():
        fit = ProfileFit(2)(value, torch.ones_like(value), guess)
    assert_allclose(fit['ln_free'], fit['ln_sersic'], atol=1e-4)


def test_sky_is_solved_for(drawn):
    parameters, value = drawn
    sky = 2.0 * torch.as_tensor(tiles().side, dtype=torch.float32)
    guess = guess_of(parameters, 2)
    held = guess_of(parameters, 2, width=torch.tensor([1.0] * 7 + [1e-6]))
    with torch.no_grad():
        fit, biased = (
            ProfileFit(2)(value + sky, torch.ones_like(value), each) for each in (guess, held)
        )
    # two units on 21,609 pixels are four times as much as the galaxy
    assert_allclose(fit['ln_sersic'], parameters[:, 0], atol=0.01)
    assert torch.all(biased['ln_sersic'] > parameters[:, 0] + 0.05)


def test_prior_holds_the_start(drawn):
    parameters, value = drawn
    start = parameters + OFF
    with torch.no_grad():
        fit = ProfileFit(2)(value, torch.ones_like(value), guess_of(start, 2, width=1e-7))
    assert_allclose(fit['ln_sersic'], start[:, 0], atol=1e-3)
    assert_allclose(fit['parameters'], start, atol=1e-3)


def test_prior_and_data_are_averaged():
    """With all but the flux known, the answer is a mean that is weighted by variances."""
    parameters, value = model_of(GALAXIES[:1])
    value = value / norm(value)
    start = parameters.clone()
    start[:, 0] -= math.log(norm(model_of(GALAXIES[:1])[1]))
    width = torch.tensor([2.0] + [1e-6] * 7)
    # the S/N of the model is one, and the data are 20 % above it
    with torch.no_grad():
        fit = ProfileFit(1)(1.2 * value, torch.ones_like(value), guess_of(start, width=width))
    gain = 0.2 / (1 + 1 / 2.0**2)
    assert float(fit['ln_sersic'] - start[:, 0]) == pytest.approx(math.log(1 + gain), abs=1e-4)
    stated = float(fit['features'][0, 8].exp())
    assert stated == pytest.approx((1 + 1 / 2.0**2) ** -0.5, rel=1e-3)


def test_misfit_is_a_relative_error_of_the_model():
    parameters, value = model_of(GALAXIES[:1])
    width = torch.tensor([2.0] + [1e-6] * 7)
    weight = torch.full_like(value, 0.25)
    with torch.no_grad():
        fit = ProfileFit(1)(value, weight, guess_of(parameters, width=width, misfit=0.1))
    expected = (value**2 / (4 + (0.1 * value) ** 2)).sum() ** -0.5
    assert float(fit['features'][0, 8].exp()) == pytest.approx(float(expected), rel=1e-3)


# -- what must not matter ----------------------------------------------------------------------


def test_tiles_without_weight_do_not_matter(drawn):
    parameters, value = drawn
    weight = torch.ones_like(value)
    weight[:, 5:40] = 0
    weight[:, -120:] = 0
    guess = guess_of(parameters + OFF, 2, free=0.3, cut=10.0, misfit=0.03)
    bad = torch.where(weight > 0, value, torch.full_like(value, -1e4))
    with torch.no_grad():
        one, other = (ProfileFit(2)(v, weight, guess) for v in (value, bad))
    for name, values in one.items():
        assert torch.equal(other[name], values), name
    assert_allclose(one['ln_sersic'], parameters[:, 0], atol=0.02)


def test_outliers_lose_weight(drawn):
    parameters, value = drawn
    hit = value.clone()
    # a cosmic ray of the galaxy's own flux, beside its centre
    near = int(np.argmin(np.hypot(tiles().x - 5, tiles().y - 2)))
    hit[:, near] += 1e4
    errors = []
    for cut in (1e4, 5.0):
        guess = guess_of(parameters, 2, cut=cut, misfit=0.03)
        with torch.no_grad():
            fit = ProfileFit(2)(hit, torch.ones_like(hit), guess)
        errors.append((fit['ln_sersic'] - parameters[:, 0]).abs())
    assert torch.all(errors[1] < 0.02)
    assert torch.all(errors[0] > 5 * errors[1])


def test_rows_do_not_know_of_each_other(drawn):
    parameters, value = drawn
    fit, weight = ProfileFit(2), torch.ones_like(value)
    with torch.no_grad():
        together = fit(value, weight, guess_of(parameters + OFF, 2))
        alone = fit(value[2:3], weight[2:3], guess_of((parameters + OFF)[2:3], 2))
    for name in ('ln_sersic', 'ln_free', 'parameters'):
        assert_allclose(alone[name][0], together[name][2], rtol=1e-4, atol=1e-4)


# -- limits ------------------------------------------------------------------------------------


def test_flux_stays_positive():
    parameters, value = model_of(GALAXIES)
    with torch.no_grad():
        fit = ProfileFit(2)(-value, torch.ones_like(value), guess_of(parameters, 2))
    lowest = parameters[:, 0] - 1.2 + math.log(0.05)
    for name in ('ln_sersic', 'ln_free'):
        assert torch.isfinite(fit[name]).all()
        assert torch.all(fit[name] > lowest - 1e-3)
    assert torch.all(fit['ln_sersic'] < parameters[:, 0] - 2)


def test_parameters_stay_in_their_range():
    parameters, value = model_of(GALAXIES)
    generator = torch.Generator().manual_seed(0)
    noise = 30 * torch.randn(value.shape, generator=generator)
    with torch.no_grad():
        fit = ProfileFit(4)(noise, torch.ones_like(noise), guess_of(parameters, 4, width=100.0))
    found = fit['parameters']
    assert torch.isfinite(found).all()
    assert torch.all(found[:, 1:3].abs() <= 4)
    assert torch.all(found[:, 3:5].abs() <= 2.2001)
    assert torch.all((found[:, 5] >= -3) & (found[:, 5] <= 4))
    assert torch.all((found[:, 6] >= math.log(0.3) - 1e-5) & (found[:, 6] <= math.log(6.3) + 1e-5))


@pytest.mark.parametrize('n_steps', [1, 3])
def test_features(n_steps):
    parameters, value = model_of(GALAXIES)
    fit = ProfileFit(n_steps)
    for data, weight in ((value, 1.0), (torch.zeros_like(value), 0.0)):
        with torch.no_grad():
            answer = fit(data, torch.full_like(value, weight), guess_of(parameters, n_steps))
        assert answer['features'].shape == (len(value), fit.n_features)
        assert torch.isfinite(answer['features']).all()
        assert answer['ln_sersic'].shape == answer['ln_free'].shape == (len(value),)
    # nothing known: the start stays, with the error of the prior
    assert_allclose(answer['ln_sersic'], parameters[:, 0], atol=1e-5)
    assert_allclose(answer['features'][:, 8], 0, atol=1e-4)


@pytest.mark.parametrize('n_neighbors', [0, 2])
def test_gradients(n_neighbors):
    """Every number of a guess, the free modes and what is learned of neighbors have one."""
    parameters, value = model_of(GALAXIES)
    generator = torch.Generator().manual_seed(4)
    value = 0.9 * value + torch.randn(value.shape, generator=generator)
    if n_neighbors:
        value = value + model_of([(5e3, 14.0, 9.0, 1.0, 3.0, 0.6, 30.0)])[1]
    weight = torch.ones_like(value)
    weight[:, -120:] = 0
    value = value * weight
    guess = guess_of(parameters, 2, free=0.3, bend=0.1, cut=10.0, misfit=0.03)
    leaves = {}
    # without neighbors the width of the PSF is not used
    for name in vars(guess).keys() - (set() if n_neighbors else {'fwhm'}):
        leaves[name] = getattr(guess, name).clone().requires_grad_()
        setattr(guess, name, leaves[name])
    fit = ProfileFit(2, n_neighbors=n_neighbors)
    blocks = None
    if n_neighbors:
        blocks = tuple(fit.neighbors.find.in_blocks(part) for part in (value, weight))
    answer = fit(value, weight, guess, blocks)
    loss = answer['ln_sersic'].sum() + answer['ln_free'].sum() + answer['features'].mean()
    loss.backward()
    for name, leaf in leaves.items():
        assert torch.isfinite(leaf.grad).all(), name
        assert leaf.grad.abs().max() > 0, name
    for name, parameter in fit.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().max() > 0, name


# -- normal equations --------------------------------------------------------------------------


def test_solution_of_normal_equations():
    generator = torch.Generator().manual_seed(1)
    design = torch.randn(3, 40, 5, generator=generator).double()
    basis = torch.randn(3, 5, 5, generator=generator).double()
    side = torch.randn(3, 5, generator=generator).double()
    (found,) = _solve(design.mT @ design, basis, side)
    whole = basis.mT @ design.mT @ design @ basis + torch.eye(5)
    # but for the small part of the diagonal
    assert_allclose(found, torch.linalg.solve(whole, side), rtol=1e-3)


def test_rounding_does_not_break_the_solution():
    """Two parameters that do nearly the same, summed up in single precision, at a high S/N."""
    generator = torch.Generator().manual_seed(2)
    shape = torch.rand(200, 809, generator=generator)
    modes = 3e4 * torch.stack([shape, shape, torch.rand(200, 809, generator=generator)], dim=1)
    modes[:, 1] *= 1 + 1e-6 * torch.randn(200, 809, generator=generator)
    basis = torch.eye(3).expand(200, 3, 3).clone()
    basis[:, 0, 1] = -1
    side = modes.sum(dim=2)
    (found,) = _solve(modes @ modes.mT, basis, side)
    assert torch.isfinite(found).all()


def test_one_matrix_that_is_not_positive():
    """Is no reason to give up on a whole batch."""
    normal = torch.tensor([[[4.0, 0.0], [0.0, 9.0]], [[1.0, 3.0], [3.0, 1.0]]])
    (found,) = _solve(normal, torch.eye(2).expand(2, 2, 2), torch.ones(2, 2))
    assert_allclose(found[0], [0.2, 0.1], rtol=1e-2)
    assert_allclose(found[1], [0.5, 0.5], rtol=1e-2)
