# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What a survey has to do, before any of it is done."""

import hashlib
import json
import time
from inspect import signature
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.table import QTable, serialize

from astroflux.cutouts._own_files import kind_and_path
from astroflux.cutouts._units import check_flux_unit
from astroflux.estimators._described import describe
from astroflux.estimators._parts import record_of
from astroflux.estimators.field import NEIGHBORS
from astroflux.estimators.field._catalogue import with_catalogue
from astroflux.survey._columns import SurveyColumns, plain_catalogue
from astroflux.survey._image_task import (
    ImageTask,
    SurveyJob,
    measured_table,
    this_process,
)
from astroflux.survey.assignment import assign
from astroflux.survey.catalogues import read_catalogue
from astroflux.survey.images import find_images

__all__ = ['BLOCK_SIZE', 'SurveyPlan', 'files_of']

BLOCK_SIZE = 4400
"""Pixels of a side of the largest part of an image that is measured at once."""

# By how many pixels such parts overlap on each side, so that stamps and neighbors are whole.
MARGIN = 150

# What of the record of a table its numbers depend on.
_OF_RECORD = ('method', 'parameters', 'arguments', 'weights', 'weights_sha256')

# How many sources are measured to tell how long a survey takes.
_TRIED = 64


class SurveyPlan:
    """
    The images of a survey and the sources that are measured in each.

    Parameters
    ----------
    images, catalogue, estimator, psf, neighbors, passes, block_size, **options
        As of `~astroflux.survey.measure_survey`.

    Attributes
    ----------
    images : list of `~astroflux.survey.SurveyImage`
        The images.
    catalogue : `~astropy.table.QTable`
        All sources.
    assignment : `~astroflux.survey.Assignment`
        Which sources are measured in which image.
    unreadable : dict of str to str
        The names of images whose header cannot be read, and why.
    """

    def __init__(
        self,
        images,
        catalogue,
        *,
        estimator=None,
        psf=None,
        neighbors='model',
        passes=3,
        block_size=BLOCK_SIZE,
        **options,
    ):
        self.estimator = _default_network() if estimator is None else estimator
        self.options = {**options, 'neighbors': neighbors, 'passes': passes, 'psf': psf}
        self.block_size = block_size
        self._check()
        self.catalogue = plain_catalogue(read_catalogue(catalogue))
        self.images = find_images(images)
        self.assignment = assign(self.catalogue, self.images)
        self.unreadable = self.assignment.failed

    def _check(self):
        """Raise for what makes no sense for any image."""
        if self.options['neighbors'] not in NEIGHBORS:
            msg = f'neighbors must be one of {NEIGHBORS}, got {self.options["neighbors"]!r}'
            raise ValueError(msg)
        for name, value, least in (
            ('passes', self.options['passes'], 1),
            ('block_size', self.block_size, MARGIN),
        ):
            if value < least:
                msg = f'{name} must be {least} or more, got {value}'
                raise ValueError(msg)
        signature(self.estimator.measure_field).bind(None, **self.options)
        self.estimator._check_params()

    @property
    def _readable(self):
        return [image for image in self.images if image.name not in self.unreadable]

    # -- what is counted --------------------------------------------------------------------------

    @property
    def n_sources(self):
        """How many sources the catalogue has."""
        return len(self.catalogue)

    @property
    def n_assigned(self):
        """How many of them are on an image that can be read."""
        return self.n_sources - len(self.assignment.off)

    def off(self):
        """Return the sources that are on no image: rows of the catalogue, and the reason."""
        table = QTable({'row': self.assignment.off})
        table['reason'] = np.array(self.assignment.reasons, dtype=str)
        return with_catalogue(table, self.catalogue[self.assignment.off])

    # -- what is done -----------------------------------------------------------------------------

    def look(self):
        """Return unit of the fluxes and whether lengths are in arcsec: of the first good image."""
        for image in self._readable:
            try:
                section = image.read((slice(0, 1), slice(0, 1)))
                unit, _ = check_flux_unit(section.unit)
            except (OSError, ValueError, u.UnitsError):
                continue
            return {'unit': unit.to_string(), 'in_arcsec': image.wcs is not None}
        return {'unit': '', 'in_arcsec': True}

    def settings(self, looks):
        """Return what the numbers depend on, as JSON can hold it; ``looks`` are those of `look`."""
        record = record_of(self.estimator, **self._options_of_measure())
        record['arguments'] |= {
            name: _fingerprint(value) for name, value in self._options_of_measure().items()
        }
        settings = {
            **{name: record[name] for name in _OF_RECORD if name in record},
            'neighbors': self.options['neighbors'],
            'passes': self.options['passes'],
            'block_size': self.block_size,
            'catalogue': {
                'n_sources': self.n_sources,
                'columns': self.catalogue.colnames,
                'sha256': _sha256_of(self.catalogue),
            },
            **looks,
        }
        # as a file gives it back
        return json.loads(json.dumps(settings))

    def _options_of_measure(self):
        return {
            name: value
            for name, value in self.options.items()
            if name not in ('neighbors', 'passes')
        }

    def job(self, looks, folder):
        """Return what the workers are told of all images."""
        columns = SurveyColumns(
            self.estimator,
            self.catalogue[:0],
            unit=u.Unit(looks['unit']),
            in_arcsec=looks['in_arcsec'],
            longest_name=max((len(image.name) for image in self.images), default=1),
            options=self._options_of_measure(),
        )
        return SurveyJob(
            self.estimator,
            columns,
            folder,
            self.options,
            self.block_size,
            MARGIN,
            this_process(),
        )

    def digests(self, settings):
        """Return what the table of each image is known by, in their order."""
        settings = json.dumps(settings, sort_keys=True).encode()
        digests = []
        for index, image in enumerate(self.images):
            rows, x, y = self._sources_of(index)
            digest = hashlib.sha256(settings)
            digest.update(image.name.encode())
            for values in (np.array(len(self.assignment.rows[index])), rows, x, y):
                digest.update(np.ascontiguousarray(values).tobytes())
            digests.append(digest.hexdigest())
        return digests

    def task(self, index, digest):
        """Return what is to be done for an image."""
        rows, x, y = self._sources_of(index)
        n_own = len(self.assignment.rows[index])
        return ImageTask(self.images[index], rows[:n_own], self.catalogue[rows], x, y, digest)

    def _sources_of(self, index):
        """Return rows and positions: of the sources of an image, then of others that are on it."""
        found = self.assignment
        own = found.rows[index]
        mine = own, found.x[own], found.y[own]
        pairs = zip(mine, found.others[index], strict=True)
        return [np.concatenate([first, second]) for first, second in pairs]

    # -- how long it takes ------------------------------------------------------------------------

    def seconds_per_source(self):
        """
        Measure a few sources here, and return how long one takes; NaN if no image can be read.

        That is the time of one process, after what it loads has been loaded.
        """
        job = self.job(self.look(), None)
        fullest = sorted(range(len(self.images)), key=lambda i: -len(self.assignment.rows[i]))
        for index in fullest:
            task = _some_of(self.task(index, ''), job.block_size // 8)
            if not len(task.rows):
                break
            try:
                for _ in range(2):
                    began = time.perf_counter()
                    measured_table(job, task)
                    seconds = time.perf_counter() - began
            except (OSError, ValueError):
                continue
            return seconds / len(task.rows)
        return np.nan


def files_of(image):
    """Return the files that an image is read from."""
    beside = [each for each in (image.noise, image.mask) if each is not None]
    return [Path(image.path), *(Path(kind_and_path(each)[1]) for each in beside)]


def _some_of(task, size):
    """Return a task of few sources, which are in the middle of the image."""
    ny, nx = task.image.shape
    n_own = len(task.rows)
    distance = np.maximum(abs(task.x - nx / 2), abs(task.y - ny / 2))[:n_own]
    chosen = np.sort(np.argsort(distance, kind='stable')[:_TRIED])
    return ImageTask(
        task.image, task.rows[chosen], task.sources[chosen], task.x[chosen], task.y[chosen], ''
    )


def _default_network():
    from astroflux import CNNFluxEstimator

    return CNNFluxEstimator()


def _fingerprint(value):
    """Return an argument in a word; of arrays also what tells them from others."""
    word = describe(value)
    array = getattr(value, 'data', value)
    if isinstance(array, np.ndarray | u.Quantity) and array.ndim:
        return f'{word}, sha256 {_digest_of(np.asarray(array)).hexdigest()[:16]}'
    return word


def _sha256_of(table):
    """Return the hash of what is in a table."""
    digest = hashlib.sha256()
    plain = serialize.represent_mixins_as_columns(table)
    for name in plain.colnames:
        digest.update(name.encode())
        digest.update(_digest_of(np.asarray(plain[name])).digest())
    return digest.hexdigest()


def _digest_of(array):
    return hashlib.sha256(f'{array.dtype.str}{array.shape}'.encode() + array.tobytes())
