# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Which units are fluxes, and what it takes to make a flux of the others."""

from functools import lru_cache, reduce
from operator import mul

from astropy import units as u
from astropy.units import photometric

__all__ = ['check_flux_unit', 'conversion_factor']

_COUNTS = (
    u.dimensionless_unscaled,
    u.adu,
    u.DN,
    u.electron,
    u.photon,
    u.count,
    photometric.mgy,
)

# One unit of each kind of flux; a unit is accepted if it converts to one of
# them without an equivalency.
_FLUXES = (
    *_COUNTS,
    *(unit / u.s for unit in _COUNTS),
    u.Jy,
    u.erg / u.s / u.cm**2 / u.AA,
    u.erg / u.s / u.cm**2,
    u.photon / u.s / u.cm**2,
    u.photon / u.s / u.cm**2 / u.AA,
    u.photon / u.s / u.cm**2 / u.Hz,
)

_WANTED = (
    'want a flux (for example adu, electron / s, nmgy, Jy, erg / (s cm2 Angstrom) or no unit) '
    'or a surface brightness (a flux per arcsec2, sr, deg2 or pix2)'
)


def _is_flux(unit):
    return any(unit.is_equivalent(flux) for flux in _FLUXES)


def _split_area(unit):
    """Split a unit in what is left, solid angles and pixels."""
    rest, area = [u.Unit(unit.scale)], []
    per_pixel = False
    for base, power in zip(unit.bases, unit.powers, strict=True):
        part = base**power
        if part.is_equivalent(1 / u.sr):
            area.append(part)
        elif base == u.pix and power in (-1, -2):
            per_pixel = True
        else:
            rest.append(part)
    return reduce(mul, rest), reduce(mul, area, u.dimensionless_unscaled), per_pixel


@lru_cache(maxsize=256)
def _classify(unit):
    """Return the flux unit and the factor from 1 arcsec2 of pixel area, or None."""
    if _is_flux(unit):
        return unit, None
    for form in (unit, unit.decompose()):
        flux, area, per_pixel = _split_area(form)
        if not _is_flux(flux):
            continue
        if area == u.dimensionless_unscaled:
            return flux, None
        if not per_pixel and area.is_equivalent(1 / u.sr):
            return flux, (area * u.arcsec**2).to(u.dimensionless_unscaled)
    return None


def check_flux_unit(unit):
    """
    Return the flux unit behind a unit of pixel values, and what its area makes of it.

    The first is the unit itself if it is a flux; a surface brightness without its solid angle or
    its pixel otherwise; `None` counts as dimensionless. The second is `None` if the pixel values
    are fluxes already, or the factor to multiply by for each square arcsec of pixel area (1 for a
    unit per arcsec2). `~astropy.units.UnitsError` if the unit is neither.
    """
    if unit is None:
        return u.dimensionless_unscaled, None
    found = _classify(unit) if isinstance(unit, u.UnitBase) else None
    if found is None:
        msg = f'the unit {str(unit)!r} is not a flux: {_WANTED}'
        raise u.UnitsError(msg)
    return found


@lru_cache(maxsize=256)
def conversion_factor(unit, other):
    """Return the factor between units, exactly 1.0 for the same, `None` if there is none."""
    if unit == other:
        return 1.0
    try:
        return float(unit.to(other))
    except u.UnitConversionError:
        return None
