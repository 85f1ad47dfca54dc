# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""``astroflux demo``."""

from pathlib import Path

import click

from astroflux.cli._shared import friendly_errors
from astroflux.cli._terminal import format_table
from astroflux.cli._types import OutputFolder

__all__ = ['demo']


@click.command()
@click.option(
    '-o',
    '--output-dir',
    type=OutputFolder(),
    default=Path(),
    help='Folder of the figure.  [default: the current one]',
)
def demo(output_dir):
    """Measure the galaxies that ship with the package, next to the truth and Kron."""
    with friendly_errors():
        from astroflux.demo import run_demo

        output_dir.mkdir(parents=True, exist_ok=True)
        table, figure = run_demo(output_dir)
    click.echo('\n'.join(format_table(table)))
    click.echo(f'figure: {figure}', err=True)
