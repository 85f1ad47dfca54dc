# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Segments of an image, as photutils finds and splits them, without its warnings and bars."""

from photutils.segmentation import deblend_sources, detect_sources

from astroflux._quiet import quiet_libraries

__all__ = ['detect_segments', 'split_segments']


def detect_segments(image, threshold, n_pixels, mask):
    """Connected pixels above a threshold as a `SegmentationImage`, `None` if there are none."""
    # nothing detected is told by the return value
    with quiet_libraries():
        return detect_sources(image, threshold, n_pixels, mask=mask)


def split_segments(image, segmentation, labels, n_pixels, n_levels, contrast):
    """Split some segments at their saddles, and leave the others as they are."""
    # that a segment has too few levels to be split in the mode asked for is no news here
    with quiet_libraries():
        return deblend_sources(
            image,
            segmentation,
            n_pixels,
            labels=labels,
            n_levels=n_levels,
            contrast=contrast,
            progress_bar=False,
        )
