# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Find the source at the position: what the methods that segment the image share."""

import warnings
from dataclasses import dataclass
from functools import lru_cache
from numbers import Integral, Real

import numpy as np
from astropy.convolution import convolve
from astropy.utils.exceptions import AstropyUserWarning
from photutils.segmentation import make_2dgaussian_kernel

from astroflux.estimators import _photutils
from astroflux.estimators._photometric import MeasurementError
from astroflux.flags import MeasurementFlag

__all__ = [
    'Segments',
    'check_params',
    'detect',
    'detection_params',
    'find_label',
    'gaussian_kernel',
    'neighbour_flag',
]

# FWHM of the smoothing kernel, in pixels, when that of the PSF is unknown
DEFAULT_KERNEL_FWHM = 3.0

_DETECTION_PARAMS = (
    'nsigma',
    'npixels',
    'deblend',
    'nlevels',
    'contrast',
    'kernel_fwhm',
    'match_radius',
)


def _numbers(n):
    def is_good(value):
        return len(value) == n and all(isinstance(item, Real) for item in value)

    return is_good


# parameter -> what is a good value, and how to say so
_CHECKS = {
    'neighbours': (
        lambda value: value in ('correct', 'mask', 'none'),
        "must be 'correct', 'mask' or 'none'",
    ),
    'aperture': (
        lambda value: value in ('elliptical', 'circular'),
        "must be 'elliptical' or 'circular'",
    ),
    'npixels': (
        lambda value: isinstance(value, Integral) and value >= 1,
        'must be a positive integer',
    ),
    'nlevels': (
        lambda value: isinstance(value, Integral) and value >= 1,
        'must be a positive integer',
    ),
    'nsigma': (lambda value: value > 0, 'must be positive'),
    'contrast': (lambda value: 0 <= value <= 1, 'must be between 0 and 1'),
    'match_radius': (lambda value: value >= 0, 'must not be negative'),
    'kernel_fwhm': (lambda value: value is None or value >= 0, 'must not be negative'),
    'kron_params': (_numbers(3), 'must be three numbers'),
    'auto_params': (_numbers(2), 'must be two numbers'),
    'min_radius': (lambda value: value >= 0, 'must not be negative'),
    'min_snr': (lambda value: value > 0, 'must be positive'),
    'eta': (lambda value: 0 < value < 1, 'must be between 0 and 1'),
    'extent': (lambda value: value > 0, 'must be positive'),
}


def check_params(estimator):
    """
    Check the parameters that several estimators have in common.

    Parameters
    ----------
    estimator : `~astroflux.estimators.base.FluxEstimator`
        The estimator.

    Raises
    ------
    ValueError
        If one makes no sense.
    """
    for name, value in estimator.get_params(deep=False).items():
        if name not in _CHECKS:
            continue
        is_good, wanted = _CHECKS[name]
        if not is_good(value):
            msg = f'{name} {wanted}, got {value!r}'
            raise ValueError(msg)


def detection_params(estimator):
    """
    Return the parameters of an estimator that `detect` takes.

    Parameters
    ----------
    estimator : `~astroflux.estimators.base.FluxEstimator`
        The estimator.

    Returns
    -------
    params : dict
    """
    return {name: getattr(estimator, name) for name in _DETECTION_PARAMS}


@dataclass(slots=True, eq=False)
class Segments:
    """
    A cutout split into sources.

    Attributes
    ----------
    data, noise, smooth : `~numpy.ndarray`, shape (ny, nx)
        The image, its noise, and the smoothed image in which the sources were detected, in
        units of ``reference``.
    mask : `~numpy.ndarray` of bool or None
        `True` for pixels to ignore; `None` if there are none.
    reference : float
        The median noise in the unit of the cutout.
    segmentation : `~photutils.segmentation.SegmentationImage`
        The segments.
    label : int
        The segment at the position.
    """

    data: np.ndarray
    noise: np.ndarray
    smooth: np.ndarray
    mask: np.ndarray | None
    reference: float
    segmentation: object
    label: int

    @property
    def unusable(self):
        """`True` for pixels that are masked or belong to other sources."""
        labels = self.segmentation.data
        other = (labels != 0) & (labels != self.label)
        return other if self.mask is None else other | self.mask


def detect(cutout, *, nsigma, npixels, deblend, nlevels, contrast, kernel_fwhm, match_radius):
    """
    Detect the source at the position, by photutils, and split it from its neighbours.

    Parameters
    ----------
    cutout : `~astroflux.cutouts.Cutout`
        The cutout.

    nsigma, npixels, deblend, nlevels, contrast, kernel_fwhm, match_radius
        See `~astroflux.KronFluxEstimator`.

    Returns
    -------
    segments : `Segments`

    Raises
    ------
    MeasurementError
        If there is no source at the position.
    """
    # in units of the noise, so that the unit and the scale of the data do not matter
    reference = float(np.median(cutout.noise))
    data = cutout.data / reference
    noise = cutout.noise / reference
    mask = cutout.mask if cutout.mask.any() else None

    if kernel_fwhm is None:
        known = np.isfinite(cutout.psf_fwhm)
        kernel_fwhm = cutout.psf_fwhm if known else DEFAULT_KERNEL_FWHM
    smooth = _smooth(data, mask, float(kernel_fwhm))
    segmentation = _photutils.detect(smooth, nsigma * noise, npixels, mask=mask)
    label = _label_at(segmentation, cutout.position, match_radius)
    if deblend:
        # the other segments are neighbours, whether split or not
        segmentation = _photutils.deblend(
            smooth, segmentation, npixels, labels=[label], n_levels=nlevels, contrast=contrast
        )
        label = _label_at(segmentation, cutout.position, match_radius)
    return Segments(data, noise, smooth, mask, reference, segmentation, label)


def _label_at(segmentation, position, match_radius):
    return find_label(None if segmentation is None else segmentation.data, position, match_radius)


def _smooth(data, mask, fwhm):
    if fwhm == 0:
        return data
    kernel = gaussian_kernel(fwhm)
    if mask is None:
        return convolve(data, kernel)
    with warnings.catch_warnings():
        # masked regions larger than the kernel remain NaN: they are not used anyway
        warnings.filterwarnings('ignore', message='nan_treatment', category=AstropyUserWarning)
        smooth = convolve(data, kernel, mask=mask)
    return np.nan_to_num(smooth, copy=False)


@lru_cache(maxsize=32)
def gaussian_kernel(fwhm):
    """
    Return a Gaussian kernel of sum 1.

    Parameters
    ----------
    fwhm : float
        FWHM in pixels.

    Returns
    -------
    kernel : `~astropy.convolution.Kernel2D`
    """
    # kept, as making it takes about as long as using it; 3.5 standard deviations to each side
    return make_2dgaussian_kernel(fwhm, size=2 * int(np.ceil(1.5 * fwhm)) + 1)


def find_label(labels, position, match_radius):
    """
    Find the segment at the position, or the nearest one.

    Parameters
    ----------
    labels : `~numpy.ndarray` of int or None
        Label of each pixel, 0 outside all segments; `None` for no segment at all.

    position : tuple of float
        The galaxy's ``(x, y)``.

    match_radius : float
        How far the nearest pixel of the segment may be.

    Returns
    -------
    label : int

    Raises
    ------
    MeasurementError
        If there is none within the radius.
    """
    if labels is not None and labels.any():
        x, y = position
        rows, columns = np.nonzero(labels)
        distance = np.hypot(columns - x, rows - y)
        nearest = int(np.argmin(distance))
        # a pixel that covers the position is at most half a diagonal away
        if distance[nearest] <= max(match_radius, np.sqrt(0.5)):
            return int(labels[rows[nearest], columns[nearest]])
    msg = f'no source within {match_radius:.4g} pixels of the position {position}'
    raise MeasurementError(MeasurementFlag.NOT_DETECTED, msg)


def neighbour_flag(aperture, labels, label):
    """
    Tell whether the segment of another source reaches into an aperture.

    Parameters
    ----------
    aperture : `~photutils.aperture.PixelAperture`
        The aperture.

    labels : `~numpy.ndarray` of int
        Label of each pixel, 0 outside all segments.

    label : int
        The segment of the galaxy.

    Returns
    -------
    flag : int
        NEIGHBOUR or 0.
    """
    inside = aperture.to_mask(method='center')
    labels = inside.cutout(labels)
    if labels is None:
        return 0
    other = (labels != 0) & (labels != label) & (inside.data > 0)
    return int(MeasurementFlag.NEIGHBOUR) if other.any() else 0
