# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""MAG_AUTO of SExtractor: what its library sep and the program share."""

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np
from photutils.aperture import CircularAperture, EllipticalAperture

from astroflux.estimators._photometric import MeasurementError, PhotometricEstimator
from astroflux.estimators._segments import check_params, gaussian_kernel, neighbour_flag
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


class AutoFluxEstimator(PhotometricEstimator):
    """What the two implementations share."""

    _extra_units = {'kron_radius': None, 'semimajor_axis': 'pix', 'axis_ratio': None}

    def __init__(
        self,
        *,
        nsigma=1.5,
        npixels=5,
        deblend=True,
        nlevels=32,
        contrast=0.005,
        auto_params=(2.5, 3.5),
        min_radius=1.75,
        neighbours='correct',
        kernel_fwhm=None,
        match_radius=5.0,
    ):
        self.nsigma = nsigma
        self.npixels = npixels
        self.deblend = deblend
        self.nlevels = nlevels
        self.contrast = contrast
        self.auto_params = auto_params
        self.min_radius = min_radius
        self.neighbours = neighbours
        self.kernel_fwhm = kernel_fwhm
        self.match_radius = match_radius

    def _check_params(self):
        check_params(self)

    @abstractmethod
    def _find(self, data, noise, mask, kernel, position):
        """
        Find and measure the source at the position.

        Parameters
        ----------
        data, noise : `~numpy.ndarray`, shape (ny, nx)
            The image and its noise in units of the median noise.

        mask : `~numpy.ndarray` of bool or None
            `True` for pixels to ignore.

        kernel : `~numpy.ndarray` or None
            The filter of the detection.

        position : tuple of float
            Where.

        Returns
        -------
        source : `AutoSource`
        """

    def _measure_one(self, cutout):
        # in units of the noise, so that the unit and the scale of the data do not matter
        reference = float(np.median(cutout.noise))
        source = self._find(
            np.ascontiguousarray(cutout.data / reference),
            np.ascontiguousarray(cutout.noise / reference),
            cutout.mask if cutout.mask.any() else None,
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
        return {
            'flux': source.flux * reference,
            'flux_err': source.flux_err * reference,
            'flags': source.flags | neighbour_flag(aperture, source.labels, source.label),
            'kron_radius': source.radius / self.auto_params[0],
            'semimajor_axis': major,
            'axis_ratio': minor / major,
        }

    def _is_small(self, a, b, radius):
        """Whether the least circle takes the place of the ellipse."""
        return radius * np.sqrt(a * b) < self.min_radius

    def _kernel(self, psf_fwhm):
        fwhm = self.kernel_fwhm
        if fwhm == 0:
            return None
        if fwhm is None and not np.isfinite(psf_fwhm):
            return _DEFAULT_KERNEL
        return gaussian_kernel(min(float(fwhm or psf_fwhm), _MAX_KERNEL_FWHM)).array
