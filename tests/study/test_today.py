# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The methods of today on the study's images: measurements, statistics, costs, stages."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

pytest.importorskip('galsim')

from astroflux.evaluation import ImageModel, ln_flux_bound
from astroflux.evaluation.information import fisher_information, population_prior
from astroflux.networks import load_weights
from astroflux.study import today
from astroflux.study.catalogue import StudySettings, image_model_truth
from astroflux.study.dataset import load_set
from astroflux.study.published import CNN_NAMES
from astroflux.study.results import read_study
from astroflux.study.today import BOUND, GOAL_MSE, METHODS, SUBSTITUTE, StudyPopulation

LN10 = np.log(10)


@pytest.fixture(scope='module')
def run(smoke_run):
    """Both sets of a run of all stages, what was predicted, and what the stages found."""
    train, test = (load_set(smoke_run / 'dataset', which) for which in ('train', 'test'))
    predictions = pd.read_csv(smoke_run / 'today' / 'predictions.csv')
    settings = StudySettings(n_train=60, n_test=40)
    found = {**read_study(smoke_run)['stages'], 'folder': smoke_run, 'settings': settings}
    return SimpleNamespace(**found, train=train, test=test, predictions=predictions)


def test_bound_is_that_of_the_evaluation(run):
    population = StudyPopulation(run.settings)
    truth = image_model_truth(run.test.table.iloc[7], run.settings)
    model = ImageModel(truth, (143, 143), 0.168)
    bound, snr = run.predictions['bound'][7], run.predictions['snr'][7]
    assert snr == pytest.approx(np.sqrt(np.sum(model.image**2)) / 0.05)
    direct = ln_flux_bound(model, 0.05, sky_error=0, population=population)
    assert bound == pytest.approx(direct, rel=1e-9)
    # between a galaxy of known shape and one of which nothing is known
    known = fisher_information(model.jacobian, 0.05)[0, 0] ** -0.5
    assert known < bound <= ln_flux_bound(model, 0.05, sky_error=0) * (1 + 1e-9)


def test_prior_is_that_of_the_population(study_settings):
    names, covariance = population_prior(StudyPopulation(study_settings), 2)
    variance = dict(zip(names, np.diag(covariance), strict=True))
    for name in ('x', 'bulge_to_total'):
        assert variance[name] == pytest.approx(1 / 12, rel=0.05)
    index = np.log(np.random.default_rng(0).uniform(4, 5, 10_000))
    assert variance['ln_sersic_index_2'] == pytest.approx(index.var(), rel=0.1)


def test_stage_today(run):
    test, predictions = run.test, run.predictions
    assert list(predictions) == ['img_number', 'actual', *METHODS, 'bound', 'snr']
    assert (predictions['img_number'] == test.table['img_number']).all()
    sums = test.images.sum(axis=(1, 2), dtype=float)
    np.testing.assert_allclose(predictions['sum'], np.log10(sums))
    for name in ('shipped', 'tuned'):
        assert np.abs(predictions[name] - test.log_flux)[test.flux > 1000].max() < 0.06
    weights = load_weights(run.folder / 'today' / 'fine-tuned.safetensors')
    assert weights.metadata['n_fitted'] == 60
    assert run.today['weights']['sha256'] == load_weights().sha256 != weights.sha256
    methods = {row['method']: row for row in run.today['methods']}
    learned = pd.read_csv(run.folder / 'cnn' / 'predictions.csv')
    mse = np.mean((learned['cnn-2'] - learned['actual']) ** 2)
    assert methods['study CNN 2']['mse'] == pytest.approx(mse, rel=1e-4)
    scatter = LN10 * run.train.log_flux.std()
    limited = (predictions['bound'] ** -2 + scatter**-2) ** -0.5
    assert methods[BOUND]['mse'] == pytest.approx(np.mean((limited / LN10) ** 2))
    assert run.today['substitute'] == pytest.approx(run.train.log_flux.mean())
    for name in ('today_by_flux.csv', 'today_by_snr.csv'):
        rows = pd.read_csv(run.folder / 'today' / name)
        assert (rows.groupby('method')['n'].sum() == 40).all()


def test_measurements_go_on_and_refuse_others(run, monkeypatch):
    tuned, parts = (run.folder / 'today' / name for name in ('fine-tuned.safetensors', 'parts'))
    # all is there
    monkeypatch.setattr(today.StudyCutouts, 'load', None)
    table = today.measure(run.test, run.settings, tuned, parts, progress=False)
    np.testing.assert_array_equal(table['tuned'], run.predictions['tuned'])
    changed = replace(run.settings, seed=6)
    for settings, weights in ((changed, tuned), (run.settings, 'study-2024')):
        with pytest.raises(ValueError, match=r'was begun with .*(seed=2024|weights.tuned=)'):
            today.measure(run.test, settings, weights, parts)
    # no images are asked for
    assert today.fine_tune(None, tuned, epochs=1) == tuned


def test_stage_accuracy(run):
    for name in ('accuracy_bt.csv', 'accuracy_r_e.csv'):
        rows = pd.read_csv(run.folder / 'accuracy' / name)
        assert (rows.groupby('method')['n'].sum() == 40).all()
    fits = pd.read_csv(run.folder / 'accuracy' / 'accuracy_fits.csv')
    assert fits['img_number'].tolist() == [run.test.table['img_number'][0]]
    assert fits['bulge-disc'][0] == pytest.approx(run.test.log_flux[0], abs=0.1)
    assert fits['shipped'][0] == pytest.approx(run.predictions['shipped'][0], abs=1e-5)


def test_failures_count_as_wrong():
    found = today.positive_log10([100.0, 0.0, -3.0, np.nan, np.inf])
    np.testing.assert_array_equal(found, [2, *4 * [np.nan]])
    error, guess = np.log([1.05, 1.2, 1.5, np.nan]), np.full(4, LN10)
    found = today.method_statistics(error, guess, np.full(4, 0.01))
    assert (found['n'], found['n_failed']) == (4, 1)
    assert (found['beyond_10'], found['beyond_30']) == (0.75, 0.5)
    squared = np.log10([1.05, 1.2, 1.5]) ** 2
    assert found['mse_measured'] == pytest.approx(squared.mean())
    assert found['mse'] == pytest.approx((squared.sum() + 1) / 4)
    assert found['bias_percent'] == pytest.approx(20)
    nothing = today.method_statistics(np.full(3, np.nan), guess[:3], np.ones(3))
    assert (nothing['n_failed'], nothing['beyond_30']) == (3, 1.0)
    assert nothing['mse'] == pytest.approx(1)
    assert np.isnan(nothing['mse_measured'])


def test_bound_as_a_method():
    bound = np.array([0.01, 0.05, 0.2, 0.4])
    errors = bound * np.random.default_rng(1).normal(size=(100_000, 4))
    found = today.bound_statistics(bound)
    assert found['mse'] == pytest.approx(np.mean((errors / LN10) ** 2), rel=0.01)
    for name, limit in today.SHARES.items():
        assert found[name] == pytest.approx((np.abs(np.expm1(errors)) > limit).mean(), rel=0.02)
    spread = 1.4826 * np.median(np.abs(errors))
    assert found['scatter_percent'] == pytest.approx(100 * spread, rel=0.02)


def test_goal():
    goal = LN10 * np.sqrt(GOAL_MSE)
    columns = {BOUND: goal, 'shipped network': 0.9 * goal, 'fine-tuned network': 1.1 * goal}
    errors = pd.DataFrame(columns | {SUBSTITUTE: 2.0}, index=range(600))
    is_faint = errors.index < 6
    table = today.goal_table(errors, is_faint).set_index(['galaxies', 'method'])
    judged = table.loc['all']
    assert judged.loc['shipped network', 'mse'] == pytest.approx(0.81 * GOAL_MSE)
    assert judged.loc['shipped network', ['mse_met', 'share_met']].tolist() == [True, True]
    assert judged.loc['fine-tuned network', ['mse_met', 'share_met']].tolist() == [False, True]
    assert judged.loc[BOUND, 'mse_over_bound'] == 1
    assert table.loc[('without the faintest 1 %', BOUND), 'n'] == 594
    # one failure of 600 is more than may be beyond 10 %
    errors.loc[3, 'shipped network'] = np.nan
    part = today.part_of_the_faintest(errors, errors.index == 3)['part'][1]
    assert part == pytest.approx(4 / (4 + 599 * (0.9 * goal) ** 2))
    table = today.goal_table(errors, is_faint).set_index(['galaxies', 'method'])
    columns = ['n', 'n_failed', 'mse_met', 'share_met']
    assert table.loc[('all', 'shipped network'), columns].tolist() == [600, 1, False, False]
    assert table.loc[('measured', 'shipped network'), columns].tolist() == [599, 0, True, True]


def test_costs():
    off = {'kron': -0.02, 'shipped': 0.001, 'cnn-1': 0.5, 'cnn-2': 0.2, 'cnn-3': 0.1}
    off |= {'sersic': np.array([0.01, np.nan]), 'bulge-disc': 0.0}
    actual = np.array([3.0, 4.0])
    log_flux = pd.DataFrame({'actual': actual, **{name: actual + off[name] for name in off}})
    seconds = {'shipped': 4e-4, **dict.fromkeys(CNN_NAMES, 5e-4), 'kron': 8e-3}
    table = today.cost_table(log_flux, {**seconds, 'sersic': 1.0, 'bulge-disc': 2.0})
    table = table.set_index('method')
    times = [5000, 4000, 4000, 4000, 250, 2, 1]
    assert table['speed_over_fit'].tolist() == pytest.approx(times)
    assert table['mse']['study CNN 3'] == pytest.approx(0.01)
    assert table.loc['Sersic fit', ['n', 'n_failed']].tolist() == [2, 1]
    assert table['mse']['Sersic fit'] == pytest.approx(1e-4)
    assert table.loc['Kron', 'median_percent'] == pytest.approx(100 * (1 - 10**-0.02))
