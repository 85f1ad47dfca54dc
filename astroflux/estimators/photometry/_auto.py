# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""MAG_AUTO of SExtractor: what its library sep and the program share."""

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np
from photutils.aperture import CircularAperture, EllipticalAperture

from astroflux.estimators._checks import NOT_NEGATIVE, numbers, one_of
from astroflux.estimators.photometry._errors import error_growth
from astroflux.estimators.photometry.base import MeasurementError, PhotometricFluxEstimator
from astroflux.estimators.photometry.finder import (
    FINDER_FLAGS,
    IS_FINDER,
    KRON_DESCRIPTIONS,
    KRON_UNITS,
    SourceFinder,
    gaussian_kernel,
    neighbor_flag,
)
from astroflux.flags import MeasurementFlag

__all__ = ['AutoFluxEstimator', 'AutoSource']

# SExtractor's default.conv
_DEFAULT_KERNEL = np.array([[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 1.0]])
# SExtractor reads no larger kernel (1024 values)
_MAX_KERNEL_FWHM = 10.0


@dataclass(slots=True, eq=False)
class AutoSource:
    """What either implementation finds of the galaxy; lengths in pixels, angle in radians."""

    flux: float
    flux_err: float
    x: float
    y: float
    a: float
    b: float
    theta: float
    radius: float  # of the aperture, in units of a
    flags: int
    labels: np.ndarray
    label: int


class AutoFluxEstimator(PhotometricFluxEstimator):
    """What the two implementations share: all but finding and measuring the source."""

    _extra_units = KRON_UNITS
    _descriptions = KRON_DESCRIPTIONS
    _flags_set = {
        **FINDER_FLAGS,
        'NEIGHBOUR': 'another source reaches into the aperture, or was split from the galaxy',
        'OUT_OF_RANGE': 'the source or its aperture is cut off by the edge of the cutout',
    }
    _checks = {
        'finder': IS_FINDER,
        'auto_params': numbers(2, 'two'),
        'min_radius': NOT_NEGATIVE,
        'neighbors': one_of('correct', 'mask', 'none'),
    }

    def __init__(self, finder, auto_params, min_radius, neighbors):
        self.finder = SourceFinder(contrast=0.005) if finder is None else finder
        self.auto_params = auto_params
        self.min_radius = min_radius
        self.neighbors = neighbors

    @abstractmethod
    def _find(self, data, noise, mask, kernel, position):
        """
        Find the `AutoSource` at the position and measure it.

        The image and its noise are in units of the median noise; the mask and the kernel of the
        filter may be `None`.
        """

    @property
    def _contrast(self):
        """Of the deblending, as either implementation takes it."""
        return float(self.finder.contrast) if self.finder.deblend else 1.0

    def _measure_one(self, cutout):
        # in units of the noise, so that the unit and the scale of the data do not matter
        data, noise, reference = cutout.in_noise_units()
        source = self._find(
            np.ascontiguousarray(data),
            np.ascontiguousarray(noise),
            cutout.ignored,
            self._kernel(cutout.psf_fwhm),
            cutout.position,
        )
        if not np.isfinite([source.flux, source.a, source.b, source.radius]).all():
            msg = 'the Kron radius or the flux is not finite'
            raise MeasurementError(MeasurementFlag.FAILED, msg)
        centre = (source.x, source.y)
        major, minor = source.a * source.radius, source.b * source.radius
        if self._is_small(source.a, source.b, source.radius):
            major = minor = self.min_radius
            aperture = CircularAperture(centre, r=major)
        else:
            aperture = EllipticalAperture(centre, a=major, b=minor, theta=source.theta)
        # of pixels that were replaced, too: those opposite are as noisy
        others = (source.labels != 0) & (source.labels != source.label)
        unused = {'mask': cutout.mask | others, 'none': cutout.mask}.get(self.neighbors)
        growth = error_growth(cutout, aperture, unused=unused, method='center')
        return {
            'flux': source.flux * reference,
            'flux_err': source.flux_err * growth * reference,
            'flags': source.flags | neighbor_flag(aperture, source.labels, source.label),
            'kron_radius': source.radius / self.auto_params[0],
            'semimajor_axis': major,
            'axis_ratio': minor / major,
        }

    def _is_small(self, a, b, radius):
        """Whether the least circle takes the place of the ellipse."""
        return radius * np.sqrt(a * b) < self.min_radius

    def _kernel(self, psf_fwhm):
        fwhm = self.finder.kernel_fwhm
        if fwhm == 0:
            return None
        if fwhm is None and not np.isfinite(psf_fwhm):
            return _DEFAULT_KERNEL
        return gaussian_kernel(min(float(fwhm or psf_fwhm), _MAX_KERNEL_FWHM)).array
