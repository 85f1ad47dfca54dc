# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What is the regressions' own; the contract is in test_contract.py."""

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import CCDData, StdDevUncertainty
from astropy.utils.exceptions import AstropyUserWarning
from photutils.aperture import CircularAperture, aperture_photometry
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.exceptions import NotFittedError

from astroflux import RegressionFluxEstimator, decode_flags
from astroflux._tensor_files import seal
from astroflux.estimators.regression._features import (
    APERTURE_RADII,
    FEATURES,
    Features,
    _aperture_weights,
    design,
    measure_features,
)
from astroflux.estimators.regression._models import MODELS, _bin_edges, _Boosting, train
from astroflux.estimators.regression._training_table import (
    TrainingTable,
    achievable_scatter,
    locate_table,
    read_training_table,
    write_training_table,
)
from astroflux.networks.pyramid import CANVAS_SIZE, REACH


def draw(sigma=3.0, *, flux=1000.0, axis_ratio=1.0, seed=None):
    y, x = np.mgrid[:CANVAS_SIZE, :CANVAS_SIZE] - float(REACH)
    image = np.exp(-0.5 * (x**2 + (y / axis_ratio) ** 2) / sigma**2)
    image *= flux / image.sum()
    if seed is not None:
        image += np.random.default_rng(seed).normal(size=image.shape)
    return image.astype(np.float32)


def features_of(*images, valid=None, psf=(4.0, 40.0)):
    image = np.stack(images)
    valid = np.ones_like(image[:1]) if valid is None else valid
    return measure_features(image * valid, valid, np.full((len(image), 2), psf, np.float32))


def column(features, name):
    return features.values[:, FEATURES.index(name)]


@pytest.fixture(scope='module')
def table():
    """A table in which the target depends on three of the features."""
    rng = np.random.default_rng(0)
    values = rng.uniform(0, 1, (400, len(FEATURES)))
    values[:, 0] = np.log(rng.uniform(5, 500, 400))
    noise = achievable_scatter(np.exp(values[:, 0]))
    truth = 0.5 * values[:, 2] - 0.4 * values[:, 12] + 0.3 * values[:, 20]
    features = Features(values, np.zeros(400), np.exp(values[:, 0]))
    return TrainingTable.from_features(
        features,
        truth + noise * rng.standard_normal(400),
        scatter=noise,
        group=np.arange(400),
        name='synthetic',
    )


# -- features ----------------------------------------------------------------------------------


def test_aperture_sums_are_those_of_photutils():
    image = draw(seed=1).astype(float)
    sums = image.ravel() @ _aperture_weights()
    apertures = [CircularAperture((REACH, REACH), r) for r in APERTURE_RADII]
    expected = aperture_photometry(image, apertures)
    for index, value in enumerate(sums):
        assert value == pytest.approx(expected[f'aperture_sum_{index}'][0], rel=1e-10)


@pytest.mark.parametrize('sigma', [1.5, 3.1, 5.5])
def test_gaussian(sigma):
    features = features_of(draw(sigma, flux=1e5))
    # the filter that matches a Gaussian is itself, and has all of its flux
    assert features.ln_reference[0] == pytest.approx(np.log(1e5), abs=0.15)
    assert features.snr[0] == pytest.approx(1e5 / (2 * np.sqrt(np.pi) * sigma), rel=0.02)
    assert column(features, 'ln_width')[0] == pytest.approx(np.log(sigma), abs=0.03)
    assert column(features, 'elongation')[0] == pytest.approx(0, abs=1e-6)
    rings = features.values[0, [FEATURES.index(f'ring_{k}') for k in (1, 1.5, 2, 3, 4, 6, 8, 12)]]
    total = rings.sum() * np.exp(features.ln_reference[0])
    assert total == pytest.approx(1e5, rel=1e-3)
    within_2_sigma = rings[:3].sum() * np.exp(features.ln_reference[0])
    assert within_2_sigma == pytest.approx(1e5 * (1 - np.exp(-2)), rel=0.05)


def test_shape_does_not_depend_on_size():
    one, other = features_of(draw(2.4, flux=1e5), draw(6.2, flux=1e5)).values[:, 10:18]
    np.testing.assert_allclose(one, other, atol=0.05)


def test_elongation():
    round_one, long_one = column(features_of(draw(4.0), draw(4.0, axis_ratio=0.5)), 'elongation')
    assert long_one > round_one + 0.2


def test_turns_and_flips():
    image = draw(seed=2, axis_ratio=0.5)
    views = [np.rot90(image, k) for k in range(4)] + [image.T, image[::-1]]
    features = features_of(*views)
    for row in features.values[1:]:
        np.testing.assert_allclose(row, features.values[0], rtol=1e-4, atol=1e-5)


def test_scale_of_one_galaxy():
    # in less noise, the ratios of a galaxy without noise are the same
    one, other = features_of(draw(), 100 * draw()).values
    # the symmetric part is corrected for a bias that belongs to the noise
    np.testing.assert_allclose(one[2:18], other[2:18], rtol=1e-4, atol=1e-5)
    assert other[0] - one[0] == pytest.approx(np.log(100), abs=1e-5)


def test_missing_pixels_are_made_up_for():
    image = draw(4.0, flux=1e5)
    whole = features_of(image)
    holes = np.ones((1, CANVAS_SIZE, CANVAS_SIZE), np.float32)
    holes[0, REACH - 2 : REACH + 3, REACH + 4 : REACH + 6] = 0
    filled = features_of(image, valid=holes)
    # the other side is as bright
    np.testing.assert_allclose(filled.ln_reference, whole.ln_reference, atol=1e-3)
    assert column(filled, 'usable_2')[0] < 0.99
    assert column(filled, 'filled_2')[0] == pytest.approx(1, abs=1e-6)
    holes *= holes[:, ::-1, ::-1]
    scaled = features_of(image, valid=holes)
    assert column(scaled, 'filled_2')[0] < 0.98
    np.testing.assert_allclose(scaled.values[:, 10:18], whole.values[:, 10:18], atol=0.05)


def test_unknown_psf_is_nan():
    features = features_of(draw(), psf=(np.nan, np.nan))
    unknown = np.isnan(features.values[0])
    assert [name for name, n in zip(FEATURES, unknown, strict=True) if n] == [
        'ln_psf_fwhm',
        'ln_psf_area',
    ]


def test_without_a_source_the_features_are_finite():
    features = features_of(np.zeros((CANVAS_SIZE, CANVAS_SIZE), np.float32), draw(flux=-500))
    assert np.isfinite(features.values).all()
    assert np.all(features.snr == 0.5)


def test_design_has_growth_curves():
    values = np.zeros((1, len(FEATURES)))
    values[0, 10:18] = 1
    columns = design(values)
    np.testing.assert_array_equal(columns[0, 26:33], np.arange(2, 9))
    np.testing.assert_array_equal(columns[0, 33:40], 0)
    np.testing.assert_array_equal(columns[0, 40:], np.arange(1, 9))


# -- models ------------------------------------------------------------------------------------


@pytest.mark.parametrize('model', MODELS)
def test_models_learn(table, model):
    regression = train(table, model, 0)
    ln_ratio, half_width = regression.predict(table.features)
    scatter = 0.15 if model == 'forest' else 0.1
    bright = table.scatter < 0.03
    assert np.std((ln_ratio - table.target)[bright]) < scatter
    assert np.std(table.target[bright]) > 0.2
    assert np.all(half_width > 0)


def test_intervals_hold_their_share(table):
    seen, unseen = (
        TrainingTable(*(array[part] for array in table.arrays.values()), 'half', {})
        for part in (slice(0, None, 2), slice(1, None, 2))
    )
    ln_ratio, half_width = train(seen, 'linear', 0).predict(unseen.features)
    covered = np.abs(ln_ratio - unseen.target) < half_width
    # 68 % of 200 are 137 +- 7
    assert 0.55 < covered.mean() < 0.82


def test_boosting_is_that_of_scikit_learn():
    rng = np.random.default_rng(3)
    # so few values that scikit-learn bins them without weights, some not known, and a constant
    columns = rng.integers(0, 200, (600, 3)).astype(float)
    columns[::7, 0], columns[:, 2] = np.nan, 1
    target = np.nan_to_num(columns[:, 0]) + columns[:, 1] ** 2
    weight = rng.uniform(0.1, 3, len(target))
    options = {'max_iter': 20, 'max_features': 0.5, 'random_state': 0}
    ours, theirs = (
        kind(**options).fit(columns, target, weight).predict(columns)
        for kind in (_Boosting, HistGradientBoostingRegressor)
    )
    np.testing.assert_array_equal(ours, theirs)


def test_bins_have_equal_weight():
    rng = np.random.default_rng(4)
    column, weight = rng.normal(size=20_000), rng.uniform(0.1, 3, 20_000)
    column[:100] = np.nan
    numbers = np.searchsorted(_bin_edges(column, weight), column[100:])
    of_bins = np.bincount(numbers, weights=weight[100:])
    assert len(of_bins) == 255
    np.testing.assert_allclose(of_bins, of_bins.mean(), rtol=0.05)


def test_training_is_repeatable(table):
    table, copy = (
        TrainingTable(*(array[:100] for array in table.arrays.values()), name, {})
        for name in ('one', 'other')
    )
    regression = train(table, 'boosting', 0)
    assert train(copy, 'boosting', 0) is regression
    train.cache_clear()
    again = train(copy, 'boosting', 0)
    assert again is not regression
    for one, other in zip(
        again.predict(table.features), regression.predict(table.features), strict=True
    ):
        np.testing.assert_array_equal(one, other)


# -- the estimator -----------------------------------------------------------------------------


def test_simulated_galaxies():
    pytest.importorskip('galsim')
    from astroflux.simulation import CutoutSimulation, GalaxyPopulation, simulate_cutouts

    simulation = CutoutSimulation(galaxies=GalaxyPopulation(snr=(100.0, 3000.0)))
    cutouts, truth = zip(*simulate_cutouts(25, simulation, seed=32), strict=True)
    true_flux = np.array([row['flux'] for row in truth])
    measured = RegressionFluxEstimator(model='linear').measure(cutouts)
    error = np.log(measured['flux'].value / true_flux)
    assert np.median(np.abs(error)) < 0.05
    lower, upper = (measured[f'flux_{end}'].value for end in ('lower', 'upper'))
    within = (lower < true_flux) & (true_flux < upper)
    # 68 % of 25 are 17 +- 2
    assert 10 <= within.sum() <= 24


def test_turned_galaxies_agree(make_ccd):
    ccd = make_ccd(flux=20000.0)
    noise = StdDevUncertainty(np.ones(ccd.shape))
    ccds = [CCDData(np.rot90(ccd.data, k), unit='adu', uncertainty=noise) for k in (0, 1)]
    one, other = RegressionFluxEstimator(model='linear').predict(ccds)
    assert one.value == pytest.approx(other.value, rel=1e-4)


def test_psf_may_be_unknown(make_ccd):
    estimator = RegressionFluxEstimator(model='linear')
    measured = estimator.measure([make_ccd(), make_ccd()], psf_fwhm=[np.nan, 4.0])
    assert 'PSF_UNKNOWN' in decode_flags(measured['flags'][0])
    ratio = (measured['flux'][0] / measured['flux'][1]).value
    assert ratio == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(('fwhm', 'outside'), [(1.0, True), (4.0, False), (12.0, True)])
def test_psf_outside_the_training(make_ccd, fwhm, outside):
    measured = RegressionFluxEstimator(model='linear').measure(make_ccd(), psf_fwhm=fwhm)
    assert ('OUT_OF_RANGE' in decode_flags(measured['flags'])[0]) == outside


def test_pure_noise_is_not_detected():
    noise = np.random.default_rng(8).normal(size=(61, 61))
    ccd = CCDData(noise, unit='nJy', uncertainty=StdDevUncertainty(np.ones((61, 61))))
    measured = RegressionFluxEstimator(model='linear').measure(ccd)
    assert np.isnan(measured['flux'][0])
    assert 'NOT_DETECTED' in decode_flags(measured['flags'])[0]
    assert 'no source at the position' in measured.meta['messages'][0]


def test_unknown_model(make_ccd):
    with pytest.raises(ValueError, match="model must be one of 'linear', 'forest', 'boosting'"):
        RegressionFluxEstimator(model='magic').predict(make_ccd())


def test_unknown_training_table(make_ccd):
    estimator = RegressionFluxEstimator(training_table='nonsense')
    with pytest.raises(ValueError, match="unknown training table 'nonsense': want 'simulated-3'"):
        estimator.predict(make_ccd())


def test_untrained(make_ccd):
    with pytest.raises(NotFittedError, match=r'\(training_table=None\) is untrained'):
        RegressionFluxEstimator(training_table=None).predict(make_ccd())


def test_meta_names_the_table(make_ccd):
    meta = RegressionFluxEstimator(model='linear').measure(make_ccd()).meta
    assert meta['weights'] == 'simulated-3'
    assert meta['weights_sha256'] == read_training_table(locate_table('simulated-3'))[0].sha256
    assert 'sklearn' in meta['versions']


# -- fit ---------------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def lesson(make_ccd):
    rng = np.random.default_rng(4)
    flux = rng.uniform(2000, 9000, 60)
    ccds = [
        make_ccd((49, 49), seed=seed, flux=f, scale=rng.uniform(1, 2.5))
        for seed, f in enumerate(flux)
    ]
    return ccds, flux * u.nJy


@pytest.mark.parametrize('model', MODELS)
def test_fit(lesson, model, tmp_path):
    ccds, flux = lesson
    estimator = RegressionFluxEstimator(model=model, training_table=None)
    assert estimator.fit(ccds, flux) is estimator
    fitted = estimator.predict(ccds)
    assert np.std(np.log(fitted / flux).value) < 0.1
    assert estimator.measure(ccds[0]).meta['weights'] == 'fitted'
    path = tmp_path / 'fitted'
    estimator.save(path)
    train.cache_clear()
    loaded = RegressionFluxEstimator.load(path)
    assert loaded.model == model
    np.testing.assert_array_equal(loaded.predict(ccds).value, fitted.value)
    # a clone is untrained
    with pytest.raises(NotFittedError):
        clone(estimator).predict(ccds)


def test_another_table_after_fit(lesson):
    estimator = RegressionFluxEstimator(model='linear', training_table=None).fit(*lesson)
    estimator.set_params(training_table='simulated-3')
    assert estimator.measure(lesson[0][0]).meta['weights'] == 'simulated-3'
    estimator.set_params(training_table=None)
    assert estimator.measure(lesson[0][0]).meta['weights'] == 'fitted'


def test_fit_takes_other_units(lesson):
    ccds, flux = lesson
    one, other = (
        RegressionFluxEstimator(model='linear').fit(ccds, f).predict(ccds[0])
        for f in (flux, flux.to('Jy'))
    )
    np.testing.assert_allclose(one, other, rtol=1e-5)


def test_fit_leaves_out_what_cannot_be_measured(lesson):
    ccds, flux = lesson
    bad = [*ccds[:-1], np.full((61, 61), np.nan) * u.nJy]
    with pytest.warns(AstropyUserWarning, match='1 of 60 cutouts cannot be measured'):
        RegressionFluxEstimator(model='linear').fit(bad, flux)


def test_fit_refuses(lesson):
    ccds, flux = lesson
    estimator = RegressionFluxEstimator()
    with pytest.raises(ValueError, match='at least 20 usable cutouts, got 19 of 19'):
        estimator.fit(ccds[:19], flux[:19])
    with pytest.raises(ValueError, match='one value per cutout'):
        estimator.fit(ccds, flux[:3])
    with pytest.raises(ValueError, match='got none'):
        estimator.fit([np.full((61, 61), np.nan) * u.nJy], [1] * u.nJy)


# -- files -------------------------------------------------------------------------------------


def test_table_round_trip(table, tmp_path):
    path = tmp_path / 'table'
    write_training_table(path, table, params={'model': 'forest'})
    again, params = read_training_table(path)
    assert again == table
    assert again.name == 'synthetic'
    assert params == {'model': 'forest'}


def test_foreign_file(tmp_path, make_ccd):
    path = tmp_path / 'foreign'
    path.write_bytes(b'not a table')
    with pytest.raises(ValueError, match='foreign is not a readable safetensors file'):
        RegressionFluxEstimator.load(path)
    save_file({'a': np.zeros(2)}, path)
    with pytest.raises(ValueError, match='foreign holds no training table: its format is None'):
        RegressionFluxEstimator(training_table=path).predict(make_ccd())
    with pytest.raises(FileNotFoundError, match='no_such_file'):
        RegressionFluxEstimator.load(tmp_path / 'no_such_file')


def rewrite(path, table, *, is_sealed=False, **changes):
    """Write a table with texts or arrays that are not its own; sealed, its hashes are of these."""
    write_training_table(path, table)
    with safe_open(path, framework='numpy') as file:
        header = file.metadata()
    arrays = load_file(path)
    for name, value in changes.items():
        (header if isinstance(value, str) else arrays)[name] = value
    if is_sealed:
        header['sha256'] = TrainingTable(**arrays, name=table.name, metadata={}).sha256
        header = seal(header)
    save_file(arrays, path, metadata=header)


def test_changed_file(table, tmp_path):
    path = tmp_path / 'changed'
    rewrite(path, table, target=table.target + 1)
    with pytest.raises(ValueError, match='changed is damaged or was changed'):
        read_training_table(path)
    rewrite(path, table, feature_names='["a", "b"]')
    with pytest.raises(ValueError, match='changed has other features'):
        read_training_table(path)
    rewrite(path, table, more=np.zeros(3))
    with pytest.raises(ValueError, match='changed holds no complete training table'):
        read_training_table(path)


def test_shipped_table():
    table, _ = read_training_table(locate_table('simulated-3'))
    assert table.features.shape == (len(table.target), len(FEATURES))
    assert np.isfinite(table.target).all()
    assert (table.scatter > 0).all()
    assert table.metadata['library']['seed'] == 31250


def test_light_that_is_elsewhere_is_flagged():
    """As with an astrometric offset: what is at the position is the wing of a galaxy beside it."""
    y, x = np.mgrid[:121, :121] - 60.0
    noise = np.random.default_rng(0).normal(size=x.shape)
    estimator = RegressionFluxEstimator('boosting')
    for offset in (0, 2, 10, 20):
        image = 8e3 * np.exp(-((x - offset) ** 2 + y**2) / 18) / (18 * np.pi)
        table = estimator.measure(image + noise, error=1.0, psf_fwhm=4.0)
        assert ('OFF_CENTRE' in decode_flags(table['flags'])[0]) is (offset >= 10)


@pytest.mark.parametrize(
    ('changes', 'text'),
    [
        ({'metadata': '0'}, 'has metadata that are no names with values, but 0'),
        ({'params': 'x'}, 'has params that are not JSON'),
        ({'params': '{"model": 3}'}, 'states parameters that are none: model = 3'),
        ({'params': '{"executable": "sh"}'}, 'states parameters that are none: executable'),
        ({'target': np.full(400, np.nan, 'f4')}, 'holds numbers that are not finite'),
        ({'features': np.full((400, 26), np.inf, 'f2')}, 'holds numbers that are not finite'),
        ({'scatter': np.zeros(400, 'f4')}, 'holds errors that are not positive'),
        ({'group': np.zeros(399, 'i4')}, 'holds no complete training table'),
        ({'target': np.zeros(400)}, 'holds no complete training table'),
        ({'features': np.zeros((400, 25), 'f2')}, 'holds no complete training table'),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else '',
)
def test_tables_that_make_no_sense(table, tmp_path, changes, text):
    """Also if the hashes say that they are as they were written."""
    path = tmp_path / 'table'
    rewrite(path, table, is_sealed=True, **changes)
    with pytest.raises(ValueError, match=f'table {text}'):
        read_training_table(path)


def test_damaged_tables_are_refused(table, tmp_path):
    path = tmp_path / 'table'
    write_training_table(path, table)
    content, rng = path.read_bytes(), np.random.default_rng(6)
    n_texts = 8 + int.from_bytes(content[:8], 'little')
    for number in range(200):
        where = int(rng.integers(n_texts if number % 2 else len(content)))
        damaged = bytearray(content)
        if number % 10 == 0:
            del damaged[where:]
        else:
            damaged[where] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r'table (is|has|holds|lacks|states) '):
            read_training_table(path)
