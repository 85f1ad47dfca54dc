# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Find the source at the position: what the methods that segment the image share."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from astropy.convolution import convolve
from photutils.segmentation import make_2dgaussian_kernel
from sklearn.base import BaseEstimator

from astroflux._quiet import quiet_libraries
from astroflux.estimators._checks import (
    FRACTION,
    NOT_NEGATIVE,
    POSITIVE,
    POSITIVE_INTEGER,
    check_values,
)
from astroflux.estimators._segments import detect_segments, split_segments
from astroflux.estimators.photometry.base import MeasurementError, PhotometricFluxEstimator
from astroflux.flags import MeasurementFlag

__all__ = [
    'FINDER_FLAGS',
    'IS_FINDER',
    'Segments',
    'SourceFinder',
    'find_label',
    'gaussian_kernel',
    'neighbor_flag',
]

# what methods with a Kron aperture measure besides
KRON_UNITS = {'kron_radius': None, 'semimajor_axis': 'pix', 'axis_ratio': None}
KRON_DESCRIPTIONS = {
    'kron_radius': 'Kron radius in units of the semimajor axis of the second moments',
    'semimajor_axis': 'semimajor axis of the aperture',
    'axis_ratio': 'minor over major axis of the aperture',
}

# the flags of methods that find the source first
FINDER_FLAGS = {
    **PhotometricFluxEstimator._flags_set,
    'NEIGHBOUR': 'the segment of another source reaches into the aperture',
    'NOT_DETECTED': 'no segment is within ``match_radius`` of the position',
}

# FWHM of the smoothing kernel, in pixels, when that of the PSF is unknown
DEFAULT_KERNEL_FWHM = 3.0


class SourceFinder(BaseEstimator):
    """
    How the galaxy at the position is detected and split from its neighbors.

    The image is smoothed; connected pixels above a threshold make segments; the segment at the
    position, or the nearest one, is split into the sources that make it up.

    Parameters
    ----------
    n_sigma : float, optional
        Detection threshold in units of the noise of a pixel (of the image before smoothing, as
        is the custom).

    n_pixels : int, optional
        How many connected pixels above the threshold make a source.

    deblend : bool, optional
        Whether to split the segment into several sources.

    n_levels : int, optional
        Number of levels of the deblending.

    contrast : float, optional
        Fraction of the flux of the segment that a part must have to become a source.

    kernel_fwhm : float, optional
        FWHM of the Gaussian that smooths the image, in pixels; by default that of the PSF, or 3
        if unknown. 0 for no smoothing.

    match_radius : float, optional
        If no segment covers the position, the nearest one within this many pixels is taken.

    Notes
    -----
    The names are those of photutils, whose functions find the sources. As part of an estimator
    its parameters are reached as ``finder__n_pixels`` and so on, by
    `~sklearn.base.BaseEstimator.set_params` and in searches of scikit-learn.

    Examples
    --------
    >>> from astroflux import KronFluxEstimator
    >>> from astroflux.estimators import SourceFinder
    >>> estimator = KronFluxEstimator(finder=SourceFinder(n_sigma=2.0))
    >>> estimator.set_params(finder__n_pixels=9).finder
    SourceFinder(n_pixels=9, n_sigma=2.0)
    """

    _checks = {
        'n_sigma': POSITIVE,
        'n_pixels': POSITIVE_INTEGER,
        'n_levels': POSITIVE_INTEGER,
        'contrast': FRACTION,
        'kernel_fwhm': (lambda value: value is None or NOT_NEGATIVE[0](value), NOT_NEGATIVE[1]),
        'match_radius': NOT_NEGATIVE,
    }

    def __init__(
        self,
        *,
        n_sigma=1.5,
        n_pixels=5,
        deblend=True,
        n_levels=32,
        contrast=0.001,
        kernel_fwhm=None,
        match_radius=5.0,
    ):
        self.n_sigma = n_sigma
        self.n_pixels = n_pixels
        self.deblend = deblend
        self.n_levels = n_levels
        self.contrast = contrast
        self.kernel_fwhm = kernel_fwhm
        self.match_radius = match_radius

    def __eq__(self, other):
        if not isinstance(other, SourceFinder):
            return NotImplemented
        return self.get_params() == other.get_params()

    # its parameters may change
    __hash__ = None

    def _check_params(self):
        """Raise if a parameter makes no sense."""
        check_values(self._checks, self)

    def find(self, cutout):
        """
        Find the sources of a cutout.

        Parameters
        ----------
        cutout : `~astroflux.cutouts.Cutout`
            The cutout.

        Returns
        -------
        segments : Segments
            With ``data``, ``noise`` and ``smooth`` (the image in which the sources were
            detected) in units of the median noise, which is ``reference``; a ``mask`` or
            `None`; a ``segmentation`` as photutils has it; the ``label`` of the galaxy; and
            ``unusable``, which is `True` for pixels that are masked or belong to others.

        Raises
        ------
        `~astroflux.estimators.MeasurementError`
            If there is no source at the position.
        """
        # in units of the noise, so that the unit and the scale of the data do not matter
        data, noise, reference = cutout.in_noise_units()
        mask = cutout.ignored

        kernel_fwhm = self.kernel_fwhm
        if kernel_fwhm is None:
            known = np.isfinite(cutout.psf_fwhm)
            kernel_fwhm = cutout.psf_fwhm if known else DEFAULT_KERNEL_FWHM
        # one that is wider than the stamp makes it no smoother
        smooth = _smooth(data, mask, min(float(kernel_fwhm), *map(float, data.shape)))
        segmentation = detect_segments(smooth, self.n_sigma * noise, self.n_pixels, mask)
        labels = None if segmentation is None else segmentation.data
        label = find_label(labels, cutout.position, self.match_radius)
        if self.deblend:
            # the others are neighbors, whether split or not
            segmentation = split_segments(
                smooth, segmentation, [label], self.n_pixels, self.n_levels, self.contrast
            )
            label = find_label(segmentation.data, cutout.position, self.match_radius)
        return Segments(data, noise, smooth, mask, reference, segmentation, label)


# what a parameter ``finder`` is to be
IS_FINDER = (lambda value: isinstance(value, SourceFinder), 'must be a SourceFinder')


@dataclass(slots=True, eq=False)
class Segments:
    """A cutout split into sources, as `SourceFinder.find` says."""

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


def _smooth(data, mask, fwhm):
    if fwhm == 0:
        return data
    kernel = gaussian_kernel(fwhm)
    if mask is None:
        return convolve(data, kernel)
    # masked regions larger than the kernel remain NaN: they are not used anyway
    with quiet_libraries():
        smooth = convolve(data, kernel, mask=mask)
    return np.nan_to_num(smooth, copy=False)


@lru_cache(maxsize=32)
def gaussian_kernel(fwhm):
    """Return a Gaussian of a FWHM in pixels, as a kernel of sum 1."""
    # kept, as making it takes about as long as using it; 3.5 standard deviations to each side
    return make_2dgaussian_kernel(fwhm, size=2 * int(np.ceil(1.5 * fwhm)) + 1)


def find_label(labels, position, match_radius):
    """
    Find the segment at the position, or the nearest one within so many pixels.

    The labels (0 outside all segments) are `None` for no segment at all. Without a segment
    within the radius, a `MeasurementError` is raised.
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


def neighbor_flag(aperture, labels, label):
    """Return NEIGHBOUR if the segment of another source reaches into an aperture, else 0."""
    inside = aperture.to_mask(method='center')
    labels = inside.cutout(labels)
    if labels is None:
        return 0
    other = (labels != 0) & (labels != label) & (inside.data > 0)
    return int(MeasurementFlag.NEIGHBOUR) if other.any() else 0
