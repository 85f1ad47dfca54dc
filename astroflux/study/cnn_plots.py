# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Figures of the trainings of the study's network."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

__all__ = [
    'architecture_figure',
    'curves_figure',
    'differences_figure',
    'joined_figure',
    'losses_figure',
    'plot_differences',
    'plot_losses',
]

COLORS = ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#000000', '#999999')
TRAIN, TEST, GREY = '#d55e00', '#0072b2', '0.45'
LOSS_LABEL = 'loss: MSE of log$_{10}$ flux [dex$^2$]'

# Differences beyond this go into the last bin, in dex.
LARGEST = 2.0


def _use_epochs(ax, n_epochs):
    ax.set_xlabel('epoch')
    ax.set_xlim(0.6, n_epochs + 0.4)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, min_n_ticks=1))


def _use_log(axis):
    axis.axes.set_yscale('log')
    low, high = axis.axes.get_ylim()
    # a range of one or two decades has few powers of ten in it
    steps = (1, 2, 5) if high / low < 300 else (1,)
    axis.set_major_locator(LogLocator(subs=steps))
    axis.set_major_formatter(StrMethodFormatter('{x:g}'))
    axis.set_minor_formatter(NullFormatter())


def plot_losses(ax, history, *, title, variance, published=None, dropout_off=None):
    """
    Plot train and test loss against the epoch.

    Parameters
    ----------
    ax : `matplotlib.axes.Axes`
        Where to draw.
    history : `~pandas.DataFrame`
        ``epoch``, ``train_loss`` and ``test_loss``.
    title : str
        Of the panel.
    variance : float
        Loss of the best constant.
    published : tuple, optional
        Of the report: the last epoch, and train and test loss after it.
    dropout_off : float, optional
        Train loss with the final weights and without dropout.

    Returns
    -------
    ax : `matplotlib.axes.Axes`
    """
    epochs = history['epoch']
    last = int(epochs.iloc[-1])
    ax.axhline(variance, color=GREY, linewidth=1.2, linestyle=':', label='variance of log flux')
    for column, color, label in (
        ('train_loss', TRAIN, 'train, with dropout'),
        ('test_loss', TEST, 'test'),
    ):
        ax.plot(epochs, history[column], '.-', color=color, label=label)
    if dropout_off is not None:
        ax.plot(last, dropout_off, 'x', color=TRAIN, markersize=8, label='train, dropout off')
    if published is not None:
        last, *values = published
        for value, color, label in zip(
            values, (TRAIN, TEST), ('train, published', 'test, published'), strict=True
        ):
            ax.plot(last, value, 'D', color=color, mfc='none', markersize=7, label=label)
    ax.set_title(title, fontsize=10)
    _use_epochs(ax, max(last, int(epochs.iloc[-1])))
    _use_log(ax.yaxis)
    return ax


def losses_figure(panels):
    """
    Figure of the losses of several networks.

    Parameters
    ----------
    panels : list of dict
        Arguments of `plot_losses`, but for the axes.

    Returns
    -------
    figure : `matplotlib.figure.Figure`
    """
    figure = Figure(figsize=(3.7 * len(panels) + 0.4, 4.3), layout='constrained')
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for ax, panel in zip(axes, panels, strict=True):
        plot_losses(ax, **panel)
    axes[0].set_ylabel(LOSS_LABEL)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc='outside lower center', ncols=3, fontsize=8, frameon=False)
    return figure


def plot_differences(ax, difference, *, title):
    """
    Plot the distribution of absolute differences.

    Parameters
    ----------
    ax : `matplotlib.axes.Axes`
        Where to draw.
    difference : 1D `~numpy.ndarray`
        Predicted minus actual log10 flux; only its size counts. Those beyond 2 dex or not a
        number are in the last bin.
    title : str
        Of the panel.

    Returns
    -------
    ax : `matplotlib.axes.Axes`
    """
    away = np.nan_to_num(np.abs(difference), nan=np.inf)
    edges = np.arange(0, LARGEST + 0.1, 0.05)
    middle_of_last = (edges[-1] + edges[-2]) / 2
    ax.hist(np.minimum(away, middle_of_last), bins=edges, color=TEST)
    median = float(np.median(away))
    ax.axvline(
        min(median, middle_of_last),
        color=TRAIN,
        linewidth=1.2,
        linestyle='--',
        label=f'median {median:.3g} dex',
    )
    ax.set_title(title, fontsize=10)
    ax.set_yscale('log')
    ax.set_ylim(bottom=0.7)
    ax.set_ylabel('test images')
    ax.yaxis.set_major_formatter(StrMethodFormatter('{x:,.0f}'))
    ax.set_xlim(0, edges[-1])
    ax.set_xlabel('|predicted - actual| [dex]')
    ax.legend(fontsize=8, loc='upper right')
    return ax


def differences_figure(difference, *, title):
    """
    Figure of the distribution of absolute differences of one network.

    Parameters
    ----------
    difference, title
        As in `plot_differences`.

    Returns
    -------
    figure : `matplotlib.figure.Figure`
    """
    figure = Figure(figsize=(5.6, 3.6), layout='constrained')
    plot_differences(figure.subplots(), difference, title=title)
    return figure


def architecture_figure(layers):
    """
    Figure of the layers of a network, from the image at the left to the answer at the right.

    Parameters
    ----------
    layers : list of dict
        ``layer``, what it does; ``output``, the shape that leaves it; ``parameters``.

    Returns
    -------
    figure : `matplotlib.figure.Figure`
    """
    figure = Figure(figsize=(1.72 * len(layers), 1.9), layout='constrained')
    ax = figure.subplots()
    ax.set_axis_off()
    for place, row in enumerate(layers):
        n = row['parameters']
        text = f'{row["layer"]}\n\n{row["output"]}'
        ax.text(
            place,
            0,
            text + (f'\n{n:,} parameters' if n else ''),
            ha='center',
            va='center',
            fontsize=8,
            bbox={'boxstyle': 'round,pad=0.5', 'facecolor': '#e8f1f8', 'edgecolor': TEST},
        )
        if place:
            ax.annotate(
                '',
                xy=(place - 0.44, 0),
                xytext=(place - 0.56, 0),
                arrowprops={'arrowstyle': '->', 'color': GREY},
            )
    ax.set_xlim(-0.55, len(layers) - 0.45)
    ax.set_ylim(-1, 1)
    return figure


def curves_figure(panels, *, variance):
    """
    Figure of the test losses of trainings that differ in one respect.

    Parameters
    ----------
    panels : list of dict
        For each ``title``; ``curves``, a dict of label to test losses, the first epoch's first;
        optionally ``published``, a tuple of epoch and test loss.
    variance : float
        Loss of the best constant.

    Returns
    -------
    figure : `matplotlib.figure.Figure`
    """
    figure = Figure(figsize=(4.3 * len(panels) + 0.4, 5.0), layout='constrained')
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for ax, panel in zip(axes, panels, strict=True):
        ax.axhline(variance, color=GREY, linewidth=1.2, linestyle=':', label='variance of log flux')
        n_epochs = 1
        for color, (label, losses) in zip(COLORS * 3, panel['curves'].items(), strict=False):
            ax.plot(np.arange(len(losses)) + 1, losses, '.-', color=color, label=label)
            n_epochs = max(n_epochs, len(losses))
        if 'published' in panel:
            epoch, loss = panel['published']
            ax.plot(epoch, loss, 'D', color='black', mfc='none', markersize=7, label='published')
            n_epochs = max(n_epochs, epoch)
        ax.set_title(panel['title'], fontsize=10)
        _use_epochs(ax, n_epochs)
        _use_log(ax.yaxis)
        ax.legend(fontsize=8, loc='upper center', bbox_to_anchor=(0.5, -0.16), ncols=2)
    axes[0].set_ylabel(f'test {LOSS_LABEL}')
    return figure


def joined_figure(losses, *, n_epochs):
    """
    Figure of the test losses of joined networks, a point for each seed.

    Parameters
    ----------
    losses : dict of str to array_like
        What the networks see, and the test loss of each seed.
    n_epochs : int
        Of each training.

    Returns
    -------
    figure : `matplotlib.figure.Figure`
    """
    figure = Figure(figsize=(6.6, 3.8), layout='constrained')
    ax = figure.subplots()
    for place, (color, values) in enumerate(zip(COLORS, losses.values(), strict=False)):
        values = np.asarray(values, float)
        shift = 0.06 * (np.arange(len(values)) - (len(values) - 1) / 2)
        ax.plot(place + shift, values, 'o', color=color)
        mean = float(np.exp(np.mean(np.log(values))))
        ax.plot([place - 0.25, place + 0.25], [mean, mean], color=color, linewidth=1.5)
    ax.set_xticks(range(len(losses)), losses)
    ax.set_xlim(-0.6, len(losses) - 0.4)
    ax.set_ylabel(f'test {LOSS_LABEL}')
    ax.set_title(
        f'after {n_epochs} epochs: a point for each seed, a line for their geometric mean',
        fontsize=10,
    )
    ax.margins(y=0.2)
    _use_log(ax.yaxis)
    return figure
