# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The page of a run of the study: what was published and what was found, in the report's order."""

import json
import math
from importlib import resources
from pathlib import Path

import pandas as pd

from astroflux._work import write_whole
from astroflux.evaluation._numbers import MISSING, error_text, number_text
from astroflux.evaluation._page import Cell, Column, PageTable, Row, render_page
from astroflux.study.results import read_study

__all__ = ['PAGE_NAME', 'write_page']

PAGE_NAME = 'index.html'

COMPARISON = [Column('quantity', False), Column('published'), Column('ours')]

# Heads of the columns of other tables; those that are not here are named as in the file.
TITLES = json.loads(
    resources.files('astroflux.study').joinpath('templates/headings.json').read_text('utf-8')
)

# Columns of fractions, which are shown in percent.
FRACTIONS = ('beyond_10', 'beyond_30', 'bias', 'bound', 'completeness', 'constant_share')
FRACTIONS += ('cumulative', 'faint_share', 'outliers', 'rms', 'scatter', 'within_narrow')
FRACTIONS += ('within_wide',)

# Columns that repeat others of their table, or what stands elsewhere on the page.
HIDDEN = {'losses.csv': ('title', 'seed', 'batch_size', 'n_failed', 'bias')}

# Beginning of a table's name -> decimals of its numbers; those of others have four digits.
DECIMALS = {'samples': 6, 'linear_information': 4}
DECIMALS |= {'components_flux': 4, 'components_scree': 3, 'components': 2}


def write_page(directory):
    """
    Write the page of a run, ``index.html``, into its folder.

    Parameters
    ----------
    directory : path-like
        Folder of the run; stages that it has not done are named as missing.

    Returns
    -------
    path : `~pathlib.Path`
        The page.

    Raises
    ------
    FileNotFoundError
        If the folder holds no run, or lacks a table that a stage names.
    """
    directory = Path(directory)
    study = read_study(directory)
    content = {
        **study,
        'comparison_table': comparison_table,
        'read_table': lambda stage, name, caption: read_table(directory / stage / name, caption),
        'summary': summary_table(study['stages']),
        'times': times_table(study['stages']),
    }
    with write_whole(directory / PAGE_NAME) as part:
        part.write_text(render_page('study.html', content, 'astroflux.study'), encoding='utf-8')
    return directory / PAGE_NAME


def read_table(path, caption):
    """Read a table that a stage wrote; a column and that of its errors (``_err``) are one."""
    data = pd.read_csv(path)
    # what describes the data set is shown as it is in the file
    if path.parent.name == 'data':
        texts = pd.read_csv(path, dtype=str, keep_default_na=False).to_numpy()
        columns = [Column(name, _is_number(data[name])) for name in data]
        return PageTable(caption, columns, _rows(texts))
    hidden = [*(f'{name}_err' for name in data), *HIDDEN.get(path.name, ())]
    names = data.columns.difference(hidden, sort=False)
    decimals = next((DECIMALS[start] for start in DECIMALS if path.name.startswith(start)), None)
    columns = [Column(_title(data[name]), _is_number(data[name])) for name in names]
    texts = [_column_texts(data[name], data.get(f'{name}_err'), decimals) for name in names]
    return PageTable(caption, columns, _rows(zip(*texts, strict=True)))


def _title(values):
    title = values.name.replace('_', ' ')
    if not pd.api.types.is_string_dtype(values):
        title = TITLES.get(values.name, title)
    return f'{title} [%]' if values.name in FRACTIONS and '%' not in title else title


def _is_number(values):
    return pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)


def _column_texts(values, errors, decimals):
    if not _is_number(values):
        words = {True: 'yes', False: 'no'}
        return [MISSING if pd.isna(value) else words.get(value, value) for value in values]
    if pd.api.types.is_integer_dtype(values):
        return [str(value) for value in values]
    scale = 100 if values.name in FRACTIONS else 1
    if errors is not None:
        return [error_text(*pair) for pair in zip(scale * values, scale * errors, strict=True)]
    if decimals is None:
        return ['∞' if value == math.inf else number_text(scale * value, 4) for value in values]
    return [_minus(f'{scale * value:z.{decimals}f}') for value in values]


def _minus(text):
    return text.replace('-', '\N{MINUS SIGN}')


def _rows(lines):
    """Make rows of texts; groups of rows that begin with the same text are set off."""
    rows = [Row([Cell(text) for text in line]) for line in lines]
    heads = [row.cells[0].text for row in rows]
    if len(set(heads)) < len(heads):
        for row, head, before in zip(rows[1:], heads[1:], heads, strict=False):
            row.starts_group = head != before
    return rows


def comparison_table(stage, begin=''):
    """Set what was published beside what a stage found, in rows that begin as told."""
    rows = [row for row in stage['rows'] if row['what'].startswith(begin)]
    lines = [(row['what'], *_pair_texts(**row)) for row in rows]
    return PageTable('Published and found here', COMPARISON, _rows(lines))


def summary_table(stages):
    """Set all that the report published of its models beside what was found."""
    lines = [
        (name, row['what'], *_pair_texts(**row))
        for name in ('linear', 'logistic', 'forest', 'cnn')
        for row in stages.get(name, {}).get('rows', ())
        if row['published'] is not None
    ]
    caption = 'What the report published of its models, and what was found'
    return PageTable(caption, [Column('stage', False), *COMPARISON], _rows(lines))


def _pair_texts(what, published, ours):
    """Write both numbers: the published one in full, the other with as many decimals or more."""
    # shares are in percent, as the report prints them
    scale, unit = (100, ' %') if what.startswith('accuracy') else (1, '')
    decimals = None
    if isinstance(published, int | float):
        # the product of a share and 100 is not exact
        published = f'{scale * published:,.12g}'
        decimals = len(published.partition('.')[2])
        published = _minus(published) + unit
    if isinstance(ours, int | float):
        ours = _found_text(scale * ours, decimals) + unit
    return published or MISSING, ours or MISSING


def _found_text(value, decimals):
    if value == round(value):
        return _minus(f'{value:,.0f}')
    if decimals is None:
        return number_text(value, 4)
    return number_text(value, max(3, decimals + 1 + math.floor(math.log10(abs(value)))))


def times_table(stages):
    """Tell the time that each stage took, and the version that ran it."""
    total = {'seconds': sum(found['seconds'] for found in stages.values()), 'version': ''}
    columns = [Column('stage', False), Column('time'), Column('version', False)]
    lines = [
        (name, _time_text(found['seconds']), found['version'])
        for name, found in {**stages, 'all': total}.items()
    ]
    caption = 'Time that each stage took, and the version that ran it'
    return PageTable(caption, columns, _rows(lines))


def _time_text(seconds):
    return f'{seconds:.2g} s' if seconds < 100 else f'{seconds / 60:.3g} min'
