# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Speed of the methods on one stack of cutouts, in one run.

    python benchmarks/speed.py

prints milliseconds per cutout and the ratio to Kron photometry. With
``--write`` it also rewrites the table of the documentation and the README.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from astropy.nddata import NDData, StdDevUncertainty
from report import replace_block, rst_table

from astroflux import ApertureFluxEstimator, CNNFluxEstimator, KronFluxEstimator
from astroflux.simulation import simulate_cutouts

TOP = Path(__file__).parents[1]
SEED = 90011

# The slow ones measure the first part of the stack.
METHODS = {
    'CNN': (CNNFluxEstimator(), 1),
    'aperture (photutils)': (ApertureFluxEstimator(), 1),
    'Kron (photutils)': (KronFluxEstimator(), 10),
}


def make_stack(n, n_drawn=100):
    """Return a stack of ``n`` cutouts; the drawn ones come again with new noise."""
    drawn = [cutout for cutout, _ in simulate_cutouts(n_drawn, seed=SEED)]
    noise = drawn[0].uncertainty.array[0, 0]
    images = np.array([drawn[i % n_drawn].data for i in range(n)])
    extra = np.random.default_rng(SEED).normal(0, noise, images.shape)
    # Two noises of the same size add up to sqrt(2) of it.
    sigma = np.full(images.shape, np.sqrt(2) * noise)
    return NDData(images + extra, uncertainty=StdDevUncertainty(sigma))


def time_method(estimator, stack, n, repeats):
    """Return the best time per cutout in seconds of measuring the first ``n``."""
    part = NDData(stack.data[:n], uncertainty=StdDevUncertainty(stack.uncertainty.array[:n]))
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        estimator.measure(part, psf_fwhm=4.0, progress=False)
        times.append(time.perf_counter() - start)
    return min(times) / n


def main():
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    parser.add_argument('-n', type=int, default=2000, help='cutouts in the stack')
    parser.add_argument('--repeats', type=int, default=3, help='the best time of these counts')
    parser.add_argument('--write', action='store_true', help='rewrite the documents')
    arguments = parser.parse_args()
    stack = make_stack(arguments.n)
    seconds = {}
    for name, (estimator, share) in METHODS.items():
        time_method(estimator, stack, 20, 1)  # weights load, caches fill
        seconds[name] = time_method(
            estimator, stack, max(1, arguments.n // share), arguments.repeats
        )
    kron = seconds['Kron (photutils)']
    rows = [
        [name, f'{1e3 * value:.2f}', f'{1 / value:.0f}', f'{kron / value:.1f}']
        for name, value in seconds.items()
    ]
    table = rst_table(['method', 'ms per cutout', 'cutouts per second', 'speed / Kron'], rows)
    print(f'{arguments.n} stacked cutouts of 143 x 143 pixels with noise\n\n{table}')
    if arguments.write:
        folder = TOP / 'docs' / 'benchmarks'
        folder.mkdir(parents=True, exist_ok=True)
        (folder / 'speed.rst.inc').write_text(table)
        replace_block(TOP / 'README.rst', 'speed', table)


if __name__ == '__main__':
    main()
