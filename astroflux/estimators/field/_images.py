# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The model of an image and what it leaves, as a FITS file."""

from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

from astroflux._work import write_whole
from astroflux.cutouts.writers import packed, unit_text

__all__ = ['write_images']

# Of the record of a table: the keyword of each, and its comment.
_TOLD = {
    'method': ('METHOD', 'what measured the sources'),
    'weights': ('WEIGHTS', 'weights of the network'),
    'measured': ('DATE', 'when they were measured (UTC)'),
}


def write_images(path, images, *, unit, wcs, record, overwrite):
    """
    Write images of one field to a FITS file, an HDU each.

    Parameters
    ----------
    path : str or `~pathlib.Path`
        The file; compressed, without loss, if its name ends in ``.fz`` or ``.gz``.
    images : dict of str to 2D `~numpy.ndarray`
        By the names of the HDUs.
    unit : `~astropy.units.UnitBase`
        Theirs.
    wcs : object
        Theirs, or `None`.
    record : dict
        What the primary header tells: that of a table of measurements, and other keywords, each
        with a value and a comment.
    overwrite : bool
        Whether an existing file may be replaced.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        msg = f'{path} already exists and overwrite is not set'
        raise FileExistsError(msg)
    header = _header_of(wcs)
    header['BUNIT'] = unit_text(unit)
    hdus = [fits.PrimaryHDU()]
    _tell(hdus[0].header, record)
    for name, image in images.items():
        image = np.asarray(image, np.float32)
        if path.suffix == '.fz':
            lossless = {'compression_type': 'GZIP_2', 'quantize_level': 0}
            hdus.append(fits.CompImageHDU(image, header, name, **lossless))
        else:
            hdus.append(fits.ImageHDU(image, header, name))
    with write_whole(path) as part, part.open('wb') as file, packed(file, path) as stream:
        fits.HDUList(hdus).writeto(stream)


def _header_of(wcs):
    """Return what a header has of a WCS, which may be that of a slice of an image."""
    low_level = getattr(wcs, 'low_level_wcs', wcs)
    whole = getattr(low_level, '_wcs', None)
    if isinstance(whole, WCS):
        low_level = whole[tuple(low_level._slices_array)]
    return low_level.to_header(relax=True) if hasattr(low_level, 'to_header') else fits.Header()


def _tell(header, record):
    for key, (keyword, comment) in _TOLD.items():
        if key in record:
            header[keyword] = (_plain(record[key]), comment)
    versions = ' '.join(f'{name} {version}' for name, version in record['versions'].items())
    header['CREATOR'] = (versions, 'versions of packages')
    for keyword, (value, comment) in record.get('keywords', {}).items():
        header[keyword] = (_plain(value), comment)


def _plain(value):
    """Return what a header may hold: printable ASCII, of a text."""
    value = value[-1] if isinstance(value, list) else value
    return value.encode('unicode_escape').decode() if isinstance(value, str) else value
