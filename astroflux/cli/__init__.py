# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The command line, a thin layer over the package.

What a command needs is imported when it runs, so that ``astroflux --help`` answers at once.
"""

import click

from astroflux._installed import __version__
from astroflux.cli._shared import expand_paths
from astroflux.cli.compare import compare
from astroflux.cli.demo import demo
from astroflux.cli.inject import inject
from astroflux.cli.measure import measure
from astroflux.cli.simulate import simulate
from astroflux.cli.simulate_survey import simulate_survey
from astroflux.cli.study import study
from astroflux.cli.survey import survey

__all__ = ['expand_paths', 'main']


# The exit status of programs that are interrupted from the keyboard.
INTERRUPTED = 130


class Interruptible(click.Group):
    """Commands that an interruption from the keyboard ends without a traceback."""

    def invoke(self, ctx):
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as exc:
            # those of the system have no text, a command may tell how to go on
            click.echo(str(exc) or 'interrupted', err=True)
            raise click.exceptions.Exit(INTERRUPTED) from None


@click.group(cls=Interruptible, context_settings={'help_option_names': ['-h', '--help']})
@click.version_option(__version__, prog_name='astroflux')
def main():
    """Measure the total fluxes of galaxies in image cutouts."""


for command in (measure, survey, compare, inject, simulate, simulate_survey, study, demo):
    main.add_command(command)
