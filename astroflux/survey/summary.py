# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The page that sums up a survey."""

import csv
import heapq
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import QTable

from astroflux._work import write_whole
from astroflux.evaluation._numbers import MISSING, error_text, number_text, with_unit
from astroflux.evaluation._page import PAGE_DPI, page_figure, render_page
from astroflux.evaluation._report_sections import facts_of
from astroflux.evaluation._tables import TableColumn, page_table
from astroflux.flags import FLAGS, decode_flags
from astroflux.survey._folder import FAILURES, IMAGES, SUMMARY, SurveyFolder
from astroflux.survey._summary_figures import (
    distributions_figure,
    flags_figure,
    residual_figure,
    sky_figure,
    throughput_figure,
)
from astroflux.survey._tally import tally_of
from astroflux.survey.residuals import STAMPS

__all__ = ['write_summary']

# So many of the rows of a longer table are shown, and so many of the worst residuals.
SHOWN_IMAGES, SHOWN_FAILURES, SHOWN_RESIDUALS = 10, 100, 12

COUNTS = (TableColumn('what', 'sources', 'text'), TableColumn('n', 'number', 'count'))
COUNTS += (TableColumn('share', 'share of all', 'share'),)
RUNS = (
    TableColumn('begun', 'begun (UTC)', 'text'),
    TableColumn('workers', 'workers', 'count'),
    TableColumn('n_images', 'images measured', 'count'),
    TableColumn('n_rows', 'sources', 'count'),
    TableColumn('seconds', 'time [s]', 'number'),
    TableColumn('rate', 'sources / s', 'number'),
)
SLOWEST = (
    TableColumn('image', 'image', 'text'),
    TableColumn('n_sources', 'sources', 'count'),
    TableColumn('n_measured', 'with a flux', 'count'),
    TableColumn('seconds', 'time [s]', 'number'),
    TableColumn('ms', 'ms / source', 'number'),
    TableColumn('peak_memory_mb', 'peak memory [MB]', 'count'),
)
FAILED = (
    TableColumn('image', 'image', 'text'),
    TableColumn('n_sources', 'sources', 'count'),
    TableColumn('reason', 'reason', 'text'),
)
FLAGGED = (
    TableColumn('flag', 'flag', 'text'),
    TableColumn('n', 'sources', 'count'),
    TableColumn('share', 'share of the rows', 'share'),
    TableColumn('meaning', 'meaning', 'text'),
)


def write_summary(folder):
    """
    Write a page that sums up a survey into its folder, complete or not.

    It has the counts of sources, flags, the distributions of brightness and S/N, a map of the sky,
    images that failed, the time that was taken, and pictures of the worst residuals. The tables
    are read a part at a time.

    Parameters
    ----------
    folder : path-like
        What `~astroflux.survey.measure_survey` wrote.

    Returns
    -------
    path : `~pathlib.Path`
        The page, ``summary.html``, which holds all it needs. One that is there is replaced.

    Raises
    ------
    FileNotFoundError
        If the folder holds no survey.
    """
    folder = Path(folder)
    survey = SurveyFolder(folder)
    if survey.settings is None:
        msg = f'{folder} holds no survey'
        raise FileNotFoundError(msg)
    images, failures = (_read_csv(folder / name) for name in (IMAGES, FAILURES))
    tally = tally_of(survey.tables())
    content = {
        'title': folder.resolve().name,
        'written': datetime.now(UTC).strftime('%Y-%m-%d %H:%M UTC'),
        'status': survey.status,
        'n_images': len(images),
        'n_failed': len(failures),
        'counts': _counts_table(survey.settings, survey.status, tally),
        'tally': tally,
        **_figures(tally),
        'flags': _flags_table(tally),
        'failures': page_table('Images that failed.', FAILED, failures[:SHOWN_FAILURES]),
        'n_failures_shown': SHOWN_FAILURES,
        **_throughput(survey.status, images),
        'residuals': _residuals(folder),
        'made': _made(survey.settings, tally),
    }
    path = folder / SUMMARY
    with write_whole(path) as part:
        html = render_page('survey.html', content, 'astroflux.survey')
        part.write_text(html, encoding='utf-8')
    return path


def _made(settings, tally):
    """Return how the survey was made as pairs of texts, without options that were not used."""
    facts = facts_of(settings | {'versions': tally.meta.get('versions', {})})
    return [(name, text) for name, text in facts if text not in ('none', MISSING)]


def _read_csv(path):
    """Return the rows of a file as dicts, with numbers where there are any; `[]` without a file."""
    if not path.exists():
        return []
    with path.open(encoding='utf-8', newline='') as file:
        rows = list(csv.DictReader(file))
    texts = ('image', 'path', 'reason')
    return [
        {name: text if name in texts else float(text) for name, text in row.items()} for row in rows
    ]


def _counts_table(settings, status, tally):
    total = status['n_sources']
    is_detected = settings.get('catalogue') == 'detected'
    counts = {
        'detected' if is_detected else 'in the catalogue': total,
        'with a flux': status['n_measured'],
        'with a flux and without any flag': tally.n - tally.n_flagged,
        'without a flux': status['n_rows'] - status['n_measured'],
        'on images that failed': status['n_of_failed_images'],
        'on no image': status['n_off'],
        'not measured yet': total
        - status['n_rows']
        - status['n_of_failed_images']
        - status['n_off'],
    }
    rows = [
        {'what': what, 'n': n, 'share': n / total if total else np.nan}
        for what, n in counts.items()
    ]
    return page_table('What has become of the sources.', COUNTS, rows)


def _flags_table(tally):
    if not tally.flags:
        return None
    rows = [
        {
            'flag': flag.name,
            'n': tally.flags[flag.name],
            'share': tally.flags[flag.name] / tally.n,
            'meaning': flag.description.replace('``', ''),
        }
        for flag in FLAGS
        if flag.name in tally.flags
    ]
    return page_table('Flags of the rows in the tables.', FLAGGED, rows)


def _figures(tally):
    """Return the figures of what is in the tables, `None` for those that have nothing to show."""
    fatal = {flag.name for flag in FLAGS if flag.fatal}
    shown = dict.fromkeys(('flags_figure', 'distributions_figure', 'sky_figure'))
    if tally.flags:
        shown['flags_figure'] = page_figure(
            'flags',
            flags_figure(tally.flags, fatal, tally.n),
            alt='Bars with the share of sources that have each flag, as in the table.',
            caption='How many sources have each flag. One source may have several.',
        )
    if tally.snr.n:
        what = 'AB magnitude' if tally.is_mag else 'flux'
        shown['distributions_figure'] = page_figure(
            'distributions',
            distributions_figure(tally),
            alt=f'Histograms of {what} and of signal-to-noise ratio.',
            caption=f'Sources with a flux above 0, by {what} and by S/N.',
        )
    if tally.sky is not None:
        shown['sky_figure'] = page_figure(
            'sky',
            sky_figure(tally.sky),
            alt='Map of the number of sources per square arcmin.',
            caption='Where the sources in the tables are.',
        )
    return shown


def _throughput(status, images):
    runs = [
        run | {'begun': run['begun'].split('+')[0].replace('T', ' '), 'rate': _rate(run)}
        for run in status['runs']
    ]
    for image in images:
        n_sources = image['n_sources']
        image['ms'] = 1000 * image['seconds'] / n_sources if n_sources else np.nan
    slowest = heapq.nlargest(SHOWN_IMAGES, images, key=lambda image: image['seconds'])
    figure = None
    if any(image['n_sources'] for image in images):
        figure = page_figure(
            'throughput',
            throughput_figure(*([i[name] for i in images] for name in ('n_sources', 'seconds'))),
            alt='Points with the time that each image took against the number of its sources.',
            caption='Time that a worker took for each image, with reading and writing.',
        )
    return {
        'runs': page_table('Times that the survey was worked on.', RUNS, runs),
        'slowest': page_table('The images that took longest.', SLOWEST, slowest),
        'throughput_figure': figure,
    }


def _rate(run):
    return run['n_rows'] / run['seconds'] if run['seconds'] else np.nan


# -- residuals ------------------------------------------------------------------------------------


def _residuals(folder):
    """Return the pictures of the worst residuals of all images, and what is told of each."""
    worst = heapq.nlargest(SHOWN_RESIDUALS, _ranks(folder))
    tables = {path: QTable.read(path) for path in {path for _, path, _ in worst}}
    return [_residual(path.stem, tables[path], row) for _, path, row in worst]


def _ranks(folder):
    """Yield chi2, file and row of each stamp that was kept."""
    for path in sorted((folder / STAMPS).glob('*.fits')):
        with fits.open(path) as hdus:
            chi2 = hdus[1].data['chi2'].tolist()
        yield from ((value, path, row) for row, value in enumerate(chi2))


def _residual(image, table, row):
    stamp = table[row]
    unit = table.meta.get('UNIT', '')
    flux, flux_err = (
        float(getattr(stamp[name], 'value', stamp[name])) for name in ('flux', 'flux_err')
    )
    identifier = str(stamp['id'])
    chi2 = number_text(float(stamp['chi2']))
    return {
        'figure': page_figure(
            '',
            residual_figure(stamp),
            alt=f'Image, model and residual about source {identifier} of {image}; chi2 {chi2}.',
            caption='',
            dpi=PAGE_DPI,
        ),
        'id': identifier,
        'image': image,
        'facts': {
            'chi2 of a pixel': chi2,
            'x, y [pix]': ', '.join(
                f'{float(getattr(stamp[name], "value", stamp[name])):.1f}' for name in 'xy'
            ),
            'flux': with_unit(error_text(flux, flux_err), unit),
        },
        'flags': ', '.join(decode_flags(int(stamp['flags']))),
    }
