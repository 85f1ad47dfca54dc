# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The PSF of a part of an image, where that of the image is told by the position in it."""

from pathlib import Path

from astroflux.cutouts import read_cutout
from astroflux.cutouts.psf_field import PSFField, as_psf_field

__all__ = ['psf_of_part']

STARS = 'stars'


class _OfPart(PSFField):
    """
    The PSF of an image, by the position in a part of it.

    Parameters
    ----------
    whole : `~astroflux.cutouts.psf_field.PSFField`
        That of the image.
    origin : tuple of int
        Where in it the part begins, ``(x, y)``.
    """

    def __init__(self, whole, origin):
        super().__init__(whole.description)
        self._whole, self._origin = whole, origin

    def _psf_at(self, x, y):
        return self._whole._psf_at(x + self._origin[0], y + self._origin[1])


def psf_of_part(psf, origin, columns):
    """
    Return what ``psf`` is for a part of an image.

    Parameters
    ----------
    psf : object
        What `~astroflux.estimators.FluxEstimator.measure_field` takes, or the path of a FITS image.
    origin : tuple of int
        Where in the image the part begins, ``(x, y)``.
    columns : list of str
        Names of the columns of the catalogue, which go before files.

    Returns
    -------
    psf : object
        What `~astroflux.estimators.FluxEstimator.measure_field` takes.
    """
    if isinstance(psf, str | Path):
        if str(psf) == STARS or str(psf) in columns:
            return psf
        if Path(psf).suffix != '.psf':
            return read_cutout(psf).data
    psf = as_psf_field(psf)
    return _OfPart(psf, origin) if isinstance(psf, PSFField) and any(origin) else psf
