# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""A simulated survey on disk: tiles that overlap on one sky, a catalogue, and the truth."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.nddata import VarianceUncertainty
from astropy.stats import gaussian_fwhm_to_sigma
from astropy.table import QTable, vstack
from scipy.ndimage import gaussian_filter

from astroflux._dataset_files import SETTINGS_NAME
from astroflux._installed import __version__
from astroflux._locks import lock_folder
from astroflux._progress import progress_bar
from astroflux._quiet import quiet_libraries
from astroflux._table_files import write_table
from astroflux._work import call_in_processes, refuse_other_settings, use_one_thread, write_whole
from astroflux.cutouts import write_cutout
from astroflux.simulation.field import REACH, SOURCES_PER_GALAXY, FieldSimulation
from astroflux.simulation.observation import tangent_wcs

__all__ = ['CATALOGUE_NAME', 'TRUTH_NAME', 'simulate_survey']

CATALOGUE_NAME = 'catalogue.parquet'
TRUTH_NAME = 'truth.parquet'

# Identifiers are as large as those of real catalogues: no float holds them.
FIRST_ID = 36_411_448_540_266_000

# Of a magnitude in the catalogue, over that of an ideal measurement.
MAGNITUDE_ERROR = 1.5

# A pixel is that of a detected source above so many times the noise, smoothed with the PSF.
DETECTION = 5.0


@dataclass(frozen=True)
class TileGrid:
    """
    Where tiles lie in the pixels of a survey.

    Attributes
    ----------
    n : int
        How many. They are in rows that are about as long as there are rows.
    shape : tuple of int
        ``(ny, nx)`` of each.
    overlap : int
        By how many pixels each overlaps the next.
    """

    n: int
    shape: tuple[int, int]
    overlap: int

    def __post_init__(self):
        if self.n < 1:
            msg = f'n_tiles must be 1 or more, got {self.n}'
            raise ValueError(msg)
        if not 0 <= self.overlap < min(self.shape) / 2:
            msg = (
                f'overlap must be from 0 to less than half of a tile of {self.shape}, '
                f'got {self.overlap}'
            )
            raise ValueError(msg)

    @property
    def area(self):
        """Of all tiles, in 100 x 100 pixels; what overlaps counts twice."""
        return self.n * np.prod(self.shape) / 1e4

    @property
    def columns(self):
        """How many tiles are in a row."""
        return int(np.ceil(np.sqrt(self.n)))

    def place(self, number):
        """Return row and column of a tile."""
        return divmod(number, self.columns)

    def origin(self, number):
        """Return ``(x, y)`` of the first pixel of a tile."""
        row, column = self.place(number)
        ny, nx = self.shape
        return column * (nx - self.overlap), row * (ny - self.overlap)

    @property
    def full_shape(self):
        """``(ny, nx)`` of all tiles together."""
        rows = self.place(self.n - 1)[0] + 1
        ny, nx = self.shape
        return tuple(
            number * (length - self.overlap) + self.overlap
            for number, length in ((rows, ny), (self.columns, nx))
        )

    def best(self, x, y):
        """Return the number of the tile that holds each position farthest from its edge, or -1."""
        ny, nx = self.shape
        best, farthest = np.full(len(x), -1), np.full(len(x), -0.5)
        for number in range(self.n):
            left, low = x - self.origin(number)[0], y - self.origin(number)[1]
            inside = np.minimum.reduce([left, low, nx - 1 - left, ny - 1 - low])
            better = inside > farthest
            best[better], farthest[better] = number, inside[better]
        return best


def simulate_survey(
    directory,
    *,
    n_tiles=16,
    simulation=None,
    n_sources=None,
    overlap=100,
    seed=0,
    workers=1,
    compress=False,
    overwrite=False,
    resume=False,
    progress=None,
):
    """
    Write a simulated survey: tiles of one sky, a catalogue, and the truth.

    The tiles ``tile-00-00.fits`` and so on have the layout of coadds of HSC: the HDUs IMAGE, MASK
    (planes SAT and DETECTED), VARIANCE and PSF. They are in one tangent plane and overlap; in each
    are its own PSF and noise, and the same sources. ``catalogue.parquet`` is what a user would
    have: ``id``, ``ra`` and ``dec`` with their errors, ``mag`` and ``mag_err``, ``extendedness``
    (0 of a star). ``truth.parquet`` is what is returned.

    Parameters
    ----------
    directory : path-like
        Folder; made if need be.
    n_tiles : int
        How many tiles.
    simulation : `~astroflux.simulation.FieldSimulation`, optional
        What to simulate, of which ``shape`` is that of a tile; by default HSC Wide in tiles of 4000
        x 4000 pixels.
    n_sources : int, optional
        How many sources the catalogue has: those of the largest S/N. By default so many as the
        population has in such tiles: that of HSC Wide, 40,000 in 16 of 4000 x 4000 pixels.
    overlap : int
        By how many pixels a tile overlaps the next.
    seed : int
        Seed of the random draws.
    workers : int
        Number of processes. The survey does not depend on it.
    compress : bool
        Whether to write ``.fits.fz``, compressed by tiles, as surveys do: pixels are rounded to a
        16th of the noise.
    overwrite : bool
        Whether to replace a survey in the folder, whose files are removed.
    resume : bool
        Whether to go on with a survey that was interrupted; it must have been begun with the same
        settings. Tiles that are whole are kept.
    progress : bool, optional
        Whether to show progress, as in `~astroflux.simulation.write_dataset`.

    Returns
    -------
    truth : `~astropy.table.QTable`
        One row per source of the catalogue, in its order: the columns of
        `~astroflux.simulation.FieldSimulation.draw_image`, in the tile that holds the source
        farthest from its edge; and ``tile``, its file.

    Raises
    ------
    FileExistsError
        If the folder holds a survey or a data set, or files of the names of its own, and neither
        ``overwrite`` nor ``resume`` is true.
    ValueError
        If the survey to resume was begun with other settings; or if tiles cannot be laid out so.
    BlockingIOError
        If another process is writing to the folder.
    """
    directory = Path(directory)
    simulation = simulation or FieldSimulation(shape=(4000, 4000))
    grid = TileGrid(n_tiles, simulation.shape, overlap)
    if n_sources is None:
        n_sources = round(np.mean(simulation.sky.density) * SOURCES_PER_GALAXY * grid.area)
    settings = {'seed': seed, 'n_tiles': n_tiles, 'n_sources': n_sources, 'overlap': overlap}
    settings |= {'compress': compress, **asdict(simulation)}
    # lists for tuples, as they will be read
    settings = json.loads(json.dumps(settings))
    with lock_folder(directory):
        _prepare(directory, settings, overwrite=overwrite, resume=resume)
        sky = _draw_sky(simulation, grid, n_sources, np.random.default_rng([seed, 0]))
        paths = [directory / name for name in tile_names(grid, compress=compress)]
        _write_tiles(paths, simulation, grid, sky, seed, workers, progress)
        truth = _join_truth(paths, grid, sky)
        truth.meta = {**settings, 'astroflux_version': __version__}
        write_table(truth, directory / TRUTH_NAME, overwrite=True)
        catalogue = _catalogue(truth, np.random.default_rng([seed, 1]))
        write_table(catalogue, directory / CATALOGUE_NAME, overwrite=True)
    return truth


def tile_names(grid, *, compress):
    """Return the names of the files of all tiles, which tell row and column."""
    suffix = '.fits.fz' if compress else '.fits'
    places = [grid.place(number) for number in range(grid.n)]
    return [f'tile-{row:02d}-{column:02d}{suffix}' for row, column in places]


def _draw_sky(simulation, grid, n_sources, rng):
    """Draw the sources of a survey, so many of which are detected in a tile."""
    ny, nx = grid.full_shape
    density = n_sources / (grid.area * SOURCES_PER_GALAXY)
    sky = replace(simulation.sky, density=(density, density))
    sources = replace(simulation, sky=sky).draw_sky((ny, nx), rng)
    best = grid.best(sources['x'].value, sources['y'].value)
    inside = np.sort(sources['expected_snr'][best >= 0])
    if len(inside) < n_sources:
        msg = f'there are no {n_sources} sources in the sky of this population'
        raise ValueError(msg)
    sources = simulation.detect(sources, inside[-n_sources])
    # in no order that tells anything
    sources['id'] = FIRST_ID + rng.permutation(len(sources))
    return sources


def _write_tiles(paths, simulation, grid, sky, seed, workers, progress):
    """Write the tiles that are not there."""
    missing = [number for number, path in enumerate(paths) if not is_whole(path)]
    calls = (
        (paths[number], simulation, _of_tile(sky, grid, number), grid, number, seed)
        for number in missing
    )
    counts = {'total': grid.n, 'initial': grid.n - len(missing), 'unit': ' tiles'}
    with progress_bar(desc='simulate', progress=progress, **counts) as bar:
        if workers == 1:
            for call in calls:
                write_tile(*call)
                bar.update()
        else:
            pool = {'workers': workers, 'initializer': use_one_thread}
            for _ in call_in_processes(write_tile, list(calls), **pool):
                bar.update()


def is_whole(path):
    """Return whether a tile is there to its last byte."""
    try:
        _truth_of(path)
    except (OSError, KeyError, TypeError, ValueError):
        return False
    return True


def _truth_of(path):
    # the last HDU; of a tile that is cut off, astropy warns before it fails
    with quiet_libraries(), fits.open(path, memmap=False) as hdus:
        return QTable.read(hdus['SOURCES'], mask_invalid=False)


def _of_tile(sky, grid, number):
    """Return the sources that may shine into a tile, in its pixels."""
    (x0, y0), (ny, nx), far = grid.origin(number), grid.shape, REACH[1]
    x, y = sky['x'].value - x0, sky['y'].value - y0
    near = (x > -far) & (x < nx + far) & (y > -far) & (y < ny + far)
    sources = sky[near]
    sources['x'], sources['y'] = x[near] * u.pix, y[near] * u.pix
    return sources


def write_tile(path, simulation, sources, grid, number, seed):
    """Draw a tile and write it, with a table of its sources, SOURCES, which is its truth."""
    (x0, y0), (ny, nx) = grid.origin(number), grid.full_shape
    center = ((nx - 1) / 2 - x0, (ny - 1) / 2 - y0)
    wcs = tangent_wcs(simulation.survey.pixel_scale, center)
    rng = np.random.default_rng([seed, 2, number])
    image, truth = simulation.draw_image(sources, rng, wcs=wcs)
    planes = {'SAT': image.mask, 'DETECTED': _is_detected(image, simulation)}
    image.uncertainty = VarianceUncertainty(image.uncertainty.array**2)
    image.meta['sources'] = truth
    write_cutout(image, path, mask_planes=planes, overwrite=True)


def _is_detected(image, simulation):
    """Return the pixels that a detection would give to sources."""
    width = image.meta['psf_fwhm'] / simulation.survey.pixel_scale * gaussian_fwhm_to_sigma
    noise = image.uncertainty.array / (2 * np.sqrt(np.pi) * width)
    return gaussian_filter(image.data, width) > DETECTION * noise


def _join_truth(paths, grid, sky):
    """Return the truth of each source, in the tile that holds it best."""
    best = grid.best(sky['x'].value, sky['y'].value)
    tile_of = dict(zip(sky['id'].tolist(), best.tolist(), strict=True))
    parts = []
    for number, path in enumerate(paths):
        part = _truth_of(path)
        part.meta = {}
        part = part[[tile_of[name] == number for name in part['id'].tolist()]]
        part['tile'] = np.full(len(part), path.name)
        parts.append(part)
    truth = vstack(parts)
    truth.sort('id')
    return truth


def _catalogue(truth, rng):
    """Return what a user would know of sources: where and how bright they are, about."""
    n, snr = len(truth), truth['snr']
    size = np.hypot(0.3 * u.arcsec, truth['half_light_radius'])
    error = np.minimum(size / np.maximum(snr, 1.0), 0.3 * u.arcsec)
    ra, dec = (error * rng.standard_normal((2, n))).to(u.deg)
    mag_err = MAGNITUDE_ERROR * 2.5 / np.log(10) / np.maximum(snr, 1.0) * u.mag
    return QTable(
        {
            'id': truth['id'],
            'ra': truth['ra'] + ra / np.cos(truth['dec']),
            'dec': truth['dec'] + dec,
            'position_err': error,
            'mag': truth['magnitude'] + mag_err * rng.standard_normal(n),
            'mag_err': mag_err,
            'extendedness': np.where(truth['is_star'], 0.0, 1.0),
            'tile': truth['tile'],
        }
    )


def _prepare(directory, settings, *, overwrite, resume):
    """Make sure that the folder is for this survey."""
    path = directory / SETTINGS_NAME
    begun = json.loads(path.read_text()) if path.exists() else None
    if begun is not None and not overwrite:
        if not resume:
            msg = f'{directory} holds a survey: resume or overwrite it, or name another folder'
            raise FileExistsError(msg)
        refuse_other_settings(f'the survey in {directory}', begun, settings)
        return
    if begun is not None:
        for name in _names(begun):
            (directory / name).unlink(missing_ok=True)
    if there := [name for name in _names(settings) if (directory / name).exists()]:
        msg = f'{directory / there[0]} exists, and is no part of a survey'
        raise FileExistsError(msg)
    with write_whole(path) as part:
        part.write_text(json.dumps(settings, indent=1) + '\n')


def _names(settings):
    """Return the names of the files of a survey of some settings; none if they are of others."""
    if 'n_tiles' not in settings:
        msg = 'the folder holds other work than a survey of tiles: name another one'
        raise FileExistsError(msg)
    grid = TileGrid(settings['n_tiles'], tuple(settings['shape']), settings['overlap'])
    return [TRUTH_NAME, CATALOGUE_NAME, *tile_names(grid, compress=settings['compress'])]
