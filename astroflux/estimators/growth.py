# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Flux extrapolated from the curve of growth."""

from dataclasses import dataclass

import numpy as np
from photutils.aperture import CircularAperture, EllipticalAperture

from astroflux.estimators._photometric import MeasurementError, PhotometricEstimator
from astroflux.estimators._photutils import segment_ellipse
from astroflux.estimators._segments import (
    check_params,
    detect,
    detection_params,
    neighbour_flag,
)
from astroflux.flags import MeasurementFlag

__all__ = ['CurveOfGrowthFluxEstimator']

# the apertures grow by a pixel, and by this factor where that is more
_GROWTH = 1.1
# the curve is followed to this many standard deviations of the source at least
_LEAST_EXTENT = 3.0
# a ring of which a smaller part is on good pixels joins the next one
_LEAST_COVERAGE = 0.5
# the line is fitted to the radii that hold more than this part of the flux, and to that many
_OUTER_PART = 0.95
_LEAST_POINTS = 4
# an extrapolation by more than this part of the flux is flagged
_MOST_EXTRAPOLATION = 0.5


class CurveOfGrowthFluxEstimator(PhotometricEstimator):
    """
    Flux at infinite radius, extrapolated from the curve of growth.

    The flux in apertures that grow outwards is followed until a ring has too little signal. In
    its outer part the flux falls linearly with its own slope, nearly; the line is fitted, and
    its value at zero slope is the total flux [1]_ [2]_ [3]_. This is the only one of the
    classical methods that accounts for the light below the noise.

    Parameters
    ----------
    aperture : {'elliptical', 'circular'}, optional
        Shape of the apertures. The ellipse is that of the second moments of the segment.

    min_snr : float, optional
        The curve ends at the first ring whose signal-to-noise ratio is smaller, but not before
        3 standard deviations of the source. The rings are 1 pixel wide, and 10 % of the radius
        where that is more.

    extrapolate : bool, optional
        Whether to extrapolate; otherwise the flux is that in the largest aperture.

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
    The apertures are centred on the centroid of the segment at the position. Masked pixels and
    those of other segments are left out: each ring counts with its mean over the good pixels
    times its area. A ring of which less than half is good joins the next one.

    The literature plots the magnitude in the aperture against its derivative by radius, and
    extrapolates to a derivative of zero. Here flux takes the place of magnitude, which is the
    same to first order but stays unbiased where a ring is noisy. The line is fitted to the
    apertures that hold more than 95 % of the flux in the largest one (at least the outer 4),
    weighted by the inverse variance of their flux.

    The error is that of uncorrelated noise of the pixels, propagated linearly through the fit.
    It does not account for the choice of the radii, nor for a galaxy that does not follow the
    line. Without a line that falls outwards the flux is that in the largest aperture, and the
    flag OUT_OF_RANGE is set, as it is if the flux is extrapolated by more than half.

    `measure` adds the columns ``max_radius`` (semimajor axis of the largest aperture),
    ``axis_ratio``, and ``extrapolation`` (total flux over that in the largest aperture, minus
    1).

    References
    ----------
    .. [1] Cairos, L. M. et al. 2001, ApJS, 133, 321
    .. [2] Gil de Paz, A. et al. 2007, ApJS, 173, 185
    .. [3] Munoz-Mateos, J. C. et al. 2015, ApJS, 219, 3

    Examples
    --------
    >>> import numpy as np
    >>> from astropy.nddata import CCDData, StdDevUncertainty
    >>> from astroflux import CurveOfGrowthFluxEstimator
    >>> y, x = np.mgrid[-30:31, -30:31]
    >>> image = 500 * np.exp(-0.5 * (x**2 + y**2) / 3**2) / (2 * np.pi * 3**2)
    >>> ccd = CCDData(image, unit='adu', uncertainty=StdDevUncertainty(np.full((61, 61), 0.1)))
    >>> CurveOfGrowthFluxEstimator().predict(ccd).round(1)
    <Quantity 501. adu>
    """

    _extra_units = {'max_radius': 'pix', 'axis_ratio': None, 'extrapolation': None}

    def __init__(
        self,
        *,
        aperture='elliptical',
        min_snr=2.0,
        extrapolate=True,
        nsigma=1.5,
        npixels=5,
        deblend=True,
        nlevels=32,
        contrast=0.001,
        kernel_fwhm=None,
        match_radius=5.0,
    ):
        self.aperture = aperture
        self.min_snr = min_snr
        self.extrapolate = extrapolate
        self.nsigma = nsigma
        self.npixels = npixels
        self.deblend = deblend
        self.nlevels = nlevels
        self.contrast = contrast
        self.kernel_fwhm = kernel_fwhm
        self.match_radius = match_radius

    def _check_params(self):
        check_params(self)

    def _measure_one(self, cutout):
        found = detect(cutout, **detection_params(self))
        x, y, a, b, theta = segment_ellipse(
            found.smooth, found.segmentation, found.label, mask=found.mask
        )
        axis_ratio = b / a
        if not (np.isfinite([x, y, theta]).all() and axis_ratio > 0):
            msg = 'the second moments of the source make no ellipse'
            raise MeasurementError(MeasurementFlag.FAILED, msg)
        if self.aperture == 'circular':
            axis_ratio, theta = 1.0, 0.0
        curve = _Curve.follow(
            found, (x, y), axis_ratio, theta, min_snr=self.min_snr, least_radius=_LEAST_EXTENT * a
        )
        line = _extrapolate(curve) if self.extrapolate else None
        inner = float(curve.flux[-1])
        flux, gradient = line or (inner, np.ones(len(curve.radii)))
        largest = _aperture((x, y), curve.radii[-1], axis_ratio, theta)
        flags = neighbour_flag(largest, found.segmentation.data, found.label)
        with np.errstate(divide='ignore', invalid='ignore'):
            extrapolation = np.float64(flux) / inner - 1
        too_far = not abs(extrapolation) <= _MOST_EXTRAPOLATION
        if self.extrapolate and (line is None or too_far):
            flags |= int(MeasurementFlag.OUT_OF_RANGE)
        return {
            'flux': flux * found.reference,
            'flux_err': curve.error(gradient) * found.reference,
            'flags': flags,
            'max_radius': curve.radii[-1],
            'axis_ratio': axis_ratio,
            'extrapolation': extrapolation,
        }


@dataclass(slots=True, eq=False)
class _Curve:
    """
    A curve of growth.

    Attributes
    ----------
    radii : `~numpy.ndarray`, shape (n,)
        The semimajor axes of the apertures, in pixels.
    rings : `~numpy.ndarray`, shape (n,)
        The flux between each aperture and the one before.
    variances : `~numpy.ndarray`, shape (n,)
        The variance of ``rings``.
    weights : list of `~numpy.ndarray`, shape (ny, nx)
        The weight of each pixel in each ring.
    variance : `~numpy.ndarray`, shape (ny, nx)
        The variance of the pixels.
    """

    radii: np.ndarray
    rings: np.ndarray
    variances: np.ndarray
    weights: list
    variance: np.ndarray

    @classmethod
    def follow(cls, found, centre, axis_ratio, theta, *, min_snr, least_radius):
        """
        Follow the curve outwards until the signal ends.

        Parameters
        ----------
        found : `~astroflux.estimators._segments.Segments`
            The cutout.

        centre : tuple of float
            The ``(x, y)`` of the centre.

        axis_ratio, theta : float
            Axis ratio and angle in radians.

        min_snr : float
            The curve ends at the first ring with less.

        least_radius : float
            But not before this radius.

        Returns
        -------
        curve : `_Curve`

        Raises
        ------
        MeasurementError
            If no ring has enough good pixels.
        """
        good = ~found.unusable
        shape = found.data.shape
        variance = found.noise**2
        radii, rings, variances, weights = [], [], [], []
        inner_radius, inner = 0.0, 0.0
        radius, largest = 0.0, _farthest(centre, shape) / axis_ratio
        while radius < largest:
            radius = max(radius + 1, radius * _GROWTH)
            outer = _aperture(centre, radius, axis_ratio, theta)
            outer = outer.to_mask(method='exact').to_image(shape)
            if outer is None:
                # the centroid can lie outside the stamp
                continue
            area = np.pi * axis_ratio * (radius**2 - inner_radius**2)
            ring = np.where(good, outer - inner, 0.0)
            covered = ring.sum()
            if covered < _LEAST_COVERAGE * area:
                continue
            ring *= area / covered
            flux = float(np.sum(ring * found.data))
            ring_variance = float(np.sum(ring**2 * variance))
            if radius > least_radius and not flux >= min_snr * np.sqrt(ring_variance):
                break
            radii.append(radius)
            rings.append(flux)
            variances.append(ring_variance)
            weights.append(ring)
            inner_radius, inner = radius, outer
        if not radii:
            msg = 'the apertures have too few good pixels'
            raise MeasurementError(MeasurementFlag.FAILED, msg)
        return cls(np.array(radii), np.array(rings), np.array(variances), weights, variance)

    @property
    def flux(self):
        """The flux in the apertures."""
        return np.cumsum(self.rings)

    def error(self, gradient):
        """
        Error of what is linear in the flux of the rings.

        Parameters
        ----------
        gradient : `~numpy.ndarray`, shape (n,)
            The factor on each ring.

        Returns
        -------
        error : float
        """
        # by pixel, as neighbouring rings share pixels
        total = sum(factor * ring for factor, ring in zip(gradient, self.weights, strict=True))
        return float(np.sqrt(np.sum(total**2 * self.variance)))


def _extrapolate(curve):
    """
    Flux at zero slope, by a straight line through the outer part of the curve.

    Parameters
    ----------
    curve : `_Curve`
        The curve.

    Returns
    -------
    flux : float
        The total flux.

    gradient : `~numpy.ndarray`, shape (n,)
        Its derivative by the flux of each ring.

    Notes
    -----
    `None` is returned instead if there are too few points or the line does not fall.
    """
    n_rings = len(curve.radii)
    if n_rings < _LEAST_POINTS:
        return None
    widths = np.diff(curve.radii, prepend=0.0)
    # in the middle of each ring, where the slope is
    slope = curve.rings / widths
    flux = curve.flux - curve.rings / 2
    first = int(np.argmax(curve.flux > _OUTER_PART * curve.flux[-1]))
    outer = slice(min(first, n_rings - _LEAST_POINTS), n_rings)

    weight = 1 / np.cumsum(curve.variances)[outer]
    weight = weight / weight.sum()
    slope_mean = np.sum(weight * slope[outer])
    flux_mean = np.sum(weight * flux[outer])
    slope_off, flux_off = slope[outer] - slope_mean, flux[outer] - flux_mean
    norm = np.sum(weight * slope_off**2)
    if not norm > 0:
        return None
    incline = np.sum(weight * slope_off * flux_off) / norm
    if not incline < 0:
        return None

    # derivatives by the flux and the slope at each point, and from these by each ring
    by_flux, by_slope = np.zeros(n_rings), np.zeros(n_rings)
    by_flux[outer] = weight * (1 - slope_mean * slope_off / norm)
    by_slope[outer] = -weight * (incline + slope_mean * (flux_off - 2 * incline * slope_off) / norm)
    gradient = np.cumsum(by_flux[::-1])[::-1] - by_flux / 2 + by_slope / widths
    return float(flux_mean - incline * slope_mean), gradient


def _aperture(centre, radius, axis_ratio, theta):
    if axis_ratio == 1:
        return CircularAperture(centre, r=radius)
    return EllipticalAperture(centre, a=radius, b=radius * axis_ratio, theta=theta)


def _farthest(centre, shape):
    """Distance from the centre to the farthest corner of the stamp."""
    x, y = centre
    ny, nx = shape
    return float(np.hypot(max(x, nx - 1 - x), max(y, ny - 1 - y)))
