# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""GalSim scenes with known truth: surveys, populations, datasets on disk."""

from astroflux.simulation.dataset import write_dataset
from astroflux.simulation.field import FieldSimulation
from astroflux.simulation.observation import CutoutSimulation, simulate_cutouts
from astroflux.simulation.population import (
    GalaxyPopulation,
    PSFPopulation,
    radius_of_sum,
)
from astroflux.simulation.scene import draw_galaxy, draw_psf, galaxy_profile, psf_profile
from astroflux.simulation.sky import SkyPopulation, SkySources
from astroflux.simulation.sky_scene import SceneSimulation
from astroflux.simulation.surveys import Survey, get_survey
from astroflux.simulation.tiles import simulate_survey

__all__ = [
    'CutoutSimulation',
    'FieldSimulation',
    'GalaxyPopulation',
    'PSFPopulation',
    'SceneSimulation',
    'SkyPopulation',
    'SkySources',
    'Survey',
    'draw_galaxy',
    'draw_psf',
    'galaxy_profile',
    'get_survey',
    'psf_profile',
    'radius_of_sum',
    'simulate_cutouts',
    'simulate_survey',
    'write_dataset',
]
