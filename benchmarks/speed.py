# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Speed of the methods on one stack of cutouts, in one run.

    python benchmarks/speed.py

prints, for each method, the time per cutout and its ratio to others. With
``--write`` it also rewrites the table of the documentation and the README.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from astropy.nddata import NDData, StdDevUncertainty
from report import replace_block, rst_table

from astroflux.estimators.methods import KNOWN_METHODS, available_methods, make_estimator
from astroflux.evaluation._numbers import grouped_text
from astroflux.evaluation.comparison import cpu_seconds
from astroflux.simulation import simulate_cutouts

TOP = Path(__file__).parents[1]
SEED = 90011

# The slower a method, the smaller its part of the stack: about so many seconds of work, but not
# fewer cutouts than these, as galaxies differ.
SECONDS = 4.0
FEWEST = 12


def make_stack(n, n_drawn=100):
    """Return a stack of ``n`` cutouts; the drawn ones come again with new noise."""
    drawn = [cutout for cutout, _ in simulate_cutouts(n_drawn, seed=SEED)]
    noise = drawn[0].uncertainty.array[0, 0]
    images = np.array([drawn[i % n_drawn].data for i in range(n)])
    extra = np.random.default_rng(SEED).normal(0, noise, images.shape)
    # Two noises of the same size add up to sqrt(2) of it.
    sigma = np.full(images.shape, np.sqrt(2) * noise)
    return NDData(images + extra, uncertainty=StdDevUncertainty(sigma)), drawn[0].psf


def measure(estimator, stack, n, psf):
    """Return the wall-clock and the processor time of measuring the first ``n``."""
    uncertainty = StdDevUncertainty(stack.uncertainty.array[:n], copy=False)
    part = NDData(stack.data[:n], uncertainty=uncertainty, psf=psf)
    wall, cpu = time.perf_counter(), cpu_seconds()
    estimator.measure(part, progress=False)
    return time.perf_counter() - wall, cpu_seconds() - cpu


def time_method(estimator, stack, psf, repeats):
    """Return the best wall-clock time per cutout and its processor time, in seconds."""
    measure(estimator, stack, 1, psf)  # weights load, caches fill
    n = min(FEWEST, len(stack.data))
    best = measure(estimator, stack, n, psf)
    if best[0] < SECONDS:
        n = int(np.clip(n * SECONDS / best[0], n, len(stack.data)))
        best = min(measure(estimator, stack, n, psf) for _ in range(repeats))
    return best[0] / n, best[1] / n, n


def main():
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.strip().split('\n')[0])
    parser.add_argument('-n', type=int, default=2000, help='cutouts in the stack')
    parser.add_argument('--repeats', type=int, default=3, help='the best time of these counts')
    parser.add_argument('--write', action='store_true', help='rewrite the documents')
    arguments = parser.parse_args()
    stack, psf = make_stack(arguments.n)
    times = {}
    for name in available_methods(slow=True):
        times[name] = time_method(make_estimator(name), stack, psf, arguments.repeats)
        print(f'{KNOWN_METHODS[name].label}: {grouped_text(1e3 * times[name][0])} ms', flush=True)
    cnn = times['cnn'][0]
    rows = [
        [
            KNOWN_METHODS[name].label,
            str(n),
            grouped_text(1e3 * wall),
            grouped_text(1 / wall),
            grouped_text(1e3 * cpu),
            grouped_text(wall / cnn),
        ]
        for name, (wall, cpu, n) in times.items()
    ]
    header = ['method', 'n', 'ms', 'cutouts per second', 'ms of one core', 'time / CNN']
    table = rst_table(header, rows)
    print(f'\n{arguments.n} stacked cutouts of 143 x 143 pixels with noise and PSF\n\n{table}')
    if arguments.write:
        folder = TOP / 'docs' / 'benchmarks'
        folder.mkdir(parents=True, exist_ok=True)
        (folder / 'speed.rst.inc').write_text(table)
        replace_block(TOP / 'README.rst', 'speed', table)


if __name__ == '__main__':
    main()
