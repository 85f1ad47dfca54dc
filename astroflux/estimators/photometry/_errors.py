# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Errors of sums in apertures where the noise is correlated."""

import numpy as np

__all__ = ['error_growth']


def error_growth(cutout, aperture, *, unused=None, method='exact'):
    """
    Return by how much the error of the sum in an aperture exceeds that in white noise.

    Parameters
    ----------
    cutout : `~astroflux.cutouts.Cutout`
        The cutout.
    aperture : `~photutils.aperture.PixelAperture`
        The aperture.
    unused : `~numpy.ndarray`, optional
        `True` for pixels that are left out of the sum.
    method : {'exact', 'center'}
        How pixels on the edge of the aperture are weighted.

    Returns
    -------
    growth : float
        1 for white noise, and where nothing was summed.
    """
    if cutout.noise_correlation is None:
        return 1.0
    weights = aperture.to_mask(method=method).to_image(cutout.shape)
    if weights is None:
        return 1.0
    return cutout.sum_growth(weights if unused is None else np.where(unused, 0.0, weights))
