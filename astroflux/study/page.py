# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The page of a run of the study: the report's order, what it published, and what was found."""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from astroflux.evaluation._page import Cell, Column, PageTable, Row, render_page
from astroflux.study.page_captions import FIGURES, NOT_SHOWN, TABLES, TablePlan
from astroflux.study.page_layout import SECTIONS
from astroflux.study.page_text import comparison_table, duration_text, page_table
from astroflux.study.run_files import read_study
from astroflux.study.stages import STAGE_NAMES

__all__ = ['PAGE_NAME', 'Figure', 'Part', 'Section', 'StudyPage', 'build_page', 'write_page']

PAGE_NAME = 'index.html'

# Stages whose published numbers are the report's own: the others compare with them again.
SUMMARY_STAGES = ('linear', 'logistic', 'forest', 'cnn')

SEPARATOR = ', '

# Tables with more rows are folded.
LONG_TABLE = 20


@dataclass(frozen=True)
class Figure:
    """A figure: its file, relative to the folder of the run, and texts."""

    source: str
    caption: str
    alt: str


@dataclass
class Part:
    """What a section shows of one stage."""

    title: str
    comparison: PageTable | None = None
    remarks: list[str] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    tables: list[PageTable] = field(default_factory=list)
    missing: str = ''


@dataclass
class Section:
    """A section of the page."""

    anchor: str
    heading: str
    intro: str
    parts: list[Part]


@dataclass
class StudyPage:
    """All that the page shows."""

    title: str
    lead: str
    warning: str
    summary: PageTable
    sections: list[Section]
    facts: list[tuple[str, str]]
    times: PageTable


def build_page(directory):
    """
    Collect what the page of a run shows.

    Parameters
    ----------
    directory : path-like
        Folder of the run. Stages that it has not done are named as missing.

    Returns
    -------
    page : `StudyPage`

    Raises
    ------
    FileNotFoundError
        If the folder holds no run, or lacks a file that a stage names.
    """
    directory = Path(directory)
    study = read_study(directory)
    settings, stages = study['settings'], study['stages']
    for stage, found in stages.items():
        for name in (*found['tables'], *found['figures']):
            if not (directory / stage / name).is_file():
                msg = f'{directory} lacks the file {stage}/{name} of the run'
                raise FileNotFoundError(msg)
    return StudyPage(
        title='The galaxy-flux study of 2024, run again',
        lead=_lead(settings),
        warning=_warning(settings, stages),
        summary=_summary(stages),
        sections=[_section(plan, stages, directory) for plan in SECTIONS],
        facts=_facts(study),
        times=_times(stages),
    )


def write_page(directory):
    """
    Write the page of a run, ``index.html``, into its folder.

    Parameters
    ----------
    directory : path-like
        Folder of the run; the page shows the figures that are there.

    Returns
    -------
    path : `~pathlib.Path`
        The page.
    """
    content = {'page': build_page(directory), 'long_table': LONG_TABLE}
    html = render_page('study.html', content, 'astroflux.study')
    path = Path(directory) / PAGE_NAME
    part = path.with_name(f'{path.name}.part')
    part.write_text(html, encoding='utf-8')
    os.replace(part, path)
    return path


def _size_text(settings):
    sizes = settings['sizes']
    text = f'{sizes["n_train"]:,} training images and {sizes["n_test"]:,} test images'
    if sizes['max_epochs'] is not None:
        text += f', trainings of {sizes["max_epochs"]} epochs at the most'
    return text


def _lead(settings):
    return (
        'Every model, table and figure of a report on predicting the flux of galaxies by machine '
        'learning, made again in the order of the report, beside what it published and what is '
        f'possible today. Preset {settings["preset"]}: {_size_text(settings)}.'
    )


def _warning(settings, stages):
    """Say why the numbers do not stand for the study, if they do not."""
    reasons = []
    if settings['preset'] != 'full':
        reasons.append(
            f'This run is smaller than the study (preset {settings["preset"]}: '
            f'{_size_text(settings)}). Its numbers do not compare with the published ones.'
        )
    if missing := [name for name in STAGE_NAMES if name not in stages]:
        reasons.append(f'Not all stages are done; missing: {SEPARATOR.join(missing)}.')
    return ' '.join(reasons)


def _summary(stages):
    """Table of all that the report published of its models."""
    headings = {
        block.stage: _heading(plan) for plan in SECTIONS for block in plan.blocks if block.is_rest
    }
    rows = [
        {'section': headings[name], **row}
        for name in SUMMARY_STAGES
        for row in stages.get(name, {}).get('rows', [])
        if row['published'] is not None
    ]
    return comparison_table('What the report published of its models, and what was found', rows)


def _heading(plan):
    return f'{plan.number} {plan.title}'.strip()


def _section(plan, stages, directory):
    parts = [_part(block, stages.get(block.stage), directory) for block in plan.blocks]
    return Section(plan.anchor, _heading(plan), plan.intro, parts)


def _part(block, found, directory):
    if found is None:
        return Part(block.title, missing=block.stage)
    rows = _choose(block, found['rows'], 'rows', lambda row: row['what'])
    return Part(
        block.title,
        comparison=comparison_table('Published and found here', rows) if rows else None,
        remarks=_choose(block, found['remarks'], 'remarks', str),
        figures=[
            Figure(f'{block.stage}/{name}', *FIGURES.get(name, (_words(name), _words(name))))
            for name in _choose(block, found['figures'], 'files', str)
        ],
        tables=[
            page_table(directory / block.stage / name, TABLES.get(name, TablePlan(_words(name))))
            for name in _choose(block, found['tables'], 'files', str)
            if name not in NOT_SHOWN
        ],
    )


def _choose(block, items, kind, text_of):
    """Items of a stage that a block shows: those of its pattern, or those of no block's."""
    blocks = [other for plan in SECTIONS for other in plan.blocks if other.stage == block.stage]
    claimed = [getattr(other, kind) for other in blocks if getattr(other, kind)]
    if block.is_rest:
        return [
            item
            for item in items
            if not any(re.search(pattern, text_of(item)) for pattern in claimed)
        ]
    pattern = getattr(block, kind)
    return [item for item in items if pattern and re.search(pattern, text_of(item))]


def _words(name):
    return Path(name).stem.replace('_', ' ')


def _facts(study):
    """How the run was made, as pairs of name and text."""
    settings, machine = study['settings'], study['machine']
    data, versions = settings['data'], settings['versions']
    return [
        ('command', f'astroflux study run --preset {settings["preset"]} -o DIR'),
        ('size', _size_text(settings)),
        ('data set', _listed(data)),
        ('seeds', _listed(settings['seeds'])),
        ('versions', _listed({'Python': machine['python'], **versions})),
        ('machine', f'{machine["processor"]}, {machine["system"]}, {machine["cores"]} cores'),
        ('processes', str(machine['workers'])),
    ]


def _listed(values):
    return SEPARATOR.join(f'{name} {value}' for name, value in values.items())


def _times(stages):
    """Table of the time that each stage took."""
    rows = [
        Row(
            [
                Cell(text)
                for text in (name, _time_text(found), str(found['attempts']), found['version'])
            ]
        )
        for name, found in stages.items()
    ]
    total = {
        'seconds': sum(found['seconds'] for found in stages.values()),
        'killed': sum(found['killed'] for found in stages.values()),
    }
    rows.append(Row([Cell('all'), Cell(_time_text(total)), Cell(''), Cell('')], starts_group=True))
    columns = [Column('stage', False), Column('time'), Column('attempts'), Column('version', False)]
    return PageTable('Time that each stage took, and the version that ran it', columns, rows)


def _time_text(found):
    # of an attempt that was killed no time is known
    least = 'at least ' if found['killed'] else ''
    return least + duration_text(found['seconds'])
