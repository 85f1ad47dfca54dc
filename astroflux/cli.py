# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The command line, a thin layer over the package.

What a command needs is imported when it runs, so that ``astroflux --help`` answers at once.
"""

import glob
import re
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import click

import astroflux
from astroflux.estimators.methods import METHODS, available_methods, make_estimator

__all__ = ['main']

FITS_SUFFIXES = ('.fits', '.fits.gz', '.fits.fz')

# how many failed cutouts are named one by one
MAX_NAMED_FAILURES = 10


@click.group(context_settings={'help_option_names': ['-h', '--help']})
@click.version_option(astroflux.__version__, prog_name='astroflux')
def main():
    """Measure the total fluxes of galaxies in image cutouts."""


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


@main.command()
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
    type=click.Choice(tuple(METHODS)),
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
@click.option('--weights', help='Weights of the network: a name or a file. For cnn only.')
@click.option(
    '--batch-size',
    type=click.IntRange(min=1),
    help='How many cutouts the network measures at a time. For cnn only.',
)
@click.option('--overwrite', is_flag=True, help='Replace the output if it exists.')
def measure(files, output, method, psf_fwhm, weights, batch_size, overwrite):
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

    with _friendly_errors():
        if output is not None:
            check_table_path(output, overwrite=overwrite)
        paths = expand_paths(files)
        _check_available([method])
        estimator = make_estimator(method, **options)
        table = estimator.measure(paths, psf_fwhm=psf_fwhm)
        if output is None:
            click.echo('\n'.join(_format_table(table)))
        else:
            write_table(table, output, overwrite=overwrite)

    n_measured = _report(table, paths)
    if not n_measured:
        raise click.exceptions.Exit(1)


class MethodNames(click.ParamType):
    """Names of methods with commas between them, or ``all``."""

    name = 'methods'

    def convert(self, value, param, ctx):
        """Parse the text as a list of names, each once, in its order."""
        if isinstance(value, list):
            return value
        if value == 'all':
            return available_methods(slow=True)
        names = list(dict.fromkeys(name.strip() for name in value.split(',')))
        for name in names:
            if name not in METHODS:
                self.fail(f'{name!r} is not one of {", ".join(METHODS)}', param, ctx)
        return names


@main.command()
@click.argument('files', metavar='[FILE]...', nargs=-1)
@click.option(
    '-o',
    '--output-dir',
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help='Folder of the report, its tables and figures.',
)
@click.option(
    '--methods',
    type=MethodNames(),
    help='Which methods, with commas between them, or all. By default those that are fast and '
    f'installed, of: {", ".join(METHODS)}.',
)
@click.option(
    '--simulate',
    'number',
    type=click.IntRange(min=1),
    metavar='N',
    help='Simulate N galaxies instead of reading files. Needs the extra simulate.',
)
@click.option('--survey', default='hsc-wide', show_default=True, help='Survey to simulate.')
@click.option('--seed', type=int, default=0, show_default=True, help='Seed of the simulation.')
@click.option(
    '--neighbours',
    type=click.IntRange(min=0),
    nargs=2,
    default=(0, 0),
    show_default=True,
    metavar='MIN MAX',
    help='Fewest and most neighbours of a simulated galaxy.',
)
@click.option(
    '--slow-limit',
    type=click.IntRange(min=1),
    metavar='N',
    help='Light-profile fits, which take seconds, measure only the first N cutouts.',
)
@click.option(
    '--psf-fwhm',
    type=AngleOrPixels(),
    help='FWHM of the PSF of all cutouts, such as 0.7arcsec or 4pix.',
)
@click.option(
    '--workers',
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help='How many processes.',
)
@click.option('--overwrite', is_flag=True, help='Replace a report in the folder.')
def compare(
    files,
    output_dir,
    methods,
    number,
    survey,
    seed,
    neighbours,
    slow_limit,
    psf_fwhm,
    workers,
    overwrite,
):
    """
    Measure the same cutouts by several methods, and write a report.

    A FILE is a FITS image or survey cutout, a folder of them, or a pattern in
    quotes; a folder that 'astroflux simulate' wrote brings its truth. With
    truth, the report tells how good each method is; without, how far they
    agree.
    """
    if bool(files) == bool(number):
        msg = 'give either files or --simulate N'
        raise click.UsageError(msg)
    methods = available_methods() if methods is None else methods
    _check_available(methods)
    with _friendly_errors():
        from astroflux.evaluation import compare_methods
        from astroflux.evaluation.report import check_report_directory, write_report

        check_report_directory(output_dir, overwrite=overwrite)
        source = _simulated(number, survey, seed, neighbours) if number else _from_files(files)
        comparison = compare_methods(
            source,
            {name: make_estimator(name) for name in methods},
            labels={name: METHODS[name].label for name in methods},
            limits={name: slow_limit for name in methods if slow_limit and METHODS[name].is_slow},
            psf_fwhm=psf_fwhm,
            workers=workers,
        )
        page = write_report(comparison, output_dir, overwrite=overwrite)
    click.echo('\n'.join(_format_summary(comparison)))
    click.echo(f'report: {page}', err=True)


def _check_available(methods):
    """Say what is missing before any work is done."""
    for name in methods:
        method = METHODS[name]
        if not method.is_available:
            msg = f'the method {name} needs {method.how_to_install}'
            raise click.ClickException(msg)


def _simulated(number, survey, seed, neighbours):
    from astroflux.evaluation import SimulatedSource
    from astroflux.simulation import CutoutSimulation, get_survey

    simulation = CutoutSimulation(survey=get_survey(survey), neighbours=neighbours)
    title = f'{number} simulated galaxies of {survey}, seed {seed}'
    return SimulatedSource(number, simulation, seed=seed, title=title)


def _from_files(files):
    from astroflux.evaluation import DatasetSource, FileSource
    from astroflux.simulation.dataset import TRUTH_NAME

    if len(files) == 1 and (Path(files[0]) / TRUTH_NAME).exists():
        return DatasetSource(files[0])
    return FileSource(expand_paths(files))


def _format_summary(comparison):
    """Lines of the summary for the terminal: fractions in percent."""
    from astroflux.evaluation import compare_pairs, summarise_comparison

    if comparison.truth is None:
        table = compare_pairs(comparison)
        columns = ['method', 'reference', 'n', 'median', 'nmad', 'differing']
    else:
        by = 'snr' if 'snr' in comparison.truth.colnames else None
        table = summarise_comparison(comparison, by)
        columns = [
            *('method', 'low', 'high', 'n', 'completeness', 'bias', 'scatter'),
            *('scatter_over_bound', 'rms', 'outliers', 'coverage_68', 'coverage_95'),
        ]
    table = table[columns]
    for name in columns:
        if table[name].dtype.kind == 'f' and name not in ('low', 'high', 'scatter_over_bound'):
            table[name] *= 100
            table.rename_column(name, f'{name} [%]')
    for name in table.colnames:
        if table[name].dtype.kind == 'f':
            table[name].info.format = 'g' if name in ('low', 'high') else '.3g'
    return table.pformat(max_lines=-1, max_width=-1)


@main.command()
@click.argument('directory', type=click.Path(file_okay=False, path_type=Path))
@click.option(
    '-n',
    '--number',
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    help='How many galaxies.',
)
@click.option(
    '--survey',
    default='hsc-wide',
    show_default=True,
    help="Pixel scale, zero point, noise and seeing: 'hsc-wide', or SURVEY-BAND such as LSST-i.",
)
@click.option('--seed', type=int, default=0, show_default=True, help='Seed of the random draws.')
@click.option(
    '--stamp-size',
    type=click.IntRange(min=32),
    default=143,
    show_default=True,
    help='Pixels on a side of the cutouts.',
)
@click.option(
    '--neighbours',
    type=click.IntRange(min=0),
    nargs=2,
    default=(0, 0),
    show_default=True,
    metavar='MIN MAX',
    help='Fewest and most neighbours in a cutout.',
)
@click.option('--overwrite', is_flag=True, help='Replace a data set in the folder.')
@click.option('--resume', is_flag=True, help='Go on with a data set that was interrupted.')
def simulate(directory, number, survey, seed, stamp_size, neighbours, overwrite, resume):
    """
    Write simulated galaxies of known flux to DIRECTORY.

    One FITS cutout each, and one table with the truth. Needs the extra
    'simulate'.
    """
    if overwrite and resume:
        msg = '--overwrite and --resume exclude each other'
        raise click.UsageError(msg)
    with _friendly_errors():
        from astroflux.simulation.dataset import write_dataset

        write_dataset(
            directory,
            number,
            survey=survey,
            seed=seed,
            stamp_size=stamp_size,
            neighbours=neighbours,
            overwrite=overwrite,
            resume=resume,
        )
    click.echo(f'{number} cutouts in {directory}', err=True)


@main.command()
@click.option(
    '-o',
    '--output-dir',
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help='Folder of the figure.  [default: the current one]',
)
def demo(output_dir):
    """Measure the galaxies that ship with the package, next to the truth and Kron."""
    with _friendly_errors():
        from astroflux.demo import run_demo

        output_dir.mkdir(parents=True, exist_ok=True)
        table, figure = run_demo(output_dir)
    click.echo('\n'.join(_format_table(table)))
    click.echo(f'figure: {figure}', err=True)


def expand_paths(files):
    """
    Files that the arguments of a command stand for.

    Parameters
    ----------
    files : iterable of str
        Files, folders and patterns.

    Returns
    -------
    paths : list of `~pathlib.Path`
        The files, in the order of the arguments; those of a folder or pattern sorted by name. A
        file that is named need not exist: measuring it gives a row that says so.

    Raises
    ------
    FileNotFoundError
        If a folder holds no FITS file, or a pattern matches nothing.
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
def _friendly_errors():
    """Turn what a user can mend into one line of text, without a traceback."""
    from astropy.units import UnitsError

    try:
        yield
    except (ImportError, OSError, TypeError, UnitsError, ValueError) as exc:
        raise click.ClickException(str(exc)) from exc


def _format_table(table):
    """Lines of a table for the terminal, with the flags by name."""
    from astropy.table import QTable

    table = QTable(table, copy=True)
    for name in table.colnames:
        if table[name].dtype.kind == 'f':
            table[name].info.format = '.5g'
    if 'flags' in table.colnames:
        names = astroflux.decode_flags(table['flags'])
        table['flags'] = [' '.join(row) or '-' for row in names]
    return table.pformat(max_lines=-1, max_width=-1)


def _report(table, paths):
    """Say on the standard error stream how many were measured; return how many."""
    import numpy as np

    from astroflux.flags import FATAL_FLAGS

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
        counts = Counter(name for row in astroflux.decode_flags(fatal) for name in row)
        summary += ' (' + ', '.join(f'{name} {n}' for name, n in counts.most_common()) + ')'
    click.echo(summary, err=True)
    return n_measured
