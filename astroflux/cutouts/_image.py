# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Stamps around many sources of one image, cut one after the other."""

import math

import numpy as np

from astroflux.cutouts._catalog import sources_of
from astroflux.cutouts._cutout import Cutout
from astroflux.cutouts._items import ItemFault, unpack
from astroflux.cutouts._steps import SMALLEST_SIDE, check_structure
from astroflux.cutouts._told import amended
from astroflux.cutouts._units import check_flux_unit
from astroflux.flags import MeasurementFlag as Flag

__all__ = [
    'LARGEST_SIZE',
    'STAMP_SIZE',
    'chosen_sources',
    'sizes_of',
    'stamp_of',
    'stamps_of',
    'whole_image',
]

# What the network sees of a stamp, and so how large one is at least.
STAMP_SIZE = 147

# Side of a stamp over that of the box about the pixels where the source was detected: its light
# goes farther, and blank sky is wanted around that.
SIZE_PER_EXTENT = 3

# Largest stamp that is chosen: the network's in its largest blocks of pixels.
LARGEST_SIZE = 12 * STAMP_SIZE


def whole_image(image, told):
    """
    Take an image apart that stamps are to be cut of.

    Parameters
    ----------
    image : object
        Of any kind that a cutout may be of.
    told : dict
        What the call says of the whole image, by the names of its keywords.

    Returns
    -------
    whole : `~astroflux.cutouts._items.RawItem`
        Of which nothing is copied.

    Raises
    ------
    TypeError, ValueError, OSError, `~astropy.units.UnitsError`
        If it is no image, or what is told does not fit it.
    """
    try:
        whole = unpack(image)
        check_structure(whole)
        _check_told(whole, told)
    except ItemFault as exc:
        raise exc.error(exc.message) from exc.__cause__
    return whole


def _check_told(whole, told):
    """Raise an error if maps have another shape than the image, or units do not fit."""
    corner = np.s_[0:SMALLEST_SIDE, 0:SMALLEST_SIDE]
    parts = {}
    for name in ('error', 'mask', 'background', 'effective_gain'):
        value = told[name]
        is_map = np.ndim(value) == 2
        if is_map and value.shape != whole.data.shape:
            msg = f'the {name} has the shape {value.shape}, the image has {whole.data.shape}'
            raise ValueError(msg)
        parts[name] = value[corner] if is_map else value
    if isinstance(parts['background'], str):
        parts['background'] = None
    amended(whole.part(*corner), parts['error'], parts['mask'], parts['background'])


def stamps_of(whole, positions, told, *, labels=None, stamp_size=None):
    """
    Cut the stamps of many sources of one image.

    Parameters
    ----------
    whole : `~astroflux.cutouts._items.RawItem`
        The image.
    positions : object
        What `~astroflux.cutouts._catalog.sources_of` takes.
    told : dict
        What the call says of the whole image.
    labels : int, str or array_like, optional
        Which of the sources to take.
    stamp_size : int or array_like, optional
        Sides in pixels.

    Returns
    -------
    stamps : iterator of `~astroflux.cutouts._items.RawItem` or `~astroflux.cutouts.Cutout`
        In order, views of the image; a failed `Cutout` where the image has no such position.
    n : int
        How many there are.
    """
    # here rather than at the first stamp, as there may be none
    unit, _ = check_flux_unit(whole.unit)
    sources = chosen_sources(whole, positions, told, labels)
    return _cut(whole, unit, sources, sizes_of(stamp_size, sources)), len(sources)


def chosen_sources(whole, positions, told, labels=None):
    """Return the `~astroflux.cutouts._catalog.Sources` of an image, as of `stamps_of`."""
    sources = sources_of(positions, whole, told)
    return sources if labels is None else sources.chosen(labels)


def sizes_of(stamp_size, sources):
    """Return the side of each stamp in pixels."""
    if stamp_size is None:
        if sources.extents is None:
            return np.full(len(sources), STAMP_SIZE)
        wanted = np.nan_to_num(SIZE_PER_EXTENT * sources.extents, nan=STAMP_SIZE)
        return np.clip(wanted, STAMP_SIZE, LARGEST_SIZE).astype(int)
    sizes = np.asarray(stamp_size)
    if sizes.shape not in ((), (len(sources),)):
        msg = (
            f'stamp_size has the shape {sizes.shape} for {len(sources)} positions: want a number '
            'of pixels, or one for each'
        )
        raise ValueError(msg)
    if sizes.dtype.kind not in 'iuf' or not (sizes >= SMALLEST_SIDE).all():
        msg = f'stamp_size must be {SMALLEST_SIDE} pixels or more, got {stamp_size!r}'
        raise ValueError(msg)
    # no stamp is larger than what it is cut from
    return np.broadcast_to(np.minimum(np.round(sizes), 1e9).astype(int), len(sources))


def _cut(whole, unit, sources, sizes):
    for index, size in enumerate(sizes.tolist()):
        yield stamp_of(whole, unit, sources, index, size)


def stamp_of(whole, unit, sources, index, size):
    """Return the stamp of one of the sources, of so many pixels a side; see `stamps_of`."""
    x, y = float(sources.x[index]), float(sources.y[index])
    names = {'identifier': None, 'catalog_column': sources.catalog_column}
    if sources.identifiers is not None:
        names['identifier'] = sources.identifiers[index]
    if fault := _fault(x, y, whole.data.shape):
        place = {'position': (x, y), 'wcs': whole.wcs}
        return Cutout.failed(*fault, label=whole.label, unit=unit, **place, **names)
    rows, columns = (
        _window(center, size, length)
        for center, length in zip((y, x), whole.data.shape, strict=True)
    )
    stamp = whole.part(rows, columns)
    stamp.position = (x - columns.start, y - rows.start)
    stamp.identifier, stamp.catalog_column = names.values()
    if sources.segmentation is not None:
        stamp.mask = _with_others(stamp.mask, sources.segmentation[rows, columns], **names)
    return stamp


def _fault(x, y, shape):
    """Return the flag and the message of a position that the image lacks, or `None`."""
    if not (math.isfinite(x) and math.isfinite(y)):
        return Flag.BAD_INPUT, f'the position must be finite, got ({x:g}, {y:g})'
    if not (-0.5 <= x <= shape[1] - 0.5 and -0.5 <= y <= shape[0] - 0.5):
        msg = f'the position ({x:.1f}, {y:.1f}) is off the image of shape {shape}'
        return Flag.NO_PIXELS | Flag.OFF_CENTRE, msg
    return None


def _window(center, size, length):
    """Return the pixels along an axis, of those that there are, about the one at the center."""
    start = math.ceil(center - 0.5) - size // 2
    return slice(max(start, 0), min(start + size, length))


def _with_others(mask, labels, identifier, **_):
    """Return a mask in which the pixels of other sources are, too."""
    others = (labels != 0) & (labels != identifier)
    return others if mask is None else others | np.asarray(mask, dtype=bool)
