# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Flux in the Kron aperture of the segment at the position."""

import numpy as np

from astroflux.estimators._photometric import MeasurementError, PhotometricEstimator
from astroflux.estimators._photutils import KronCatalog
from astroflux.estimators._segments import (
    check_params,
    detect,
    detection_params,
    neighbour_flag,
)
from astroflux.flags import MeasurementFlag

__all__ = ['KronFluxEstimator']


class KronFluxEstimator(PhotometricEstimator):
    """
    Kron flux [1]_ of the galaxy, by photutils: the usual way of measuring total flux.

    The image is smoothed with a Gaussian as wide as the PSF; connected pixels above a threshold
    make segments; the segment at the position is deblended; and the pixels in its Kron ellipse
    are summed. What lies outside the ellipse is missed unless `fit` has learned a correction.

    Parameters
    ----------
    nsigma : float, optional
        Detection threshold in units of the noise of a pixel (of the image before smoothing, as
        is the custom).

    npixels : int, optional
        How many connected pixels above the threshold make a source.

    deblend : bool, optional
        Whether to split the segment into several sources.

    nlevels : int, optional
        Number of levels of the deblending.

    contrast : float, optional
        Fraction of the flux of the segment that a part must have to become a source.

    kron_params : tuple of float, optional
        Factor on the Kron radius; the least Kron radius (in units of the semimajor axis);
        the least circular radius, in pixels.

    neighbours : {'correct', 'mask', 'none'}, optional
        What becomes of the pixels of other sources within the ellipse: replaced by those
        opposite, left out, or summed all the same.

    kernel_fwhm : float, optional
        FWHM of the smoothing kernel in pixels; by default that of the PSF, or 3 if unknown.
        0 for no smoothing.

    match_radius : float, optional
        If no segment covers the position, the nearest one within this many pixels is taken.

    Attributes
    ----------
    aperture_correction_ : float
        True flux over measured flux, learned by `fit`.

    Notes
    -----
    `measure` adds the columns ``kron_radius`` (in units of the semimajor axis of the source's
    second moments), ``semimajor_axis`` (of the aperture) and ``axis_ratio``.

    References
    ----------
    .. [1] Kron, R. G. 1980, ApJS, 43, 305

    Examples
    --------
    >>> import numpy as np
    >>> from astropy.nddata import CCDData, StdDevUncertainty
    >>> from astroflux import KronFluxEstimator
    >>> y, x = np.mgrid[-30:31, -30:31]
    >>> image = 500 * np.exp(-0.5 * (x**2 + y**2) / 3**2) / (2 * np.pi * 3**2)
    >>> ccd = CCDData(image, unit='adu', uncertainty=StdDevUncertainty(np.full((61, 61), 0.1)))
    >>> KronFluxEstimator().predict(ccd).round(1)
    <Quantity 499.3 adu>
    """

    _extra_units = {'kron_radius': None, 'semimajor_axis': 'pix', 'axis_ratio': None}

    def __init__(
        self,
        *,
        nsigma=1.5,
        npixels=5,
        deblend=True,
        nlevels=32,
        contrast=0.001,
        kron_params=(2.5, 1.4, 0.0),
        neighbours='correct',
        kernel_fwhm=None,
        match_radius=5.0,
    ):
        self.nsigma = nsigma
        self.npixels = npixels
        self.deblend = deblend
        self.nlevels = nlevels
        self.contrast = contrast
        self.kron_params = kron_params
        self.neighbours = neighbours
        self.kernel_fwhm = kernel_fwhm
        self.match_radius = match_radius

    def _check_params(self):
        check_params(self)

    def _measure_one(self, cutout):
        found = detect(cutout, **detection_params(self))
        source = KronCatalog(
            found.data,
            found.smooth,
            found.noise,
            found.segmentation,
            found.label,
            mask=found.mask,
            neighbours=self.neighbours,
            kron_params=self.kron_params,
        )
        aperture = source.aperture
        if aperture is None or not np.isfinite(source.flux):
            msg = 'the Kron radius is not finite'
            raise MeasurementError(MeasurementFlag.FAILED, msg)

        # a circular aperture (of the least radius) has no axes
        major = getattr(aperture, 'a', None) or aperture.r
        minor = getattr(aperture, 'b', None) or aperture.r
        return {
            'flux': source.flux * found.reference,
            'flux_err': source.flux_err * found.reference,
            'flags': neighbour_flag(aperture, found.segmentation.data, found.label),
            'kron_radius': source.radius,
            'semimajor_axis': float(major),
            'axis_ratio': float(minor / major),
        }
