# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Rewrite the documents from the measured test sets, so that no figure is ever typed."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from astropy.io.ascii import convert_numpy
from astropy.table import Table
from report import replace_block, rst_table
from sets import SETS
from tables import BRIEF, REFERENCE, fit_check, readable, summary_of

from astroflux.evaluation import PARAMETERS, read_comparison, summarize_comparison
from astroflux.evaluation.comparison_plots import calibration_figure, method_styles
from astroflux.networks import default_weights

__all__ = ['write_documents']

TOP = Path(__file__).parents[1]
DOCS = TOP / 'docs' / 'benchmarks'
WEIGHTS = default_weights()
CARD = TOP / 'astroflux' / 'networks' / 'weights' / f'{WEIGHTS}.rst'

# The methods of the README's table: of each kind the one that is best known.
README_METHODS = ('cnn', 'kron', 'sep', 'sersic', 'boosting')
CARD_METHODS = ('cnn', 'kron')

# What the errors by other parameters than S/N are drawn of.
BY_METHODS = ('cnn', 'kron', 'growth', 'petrosian', 'sep', 'sersic', 'boosting')
SNR_MIN = 20

# How many standard errors a difference has to be to be told, and of how many galaxies at the
# least, as the errors themselves are uncertain.
CERTAIN = 2.0
MIN_PAIRS = 10
# A bias that is told, if it is certain.
NOTABLE_BIAS = 0.01


@dataclass(frozen=True)
class SetTable:
    """
    A table with rows of several test sets, the set's name first.

    Attributes
    ----------
    path : `~pathlib.Path`
        Its file.
    header : list of str
        Names of the columns; the first is ``set``.
    otherwise : str
        What stands there if no set has a row.
    """

    path: Path
    header: list
    otherwise: str

    def rows_of_others(self, measured):
        """Return the rows that the file has of other sets than these."""
        if not self.path.exists() or self.path.read_text() == self.otherwise:
            return []
        # cells are text, and may be empty
        table = Table.read(
            self.path, format='ascii.rst', converters={'*': [convert_numpy(str)]}, fill_values=[]
        )
        return [list(row) for row in table if _set_of(row[0]) not in measured]

    def write(self, rows):
        """Rewrite the file, the sets in their order."""
        order = list(SETS)
        rows = sorted(rows, key=lambda row: order.index(_set_of(row[0])))
        self.path.write_text(rst_table(self.header, rows) if rows else self.otherwise)


LOSSES = SetTable(
    DOCS / 'losses.rst.inc',
    ['set', 'S/N', 'method', 'n', 'scatter / CNN', 'rms / CNN'],
    'Nowhere, for certain.\n',
)
BIASES = SetTable(
    DOCS / 'biases.rst.inc',
    ['set', 'S/N', 'median bias of the CNN [%]'],
    'Nowhere above 1 %, for certain.\n',
)


def _set_of(cell):
    """Return the name of the set in the first cell of a row, which may name a part of it."""
    return str(cell).split(',')[0]


def write_documents(folders):
    """
    Rewrite tables and figures of the documentation, the README and the model card.

    What they say of sets that are not among these stays.

    Parameters
    ----------
    folders : dict of str to `~pathlib.Path`
        The measured test sets.
    """
    DOCS.mkdir(parents=True, exist_ok=True)
    summaries = {}
    for name, folder in folders.items():
        comparison = read_comparison(folder)
        summary = summary_of(comparison, SETS[name])
        summaries[name] = summary
        if name == 'isolated':
            # where the model of the Sersic fit is right
            summaries[f'{name}, one component'] = summary_of(_singles(comparison), SETS[name])
        summary.write(DOCS / f'{name}.csv', format='ascii.csv', overwrite=True)
        _write_by_parameters(name, comparison)
        if name == 'isolated':
            table = readable(summary, methods=README_METHODS, columns=BRIEF)
            replace_block(TOP / 'README.rst', 'accuracy', table)
            if 'sersic' in comparison.labels:
                (DOCS / 'sersic.rst.inc').write_text(fit_check(comparison))
        if name in ('isolated', 'blended'):
            replace_block(CARD, name, readable(summary, methods=CARD_METHODS))
    for table, rows in ((LOSSES, _losses(summaries)), (BIASES, _biases(summaries))):
        table.write([*table.rows_of_others(folders), *rows])


def _singles(comparison):
    """Return the comparison with the galaxies of two components in no S/N bin."""
    truth = comparison.truth.copy()
    truth['snr'] = np.where(truth['n_components'] == 1, truth['snr'], np.nan)
    return replace(comparison, truth=truth)


def _write_by_parameters(name, comparison):
    """Write the errors in bins of other parameters, and draw what needs single galaxies."""
    for parameter in SETS[name].parameters:
        rows = summarize_comparison(comparison, parameter, snr_min=SNR_MIN)
        rows = rows[np.isin(rows['method'], BY_METHODS)]
        rows.write(DOCS / f'{name}-{parameter}.csv', format='ascii.csv', overwrite=True)
    if name == 'isolated':
        edges = SETS[name].snr_bins
        styles = method_styles(comparison.labels)
        figure = calibration_figure(
            {method: comparison.of_method(method)['pull'] for method in styles},
            styles,
            summary=summarize_comparison(comparison, edges=edges),
            parameter=replace(PARAMETERS['snr'], edges=edges),
        )
        figure.savefig(DOCS / f'{name}-calibration.png', dpi=110)


def _losses(summaries):
    """Return rows of where another method is better than the network, for certain."""
    rows = []
    for name, summary in summaries.items():
        for row in summary:
            if row['method'] == REFERENCE or row['n_both'] < MIN_PAIRS:
                continue
            ratios = [
                f'{row[ratio]:.2f} ± {row[f"{ratio}_err"]:.2f}'
                if row[ratio] + CERTAIN * row[f'{ratio}_err'] < 1
                else ''
                for ratio in ('scatter_ratio', 'rms_ratio')
            ]
            if any(ratios):
                span = f'{row["low"]:g}-{row["high"]:g}'
                rows.append([name, span, str(row['label']), str(row['n_both']), *ratios])
    return rows


def _biases(summaries):
    """Return rows of the notable biases of the network."""
    return [
        [name, f'{row["low"]:g}-{row["high"]:g}', f'{100 * bias:.1f} ± {100 * error:.1f}']
        for name, summary in summaries.items()
        for row in summary[summary['method'] == REFERENCE]
        for bias, error in [(row['bias'], row['bias_err'])]
        if abs(bias) > max(NOTABLE_BIAS, CERTAIN * error)
    ]
