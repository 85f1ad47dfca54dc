# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The page about galaxies that were put into an image."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from astropy.table import vstack
from matplotlib.figure import Figure

from astroflux._locks import lock_folder
from astroflux._table_files import write_table
from astroflux._work import write_whole
from astroflux.estimators.recalibration import FEWEST, Recalibration
from astroflux.evaluation._comparison_panels import MIN_GALAXIES, in_figure, method_styles
from astroflux.evaluation._page import page_figure, render_page
from astroflux.evaluation._report_results import SNR_MIN, calibration_of
from astroflux.evaluation._report_sections import (
    facts_of,
    flag_meanings,
    flags_table,
    gallery_of,
)
from astroflux.evaluation._tables import TableColumn, describe, page_table
from astroflux.evaluation.comparison_plots import binned_figure
from astroflux.evaluation.injection_result import INJECTION_COLUMNS
from astroflux.evaluation.parameters import PARAMETERS
from astroflux.evaluation.plots import plot_cutout
from astroflux.evaluation.report import check_report_directory
from astroflux.evaluation.summary import drop_empty_bins, summarize_comparison

__all__ = ['write_injection_report']

TEMPLATE, PAGE = 'injection.html', 'report.html'

# The files beside the page.
RESULT, SUMMARY, BY_PARAMETER = 'injected.ecsv', 'summary.ecsv', 'summary_by_parameter.ecsv'
RECALIBRATION = 'recalibration.json'

# What errors are looked at by, and of galaxies of which S/N at least.
BY = {'magnitude': None, 'size_over_fwhm': SNR_MIN, 'neighbour_light': SNR_MIN}

POINT_COLUMNS = (
    TableColumn('snr', 'measured S/N', 'number', 'where the correction is this'),
    TableColumn('bias', 'fluxes are off by', 'share', 'median of ln(measured / true)'),
    TableColumn('factor_68', 'errors and 68 % intervals times', 'number', 'factor'),
    TableColumn('factor_95', '95 % intervals times', 'number', 'factor'),
)


def write_injection_report(result, directory, *, overwrite=False):
    """
    Write a page about galaxies that were put into an image, with tables and figures beside it.

    Parameters
    ----------
    result : `~astroflux.evaluation.InjectionResult`
        One that was read from a file has no pictures.
    directory : path-like
        Folder to write to; it is made if it does not exist. It gets ``report.html``, which holds
        all it needs; ``injected.ecsv`` (see `~astroflux.evaluation.InjectionResult.read`);
        ``recalibration.json`` (see `~astroflux.estimators.Recalibration`), unless the galaxies
        are too few or were recalibrated; ``summary.ecsv``, ``summary_by_parameter.ecsv``, and the
        images in ``figures``.
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
    tables, figures, content = _content(result)
    html = render_page(TEMPLATE, content)
    with lock_folder(directory):
        path = check_report_directory(directory, overwrite=overwrite)
        _remove_old(directory)
        (directory / 'figures').mkdir(parents=True, exist_ok=True)
        for figure in figures:
            with write_whole(directory / 'figures' / f'{figure.name}.png') as part:
                part.write_bytes(figure.png)
        result.write(directory / RESULT, overwrite=True)
        for name, table in tables.items():
            write_table(table, directory / name, overwrite=True)
        if content['recalibration'] is not None:
            content['recalibration'].write(directory / RECALIBRATION, overwrite=True)
        with write_whole(path) as part:
            part.write_text(html, encoding='utf-8')
    return path


def _remove_old(directory):
    """Remove what an earlier report has that this one may not replace."""
    for pattern in (RECALIBRATION, BY_PARAMETER, 'figures/*.png'):
        for old in directory.glob(pattern):
            old.unlink()


def _content(result):
    """Return the tables by file name, all figures, and what the template asks for."""
    comparison = result.comparison
    styles = method_styles(comparison.labels)
    by_snr = summarize_comparison(comparison)
    figures, sections, by_parameter = [], [], []
    for name, snr_min in BY.items():
        section = _section(comparison, styles, name, snr_min)
        if section is not None:
            rows, of_page = section
            by_parameter.append(rows)
            sections.append(of_page)
            figures.append(of_page['figure'])
    tables = {SUMMARY: result.summary()}
    if by_parameter:
        tables[BY_PARAMETER] = vstack(by_parameter)
    recalibration = _recalibration(result)
    injection = result.meta['injection']
    calibration = calibration_of(comparison, styles, by_snr)
    content = {
        'title': comparison.title,
        'method': next(iter(comparison.labels.values())),
        'written': datetime.now(UTC).strftime('%Y-%m-%d %H:%M UTC'),
        'n': len(result),
        'injection': injection,
        'by_snr': _table('in bins of true S/N', by_snr),
        'overall': _table('of all', summarize_comparison(comparison, None)),
        'snr_figure': _snr_figure(by_snr, styles),
        'field_figure': _field_figure(result.first_round),
        'sections': sections,
        'calibration_figure': calibration['calibration_figure'],
        'min_galaxies': MIN_GALAXIES,
        'recalibration': recalibration,
        'recalibration_table': None if recalibration is None else _points_table(recalibration),
        'recalibrated': result.meta.get('recalibrated'),
        'fewest': FEWEST,
        'flags': flags_table(comparison),
        'flag_meanings': flag_meanings(comparison),
        'gallery': gallery_of(comparison)[0]['cases'],
        'made': facts_of({name: result.meta[name] for name in _MADE if name in result.meta}),
        'files': [RESULT, *tables, *([RECALIBRATION] if recalibration is not None else [])],
    }
    figures += [content[f'{name}_figure'] for name in ('snr', 'field', 'calibration')]
    figures += [case['figure'] for case in content['gallery']]
    return tables, [figure for figure in figures if figure is not None], content


_MADE = ('injection', 'method', 'parameters', 'arguments', 'weights', 'recalibrated', 'versions')


def _table(text, summary):
    columns = INJECTION_COLUMNS
    rows = drop_empty_bins(summary)
    return page_table(f'Errors {text}, with 1-sigma bootstrap errors.', columns, rows)


def _section(comparison, styles, name, snr_min):
    """Return rows by a parameter, and a section of the page; `None` if there are too few."""
    if name not in comparison.truth.colnames:
        return None
    parameter = PARAMETERS[name]
    rows = summarize_comparison(comparison, name, snr_min=snr_min)
    if not in_figure(rows, 'bias').any():
        return None
    figure = page_figure(
        f'by_{name}',
        binned_figure(rows, parameter, styles),
        alt=f'Two panels against {parameter.label}: bias, and scatter. The numbers are in the '
        'table below.',
        caption=f'Bias and scatter of ln flux by {parameter.label}.',
    )
    columns = [
        column if column.kind != 'range' else TableColumn('low', parameter.label, 'range')
        for column in INJECTION_COLUMNS
    ]
    caption = f'Errors by {parameter.label}, with 1-sigma bootstrap errors.'
    page = {
        'label': parameter.label,
        'snr_min': snr_min,
        'figure': figure,
        'table': page_table(caption, columns, drop_empty_bins(rows)),
    }
    rows = rows.copy()
    rows.remove_column('method')
    rows.add_column(np.full(len(rows), name), name='parameter', index=0)
    return describe(rows, INJECTION_COLUMNS), page


def _snr_figure(by_snr, styles):
    if not in_figure(by_snr, 'bias').any():
        return None
    return page_figure(
        'by_snr',
        binned_figure(by_snr, PARAMETERS['snr'], styles),
        alt='Two panels against true S/N: bias, and scatter. The numbers are in the table above.',
        caption='Bias and scatter of ln flux in bins of true S/N, with bootstrap errors.',
    )


def _field_figure(field):
    """Show the image before and after, the galaxies of the first round in circles."""
    if field is None:
        return None
    ny, nx = field.before.shape
    figure = Figure(figsize=(9.2, 0.5 + 4.6 * min(ny / nx, 2)), layout='constrained')
    # bright stars would hide all else
    limit = np.percentile(field.after, 99.8)
    for ax, image, title in zip(
        figure.subplots(1, 2), (field.before, field.after), ('before', 'after'), strict=True
    ):
        plot_cutout(ax, np.minimum(image, limit), field.noise, title=title)
    for x, y in field.places:
        ax.plot(x, y, 'o', markersize=11, markerfacecolor='none', markeredgecolor='tab:orange')
    n = len(field.places)
    return page_figure(
        'field',
        figure,
        alt=f'The image, and the image with {n} more galaxies, each in a circle.',
        caption=f'The image before and after {n} galaxies of the first round were put into it. '
        'The scale of grey ends at a level that hides the cores of bright sources.',
    )


def _recalibration(result):
    """Return the recalibration that the galaxies make; `None` if they make none."""
    try:
        return Recalibration.from_injection(result)
    except ValueError:
        # too few, or recalibrated
        return None


def _points_table(recalibration):
    names = ('snr', 'bias', 'factor_68', 'factor_95')
    points = zip(*(getattr(recalibration, name) for name in names), strict=True)
    rows = [dict(zip(names, point, strict=True)) for point in points]
    return page_table(
        'The correction, between these points linear in ln(S/N).', POINT_COLUMNS, rows
    )
