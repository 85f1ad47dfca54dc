# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Where the model of an image fits worst: stamps of image, model and residual."""

from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.table import QTable, vstack

from astroflux._work import write_whole

__all__ = ['STAMPS', 'worst_residuals', 'write_residuals']

# Folder beside the tables of a survey, with a file of stamps for each image.
STAMPS = 'stamps'

# The residual is judged within so many FWHM of the PSF, or within the half-light radius.
RADIUS_IN_FWHM = 2.0
# In place of the FWHM, where it is unknown, in pixels.
USUAL_FWHM = 4.0

# A stamp has so many pixels on each side of the one in its middle, and is judged no farther out.
HALF_SIDE = 40

_COPIED = ('id', 'x', 'y', 'ra', 'dec', 'flux', 'flux_err', 'snr', 'flags')


def worst_residuals(field, table, n=3, *, among=None):
    """
    Return the sources whose surroundings the model of an image fits worst.

    They are ranked by chi2: the mean of (residual / noise)2 over the pixels within 2 FWHM of the
    PSF or the half-light radius, whichever is larger. A source within that radius of a worse one
    is left out, as it shows the same pixels.

    Parameters
    ----------
    field : `~astroflux.estimators.FieldMeasurement`
        After ``run``.
    table : `~astropy.table.Table`
        What ``run`` has returned; other columns may have been added.
    n : int, optional
        How many sources at most.
    among : array_like of bool or int, optional
        Which rows may be chosen; by default all.

    Returns
    -------
    stamps : `~astropy.table.QTable`
        A row per source, the worst first. The columns ``image``, ``model`` and ``residual`` are
        stamps of 81 by 81 pixels about the sources, NaN where there are no pixels; ``noise`` is
        that of a pixel; ``chi2`` and its ``radius`` in pixels are as above. Those of several
        fields can be stacked.
    """
    x, y = (np.asarray(getattr(table[name], 'value', table[name]), float) for name in 'xy')
    radius = _radii(field, table)
    residual, weight = field.residual, field.weight
    chi2 = _chi2_near(x, y, radius, residual, weight)
    if among is not None:
        others = np.ones(len(chi2), bool)
        others[among] = False
        chi2[others] = np.nan
    rows = _apart(chi2, x, y, radius, n)
    stamps = QTable({name: table[name][rows] for name in _COPIED if name in table.colnames})
    stamps['chi2'], stamps['radius'] = chi2[rows], radius[rows] * u.pix
    places = [(round(y[row]), round(x[row])) for row in rows]
    cut = {
        name: _stamps(image, places)
        for name, image in (('model', field.model), ('residual', residual), ('weight', weight))
    }
    used = cut['weight'] > 0
    stamps['noise'] = [_noise_of(*each) for each in zip(cut['weight'], used, strict=True)]
    stamps['image'] = np.where(used, cut['model'] + cut['residual'], np.float32(np.nan))
    stamps['model'] = cut['model']
    stamps['residual'] = np.where(used, cut['residual'], np.float32(np.nan))
    stamps.meta['unit'] = str(getattr(table['flux'], 'unit', None) or '')
    return stamps


def write_residuals(stamps, path, n=3):
    """
    Write the worst of what `worst_residuals` has returned to a FITS file, as its first table.

    Parameters
    ----------
    stamps : list of `~astropy.table.QTable`
        Stamps of one field or several.
    path : str or `~pathlib.Path`
        The file, which is whole or not there. One that is there is replaced.
    n : int, optional
        How many sources at most.
    """
    stamps = vstack(stamps, join_type='exact', metadata_conflicts='silent')
    worst = np.argsort(-stamps['chi2'], kind='stable')[:n]
    with write_whole(Path(path)) as part:
        stamps[worst].write(part, format='fits')


def _radii(field, table):
    """Return the radius in pixels within which the residual of each source is judged."""
    radius = RADIUS_IN_FWHM * np.nan_to_num(field.fwhm, nan=USUAL_FWHM)
    if 'half_light_radius' not in table.colnames:
        return radius
    half_light = u.Quantity(table['half_light_radius'])
    if half_light.unit.is_equivalent(u.arcsec):
        half_light = half_light.to(u.arcsec) / field.pixel_scale
    return np.clip(np.fmax(radius, half_light.value), None, HALF_SIDE)


def _chi2_near(x, y, radius, residual, weight):
    """Return the mean chi2 of the pixels that are used about each position; NaN if none is."""
    means = np.full(len(x), np.nan)
    for row in np.flatnonzero(np.isfinite(x) & np.isfinite(y)):
        first_x, first_y = (max(int(np.ceil(at[row] - radius[row])), 0) for at in (x, y))
        end_x, end_y = (max(int(at[row] + radius[row]) + 1, 0) for at in (x, y))
        window = np.s_[first_y:end_y, first_x:end_x]
        near, weight_near = residual[window], weight[window]
        rows, columns = np.ogrid[: near.shape[0], : near.shape[1]]
        r2 = (rows + first_y - y[row]) ** 2 + (columns + first_x - x[row]) ** 2
        inside = (r2 <= radius[row] ** 2) & (weight_near > 0)
        if inside.any():
            means[row] = np.mean(near[inside] ** 2 * weight_near[inside], dtype=float)
    return means


def _apart(chi2, x, y, radius, n):
    """Return the rows with the largest values that are not within the radius of a larger one."""
    chosen = []
    for row in np.argsort(-np.nan_to_num(chi2, nan=-1), kind='stable'):
        if len(chosen) == n or not np.isfinite(chi2[row]):
            break
        if all(np.hypot(x[row] - x[i], y[row] - y[i]) > radius[i] for i in chosen):
            chosen.append(row)
    return np.array(chosen, int)


def _stamps(image, places):
    """Return stamps about pixels, NaN beyond the image."""
    steps = np.arange(-HALF_SIDE, HALF_SIDE + 1)
    stamps = np.full((len(places), len(steps), len(steps)), np.nan, np.float32)
    for stamp, (y, x) in zip(stamps, places, strict=True):
        rows, columns = y + steps, x + steps
        in_y, in_x = (
            (pixels >= 0) & (pixels < length)
            for pixels, length in zip((rows, columns), image.shape, strict=True)
        )
        stamp[np.ix_(in_y, in_x)] = image[np.ix_(rows[in_y], columns[in_x])]
    return stamps


def _noise_of(weight, used):
    return 1 / np.sqrt(np.median(weight[used])) if used.any() else np.nan
