# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The keywords ``psf``, ``psf_fwhm`` and ``positions``: one for all cutouts, or one for each."""

import math
from collections.abc import Iterable, Sized

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.nddata import NDData

from astroflux.cutouts._psf import known_psf
from astroflux.cutouts.psf_field import PSFField, as_psf_field

__all__ = ['PerCutout', 'parse_positions', 'parse_psf', 'parse_psf_fwhm']


class PerCutout:
    """
    A keyword's value for each cutout in turn: of ``values``, or ``shared`` by all.

    Values are read as they are needed, and passed through ``parse`` with their index.
    """

    def __init__(self, name, values=None, shared=None, parse=None):
        self.name = name
        self.size = len(values) if isinstance(values, Sized) else None
        self._values = None if values is None else iter(values)
        self.shared = shared
        self._parse = parse

    @property
    def is_for_each(self):
        """Whether each cutout has a value of its own."""
        return self._values is not None

    def check_size(self, n):
        """Raise `ValueError` if there is not one value for each of n cutouts."""
        if self.size is not None and self.size != n:
            msg = f'{self.name} has {self.size} values for {n} cutouts: want one, or one for each'
            raise ValueError(msg)

    def next(self, index):
        """Return the value for the next cutout, which has the given index."""
        if self._values is None:
            return self.shared
        try:
            value = next(self._values)
        except StopIteration:
            msg = f'{self.name} has {index} values, but there are more cutouts'
            raise ValueError(msg) from None
        return value if self._parse is None else self._parse(value, index)

    def finish(self, n):
        """Raise `ValueError` if values are left after n cutouts."""
        # Values of known number were checked before, if that of the cutouts was.
        if self._values is not None and next(self._values, self) is not self:
            msg = f'{self.name} has more values than there are cutouts ({n})'
            raise ValueError(msg)


def _refuse(name, value, wanted):
    msg = f'{name} must be {wanted}, got {type(value).__name__}'
    raise TypeError(msg)


def _is_collection(values):
    """Return whether this is one value for each cutout, and not one value."""
    if isinstance(values, str | bytes | dict) or not isinstance(values, Iterable):
        return False
    # arrays, quantities and coordinates have a length or not
    return getattr(values, 'shape', None) != ()


def _psf_array(psf, _index=None):
    if isinstance(psf, NDData):
        psf = psf.data
    return psf.value if isinstance(psf, u.Quantity) else psf


def parse_psf(psf, oversampling):
    """
    Parse ``psf``: a 2-d image for all cutouts, or one (or `None`) for each.

    The image for all becomes a `~astroflux.cutouts._psf.PSFImage`, what differs from place to
    place a `~astroflux.cutouts.PSFField`; each of many is as given.
    """
    wanted = 'a 2-d image, or one for each cutout'
    if psf is None:
        return PerCutout('psf')
    psf = _psf_array(as_psf_field(psf, oversampling))
    if isinstance(psf, PSFField):
        return PerCutout('psf', shared=psf)
    is_image = isinstance(psf, np.ndarray) and psf.dtype.kind != 'O' and psf.ndim != 3
    if is_image or hasattr(psf, 'oversampling'):
        try:
            return PerCutout('psf', shared=known_psf(psf, oversampling))
        except ValueError as exc:
            msg = f'psf: {exc}'
            raise ValueError(msg) from None
    if not _is_collection(psf):
        _refuse('psf', psf, wanted)
    return PerCutout('psf', psf, parse=_psf_array)


def _fwhm_value(value, index=None):
    """Return the FWHM as a float, and whether it is in arcsec rather than pixels."""
    which = '' if index is None else f' of cutout {index}'
    if value is None:
        return math.nan, False
    in_arcsec = False
    if isinstance(value, u.Quantity):
        if value.unit.is_equivalent(u.arcsec):
            value, in_arcsec = value.to_value(u.arcsec), True
        elif value.unit in (u.pix, u.dimensionless_unscaled):
            value = value.value
        else:
            msg = f'psf_fwhm{which} must be in pixels or an angle, got the unit {str(value.unit)!r}'
            raise u.UnitsError(msg)
    if np.ndim(value) != 0 or isinstance(value, str | bytes | bool):
        _refuse(f'psf_fwhm{which}', value, 'a number or Quantity')
    try:
        value = float(value)
    except (TypeError, ValueError, OverflowError):
        _refuse(f'psf_fwhm{which}', value, 'a finite number or Quantity')
    # NaN is how a table says unknown.
    if value <= 0 or math.isinf(value):
        msg = f'psf_fwhm{which} must be positive and finite, got {value:g}'
        raise ValueError(msg)
    return value, in_arcsec


def parse_psf_fwhm(psf_fwhm):
    """
    Parse ``psf_fwhm``: a number or `~astropy.units.Quantity`, or one for each cutout.

    They become pairs ``(value, is_in_arcsec)``; NaN where unknown.
    """
    if getattr(psf_fwhm, 'shape', None) == (1,):
        # one for all, as scikit-learn's searches take no array without an axis
        psf_fwhm = psf_fwhm[0]
    if not _is_collection(psf_fwhm):
        return PerCutout('psf_fwhm', shared=_fwhm_value(psf_fwhm))
    if not isinstance(psf_fwhm, Sized):
        return PerCutout('psf_fwhm', psf_fwhm, parse=_fwhm_value)
    # Checked now, so that a wrong value does not stop a long run half-way.
    return PerCutout('psf_fwhm', [_fwhm_value(v, i) for i, v in enumerate(psf_fwhm)])


def _xy(value, index=None):
    which = '' if index is None else f' of cutout {index}'
    if value is None or isinstance(value, SkyCoord):
        return value
    if isinstance(value, u.Quantity):
        if value.unit not in (u.pix, u.dimensionless_unscaled):
            msg = f'positions{which} must be in pixels, got the unit {str(value.unit)!r}'
            raise u.UnitsError(msg)
        value = value.value
    try:
        x, y = (float(v) for v in value)
    except (TypeError, ValueError, OverflowError):
        msg = f'positions{which} must be a pair (x, y) or a SkyCoord, got {value!r}'
        raise ValueError(msg) from None
    return x, y


def _is_number(value):
    return value is not None and not isinstance(value, SkyCoord) and np.ndim(value) == 0


def parse_positions(positions):
    """
    Parse ``positions``: one ``(x, y)`` or `~astropy.coordinates.SkyCoord`, or one for each.

    They become pairs of float, SkyCoord or `None`.
    """
    if positions is None:
        return PerCutout('positions')
    if isinstance(positions, SkyCoord):
        if positions.isscalar:
            return PerCutout('positions', shared=positions)
        return PerCutout('positions', positions)
    if not _is_collection(positions):
        _refuse('positions', positions, 'a pair (x, y), or one for each cutout')
    # Two numbers are a pair; two pairs are one for each of two cutouts.
    if isinstance(positions, Sized) and len(positions) == 2 and all(map(_is_number, positions)):
        return PerCutout('positions', shared=_xy(positions))
    return PerCutout('positions', positions, parse=_xy)
