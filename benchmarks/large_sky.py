# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What a residual of the sky does to large galaxies, which are measured in blocks of pixels.

    python benchmarks/large_sky.py --write

measures galaxies like those of the test set ``large``, of another seed, without and with the sky
residual that all test sets have.
"""

from dataclasses import replace

import numpy as np
from astropy import units as u
from report import command_line, put_out, rst_table
from set_sources import LARGE
from sets import SETS

from astroflux import CNNFluxEstimator
from astroflux._progress import progress_bar
from astroflux.evaluation import flux_errors, summarize_by

SEED = 90110


def measure(sky_residual, n):
    """Return errors in bins of S/N of so many galaxies."""
    simulation = replace(LARGE, sky_residual=sky_residual)
    pairs = [
        simulation.draw(np.random.default_rng([SEED, number]))
        for number in progress_bar(range(n), desc=f'sky residual {sky_residual:g}')
    ]
    table = CNNFluxEstimator().measure([cutout for cutout, _ in pairs])
    flux = [truth['flux'] for _, truth in pairs] * u.adu
    snr = [truth['snr'] for _, truth in pairs]
    return summarize_by(snr, SETS['large'].snr_bins, flux_errors(table, flux))


def main():
    """Run from the command line."""
    arguments = command_line(__doc__, n=(300, 'galaxies')).parse_args()
    header = ['sky residual', 'S/N', 'n', 'scatter [%]', 'in 68 % interval [%]']
    rows = [
        [
            f'{sky:g} sigma per pixel',
            f'{row["low"]:g}-{row["high"]:g}',
            str(row['n']),
            f'{100 * row["scatter"]:.2f} ± {100 * row["scatter_err"]:.2f}',
            f'{100 * row["coverage_68"]:.0f}',
        ]
        for sky in (0.0, LARGE.sky_residual)
        for row in measure(sky, arguments.n)
    ]
    put_out(rst_table(header, rows), 'large-sky', write=arguments.write)


if __name__ == '__main__':
    main()
