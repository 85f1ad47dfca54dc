# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""``astroflux survey``."""

import math
import time
from datetime import timedelta

import click

from astroflux.cli._shared import (
    OF_NETWORK,
    READING,
    check_available,
    check_of_network,
    field_options,
    friendly_errors,
    network_options,
    noise_correlation_option,
    options,
    reading_options,
)
from astroflux.cli._types import AngleOrPixels, NumberOrName, OutputFolder
from astroflux.estimators.methods import KNOWN_METHODS, make_estimator

__all__ = ['survey']

# How many failures are named one by one.
MAX_NAMED_FAILURES = 10

# What else of an image is read: arguments of a SurveyImage.
_OF_IMAGE = (*READING, 'noise', 'mask', 'mask_planes', 'weight')

_image_options = options(
    click.option(
        '--noise',
        metavar='PATTERN',
        help="File of the noise of each image, such as '{stem}_rms.fits' or "
        "'variance:../var/{stem}.fits'. By default the noise that is in the image's file.",
    ),
    click.option(
        '--mask',
        metavar='PATTERN',
        help="File of the mask or weights of each image, such as '{stem}.weight.fits'.",
    ),
    click.option(
        '--mask-plane',
        'mask_planes',
        type=NumberOrName(),
        multiple=True,
        help='A plane of the mask that makes pixels unusable: its name or value. Can be given '
        'several times.',
    ),
    click.option(
        '--weight',
        type=click.Choice(('mask', 'ivar')),
        help='What a weight map tells: zeros mask pixels (the default), or the inverse variance.',
    ),
)

_field_options = options(
    click.option(
        '--psf',
        help="PSF of the images: a file (an image, or PSFEx's .psf; with {stem}, one of each "
        "image), the name of a column of the catalogue, or 'stars', to build it from those in "
        'each image. By default that in the file of each image, if there is one.',
    ),
    click.option(
        '--psf-fwhm',
        type=AngleOrPixels(),
        help='FWHM of the PSF of all images, such as 0.7arcsec or 4pix.',
    ),
    click.option(
        '--psf-oversampling',
        'oversampling',
        type=click.IntRange(min=1),
        metavar='N',
        help='Pixels of the PSF image per pixel of the image along an axis. By default 1.',
    ),
    noise_correlation_option,
    click.option(
        '--background',
        type=float,
        metavar='VALUE',
        help='The sky that is subtracted, in the unit of the images. By default none.',
    ),
    click.option(
        '--zeropoint',
        type=float,
        metavar='MAG',
        help='AB magnitude of a source of 1 in the unit of the images. By default that of each '
        'file, if its header states one.',
    ),
    field_options,
    click.option(
        '--recalibrate',
        metavar='FILE',
        help='Correct fluxes and errors by a recalibration that astroflux inject has written.',
    ),
)

_run_options = options(
    click.option(
        '--workers',
        type=click.IntRange(min=1),
        help='How many processes measure.  [default: one for each core and 2 GB of memory]',
    ),
    click.option(
        '--scheduler',
        metavar='ADDRESS',
        help='Work on a Dask cluster: the address of its scheduler, such as tcp://10.0.0.1:8786.',
    ),
    click.option(
        '--resume',
        is_flag=True,
        help='Go on with the folder: images that have a table are not measured again.',
    ),
    click.option('--overwrite', is_flag=True, help='Remove the survey that is in the folder.'),
    click.option(
        '--dry-run',
        is_flag=True,
        help='Say what would be measured, and how long it would take; write nothing.',
    ),
    click.option('--quiet', is_flag=True, help='No progress bar and no summary; errors are told.'),
)


@click.command()
@click.argument('images', metavar='IMAGE...', nargs=-1, required=True)
@click.option(
    '--catalogue',
    '--catalog',
    'catalogue',
    metavar='TABLE',
    help='The sources: a table of any format with positions on the sky, or in pixels of one image.',
)
@click.option('--detect', is_flag=True, help='Find the sources in the images instead.')
@click.option('-o', '--output', type=OutputFolder(), required=True, help='Folder to write.')
@click.option(
    '--method',
    type=click.Choice(tuple(KNOWN_METHODS)),
    default='cnn',
    show_default=True,
    help='How to measure.',
)
@reading_options
@_image_options
@_field_options
@network_options
@_run_options
def survey(images, catalogue, detect, output, method, **given):
    """
    Measure all sources of each IMAGE.

    An IMAGE is a FITS file, a folder, or a pattern in quotes. The folder that
    is written has a table of each image in its folder data; failures.csv has the
    images that could not be measured, off.parquet the sources that are on
    none, and summary.html sums up all. The exit status is 1 when nothing could
    be measured. An interruption from the keyboard keeps the images that were
    measured.
    """
    given = {name: value for name, value in given.items() if value is not None}
    # options that can be given several times
    given = {name: value for name, value in given.items() if not isinstance(value, tuple) or value}
    of_network = {name: given.pop(name) for name in OF_NETWORK if name in given}
    reading = {name: given.pop(name) for name in _OF_IMAGE if name in given}
    run = {name: given.pop(name, None) for name in ('workers', 'scheduler')}
    resume, overwrite, dry_run, quiet = (
        given.pop(name) for name in ('resume', 'overwrite', 'dry_run', 'quiet')
    )
    check_of_network(method, of_network)
    _check_together(catalogue, detect, run, resume=resume, overwrite=overwrite)
    if_exists = 'replace it with --overwrite, or go on with --resume'
    with friendly_errors(if_exists=if_exists):
        from astroflux.survey._cluster import default_workers
        from astroflux.survey._folder import SurveyFolder
        from astroflux.survey.images import find_images
        from astroflux.survey.plan import plan_survey
        from astroflux.survey.run import run_plan
        from astroflux.survey.summary import write_summary

        if not dry_run:
            SurveyFolder(output).check(resume=resume, overwrite=overwrite)
        check_available([method])
        if '{stem' in given.get('psf', ''):
            reading['psf'] = given.pop('psf')
        images = find_images(images, **reading)
        estimator = make_estimator(method, **of_network)
        plan = plan_survey(images, catalogue, estimator=estimator, **given)
        if dry_run:
            _describe(plan, run['workers'] or default_workers())
            return
        began = time.perf_counter()
        result = run_plan(
            plan,
            output,
            client=run['scheduler'],
            workers=run['workers'],
            resume=resume,
            overwrite=overwrite,
            progress=False if quiet else None,
        )
        page = write_summary(output)
    if not quiet:
        click.echo(f'summary: {page}', err=True)
    if not _report(result, time.perf_counter() - began, quiet=quiet):
        raise click.exceptions.Exit(1)


def _check_together(catalogue, detect, run, *, resume, overwrite):
    """Refuse options that exclude each other."""
    if (catalogue is None) != detect:
        msg = 'want either --catalogue TABLE or --detect'
        raise click.UsageError(msg)
    if run['workers'] and run['scheduler']:
        msg = '--workers and --scheduler exclude each other: a cluster has the workers that it has'
        raise click.UsageError(msg)
    if resume and overwrite:
        msg = '--overwrite and --resume exclude each other'
        raise click.UsageError(msg)


def _describe(plan, workers):
    """Print what a survey has to do."""
    for image, rows in zip(plan.images, plan.assignment.rows, strict=True):
        reason = plan.unreadable.get(image.name)
        told = 'to be detected' if plan.is_detection else f'{len(rows)} sources'
        click.echo(f'{image.name}: {told if reason is None else f"cannot be measured: {reason}"}')
    n_cannot = len(plan.unreadable)
    n_images = len(plan.images) - n_cannot
    counts = f'{n_images} images can be read, {n_cannot} cannot'
    if not plan.is_detection:
        n_off = plan.n_sources - plan.n_assigned
        counts += f'; {plan.n_assigned} of {plan.n_sources} sources on them, {n_off} on none'
    click.echo(counts)
    per_image, per_source = plan.estimate()
    if math.isfinite(per_image):
        seconds = (per_image * n_images + per_source * plan.n_assigned) / workers
        click.echo(
            f'about {timedelta(seconds=math.ceil(seconds))} with {workers} processes of this '
            f'machine, by a try: {per_image:.2f} s per image, {per_source * 1000:.1f} ms per source'
        )


def _report(result, seconds, *, quiet):
    """Say on the standard error stream what has become of the sources; return how many."""
    failures = list(result.failures.items())
    for name, reason in failures[:MAX_NAMED_FAILURES]:
        click.echo(f'{name}: {reason}', err=True)
    if len(failures) > MAX_NAMED_FAILURES:
        click.echo(f'... and {len(failures) - MAX_NAMED_FAILURES} more', err=True)
    if not quiet:
        click.echo(f'{result}; {seconds:.0f} s', err=True)
    return result.n_measured
