# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Galaxies that are put into an image, and what is learned from them."""

import json
from types import SimpleNamespace

import galsim
import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData, StdDevUncertainty
from astropy.table import QTable, Table
from astropy.wcs import WCS
from click.testing import CliRunner
from numpy.testing import assert_allclose, assert_array_equal

from astroflux import ApertureFluxEstimator
from astroflux.cli import main
from astroflux.estimators import FieldDetector, Recalibration
from astroflux.evaluation import InjectionResult, flux_errors, inject_galaxies
from astroflux.evaluation._injected_image import UserImage
from astroflux.evaluation.inject import FWHMS, RADII, _found
from astroflux.flags import FATAL_FLAGS, MeasurementFlag
from astroflux.simulation import GalaxyPopulation, draw_psf
from astroflux.simulation.scene import draw_source

SIDE, NOISE, FWHM = 300, 2.0, 4.0
PSF = galsim.Moffat(beta=3, fwhm=FWHM)
MASKED = np.s_[:, 100:140]


@pytest.fixture(scope='module')
def sky():
    """An image of some galaxies, and its catalogue."""
    rng = np.random.default_rng(1)
    n = 14
    table = Table({'x': rng.uniform(20, 280, n), 'y': rng.uniform(20, 280, n)})
    table['flux'] = np.geomspace(300, 20000, n)
    data = rng.normal(0, NOISE, (SIDE, SIDE))
    for row in table:
        galaxy = galsim.Exponential(half_light_radius=rng.uniform(1.5, 4), flux=row['flux'])
        seen = galsim.Convolve(galaxy, PSF)
        light, where = draw_source(seen, (row['x'], row['y']), 40, data.shape, 1.0)
        data[where] += light
    mask = np.zeros(data.shape, bool)
    mask[MASKED] = True
    ccd = CCDData(
        data,
        unit='adu',
        uncertainty=StdDevUncertainty(np.full(data.shape, NOISE)),
        mask=mask,
        psf=draw_psf(PSF, 1.0),
        meta={'zeropoint': 27.0},
    )
    return SimpleNamespace(ccd=ccd, catalogue=table['x', 'y'])


@pytest.fixture(scope='module')
def result(sky):
    return inject_galaxies(sky.ccd, sky.catalogue, n=12, area=0.1, seed=3)


def test_truth_is_conserved(result):
    field, table = result.first_round, result.table[result.table['round'] == 0]
    added = field.after - field.before
    # the rest is in the wings
    assert_allclose(added.sum(), table['true_flux'].sum().value, rtol=0.02)
    row = table[np.argmax(table['true_snr'])]
    y, x = (round(row[name].value) for name in ('y', 'x'))
    around = added[max(y - 15, 0) : y + 16, max(x - 15, 0) : x + 16]
    assert_allclose(np.sqrt((around**2).sum()) / NOISE, row['true_snr'], rtol=0.05)
    assert_allclose(
        result.table['true_mag'].value, 27 - 2.5 * np.log10(result.table['true_flux'].value)
    )


def test_places_are_legal(sky, result):
    table = result.table
    assert len(table) == 12
    assert (table['true_snr'] >= 5).all()
    x, y = table['x'].value, table['y'].value
    assert (np.minimum(x, y) > 9).all()
    assert (np.maximum(x, y) < SIDE - 10).all()
    assert not sky.ccd.mask[np.round(y).astype(int), np.round(x).astype(int)].any()
    radius = FWHMS * FWHM + RADII * table['true_half_light_radius'].to_value(u.pix)
    for number in np.unique(table['round']):
        of_round = np.flatnonzero(table['round'] == number)
        for i in of_round:
            others = of_round[of_round != i]
            distance = np.hypot(x[others] - x[i], y[others] - y[i])
            assert (distance > 2 * (radius[others] + radius[i])).all()


def test_galaxies_are_measured_as_real_ones(sky, result):
    errors = result.errors
    bright = result.table['true_snr'] > 30
    assert np.abs(errors['ln_error'][bright]).max() < 0.3
    injection = result.meta['injection']
    assert (injection['n'], injection['seed'], injection['n_sources']) == (12, 3, 14)
    assert injection['neighbors'] == 'model'
    assert 'gain is not known' in injection['photons']
    assert result.meta['method'] == 'CNNFluxEstimator'
    # none of the catalogue's
    assert {'true_flux', 'flux_lower_95', 'half_light_radius'} <= {*result.table.colnames}
    assert 'id' not in result.table.colnames
    summary = result.summary('snr')
    assert summary['n'].sum() == np.sum(result.table['true_snr'] <= 3000)
    assert {'completeness', 'bias', 'coverage_95'} <= {*summary.colnames}
    with pytest.raises(ValueError, match=r"by must be one of \['snr', 'magnitude', 'size'"):
        result.summary('color')


def test_seed_and_population(sky):
    estimator = ApertureFluxEstimator(radius=8)
    options = {'estimator': estimator, 'neighbors': 'none', 'n': 4}
    population = Table({'flux': [3000.0], 'half_light_radius': [2.0], 'axis_ratio': [0.5]})
    first, again, other = (
        inject_galaxies(sky.ccd, sky.catalogue, population=population, seed=seed, **options)
        for seed in (1, 1, 2)
    )
    assert_array_equal(first.table['flux'], again.table['flux'])
    assert (first.table['x'] != other.table['x']).all()
    assert (first.table['true_flux'] == 3000 * u.adu).all()
    assert (first.table['true_axis_ratio'] == 0.5).all()
    assert (first.table['true_half_light_radius'] == 2 * u.pix).all()
    snr = GalaxyPopulation(snr=(40, 50), half_light_radius=(1, 3))
    of_snr = inject_galaxies(sky.ccd, sky.catalogue, population=snr, **options)
    assert ((of_snr.table['true_snr'] >= 40) & (of_snr.table['true_snr'] <= 50)).all()


@pytest.mark.parametrize('suffix', ['ecsv', 'parquet'])
def test_round_trip(result, tmp_path, suffix):
    path = tmp_path / f'result.{suffix}'
    result.write(path)
    back = InjectionResult.read(path)
    assert back.meta['injection'] == result.meta['injection']
    assert_array_equal(back.table['flux'], result.table['flux'])
    assert_array_equal(back.summary()['bias'], result.summary()['bias'])
    QTable({'flux': [1.0]}).write(tmp_path / 'other.ecsv')
    with pytest.raises(ValueError, match=r'other\.ecsv holds no injected galaxies'):
        InjectionResult.read(tmp_path / 'other.ecsv')
    with pytest.raises(ValueError, match=r'must end in \.ecsv or \.parquet'):
        result.write(tmp_path / 'result.fits')


def test_report(result, tmp_path):
    page = result.write_report(tmp_path / 'report')
    text = page.read_text()
    assert 'Galaxies put into' in text
    assert 'It takes 40 measured galaxies' in text
    names = {path.name for path in page.parent.iterdir()}
    assert {'report.html', 'injected.ecsv', 'summary.ecsv', 'figures'} <= names
    assert 'recalibration.json' not in names
    assert (page.parent / 'figures' / 'field.png').stat().st_size > 1000
    with pytest.raises(FileExistsError, match='overwrite is not set'):
        result.write_report(page.parent)
    # without pictures
    InjectionResult(result.table).write_report(page.parent, overwrite=True)
    assert not (page.parent / 'figures' / 'field.png').exists()


def test_light_in_other_units(sky):
    ccd = sky.ccd
    light = np.zeros(ccd.shape)
    light[50, 60] = 100.0
    options = {'effective_gain': 4.0}
    image = UserImage(ccd, options)
    noisy = image.with_light(light, rng=np.random.default_rng(0))
    added = noisy.data - ccd.data
    assert_allclose(added.sum(), 100, atol=5 * np.sqrt(100 / 4))
    assert added.sum() != 100
    assert_array_equal(noisy.uncertainty.array, ccd.uncertainty.array)
    noisy = UserImage(ccd, {}).with_light(light, gain=4.0, rng=np.random.default_rng(0))
    assert_allclose((noisy.uncertainty.array**2 - NOISE**2).sum(), 100 / 4)
    # of a surface brightness, light is what is added times the area of a pixel
    header = fits.Header({'CTYPE1': 'RA---TAN', 'CTYPE2': 'DEC--TAN', 'CDELT1': -1e-4})
    header.update({'CDELT2': 1e-4, 'CUNIT1': 'deg', 'CUNIT2': 'deg', 'CRPIX1': 1, 'CRPIX2': 1})
    image = UserImage(CCDData(ccd.data, unit='nJy / arcsec2', wcs=WCS(header)), {})
    assert image.unit == u.nJy
    assert not image.has_noise
    added = image.with_light(light).data - ccd.data
    assert_allclose(added.sum() * 0.36**2, 100, rtol=1e-6)


@pytest.mark.parametrize('sky_level', [0.0, 50.0])
def test_detection_is_part_of_it(sky, sky_level):
    ccd = sky.ccd.copy()
    ccd.data += sky_level
    ccd.psf = sky.ccd.psf
    detector = FieldDetector(background='estimate' if sky_level else 'none')
    how = {'estimator': ApertureFluxEstimator(radius=8), 'neighbors': 'none', 'detector': detector}
    result = inject_galaxies(ccd, n=8, area=0.1, **how)
    is_lost = result.table['flags'] == MeasurementFlag.NOT_DETECTED
    assert_array_equal(np.isnan(result.table['flux']), is_lost)
    alone = (result.table['true_snr'] > 50) & (result.table['true_neighbor_light'] < 0.3)
    assert alone.any()
    assert not is_lost[alone].any()
    assert np.abs(result.errors['ln_error'][alone]).max() < 0.7
    assert result.summary(None)['completeness'][0] == np.mean(~is_lost)
    assert result.meta['injection']['sources'] == 'detected in each image'
    # the sky is no light of neighbors
    assert np.median(np.abs(result.table['true_neighbor_light'])) < 0.1


def test_found_among_detected():
    def table(x, flux):
        return QTable({'x': x * u.pix, 'y': np.zeros(len(x)) * u.pix, 'flux': flux * u.adu})

    galaxies = [SimpleNamespace(x=x, y=0.0, flux=10.0) for x in (10.0, 50.0, 90.0)]
    before = table(np.array([52.0, 88.0]), np.array([100.0, 2.0]))
    after = table(np.array([11.0, 51.0, 89.5]), np.array([10.0, 110.0, 11.0]))
    # the second one is taken for what was there
    assert _found(galaxies, after, before, 4.0).tolist() == [0, -1, 2]
    assert _found(galaxies, after[1:], before, 4.0).tolist() == [-1, -1, 1]


@pytest.mark.parametrize(
    ('options', 'match'),
    [
        ({'n': 0}, 'n must be 1 or more'),
        ({'area': 0.5}, 'area must be above 0'),
        ({'population': 3}, 'population must be a GalaxyPopulation or a table'),
        ({'population': Table({'flux': [1.0]})}, "no column 'half_light_radius'"),
        ({'population': Table({'flux': [1.0], 'half_light_radius': [2.0]})}, 'are too faint'),
        ({'psf_fwhm': 0.7 * u.arcsec, 'without': 'psf'}, 'no WCS to give its pixel scale'),
        ({'without': 'psf'}, 'the PSF must be known'),
        ({'psf': np.ones((5, 9, 9))}, 'psf must be one PSF'),
        ({'gain': 1.0, 'error': 2.0}, 'give the noise with the image'),
    ],
)
def test_bad_input(sky, options, match):
    ccd = sky.ccd
    if options.pop('without', None):
        ccd = CCDData(ccd.data, unit='adu', uncertainty=ccd.uncertainty)
    with pytest.raises((ValueError, TypeError), match=match):
        inject_galaxies(ccd, sky.catalogue[:5], **options)


# -- recalibration ---------------------------------------------------------------------------------

BIAS, TOO_SMALL = 0.05, 1.5


def measured(n, seed, bias=lambda snr: BIAS):
    """Return galaxies whose errors are too small and whose fluxes are biased."""
    rng = np.random.default_rng(seed)
    true_flux = rng.lognormal(5, 1, n)
    snr = np.exp(rng.uniform(np.log(20), np.log(300), n))
    flux = true_flux * np.exp(bias(snr) + TOO_SMALL / snr * rng.standard_normal(n))
    err = flux / snr
    columns = {'true_flux': true_flux, 'flux': flux, 'flux_err': err}
    for name, halves in (('', 1.0), ('_95', 1.96)):
        columns[f'flux_lower{name}'] = flux - halves * err
        columns[f'flux_upper{name}'] = flux + halves * err
    table = QTable({name: values * u.nJy for name, values in columns.items()})
    table['snr'], table['flags'] = snr, np.zeros(n, np.int32)
    table['mag'] = table['flux'].to_value(u.ABmag) * u.mag
    table['mag_err'] = 1.0857 / snr * u.mag
    table['mag_limit'] = table['flux_upper_95'].to_value(u.ABmag) * u.mag
    table.meta = {
        'method': 'CNNFluxEstimator',
        'weights': 'w',
        'injection': {'neighbors': 'model', 'n': n, 'seed': seed},
    }
    return InjectionResult(table)


def coverage(table):
    errors = flux_errors(table, table['true_flux'])
    return [
        np.mean(errors['covered_68']),
        np.mean(errors['covered_95']),
        np.median(errors['ln_error']),
    ]


def test_recalibration_holds_on_others():
    recalibration = Recalibration.from_injection(measured(1500, 1))
    fresh = measured(4000, 2).table
    assert coverage(fresh)[0] < 0.5
    table = recalibration.apply(fresh)
    held, held_95, bias = coverage(table)
    assert abs(held - 0.6827) < 0.025
    assert abs(held_95 - 0.95) < 0.015
    assert abs(bias) < 0.005
    # in each part of the range of S/N
    for part in np.array_split(np.argsort(fresh['snr']), 3):
        assert abs(coverage(table[part])[0] - 0.6827) < 0.05
    record = table.meta['recalibrated']
    assert record['n'] == 1500
    assert record['origin'] == {'n': 1500, 'seed': 1}
    assert_allclose(record['factor_68'], TOO_SMALL, rtol=0.15)
    assert 'recalibrated' not in fresh.meta
    assert_allclose(table['snr'], fresh['snr'] / table['recal_68'])
    # magnitudes follow
    assert_allclose(table['mag'].value, table['flux'].to_value(u.ABmag))
    assert_allclose(table['mag_limit'].value, table['flux_upper_95'].to_value(u.ABmag))
    assert_allclose(table['mag_err'].value, 1.0857 * table['flux_err'] / table['flux'])


def test_bias_of_faint_galaxies_is_none_of_bright_ones():
    # it falls and rises again, so that no monotone correction is right everywhere: least wrong
    # where a small bias matters
    def bias(snr):
        return np.where(snr < 60, -0.02, 0.0)

    recalibration = Recalibration.from_injection(measured(2000, 6, lambda snr: bias(snr) + 2 / snr))
    fresh = measured(4000, 7, lambda snr: bias(snr) + 2 / snr).table
    table = recalibration.apply(fresh)
    bright = fresh['snr'] > 100
    assert abs(coverage(table[bright])[2]) < 0.004
    for part in (bright, ~bright):
        assert abs(coverage(table[part])[0] - 0.6827) < 0.04


def test_bias_counts_for_as_much_as_it_is_known():
    # of those of less S/N, which scatter more, it is as large, and matters less
    def bias(snr):
        return np.select([snr < 40, snr < 120], [0.1, -0.02], 0.0)

    recalibration = Recalibration.from_injection(measured(2000, 6, bias))
    fresh = measured(4000, 7, bias).table
    table = recalibration.apply(fresh)
    assert abs(coverage(table[fresh['snr'] > 150])[2]) < 0.006


def test_recalibration_can_be_undone(tmp_path):
    recalibration = Recalibration.from_injection(measured(300, 1))
    path = tmp_path / 'recalibration.json'
    recalibration.write(path)
    back = Recalibration.read(path)
    assert back.record == recalibration.record | {'file': 'recalibration.json'}
    with pytest.raises(FileExistsError, match='overwrite is not set'):
        recalibration.write(path)
    fresh = measured(50, 2).table
    for name in fresh.colnames:
        if name.startswith('flux'):
            fresh[name][7] = np.nan
    fresh['flags'][7] = int(MeasurementFlag.FAILED)
    fresh['snr'][7] = np.nan
    fresh['snr'][8], fresh['flags'][8] = 6.0, 0
    table = back.apply(fresh)
    assert np.isnan(table['flux'][7])
    assert table['flags'][7] & FATAL_FLAGS
    assert [table[name][7] for name in ('recal_flux', 'recal_68', 'recal_95')] == [1, 1, 1]
    assert table['flags'][8] == MeasurementFlag.LOW_SNR
    with pytest.raises(ValueError, match='was recalibrated before'):
        back.apply(table)
    original = Recalibration.undo(table)
    assert original.colnames == fresh.colnames
    assert original.meta == fresh.meta
    for name in fresh.colnames:
        assert_allclose(u.Quantity(original[name]).value, u.Quantity(fresh[name]).value, rtol=1e-12)
    with pytest.raises(ValueError, match='was not recalibrated'):
        Recalibration.undo(original)
    fresh.meta['weights'] = 'others'
    with pytest.raises(ValueError, match="for weights='w', the table has 'others'"):
        back.apply(fresh)
    del fresh.meta['injection']
    fresh.meta['weights'] = 'w'
    with pytest.raises(ValueError, match="for neighbors='model', the table has 'none'"):
        back.apply(fresh)


def test_few_galaxies_correct_little():
    few, many = (measured(n, 5) for n in (40, 2000))
    median = np.median(few.errors['ln_error'])
    assert_allclose(Recalibration.from_injection(few).bias, median * 40 / 60)
    assert_allclose(Recalibration.from_injection(many).bias, BIAS, atol=0.012)
    with pytest.raises(ValueError, match='needs 40 galaxies'):
        Recalibration.from_injection(measured(39, 5))


@pytest.mark.parametrize(
    ('change', 'match'),
    [
        ({'format': 'x'}, 'holds no recalibration'),
        ({'bias': [0.1, 0.2]}, 'damaged'),
        ({'factor_68': [-1.0]}, 'damaged'),
        ({'snr': 'many'}, 'damaged'),
        ({'color': 1}, 'damaged'),
    ],
)
def test_damaged_recalibration(tmp_path, change, match):
    path = tmp_path / 'recalibration.json'
    Recalibration((10.0,), (0.1,), (1.2,), (1.1,), 99, 'KronFluxEstimator').write(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match=match):
        Recalibration.read(path)


def test_measure_field_recalibrates(sky, tmp_path):
    estimator = ApertureFluxEstimator(radius=8)
    points = (20.0,), (0.1,), (2.0,), (3.0,)
    method = 'ApertureFluxEstimator'
    recalibration = Recalibration(*points, n=99, method=method, neighbors='none')
    path = tmp_path / 'recalibration.json'
    recalibration.write(path)
    plain, table = (
        estimator.measure_field(sky.ccd, sky.catalogue, neighbors='none', recalibrate=given)
        for given in (None, path)
    )
    assert_allclose(table['flux'], plain['flux'] * np.exp(-0.1))
    assert_allclose(table['flux_err'], plain['flux_err'] * 2 * np.exp(-0.1))
    assert table.meta['recalibrated']['file'] == 'recalibration.json'
    assert 'recalibrated' not in plain.meta
    with pytest.raises(TypeError, match='recalibrate must be a Recalibration or the path'):
        estimator.measure_field(sky.ccd, sky.catalogue, recalibrate=3)


# -- the command -----------------------------------------------------------------------------------


def test_command(sky, tmp_path):
    planes = {'IMAGE': sky.ccd.data, 'MASK': sky.ccd.mask.astype(np.int32)}
    planes |= {'VARIANCE': sky.ccd.uncertainty.array**2, 'PSF': sky.ccd.psf}
    hdus = [fits.ImageHDU(array, name=name) for name, array in planes.items()]
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(tmp_path / 'field.fits')
    sky.catalogue.write(tmp_path / 'sources.csv')
    out = tmp_path / 'report'
    command = ['inject', str(tmp_path / 'field.fits'), '-o', str(out), '-n', '5', '--method']
    command += ['aperture', '--catalogue', str(tmp_path / 'sources.csv'), '--neighbors', 'none']
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    assert 'completeness [%]' in done.output
    assert 'Galaxies put into field.fits' in (out / 'report.html').read_text()
    result = InjectionResult.read(out / 'injected.ecsv')
    assert len(result) == 5
    assert result.meta['method'] == 'ApertureFluxEstimator'
    again = CliRunner().invoke(main, command)
    assert again.exit_code == 1
    assert 'replace it with --overwrite' in again.output
