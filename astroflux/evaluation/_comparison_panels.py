# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The panels of the figures of a comparison, and how each method looks in them.

The functions draw on given axes and return them.
"""

import numpy as np
from astropy.stats import mad_std
from matplotlib.colors import to_rgba
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter
from scipy.special import erf

from astroflux.evaluation.plots import plot_cutout, use_plain_log_ticks

__all__ = [
    'MIN_GALAXIES',
    'in_figure',
    'method_styles',
    'plot_binned_statistic',
    'plot_bound',
    'plot_calibration',
    'plot_differences',
    'plot_extreme_case',
    'plot_speed',
]

# Okabe & Ito's colours that are told apart without seeing red and green, but for the yellow,
# which is too light for points on white.
_COLORS = ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#000000')
_MARKERS = ('o', 's', '^', 'D', 'v', 'P', 'X', '<', '>', 'p', 'h', 'd')

_MASK_COLOR = '#d55e00'

# A bin or a curve with fewer galaxies tells more of the noise than of the method.
MIN_GALAXIES = 5

# Letters of a label in a figure; longer ones are shortened.
_LABEL_LENGTH = 24

# Of the y axes.
_TITLES = {
    'bias': 'bias of ln flux [%]',
    'scatter': 'scatter of ln flux [%]',
    'coverage_68': 'truth within the 68 % interval [%]',
}


def method_styles(labels):
    """
    Arguments of `matplotlib.axes.Axes.plot` for each method, the same in all figures.

    The labels are short, and nothing in them is read as mathematics. Colours return after seven
    methods, markers after twelve; the markers of the second round of colours are hollow.
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


def in_figure(rows, statistic):
    """Which rows of a summary a figure of a statistic shows."""
    n_measured = np.nan_to_num(np.asarray(rows['n'] * rows['completeness'], float))
    return (n_measured > MIN_GALAXIES - 0.5) & np.isfinite(np.asarray(rows[statistic], float))


def plot_binned_statistic(ax, summary, statistic, parameter, styles):
    """
    Plot a statistic of several methods, in percent, in bins of a parameter.

    The summary is that of `~astroflux.evaluation.summarize_comparison`, in bins with the edges of
    the parameter; those of fewer than 5 measured galaxies are left out. The methods stand side by
    side within a bin.
    """
    places = {
        (low, high): _offsets(low, high, len(styles), parameter.is_log)
        for low, high in zip(parameter.edges[:-1], parameter.edges[1:], strict=True)
    }
    for i, (method, style) in enumerate(styles.items()):
        rows = summary[summary['method'] == method]
        rows = rows[in_figure(rows, statistic)]
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
    """Draw the scatter that is possible, in percent, in the bins of `summarize_bound`."""
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
    Plot how often the truth lies within so many errors of the flux against how often it should.

    The pulls are (measured - true) / error of each method, NaN where not known. A method with
    fewer than 5 of them is left out.
    """
    nominal = np.linspace(0.02, 0.98, 49)
    ax.plot([0, 100], [0, 100], color='0.45', linewidth=2, zorder=1)
    for i, (method, style) in enumerate(styles.items()):
        pull = np.asarray(pulls.get(method, ()), float)
        pull = np.abs(pull[np.isfinite(pull)])
        if len(pull) < MIN_GALAXIES:
            continue
        # an interval of at least this coverage holds the truth
        needed = np.sort(erf(pull / np.sqrt(2)))
        actual = np.searchsorted(needed, nominal) / len(pull)
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
    """Plot the rates of `summarize_speed` as bars, the fastest on top; NaN is left out."""
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
    Plot ln(flux / reference) of one method, NaN where not known, against the reference flux.

    What is beyond ``limit``, of the absolute value, is drawn as a triangle on the edge.
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
    """Show the cutout of an `ExtremeCase`, its ignored pixels in colour."""
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
