# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The figures on the page of a survey."""

import numpy as np
from astropy.stats import mad_std
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from astroflux.evaluation.plots import plot_cutout, use_plain_log_ticks

__all__ = [
    'distributions_figure',
    'flags_figure',
    'residual_figure',
    'sky_figure',
    'throughput_figure',
]

ALL, GOOD, FATAL = '#56b4e9', '#0072b2', '#d55e00'
# Of pixels that are not used.
UNUSED = '#f0c8a0'

# The residual is shown from so many times the noise below 0 to as many above.
RESIDUAL_RANGE = 5.0


def flags_figure(flags, fatal, n):
    """Figure of the share of ``n`` rows that have each flag; those in ``fatal`` have no flux."""
    figure = Figure(figsize=(7.5, 1.0 + 0.27 * len(flags)), layout='constrained')
    ax = figure.subplots()
    names = sorted(flags, key=flags.get, reverse=True)
    shares = [100 * flags[name] / n for name in names]
    for label, color, is_fatal in (('with a flux', GOOD, False), ('without a flux', FATAL, True)):
        rows = [row for row, name in enumerate(names) if (name in fatal) == is_fatal]
        if rows:
            ax.barh(rows, [shares[row] for row in rows], 0.7, color=color, label=label)
    for row, share in enumerate(shares):
        ax.annotate(
            f'{share:.2g}' if share < 10 else f'{share:.0f}',
            (share, row),
            xytext=(4, 0),
            textcoords='offset points',
            verticalalignment='center',
            fontsize=9,
        )
    ax.set_yticks(range(len(names)), names, fontsize=9)
    ax.invert_yaxis()
    ax.set_xlim(0, 1.1 * max(shares))
    ax.set_xlabel('sources with the flag [%]')
    ax.legend(loc='lower right', fontsize=9)
    return figure


def distributions_figure(tally):
    """Figure of the distributions of brightness and S/N."""
    figure = Figure(figsize=(9.2, 3.6), layout='constrained')
    left, right = figure.subplots(1, 2)
    edges, every, good = tally.brightness.bins
    _draw_counts(left, edges if tally.is_mag else 10**edges, every, good)
    if tally.is_mag:
        left.set_xlabel('AB magnitude')
    else:
        left.set_xscale('log')
        left.set_xlabel(f'flux [{tally.unit}]' if tally.unit else 'flux')
    edges, every, good = tally.snr.bins
    _draw_counts(right, 10**edges, every, good)
    right.set_xscale('log')
    use_plain_log_ticks(right.xaxis)
    right.set_xlabel('S/N (flux / error)')
    figure.legend(
        *left.get_legend_handles_labels(), loc='outside upper center', ncols=2, frameon=False
    )
    return figure


def _draw_counts(ax, edges, every, good):
    ax.stairs(every, edges, fill=True, color=ALL, label='with a flux')
    ax.stairs(good, edges, fill=True, color=GOOD, label='without any flag')
    ax.set_ylabel('sources per bin')
    ax.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    if len(edges) > 1:
        ax.set_xlim(edges[0], edges[-1])


def sky_figure(sky):
    """Figure of the number density of sources in the sky."""
    shrinks = max(np.cos(np.radians(sky.dec.mean())), 0.01)
    width, height = np.ptp(sky.ra) * shrinks, np.ptp(sky.dec)
    across, up = (7.0, 7.0 * height / width) if width > height else (6.0 * width / height, 6.0)
    size = max(across, 2.0) + 1.6, max(up, 2.0) + 0.8
    figure = Figure(figsize=size, layout='constrained')
    ax = figure.subplots()
    density = np.ma.masked_equal(sky.density, 0)
    highest = np.percentile(density.compressed(), 99.5) if density.count() else 1
    shown = ax.pcolormesh(sky.ra, sky.dec, density, cmap='viridis', vmin=0, vmax=highest)
    bar = ax.inset_axes([1.02, 0, 0.035, 1])
    figure.colorbar(shown, cax=bar, label='sources per arcmin$^2$', extend='max')
    ax.set_aspect(1 / shrinks)
    ax.invert_xaxis()
    ax.set_xlabel('right ascension [deg]')
    ax.set_ylabel('declination [deg]')
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(5))
    ax.xaxis.set_major_formatter(lambda value, _: f'{value % 360:.8g}')
    ax.yaxis.set_major_formatter(lambda value, _: f'{value:.8g}')
    return figure


def throughput_figure(n_sources, seconds):
    """Figure of the time that images took against the number of their sources."""
    figure = Figure(figsize=(6.2, 3.6), layout='constrained')
    ax = figure.subplots()
    few = len(n_sources) < 300
    ax.plot(n_sources, seconds, 'o', color=GOOD, markersize=5 if few else 2.5, alpha=0.7)
    ax.set_xlim(0, 1.08 * max(n_sources))
    ax.set_ylim(0, 1.12 * max(seconds))
    ax.set_xlabel('sources of an image')
    ax.set_ylabel('time [s]')
    ax.grid(color='0.9', linewidth=0.6)
    ax.set_axisbelow(True)
    return figure


def residual_figure(stamp):
    """Figure of image, model and residual about a source, a row of the table of stamps."""
    residual = np.asarray(stamp['residual'])
    noise = float(stamp['noise'])
    if not (np.isfinite(noise) and noise > 0):
        # only the display hangs on it
        noise = float(mad_std(residual, ignore_nan=True)) or 1.0
    figure = Figure(figsize=(5.1, 1.9))
    panels = figure.subplots(1, 3)
    figure.subplots_adjust(left=0.005, right=0.995, bottom=0.01, top=0.88, wspace=0.03)
    images = {name: np.asarray(stamp[name]) for name in ('image', 'model')}
    for ax, (name, image) in zip(panels, images.items(), strict=False):
        plot_cutout(ax, np.nan_to_num(image), noise, title=name)
    # the same scale for both
    panels[1].images[0].set_norm(panels[0].images[0].norm)
    limit = RESIDUAL_RANGE * noise
    panels[2].imshow(residual, origin='lower', cmap='RdBu_r', vmin=-limit, vmax=limit)
    panels[2].set_title('residual', fontsize=9)
    for ax, unused in zip(panels, map(np.isnan, (*images.values(), residual)), strict=True):
        ax.images[0].set_interpolation('nearest')
        overlay = np.zeros((*unused.shape, 4))
        overlay[unused] = to_rgba(UNUSED)
        ax.imshow(overlay, origin='lower', interpolation='nearest')
        ax.set_xticks([])
        ax.set_yticks([])
    return figure
