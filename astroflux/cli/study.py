# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""``astroflux study``."""

from pathlib import Path

import click

from astroflux.cli._shared import friendly_errors, options
from astroflux.cli._types import OutputFolder

__all__ = ['PRESET_NAMES', 'study']

# Those of astroflux.study.run.PRESETS, which is slow to load.
PRESET_NAMES = ('smoke', 'small', 'full')


# What data set and run have in common.
_size_options = options(
    click.option(
        '--preset',
        type=click.Choice(PRESET_NAMES),
        required=True,
        help='How large: a few hundred galaxies, a few thousand, or the 40,000 of the study.',
    ),
    click.option(
        '-o',
        '--output-dir',
        type=OutputFolder(),
        required=True,
        help='Folder to write to.',
    ),
    click.option('--resume', is_flag=True, help='Go on with what is in the folder.'),
    click.option(
        '--workers',
        type=click.IntRange(min=1),
        default=2,
        show_default=True,
        help='How many processes.',
    ),
)


@click.group()
def study():
    """
    Run the galaxy-flux study of 2024 again.

    Its data set, models, tables and figures, beside what its report published
    and what the methods of today give. Needs the extras 'simulate' and
    'compare'.
    """


@study.command()
@_size_options
@click.option(
    '--data',
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of a data set that 'astroflux study data' wrote, or is to be written; by default "
    'dataset in the output folder.',
)
def run(preset, output_dir, resume, workers, data):
    """
    Run all stages, and write the page index.html.

    The folder gets a CSV for each table, a PNG for each figure, results.json
    for each stage and study.json with all numbers. A run that was interrupted
    goes on with --resume: stages that are done are not run again.
    """
    try:
        with friendly_errors(if_exists='use --resume'):
            from astroflux.study.page import write_page
            from astroflux.study.run import run_study

            run_study(output_dir, preset, data=data, resume=resume, workers=workers, tell=_tell)
            path = write_page(output_dir)
    except KeyboardInterrupt:
        msg = 'interrupted; the same command with --resume goes on'
        raise KeyboardInterrupt(msg) from None
    click.echo(path)


@study.command()
@_size_options
def data(preset, output_dir, resume, workers):
    """Write the data set alone: FITS images and two tables."""
    with friendly_errors(if_exists='use --resume'):
        from astroflux.study.dataset import write_study_dataset
        from astroflux.study.run import PRESETS

        settings = PRESETS[preset].settings
        table = write_study_dataset(output_dir, settings, resume=resume, workers=workers)
    _tell(f'{len(table)} images in {output_dir}')


@study.command()
@click.argument('directory', type=click.Path(file_okay=False, path_type=Path))
def page(directory):
    """Write the page of the run in DIRECTORY again, from its numbers."""
    with friendly_errors():
        from astroflux.study.page import write_page

        path = write_page(directory)
    click.echo(path)


def _tell(line):
    click.echo(line, err=True)
