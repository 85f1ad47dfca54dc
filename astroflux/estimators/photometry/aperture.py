# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Flux in a fixed circular aperture."""

import numpy as np
from astropy import units as u
from astropy.stats import sigma_clipped_stats
from photutils.aperture import CircularAnnulus, CircularAperture

from astroflux.estimators._checks import one_of
from astroflux.estimators._docs import share_docs
from astroflux.estimators.photometry._errors import error_growth
from astroflux.estimators.photometry.base import MeasurementError, PhotometricFluxEstimator
from astroflux.flags import MeasurementFlag

__all__ = ['ApertureFluxEstimator']


@share_docs
class ApertureFluxEstimator(PhotometricFluxEstimator):
    """
    Flux in a circular aperture of fixed radius, by photutils.

    The sum of the pixels in the circle, weighted by their exact overlap with it. Masked pixels
    count nothing. What lies outside the aperture is
    missed unless `fit` has learned a correction.

    Parameters
    ----------
    radius : float or `~astropy.units.Quantity`, optional
        Radius of the aperture, in pixels or as an angle (which needs cutouts with a WCS). The
        default of 15 pixels (2.5 arcsec in images of Hyper Suprime-Cam) is a compromise: it
        holds most of the light of faint galaxies without too much of the noise.

    background : {'none', 'annulus'}, optional
        Whether to subtract a local background, the clipped median of the pixels in an annulus.
        By default none, as cutouts of surveys are sky-subtracted.

    annulus : tuple of two float or `~astropy.units.Quantity`, optional
        Inner and outer radius of that annulus, like ``radius``.

    Attributes
    ----------
    {aperture_correction}

    Examples
    --------
    {gaussian}
    >>> from astroflux import ApertureFluxEstimator
    >>> ApertureFluxEstimator(radius=12).predict(ccd).round(1)
    <Quantity 499.8 adu>
    """

    _flags_set = {
        **PhotometricFluxEstimator._flags_set,
        'NO_PIXELS': 'no good pixel is in the aperture',
        'OUT_OF_RANGE': 'a part of the aperture is outside the cutout',
    }
    _checks = {'background': one_of('none', 'annulus')}

    def __init__(self, *, radius=15.0, background='none', annulus=(30.0, 40.0)):
        self.radius = radius
        self.background = background
        self.annulus = annulus

    def _check_params(self):
        super()._check_params()
        _check_length('radius', self.radius)
        if self.background == 'annulus':
            if len(self.annulus) != 2:
                msg = f'annulus must be an inner and an outer radius, got {self.annulus!r}'
                raise ValueError(msg)
            for length in self.annulus:
                _check_length('annulus', length)
            inner, outer = (u.Quantity(length) for length in self.annulus)
            if inner.unit.is_equivalent(outer.unit) and not inner < outer:
                msg = f'the outer radius must exceed the inner one in annulus, got {self.annulus}'
                raise ValueError(msg)

    def _measure_one(self, cutout):
        radius = _to_pixels(self.radius, cutout)
        aperture = CircularAperture(cutout.position, r=radius)
        # the weights of the pixels that are on the stamp and not masked
        area = float(aperture.area_overlap(cutout.data, mask=cutout.mask, method='exact'))
        if not area > 0:
            msg = f'no good pixel within {radius:.4g} pixels of the position {cutout.position}'
            raise MeasurementError(MeasurementFlag.NO_PIXELS, msg)
        flux, flux_err = (
            float(values[0])
            for values in aperture.do_photometry(
                cutout.data, error=cutout.noise, mask=cutout.mask, method='exact'
            )
        )
        flux_err *= error_growth(cutout, aperture, unused=cutout.ignored)
        if self.background == 'annulus':
            level, level_err = self._background(cutout)
            flux -= level * area
            flux_err = float(np.hypot(flux_err, level_err * area))
        flags = 0
        if not _is_inside(cutout, radius):
            flags |= int(MeasurementFlag.OUT_OF_RANGE)
        return {'flux': flux, 'flux_err': flux_err, 'flags': flags}

    def _background(self, cutout):
        """Background per pixel and its 1-sigma error."""
        inner, outer = (_to_pixels(length, cutout) for length in self.annulus)
        annulus = CircularAnnulus(cutout.position, r_in=inner, r_out=outer)
        values = annulus.to_mask(method='center').get_values(cutout.data, mask=cutout.mask)
        if len(values) == 0:
            msg = f'no good pixel in the annulus from {inner:.4g} to {outer:.4g} pixels'
            raise MeasurementError(MeasurementFlag.FAILED, msg)
        _, median, std = sigma_clipped_stats(values, sigma=3.0)
        # the standard error of the median of Gaussian noise
        error = float(np.sqrt(np.pi / 2) * std / np.sqrt(len(values)))
        growth = error_growth(cutout, annulus, unused=cutout.ignored, method='center')
        return float(median), error * growth


def _check_length(name, length):
    """Raise unless a length is positive, finite, and in pixels or an angle."""
    try:
        value = u.Quantity(length)
    except (TypeError, ValueError, OverflowError):
        msg = f'{name} must be a number of pixels or a Quantity, got {length!r}'
        raise TypeError(msg) from None
    known = (u.dimensionless_unscaled, u.pix, u.arcsec)
    if not any(value.unit.is_equivalent(unit) for unit in known):
        msg = f"{name} must be in pixels or an angle, got the unit '{value.unit}'"
        raise u.UnitsError(msg)
    if not value.isscalar or not np.isfinite(value.value) or value.value <= 0:
        msg = f'{name} must be positive and finite, got {length!r}'
        raise ValueError(msg)


def _to_pixels(length, cutout):
    length = u.Quantity(length)
    if not length.unit.is_equivalent(u.arcsec):
        return float(length.value)
    if not np.isfinite(cutout.pixel_scale):
        msg = f'a radius of {length} needs a pixel scale, but the cutout has no WCS'
        raise MeasurementError(MeasurementFlag.FAILED, msg)
    return float(length.to_value(u.arcsec) / cutout.pixel_scale)


def _is_inside(cutout, radius):
    """Whether a circle lies on the stamp."""
    x, y = cutout.position
    ny, nx = cutout.data.shape
    return min(x + 0.5, nx - 0.5 - x, y + 0.5, ny - 0.5 - y) >= radius
