# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""``astroflux measure``."""

import time
from collections import Counter
from contextlib import nullcontext

import click

from astroflux.cli._shared import (
    OF_NETWORK,
    READING,
    check_available,
    check_of_network,
    expand_paths,
    friendly_errors,
    network_options,
    noise_correlation_option,
    options,
    reading_options,
)
from astroflux.cli._terminal import format_essentials, format_table
from astroflux.cli._types import AngleOrPixels, Background, TablePath
from astroflux.estimators.methods import KNOWN_METHODS, make_estimator

__all__ = ['measure']

# how many failed cutouts are named one by one
MAX_NAMED_FAILURES = 10

# Seconds between two writings of the table while files are measured.
SAVE_INTERVAL = 300.0

# Methods that take seconds measure so few files at a time that an interruption loses little.
SLOW_CHUNK_SIZE = 2

# Tables that tell how they were made.
RESUMABLE = ('.ecsv', '.parquet', '.fits')

# What is known of the cutouts.
_cutout_options = options(
    click.option(
        '--psf-fwhm',
        type=AngleOrPixels(),
        help='FWHM of the PSF of all cutouts, such as 0.7arcsec (the files need a WCS) or 4pix. '
        'By default that of the PSF image in each file, if there is one.',
    ),
    click.option(
        '--psf-oversampling',
        'oversampling',
        type=click.IntRange(min=1),
        metavar='N',
        help='Pixels of the PSF image in each file per pixel of the cutout along an axis. By '
        'default 1.',
    ),
    noise_correlation_option,
    click.option(
        '--background',
        type=Background(),
        help="The sky that is subtracted: 'none' (the default), 'local' (measured in each "
        'cutout), or a value in the unit of the images.',
    ),
    click.option(
        '--zeropoint',
        type=float,
        metavar='MAG',
        help='AB magnitude of a source of 1 in the unit of the images, for magnitudes in the '
        'table. By default that of each file, if its header states one.',
    ),
)

_run_options = options(
    click.option(
        '--workers',
        type=click.IntRange(min=1),
        default=1,
        show_default=True,
        help='How many processes read and measure files.',
    ),
    click.option(
        '--resume',
        is_flag=True,
        help='Go on with the output: files that have a row in it are not measured again.',
    ),
    click.option('--overwrite', is_flag=True, help='Replace the output if it exists.'),
    click.option('--all-columns', is_flag=True, help='Print all columns. Files have them always.'),
    click.option('--quiet', is_flag=True, help='No progress bar and no summary; errors are told.'),
)


@click.command()
@click.argument('files', metavar='FILE...', nargs=-1, required=True)
@click.option(
    '-o',
    '--output',
    type=TablePath(),
    help='Table to write: .ecsv, .parquet, .fits or .csv (without units). '
    'Without it the essential columns are printed.',
)
@click.option(
    '--method',
    type=click.Choice(tuple(KNOWN_METHODS)),
    default='cnn',
    show_default=True,
    help='How to measure.',
)
@reading_options
@_cutout_options
@network_options
@_run_options
def measure(files, output, method, workers, resume, overwrite, all_columns, quiet, **given):
    """
    Measure the galaxy in the centre of each FILE.

    A FILE is a FITS image or survey cutout, a folder (all its .fits, .fits.gz
    and .fits.fz), or a pattern in quotes. A file that cannot be measured has a
    row of NaN with flags that say why. The exit status is 1 when nothing could
    be measured. An interruption from the keyboard keeps what was measured.
    """
    given = {name: value for name, value in given.items() if value is not None}
    reading = {name: given.pop(name) for name in READING if name in given}
    of_network = {name: given.pop(name) for name in OF_NETWORK if name in given}
    _check_together(method, of_network, output, resume=resume, overwrite=overwrite)
    if_exists = 'replace it with --overwrite, or go on with --resume'
    with friendly_errors(if_exists=if_exists):
        from astroflux._locks import lock_file
        from astroflux._table_files import check_table_path

        if output is not None:
            check_table_path(output, overwrite=overwrite or resume)
        paths = expand_paths(files)
        _refuse_to_replace_input(output, paths)
        check_available([method])
        estimator = make_estimator(method, **of_network)
        job = _prepare(paths, estimator, given, reading, method)
        with nullcontext() if output is None else lock_file(output):
            # again, as one that has just come to its end may have written it
            if output is not None:
                check_table_path(output, overwrite=overwrite or resume)
            if resume and output.exists():
                job.go_on_with(output)
            try:
                _measure(job, output, workers=workers, quiet=quiet)
            finally:
                # whatever has ended it
                table = _put_out(job, output, all_columns=all_columns)
    if not _report(table, quiet=quiet):
        raise click.exceptions.Exit(1)


def _refuse_to_replace_input(output, paths):
    """Raise an error if the table would take the place of a file that is measured."""
    if output is None or not output.exists():
        return
    for path in paths:
        if path.exists() and path.samefile(output):
            msg = f'the output {output} is one of the files to measure'
            raise click.UsageError(msg)


def _check_together(method, of_network, output, *, resume, overwrite):
    """Refuse options that exclude each other."""
    check_of_network(method, of_network)
    if resume and overwrite:
        msg = '--overwrite and --resume exclude each other'
        raise click.UsageError(msg)
    if resume and (output is None or output.suffix.lower() not in RESUMABLE):
        msg = f'--resume needs an output that tells how it was made: {", ".join(RESUMABLE)}'
        raise click.UsageError(msg)


def _prepare(paths, estimator, given, reading, method):
    from astroflux.cli._measuring import CHUNK_SIZE, FileMeasurement

    chunk_size = max(CHUNK_SIZE, getattr(estimator, 'batch_size', 1))
    if KNOWN_METHODS[method].is_slow:
        chunk_size = SLOW_CHUNK_SIZE
    return FileMeasurement(paths, estimator, given, reading, chunk_size=chunk_size)


def _measure(job, output, *, workers, quiet):
    from astroflux._progress import progress_bar
    from astroflux._table_files import write_table

    saved = time.monotonic()
    counts = {'total': job.n_missing, 'unit': ' files'}
    with progress_bar(desc='measure', progress=False if quiet else None, **counts) as bar:
        for n_files in job.run(workers=workers):
            bar.update(n_files)
            if output is not None and time.monotonic() - saved > SAVE_INTERVAL:
                write_table(job.table(), output, overwrite=True)
                saved = time.monotonic()


def _put_out(job, output, *, all_columns):
    """Write or print what has been measured, and tell if that is not all; return the table."""
    from astroflux._table_files import write_table

    table = job.table()
    if table is None:
        return None
    if output is None:
        lines = format_table(table) if all_columns else format_essentials(table)
        click.echo('\n'.join(lines))
    else:
        write_table(table, output, overwrite=True)
    if n_missing := job.n_missing:
        n_files = len(job.paths)
        text = f'{n_files - n_missing} of {n_files} files were measured'
        if output is not None:
            text += f' and are in {output}'
            if output.suffix.lower() in RESUMABLE:
                text += '; --resume (without --overwrite) goes on with it'
        click.echo(text, err=True)
    return table


def _report(table, *, quiet):
    """Say on the standard error stream how many were measured; return how many."""
    import numpy as np

    from astroflux.flags import FATAL_FLAGS, decode_flags

    failed = np.flatnonzero(np.asarray(table['flags']) & FATAL_FLAGS)
    messages = {int(row): text for row, text in table.meta['messages'].items()}
    for row in failed[:MAX_NAMED_FAILURES]:
        click.echo(f'{table["name"][row]}: {messages.get(int(row), "not measured")}', err=True)
    if len(failed) > MAX_NAMED_FAILURES:
        click.echo(f'... and {len(failed) - MAX_NAMED_FAILURES} more', err=True)

    n_measured = len(table) - len(failed)
    summary = f'{n_measured} measured, {len(failed)} failed'
    if len(failed):
        fatal = np.asarray(table['flags'])[failed] & FATAL_FLAGS
        counts = Counter(name for row in decode_flags(fatal) for name in row)
        summary += ' (' + ', '.join(f'{name} {n}' for name, n in counts.most_common()) + ')'
    if not quiet:
        click.echo(summary, err=True)
    return n_measured
