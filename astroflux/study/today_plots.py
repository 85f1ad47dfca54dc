# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Figures of the methods of today on the study's galaxies."""

from itertools import pairwise

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator
from scipy.stats import norm

from astroflux.evaluation.comparison_plots import method_styles
from astroflux.evaluation.metrics import scatter_at_bound
from astroflux.study.today_tables import METHODS, ln_errors

__all__ = ['plot_residuals', 'plot_scatter', 'residuals_figure', 'scatter_figure']

# Percent: linear to this, and logarithmic beyond.
LINEAR_PERCENT = 0.1
LARGEST_PERCENT = 1000.0

# A point of a curve stands for so many galaxies at the least.
FEWEST = 5
N_BINS = 14

FLUX_LABEL = 'true flux [ADU]'


def plot_residuals(ax, flux, percent, style):
    """
    Plot the error of one method in percent against the true flux, with lines at 10 %.

    Parameters
    ----------
    ax : `matplotlib.axes.Axes`
        Where to draw.
    flux : 1D `~numpy.ndarray`
        True flux in ADU.
    percent : 1D `~numpy.ndarray`
        Measured over true flux, minus one, in percent; NaN where the method has failed: a cross
        at the lower edge.
    style : dict
        One of `~astroflux.evaluation.comparison_plots.method_styles`.

    Returns
    -------
    ax : `matplotlib.axes.Axes`
    """
    failed = ~np.isfinite(percent)
    ax.axhline(0, color='0.45', linewidth=0.8, zorder=0)
    for limit in (-10, 10):
        ax.axhline(limit, color='0.45', linewidth=0.8, linestyle=':', zorder=0)
    ax.plot(
        flux[~failed],
        np.clip(percent[~failed], -LARGEST_PERCENT, LARGEST_PERCENT),
        linestyle='none',
        marker='o',
        markersize=2,
        markeredgewidth=0,
        color=style['color'],
        alpha=0.7 if len(flux) < 1000 else 0.25,
    )
    ax.plot(
        flux[failed],
        np.full(failed.sum(), -0.5 * LARGEST_PERCENT),
        linestyle='none',
        marker='x',
        markersize=4,
        color='black',
    )
    ax.set_xscale('log')
    ax.set_yscale('symlog', linthresh=LINEAR_PERCENT, linscale=0.6)
    ax.set_ylim(-1.8 * LARGEST_PERCENT, 1.8 * LARGEST_PERCENT)
    ticks = [0.1, 1, 10, 100]
    ax.yaxis.set_major_locator(FixedLocator([-tick for tick in ticks[::-1]] + [0, *ticks]))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:+g}' if value else '0'))
    ax.yaxis.set_minor_locator(NullLocator())
    n_failed = int(failed.sum())
    more = f' ({n_failed} failed: x)' if n_failed else ''
    ax.set_title(style['label'] + more, fontsize=9)
    return ax


def residuals_figure(predictions):
    """
    Figure of the errors of all methods against the true flux, a panel for each.

    Parameters
    ----------
    predictions : `~pandas.DataFrame`
        ``actual`` and the columns of `~astroflux.study.today_tables.METHODS`.

    Returns
    -------
    figure : `matplotlib.figure.Figure`
    """
    names = [name for name in METHODS if name in predictions]
    styles = method_styles({name: METHODS[name] for name in names})
    actual = predictions['actual'].to_numpy()
    n_columns = 4
    n_rows = -(-len(names) // n_columns)
    figure = Figure(figsize=(10.5, 0.8 + 2.5 * n_rows), layout='constrained')
    panels = figure.subplots(n_rows, n_columns, sharex=True, sharey=True, squeeze=False)
    for ax, name in zip(panels.flat, names, strict=False):
        percent = 100 * np.expm1(ln_errors(actual, predictions[name].to_numpy()))
        plot_residuals(ax, 10**actual, percent, styles[name])
    for column, ax in zip(range(-len(names), 0), panels.flat, strict=False):
        # the lowest panel of each column has the numbers
        ax.xaxis.set_tick_params(labelbottom=column + n_columns >= 0)
    for ax in panels.flat[len(names) :]:
        ax.remove()
    figure.supxlabel(FLUX_LABEL, fontsize=10)
    figure.supylabel('measured / true flux - 1 [%]', fontsize=10)
    return figure


def flux_groups(actual):
    """
    Split galaxies by their flux, into bins of equal width in its logarithm where they suffice.

    Parameters
    ----------
    actual : 1D `~numpy.ndarray`
        log10 of the true fluxes.

    Returns
    -------
    groups : list of 1D `~numpy.ndarray` of int
        Rows of each bin, the faintest first, at least 5; what is left over joins the next bin,
        and at the bright end the last one.
    """
    edges = np.linspace(actual.min(), actual.max(), N_BINS + 1)
    groups, pending = [], np.array([], int)
    for low, high in pairwise(edges):
        upper = actual <= high if high == edges[-1] else actual < high
        pending = np.concatenate([pending, np.flatnonzero((actual >= low) & upper)])
        if len(pending) >= FEWEST:
            groups.append(pending)
            pending = pending[:0]
    if len(pending) and groups:
        groups[-1] = np.concatenate([groups[-1], pending])
    return groups


def plot_scatter(ax, predictions, bound, *, about_truth=False):
    """
    Plot the scatter of all methods against the true flux, and that at the bound as a line.

    Parameters
    ----------
    ax : `matplotlib.axes.Axes`
        Where to draw.
    predictions : `~pandas.DataFrame`
        As in `residuals_figure`.
    bound : 1D `~numpy.ndarray`
        Smallest standard deviation of ln flux of each galaxy, finite.
    about_truth : bool, optional
        Whether to take the deviations from the truth, so that a bias counts, and not from the
        median of each bin.

    Returns
    -------
    ax : `matplotlib.axes.Axes`
    """
    actual = predictions['actual'].to_numpy()
    groups = flux_groups(actual)
    flux = [10 ** np.median(actual[group]) for group in groups]
    names = [name for name in METHODS if name in predictions]
    for name, style in method_styles({name: METHODS[name] for name in names}).items():
        errors = ln_errors(actual, predictions[name].to_numpy())
        scatter = [100 * _scatter(errors[group], about_truth) for group in groups]
        ax.plot(flux, scatter, markersize=4.5, linewidth=0.8, **style)
    if groups:
        possible = [100 * scatter_at_bound(bound[group]) for group in groups]
        ax.plot(flux, possible, color='black', linewidth=2.5, label='information bound', zorder=5)
    ax.set_xscale('log')
    ax.set_yscale('log')
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:g}'))
        axis.set_minor_formatter(NullFormatter())
    ax.grid(visible=True, color='0.9', linewidth=0.6)
    ax.set_axisbelow(True)
    ax.set_xlabel(FLUX_LABEL)
    return ax


def _scatter(errors, about_truth):
    """NMAD of those that were measured, if that are enough."""
    errors = errors[np.isfinite(errors)]
    if len(errors) < FEWEST:
        return np.nan
    centre = 0.0 if about_truth else np.median(errors)
    return np.median(np.abs(errors - centre)) / norm.ppf(0.75)


def scatter_figure(predictions, bound):
    """
    Figure of the scatter of all methods, and of the bound, against the true flux.

    Parameters
    ----------
    predictions, bound
        As in `plot_scatter`.

    Returns
    -------
    figure : `matplotlib.figure.Figure`
    """
    figure = Figure(figsize=(10.5, 5), layout='constrained')
    left, right = figure.subplots(1, 2, sharex=True, sharey=True)
    plot_scatter(left, predictions, bound).set_title('about the median of the bin', fontsize=10)
    plot_scatter(right, predictions, bound, about_truth=True)
    right.set_title('about the truth', fontsize=10)
    left.set_ylabel('scatter of ln flux (NMAD) [%]')
    figure.legend(
        handles=left.get_legend_handles_labels()[0],
        loc='outside upper center',
        ncols=4,
        frameon=False,
        fontsize=9,
    )
    return figure
