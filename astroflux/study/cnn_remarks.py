# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What the losses of the networks mean, in sentences that follow the numbers."""

import math

import numpy as np
import pandas as pd

from astroflux.study.cnn_published import PUBLISHED_LOSSES, PUBLISHED_N_TRAIN, published_samples

__all__ = [
    'comparison_text',
    'constant_samples_remark',
    'constant_share',
    'cut_remark',
    'is_constant',
    'judge_predictions',
    'label_of',
    'loss_remark',
    'sample_remark',
    'tail_remark',
]

# The report prints six decimals.
DECIMALS = 6

# Losses that differ by less than this factor are called alike.
ALIKE = 1.25

# In dex. The second is what the report judges by.
NARROW = 0.1
WIDE = 0.3

# A share that differs from another by so many errors is another.
CLEAR = 2.0


def label_of(name):
    """
    Return the name of a network as a reader has it.

    Parameters
    ----------
    name : str
        Of a training, such as ``'cnn-1'``.

    Returns
    -------
    label : str
    """
    return name.replace('cnn-', 'CNN ')


def constant_share(predictions):
    """
    Return the share of predictions that are equal to the most frequent one.

    Parameters
    ----------
    predictions : array_like
        log10 of fluxes; compared to six decimals.

    Returns
    -------
    share : float
        1 for a constant.
    """
    counts = pd.Series(np.round(predictions, DECIMALS)).value_counts(dropna=False)
    return float(counts.iloc[0] / counts.sum())


def is_constant(predictions):
    """
    Tell whether more than half of the predictions are one and the same.

    Parameters
    ----------
    predictions : array_like
        log10 of fluxes.

    Returns
    -------
    answer : bool
    """
    return constant_share(predictions) > 0.5


def judge_predictions(actual, predicted):
    """
    Return numbers on predictions; those that failed count as wrong.

    Parameters
    ----------
    actual, predicted : 1D `~numpy.ndarray`
        log10 of fluxes.

    Returns
    -------
    numbers : dict
        ``n_failed`` (not finite), ``constant_share``, ``median_difference`` (absolute, in dex),
        ``within_narrow`` and ``within_wide`` (shares within 0.1 and 0.3 dex), ``bias`` (median,
        in dex), and ``faint_share``: what the faintest tenth contributes to the squared error.
    """
    error = np.asarray(predicted, float) - actual
    good = np.isfinite(error)
    away = np.where(good, np.abs(error), np.inf)
    squares = error[good] ** 2
    faint = np.asarray(actual)[good] <= np.quantile(actual, 0.1)
    total = squares.sum()
    return {
        'n_failed': int((~good).sum()),
        'constant_share': constant_share(predicted),
        'median_difference': float(np.median(away)),
        'within_narrow': float(np.mean(away < NARROW)),
        'within_wide': float(np.mean(away < WIDE)),
        'bias': float(np.median(error[good])) if good.any() else math.nan,
        'faint_share': float(squares[faint].sum() / total) if total > 0 else math.nan,
    }


def comparison_text(ours, published):
    """
    Compare a loss with a published one, in words.

    Parameters
    ----------
    ours, published : float
        Losses.

    Returns
    -------
    text : str
        What may follow "is".
    """
    if not math.isfinite(ours):
        return f'not a number, while the published one is {published:g}'
    ratio = ours / published
    if 1 / ALIKE < ratio < ALIKE:
        return f'about the published {published:g}'
    factor = max(ratio, 1 / ratio)
    text = f'{factor:.1f}' if factor < 100 else f'{factor:,.0f}'
    return f'a factor of {text} {"above" if ratio > 1 else "below"} the published {published:g}'


def loss_remark(name, test_loss, variance, share):
    """
    Say how the test loss of a network compares, and whether its prediction is a constant.

    Parameters
    ----------
    name : str
        Of the training.
    test_loss : float
        After its last epoch.
    variance : float
        Of log flux of the test set.
    share : float
        Of equal predictions.

    Returns
    -------
    text : str
    """
    text = (
        f'{label_of(name)}: the test loss {test_loss:.4g} is '
        f'{comparison_text(test_loss, PUBLISHED_LOSSES[name][1])}, and {test_loss / variance:.3g} '
        f'times the variance of log flux ({variance:.4g}), which is the loss of the best constant.'
    )
    if share > 0.5:
        text += f' {100 * share:.1f} % of its answers are one and the same number.'
    return text


def constant_samples_remark():
    """
    Say that the published samples of the first network are a constant, nearly.

    Returns
    -------
    text : str
    """
    predicted = [row['predicted'] for row in published_samples('cnn-1')]
    actual = [row['actual'] for row in published_samples('cnn-1')]
    n_equal = round(constant_share(predicted) * len(predicted))
    return (
        f'Of the ten published predictions of CNN 1, {n_equal} are the same number, '
        f'{max(set(predicted), key=predicted.count):.6f}, while the actual values go from '
        f'{min(actual):.2f} to {max(actual):.2f}: it predicted a constant, nearly.'
    )


def cut_remark(context, configurations, published):
    """
    Say that a run is smaller than the published one, if it is; else yield nothing.

    Parameters
    ----------
    context : `~astroflux.study.context.Context`
        What the stage is given.
    configurations, published : sequence of `~astroflux.study.cnn.CNNConfiguration`
        Of the networks of the report: as they were trained, and as published.

    Yields
    ------
    text : str
    """
    n_train = len(context.train)
    cut = [
        f'{label_of(ours.name)} {ours.epochs} of {theirs.epochs}'
        for ours, theirs in zip(configurations, published, strict=True)
        if ours.epochs < theirs.epochs
    ]
    if n_train != PUBLISHED_N_TRAIN:
        yield (
            f'This run trained on {n_train:,} galaxies, the report on {PUBLISHED_N_TRAIN:,}: the '
            'losses are not to be compared.'
        )
    if cut:
        yield f'Trainings were cut short: epochs of {", of ".join(cut)}.'


def tail_remark(numbers):
    """
    Say how much of the loss comes from the faintest tenth of the galaxies.

    Parameters
    ----------
    numbers : dict of str to dict
        From `judge_predictions`, by network.

    Returns
    -------
    text : str
    """
    parts = [f'{100 * n["faint_share"]:.0f} % of {label_of(name)}' for name, n in numbers.items()]
    published = published_samples('cnn-3')
    squares = np.array([row['difference'] ** 2 for row in published])
    faintest = int(np.argmin([row['actual'] for row in published]))
    return (
        f'The faintest tenth of the galaxies makes {", ".join(parts)} of the test loss. In the '
        'ten published samples of CNN 3, the one faint galaxy '
        f'({published[faintest]["file_name"]}) makes '
        f'{100 * squares[faintest] / squares.sum():.0f} % of their squared error.'
    )


def sample_remark(samples, numbers, n_test):
    """
    Compare the ten samples of the second and the third network, theirs and ours.

    Parameters
    ----------
    samples : dict of str to `~pandas.DataFrame`
        Our ten samples of each network.
    numbers : dict of str to dict
        From `judge_predictions`, by network.
    n_test : int
        How many images these are of.

    Returns
    -------
    text : str
    """
    means = {}
    for name in ('cnn-2', 'cnn-3'):
        published = [row['difference'] for row in published_samples(name)]
        means[name] = float(np.mean(published)), float(np.mean(samples[name]['difference']))
    theirs, ours = zip(means['cnn-2'], means['cnn-3'], strict=True)
    wide = [numbers[name]['within_wide'] for name in ('cnn-2', 'cnn-3')]
    # as if of different images, which is more than the error of the same ones
    error = math.sqrt(sum(share * (1 - share) for share in wide) / n_test)
    difference = wide[0] - wide[1]
    if abs(difference) <= CLEAR * error:
        order = 'the two are alike'
    else:
        order = f'CNN {2 if difference > 0 else 3} is the better one'
    return (
        'The report prefers CNN 2 to CNN 3, whose loss is lower, since it predicted more samples '
        f'within {WIDE:g} dex. The mean absolute differences of its ten samples are '
        f'{theirs[0]:.3f} and {theirs[1]:.3f} dex; of ours {ours[0]:.3f} and {ours[1]:.3f} dex. Of '
        f'all our test images {100 * wide[0]:.1f} % (CNN 2) and {100 * wide[1]:.1f} % (CNN 3) are '
        f'within {WIDE:g} dex, by which {order}.'
    )
