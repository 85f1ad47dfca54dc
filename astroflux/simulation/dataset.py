# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Simulated data sets on disk: FITS cutouts and a table of truth."""

import csv
import json
from dataclasses import asdict, fields
from pathlib import Path

from astropy import units as u
from astropy.table import QTable, Table

from astroflux._dataset_files import (
    PROGRESS_NAME,
    SETTINGS_NAME,
    TRUTH_NAME,
    cutout_name,
    names_in_progress,
)
from astroflux._installed import __version__
from astroflux._locks import lock_folder
from astroflux._progress import progress_bar
from astroflux._table_files import write_table
from astroflux._work import check_replaceable, refuse_other_settings, write_whole
from astroflux.cutouts import write_cutout
from astroflux.simulation.observation import CutoutSimulation, simulate_cutouts
from astroflux.simulation.population import GalaxyPopulation, PSFPopulation
from astroflux.simulation.sky import SkyPopulation
from astroflux.simulation.sky_scene import SceneSimulation
from astroflux.simulation.surveys import Survey

__all__ = ['simulation_of', 'write_dataset']

# What a simulation is made of, by the names of its attributes.
PARTS = {
    'survey': Survey,
    'galaxies': GalaxyPopulation,
    'psfs': PSFPopulation,
    'sky': SkyPopulation,
}

UNITS = {
    'flux': u.adu,
    'magnitude': u.mag,
    'half_light_radius': u.arcsec,
    'half_light_radius_1': u.arcsec,
    'half_light_radius_2': u.arcsec,
    'position_angle_1': u.deg,
    'position_angle_2': u.deg,
    'x_offset': u.pix,
    'y_offset': u.pix,
    'psf_fwhm': u.arcsec,
    'neighbour_distance': u.arcsec,
}


def write_dataset(
    directory,
    n,
    simulation=None,
    *,
    seed=0,
    compress=False,
    overwrite=False,
    resume=False,
    progress=None,
):
    """
    Write simulated cutouts ``000000.fits`` and so on, and ``truth.ecsv``.

    ``truth.csv`` holds the same rows without units; it grows while the data
    set is being written. The data set consists of the files that the tables list.

    Parameters
    ----------
    directory : path-like
        Folder; made if need be.
    n : int
        How many cutouts.
    simulation : `~astroflux.simulation.CutoutSimulation`, optional
        What to simulate; by default isolated galaxies in HSC Wide.
    seed : int
        Seed of the random draws.
    compress : bool
        Whether to write ``.fits.gz``.
    overwrite : bool
        Whether to replace a data set in the folder, whose files are removed.
    resume : bool
        Whether to go on with a data set that was interrupted; it must have
        been begun with the same settings.
    progress : bool, optional
        Whether to show progress: a bar on a terminal or in a notebook, lines in a log. By
        default it appears when the work takes long.

    Returns
    -------
    truth : `~astropy.table.QTable`
        One row per cutout, ``file_name`` first.

    Raises
    ------
    FileExistsError
        If the folder holds a data set, or files of the names of its cutouts, and neither
        ``overwrite`` nor ``resume`` is true.
    ValueError
        If the data set to resume was begun with other settings.
    BlockingIOError
        If another process is writing to the folder.
    """
    directory = Path(directory)
    simulation = simulation or CutoutSimulation()
    # lists for tuples, as they will be read
    settings = json.loads(json.dumps({'seed': seed, **asdict(simulation)}))
    with lock_folder(directory):
        names = [cutout_name(index, compress=compress) for index in range(n)]
        done = _prepare(directory, settings, names, overwrite=overwrite, resume=resume)
        _write_cutouts(directory, names, simulation, seed, done, progress)
        table = add_units(_read_progress(directory)[:n])
        table.meta = {**settings, 'astroflux_version': __version__}
        write_table(table, directory / TRUTH_NAME, overwrite=True)
    return table


def _write_cutouts(directory, names, simulation, seed, done, progress):
    """Write the cutouts that are not done, and a line of truth after each."""
    with (directory / PROGRESS_NAME).open('a', newline='') as file:
        writer = None
        scenes = simulate_cutouts(len(names), simulation, seed=seed, start=done)
        counts = {'total': len(names), 'initial': done, 'unit': ' cutouts'}
        scenes = progress_bar(scenes, desc='simulate', progress=progress, **counts)
        for name, (cutout, truth) in zip(names[done:], scenes, strict=True):
            write_cutout(cutout, directory / name, overwrite=True)
            row = {'file_name': name, **truth}
            if writer is None:
                writer = csv.DictWriter(file, fieldnames=row)
                if done == 0:
                    writer.writeheader()
            writer.writerow(row)
            file.flush()


def simulation_of(truth):
    """
    Return the simulation that drew a data set, `None` if its table does not tell.

    Parameters
    ----------
    truth : `~astropy.table.QTable`
        What `write_dataset` returned, or wrote to ``truth.ecsv``.
    """
    for kind in (CutoutSimulation, SceneSimulation):
        names = {field.name for field in fields(kind)}
        # of a simulation of any other kind there is more, or less
        if names == {*truth.meta} - {'seed', 'astroflux_version'}:
            return kind(**{name: _part(name, truth.meta[name]) for name in names})
    return None


def _part(name, value):
    """Make an attribute of a simulation from what its settings have of it."""
    if isinstance(value, dict):
        return PARTS[name](**{inner: _part(inner, item) for inner, item in value.items()})
    # tuples were kept as lists
    return tuple(value) if isinstance(value, list) else value


def add_units(table):
    """Give those columns of a table of truth their units that have some."""
    table = Table(table)
    for name in UNITS.keys() & {*table.colnames}:
        table[name].unit = UNITS[name]
    return QTable(table)


def _prepare(directory, settings, names, *, overwrite, resume):
    """Return how many cutouts are there to keep."""
    settings_path, progress_path = directory / SETTINGS_NAME, directory / PROGRESS_NAME
    check_replaceable(progress_path)
    if settings_path.exists() and not overwrite:
        if not resume:
            msg = f'{directory} holds a data set: resume or overwrite it, or name another folder'
            raise FileExistsError(msg)
        begun = json.loads(settings_path.read_text())
        refuse_other_settings(f'the data set in {directory}', begun, settings)
        return _drop_torn_line(progress_path)
    if overwrite:
        _remove_old(directory)
    elif there := [n for n in (TRUTH_NAME, PROGRESS_NAME, *names) if (directory / n).exists()]:
        msg = f'{directory / there[0]} exists, and is no part of a data set'
        raise FileExistsError(msg)
    with write_whole(settings_path) as part:
        part.write_text(json.dumps(settings, indent=1) + '\n')
    return 0


def _remove_old(directory):
    """Remove the cutouts of a data set, and then its tables, which list them."""
    listed = {*names_in_progress(directory)}
    # of one that was interrupted, the last is not listed; and no other name is ours
    for index in range(len(listed) + 1):
        for compress in (False, True):
            name = cutout_name(index, compress=compress)
            if name in listed or index == len(listed):
                (directory / name).unlink(missing_ok=True)
    for name in (TRUTH_NAME, PROGRESS_NAME):
        (directory / name).unlink(missing_ok=True)


def _drop_torn_line(path):
    """Cut a line that an interruption left unfinished; return the number of rows."""
    if not path.exists():
        return 0
    text = path.read_text()
    whole = text[: text.rfind('\n') + 1]
    with write_whole(path) as part:
        part.write_text(whole)
    return max(0, len(whole.splitlines()) - 1)


def _read_progress(directory):
    return Table.read(directory / PROGRESS_NAME, format='ascii.csv', converters={'file_name': str})
