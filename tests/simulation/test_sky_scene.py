# Licensed under a 3-clause BSD style license - see LICENSE.rst

import numpy as np
import pytest
from astropy import units as u
from astropy.table import QTable, Table

from astroflux.cutouts import read_cutout
from astroflux.simulation import (
    GalaxyPopulation,
    SceneSimulation,
    SkyPopulation,
    radius_of_sum,
    simulate_cutouts,
    write_dataset,
)
from astroflux.simulation.population import components_of

pytest.importorskip('galsim')

SHAPE = (61, 61)
GALAXIES = GalaxyPopulation(snr=(50.0, 60.0), sersic_index=(0.5, 1.5))
# of next to no sources
QUIET = {'density': (1e-6, 1e-6), 'star_share': (1e-6, 1e-6), 'companion_rate': (0.0, 0.0)}
UNMASKED = (1.0, 0.0, 0.0, 0.0)


def draw(seed=1, **changes):
    simulation = SceneSimulation(**{'galaxies': GALAXIES, 'shape': SHAPE, **changes})
    return simulation, *simulation.draw(np.random.default_rng(seed))


def test_scene_is_seeded():
    _, cutout, truth = draw()
    _, again, same = draw()
    np.testing.assert_array_equal(cutout.data, again.data)
    np.testing.assert_array_equal(cutout.mask, again.mask)
    np.testing.assert_equal(truth, same)


def test_truth_of_the_sources():
    # galaxies of two components as well
    simulation, cutout, truth = draw(seed=3, sky=SkyPopulation(star_share=(0.5, 0.5)))
    sources = cutout.meta['sources']
    assert sources['flux'].unit == u.adu
    assert (np.diff(sources['flux']) <= 0).all()
    is_star = sources['n_components'] == 0
    assert 0 < is_star.sum() < len(sources)
    for row in Table(sources):
        if row['n_components'] > 0:
            radius = radius_of_sum(components_of(row))
            assert radius == pytest.approx(row['half_light_radius'], rel=1e-6)
        else:
            assert row['half_light_radius'] == 0
    x, y = sources['x'].value, sources['y'].value
    seen = sources['is_detected'] & (abs(x - 30) < 30.5) & (abs(y - 30) < 30.5)
    assert truth['n_neighbours'] == seen.sum() > 0
    distance = np.hypot(x - 30 - truth['x_offset'], y - 30 - truth['y_offset'])[seen].min()
    assert truth['neighbour_distance'] == pytest.approx(distance * simulation.survey.pixel_scale)


def test_noise_is_what_is_stated_but_for_its_error():
    simulation, cutout, truth = draw(
        shape=(201, 201),
        sky=SkyPopulation(**QUIET, variance_factor=(0.85, 0.85)),
        galaxies=GalaxyPopulation(snr=(0.01, 0.02)),
    )
    noise = cutout.data / simulation.survey.noise
    assert noise.std() == pytest.approx(1 / np.sqrt(0.85), rel=0.03)
    assert truth['variance_factor'] == 0.85
    noise -= noise.mean()
    for axis, name in ((1, 'noise_weight_x'), (0, 'noise_weight_y')):
        weight = truth[name]
        assert 0 < weight < simulation.correlation
        expected = 2 * weight / (1 + 2 * weight**2)
        found = (noise * np.roll(noise, 1, axis)).mean() / noise.var()
        assert found == pytest.approx(expected, abs=0.025)


def test_light_of_the_sources_is_in_the_image():
    sky = SkyPopulation(density=(20.0, 20.0), radius=(0.2, 0.2), star_share=(1e-6, 1e-6))
    simulation, cutout, truth = draw(sky=sky)
    sources = cutout.meta['sources']
    inside = (abs(sources['x'].value - 30) < 30) & (abs(sources['y'].value - 30) < 30)
    light = sources['flux'][inside].sum().value + truth['flux']
    assert light > 10 * simulation.survey.noise * 61
    light += truth['sky_level'] * simulation.survey.noise * cutout.data.size
    # what shines in and out across the edges
    assert cutout.data.sum() == pytest.approx(light, rel=0.15)
    assert truth['neighbour_light'] > 0


def test_sources_are_where_the_table_says():
    sky = SkyPopulation(**{**QUIET, 'density': (10.0, 10.0), 'companion_rate': (0.0, 0.0)})
    _, cutout, _ = draw(seed=2, sky=sky)
    first = cutout.meta['sources'][cutout.meta['sources']['is_detected']]
    x, y = first['x'].value, first['y'].value
    margin = 8
    is_far = np.hypot(x - 30, y - 30) > margin
    inside = is_far & (abs(x - 30) < 30 - margin) & (abs(y - 30) < 30 - margin)
    brightest = np.flatnonzero(inside)[0]
    column, row = round(x[brightest]), round(y[brightest])
    around = cutout.data[row - 6 : row + 7, column - 6 : column + 7]
    peak = np.unravel_index(np.argmax(around), around.shape)
    assert np.hypot(peak[0] - 6, peak[1] - 6) < 3


def test_footprints_leave_the_galaxy():
    sky = SkyPopulation(
        density=(6.0, 6.0), companion_rate=(0.0, 0.0), footprint_shares=(0.0, 1.0, 0.0, 0.0)
    )
    simulation = SceneSimulation(galaxies=GALAXIES, shape=SHAPE, sky=sky)
    drawn = list(simulate_cutouts(5, simulation, seed=2))
    assert all(truth['footprints'] == 'tight' for _, truth in drawn)
    assert any(cutout.mask.any() for cutout, _ in drawn)
    assert np.mean([cutout.mask[30, 30] for cutout, _ in drawn]) < 0.5


def test_stars_saturate():
    stars = {'star_share': (1e6, 1e6), 'density': (1e-5, 1e-5), 'footprint_shares': UNMASKED}
    for magnitude, saturates in ((0.0, True), (20.0, False)):
        sky = SkyPopulation(**{**QUIET, **stars, 'saturation': (magnitude, magnitude)})
        simulation = SceneSimulation(galaxies=GALAXIES, shape=SHAPE, sky=sky)
        masks = [cutout.mask for cutout, _ in simulate_cutouts(3, simulation, seed=4)]
        assert all(mask.any() == saturates for mask in masks)


def test_what_a_scene_cannot_have():
    with pytest.raises(ValueError, match=r'those of its sky, got \(1, 1\)'):
        SceneSimulation(neighbors=(1, 1))
    with pytest.raises(ValueError, match=r'less than 0\.5, got 0\.6'):
        SceneSimulation(correlation=0.6)


def test_files_hold_the_sources(tmp_path):
    simulation = SceneSimulation(galaxies=GALAXIES, shape=SHAPE)
    write_dataset(tmp_path, 1, simulation, seed=5, progress=False)
    path = tmp_path / '000000.fits'
    cutout, truth = next(simulate_cutouts(1, simulation, seed=5))
    read = read_cutout(path)
    np.testing.assert_array_equal(read.data, cutout.data)
    np.testing.assert_array_equal(read.mask, cutout.mask)
    sources = QTable.read(path, hdu='SOURCES')
    assert sources.colnames == cutout.meta['sources'].colnames
    np.testing.assert_array_equal(sources['flux'], cutout.meta['sources']['flux'])
    assert sources['half_light_radius'].unit == u.arcsec
    table = QTable.read(tmp_path / 'truth.ecsv')
    assert table['footprints'][0] == truth['footprints']
    assert table['neighbour_light'][0] == pytest.approx(truth['neighbour_light'])
