# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Write the simulated cutouts that ``astroflux demo`` measures into the package."""

from pathlib import Path

from astroflux.simulation import CutoutSimulation, GalaxyPopulation, write_dataset

write_dataset(
    Path(__file__).parents[1] / 'astroflux' / 'data' / 'demo',
    8,
    CutoutSimulation(neighbors=(0, 1), galaxies=GalaxyPopulation(snr=(10.0, 1000.0))),
    seed=2027,
    compress=True,
    overwrite=True,
)
