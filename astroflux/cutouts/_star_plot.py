# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""A picture of the stars that a PSF was built from."""

import math
from pathlib import Path

import numpy as np
from astropy.visualization import AsinhStretch, ImageNormalize

from astroflux.cutouts._star_finding import MORE, STAR

__all__ = ['plot_star_psf']

# Stars that are shown, the brightest first.
_SHOWN = 25
# Where the display of a star or PSF becomes logarithmic, over its peak.
_KNEE = 0.005


def plot_star_psf(star_psf, where=None):
    """
    Draw what a PSF was built from: `~astroflux.cutouts.StarPSF.plot`.

    Parameters
    ----------
    star_psf : `~astroflux.cutouts.StarPSF`
        The PSF.
    where : str, `~pathlib.Path` or three `~matplotlib.axes.Axes`, optional
        A file to write, or what to draw on.

    Returns
    -------
    figure : `~matplotlib.figure.Figure`

    Raises
    ------
    ValueError
        If there are not three axes.
    """
    from matplotlib.figure import Figure

    is_file = where is None or isinstance(where, str | Path)
    if is_file:
        axes = Figure(figsize=(13, 4.4), layout='constrained').subplots(1, 3)
    else:
        axes = np.ravel(where)
    if len(axes) != 3:
        msg = f'a picture of stars needs three axes, got {len(axes)}'
        raise ValueError(msg)
    _plot_sizes(axes[0], star_psf)
    _plot_stars(axes[1], star_psf)
    _plot_psf(axes[2], star_psf)
    figure = axes[0].figure
    if where is not None and is_file:
        figure.savefig(where, dpi=100)
    return figure


def _plot_sizes(ax, star_psf):
    sources = star_psf.sources
    magnitude = -2.5 * np.log10(np.maximum(np.asarray(sources['flux']), np.finfo(float).tiny))
    size, status = sources['half_light_radius'].value, np.asarray(sources['status'])
    is_named = np.isin(status, (STAR, MORE, 'saturated'))
    for label, some, marker, color in (
        ('other sources', ~is_named, '.', '0.6'),
        ('stars not needed', status == MORE, '.', 'tab:blue'),
        ('saturated', status == 'saturated', 'x', 'tab:red'),
        ('stars used', status == STAR, 'o', 'tab:orange'),
    ):
        if some.any():
            label = f'{label}: {some.sum()}'
            ax.plot(magnitude[some], size[some], marker, color=color, markersize=5, label=label)
    ax.set(xlabel='-2.5 log10(flux)', ylabel='half-light radius (pixels)', ylim=(0, None))
    ax.legend(fontsize=8, loc='lower left')
    ax.set_title('bright sources', fontsize=10)


def _plot_stars(ax, star_psf):
    stamps = star_psf.stamps[:_SHOWN]
    n_columns = math.ceil(math.sqrt(len(stamps)))
    n_rows = math.ceil(len(stamps) / n_columns)
    n = stamps.shape[-1]
    shown = np.zeros((n_rows * (n + 1) - 1, n_columns * (n + 1) - 1))
    for number, stamp in enumerate(stamps):
        row, column = divmod(number, n_columns)
        # the first is at the top
        y, x = (n_rows - 1 - row) * (n + 1), column * (n + 1)
        shown[y : y + n, x : x + n] = stamp / stamp.max()
    _show(ax, shown)
    which = 'all' if len(stamps) == len(star_psf.stars) else 'the brightest'
    ax.set_title(f'{len(stamps)} stars, {which} of {len(star_psf.stars)}', fontsize=10)


def _plot_psf(ax, star_psf):
    psf = star_psf.psf
    _show(ax, psf / psf.max())
    ax.contour(psf / psf.max(), levels=[0.5], colors='tab:orange', linewidths=1)
    ax.set_title(
        f'the PSF: FWHM {star_psf.fwhm:.2f} pixels, {psf.shape[1]} x {psf.shape[0]} pixels',
        fontsize=10,
    )


def _show(ax, image):
    norm = ImageNormalize(vmin=-_KNEE, vmax=1, stretch=AsinhStretch(_KNEE), clip=True)
    ax.imshow(image, origin='lower', cmap='gray_r', norm=norm, interpolation='nearest')
    ax.set_xticks([])
    ax.set_yticks([])
