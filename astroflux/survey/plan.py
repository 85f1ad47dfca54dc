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
from scipy.spatial import cKDTree

from astroflux._forks import cached_property
from astroflux.cutouts._own_files import kind_and_path
from astroflux.cutouts._units import check_flux_unit
from astroflux.estimators._defaults import PASSES
from astroflux.estimators._described import describe
from astroflux.estimators._parts import record_of
from astroflux.estimators.field import NEIGHBORS
from astroflux.estimators.field._catalogue import with_catalogue
from astroflux.estimators.field._detection import detected_sources
from astroflux.estimators.recalibration import as_recalibration
from astroflux.survey._columns import SurveyColumns, plain_catalogue
from astroflux.survey._image_task import (
    OF_FIELDS,
    DetectionTask,
    ImageTask,
    SurveyJob,
    this_process,
)
from astroflux.survey.assignment import assign, circle_of
from astroflux.survey.catalogues import read_catalogue
from astroflux.survey.images import find_images

__all__ = ['BLOCK_SIZE', 'DetectionPlan', 'SurveyPlan', 'files_of', 'plan_survey']

BLOCK_SIZE = 4400
"""Pixels of a side of the largest part of an image that is measured at once."""

# By how many pixels such parts overlap on each side, so that stamps and neighbors are whole.
MARGIN = 150

# What of the record of a table its numbers depend on.
_OF_RECORD = ('method', 'parameters', 'arguments', 'weights', 'weights_sha256')

# What of an image its numbers depend on, and that is the same in another folder.
_READING = ('name', 'hdu', 'plane', 'mask_planes', 'weight')

# How many sources are measured to tell how long a survey takes; and in how many images, if those
# before cannot be read.
_SOURCES_TRIED = (16, 80)
_IMAGES_TRIED = 5


def plan_survey(images, catalogue, **options):
    """Return the `SurveyPlan` of a catalogue, or the `DetectionPlan` if it is `None`."""
    if catalogue is None:
        return DetectionPlan(images, **options)
    return SurveyPlan(images, catalogue, **options)


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

    is_detection = False

    def __init__(
        self,
        images,
        catalogue,
        *,
        estimator=None,
        psf=None,
        neighbors='model',
        passes=PASSES,
        block_size=BLOCK_SIZE,
        **options,
    ):
        self.estimator = _default_network() if estimator is None else estimator
        self.options = {**options, 'neighbors': neighbors, 'passes': passes, 'psf': psf}
        if options.get('recalibrate') is not None:
            # the workers need not see its file
            self.options['recalibrate'] = as_recalibration(options['recalibrate'])
        self.block_size = block_size
        self._check()
        self._take(catalogue)
        self.images = find_images(images)
        self.assignment = assign(self.catalogue, self.images)
        self.unreadable = self.assignment.failed

    def _take(self, catalogue):
        self.catalogue = plain_catalogue(read_catalogue(catalogue))

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

    @property
    def work(self):
        """What is counted to tell how far the work is, and how much of it there is."""
        return 'sources', self.n_assigned

    def part_of_work(self, record):
        """Return how much of it an image is."""
        return record['n_sources']

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
            'recalibrated': self._recalibration_settings(),
            'catalogue': self._catalogue_settings(),
            **looks,
        }
        # as a file gives it back
        return json.loads(json.dumps(settings))

    def _recalibration_settings(self):
        recalibration = self.options.get('recalibrate')
        return None if recalibration is None else recalibration.record

    def _catalogue_settings(self):
        return {
            'n_sources': self.n_sources,
            'columns': self.catalogue.colnames,
            'sha256': _sha256_of(self.catalogue),
        }

    def _options_of_measure(self):
        return {name: value for name, value in self.options.items() if name not in OF_FIELDS}

    def job(self, looks, folder):
        """Return what the workers are told of all images."""
        unit = u.Unit(looks['unit'])
        columns = SurveyColumns(
            self.estimator,
            self._own_columns(unit),
            unit=unit,
            in_arcsec=looks['in_arcsec'],
            longest_name=max((len(image.name) for image in self.images), default=1),
            options=self._options_of_measure(),
            is_recalibrated=self.options.get('recalibrate') is not None,
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

    def _own_columns(self, unit):
        return self.catalogue[:0]

    def digests(self, settings):
        """Return what the table of each image is known by, in their order."""
        begun = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
        digests = []
        for index, image in enumerate(self.images):
            digest = begun.copy()
            digest.update(repr(_reading_of(image)).encode())
            for content in self._contents_of(index):
                digest.update(content)
            digests.append(digest.hexdigest())
        return digests

    def _contents_of(self, index):
        """Yield what the numbers of an image depend on beside the settings."""
        yield str(len(self.assignment.rows[index])).encode()
        for values in self._sources_of(index):
            yield np.ascontiguousarray(values).tobytes()

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

    def estimate(self):
        """
        Measure a few sources here, and return how long an image takes, and each source in it.

        Returns
        -------
        seconds_per_image, seconds_per_source : float
            The time of one process, after what it loads has been loaded; NaN if no image can be
            measured.
        """
        job = self.job(self.look(), None)
        fullest = sorted(range(len(self.images)), key=lambda i: -len(self.assignment.rows[i]))
        for index in fullest[:_IMAGES_TRIED]:
            whole = self.task(index, '')
            if not whole.n_sources:
                break
            tasks = [_some_of(whole, n) for n in _SOURCES_TRIED]
            try:
                tasks[0].table(job)
                (few, many), n = zip(*(_timed(job, task) for task in tasks), strict=True)
            except (OSError, ValueError):
                continue
            per_source = max(many - few, 0) / max(n[1] - n[0], 1) if n[1] > n[0] else many / n[1]
            return max(many - n[1] * per_source, 0.0), per_source
        return np.nan, np.nan


class DetectionPlan(SurveyPlan):
    """
    The images of a survey whose sources are detected in each.

    Parameters
    ----------
    images, estimator, psf, neighbors, passes, block_size, **options
        As of `~astroflux.survey.measure_survey`.
    """

    is_detection = True

    def __init__(self, images, **options):
        super().__init__(images, None, **options)

    def _take(self, catalogue):
        # none yet: that of an image is found with it
        self.catalogue = QTable({'ra': np.empty(0), 'dec': np.empty(0)})

    @property
    def work(self):
        """What is counted to tell how far the work is, and how much of it there is."""
        return 'images', len(self._readable)

    def part_of_work(self, record):
        """Return how much of it an image is."""
        return 1

    def _catalogue_settings(self):
        return 'detected'

    def _own_columns(self, unit):
        own = detected_sources(unit)
        # those that are measured
        own.remove_columns(['x', 'y'])
        return own

    def _contents_of(self, index):
        for image in self._beside[index]:
            yield image.name.encode()

    def task(self, index, digest):
        """Return what is to be done for an image."""
        return DetectionTask(self.images[index], self._beside[index], digest)

    @cached_property
    def _beside(self):
        """For each image, those that it may have sources in common with."""
        on_sky = [i for i, each in enumerate(self.images) if self._is_on_sky(each)]
        beside = [[] for _ in self.images]
        if on_sky:
            centers, radii = zip(*(circle_of(self.images[i]) for i in on_sky), strict=True)
            radii = np.array(radii)
            tree = cKDTree(centers)
            for row, (center, radius) in enumerate(zip(centers, radii, strict=True)):
                near = sorted(tree.query_ball_point(center, radius + radii.max()))
                distance = np.linalg.norm(np.array(centers)[near] - center, axis=1)
                beside[on_sky[row]] = [
                    self.images[on_sky[other]]
                    for other, apart in zip(near, distance, strict=True)
                    if other != row and apart < radius + radii[other]
                ]
        return beside

    def _is_on_sky(self, image):
        return image.name not in self.unreadable and image.wcs is not None

    def estimate(self):
        """Return NaN: how long it takes depends on what is there."""
        return np.nan, np.nan


def _reading_of(image):
    """Return how an image is called and read, wherever its files are."""
    how = {name: getattr(image, name) for name in _READING}
    beside = [
        None if each is None else (kind_and_path(each)[0], Path(kind_and_path(each)[1]).name)
        for each in (image.noise, image.mask)
    ]
    return how | {'unit': str(image.unit), 'beside': beside, 'psf': _fingerprint(image.psf)}


def files_of(image):
    """Return the files that an image is read from."""
    beside = [each for each in (image.noise, image.mask) if each is not None]
    return [Path(image.path), *(Path(kind_and_path(each)[1]) for each in beside)]


def _some_of(task, n_sources):
    """Return a task of few sources, which are in the middle of the image."""
    ny, nx = task.image.shape
    distance = np.maximum(abs(task.x - nx / 2), abs(task.y - ny / 2))[: task.n_sources]
    some = np.sort(np.argsort(distance, kind='stable')[:n_sources])
    return ImageTask(
        task.image, task.rows[some], task.sources[some], task.x[some], task.y[some], ''
    )


def _timed(job, task):
    """Return how long a task takes, and how many sources it has."""
    began = time.perf_counter()
    task.table(job)
    return time.perf_counter() - began, task.n_sources


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
