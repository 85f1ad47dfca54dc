# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What the keyword ``psf`` may be for all sources of an image, beyond what it is for a cutout."""

from pathlib import Path

import numpy as np
from astropy import units as u

from astroflux.cutouts import psf_from_stars
from astroflux.cutouts._catalog import as_table, identifiers_of, is_table, rows_of
from astroflux.cutouts.psf_field import as_psf_field

__all__ = ['is_stars', 'with_psf']

STARS = 'stars'


def is_stars(psf):
    """Return whether the PSF is to be built from the stars of the image."""
    return isinstance(psf, str) and psf == STARS


class _OfColumn(list):
    """What a column of the catalogue has for each source."""

    def __init__(self, values, name):
        super().__init__(values)
        self.description = f'column {name!r} of the catalogue'


def with_psf(image, catalogue, options):
    """
    Return the options of a measurement, with a PSF that is told for each source, or place.

    Parameters
    ----------
    image : object
        One image, as `~astroflux.estimators.FluxEstimator.measure_field` takes.
    catalogue : object
        Its sources.
    options : dict
        Those of `~astroflux.cutouts.iter_cutouts`. Their ``psf`` may also be ``'stars'``, or the
        name of a column of the catalogue.

    Returns
    -------
    options : dict
        With a ``psf``, or a ``psf_fwhm``, that `~astroflux.cutouts.iter_cutouts` takes.

    Raises
    ------
    TypeError, ValueError, OSError, `~astropy.units.UnitsError`
        If there is no such column or file, it holds no PSF, or there are too few stars.
    """
    psf = options.get('psf')
    if isinstance(psf, str):
        if is_stars(psf):
            about = {name: options.get(name) for name in ('error', 'mask', 'background')}
            return options | {'psf': psf_from_stars(image, **about)}
        if psf in (names := _columns_of(catalogue)):
            return options | _of_column(as_table(catalogue), psf, options)
        _check_is_file(psf, names)
    return options | {'psf': as_psf_field(psf, options.get('oversampling', 1))}


def _columns_of(catalogue):
    return as_table(catalogue).colnames if is_table(catalogue) else []


def _check_is_file(psf, names):
    if not Path(psf).is_file():
        columns = f'one of {names}' if names else 'and this catalogue has none'
        msg = (
            f"psf={psf!r} is no file, no column of the catalogue, and not '{STARS}': want the path "
            f"of a file of PSFEx, the name of a column ({columns}), '{STARS}', or an image"
        )
        raise ValueError(msg)


def _of_column(table, name, options):
    """Return the options that a column of widths or images is."""
    if options.get('psf_fwhm') is not None:
        msg = f'psf={name!r} is a column, and psf_fwhm is given: want one of both'
        raise ValueError(msg)
    values = table[name]
    if options.get('labels') is not None:
        values = values[rows_of(identifiers_of(table), options['labels'])]
    is_image = values.ndim == 3 or (values.dtype.kind == 'O' and values.ndim == 1)
    if is_image:
        images = getattr(values, 'value', values)
        return {'psf': _OfColumn((None if _is_masked(each) else each for each in images), name)}
    return {'psf': None, 'psf_fwhm': _OfColumn(_widths(values, name), name)}


def _is_masked(image):
    return image is np.ma.masked or image is None


def _widths(column, name):
    """Return widths as a column has them: in pixels, or as angles; `None` where unknown."""
    unit = getattr(column, 'unit', None) or u.dimensionless_unscaled
    values = np.ma.filled(np.ma.asarray(getattr(column, 'value', column)), np.nan)
    if column.ndim != 1 or values.dtype.kind not in 'iuf':
        msg = (
            f'the column {name!r} must hold the FWHM of the PSF, or 2-d images of it: got the '
            f'shape {column.shape} of {column.dtype}'
        )
        raise TypeError(msg)
    if unit not in (u.pix, u.dimensionless_unscaled) and not unit.is_equivalent(u.arcsec):
        msg = f'the column {name!r} must be in pixels or an angle, got the unit {str(unit)!r}'
        raise u.UnitsError(msg)
    values = values.astype(float)
    # catalogues have such numbers for what is unknown
    values[~(np.isfinite(values) & (values > 0))] = np.nan
    return values * unit if unit.is_equivalent(u.arcsec) else values
