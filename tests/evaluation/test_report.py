# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The summary of a comparison, and the page about it as a parser sees it."""

import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from astropy import units as u
from astropy.table import QTable, Table

from astroflux.evaluation import (
    PARAMETERS,
    SNR_BINS,
    scatter_at_bound,
    summarize_by,
    write_report,
)
from astroflux.evaluation._numbers import error_text, number_text
from astroflux.evaluation.summary import (
    MEDIAN,
    compare_pairs,
    fluxes_by_method,
    median_fluxes,
    summarize_bound,
    summarize_comparison,
    summarize_speed,
)

NASTY = "<b>&\" 'x' $\\frac$ </script>"

# Elements without an end.
VOID = {'meta', 'img', 'br', 'hr', 'link', 'input'}


class Page(HTMLParser):
    """What the tests want to know of a page."""

    def __init__(self, html):
        super().__init__()
        self.open, self.images, self.headings, self.links, self.ids = [], [], [], [], []
        self.heads, self.tables, self.text, self.lang = [], [], [], None
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        if 'id' in attrs:
            self.ids.append(attrs['id'])
        if tag == 'html':
            self.lang = attrs.get('lang')
        elif tag == 'img':
            self.images.append(attrs)
        elif tag == 'a':
            self.links.append(attrs['href'])
        elif tag in ('h1', 'h2', 'h3', 'h4'):
            self.headings.append(int(tag[1]))
        elif tag == 'th':
            self.heads.append(attrs.get('scope'))
        if tag == 'table':
            self.tables.append({'caption': '', 'rows': []})
        elif tag == 'tr':
            self.tables[-1]['rows'].append([])
        elif tag in ('td', 'th'):
            self.tables[-1]['rows'][-1].append(('', attrs.get('data-sort')))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ('script', 'style'):
            return
        self.text.append(data)
        if 'caption' in self.open:
            self.tables[-1]['caption'] += data
        elif self.open and self.open[-1] in ('td', 'th'):
            text, value = self.tables[-1]['rows'][-1][-1]
            self.tables[-1]['rows'][-1][-1] = (text + data, value)


def check_page(path):
    """Check what holds for each page, and return it."""
    html = path.read_text(encoding='utf-8')
    assert html.startswith('<!DOCTYPE html>')
    page = Page(html)
    assert page.lang
    assert page.headings[0] == 1
    assert page.headings.count(1) == 1
    assert all(b - a <= 1 for a, b in zip(page.headings, page.headings[1:], strict=False))
    for image in page.images:
        assert len(image['alt']) > 10
        assert image['src'].startswith('data:image/png;base64,')
    assert set(page.heads) == {'col', 'row'}
    assert all(table['caption'] for table in page.tables)
    assert all(link.removeprefix('#') in page.ids for link in page.links)
    assert len(set(page.ids)) == len(page.ids)
    words = ' '.join(page.text + [image['alt'] for image in page.images])
    assert not re.search(r'\b(nan|inf)\b', words, re.IGNORECASE)
    for table in page.tables:
        assert len({len(row) for row in table['rows']}) == 1
        for row in table['rows']:
            assert all(value is None or math.isfinite(float(value)) for _, value in row)
    return page


@pytest.fixture(scope='module')
def path(comparison, tmp_path_factory):
    return write_report(comparison, tmp_path_factory.mktemp('report') / 'new' / 'folder')


@pytest.fixture(scope='module')
def truthless_path(truthless, tmp_path_factory):
    return write_report(truthless, tmp_path_factory.mktemp('truthless'))


# the summary


def test_summary_is_that_of_the_metrics(comparison):
    summary = summarize_comparison(comparison)
    assert summary.colnames[:4] == ['method', 'low', 'high', 'n']
    assert len(summary) == len(comparison.labels) * (len(SNR_BINS) - 1)
    rows = comparison.of_method('kron')
    want = summarize_by(
        comparison.truth['snr'], SNR_BINS, rows, bound=np.asarray(comparison.truth['bound'])
    )
    got = summary[summary['method'] == 'kron']
    for name in want.colnames:
        np.testing.assert_array_equal(got[name], want[name])


def test_slow_method_is_joined_by_its_cutouts(comparison):
    summary = summarize_comparison(comparison, n_bootstrap=5)
    slow = summary[summary['method'] == 'aperture']
    counts, _ = np.histogram(comparison.truth['snr'][:120], SNR_BINS)
    np.testing.assert_array_equal(slow['n'], counts)
    # the order of the rows does not matter
    shuffled = np.random.default_rng(0).permutation(len(comparison.measurements))
    other = summarize_comparison(
        replace(comparison, measurements=comparison.measurements[shuffled]), n_bootstrap=5
    )
    np.testing.assert_allclose(other['scatter'], summary['scatter'])
    np.testing.assert_allclose(other['scatter_over_bound'], summary['scatter_over_bound'])


def test_coverage_without_intervals_is_not_known(comparison):
    summary = summarize_comparison(comparison, n_bootstrap=5)
    slow = summary[summary['method'] == 'aperture']
    for name in ('coverage_68', 'coverage_95', 'pull_scatter'):
        assert np.all(np.isnan(slow[name]))
        assert np.all(np.isfinite(summary[summary['method'] == 'cnn'][name]))


def test_all_galaxies_in_one_bin(comparison):
    summary = summarize_comparison(comparison, by=None, n_bootstrap=5)
    assert summary['n'].tolist() == [300, 300, 300, 120]


def test_faint_galaxies_are_left_out(comparison):
    summary = summarize_comparison(comparison, snr_min=20, n_bootstrap=5)
    cnn = summary[summary['method'] == 'cnn']
    assert cnn['n'][0] == 0
    assert np.all(cnn['n'][1:] > 0)


def test_summary_by_what_is_not_known(comparison, truthless):
    with pytest.raises(ValueError, match=r"no parameter 'colour'; it has: snr, magnitude"):
        summarize_comparison(comparison, by='colour')
    truth = comparison.truth['flux', 'magnitude']
    with pytest.raises(ValueError, match=r"no parameter 'snr'; it has: magnitude"):
        summarize_comparison(replace(comparison, truth=truth), by='magnitude', snr_min=20)
    with pytest.raises(ValueError, match='no truth; compare_pairs'):
        summarize_comparison(truthless)


def test_bound_is_that_of_the_bin(comparison):
    bounds = summarize_bound(comparison)
    truth = comparison.truth
    inside = (truth['snr'] >= 100) & (truth['snr'] < 500) & np.isfinite(truth['bound'])
    assert bounds['n'][2] == inside.sum()
    assert bounds['scatter'][2] == scatter_at_bound(truth['bound'][inside])
    truth = truth.copy()
    del truth['bound']
    assert np.all(np.isnan(summarize_bound(replace(comparison, truth=truth))['scatter']))


def small_comparison(comparison, fluxes):
    """Replace the fluxes by a few, one row of them for each method."""
    rows = []
    for method, row in fluxes.items():
        for cutout, flux in enumerate(row):
            rows.append((method, cutout, str(cutout), flux, 1.0, 0.0, 2.0, 1.0, 0))
    names = comparison.measurements.colnames[:9]
    units = dict.fromkeys(('flux', 'flux_err', 'flux_lower', 'flux_upper'), u.nJy)
    return replace(
        comparison,
        labels={method: method for method in fluxes},
        measurements=QTable(rows=rows, names=names, units=units),
        truth=None,
        extremes={},
    )


def test_fluxes_side_by_side(comparison):
    small = small_comparison(comparison, {'a': [1.0, -2.0, np.nan, 4.0], 'b': [3.0, 2.0]})
    fluxes = fluxes_by_method(small)
    assert fluxes.unit == u.nJy
    np.testing.assert_array_equal(fluxes.value, [[1, np.nan, np.nan, 4], [3, 2, np.nan, np.nan]])
    # one flux is not compared with itself
    np.testing.assert_array_equal(median_fluxes(fluxes).value, [2, np.nan, np.nan, np.nan])


def test_pairs(comparison):
    small = small_comparison(
        comparison, {'a': [1.0, 1.0, 1.0], 'b': [2.0, 2.0, np.nan], 'c': [4.0, 4.1, 4.0]}
    )
    pairs = compare_pairs(small, n_bootstrap=5)
    assert list(pairs['method']) == ['a', 'b', 'c', 'b', 'c', 'c']
    assert list(pairs['reference']) == [MEDIAN] * 3 + ['a', 'a', 'b']
    assert list(pairs['n']) == [3, 2, 3, 2, 3, 2]
    assert pairs['median'][1] == 0
    assert pairs['median'][3] == pytest.approx(math.log(2))
    assert pairs['median'][4] == pytest.approx(math.log(4))
    assert list(pairs['differing']) == [1, 0, 1, 1, 1, 1]


def test_speed(comparison):
    speed = summarize_speed(comparison)
    np.testing.assert_allclose(speed['relative_time'], [1, 7, 49, 343])
    assert speed['rate'][0] == 300 / (0.09 * u.s)
    none = comparison.speed.copy()
    none['cpu_time'] = [0, np.nan, 1, 2] * u.s
    speed = summarize_speed(replace(comparison, speed=none))
    np.testing.assert_array_equal(np.isfinite(speed['rate']), [False, False, True, True])


# the page


@pytest.mark.parametrize(
    ('value', 'text'),
    [
        (999.7, '1000'),
        (999.4, '999'),
        (12345, '12345'),
        (0.12345, '0.123'),
        (-2, '\N{MINUS SIGN}2'),
    ],
)
def test_numbers_are_short(value, text):
    assert number_text(value) == text


def test_numbers_have_the_digits_of_their_errors():
    assert error_text(12.345, 0.678) == '12.35 ± 0.68'
    assert error_text(194.2, 182) == '194 ± 182'
    assert error_text(1.5, np.nan) == '1.5'
    assert error_text(np.nan, 1) == '\N{EN DASH}'


def test_only_images_of_reports_are_removed(comparison, truthless, tmp_path):
    own = tmp_path / 'figures' / 'own.png'
    own.parent.mkdir()
    for name in ('own.png', 'speed.png'):
        (own.parent / name).write_text('mine')
    write_report(comparison, tmp_path)
    assert (tmp_path / 'truth.ecsv').exists()
    write_report(truthless, tmp_path, overwrite=True)
    assert own.read_text() == 'mine'
    assert not (own.parent / 'by_snr.png').exists()
    for name in ('truth.ecsv', 'summary_by_parameter.ecsv'):
        assert not (tmp_path / name).exists()


def test_files_are_written(path, comparison):
    folder = path.parent
    assert path.name == 'report.html'
    measurements = QTable.read(folder / 'measurements.ecsv')
    assert len(measurements) == len(comparison.measurements)
    assert measurements['flux'].unit == u.nJy
    summary = Table.read(folder / 'summary.ecsv')
    np.testing.assert_array_equal(summary['bias'], summarize_comparison(comparison)['bias'])
    by_parameter = Table.read(folder / 'summary_by_parameter.ecsv')
    # light of neighbors is told of scenes alone
    assert set(by_parameter['parameter']) == set(PARAMETERS) - {'snr', 'neighbour_light'}
    names = {figure.name for figure in (folder / 'figures').iterdir()}
    assert {'by_snr.png', 'by_magnitude.png', 'calibration.png', 'speed.png'} < names
    assert len([name for name in names if name.startswith('worst')]) == 16
    for figure in (folder / 'figures').iterdir():
        assert figure.read_bytes().startswith(b'\x89PNG')


def test_report_is_not_overwritten(path, comparison):
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match=r'report\.html exists and overwrite is not set'):
        write_report(comparison, path.parent)
    assert path.read_bytes() == before


def test_report_is_overwritten_if_asked(truthless, tmp_path):
    (tmp_path / 'report.html').write_text('old')
    (tmp_path / 'measurements.ecsv').write_text('old')
    path = write_report(truthless, tmp_path, overwrite=True)
    check_page(path)
    assert len(QTable.read(tmp_path / 'measurements.ecsv')) == len(truthless.measurements)


def test_page_with_truth(path, comparison):
    page = check_page(path)
    # S/N, seven other parameters, calibration, speed, and four cases of four methods
    assert len(page.images) == 10 + 16
    text = ' '.join(page.text)
    assert 'Comparison of 4 methods on Made-up galaxies' in text
    assert comparison.meta['call'] in text
    assert 'versions: photutils' in text
    assert 'Too few errors to show, or none: Aperture 3 FWHM.' in text
    assert 'S/N above 20' in text
    assert 'agreement is not accuracy' not in text
    assert 'NOT_DETECTED' in text
    snr = comparison.truth['snr']
    outside = np.sum((snr < 5) | (snr > 3000))
    assert f'The S/N of {outside} cutouts is in no bin' in text
    assert 'truth.ecsv' in text


def test_summary_table_has_the_numbers(path, comparison):
    (table,) = [t for t in check_page(path).tables if t['caption'].startswith('Errors of')]
    heads, *rows = table['rows']
    heads = [text.strip() for text, _ in heads]
    summary = summarize_comparison(comparison)
    assert len(rows) == len(summary)
    for row in rows:
        cells = dict(zip(heads, row, strict=True))
        label, low = cells['method'][0], float(cells['true S/N'][1])
        (method,) = [key for key, value in comparison.labels.items() if value == label]
        (want,) = summary[(summary['method'] == method) & (summary['low'] == low)]
        assert int(cells['cutouts'][1]) == want['n']
        for head, name, scale in (
            ('bias [%]', 'bias', 100),
            ('scatter / smallest possible', 'scatter_over_bound', 1),
            ('coverage of 68 % [%]', 'coverage_68', 100),
        ):
            text, value = cells[head]
            if np.isfinite(want[name]):
                assert float(value) == pytest.approx(scale * want[name])
                shown, _, error = text.replace('\N{MINUS SIGN}', '-').partition(' ± ')
                assert float(shown) == pytest.approx(
                    scale * want[name], abs=float(error or 0) / 10 + 1e-9
                )
            else:
                assert text == '\N{EN DASH}'
                assert value is None


def test_page_without_truth(truthless_path, truthless):
    page = check_page(truthless_path)
    text = ' '.join(page.text)
    assert 'agreement is not accuracy' in text
    assert 'bootstrap' in text
    assert len(page.images) == 2 + 16
    captions = [table['caption'] for table in page.tables]
    assert 'Each method against the median of all methods, the reference.' in captions
    pairs = Table.read(truthless_path.parent / 'summary.ecsv')
    np.testing.assert_array_equal(pairs['median'], compare_pairs(truthless)['median'])
    assert not (truthless_path.parent / 'summary_by_parameter.ecsv').exists()


def test_names_are_escaped(make, tmp_path):
    labels = {'a' + NASTY: NASTY, 'b/..': 'x' * 200, '../': '_under'}
    comparison = make(labels, n=30, n_worst=1, title=NASTY)
    comparison.meta = {NASTY: NASTY, 'nested': {'list': [1, NASTY], 'gap': math.nan}}
    for case in comparison.extremes['a' + NASTY]:
        case.name = NASTY
    path = write_report(comparison, tmp_path / 'report')
    page = check_page(path)
    html = path.read_text(encoding='utf-8')
    assert '<b>' not in html
    assert html.count('</script>') == 1
    assert page.text.count(NASTY) > 5
    assert any(NASTY in image['alt'] for image in page.images)
    # no name leads out of the folder
    assert {file.name for file in tmp_path.iterdir()} == {'report'}
    assert len(list((tmp_path / 'report' / 'figures').iterdir())) == len(page.images)


def test_one_method_one_cutout(make, tmp_path, comparison):
    one = make({'cnn': 'CNN'}, n=1, n_worst=1)
    page = check_page(write_report(one, tmp_path / 'truth'))
    assert 'on 1 cutout, with' in ' '.join(page.text)
    one.truth = None
    one.meta = {}
    page = check_page(write_report(one, tmp_path / 'none'))
    assert 'nothing to compare it with' in ' '.join(page.text)


def test_few_cutouts_are_told_one_by_one(make, tmp_path):
    labels = {'cnn': 'CNN', 'kron': 'Kron'}
    few = make(labels, n=4, n_of={'kron': 3}, n_worst=1)
    few.meta['no_bound'] = 'GalSim is not installed'
    few.truth['snr'] = [10.0, 50, 50, 50]
    few.truth['bound'] = np.nan
    path = write_report(few, tmp_path / 'truth')
    page = check_page(path)
    text = ' '.join(page.text)
    # no figures but that of the speed and a case of each method
    assert len(page.images) == 3
    assert 'No bin of S/N has 5 measured galaxies' in text
    assert 'No method gave enough errors to show' in text
    assert 'not known for these galaxies: GalSim is not installed' in text
    (fluxes,) = [t for t in page.tables if t['caption'].startswith('Fluxes and')]
    heads, *rows = ([cell[0] for cell in row] for row in fluxes['rows'])
    assert heads[-2:] == ['CNN', 'Kron']
    assert len(rows) == 4
    assert float(fluxes['rows'][2][-2][1]) == few.of_method('cnn')['flux'][1].value
    # the slow method was not given the last one
    assert rows[3][-1] == '\N{EN DASH}'
    (summary,) = [t for t in page.tables if t['caption'].startswith('Errors of')]
    assert {row[1][0] for row in summary['rows'][1:]} == {
        '5\N{EN DASH}20',
        '20\N{EN DASH}100',
    }
    few.truth = None
    page = check_page(write_report(few, tmp_path / 'none'))
    assert 'too few for a figure' in ' '.join(page.text)
    assert not (tmp_path / 'none' / 'figures' / 'differences.png').exists()


def test_many_cutouts_are_not_told_one_by_one(path):
    assert not [t for t in check_page(path).tables if t['caption'].startswith('Fluxes and')]


def fail(comparison, method):
    """All measurements of a method fail."""
    comparison.measurements = comparison.measurements.copy()
    rows = comparison.measurements['method'] == method
    for name in ('flux', 'flux_err', 'flux_lower', 'flux_upper'):
        comparison.measurements[name][rows] = np.nan * u.nJy
    for name in ('snr', 'ln_error', 'pull'):
        comparison.measurements[name][rows] = np.nan
    for name in ('covered_68', 'covered_95'):
        comparison.measurements[name][rows] = False
    for case in comparison.extremes[method]:
        case.flux = case.flux_err = np.nan * u.nJy
        case.ln_ratio = np.nan


@pytest.mark.parametrize('has_truth', [True, False])
def test_failures_and_gaps(make, tmp_path, has_truth):
    comparison = make({'cnn': 'CNN', 'kron': 'Kron', 'never': 'Never'}, n=40, n_worst=2)
    fail(comparison, 'kron')
    comparison.measurements = comparison.measurements[comparison.measurements['method'] != 'never']
    comparison.extremes = {'kron': comparison.extremes['kron']}
    comparison.truth['bound'] = np.nan
    # no galaxy in the bin from 20 to 100
    snr = np.asarray(comparison.truth['snr'])
    comparison.truth['snr'] = np.where((snr >= 20) & (snr < 100), 10, snr)
    comparison.speed = comparison.speed[:0]
    if not has_truth:
        comparison.truth = None
    page = check_page(write_report(comparison, tmp_path))
    text = ' '.join(page.text)
    assert 'No time was taken' in text
    assert 'None.' in text
    if has_truth:
        assert 'is not known for these galaxies' in text


def test_nothing_measured(make, tmp_path):
    comparison = make({'cnn': 'CNN', 'kron': 'Kron'}, n=10, n_worst=1)
    for method in ('cnn', 'kron'):
        fail(comparison, method)
    page = check_page(write_report(comparison, tmp_path / 'truth'))
    assert 'No method gave enough errors to show' in ' '.join(page.text)
    comparison.truth = None
    check_page(write_report(comparison, tmp_path / 'none'))


def test_truth_without_parameters(make, tmp_path):
    comparison = make({'cnn': 'CNN', 'kron': 'Kron'}, n=50, n_worst=0)
    comparison.truth = comparison.truth['flux',]
    page = check_page(write_report(comparison, tmp_path))
    text = ' '.join(page.text)
    assert 'The true S/N of these galaxies is not known' in text
    assert 'too few galaxies with known parameters' in text
    (table,) = [t for t in page.tables if t['caption'].startswith('Errors of')]
    assert 'S/N' not in table['caption']
    assert [row[1][0] for row in table['rows'][1:]] == ['all', 'all']


def test_fluxes_without_unit(make, tmp_path):
    comparison = make({'cnn': 'CNN', 'kron': 'Kron'}, n=30, n_worst=2)
    table = comparison.measurements
    for name in ('flux', 'flux_err', 'flux_lower', 'flux_upper'):
        table[name] = table[name].value * u.dimensionless_unscaled
    comparison.truth['flux'] = comparison.truth['flux'].value * u.dimensionless_unscaled
    for cases in comparison.extremes.values():
        for case in cases:
            for name in ('flux', 'flux_err', 'reference'):
                setattr(case, name, getattr(case, name).value * u.dimensionless_unscaled)
    check_page(write_report(comparison, tmp_path / 'truth'))
    comparison.truth = None
    check_page(write_report(comparison, tmp_path / 'none'))


def test_case_has_its_numbers(make, tmp_path):
    comparison = make({'cnn': 'CNN'}, n=30, n_worst=1)
    (case,) = comparison.extremes['cnn']
    case.flux, case.flux_err, case.reference = 80 * u.nJy, 4 * u.nJy, 0.1 * u.uJy
    case.flags, case.name = ('NEIGHBOUR',), '/some/folder/a.fits'
    case.details = {'snr': 12.3, 'sersic_index': 2.5, 'axis_ratio': np.nan}
    page = check_page(write_report(comparison, tmp_path))
    text = ' '.join(' '.join(page.text).split())
    assert f'{case.cutout} (a.fits) measured 80.0 ± 4.0 nJy true 100 nJy ratio 80 %' in text
    assert 'true S/N 12.3 flags NEIGHBOUR galaxy Sersic index 2.5' in text
    assert page.images[-1]['alt'] == (
        f'Cutout {case.cutout} (a.fits), as CNN measured it. '
        f'{100 * case.mask.mean():.2g} % of the pixels are ignored. '
        'The flux is 80 % of the true one.'
    )


def test_meta_of_any_kind_is_shown(make, tmp_path):
    comparison = make({'cnn': 'CNN'}, n=5, n_worst=0)
    comparison.meta = {'flag': True, 'none': None, 'deep': {'a': {'b': (1.5, 'c')}}}
    text = json.dumps(check_page(write_report(comparison, tmp_path)).text)
    assert 'deep: a: b' in text
    assert '1.5, c' in text
