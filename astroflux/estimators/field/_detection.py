# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The sources of an image without a catalogue: detected and split by photutils, block by block."""

from dataclasses import dataclass
from itertools import product

import numpy as np
from astropy import units as u
from astropy.stats import gaussian_fwhm_to_sigma
from astropy.table import QTable
from scipy import ndimage

from astroflux._progress import progress_bar
from astroflux._quiet import quiet_libraries
from astroflux.cutouts._field_pixels import FieldPixels, split_axis
from astroflux.cutouts._noise import clipped_scatter
from astroflux.estimators._checks import (
    FRACTION,
    POSITIVE,
    POSITIVE_INTEGER,
    check_values,
    one_of,
)
from astroflux.estimators._options import takes_cutout_options
from astroflux.estimators._segments import detect_segments, split_segments

__all__ = ['FieldDetector', 'detected_sources']

# FWHM of the Gaussian that smooths the image where that of the PSF is not known, in pixels.
DEFAULT_FWHM = 3.0

# The Gaussian ends at so many standard deviations.
TRUNCATE = 4.0

# A masked pixel is filled from those around it if this part of the Gaussian about it is on pixels
# that are not masked.
LEAST_SEEN = 0.05

# A hole in the image, where even that is not so, belongs to a source that is detected along this
# part of its rim: the core of a saturated star.
LEAST_RIM = 0.5

# The noise of the smoothed image is measured in so many patches along each axis at most, each of
# so many pixels a side, away from what is so many standard deviations above the sky.
MOST_PATCHES = 6
PATCH = 256
SOURCE = 3.5
FEWEST_PIXELS = 500

EVERYWHERE = np.ones((3, 3), bool)

_AT_LEAST_16 = (lambda value: POSITIVE_INTEGER[0](value) and value >= 16, 'must be 16 or more')

COLUMNS = {
    'id': 'running number of the source, by y and then x',
    'x': 'x of the centroid, the first pixel is 0',
    'y': 'y of the centroid, the first pixel is 0',
    'bbox_xmin': 'first column of the pixels of the source',
    'bbox_xmax': 'last column of the pixels of the source',
    'bbox_ymin': 'first row of the pixels of the source',
    'bbox_ymax': 'last row of the pixels of the source',
    'area': 'number of its pixels',
    'segment_flux': 'sum of its pixels, without those that are masked',
    'peak_snr': 'maximum of the smoothed image over the noise of that',
    'semimajor_sigma': 'square root of the larger second moment of the smoothed image',
    'semiminor_sigma': 'square root of the smaller second moment of the smoothed image',
    'touches_edge': 'whether one of its pixels is at the edge of the image',
}
UNITS = dict.fromkeys(('x', 'y', 'area', 'semimajor_sigma', 'semiminor_sigma'), u.pix)
UNITS['area'] = u.pix**2
FORMATS = dict.fromkeys(('x', 'y', 'semimajor_sigma', 'semiminor_sigma'), '.2f')
FORMATS |= {'area': '.0f', 'segment_flux': '.6g', 'peak_snr': '.1f'}


@dataclass(frozen=True, kw_only=True)
class FieldDetector:
    """
    How the sources of a field are detected where there is no catalogue.

    The image is smoothed by a Gaussian of the width of the PSF. Connected pixels that stand out
    of the noise of the smoothed image make segments, which are split into sources at their
    saddles. photutils detects and splits, in blocks of the image.

    Parameters
    ----------
    n_sigma : float, optional
        Detection threshold in units of the noise of the smoothed image: a point source is found
        down to about this signal-to-noise ratio. The noise is that of the image's uncertainty, or
        estimated if there is none; how much of it the smoothing leaves is measured in blank sky,
        as that depends on how noise is correlated between pixels.
    n_pixels : int, optional
        How many connected pixels above the threshold make a source.
    deblend : bool, optional
        Whether to split segments into several sources.
    n_levels : int, optional
        Number of levels of the deblending.
    contrast : float, optional
        Fraction of the flux of a segment that a part must have to become a source.
    kernel_fwhm : float, optional
        FWHM of the Gaussian in pixels; by default that of the PSF, or 3 if unknown.
    background : {'none', 'estimate'}, optional
        The sky: taken to be subtracted, or estimated by `~photutils.background.Background2D`. A
        field is then measured without the same sky.
    box_size : int, optional
        Side in pixels of the boxes in which it is estimated; several times larger than the
        largest galaxy.
    block_size : int, optional
        Side of the blocks in pixels. The sources do not depend on it.
    overlap : int, optional
        How far blocks go beyond their own pixels to each side. An object that is not whole in
        a block is detected again in a larger one.

    See Also
    --------
    SourceFinder : the same for the one source of a cutout

    Notes
    -----
    A segment belongs to the block that has its first pixel, and is split when all of it is in
    sight, so that each source is found once and as in the whole image. Memory and time grow with
    the largest object.

    Masked pixels are filled from their neighbors before the image is smoothed, if these are near.
    What is within a source beyond that, as the core of a saturated star, becomes a part of its
    segment, with the brightness at the rim, if it is no larger than half of ``overlap``. So such a
    star is found once and at its center, but
    ``segment_flux`` has only what is not masked. A source all of whose pixels are masked far and
    wide is not found.

    Examples
    --------
    >>> import numpy as np
    >>> from astroflux.estimators import FieldDetector
    >>> y, x = np.mgrid[:120, :160]
    >>> image = np.random.default_rng(5).normal(size=(120, 160))
    >>> for x0, y0, height in [(50, 40, 100), (110, 80, 50)]:
    ...     image += height * np.exp(-0.5 * ((x - x0)**2 + (y - y0)**2) / 3.0**2)
    >>> sources = FieldDetector().detect(image, error=1.0, psf_fwhm=7.0)
    >>> sources['id', 'x', 'y', 'touches_edge'].pprint()
     id   x      y   touches_edge
         pix    pix
    --- ------ ----- ------------
      1  49.98 39.96        False
      2 110.00 79.94        False
    """

    n_sigma: float = 4.0
    n_pixels: int = 5
    deblend: bool = True
    n_levels: int = 32
    contrast: float = 0.005
    kernel_fwhm: float | None = None
    background: str = 'none'
    box_size: int = 128
    block_size: int = 1024
    overlap: int = 128

    def __post_init__(self):
        checks = {
            'n_sigma': POSITIVE,
            'n_pixels': POSITIVE_INTEGER,
            'n_levels': POSITIVE_INTEGER,
            'contrast': FRACTION,
            'kernel_fwhm': (lambda value: value is None or POSITIVE[0](value), POSITIVE[1]),
            'background': one_of('none', 'estimate'),
            'box_size': _AT_LEAST_16,
            'block_size': _AT_LEAST_16,
            'overlap': POSITIVE_INTEGER,
        }
        check_values(checks, self)

    @takes_cutout_options(without=('positions', 'labels', 'stamp_size'))
    def detect(self, image, *, progress=None, **options):
        """
        Detect the sources of an image.

        Parameters
        ----------
        image : object
            One image, of any kind that `~astroflux.estimators.FluxEstimator.measure` takes as a
            cutout.
        progress : bool, optional
            As of `~astroflux.estimators.FluxEstimator.measure`.
        **options
            What is to be told of the whole image, as of
            `~astroflux.estimators.FluxEstimator.measure`: ``psf``, ``oversampling``, ``psf_fwhm``,
            ``error``, ``mask`` and ``background``; the others change nothing.

        Returns
        -------
        sources : `~astropy.table.QTable`
            One row for each source, in the order of ``y`` and then ``x``; of no rows if there
            are none. ``id``, centroid, box, ``area`` and ``segment_flux`` of the pixels above the
            threshold, ``peak_snr``, ``semimajor_sigma`` and ``semiminor_sigma``, and whether it
            ``touches_edge``. As ``catalogue`` or ``positions`` of a measurement it says where the
            sources are, and how large.

        Raises
        ------
        TypeError, ValueError, OSError, `~astropy.units.UnitsError`
            If it is no image, an option is wrong, or the sky is not subtracted.
        """
        return self._run(FieldPixels.of(image, **options), progress)[0]

    def _run(self, pixels, progress=None):
        """
        Detect the sources of `~astroflux.cutouts._field_pixels.FieldPixels`.

        Return the table, and the sky that was subtracted, in the unit of the image; `None` if it
        was not estimated.
        """
        sky, found = None, []
        if self.background == 'estimate':
            sky = self._background(pixels)
            pixels.data -= np.where(pixels.mask, np.float32(0), sky)
            sky = sky * (pixels.reference / pixels.factor)
        if not pixels.mask.all():
            field = _SmoothField(pixels, self._fwhm(pixels))
            self._check_sky(field)
            blocks = list(product(*(split_axis(length, self.block_size) for length in field.shape)))
            counts = {'desc': 'detect', 'unit': ' blocks', 'total': len(blocks)}
            with progress_bar(progress=progress, **counts) as bar:
                for block in blocks:
                    found.append(self._in_block(field, block))
                    bar.update()
        return detected_sources(pixels.unit, found), sky

    def _fwhm(self, pixels):
        known = DEFAULT_FWHM if np.isnan(pixels.psf_fwhm) else pixels.psf_fwhm
        fwhm = known if self.kernel_fwhm is None else self.kernel_fwhm
        return min(float(fwhm), *map(float, pixels.data.shape))

    def _background(self, pixels):
        from photutils.background import Background2D

        box = tuple(min(self.box_size, length) for length in pixels.data.shape)
        if pixels.mask.all():
            return np.zeros_like(pixels.data)
        with quiet_libraries():
            # boxes that are masked but for a tenth are filled from the others
            estimate = Background2D(pixels.data, box, mask=pixels.mask, exclude_percentile=90)
            return np.asarray(estimate.background, np.float32)

    def _check_sky(self, field):
        if field.level > self.n_sigma:
            msg = (
                f'the sky is not subtracted: half of the pixels of the smoothed image are '
                f'{field.level:.3g} times its noise above 0, and the threshold is '
                f'{self.n_sigma:g}; give background=, or a FieldDetector with '
                "background='estimate'"
            )
            raise ValueError(msg)

    def _in_block(self, field, block):
        """Return the columns of the sources whose segments begin in a block."""
        reach, margin = self.overlap, max(1, self.overlap // 2)
        while True:
            part = field.part(_grown(block, reach, field.shape))
            part.fill_holes(self.n_sigma, largest=margin)
            if part.unseen.all():
                return None
            segments = detect_segments(part.snr, self.n_sigma, self.n_pixels, part.unseen)
            if segments is None:
                return None
            labels, is_whole = _own(segments, block, part.window, field.shape, margin)
            if is_whole:
                break
            reach *= 2
        if not len(labels):
            return None
        segments.keep_labels(labels)
        if self.deblend:
            many = _with_many_peaks(part.smooth, segments)
            if len(many):
                segments = split_segments(
                    part.smooth, segments, many, self.n_pixels, self.n_levels, self.contrast
                )
        return part.columns(segments)


class _SmoothField:
    """An image that is smoothed part by part, and what its noise is then."""

    def __init__(self, pixels, fwhm):
        self.shape = pixels.data.shape
        self.pixels, self.fwhm = pixels, fwhm
        self.growth = 1.0
        self.growth, self.level = self._noise()

    def part(self, window):
        """Return a part of the smoothed image; the same pixels as those of any other part."""
        sigma = self.fwhm * gaussian_fwhm_to_sigma
        wide = _grown(window, int(TRUNCATE * sigma + 0.5) + 1, self.shape)
        inner = tuple(
            slice(w.start - v.start, w.stop - v.start) for w, v in zip(window, wide, strict=True)
        )
        data, mask = self.pixels.data[wide], self.pixels.mask[wide]

        def smoothed(values, sigma=sigma):
            smooth = ndimage.gaussian_filter(values, sigma, mode='constant', truncate=TRUNCATE)
            return smooth[inner]

        good = (~mask).astype(np.float32)
        seen = smoothed(good)
        unseen = mask[inner] & ~(seen > LEAST_SEEN)
        seen[unseen] = 1
        smooth = smoothed(good * data) / seen
        smooth[unseen] = 0
        # the noise of the mean of what is seen, which is weighted by the square of the Gaussian
        noise = np.sqrt(smoothed(good, sigma / np.sqrt(2))) / seen
        noise[unseen] = 1
        snr = smooth / (np.float32(self.growth) * noise * self.pixels.noise[window])
        snr[unseen] = 0
        return _Part(window, self.pixels, data[inner], smooth, snr, unseen)

    def _noise(self):
        """Return the noise of the smoothed image over that of the pixels, and its median."""
        noise, level = [], []
        for patch in product(*map(_patches, self.shape)):
            snr, usable = self.part(patch).snr, ~self.pixels.mask[patch]
            if usable.any():
                noise.append(_blank_noise(snr, usable, self.fwhm))
                level.append(np.median(snr[usable]))
        noise = [each for each in noise if each is not None]
        growth = np.median(noise) if noise else _of_white_noise(self.fwhm)
        return growth, np.median(level) / growth if level else 0.0


@dataclass
class _Part:
    """A part of the smoothed image; the pixels that are not seen are no part of a source."""

    window: tuple
    pixels: FieldPixels
    data: np.ndarray
    smooth: np.ndarray
    snr: np.ndarray
    unseen: np.ndarray

    def fill_holes(self, threshold, largest):
        """See what cannot be seen where it is within a source."""
        holes, n = ndimage.label(self.unseen, EVERYWHERE)
        if not n:
            return
        around = ndimage.grey_dilation(holes, footprint=EVERYWHERE)
        around[self.unseen] = 0
        rim = around > 0
        around, index = around[rim], np.arange(n + 1)
        is_bright = self.snr[rim] > threshold
        n_rim = np.bincount(around, minlength=n + 1)
        is_filled = np.bincount(around[is_bright], minlength=n + 1) >= LEAST_RIM * n_rim
        extents = [max(s.stop - s.start for s in place) for place in ndimage.find_objects(holes)]
        # the first are the pixels that are seen
        is_filled &= (n_rim > 0) & (np.array([np.inf, *extents]) <= largest)
        if not is_filled.any():
            return
        filled = is_filled[holes]
        for image in (self.smooth, self.snr):
            image[filled] = ndimage.maximum(image[rim], around, index)[holes[filled]]
        self.unseen &= ~filled

    def columns(self, segments):
        """Return the columns of the sources."""
        from photutils.segmentation import SourceCatalog

        rows, columns = self.window
        own = segments.data > 0
        catalog = SourceCatalog(self.data, segments, convolved_data=self.smooth)
        with quiet_libraries():
            xmin, ymin = catalog.bbox_xmin + columns.start, catalog.bbox_ymin + rows.start
            x, y = catalog.cutout_centroid.T
            found = {
                'x': x + xmin,
                'y': y + ymin,
                'bbox_xmin': xmin,
                'bbox_xmax': catalog.bbox_xmax + columns.start,
                'bbox_ymin': ymin,
                'bbox_ymax': catalog.bbox_ymax + rows.start,
                'area': catalog.area.value,
                'segment_flux': catalog.segment_flux * self.pixels.reference,
                'peak_snr': ndimage.maximum(self.snr[own], segments.data[own], segments.labels),
                'semimajor_sigma': catalog.semimajor_axis.value,
                'semiminor_sigma': catalog.semiminor_axis.value,
            }
        ny, nx = self.pixels.data.shape
        found['touches_edge'] = (
            (found['bbox_xmin'] == 0)
            | (found['bbox_ymin'] == 0)
            | (found['bbox_xmax'] == nx - 1)
            | (found['bbox_ymax'] == ny - 1)
        )
        return found


def _grown(window, reach, shape):
    """Return a window that is larger by so many pixels to each side, as far as the image goes."""
    return tuple(
        slice(max(side.start - reach, 0), min(side.stop + reach, length))
        for side, length in zip(window, shape, strict=True)
    )


def _patches(length):
    """Return slices along an axis, evenly spread."""
    size = min(PATCH, length)
    n = min(MOST_PATCHES, max(length // PATCH, 1))
    return [slice(first, first + size) for first in np.linspace(0, length - size, n).astype(int)]


def _blank_noise(snr, usable, fwhm):
    """Return the scatter of the pixels of an image that hold no source; `None` if they are few."""
    blank, sigma = usable, None
    for _ in range(3):
        values = snr[blank]
        if values.size < FEWEST_PIXELS:
            break
        sigma = clipped_scatter(values)
        is_bright = snr > np.median(values) + SOURCE * sigma
        blank = usable & ~ndimage.maximum_filter(is_bright, 2 * int(np.ceil(fwhm)) + 1)
    return sigma or None


def _of_white_noise(fwhm):
    """Return by how much a Gaussian reduces white noise."""
    return min(1.0, 1 / (2 * np.sqrt(np.pi) * gaussian_fwhm_to_sigma * fwhm))


def _own(segments, block, window, shape, margin):
    """
    Return the labels of the segments whose first pixel is in a block, and if all are in sight.

    One that comes as near to the end of the window as the margin may go on beyond it.
    """
    own, is_whole = [], True
    (top, left), (lines, columns) = (side.start for side in window), block
    for label, place in zip(segments.labels, segments.slices, strict=True):
        y, x = (side.start for side in place)
        x += np.argmax(segments.data[y, place[1]] == label)
        if not (lines.start <= y + top < lines.stop and columns.start <= x + left < columns.stop):
            continue
        own.append(label)
        for side, seen, length in zip(place, window, shape, strict=True):
            is_whole &= seen.start == 0 or side.start >= margin
            is_whole &= seen.stop == length or side.stop + margin <= seen.stop - seen.start
    return np.array(own), is_whole


def _with_many_peaks(smooth, segments):
    """Return the labels of the segments with more than one maximum: no others can be split."""
    is_peak = (ndimage.maximum_filter(smooth, 3) == smooth) & (segments.data > 0)
    peaks, _ = ndimage.label(is_peak, EVERYWHERE)
    # of each peak one pixel
    _, first = np.unique(peaks[is_peak], return_index=True)
    return np.flatnonzero(np.bincount(segments.data[is_peak][first]) > 1)


def detected_sources(unit, parts=()):
    """Return the sources of all blocks as a table; fluxes are in a unit."""
    parts = [part for part in parts if part is not None]
    columns = {
        name: np.concatenate([part[name] for part in parts]) if parts else np.empty(0)
        for name in list(COLUMNS)[1:]
    }
    order = np.lexsort((columns['x'], columns['y']))
    table = QTable({'id': np.arange(1, len(order) + 1)})
    for name, values in columns.items():
        values = values[order]
        if name.startswith('bbox'):
            values = values.astype(int)
        elif name == 'touches_edge':
            values = values.astype(bool)
        else:
            own = unit if name == 'segment_flux' else UNITS.get(name)
            values = np.asarray(values, float) if own is None else u.Quantity(values, own, float)
        table[name] = values
    for name, text in COLUMNS.items():
        table[name].info.description = text
        table[name].info.format = FORMATS.get(name)
    return table
