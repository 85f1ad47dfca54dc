# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The data set of the study on disk: FITS images, two tables, settings and the PSF."""

import json
import multiprocessing
import os
import signal
import warnings
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.utils.exceptions import AstropyUserWarning
from tqdm import tqdm

from astroflux.simulation.scene import draw_psf, psf_profile
from astroflux.study.catalogue import (
    StudySettings,
    column_notes,
    draw_catalogue,
    image_model_truth,
    psf_truth,
)
from astroflux.study.images import draw_image, image_header

__all__ = [
    'StudySettings',
    'draw_catalogue',
    'image_model_truth',
    'read_settings',
    'write_study_dataset',
]

SETTINGS_NAME = 'settings.json'
PSF_NAME = 'psf.fits'
UNITS_NAME = 'columns.csv'
IMAGE_FOLDER = 'images'
TABLE_NAMES = {'train': 'gal_morph_train_val.csv', 'test': 'gal_morph_test.csv'}

# Written under this name, then renamed, so that a file that has its name is whole.
PART_SUFFIX = '.part'

# Images that a worker draws before it reports.
CHUNK_SIZE = 10

FITS_BLOCK = 2880


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
    settings : `StudySettings`
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
        The catalogue, see `draw_catalogue`.

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
    table = draw_catalogue(settings)
    rows = table.to_dict('records')
    wanted = [row for row in rows if not _is_whole(images / row['file_name'], row, settings)]
    _name_torn([row['file_name'] for row in wanted if (images / row['file_name']).exists()])
    _draw_all(images, wanted, settings, workers=workers, progress=progress, done=len(rows))
    _write_psf(directory / PSF_NAME, settings)
    _write_units(directory / UNITS_NAME)
    parts = {'train': table[: settings.n_train], 'test': table[settings.n_train :]}
    for which, part in parts.items():
        _write_whole(directory / TABLE_NAMES[which], part.to_csv(index=False).encode())
    return table


def read_settings(directory):
    """
    Read the settings of a data set.

    Parameters
    ----------
    directory : path-like
        Its folder.

    Returns
    -------
    settings : `StudySettings`

    Raises
    ------
    FileNotFoundError
        If the folder holds no data set of the study.
    ValueError
        If the file does not hold such settings.
    """
    path = Path(directory) / SETTINGS_NAME
    if not path.is_file():
        msg = f'{directory} holds no data set of the study: it has no {SETTINGS_NAME}'
        raise FileNotFoundError(msg)
    try:
        return StudySettings(**json.loads(path.read_text()))
    except (TypeError, ValueError) as exc:
        msg = f'{path} does not hold settings of the study: {exc}'
        raise ValueError(msg) from None


def _prepare(directory, settings, *, resume):
    """Make the folders; refuse to touch another data set."""
    path = directory / SETTINGS_NAME
    if path.exists():
        if not resume:
            msg = f'{directory} holds a data set: resume it, or name another folder'
            raise FileExistsError(msg)
        begun, now = asdict(read_settings(directory)), asdict(settings)
        if begun != now:
            others = ', '.join(f'{k}={v!r}' for k, v in begun.items() if v != now[k])
            given = ', '.join(f'{k}={v!r}' for k, v in now.items() if v != begun[k])
            msg = f'the data set in {directory} was begun with {others}, not with {given}'
            raise ValueError(msg)
    (directory / IMAGE_FOLDER).mkdir(parents=True, exist_ok=True)
    # left by a process that was killed
    for part in (directory / IMAGE_FOLDER).glob(f'*{PART_SUFFIX}'):
        part.unlink()
    _write_whole(path, (json.dumps(asdict(settings), indent=1) + '\n').encode())


def _write_whole(path, content):
    """Write a file so that it is either whole or not there."""
    part = path.with_name(path.name + PART_SUFFIX)
    part.write_bytes(content)
    os.replace(part, path)


def _is_whole(path, row, settings):
    """Whether a file has the length of an image, and the header of this one."""
    size = settings.image_size**2 * np.dtype('>f4').itemsize
    data_size = -(-size // FITS_BLOCK) * FITS_BLOCK
    try:
        length = path.stat().st_size
        if length <= data_size or length % FITS_BLOCK:
            return False
        with path.open('rb') as file:
            head = file.read(length - data_size)
    except OSError:
        return False
    return head == image_header(row, settings).tostring().encode()


def _name_torn(names):
    if names:
        few = ', '.join(names[:5]) + (', ...' if len(names) > 5 else '')
        msg = f'{len(names)} images are torn or not of this data set, and drawn again: {few}'
        warnings.warn(msg, AstropyUserWarning, stacklevel=3)


def _draw_all(images, rows, settings, *, workers, progress, done):
    """Draw the images that are not there, in this process or in several."""
    chunks = [rows[start : start + CHUNK_SIZE] for start in range(0, len(rows), CHUNK_SIZE)]
    with tqdm(
        total=done, initial=done - len(rows), desc='draw', unit='image', disable=not progress
    ) as bar:
        if workers == 1 or len(chunks) < 2:
            for chunk in chunks:
                bar.update(_draw_chunk(images, chunk, settings))
            return
        context = multiprocessing.get_context('spawn')
        pool = ProcessPoolExecutor(
            min(workers, len(chunks)), mp_context=context, initializer=_ignore_interrupt
        )
        try:
            futures = [pool.submit(_draw_chunk, images, chunk, settings) for chunk in chunks]
            for future in as_completed(futures):
                bar.update(future.result())
        finally:
            # After an interruption what has not begun is given up, what has is finished.
            pool.shutdown(cancel_futures=True)


def _ignore_interrupt():
    """Leave an interruption from the keyboard to the process that started this one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _draw_chunk(images, rows, settings):
    """Draw some images into files; return how many."""
    for row in rows:
        hdu = fits.PrimaryHDU(draw_image(row, settings), header=image_header(row, settings))
        path = images / row['file_name']
        part = path.with_name(path.name + PART_SUFFIX)
        hdu.writeto(part, overwrite=True)
        os.replace(part, path)
    return len(rows)


def _write_psf(path, settings):
    """Write the PSF of all images, pixel included, with a sum of one."""
    survey = settings.constants
    hdu = fits.PrimaryHDU(draw_psf(psf_profile(psf_truth(settings)), survey.pixel_scale))
    hdu.header['FWHM'] = (settings.psf_fwhm, '[arcsec] Kolmogorov, before the pixel')
    hdu.header['PIXSCALE'] = (survey.pixel_scale, '[arcsec] per pixel')
    part = path.with_name(path.name + PART_SUFFIX)
    hdu.writeto(part, overwrite=True)
    os.replace(part, path)


def _write_units(path):
    _write_whole(path, column_notes().to_csv(index=False).encode())
