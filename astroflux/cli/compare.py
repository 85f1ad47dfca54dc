# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""``astroflux compare``."""

from math import isfinite
from pathlib import Path

import click

from astroflux.cli._shared import (
    check_available,
    expand_paths,
    friendly_errors,
    make_simulation,
    noise_correlation_option,
    simulation_options,
)
from astroflux.cli._types import AngleOrPixels, OutputFolder
from astroflux.estimators.methods import KNOWN_METHODS, available_methods, make_estimator

__all__ = ['compare']


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
            if name not in KNOWN_METHODS:
                self.fail(f'{name!r} is not one of {", ".join(KNOWN_METHODS)}', param, ctx)
        return names


@click.command()
@click.argument('files', metavar='[FILE]...', nargs=-1)
@click.option(
    '-o',
    '--output-dir',
    type=OutputFolder(),
    required=True,
    help='Folder of the report, its tables and figures.',
)
@click.option(
    '--methods',
    type=MethodNames(),
    help='Which methods, with commas between them, or all. By default those that are fast and '
    f'installed, of: {", ".join(KNOWN_METHODS)}.',
)
@click.option(
    '--simulate',
    'number',
    type=click.IntRange(min=1),
    metavar='N',
    help='Simulate N galaxies instead of reading files. Needs the extra simulate.',
)
@simulation_options
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
@noise_correlation_option
@click.option(
    '--workers',
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help='How many processes.',
)
@click.option(
    '--resume',
    type=OutputFolder(),
    help='Folder in which measurements are kept as they are made: a comparison that was stopped '
    'goes on from it.',
)
@click.option('--overwrite', is_flag=True, help='Replace a report in the folder.')
def compare(
    files,
    output_dir,
    methods,
    number,
    survey,
    seed,
    neighbors,
    slow_limit,
    psf_fwhm,
    noise_correlation,
    workers,
    resume,
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
    check_available(methods)
    with friendly_errors(if_exists='replace it with --overwrite'):
        from astroflux._locks import lock_folder
        from astroflux.evaluation import compare_methods
        from astroflux.evaluation.report import check_report_directory, write_report

        check_report_directory(output_dir, overwrite=overwrite)
        source = _simulated(number, survey, seed, neighbors) if number else _from_files(files)
        with lock_folder(output_dir):
            try:
                comparison = compare_methods(
                    source,
                    {name: make_estimator(name) for name in methods},
                    labels={name: KNOWN_METHODS[name].label for name in methods},
                    limits={
                        name: slow_limit
                        for name in methods
                        if slow_limit and KNOWN_METHODS[name].is_slow
                    },
                    psf_fwhm=psf_fwhm,
                    noise_correlation=noise_correlation,
                    workers=workers,
                    resume=resume,
                )
            except KeyboardInterrupt:
                if resume is None:
                    raise
                msg = 'interrupted; the same command goes on with what was measured'
                raise KeyboardInterrupt(msg) from None
            page = write_report(comparison, output_dir, overwrite=overwrite)
    click.echo('\n'.join(_format_summary(comparison)))
    click.echo(f'report: {page}', err=True)
    if not any(isfinite(flux) for flux in comparison.measurements['flux'].value):
        click.echo('no cutout was measured by any method: the report says why', err=True)
        raise click.exceptions.Exit(1)


def _simulated(number, survey, seed, neighbors):
    from astroflux.evaluation import SimulatedSource

    title = f'{number} simulated galaxies of {survey}, seed {seed}'
    simulation = make_simulation(survey, neighbors)
    return SimulatedSource(number, simulation, seed=seed, title=title)


def _from_files(files):
    from astroflux._dataset_files import TRUTH_NAME
    from astroflux.evaluation import DatasetSource, FileSource

    if len(files) == 1 and (Path(files[0]) / TRUTH_NAME).exists():
        return DatasetSource(files[0])
    return FileSource(expand_paths(files))


def _format_summary(comparison):
    """Lines of the summary for the terminal."""
    from astroflux.evaluation import compare_pairs, summarize_comparison
    from astroflux.evaluation._tables import terminal_lines
    from astroflux.evaluation.summary import PAIR_COLUMNS, SUMMARY_COLUMNS, drop_empty_bins

    if comparison.truth is None:
        return terminal_lines(PAIR_COLUMNS, compare_pairs(comparison))
    by = 'snr' if comparison.knows_snr else None
    columns = [column for column in SUMMARY_COLUMNS if column.name != 'pull_scatter']
    return terminal_lines(columns, drop_empty_bins(summarize_comparison(comparison, by)))
