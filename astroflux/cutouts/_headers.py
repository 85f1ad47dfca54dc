# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What FITS headers say about a cutout: unit, zero point, and what belongs to the file only."""

import math
import re
import warnings

from astropy import units as u
from astropy.io import fits

__all__ = ['ZEROPOINT_KEYWORDS', 'descriptive_header', 'unit_of', 'zeropoint_of']

# Keywords whose value is the magnitude of a source of 1 unit of flux.
ZEROPOINT_KEYWORDS = ('MAGZERO', 'MAGZPT', 'MAGZP', 'ZEROPNT')

_STRUCTURAL = re.compile(
    r'SIMPLE|XTENSION|BITPIX|NAXIS\d*|EXTEND|PCOUNT|GCOUNT|GROUPS|BSCALE|BZERO|BLANK|BUNIT|INHERIT|'
    r'EXTNAME|EXTVER|EXTLEVEL|EXTTYPE|CHECKSUM|DATASUM|Z(IMAGE|TENSION|BITPIX|NAXIS\d*|CMPTYPE|'
    r'TILE\d+|NAME\d+|VAL\d+|QUANTIZ|DITHER0|SIMPLE|EXTEND|BLANK|SCALE|ZERO|HECKSUM|DATASUM)|'
    r'COMMENT|HISTORY|AR_HDU|MP_.*|'
)
_WCS = re.compile(
    r'WCSAXES|WCSNAME|MJDREF[IF]?|RADESYS|EQUINOX|LONPOLE|LATPOLE|(CRPIX|CRVAL|CTYPE|CUNIT|CDELT|CROTA|CNAME)\d|'
    r'(CD|PC)\d_\d|PC\d{6}|P[VS]\d_\d+|[AB]P?_(ORDER|DMAX|\d+_\d+)|(LTV|LTM)\d(_\d)?|'
    r'(CRPIX|CRVAL|CTYPE|CUNIT|CDELT)\d[A-Z]|(CD|PC)\d_\d[A-Z]'
)

# Spellings seen in the wild that the FITS standard does not know.
_SPELLINGS = {
    'adu': 'adu',
    'adus': 'adu',
    'dn': 'DN',
    'count': 'ct',
    'counts': 'ct',
    'cts': 'ct',
    'electron': 'electron',
    'electrons': 'electron',
    'photons': 'photon',
    'nanomaggy': 'nmgy',
    'nanomaggies': 'nmgy',
    'sec': 's',
    'second': 's',
    'seconds': 's',
}
_WORD = re.compile(r'(?<![\w.])e-(?!\d)|[A-Za-z]+')


def unit_of(text):
    """Return the unit that a ``BUNIT`` means, misspelt or not; `ValueError` if none."""

    def spell(match):
        word = match.group()
        if word == 'e-':
            return 'electron'
        # In capitals, a second looks like a siemens.
        if word == 'S' and text.isupper():
            return 's'
        return _SPELLINGS.get(word.lower(), word)

    with warnings.catch_warnings():
        warnings.simplefilter('ignore', u.UnitsWarning)
        return u.Unit(_WORD.sub(spell, text.strip()))


def zeropoint_of(header):
    """Return the magnitude of a source of 1 unit of flux, or `None` if the header lacks it."""
    flux = header.get('FLUXMAG0')
    if isinstance(flux, int | float) and math.isfinite(flux) and flux > 0:
        return 2.5 * math.log10(flux)
    for key in ZEROPOINT_KEYWORDS:
        value = header.get(key)
        if isinstance(value, int | float) and math.isfinite(value) and not isinstance(value, bool):
            return float(value)
    return None


def descriptive_header(*headers):
    """
    Join headers, without what describes the file or the WCS rather than the image.

    The first that has a keyword wins.
    """
    joined = fits.Header()
    for header in headers:
        cards = header.cards if isinstance(header, fits.Header) else header.items()
        for key, value, *comment in cards:
            key = str(key)
            name = key.upper()
            if name in joined or _STRUCTURAL.fullmatch(name) or _WCS.fullmatch(name):
                continue
            if not isinstance(value, str | int | float | complex | fits.card.Undefined | None):
                continue
            if isinstance(value, float) and not math.isfinite(value):
                continue
            # Spelt out, so that astropy need not warn of a long keyword.
            if len(name) > 8 or not re.fullmatch(r'[A-Z0-9_-]+', name):
                key = f'HIERARCH {key}'
            joined[key] = (value, *comment)
    return joined
