# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""AB magnitudes of fluxes whose zero point or calibrated unit is known; never guessed."""

import numpy as np
from astropy import units as u
from scipy.special import ndtri

from astroflux.cutouts._zeropoint import is_calibrated

__all__ = ['Calibration']

# 1 mag is so much of ln(flux)
MAG_OF_LN = 2.5 / np.log(10)

# upper end of the central 95 % of a normal distribution, in standard deviations
N_SIGMA_95 = ndtri(0.975)


class Calibration:
    """
    What the fluxes of a table are as AB magnitudes.

    Parameters
    ----------
    unit : `~astropy.units.UnitBase`
        Unit of the fluxes.
    zeropoint : `~numpy.ndarray`
        AB magnitude of 1 unit, for each row; NaN if unknown, or if the unit says it.
    is_told : bool
        Whether the zero points are those of the call, and not of the cutouts.
    """

    def __init__(self, unit, zeropoint, *, is_told):
        self.unit, self.zeropoint, self.is_told = unit, zeropoint, is_told

    def magnitudes(self, columns):
        """
        Return the columns ``mag``, ``mag_err`` and ``mag_limit``, none if no row has any.

        They are NaN where the flux is not positive, and where the zero point is unknown. The
        limit is that of the upper end of the 95 % interval of the flux, which is known where the
        flux is not positive, too.
        """
        if not (is_calibrated(self.unit) or np.isfinite(self.zeropoint).any()):
            return {}
        flux, error = columns['flux'], columns['flux_err']
        with np.errstate(divide='ignore', invalid='ignore'):
            # not negative, though the flux may be: what is there shines
            upper = np.maximum(flux, 0) + N_SIGMA_95 * error
            told = columns.get('flux_upper_95')
            if told is not None:
                upper = np.where(np.isfinite(told.value), told.value, upper)
            mag = self._to_mag(flux)
            mag_err = np.where(np.isfinite(mag), MAG_OF_LN * error / flux, np.nan)
        return {'mag': mag, 'mag_err': mag_err, 'mag_limit': self._to_mag(upper)}

    def _to_mag(self, flux):
        positive = np.where(flux > 0, flux, np.nan)
        if is_calibrated(self.unit):
            maggies = u.zero_point_flux(1 * u.AB)
            return u.Quantity(positive, self.unit).to(u.ABmag, maggies).value
        return (positive * u.Magnitude(self.zeropoint, u.ABmag).physical).to(u.ABmag).value

    def meta(self):
        """Return what the magnitudes come from, for the metadata of the table."""
        if is_calibrated(self.unit):
            return {'zeropoint': {'source': 'unit'}}
        known = self.zeropoint[np.isfinite(self.zeropoint)]
        if not known.size:
            return {}
        source = 'argument' if self.is_told else 'cutouts'
        values = {'lowest': float(known.min()), 'highest': float(known.max())}
        return {'zeropoint': {'source': source, 'unit': str(self.unit), **values}}
