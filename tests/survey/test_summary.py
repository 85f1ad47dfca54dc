# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The page on a survey, and the stamps on it."""

import re
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import CCDData, StdDevUncertainty
from astropy.table import QTable

from astroflux.cutouts.writers import write_cutout
from astroflux.flags import MeasurementFlag as Flag
from astroflux.survey import worst_residuals, write_residuals, write_summary
from astroflux.survey._folder import SurveyFolder
from astroflux.survey._image_task import measure_image
from astroflux.survey._tally import tally_of
from astroflux.survey.plan import SurveyPlan

ODD = '<b>tile & "2"'


class Cells(HTMLParser):
    """The texts of a page's rows of tables, and its pictures."""

    def __init__(self):
        super().__init__()
        self.rows, self.pictures, self.tags = [], [], set()
        self._in_cell = False

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag == 'tr':
            self.rows.append([])
        if tag == 'img':
            self.pictures.append(dict(attrs))
        self._in_cell = tag in ('td', 'th')
        if self._in_cell:
            self.rows[-1].append('')

    def handle_data(self, data):
        if self._in_cell:
            self.rows[-1][-1] += data

    def handle_endtag(self, tag):
        self._in_cell = False


def read_page(path):
    cells = Cells()
    cells.feed(path.read_text(encoding='utf-8'))
    return cells


def table_of(n, *, ra, flags=0):
    flux = np.geomspace(10, 1e4, n)
    return QTable(
        {
            'id': np.arange(n),
            'flux': flux * u.nJy,
            'snr': flux / 5,
            'flags': np.full(n, flags, np.int32),
            'mag': (31.4 - 2.5 * np.log10(flux)) * u.mag,
            'ra': np.linspace(-0.05, 0.05, n) % 360 * u.deg + ra * u.deg,
            'dec': np.linspace(10, 10.2, n) * u.deg,
        },
        meta={'versions': {'astroflux': '9.9'}},
    )


@pytest.fixture
def survey(tmp_path):
    """A survey of three images, one of which failed, with what is left to do."""
    folder = SurveyFolder(tmp_path / 'my <survey>')
    folder.path.mkdir()
    folder.begin({'method': 'CNNFluxEstimator', 'unit': 'nJy'})
    failed = table_of(2, ra=0, flags=Flag.NOT_DETECTED)
    for name in ('flux', 'snr', 'mag'):
        failed[name] *= np.nan
    tables = {
        'tile-1': [table_of(5, ra=0), table_of(3, ra=0, flags=Flag.LOW_SNR | Flag.BLENDED)],
        ODD: [failed],
    }
    records = []
    for name, (first, *others) in tables.items():
        for other in others:
            for row in other:
                first.add_row(row)
        record = {'image': name, 'path': f'/sky/{name}.fits', 'n_sources': len(first)}
        n_measured = int(np.isfinite(first['flux']).sum())
        record |= {'digest': '0', 'n_measured': n_measured, 'seconds': 2.0, 'peak_memory_mb': 500}
        folder.write_table(first, record)
        records.append(record)
    folder.write_images(records)
    folder.write_failures(
        [{'image': 'tile-3', 'path': '/x', 'n_sources': 4, 'reason': '<script>no file</script>'}]
    )
    run = {'begun': '2026-01-02T03:04:05+00:00', 'seconds': 4.0, 'workers': 2, 'n_images': 2}
    status = {'is_complete': False, 'n_sources': 20, 'n_rows': 10, 'n_off': 1}
    status |= {'n_of_failed_images': 4, 'n_measured': 8, 'n_images': 3, 'n_failed_images': 1}
    folder.write_status(status | {'runs': [run | {'n_rows': 10}]})
    return folder


@pytest.fixture
def field():
    """What a field measurement knows, with a residual at the second and the third source."""
    rng = np.random.default_rng(2)
    shape = (100, 130)
    residual = rng.normal(size=shape).astype(np.float32)
    weight = np.full(shape, 0.25, np.float32)
    residual *= 2
    residual[38:43, 78:83] += 30
    residual[18:23, 2:7] += 10
    weight[60:] = 0
    residual[60:] = 0
    table = QTable(
        {
            'id': ['a', 'b', 'c', 'd', 'e'],
            'x': [30, 80, 4, 88, 60] * u.pix,
            'y': [30, 40, 20, 42, 90] * u.pix,
            'flux': [50.0, 90.0, 40.0, 1.0, np.nan] * u.nJy,
            'flux_err': [1.0, 1.0, 1.0, 1.0, np.nan] * u.nJy,
            'half_light_radius': [1.0, 2.0, 1.0, 1.0, np.nan] * u.arcsec,
            'flags': [0, 64, 0, 0, 32768],
        }
    )
    model = np.ones(shape, np.float32)
    fwhm = np.full(5, 4.0)
    field = SimpleNamespace(model=model, residual=residual, weight=weight, fwhm=fwhm)
    field.pixel_scale = 0.2
    return field, table


def test_worst_residuals(field):
    field, table = field
    stamps = worst_residuals(field, table, n=4)
    # 'd' shows the same pixels as 'b', 'e' has none
    assert stamps['id'].tolist() == ['b', 'c', 'a']
    # the larger of two FWHM and the half-light radius
    np.testing.assert_allclose(stamps['radius'].value, [10, 8, 8])
    y, x = np.ogrid[:100, :130]
    near = (x - 80) ** 2 + (y - 40) ** 2 <= 10**2
    np.testing.assert_allclose(stamps['chi2'][0], np.mean(field.residual[near] ** 2 / 4), rtol=1e-5)
    np.testing.assert_allclose(stamps['noise'], 2)
    assert stamps['image'].shape == (3, 81, 81)
    np.testing.assert_array_equal(stamps['residual'][0, :60, :60], field.residual[:60, 40:100])
    np.testing.assert_array_equal(stamps['image'], stamps['model'] + stamps['residual'])
    # masked pixels, and those beyond the image
    assert np.isnan(stamps['image'][0, 60:]).all()
    assert np.isnan(stamps['model'][1, :, :36]).all()
    assert worst_residuals(field, table, among=[0, 2])['id'].tolist() == ['c', 'a']
    assert len(worst_residuals(field, table, among=[4])) == 0


def test_page(survey, field, tmp_path):
    survey.write_stamps('tile-1', [worst_residuals(*field, 1), worst_residuals(*field, among=[0])])
    page = read_page(write_summary(survey.path))
    assert {'b', 'script'} & page.tags == {'script'}
    text = (survey.path / 'summary.html').read_text()
    assert text.count('<script>') == 1
    assert 'my &lt;survey&gt;' in text
    assert 'is not complete' in text
    counts = {row[0]: row[1:] for row in page.rows}
    assert counts['in the catalogue'] == ['20', '100']
    assert counts['with a flux'] == ['8', '40']
    assert counts['with a flux and without any flag'] == ['5', '25']
    assert counts['without a flux'] == ['2', '10']
    assert counts['on images that failed'] == ['4', '20']
    assert counts['on no image'] == ['1', '5']
    assert counts['not measured yet'] == ['5', '25']
    assert counts['LOW_SNR'][:2] == counts['BLENDED'][:2] == ['3', '30']
    assert counts['NOT_DETECTED'][:2] == ['2', '20']
    assert counts['tile-3'] == ['4', '<script>no file</script>']
    assert counts['2026-01-02 03:04:05'] == ['2', '2', '10', '4', '2.5']
    assert counts[ODD] == ['2', '0', '2', '1000', '500']
    alts = [picture['alt'] for picture in page.pictures]
    assert re.findall(r'about source (\w) of tile-1', ' '.join(alts)) == ['b', 'a']
    assert len(alts) == 6
    with pytest.raises(FileNotFoundError, match='holds no survey'):
        write_summary(tmp_path)


def test_tally(survey):
    tally = tally_of(survey.tables())
    assert (tally.n, tally.n_flagged, tally.unit, tally.is_mag) == (10, 5, 'nJy', True)
    edges, every, good = tally.brightness.bins
    assert (every.sum(), good.sum()) == (8, 5)
    assert edges[0] <= 21.4 < edges[1]
    assert edges[-2] <= 28.9 < edges[-1]
    edges, every, _ = tally.snr.bins
    np.testing.assert_allclose(edges[[0, -1]], np.log10([2, 2000]), atol=0.1)
    assert every[[0, -1]].tolist() == [2, 2]
    # on both sides of 0
    assert np.ptp(tally.sky.ra) < 0.11
    assert tally.sky.counts.sum() == 10
    area = np.ptp(tally.sky.ra) * np.cos(np.radians(10.1)) * np.ptp(tally.sky.dec) * 3600
    np.testing.assert_allclose(tally.sky.density.mean(), 10 / area, rtol=0.01)


def test_nothing_measured(survey):
    """A page on a survey that has only begun."""
    for path in survey.tables():
        path.unlink()
    survey.write_images([])
    page = read_page(write_summary(survey.path))
    assert page.pictures == []
    assert tally_of([]).sky is None


def test_stamps_of_an_image_in_blocks(tmp_path):
    rng = np.random.default_rng(8)
    data = rng.normal(size=(160, 320)).astype(np.float32)
    y, x = np.mgrid[:160, :320]
    # two of them with what no model has
    sources = QTable({'id': [7, 8, 9], 'x': [60.0, 200.0, 280.0], 'y': [80.0, 70.0, 90.0]})
    for x0, y0 in zip(sources['x'], sources['y'], strict=True):
        data += 80 * np.exp(-0.5 * ((x - x0) ** 2 + (y - y0) ** 2) / 4).astype(np.float32)
    data[85:89, 277:283] = -50
    data[60:80, 199:202] += 60
    image = CCDData(data, unit='adu', uncertainty=StdDevUncertainty(np.ones(data.shape)))
    write_cutout(image, tmp_path / 'tile.fits')
    plan = SurveyPlan(tmp_path / 'tile.fits', sources, psf_fwhm=4.7, passes=1, block_size=160)
    folder = SurveyFolder(tmp_path / 'out')
    folder.path.mkdir()
    folder.begin({})
    record = measure_image(plan.job(plan.look(), folder), plan.task(0, '0'))
    assert record['n_sources'] == 3
    stamps = QTable.read(folder.path / 'stamps' / 'tile.fits')
    # the positions are those in the whole image, and each source is there once
    assert sorted(stamps['id']) == [7, 8, 9]
    assert {*stamps['id'][:2]} == {8, 9}
    for stamp in stamps:
        at_x, at_y = (round(stamp[name].value) for name in 'xy')
        near = data[at_y - 5 : at_y + 6, at_x - 5 : at_x + 6]
        np.testing.assert_allclose(stamp['image'][35:46, 35:46], near, atol=1e-4)


def test_stamps_of_no_source(field, tmp_path):
    write_residuals([worst_residuals(*field, among=[4])], tmp_path / 'none.fits')
    assert len(QTable.read(tmp_path / 'none.fits')) == 0
