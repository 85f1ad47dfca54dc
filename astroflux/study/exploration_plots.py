# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Figures that the report looks at its data with; each function draws on given axes."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator, StrMethodFormatter

from astroflux.evaluation.plots import plot_cutout
from astroflux.study.catalogue import MAX_FLUX, MIN_FLUX
from astroflux.study.distributions import correlation

__all__ = [
    'example_figure',
    'flux_figure',
    'pair_figure',
    'plot_example',
    'plot_flux_histogram',
    'plot_pair',
]

COLOURS = {'training': '#2b6cb0', 'test': '#c05621'}
LABELS = {
    'total_flux': 'total flux (ADU)',
    'log_total_flux': 'log$_{10}$(total flux / ADU)',
    'R_e': 'half-light radius $R_e$ (arcsec)',
    'Bt': 'bulge-to-total ratio $B/T$',
}
PAIRS = (('Bt', 'total_flux'), ('R_e', 'total_flux'), ('Bt', 'R_e'))

N_BINS = 30

# More points of a scatter plot than these are fainter, so that their density shows; and smaller
# if there are more than a few.
N_OPAQUE = 5000
FEW = 500


def plot_example(ax, image, noise, *, title=None):
    """
    Show an image with an asinh stretch and a colour bar in ADU.

    Parameters
    ----------
    ax : `matplotlib.axes.Axes`
        Where to draw; its figure gets the colour bar.
    image : 2D `~numpy.ndarray`
        In ADU.
    noise : float
        Standard deviation per pixel, in ADU.
    title : str, optional
        Title of the panel.

    Returns
    -------
    ax : `matplotlib.axes.Axes`
    """
    plot_cutout(ax, image, noise, title=title)
    bar = ax.figure.colorbar(ax.images[0], ax=ax, label='ADU per pixel (asinh stretch)')
    # Evenly spaced ticks would run into each other at the bright end.
    peak = float(np.nanmax(image))
    decades = 10.0 ** np.arange(np.floor(np.log10(4 * noise)), np.log10(max(peak, 10 * noise)))
    ticks = [0.0, *decades[decades > 2 * noise]]
    bar.ax.yaxis.set_major_locator(FixedLocator(ticks))
    bar.ax.yaxis.set_minor_locator(NullLocator())
    bar.ax.yaxis.set_major_formatter(StrMethodFormatter('{x:g}'))
    side = image.shape[0]
    ticks = np.arange(0, side, 20)
    ax.set(xticks=ticks, yticks=ticks, xlabel='x (pixel)', ylabel='y (pixel)')
    return ax


def example_figure(image, noise, *, title=None):
    """
    Figure of `plot_example`.

    Parameters
    ----------
    image, noise, title
        As in `plot_example`.

    Returns
    -------
    figure : `matplotlib.figure.Figure`
    """
    figure = Figure(figsize=(5.4, 4.4), layout='constrained')
    plot_example(figure.subplots(), image, noise, title=title)
    return figure


def plot_flux_histogram(ax, table, column, name):
    """
    Plot the distribution of the flux, with that of a flux that is spread evenly.

    Parameters
    ----------
    ax : `matplotlib.axes.Axes`
        Where to draw.
    table : `pandas.DataFrame`
        Of the set.
    column : {'total_flux', 'log_total_flux'}
        Before or after the logarithm.
    name : {'training', 'test'}
        Which set it is.

    Returns
    -------
    ax : `matplotlib.axes.Axes`
    """
    values = table[column].to_numpy(float)
    is_log = column == 'log_total_flux'
    low, high = (values.min(), np.log10(MAX_FLUX)) if is_log else (0, MAX_FLUX)
    edges = np.linspace(low, high, N_BINS + 1)
    ax.hist(values, edges, color=COLOURS[name], alpha=0.75, label=f'{name} set')
    flux = np.maximum(10**edges if is_log else edges, MIN_FLUX)
    expected = len(values) * np.diff(flux) / (MAX_FLUX - MIN_FLUX)
    ax.stairs(expected, edges, color='0.15', linewidth=1.2, label='flat flux')
    ax.set_xlabel(LABELS[column])
    ax.set_ylabel('galaxies per bin')
    ax.yaxis.set_major_formatter(StrMethodFormatter('{x:,.0f}'))
    ax.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    ax.xaxis.set_tick_params(labelbottom=True)
    if not is_log:
        ax.xaxis.set_major_locator(FixedLocator(np.arange(0, MAX_FLUX + 1, 10_000)))
        ax.xaxis.set_major_formatter(StrMethodFormatter('{x:,.0f}'))
        # room for the legend above the level histogram
        ax.set_ylim(0, 1.35 * ax.get_ylim()[1])
    ax.legend(loc='upper left', fontsize=8, frameon=False, ncols=1 if is_log else 2)
    return ax


def flux_figure(tables):
    """
    Figure of the flux before and after the logarithm, for both sets.

    Parameters
    ----------
    tables : dict of str to `pandas.DataFrame`
        The tables of the ``'training'`` and the ``'test'`` set.

    Returns
    -------
    figure : `matplotlib.figure.Figure`
    """
    figure = Figure(figsize=(8.4, 6.0), layout='constrained')
    panels = figure.subplots(len(tables), 2, squeeze=False, sharex='col')
    for axes, (name, table) in zip(panels, tables.items(), strict=True):
        for ax, column in zip(axes, ('total_flux', 'log_total_flux'), strict=True):
            plot_flux_histogram(ax, table, column, name)
    return figure


def plot_pair(ax, table, x, y, name):
    """
    Scatter plot of two columns, with their correlation.

    Parameters
    ----------
    ax : `matplotlib.axes.Axes`
        Where to draw.
    table : `pandas.DataFrame`
        Of the set.
    x, y : str
        Two columns of ``total_flux``, ``R_e`` and ``Bt``.
    name : {'training', 'test'}
        Which set it is.

    Returns
    -------
    ax : `matplotlib.axes.Axes`
    """
    n = len(table)
    ax.scatter(
        table[x],
        table[y],
        s=12 if n < FEW else 3,
        alpha=min(0.8, N_OPAQUE / n),
        color=COLOURS[name],
        linewidths=0,
        rasterized=True,
    )
    ax.set(xlabel=LABELS[x], ylabel=LABELS[y])
    ax.set_title(f'{name} set: r = {correlation(table[x], table[y]):+.3f}', fontsize=9)
    for axis, column in ((ax.xaxis, x), (ax.yaxis, y)):
        if column == 'total_flux':
            axis.set_major_formatter(StrMethodFormatter('{x:,.0f}'))
    return ax


def pair_figure(tables):
    """
    Figure of the pairs of total flux, bulge-to-total ratio and radius, for both sets.

    Parameters
    ----------
    tables : dict of str to `pandas.DataFrame`
        The tables of the ``'training'`` and the ``'test'`` set.

    Returns
    -------
    figure : `matplotlib.figure.Figure`
    """
    figure = Figure(figsize=(10.5, 6.4), layout='constrained')
    panels = figure.subplots(len(tables), len(PAIRS), squeeze=False)
    for axes, (name, table) in zip(panels, tables.items(), strict=True):
        for ax, (x, y) in zip(axes, PAIRS, strict=True):
            plot_pair(ax, table, x, y, name)
    return figure
