# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Accuracy against bulge-to-total ratio and radius, and the cost against light-profile fits."""

import numpy as np
import pandas as pd
from astropy.table import Table, vstack

from astroflux.evaluation.comparison_plots import binned_figure, method_styles
from astroflux.evaluation.metrics import scatter_at_bound, split_into_bins, summarize_by
from astroflux.evaluation.parameters import Parameter
from astroflux.study._output import records, save_figure, write_table
from astroflux.study.accuracy_cost import cost_table, run_fits
from astroflux.study.accuracy_plots import cost_figure
from astroflux.study.accuracy_remarks import binned_remark, cost_remarks, cost_rows
from astroflux.study.predictions import CNN_NAMES, read_predictions
from astroflux.study.today_tables import METHODS, ln_errors

__all__ = ['PARAMETERS', 'accuracy', 'accuracy_by', 'parameter_edges']

# Columns of the table that errors are looked at by; the last edge grows with the data.
PARAMETERS = {
    'Bt': Parameter('Bt', 'bulge-to-total ratio', (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)),
    'R_e': Parameter('R_e', 'half-light radius [arcsec]', (0.0, 0.3, 0.6, 1.0, 1.5, 2.0, 3.0)),
}

# Whose errors.
JUDGED = ('kron', *CNN_NAMES, 'shipped')

# Of the statistics of `flux_error_statistics`.
STATISTICS = ('completeness', 'bias', 'scatter', 'rms', 'outliers', 'scatter_over_bound')


def parameter_edges(parameter, values):
    """
    Widen the bins of a parameter, so that they hold all galaxies.

    Parameters
    ----------
    parameter : `~astroflux.evaluation.Parameter`
        The parameter.
    values : 1D `~numpy.ndarray`
        Of all galaxies.

    Returns
    -------
    parameter : `~astroflux.evaluation.Parameter`
        Its last edge is not less than the largest value.
    """
    # one decimal, upwards
    last = max(parameter.edges[-1], np.ceil(10 * np.max(values)) / 10)
    edges = (*parameter.edges[:-1], float(last))
    return Parameter(parameter.name, parameter.label, edges, parameter.is_log)


def accuracy_by(predictions, bound, values, parameter):
    """
    Summarise the errors of methods in bins of a parameter.

    Parameters
    ----------
    predictions : `~pandas.DataFrame`
        ``actual`` and a column for each method, log10 of the fluxes.
    bound : 1D `~numpy.ndarray`
        Smallest standard deviation of ln flux of each galaxy.
    values : 1D `~numpy.ndarray`
        The parameter.
    parameter : `~astroflux.evaluation.Parameter`
        With its bins.

    Returns
    -------
    summary : `~astropy.table.Table`
        One row per method and bin: ``method``, ``low``, ``high``, ``n``, and of errors of ln
        flux ``completeness``, ``bias``, ``scatter``, ``rms``, ``outliers`` (beyond 30 %) and
        ``scatter_over_bound``, each with its bootstrap error. Failures count in the completeness
        alone.
    bounds : `~astropy.table.Table`
        One row per bin: ``low``, ``high``, ``n``, and the ``scatter`` at the bound.
    """
    actual = predictions['actual'].to_numpy()
    tables = []
    for name in (name for name in JUDGED if name in predictions):
        errors = Table({'ln_error': ln_errors(actual, predictions[name].to_numpy())})
        table = summarize_by(values, parameter.edges, errors, bound=bound)
        table.keep_columns(
            ['low', 'high', 'n', *(f'{name}{end}' for name in STATISTICS for end in ('', '_err'))]
        )
        table.add_column([name] * len(table), name='method', index=0)
        tables.append(table)
    rows = []
    for low, high, inside in split_into_bins(values, parameter.edges):
        known = bound[inside & np.isfinite(bound)]
        scatter = scatter_at_bound(known) if len(known) else np.nan
        rows.append({'low': low, 'high': high, 'n': int(inside.sum()), 'scatter': scatter})
    return vstack(tables), Table(rows)


def accuracy(context):
    """
    Accuracy against bulge-to-total ratio and radius, and the cost against light-profile fits.

    Parameters
    ----------
    context : `~astroflux.study.context.Context`
        What a stage is given; the stages ``cnn`` and ``today`` have been run.

    Returns
    -------
    result : dict
        Numbers for the page; see `~astroflux.study`.

    Raises
    ------
    FileNotFoundError
        If these stages have not been run.
    """
    test, folder = context.test, context.folder
    predictions = read_predictions(context, 'today', ('actual', *JUDGED, 'bound'))
    bound = predictions['bound'].to_numpy()
    styles = method_styles({name: METHODS[name] for name in JUDGED})
    tables, figures, remarks = [], [], []
    for name, parameter in PARAMETERS.items():
        values = test.table[name].to_numpy(float)
        parameter = parameter_edges(parameter, values)
        summary, bounds = accuracy_by(predictions, bound, values, parameter)
        figure = binned_figure(summary, parameter, styles, bounds=bounds)
        stem = f'accuracy_{name.lower()}'
        tables.append(write_table(_with_bound(summary, bounds), folder / f'{stem}.csv'))
        figures.append(save_figure(figure, folder / f'{stem}.png'))
        remarks.append(binned_remark(summary, bounds, parameter))

    costs, fluxes, missing = _costs(context, predictions)
    tables += [
        write_table(costs, folder / 'accuracy_cost.csv'),
        write_table(fluxes, folder / 'accuracy_fits.csv'),
    ]
    figures.append(save_figure(cost_figure(costs), folder / 'accuracy_cost.png'))
    return {
        'rows': cost_rows(costs),
        'remarks': [*remarks, *cost_remarks(costs, missing, _best_network(predictions))],
        'costs': records(costs),
        'tables': tables,
        'figures': figures,
    }


def _best_network(predictions):
    """Return the network of the study with the lowest MSE on all test images."""
    squares = {name: (predictions[name] - predictions['actual']) ** 2 for name in CNN_NAMES}
    return min(CNN_NAMES, key=lambda name: np.nan_to_num(squares[name].mean(), nan=np.inf))


def _with_bound(summary, bounds):
    """Make a table for people: labels, and what is possible in each bin."""
    table = summary.to_pandas()
    table['method'] = table['method'].map(METHODS)
    possible = bounds.to_pandas().rename(columns={'scatter': 'bound'})
    return table.merge(possible[['low', 'high', 'bound']], on=['low', 'high'], how='left')


def _costs(context, predictions):
    """Time the methods on the first test images, and compare their fluxes there."""
    rows = np.arange(min(context.preset.n_profile_fits, len(context.test)))
    log_flux, seconds, missing = run_fits(
        context.test, rows, context.train, progress=context.progress
    )
    log_flux |= {name: predictions[name].to_numpy()[rows] for name in CNN_NAMES}
    actual = context.test.log_flux[rows]
    fluxes = pd.DataFrame(
        {
            'img_number': context.test.table['img_number'].to_numpy()[rows],
            'actual': actual,
            **log_flux,
        }
    )
    return cost_table(actual, log_flux, seconds), fluxes, missing
