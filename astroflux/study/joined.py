# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The network joined with columns of the table, which the report names as future work."""

import math

import numpy as np
import pandas as pd
from scipy.stats import ttest_ind

from astroflux.study._output import comparison_row, plain, save_figure, write_table
from astroflux.study.cnn_plan import image_only_trainings, joined_trainings, short_second
from astroflux.study.cnn_plots import joined_figure
from astroflux.study.tabular import feature_names
from astroflux.study.trainings import train_all

__all__ = ['gain_of', 'joined']

# A gain that the scatter of seeds alone gives less often than this is one.
SIGNIFICANCE = 0.05

IMAGE_ONLY = 'image only'


def joined(context):
    """
    Train the network with columns of the table beside the image, and twins without.

    Parameters
    ----------
    context : `~astroflux.study.context.Context`
        What a stage is given.

    Returns
    -------
    result : dict
        Numbers for the page; see `~astroflux.study`. ``losses`` has the test loss of each seed
        by what the networks see, ``gains`` what `gain_of` says.

    Notes
    -----
    The columns are standardised by the training set's mean and scatter, and join the pooled maps
    before the dense layer, so that its neurons may combine both. All networks are trained as the
    second one of the report, with fewer epochs.
    """
    n_epochs = short_second(context).epochs
    inputs = {
        'image, R_e, Bt': ('R_e', 'Bt'),
        'image, all columns': tuple(feature_names(context.train.table)),
    }
    names = ('radius-ratio', 'all-columns')
    plan = {IMAGE_ONLY: image_only_trainings(context)}
    for name, (what, columns) in zip(names, inputs.items(), strict=True):
        plan[what] = joined_trainings(context, name, columns)
    everything = {folder: c for group in plan.values() for folder, c in group.items()}
    found = dict(zip(everything, train_all(context, everything), strict=True))
    # networks on the image only may have been trained for more epochs
    losses = {
        what: {
            c.seed: float(found[folder].history['test_loss'].iloc[n_epochs - 1])
            for folder, c in group.items()
        }
        for what, group in plan.items()
    }
    table = pd.DataFrame(
        [
            {'input': what, 'seed': seed, 'epochs': n_epochs, 'test_loss': loss}
            for what, values in losses.items()
            for seed, loss in values.items()
        ]
    )
    n_seeds = context.preset.n_joined_seeds
    losses = {what: list(values.values()) for what, values in losses.items()}
    gains = {what: gain_of(losses[IMAGE_ONLY], losses[what]) for what in inputs}
    return {
        'rows': list(_rows(losses, gains, n_epochs)),
        'remarks': [
            _design_remark(inputs, n_epochs),
            *(_gain_remark(what, gain, n_seeds) for what, gain in gains.items()),
        ],
        'losses': {what: [plain(loss) for loss in values] for what, values in losses.items()},
        'gains': {what: {k: plain(v) for k, v in gain.items()} for what, gain in gains.items()},
        'epochs': n_epochs,
        'columns': {what: list(columns) for what, columns in inputs.items()},
        'tables': [write_table(table, context.folder / 'joined.csv')],
        'figures': [
            save_figure(joined_figure(losses, n_epochs=n_epochs), context.folder / 'joined.png')
        ],
    }


def gain_of(alone, together):
    """
    Compare the losses of two groups of networks with the scatter of their seeds.

    Parameters
    ----------
    alone, together : array_like
        Test losses without and with the columns, one per seed.

    Returns
    -------
    gain : dict
        ``factor``, geometric mean of the losses alone over that together (above one if the
        columns help); ``low`` and ``high``, its 95 % interval; ``p_value``, two-sided (Welch's
        test of the logarithms; NaN for a single seed).
    """
    one, other = (np.log(np.asarray(values, float)) for values in (alone, together))
    factor = float(np.exp(one.mean() - other.mean()))
    if min(len(one), len(other)) < 2 or not np.isfinite([*one, *other]).all():
        return {'factor': factor, 'low': math.nan, 'high': math.nan, 'p_value': math.nan}
    test = ttest_ind(one, other, equal_var=False)
    interval = test.confidence_interval(0.95)
    return {
        'factor': factor,
        'low': float(np.exp(interval.low)),
        'high': float(np.exp(interval.high)),
        'p_value': float(test.pvalue),
    }


def _rows(losses, gains, n_epochs):
    for what, values in losses.items():
        mean = float(np.exp(np.mean(np.log(values))))
        yield comparison_row(
            f'{what}: test loss after {n_epochs} epochs, mean of seeds', None, mean
        )
    for what, gain in gains.items():
        yield comparison_row(
            f'{what}: factor by which the loss is lower than of the image only',
            None,
            gain['factor'],
        )


def _design_remark(inputs, n_epochs):
    n_columns = len(inputs['image, all columns'])
    return (
        f'Networks as the second one, trained for {n_epochs} epochs. The columns (R_e and Bt; or '
        f"all {n_columns} but the flux, its logarithm and the file's name) are standardised and "
        'join the pooled maps before the dense layer. Twins see the image only. The columns are '
        'the truth of the simulation: no survey has them.'
    )


def _gain_remark(what, gain, n_seeds):
    text = f'{what[0].upper()}{what[1:]}: the test loss is {_factor_text(gain["factor"])}'
    if n_seeds < 2:
        return text + '. One seed cannot tell whether that is more than chance.'
    if not math.isfinite(gain['p_value']):
        return text + '. A training diverged, so that the scatter of seeds is not known.'
    text += (
        f' (95 % interval of the factor {gain["low"]:.2f} to {gain["high"]:.2f}, p = '
        f'{gain["p_value"]:.2g}, {n_seeds} seeds each): '
    )
    if gain['p_value'] > SIGNIFICANCE:
        return text + 'no more than the scatter of seeds, so no gain is shown.'
    return text + ('a gain.' if gain['factor'] > 1 else 'a loss, not a gain.')


def _factor_text(factor):
    if not math.isfinite(factor):
        return 'not a number'
    change = max(factor, 1 / factor)
    return f'{"lower" if factor > 1 else "higher"} by a factor of {change:.2f}'
