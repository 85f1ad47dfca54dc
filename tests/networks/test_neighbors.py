# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Neighbors in the fit of a profile: found where they are, and solved for with the galaxy."""

import math

import pytest
import torch
from numpy.testing import assert_allclose
from torch.testing import assert_close

from astroflux.networks.neighbors import NeighborFit
from astroflux.networks.profile_fit import ProfileFit, ProfileGuess
from astroflux.networks.sersic_model import SersicModel

FWHM = 4.0
PSF = torch.tensor([[2 * math.log(FWHM / 2.355)] * 4]), torch.tensor([[0.25] * 4])
MODEL = SersicModel()


def source(flux, x, y, radius=2.0, index=1.0):
    return torch.tensor([[math.log(flux), x, y, 0.0, 0.0, math.log(radius), math.log(index)]])


def image_of(*sources, noise_seed=None):
    """Return the tiles of sources, and weights of unit noise."""
    with torch.no_grad():
        image = sum(MODEL(one, *PSF)[:, 0] for one in sources)
    if noise_seed is not None:
        image = image + torch.randn(image.shape, generator=torch.manual_seed(noise_seed))
    return image, torch.ones_like(image)


def guess_of(start, n_steps=2):
    return ProfileGuess(
        start=start,
        ln_variance=PSF[0],
        weight=PSF[1],
        width=torch.ones(n_steps, 1, 8),
        misfit=torch.full((n_steps, 1), 0.01),
        cut=torch.full((n_steps, 1), 30.0),
        free_width=torch.full((1, 8), 1e-3),
        bend_width=torch.full((1, 2), 1e-3),
        fwhm=torch.tensor([FWHM]),
    )


GALAXY = source(1000.0, 0.3, -0.2)


def blocks_of(image, weight):
    """Return what the finder sees of images in tiles: as good as that for smooth images."""
    finder = NeighborFit(1, 1).find
    return finder.in_blocks(image), (finder.in_blocks(weight) > 0).float()


def found(image, weight, n_neighbors=4, noise_seed=None):
    fit = NeighborFit(n_neighbors, 2)
    blocks, weight = blocks_of(image, weight)
    if noise_seed is not None:
        blocks = blocks + torch.randn(blocks.shape, generator=torch.manual_seed(noise_seed))
    with torch.no_grad():
        own = MODEL(GALAXY, *PSF)[:, 0]
        return fit.start(blocks, weight, own, guess_of(GALAXY))


def test_neighbors_are_found_where_they_are():
    others = [source(800.0, 12.2, -7.6), source(300.0, -14.7, 3.1)]
    neighbors = found(*image_of(GALAXY, *others), noise_seed=1)
    assert neighbors.exists.tolist() == [[1, 1, 0, 0]]
    for number, other in enumerate(others):
        assert_close(neighbors.parameters[0, number, 1:3], other[0, 1:3], atol=0.7, rtol=0)
        assert_allclose(neighbors.parameters[0, number, 0], other[0, 0], atol=0.6)


def test_noise_has_no_neighbors():
    number = [int(found(*image_of(GALAXY), noise_seed=seed).exists.sum()) for seed in range(20)]
    assert sum(number) <= 1


def test_the_brightest_of_many_count():
    others = [source(200.0 * (k + 1), 20 * math.cos(k), 20 * math.sin(k)) for k in range(6)]
    neighbors = found(*image_of(GALAXY, *others), n_neighbors=2)
    assert_allclose(neighbors.exists, 1)
    wanted = torch.cat([others[5], others[4]])[:, 1:3]
    assert_close(neighbors.parameters[0, :, 1:3], wanted, atol=0.7, rtol=0)


def test_masked_pixels_hold_no_neighbor():
    image, weight = image_of(GALAXY, source(800.0, 12.0, -7.0))
    only_neighbor = image_of(source(800.0, 12.0, -7.0))[0]
    weight[only_neighbor > 0.3] = 0
    assert found(image * (weight > 0), weight).exists.sum() == 0


def test_a_neighbor_on_the_edge_of_the_search():
    neighbors = found(*image_of(GALAXY, source(5000.0, 31.0, 0.0)))
    assert neighbors.exists.sum() == 1
    assert abs(neighbors.parameters[0, 0, 1] - 31.0) < 2


@pytest.mark.parametrize('distance', [7.0, 12.0])
@pytest.mark.parametrize('ratio', [0.3, 3.0, 30.0])
def test_the_flux_beside_a_neighbor(distance, ratio):
    # 2 % with the neighbor in the model, much worse without
    other = source(1000.0 * ratio, 0.8 * distance, 0.6 * distance, radius=1.5)
    image, weight = image_of(GALAXY, other)
    error = {}
    for n_neighbors in (0, 2):
        fit = ProfileFit(3, n_neighbors=n_neighbors)
        with torch.no_grad():
            answer = fit(
                image, weight, guess_of(source(1100.0, 0.0, 0.0, 2.4), 3), blocks_of(image, weight)
            )
        error[n_neighbors] = abs(float(answer['ln_sersic']) - math.log(1000.0))
    assert error[2] < 0.03
    assert error[0] > 2 * error[2]


def test_elimination_is_the_solution_of_all_parameters_at_once():
    generator = torch.manual_seed(3)
    image, weight = image_of(GALAXY, source(2000.0, 9.0, 4.0), noise_seed=3)
    start = source(1050.0, 0.0, 0.0)
    fit = NeighborFit(1, 1)
    with torch.no_grad():
        modes = MODEL(start, *PSF)[:, :6]
        residual = image - modes[:, 0]
        guess = guess_of(start)
        neighbors = fit.start(*blocks_of(image, weight), modes[:, 0], guess)
        light = fit.light(neighbors, 0, guess)
        residual = residual - light.total
        weight = weight * torch.rand(weight.shape, generator=generator)
        left = light.eliminate(modes, weight, residual)
        normal = (modes * weight[:, None]) @ modes.mT
        slope = ((modes * weight[:, None]) @ residual[:, :, None])[:, :, 0]
        reduced, reduced_slope = left.reduced(normal, slope)
        change = torch.linalg.solve(reduced.double(), reduced_slope.double()).float()

        every = torch.cat([modes, light.modes], dim=1).double()
        prior = torch.cat([torch.zeros(6), 1 / light.width[0] ** 2]).double()
        whole = (every * weight[:, None]) @ every.mT + torch.diag(prior)
        both = torch.linalg.solve(whole, (every * weight[:, None]) @ residual[:, :, None].double())
    assert_close(change[0].double(), both[0, :6, 0], rtol=2e-3, atol=1e-4)
    assert_close(left.of_others(change).double()[0], both[0, 6:, 0], rtol=5e-3, atol=1e-3)
    assert float(left.ln_lost) > 0


def test_each_galaxy_of_a_batch_has_its_own_number_of_neighbors():
    others = source(2000.0, 9.0, 4.0), source(900.0, -10.0, 3.0), source(700.0, 2.0, -12.0)
    images = [image_of(GALAXY, *others[:number], noise_seed=number)[0] for number in (2, 0, 3)]
    start = source(1050.0, 0.0, 0.0)
    fit = ProfileFit(2, n_neighbors=4)

    def fitted(image):
        weight = torch.ones_like(image)
        guess = guess_of(start)
        for name in ('start', 'ln_variance', 'weight', 'free_width', 'bend_width'):
            value = getattr(guess, name)
            setattr(guess, name, value.expand(len(image), -1))
        for name in ('width', 'misfit', 'cut'):
            value = getattr(guess, name)
            setattr(guess, name, value.expand(-1, len(image), *value.shape[2:]))
        guess.fwhm = guess.fwhm.expand(len(image))
        with torch.no_grad():
            return fit(image, weight, guess, blocks_of(image, weight))

    together, alone = fitted(torch.cat(images)), [fitted(image) for image in images]
    assert together['n_neighbors'].tolist() == [2, 0, 3]
    for name in ('ln_sersic', 'ln_free', 'parameters', 'neighbor_light'):
        assert_close(
            together[name], torch.cat([each[name] for each in alone]), rtol=1e-4, atol=1e-4
        )
    assert_allclose(together['ln_sersic'], math.log(1000.0), atol=0.05)


def test_what_is_said_of_neighbors():
    image, weight = image_of(GALAXY, source(3000.0, 6.0, 0.0), source(100.0, -20.0, 0.0))
    with torch.no_grad():
        blocks = blocks_of(image, weight)
        answer = ProfileFit(2, n_neighbors=3)(image, weight, guess_of(GALAXY), blocks)
    assert answer['n_neighbors'].tolist() == [2]
    assert_allclose(answer['neighbor_distance'], 6.0, atol=0.7)
    assert_allclose(answer['rival'], 3.0, rtol=0.2)
    assert 0.1 < float(answer['neighbor_light']) < 1
    # what is left of the neighbors is little
    own = image_of(GALAXY)[0]
    assert float((answer['cleaned'] - own).abs().max()) < 0.05 * float(own.max())


def test_neighbors_of_one_galaxy_do_not_depend_on_the_rest_of_the_batch():
    first = image_of(GALAXY, source(800.0, 12.0, -7.0))
    second = image_of(GALAXY)
    image, weight = (torch.cat(pair) for pair in zip(first, second, strict=True))
    guess = guess_of(GALAXY)
    both = ProfileGuess(
        **{
            name: value.repeat_interleave(2, dim=1 if value.ndim == 3 or value.shape[0] == 2 else 0)
            for name, value in vars(guess).items()
        }
    )
    with torch.no_grad():
        fit = ProfileFit(2, n_neighbors=2)
        together = fit(image, weight, both, blocks_of(image, weight))
        alone = fit(*second, guess, blocks_of(*second))
    assert_close(together['ln_free'][1:], alone['ln_free'], rtol=1e-4, atol=1e-4)
    assert together['n_neighbors'].tolist() == [1, 0]
