# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Whether it helps to mask the pixels that a segmentation image gives to neighbors.

    python benchmarks/segmentation.py --write

measures galaxies that photutils detected and split from their neighbors, with the pixels of these
masked and without. One simulation has a neighbor near each galaxy, the other skies like those of
a coadd.
"""

import warnings
from functools import partial

import numpy as np
from astropy import units as u
from astropy.utils.exceptions import AstropyWarning
from photutils.segmentation import SourceCatalog, SourceFinder
from report import command_line, put_out, rst_table
from scipy.ndimage import gaussian_filter
from tqdm import tqdm

from astroflux import ApertureFluxEstimator, CNNFluxEstimator, KronFluxEstimator
from astroflux.cutouts import iter_cutouts
from astroflux.evaluation import flux_errors, summarize_by
from astroflux.simulation import (
    CutoutSimulation,
    GalaxyPopulation,
    SceneSimulation,
    SkyPopulation,
)

SEED = 90120
SNR_BINS = (10, 30, 100, 1000)

GALAXIES = GalaxyPopulation(snr=(10.0, 1000.0))
SIMULATIONS = {
    'with a neighbor': CutoutSimulation(galaxies=GALAXIES, neighbors=(1, 1)),
    'in skies': SceneSimulation(
        galaxies=GALAXIES, sky=SkyPopulation(footprint_shares=(1.0, 0.0, 0.0, 0.0))
    ),
}
METHODS = {
    'CNN': CNNFluxEstimator,
    'Kron': KronFluxEstimator,
    'aperture': partial(ApertureFluxEstimator, radius=12),
}

# Standard deviation in pixels of the filter that sources are looked for with.
WIDTH = 1.5

# A galaxy is found if a source was detected so many pixels from it.
NEAR = 3.0


def detect(ccd, truth):
    """Return the segmentation image, and the source in it that is the galaxy; or `None`."""
    # what is looked for is about as wide as the PSF
    smooth = gaussian_filter(ccd.data, WIDTH)
    noise = ccd.uncertainty.array / (2 * np.sqrt(np.pi) * WIDTH)
    finder = SourceFinder(n_pixels=8, contrast=0.005, progress_bar=False)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', AstropyWarning)
        segmentation = finder(smooth, 2 * noise)
    if segmentation is None:
        return None
    catalog = SourceCatalog(ccd.data, segmentation)
    ny, nx = ccd.shape
    x, y = (nx - 1) / 2 + truth['x_offset'], (ny - 1) / 2 + truth['y_offset']
    distance = np.hypot(catalog.x_centroid - x, catalog.y_centroid - y)
    nearest = int(np.nanargmin(distance))
    return (segmentation, catalog[nearest]) if np.atleast_1d(distance)[nearest] < NEAR else None


def galaxies(simulation, n):
    """Return cutouts without masks and with them, and the truth, of what was detected."""
    pairs, truths = [], []
    for number in tqdm(range(n)):
        ccd, truth = simulation.draw(np.random.default_rng([SEED, number]))
        if (found := detect(ccd, truth)) is None:
            continue
        segmentation, source = found
        (plain,) = iter_cutouts(ccd, positions=source)
        stamps = iter_cutouts(ccd, positions=segmentation)
        masked = next(stamp for stamp in stamps if stamp.identifier == plain.identifier)
        pairs.append((plain, masked))
        truths.append(truth)
    return *zip(*pairs, strict=True), truths


def rows_of(title, simulation, n):
    """Return the rows of the table for one simulation."""
    *kinds, truths = galaxies(simulation, n)
    flux = [truth['flux'] for truth in truths] * u.adu
    snr = [truth['snr'] for truth in truths]
    for name, method in METHODS.items():
        summaries = [
            summarize_by(snr, SNR_BINS, flux_errors(method().measure(cutouts), flux))
            for cutouts in kinds
        ]
        for left, masked in zip(*summaries, strict=True):
            yield [
                title,
                name,
                f'{left["low"]:g}-{left["high"]:g}',
                str(left['n']),
                *(
                    f'{100 * left[key]:.1f} ± {100 * left[error]:.1f} → '
                    f'{100 * masked[key]:.1f} ± {100 * masked[error]:.1f}'
                    for key, error in (('bias', 'bias_err'), ('scatter', 'scatter_err'))
                ),
                f'{100 * left["coverage_68"]:.0f} → {100 * masked["coverage_68"]:.0f}',
            ]


def main():
    """Run from the command line."""
    arguments = command_line(__doc__, n=(300, 'galaxies of each simulation')).parse_args()
    header = ['galaxies', 'method', 'S/N', 'n', 'median bias [%]']
    header += ['scatter [%]', 'in 68 % interval [%]']
    rows = [
        row
        for title, simulation in SIMULATIONS.items()
        for row in rows_of(title, simulation, arguments.n)
    ]
    put_out(rst_table(header, rows), 'segmentation', write=arguments.write)


if __name__ == '__main__':
    main()
