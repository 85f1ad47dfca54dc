# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""One galaxy stamp as plain arrays, the form in which every estimator gets it."""

import math
from dataclasses import dataclass

import numpy as np
from astropy import units as u

__all__ = ['Cutout']


@dataclass(slots=True, eq=False)
class Cutout:
    """
    One galaxy stamp as plain arrays, ready to measure.

    Attributes
    ----------
    data : `~numpy.ndarray` or None
        Flux per pixel, shape ``(ny, nx)``, float64, native byte order, a copy
        of the input. Ignored pixels are 0. `None` if the cutout failed.
    noise : `~numpy.ndarray` or None
        Noise (1 sigma) of ``data``, same shape, positive everywhere. Ignored
        pixels hold the median noise.
    mask : `~numpy.ndarray` or None
        Bool, same shape; `True` where a pixel is to be ignored.
    position : tuple of float
        The galaxy's ``(x, y)`` in 0-based pixels.
    psf : `~numpy.ndarray` or None
        PSF image of sum 1 (read-only), or `None` if there is none.
    psf_fwhm : float
        Full width at half maximum of the PSF in pixels; NaN if unknown.
    pixel_scale : float
        Pixel scale in arcsec per pixel; NaN if unknown.
    unit : `~astropy.units.UnitBase`
        Flux unit of ``data`` and ``noise``.
    label : str or None
        Name of the cutout for tables and messages.
    flags : int
        Bits of `~astroflux.flags.MeasurementFlag`.
    message : str
        Why the cutout cannot be measured; empty if it can.
    """

    data: np.ndarray | None
    noise: np.ndarray | None
    mask: np.ndarray | None
    position: tuple[float, float]
    psf: np.ndarray | None = None
    psf_fwhm: float = math.nan
    pixel_scale: float = math.nan
    unit: u.UnitBase = u.dimensionless_unscaled
    label: str | None = None
    flags: int = 0
    message: str = ''

    @classmethod
    def failed(cls, flag, message, *, label=None, unit=u.dimensionless_unscaled):
        """
        Return the place-holder of a cutout that cannot be measured.

        Parameters
        ----------
        flag : int
            The fatal bit of `~astroflux.flags.MeasurementFlag`.
        message : str
            What is wrong, in words.
        label : str, optional
            Name of the cutout.
        unit : `~astropy.units.UnitBase`, optional
            Flux unit of the batch.

        Returns
        -------
        cutout : `Cutout`
        """
        return cls(
            data=None,
            noise=None,
            mask=None,
            position=(math.nan, math.nan),
            unit=unit,
            label=label,
            flags=int(flag),
            message=message,
        )

    @property
    def is_failed(self):
        """Whether there is nothing to measure."""
        return self.data is None

    @property
    def shape(self):
        """Shape ``(ny, nx)`` of the stamp, or `None` if it failed."""
        return None if self.data is None else self.data.shape
