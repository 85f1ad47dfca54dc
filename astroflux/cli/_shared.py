# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What commands have in common: options, files, errors."""

import glob
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager
from pathlib import Path

import click

from astroflux.cli._types import DEVICE, WEIGHTS, ImageUnit, NoiseCorrelation, NumberOrName
from astroflux.estimators._defaults import PASSES
from astroflux.estimators.methods import KNOWN_METHODS

__all__ = [
    'OF_NETWORK',
    'READING',
    'check_available',
    'check_of_network',
    'expand_paths',
    'find_survey',
    'friendly_errors',
    'make_simulation',
    'network_options',
    'noise_correlation_option',
    'options',
    'reading_options',
    'simulation_options',
    'sky_options',
]

FITS_SUFFIXES = ('.fits', '.fits.gz', '.fits.fz')


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


# How the sources of an image are measured, as measure_field has it.
field_options = options(
    click.option(
        '--neighbors',
        '--neighbours',
        'neighbors',
        type=click.Choice(('model', 'none')),
        default='model',
        show_default=True,
        help='Whether the light of other sources is modelled and taken away.',
    ),
    click.option(
        '--passes',
        type=click.IntRange(min=1),
        default=PASSES,
        show_default=True,
        help='The most passes over the sources.',
    ),
)


# What of a file is read, and as what: arguments of a CutoutFile.
READING = ('hdu', 'plane', 'unit', 'max_pixels')

reading_options = options(
    click.option(
        '--hdu',
        type=NumberOrName(),
        help='HDU of the image: its number, counted from 0, or its name. By default IMAGE, SCI or '
        'DATA, else the first with an image.',
    ),
    click.option(
        '--plane',
        type=NumberOrName(),
        help='Plane of an image that is a cube, such as a stack of bands: its number, counted '
        'from 0, or its name if the header has one.',
    ),
    click.option(
        '--unit',
        type=ImageUnit(),
        help="Unit of the images, such as nJy, 'electron / s' or nmgy, instead of their BUNIT.",
    ),
    click.option(
        '--max-pixels',
        type=click.IntRange(min=1),
        help='The most pixels that an image and what is beside it in the file may have, so that no '
        'damaged file takes all memory.  [default: 268435456]',
    ),
)

# Parameters of the network.
OF_NETWORK = ('weights', 'batch_size', 'device')

network_options = options(
    click.option(
        '--weights',
        type=WEIGHTS,
        help='Weights of the network: a name or a file. For cnn only.',
    ),
    click.option(
        '--batch-size',
        type=click.IntRange(min=1),
        help='How many sources the network measures at a time. For cnn only.',
    ),
    click.option(
        '--device',
        type=DEVICE,
        help='Where the network computes: cpu, cuda, or auto. For cnn only.',
    ),
)

# What sky to simulate.
sky_options = options(
    click.option(
        '--survey',
        default='hsc-wide',
        show_default=True,
        help='Pixel scale, zero point, noise and seeing of the simulation: a name such as '
        'hsc-wide, or SURVEY-BAND such as LSST-i.',
    ),
    click.option('--seed', type=int, default=0, show_default=True, help='Seed of the simulation.'),
)

# What galaxies to simulate.
simulation_options = options(
    sky_options,
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


def find_survey(name):
    """Return the survey of a name."""
    from astroflux.simulation import get_survey

    try:
        return get_survey(name)
    except ValueError as exc:
        raise click.BadParameter(str(exc), param_hint='--survey') from exc


def make_simulation(survey, neighbors, **options):
    """Return the simulation that the options tell of."""
    from astroflux.simulation import CutoutSimulation

    fewest, most = neighbors
    if fewest > most:
        msg = f'want MIN MAX with MIN <= MAX, got {fewest} {most}'
        raise click.BadParameter(msg, param_hint='--neighbors')
    return CutoutSimulation(survey=find_survey(survey), neighbors=neighbors, **options)


def check_available(methods):
    """Say what is missing before any work is done."""
    for name in methods:
        method = KNOWN_METHODS[name]
        if not method.is_available:
            msg = f'the method {name} needs {method.how_to_install}'
            raise click.ClickException(msg)


def check_of_network(method, of_network):
    """Refuse parameters of the network for another method."""
    if of_network and method != 'cnn':
        given = ' and '.join(f'--{name.replace("_", "-")}' for name in of_network)
        msg = f'{given} {"is" if len(of_network) == 1 else "are"} for --method cnn only'
        raise click.UsageError(msg)


def expand_paths(files):
    """
    Files that arguments stand for: files, folders and patterns, in their order.

    Those of a folder or pattern are sorted by name; those of a folder of a data set are the ones
    that it lists. A file that is named need not exist: measuring
    it gives a row that says so. `FileNotFoundError` is raised for a folder that holds no FITS
    file, and for a pattern that matches nothing.
    """
    paths = []
    for text in files:
        path = Path(text)
        if path.is_dir():
            found = _files_in(path)
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


def _files_in(folder):
    """Return the FITS files of a folder; of a data set those that are its own."""
    from astroflux._dataset_files import files_of_dataset

    found = files_of_dataset(folder)
    if found is None:
        found = [item for item in folder.iterdir() if item.name.lower().endswith(FITS_SUFFIXES)]
    return found


@contextmanager
def friendly_errors(*, if_exists=''):
    """
    Turn what a user can mend into one line of text, without a traceback.

    What the options offer if the output exists already is said after that it does.
    """
    from astropy.units import UnitsError

    try:
        yield
    except FileExistsError as exc:
        msg = f'{exc}: {if_exists}' if if_exists else str(exc)
        raise click.ClickException(msg) from exc
    except MemoryError as exc:
        msg = str(exc) or 'there is not enough memory'
        raise click.ClickException(msg) from exc
    except BrokenExecutor as exc:
        msg = 'a process came to an end by itself, perhaps for want of memory'
        raise click.ClickException(msg) from exc
    except (ImportError, OSError, TypeError, UnitsError, ValueError) as exc:
        raise click.ClickException(str(exc)) from exc
