# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The bias of faint galaxies in several sets, with the prior of the training and with another.

    python benchmarks/faint_bias.py --write

reads what ``python benchmarks/run.py`` has measured. The network's ``flux`` is the median if all
ln(flux) are equally frequent, as in its training; ``flux_uniform_prior``, if all fluxes are.
"""

from pathlib import Path

import numpy as np
from report import command_line, put_out, rst_table
from scipy.stats import median_abs_deviation
from tables import REFERENCE

from astroflux.estimators._columns import rise_by_uniform_prior
from astroflux.evaluation import read_comparison

TOP = Path(__file__).parents[1]
RUNS = TOP / '.runs' / 'benchmarks'

NAMES = ('isolated', 'blended', 'cosmos', 'scene')
SNR = (5.0, 20.0)
# Where the half-light radius is known, galaxies below and above so many FWHM of the PSF.
SIZE = 0.7


def rise(table):
    """Return ln of ``flux_uniform_prior`` over ``flux``."""
    lower, flux, upper = (
        np.log(np.asarray(table[name], float)) for name in ('flux_lower', 'flux', 'flux_upper')
    )
    return rise_by_uniform_prior(flux - lower, upper - flux)


def rows_of(name):
    """Return the rows of the table of one set."""
    comparison = read_comparison(RUNS / name)
    table = comparison.measurements[comparison.measurements['method'] == REFERENCE]
    truth = comparison.truth[table['cutout']]
    snr = np.asarray(truth['snr'], float)
    faint = (snr >= SNR[0]) & (snr < SNR[1]) & (np.asarray(table['flux'], float) > 0)
    groups = {'all': faint}
    if 'size_over_fwhm' in truth.colnames:
        size = np.asarray(truth['size_over_fwhm'], float)
        groups |= {f'below {SIZE:g} FWHM': faint & (size < SIZE)}
        groups |= {f'above {SIZE:g} FWHM': faint & (size >= SIZE)}
    rows = []
    for label, chosen in groups.items():
        error = np.asarray(table['ln_error'][chosen], float)
        other = error + rise(table[chosen])
        cells = []
        for errors in (error, other):
            scatter = median_abs_deviation(errors, scale='normal')
            # of a median of Gaussian errors
            uncertainty = np.sqrt(np.pi / 2 / len(errors)) * scatter
            cells.append(f'{100 * np.median(errors):+.1f} ± {100 * uncertainty:.1f}')
        rows.append([name, label, str(chosen.sum()), *cells])
    return rows


def main():
    """Run from the command line."""
    arguments = command_line(__doc__).parse_args()
    header = [
        *('set', 'half-light radius', 'n'),
        *('bias [%] of flux', 'of flux_uniform_prior'),
    ]
    table = rst_table(header, [row for name in NAMES for row in rows_of(name)])
    put_out(table, 'faint-bias', write=arguments.write)


if __name__ == '__main__':
    main()
