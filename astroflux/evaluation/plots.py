# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Figures: each function draws on given axes and returns them."""

import numpy as np
from astropy.visualization import AsinhStretch, ImageNormalize
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

__all__ = ['plot_cutout', 'plot_flux_ratio', 'plot_weight_map', 'use_plain_log_ticks']


def plot_cutout(ax, image, noise, *, title=None):
    """
    Show a cutout, the galaxy dark on a bright sky.

    Parameters
    ----------
    ax : `matplotlib.axes.Axes`
        Where to draw.
    image : 2D `~numpy.ndarray`
        Pixel values.
    noise : float
        Noise per pixel; the display runs from -2 of it to the peak.
    title : str, optional
        Title of the panel.

    Returns
    -------
    ax : `matplotlib.axes.Axes`
    """
    peak = max(float(np.nanmax(image)), 10 * noise)
    norm = ImageNormalize(
        vmin=-2 * noise, vmax=peak, stretch=AsinhStretch(min(0.5, 3 * noise / peak)), clip=True
    )
    ax.imshow(image, origin='lower', cmap='gray_r', norm=norm)
    ax.set_xticks([])
    ax.set_yticks([])
    if title is not None:
        ax.set_title(title, fontsize=9)
    return ax


def plot_weight_map(ax, weight, *, title=None):
    """
    Show how much each pixel counts, as `~astroflux.CNNFluxEstimator.weight_map` gives it.

    Parameters
    ----------
    ax : `matplotlib.axes.Axes`
        Where to draw.
    weight : 2D `~numpy.ndarray`
        Derivative of the flux with respect to each pixel.
    title : str, optional
        Title of the panel.

    Returns
    -------
    ax : `matplotlib.axes.Axes`
    """
    largest = float(np.percentile(np.abs(weight), 99.9)) or 1.0
    shown = ax.imshow(weight, origin='lower', cmap='RdBu_r', vmin=-largest, vmax=largest)
    ax.figure.colorbar(shown, ax=ax, label='weight of a pixel', fraction=0.046, pad=0.03)
    ax.set_xticks([])
    ax.set_yticks([])
    if title is not None:
        ax.set_title(title, fontsize=9)
    return ax


def use_plain_log_ticks(axis):
    """Label a logarithmic axis, whose limits are set, with plain numbers."""
    low, high = axis.get_view_interval()
    # Over more than two decades, more ticks would run into each other.
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,)))
    axis.set_major_formatter(StrMethodFormatter('{x:g}'))
    axis.set_minor_formatter(NullFormatter())


def _label_snr(ax):
    """Make the x axis one of signal-to-noise ratio, in plain numbers."""
    ax.set_xscale('log')
    use_plain_log_ticks(ax.xaxis)
    ax.set_xlabel('true S/N')


def plot_flux_ratio(ax, snr, ratio, ratio_err=None, *, label, color, marker='o'):
    """
    Plot measured over true flux against signal-to-noise ratio.

    Parameters
    ----------
    ax : `matplotlib.axes.Axes`
        Where to draw.
    snr : 1D `~numpy.ndarray`
        True signal-to-noise ratio.
    ratio, ratio_err : 1D `~numpy.ndarray`
        Measured over true flux, and its error.
    label, color, marker : str
        How to draw it.

    Returns
    -------
    ax : `matplotlib.axes.Axes`
    """
    ax.axhline(1, color='0.6', linewidth=0.8, zorder=0)
    ax.errorbar(snr, ratio, yerr=ratio_err, fmt=marker, color=color, label=label, capsize=2)
    _label_snr(ax)
    ax.set_ylabel('measured / true flux')
    return ax
