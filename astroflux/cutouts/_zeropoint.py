# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Zero points: the AB magnitude of a source of 1 unit of flux, for units that do not say it."""

import math
from collections.abc import Iterable, Sized
from functools import lru_cache

import numpy as np
from astropy import units as u

from astroflux.cutouts._headers import zeropoint_of
from astroflux.cutouts._keywords import PerCutout

__all__ = ['in_other_unit', 'is_calibrated', 'parse_zeropoint', 'zeropoint_in']


@lru_cache(maxsize=256)
def is_calibrated(unit):
    """Return whether a unit of flux says itself what its AB magnitude is."""
    return unit.is_equivalent(u.AB) or unit.is_equivalent(u.mgy)


def in_other_unit(zeropoint, factor):
    """Return the zero point for a unit of which the former one has ``factor``."""
    return zeropoint + 2.5 * math.log10(factor)


def zeropoint_in(meta):
    """
    Return the zero point that the metadata of a cutout state, NaN if none.

    It is ``meta['zeropoint']``, else that of a keyword that `~astroflux.read_cutout` knows.
    """
    if not meta:
        return math.nan
    value = meta.get('zeropoint')
    if value is None:
        value = zeropoint_of(meta)
    try:
        return math.nan if value is None else _one(value)
    except (TypeError, ValueError, u.UnitsError):
        return math.nan


def parse_zeropoint(zeropoint):
    """
    Parse ``zeropoint``: a number of magnitudes, or one for each cutout.

    They become floats, NaN where unknown; `None` for what the cutouts state themselves.
    """
    if zeropoint is None:
        return PerCutout('zeropoint')
    many = isinstance(zeropoint, Iterable) and not isinstance(zeropoint, str | bytes | dict)
    if not many or getattr(zeropoint, 'ndim', None) == 0:
        return PerCutout('zeropoint', shared=_one(zeropoint))
    if not isinstance(zeropoint, Sized):
        return PerCutout('zeropoint', zeropoint, parse=_one)
    # now, so that a wrong value does not stop a long run half-way
    return PerCutout('zeropoint', [_one(value, index) for index, value in enumerate(zeropoint)])


def _one(value, index=None):
    name = 'zeropoint' if index is None else f'zeropoint of cutout {index}'
    wanted = 'the AB magnitude of 1 unit of flux: a number, or in the unit mag or ABmag'
    if value is None:
        return math.nan
    if isinstance(value, u.Quantity):
        if value.unit not in (u.mag, u.ABmag):
            msg = f'{name} must be {wanted}; got the unit {str(value.unit)!r}'
            raise u.UnitsError(msg)
        value = value.value
    if np.ndim(value) != 0 or isinstance(value, str | bytes | bool | np.bool_):
        msg = f'{name} must be {wanted}; got {value!r}'
        raise TypeError(msg)
    try:
        value = float(value)
    except (TypeError, ValueError, OverflowError):
        msg = f'{name} must be {wanted}; got {value!r}'
        raise TypeError(msg) from None
    if math.isinf(value):
        msg = f'{name} must be finite, got {value}'
        raise ValueError(msg)
    return value
