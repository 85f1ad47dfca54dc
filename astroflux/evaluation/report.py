# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The page that reports a comparison of methods."""

from datetime import UTC, datetime
from pathlib import Path

from astroflux._dataset_files import TRUTH_NAME
from astroflux._locks import lock_folder
from astroflux._table_files import write_table
from astroflux._work import write_whole
from astroflux.evaluation._comparison_panels import MIN_GALAXIES, method_styles
from astroflux.evaluation._comparison_run import EXTREME_SNR
from astroflux.evaluation._page import PageFigure, render_page
from astroflux.evaluation._report_results import (
    SNR_MIN,
    results_with_truth,
    results_without_truth,
)
from astroflux.evaluation._report_sections import (
    count_cutouts,
    facts_of,
    flag_meanings,
    flags_table,
    fluxes_table,
    gallery_of,
    methods_table,
    speed_of,
)
from astroflux.evaluation.comparison_files import comparison_files, write_comparison

__all__ = ['check_report_directory', 'write_report']

REPORT_NAME = 'report.html'

# Of an earlier report in the folder, relative to it.
OLD_FILES = (
    'truth.ecsv',
    'summary_by_parameter.ecsv',
    'figures/by_*.png',
    'figures/calibration.png',
    'figures/differences.png',
    'figures/speed.png',
    'figures/worst_*.png',
)


def write_report(comparison, directory, *, overwrite=False):
    """
    Write a page about a comparison, with its figures and tables as files beside it.

    Parameters
    ----------
    comparison : `~astroflux.evaluation.Comparison`
        With truth or without.
    directory : path-like
        Folder to write to; it is made if it does not exist. It gets ``report.html``, which
        holds all it needs, the tables of the comparison (``measurements.ecsv``, ``truth.ecsv``,
        ``speed.ecsv``, ``comparison.json``; see `~astroflux.evaluation.read_comparison`),
        ``summary.ecsv`` (see `~astroflux.evaluation.summarize_comparison`; without truth,
        `~astroflux.evaluation.compare_pairs`), ``summary_by_parameter.ecsv`` if other
        parameters than S/N are known, and the images in ``figures``.
    overwrite : bool, optional
        Whether a report that the folder has may be replaced.

    Returns
    -------
    path : `~pathlib.Path`
        The page.

    Raises
    ------
    FileExistsError
        If the folder has a report and ``overwrite`` is not set.
    ValueError
        If the folder holds a data set.
    BlockingIOError
        If another process is writing to the folder.
    """
    directory = Path(directory)
    check_report_directory(directory, overwrite=overwrite)
    tables, page = _content(comparison)
    html = render_page(REPORT_NAME, page)
    with lock_folder(directory):
        path = check_report_directory(directory, overwrite=overwrite)
        _write(comparison, tables, page, html, path)
    return path


def _write(comparison, tables, page, html, path):
    """Write all files of a report, the page last."""
    directory = path.parent
    if path.exists():
        _remove_old(directory)
    figures = directory / 'figures'
    figures.mkdir(parents=True, exist_ok=True)
    for figure in _figures(page):
        with write_whole(figures / f'{figure.name}.png') as part:
            part.write_bytes(figure.png)
    write_comparison(comparison, directory, overwrite=True)
    for name, table in tables.items():
        write_table(table, directory / name, overwrite=True)
    with write_whole(path) as part:
        part.write_text(html, encoding='utf-8')


def check_report_directory(directory, *, overwrite=False):
    """
    Return the path of the page; raise `FileExistsError` if it exists and may not be replaced.

    `ValueError` if there is a data set, whose table of truth has the name of the report's.
    """
    directory = Path(directory)
    of_report = (REPORT_NAME, 'measurements.ecsv')
    if (directory / TRUTH_NAME).exists() and not any(
        (directory / name).exists() for name in of_report
    ):
        msg = f'{directory} holds a data set: name another folder for the report'
        raise ValueError(msg)
    path = directory / REPORT_NAME
    if path.exists() and not overwrite:
        msg = f'{path} exists and overwrite is not set'
        raise FileExistsError(msg)
    return path


def _content(comparison):
    """Return the tables to write beside the page, by file name, and what its template asks for."""
    has_truth = comparison.truth is not None
    styles = method_styles(comparison.labels)
    results = results_with_truth if has_truth else results_without_truth
    tables, page = results(comparison, styles)
    speed, speed_figure = speed_of(comparison, styles)
    page |= {
        'title': comparison.title,
        'has_truth': has_truth,
        'written': datetime.now(UTC).strftime('%Y-%m-%d %H:%M UTC'),
        'made': facts_of(comparison.meta),
        'n_cutouts': count_cutouts(comparison),
        'n_methods': len(comparison.labels),
        'snr_min': SNR_MIN,
        'extreme_snr': f'{EXTREME_SNR:g}',
        'knows_snr': comparison.knows_snr,
        'min_galaxies': MIN_GALAXIES,
        'methods': methods_table(comparison),
        'fluxes': fluxes_table(comparison),
        'flags': flags_table(comparison),
        'flag_meanings': flag_meanings(comparison),
        'speed': speed,
        'speed_figure': speed_figure,
        'gallery': gallery_of(comparison),
        'files': [*comparison_files(comparison), *tables],
    }
    return tables, page


def _remove_old(directory):
    """Remove what a new report may not replace: it may be of other methods, or without truth."""
    for pattern in OLD_FILES:
        for old in directory.glob(pattern):
            old.unlink()


def _figures(page):
    """All figures of the page."""
    for value in page.values():
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, PageFigure):
                yield item
    for of_method in page['gallery']:
        for case in of_method['cases']:
            yield case['figure']
