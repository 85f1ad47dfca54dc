# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The stamps of one image, which are made again as the light in it is told apart."""

from dataclasses import replace

import numpy as np

from astroflux.cutouts._batch import Batch, Told
from astroflux.cutouts._cutout import Cutout
from astroflux.cutouts._image import (
    LARGEST_SIZE,
    chosen_sources,
    sizes_of,
    stamp_of,
    whole_image,
)
from astroflux.cutouts._noise import GivenNoise
from astroflux.cutouts._parse import fit_psf_cells, parse_options
from astroflux.cutouts._told import LOCAL, amended

__all__ = ['ImageStamps']


class ImageStamps:
    """
    Stamps around many sources of one image, in any order and as often as need be.

    Parameters
    ----------
    image : object
        One image, of any kind that `~astroflux.cutouts.iter_cutouts` takes.
    positions : object
        Many of them, or a catalogue, as it takes for one image. Pixels of others in a segmentation
        image are not masked.
    labels, stamp_size, **options
        The other keywords of `~astroflux.cutouts.iter_cutouts`.

    Attributes
    ----------
    data : 2D `~numpy.ndarray`
        The whole image, float32, in the unit of the cutouts and without the sky; 0 where pixels
        cannot be used.
    weight : 2D `~numpy.ndarray` or float
        Inverse variance of each pixel, 0 where it cannot be used, as far as it is known: a stamp
        that has been made tells more. Relative if there is no noise.
    unit : `~astropy.units.UnitBase`
        Unit of the cutouts.
    wcs : object
        That of the whole image; `None` if it has none.
    label : str or None
        What the image is called.

    Raises
    ------
    TypeError, ValueError, OSError, `~astropy.units.UnitsError`
        As of `~astroflux.cutouts.iter_cutouts`; `ValueError` also for a ``background`` that is
        ``'local'``: the sky of an image is that of all its sources.
    """

    def __init__(self, image, positions, *, labels=None, stamp_size=None, **options):
        parsed, correlation, oversampling = parse_options(**options)
        shared = {option.name: option.shared for option in parsed}
        if isinstance(shared['background'], str) and shared['background'] == LOCAL:
            msg = (
                "background='local' is for single cutouts: for an image want a number or a map, "
                'such as a Background2D'
            )
            raise ValueError(msg)
        whole = whole_image(image, shared)
        fit_psf_cells(parsed, whole.data.shape)
        # what is told of each pixel is of the whole image from here on
        by_pixel = ('error', 'mask', 'background')
        amended_whole = amended(whole, *(shared[name] for name in by_pixel))
        sources = chosen_sources(amended_whole, positions, shared | dict.fromkeys(by_pixel), labels)
        # the pixels of others are not masked: their light is told apart
        self._sources = replace(sources, segmentation=None)
        for option in parsed:
            option.check_size(len(sources))
        told = [Told(*(option.next(row) for option in parsed)) for row in range(len(sources))]
        self._told = [each._replace(**dict.fromkeys(by_pixel)) for each in told]
        self._whole, self._sizes = amended_whole, np.array(sizes_of(stamp_size, sources))
        self._has_sizes = stamp_size is not None
        self.wcs, self.label = whole.wcs, whole.label
        self._batch = Batch(False, correlation, of_image=True, oversampling=oversampling)
        self._prepare(amended_whole)
        self._scales = [None] * len(sources)
        self._stamps = [self._cut(row) for row in range(len(sources))]

    def _cut(self, row):
        size = int(self._sizes[row])
        return stamp_of(self._whole, self.unit, self._sources, row, size)

    def _parse(self, row, stamp):
        told = self._told[row]
        if not isinstance(stamp, Cutout):
            told = told.part(*stamp.window)
        cutout = self._batch.parse(stamp, told, self._scales[row])
        if not cutout.is_failed:
            # found once, as a WCS is slow
            self._scales[row] = cutout.pixel_scale
        return cutout

    def enlarge(self, row, size):
        """
        Let the stamp of a source have so many pixels a side; return whether that is more.

        It stays as it is if the user has said how large stamps are to be.
        """
        size = min(int(size), LARGEST_SIZE)
        if self._has_sizes or size <= self._sizes[row]:
            return False
        before, self._sizes[row] = self.window(row), size
        self._stamps[row] = self._cut(row)
        # there may be no more of the image
        return self.window(row) != before

    def _prepare(self, whole):
        """Take the whole image to the unit of the cutouts."""
        ny, nx = whole.data.shape
        scale = self._batch._scale_of(whole, (nx / 2, ny / 2))
        factor = self._batch._factor(whole.unit, scale)
        self.unit = self._batch.unit
        self.data = np.array(whole.data, np.float32)
        if factor != 1:
            self.data *= np.float32(factor)
        self._mask = ~np.isfinite(self.data)
        if whole.mask is not None:
            self._mask |= np.asarray(whole.mask, dtype=bool)
        self.data[self._mask] = 0
        self._noise = None
        self._variance = 1.0
        if whole.noise is not None:
            factor *= whole.noise.factor(whole.unit)
            noise = np.asarray(whole.noise.std(), np.float32) * np.float32(factor)
            self._noise = GivenNoise(noise)
            self._variance = noise**2

    def __len__(self):
        return len(self._stamps)

    @property
    def has_noise(self):
        """Whether the noise of each pixel was given, so that the weights are no relative ones."""
        return self._noise is not None

    @property
    def weight(self):
        weight = np.empty_like(self.data)
        with np.errstate(divide='ignore', invalid='ignore'):
            np.divide(1, self._variance, out=weight, casting='same_kind')
        # both are false for NaN
        weight[self._mask | ~((weight > 0) & (weight < np.inf))] = 0
        return weight

    def first(self, row):
        """Return the `~astroflux.cutouts.Cutout` of a source, with all light in it."""
        cutout = self._parse(row, self._stamps[row])
        if not cutout.is_failed and cutout.ignored is not None:
            # pixels that are found out to be none of the sky
            self._mask[self._stamps[row].window] |= cutout.ignored
        return cutout

    def again(self, row, data, neighbors=None):
        """
        Return the `~astroflux.cutouts.Cutout` of a source in other data.

        Parameters
        ----------
        row : int
            Number of the source; that of one that did not fail.
        data : 2D `~numpy.ndarray`
            Of the shape of its stamp, in the unit of the cutouts.
        neighbors : 2D `~numpy.ndarray`, optional
            What `~astroflux.cutouts.Cutout` has of these, in pixels of the image.
        """
        stamp = self._stamps[row]
        window = stamp.window
        noise = self._noise
        if noise is not None and np.ndim(noise.array):
            noise = noise[window]
        raw = replace(stamp, data=data, unit=self.unit, mask=self._mask[window], noise=noise)
        cutout = self._parse(row, raw)
        if neighbors is not None and not cutout.is_failed:
            rows, columns = window
            cutout.neighbors = neighbors.copy()
            cutout.neighbors[:, 1:3] -= (columns.start, rows.start)
        return cutout

    def window(self, row):
        """Return the slices of the image that are a source's stamp; `None` if it has none."""
        stamp = self._stamps[row]
        return None if isinstance(stamp, Cutout) else stamp.window
