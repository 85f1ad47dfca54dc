# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Whether it helps to mask the pixels that a segmentation image gives to neighbors.

    python benchmarks/segmentation.py --write

measures galaxies that photutils detected and split from their neighbors, with the pixels of these
masked and without. One simulation has a neighbor near each galaxy, the other skies like those of
a coadd.
"""

import argparse
import warnings
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.utils.exceptions import AstropyWarning
from photutils.segmentation import SourceCatalog, SourceFinder
from report import rst_table
from scipy.ndimage import gaussian_filter
from tqdm import tqdm

from astroflux import CNNFluxEstimator, KronFluxEstimator
from astroflux.cutouts import iter_cutouts
from astroflux.evaluation import flux_errors, summarize_by
from astroflux.simulation import (
    CutoutSimulation,
    GalaxyPopulation,
    SceneSimulation,
    SkyPopulation,
)

DOCS = Path(__file__).parents[1] / 'docs' / 'benchmarks'
SEED = 90120
SNR_BINS = (10, 30, 100, 1000)

GALAXIES = GalaxyPopulation(snr=(10.0, 1000.0))
SIMULATIONS = {
    'a neighbor': CutoutSimulation(galaxies=GALAXIES, neighbors=(1, 1)),
    'skies': SceneSimulation(
        galaxies=GALAXIES, sky=SkyPopulation(footprint_shares=(1.0, 0.0, 0.0, 0.0))
    ),
}
METHODS = {'CNN': CNNFluxEstimator, 'Kron': KronFluxEstimator}

# A galaxy is found if a source was detected so many pixels from it.
NEAR = 3.0


def detect(ccd, truth):
    """Return a catalogue of the galaxy alone, which knows the segmentation of all; or `None`."""
    noise = ccd.uncertainty.array
    # a source is looked for with a filter of about the size of the PSF
    convolved = gaussian_filter(ccd.data, 1.5)
    noise = noise / (2 * np.sqrt(np.pi) * 1.5)
    finder = SourceFinder(n_pixels=8, contrast=0.005, progress_bar=False)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', AstropyWarning)
        segmentation = finder(convolved, 2 * noise)
    if segmentation is None:
        return None
    catalog = SourceCatalog(ccd.data, segmentation, convolved_data=convolved)
    ny, nx = ccd.shape
    x, y = (nx - 1) / 2 + truth['x_offset'], (ny - 1) / 2 + truth['y_offset']
    distance = np.hypot(np.subtract(catalog.x_centroid, x), np.subtract(catalog.y_centroid, y))
    distance = np.atleast_1d(distance)
    return catalog[np.argmin(distance)] if distance.min() < NEAR else None


def galaxies(simulation, n):
    """Return cutouts without and with masks, and the truth, of what was detected."""
    plain, masked, truths = [], [], []
    for number in tqdm(range(n)):
        ccd, truth = simulation.draw(np.random.default_rng([SEED, number]))
        catalog = detect(ccd, truth)
        if catalog is not None:
            position = [(float(catalog.x_centroid), float(catalog.y_centroid))]
            plain += iter_cutouts(ccd, positions=position)
            masked += iter_cutouts(ccd, positions=catalog)
            truths.append(truth)
    return plain, masked, truths


def main():
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.strip().split('\n')[0])
    parser.add_argument('-n', type=int, default=1000, help='galaxies of each simulation')
    parser.add_argument('--write', action='store_true', help='rewrite the documents')
    arguments = parser.parse_args()
    header = ['galaxies with', 'method', 'S/N', 'neighbors', 'n', 'median bias [%]']
    header += ['scatter [%]', 'beyond 30 % [%]', 'in 68 % interval [%]']
    rows = []
    for title, simulation in SIMULATIONS.items():
        plain, masked, truths = galaxies(simulation, arguments.n)
        flux = [truth['flux'] for truth in truths] * u.adu
        snr = [truth['snr'] for truth in truths]
        for name, method in METHODS.items():
            tables = [
                summarize_by(snr, SNR_BINS, flux_errors(method().measure(cutouts), flux))
                for cutouts in (plain, masked)
            ]
            for pair in zip(*tables, strict=True):
                for what, row in zip(('left', 'masked'), pair, strict=True):
                    rows.append(
                        [
                            title,
                            name,
                            f'{row["low"]:g}-{row["high"]:g}',
                            what,
                            str(row['n']),
                            f'{100 * row["bias"]:.1f} ± {100 * row["bias_err"]:.1f}',
                            f'{100 * row["scatter"]:.1f} ± {100 * row["scatter_err"]:.1f}',
                            f'{100 * row["outliers"]:.1f}',
                            f'{100 * row["coverage_68"]:.0f}',
                        ]
                    )
    table = rst_table(header, rows)
    print(table)
    if arguments.write:
        (DOCS / 'segmentation.rst.inc').write_text(table)


if __name__ == '__main__':
    main()
