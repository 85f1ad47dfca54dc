# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""``astroflux inject``."""

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
    reading_options,
)
from astroflux.cli._types import AngleOrPixels, OutputFolder
from astroflux.estimators.methods import KNOWN_METHODS, make_estimator

__all__ = ['inject']

# Of the table that is printed.
PRINTED = ('low', 'n', 'completeness', 'bias', 'scatter', 'outliers', 'coverage_68', 'coverage_95')


@click.command()
@click.argument('image', metavar='IMAGE')
@click.option(
    '-o',
    '--output-dir',
    type=OutputFolder(),
    required=True,
    help='Folder of the report, its tables and figures.',
)
@click.option(
    '--catalogue',
    '--catalog',
    'catalogue',
    type=click.Path(exists=True, dir_okay=False),
    help='Table of the sources of the image, with positions in pixels or on the sky. By default '
    'they are detected.',
)
@click.option(
    '--estimate-sky',
    is_flag=True,
    help='Estimate and subtract the sky when sources are detected. By default it is subtracted '
    'in the image.',
)
@click.option(
    '-n',
    'number',
    type=click.IntRange(min=1),
    default=300,
    show_default=True,
    help='How many galaxies.',
)
@click.option(
    '--population',
    type=click.Path(exists=True, dir_okay=False),
    help='Table of galaxies to draw from: flux, half_light_radius and, if known, sersic_index, '
    'axis_ratio and position_angle. By default they are like the sources of the image.',
)
@click.option(
    '--area',
    type=click.FloatRange(min=0, max=0.3, min_open=True),
    default=0.05,
    show_default=True,
    help='Part of the area of the image that they cover at a time.',
)
@click.option('--seed', type=int, default=0, show_default=True, help='Seed of all that is random.')
@click.option(
    '--method',
    type=click.Choice(tuple(KNOWN_METHODS)),
    default='cnn',
    show_default=True,
    help='How to measure.',
)
@field_options
@click.option(
    '--psf',
    metavar='FILE',
    help="File of PSFEx; or 'stars', to build the PSF from stars of the image. By default the file "
    'of the image holds one.',
)
@click.option(
    '--psf-fwhm',
    type=AngleOrPixels(),
    help='FWHM of the PSF, such as 0.7arcsec or 4pix, if there is no image of it.',
)
@click.option(
    '--gain',
    type=click.FloatRange(min=0, min_open=True),
    help='Electrons per unit of the image, to add the noise of the photons of the galaxies to '
    'pixels and noise map.',
)
@click.option(
    '--zeropoint',
    type=float,
    metavar='MAG',
    help='AB magnitude of a source of 1 in the unit of the image. By default that of its header.',
)
@noise_correlation_option
@click.option(
    '--recalibrate',
    type=click.Path(exists=True, dir_okay=False),
    help='A recalibration.json of an earlier report, to see if it holds.',
)
@reading_options
@network_options
@click.option('--overwrite', is_flag=True, help='Replace a report in the folder.')
@click.option('--quiet', is_flag=True, help='No progress bar and no summary.')
def inject(image, output_dir, catalogue, population, estimate_sky, number, method, **given):
    """
    Put simulated galaxies into IMAGE, measure them, and report how right that is.

    IMAGE is a FITS file with noise, mask and PSF, as far as it has them. A few
    galaxies at a time are put into it and measured together with its own
    sources. The report tells completeness, bias, scatter and how often the
    intervals hold the truth, and brings a recalibration for fluxes and errors.
    """
    overwrite, quiet = given.pop('overwrite'), given.pop('quiet')
    if estimate_sky and catalogue is not None:
        msg = '--estimate-sky is for sources that are detected, not for those of a --catalogue'
        raise click.UsageError(msg)
    given = {name: value for name, value in given.items() if value is not None}
    reading = {name: given.pop(name) for name in READING if name in given}
    of_network = {name: given.pop(name) for name in OF_NETWORK if name in given}
    check_of_network(method, of_network)
    with friendly_errors(if_exists='replace it with --overwrite'):
        from astroflux.cutouts import CutoutFile
        from astroflux.estimators import FieldDetector
        from astroflux.evaluation import inject_galaxies
        from astroflux.evaluation.report import check_report_directory

        check_report_directory(output_dir, overwrite=overwrite)
        check_available([method])
        if estimate_sky:
            given['detector'] = FieldDetector(background='estimate')
        result = inject_galaxies(
            CutoutFile(image, **reading),
            None if catalogue is None else _read(catalogue),
            population=None if population is None else _read(population),
            estimator=make_estimator(method, **of_network),
            n=number,
            progress=False if quiet else None,
            **given,
        )
        page = result.write_report(output_dir, overwrite=overwrite)
    if not quiet:
        click.echo('\n'.join(_lines(result)))
        click.echo(f'report: {page}', err=True)
    if not (result.table['flux'].value > 0).any():
        click.echo('no galaxy was measured: the report says why', err=True)
        raise click.exceptions.Exit(1)


def _read(path):
    from astropy.table import QTable

    return QTable.read(path)


def _lines(result):
    """Lines of the summary for the terminal."""
    from astroflux.evaluation._tables import terminal_lines
    from astroflux.evaluation.injection_result import INJECTION_COLUMNS

    summary = result.summary()
    columns = [column for column in INJECTION_COLUMNS if column.name in PRINTED]
    return terminal_lines(columns, summary[summary['n'] > 0])
