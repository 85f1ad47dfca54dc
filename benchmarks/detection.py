# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Which sources of a field are detected without a catalogue, and how many detections are false.

    python benchmarks/detection.py --write

draws fields of 1000 x 1000 pixels like parts of a coadd, with correlated noise, saturated stars and
galaxies far below the noise, and detects their sources at some thresholds.
"""

import time
from itertools import pairwise

import numpy as np
from astropy.stats import gaussian_fwhm_to_sigma
from report import command_line, put_out, rst_table
from scipy.ndimage import convolve
from scipy.spatial import KDTree
from tqdm import tqdm

from astroflux.estimators import FieldDetector
from astroflux.simulation import SceneSimulation, SkyPopulation

SEED = 90230
SHAPE = (1000, 1000)
SIMULATION = SceneSimulation(shape=SHAPE, sky=SkyPopulation(footprint_shares=(1.0, 0.0, 0.0, 0.0)))

THRESHOLDS = (3.5, 4.0, 4.5, 5.0)
SNR_BINS = (5, 7, 10, 15, 30, np.inf)

# What is fainter than this counts as noise.
FAINTEST = 2.0

# Detections that may be the same source, at most.
MOST = 8


def kernel_of(truth):
    """Return the kernel that made the noise of a field from white noise."""
    y, x = ([w, 1, w] for w in (truth['noise_weight_y'], truth['noise_weight_x']))
    kernel = np.outer(y, x)
    return kernel / np.sqrt((kernel**2).sum())


def draw(number):
    """Return an image, its sources' positions and S/N, the width of the PSF, and noise alone."""
    ccd, truth = SIMULATION.draw(np.random.default_rng([SEED, number]))
    table, scale = ccd.meta['sources'], SIMULATION.survey.pixel_scale
    center = [(length - 1) / 2 for length in SHAPE[::-1]]
    x = np.append(table['x'].value, center[0] + truth['x_offset'])
    y = np.append(table['y'].value, center[1] + truth['y_offset'])
    flux = np.append(table['flux'].value, truth['flux'])
    radius = np.append(table['half_light_radius'].value, truth['half_light_radius']) / scale
    fwhm, kernel = truth['psf_fwhm'] / scale, kernel_of(truth)
    # of a Gaussian as wide as source and PSF, in the noise of sums of many pixels
    width = np.hypot(fwhm * gaussian_fwhm_to_sigma, radius / np.sqrt(2 * np.log(2)))
    noise = SIMULATION.survey.noise / np.sqrt(truth['variance_factor'])
    snr = flux / (2 * np.sqrt(np.pi) * width * noise * kernel.sum())
    inside = (abs(x - center[0]) < SHAPE[1] / 2) & (abs(y - center[1]) < SHAPE[0] / 2)
    inside &= snr > FAINTEST
    rng = np.random.default_rng([SEED, number, 1])
    empty = noise * convolve(rng.standard_normal(SHAPE), kernel, mode='wrap')
    return ccd, np.transpose([x, y])[inside], snr[inside], fwhm, empty


def match(found, places, snr, reach):
    """Return which sources are found, the brightest first, and which detections are sources."""
    is_found, is_source = np.zeros(len(places), bool), np.zeros(len(found), bool)
    distance, nearest = KDTree(found).query(places, k=MOST, distance_upper_bound=reach)
    for row in np.argsort(-snr):
        near = nearest[row][np.isfinite(distance[row])]
        free = near[~is_source[near]]
        if len(free):
            is_found[row] = is_source[free[0]] = True
    return is_found, is_source


def rows_of(fields):
    """Return the rows of the table."""
    for n_sigma in THRESHOLDS:
        detector = FieldDetector(n_sigma=n_sigma)
        all_found, all_snr, n, false, in_noise, seconds = [], [], 0, 0, 0, 0.0
        for ccd, places, snr, fwhm, empty in fields:
            start = time.process_time()
            table = detector.detect(ccd)
            seconds += time.process_time() - start
            found = np.transpose([table['x'].value, table['y'].value])
            is_found, is_source = match(found, places, snr, fwhm)
            all_found.append(is_found)
            all_snr.append(snr)
            n, false = n + len(found), false + np.count_nonzero(~is_source)
            in_noise += len(detector.detect(empty, psf=ccd.psf))
        which = np.digitize(np.concatenate(all_snr), SNR_BINS)
        found = np.concatenate(all_found)
        complete = [found[which == number].mean() for number in range(1, len(SNR_BINS))]
        megapixels = len(fields) * np.prod(SHAPE) / 1e6
        yield [
            f'{n_sigma:g}',
            *(f'{100 * part:.0f}' for part in complete),
            f'{n / megapixels:.0f}',
            f'{false / megapixels:.0f}',
            f'{in_noise / megapixels:.1f}',
            f'{seconds / megapixels:.2f}',
        ]


def main():
    """Run from the command line."""
    arguments = command_line(__doc__, n=(6, 'fields')).parse_args()
    fields = [draw(number) for number in tqdm(range(arguments.n))]
    bins = [
        f'S/N {low:g}-{high:g}' if np.isfinite(high) else f'above {low:g}'
        for low, high in pairwise(SNR_BINS)
    ]
    header = ['n_sigma', *bins, 'detected', 'false', 'in noise alone', 'seconds']
    put_out(rst_table(header, list(rows_of(fields))), 'detection', write=arguments.write)


if __name__ == '__main__':
    main()
