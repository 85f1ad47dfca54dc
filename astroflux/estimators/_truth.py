# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The true fluxes that `fit` and `score` are called with."""

import numpy as np
from astropy import units as u

__all__ = ['check_flux', 'true_flux']


def true_flux(flux, y):
    """Return the true fluxes of a call that has two names for them."""
    if (flux is None) == (y is None):
        msg = 'the true fluxes are wanted either as flux or as y'
        raise TypeError(msg)
    return y if flux is None else flux


def check_flux(flux, unit, n_cutouts):
    """Return true fluxes as numbers in the unit of the cutouts: one for each, all positive."""
    flux = u.Quantity(flux)
    if not flux.unit.is_equivalent(unit):
        msg = f"flux has the unit '{flux.unit}', but the cutouts have '{unit}'"
        raise u.UnitsError(msg)
    values = np.atleast_1d(flux.to_value(unit)).astype(float)
    if values.shape != (n_cutouts,):
        msg = f'flux must have one value per cutout: got shape {values.shape}, {n_cutouts} cutouts'
        raise ValueError(msg)
    if not (np.isfinite(values) & (values > 0)).all():
        msg = 'flux must be positive and finite for every cutout'
        raise ValueError(msg)
    return values
