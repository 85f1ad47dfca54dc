# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The data set of the study on disk: FITS images, two tables, settings and the PSF."""

import math
import signal
import warnings
from concurrent.futures import as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData, StdDevUncertainty
from astropy.utils.exceptions import AstropyUserWarning
from astropy.wcs import WCS
from tqdm import tqdm

from astroflux._work import PART_SUFFIX, refuse_other_settings, spawn_pool, write_whole
from astroflux.simulation.scene import draw_galaxy, draw_psf, galaxy_profile, psf_profile
from astroflux.simulation.surveys import get_survey
from astroflux.study import catalogue
from astroflux.study.catalogue import IMAGE_SIZE, StudySettings
from astroflux.study.results import read_json, write_json, write_table

__all__ = ['StudySet', 'load_set', 'write_study_dataset']

SETTINGS_NAME = 'settings.json'
PSF_NAME = 'psf.fits'
IMAGE_FOLDER = 'images'
TABLE_NAMES = {'train': 'gal_morph_train_val.csv', 'test': 'gal_morph_test.csv'}

FINISH = 'Write the data set again into the same folder: what is there is kept'

# Images that a worker draws before it reports.
CHUNK_SIZE = 10

FITS_BLOCK = 2880

# Light beyond the plane that GalSim transforms is folded back into it. With a plane of at least
# this many pixels, that changes the chi square of the brightest galaxies by less than 0.5; with
# GalSim's own smallest one by up to 17. It takes no longer.
ACCURACY = {'minimum_fft_size': 512}


def write_study_dataset(directory, settings, *, workers=2, resume=True, progress=True):
    """
    Write the data set of the study.

    The folder then holds ``settings.json``; ``images/NNNNN.fits``; the tables
    ``gal_morph_train_val.csv`` and ``gal_morph_test.csv``; ``columns.csv``, the unit and the
    meaning of each column; and ``psf.fits``, which all images share. The settings are written
    first and the tables last: a folder without tables is not finished.

    Parameters
    ----------
    directory : path-like
        Folder; made if need be.
    settings : `~astroflux.study.catalogue.StudySettings`
        What to draw. The images do not depend on the number of workers.
    workers : int
        Number of processes.
    resume : bool
        Whether to go on with a data set that is in the folder. What is whole is kept.
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    table : `pandas.DataFrame`
        The catalogue, see `~astroflux.study.catalogue.draw_catalogue`.

    Raises
    ------
    FileExistsError
        If the folder holds a data set and ``resume`` is false.
    ValueError
        If the data set in the folder was begun with other settings.

    Warns
    -----
    astropy.utils.exceptions.AstropyUserWarning
        If images that are there are torn or of another galaxy; they are drawn again.
    """
    if workers < 1:
        msg = f'workers must be at least 1, got {workers}'
        raise ValueError(msg)
    directory = Path(directory)
    images = directory / IMAGE_FOLDER
    _prepare(directory, settings, resume=resume)
    table = catalogue.draw_catalogue(settings)
    rows = table.to_dict('records')
    wanted = [row for row in rows if not _is_whole(images / row['file_name'], row, settings)]
    torn = [row['file_name'] for row in wanted if (images / row['file_name']).exists()]
    if torn:
        few = ', '.join(torn[:5]) + (', ...' if len(torn) > 5 else '')
        msg = f'{len(torn)} images are torn or not of this data set, and drawn again: {few}'
        warnings.warn(msg, AstropyUserWarning, stacklevel=2)
    n, n_done = len(rows), len(rows) - len(wanted)
    with tqdm(total=n, initial=n_done, desc='draw', unit='image', disable=not progress) as bar:
        _draw_all(images, wanted, settings, workers, bar)
    _write_psf(directory / PSF_NAME, settings)
    write_table(catalogue.column_notes(), directory / 'columns.csv')
    write_table(table[: settings.n_train], directory / TABLE_NAMES['train'])
    write_table(table[settings.n_train :], directory / TABLE_NAMES['test'])
    return table


def read_settings(directory):
    """Read the `~astroflux.study.catalogue.StudySettings` of the data set in a folder."""
    path = Path(directory) / SETTINGS_NAME
    if not path.is_file():
        msg = f'{directory} holds no data set of the study: it has no {SETTINGS_NAME}'
        raise FileNotFoundError(msg)
    try:
        return StudySettings(**read_json(path, hint=''))
    except (TypeError, ValueError) as exc:
        msg = f'{path} does not hold settings of the study: {exc}'
        raise ValueError(msg) from None


def _prepare(directory, settings, *, resume):
    """Make the folders; refuse to touch another data set."""
    if (directory / SETTINGS_NAME).exists():
        if not resume:
            msg = f'{directory} holds a data set: resume it, or name another folder'
            raise FileExistsError(msg)
        begun = asdict(read_settings(directory))
        refuse_other_settings(f'the data set in {directory}', begun, asdict(settings))
    (directory / IMAGE_FOLDER).mkdir(parents=True, exist_ok=True)
    # left by a process that was killed
    for part in (directory / IMAGE_FOLDER).glob(f'*{PART_SUFFIX}'):
        part.unlink()
    write_json(asdict(settings), directory / SETTINGS_NAME)


def _is_whole(path, row, settings):
    """Whether a file has the length of an image, and the header of this one."""
    head = image_header(row, settings).tostring().encode()
    n_blocks = -(-(settings.image_size**2) * np.dtype('>f4').itemsize // FITS_BLOCK)
    if not path.is_file() or path.stat().st_size != len(head) + n_blocks * FITS_BLOCK:
        return False
    with path.open('rb') as file:
        return file.read(len(head)) == head


def _draw_all(images, rows, settings, workers, bar):
    """Draw the images that are not there, in this process or in several."""
    chunks = [rows[start : start + CHUNK_SIZE] for start in range(0, len(rows), CHUNK_SIZE)]
    if workers == 1 or len(chunks) < 2:
        for chunk in chunks:
            bar.update(_draw_chunk(images, chunk, settings))
        return
    # an interruption from the keyboard is left to this process
    pool = spawn_pool(min(workers, len(chunks)), signal.signal, (signal.SIGINT, signal.SIG_IGN))
    try:
        futures = [pool.submit(_draw_chunk, images, chunk, settings) for chunk in chunks]
        for future in as_completed(futures):
            bar.update(future.result())
    finally:
        # after an interruption what has not begun is given up, what has is finished
        pool.shutdown(cancel_futures=True)


def _draw_chunk(images, rows, settings):
    """Draw some images into files; return how many."""
    for row in rows:
        hdu = fits.PrimaryHDU(draw_image(row, settings), header=image_header(row, settings))
        _write_hdu(hdu, images / row['file_name'])
    return len(rows)


def _write_psf(path, settings):
    """Write the PSF of all images, pixel included, with a sum of one."""
    scale = settings.constants.pixel_scale
    hdu = fits.PrimaryHDU(draw_psf(psf_profile(settings.psf_truth), scale))
    hdu.header['FWHM'] = (settings.psf_fwhm, '[arcsec] Kolmogorov, before the pixel')
    hdu.header['PIXSCALE'] = (scale, '[arcsec] per pixel')
    _write_hdu(hdu, path)


def _write_hdu(hdu, path):
    with write_whole(path) as part:
        hdu.writeto(part, overwrite=True)


def draw_image(row, settings):
    """Draw the image of the galaxy in a row of the catalogue: float32, in ADU, with noise."""
    survey, shape = settings.constants, (settings.image_size, settings.image_size)
    truth = catalogue.image_model_truth(row, settings)
    rng = catalogue.image_generator(settings, row['img_number'])
    offset = tuple(catalogue.draw_offset(rng))
    galaxy, psf = galaxy_profile(truth) * truth['flux'], psf_profile(truth)
    scale = survey.pixel_scale
    image = draw_galaxy(galaxy, psf, shape, scale, offset=offset, accuracy=ACCURACY)
    return (image + survey.noise * rng.standard_normal(shape)).astype(np.float32)


def image_header(row, settings):
    """Return the FITS header of the image of one galaxy."""
    survey, size = settings.constants, settings.image_size
    cards = [
        ('SIMPLE', True, 'conforms to FITS standard'),
        ('BITPIX', -32, 'array data type'),
        ('NAXIS', 2, 'number of array dimensions'),
        ('NAXIS1', size),
        ('NAXIS2', size),
        ('BUNIT', 'adu'),
        ('IMGNUM', int(row['img_number']), 'number of the image'),
        ('TOTFLUX', float(row['total_flux']), '[adu] true total flux of the galaxy'),
        ('SEED', settings.seed, 'seed of the data set'),
        ('NOISE', survey.noise, '[adu] standard deviation per pixel'),
        ('ZEROPT', survey.zeropoint, '[mag] AB magnitude of 1 adu'),
        ('FLUXMAG0', 10 ** (0.4 * survey.zeropoint), '[adu] flux of AB magnitude 0'),
        ('PSFFWHM', settings.psf_fwhm, '[arcsec] Kolmogorov PSF'),
        ('SURVEY', settings.survey),
    ]
    for keyword, values in _wcs_values((size, size), survey.pixel_scale).items():
        cards += [(f'{keyword.upper()}{axis}', value) for axis, value in enumerate(values, start=1)]
    return fits.Header(cards)


def _wcs_values(shape, pixel_scale):
    """Values of a WCS for both axes: north is up, east to the left."""
    scale = pixel_scale / 3600
    return {
        'ctype': ('RA---TAN', 'DEC--TAN'),
        'cunit': ('deg', 'deg'),
        'crpix': ((shape[1] + 1) / 2, (shape[0] + 1) / 2),
        'crval': (150.0, 2.0),
        'cdelt': (-scale, scale),
    }


def crop_centre(image):
    """Return the middle 143 x 143 pixels of an image whose sides are odd; refuse a faulty one."""
    if image is None or image.ndim != 2:
        msg = f'want a 2-d image, got the shape {None if image is None else image.shape}'
        raise ValueError(msg)
    if min(image.shape) < IMAGE_SIZE:
        msg = f'want at least {IMAGE_SIZE} x {IMAGE_SIZE} pixels, got the shape {image.shape}'
        raise ValueError(msg)
    top, left = ((side - IMAGE_SIZE) // 2 for side in image.shape)
    image = image[top : top + IMAGE_SIZE, left : left + IMAGE_SIZE]
    if not np.isfinite(image).all():
        msg = 'the image has pixels that are not finite'
        raise ValueError(msg)
    return image


@dataclass(frozen=True)
class StudySet:
    """The galaxies to train with, or those to test with."""

    #: The columns of the catalogue, one row per image.
    table: pd.DataFrame
    #: ``(n, 143, 143)`` of float32, in ADU.
    images: np.ndarray
    #: Of all images, pixel included, with a sum of one.
    psf: np.ndarray
    #: Standard deviation per pixel, in ADU.
    noise: float
    #: In arcsec per pixel.
    pixel_scale: float = get_survey().pixel_scale
    #: AB magnitude of 1 ADU.
    zeropoint: float = get_survey().zeropoint

    def __len__(self):
        return len(self.table)

    @property
    def flux(self):
        """True total flux in ADU, shape ``(n,)``."""
        return self.table['total_flux'].to_numpy(float)

    @property
    def log_flux(self):
        """Decimal logarithm of the true total flux in ADU, shape ``(n,)``."""
        return np.log10(self.flux)

    def cutouts(self, rows=None):
        """
        Yield images as `~astropy.nddata.CCDData`, with all that an estimator wants to know.

        Parameters
        ----------
        rows : sequence of int, optional
            Which; by default all.
        """
        shape = self.images.shape[1:]
        wcs = WCS(naxis=2)
        for name, values in _wcs_values(shape, self.pixel_scale).items():
            setattr(wcs.wcs, name, values)
        names = self.table[['img_number', 'file_name']].to_dict('records')
        for row in range(len(self)) if rows is None else rows:
            yield CCDData(
                self.images[row],
                unit=u.adu,
                uncertainty=StdDevUncertainty(np.full(shape, self.noise, np.float32)),
                wcs=wcs,
                meta={'zeropoint': self.zeropoint, **names[row]},
                psf=self.psf,
            )


def load_set(directory, which, *, progress=False):
    """
    Read the table and the images to train or to test with.

    Parameters
    ----------
    directory : path-like
        Folder that `write_study_dataset` has written.
    which : {'train', 'test'}
        Which of the two sets.
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    study_set : `StudySet`

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
    table = catalogue.read_table(path)
    wanted = getattr(settings, f'n_{which}')
    if len(table) != wanted:
        msg = f'{path} has {len(table)} rows, but the settings of the data set say {wanted}'
        raise ValueError(msg)
    survey = settings.constants
    return StudySet(
        table=table,
        images=_read_images(directory / IMAGE_FOLDER, table, progress, which),
        psf=_read_psf(directory / PSF_NAME),
        noise=survey.noise,
        pixel_scale=survey.pixel_scale,
        zeropoint=survey.zeropoint,
    )


def _read_images(folder, table, progress, which):
    """Read the images of a table, after a look whether they are all there."""
    present = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    missing = [row for row, name in enumerate(table['file_name']) if name not in present]
    if missing:
        few = catalogue.few_rows(missing, table['file_name'].iloc[missing])
        msg = f'{folder} lacks {len(missing)} of {len(table)} images: {few}. {FINISH}'
        raise FileNotFoundError(msg)
    images = np.empty((len(table), IMAGE_SIZE, IMAGE_SIZE), np.float32)
    rows = zip(table['file_name'], table['img_number'], table['total_flux'], strict=True)
    bar = tqdm(rows, total=len(table), desc=f'read {which}', unit='image', disable=not progress)
    for image, (name, number, flux) in zip(images, bar, strict=True):
        image[:] = _read_image(folder / name, number, flux)
    return images


def _read_image(path, number, flux):
    """Read one image, cropped, after comparing its header with the table."""
    data, header = _read_fits(path)
    wanted_cards = (('IMGNUM', 'img_number', number), ('TOTFLUX', 'total_flux', flux))
    for keyword, column, wanted in wanted_cards:
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
