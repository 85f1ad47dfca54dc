# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The data set of the study on disk: FITS images, two tables, settings and the PSF."""

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData, StdDevUncertainty
from astropy.wcs import WCS

from astroflux._locks import lock_folder
from astroflux._progress import progress_bar
from astroflux._work import call_in_processes, write_whole
from astroflux.simulation.scene import draw_galaxy, draw_psf, galaxy_profile, psf_profile
from astroflux.study import catalogue
from astroflux.study.catalogue import StudySettings
from astroflux.study.published import IMAGE_SIDE
from astroflux.study.results import claim, read_json, write_table

__all__ = ['StudySet', 'load_set', 'write_study_dataset']

SETTINGS_NAME = 'settings.json'
PSF_NAME = 'psf.fits'
IMAGE_FOLDER = 'images'
TABLE_NAMES = {'train': 'gal_morph_train_val.csv', 'test': 'gal_morph_test.csv'}

# Light beyond the plane that GalSim transforms is folded back into it. With a plane of at least
# this many pixels, that changes the chi square of the brightest galaxies by less than 0.5; with
# GalSim's own smallest one by up to 17. It takes no longer.
ACCURACY = {'minimum_fft_size': 512}


def write_study_dataset(directory, settings, *, workers=2, resume=True, progress=None):
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
    progress : bool, optional
        Whether to show progress: a bar on a terminal or in a notebook, lines in a log. By
        default it appears when the work takes long.

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
    BlockingIOError
        If another process is writing to the folder.
    """
    directory = Path(directory)
    with lock_folder(directory):
        return _write_files(directory, settings, workers, resume, progress)


def _write_files(directory, settings, workers, resume, progress):
    images = directory / IMAGE_FOLDER
    claim(directory / SETTINGS_NAME, 'data set', asdict(settings), resume=resume)
    images.mkdir(exist_ok=True)
    table = catalogue.draw_catalogue(settings)
    # files are written whole
    missing = [row for row in table.to_dict('records') if not (images / row['file_name']).exists()]
    done = _draw_all(partial(_write_image, images, settings), missing, workers)
    counts = {'total': len(table), 'initial': len(table) - len(missing), 'unit': ' images'}
    for _ in progress_bar(done, desc='draw', progress=progress, **counts):
        pass
    _write_psf(directory / PSF_NAME, settings)
    write_table(catalogue.column_notes(), directory / 'columns.csv')
    write_table(table[: settings.n_train], directory / TABLE_NAMES['train'])
    write_table(table[settings.n_train :], directory / TABLE_NAMES['test'])
    return table


def read_settings(directory):
    """Read the `~astroflux.study.catalogue.StudySettings` of the data set in a folder."""
    return StudySettings(**read_json(Path(directory) / SETTINGS_NAME))


def _draw_all(draw, rows, workers):
    """Draw in this process or in several; yield as images are done."""
    if workers == 1:
        yield from map(draw, rows)
        return
    for _, drawn in call_in_processes(draw, [(row,) for row in rows], workers=workers):
        yield drawn


def _write_image(images, settings, row):
    hdu = fits.PrimaryHDU(draw_image(row, settings), header=image_header(row, settings))
    with write_whole(images / row['file_name']) as part:
        hdu.writeto(part, overwrite=True)


def _write_psf(path, settings):
    """Write the PSF of all images, pixel included, with a sum of one."""
    scale = settings.constants.pixel_scale
    hdu = fits.PrimaryHDU(draw_psf(psf_profile(settings.psf_truth), scale))
    hdu.header['FWHM'] = (settings.psf_fwhm, '[arcsec] Kolmogorov, before the pixel')
    hdu.header['PIXSCALE'] = (scale, '[arcsec] per pixel')
    with write_whole(path) as part:
        hdu.writeto(part, overwrite=True)


def draw_image(row, settings):
    """Draw the image of the galaxy in a row of the catalogue: float32, in ADU, with noise."""
    survey, shape = settings.constants, (settings.image_size, settings.image_size)
    rng = catalogue.image_generator(settings, row['img_number'])
    truth = catalogue.image_model_truth(row, settings, rng)
    galaxy, psf = galaxy_profile(truth) * truth['flux'], psf_profile(truth)
    offset, scale = (truth['x_offset'], truth['y_offset']), survey.pixel_scale
    image = draw_galaxy(galaxy, psf, shape, scale, offset=offset, accuracy=ACCURACY)
    return (image + survey.noise * rng.standard_normal(shape)).astype(np.float32)


def image_header(row, settings):
    """Return the FITS header of the image of one galaxy, without what its size tells."""
    survey, shape = settings.constants, (settings.image_size, settings.image_size)
    cards = [
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
    for keyword, values in _wcs_values(shape, survey.pixel_scale).items():
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
    """Return the middle 143 x 143 pixels of an image whose sides are odd."""
    top, left = ((side - IMAGE_SIDE) // 2 for side in image.shape)
    return image[top : top + IMAGE_SIDE, left : left + IMAGE_SIDE]


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
    pixel_scale: float
    #: AB magnitude of 1 ADU.
    zeropoint: float

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


def load_set(directory, which, *, progress=None):
    """
    Read the table and the images to train or to test with.

    Parameters
    ----------
    directory : path-like
        Folder that `write_study_dataset` has written.
    which : {'train', 'test'}
        Which of the two sets.
    progress : bool, optional
        Whether to show progress: a bar on a terminal or in a notebook, lines in a log. By
        default it appears when the work takes long.

    Returns
    -------
    study_set : `StudySet`

    Raises
    ------
    OSError
        If a file is missing or damaged.
    ValueError
        If the table has other columns or another length.
    """
    directory = Path(directory)
    settings = read_settings(directory)
    table = catalogue.read_table(directory / TABLE_NAMES[which], getattr(settings, f'n_{which}'))
    images = np.empty((len(table), IMAGE_SIDE, IMAGE_SIDE), np.float32)
    options = {'desc': f'read {which}', 'unit': ' images'}
    names = progress_bar(table['file_name'], progress=progress, **options)
    for image, name in zip(images, names, strict=True):
        image[:] = crop_centre(_read_fits(directory / IMAGE_FOLDER / name))
    psf = _read_fits(directory / PSF_NAME).astype(float)
    psf /= psf.sum()
    survey = settings.constants
    return StudySet(table, images, psf, survey.noise, survey.pixel_scale, survey.zeropoint)


def _read_fits(path):
    try:
        return fits.getdata(path, memmap=False)
    except (OSError, TypeError, ValueError) as exc:
        msg = f'{path} cannot be read: {exc}'
        raise OSError(msg) from exc
