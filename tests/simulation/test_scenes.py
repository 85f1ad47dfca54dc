# Licensed under a 3-clause BSD style license - see LICENSE.rst

import numpy as np
import pytest
from astropy import units as u
from astropy.table import QTable

from astroflux.cutouts import read_cutout
from astroflux.simulation import (
    GalaxyPopulation,
    SceneSimulation,
    SkyPopulation,
    simulate_cutouts,
    write_dataset,
)

pytest.importorskip('galsim')

SHAPE = (61, 61)
GALAXIES = GalaxyPopulation(snr=(50.0, 60.0), sersic_index=(0.5, 1.5), two_component_fraction=0.0)
# next to nothing but one kind of source
QUIET = {'density': (1e-6, 1e-6), 'star_share': (1e-6, 1e-6), 'companion_rate': (0.0, 0.0)}


def draw(seed=1, **changes):
    simulation = SceneSimulation(**{'galaxies': GALAXIES, 'shape': SHAPE, **changes})
    return simulation, *simulation.draw(np.random.default_rng(seed))


def test_scene_is_seeded_and_tells_its_sources():
    _, cutout, truth = draw()
    _, again, same = draw()
    np.testing.assert_array_equal(cutout.data, again.data)
    assert truth['neighbour_light'] == same['neighbour_light']
    assert truth['footprints'] == same['footprints']
    sources = cutout.meta['sources']
    assert sources.colnames == ['x', 'y', 'flux', 'half_light_radius', 'is_companion']
    assert sources['flux'].unit == u.adu
    assert sources['half_light_radius'].unit == u.arcsec
    inside = (abs(sources['x'].value - 30) < 30.5) & (abs(sources['y'].value - 30) < 30.5)
    assert truth['n_neighbours'] <= inside.sum()


def test_noise_is_what_is_stated_but_for_its_error():
    simulation, cutout, truth = draw(
        shape=(101, 101),
        sky=SkyPopulation(**QUIET),
        galaxies=GalaxyPopulation(snr=(0.01, 0.02)),
        variance_factor=(0.85, 0.85),
    )
    noise = cutout.data.std() / simulation.survey.noise
    assert noise == pytest.approx(1 / np.sqrt(0.85), rel=0.03)
    assert truth['variance_factor'] == 0.85
    assert truth['noise_growth'] >= 1


def test_light_of_the_sources_is_in_the_image():
    sky = SkyPopulation(density=(20.0, 20.0), radius=(0.2, 0.2), star_share=(1e-6, 1e-6))
    simulation, cutout, truth = draw(sky=sky)
    sources = cutout.meta['sources']
    inside = (sources['x'].value > 0) & (sources['x'].value < 60)
    inside &= (sources['y'].value > 0) & (sources['y'].value < 60)
    light = sources['flux'][inside].sum().value + truth['flux']
    light += truth['sky_level'] * simulation.survey.noise * cutout.data.size
    # what shines in and out across the edges
    assert cutout.data.sum() == pytest.approx(light, rel=0.15)
    assert light > 10 * simulation.survey.noise * 61
    assert truth['n_neighbours'] >= 1
    assert truth['neighbour_light'] > 0


def test_masks_of_neighbors_leave_the_galaxy():
    simulation = SceneSimulation(
        galaxies=GALAXIES,
        shape=SHAPE,
        footprint_shares=(0.0, 1.0, 0.0, 0.0),
        sky=SkyPopulation(density=(6.0, 6.0), companion_rate=(0.0, 0.0)),
    )
    masks = [cutout.mask for cutout, _ in simulate_cutouts(5, simulation, seed=2)]
    assert any(mask.any() for mask in masks)
    assert np.mean([mask[30, 30] for mask in masks]) < 0.5


def test_stars_saturate():
    sky = SkyPopulation(**{**QUIET, 'star_share': (1e6, 1e6), 'density': (1e-5, 1e-5)})
    simulation = SceneSimulation(
        galaxies=GALAXIES,
        shape=SHAPE,
        sky=sky,
        saturation=(0.0, 0.0),
        footprint_shares=(1.0, 0.0, 0.0, 0.0),
    )
    masks = [cutout.mask for cutout, _ in simulate_cutouts(3, simulation, seed=4)]
    assert all(mask.any() for mask in masks)


def test_files_hold_the_sources(tmp_path):
    simulation = SceneSimulation(galaxies=GALAXIES, shape=SHAPE)
    write_dataset(tmp_path, 1, simulation, seed=5, progress=False)
    path = tmp_path / '000000.fits'
    cutout, truth = next(simulate_cutouts(1, simulation, seed=5))
    read = read_cutout(path)
    np.testing.assert_array_equal(read.data, cutout.data)
    np.testing.assert_array_equal(read.mask, cutout.mask)
    sources = QTable.read(path, hdu='SOURCES')
    np.testing.assert_allclose(sources['flux'], cutout.meta['sources']['flux'])
    table = QTable.read(tmp_path / 'truth.ecsv')
    assert table['footprints'][0] == truth['footprints']
