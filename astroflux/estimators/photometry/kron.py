# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Flux in the Kron aperture of the segment at the position."""

import numpy as np
from photutils.segmentation import SourceCatalog

from astroflux.estimators._checks import numbers, one_of
from astroflux.estimators._docs import share_docs
from astroflux.estimators.photometry._errors import error_growth
from astroflux.estimators.photometry.base import MeasurementError, PhotometricFluxEstimator
from astroflux.estimators.photometry.finder import (
    FINDER_FLAGS,
    IS_FINDER,
    KRON_DESCRIPTIONS,
    KRON_UNITS,
    SourceFinder,
    neighbor_flag,
)
from astroflux.flags import MeasurementFlag

__all__ = ['KronFluxEstimator']


@share_docs
class KronFluxEstimator(PhotometricFluxEstimator):
    """
    Kron flux [1]_ of the galaxy, by photutils: the usual way of measuring total flux.

    The image is smoothed with a Gaussian as wide as the PSF; connected pixels above a threshold
    make segments; the segment at the position is deblended; and the pixels in its Kron ellipse
    are summed. What lies outside the ellipse is missed unless `fit` has learned a correction.

    Parameters
    ----------
    {finder}

    kron_params : tuple of float, optional
        Factor on the Kron radius; the least Kron radius (in units of the semimajor axis);
        the least circular radius, in pixels.

    neighbors : {'correct', 'mask', 'none'}, optional
        What becomes of the pixels of other sources within the ellipse: replaced by those
        opposite, left out, or summed all the same.

    Attributes
    ----------
    {aperture_correction}

    Notes
    -----
    {kron_columns}

    References
    ----------
    .. [1] Kron, R. G. 1980, ApJS, 43, 305

    Examples
    --------
    {gaussian}
    >>> from astroflux import KronFluxEstimator
    >>> KronFluxEstimator().predict(ccd).round(1)
    <Quantity 499.3 adu>
    """

    _extra_units = KRON_UNITS
    _descriptions = KRON_DESCRIPTIONS
    _flags_set = FINDER_FLAGS
    _checks = {
        'finder': IS_FINDER,
        'kron_params': numbers(3, 'three'),
        'neighbors': one_of('correct', 'mask', 'none'),
    }

    def __init__(self, *, finder=None, kron_params=(2.5, 1.4, 0.0), neighbors='correct'):
        self.finder = SourceFinder() if finder is None else finder
        self.kron_params = kron_params
        self.neighbors = neighbors

    def _measure_one(self, cutout):
        found = self.finder.find(cutout)
        catalog = SourceCatalog(
            found.data,
            found.segmentation,
            convolved_data=found.smooth,
            error=found.noise,
            mask=found.mask,
            kron_params=self.kron_params,
            aperture_mask_method=self.neighbors,
        )
        # all is computed lazily, so for this source only
        source = catalog.select_label(found.label)
        aperture, flux = source.kron_aperture, float(source.kron_flux)
        if aperture is None or not np.isfinite(flux):
            msg = 'the Kron radius is not finite'
            raise MeasurementError(MeasurementFlag.FAILED, msg)

        # of pixels that were replaced, too: those opposite are as noisy
        unused = {'mask': found.unusable, 'none': found.mask}.get(self.neighbors)
        flux_err = float(source.kron_flux_err) * error_growth(cutout, aperture, unused=unused)

        # a circular aperture (of the least radius) has no axes
        major = getattr(aperture, 'a', None) or aperture.r
        minor = getattr(aperture, 'b', None) or aperture.r
        return {
            'flux': flux * found.reference,
            'flux_err': flux_err * found.reference,
            'flags': neighbor_flag(aperture, found.segmentation.data, found.label),
            'kron_radius': float(source.kron_radius.value),
            'semimajor_axis': float(major),
            'axis_ratio': float(minor / major),
        }
