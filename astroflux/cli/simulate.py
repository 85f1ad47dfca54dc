# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""``astroflux simulate``."""

import click

from astroflux.cli._shared import friendly_errors, make_simulation, simulation_options
from astroflux.cli._types import OutputFolder

__all__ = ['simulate']


@click.command()
@click.argument('directory', type=OutputFolder())
@click.option(
    '-n',
    '--number',
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    help='How many galaxies.',
)
@simulation_options
@click.option(
    '--stamp-size',
    type=click.IntRange(min=32),
    default=143,
    show_default=True,
    help='Pixels on a side of the cutouts.',
)
@click.option('--overwrite', is_flag=True, help='Replace a data set in the folder.')
@click.option('--resume', is_flag=True, help='Go on with a data set that was interrupted.')
def simulate(directory, number, survey, seed, stamp_size, neighbors, overwrite, resume):
    """
    Write simulated galaxies of known flux to DIRECTORY.

    One FITS cutout each, and one table with the truth. Needs the extra
    'simulate'.
    """
    if overwrite and resume:
        msg = '--overwrite and --resume exclude each other'
        raise click.UsageError(msg)
    with friendly_errors(if_exists='use --resume or --overwrite'):
        from astroflux.simulation.dataset import write_dataset

        write_dataset(
            directory,
            number,
            make_simulation(survey, neighbors, shape=(stamp_size, stamp_size)),
            seed=seed,
            overwrite=overwrite,
            resume=resume,
        )
    click.echo(f'{number} cutouts in {directory}', err=True)
