# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Figure of the cost of methods, and of what one gets for it."""

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from astroflux.evaluation.comparison_plots import method_styles

__all__ = ['cost_figure', 'plot_cost']


def plot_cost(ax, costs):
    """
    Plot the median error of methods against their speed.

    Parameters
    ----------
    ax : `matplotlib.axes.Axes`
        Where to draw.
    costs : `~pandas.DataFrame`
        From `~astroflux.study.accuracy_cost.cost_table`.

    Returns
    -------
    ax : `matplotlib.axes.Axes`
    """
    labels = {method: method for method in sorted(costs['method'])}
    rows = costs.set_index('method')
    for method, style in method_styles(labels).items():
        row = rows.loc[method]
        ax.plot(row['per_second'], row['median_percent'], markersize=8, linestyle='none', **style)
    ax.set_xscale('log')
    ax.set_yscale('log')
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:g}'))
        axis.set_minor_formatter(NullFormatter())
    ax.margins(0.12)
    ax.grid(visible=True, color='0.9', linewidth=0.6)
    ax.set_axisbelow(True)
    ax.set_xlabel('cutouts per second and core')
    ax.set_ylabel('median |error| of the flux [%]')
    return ax


def cost_figure(costs):
    """
    Figure of the median error of methods against their speed.

    Parameters
    ----------
    costs : `~pandas.DataFrame`
        As in `plot_cost`.

    Returns
    -------
    figure : `matplotlib.figure.Figure`
    """
    figure = Figure(figsize=(7.4, 4.2), layout='constrained')
    ax = plot_cost(figure.subplots(), costs)
    figure.legend(
        handles=ax.get_legend_handles_labels()[0],
        loc='outside right upper',
        frameon=False,
        fontsize=9,
    )
    return figure
