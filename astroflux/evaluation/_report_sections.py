# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What the page about a comparison says with truth and without: methods, speed, flags, cases."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
from astropy import units as u

from astroflux.evaluation._numbers import MISSING, error_text, number_text, with_unit
from astroflux.evaluation._page import PAGE_DPI, Cell, Column, PageTable, Row, page_figure
from astroflux.evaluation._tables import TableColumn, page_table
from astroflux.evaluation.comparison_plots import extreme_case_figure, speed_figure
from astroflux.evaluation.parameters import PARAMETERS
from astroflux.evaluation.summary import SPEED_COLUMNS, labeled, summarize_speed
from astroflux.flags import FLAGS

__all__ = [
    'count_cutouts',
    'facts_of',
    'flag_meanings',
    'flags_table',
    'fluxes_table',
    'gallery_of',
    'methods_table',
    'speed_of',
]

# So many cutouts can be looked at one by one.
FEW_CUTOUTS = 12

METHOD = TableColumn('label', 'method', 'text')
METHOD_COLUMNS = (
    METHOD,
    TableColumn('method', 'name', 'text'),
    TableColumn('given', 'cutouts given', 'count'),
    TableColumn('finite', 'with a flux', 'count'),
    TableColumn('positive', 'with a positive flux', 'count'),
    TableColumn('with_error', 'with an error', 'count'),
)


def methods_table(comparison):
    """Tell how many cutouts each method measured."""
    rows = []
    for method, label in comparison.labels.items():
        of_method = comparison.of_method(method)
        flux, flux_err = (u.Quantity(of_method[name]).value for name in ('flux', 'flux_err'))
        rows.append(
            {
                'label': label,
                'method': method,
                'given': len(of_method),
                'finite': np.isfinite(flux).sum(),
                'positive': (flux > 0).sum(),
                'with_error': (np.isfinite(flux) & np.isfinite(flux_err)).sum(),
            }
        )
    return page_table('The methods, and how many cutouts they measured.', METHOD_COLUMNS, rows)


def fluxes_table(comparison):
    """Tell what each method measured on each cutout; `None` if these are many."""
    rows = comparison.measurements
    cutouts = np.asarray(rows['cutout'], int)
    if len(np.unique(cutouts)) > FEW_CUTOUTS:
        return None
    unit = u.Quantity(rows['flux']).unit
    names, cells = {}, {}
    for row in rows:
        value, error = (float(u.Quantity(row[name]).value) for name in ('flux', 'flux_err'))
        names[row['cutout']] = _cutout_name(row['cutout'], row['name'])
        cells[row['method'], row['cutout']] = _value_cell(error_text(value, error), value)
    known = _what_is_known(comparison.truth, unit)
    lines = [
        Row(
            [Cell(names[cutout])]
            + [
                _value_cell(number_text(column[cutout], 4), column[cutout])
                for column in known.values()
            ]
            + [cells.get((method, cutout), Cell(MISSING)) for method in comparison.labels]
        )
        for cutout in sorted(names)
    ]
    heads = [*known, *comparison.labels.values()]
    return PageTable(
        with_unit('Fluxes and their errors', f'[{unit}]' if str(unit) else '') + '.',
        [Column('cutout', is_number=False), *map(Column, heads)],
        lines,
    )


def _value_cell(text, value):
    return Cell(text, value if np.isfinite(value) else None)


def _what_is_known(truth, unit):
    """Columns of the truth that stand beside the fluxes, by their heads."""
    if truth is None:
        return {}
    columns = {'true flux': u.Quantity(truth['flux']).to_value(unit)}
    if 'snr' in truth.colnames:
        columns['true S/N'] = np.asarray(truth['snr'], float)
    if 'bound' in truth.colnames:
        columns['smallest error possible [%]'] = 100 * np.asarray(truth['bound'], float)
    return {head: [float(value) for value in values] for head, values in columns.items()}


def _flag_counts(comparison):
    """How often each method set each flag, only of flags that any of them set."""
    counts = {}
    for method in comparison.labels:
        flags = np.asarray(comparison.of_method(method)['flags'], int)
        counts[method] = {flag.name: int(np.sum((flags & flag.bit) > 0)) for flag in FLAGS}
    used = [flag for flag in FLAGS if any(of[flag.name] for of in counts.values())]
    return used, counts


def flags_table(comparison):
    """Tell how often each method set each flag; `None` if none was set."""
    used, counts = _flag_counts(comparison)
    if not used:
        return None
    columns = [METHOD, *(TableColumn(flag.name, flag.name, 'count') for flag in used)]
    rows = [{'label': label, **counts[method]} for method, label in comparison.labels.items()]
    return page_table('How many cutouts each method flagged.', columns, rows)


def flag_meanings(comparison):
    """Tell the names and meanings of the flags that any method set."""
    used, _ = _flag_counts(comparison)
    return [(flag.name, flag.description) for flag in used]


def speed_of(comparison, styles):
    """Tell how fast the methods are, in a table and a figure; `None` if no time was taken."""
    speed = summarize_speed(comparison)
    if not np.isfinite(speed['rate']).any():
        return None, None
    table = page_table(
        'Time of the processor, summed over its cores.', SPEED_COLUMNS, labeled(speed, comparison)
    )
    figure = page_figure(
        'speed',
        speed_figure(speed, styles),
        alt=f'Bars with the cutouts per second and core of {comparison.label_text}. '
        'The numbers are in the table above.',
        caption='Cutouts per second and core.',
    )
    return table, figure


def gallery_of(comparison):
    """Show the worst cases of each method: its label, and their figures and facts as text."""
    has_truth = comparison.truth is not None
    gallery, images = [], {}
    for i, (method, label) in enumerate(comparison.labels.items(), 1):
        cases = []
        for k, case in enumerate(comparison.extremes.get(method, ()), 1):
            facts = _case_facts(case, has_truth)
            # a cutout that is hard for one method is hard for others
            if case.cutout not in images:
                images[case.cutout] = page_figure(
                    '', extreme_case_figure(case), alt='', caption='', dpi=PAGE_DPI
                )
            alt = f'Cutout {facts["name"]}, as {label} measured it. {_masked(case)} '
            figure = replace(
                images[case.cutout],
                # numbered, as two names may differ only in what a file name cannot hold
                name=f'worst_{i:02d}_{_slug(method)}_{k:02d}',
                alt=' '.join((alt + _verdict(facts['ratio'], has_truth)).split()),
            )
            cases.append({'figure': figure, **facts})
        gallery.append({'label': label, 'cases': cases})
    return gallery


def _verdict(ratio, has_truth):
    """Tell the alternative text of an image how far off the flux is."""
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
    details = {
        labels.get(name, name): number_text(value)
        for name, value in case.details.items()
        if name not in ('snr', 'bound') and np.isfinite(value)
    }
    if np.isfinite(bound := case.details.get('bound', np.nan)):
        details['smallest error possible'] = with_unit(number_text(100 * bound), '%')
    return {
        'name': _cutout_name(case.cutout, case.name),
        'measured': with_unit(error_text(flux, flux_err), unit),
        'reference_label': 'true' if has_truth else 'median',
        'reference': with_unit(number_text(reference, 4), unit),
        'ratio': with_unit(number_text(100 * ratio), '%'),
        'snr': number_text(case.details.get('snr', np.nan)),
        'flags': ', '.join(case.flags),
        'details': details,
    }


def _cutout_name(number, name):
    if not name:
        return str(number)
    # the folder of a file would fill the caption; the tables have it
    is_file = name.lower().endswith(('.fits', '.gz', '.fz'))
    return f'{number} ({Path(name).name if is_file else name})'


def _masked(case):
    fraction = float(np.mean(np.asarray(case.mask, bool))) if np.size(case.mask) else 0
    return f'{100 * fraction:.2g} % of the pixels are ignored.' if fraction else ''


def count_cutouts(comparison):
    """Count the cutouts that were measured."""
    if comparison.truth is not None:
        return len(comparison.truth)
    return len(np.unique(np.asarray(comparison.measurements['cutout'])))


def _slug(name):
    """The name with what any file system takes."""
    return re.sub(r'[^A-Za-z0-9.-]+', '_', name).strip('._')[:40] or 'method'


def facts_of(meta):
    """Write metadata as pairs of texts, entries of dicts one by one."""
    facts = []
    for key, value in meta.items():
        if isinstance(value, dict):
            facts += [(f'{key}: {inner}', text) for inner, text in facts_of(value)]
        elif isinstance(value, (list, tuple)):
            facts.append((str(key), ', '.join(_fact(item) for item in value)))
        else:
            facts.append((str(key), _fact(value)))
    return facts


def _fact(value):
    is_nan = isinstance(value, (float, np.floating)) and not np.isfinite(value)
    return MISSING if value is None or is_nan else str(value)
