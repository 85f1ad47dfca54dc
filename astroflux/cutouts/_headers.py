# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What FITS headers say about a cutout: unit, zero point, and what belongs to the file only."""

import math
import re
from functools import lru_cache

from astropy import units as u
from astropy.io import fits

from astroflux._quiet import quiet_libraries

__all__ = ['ZEROPOINT_KEYWORDS', 'descriptive_header', 'unit_of', 'zeropoint_of']

# Keywords whose value is the magnitude of a source of 1 unit of flux, in the image as it is:
#
# - MAGZERO: stacks of DECam, the Dark Energy Survey, the Legacy Surveys;
# - MAGZPT, MAGZP, ZEROPNT: many pipelines, such as that of the Zwicky Transient Facility;
# - PHOTZP: MegaPipe and UNIONS, which state ``mag = PHOTZP - 2.5 log10(data)``.
#
# Not among them are those that need an exposure time or an extinction, such as FPA.ZP of
# Pan-STARRS, MAGZEROP of SCAMP, or PHOTZPT of Hubble, which is that of a flux density.
ZEROPOINT_KEYWORDS = ('MAGZERO', 'MAGZPT', 'MAGZP', 'ZEROPNT', 'PHOTZP')

# Where such a keyword says another thing: magnitudes that are not AB, or a count per second.
_SYSTEM_KEYWORDS = ('PHOTSYS', 'MAGSYS', 'ZPSYS')
_VEGA_TELESCOPES = ('WISE', '2MASS')
_VEGA_KEYWORD = 'CASUVERS'

_STRUCTURAL = re.compile(
    r'SIMPLE|XTENSION|BITPIX|NAXIS\d*|EXTEND|PCOUNT|GCOUNT|GROUPS|BSCALE|BZERO|BLANK|BUNIT|INHERIT|'
    r'BSOFTEN|BOFFSET|'
    r'EXTNAME|EXTVER|EXTLEVEL|EXTTYPE|CHECKSUM|DATASUM|Z(IMAGE|TENSION|BITPIX|NAXIS\d*|CMPTYPE|'
    r'TILE\d+|NAME\d+|VAL\d+|QUANTIZ|DITHER0|SIMPLE|EXTEND|BLANK|SCALE|ZERO|HECKSUM|DATASUM)|'
    r'COMMENT|HISTORY|AR_HDU|MP_.*|'
)
_WCS = re.compile(
    r'WCSAXES|WCSNAME|MJDREF[IF]?|RADESYS|EQUINOX|LONPOLE|LATPOLE|(CRPIX|CRVAL|CTYPE|CUNIT|CDELT|CROTA|CNAME)\d|'
    r'(CD|PC)\d_\d|PC\d{6}|P[VS]\d_\d+|[AB]P?_(ORDER|DMAX|\d+_\d+)|(LTV|LTM)\d(_\d)?|'
    r'(CRPIX|CRVAL|CTYPE|CUNIT|CDELT)\d[A-Z]|(CD|PC)\d_\d[A-Z]|'
    r'(CPDIS|CQDIS|CPERR|CQERR|DP|DQ|D2IMDIS|D2IMERR|D2IM)\d.*'
)
_OF_FILE = re.compile(f'{_STRUCTURAL.pattern}|{_WCS.pattern}')

# Words as they are written in the wild, in small letters, that the FITS standard does not know.
_WORDS = {
    **dict.fromkeys(('adu', 'adus'), 'adu'),
    **dict.fromkeys(('dn', 'dns', 'datanumber'), 'DN'),
    **dict.fromkeys(('count', 'counts', 'cts', 'ct', 'cnt', 'cnts'), 'ct'),
    'cps': 'ct s-1',
    **dict.fromkeys(('e', 'e-', 'elec', 'electron', 'electrons'), 'electron'),
    **dict.fromkeys(
        ('photoelectron', 'photoelectrons', 'photo-electron', 'photo-electrons'), 'electron'
    ),
    **dict.fromkeys(('photon', 'photons', 'ph'), 'photon'),
    **dict.fromkeys(('maggy', 'maggie', 'maggies', 'mgy'), 'mgy'),
    **dict.fromkeys(('nanomaggy', 'nanomaggie', 'nanomaggies', 'nmaggy', 'nmaggies'), 'nmgy'),
    'nmgy': 'nmgy',
    **dict.fromkeys(('jy', 'jansky', 'janskys'), 'Jy'),
    **dict.fromkeys(('ujy', 'microjy', 'microjansky'), 'uJy'),
    **dict.fromkeys(('njy', 'nanojy', 'nanojansky'), 'nJy'),
    **dict.fromkeys(('millijy', 'millijansky'), 'mJy'),
    **dict.fromkeys(('megajy', 'megajansky'), 'MJy'),
    **dict.fromkeys(('erg', 'ergs'), 'erg'),
    **dict.fromkeys(('s', 'sec', 'secs', 'second', 'seconds'), 's'),
    **dict.fromkeys(('hz', 'hertz'), 'Hz'),
    'cm': 'cm',
    **dict.fromkeys(('a', 'aa', 'ang', 'angs', 'angstrom', 'angstroms'), 'Angstrom'),
    **dict.fromkeys(('pix', 'pixel', 'pixels'), 'pix'),
    **dict.fromkeys(('sr', 'ster', 'steradian'), 'sr'),
    **dict.fromkeys(('arcsec', 'arcsecs', 'asec'), 'arcsec'),
    **dict.fromkeys(('sqarcsec', 'arcsecsq'), 'arcsec2'),
    'per': '/',
    **dict.fromkeys(('unitless', 'dimensionless', 'none'), ''),
}
# An electron, a word with a hyphen, or a word that is not the exponent of a number.
_WORD = re.compile(r'(?<![\w.])e-(?!\d)|photo-electrons?|(?!(?<=\d)e[+-]?\d)[a-z]+', re.IGNORECASE)


@lru_cache(maxsize=256)
def unit_of(text):
    """Return the unit that a ``BUNIT`` means, misspelt or not; `ValueError` if none."""

    def spell(match):
        word = match.group()
        # In capitals, nothing tells a milli from a mega, but for the area beside it.
        if word == 'MJY' and re.search(r'/\s*SR', text):
            return 'MJy'
        return _WORDS.get(word.lower(), word)

    with quiet_libraries():
        return u.Unit(_WORD.sub(spell, text.strip()))


def zeropoint_of(header):
    """Return the AB magnitude of a source of 1 unit of flux, or `None` if the header lacks it."""
    flux = header.get('FLUXMAG0')
    if isinstance(flux, int | float) and math.isfinite(flux) and flux > 0:
        return 2.5 * math.log10(flux)
    for key in ZEROPOINT_KEYWORDS:
        value = header.get(key)
        if isinstance(value, int | float) and math.isfinite(value) and not isinstance(value, bool):
            return None if _is_not_ab(header) else float(value)
    return None


def _is_not_ab(header):
    systems = [str(header[key]).upper() for key in _SYSTEM_KEYWORDS if key in header]
    return (
        any('VEGA' in system for system in systems)
        or str(header.get('TELESCOP')).strip().upper() in _VEGA_TELESCOPES
        or _VEGA_KEYWORD in header
    )


def descriptive_header(*headers):
    """
    Join headers, without what describes the file or the WCS rather than the image.

    The first that has a keyword wins.
    """
    joined, names = fits.Header(), set()
    for header in headers:
        is_header = isinstance(header, fits.Header)
        for card in header.cards if is_header else header.items():
            key = card.keyword if is_header else str(card[0])
            name = key.upper()
            if name in names or _OF_FILE.fullmatch(name):
                continue
            if not is_header:
                card = _card(key, *card[1:])
            if card is not None:
                names.add(name)
                # As it is: to take its value apart costs more than all else.
                joined.append(card, end=True)
    return joined


def _card(key, value, *comment):
    """Return an entry of a dictionary as a card, or `None` if a header cannot hold it."""
    if not isinstance(value, str | int | float | complex | fits.card.Undefined | None):
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    # Spelt out, so that astropy need not warn of a long keyword.
    if len(key) > 8 or not re.fullmatch(r'[A-Z0-9_-]+', key.upper()):
        key = f'HIERARCH {key}'
    return fits.Card(key, value, *comment)
