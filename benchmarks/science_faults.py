# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What faults of cutouts do to fluxes, and which of them are noticed.

    python benchmarks/science_faults.py --methods cnn kron --write

does to the same galaxies of S/N 30 to 300 what happens to cutouts, one kind of fault after the
other, and measures them: how far fluxes are off, which flags warn, and what the intervals of those
without a warning are worth. The galaxies, and the tables of all measurements, are kept in
``.runs/science-faults``. With ``--write`` the tables and the figure of the documentation are
rewritten.
"""

from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.table import vstack
from fault_galaxies import read_galaxies
from faults import CONTROL, KINDS, PADDINGS
from report import command_line, rst_table

from astroflux import decode_flags
from astroflux._progress import progress_bar
from astroflux.estimators.methods import KNOWN_METHODS, make_estimator
from astroflux.evaluation import flux_error_statistics, flux_errors
from astroflux.evaluation._numbers import MISSING
from astroflux.flags import MeasurementFlag as Flag

RUNS = Path(__file__).parents[1] / '.runs' / 'science-faults'

# Flags that tell what was done, and warn of nothing.
NO_WARNING = (
    Flag.NOISE_ESTIMATED
    | Flag.PSF_UNKNOWN
    | Flag.MASKED_PIXELS
    | Flag.STAMP_CROPPED
    | Flag.NOISE_ASSUMED_WHITE
)

# A kind of fault is silent if more than so many of its rows are without a warning, and these are
# off by more than so much, or so few of their intervals hold the truth.
MOST_UNFLAGGED, LARGEST_BIAS, LEAST_COVERAGE = 0.1, 0.1, 0.5

# Flags that fewer have are not named.
NAMED = 0.05
FLAGS_NAMED = 3


def measure(method, stamps):
    """Return the table of some stamps, and the truth in a column of it."""
    positions = [stamp.position for stamp in stamps]
    options = {} if positions[0] is None else {'positions': positions}
    estimator = make_estimator(method)
    table = estimator.measure([stamp.ccd for stamp in stamps], progress=False, **options)
    table['truth'] = [stamp.truth for stamp in stamps] * u.adu
    return table


def judge(table, control):
    """
    Return what a fault does.

    Parameters
    ----------
    table, control : `~astropy.table.QTable`
        Of the same galaxies with the fault and without.

    Returns
    -------
    figures : dict
        Numbers, which are None where there are none.
    """
    # what a galaxy has without the fault is not for the fault
    own = np.asarray(table['flags']) & ~np.asarray(control['flags'])
    warned = (own & ~int(NO_WARNING)) != 0
    everything, silent = (_figures(rows) for rows in (table, table[~warned]))
    names = [name for names in decode_flags(own) for name in names]
    share = {name: names.count(name) / len(table) for name in sorted(set(names))}
    return {
        'n': len(table),
        **everything,
        'flagged': float(np.mean(warned)),
        'flags': dict(sorted(share.items(), key=lambda item: -item[1])),
        'unflagged': silent,
        'verdict': _verdict(np.mean(~warned), silent),
    }


def _figures(table):
    """Return bias, scatter, outliers and coverage of the rows that have a truth and a flux."""
    names = ('bias', 'scatter', 'outliers', 'coverage_68')
    if len(table) == 0:
        return dict.fromkeys(names)
    found = flux_error_statistics(flux_errors(table, table['truth']), n_bootstrap=2)
    figures = {name: found[name] if np.isfinite(found[name]) else None for name in names}
    if figures['bias'] is not None:
        figures['bias'] = float(np.expm1(figures['bias']))
    return figures


def _verdict(share, silent):
    """Return whether a warning is given, or else the numbers are right, or neither."""
    if share <= MOST_UNFLAGGED:
        return 'flagged'
    if silent['bias'] is None:
        return 'silent'
    is_right = abs(silent['bias']) < LARGEST_BIAS and silent['coverage_68'] >= LEAST_COVERAGE
    return 'right' if is_right else 'silent'


def changes(table, control):
    """Return by how much fluxes differ from those of the same galaxies without padding."""
    flux, before, error = (
        np.asarray(column.value) for column in (table['flux'], control['flux'], control['flux_err'])
    )
    change = np.abs(flux - before)
    figures = {
        'median': np.median(change / before),
        'largest': np.max(change / before),
        'median_errors': np.median(change / error),
        'largest_errors': np.max(change / error),
        'error': np.max(np.abs(table['flux_err'].value / error - 1)),
    }
    return {name: float(value) for name, value in figures.items()}


def run(method, galaxies, kinds):
    """Measure all kinds by a method, keep the table, and return what each fault does."""
    tables, results = {}, {}
    for title in progress_bar(kinds, desc=KNOWN_METHODS[method].label):
        stamps = [KINDS[title](galaxy, galaxy.rng) for galaxy in galaxies]
        table = tables[title] = measure(method, stamps)
        results[title] = judge(table, tables[CONTROL])
        if title in PADDINGS:
            results[title]['change'] = changes(table, tables[CONTROL])
        table.add_column(np.full(len(table), title), name='kind', index=0)
    stacked = vstack(list(tables.values()), metadata_conflicts='silent')
    stacked.meta.clear()
    stacked.write(RUNS / f'{method}.ecsv', overwrite=True)
    return results


# -- tables ---------------------------------------------------------------------------------------


def _percent(value, form='.0f'):
    return MISSING if value is None else f'{100 * value:{form}}'


def table_of(results):
    """Return the table of a method."""
    header = ['fault', 'bias [%]', 'scatter [%]', 'beyond 30 %', 'in 68 % interval', 'flagged']
    header += ['by', 'unflagged: bias [%]', 'in 68 % interval', 'verdict']
    rows = []
    for title, found in results.items():
        named = [
            f'{name} {100 * share:.0f}'
            for name, share in list(found['flags'].items())[:FLAGS_NAMED]
            if share >= NAMED
        ]
        rest = found['unflagged']
        rows.append(
            [
                title,
                _percent(found['bias'], '+.1f'),
                _percent(found['scatter'], '.1f'),
                _percent(found['outliers']),
                _percent(found['coverage_68']),
                _percent(found['flagged']),
                ', '.join(named) or MISSING,
                _percent(rest['bias'], '+.1f'),
                _percent(rest['coverage_68']),
                found['verdict'],
            ]
        )
    return rst_table(header, rows)


def padding_table(results):
    """Return the table of what padding changes."""
    header = ['stamp', 'flux changes by [%], median', 'at most', 'in errors, median', 'at most']
    header += ['error changes by [%], at most']
    rows = []
    for title in PADDINGS:
        change = results[title]['change']
        rows.append(
            [
                title,
                f'{100 * change["median"]:.2f}',
                f'{100 * change["largest"]:.1f}',
                f'{change["median_errors"]:.2f}',
                f'{change["largest_errors"]:.1f}',
                f'{100 * change["error"]:.0f}',
            ]
        )
    return rst_table(header, rows)


def compact(results):
    """Print what a terminal has room for."""
    for title, found in results.items():
        named = ' '.join(f'{name} {100 * share:.0f}' for name, share in found['flags'].items())
        rest = found['unflagged']
        print(
            f'{title:30s} {_percent(found["bias"], "+.1f"):>7s}'
            f' {_percent(found["coverage_68"]):>3s} | {100 - 100 * found["flagged"]:3.0f} {_percent(rest["bias"], "+.1f"):>7s}'
            f' {_percent(rest["coverage_68"]):>3s} {found["verdict"]:7s} {named}'
        )


def main():
    """Run from the command line."""
    parser = command_line(__doc__, n=(100, 'galaxies of each kind'))
    parser.add_argument('--methods', nargs='+', default=['cnn'], choices=KNOWN_METHODS)
    parser.add_argument('--kinds', nargs='+', choices=KINDS, metavar='KIND', help='only these')
    arguments = parser.parse_args()
    if arguments.write and arguments.kinds:
        parser.error('--write is of all kinds')
    kinds = [title for title in KINDS if title in {CONTROL, *(arguments.kinds or KINDS)}]
    galaxies = read_galaxies(arguments.n, RUNS)
    for method in arguments.methods:
        results = run(method, galaxies, kinds)
        print(f'\n{method}: bias, coverage | % unflagged, their bias, coverage, verdict, flags [%]')
        compact(results)


if __name__ == '__main__':
    main()
