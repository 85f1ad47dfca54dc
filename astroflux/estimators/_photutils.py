# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Segmentation and Kron photometry by photutils, with one face for all of its versions.

Version 3.0 renamed arguments and attributes; all that differs stays in this module.
"""

import warnings

from photutils.segmentation import SourceCatalog, deblend_sources, detect_sources

__all__ = ['KronCatalog', 'deblend', 'detect', 'segment_ellipse']

# by the names themselves rather than a version, which a development build may misstate
_NEW_NAMES = hasattr(SourceCatalog, 'select_label')


def detect(image, threshold, n_pixels, *, mask=None):
    """
    Detect sources above a threshold.

    Parameters
    ----------
    image : `~numpy.ndarray`, shape (ny, nx)
        The image, smoothed.

    threshold : `~numpy.ndarray`, shape (ny, nx)
        What a pixel must exceed.

    n_pixels : int
        How many connected pixels make a source.

    mask : `~numpy.ndarray` of bool, optional
        `True` for pixels to ignore.

    Returns
    -------
    segmentation : `~photutils.segmentation.SegmentationImage` or None
        `None` if nothing is detected.
    """
    with warnings.catch_warnings():
        # nothing detected is told by the return value
        warnings.simplefilter('ignore')
        return detect_sources(image, threshold, n_pixels, mask=mask)


def deblend(image, segmentation, n_pixels, *, labels, n_levels, contrast):
    """
    Split segments at their saddles.

    Parameters
    ----------
    image : `~numpy.ndarray`, shape (ny, nx)
        The image in which the sources were detected.

    segmentation : `~photutils.segmentation.SegmentationImage`
        The segments.

    n_pixels : int
        How many connected pixels make a source.

    labels : list of int
        The segments to split.

    n_levels : int
        Number of levels between the lowest and the highest pixel of a segment.

    contrast : float
        Fraction of the flux of a segment that a part must have.

    Returns
    -------
    segmentation : `~photutils.segmentation.SegmentationImage`
        A new segmentation.
    """
    levels = {'n_levels' if _NEW_NAMES else 'nlevels': n_levels}
    with warnings.catch_warnings():
        # that a segment has too few levels to be split in the mode asked for is no news here
        warnings.simplefilter('ignore')
        return deblend_sources(
            image,
            segmentation,
            n_pixels,
            labels=labels,
            contrast=contrast,
            progress_bar=False,
            **levels,
        )


class KronCatalog:
    """
    Kron photometry of one segment.

    Parameters
    ----------
    data, smooth, error : `~numpy.ndarray`, shape (ny, nx)
        The image, the smoothed image in which the sources were detected, the 1-sigma noise.

    segmentation : `~photutils.segmentation.SegmentationImage`
        The segments.

    label : int
        The segment to measure.

    mask : `~numpy.ndarray` of bool or None
        `True` for pixels to ignore.

    neighbours : {'correct', 'mask', 'none'}
        What becomes of the pixels of other segments.

    kron_params : tuple of float
        Factor on the Kron radius, its smallest value, smallest circular radius in pixels.
    """

    def __init__(self, data, smooth, error, segmentation, label, *, mask, neighbours, kron_params):
        method = {'aperture_mask_method' if _NEW_NAMES else 'apermask_method': neighbours}
        catalog = SourceCatalog(
            data,
            segmentation,
            convolved_data=smooth,
            error=error,
            mask=mask,
            kron_params=kron_params,
            **method,
        )
        # all else is computed lazily, so for this source only
        self._source = catalog.select_label(label) if _NEW_NAMES else catalog.get_label(label)

    @property
    def flux(self):
        """Sum over the Kron aperture."""
        return float(self._source.kron_flux)

    @property
    def flux_err(self):
        """1-sigma error of that sum."""
        name = 'kron_flux_err' if _NEW_NAMES else 'kron_fluxerr'
        return float(getattr(self._source, name))

    @property
    def radius(self):
        """Kron radius in units of the semimajor axis of the source's second moments."""
        return float(self._source.kron_radius.value)

    @property
    def aperture(self):
        """The Kron aperture, or `None` if there is none."""
        return self._source.kron_aperture


def segment_ellipse(smooth, segmentation, label, *, mask):
    """
    Return the ellipse that has the second moments of a segment.

    Parameters
    ----------
    smooth : `~numpy.ndarray`, shape (ny, nx)
        The image in which the sources were detected.

    segmentation : `~photutils.segmentation.SegmentationImage`
        The segments.

    label : int
        The segment.

    mask : `~numpy.ndarray` of bool or None
        `True` for pixels to ignore.

    Returns
    -------
    x, y, a, b, theta : float
        Centroid, the semiaxes at one standard deviation, in pixels, and the angle of the major
        axis from the x axis in radians; NaN if the moments make no ellipse.
    """
    catalog = SourceCatalog(smooth, segmentation, mask=mask)
    source = catalog.select_label(label) if _NEW_NAMES else catalog.get_label(label)
    names = (
        ('semimajor_axis', 'semiminor_axis')
        if _NEW_NAMES
        else ('semimajor_sigma', 'semiminor_sigma')
    )
    x, y = source.centroid
    a, b = (float(getattr(source, name).value) for name in names)
    return float(x), float(y), a, b, float(source.orientation.to_value('rad'))
