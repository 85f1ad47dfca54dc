# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The page that reports a comparison of methods."""

import base64
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import jinja2
import numpy as np
from astropy import units as u
from astropy.table import vstack

from astroflux._table_files import write_table
from astroflux.evaluation.comparison import EXTREME_SNR
from astroflux.evaluation.comparison_files import write_comparison
from astroflux.evaluation.comparison_plots import (
    MIN_GALAXIES,
    binned_figure,
    calibration_figure,
    differences_figure,
    extreme_case_figure,
    method_styles,
    speed_figure,
)
from astroflux.evaluation.parameters import PARAMETERS
from astroflux.evaluation.summary import (
    MEDIAN,
    compare_pairs,
    fluxes_by_method,
    median_fluxes,
    summarise_bound,
    summarise_comparison,
    summarise_speed,
)
from astroflux.flags import FLAGS

__all__ = ['check_report_directory', 'write_report']

REPORT_NAME = 'report.html'

# The residuals against other parameters are of galaxies brighter than this: below, the noise
# hides all else.
SNR_MIN = 20

# In place of a number that there is not.
MISSING = '\N{EN DASH}'

_DPI = 140
# Pixels of the page for an inch of a figure.
_PAGE_DPI = 100


@dataclass
class Column:
    """A column of a table on the page."""

    title: str
    is_number: bool = True


@dataclass
class Cell:
    """An entry of a table on the page; ``value`` is what it sorts by, `None` the text."""

    text: str
    value: float | None = None


@dataclass
class Row:
    """A row of a table on the page, the first ``Cell`` its head."""

    cells: list[Cell]
    starts_group: bool = False


@dataclass
class PageTable:
    """A table on the page."""

    caption: str
    columns: list[Column]
    rows: list[Row]


@dataclass
class PageFigure:
    """A figure on the page."""

    name: str
    alt: str
    caption: str
    png: bytes
    width: int
    height: int

    @property
    def source(self):
        """The image as a URL that holds it."""
        return f'data:image/png;base64,{base64.b64encode(self.png).decode()}'


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
        ``speed.ecsv``; see `~astroflux.evaluation.read_comparison`), ``summary.ecsv`` (see
        `~astroflux.evaluation.summarise_comparison`; without truth,
        `~astroflux.evaluation.compare_pairs`), ``summary_by_parameter.ecsv`` if other
        parameters than S/N are known, and the images in ``figures``.
    overwrite : bool, optional
        Whether files that exist may be replaced.

    Returns
    -------
    path : `~pathlib.Path`
        The page.

    Raises
    ------
    FileExistsError
        If the folder has a report and ``overwrite`` is not set.
    """
    directory = Path(directory)
    path = check_report_directory(directory, overwrite=overwrite)
    has_truth = comparison.truth is not None
    page = {
        'title': comparison.title,
        'has_truth': has_truth,
        'written': datetime.now(UTC).strftime('%Y-%m-%d %H:%M UTC'),
        'made': _facts(comparison.meta),
        'n_cutouts': _count_cutouts(comparison),
        'n_methods': len(comparison.labels),
        'snr_min': SNR_MIN,
        'extreme_snr': f'{EXTREME_SNR:g}',
        'knows_snr': has_truth and 'snr' in comparison.truth.colnames,
        'min_galaxies': MIN_GALAXIES,
        'methods': _methods_table(comparison),
        'flags': _flags_table(comparison),
        'flag_meanings': _flag_meanings(comparison),
    }
    styles = method_styles(comparison.labels)
    tables, content = (_with_truth if has_truth else _without_truth)(comparison, styles)
    page |= content
    page['speed'], page['speed_figure'] = _speed(comparison, styles)
    page['gallery'] = _gallery(comparison)
    page['files'] = ['measurements.ecsv', *tables]

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader('astroflux.evaluation', 'templates'),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    html = environment.get_template(REPORT_NAME).render(page)

    figures = directory / 'figures'
    figures.mkdir(parents=True, exist_ok=True)
    # those of an earlier report may be of other methods
    for old in figures.glob('*.png'):
        old.unlink()
    cases = [case['figure'] for cases in page['gallery'] for case in cases['cases']]
    for figure in [*_page_figures(page), *cases]:
        (figures / f'{figure.name}.png').write_bytes(figure.png)
    write_comparison(comparison, directory, overwrite=True)
    for name, table in tables.items():
        write_table(table, directory / name, overwrite=True)
    path.write_text(html, encoding='utf-8')
    return path


def check_report_directory(directory, *, overwrite=False):
    """
    Check that a report can be written, before the work of making it.

    Parameters
    ----------
    directory : path-like
        Folder of the report; it need not exist.
    overwrite : bool, optional
        Whether a report may be replaced.

    Returns
    -------
    path : `~pathlib.Path`
        The page.

    Raises
    ------
    FileExistsError
        If the folder has a report and ``overwrite`` is not set.
    """
    path = Path(directory) / REPORT_NAME
    if path.exists() and not overwrite:
        msg = f'{path} exists and overwrite is not set'
        raise FileExistsError(msg)
    return path


def _page_figures(page):
    """The figures of the page but for the gallery."""
    for value in page.values():
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, PageFigure):
                yield item


# what the page says where there is truth


def _with_truth(comparison, styles):
    truth = comparison.truth
    knows_snr = 'snr' in truth.colnames
    summary = summarise_comparison(comparison, 'snr' if knows_snr else None)
    tables = {'summary.ecsv': summary}
    content = {
        'summary': _summary_table(comparison, summary),
        'snr_figure': None,
        'has_bound': False,
        'parameter_figures': [],
        'calibration_figure': None,
    }
    names = _names(comparison)
    by_snr = PARAMETERS['snr']
    if knows_snr:
        bounds = summarise_bound(comparison)
        content['has_bound'] = bool(np.any(bounds['n'] > 0))
        content['snr_figure'] = _page_figure(
            'by_snr',
            binned_figure(summary, by_snr, styles, bounds=bounds),
            alt=f'Two panels against true S/N: bias, and scatter, of {names}. '
            'The numbers are in the summary table.',
            caption='Bias and scatter of ln flux in bins of true S/N, with bootstrap errors.',
        )
    by_parameter = []
    for parameter in _other_parameters(truth):
        rows = summarise_comparison(
            comparison, parameter.name, snr_min=SNR_MIN if knows_snr else None
        )
        content['parameter_figures'].append(
            _page_figure(
                f'by_{parameter.name}',
                binned_figure(rows, parameter, styles),
                alt=f'Two panels against {parameter.label}: bias, and scatter, of {names}. '
                'The numbers are in the file summary_by_parameter.ecsv.',
                caption=f'Bias and scatter by {parameter.label}.',
            )
        )
        rows.add_column(np.full(len(rows), parameter.name), name='parameter', index=0)
        by_parameter.append(rows)
    if by_parameter:
        tables['summary_by_parameter.ecsv'] = vstack(by_parameter)
    pulls = {
        method: np.asarray(comparison.of_method(method)['pull'], float)
        for method in comparison.labels
    }
    calibrated = {
        method: style
        for method, style in styles.items()
        if np.isfinite(pulls[method]).sum() >= MIN_GALAXIES
    }
    content['without_errors'] = [
        comparison.labels[method] for method in styles if method not in calibrated
    ]
    if calibrated:
        alt = (
            'How often the truth lies within intervals of the errors that are given, against how '
            f'often it should, of {names}.'
        )
        caption = (
            'The fraction of the measurements with an error whose interval of a nominal '
            'coverage holds the truth. On the grey line it is as it should be; below, the errors '
            'are too small, above, too large.'
        )
        if knows_snr:
            alt += ' A second panel has the 68 % interval against true S/N.'
            caption += ' On the right for the 68 % interval alone, in bins of true S/N.'
        content['calibration_figure'] = _page_figure(
            'calibration',
            calibration_figure(
                {method: pulls[method] for method in calibrated},
                calibrated,
                summary=summary if knows_snr else None,
                parameter=by_snr,
            ),
            alt=alt,
            caption=caption,
        )
    return tables, content


def _other_parameters(truth):
    """Parameters besides S/N of which enough is known for a figure."""
    selected = np.full(len(truth), True)
    if 'snr' in truth.colnames:
        selected = np.asarray(truth['snr'], float) > SNR_MIN
    for name, parameter in PARAMETERS.items():
        if name == 'snr' or name not in truth.colnames:
            continue
        values = np.asarray(truth[name], float)[selected]
        counts, _ = np.histogram(values[np.isfinite(values)], parameter.edges)
        if counts.max() >= MIN_GALAXIES:
            yield parameter


# statistic -> title of its column, and whether it is a fraction or difference to show in percent
_SUMMARY_COLUMNS = {
    'completeness': ('with flux > 0 [%]', True),
    'bias': ('bias [%]', True),
    'scatter': ('scatter [%]', True),
    'scatter_over_bound': ('scatter / smallest possible', False),
    'rms': ('rms about 0 [%]', True),
    'outliers': ('off by > 30 % [%]', True),
    'coverage_68': ('coverage of 68 % [%]', True),
    'coverage_95': ('coverage of 95 % [%]', True),
    'pull_scatter': ('scatter of pull', False),
}


def _summary_table(comparison, summary):
    rows = []
    # Bin by bin, so that the methods stand below each other.
    bins = dict.fromkeys(zip(summary['low'].tolist(), summary['high'].tolist(), strict=True))
    for low, high in bins:
        of_bin = summary[(summary['low'] == low) & (summary['high'] == high)]
        for i, row in enumerate(of_bin):
            cells = [
                Cell(comparison.labels[row['method']]),
                _range_cell(low, high),
                _count_cell(row['n']),
            ]
            cells += [
                _error_cell(row[name], row[f'{name}_err'], 100 if in_percent else 1)
                for name, (_, in_percent) in _SUMMARY_COLUMNS.items()
            ]
            rows.append(Row(cells, starts_group=i == 0))
    return PageTable(
        caption='Errors of the methods in bins of true S/N, with 1-sigma bootstrap errors.',
        columns=[
            Column('method', is_number=False),
            Column('true S/N'),
            Column('cutouts'),
            *(Column(title) for title, _ in _SUMMARY_COLUMNS.values()),
        ],
        rows=rows,
    )


# what the page says where there is none


def _without_truth(comparison, styles):
    pairs = compare_pairs(comparison)
    content = {'to_median': None, 'pairs': None, 'differences_figure': None}
    if len(comparison.labels) > 1:
        of_median = pairs['reference'] == MEDIAN
        content['to_median'] = _pairs_table(
            comparison,
            pairs[of_median],
            'Each method against the median of all methods, the reference.',
            with_reference=False,
        )
        content['pairs'] = _pairs_table(
            comparison, pairs[~of_median], 'Each method against each other.'
        )
        fluxes = fluxes_by_method(comparison)
        median = median_fluxes(fluxes)
        ln_ratios = np.log((fluxes / median).value)
        content['differences_figure'] = _page_figure(
            'differences',
            differences_figure(
                median.value,
                dict(zip(comparison.labels, ln_ratios, strict=True)),
                styles,
                unit=str(fluxes.unit),
            ),
            alt='A panel per method with ln(flux / median of the methods) against that median, '
            f'of {_names(comparison)}. The numbers are in the tables.',
            caption='Fluxes over the median of the methods. Triangles at the edge lie beyond it; '
            'the black line is the running median.',
        )
    return {'summary.ecsv': pairs}, content


def _pairs_table(comparison, pairs, caption, *, with_reference=True):
    labels = comparison.labels
    columns = [
        Column('method', is_number=False),
        *([Column('reference', is_number=False)] if with_reference else []),
        Column('cutouts in common'),
        Column('median of ln(flux / reference) [%]'),
        Column('scatter of it [%]'),
        Column('differing by > 30 % [%]'),
    ]
    rows = []
    for row in pairs:
        cells = [Cell(labels[row['method']])]
        if with_reference:
            cells.append(Cell(labels[row['reference']]))
        cells.append(_count_cell(row['n']))
        for name in ('median', 'nmad', 'differing'):
            cells.append(_error_cell(row[name], row[f'{name}_err'], 100))
        rows.append(Row(cells))
    return PageTable(caption, columns, rows)


# what it says in either case


def _methods_table(comparison):
    rows = []
    for method, label in comparison.labels.items():
        of_method = comparison.of_method(method)
        flux, flux_err = (u.Quantity(of_method[name]).value for name in ('flux', 'flux_err'))
        cells = [Cell(label), Cell(method), _count_cell(len(of_method))]
        rows.append(
            Row(
                [
                    *cells,
                    _count_cell(np.isfinite(flux).sum()),
                    _count_cell((flux > 0).sum()),
                    _count_cell((np.isfinite(flux) & np.isfinite(flux_err)).sum()),
                ]
            )
        )
    return PageTable(
        caption='The methods, and how many cutouts they measured.',
        columns=[
            Column('method', is_number=False),
            Column('name', is_number=False),
            Column('cutouts given'),
            Column('with a flux'),
            Column('with a positive flux'),
            Column('with an error'),
        ],
        rows=rows,
    )


def _flag_counts(comparison):
    """How often each method set each flag, only of flags that any of them set."""
    counts = {}
    for method in comparison.labels:
        flags = np.asarray(comparison.of_method(method)['flags'], int)
        counts[method] = {flag.name: int(np.sum((flags & flag.bit) > 0)) for flag in FLAGS}
    used = [flag for flag in FLAGS if any(of[flag.name] for of in counts.values())]
    return used, counts


def _flags_table(comparison):
    used, counts = _flag_counts(comparison)
    if not used:
        return None
    rows = [
        Row([Cell(label), *(_count_cell(counts[method][flag.name]) for flag in used)])
        for method, label in comparison.labels.items()
    ]
    columns = [Column('method', is_number=False), *(Column(flag.name) for flag in used)]
    return PageTable('How many cutouts each method flagged.', columns, rows)


def _flag_meanings(comparison):
    used, _ = _flag_counts(comparison)
    return [(flag.name, flag.description) for flag in used]


def _speed(comparison, styles):
    speed = summarise_speed(comparison)
    if not np.isfinite(speed['rate']).any():
        return None, None
    rows = [
        Row(
            [
                Cell(comparison.labels.get(row['method'], row['method'])),
                _count_cell(row['n']),
                *(
                    _number_cell(u.Quantity(row[name]).value)
                    for name in ('cpu_time', 'rate', 'relative_time')
                ),
            ]
        )
        for row in speed
    ]
    columns = [
        Column('method', is_number=False),
        Column('cutouts'),
        Column('CPU time [s]'),
        Column('cutouts per second and core'),
        Column('time per cutout / that of the fastest'),
    ]
    table = PageTable('Speed of the methods, in seconds of one processor core.', columns, rows)
    figure = _page_figure(
        'speed',
        speed_figure(speed, styles),
        alt=f'Bars with the cutouts per second and core of {_names(comparison)}. '
        'The numbers are in the table above.',
        caption='Cutouts per second and core.',
    )
    return table, figure


def _gallery(comparison):
    has_truth = comparison.truth is not None
    gallery = []
    for i, (method, label) in enumerate(comparison.labels.items(), 1):
        cases = []
        for k, case in enumerate(comparison.extremes.get(method, ()), 1):
            facts = _case_facts(case, has_truth)
            figure = _page_figure(
                # numbered, as two names may differ only in what a file name cannot hold
                f'worst_{i:02d}_{_slug(method)}_{k:02d}',
                extreme_case_figure(case),
                alt=f'Cutout {_case_name(case)}, as {label} measured it. {_masked(case)} '
                + _verdict(facts['ratio'], has_truth),
                caption='',
                dpi=_PAGE_DPI,
            )
            cases.append({'figure': figure, **facts})
        gallery.append({'label': label, 'cases': cases})
    return gallery


def _verdict(ratio, has_truth):
    if ratio == MISSING:
        return 'There is no flux to compare.'
    return f'The flux is {ratio} of the {"true one" if has_truth else "median of the methods"}.'


def _case_facts(case, has_truth):
    """What stands below the image of a case, as text."""
    flux, flux_err, reference = (
        u.Quantity(value).to_value(u.Quantity(case.flux).unit)
        for value in (case.flux, case.flux_err, case.reference)
    )
    unit = str(u.Quantity(case.flux).unit)
    ratio = flux / reference if reference > 0 else np.nan
    labels = {name: parameter.label for name, parameter in PARAMETERS.items()}
    labels['bound'] = 'smallest error of ln flux possible'
    return {
        'name': _case_name(case),
        'measured': _with_unit(_error_text(flux, flux_err), unit),
        'reference_label': 'true' if has_truth else 'median',
        'reference': _with_unit(_number_text(reference, 4), unit),
        'ratio': _with_unit(_number_text(100 * ratio), '%'),
        'snr': _number_text(case.details.get('snr', np.nan)),
        'flags': ', '.join(case.flags) or 'none',
        'details': {
            labels.get(name, name): _number_text(value)
            for name, value in case.details.items()
            if name != 'snr' and np.isfinite(value)
        },
    }


def _case_name(case):
    return f'{case.cutout} ({case.name})' if case.name else str(case.cutout)


def _masked(case):
    fraction = float(np.mean(np.asarray(case.mask, bool))) if np.size(case.mask) else 0
    return f'{100 * fraction:.2g} % of the pixels are ignored.' if fraction else ''


def _names(comparison):
    return ', '.join(comparison.labels.values())


def _count_cutouts(comparison):
    if comparison.truth is not None:
        return len(comparison.truth)
    return len(np.unique(np.asarray(comparison.measurements['cutout'])))


def _slug(name):
    """The name with what any file system takes."""
    return re.sub(r'[^A-Za-z0-9.-]+', '_', name).strip('._')[:40] or 'method'


def _page_figure(name, figure, *, alt, caption, dpi=_DPI):
    buffer = BytesIO()
    figure.savefig(buffer, format='png', dpi=dpi)
    width, height = (round(_PAGE_DPI * inches) for inches in figure.get_size_inches())
    # an alternative text may have gaps where there is nothing to say
    return PageFigure(name, ' '.join(alt.split()), caption, buffer.getvalue(), width, height)


def _facts(meta):
    """Names and values of metadata as text, entries of dicts one by one."""
    facts = []
    for key, value in meta.items():
        if isinstance(value, dict):
            facts += [(f'{key}: {inner}', text) for inner, text in _facts(value)]
        elif isinstance(value, (list, tuple)):
            facts.append((str(key), ', '.join(_fact(item) for item in value)))
        else:
            facts.append((str(key), _fact(value)))
    return facts


def _fact(value):
    is_nan = isinstance(value, (float, np.floating)) and not np.isfinite(value)
    return MISSING if value is None or is_nan else str(value)


# numbers as text


def _number_text(value, digits=3):
    if not np.isfinite(value):
        return MISSING
    # Whole numbers up to a million are read more easily without an exponent.
    plain = 10**digits <= abs(value) < 1e6
    return _minus(f'{value:.0f}' if plain else f'{value:.{digits}g}')


def _error_text(value, error):
    """Value and error, to two digits of the error."""
    if not np.isfinite(value):
        return MISSING
    if not np.isfinite(error) or error <= 0:
        return _number_text(value, 4)
    n_decimals = 1 - int(np.floor(np.log10(error)))
    if n_decimals > 5 or abs(value) >= 1e6:
        return f'{_minus(f"{value:.4g}")} ± {error:.2g}'
    n_decimals = max(n_decimals, 0)
    return f'{_minus(f"{value:.{n_decimals}f}")} ± {error:.{n_decimals}f}'


def _with_unit(text, unit):
    return text if text == MISSING else f'{text} {unit}'.rstrip()


def _minus(text):
    return text.replace('-', '\N{MINUS SIGN}', 1) if text.startswith('-') else text


def _count_cell(value):
    return Cell(str(int(value)), int(value))


def _number_cell(value):
    value = float(value)
    return Cell(_number_text(value), value if np.isfinite(value) else None)


def _error_cell(value, error, scale):
    value, error = scale * float(value), scale * float(error)
    return Cell(_error_text(value, error), value if np.isfinite(value) else None)


def _range_cell(low, high):
    if not (np.isfinite(low) or np.isfinite(high)):
        return Cell('all', 0)
    return Cell(f'{low:g}{MISSING}{high:g}', low)
