# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of the page of a run of the study, and of its tables."""

import json
import re
import shutil
from pathlib import Path
from xml.etree import ElementTree

import pytest

from astroflux.study.page import comparison_table, read_table, write_page
from astroflux.study.results import read_study
from astroflux.study.run import STAGE_NAMES

DOCS = Path(__file__).parents[2] / 'docs'

# Signs that are wider than a hyphen, which stands for them here.
HYPHENS = str.maketrans({'\N{MINUS SIGN}': '-', '\N{EN DASH}': '-'})


@pytest.fixture
def run(tmp_path):
    """Folder of the full run, which a test may change."""
    return shutil.copytree(DOCS / 'study', tmp_path / 'run')


def test_all_is_shown(run):
    html = write_page(run).read_text(encoding='utf-8')
    assert 'class="warning"' not in html
    assert not re.search(r'<script|url\(|@import|<link|<iframe', html)
    # as XML, so that an element that is not closed is an error
    html = re.sub(r'<(meta|img)([^>]*)>', r'<\1\2/>', html).removeprefix('<!DOCTYPE html>')
    page, stages = ElementTree.fromstring(html), read_study(run)['stages'].items()
    images = {image.get('src'): image.get('alt') for image in page.iter('img')}
    assert {*images} == {f'{k}/{name}' for k, found in stages for name in found['figures']}
    assert min(map(len, images.values())) > 30
    files = ['exploration/correlations.csv', 'accuracy/accuracy_fits.csv']
    assert [link.get('href') for link in page.iter('a')][-2:] == files
    rows = {row['what'] for _, found in stages for row in found['rows']}
    assert rows <= {cell.text for cell in page.iter('th')}
    n_tables = sum(len(found['tables']) for _, found in stages)
    # beside what stages wrote: comparisons, two of exploration, the summary and the times
    assert len([*page.iter('table')]) == n_tables - len(files) + len(STAGE_NAMES) + 3
    published = {'0.17889', '-0.001504', '34 %', '0.1844', '0.0388', '4.026822', '30,000'}
    assert published <= {(cell.text or '').translate(HYPHENS) for cell in page.iter('td')}


def test_run_of_today(smoke_run):
    html = (smoke_run / 'index.html').read_text(encoding='utf-8')
    assert 'This run is smaller than the study' in html
    full = read_study(DOCS / 'study')['stages']
    for stage, found in read_study(smoke_run)['stages'].items():
        assert html.count(f'src="{stage}/') == len(found['figures'])
        # what the page of the documentation asks for will be there when it is made again
        assert set(full[stage]) <= set(found), stage
        for kind in ('tables', 'figures'):
            assert set(full[stage][kind]) == set(found[kind]), stage


def test_missing_stages_are_named(run):
    study = read_study(run)
    study['stages'] = {'linear': study['stages']['linear']}
    (run / 'study.json').write_text(json.dumps(study))
    html = write_page(run).read_text()
    missing = {name for name in STAGE_NAMES if f'The stage <code>{name}</code> is not done' in html}
    assert missing == {*STAGE_NAMES} - {'linear'}


def texts_of(table):
    return [[cell.text.translate(HYPHENS) for cell in row.cells] for row in table.rows]


def test_pairs_of_published_and_found():
    rows = [
        ('MSE', 0.17889, 0.1798765, '0.17889', '0.17988'),
        ('MSE', None, 0.0123456, '-', '0.01235'),
        ('R2', -0.000351, -0.00221, '-0.000351', '-0.00221'),
        ('accuracy, forest', 0.34, 0.33875, '34 %', '33.9 %'),
        ('class', 'left-skewed', 'low', 'left-skewed', 'low'),
    ]
    found = [dict(zip(('what', 'published', 'ours'), row, strict=False)) for row in rows]
    table = comparison_table({'rows': found})
    assert texts_of(table) == [[what, *texts] for what, _, _, *texts in rows]
    assert len(comparison_table({'rows': found}, 'acc').rows) == 1


def test_read_table(tmp_path):
    path = tmp_path / 'a.csv'
    path.write_text(
        'method,n,scatter,scatter_err,mse,met,high\n'
        'a,10,0.005,0.00012,2.5e-5,True,inf\na,20,,,,False,3.0\nb,-3,0.25,,1,True,-1\n'
    )
    table = read_table(path, 'words')
    titles = ' '.join(column.title for column in table.columns)
    assert titles == 'method images scatter [%] MSE [dex²] met to'
    assert texts_of(table) == [
        ['a', '10', '0.500 ± 0.012', '2.5e-05', 'yes', '∞'],
        ['a', '20', '-', '-', 'no', '3'],
        ['b', '-3', '25', '1', 'yes', '-1'],
    ]
    # a line where the next method begins
    assert [row.starts_group for row in table.rows] == [False, False, True]
