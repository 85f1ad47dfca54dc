# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Figures of a comparison of methods.

The functions ``plot_...`` draw on given axes and return them; the functions ``..._figure`` put
such panels together.
"""

import numpy as np
from astropy.stats import mad_std
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator, StrMethodFormatter
from scipy.special import erf

from astroflux.evaluation.plots import plot_cutout, use_plain_log_ticks

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

# Okabe & Ito's colours that are told apart without seeing red and green, but for the yellow,
# which is too light for points on white.
_COLORS = ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#000000')
_MARKERS = ('o', 's', '^', 'D', 'v', 'P', 'X', '<', '>', 'p', 'h', 'd')

_MASK_COLOR = '#d55e00'

# A bin or a curve with fewer galaxies tells more of the noise than of the method.
MIN_GALAXIES = 5

# The coverage of an interval of one sigma.
_ONE_SIGMA = erf(np.sqrt(0.5))

_LABEL_LENGTH = 24

_TITLES = {
    'bias': 'bias of ln flux [%]',
    'scatter': 'scatter of ln flux [%]',
    'coverage_68': 'truth within the 68 % interval [%]',
}


def method_styles(labels):
    """
    How to draw each method, the same in all figures.

    Parameters
    ----------
    labels : dict of str to str
        Name and label of each method.

    Returns
    -------
    styles : dict of str to dict
        Arguments of `matplotlib.axes.Axes.plot` for each method. The labels are short, and
        nothing in them is read as mathematics. Colours return after seven methods, markers
        after twelve; the markers of the second round of colours are hollow.
    """
    styles = {}
    for i, (method, label) in enumerate(labels.items()):
        color = _COLORS[i % len(_COLORS)]
        styles[method] = {
            'color': color,
            'marker': _MARKERS[i % len(_MARKERS)],
            'markerfacecolor': 'white' if (i // len(_COLORS)) % 2 else color,
            'label': _short(label),
        }
    return styles


def _short(label):
    """Shorten in the middle, as names often differ at their ends, and disarm mathematics."""
    # a label that starts with an underscore is left out of legends
    label = f' {label}' if label.startswith('_') else label
    if len(label) > _LABEL_LENGTH:
        half = (_LABEL_LENGTH - 1) // 2
        label = f'{label[:half].rstrip()}…{label[-half:].lstrip()}'
    return label.replace('$', r'\$')


def _offsets(low, high, n, is_log):
    """Places within a bin for n methods side by side; a single one stands in the middle."""
    # A margin of a fifth to either side keeps the points of neighbouring bins apart.
    places = (np.arange(n) + 0.5) / n * 0.6 + 0.2
    return low * (high / low) ** places if is_log else low + (high - low) * places


def _label_bins(ax, parameter):
    """Make the x axis one of the parameter, with the edges of the bins as ticks."""
    edges = parameter.edges
    if parameter.is_log:
        ax.set_xscale('log')
        margin = (edges[-1] / edges[0]) ** 0.02
        ax.set_xlim(edges[0] / margin, edges[-1] * margin)
    else:
        margin = 0.02 * (edges[-1] - edges[0])
        ax.set_xlim(edges[0] - margin, edges[-1] + margin)
    ax.xaxis.set_major_locator(FixedLocator(edges))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(StrMethodFormatter('{x:g}'))
    for edge in edges:
        ax.axvline(edge, color='0.85', linewidth=0.6, zorder=0)
    ax.set_xlabel('true S/N' if parameter.name == 'snr' else parameter.label)


def plot_binned_statistic(ax, summary, statistic, parameter, styles):
    """
    Plot a statistic of several methods, in percent, in bins of a parameter.

    Parameters
    ----------
    ax : `matplotlib.axes.Axes`
        Where to draw.
    summary : `~astropy.table.Table`
        From `~astroflux.evaluation.summarise_comparison`. Bins of fewer than 5 measured
        galaxies are left out.
    statistic : str
        Its column.
    parameter : `~astroflux.evaluation.Parameter`
        That of the bins.
    styles : dict of str to dict
        From `method_styles`; the methods stand side by side within a bin.

    Returns
    -------
    ax : `matplotlib.axes.Axes`
    """
    places = {
        (low, high): _offsets(low, high, len(styles), parameter.is_log)
        for low, high in zip(parameter.edges[:-1], parameter.edges[1:], strict=True)
    }
    for i, (method, style) in enumerate(styles.items()):
        rows = summary[summary['method'] == method]
        n_measured = np.nan_to_num(np.asarray(rows['n'] * rows['completeness']))
        rows = rows[(n_measured > MIN_GALAXIES - 0.5) & np.isfinite(rows[statistic])]
        x = [places[low, high][i] for low, high in zip(rows['low'], rows['high'], strict=True)]
        ax.errorbar(
            x,
            100 * np.asarray(rows[statistic]),
            yerr=100 * np.asarray(rows[f'{statistic}_err']),
            linestyle='none',
            markersize=4.5,
            elinewidth=1,
            **style,
        )
    _label_bins(ax, parameter)
    ax.set_ylabel(_TITLES.get(statistic, f'{statistic} [%]'))
    return ax


def plot_bound(ax, bounds):
    """
    Draw in each bin the scatter that is possible, in percent.

    Parameters
    ----------
    ax : `matplotlib.axes.Axes`
        Where to draw.
    bounds : `~astropy.table.Table`
        From `~astroflux.evaluation.summarise_bound`.

    Returns
    -------
    ax : `matplotlib.axes.Axes`
    """
    label = 'smallest scatter possible'
    for row in bounds[np.isfinite(bounds['scatter'])]:
        value = 100 * row['scatter']
        ax.plot(
            [row['low'], row['high']],
            [value, value],
            color='0.45',
            linewidth=2,
            solid_capstyle='butt',
            zorder=1,
            label=label,
        )
        # one entry of the legend for all bins
        label = None
    return ax


def plot_calibration(ax, pulls, styles):
    """
    Plot how many errors lie within an interval against how many should.

    Parameters
    ----------
    ax : `matplotlib.axes.Axes`
        Where to draw.
    pulls : dict of str to 1D `~numpy.ndarray`
        (measured - true) / error of each method, NaN where not known. Methods with fewer than
        5 are left out.
    styles : dict of str to dict
        From `method_styles`.

    Returns
    -------
    ax : `matplotlib.axes.Axes`
    """
    nominal = np.linspace(0.02, 0.98, 49)
    ax.plot([0, 100], [0, 100], color='0.45', linewidth=2, zorder=1)
    for i, (method, style) in enumerate(styles.items()):
        pull = np.asarray(pulls.get(method, ()), float)
        pull = np.sort(np.abs(pull[np.isfinite(pull)]))
        if len(pull) < MIN_GALAXIES:
            continue
        # |pull| < z and erf(z / sqrt 2) < nominal say the same
        actual = np.searchsorted(np.sort(erf(pull / np.sqrt(2))), nominal) / len(pull)
        # Markers at different places do not cover each other.
        ax.plot(
            100 * nominal,
            100 * actual,
            markevery=(i % 8, 8),
            markersize=4.5,
            linewidth=1.2,
            **style,
        )
    ax.set_xlim(0, 100)
    ax.set_ylim(0, 100)
    ax.set_aspect('equal')
    ax.set_xlabel('nominal coverage [%]')
    ax.set_ylabel('actual coverage [%]')
    return ax


def plot_speed(ax, speed, styles):
    """
    Plot the speed of methods as bars, the fastest on top.

    Parameters
    ----------
    ax : `matplotlib.axes.Axes`
        Where to draw.
    speed : `~astropy.table.QTable`
        From `~astroflux.evaluation.summarise_speed`; methods without time are left out.
    styles : dict of str to dict
        From `method_styles`.

    Returns
    -------
    ax : `matplotlib.axes.Axes`
    """
    rates = dict(zip(speed['method'], speed['rate'].value, strict=True))
    rates = {method: rates[method] for method in styles if np.isfinite(rates.get(method, np.nan))}
    rates = dict(sorted(rates.items(), key=lambda item: -item[1]))
    values = np.array(list(rates.values()))
    places = np.arange(len(values))
    colors = [styles[method]['color'] for method in rates]
    # A logarithmic axis has no 0 to start from.
    start = values.min(initial=1) / 5
    ax.barh(places, values - start, left=start, height=0.65, color=colors)
    for place, value in zip(places, values, strict=True):
        ax.annotate(
            f'{value:.0f}' if value >= 1000 else f'{value:.3g}',
            (value, place),
            xytext=(4, 0),
            textcoords='offset points',
            verticalalignment='center',
            fontsize=9,
        )
    ax.set_xscale('log')
    # room for the numbers
    ax.set_xlim(start, values.max(initial=1) * (values.max(initial=1) / start) ** 0.15)
    use_plain_log_ticks(ax.xaxis)
    ax.set_yticks(places, [styles[method]['label'] for method in rates])
    ax.invert_yaxis()
    ax.set_xlabel('cutouts per second and core')
    return ax


def plot_differences(ax, flux, ln_ratio, style, *, limit):
    """
    Plot ln(flux / reference) of one method against the reference flux.

    Parameters
    ----------
    ax : `matplotlib.axes.Axes`
        Where to draw.
    flux : 1D `~numpy.ndarray`
        Reference flux.
    ln_ratio : 1D `~numpy.ndarray`
        ln(flux / reference), NaN where not known.
    style : dict
        One of `method_styles`.
    limit : float
        Largest ``|ln_ratio|`` of the axis; what is beyond is drawn as a triangle on its edge.

    Returns
    -------
    ax : `matplotlib.axes.Axes`
    """
    known = np.isfinite(flux) & np.isfinite(ln_ratio) & (np.asarray(flux) > 0)
    flux, ln_ratio = np.asarray(flux)[known], np.asarray(ln_ratio)[known]
    inside = np.abs(ln_ratio) <= limit
    alpha = 0.7 if len(flux) < 300 else 0.35
    ax.axhline(0, color='0.6', linewidth=0.8, zorder=0)
    points = {'linestyle': 'none', 'markeredgewidth': 0, 'color': style['color'], 'alpha': alpha}
    ax.plot(flux[inside], 100 * ln_ratio[inside], marker='o', markersize=3, **points)
    for marker, edge, beyond in (('^', limit, ln_ratio > limit), ('v', -limit, ln_ratio < -limit)):
        ax.plot(
            flux[beyond],
            np.full(beyond.sum(), 95 * edge),
            marker=marker,
            markersize=5,
            **points,
        )
    # The run of the median, where a bin of it has enough galaxies to be one.
    n_bins = min(8, len(flux) // 20)
    if n_bins > 1:
        groups = np.array_split(np.argsort(flux), n_bins)
        ax.plot(
            [np.median(flux[group]) for group in groups],
            [100 * np.median(ln_ratio[group]) for group in groups],
            color='black',
            linewidth=1.5,
        )
    ax.set_xscale('log')
    ax.set_ylim(-100 * limit, 100 * limit)
    ax.set_title(style['label'], fontsize=10)
    return ax


def plot_extreme_case(ax, case):
    """
    Show the cutout of an extreme case, its ignored pixels in colour.

    Parameters
    ----------
    ax : `matplotlib.axes.Axes`
        Where to draw.
    case : `~astroflux.evaluation.ExtremeCase`
        The case.

    Returns
    -------
    ax : `matplotlib.axes.Axes`
    """
    image = np.where(np.isfinite(case.image), case.image, 0)
    mask = np.asarray(case.mask, bool)
    noise = case.noise
    if not (np.isfinite(noise) and noise > 0):
        # Only the display hangs on it.
        noise = (mad_std(image) or np.abs(image).max(initial=0)) or 1.0
    plot_cutout(ax, image, noise)
    ax.images[0].set_interpolation('nearest')
    overlay = np.zeros((*mask.shape, 4))
    overlay[mask] = to_rgba(_MASK_COLOR, 0.5)
    ax.imshow(overlay, origin='lower', interpolation='nearest')
    return ax


def binned_figure(summary, parameter, styles, *, statistics=('bias', 'scatter'), bounds=None):
    """
    Figure of statistics against a parameter.

    Parameters
    ----------
    summary, parameter, styles
        As in `plot_binned_statistic`.
    statistics : sequence of str
        What to plot; ``scatter`` has a logarithmic axis.
    bounds : `~astropy.table.Table`, optional
        From `~astroflux.evaluation.summarise_bound`, to draw with the scatter.

    Returns
    -------
    figure : `matplotlib.figure.Figure`
    """
    figure = Figure(figsize=(4.6 * len(statistics), 3.9), layout='constrained')
    panels = figure.subplots(1, len(statistics), squeeze=False)[0]
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
    _add_legend(figure, styles, handles)
    return figure


def _largest(ax):
    """Values of the lines that the y axis has to show."""
    values = [
        np.asarray(line.get_ydata(), float)
        for line in ax.lines
        if len(line.get_xdata()) and line.get_transform() == ax.transData
    ]
    values = np.concatenate([*values, [0.0]])
    return np.abs(values[np.isfinite(values)])


def _use_log_y(ax):
    """Make the y axis logarithmic, with plain numbers, and over at least a factor of 5."""
    values = _largest(ax)
    values = values[values > 0]
    # an empty axis has no range that a logarithm could take
    if len(values):
        ax.set_yscale('log', nonpositive='mask')
        low, high = values.min() / 1.4, values.max() * 1.4
        widen = max(1, np.sqrt(5 * low / high))
        ax.set_ylim(low / widen, high * widen)
        use_plain_log_ticks(ax.yaxis)
    ax.yaxis.grid(visible=True, color='0.9', linewidth=0.6)
    ax.set_axisbelow(True)


def _use_wide_y(ax):
    """Make the y axis linear near zero and logarithmic beyond, if the values ask for that."""
    largest = _largest(ax).max()
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
    ax.yaxis.grid(visible=True, color='0.9', linewidth=0.6)
    ax.set_axisbelow(True)


def _add_legend(figure, styles, more=()):
    """Put one legend above all panels."""
    handles = [Line2D([], [], linestyle='none', **style) for style in styles.values()] + list(more)
    longest = max(len(handle.get_label()) for handle in handles)
    # what fits into the width, by the mean width of a letter
    n_columns = int(figure.get_figwidth() / (0.45 + 0.075 * longest))
    n_columns = max(1, min(len(handles), n_columns))
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


def calibration_figure(pulls, styles, *, summary=None, parameter=None):
    """
    Figure of the calibration of the errors.

    Parameters
    ----------
    pulls, styles
        As in `plot_calibration`.
    summary, parameter : optional
        As in `plot_binned_statistic`, for a second panel with the coverage in bins.

    Returns
    -------
    figure : `matplotlib.figure.Figure`
    """
    n_panels = 1 if summary is None else 2
    figure = Figure(figsize=(4.6 * n_panels, 4.6), layout='constrained')
    panels = figure.subplots(1, n_panels, squeeze=False)[0]
    plot_calibration(panels[0], pulls, styles)
    if summary is not None:
        ax = plot_binned_statistic(panels[1], summary, 'coverage_68', parameter, styles)
        ax.axhline(100 * _ONE_SIGMA, color='0.45', linewidth=2, zorder=1)
        ax.set_ylim(-3, 103)
    _add_legend(figure, styles, [Line2D([], [], color='0.45', linewidth=2, label='ideal')])
    return figure


def speed_figure(speed, styles):
    """
    Figure of the speed of methods.

    Parameters
    ----------
    speed, styles
        As in `plot_speed`.

    Returns
    -------
    figure : `matplotlib.figure.Figure`
    """
    figure = Figure(figsize=(7.5, 1.0 + 0.36 * len(styles)), layout='constrained')
    plot_speed(figure.subplots(), speed, styles)
    return figure


def differences_figure(flux, ln_ratios, styles, *, unit=''):
    """
    Figure of ln(flux / reference) of all methods against the reference flux.

    Parameters
    ----------
    flux : 1D `~numpy.ndarray`
        Reference flux.
    ln_ratios : dict of str to 1D `~numpy.ndarray`
        For each method.
    styles : dict of str to dict
        From `method_styles`.
    unit : str, optional
        Unit of the flux.

    Returns
    -------
    figure : `matplotlib.figure.Figure`
    """
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

    Parameters
    ----------
    case : `~astroflux.evaluation.ExtremeCase`
        The case.
    side : int, optional
        Most pixels of the figure along its longer side. Each pixel of the cutout becomes a
        square of whole pixels, unless there are too many of them.

    Returns
    -------
    figure : `matplotlib.figure.Figure`
    """
    shape = np.array(np.shape(case.image))
    scale = side / shape.max()
    height, width = shape * (np.floor(scale) if scale >= 1 else scale)
    figure = Figure(figsize=(width / 100, height / 100), dpi=100)
    ax = figure.add_axes([0, 0, 1, 1])
    plot_extreme_case(ax, case)
    ax.set_axis_off()
    return figure
