# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Flux in the Kron aperture of the segment at the position."""

import warnings
from functools import lru_cache
from numbers import Integral, Real

import numpy as np
from astropy.convolution import convolve
from astropy.utils.exceptions import AstropyUserWarning
from photutils.segmentation import make_2dgaussian_kernel

from astroflux.estimators._photometric import MeasurementError, PhotometricEstimator
from astroflux.estimators._photutils import KronCatalog, deblend, detect
from astroflux.flags import MeasurementFlag

__all__ = ['KronFluxEstimator']

# FWHM of the smoothing kernel, in pixels, when that of the PSF is unknown
_DEFAULT_KERNEL_FWHM = 3.0


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
        if self.neighbours not in ('correct', 'mask', 'none'):
            msg = f"neighbours must be 'correct', 'mask' or 'none', got {self.neighbours!r}"
            raise ValueError(msg)
        for name in ('npixels', 'nlevels'):
            value = getattr(self, name)
            if not isinstance(value, Integral) or value < 1:
                msg = f'{name} must be a positive integer, got {value!r}'
                raise ValueError(msg)
        if not self.nsigma > 0:
            msg = f'nsigma must be positive, got {self.nsigma!r}'
            raise ValueError(msg)
        if not 0 <= self.contrast <= 1:
            msg = f'contrast must be between 0 and 1, got {self.contrast!r}'
            raise ValueError(msg)
        if not self.match_radius >= 0:
            msg = f'match_radius must not be negative, got {self.match_radius!r}'
            raise ValueError(msg)
        if self.kernel_fwhm is not None and not self.kernel_fwhm >= 0:
            msg = f'kernel_fwhm must not be negative, got {self.kernel_fwhm!r}'
            raise ValueError(msg)
        if len(self.kron_params) != 3 or not all(isinstance(p, Real) for p in self.kron_params):
            msg = f'kron_params must be three numbers, got {self.kron_params!r}'
            raise ValueError(msg)

    def _measure_one(self, cutout):
        # in units of the noise, so that the unit and the scale of the data do not matter
        reference = float(np.median(cutout.noise))
        data = cutout.data / reference
        noise = cutout.noise / reference
        mask = cutout.mask if cutout.mask.any() else None

        smooth = self._smooth(data, mask, cutout.psf_fwhm)
        segmentation = detect(smooth, self.nsigma * noise, self.npixels, mask=mask)
        label = self._find_label(segmentation, cutout.position)
        if self.deblend:
            # the other segments are neighbours, whether split or not
            segmentation = deblend(
                smooth,
                segmentation,
                self.npixels,
                labels=[label],
                n_levels=self.nlevels,
                contrast=self.contrast,
            )
            label = self._find_label(segmentation, cutout.position)
        source = KronCatalog(
            data,
            smooth,
            noise,
            segmentation,
            label,
            mask=mask,
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
            'flux': source.flux * reference,
            'flux_err': source.flux_err * reference,
            'flags': _neighbour_flag(aperture, segmentation, label),
            'kron_radius': source.radius,
            'semimajor_axis': float(major),
            'axis_ratio': float(minor / major),
        }

    def _smooth(self, data, mask, psf_fwhm):
        fwhm = self.kernel_fwhm
        if fwhm is None:
            fwhm = psf_fwhm if np.isfinite(psf_fwhm) else _DEFAULT_KERNEL_FWHM
        if fwhm == 0:
            return data
        kernel = _gaussian_kernel(float(fwhm))
        if mask is None:
            return convolve(data, kernel)
        with warnings.catch_warnings():
            # masked regions larger than the kernel remain NaN: they are not used anyway
            warnings.filterwarnings('ignore', message='nan_treatment', category=AstropyUserWarning)
            smooth = convolve(data, kernel, mask=mask)
        return np.nan_to_num(smooth, copy=False)

    def _find_label(self, segmentation, position):
        """
        The segment at the position, or the nearest one.

        Raises
        ------
        MeasurementError
            If there is none within the radius.
        """
        if segmentation is not None:
            x, y = position
            rows, columns = np.nonzero(segmentation.data)
            distance = np.hypot(columns - x, rows - y)
            nearest = int(np.argmin(distance))
            # a pixel that covers the position is at most half a diagonal away
            if distance[nearest] <= max(self.match_radius, np.sqrt(0.5)):
                return int(segmentation.data[rows[nearest], columns[nearest]])
        msg = f'no source within {self.match_radius:.4g} pixels of the position {position}'
        raise MeasurementError(MeasurementFlag.NOT_DETECTED, msg)


@lru_cache(maxsize=32)
def _gaussian_kernel(fwhm):
    # kept, as making it takes about as long as using it; 3.5 standard deviations to each side
    return make_2dgaussian_kernel(fwhm, size=2 * int(np.ceil(1.5 * fwhm)) + 1)


def _neighbour_flag(aperture, segmentation, label):
    """NEIGHBOUR if the segment of another source reaches into the aperture, else 0."""
    inside = aperture.to_mask(method='center')
    labels = inside.cutout(segmentation.data)
    if labels is None:
        return 0
    other = (labels != 0) & (labels != label) & (inside.data > 0)
    return int(MeasurementFlag.NEIGHBOUR) if other.any() else 0
