# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The keywords ``error``, ``mask``, ``background`` and ``effective_gain``, and what they change."""

import math
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from astropy import units as u
from astropy.nddata import NDData

from astroflux.cutouts._items import ItemFault
from astroflux.cutouts._keywords import PerCutout
from astroflux.cutouts._noise import GivenNoise
from astroflux.cutouts._units import conversion_factor
from astroflux.flags import MeasurementFlag as Flag

__all__ = [
    'LOCAL',
    'amended',
    'local_sky',
    'parse_background',
    'parse_effective_gain',
    'parse_error',
    'parse_mask',
]

#: The background that is to be measured at the edge of each stamp.
LOCAL = 'local'
_NONE = 'none'

# The frame in which it is measured: this part of the side, or so many pixels.
_FRAME = 1 / 6
_NARROWEST_FRAME = 4
_FEWEST_PIXELS = 16

# 1-sigma error of a median in units of that of the mean
_OF_MEDIAN = math.sqrt(math.pi / 2)


# -- parsing --------------------------------------------------------------------------------------


def parse_error(error):
    """Parse ``error``: a map or number, with a unit or without, for all cutouts or for each."""
    return _parse('error', error, lambda value: _numbers('error', value))


def parse_mask(mask):
    """Parse ``mask``: a map for all cutouts or for each."""

    def of(value):
        array = np.asarray(value)
        if array.dtype.kind not in 'biu' or array.ndim != 2:
            msg = (
                'mask must be 2-d, True where a pixel is to be ignored, or one such for each '
                f'cutout: got shape {array.shape} of {array.dtype}'
            )
            raise ValueError(msg)
        return array.astype(bool)

    return _parse('mask', mask, of)


def parse_background(background):
    """
    Parse ``background``: `LOCAL`, a number, or a map with a unit or without.

    For all cutouts or for each; `None` for none. What has an attribute ``background``, as
    `~photutils.background.Background2D`, is that map.
    """

    def of(value):
        if isinstance(value, str):
            if value not in (LOCAL, _NONE):
                msg = f"background must be '{_NONE}', '{LOCAL}', a number or a map, got {value!r}"
                raise ValueError(msg)
            return LOCAL if value == LOCAL else None
        return _numbers('background', getattr(value, 'background', value))

    return _parse('background', background, of)


def parse_effective_gain(gain):
    """Parse ``effective_gain``: a number or map, with a unit or without, for all or for each."""

    def of(value):
        quantity = _numbers('effective_gain', value)
        values = np.asarray(getattr(quantity, 'value', quantity))
        least_is_good = values.min() > 0 if values.ndim == 0 else values.min() >= 0
        if not (least_is_good and np.isfinite(values).all()):
            msg = f'effective_gain must be positive and finite, got {values.min():g} as its least'
            raise ValueError(msg)
        return quantity

    return _parse('effective_gain', gain, of)


def _parse(name, value, of):
    if value is None:
        return PerCutout(name)
    value = value.data if isinstance(value, NDData) else value
    # not np.ndim, which makes an array of a list: maps may be of different shapes
    ndim = 0 if np.isscalar(value) else getattr(value, 'ndim', 1)
    if hasattr(value, 'background') or ndim in (0, 2):
        return PerCutout(name, shared=of(value))
    if not isinstance(value, Iterable):
        msg = f'{name} cannot be {type(value).__name__}'
        raise TypeError(msg)
    return PerCutout(name, value, parse=lambda item, _: None if item is None else of(item))


def _numbers(name, value):
    """Return a number or a map as an array or `~astropy.units.Quantity`."""
    value = value.data if isinstance(value, NDData) else value
    unit = getattr(value, 'unit', None)
    array = np.asarray(value if unit is None else value.value)
    if array.dtype.kind not in 'iuf' or array.ndim not in (0, 2):
        msg = (
            f'{name} must be a number or a 2-d map, or one for each cutout: got shape '
            f'{array.shape} of {array.dtype}'
        )
        raise ValueError(msg)
    if unit is None:
        return array
    if not isinstance(unit, u.UnitBase):
        msg = f'{name} must be in a unit of flux, got the unit {str(unit)!r}'
        raise u.UnitsError(msg)
    return u.Quantity(array, unit)


# -- what they change -----------------------------------------------------------------------------


def amended(raw, error=None, mask=None, background=None):
    """
    Return a `RawItem` with what a call tells of it.

    The error takes the place of its own, the mask is added to its own, and the background is
    subtracted. `ItemFault` if a shape or a unit does not fit.
    """
    if error is not None:
        unit = getattr(error, 'unit', None)
        values = np.asarray(error if unit is None else error.value)
        _check_shape('error', values, raw)
        raw = replace(raw, noise=GivenNoise(values, 1, unit))
    if mask is not None:
        _check_shape('mask', mask, raw)
        raw = replace(raw, mask=mask if raw.mask is None else mask | np.asarray(raw.mask, bool))
    if background is not None:
        values = _in_unit('background', background, raw.unit)
        _check_shape('background', values, raw)
        raw = replace(raw, data=raw.data - values)
    return raw


def _check_shape(name, values, raw):
    if values.ndim and values.shape != np.shape(raw.data):
        msg = f'the {name} has the shape {values.shape}, the cutout has {np.shape(raw.data)}'
        raise ItemFault(Flag.BAD_INPUT, msg, ValueError)


def _in_unit(name, values, unit):
    """Return numbers in the unit of the data, which are in that unit already if they have none."""
    if not isinstance(values, u.Quantity):
        return values
    unit = u.dimensionless_unscaled if unit is None else unit
    factor = conversion_factor(values.unit, unit)
    if factor is None:
        msg = f'the {name} has the unit {str(values.unit)!r}, the cutout has {str(unit)!r}'
        raise ItemFault(Flag.BAD_INPUT, msg, u.UnitsError)
    return values.value * factor


def local_sky(data, mask, growth):
    """
    Return the level of the sky at the edge of a stamp, and its error.

    It is the sigma-clipped median of a frame of pixels, a sixth of the stamp wide.

    Parameters
    ----------
    data : `~numpy.ndarray`
        Stamp.
    mask : `~numpy.ndarray` or None
        Bool; `True` where a pixel is to be ignored.
    growth : float
        By how much sums of pixels scatter more than in white noise.

    Returns
    -------
    level, error : float

    Raises
    ------
    ItemFault
        If there are too few usable pixels at the edge.
    """
    # imported here, as few calls need it
    from astropy.stats import SigmaClip
    from photutils.background import MedianBackground, StdBackgroundRMS

    width = max(_NARROWEST_FRAME, round(_FRAME * min(data.shape)))
    frame = np.ones(data.shape, dtype=bool)
    frame[width:-width, width:-width] = False
    if mask is not None:
        frame &= ~mask
    values = SigmaClip(3.0)(data[frame], masked=False)
    if values.size < _FEWEST_PIXELS:
        msg = (
            f"background='{LOCAL}' needs {_FEWEST_PIXELS} usable pixels in a frame of {width} at "
            f'the edge of the stamp, got {values.size}'
        )
        raise ItemFault(Flag.BAD_INPUT, msg, ValueError)
    level = MedianBackground(sigma_clip=None)(values)
    scatter = StdBackgroundRMS(sigma_clip=None)(values)
    return float(level), float(_OF_MEDIAN * scatter * growth / math.sqrt(values.size))
