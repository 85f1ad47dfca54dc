# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The tables and figures of the documentation that are made from the results of test sets.

    python benchmarks/pages.py docs/benchmarks docs/_generated

which the build of the documentation does.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from astropy.table import Table
from tables import REFERENCE, readable

from astroflux.evaluation import PARAMETERS
from astroflux.evaluation.comparison_plots import binned_figure, method_styles

__all__ = ['write_pages']


def write_pages(results, directory):
    """
    Write a table and a figure for each set, and a figure for what else it is binned by.

    Parameters
    ----------
    results : `~pathlib.Path`
        Folder of ``SET.csv`` and ``SET-PARAMETER.csv``.
    directory : `~pathlib.Path`
        Folder of what is written, ``SET.rst.inc``, ``SET.png`` and ``SET-PARAMETER.png``; made
        if need be.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for path in sorted(results.glob('*.csv')):
        name, _, parameter = path.stem.rpartition('-')
        rows = Table.read(path, format='ascii.csv')
        if parameter in PARAMETERS:
            styles = _styles(Table.read(results / f'{name}.csv', format='ascii.csv'))
            chosen = {method: styles[method] for method in styles if method in rows['method']}
            figure = binned_figure(rows, PARAMETERS[parameter], chosen)
        else:
            (directory / f'{path.stem}.rst.inc').write_text(readable(rows))
            figure = _set_figure(rows)
        figure.savefig(directory / f'{path.stem}.png', dpi=110)


def _styles(summary):
    """How to draw the methods of a set, in its order."""
    return method_styles(dict(zip(summary['method'], summary['label'], strict=True)))


def _set_figure(summary):
    edges = (*dict.fromkeys(summary['low'].tolist()), summary['high'].max())
    bounds = summary[summary['method'] == REFERENCE]
    bounds['scatter'] = bounds['scatter_at_bound']
    return binned_figure(
        summary,
        replace(PARAMETERS['snr'], edges=edges),
        _styles(summary),
        bounds=bounds if np.isfinite(bounds['scatter']).any() else None,
    )


def main():
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.strip().split('\n')[0])
    parser.add_argument('results', type=Path)
    parser.add_argument('directory', type=Path)
    arguments = parser.parse_args()
    write_pages(arguments.results, arguments.directory)


if __name__ == '__main__':
    main()
