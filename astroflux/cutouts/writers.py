# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Write a cutout as surveys write theirs."""

import gzip
from contextlib import nullcontext
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import Table

from astroflux._work import write_whole
from astroflux.cutouts._headers import descriptive_header
from astroflux.cutouts._noise import noise_of

__all__ = ['packed', 'unit_text', 'write_cutout']


# How pixels are kept in a file that is compressed by tiles: whole numbers as they are, others to a
# part of the noise, with dither, which is what surveys do.
_COMPRESSION = {
    'compression_type': 'RICE_1',
    'quantize_level': 16.0,
    'quantize_method': 1,
    'dither_seed': 1,
}


def write_cutout(cutout, path, *, mask_planes=None, overwrite=False):
    """
    Write a cutout to a FITS file with the HDUs IMAGE, MASK, VARIANCE and PSF.

    The primary header has ``FLUXMAG0`` if ``meta`` has a ``zeropoint``; the
    mask is the plane ``MP_BAD``. `~astroflux.cutouts.read_cutout` reads it back
    equal, unless it is compressed by tiles, with the noise as
    `~astropy.nddata.StdDevUncertainty`. A table in ``meta`` becomes an HDU of its name, which
    `~astropy.table.QTable.read` reads back.

    Parameters
    ----------
    cutout : `~astropy.nddata.CCDData` or `~astropy.nddata.NDData`
        The cutout, shape ``(ny, nx)``. What it lacks is left out of the file.
    path : str or `~pathlib.Path`
        The file to write; compressed if its name ends in ``.gz``. It is whole or not there.
        ``.fz`` compresses by tiles, as surveys do: pixels are rounded to a 16th of the noise.
    mask_planes : dict, optional
        Boolean arrays by the names of planes, such as ``{'SAT': full, 'DETECTED': bright}``, which
        make the mask of the file in place of the cutout's.
    overwrite : bool
        Whether an existing file may be replaced.

    Raises
    ------
    ValueError
        If the data are not 2-d.
    TypeError
        If the uncertainty has no variance.
    OSError
        If the file exists, unless ``overwrite``; or is a symbolic link or read-only.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        msg = f'{path} already exists and overwrite is not set'
        raise FileExistsError(msg)
    data = np.asarray(cutout.data)
    if data.ndim != 2:
        msg = f'a cutout to write must be a 2-d image, got the shape {data.shape}'
        raise ValueError(msg)
    meta = descriptive_header(cutout.meta or {})
    zeropoint = meta.pop('zeropoint', None)
    primary = fits.PrimaryHDU()
    if zeropoint is not None:
        meta.remove('FLUXMAG0', ignore_missing=True)
        primary.header['FLUXMAG0'] = (10 ** (0.4 * zeropoint), 'flux of AB magnitude 0')
    image = fits.ImageHDU(data, header=meta, name='IMAGE')
    if cutout.unit is not None:
        image.header['BUNIT'] = unit_text(cutout.unit)
    if cutout.wcs is not None:
        # What meta has, such as the date, it has as the user wrote it.
        image.header.extend(cutout.wcs.to_header(relax=True).cards, unique=True)
    hdus = [primary, image]
    if mask_planes is None and cutout.mask is not None:
        mask_planes = {'BAD': cutout.mask}
    if mask_planes:
        hdus.append(_mask_hdu(mask_planes, data.shape))
    noise = noise_of(cutout.uncertainty)
    if noise is not None:
        variance = noise.array
        factor = noise.factor(cutout.unit)
        if noise.power != 2 or factor != 1:
            # The uncertainty may be in another unit than the data.
            variance = (noise.std() * factor) ** 2
        variance = np.broadcast_to(variance, data.shape)
        hdus.append(fits.ImageHDU(np.array(variance), name='VARIANCE'))
    psf = getattr(cutout, 'psf', None)
    if psf is not None:
        hdus.append(fits.ImageHDU(np.asarray(psf), name='PSF'))
    for name, value in (cutout.meta or {}).items():
        if isinstance(value, Table):
            hdus.append(fits.table_to_hdu(value))
            hdus[-1].name = name
    if path.suffix == '.fz':
        hdus = [_compressed(hdu) for hdu in hdus]
    with write_whole(path) as part, part.open('wb') as file, packed(file, path) as stream:
        fits.HDUList(hdus).writeto(stream)


def _mask_hdu(planes, shape):
    """Return an HDU of mask planes, each a bit, numbered in their order."""
    mask = np.zeros(shape, np.int32)
    for bit, plane in enumerate(planes.values()):
        mask |= np.asarray(plane, np.int32) << bit
    hdu = fits.ImageHDU(mask, name='MASK')
    for bit, name in enumerate(planes):
        # longer keywords than the standard has, as those of surveys
        hdu.header[f'MP_{name}' if len(name) <= 5 else f'HIERARCH MP_{name}'] = bit
    return hdu


def _compressed(hdu):
    """Return an image as a compressed one; the PSF, which is small and exact, stays as it is."""
    if not isinstance(hdu, fits.ImageHDU) or hdu.name == 'PSF':
        return hdu
    return fits.CompImageHDU(hdu.data, hdu.header, **_COMPRESSION)


def packed(file, path):
    """Return a stream into a file, which compresses if the name of the whole says so."""
    return (
        gzip.GzipFile(path.stem, 'wb', fileobj=file) if path.suffix == '.gz' else nullcontext(file)
    )


def unit_text(unit):
    """Write a unit as the FITS standard has it, or as astropy does where it has none."""
    try:
        return unit.to_string('fits')
    except ValueError:
        return str(unit)
