# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The methods of today, and what is possible at all, on the test images of the study."""

import pandas as pd

from astroflux.estimators import CNNFluxEstimator
from astroflux.study._output import plain, records, save_figure, write_table
from astroflux.study.dataset import read_settings
from astroflux.study.predictions import CNN_NAMES, PREDICTIONS_NAME, read_predictions
from astroflux.study.today_bound import limit_bound
from astroflux.study.today_goal import goal_table, part_of_the_faintest
from astroflux.study.today_parts import fine_tune, measure_in_parts
from astroflux.study.today_plots import residuals_figure, scatter_figure
from astroflux.study.today_remarks import comparison_rows, remarks
from astroflux.study.today_tables import (
    FLUX_EDGES,
    LN10,
    METHODS,
    SNR_EDGES,
    summarise,
)

__all__ = ['today']

# Images that the shipped network is fine-tuned on.
N_FINE_TUNE = 2000


def today(context):
    """
    Compare the study's networks with the methods of today and the information bound.

    Parameters
    ----------
    context : `~astroflux.study.context.Context`
        What a stage is given; the stage ``cnn`` has been run.

    Returns
    -------
    result : dict
        Numbers for the page; see `~astroflux.study`.

    Raises
    ------
    FileNotFoundError
        If the stage ``cnn`` has not been run.
    ValueError
        If the folder holds parts of another data set or of other weights.
    """
    folder, test = context.folder, context.test
    # first, as all else takes long
    networks = read_predictions(context, 'cnn', CNN_NAMES)
    predictions = pd.concat([networks, _measure(context)], axis=1)
    predictions['actual'] = test.log_flux
    predictions = predictions[['img_number', 'actual', *METHODS, 'bound', 'snr']]
    write_table(predictions, folder / PREDICTIONS_NAME)

    bound = limit_bound(predictions['bound'], LN10 * context.train.log_flux.std())
    options = {'substitute': float(context.train.log_flux.mean())}
    table = summarise(predictions, bound, **options)
    by_flux = summarise(predictions, bound, by=test.flux, edges=FLUX_EDGES, **options)
    by_snr = summarise(
        predictions, bound, by=predictions['snr'].to_numpy(), edges=SNR_EDGES, **options
    )
    goal = goal_table(predictions, bound, **options)
    faint = part_of_the_faintest(predictions, bound, **options)
    return {
        'rows': comparison_rows(table),
        'remarks': [*remarks(table, goal, faint, **options)],
        'methods': records(table),
        'goal': records(goal),
        'faintest': records(faint),
        'substitute': options['substitute'],
        'weights': _identity(CNNFluxEstimator().weights),
        'median_snr': plain(predictions['snr'].median()),
        'tables': [
            write_table(table, folder / 'today.csv'),
            write_table(goal, folder / 'today_goal.csv'),
            write_table(by_flux, folder / 'today_by_flux.csv'),
            write_table(by_snr, folder / 'today_by_snr.csv'),
        ],
        'figures': [
            save_figure(residuals_figure(predictions), folder / 'today_residuals.png'),
            save_figure(scatter_figure(predictions, bound), folder / 'today_scatter.png'),
        ],
    }


def _identity(weights):
    """Return name and hash of weights."""
    from astroflux.networks import load_weights

    loaded = load_weights(weights)
    return {'name': loaded.name, 'sha256': loaded.sha256}


def _measure(context):
    """Measure the test set by all but the study's networks; the work is kept on the way."""
    settings = read_settings(context.data)
    epochs = CNNFluxEstimator().epochs
    tuned = fine_tune(
        context.train,
        context.folder / 'fine-tuned.safetensors',
        n_images=N_FINE_TUNE,
        epochs=min(epochs, context.preset.max_epochs or epochs),
    )
    return measure_in_parts(
        context.test,
        context.folder / 'parts',
        settings,
        tuned,
        workers=context.workers,
        progress=context.progress,
    )
