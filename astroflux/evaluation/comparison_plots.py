# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Figures of a comparison of methods.

The functions ``plot_...`` draw on given axes and return them; the functions ``..._figure`` put
such panels together.
"""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator, StrMethodFormatter
from scipy.special import erf

from astroflux.evaluation._comparison_panels import (
    method_styles,
    plot_binned_statistic,
    plot_bound,
    plot_calibration,
    plot_differences,
    plot_extreme_case,
    plot_speed,
)
from astroflux.evaluation.plots import use_plain_log_ticks

__all__ = [
    'binned_figure',
    'calibration_figure',
    'differences_figure',
    'extreme_case_figure',
    'method_styles',
    'plot_binned_statistic',
    'plot_bound',
    'plot_calibration',
    'plot_differences',
    'plot_extreme_case',
    'plot_speed',
    'speed_figure',
]

# The coverage of an interval of one sigma.
_ONE_SIGMA = erf(np.sqrt(0.5))


def binned_figure(summary, parameter, styles, *, statistics=('bias', 'scatter'), bounds=None):
    """
    Figure of statistics against a parameter, as `plot_binned_statistic` draws each.

    ``scatter`` has a logarithmic axis, and the bounds of `~astroflux.evaluation.summarize_bound`
    with it, if they are given.
    """
    figure, panels = _row_of_panels(len(statistics), 3.9)
    handles = []
    for ax, statistic in zip(panels, statistics, strict=True):
        plot_binned_statistic(ax, summary, statistic, parameter, styles)
        if statistic == 'scatter':
            if bounds is not None:
                plot_bound(ax, bounds)
                handles = [line for line in ax.lines if not line.get_label().startswith('_')]
            _use_log_y(ax)
        else:
            ax.axhline(0, color='0.6', linewidth=0.8, zorder=0)
            _use_wide_y(ax)
        ax.yaxis.grid(visible=True, color='0.9', linewidth=0.6)
        ax.set_axisbelow(True)
    _add_legend(figure, styles, handles)
    return figure


def calibration_figure(pulls, styles, *, summary=None, parameter=None):
    """
    Figure of the calibration of the errors, as `plot_calibration` draws it.

    With a summary and a parameter, as of `plot_binned_statistic`, a second panel has the coverage
    in bins.
    """
    figure, panels = _row_of_panels(1 if summary is None else 2, 4.6)
    plot_calibration(panels[0], pulls, styles)
    if summary is not None:
        ax = plot_binned_statistic(panels[1], summary, 'coverage_68', parameter, styles)
        ax.axhline(100 * _ONE_SIGMA, color='0.45', linewidth=2, zorder=1)
        ax.set_ylim(-3, 103)
    _add_legend(figure, styles, [Line2D([], [], color='0.45', linewidth=2, label='ideal')])
    return figure


def speed_figure(speed, styles):
    """Figure of the speed of methods, as `plot_speed` draws it."""
    figure = Figure(figsize=(7.5, 1.0 + 0.36 * len(styles)), layout='constrained')
    plot_speed(figure.subplots(), speed, styles)
    return figure


def differences_figure(flux, ln_ratios, styles, *, unit=''):
    """Figure of ln(flux / reference) of each method against the reference flux, in its unit."""
    n_columns = min(4, len(styles))
    n_rows = -(-len(styles) // n_columns)
    width = 9.2 if n_columns > 1 else 5
    figure = Figure(figsize=(width, 0.9 + 2.3 * n_rows), layout='constrained')
    panels = figure.subplots(n_rows, n_columns, sharex=True, sharey=True, squeeze=False)
    # most points of all, and not all of the farthest
    all_ratios = np.abs(np.concatenate([np.asarray(ln_ratios[method]) for method in styles]))
    all_ratios = all_ratios[np.isfinite(all_ratios)]
    limit = 1.2 * np.percentile(all_ratios, 98) if len(all_ratios) else 1.0
    limit = float(np.clip(limit, 0.02, 3))
    for ax, (method, style) in zip(panels.flat, styles.items(), strict=False):
        plot_differences(ax, flux, ln_ratios[method], style, limit=limit)
    for column, ax in zip(range(-len(styles), 0), panels.flat, strict=False):
        # the lowest panel of each column has the numbers
        ax.xaxis.set_tick_params(labelbottom=column + n_columns >= 0)
    for ax in panels.flat[len(styles) :]:
        ax.remove()
    known = np.asarray(flux)[np.isfinite(flux) & (np.asarray(flux) > 0)]
    if len(known):
        panels[0, 0].set_xlim(known.min() / 1.3, known.max() * 1.3)
        if known.max() < 100 * known.min():
            use_plain_log_ticks(panels[0, 0].xaxis)
    figure.supxlabel('reference flux' + (f' [{unit}]' if unit else ''), fontsize=10)
    figure.supylabel('ln(flux / reference) [%]', fontsize=10)
    return figure


def extreme_case_figure(case, *, side=240):
    """
    Figure of the cutout of an extreme case, without any margin.

    Its longer side has at most ``side`` pixels. Each pixel of the cutout becomes a square of whole
    pixels, unless there are too many of them.
    """
    shape = np.array(np.shape(case.image))
    scale = side / shape.max()
    height, width = shape * (np.floor(scale) if scale >= 1 else scale)
    figure = Figure(figsize=(width / 100, height / 100), dpi=100)
    ax = figure.add_axes([0, 0, 1, 1])
    plot_extreme_case(ax, case)
    ax.set_axis_off()
    return figure


def _row_of_panels(number, height):
    figure = Figure(figsize=(4.6 * number, height), layout='constrained')
    return figure, figure.subplots(1, number, squeeze=False)[0]


def _sizes(ax):
    """Absolute values that the y axis has to show: those of the lines, without error bars."""
    values = [
        np.asarray(line.get_ydata(), float)
        for line in ax.lines
        if len(line.get_xdata()) and line.get_transform() == ax.transData
    ]
    values = np.concatenate([*values, [0.0]])
    return np.abs(values[np.isfinite(values)])


def _use_log_y(ax):
    """Make the y axis logarithmic, with plain numbers, and over at least a factor of 5."""
    values = _sizes(ax)
    values = values[values > 0]
    # an empty axis has no range that a logarithm could take
    if len(values):
        # an error bar that reaches below zero goes to the edge of the panel
        ax.set_yscale('log', nonpositive='clip')
        low, high = values.min() / 1.4, values.max() * 1.4
        widen = max(1, np.sqrt(5 * low / high))
        ax.set_ylim(low / widen, high * widen)
        use_plain_log_ticks(ax.yaxis)


def _use_wide_y(ax):
    """Make the y axis linear near zero and logarithmic beyond, if the values ask for that."""
    largest = _sizes(ax).max()
    if largest > 8:
        ax.set_yscale('symlog', linthresh=1, linscale=0.5)
        limit = 1.6 * largest
        ticks = np.array([1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 10000, 100000])
        if largest > 60:
            ticks = ticks[[0, 3, 6, 9, 10, 11]]
        ticks = ticks[ticks < limit]
        ax.yaxis.set_major_locator(FixedLocator([*-ticks[::-1], 0, *ticks]))
        ax.yaxis.set_major_formatter(StrMethodFormatter('{x:g}'))
        ax.yaxis.set_minor_locator(NullLocator())
        ax.yaxis.set_minor_formatter(NullFormatter())
    else:
        limit = max(1.0, 1.3 * largest)
    ax.set_ylim(-limit, limit)


def _add_legend(figure, styles, more=()):
    """Put one legend above all panels."""
    handles = [Line2D([], [], linestyle='none', **style) for style in styles.values()] + list(more)
    lengths = [len(handle.get_label()) for handle in handles]

    def width(n_columns):
        # by the mean width of a letter; the columns are filled one after the other
        columns = np.array_split(lengths, n_columns)
        return sum(0.5 + 0.075 * max(column) for column in columns)

    fitting = [n for n in range(1, len(handles) + 1) if width(n) <= figure.get_figwidth()]
    n_columns = max(fitting, default=1)
    # The panels keep their height.
    n_rows = -(-len(handles) // n_columns)
    figure.set_figheight(figure.get_figheight() + 0.2 * (n_rows - 1))
    figure.legend(
        handles=handles,
        loc='outside upper center',
        ncols=n_columns,
        frameon=False,
        fontsize=9,
        handletextpad=0.3,
    )
