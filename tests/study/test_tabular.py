# Licensed under a 3-clause BSD style license - see LICENSE.rst
import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from astroflux.study import tabular
from astroflux.study.chance import (
    accuracy_by_chance,
    column_information,
    independence,
    r2_of_shuffled,
)
from astroflux.study.dataset import StudySettings, draw_catalogue
from astroflux.study.tabular import CLASSES, feature_names, flux_classes, forest, linear, logistic
from astroflux.study.tabular_remarks import class_remarks

N_TRAIN, N_TEST = 900, 400


@pytest.fixture
def rng():
    return np.random.default_rng(3)


@pytest.fixture(scope='module')
def catalogue():
    pytest.importorskip('galsim')
    return draw_catalogue(StudySettings(n_train=N_TRAIN, n_test=N_TEST, seed=8))


def make_context(table, folder):
    def part(rows):
        rows = rows.reset_index(drop=True)
        return SimpleNamespace(table=rows, log_flux=np.log10(rows['total_flux'].to_numpy()))

    return SimpleNamespace(
        train=part(table[:N_TRAIN]),
        test=part(table[N_TRAIN:]),
        folder=folder,
        workers=1,
        preset=SimpleNamespace(n_trees=20),
    )


@pytest.fixture
def context(catalogue, tmp_path):
    """A table as the study has it."""
    return make_context(catalogue, tmp_path)


@pytest.fixture
def telling(catalogue, tmp_path, rng):
    """A table of which one column tells the flux."""
    noise = rng.normal(0, 0.02, len(catalogue))
    return make_context(catalogue.assign(R_e=catalogue['log_total_flux'] + noise), tmp_path)


def published(result):
    return {row['what']: row['published'] for row in result['rows']}


def ours(result):
    return {row['what']: row['ours'] for row in result['rows']}


def check_files(result, folder):
    for name in result['tables']:
        assert len(pd.read_csv(folder / name)) > 0
    for name in result['figures']:
        assert (folder / name).read_bytes().startswith(b'\x89PNG')
    json.dumps(result, allow_nan=False)


def test_features_are_all_columns_but_the_target(catalogue):
    names = feature_names(catalogue)
    assert len(names) == 14
    assert not {'total_flux', 'log_total_flux', 'file_name'} & {*names}


def test_classes_are_terciles_of_the_training_set():
    train = np.arange(300.0)
    classes = flux_classes(train, train)
    assert [np.sum(classes == name) for name in CLASSES] == [100, 100, 100]
    assert (np.sort(train[classes == 'medium']) == np.arange(100, 200)).all()
    # others are sorted by the same limits
    assert flux_classes(np.array([-5.0, 150.0, 1e6]), train).tolist() == list(CLASSES)


def test_linear_models_of_the_study_are_no_better_than_chance(context):
    result = linear(context)
    check_files(result, context.folder)
    assert published(result)['MSE, all columns'] == 0.17889
    assert published(result)['R2, R_e and Bt'] == -0.000351
    for model in result['models']:
        assert model['shuffled_r2_low'] < model['r2'] < 0.02
        assert model['r2_p_value'] > 0.003
        assert model['mse'] == pytest.approx((1 - model['r2']) * result['variance'])
    assert sum('no better than chance' in remark for remark in result['remarks']) == 2
    assert result['variance'] == pytest.approx(context.test.log_flux.var())
    assert result['information_n_sigma'] < 4
    assert any('no dependence of any form' in remark for remark in result['remarks'])


def test_linear_models_of_a_table_that_tells(telling):
    result = linear(telling)
    for model in result['models']:
        assert model['r2'] > 0.98
        assert model['shuffled_r2_high'] < 0.3
        assert model['r2_p_value'] == pytest.approx(1 / 401)
    assert sum('above chance' in remark for remark in result['remarks']) == 2
    assert result['information_n_sigma'] > 10
    assert any('(R_e)' in remark and 'tells something' in remark for remark in result['remarks'])
    information = pd.read_csv(telling.folder / 'linear_information.csv').set_index('column')
    assert information['information'].idxmax() == 'R_e'
    assert information.loc['R_e', 'information'] > 10 * information['shuffled_largest'].max()


def test_a_constant_column_tells_nothing(context):
    linear(context)
    information = pd.read_csv(context.folder / 'linear_information.csv').set_index('column')
    assert (information.loc['num_components'] == 0).all()


@pytest.mark.parametrize('stage', [logistic, forest])
def test_classifiers_of_the_study_are_no_better_than_chance(stage, context):
    result = stage(context)
    name = stage.__name__
    check_files(result, context.folder)
    chance = result['chance']
    assert chance['chance'] == pytest.approx(1 / 3, abs=0.02)
    assert chance['error'] == pytest.approx(np.sqrt(2 / 9 / N_TEST), rel=0.05)
    assert abs(chance['n_sigma']) < 3
    assert any(remark.endswith('chance.') for remark in result['remarks'])
    assert not any('more than chance' in remark for remark in result['remarks'])
    what = next(iter(published(result)))
    assert published(result)[what] == 0.34
    assert ours(result)[what] == chance['accuracy']
    assert ours(result)['class predicted most often'] == max(
        result['predicted_shares'], key=result['predicted_shares'].get
    )

    counts = pd.read_csv(context.folder / f'{name}_confusion.csv').set_index('actual')
    assert counts.to_numpy().sum() == N_TEST
    assert np.trace(counts.to_numpy()) / N_TEST == pytest.approx(chance['accuracy'])
    actual = flux_classes(context.test.log_flux, context.train.log_flux)
    assert [counts.loc[name].sum() for name in CLASSES] == [
        np.sum(actual == name) for name in CLASSES
    ]
    report = pd.read_csv(context.folder / f'{name}_report.csv').set_index('class')
    assert report.loc['low', 'support'] == np.sum(actual == 'low')
    assert report.loc['high', 'recall'] == pytest.approx(
        counts.loc['high', 'predicted high'] / counts.loc['high'].sum()
    )


@pytest.mark.parametrize('stage', [logistic, forest])
def test_classifiers_of_a_table_that_tells(stage, telling):
    result = stage(telling)
    assert result['chance']['accuracy'] > 0.85
    assert result['chance']['n_sigma'] > 20
    assert any('more than chance' in remark for remark in result['remarks'])


def test_forest_of_regression_trees(context, telling):
    noise = forest(context)['regressor']
    # trees grown to the end follow the noise, which costs as much as their scatter
    assert noise['r2'] < -0.01
    assert noise['r2'] == pytest.approx(noise['expected_r2'], abs=6 * noise['correlation_error'])
    assert noise['p_value'] > 0.003
    assert forest(telling)['regressor']['r2'] > 0.95


def test_forest_has_the_trees_of_the_preset(context, monkeypatch):
    asked = []
    original = tabular.RandomForestRegressor

    def record(**options):
        asked.append(options['n_estimators'])
        return original(**options)

    monkeypatch.setattr(tabular, 'RandomForestRegressor', record)
    forest(context)
    assert asked == [20]


def test_independence_is_the_mean_over_all_orders(rng):
    actual = -rng.exponential(size=60)
    predicted = 0.3 * rng.exponential(size=60) + 0.1
    found = independence(actual, predicted)
    orders = [rng.permutation(predicted) for _ in range(20_000)]
    assert found['expected_mse'] == pytest.approx(
        np.mean([(actual - order) ** 2 for order in orders]), rel=0.003
    )
    correlations = [np.corrcoef(actual, order)[0, 1] for order in orders[:5000]]
    assert found['correlation_error'] == pytest.approx(np.std(correlations), rel=0.05)
    assert found['expected_r2'] == pytest.approx(1 - found['expected_mse'] / actual.var())


def test_independence_sees_a_relation(rng):
    actual = rng.normal(size=500)
    found = independence(actual, actual + rng.normal(size=500))
    assert found['correlation'] > 0.6
    assert found['p_value'] < 1e-10
    assert np.isnan(independence(actual, np.ones(500))['correlation'])


def test_accuracy_by_chance():
    actual = np.array(['a'] * 30 + ['b'] * 70)
    always_b = accuracy_by_chance(actual, np.full(100, 'b'))
    assert always_b['accuracy'] == always_b['chance'] == 0.7
    assert always_b['error'] == pytest.approx(np.sqrt(0.21 / 100))
    assert always_b['n_sigma'] == pytest.approx(0)
    right = accuracy_by_chance(actual, actual)
    assert right['chance'] == pytest.approx(0.3**2 + 0.7**2)
    assert right['p_value'] < 1e-10


def test_information_of_any_form_is_found(rng):
    target = rng.normal(size=800)
    columns = pd.DataFrame(
        {
            'nothing': rng.normal(size=800),
            'folded': np.abs(target) * rng.choice([-1, 1], 800),
            'constant': np.ones(800),
        }
    )
    assert abs(np.corrcoef(columns['folded'], target)[0, 1]) < 0.1
    table, n_sigma = column_information(columns, target, rng, n_shuffles=8, max_rows=500)
    found = table.set_index('column')['information']
    assert found.idxmax() == 'folded'
    assert found['folded'] > 0.3
    assert found['constant'] == 0
    assert n_sigma > 10


def test_r2_of_shuffled_is_below_zero_by_the_number_of_columns(rng):
    train, test = rng.normal(size=(500, 10)), rng.normal(size=(5000, 10))
    r2 = r2_of_shuffled(
        train, rng.normal(size=500), test, rng.normal(size=5000), rng, n_shuffles=300
    )
    assert r2.shape == (300,)
    # one degree of freedom for each column and one for the mean
    assert r2.mean() == pytest.approx(-11 / 500, rel=0.2)


@pytest.mark.parametrize(
    ('p_value', 'n_sigma', 'verdict'),
    [
        (0.5, 0.6, 'deviations from that: chance.'),
        (1e-6, 5.0, 'deviations from that: more than chance.'),
        (1e-6, -5.0, 'deviations from that: worse than chance.'),
    ],
)
def test_verdict_on_a_classifier(p_value, n_sigma, verdict):
    judged = {
        'p_value': p_value,
        'n_sigma': n_sigma,
        'chance': 0.33,
        'error': 0.01,
        'accuracy': 0.3,
    }
    shares = {'low': 0.2, 'medium': 0.5, 'high': 0.3}
    first, second = class_remarks(judged, shares, 'medium')
    assert verdict in first
    assert ('the noise of the training set' in second) == (p_value > 0.1)
