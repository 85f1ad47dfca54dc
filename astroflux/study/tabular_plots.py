# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Figures of models of the table: predictions, classes, information."""

import numpy as np
from matplotlib.figure import Figure

__all__ = [
    'confusion_figure',
    'information_figure',
    'plot_confusion',
    'plot_predictions',
    'predictions_figure',
]

FLUX_LABEL = 'log$_{10}$ (flux / ADU)'


def plot_predictions(ax, actual, predicted, *, title):
    """
    Plot predicted against actual log flux.

    Parameters
    ----------
    ax : `matplotlib.axes.Axes`
        Where to draw.
    actual, predicted : 1D `~numpy.ndarray`
        log10 of the fluxes.
    title : str
        Of the panel.

    Returns
    -------
    ax : `matplotlib.axes.Axes`
    """
    low, high = float(np.min(actual)), float(np.max(actual))
    ax.plot([low, high], [low, high], color='0.45', linewidth=1.2, label='perfect prediction')
    ax.axhline(
        float(np.mean(actual)), color='#d55e00', linewidth=1.2, linestyle='--', label='actual mean'
    )
    ax.plot(
        actual,
        predicted,
        linestyle='none',
        marker='o',
        markersize=2.5,
        markeredgewidth=0,
        color='#0072b2',
        alpha=0.6 if len(actual) < 2000 else 0.15,
    )
    ax.set_title(title, fontsize=10)
    ax.set_xlabel(f'actual {FLUX_LABEL}')
    return ax


def predictions_figure(actual, predictions):
    """
    Figure of the predictions of several models, a panel for each.

    Parameters
    ----------
    actual : 1D `~numpy.ndarray`
        log10 of the true fluxes.
    predictions : dict of str to 1D `~numpy.ndarray`
        Titles and predictions.

    Returns
    -------
    figure : `matplotlib.figure.Figure`
    """
    n = len(predictions)
    figure = Figure(figsize=(max(4.4 * n, 4.8), 4.2), layout='constrained')
    panels = figure.subplots(1, n, sharex=True, sharey=True, squeeze=False)[0]
    for ax, (title, predicted) in zip(panels, predictions.items(), strict=True):
        plot_predictions(ax, actual, predicted, title=title)
    panels[0].set_ylabel(f'predicted {FLUX_LABEL}')
    panels[0].legend(fontsize=8, loc='upper left')
    return figure


def plot_confusion(ax, counts, classes):
    """
    Show how often each class was predicted as which.

    Parameters
    ----------
    ax : `matplotlib.axes.Axes`
        Where to draw.
    counts : 2D `~numpy.ndarray` of int
        Row: the actual class; column: the predicted one.
    classes : sequence of str
        Their names.

    Returns
    -------
    ax : `matplotlib.axes.Axes`
    """
    counts = np.asarray(counts)
    shown = ax.imshow(counts, cmap='Blues', vmin=0, vmax=max(int(counts.max()), 1))
    for (row, column), count in np.ndenumerate(counts):
        share = count / max(counts[row].sum(), 1)
        ax.text(
            column,
            row,
            f'{count}\n{100 * share:.0f} %',
            ha='center',
            va='center',
            fontsize=9,
            color='white' if count > 0.6 * counts.max() else 'black',
        )
    ax.set_xticks(range(len(classes)), classes)
    ax.set_yticks(range(len(classes)), classes, rotation=90, va='center')
    ax.set_xlabel('predicted flux')
    ax.set_ylabel('actual flux')
    ax.figure.colorbar(shown, ax=ax, label='galaxies', fraction=0.046, pad=0.03)
    return ax


def confusion_figure(counts, classes, *, title):
    """
    Figure of a confusion matrix.

    Parameters
    ----------
    counts, classes
        As in `plot_confusion`.
    title : str
        Of the figure.

    Returns
    -------
    figure : `matplotlib.figure.Figure`
    """
    figure = Figure(figsize=(5, 4.2), layout='constrained')
    plot_confusion(figure.subplots(), counts, classes).set_title(title, fontsize=10)
    return figure


def information_figure(information):
    """
    Figure of the mutual information of each column with the flux, and that of shuffled fluxes.

    Parameters
    ----------
    information : `~pandas.DataFrame`
        From `~astroflux.study.chance.column_information`.

    Returns
    -------
    figure : `matplotlib.figure.Figure`
    """
    figure = Figure(figsize=(6, 1.3 + 0.27 * len(information)), layout='constrained')
    ax = figure.subplots()
    places = np.arange(len(information))
    for column, height, color, label in (
        ('shuffled_largest', 0.7, '0.85', 'largest of shuffled fluxes'),
        ('information', 0.32, '#0072b2', 'the actual fluxes'),
    ):
        ax.barh(places, information[column], height=height, color=color, label=label)
    ax.legend(loc='lower right', fontsize=8)
    ax.set_yticks(places, information['column'], fontsize=8)
    ax.invert_yaxis()
    ax.set_xlim(0, 1.45 * max(float(information.iloc[:, 1:].to_numpy().max()), 1e-3))
    ax.set_xlabel('mutual information with log flux [nat]')
    return figure
