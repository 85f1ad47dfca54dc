# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Every method on every test set.

    python benchmarks/run.py

measures the sets one after the other and prints a table for each. A report with
figures and the worst cases is written to ``.runs/benchmarks/SET``; a set that is
there already is not measured again, unless ``--fresh``; with ``--methods`` only those
methods are, and the others' measurements of the set, if there are any, are kept. With
``--write`` the tables and figures of the documentation, the README and the model card
are rewritten from all sets that have been measured.
"""

import argparse
import os
from pathlib import Path

import numpy as np
from astropy.table import vstack
from documents import write_documents
from sets import N_GALAXIES, SETS
from tables import REFERENCE, fit_check, readable, summary_of

from astroflux.estimators.methods import KNOWN_METHODS, available_methods, make_estimator
from astroflux.evaluation import compare_methods, read_comparison, write_report

TOP = Path(__file__).parents[1]
RUNS = TOP / '.runs' / 'benchmarks'

# Not slow enough to be called so, but too slow for every galaxy of every set.
N_MODERATE = {'petrosian': 500, 'sextractor': 500}


def measure_set(name, n, n_slow, workers, methods=None, *, keep=False):
    """Measure one set by some methods or all that are installed, and write its report."""
    test_set = SETS[name]
    others = read_comparison(RUNS / name) if keep else None
    methods = methods or available_methods(slow=True)
    limits = {'sersic': test_set.n_sersic, 'bulge-disc': test_set.n_two}
    if n_slow is not None:
        limits = dict.fromkeys(limits, n_slow)
    source = test_set.source(n)
    if others:
        # they are known, and do not depend on the method
        source.with_bound = False
    comparison = compare_methods(
        source,
        {method: make_estimator(method) for method in methods},
        labels={method: KNOWN_METHODS[method].label for method in methods},
        limits={**N_MODERATE, **limits},
        workers=workers,
        chunk_size=25,
    )
    comparison.title = f'{name}: {test_set.title}'
    if others:
        comparison = replaced(others, comparison)
    write_report(comparison, RUNS / name, overwrite=True)


def replaced(comparison, newer):
    """Return a comparison with some methods measured again."""
    for name in ('measurements', 'speed'):
        kept = getattr(comparison, name)
        kept = kept[~np.isin(kept['method'], list(newer.labels))]
        setattr(newer, name, vstack([kept, getattr(newer, name)], metadata_conflicts='silent'))
    newer.labels = {**comparison.labels, **newer.labels}
    newer.truth = comparison.truth
    return newer


def main():
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.strip(), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('sets', nargs='*', metavar='SET', help=f'of {", ".join(SETS)}; all')
    parser.add_argument('-n', type=int, default=N_GALAXIES, help='galaxies per set')
    parser.add_argument('--n-slow', type=int, help='galaxies per set for light-profile fits')
    parser.add_argument('--methods', nargs='+', metavar='METHOD', help='measure only these again')
    parser.add_argument('--workers', type=int, default=os.cpu_count())
    parser.add_argument('--fresh', action='store_true', help='measure again')
    parser.add_argument('--write', action='store_true', help='rewrite the documents')
    arguments = parser.parse_args()
    if unknown := set(arguments.sets) - set(SETS):
        parser.error(f'no test set {sorted(unknown)}: want some of {", ".join(SETS)}')

    for name in arguments.sets or SETS:
        if not SETS[name].is_available:
            print(f'\n{name} is left out: {SETS[name].needs} names no folder')
            continue
        exists = (RUNS / name / 'report.html').exists()
        if arguments.methods and REFERENCE not in arguments.methods and not exists:
            parser.error(f'{name} has not been measured: the methods must include {REFERENCE}')
        if arguments.fresh or arguments.methods or not exists:
            measure_set(
                name,
                arguments.n,
                arguments.n_slow,
                arguments.workers,
                arguments.methods,
                keep=bool(arguments.methods) and exists and not arguments.fresh,
            )
        comparison = read_comparison(RUNS / name)
        print(f'\n{comparison.title}\n\n{readable(summary_of(comparison, SETS[name]))}')
        if name == 'isolated' and 'sersic' in comparison.labels:
            print(f'Is the Sersic fit a fair comparator?\n\n{fit_check(comparison)}')
    if arguments.write:
        write_documents({name: RUNS / name for name in SETS if (RUNS / name).is_dir()})


if __name__ == '__main__':
    main()
