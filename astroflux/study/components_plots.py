# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Figures of principal components and factors."""

import numpy as np
from matplotlib.figure import Figure

__all__ = ['loadings_figure', 'plot_loadings', 'prediction_figure', 'scree_figure']

ACTUAL_COLOR = '#0072b2'


def scree_figure(scree):
    """
    Figure of the variance of each principal component.

    Parameters
    ----------
    scree : `~pandas.DataFrame`
        ``component``, ``eigenvalue``, ``shuffled`` and ``cumulative``.

    Returns
    -------
    figure : `matplotlib.figure.Figure`
    """
    figure = Figure(figsize=(9.4, 3.8), layout='constrained')
    left, right = figure.subplots(1, 2)
    numbers = scree['component']
    left.plot(numbers, scree['eigenvalue'], marker='o', color=ACTUAL_COLOR, label='the table')
    left.plot(
        numbers,
        scree['shuffled'],
        linestyle='--',
        color='0.45',
        label='columns shuffled (95th percentile)',
    )
    left.set_ylabel('variance [columns]')
    left.set_ylim(0)
    left.legend(fontsize=8)
    right.plot(numbers, 100 * scree['cumulative'], marker='o', color=ACTUAL_COLOR)
    right.set_ylabel('variance up to this component [%]')
    right.set_ylim(0, 104)
    for ax in (left, right):
        ax.set_xticks(numbers)
        ax.set_xlabel('principal component')
        ax.grid(visible=True, color='0.9', linewidth=0.6)
        ax.set_axisbelow(True)
    return figure


def plot_loadings(ax, loadings, *, title):
    """
    Show the loadings of columns on components as colours and numbers.

    Parameters
    ----------
    ax : `matplotlib.axes.Axes`
        Where to draw.
    loadings : `~pandas.DataFrame`
        One row per column of the table, its name in ``column``; one column per component.
    title : str
        Of the panel.

    Returns
    -------
    image : `matplotlib.image.AxesImage`
    """
    values = loadings.drop(columns='column').to_numpy(float)
    shown = ax.imshow(values, cmap='RdBu_r', vmin=-1, vmax=1, aspect='auto')
    for (row, column), value in np.ndenumerate(values):
        ax.text(
            column,
            row,
            # no minus before a zero
            f'{round(value, 2) + 0.0:.2f}',
            ha='center',
            va='center',
            fontsize=7,
            color='white' if abs(value) > 0.65 else 'black',
        )
    ax.set_xticks(range(values.shape[1]), loadings.columns[1:])
    ax.set_yticks(range(len(values)), loadings['column'], fontsize=8)
    ax.set_title(title, fontsize=10)
    return shown


def loadings_figure(panels):
    """
    Figure of the loadings of several decompositions, a panel for each.

    Parameters
    ----------
    panels : dict of str to `~pandas.DataFrame`
        Titles, and loadings as in `plot_loadings`.

    Returns
    -------
    figure : `matplotlib.figure.Figure`
    """
    n_rows = max(len(loadings) for loadings in panels.values())
    widths = [loadings.shape[1] - 1 for loadings in panels.values()]
    figure = Figure(
        figsize=(2.2 * len(panels) + 0.5 * sum(widths), 1.2 + 0.3 * n_rows), layout='constrained'
    )
    axes = figure.subplots(1, len(panels), squeeze=False, width_ratios=widths)[0]
    for ax, (title, loadings) in zip(axes, panels.items(), strict=True):
        shown = plot_loadings(ax, loadings, title=title)
    figure.colorbar(shown, ax=list(axes), label='correlation with the column', fraction=0.03)
    return figure


def prediction_figure(table):
    """
    Figure of how well a number of components predicts the flux.

    Parameters
    ----------
    table : `~pandas.DataFrame`
        ``decomposition``, ``n_components``, ``r2`` of the test set, ``shuffled_low`` and
        ``shuffled_high``.

    Returns
    -------
    figure : `matplotlib.figure.Figure`
    """
    kinds = list(dict.fromkeys(table['decomposition']))
    figure = Figure(figsize=(4.7 * len(kinds), 3.8), layout='constrained')
    axes = figure.subplots(1, len(kinds), sharey=True, squeeze=False)[0]
    for ax, kind in zip(axes, kinds, strict=True):
        rows = table[table['decomposition'] == kind]
        numbers = rows['n_components']
        ax.axhline(0, color='0.45', linewidth=0.8)
        ax.fill_between(
            numbers,
            1e3 * rows['shuffled_low'],
            1e3 * rows['shuffled_high'],
            color='0.85',
            label='shuffled fluxes, 95 %',
        )
        ax.plot(numbers, 1e3 * rows['r2'], marker='o', color=ACTUAL_COLOR, label='actual fluxes')
        ax.set_xticks(numbers)
        ax.set_xlabel('number of components' if kind == 'PCA' else 'number of factors')
        ax.set_title(kind, fontsize=10)
    axes[0].set_ylabel('R$^2$ of log flux, test set [10$^{-3}$]')
    axes[0].legend(fontsize=8, loc='lower left')
    return figure
