# Licensed under a 3-clause BSD style license - see LICENSE.rst

import shutil
from dataclasses import replace

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.table import QTable
from click.testing import CliRunner

from astroflux.cli import main
from astroflux.cutouts import read_cutout
from astroflux.simulation import FieldSimulation, GalaxyPopulation, simulate_survey
from astroflux.simulation.field import FIELD_SKY, nearest_brighter

pytest.importorskip('galsim')

# Many sources; and few indices, as GalSim makes a table for each.
FIELD = FieldSimulation(
    shape=(200, 200),
    sky=replace(FIELD_SKY, density=(6, 6)),
    galaxies=GalaxyPopulation(sersic_index=(0.9, 1.1), two_component_fraction=0.0),
)
SURVEY = {'n_tiles': 2, 'simulation': FIELD, 'n_sources': 30, 'overlap': 60, 'progress': False}


def draw(seed=1, simulation=FIELD, without=None):
    """Return sources and image of a seed, of all sources but one."""
    rng = np.random.default_rng(seed)
    psf = simulation.draw_psf(rng)
    sources = simulation.draw_sky(simulation.shape, rng, fwhm=psf['psf_fwhm'])
    shown = sources if without is None else sources[sources['id'] != without]
    return sources, *simulation.draw_image(shown, rng, psf=psf)


def test_field_and_its_truth():
    sources, image, truth = draw()
    again, same = FIELD.draw(np.random.default_rng(1))
    np.testing.assert_array_equal(image.data, again.data)
    assert (truth['flux'] == same['flux']).all()
    assert image.psf.sum() == pytest.approx(1)
    assert image.wcs.wcs_world2pix(truth['ra'], truth['dec'], 0)[0] == pytest.approx(
        truth['x'].value
    )
    # all that are detected and inside, the brightest first
    x, y = sources['x'].value, sources['y'].value
    inside = (abs(x - 99.5) < 100) & (abs(y - 99.5) < 100)
    bright = sources['expected_snr'] >= 5
    assert truth['id'].tolist() == sources['id'][inside & bright].tolist()
    assert (np.diff(truth['flux']) <= 0).all()
    assert (inside & ~bright).sum() > len(truth) > 3
    assert 3.5 < truth['snr'].min() < 6
    magnitude = image.meta['zeropoint'] - 2.5 * np.log10(truth['flux'].value)
    np.testing.assert_allclose(truth['magnitude'].value, magnitude)


def test_field_is_as_crowded_as_hsc():
    sky = FieldSimulation().draw_sky((3000, 3000), np.random.default_rng(9))
    inside = (abs(sky['x'].value - 1499.5) < 1500) & (abs(sky['y'].value - 1499.5) < 1500)
    assert (inside & sky['is_detected']).sum() / 900 == pytest.approx(1.5625, rel=0.1)


def test_light_of_a_source_is_its_flux_and_its_snr():
    _, image, truth = draw(seed=3)
    # well inside, as what falls outside is in no image
    middle = (abs(truth['x'].value - 99.5) < 50) & (abs(truth['y'].value - 99.5) < 50)
    row = truth[middle & ~truth['is_star']][0]
    _, without, others = draw(seed=3, without=row['id'])
    assert len(others) == len(truth) - 1
    light = (image.data - without.data).astype(float)
    assert light.sum() == pytest.approx(row['flux'].value, rel=0.02)
    noise = image.uncertainty.array[0, 0]
    assert np.sqrt((light**2).sum()) / noise == pytest.approx(row['snr'], rel=1e-3)
    y, x = np.mgrid[:200, :200]
    assert (x * light).sum() / light.sum() == pytest.approx(row['x'].value, abs=0.05)
    assert (y * light).sum() / light.sum() == pytest.approx(row['y'].value, abs=0.05)


def test_noise_of_a_field():
    empty = replace(FIELD_SKY, density=(1e-6, 1e-6), variance_factor=(0.81, 0.81))
    image, truth = replace(FIELD, sky=empty).draw(np.random.default_rng(2))
    assert len(truth) == 0
    stated = image.uncertainty.array[0, 0]
    assert image.data.std() == pytest.approx(stated / 0.9, rel=0.02)
    low, high = FIELD.depth
    assert low <= stated / FIELD.survey.noise <= high
    # of sums over many pixels
    sums = image.data.reshape(20, 10, 20, 10).sum(axis=(1, 3))
    growth = sums.std() / (10 * image.data.std())
    assert growth == pytest.approx(image.meta['noise_growth'], rel=0.15)


def test_bright_stars_are_masked():
    sky = replace(FIELD_SKY, star_share=(2, 2), saturation=(2.5, 2.5))
    sources, image, truth = draw(seed=4, simulation=replace(FIELD, sky=sky))
    full = truth['is_star'] & (truth['flux'].value > sources.meta['limit'] * 10)
    assert truth['is_saturated'].tolist() == full.tolist()
    assert full.any()
    column, row = np.round([truth['x'][full].value, truth['y'][full].value]).astype(int)
    assert image.mask[row, column].all()
    assert image.mask.mean() < 0.3


def test_nearest_brighter():
    rng = np.random.default_rng(5)
    x, y, flux = rng.uniform(size=(3, 300))
    distance, ratio = nearest_brighter(x, y, flux)
    for number in range(300):
        away = np.hypot(x - x[number], y - y[number])
        away[flux <= flux[number]] = np.inf
        assert distance[number] == pytest.approx(away.min())
        if np.isfinite(away.min()):
            assert ratio[number] == flux[away.argmin()] / flux[number]
    assert np.isnan(ratio[flux.argmax()])
    assert [len(found) for found in nearest_brighter(x[:1], y[:1], flux[:1])] == [1, 1]


def test_what_a_field_cannot_be():
    with pytest.raises(ValueError, match=r'43 pixels or more on each side, got \(30, 200\)'):
        FieldSimulation(shape=(30, 200))
    with pytest.raises(ValueError, match=r'less than 0\.5, got 0\.6'):
        FieldSimulation(correlation=0.6)
    with pytest.raises(ValueError, match=r'range of positive numbers, got \(1, 0\.5\)'):
        FieldSimulation(depth=(1, 0.5))


@pytest.fixture(scope='module')
def survey(tmp_path_factory):
    folder = tmp_path_factory.mktemp('survey')
    return folder, simulate_survey(folder, seed=6, **SURVEY)


def tables_of(folder):
    """Return the truth of both tiles."""
    names = ('tile-00-00.fits', 'tile-00-01.fits')
    return [QTable.read(folder / name, hdu='SOURCES', mask_invalid=False) for name in names]


def test_catalogue_of_a_survey(survey):
    folder, truth = survey
    catalogue = QTable.read(folder / 'catalogue.parquet')
    assert len(catalogue) == len(truth) == 30
    assert catalogue['id'].dtype == np.int64
    assert len({*catalogue['id'].tolist()}) == 30
    assert catalogue['id'].tolist() == truth['id'].tolist()
    # as wrong as is stated
    offset = (catalogue['dec'] - truth['dec']) / catalogue['position_err']
    assert 0.6 < offset.to_value(u.one).std() < 1.5
    assert QTable.read(folder / 'truth.parquet').meta['n_sources'] == 30
    edge = [np.minimum(table['x'], 199 * u.pix - table['x']) for table in tables_of(folder)]
    for number, table in enumerate(tables_of(folder)):
        mine = truth['tile'] == f'tile-00-0{number}.fits'
        assert {*truth['id'][mine].tolist()} <= {*table['id'].tolist()}
        assert len(edge[number]) > mine.sum() > 0


def test_the_overlap_shows_the_same_sources(survey):
    folder, _ = survey
    left, right = tables_of(folder)
    both = sorted({*left['id'].tolist()} & {*right['id'].tolist()})
    assert len(both) > 2
    left, right = (table[[table['id'].tolist().index(n) for n in both]] for table in (left, right))
    np.testing.assert_allclose(left['ra'].value, right['ra'].value, rtol=1e-12)
    np.testing.assert_allclose(left['x'].value - 140, right['x'].value, atol=1e-9)
    assert (left['flux'] == right['flux']).all()
    assert (left['brighter_distance'] == right['brighter_distance']).all()
    images = [read_cutout(folder / f'tile-00-0{number}.fits') for number in (0, 1)]
    assert np.ptp([image.uncertainty.array[0, 0] for image in images]) > 0
    assert not np.array_equal(images[0].psf, images[1].psf)
    brightest = left['flux'].argmax()
    x, y = images[1].wcs.wcs_world2pix(left['ra'][brightest], left['dec'][brightest], 0)
    at = np.array([y - right['y'][brightest].value, x - right['x'][brightest].value])
    assert abs(at).max() < 1e-6
    # and it is there in both
    for image, table in zip(images, (left, right), strict=True):
        x, y = (round(table[name][brightest].value) for name in ('x', 'y'))
        light = image.data[y - 4 : y + 5, x - 4 : x + 5].sum()
        assert light > 5 * 9 * image.uncertainty.array[0, 0]


def test_tiles_are_those_of_hsc(survey):
    folder, _ = survey
    image = read_cutout(folder / 'tile-00-00.fits')
    assert image.meta['zeropoint'] == pytest.approx(27)
    assert image.mask is not None
    detected = read_cutout(folder / 'tile-00-00.fits', mask_planes=['DETECTED']).mask
    (table, _) = tables_of(folder)
    bright = table[(table['snr'] > 20)]
    column, row = np.round([bright['x'].value, bright['y'].value]).astype(int)
    assert detected[row, column].all()
    assert 0 < detected.mean() < 0.3
    with fits.open(folder / 'tile-00-00.fits') as hdus:
        assert [hdu.name for hdu in hdus[1:]] == ['IMAGE', 'MASK', 'VARIANCE', 'PSF', 'SOURCES']
        assert hdus['VARIANCE'].data.dtype.itemsize == 4


def test_survey_goes_on(survey, tmp_path):
    original, truth = survey
    folder = shutil.copytree(original, tmp_path / 'survey')
    with pytest.raises(FileExistsError, match='holds a survey'):
        simulate_survey(folder, seed=6, **SURVEY)
    with pytest.raises(ValueError, match='begun with seed=6, not with seed=7'):
        simulate_survey(folder, seed=7, resume=True, **SURVEY)
    whole, cut = folder / 'tile-00-00.fits', folder / 'tile-00-01.fits'
    before = whole.stat().st_mtime_ns
    cut.write_bytes(cut.read_bytes()[:-4000])
    (folder / 'truth.parquet').unlink()
    # by another process
    again = simulate_survey(folder, seed=6, resume=True, workers=2, **SURVEY)
    assert whole.stat().st_mtime_ns == before
    assert cut.read_bytes() == (original / 'tile-00-01.fits').read_bytes()
    assert (again['snr'] == truth['snr']).all()
    catalogues = [QTable.read(each / 'catalogue.parquet') for each in (original, folder)]
    assert (catalogues[0]['mag'] == catalogues[1]['mag']).all()
    # another one in its place
    simulate_survey(folder, seed=7, overwrite=True, **{**SURVEY, 'n_tiles': 1})
    assert not cut.exists()
    (tmp_path / 'other').mkdir()
    (tmp_path / 'other' / whole.name).touch()
    with pytest.raises(FileExistsError, match='no part of a survey'):
        simulate_survey(tmp_path / 'other', **SURVEY)


def test_tiles_that_cannot_be():
    with pytest.raises(ValueError, match='less than half of a tile'):
        simulate_survey('unused', simulation=FIELD, overlap=100)
    with pytest.raises(ValueError, match='n_tiles must be 1 or more, got 0'):
        simulate_survey('unused', simulation=FIELD, n_tiles=0)


def test_command(tmp_path):
    arguments = ['simulate-survey', str(tmp_path / 'survey'), '--side', '120', '--sources', '4']
    arguments += ['--tiles', '1', '--overlap', '50', '--compress', '--seed', '8']
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert '1 tiles and 4 sources' in result.output
    options = {'n_tiles': 1, 'n_sources': 4, 'overlap': 50, 'seed': 8}
    simulate_survey(tmp_path / 'one', simulation=FieldSimulation(shape=(120, 120)), **options)
    packed = read_cutout(tmp_path / 'survey' / 'tile-00-00.fits.fz')
    image = read_cutout(tmp_path / 'one' / 'tile-00-00.fits')
    noise = image.uncertainty.array[0, 0]
    assert 0 < abs(packed.data - image.data).max() < noise / 8
    np.testing.assert_array_equal(packed.mask, image.mask)
    np.testing.assert_array_equal(packed.psf, image.psf)
    assert CliRunner().invoke(main, [*arguments, '--resume', '--overwrite']).exit_code == 2
