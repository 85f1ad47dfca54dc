# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What other weights have changed in the tables of the network.

    python benchmarks/changes.py COMMIT --write

compares the tables of the documentation with those of an earlier commit: on the same cutouts, the
scatter and the root mean square now over those of then, where that differs from one by more than
two standard errors, and in how many cases the 68 % interval holds.
"""

import subprocess
from pathlib import Path

import numpy as np
from astropy.table import Table
from report import DOCS, command_line, put_out, rst_table
from sets import SETS
from tables import REFERENCE

TOP = Path(__file__).parents[1]
CERTAIN = 2.0


def is_known(commit):
    """Whether the history holds a commit."""
    found = subprocess.run(['git', 'cat-file', '-e', f'{commit}^{{commit}}'], cwd=TOP)
    return found.returncode == 0


def table_then(commit, name):
    """Return a set's table at a commit, or None if it had none."""
    path = f'{commit}:docs/benchmarks/{name}.csv'
    shown = subprocess.run(['git', 'show', path], cwd=TOP, capture_output=True, text=True)
    return None if shown.returncode else Table.read(shown.stdout, format='ascii.csv')


def rows_of(name, then, now):
    """Return the rows of bins that changed."""
    rows = []
    for new in now[now['method'] == REFERENCE]:
        is_same = (then['method'] == REFERENCE) & (then['low'] == new['low'])
        (old,) = then[is_same]
        cells, is_certain = [], []
        for figure in ('scatter', 'rms'):
            ratio = new[figure] / old[figure]
            error = ratio * np.hypot(
                new[f'{figure}_err'] / new[figure], old[f'{figure}_err'] / old[figure]
            )
            cells.append(f'{ratio:.2f} ± {error:.2f}')
            is_certain.append(abs(ratio - 1) > CERTAIN * error)
        coverage = [f'{100 * row["coverage_68"]:.0f}' for row in (old, new)]
        if any(is_certain):
            rows.append([name, f'{new["low"]:g}-{new["high"]:g}', *cells, *coverage])
    return rows


def main():
    """Run from the command line."""
    parser = command_line(__doc__)
    parser.add_argument('commit', help='of the tables of before')
    arguments = parser.parse_args()
    if not is_known(arguments.commit):
        parser.error(f'the history holds no commit {arguments.commit}')
    rows = []
    for name in SETS:
        then = table_then(arguments.commit, name)
        if then is not None:
            now = Table.read(DOCS / f'{name}.csv', format='ascii.csv')
            rows += rows_of(name, then, now)
    if not rows:
        parser.error(f'no table has changed since {arguments.commit}')
    header = ['set', 'S/N', 'scatter / before', 'rms / before']
    header += ['in 68 % interval [%], before', 'now']
    put_out(rst_table(header, rows), 'changes', write=arguments.write)


if __name__ == '__main__':
    main()
