# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""One galaxy stamp as plain arrays, the form in which every estimator gets it."""

import math

import numpy as np
from astropy import units as u

__all__ = ['Cutout']


class Cutout:
    """
    One galaxy stamp as plain arrays, ready to measure.

    Parameters
    ----------
    data : `~numpy.ndarray` or None
        Flux per pixel, shape ``(ny, nx)``, float64, native byte order. Ignored pixels are 0.
        `None` if the cutout failed.
    noise : `~numpy.ndarray`, float or None
        Noise (1 sigma) of ``data``, positive: a map of the same shape, in which ignored pixels
        hold the median noise, or one number for all pixels.
    mask : `~numpy.ndarray` or None
        Bool, same shape; `True` where a pixel is to be ignored. `None` if none is.
    position : tuple of float
        The galaxy's ``(x, y)`` in 0-based pixels.
    psf : `~numpy.ndarray`, optional
        PSF image of sum 1 (read-only).
    psf_fwhm : float
        Full width at half maximum of the PSF in pixels; NaN if unknown.
    pixel_scale : float
        Pixel scale in arcsec per pixel; NaN if unknown.
    unit : `~astropy.units.UnitBase`
        Flux unit of ``data`` and ``noise``.
    label : str, optional
        Name of the cutout for tables and messages.
    flags : int
        Bits of `~astroflux.flags.MeasurementFlag`.
    message : str
        Why the cutout cannot be measured; empty if it can.
    noise_correlation : object, optional
        How the noise is correlated between pixels, as `~astroflux.cutouts.iter_cutouts` makes it
        of its keyword; `None` for white noise.
    origin : tuple of int, optional
        The pixel ``(x0, y0)`` of the user's image that is the first one of the stamp: ``position``
        plus this is the position in the image.
    identifier : int or str, optional
        What the column ``id`` shows; `None` for the running number.
    catalog_column : str, optional
        Name that the user's catalogue has for the identifier, if it is not ``id``.
    wcs : object, optional
        WCS of the stamp, of any kind that astropy knows, or of a larger image.
    wcs_origin : tuple of int, optional
        The pixel ``(x0, y0)`` of the WCS that is the first one of the stamp.
    zeropoint : float
        AB magnitude of a source of 1 ``unit``; NaN if unknown, or if the unit says it.
    noise_ratio : float
        Scatter of the pixels at the edge over their stated noise; NaN if none was stated.
    sky_err : float
        Error of the sky that was subtracted, per pixel; 0 if it is not known.
    neighbors : `~numpy.ndarray`, optional
        Profiles of sources of the image that were subtracted, ``(k, 7)``, as the network fits them.

    Attributes
    ----------
    sigma : `~numpy.ndarray`, float or None
        The noise as it was given: a number if all pixels have the same.
    ignored : `~numpy.ndarray` or None
        The mask as it was given: `None` if no pixel is ignored.
    """

    __slots__ = (
        '_mask',
        '_noise',
        'catalog_column',
        'data',
        'flags',
        'identifier',
        'ignored',
        'label',
        'message',
        'neighbors',
        'noise_correlation',
        'noise_ratio',
        'origin',
        'pixel_scale',
        'position',
        'psf',
        'psf_fwhm',
        'sigma',
        'sky_err',
        'unit',
        'wcs',
        'wcs_origin',
        'zeropoint',
    )

    def __init__(
        self,
        data,
        noise,
        mask,
        position,
        psf=None,
        psf_fwhm=math.nan,
        pixel_scale=math.nan,
        unit=u.dimensionless_unscaled,
        label=None,
        flags=0,
        message='',
        noise_correlation=None,
        origin=(0, 0),
        identifier=None,
        catalog_column=None,
        wcs=None,
        zeropoint=math.nan,
        wcs_origin=(0, 0),
        noise_ratio=math.nan,
        sky_err=0.0,
        neighbors=None,
    ):
        self.data, self.ignored = data, mask
        is_number = noise is not None and np.ndim(noise) == 0
        self.sigma = float(noise) if is_number else noise
        self.position = position
        self.psf, self.psf_fwhm = psf, psf_fwhm
        self.pixel_scale, self.unit = pixel_scale, unit
        self.label, self.flags, self.message = label, flags, message
        self.noise_correlation = noise_correlation
        self.origin, self.identifier, self.catalog_column = origin, identifier, catalog_column
        self.wcs, self.wcs_origin, self.zeropoint = wcs, wcs_origin, zeropoint
        self.noise_ratio, self.sky_err = noise_ratio, sky_err
        self.neighbors = neighbors
        self._noise = self._mask = None

    @classmethod
    def failed(cls, flag, message, *, label=None, unit=u.dimensionless_unscaled, **place):
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
        **place
            ``position``, ``origin``, ``identifier``, ``catalog_column``, ``wcs`` and
            ``wcs_origin``, as far as they are known.

        Returns
        -------
        cutout : `Cutout`
        """
        place.setdefault('position', (math.nan, math.nan))
        return cls(
            None, None, None, unit=unit, label=label, flags=int(flag), message=message, **place
        )

    @property
    def is_failed(self):
        """Whether there is nothing to measure."""
        return self.data is None

    @property
    def shape(self):
        """Shape ``(ny, nx)`` of the stamp, or `None` if it failed."""
        return None if self.data is None else self.data.shape

    @property
    def noise(self):
        """Noise (1 sigma) of each pixel, an array; `None` if the cutout failed."""
        if self._noise is None and self.data is not None:
            is_number = isinstance(self.sigma, float)
            self._noise = np.full(self.data.shape, self.sigma) if is_number else self.sigma
        return self._noise

    @property
    def mask(self):
        """Whether each pixel is ignored, a bool array; `None` if the cutout failed."""
        if self._mask is None and self.data is not None:
            no_mask = self.ignored is None
            self._mask = np.zeros(self.data.shape, dtype=bool) if no_mask else self.ignored
        return self._mask

    @property
    def noise_growth(self):
        """Scatter of sums over 7 x 7 pixels over that of white noise: 1 if the noise is that."""
        return 1.0 if self.noise_correlation is None else self.noise_correlation.growth

    def sum_growth(self, weights):
        """
        Return by how much the error of a sum of pixels exceeds that in white noise.

        Parameters
        ----------
        weights : `~numpy.ndarray`
            Weight of each pixel in the sum, of the shape of the stamp.

        Returns
        -------
        growth : float
            To multiply ``sqrt(sum((weights * noise)**2))`` by; 1 for white noise.
        """
        if self.noise_correlation is None:
            return 1.0
        return self.noise_correlation.sum_growth(weights * self.noise)

    def in_noise_units(self):
        """
        Return the cutout in units of its median noise.

        Returns
        -------
        data, noise : `~numpy.ndarray`
            Over ``reference``.
        reference : float
            The median noise.
        """
        is_number = isinstance(self.sigma, float)
        reference = self.sigma if is_number else float(np.median(self.sigma))
        return self.data / reference, self.noise / reference, reference
