# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Which pixels count?

    python docs/examples/weight_maps.py

draws the figure of ``docs/weight_maps.rst``, as the build of the documentation does.
"""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from astroflux import CNNFluxEstimator
from astroflux.evaluation.plots import plot_cutout, plot_weight_map
from astroflux.simulation import CutoutSimulation, GalaxyPopulation, simulate_cutouts

FIGURE = Path(__file__).parents[1] / '_generated' / 'weight_maps.png'
SEED = 90014
SHAPE = (75, 75)
SIZE = (0.6, 0.9)  # half-light radius in arcsec


def examples():
    """Yield a title and a cutout: faint, bright, with a neighbour, with a mask."""

    def simulate(snr, seed, **options):
        galaxies = GalaxyPopulation(snr=(snr, 1.01 * snr), half_light_radius=SIZE)
        simulation = CutoutSimulation(galaxies=galaxies, shape=SHAPE, **options)
        ((cutout, _),) = simulate_cutouts(1, simulation, seed=SEED + seed)
        return cutout

    yield 'S/N 15', simulate(15.0, 0)
    yield 'S/N 500', simulate(500.0, 0)
    yield (
        'a neighbour',
        simulate(
            200.0,
            3,
            neighbors=(1, 1),
            neighbor_distance=(2.0, 2.5),
            neighbor_flux_ratio=(0.5, 0.8),
        ),
    )
    masked = simulate(200.0, 4)
    y, x = np.indices(SHAPE)
    masked.mask = (np.hypot(x - 43, y - 40) < 4) | (np.abs(x - 28) < 1)
    yield 'masked pixels', masked


def main():
    """Draw the figure."""
    estimator = CNNFluxEstimator()
    cases = list(examples())
    figure = Figure(figsize=(3 * len(cases), 5.6), layout='constrained')
    axes = figure.subplots(2, len(cases))
    for (upper, lower), (title, cutout) in zip(axes.T, cases, strict=True):
        noise = float(cutout.uncertainty.array[0, 0])
        ignored = False if cutout.mask is None else cutout.mask
        image = np.where(ignored, -2 * noise, cutout.data)
        plot_cutout(upper, image, noise, title=title)
        plot_weight_map(lower, estimator.weight_map(cutout))
    FIGURE.parent.mkdir(exist_ok=True)
    figure.savefig(FIGURE, dpi=100)


if __name__ == '__main__':
    main()
