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

import json
from io import BytesIO
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.table import vstack
from fault_galaxies import read_galaxies
from fault_remedies import REMEDIES
from fault_tables import (
    contact_sheet,
    flags_table,
    others_table,
    padding_table,
    remedies_table,
    terminal_lines,
    verdict_table,
)
from faults import CONTROL, KINDS, PADDINGS, WIDE
from PIL import Image
from report import DOCS, command_line, put_out

from astroflux import decode_flags
from astroflux._progress import progress_bar
from astroflux.estimators.methods import KNOWN_METHODS, make_estimator
from astroflux.evaluation import flux_error_statistics, flux_errors
from astroflux.flags import MeasurementFlag as Flag

RUNS = Path(__file__).parents[1] / '.runs' / 'science-faults'
RESULTS = DOCS / 'science-faults.json'

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

# The method that the page is about, and the galaxy that it shows.
NETWORK = 'cnn'
EXAMPLE = 12


def measure(method, stamps, **options):
    """Return the table of some stamps, and the truth in a column of it."""
    positions = [stamp.position for stamp in stamps]
    if positions[0] is not None:
        options['positions'] = positions
    estimator = make_estimator(method)
    table = estimator.measure([stamp.ccd for stamp in stamps], progress=False, **options)
    table['truth'] = [stamp.truth for stamp in stamps] * u.adu
    return table


def measure_remedied(method, remedy, galaxies, stamps):
    """Return the table of stamps whose fault was remedied."""
    remedied, options = zip(
        *(remedy.apply(*pair) for pair in zip(galaxies, stamps, strict=True)), strict=True
    )
    # a list of those that are of one stamp
    shared = {
        name: value if isinstance(value, str | float) else [own[name] for own in options]
        for name, value in options[0].items()
    }
    return measure(method, remedied, **shared)


def judge(table, control=None):
    """
    Return what a fault does.

    Parameters
    ----------
    table, control : `~astropy.table.QTable`
        Of the same galaxies with the fault and without; none if there is no fault.

    Returns
    -------
    figures : dict
        Numbers, which are None where there are none.
    """
    # what a galaxy has without the fault is not for the fault
    own = np.asarray(table['flags'])
    if control is not None:
        own = own & ~np.asarray(control['flags'])
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
    names = ('bias', 'bias_err', 'scatter', 'outliers', 'coverage_68')
    if len(table) == 0:
        return dict.fromkeys(names)
    found = flux_error_statistics(flux_errors(table, table['truth']))
    # from that of the logarithm
    found['bias_err'] *= np.exp(found['bias'])
    found['bias'] = np.expm1(found['bias'])
    return {
        name: round(float(found[name]), 5) if np.isfinite(found[name]) else None for name in names
    }


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
    return {name: round(float(value), 5) for name, value in figures.items()}


def run(method, galaxies, kinds):
    """Measure all kinds by a method, keep the table, and return what each fault does."""
    tables, results = {}, {}
    for title in progress_bar(kinds, desc=KNOWN_METHODS[method].label):
        stamps = [KINDS[title](galaxy, galaxy.rng) for galaxy in galaxies]
        table = tables[title] = measure(method, stamps)
        control = None if title in (CONTROL, WIDE) else tables[PADDINGS.get(title, CONTROL)]
        results[title] = judge(table, control)
        if title in PADDINGS:
            results[title]['change'] = changes(table, control)
        if method == NETWORK and title in REMEDIES:
            remedied = measure_remedied(method, REMEDIES[title], galaxies, stamps)
            results[title]['remedied'] = _figures(remedied)
        table.add_column(np.full(len(table), title), name='kind', index=0)
    stacked = vstack(list(tables.values()), metadata_conflicts='silent')
    stacked.meta.clear()
    stacked.write(RUNS / f'{method}.ecsv', overwrite=True)
    return results


def write(methods, galaxies):
    """Rewrite the documents; what they say of methods that were not measured stays."""
    if RESULTS.exists():
        methods = {**json.loads(RESULTS.read_text()), **methods}
    RESULTS.write_text(json.dumps(methods, indent=1) + '\n')
    network = methods[NETWORK]
    put_out(verdict_table(network), 'science-faults', write=True)
    put_out(flags_table(network), 'science-faults-flags', write=True)
    put_out(remedies_table(network), 'science-faults-remedies', write=True)
    put_out(padding_table(network), 'science-faults-padding', write=True)
    put_out(others_table(methods), 'science-faults-methods', write=True)
    sheet = BytesIO()
    contact_sheet(galaxies[EXAMPLE]).savefig(sheet, dpi=100)
    # 51 levels of gray, white among them, as noise does not compress
    gray = Image.open(sheet).convert('L').point(lambda level: level // 5 * 5)
    gray.save(DOCS / 'science-faults.png', optimize=True)


def main():
    """Run from the command line."""
    parser = command_line(__doc__, n=(100, 'galaxies of each kind'))
    parser.add_argument('--methods', nargs='+', default=[NETWORK], choices=KNOWN_METHODS)
    parser.add_argument('--kinds', nargs='+', choices=KINDS, metavar='KIND', help='only these')
    arguments = parser.parse_args()
    if arguments.write and arguments.kinds:
        parser.error('--write is of all kinds')
    if arguments.write and NETWORK not in arguments.methods and not RESULTS.exists():
        parser.error(f'there are no results of {NETWORK} yet: name it in --methods')
    kinds = [title for title in KINDS if title in {CONTROL, WIDE, *(arguments.kinds or KINDS)}]
    galaxies = read_galaxies(arguments.n, RUNS)
    methods = {}
    for method in arguments.methods:
        methods[method] = run(method, galaxies, kinds)
        print(f'\n{KNOWN_METHODS[method].label}\n{terminal_lines(methods[method])}\n')
    if arguments.write:
        write(methods, galaxies)


if __name__ == '__main__':
    main()
