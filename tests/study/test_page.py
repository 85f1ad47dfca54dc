# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of the page of a run of the study, and of its tables."""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from astroflux.study.page import comparison_table, read_table, times_table, write_page
from astroflux.study.results import read_study
from astroflux.study.run import STAGE_NAMES

DOCS = Path(__file__).parents[2] / 'docs'

# Signs that are wider than a hyphen, which stands for them here.
HYPHENS = str.maketrans({'\N{MINUS SIGN}': '-', '\N{EN DASH}': '-'})

VOID = {'meta', 'img'}


class Page(HTMLParser):
    """What a page holds: the attributes and the texts of its elements."""

    def __init__(self, html):
        super().__init__()
        self.open, self.attributes, self.texts = [], {}, {}
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.attributes.setdefault(tag, []).append(dict(attrs))
        self.open += [tag] * (tag not in VOID)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.setdefault(self.open[-1] if self.open else '', []).append(data)


@pytest.fixture
def run(tmp_path):
    """Folder of the full run, which a test may change."""
    return shutil.copytree(DOCS / 'study', tmp_path / 'run')


def change(run, edit):
    study = read_study(run)
    edit(study)
    (run / 'study.json').write_text(json.dumps(study))


def test_all_is_shown_in_the_order_of_the_report(run):
    page = Page(write_page(run).read_text(encoding='utf-8'))
    stages = read_study(run)['stages'].items()
    figures = [f'{stage}/{name}' for stage, found in stages for name in found['figures']]
    images, links = page.attributes['img'], [link['href'] for link in page.attributes['a']]
    assert sorted(image['src'] for image in images) == sorted(figures)
    assert all(len(image['alt']) > 30 for image in images)
    anchors = [heading['id'] for heading in page.attributes['h2']]
    files = [link for link in links if not link.startswith('#')]
    assert links == [f'#{anchor}' for anchor in anchors if anchor != 'contents'] + files
    numbers = [heading.split()[0] for heading in page.texts['h2'] if heading[0].isdigit()]
    assert ' '.join(numbers) == '3.1 3.2 3.3 3.4 3.5 3.6 4 5.2 5.2.1 5.2.2 5.2.3 6'
    for _, found in stages:
        assert {row['what'] for row in found['rows']} <= {*page.texts['th']}
    n_tables = sum(len(found['tables']) for _, found in stages)
    assert files == ['exploration/correlations.csv', 'accuracy/accuracy_fits.csv']
    # beside what stages wrote: comparisons, two of exploration, the summary and the times
    assert len(page.attributes['table']) == n_tables - len(files) + len(STAGE_NAMES) + 3
    published = {'0.17889', '-0.001504', '34 %', '0.1844', '0.0388', '4.026822', '30,000'}
    assert published <= {text.translate(HYPHENS) for text in page.texts['td']}


def test_page_needs_no_other_place(run):
    html = write_page(run).read_text(encoding='utf-8')
    for name, value in re.findall(r'\b(src|href|srcset|action)="([^"]*)"', html):
        assert value.startswith('#') or (run / value).is_file(), name
    assert not re.search(r'<script|url\(|@import|<link|<iframe', html)


def test_run_of_today(smoke_run):
    html = (smoke_run / 'index.html').read_text(encoding='utf-8')
    study = read_study(smoke_run)
    assert 'This run is smaller than the study' in html
    assert 'is not done in this run' not in html
    assert '60 training images and 40 test images' in html
    full = read_study(DOCS / 'study')['stages']
    for stage, found in study['stages'].items():
        assert html.count(f'src="{stage}/') == len(found['figures'])
        # what the page of the documentation asks for will be there when it is made again
        assert set(full[stage]) <= set(found), stage
        for kind in ('tables', 'figures'):
            assert set(full[stage][kind]) == set(found[kind]), stage


def test_whole_run_has_no_warning(run):
    assert 'class="warning"' not in write_page(run).read_text()


def test_missing_stages_are_named(run):
    change(run, lambda study: study.update(stages={'data': study['stages']['data']}))
    html = write_page(run).read_text()
    for name in STAGE_NAMES:
        warning = f'The stage <code>{name}</code> is not done in this run.'
        assert (warning in html) == (name != 'data')


def test_missing_file_is_named(run):
    (run / 'linear' / 'linear.png').unlink()
    with pytest.raises(FileNotFoundError, match=r'lacks the file linear/linear\.png'):
        write_page(run)


def test_folder_without_run(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r'holds no run of the study: it has no study\.json'
    ):
        write_page(tmp_path)


def test_text_is_escaped(run):
    row = {'what': 'a < b & <script>', 'published': None, 'ours': 1.0}
    change(run, lambda study: study['stages']['linear']['rows'].append(row))
    assert 'a &lt; b &amp; &lt;script&gt;' in write_page(run).read_text()


def texts_of(table):
    return [[cell.text.translate(HYPHENS) for cell in row.cells] for row in table.rows]


@pytest.mark.parametrize(
    ('what', 'published', 'ours', 'texts'),
    [
        ('MSE', 0.17889, 0.1798765, ('0.17889', '0.17988')),
        ('MSE', 0.0388, 0.000123456, ('0.0388', '0.000123')),
        ('MSE', 0.0388, 1.23456e-7, ('0.0388', '1.23e-07')),
        ('MSE', None, 0.0123456, ('-', '0.01235')),
        ('R2', -0.000351, -0.00221, ('-0.000351', '-0.00221')),
        ('R2', -0.000351, 0.0, ('-0.000351', '0')),
        ('accuracy, forest', 0.34, 0.33875, ('34 %', '33.9 %')),
        ('accuracy, forest', 0.34, 1.0, ('34 %', '100 %')),
        ('accuracy, forest', 0.34, None, ('34 %', '-')),
        ('galaxies', 30000, 200.0, ('30,000', '200')),
        ('range', '0 to 5', None, ('0 to 5', '-')),
        ('class', 'left-skewed', 'low', ('left-skewed', 'low')),
    ],
)
def test_pairs_of_published_and_found(what, published, ours, texts):
    rows = [
        {'what': what, 'published': published, 'ours': ours},
        {'what': 'other', 'published': None, 'ours': None},
    ]
    assert texts_of(comparison_table({'rows': rows}, what)) == [[what, *texts]]


@pytest.mark.parametrize(
    ('name', 'content', 'titles', 'texts'),
    [
        (
            'a.csv',
            (
                'method,n,scatter,scatter_err,mse,met,high\n'
                'a,10,0.005,0.00012,2.5e-5,True,inf\na,20,,,,False,3.0\nb,-3,0.25,,1,True,-inf\n'
            ),
            ['method', 'images', 'scatter [%]', 'MSE [dex²]', 'met', 'to'],
            [
                ['a', '10', '0.500 ± 0.012', '2.5e-05', 'yes', '∞'],
                ['a', '20', '-', '-', 'no', '3'],
                ['b', '-3', '25', '1', 'yes', '-∞'],
            ],
        ),
        (
            'components_factors.csv',
            'actual,F1\na,-0.001\nb,0.126\n',
            ['actual', 'F1'],
            [['a', '0.00'], ['b', '0.13']],
        ),
        ('losses.csv', 'actual,bias\n0.5,1\n', ['actual log10 flux'], [['0.5']]),
        ('data/rows.csv', 'R_e,unit\n1.0500,\n', ['R_e', 'unit'], [['1.0500', '']]),
    ],
)
def test_read_table(tmp_path, name, content, titles, texts):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
    table = read_table(path, 'words')
    assert table.caption == 'words'
    assert [column.title for column in table.columns] == titles
    assert texts_of(table) == texts
    if name == 'a.csv':
        # numbers stand below each other; a line where the next method begins
        assert [column.is_number for column in table.columns] == [False, *[True] * 3, False, True]
        assert [row.starts_group for row in table.rows] == [False, False, True]


def test_killed_attempt_makes_times_lower_limits():
    done = {'seconds': 0.26, 'attempts': 1, 'killed': 0, 'version': '1.0'}
    killed = {'seconds': 150.0, 'attempts': 2, 'killed': 1, 'version': '1.1'}
    assert texts_of(times_table({'data': done, 'cnn': killed})) == [
        ['data', '0.26 s', '1', '1.0'],
        ['cnn', 'at least 2.5 min', '2', '1.1'],
        ['all', 'at least 2.5 min', '', ''],
    ]
