# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""``astroflux measure``."""

from collections import Counter
from pathlib import Path

import click

from astroflux.cli._shared import (
    AngleOrPixels,
    check_available,
    expand_paths,
    format_table,
    friendly_errors,
    noise_correlation_option,
)
from astroflux.estimators.methods import KNOWN_METHODS, make_estimator

__all__ = ['measure']

# how many failed cutouts are named one by one
MAX_NAMED_FAILURES = 10


@click.command()
@click.argument('files', metavar='FILE...', nargs=-1, required=True)
@click.option(
    '-o',
    '--output',
    type=click.Path(dir_okay=False, path_type=Path),
    help='Table to write: .ecsv, .parquet, .fits or .csv (without units). '
    'Without it the table is printed.',
)
@click.option(
    '--method',
    type=click.Choice(tuple(KNOWN_METHODS)),
    default='cnn',
    show_default=True,
    help='How to measure.',
)
@click.option(
    '--psf-fwhm',
    type=AngleOrPixels(),
    help='FWHM of the PSF of all cutouts, such as 0.7arcsec (the files need a WCS) or 4pix. '
    'By default that of the PSF image in each file, if there is one.',
)
@noise_correlation_option
@click.option('--weights', help='Weights of the network: a name or a file. For cnn only.')
@click.option(
    '--batch-size',
    type=click.IntRange(min=1),
    help='How many cutouts the network measures at a time. For cnn only.',
)
@click.option('--overwrite', is_flag=True, help='Replace the output if it exists.')
def measure(files, output, method, psf_fwhm, noise_correlation, weights, batch_size, overwrite):
    """
    Measure the galaxy in the centre of each FILE.

    A FILE is a FITS image or survey cutout, a folder (all its .fits, .fits.gz
    and .fits.fz), or a pattern in quotes. A file that cannot be measured has a
    row of NaN with flags that say why. The exit status is 1 when nothing could
    be measured.
    """
    from astroflux._table_files import check_table_path, write_table

    options = {'weights': weights, 'batch_size': batch_size}
    options = {name: value for name, value in options.items() if value is not None}
    if options and method != 'cnn':
        given = ' and '.join(f'--{name.replace("_", "-")}' for name in options)
        msg = f'{given} is for --method cnn only'
        raise click.UsageError(msg)

    with friendly_errors():
        if output is not None:
            check_table_path(output, overwrite=overwrite)
        paths = expand_paths(files)
        check_available([method])
        estimator = make_estimator(method, **options)
        table = estimator.measure(paths, psf_fwhm=psf_fwhm, noise_correlation=noise_correlation)
        if output is None:
            click.echo('\n'.join(format_table(table)))
        else:
            write_table(table, output, overwrite=overwrite)

    n_measured = _report(table, paths)
    if not n_measured:
        raise click.exceptions.Exit(1)


def _report(table, paths):
    """Say on the standard error stream how many were measured; return how many."""
    import numpy as np

    from astroflux.flags import FATAL_FLAGS, decode_flags

    failed = np.flatnonzero(np.asarray(table['flags']) & FATAL_FLAGS)
    messages = table.meta.get('messages', {})
    for row in failed[:MAX_NAMED_FAILURES]:
        click.echo(f'{paths[row]}: {messages.get(int(row), "not measured")}', err=True)
    if len(failed) > MAX_NAMED_FAILURES:
        click.echo(f'... and {len(failed) - MAX_NAMED_FAILURES} more', err=True)

    n_measured = len(table) - len(failed)
    summary = f'{n_measured} measured, {len(failed)} failed'
    if len(failed):
        fatal = np.asarray(table['flags'])[failed] & FATAL_FLAGS
        counts = Counter(name for row in decode_flags(fatal) for name in row)
        summary += ' (' + ', '.join(f'{name} {n}' for name, n in counts.most_common()) + ')'
    click.echo(summary, err=True)
    return n_measured
