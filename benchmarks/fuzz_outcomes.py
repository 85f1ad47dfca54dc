# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What came of a damaged input, and which outcomes are never allowed."""

import linecache
from pathlib import Path

import numpy as np
from astropy import units as u
from scipy.ndimage import median_filter, uniform_filter

import astroflux
from astroflux import decode_flags
from astroflux.flags import FATAL_FLAGS, MeasurementFlag

__all__ = [
    'FORBIDDEN',
    'OUTCOMES',
    'Hang',
    'can_be_seen',
    'of_error',
    'of_row',
]

# -- allowed --
REFUSED = 'clear error'
FLAGGED_NAN = 'flagged NaN'
SAME = 'same number'
FLAGGED_OTHER = 'flagged other number'
UNSEEN = 'change that cannot be seen'
SUMMED = 'what a sum of pixels holds'
# -- forbidden --
INTERNAL = 'internal error'
HANG = 'over 20 s'
MEMORY = 'over 2 GB'
CRASH = 'process ended'
SILENT = 'silent other number'
UNTOLD = 'NaN without a reason, or flux without an error'
COMPANY = 'another row changed or lost'

FORBIDDEN = (INTERNAL, HANG, MEMORY, CRASH, SILENT, UNTOLD, COMPANY)
OUTCOMES = (REFUSED, FLAGGED_NAN, SAME, FLAGGED_OTHER, UNSEEN, SUMMED, *FORBIDDEN)

PACKAGE = str(Path(astroflux.__file__).parent)

# These say what was not known or not used, and not that the number may be wrong.
_HARMLESS = (
    MeasurementFlag.NOISE_ESTIMATED
    | MeasurementFlag.PSF_UNKNOWN
    | MeasurementFlag.MASKED_PIXELS
    | MeasurementFlag.STAMP_CROPPED
    | MeasurementFlag.NOISE_ASSUMED_WHITE
)
WARNINGS = sum(MeasurementFlag) & ~FATAL_FLAGS & ~int(_HARMLESS)

# Kinds of errors that are documented.
_CLEAR = (ValueError, TypeError, OSError, u.UnitsError)

# A flux that is off by more than so many of its errors is another number.
_ERRORS = 3.0

# What of a change can be seen in the image that is measured: pixels that stand out of their
# neighbors by so many sigma, light at the edge in units of its error, and a scatter at the edge
# that is not what the noise says by more than this factor.
_SHARP = 10.0
_EDGE = 5.0
_SCATTER = 1.5
_FRAME = 4
_SMOOTH = 5
_NORMAL_MEAN = 1.2533


class Hang(BaseException):
    """It took too long; not an `Exception`, so that nothing catches it."""


def of_error(exc):
    """Return the outcome of an error that left a call, and the error in words."""
    text = f'{type(exc).__name__}: {exc}'
    if isinstance(exc, Hang):
        return HANG, text
    if _is_memory(exc):
        return MEMORY, text
    is_clear = isinstance(exc, _CLEAR) and _is_raised_here(exc)
    return REFUSED if is_clear and str(exc) else INTERNAL, text


def _is_memory(exc):
    while exc is not None:
        if isinstance(exc, MemoryError) or _is_about_memory(str(exc)):
            return True
        exc = exc.__cause__ or exc.__context__
    return False


def _is_about_memory(text):
    return any(word in text for word in ('MemoryError', 'to allocate', 't allocate', 'bad_alloc'))


def _is_raised_here(exc):
    """Return whether the package says so on purpose, and is not surprised itself."""
    frame = exc.__traceback__
    while frame.tb_next is not None:
        frame = frame.tb_next
    name = frame.tb_frame.f_code.co_filename
    line = linecache.getline(name, frame.tb_lineno).strip()
    return name.startswith(PACKAGE) and line.startswith('raise')


def of_row(table, row, flux, known_flags, seen=None):
    """
    Return the outcome of a row of a table, and what is to be said of it.

    Parameters
    ----------
    table : `~astropy.table.QTable`
        Measurements.
    row : int
        Which row.
    flux : float
        What an intact input gives.
    known_flags : int
        The flags of an intact input.
    seen : callable, optional
        Asked only if needed: whether the change can be seen. Without, for a method that sums
        pixels and does not ask what they are.
    """
    value, error = (float(getattr(table[name][row], 'value', table[name][row])) for name in _FLUX)
    flags, message = int(table['flags'][row]), table.meta['messages'].get(row, '')
    text = f'{value:.6g} +- {error:.3g}, wanted {flux:.6g}; {decode_flags(flags)} {message}'
    if _is_about_memory(message):
        return MEMORY, text
    if flags & FATAL_FLAGS or not np.isfinite(value):
        is_told = flags & FATAL_FLAGS and message and np.isnan(value)
        return FLAGGED_NAN if is_told else UNTOLD, text
    if not (np.isfinite(error) and error > 0):
        return UNTOLD, text
    if abs(value - flux) <= _ERRORS * error:
        return SAME, text
    if flags & WARNINGS & ~known_flags:
        return FLAGGED_OTHER, text
    if seen is None:
        return SUMMED, text
    return SILENT if seen() else UNSEEN, text


_FLUX = ('flux', 'flux_err')


def can_be_seen(before, after):
    """
    Return whether a cutout shows by itself that it is not as it was.

    Not seen is, for example, a factor in a header, another PSF or unit, or smooth light on top of
    that of the galaxy.

    Parameters
    ----------
    before, after : `~astroflux.cutouts.Cutout`
        As they are measured: what is masked is not measured.
    """
    if after.is_failed:
        return False
    z, usable = after.data / after.noise, ~after.mask
    frame = np.ones(z.shape, dtype=bool)
    frame[_FRAME:-_FRAME, _FRAME:-_FRAME] = False
    edge = z[frame & usable]
    if edge.size > _FRAME**2:
        # a mean and not a median, as pixels may be whole numbers
        scatter = _NORMAL_MEAN * np.minimum(np.abs(edge - np.median(edge)), _EDGE).mean()
        if not 1 / _SCATTER < scatter < _SCATTER:
            return True
        if abs(np.median(edge)) > _EDGE * 1.25 * scatter / np.sqrt(edge.size):
            return True
    if _is_light_elsewhere(np.where(usable, z, 0.0), after.position, before.psf_fwhm):
        return True
    if z.shape != before.shape:
        return False
    change = np.where(usable & ~before.mask, z - before.data / before.noise, 0.0)
    sharp = change - median_filter(change, 3, mode='nearest')
    return bool(np.abs(sharp).max() > _SHARP)


def _is_light_elsewhere(z, position, fwhm):
    """Return whether the brightest light is farther than a FWHM from the position."""
    smooth = uniform_filter(z, _SMOOTH, mode='constant')
    if smooth.max() * _SMOOTH < _SHARP:
        return False
    y, x = np.unravel_index(np.argmax(smooth), z.shape)
    return np.hypot(x - position[0], y - position[1]) > fwhm
