# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Where the cutouts of a comparison come from: simulations, data sets, files."""

import hashlib
from abc import ABC, abstractmethod
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from astropy.nddata import StdDevUncertainty
from astropy.table import QTable, Table

from astroflux._dataset_files import TRUTH_NAME, inside, read_truth
from astroflux.cutouts import CutoutFile, CutoutReadError, read_cutout
from astroflux.evaluation.information import ImageModel, ln_flux_bound
from astroflux.evaluation.neighbors import scene_bounds
from astroflux.evaluation.parameters import derive_parameters
from astroflux.simulation import CutoutSimulation, SceneSimulation
from astroflux.simulation.dataset import add_units, simulation_of

__all__ = ['CutoutSource', 'DatasetSource', 'FileSource', 'ListSource', 'SimulatedSource']

# Columns of the truth: with and without what the population tells of a galaxy beforehand.
BOUNDS = ('bound', 'bound_without_prior')


class CutoutSource(ABC):
    """
    A numbered set of cutouts, of which any part can be loaded, in any process.

    Attributes
    ----------
    title : str
        What the cutouts are, for people.
    no_bound : str
        Why the bound of the galaxies is not known, for people; empty if it is.
    """

    title = ''
    no_bound = 'they come without the simulation that drew them'

    @property
    def settings(self):
        """What tells these cutouts from others, as a dict that JSON can hold."""
        return {'title': self.title, 'n': len(self)}

    @abstractmethod
    def __len__(self):
        """Return the number of cutouts."""

    @abstractmethod
    def load(self, start, stop):
        """
        Load some of the cutouts.

        Parameters
        ----------
        start, stop : int
            From which number to before which.

        Returns
        -------
        cutouts : list
            Whatever `~astroflux.cutouts.iter_cutouts` accepts as one cutout.
        truth : `~astropy.table.QTable` or None
            A row for each: ``flux``, and the columns of ``astroflux.evaluation.PARAMETERS``,
            ``bound`` and ``bound_without_prior`` as far as they are known.
        """


class ListSource(CutoutSource):
    """
    Cutouts in memory.

    Parameters
    ----------
    cutouts : sequence
        Each of anything that ``measure`` takes as one cutout; or an array of three dimensions.
    truth : `~astropy.table.QTable`, optional
        A row for each, with its ``flux`` and whatever is known of the columns that
        `~astroflux.evaluation.derive_parameters` can use.
    title : str, optional
        What the cutouts are.

    Raises
    ------
    TypeError
        If the cutouts are no sequence.
    ValueError
        If there are more or fewer rows of truth than cutouts.
    """

    def __init__(self, cutouts, truth=None, *, title=None):
        if isinstance(cutouts, str) or not hasattr(cutouts, '__len__'):
            msg = f'want a CutoutSource or a list of cutouts, got {type(cutouts).__name__}'
            raise TypeError(msg)
        if truth is not None and len(truth) != len(cutouts):
            msg = f'there are {len(cutouts)} cutouts, but {len(truth)} rows of truth'
            raise ValueError(msg)
        self.cutouts = cutouts
        self.title = title or f'{len(cutouts)} cutouts'
        self._truth = None if truth is None else derive_parameters(truth)

    @property
    def settings(self):
        """The cutouts, as a hash of their pixels, or of the names of files."""
        digest = hashlib.sha256()
        for cutout in self.cutouts:
            if isinstance(cutout, str | Path):
                digest.update(f'{cutout}\n'.encode())
            elif isinstance(cutout, CutoutFile):
                digest.update(f'{cutout!r}\n'.encode())
            else:
                digest.update(np.asarray(getattr(cutout, 'data', cutout)).tobytes())
        return {**super().settings, 'sha256': digest.hexdigest()}

    def __len__(self):
        return len(self.cutouts)

    def load(self, start, stop):
        """Return the cutouts, and their truth if it is known."""
        return self.cutouts[start:stop], None if self._truth is None else self._truth[start:stop]


class FileSource(ListSource):
    """
    FITS files of unknown truth.

    Parameters
    ----------
    paths : sequence of path-like or `~astroflux.cutouts.CutoutFile`
        The files.
    """

    def __init__(self, paths):
        files = [path if isinstance(path, CutoutFile) else Path(path) for path in paths]
        super().__init__(files, title=_title_of([Path(str(file)) for file in files]))


def _title_of(paths):
    """Say which files they are: the name of one, or how many of which folder."""
    if len(paths) == 1:
        return paths[0].name
    folders = {path.resolve().parent for path in paths}
    where = f'of {folders.pop().name}' if len(folders) == 1 else f'of {len(folders)} folders'
    return f'{len(paths)} files {where}'


class DatasetSource(CutoutSource):
    """
    A simulated data set on disk, made by `astroflux.simulation.write_dataset`.

    Parameters
    ----------
    directory : path-like
        Its folder.
    with_bound : bool, optional
        Whether to compute the information bound of each galaxy, as `SimulatedSource` does. It
        needs GalSim, and a table of truth that has kept its simulation.

    Raises
    ------
    FileNotFoundError
        If the folder holds no table of truth.
    ValueError
        If the table lacks the column ``file_name`` or ``flux``, or names a file outside of the
        folder.
    """

    def __init__(self, directory, *, with_bound=True):
        self.directory = Path(directory)
        path = self.directory / TRUTH_NAME
        if not path.is_file():
            msg = f'{self.directory} holds no data set: {TRUTH_NAME} is missing'
            raise FileNotFoundError(msg)
        truth = read_truth(path)
        if missing := {'file_name', 'flux'} - {*truth.colnames}:
            msg = f'{path} lacks the columns {sorted(missing)}; it has {truth.colnames}'
            raise ValueError(msg)
        inside(self.directory, truth['file_name'])
        self._truth = derive_parameters(truth)
        self._simulation = None
        if not with_bound:
            self.no_bound = 'it was not asked for'
        elif find_spec('galsim') is None:
            self.no_bound = 'it needs GalSim, which is not installed'
        elif simulation := simulation_of(truth):
            self._simulation, self.no_bound = simulation, ''
        self.title = f'{len(truth)} simulated galaxies of {self.directory.name}'

    @property
    def settings(self):
        """The folder."""
        return {
            **super().settings,
            'directory': str(self.directory.resolve()),
            'with_bound': not self.no_bound,
        }

    def __len__(self):
        return len(self._truth)

    def load(self, start, stop):
        """Return the paths, and their truth."""
        rows = self._truth[start:stop]
        paths = inside(self.directory, rows['file_name'])
        if self._simulation is not None:
            bounds = [
                _bounds_of_file(path, row, self._simulation)
                for path, row in zip(paths, rows, strict=True)
            ]
            for name, values in zip(BOUNDS, np.transpose(bounds), strict=True):
                rows[name] = values
        return paths, rows


def _bounds_of_file(path, truth, simulation):
    """Return the bounds for the pixels of a file, NaN if it cannot be read."""
    try:
        cutout = read_cutout(path)
    except CutoutReadError:
        # measuring it will say what is wrong
        return np.nan, np.nan
    if isinstance(simulation, SceneSimulation):
        cutout.meta = {'sources': QTable.read(path, hdu='SOURCES')}
    # without units, as it was drawn
    truth = {name: getattr(truth[name], 'value', truth[name]) for name in truth.colnames}
    return _bounds(cutout, truth, simulation)


class SimulatedSource(CutoutSource):
    """
    Galaxies simulated when they are needed, with the information bound of each.

    Parameters
    ----------
    n : int
        How many.
    simulation : `~astroflux.simulation.CutoutSimulation`, optional
        What to simulate; by default isolated galaxies in HSC Wide.
    seed : int, optional
        Of the random draws.
    title : str, optional
        What the cutouts are.
    alter : callable, optional
        Called as ``alter(cutout, truth, rng)`` with what was simulated, for what a simulation
        does not do, such as masks; returns the cutout to measure. A function of a module, so
        that it can be sent to other processes.
    with_bound : bool, optional
        Whether to compute the bounds, about 0.1 s for each galaxy, 0.2 s in a scene.

    Notes
    -----
    The bound is that of the galaxy alone: neighbours, whose light has to be told from the
    galaxy's, can only raise it. It is computed with the noise and the mask of the cutout, a sky
    known as well as the simulation leaves it, and the true PSF. For a
    `~astroflux.simulation.SceneSimulation`, neighbors and the correlation of the noise are part
    of it.
    """

    def __init__(self, n, simulation=None, *, seed=0, title=None, alter=None, with_bound=True):
        self.n = n
        self.simulation = simulation or CutoutSimulation()
        self.seed = seed
        self.alter = alter
        self.with_bound = with_bound
        self.no_bound = '' if with_bound else 'it was not asked for'
        self.title = title or f'{n} simulated galaxies'

    def __len__(self):
        return self.n

    @property
    def settings(self):
        """The simulation, its seed, and what is done to the cutouts."""
        return {
            **super().settings,
            'seed': self.seed,
            'simulation': asdict(self.simulation),
            'alter': getattr(self.alter, '__qualname__', repr(self.alter)),
            'with_bound': self.with_bound,
        }

    def simulation_of(self, index):
        """Return the `~astroflux.simulation.CutoutSimulation` of a cutout, here of any."""
        return self.simulation

    def draw(self, index):
        """
        Simulate one cutout.

        Parameters
        ----------
        index : int
            Its number.

        Returns
        -------
        cutout : `~astropy.nddata.CCDData`
        truth : dict
            See `~astroflux.simulation.CutoutSimulation.draw`.
        """
        rng = np.random.default_rng([self.seed, index])
        cutout, truth = self.simulation_of(index).draw(rng)
        if self.alter is not None:
            cutout = self.alter(cutout, truth, rng)
        return cutout, truth

    def load(self, start, stop):
        """Return `~astropy.nddata.CCDData`, and their truth."""
        cutouts, rows = [], []
        for index in range(start, stop):
            cutout, truth = self.draw(index)
            if self.with_bound:
                bounds = _bounds(cutout, truth, self.simulation_of(index))
                truth = truth | dict(zip(BOUNDS, bounds, strict=True))
            cutouts.append(cutout)
            rows.append(truth)
        return cutouts, derive_parameters(add_units(Table(rows)))


def _bounds(cutout, truth, simulation):
    """Return the bounds with and without what the population tells of the galaxy."""
    survey = simulation.survey
    model = ImageModel(truth, cutout.shape, survey.pixel_scale)
    if isinstance(simulation, SceneSimulation):
        return scene_bounds(model, cutout, truth, simulation)
    noise = cutout.uncertainty.represent_as(StdDevUncertainty).array
    options = {'mask': cutout.mask, 'sky_error': simulation.sky_residual * survey.noise}
    return tuple(
        ln_flux_bound(model, noise, population=population, **options)
        for population in (simulation.galaxies, None)
    )
