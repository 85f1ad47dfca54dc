# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What it costs to read the cutouts that are measured, beside what astropy needs for the bare files.

    python benchmarks/files.py --write

writes simulated cutouts with mask, variance and PSF, as ``write_cutout`` does, and times in turns,
in one run: opening each file and taking the pixels of all HDUs, ``read_cutout``, and the network
from files and from memory.
"""

import tempfile
from pathlib import Path

import numpy as np
from astropy.io import fits
from report import command_line, put_out, rst_table
from tqdm import tqdm

from astroflux import CNNFluxEstimator
from astroflux._work import use_one_thread
from astroflux.cutouts import read_cutout, write_cutout
from astroflux.evaluation._numbers import grouped_text
from astroflux.evaluation.comparison import cpu_seconds
from astroflux.simulation import simulate_cutouts

SEED = 90130


def write_files(folder, n):
    """Write so many cutouts, and return their paths."""
    paths = []
    for index, (cutout, _) in enumerate(simulate_cutouts(n, seed=SEED)):
        cutout.mask = np.zeros(cutout.shape, dtype=bool)
        paths.append(Path(folder) / f'{index:06d}.fits')
        write_cutout(cutout, paths[-1])
    return paths


def read_bare(path):
    """Return the pixels of all HDUs of a file, as astropy alone reads them."""
    with fits.open(path, memmap=False) as hdus:
        return [hdu.data for hdu in hdus]


def time_in_turns(works, repeats):
    """Return the best processor time of each work, which come one after the other."""
    times = np.full((repeats, len(works)), np.inf)
    for row in tqdm(times, desc='rounds'):
        for column, work in enumerate(works):
            start = cpu_seconds()
            work()
            row[column] = cpu_seconds() - start
    return times.min(axis=0)


def main():
    """Run from the command line."""
    counts = {'n': (100, 'files'), 'repeats': (5, 'the best time of these counts')}
    arguments = command_line(__doc__, **counts).parse_args()
    # others would wait, and that would count as time of the processor
    use_one_thread()
    estimator = CNNFluxEstimator()
    with tempfile.TemporaryDirectory() as folder:
        paths = write_files(folder, arguments.n)
        cutouts = [read_cutout(path) for path in paths]
        estimator.measure(cutouts, progress=False)  # weights load, caches fill
        works = {
            'astropy, all HDUs of a file': lambda: [read_bare(path) for path in paths],
            '``read_cutout``': lambda: [read_cutout(path) for path in paths],
            '``measure`` of files': lambda: estimator.measure(paths, progress=False),
            '``measure`` of cutouts in memory': lambda: estimator.measure(cutouts, progress=False),
        }
        times = time_in_turns([*works.values()], arguments.repeats) / arguments.n
    bare, _, files, memory = times
    rows = [
        [name, grouped_text(1e3 * time), grouped_text(time / bare)]
        for name, time in zip(
            [*works, 'files, without what the cutouts in memory take'],
            [*times, files - memory],
            strict=True,
        )
    ]
    table = rst_table(['per file', 'ms of one core', 'time / astropy'], rows)
    put_out(table, 'files', write=arguments.write)


if __name__ == '__main__':
    main()
