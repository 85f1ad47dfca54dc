# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The fixed test sets. Nothing is trained on them, tuned on them or picked from them."""

from dataclasses import dataclass

from astroflux.simulation import CutoutSimulation, GalaxyPopulation

__all__ = ['SETS', 'TestSet']


@dataclass(frozen=True)
class TestSet:
    """
    A seeded set of simulated galaxies.

    Attributes
    ----------
    title : str
        For tables.
    seed : int
        Of the simulation; no training uses it.
    simulation : `~astroflux.simulation.CutoutSimulation`
        What is simulated.
    """

    title: str
    seed: int
    simulation: CutoutSimulation


SETS = {
    'isolated': TestSet('isolated galaxies, PSF given', 90001, CutoutSimulation()),
    'uniform-index': TestSet(
        'isolated, Sersic index uniform instead of log-uniform, PSF given',
        90003,
        CutoutSimulation(galaxies=GalaxyPopulation(sersic_index_spacing='linear')),
    ),
    'blended': TestSet(
        'a neighbour of flux ratio 0.1 to 2 at 1.2 to 4 arcsec, PSF given',
        90002,
        CutoutSimulation(neighbours=(1, 1)),
    ),
}
