# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of the page of the study: its numbers, its files, its order."""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

import astroflux
from astroflux.study.page import build_page, write_page
from astroflux.study.page_captions import FIGURES, NOT_SHOWN, TABLES, TablePlan
from astroflux.study.page_layout import SECTIONS
from astroflux.study.page_text import comparison_table, duration_text, page_table, pair_texts
from astroflux.study.run_files import read_study
from astroflux.study.stages import STAGE_NAMES

# Signs that are wider than a hyphen, which stands for them here.
HYPHENS = str.maketrans({'\N{MINUS SIGN}': '-', '\N{EN DASH}': '-'})

VOID = {'meta', 'img', 'br', 'hr', 'link', 'input'}


class Page(HTMLParser):
    """What a page holds: images, anchors, links, headings and the text of its elements."""

    def __init__(self, html):
        super().__init__()
        self.open, self.images, self.ids, self.links = [], [], [], []
        self.texts = {}
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if 'id' in attrs:
            self.ids.append(attrs['id'])
        if tag == 'img':
            self.images.append(attrs)
        if tag == 'a':
            self.links.append(attrs['href'])
        if tag not in VOID:
            self.open.append(tag)
            self.texts.setdefault(tag, []).append('')

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open:
            self.texts[self.open[-1]][-1] += data


@pytest.fixture(scope='module')
def html(smoke_run):
    return (smoke_run / 'index.html').read_text(encoding='utf-8')


@pytest.fixture(scope='module')
def parsed(html):
    return Page(html)


@pytest.fixture(scope='module')
def study(smoke_run):
    return read_study(smoke_run)


@pytest.mark.parametrize(
    'number',
    [
        *('0.17889', '0.17867', '-0.001504', '-0.000351', '34 %'),
        *('0.1844', '0.1781', '0.0815', '0.0489', '0.0561', '0.0388'),
        # of the samples
        *('4.026822', '4.175019', '1.560576', '3.616690', '0.953055', '106470.fits'),
        *('30,000', '10,000'),
    ],
)
def test_published_numbers_are_there(parsed, number):
    cells = [*parsed.texts['td'], *parsed.texts['th']]
    assert number in [text.translate(HYPHENS) for text in cells]


def test_figures_are_there(smoke_run, parsed, study):
    sources = [image['src'] for image in parsed.images]
    wanted = [
        f'{name}/{figure}' for name, found in study['stages'].items() for figure in found['figures']
    ]
    assert sorted(sources) == sorted(wanted)
    for source in sources:
        assert (smoke_run / source).read_bytes().startswith(b'\x89PNG')
    for image in parsed.images:
        assert len(image['alt']) > 30


def test_all_is_shown_once(smoke_run, parsed, study):
    stages = study['stages'].values()
    remarks = sorted(remark for found in stages for remark in found['remarks'])
    assert sorted(parsed.texts['li'][-len(remarks) :]) == remarks
    parts = [part for section in build_page(smoke_run).sections for part in section.parts]
    shown = [row.cells[0].text for part in parts if part.comparison for row in part.comparison.rows]
    assert sorted(shown) == sorted(row['what'] for found in stages for row in found['rows'])
    captions = parsed.texts['caption']
    for found in stages:
        for name in found['tables']:
            if name not in NOT_SHOWN:
                assert captions.count(TABLES[name].caption) == 1


def test_all_files_have_captions(study):
    for found in study['stages'].values():
        assert set(found['figures']) <= set(FIGURES)
        assert set(found['tables']) <= {*TABLES, *NOT_SHOWN}


def test_every_plan_names_columns_that_exist(smoke_run, study):
    for stage, found in study['stages'].items():
        for name in set(found['tables']) - set(NOT_SHOWN):
            header = (smoke_run / stage / name).read_text().splitlines()[0].split(',')
            plan = TABLES[name]
            assert set(plan.columns) <= set(header), name
            if plan.percent:
                assert set(plan.percent) & set(header), name


def test_order_is_the_reports(parsed):
    headings = parsed.texts['h2']
    numbers = [heading.split()[0] for heading in headings if heading[0].isdigit()]
    assert ' '.join(numbers) == '3.1 3.2 3.3 3.4 3.5 3.6 4 5.2 5.2.1 5.2.2 5.2.3 6'
    assert headings[0] == 'Contents'
    assert headings[-4:] == [
        'What the abstract claims',
        'Future work',
        'Against today',
        'How it was made',
    ]


def test_links_lead_somewhere(parsed):
    assert len(parsed.links) == len(SECTIONS) + 2
    assert {link.removeprefix('#') for link in parsed.links} <= set(parsed.ids)
    assert len(set(parsed.ids)) == len(parsed.ids)


def test_page_needs_no_other_place(html):
    for name, value in re.findall(r'\b(src|href|srcset|action)="([^"]*)"', html):
        assert value.startswith('#') or (name == 'src' and value.endswith('.png'))
    assert not re.search(r'<script|url\(|@import|<link|<iframe', html)


def test_smaller_run_is_told_at_the_top(html):
    top = html[: html.index('<nav')]
    assert 'class="warning"' in top
    assert 'This run is smaller than the study' in top
    assert '60 training images and 40 test images, trainings of 1 epochs at the most' in top


def test_page_is_made_again(smoke_run, html, tmp_path):
    folder = shutil.copytree(smoke_run, tmp_path / 'copy')
    (folder / 'index.html').unlink()
    assert write_page(folder) == folder / 'index.html'
    assert (folder / 'index.html').read_text(encoding='utf-8') == html


def change(smoke_run, folder, edit):
    """Copy a run with changed numbers."""
    shutil.copytree(smoke_run, folder)
    study = json.loads((folder / 'study.json').read_text())
    edit(study)
    (folder / 'study.json').write_text(json.dumps(study))
    return folder


def test_full_run_has_no_warning(smoke_run, tmp_path):
    folder = change(
        smoke_run, tmp_path / 'run', lambda study: study['settings'].update(preset='full')
    )
    assert build_page(folder).warning == ''


def test_missing_stages_are_named(smoke_run, tmp_path):
    folder = change(smoke_run, tmp_path / 'run', lambda study: study['stages'].pop('joined'))
    html = write_page(folder).read_text()
    assert 'missing: joined.' in html
    assert 'The stage <code>joined</code> is not done in this run.' in html


def test_page_of_the_first_stage_alone(smoke_run, tmp_path):
    def edit(study):
        study['stages'] = {'data': study['stages']['data']}

    page = build_page(change(smoke_run, tmp_path / 'run', edit))
    assert page.summary.rows == []
    missing = {part.missing for section in page.sections for part in section.parts}
    assert missing == {'', *STAGE_NAMES} - {'data'}


def test_text_is_escaped(smoke_run, tmp_path):
    def edit(study):
        study['stages']['linear']['remarks'].append('a < b & <script>alert(1)</script>')

    html = write_page(change(smoke_run, tmp_path / 'run', edit)).read_text()
    assert 'a &lt; b &amp; &lt;script&gt;' in html
    assert '<script' not in html


def test_numbers_come_from_the_results(smoke_run, tmp_path):
    def edit(study):
        study['stages']['linear']['rows'][0]['ours'] = 0.7654321

    assert (
        '<td class="number">0.76543</td>'
        in write_page(change(smoke_run, tmp_path / 'run', edit)).read_text()
    )


def test_killed_attempt_makes_times_lower_limits(smoke_run, tmp_path):
    def edit(study):
        study['stages']['cnn'] |= {'killed': 1, 'attempts': 2, 'seconds': 90.0}

    times = build_page(change(smoke_run, tmp_path / 'run', edit)).times
    rows = {row.cells[0].text: [cell.text for cell in row.cells[1:]] for row in times.rows}
    assert rows['cnn'] == ['at least 90 s', '2', astroflux.__version__]
    assert rows['all'][0].startswith('at least')
    assert not rows['linear'][0].startswith('at least')


def test_missing_file_is_named(smoke_run, tmp_path):
    folder = shutil.copytree(smoke_run, tmp_path / 'copy')
    (folder / 'linear' / 'linear.png').unlink()
    with pytest.raises(FileNotFoundError, match=r'lacks the file linear/linear\.png'):
        write_page(folder)


def test_folder_without_run(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r'holds no run of the study: it has no study\.json'
    ):
        build_page(tmp_path)


@pytest.mark.parametrize(
    ('what', 'published', 'ours', 'texts'),
    [
        ('MSE', 0.17889, 0.1798765, ('0.17889', '0.17988')),
        ('MSE', 0.0388, 0.000123456, ('0.0388', '0.000123')),
        ('MSE', 0.0388, 1.23456e-7, ('0.0388', '1.23e-07')),
        ('MSE', None, 0.0123456, ('-', '0.01235')),
        ('R2', -0.000351, -0.00221, ('-0.000351', '-0.002210')),
        ('R2', -0.000351, 0.0, ('-0.000351', '0')),
        ('accuracy, forest', 0.34, 0.33875, ('34 %', '33.9 %')),
        ('accuracy, forest', 0.34, 0.3, ('34 %', '30 %')),
        ('galaxies', 30000.0, 200.0, ('30,000', '200')),
        ('galaxies', 30000, 200, ('30,000', '200')),
        ('range', '0 to 5', None, ('0 to 5', '-')),
        ('class', 'high', 'low', ('high', 'low')),
    ],
)
def test_pair_texts(what, published, ours, texts):
    table = comparison_table('', [{'what': what, 'published': published, 'ours': ours}])
    assert texts_of(table) == [[what, *texts]]


def test_pair_of_shares_is_in_percent():
    assert pair_texts('accuracy', 0.5, None) == ('50 %', '\N{EN DASH}')


def write(path, text):
    path.write_text(text)
    return path


def texts_of(table):
    return [[cell.text.translate(HYPHENS) for cell in row.cells] for row in table.rows]


def test_page_table(tmp_path):
    path = write(
        tmp_path / 'a.csv',
        'method,n,bias,bias_err,mse,mse_err,share,met,difference,high\n'
        'a,10,0.5,0.012,0.5,0.12,0.12345,True,0.1,inf\n'
        'a,20,,,,,0,False,,3.0\n'
        'b,-3,-7,0.4,2.5e-5,3e-6,1,True,-0.5,1\n',
    )
    plan = TablePlan('words', percent=('share',), titles={'share': 'share [%]'})
    table = page_table(path, plan)
    assert table.caption == 'words'
    titles = {column.title: column.is_number for column in table.columns}
    assert titles == {
        'method': False,
        'galaxies': True,
        'bias [%]': True,
        'MSE [dex²]': True,
        'share [%]': True,
        'met': False,
        'difference [dex]': True,
        'to': True,
    }
    assert texts_of(table) == [
        ['a', '10', '0.500 ± 0.012', '5.00e-01 ± 1.2e-01', '12.35', 'yes', '0.100000', '∞'],
        ['a', '20', '-', '-', '0.00', 'no', '-', '3'],
        ['b', '-3', '-7.00 ± 0.40', '2.50e-05 ± 3.0e-06', '100.00', 'yes', '-0.500000', '1'],
    ]
    # a line where the next method begins
    assert [row.starts_group for row in table.rows] == [False, False, True]


def test_large_errors_are_written_plainly(tmp_path):
    path = write(tmp_path / 'a.csv', 'mse,mse_err\n0.5,0.012\n0.25,\n')
    assert texts_of(page_table(path, TablePlan(''))) == [['0.500 ± 0.012'], ['0.25']]


def test_page_table_as_written(tmp_path):
    path = write(tmp_path / 'a.csv', 'R_e,text\n1.0500,none\n2,\n')
    table = page_table(path, TablePlan('', as_written=True))
    assert [column.title for column in table.columns] == ['R_e', 'text']
    assert texts_of(table) == [['1.0500', 'none'], ['2', '']]


def test_page_table_of_chosen_columns(tmp_path):
    path = write(tmp_path / 'a.csv', 'a,b,c\n0.12345,-0.001,x\n')
    table = page_table(path, TablePlan('', columns=('b', 'a'), decimals=2))
    assert texts_of(table) == [['0.00', '0.12']]


@pytest.mark.parametrize(
    ('seconds', 'text'), [(0.26, '0.3 s'), (42.4, '42 s'), (150, '2.5 min'), (7200, '120 min')]
)
def test_duration_text(seconds, text):
    assert duration_text(seconds) == text


@pytest.mark.parametrize('name', ['run', 'none'])
def test_page_of_the_documentation(smoke_run, study, tmp_path, name):
    pytest.importorskip('sphinx')
    shutil.copytree(smoke_run, tmp_path / 'run', ignore=shutil.ignore_patterns('dataset'))
    extensions = Path(__file__).parents[2] / 'docs' / '_ext'
    write(
        tmp_path / 'conf.py',
        f"import sys\nsys.path.append({str(extensions)!r})\nextensions = ['study_page']\n"
        'smartquotes = False\n',
    )
    write(tmp_path / 'index.rst', f'Study\n=====\n\n.. study-page:: {name}\n')
    command = [sys.executable, '-m', 'sphinx', '-q', '-W', '-b', 'html', tmp_path, tmp_path / 'out']
    subprocess.run(command, check=True, capture_output=True)
    page = Page((tmp_path / 'out' / 'index.html').read_text(encoding='utf-8'))
    if name == 'none':
        assert 'The full run of the study is not part of' in ' '.join(page.texts['p'])
        return
    images = [image['src'] for image in page.images if image['src'].startswith('_images')]
    assert len(images) == sum(len(found['figures']) for found in study['stages'].values())
    for number in ('0.17889', '0.17867', '34 %', '0.1844', '0.0489', '0.0388'):
        assert number in page.texts['p']
    for found in study['stages'].values():
        assert set(found['remarks']) <= set(page.texts['p'])


def load_tool():
    path = Path(__file__).parents[2] / 'tools' / 'ship_study_page.py'
    spec = importlib.util.spec_from_file_location('ship_study_page', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_ship(smoke_run, study, tmp_path):
    target = tmp_path / 'study'
    (target / 'old').mkdir(parents=True)
    tool = load_tool()
    with pytest.raises(ValueError, match='want a run of the preset full, got of its own'):
        tool.ship(smoke_run, target)
    assert (target / 'old').exists()
    size = tool.ship(smoke_run, target, preset='of its own')
    assert not (target / 'old').exists()
    files = [path for path in target.rglob('*') if path.is_file()]
    assert size == sum(path.stat().st_size for path in files)
    # what it holds is enough for the page
    assert build_page(target) == build_page(smoke_run)
    assert {path.suffix for path in files} == {'.json', '.csv', '.png'}
    for stage, found in study['stages'].items():
        for name in found['figures']:
            assert (target / stage / name).stat().st_size <= (
                smoke_run / stage / name
            ).stat().st_size


def test_ship_refuses_what_is_too_large(smoke_run, tmp_path, monkeypatch):
    tool = load_tool()
    monkeypatch.setattr(tool, 'LARGEST', 1000)
    with pytest.raises(ValueError, match='want at most 1,000'):
        tool.ship(smoke_run, tmp_path / 'study', preset='of its own')
    assert list(tmp_path.iterdir()) == []


def test_ship_wants_all_stages(smoke_run, tmp_path):
    folder = change(smoke_run, tmp_path / 'run', lambda study: study['stages'].pop('today'))
    with pytest.raises(ValueError, match='this one lacks today'):
        load_tool().ship(folder, tmp_path / 'study', preset='of its own')
