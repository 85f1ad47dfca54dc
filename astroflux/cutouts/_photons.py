# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The noise of the photons of the sources, which maps of the noise of the sky do not have."""

import numpy as np
from astropy import units as u
from scipy.ndimage import uniform_filter

from astroflux.cutouts._items import ItemFault
from astroflux.cutouts._units import conversion_factor
from astroflux.flags import MeasurementFlag as Flag

__all__ = ['lacks_photons', 'photon_noise']

# Units in which the variance of photons is the flux.
_COUNTS = (u.electron, u.photon)

# Noise that does not rise by so much from the sky to the source is that of the sky.
_RISE = 1.05

# Pixels that say so: this far above the noise, and as many as this.
_BRIGHT = 5.0
_FEWEST = 4


def lacks_photons(data, noise, unit):
    """
    Return whether the noise where a source is bright is less than its photons make.

    It can be told of counts of electrons or photons alone; of other units the gain is unknown.

    Parameters
    ----------
    data : `~numpy.ndarray`
        Image without the sky, in ``unit``.
    noise : `~numpy.ndarray` or float
        Noise (1 sigma).
    unit : `~astropy.units.UnitBase`
        Their unit.

    Returns
    -------
    lacks : bool
    """
    factors = [conversion_factor(unit, counts) for counts in _COUNTS]
    factor = next((factor for factor in factors if factor is not None), None)
    if factor is None:
        return False
    counts, sigma = factor * uniform_filter(data, 3), factor * noise
    bright = (counts > _BRIGHT * sigma) & (counts > np.square(sigma))
    if np.count_nonzero(bright) < _FEWEST:
        return False
    if np.ndim(sigma) == 0:
        return True
    return float(np.median(sigma[bright])) < _RISE * float(np.median(sigma))


def photon_noise(data, unit, gain):
    """
    Return the standard deviation of the photons of the sources of an image.

    The counts are those of the image smoothed over 3 x 3 pixels, so that the noise of a pixel does
    not tell its weight.

    Parameters
    ----------
    data : `~numpy.ndarray`
        Image without the sky, in ``unit``.
    unit : `~astropy.units.UnitBase` or None
        Its unit.
    gain : `~numpy.ndarray` or `~astropy.units.Quantity`
        Electrons per unit, a number or a map; where it is 0 there is no such noise.

    Returns
    -------
    sigma : `~numpy.ndarray`
        In ``unit``.
    """
    if isinstance(gain, u.Quantity):
        own = u.dimensionless_unscaled if unit is None else unit
        for counts in (u.electron, u.photon, u.dimensionless_unscaled):
            factor = conversion_factor(gain.unit, counts / own)
            if factor is not None:
                break
        else:
            msg = f"effective_gain has the unit '{gain.unit}', want 'electron / ({own})'"
            raise ItemFault(Flag.BAD_INPUT, msg, u.UnitsError)
        gain = gain.value * factor
    if gain.ndim and gain.shape != data.shape:
        msg = f'the effective_gain has the shape {gain.shape}, the cutout has {data.shape}'
        raise ItemFault(Flag.BAD_INPUT, msg, ValueError)
    counts = np.maximum(uniform_filter(data, 3), 0.0)
    with np.errstate(divide='ignore', invalid='ignore'):
        return np.sqrt(np.where(gain > 0, counts / gain, 0.0))
