# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Every accepted kind of cutout, unpacked to one form without touching the pixels."""

import io
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import singledispatch
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.nddata import Cutout2D, NDData
from astropy.utils.masked import Masked

from astroflux.cutouts._cutout import Cutout
from astroflux.cutouts._noise import GivenNoise, noise_of
from astroflux.cutouts._planes import MaskPlaneError
from astroflux.cutouts._zeropoint import zeropoint_in
from astroflux.cutouts.readers import CutoutFile, CutoutReadError
from astroflux.flags import MeasurementFlag

__all__ = ['ItemFault', 'RawItem', 'is_single', 'is_stack', 'unpack', 'unpack_stack']

_ACCEPTED = (
    'CCDData, NDData, Cutout2D, Quantity, 2-d array, path of a FITS file or CutoutFile, an '
    'iterable of these, or a 3-d stack'
)
# Collections of something else.
_NO_CUTOUTS = (bytes, Mapping, io.IOBase, fits.HDUList)

_LABEL_KEYS = ('id', 'name', 'OBJECT')

# what a `RawItem` tells of each pixel, unless it is one value for all
_PER_PIXEL = ('data', 'mask', 'noise')


class ItemFault(Exception):
    """
    One cutout cannot be measured: the fatal flag of its row, and what is wrong.

    ``error`` is what to raise when this cutout is all that was given; `None` if it becomes a
    flagged row even then.
    """

    def __init__(self, flag, message, error=None):
        super().__init__(message)
        self.flag = flag
        self.message = message
        self.error = error


@dataclass(slots=True)
class RawItem:
    """
    A cutout as given, taken apart; nothing is copied or checked yet.

    A part of a larger image has its ``origin`` there, and the WCS of the whole, where it begins
    at ``wcs_origin``; ``window`` are the slices that it was cut with.
    """

    data: np.ndarray
    unit: u.UnitBase | None = None
    mask: np.ndarray | None = None
    noise: GivenNoise | None = None
    wcs: object = None
    psf: np.ndarray | None = None
    position: tuple | None = None
    label: str | None = None
    origin: tuple = (0, 0)
    identifier: int | str | None = None
    catalog_column: str | None = None
    zeropoint: float = math.nan
    wcs_origin: tuple = (0, 0)
    window: tuple | None = None

    def part(self, rows, columns):
        """Return a part of an image, by two slices: views of all that is told of each pixel."""

        def cut(array):
            has_pixels = array is not None and np.shape(getattr(array, 'array', array)) != ()
            return array[rows, columns] if has_pixels else array

        cuts = {name: cut(getattr(self, name)) for name in _PER_PIXEL}
        corner = (columns.start, rows.start)
        origin, wcs_origin = (
            (x0 + corner[0], y0 + corner[1]) for x0, y0 in (self.origin, self.wcs_origin)
        )
        return replace(self, **cuts, origin=origin, wcs_origin=wcs_origin, window=(rows, columns))


def is_stack(cutouts):
    """Return whether the input is an array or `NDData` of more than two axes."""
    return isinstance(cutouts, np.ndarray | NDData) and _ndim(cutouts) > 2


def _ndim(item):
    return np.ndim(item.data) if isinstance(item, NDData) else item.ndim


def is_single(cutouts):
    """
    Return whether the input of `~astroflux.cutouts.iter_cutouts` is one cutout.

    `TypeError` if it is neither a cutout nor a collection of them.
    """
    if isinstance(cutouts, np.ndarray | NDData):
        if isinstance(cutouts, np.ndarray) and cutouts.dtype.kind == 'O' and cutouts.ndim == 1:
            return False
        return _ndim(cutouts) <= 2
    is_kind = unpack.dispatch(type(cutouts)) is not unpack.dispatch(object)
    if is_kind or isinstance(cutouts, Cutout):
        return True
    if isinstance(cutouts, _NO_CUTOUTS) or not isinstance(cutouts, Iterable):
        msg = f'cannot take cutouts from {type(cutouts).__name__}: want {_ACCEPTED}'
        raise TypeError(msg)
    return False


def _array_parts(array):
    """Return values, unit and mask of any kind of array."""
    mask = unit = None
    if isinstance(array, Masked):
        array, mask = array.unmasked, array.mask
    if isinstance(array, u.Quantity):
        array, unit = array.value, array.unit
    if isinstance(array, np.ma.MaskedArray):
        if array.mask is not np.ma.nomask:
            mask = array.mask
        array = array.data
    return np.asarray(array), unit, mask


def _label_of(meta):
    for key in _LABEL_KEYS if meta else ():
        value = meta.get(key)
        if isinstance(value, str | int | np.integer) and str(value).strip():
            return str(value).strip()
    return None


@singledispatch
def unpack(item):
    """
    Take one cutout apart: a function for each kind, which is chosen by its annotation.

    `ItemFault` if it is of an unknown kind, or cannot be read.
    """
    msg = f'a cutout cannot be {type(item).__name__}: want {_ACCEPTED}'
    raise ItemFault(MeasurementFlag.BAD_INPUT, msg, TypeError)


@unpack.register
def _(item: NDData):
    data, data_unit, data_mask = _array_parts(item.data)
    mask = item.mask
    if mask is None or mask is np.ma.nomask:
        mask = data_mask
    try:
        noise = noise_of(item.uncertainty)
    except TypeError as exc:
        raise ItemFault(MeasurementFlag.BAD_INPUT, str(exc), TypeError) from exc
    psf = getattr(item, 'psf', None)
    return RawItem(
        data=data,
        unit=data_unit if item.unit is None else item.unit,
        mask=None if mask is None else np.asarray(mask),
        noise=noise,
        wcs=item.wcs,
        psf=psf if psf is None or hasattr(psf, 'oversampling') else _array_parts(psf)[0],
        label=_label_of(item.meta),
        zeropoint=zeropoint_in(item.meta),
    )


@unpack.register
def _(item: str | Path):
    return unpack(CutoutFile(item))


@unpack.register
def _(item: CutoutFile):
    try:
        raw = unpack(item.read())
    except (CutoutReadError, MaskPlaneError) as exc:
        raise ItemFault(MeasurementFlag.UNREADABLE, str(exc), type(exc)) from exc
    raw.label = str(item)
    return raw


@unpack.register
def _(item: Cutout2D):
    data, unit, mask = _array_parts(item.data)
    # The object's place, which is not the centre of a trimmed cutout.
    first, offset = item.origin_original, item.origin_cutout
    return RawItem(
        data,
        unit,
        mask,
        wcs=item.wcs,
        position=tuple(item.input_position_cutout),
        origin=(first[0] - offset[0], first[1] - offset[1]),
    )


@unpack.register
def _(item: np.ndarray):
    return RawItem(*_array_parts(item))


def _layers(array, n, shape, name):
    """Return how to get layer i of an array that has a layer per cutout or is shared."""
    if array is None:
        return lambda i: None
    if np.ndim(array) == 3 and np.shape(array)[0] == n:
        return lambda i: array[i]
    if np.ndim(array) in (0, 2):
        return lambda i: array
    msg = f'the {name} of a stack of shape {shape} has the shape {np.shape(array)}'
    raise ValueError(msg)


def unpack_stack(stack):
    """
    Take a 3-d stack apart: return an iterator of `RawItem` and their number.

    Mask, uncertainty and PSF have a layer for each cutout, or are shared; `ValueError` if a shape
    does not fit, `TypeError` if the uncertainty is of an unknown kind.
    """
    try:
        whole = unpack(stack)
    except ItemFault as exc:
        raise exc.error(exc.message) from exc
    data = whole.data
    if data.ndim != 3:
        msg = f'a stack of cutouts must have 3 axes (n, ny, nx), got the shape {data.shape}'
        raise ValueError(msg)
    n = len(data)
    if n == 0:
        msg = f'there are no cutouts in the stack of shape {data.shape}'
        raise ValueError(msg)
    mask = _layers(whole.mask, n, data.shape, 'mask')
    array = None if whole.noise is None else whole.noise.array
    noise = _layers(array, n, data.shape, 'uncertainty')
    psf = _layers(whole.psf, n, data.shape, 'PSF')

    def items():
        for i in range(n):
            layer = noise(i)
            if layer is not None:
                layer = GivenNoise(layer, whole.noise.power, whole.noise.unit)
            yield RawItem(
                data[i],
                whole.unit,
                mask(i),
                layer,
                whole.wcs,
                psf(i),
                zeropoint=whole.zeropoint,
            )

    return items(), n
