# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of the stages that look at the data and its table."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from astroflux.study import tabular
from astroflux.study.catalogue import StudySettings, draw_catalogue
from astroflux.study.tabular import CLASSES

N_TRAIN, N_TEST = 1500, 500


@pytest.fixture
def rng():
    return np.random.default_rng(3)


@pytest.fixture(scope='module')
def catalogue():
    return draw_catalogue(StudySettings(n_train=N_TRAIN, n_test=N_TEST, seed=9))


def make_context(table, folder):
    parts = []
    for rows in (table[:N_TRAIN], table[N_TRAIN:]):
        log_flux = np.log10(rows['total_flux'].to_numpy())
        parts.append(SimpleNamespace(table=rows.reset_index(drop=True), log_flux=log_flux))
    preset = SimpleNamespace(n_trees=20)
    return SimpleNamespace(train=parts[0], test=parts[1], folder=folder, workers=1, preset=preset)


@pytest.fixture
def context(catalogue, tmp_path):
    """A table as the study has it."""
    return make_context(catalogue, tmp_path)


@pytest.fixture
def telling(catalogue, tmp_path, rng):
    """A table of which some columns tell the flux."""
    told = {
        name: catalogue['log_total_flux'] + rng.normal(0, 0.02, len(catalogue))
        for name in ('R_e', 'sersic_idx_d')
    }
    (tmp_path / 'telling').mkdir()
    return make_context(catalogue.assign(**told), tmp_path / 'telling')


def read(context, name, index):
    return pd.read_csv(context.folder / name).set_index(index)


def test_description(study_context):
    result = tabular.describe(study_context)
    found, n_checks = {row['what']: row['ours'] for row in result['rows']}, len(result['checks'])
    assert (found['galaxies, training'], found['galaxies, test']) == (30, 12)
    assert found['checks of the distributions that pass'] == f'{n_checks} of {n_checks}'
    signal = study_context.test.images.astype(float)
    snr = np.sqrt((signal**2).sum((1, 2)) - 0.05**2 * 143**2) / 0.05
    assert found['median S/N of the test images'] == pytest.approx(np.median(snr))
    rows = pd.read_csv(study_context.folder / 'training-rows.csv')
    assert list(rows['row']) == [0, 1, 2, 3, 4, 25, 26, 27, 28, 29]


def test_linear_regressions(context, telling):
    result = tabular.linear(context)
    for model in result['models']:
        assert model['shuffled_r2_low'] < model['r2'] < 0.02
        assert model['mse'] == pytest.approx((1 - model['r2']) * result['variance'])
    assert result['information_n_sigma'] < 4

    result = tabular.linear(telling)
    for model in result['models']:
        assert model['r2'] > 0.98
        assert model['shuffled_r2_high'] < 0.3
        assert model['r2_p_value'] == pytest.approx(1 / 401)
    assert result['information_n_sigma'] > 10
    information = read(telling, 'linear_information.csv', 'column')
    assert information.loc['R_e', 'information'] > 10 * information['shuffled_largest'].max()


def test_judgement_is_the_mean_over_all_orders(rng):
    actual, predicted = -rng.exponential(size=60), 0.3 * rng.exponential(size=60) + 0.1
    found = tabular.judge_regression('', actual, predicted)
    orders = [rng.permutation(predicted) for _ in range(20_000)]
    mse = np.mean([(actual - order) ** 2 for order in orders])
    assert found['expected_mse'] == pytest.approx(mse, rel=0.003)
    correlations = [np.corrcoef(actual, order)[0, 1] for order in orders[:5000]]
    assert found['correlation_error'] == pytest.approx(np.std(correlations), rel=0.05)
    related = tabular.judge_regression('', actual, actual + rng.normal(size=60))
    assert related['correlation'] > 0.5
    assert related['p_value'] < 1e-3


def test_classes_are_terciles_of_the_training_set():
    train = np.arange(300.0)
    classes = tabular.flux_classes(train, train)
    assert (train[classes == 'medium'] == np.arange(100, 200)).all()
    # others are sorted by the same limits
    others = tabular.flux_classes(np.array([-5.0, 150.0, 1e6]), train)
    assert others.tolist() == list(CLASSES)


def test_accuracy_by_chance():
    actual = np.array(['a'] * 30 + ['b'] * 70)
    always_b = tabular.judge_classes(actual, np.full(100, 'b'))
    assert always_b['accuracy'] == always_b['chance'] == 0.7
    assert always_b['error'] == pytest.approx(np.sqrt(0.21 / 100))
    assert always_b['n_sigma'] == pytest.approx(0)
    right = tabular.judge_classes(actual, actual)
    assert right['chance'] == pytest.approx(0.3**2 + 0.7**2)
    assert right['p_value'] < 1e-10


@pytest.mark.parametrize('stage', ['logistic', 'forest'])
def test_classifiers(stage, context, telling):
    result = getattr(tabular, stage)(context)
    chance = result['chance']
    assert chance['chance'] == pytest.approx(1 / 3, abs=0.02)
    assert abs(chance['n_sigma']) < 3
    counts = read(context, f'{stage}_confusion.csv', 'actual')
    assert np.trace(counts.to_numpy()) / N_TEST == pytest.approx(chance['accuracy'])
    actual = tabular.flux_classes(context.test.log_flux, context.train.log_flux)
    assert [counts.loc[k].sum() for k in CLASSES] == [np.sum(actual == k) for k in CLASSES]
    told = getattr(tabular, stage)(telling)
    assert told['chance']['accuracy'] > 0.85
    assert told['chance']['n_sigma'] > 20
    if stage == 'forest':
        # trees grown to the end follow the noise, which costs as much as their scatter
        noise = result['regressor']
        error = 6 * noise['correlation_error']
        assert noise['r2'] == pytest.approx(noise['expected_r2'], abs=error)
        assert noise['r2'] < -0.01
        assert told['regressor']['r2'] > 0.95


def test_components(context, telling):
    result = tabular.components(context)
    # two fractions follow from Bt; the fractions, the angles and the radii belong together
    assert (result['n_columns'], result['n_free'], result['n_components']) == (12, 10, 3)
    loadings = read(context, 'components_loadings.csv', 'column')
    # all components together explain each column fully
    assert (loadings**2).sum(axis=1).to_numpy() == pytest.approx(1, rel=1e-3)
    factors = read(context, 'components_factors.csv', 'column')
    assert not {'flux_frac_b', 'Bt'} & {*factors.index}
    angles = factors.loc['PA_d'].abs().idxmax()
    assert factors.loc[['PA_d', 'PA_b'], angles].to_numpy() == pytest.approx(1, abs=0.05)
    predicted = pd.read_csv(context.folder / 'components_flux.csv')
    full = predicted[predicted['n_components'] == result['n_free']].iloc[0]
    assert full['shuffled_low'] < full['r2'] < 0.02
    assert result['rows'][0]['ours'] == pytest.approx(full['r2'])
    assert all(row['ours'] > 0.9 for row in tabular.components(telling)['rows'])
