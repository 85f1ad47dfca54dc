# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What commands have in common: types of options, files, errors, tables as text."""

import glob
import re
from contextlib import contextmanager
from pathlib import Path

import click

from astroflux.estimators.methods import KNOWN_METHODS

__all__ = [
    'AngleOrPixels',
    'NoiseCorrelation',
    'check_available',
    'expand_paths',
    'format_table',
    'friendly_errors',
    'make_simulation',
    'noise_correlation_option',
    'options',
    'simulation_options',
]

FITS_SUFFIXES = ('.fits', '.fits.gz', '.fits.fz')


class AngleOrPixels(click.ParamType):
    """A length in an image: ``0.7arcsec``, ``4pix`` or ``4px``."""

    name = 'length'

    def convert(self, value, param, ctx):
        """Parse the text as a positive `~astropy.units.Quantity`."""
        from astropy import units as u

        if isinstance(value, u.Quantity):
            return value
        try:
            length = u.Quantity(re.sub(r'px$', 'pix', value.strip()))
        except (TypeError, ValueError):
            self.fail(f'{value!r} is not a length such as 0.7arcsec or 4pix', param, ctx)
        if not (length.unit.is_equivalent(u.arcsec) or length.unit.is_equivalent(u.pix)):
            self.fail(f'{value!r} lacks its unit: want 0.7arcsec or 4pix', param, ctx)
        if not (length.isscalar and 0 < length.value < float('inf')):
            self.fail(f'{value!r} is not a positive length', param, ctx)
        return length


class NoiseCorrelation(click.ParamType):
    """How noise is correlated: a number, or ``estimate``."""

    name = 'correlation'

    def convert(self, value, param, ctx):
        """Parse the text as a number if it is none of the words."""
        if isinstance(value, float) or value == 'estimate':
            return value
        try:
            return float(value)
        except ValueError:
            self.fail(f'{value!r} is neither a number such as 1.2 nor estimate', param, ctx)


noise_correlation_option = click.option(
    '--noise-correlation',
    type=NoiseCorrelation(),
    help='How the noise is correlated between pixels: the scatter of sums over 7 x 7 pixels over '
    "that of white noise, such as 1.2; or 'estimate', to measure it in the blank sky of each "
    'cutout. By default the noise is white.',
)


def options(*decorators):
    """Return one decorator that adds several options to a command, in their order."""

    def add(command):
        # the last decorator comes first
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return add


# What galaxies to simulate.
simulation_options = options(
    click.option(
        '--survey',
        default='hsc-wide',
        show_default=True,
        help='Pixel scale, zero point, noise and seeing of the simulation: a name such as '
        'hsc-wide, or SURVEY-BAND such as LSST-i.',
    ),
    click.option('--seed', type=int, default=0, show_default=True, help='Seed of the simulation.'),
    click.option(
        '--neighbors',
        '--neighbours',
        'neighbors',
        type=click.IntRange(min=0),
        nargs=2,
        default=(0, 0),
        show_default=True,
        metavar='MIN MAX',
        help='Fewest and most neighbours of a simulated galaxy.',
    ),
)


def make_simulation(survey, neighbors, **options):
    """Return the simulation that the options tell of."""
    from astroflux.simulation import CutoutSimulation, get_survey

    return CutoutSimulation(survey=get_survey(survey), neighbors=neighbors, **options)


def check_available(methods):
    """Say what is missing before any work is done."""
    for name in methods:
        method = KNOWN_METHODS[name]
        if not method.is_available:
            msg = f'the method {name} needs {method.how_to_install}'
            raise click.ClickException(msg)


def expand_paths(files):
    """
    Files that arguments stand for: files, folders and patterns, in their order.

    Those of a folder or pattern are sorted by name. A file that is named need not exist: measuring
    it gives a row that says so. `FileNotFoundError` is raised for a folder that holds no FITS
    file, and for a pattern that matches nothing.
    """
    paths = []
    for text in files:
        path = Path(text)
        if path.is_dir():
            found = [item for item in path.iterdir() if item.name.lower().endswith(FITS_SUFFIXES)]
            if not found:
                msg = f'there is no {" or ".join(FITS_SUFFIXES)} file in the folder {text!r}'
                raise FileNotFoundError(msg)
        elif glob.has_magic(text) and not path.exists():
            found = [Path(item) for item in glob.glob(text, recursive=True)]
            if not found:
                msg = f'no file matches {text!r}'
                raise FileNotFoundError(msg)
        else:
            found = [path]
        paths += sorted(found)
    return paths


@contextmanager
def friendly_errors():
    """Turn what a user can mend into one line of text, without a traceback."""
    from astropy.units import UnitsError

    try:
        yield
    except (ImportError, OSError, TypeError, UnitsError, ValueError) as exc:
        raise click.ClickException(str(exc)) from exc


def format_table(table):
    """Lines of a table for the terminal, with the flags by name."""
    from astropy.table import QTable

    from astroflux.flags import decode_flags

    table = QTable(table, copy=True)
    for name in table.colnames:
        if table[name].dtype.kind == 'f':
            table[name].info.format = '.5g'
    if 'flags' in table.colnames:
        names = decode_flags(table['flags'])
        table['flags'] = [' '.join(row) or '-' for row in names]
    return table.pformat(max_lines=-1, max_width=-1)
