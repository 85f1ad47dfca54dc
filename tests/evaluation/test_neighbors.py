# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The information bound of a galaxy in a sky: neighbors, and correlated noise."""

import numpy as np
import pytest
from astropy import units as u
from astropy.table import QTable
from scipy.linalg import toeplitz

pytest.importorskip('galsim', reason='the bound is computed with GalSim (extra simulate)')

from astroflux.evaluation import ImageModel, SimulatedSource, ln_flux_bound
from astroflux.evaluation.information import fisher_information, ln_flux_response
from astroflux.evaluation.neighbors import NeighborModel, scene_bounds
from astroflux.simulation import (
    CutoutSimulation,
    GalaxyPopulation,
    SceneSimulation,
    SkyPopulation,
)

SHAPE = (61, 61)
GALAXIES = GalaxyPopulation(
    snr=(90.0, 110.0), half_light_radius=(0.4, 0.8), two_component_fraction=0.0
)
EMPTY = SkyPopulation(
    density=(1e-6, 1e-6),
    companion_rate=(0.0, 0.0),
    variance_factor=(1.0, 1.0),
    footprint_shares=(1.0, 0.0, 0.0, 0.0),
)
ALONE = SceneSimulation(galaxies=GALAXIES, shape=SHAPE, sky=EMPTY, correlation=0.0)


@pytest.fixture(scope='module')
def scene():
    cutout, truth = ALONE.draw(np.random.default_rng(4))
    # no more than the residual that any cutout has
    return cutout, {**truth, 'sky_level': 0.0}


def galaxy_at(dx, truth, *, dy=0.0, ratio=1.0):
    """Return a table with one source like the galaxy."""
    shape = {
        name: truth[name] for name in truth if name.endswith(('_1', '_2', '_total', 'components'))
    }
    source = {
        'x': (30 + dx) * u.pix,
        'y': (30 + dy) * u.pix,
        'flux': ratio * truth['flux'] * u.adu,
        'half_light_radius': truth['half_light_radius'] * u.arcsec,
        'is_detected': True,
        'is_companion': False,
        **shape,
    }
    return QTable([source])


def bound_with(sources, scene, simulation=ALONE, **changes):
    cutout, truth = scene
    cutout = cutout.copy()
    cutout.meta['sources'] = sources
    model = ImageModel(truth, SHAPE, simulation.survey.pixel_scale)
    return scene_bounds(model, cutout, {**truth, **changes}, simulation)


def test_bound_of_a_galaxy_alone_is_that_of_any_cutout(scene):
    cutout, truth = scene
    assert len(cutout.meta['sources']) == 0
    survey = ALONE.survey
    model = ImageModel(truth, SHAPE, survey.pixel_scale)
    sky_error = ALONE.sky_residual * survey.noise
    expected = [
        ln_flux_bound(model, survey.noise, sky_error=sky_error, population=population)
        for population in (GALAXIES, None)
    ]
    found = bound_with(cutout.meta['sources'], scene)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_neighbor_next_door_raises_it_and_a_far_one_does_not(scene):
    alone, _ = bound_with(scene[0].meta['sources'], scene)
    bounds = {dx: bound_with(galaxy_at(dx, scene[1]), scene)[0] for dx in (3, 6, 12, 70)}
    assert bounds[3] > 1.5 * alone
    assert bounds[3] > bounds[6] > bounds[12] > alone
    assert bounds[70] == pytest.approx(alone, rel=1e-6)


def test_faint_neighbor_costs_no_more_than_its_light(scene):
    # in the same place nothing tells the two apart but what is known of a source
    alone, _ = bound_with(scene[0].meta['sources'], scene)
    ratio = 0.05
    together, _ = bound_with(galaxy_at(0.5, scene[1], ratio=ratio), scene)
    assert alone < together < 1.5 * np.hypot(alone, ratio)


@pytest.mark.parametrize('name', ['ln_flux', 'x', 'y', 'ln_half_light_radius'])
def test_derivatives_are_those_of_a_galaxy(scene, name):
    _, truth = scene
    scale = ALONE.survey.pixel_scale
    model = ImageModel(truth, SHAPE, scale)
    # one more where the galaxy is
    neighbors = NeighborModel(
        galaxy_at(truth['x_offset'], truth, dy=truth['y_offset']),
        truth,
        scale,
        noise=ALONE.survey.noise,
        response=np.ones(SHAPE),
        least_change=0.0,
    )
    ours = neighbors.jacobian[neighbors.names.index(f'{name}_of_0')]
    theirs = model.jacobian[
        model.names.index(f'{name}_1' if name == 'ln_half_light_radius' else name)
    ]
    assert (ours * theirs).sum() / np.linalg.norm(ours) / np.linalg.norm(theirs) > 0.98
    assert np.linalg.norm(ours) == pytest.approx(np.linalg.norm(theirs), rel=0.15)


def test_neighbors_that_are_left_out_hardly_matter():
    simulation = SceneSimulation(galaxies=GALAXIES, shape=SHAPE)
    cutout, truth = simulation.draw(np.random.default_rng(8))
    model = ImageModel(truth, SHAPE, simulation.survey.pixel_scale)
    noise, scale = simulation.survey.noise, simulation.survey.pixel_scale
    options = {'sky_error': 0.02 * noise, 'population': GALAXIES}
    response = ln_flux_response(model, noise, **options)
    alone = ln_flux_bound(model, noise, **options)

    def bound_and_number(least_change):
        neighbors = NeighborModel(
            cutout.meta['sources'],
            truth,
            scale,
            noise=noise,
            response=response,
            least_change=least_change,
        )
        return ln_flux_bound(model, noise, neighbors=neighbors, **options), len(neighbors.names)

    (every, n_every), (some, n_some) = bound_and_number(0.0), bound_and_number(0.1 * alone)
    assert 0 < n_some < n_every
    assert alone < some <= every
    assert some == pytest.approx(every, rel=0.03)


def test_response_is_that_of_the_best_estimate(scene):
    _, truth = scene
    noise = ALONE.survey.noise
    model = ImageModel(truth, SHAPE, ALONE.survey.pixel_scale)
    response = ln_flux_response(model, noise)
    # of all parameters, an estimate without bias answers to its own alone
    answers = np.tensordot(model.jacobian, response, 2)
    np.testing.assert_allclose(answers, np.eye(len(model.names))[0], atol=1e-5)
    # and its error is the bound
    error = noise * np.linalg.norm(response)
    assert error == pytest.approx(ln_flux_bound(model, noise), rel=1e-6)


# -- correlated noise ----------------------------------------------------------------------------

KERNEL = np.outer([0.2, 1, 0.2], [0.1, 1, 0.1])


def covariance_of(kernel, shape):
    """Covariance of the noise of all pixels, for a kernel of three pixels."""

    def along(weights, length):
        lags = np.correlate(weights, weights, 'full')[2:]
        return toeplitz([*(lags / lags[0]), *[0.0] * (length - 3)])

    return np.kron(along(kernel[:, 1], shape[0]), along(kernel[1], shape[1]))


@pytest.mark.parametrize('is_masked', [False, True])
def test_information_in_correlated_noise(is_masked):
    rng = np.random.default_rng(3)
    shape = (14, 17)
    noise = rng.uniform(0.5, 2, shape)
    jacobian = rng.standard_normal((4, *shape)) + 1
    mask = np.zeros(shape, bool)
    if is_masked:
        mask[3:10, 4:12] = True
        mask[12, 15] = True
        noise[5, 5] = 0
        jacobian[:, 6, 6] = 1e6
    used = ~mask.ravel()
    covariance = covariance_of(KERNEL, shape)[np.ix_(used, used)]
    weighted = (jacobian.reshape(4, -1)[:, used]) / noise.ravel()[used]
    expected = weighted @ np.linalg.solve(covariance, weighted.T)
    found = fisher_information(jacobian, noise, mask=mask, kernel=3 * KERNEL)
    np.testing.assert_allclose(found, expected, rtol=3e-3)


def test_noise_that_is_not_correlated():
    rng = np.random.default_rng(3)
    jacobian = rng.standard_normal((3, 20, 21))
    mask = rng.random((20, 21)) < 0.1
    plain = fisher_information(jacobian, 0.3, mask=mask)
    found = fisher_information(jacobian, 0.3, mask=mask, kernel=np.ones((1, 1)))
    np.testing.assert_allclose(found, plain, rtol=1e-10)


def test_correlation_raises_the_bound(scene):
    sources = scene[0].meta['sources']
    white, _ = bound_with(sources, scene)
    correlated, _ = bound_with(sources, scene, noise_weight_x=0.2, noise_weight_y=0.2)
    # by less than the noise of a sum over many pixels grows
    assert 1.1 * white < correlated < 1.4**2 / (1 + 2 * 0.2**2) * white
    louder, _ = bound_with(sources, scene, variance_factor=0.81)
    # priors do not grow with the noise
    assert 1.03 < louder / white < 1 / 0.9


def test_kernel_that_is_no_product():
    kernel = KERNEL.copy()
    kernel[0, 0] = 0
    with pytest.raises(ValueError, match='product of a column and a row, got the shape'):
        fisher_information(np.ones((1, 5, 5)), 1.0, kernel=kernel)


def test_source_of_scenes_has_the_bound():
    simulation = SceneSimulation(galaxies=GALAXIES, shape=SHAPE)
    _, truth = SimulatedSource(2, simulation, seed=3).load(0, 2)
    cutouts = SimulatedSource(2, CutoutSimulation(galaxies=GALAXIES, shape=SHAPE), seed=3)
    _, alone = cutouts.load(0, 2)
    # the same galaxies
    np.testing.assert_array_equal(truth['flux'], alone['flux'])
    assert (truth['bound'] > alone['bound']).all()
    assert (truth['bound_without_prior'] > truth['bound']).all()
