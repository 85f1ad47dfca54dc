# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Flux extrapolated from the curve of growth."""

from dataclasses import dataclass

import numpy as np
from photutils.aperture import CircularAperture, EllipticalAperture
from photutils.segmentation import SourceCatalog

from astroflux.estimators._checks import POSITIVE, one_of
from astroflux.estimators._docs import share_docs
from astroflux.estimators.photometry.base import MeasurementError, PhotometricFluxEstimator
from astroflux.estimators.photometry.finder import (
    FINDER_FLAGS,
    IS_FINDER,
    SourceFinder,
    neighbor_flag,
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


@share_docs
class CurveOfGrowthFluxEstimator(PhotometricFluxEstimator):
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

    {finder}

    Attributes
    ----------
    {aperture_correction}

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

    The error is that of the noise of the pixels, propagated linearly through the fit. It does
    not account for the choice of the radii, nor for a galaxy that does not follow the line.
    Without a line that falls outwards the flux is that in the largest aperture, and the flag
    OUT_OF_RANGE is set, as it is if the flux is extrapolated by more than half.

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
    {gaussian}
    >>> from astroflux import CurveOfGrowthFluxEstimator
    >>> CurveOfGrowthFluxEstimator().predict(ccd).round(1)
    <Quantity 501. adu>
    """

    _extra_units = {'max_radius': 'pix', 'axis_ratio': None, 'extrapolation': None}
    _descriptions = {
        'max_radius': 'semimajor axis of the largest aperture',
        'axis_ratio': 'minor over major axis of the apertures',
        'extrapolation': 'total flux over that in the largest aperture, minus 1',
    }
    _flags_set = {
        **FINDER_FLAGS,
        'OUT_OF_RANGE': 'there is no line to extrapolate, or it adds more than half',
    }
    _checks = {
        'finder': IS_FINDER,
        'aperture': one_of('elliptical', 'circular'),
        'min_snr': POSITIVE,
    }

    def __init__(self, *, aperture='elliptical', min_snr=2.0, extrapolate=True, finder=None):
        self.aperture = aperture
        self.min_snr = min_snr
        self.extrapolate = extrapolate
        self.finder = SourceFinder() if finder is None else finder

    def _measure_one(self, cutout):
        found = self.finder.find(cutout)
        x, y, a, b, theta = _segment_ellipse(found)
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
        flags = neighbor_flag(largest, found.segmentation.data, found.label)
        with np.errstate(divide='ignore', invalid='ignore'):
            extrapolation = np.float64(flux) / inner - 1
        too_far = not abs(extrapolation) <= _MOST_EXTRAPOLATION
        if self.extrapolate and (line is None or too_far):
            flags |= int(MeasurementFlag.OUT_OF_RANGE)
        return {
            'flux': flux * found.reference,
            'flux_err': curve.error(gradient, cutout) * found.reference,
            'flags': flags,
            'max_radius': curve.radii[-1],
            'axis_ratio': axis_ratio,
            'extrapolation': extrapolation,
        }


@dataclass(slots=True, eq=False)
class _Curve:
    """A curve of growth; lengths in pixels."""

    radii: np.ndarray  # semimajor axes of the apertures
    rings: np.ndarray  # flux between each aperture and the one before
    variances: np.ndarray  # of the rings
    weights: list  # weight of each pixel in each ring
    variance: np.ndarray  # of each pixel

    @classmethod
    def follow(cls, found, centre, axis_ratio, theta, *, min_snr, least_radius):
        """Follow the curve of `Segments` outwards until the signal ends."""
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

    def error(self, gradient, cutout):
        """Error of what is linear in the flux of the rings of a cutout, with a factor on each."""
        # by pixel, as neighbouring rings share pixels
        total = sum(factor * ring for factor, ring in zip(gradient, self.weights, strict=True))
        return float(np.sqrt(np.sum(total**2 * self.variance))) * cutout.sum_growth(total)


def _extrapolate(curve):
    """
    Flux at zero slope, by a straight line through the outer part of the curve.

    Returns that flux and its derivative by the flux of each ring; `None` instead if there are
    too few points or the line does not fall.
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


def _segment_ellipse(found):
    """Centroid, semiaxes and angle of the ellipse that has the second moments of the segment."""
    catalog = SourceCatalog(found.smooth, found.segmentation, mask=found.mask)
    source = catalog.select_label(found.label)
    x, y = source.centroid
    a, b = source.semimajor_axis.value, source.semiminor_axis.value
    return float(x), float(y), float(a), float(b), float(source.orientation.to_value('rad'))


def _aperture(centre, radius, axis_ratio, theta):
    if axis_ratio == 1:
        return CircularAperture(centre, r=radius)
    return EllipticalAperture(centre, a=radius, b=radius * axis_ratio, theta=theta)


def _farthest(centre, shape):
    """Distance from the centre to the farthest corner of the stamp."""
    x, y = centre
    ny, nx = shape
    return float(np.hypot(max(x, nx - 1 - x), max(y, ny - 1 - y)))
