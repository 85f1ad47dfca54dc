# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The pixels of a whole image in which sources are to be found."""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from astropy import units as u

from astroflux.cutouts._batch import Batch, Told
from astroflux.cutouts._image import STAMP_SIZE, whole_image
from astroflux.cutouts._items import ItemFault
from astroflux.cutouts._parse import parse_options
from astroflux.cutouts._steps import usable_pixels
from astroflux.cutouts._told import LOCAL, amended
from astroflux.flags import MeasurementFlag as Flag

__all__ = ['FieldPixels', 'split_axis']

# The image is looked through in tiles of about so many pixels a side; noise that is not given is
# estimated in each of them.
TILE = 512

# Where the width of the PSF is asked for, as parts of the sides: the first place that tells it.
_PLACES = ((0.5, 0.5), (0.25, 0.25), (0.75, 0.25), (0.25, 0.75), (0.75, 0.75))


@dataclass
class FieldPixels:
    """
    An image in units of its noise.

    Attributes
    ----------
    data, noise : 2D `~numpy.ndarray`
        float32, in units of the reference; 0 and the typical noise where pixels cannot be used.
    mask : 2D `~numpy.ndarray`
        Bool; `True` where a pixel cannot be used.
    reference : float
        A typical noise of a pixel.
    unit : `~astropy.units.UnitBase`
        Of the reference.
    factor : float
        From the values of the image to this unit.
    psf_fwhm : float
        Width of the PSF in pixels, near the middle; NaN if unknown.
    """

    data: np.ndarray
    noise: np.ndarray
    mask: np.ndarray
    reference: float
    unit: u.UnitBase
    factor: float
    psf_fwhm: float

    @classmethod
    def of(cls, image, **options):
        """
        Take the pixels of one image.

        Parameters
        ----------
        image : object
            Of any kind that `~astroflux.cutouts.iter_cutouts` takes as one cutout.
        **options
            Its keywords that say something of the whole image.

        Raises
        ------
        TypeError, ValueError, OSError, `~astropy.units.UnitsError`
            If it is no image, a keyword is wrong or has a value for each source, or the
            uncertainty makes no sense.
        """
        parsed, _, oversampling = parse_options(**options)
        for option in parsed:
            if option.is_for_each:
                msg = (
                    f'{option.name} has one value for each source, but which sources there are is '
                    'not known before they are detected: give one for all, or a catalogue'
                )
                raise ValueError(msg)
        told = Told(*(option.shared for option in parsed))
        if told.background is LOCAL:
            msg = (
                "background='local' is measured about known sources: to detect them want a number, "
                'a map, or a detector with an estimate of the background'
            )
            raise ValueError(msg)
        whole = whole_image(image, told._asdict())
        batch = Batch(False, None, of_image=True, oversampling=oversampling)
        ny, nx = whole.data.shape
        factor = batch._factor(whole.unit, batch._scale_of(whole, (nx / 2, ny / 2)))
        fwhm = _psf_fwhm(whole, told, batch)
        return cls(*_usable(whole, told, factor), batch.unit, factor, fwhm)


def _usable(whole, told, factor):
    """Return data, noise, mask and the reference, a tile after the other."""
    shape = whole.data.shape
    data, noise = np.zeros(shape, np.float32), np.ones(shape, np.float32)
    mask = np.ones(shape, bool)
    reference = why = None
    for rows in split_axis(shape[0], TILE):
        for columns in split_axis(shape[1], TILE):
            part, of_part = whole.part(rows, columns), told.part(rows, columns)
            try:
                part = amended(part, of_part.error, of_part.mask, of_part.background)
                pixels = usable_pixels(part, factor)
            except ItemFault as fault:
                # an empty tile has no sources
                why = fault if fault.flag != Flag.NO_PIXELS else why
                continue
            if reference is None:
                reference = float(np.median(pixels.noise))
            data[rows, columns] = pixels.data / reference
            noise[rows, columns] = pixels.noise / reference
            mask[rows, columns] = False if pixels.mask is None else pixels.mask
    if why is not None and mask.all():
        raise ValueError(why.message) from why
    return data, noise, mask, 1.0 if reference is None else reference


def split_axis(length, size):
    """Return slices of about a size, all but equal, that make up an axis."""
    edges = np.linspace(0, length, max(1, round(length / size)) + 1).astype(int)
    return [slice(int(first), int(last)) for first, last in pairwise(edges)]


def _psf_fwhm(whole, told, batch):
    """Return the width of the PSF in pixels; NaN if it is not known."""
    half = STAMP_SIZE // 2
    for parts in _PLACES:
        window = tuple(
            slice(max(int(part * length) - half, 0), int(part * length) + half)
            for part, length in zip(parts, whole.data.shape, strict=True)
        )
        cutout = batch.parse(whole.part(*window), told.part(*window))
        if math.isfinite(cutout.psf_fwhm):
            return cutout.psf_fwhm
    return math.nan
