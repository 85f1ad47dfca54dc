# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
A survey, measured on a Dask cluster: a table of each image, and none of its sources lost.

The folder that is written:

- ``data/IMAGE.parquet``: the table of each image, with the same columns in all of them. Units,
  descriptions and provenance are in the metadata of the schema; ``id`` is what the catalogue
  calls a source, ``image`` the name of the image, and ``row`` the row of the catalogue.
- ``images.csv``: of each image that was measured, ``image``, ``path``, ``n_sources``,
  ``n_measured`` (those with a flux), ``seconds`` and ``peak_memory_mb``.
- ``failures.csv``: of each that could not be, ``image``, ``path``, ``n_sources`` and ``reason``.
- ``off.parquet``: the sources on no image: ``row``, ``reason`` and the columns of the catalogue.
- ``stamps/IMAGE.fits``: if neighbors are modelled, the worst residuals of each image, see
  `~astroflux.survey.worst_residuals`.
- ``settings.json``: what the numbers depend on.
- ``status.json``: ``is_complete``; ``n_sources``, of the catalogue, which is the sum of ``n_rows``
  (in ``data``), ``n_off`` and ``n_of_failed_images``; ``n_measured``, those with a flux;
  ``n_images`` and ``n_failed_images``; and ``runs``, a list with ``begun``, ``seconds``,
  ``workers``, ``n_images`` and ``n_rows`` of each time that it was worked on.
"""

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from astroflux._locks import lock_folder
from astroflux._progress import progress_bar
from astroflux._work import check_writable
from astroflux.estimators._defaults import PASSES
from astroflux.survey._cluster import WorkerDied, connected, n_threads, results_of
from astroflux.survey._folder import SurveyFolder
from astroflux.survey._image_task import OF_THE_CALL, measure_image, reason_of
from astroflux.survey.plan import BLOCK_SIZE, files_of, plan_survey

__all__ = ['SurveyResult', 'measure_survey', 'run_plan']

# Seconds between two writings of what is told of the images.
_SAVE_INTERVAL = 30.0


@dataclass(frozen=True)
class SurveyResult:
    """
    What has become of the sources of a survey.

    Attributes
    ----------
    folder : `~pathlib.Path`
        What was written.
    n_sources : int
        Of the catalogue, or detected: the sum of the next three.
    n_rows : int
        With a row in the tables of the images.
    n_off : int
        On no image.
    n_of_failed_images : int
        On images that could not be measured.
    n_measured : int
        With a flux.
    failures : dict of str to str
        The names of these images, and the reasons.
    """

    folder: Path
    n_sources: int
    n_rows: int
    n_off: int
    n_of_failed_images: int
    n_measured: int
    failures: dict

    def __str__(self):
        text = (
            f'{self.n_sources} sources: {self.n_measured} measured, '
            f'{self.n_rows - self.n_measured} without a flux, {self.n_off} on no image'
        )
        if self.failures:
            text += f', {self.n_of_failed_images} on {len(self.failures)} images that failed'
        return text


def measure_survey(
    images,
    catalogue,
    output,
    *,
    estimator=None,
    psf=None,
    neighbors='model',
    passes=PASSES,
    block_size=BLOCK_SIZE,
    client=None,
    workers=None,
    resume=False,
    overwrite=False,
    progress=None,
    **options,
):
    """
    Measure the sources of many images, and write a folder of tables.

    Parameters
    ----------
    images : path-like, `~astroflux.survey.SurveyImage`, or iterable of them
        As `~astroflux.survey.find_images` takes.
    catalogue : object
        The sources: a table of any kind, or the file of one, as
        `~astroflux.survey.read_catalogue` takes. `None`: those that are detected in each image, of
        which one that is on several images is kept in the one that holds it best.
    output : path-like
        Folder to write, which the workers see, too; what is in it: :doc:`/survey`.
    estimator : `~astroflux.estimators.FluxEstimator`, optional
        The method; the network of the package by default.
    psf, neighbors, passes
        As of `~astroflux.estimators.FluxEstimator.measure_field`.
    block_size : int, optional
        Pixels of a side: a larger image is read and measured in overlapping blocks. Sources are
        detected in whole images.
    client : ``distributed.Client`` or str, optional
        The Dask cluster to work on, or the address of its scheduler. By default one of this machine
        is started, and ended afterwards.
    workers : int, optional
        How many processes that has, by default one for each core and 2 GB of memory.
    resume : bool, optional
        Go on with what is there: images that have a table of the same sources and settings, which
        is not older than the image, are not measured again.
    overwrite : bool, optional
        Remove the survey that is there, and begin anew.
    progress : bool, optional
        Whether to show how far the work is; by default after some seconds.
    **options
        Further ones of `~astroflux.estimators.FluxEstimator.measure_field`, such as ``psf_fwhm``.

    Returns
    -------
    result : `SurveyResult`
        What has become of the sources.

    Raises
    ------
    FileExistsError
        If the folder holds a survey and neither ``resume`` nor ``overwrite`` is set; or other files
        where those of a survey would be.
    BlockingIOError
        If the folder is being written by another process.
    TypeError, ValueError
        If an argument is wrong, or those of a survey to resume were others.
    OSError
        If a table cannot be written; what was measured until then is kept.

    Notes
    -----
    An image that cannot be read or measured is a row of ``failures.csv``, and does not keep the
    others from being measured. The numbers do not depend on the cluster and the number of workers.
    """
    SurveyFolder(output).check(resume=resume, overwrite=overwrite)
    plan = plan_survey(
        images,
        catalogue,
        estimator=estimator,
        psf=psf,
        neighbors=neighbors,
        passes=passes,
        block_size=block_size,
        **options,
    )
    return run_plan(
        plan,
        output,
        client=client,
        workers=workers,
        resume=resume,
        overwrite=overwrite,
        progress=progress,
    )


def run_plan(
    plan, output, *, client=None, workers=None, resume=False, overwrite=False, progress=None
):
    """Measure a `~astroflux.survey.SurveyPlan`; the arguments are those of `measure_survey`."""
    folder = SurveyFolder(Path(output).absolute())
    check_writable(folder.path)
    with lock_folder(folder.path):
        folder.check(resume=resume, overwrite=overwrite)
        run = _Run(plan, folder)
        run.begin(resume=resume, overwrite=overwrite)
        try:
            if run.missing:
                with connected(client, workers) as connection:
                    run.measure(connection, progress)
        except KeyboardInterrupt:
            msg = (
                f'interrupted: {len(run.records)} of {len(plan.images)} images are in '
                f'{folder.path}; --resume goes on with them'
            )
            raise KeyboardInterrupt(msg) from None
        finally:
            run.write_state()
        return run.end()


class _Run:
    """The work on a survey from one beginning to an end."""

    def __init__(self, plan, folder):
        self._plan, self._folder = plan, folder
        self._began, self._workers = time.perf_counter(), 0
        self._begun = datetime.now(UTC).isoformat(timespec='seconds')
        self.records, self.failures = {}, {}
        self._n_new = self._n_new_rows = 0
        self._saved = time.monotonic()

    def begin(self, *, resume, overwrite):
        """See what is there and what is missing."""
        plan, folder = self._plan, self._folder
        begun = folder.settings if resume else None
        # the first image may have been unreadable then
        looks = plan.look() if begun is None else {k: begun.get(k) for k in ('unit', 'in_arcsec')}
        self._job = plan.job(looks, folder)
        settings = plan.settings(looks)
        folder.begin(settings, resume=resume, overwrite=overwrite)
        folder.refuse_others([image.name for image in plan.images])
        self._earlier = folder.status.get('runs', [])
        self._digests = plan.digests(settings)
        for image, digest in zip(plan.images, self._digests, strict=True):
            record = folder.record(image.name, digest)
            if image.name in plan.unreadable:
                self._cannot_read(image, plan.unreadable[image.name])
            elif record is not None and not self._is_newer(image):
                self.records[image.name] = record
        done = {*self.records, *self.failures}
        self.missing = [i for i, image in enumerate(plan.images) if image.name not in done]
        folder.write_off(plan.off())
        self.write_state()

    def _cannot_read(self, image, reason):
        if self._folder.table_path(image.name).exists():
            msg = f'{image.path}, which has been measured before, cannot be read now: {reason}'
            raise OSError(msg)
        self._fail({'image': image.name, 'path': str(image.path), 'n_sources': 0}, reason)

    def _is_newer(self, image):
        """Return whether an image, or what is beside it, was written after its table."""
        measured = self._folder.table_path(image.name).stat().st_mtime
        return any(path.stat().st_mtime > measured for path in files_of(image) if path.exists())

    def measure(self, client, progress):
        """Measure what is missing."""
        tasks = (self._plan.task(i, self._digests[i]) for i in self.missing)
        unit, total = self._plan.work
        done = sum(map(self._plan.part_of_work, self.records.values()))
        counts = {'total': total, 'initial': done, 'unit': f' {unit}'}
        with progress_bar(desc='survey', progress=progress, **counts) as bar:
            for task, result in results_of(client, measure_image, self._job, tasks):
                # those of a cluster come and go
                self._workers = max(self._workers, n_threads(client))
                record = self._take(task, result)
                bar.update(self._plan.part_of_work(record))
                if time.monotonic() - self._saved > _SAVE_INTERVAL:
                    self.write_state()

    def _take(self, task, result):
        """Keep what has become of an image, and return it."""
        record = {
            'image': task.image.name,
            'path': str(task.image.path),
            'n_sources': task.n_sources,
        }
        # what is wrong with the call is so for all images
        if isinstance(result, WorkerDied) or (isinstance(result, OF_THE_CALL) and self._n_new):
            self._fail(record, reason_of(result))
        elif isinstance(result, BaseException):
            raise result
        elif 'reason' in result:
            self._fail(record, result['reason'])
        else:
            self.records[task.image.name] = result
            self._n_new += 1
            self._n_new_rows += result['n_sources']
            return result
        return record

    def _fail(self, record, reason):
        self.failures[record['image']] = {**record, 'reason': reason}
        # that of an earlier time, when the image or its sources were others
        self._folder.table_path(record['image']).unlink(missing_ok=True)

    def write_state(self, *, is_complete=False):
        """Write how far the work is."""
        self._folder.write_images(self.records.values())
        self._folder.write_failures(self.failures.values())
        result = self.result()
        this = {
            'begun': self._begun,
            'seconds': round(time.perf_counter() - self._began, 3),
            'workers': self._workers,
            'n_images': self._n_new,
            'n_rows': self._n_new_rows,
        }
        self._folder.write_status(
            {
                'is_complete': is_complete,
                'n_sources': result.n_sources,
                'n_rows': result.n_rows,
                'n_off': result.n_off,
                'n_of_failed_images': result.n_of_failed_images,
                'n_measured': result.n_measured,
                'n_images': len(self._plan.images),
                'n_failed_images': len(self.failures),
                'runs': [*self._earlier, this],
            }
        )
        self._saved = time.monotonic()

    def result(self):
        """Return the `SurveyResult` of what is done."""
        n_rows = sum(record['n_sources'] for record in self.records.values())
        return SurveyResult(
            folder=self._folder.path,
            n_sources=n_rows if self._plan.is_detection else self._plan.n_sources,
            n_rows=n_rows,
            n_off=self._plan.n_sources - self._plan.n_assigned,
            n_of_failed_images=sum(failure['n_sources'] for failure in self.failures.values()),
            n_measured=sum(record['n_measured'] for record in self.records.values()),
            failures={name: failure['reason'] for name, failure in self.failures.items()},
        )

    def end(self):
        """Check that each source is somewhere, and return what has become of all."""
        for image, digest in zip(self._plan.images, self._digests, strict=True):
            is_there = self._folder.record(image.name, digest) is not None
            if is_there != (image.name in self.records):
                msg = (
                    f'{self._folder.table_path(image.name)} was changed by another program; '
                    '--resume measures the image again'
                )
                raise RuntimeError(msg)
        result = self.result()
        found = result.n_rows + result.n_off + result.n_of_failed_images
        if found != result.n_sources:
            msg = f'{result.n_sources} sources were asked for, and {found} are accounted for'
            raise RuntimeError(msg)
        self.write_state(is_complete=True)
        return result
