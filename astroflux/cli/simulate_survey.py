# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""``astroflux simulate-survey``."""

import click

from astroflux.cli._shared import find_survey, friendly_errors, sky_options
from astroflux.cli._types import OutputFolder

__all__ = ['simulate_survey']


@click.command('simulate-survey')
@click.argument('directory', type=OutputFolder())
@click.option(
    '-n',
    '--tiles',
    type=click.IntRange(min=1),
    default=16,
    show_default=True,
    help='How many tiles.',
)
@click.option(
    '--side',
    type=click.IntRange(min=100),
    default=4000,
    show_default=True,
    help='Pixels on a side of a tile.',
)
@click.option(
    '--sources',
    type=click.IntRange(min=1),
    help='How many sources the catalogue has, the brightest. By default as many as in HSC Wide: '
    '40,000 in 16 tiles of 4000 x 4000 pixels.',
)
@click.option(
    '--overlap',
    type=click.IntRange(min=0),
    default=100,
    show_default=True,
    help='By how many pixels a tile overlaps the next; less than half of the side.',
)
@sky_options
@click.option(
    '--workers',
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help='Draw in this many processes.',
)
@click.option(
    '--compress',
    is_flag=True,
    help='Write .fits.fz, compressed by tiles: pixels are rounded to a 16th of the noise.',
)
@click.option('--overwrite', is_flag=True, help='Replace a survey in the folder.')
@click.option('--resume', is_flag=True, help='Go on with a survey that was interrupted.')
def simulate_survey(directory, tiles, side, sources, survey, **options):
    """
    Write a simulated survey to DIRECTORY.

    Tiles of one sky that overlap, as coadds of HSC; 'catalogue.parquet', their sources as a user
    would know them; and 'truth.parquet'. Needs the extra 'simulate'.
    """
    if options['overwrite'] and options['resume']:
        msg = '--overwrite and --resume exclude each other'
        raise click.UsageError(msg)
    with friendly_errors(if_exists='use --resume or --overwrite'):
        from astroflux import simulation

        fields = simulation.FieldSimulation(survey=find_survey(survey), shape=(side, side))
        truth = simulation.simulate_survey(
            directory, n_tiles=tiles, simulation=fields, n_sources=sources, **options
        )
    click.echo(f'{tiles} tiles and {len(truth)} sources in {directory}', err=True)
