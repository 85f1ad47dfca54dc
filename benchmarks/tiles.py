# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
How much information the tiles of a stamp keep of that in its pixels.

    python benchmarks/tiles.py

prints the ratio of the information bounds of ln(flux) for some ways to tile a stamp. With
``--write`` it also rewrites the table of the documentation.
"""

import copy

import numpy as np
from report import command_line, put_out, rst_table

from astroflux._progress import progress_bar
from astroflux.evaluation import ImageModel, ln_flux_bound
from astroflux.networks.pyramid import BLOCKS, CANVAS_SIZE, EXTENTS, tiles
from astroflux.simulation import CutoutSimulation, GalaxyPopulation, Survey, get_survey

SEED = 90015

# Sides of the blocks, and of the squares that they tile.
TILINGS = {
    'as shipped': (BLOCKS, EXTENTS),
    'no blocks of 21': ((1, 3, 7), (15, 63, CANVAS_SIZE)),
    '27 x 27 pixels in the centre': ((1, 3, 7), (27, 63, CANVAS_SIZE)),
    'blocks of 7 from 21 pixels on': ((1, 3, 7), (15, 21, CANVAS_SIZE)),
}

SURVEY = get_survey()
GALAXIES = GalaxyPopulation(snr=(20.0, 5000.0))
SIMULATIONS = {
    'HSC-like PSF, 3 to 6 pixels': CutoutSimulation(galaxies=GALAXIES),
    'PSF of 1.8 to 2.5 pixels': CutoutSimulation(
        galaxies=GALAXIES,
        survey=Survey(
            'narrow',
            SURVEY.pixel_scale,
            27.0,
            0.05,
            tuple(SURVEY.pixel_scale * f for f in (1.8, 2.5)),
        ),
    ),
}


def tiling(blocks, extents):
    """Return the tiles of a canvas that is tiled in this way."""
    return tiles(blocks, extents, [CANVAS_SIZE // block for block in blocks])


def tiled(jacobian, chosen):
    """Return derivatives of tiles, as an image of one row, in units of their noise."""
    edge = [(CANVAS_SIZE - length) // 2 for length in jacobian.shape[1:]]
    margins = [
        (e, CANVAS_SIZE - length - e) for e, length in zip(edge, jacobian.shape[1:], strict=True)
    ]
    canvas = np.pad(jacobian, [(0, 0), *margins])
    number = np.pad(np.ones(jacobian.shape[1:]), margins)
    parts = []
    for bounds, index in zip(chosen.bounds, chosen.index, strict=True):
        side = int(chosen.side[bounds][0])
        n = CANVAS_SIZE // side
        blocks = canvas.reshape(-1, n, side, n, side).sum(axis=(2, 4)).reshape(-1, n * n)[:, index]
        counted = number.reshape(n, side, n, side).sum(axis=(1, 3)).ravel()[index]
        parts.append(blocks / np.sqrt(np.maximum(counted, 1)))
    return np.concatenate(parts, axis=1)[:, None]


def ratios(simulation, n):
    """Return the bounds from tiles over those from pixels, of each galaxy and tiling."""
    all_tiles = [tiling(*arguments) for arguments in TILINGS.values()]
    rows = []
    for index in progress_bar(range(n), desc='bounds'):
        cutout, truth = simulation.draw(np.random.default_rng([SEED, index]))
        model = ImageModel(truth, cutout.shape, simulation.survey.pixel_scale)
        noise = float(cutout.uncertainty.array[0, 0])
        options = {'sky_error': 0.02 * noise, 'population': simulation.galaxies}
        bounds = [ln_flux_bound(model, noise, **options)]
        for chosen in all_tiles:
            seen = copy.copy(model)
            seen.jacobian = tiled(model.jacobian, chosen)
            bounds.append(ln_flux_bound(seen, noise, **options))
        rows.append(np.divide(bounds[1:], bounds[0]))
    return np.array(rows), [len(chosen.x) for chosen in all_tiles]


def main():
    """Run from the command line."""
    arguments = command_line(__doc__, n=(200, 'galaxies of each kind')).parse_args()
    rows = []
    for title, simulation in SIMULATIONS.items():
        values, numbers = ratios(simulation, arguments.n)
        for name, number, of_tiling in zip(TILINGS, numbers, values.T, strict=True):
            cells = (f'{value:.4f}' for value in (np.median(of_tiling), of_tiling.max()))
            rows.append([title, name, str(number), *cells])
    table = rst_table(['galaxies', 'tiles', 'number', 'median', 'largest'], rows)
    put_out(table, 'tiles', write=arguments.write)


if __name__ == '__main__':
    main()
