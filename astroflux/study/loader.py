# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Join the table and the images of the study, and take the logarithm of the flux and back."""

import math
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData, StdDevUncertainty
from astropy.wcs import WCS
from tqdm import tqdm

from astroflux.simulation.surveys import HSC_WIDE
from astroflux.study.catalogue import COLUMNS, IMAGE_SIZE
from astroflux.study.dataset import IMAGE_FOLDER, PSF_NAME, TABLE_NAMES, read_settings
from astroflux.study.images import crop_centre
from astroflux.study.table import few_rows, read_table

__all__ = [
    'COLUMNS',
    'IMAGE_SIZE',
    'StudySet',
    'flux_of_log10',
    'load_set',
    'log10_flux',
]

FINISH = 'Write the data set again into the same folder: what is there is kept'


@dataclass(frozen=True)
class StudySet:
    """
    The galaxies to train with, or those to test with.

    Attributes
    ----------
    table : `pandas.DataFrame`
        The columns `COLUMNS`, one row per image.
    images : 3D `~numpy.ndarray` of float32
        ``(n, 143, 143)``, in ADU.
    psf : 2D `~numpy.ndarray`
        Of all images, pixel included, with a sum of one.
    noise : float
        Standard deviation per pixel, in ADU.
    pixel_scale : float
        In arcsec per pixel.
    zeropoint : float
        AB magnitude of 1 ADU.
    """

    table: pd.DataFrame
    images: np.ndarray
    psf: np.ndarray
    noise: float
    pixel_scale: float = HSC_WIDE.pixel_scale
    zeropoint: float = HSC_WIDE.zeropoint

    def __len__(self):
        return len(self.table)

    @property
    def flux(self):
        """True total flux in ADU, shape ``(n,)``."""
        return self.table['total_flux'].to_numpy(float)

    @property
    def log_flux(self):
        """Decimal logarithm of the true total flux in ADU, shape ``(n,)``."""
        return log10_flux(self.flux)

    def cutouts(self, rows=None):
        """
        Yield images with all that an estimator wants to know.

        Parameters
        ----------
        rows : sequence of int, optional
            Which; by default all.

        Yields
        ------
        cutout : `~astropy.nddata.CCDData`
            In ADU, with noise, PSF image and WCS. ``meta`` has ``zeropoint``, ``img_number``
            and ``file_name``.
        """
        shape = self.images.shape[1:]
        wcs = _wcs(shape, self.pixel_scale)
        numbers, names = self.table['img_number'].tolist(), self.table['file_name'].tolist()
        for row in range(len(self)) if rows is None else rows:
            yield CCDData(
                self.images[row],
                unit=u.adu,
                uncertainty=StdDevUncertainty(np.full(shape, self.noise, np.float32)),
                wcs=wcs,
                meta={
                    'zeropoint': self.zeropoint,
                    'img_number': numbers[row],
                    'file_name': names[row],
                },
                psf=self.psf,
            )


def _wcs(shape, pixel_scale):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = 'RA---TAN', 'DEC--TAN'
    wcs.wcs.cunit = 'deg', 'deg'
    wcs.wcs.cdelt = -pixel_scale / 3600, pixel_scale / 3600
    wcs.wcs.crpix = (shape[1] + 1) / 2, (shape[0] + 1) / 2
    wcs.wcs.crval = 150.0, 2.0
    return wcs


def load_set(directory, which, *, progress=False):
    """
    Read the table and the images to train or to test with.

    Parameters
    ----------
    directory : path-like
        Folder that `~astroflux.study.dataset.write_study_dataset` has written.
    which : {'train', 'test'}
        Which of the two sets.
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    study_set : `StudySet`
        Image by image the rows of the table, in its order.

    Raises
    ------
    FileNotFoundError
        If the folder is not a data set, is half written, or lacks images.
    ValueError
        If a column is missing or unknown, a value is not a number or not possible, or an image
        is not the one that the table means.
    """
    directory = Path(directory)
    if which not in TABLE_NAMES:
        msg = f"which must be 'train' or 'test', got {which!r}"
        raise ValueError(msg)
    settings = read_settings(directory)
    path = directory / TABLE_NAMES[which]
    for needed in (path, directory / PSF_NAME):
        if not needed.is_file():
            msg = f'{directory} is half written: it has no {needed.name}. {FINISH}'
            raise FileNotFoundError(msg)
    table = read_table(path)
    wanted = getattr(settings, f'n_{which}')
    if len(table) != wanted:
        msg = f'{path} has {len(table)} rows, but the settings of the data set say {wanted}'
        raise ValueError(msg)
    _refuse_missing(directory / IMAGE_FOLDER, table)
    survey = settings.constants
    return StudySet(
        table=table,
        images=_read_images(directory / IMAGE_FOLDER, table, progress, which),
        psf=_read_psf(directory / PSF_NAME),
        noise=survey.noise,
        pixel_scale=survey.pixel_scale,
        zeropoint=survey.zeropoint,
    )


def _refuse_missing(folder, table):
    present = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    missing = [row for row, name in enumerate(table['file_name']) if name not in present]
    if missing:
        few = few_rows(missing, table['file_name'].iloc[missing])
        msg = f'{folder} lacks {len(missing)} of {len(table)} images: {few}. {FINISH}'
        raise FileNotFoundError(msg)


def _read_images(folder, table, progress, which):
    images = np.empty((len(table), IMAGE_SIZE, IMAGE_SIZE), np.float32)
    rows = zip(table['file_name'], table['img_number'], table['total_flux'], strict=True)
    bar = tqdm(rows, total=len(table), desc=f'read {which}', unit='image', disable=not progress)
    for image, row in zip(images, bar, strict=True):
        name, number, flux = row
        image[:] = _read_image(folder / name, number, flux)
    return images


def _read_image(path, number, flux):
    """Read one image, cropped, after comparing its header with the table."""
    data, header = _read_fits(path)
    for keyword, column, wanted in (
        ('IMGNUM', 'img_number', number),
        ('TOTFLUX', 'total_flux', flux),
    ):
        found = header.get(keyword)
        if not isinstance(found, int | float) or not math.isclose(found, wanted, rel_tol=1e-6):
            msg = f'{path} has {keyword} {found} in its header, but the table has {column} {wanted}'
            raise ValueError(msg)
    try:
        return crop_centre(data)
    except ValueError as exc:
        msg = f'{path}: {exc}'
        raise ValueError(msg) from None


def _read_fits(path):
    try:
        with warnings.catch_warnings():
            # a torn file is an error, below
            warnings.simplefilter('ignore')
            with fits.open(path, memmap=False) as hdus:
                return hdus[0].data, hdus[0].header
    except (OSError, TypeError, ValueError) as exc:
        msg = f'{path} is not a whole FITS file: {exc}. {FINISH}'
        raise ValueError(msg) from None


def _read_psf(path):
    psf = _read_fits(path)[0]
    if psf is None or psf.ndim != 2 or not np.isfinite(psf).all() or not psf.sum() > 0:
        msg = f'{path} must hold a 2-d image with a positive sum'
        raise ValueError(msg)
    return psf.astype(float) / psf.sum(dtype=float)


def log10_flux(flux):
    """
    Return the decimal logarithm of fluxes, which the networks of the study predict.

    Parameters
    ----------
    flux : array_like
        In ADU.

    Returns
    -------
    log_flux : `~numpy.ndarray` of float64

    Raises
    ------
    ValueError
        If a flux is not positive and finite; the message names the rows.
    """
    flux = np.asarray(flux, float)
    bad = np.flatnonzero(~(np.isfinite(flux) & (flux > 0)))
    if bad.size:
        few = ', '.join(f'{np.ravel(flux)[row]:g} in row {row}' for row in bad[:5])
        more = f' and {bad.size - 5} more' if bad.size > 5 else ''
        msg = f'a flux must be positive and finite to take its logarithm, got {few}{more}'
        raise ValueError(msg)
    return np.log10(flux)


def flux_of_log10(log_flux):
    """
    Return fluxes in ADU, the inverse of `log10_flux`.

    Parameters
    ----------
    log_flux : array_like
        Decimal logarithm; what is not a number stays so.

    Returns
    -------
    flux : `~numpy.ndarray` of float64
    """
    return 10.0 ** np.asarray(log_flux, float)
