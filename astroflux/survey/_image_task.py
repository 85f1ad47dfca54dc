# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""One image of a survey, from reading it to its table on disk: what a worker does."""

import math
import os
import platform
import sys
import time
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from astropy import units as u
from astropy.table import QTable, vstack

from astroflux._work import use_one_thread
from astroflux.estimators._parts import record_of
from astroflux.estimators.field import measure_field
from astroflux.flags import FATAL_FLAGS
from astroflux.survey.assignment import assign
from astroflux.survey.residuals import worst_residuals

try:
    import resource
except ImportError:  # there is none on Windows
    resource = None

__all__ = ['OF_FIELDS', 'OF_THE_CALL', 'DetectionTask', 'ImageTask', 'SurveyJob', 'measure_image']

# Options that ``measure_field`` has, and ``measure`` has not.
OF_FIELDS = ('neighbors', 'passes', 'recalibrate')

# Errors that say that the call or the program is at fault, and not an image.
OF_THE_CALL = (ImportError, TypeError, AttributeError, NameError, NotImplementedError)


@dataclass(frozen=True)
class ImageTask:
    """
    An image and the sources that are measured in it.

    Attributes
    ----------
    image : `~astroflux.survey.SurveyImage`
        The image.
    rows : `~numpy.ndarray`
        Numbers of the rows of the catalogue that are measured in it.
    sources : `~astropy.table.QTable`
        These rows, and behind them those of sources whose light is in the image, which are
        measured in others.
    x, y : `~numpy.ndarray`
        Positions of all these in the image.
    digest : str
        What the table of the image is known by: that of settings and sources.
    """

    image: object
    rows: np.ndarray
    sources: QTable
    x: np.ndarray
    y: np.ndarray
    digest: str

    @property
    def n_sources(self):
        """How many sources are measured, as far as that is known before."""
        return len(self.rows)

    def table(self, job, stamps=None):
        """Return the table of the image, and add its worst residuals to a list."""
        return measured_table(job, self, stamps)


@dataclass(frozen=True)
class DetectionTask:
    """
    An image whose sources are detected.

    Attributes
    ----------
    image : `~astroflux.survey.SurveyImage`
        The image.
    beside : list of `~astroflux.survey.SurveyImage`
        Those that may have sources in common with it.
    digest : str
        As of an `ImageTask`.
    """

    image: object
    beside: list
    digest: str

    n_sources = 0

    def table(self, job, stamps=None):
        """Return the table of the sources that no other image holds better, as `ImageTask` does."""
        image = self.image.read()
        options = job.options_for(self.image, (0, 0))
        seen = []
        found = measure_field(
            job.estimator, image, progress=False, look=_looking(stamps, seen), **options
        )
        if self.beside and len(found):
            held = assign(QTable(found['id', 'ra', 'dec']), [self.image, *self.beside])
            is_own = held.image == 0
            messages = found.meta['messages']
            kept = np.flatnonzero(is_own).tolist()
            found = found[is_own]
            found.meta['messages'] = {
                new: messages[old] for new, old in enumerate(kept) if old in messages
            }
        for worst in seen:
            stamps.append(worst[np.isin(worst['id'], found['id'])])
        table = job.columns.of_detected(found, image=self.image.name)
        table.meta = found.meta | {'survey': _names_of(self.image)}
        return table


@dataclass(frozen=True)
class SurveyJob:
    """
    What all images of a survey have in common; goes to each worker once.

    Attributes
    ----------
    estimator : `~astroflux.estimators.FluxEstimator`
        The method.
    columns : `~astroflux.survey._columns.SurveyColumns`
        Of the tables.
    folder : `~astroflux.survey._folder.SurveyFolder`
        Where these are written.
    options : dict
        Those of ``measure_field``.
    block_size, margin : int
        Pixels of a side of the blocks that an image is measured in, and by how much they overlap.
    process : tuple
        The host and the process that the survey was begun in.
    """

    estimator: object
    columns: object
    folder: object
    options: dict
    block_size: int
    margin: int
    process: tuple

    def options_for(self, image, origin):
        """Return the options of an image, or of a part of it that begins somewhere in it."""
        psf = self.options['psf'] if image.psf is None else image.psf
        if psf is None:
            return self.options
        from astroflux.survey._psf import psf_of_part

        return {**self.options, 'psf': psf_of_part(psf, origin, self.columns.own.colnames)}


def this_process():
    """Return what tells this process from all others."""
    return platform.node(), os.getpid()


def measure_image(job, task):
    """
    Measure an image and write its table.

    Returns
    -------
    record : dict
        What is told of the image; with ``reason`` if it could not be measured. What cannot be
        written raises `OSError`, and one of `OF_THE_CALL` is raised, too.
    """
    if job.process != this_process():
        # the process of a worker, which does nothing else
        use_one_thread()
    began = time.perf_counter()
    record = {
        'image': task.image.name,
        'path': str(task.image.path),
        'n_sources': task.n_sources,
    }
    stamps = []
    try:
        table = task.table(job, stamps)
    except OF_THE_CALL:
        raise
    except Exception as exc:  # a damaged image brings any error of any library
        return record | {'reason': reason_of(exc)}
    record |= {
        'digest': task.digest,
        'n_sources': len(table),
        'n_measured': int(np.count_nonzero(np.asarray(table['flags']) & FATAL_FLAGS == 0)),
        'seconds': round(time.perf_counter() - began, 3),
        'peak_memory_mb': peak_memory(),
    }
    # before the table, which says that the image is done
    job.folder.write_stamps(task.image.name, stamps)
    job.folder.write_table(table, record)
    return record


def peak_memory():
    """Return the most MB that this process has had; 0 where the system does not tell."""
    if resource is None:
        return 0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # macOS counts bytes, all others kB
    return round(most / (1e6 if sys.platform == 'darwin' else 1e3))


def reason_of(exc):
    """Return why an image could not be measured, in a line."""
    text = ' '.join(str(exc).split())
    is_told = isinstance(exc, OSError | ValueError | u.UnitsError) and text
    return text if is_told else f'{type(exc).__name__}: {text}'


def measured_table(job, task, stamps=None):
    """
    Return the table of the sources of an image, in the order of the catalogue.

    The worst residuals of each block are added to ``stamps``, if it is a list.
    """
    order, parts, messages, metas = [], [], {}, []
    for block in blocks_of(task.image.shape, job.block_size):
        own, there = _sources_in(task, block, job.margin)
        if not len(own):
            continue
        part = _measure_block(job, task, block, there, np.isin(there, own), stamps)
        row_of = dict(zip(there.tolist(), range(len(there)), strict=True))
        parts.append(part[[row_of[index] for index in own.tolist()]])
        told = part.meta.pop('messages')
        messages |= {index: told[row_of[index]] for index in own if row_of[index] in told}
        order.append(own)
        metas.append(part.meta)
    own = task.sources[: len(task.rows)]
    if parts:
        # those of one block may lack columns that those of others have
        tables = [
            job.columns.table(part, own[rows], image=task.image.name, rows=task.rows[rows])
            for part, rows in zip(parts, order, strict=True)
        ]
        measured = _stack(tables)[np.argsort(np.concatenate(order))]
    else:
        measured = job.columns.table(None, own, image=task.image.name, rows=task.rows)
        metas = [record_of(job.estimator, **_of_measure(job.options))]
    measured.meta = metas[0] | {
        'messages': {int(index): messages[index] for index in sorted(messages)},
        'survey': _names_of(task.image),
    }
    return measured


def _names_of(image):
    return {'image': image.name, 'path': str(image.path)}


def _stack(tables):
    return tables[0] if len(tables) == 1 else vstack(tables, join_type='exact')


def _of_measure(options):
    """Return the options that ``measure`` has, too."""
    return {name: options[name] for name in options if name not in OF_FIELDS}


def blocks_of(shape, size):
    """Return the blocks of an image, each the first and the last row and column of its own."""
    rows, columns = (
        np.linspace(0, length, math.ceil(length / size) + 1).round().astype(int).tolist()
        for length in shape
    )
    return [(y0, y1, x0, x1) for y0, y1 in pairwise(rows) for x0, x1 in pairwise(columns)]


def _sources_in(task, block, margin):
    """Return the sources that are measured in a block, and all whose light may be in it."""
    ny, nx = task.image.shape
    y0, y1, x0, x1 = block
    # those at the edge of the image, and somewhat outside of it, are of the blocks there
    x, y = (np.clip(v + 0.5, 0, n - 1e-6) for v, n in ((task.x, nx), (task.y, ny)))
    is_in = (x0 <= x) & (x < x1) & (y0 <= y) & (y < y1)
    is_near = (
        *(x0 - margin <= task.x, task.x < x1 + margin),
        *(y0 - margin <= task.y, task.y < y1 + margin),
    )
    is_own = is_in & (np.arange(len(x)) < len(task.rows))
    return np.flatnonzero(is_own), np.flatnonzero(is_own | np.logical_and.reduce(is_near))


def _looking(stamps, seen, among=None):
    """Return what adds worst residuals to the list ``seen``; `None` if no stamps are wanted."""
    if stamps is None:
        return None
    return lambda field, table: seen.append(worst_residuals(field, table, among=among))


def _measure_block(job, task, block, there, is_own, stamps):
    """Measure all sources whose light is in a block, and add the worst residuals to a list."""
    ny, nx = task.image.shape
    y0, y1, x0, x1 = block
    section = tuple(
        slice(max(first - job.margin, 0), min(last + job.margin, n))
        for first, last, n in ((y0, y1, ny), (x0, x1, nx))
    )
    is_whole = section == (slice(0, ny), slice(0, nx))
    image = task.image.read(None if is_whole else section)
    origin = section[1].start, section[0].start
    positions = task.sources[there]
    # what the catalogue says of its own positions is of the sky or of the whole image
    positions.remove_columns([name for name in positions.colnames if name.lower() in ('x', 'y')])
    positions['x'] = task.x[there] - origin[0]
    positions['y'] = task.y[there] - origin[1]
    options = job.options_for(task.image, origin)
    seen = []
    look = _looking(stamps, seen, is_own)
    table = measure_field(job.estimator, image, positions, progress=False, look=look, **options)
    for each in (table, *seen):
        for name, first in zip(('x', 'y'), origin, strict=True):
            each[name] += first * u.pix
    if seen:
        stamps += seen
    return table
