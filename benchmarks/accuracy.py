# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Accuracy of the network and of Kron apertures on fresh simulated galaxies.

    python benchmarks/accuracy.py

prints a table per test set and S/N bin. With ``--write`` it also rewrites the
tables and figures of the documentation and the table of the README.
"""

import argparse
from itertools import islice
from pathlib import Path

import numpy as np
from astropy.table import Table, vstack
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter
from report import replace_block, rst_table
from sets import SETS
from tqdm import tqdm

from astroflux import ApertureFluxEstimator, CNNFluxEstimator, KronFluxEstimator
from astroflux.evaluation import summarise_by_snr
from astroflux.evaluation.plots import plot_statistic_by_snr
from astroflux.simulation import simulate_cutouts

TOP = Path(__file__).parents[1]
FOLDER = TOP / 'docs' / 'benchmarks'

METHODS = {
    'CNN': CNNFluxEstimator(),
    'Kron': KronFluxEstimator(),
    'aperture': ApertureFluxEstimator(),
}
STYLES = {
    'CNN': {'color': 'tab:blue', 'marker': 'o'},
    'Kron': {'color': 'tab:orange', 'marker': 's'},
    'aperture': {'color': 'tab:green', 'marker': '^'},
}


def measure_set(test_set, n):
    """
    Measure a test set with every method, a batch at a time.

    Returns
    -------
    errors : dict of str to dict
        Per method, ``ln_error`` and ``covered`` (whether the 68 % interval
        holds the truth).
    snr : 1D `~numpy.ndarray`
    """
    parts = {name: [] for name in METHODS}
    scenes = iter(
        tqdm(simulate_cutouts(n, test_set.simulation, seed=test_set.seed), total=n, unit='galaxy')
    )
    while batch := list(islice(scenes, 250)):
        cutouts = [cutout for cutout, _ in batch]
        truth = np.array([row['flux'] for _, row in batch])
        snr = np.array([row['snr'] for _, row in batch])
        for name, method in METHODS.items():
            table = method.measure(cutouts, progress=False)
            lower, upper = table['flux_lower'].value, table['flux_upper'].value
            with np.errstate(invalid='ignore', divide='ignore'):
                # A flux that is not positive has no logarithm: not measured.
                ln_error = np.log(np.maximum(table['flux'].value, 0) / truth)
            covered = (lower <= truth) & (truth <= upper)
            parts[name].append(Table({'snr': snr, 'ln_error': ln_error, 'covered': covered}))
    return {name: vstack(tables) for name, tables in parts.items()}


def summarise(measured):
    """Return one table of all methods and S/N bins, for people and for files."""
    kron = np.asarray(measured['Kron']['ln_error'])
    tables = []
    for name, errors in measured.items():
        snr, ln_error, covered = (np.asarray(errors[c]) for c in errors.colnames)
        table = Table(summarise_by_snr(snr, ln_error, covered))
        table.add_column([name] * len(table), name='method', index=0)
        # Only galaxies that both measured: a miss has no error to compare.
        both = np.isfinite(ln_error) & np.isfinite(kron)
        pairs = [summarise_by_snr(snr, np.where(both, error, np.nan)) for error in (ln_error, kron)]
        table['rms_over_kron'] = [
            one['rms'] / other['rms'] for one, other in zip(*pairs, strict=True)
        ]
        tables.append(table)
    return vstack(tables)


def readable(summary):
    """Return rows of text: percents, one decimal or two."""

    def percent(value):
        return f'{100 * value:.2f}' if abs(value) < 0.0995 else f'{100 * value:.1f}'

    header = [
        'S/N',
        'method',
        'n',
        'measured [%]',
        'median bias [%]',
        'scatter [%]',
        'rms about 0 [%]',
        'rms / Kron',
        'beyond 30 % [%]',
        '68 % coverage [%]',
    ]
    # Bin by bin, the methods in their order within each.
    ordered = summary[np.argsort(summary['snr_low'], kind='stable')]
    rows = [
        [
            f'{row["snr_low"]:.0f}-{row["snr_high"]:.0f}',
            str(row['method']),
            str(row['n']),
            *(percent(row[name]) for name in ('measured', 'bias', 'scatter', 'rms')),
            f'{row["rms_over_kron"]:.2f}',
            percent(row['outliers']),
            percent(row['coverage']),
        ]
        for row in ordered
    ]
    return header, rows


def draw(summary, title):
    """Draw bias, scatter and coverage against S/N."""
    figure = Figure(figsize=(11, 3.6), layout='constrained')
    figure.suptitle(title)
    axes = figure.subplots(1, 3)
    labels = {
        'bias': 'median of ln(measured / true) [%]',
        'scatter': 'scatter (NMAD) of ln flux [%]',
        'coverage': 'truth within the 68 % interval [%]',
    }
    for ax, (statistic, label) in zip(axes, labels.items(), strict=True):
        for name, style in STYLES.items():
            rows = summary[summary['method'] == name]
            plot_statistic_by_snr(ax, rows, statistic, label=name, **style)
        ax.set_ylabel(label)
    axes[0].axhline(0, color='0.6', linewidth=0.8, zorder=0)
    axes[1].set_yscale('log')
    axes[1].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes[1].yaxis.set_major_formatter(StrMethodFormatter('{x:g}'))
    axes[1].yaxis.set_minor_formatter(NullFormatter())
    axes[2].axhline(68.27, color='0.6', linewidth=0.8, zorder=0)
    axes[0].legend()
    return figure


def main():
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    parser.add_argument('sets', nargs='*', default=list(SETS), help=f'of {list(SETS)}')
    parser.add_argument('-n', type=int, default=2000, help='galaxies per set')
    parser.add_argument('--write', action='store_true', help='rewrite the documents')
    arguments = parser.parse_args()
    for name in arguments.sets:
        test_set = SETS[name]
        summary = summarise(measure_set(test_set, arguments.n))
        table = rst_table(*readable(summary))
        print(f'\n{name}: {arguments.n} x {test_set.title} (seed {test_set.seed})\n\n{table}')
        if arguments.write:
            FOLDER.mkdir(parents=True, exist_ok=True)
            summary.write(FOLDER / f'{name}.csv', format='ascii.csv', overwrite=True)
            (FOLDER / f'{name}.rst.inc').write_text(table)
            draw(summary, test_set.title).savefig(FOLDER / f'{name}.png', dpi=110)
            if name == 'isolated':
                replace_block(TOP / 'README.rst', 'accuracy', table)


if __name__ == '__main__':
    main()
