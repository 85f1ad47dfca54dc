# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Trainings of the networks of the study, and the stages that show them."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

pytest.importorskip('galsim')

from astroflux.study import cnn, trainings
from astroflux.study.cnn import CNN_NAMES, gain_of, plan_trainings
from astroflux.study.dataset import load_set
from astroflux.study.published import PUBLISHED_LOSSES
from astroflux.study.results import read_study
from astroflux.study.run import PRESETS
from astroflux.study.trainings import CNNConfiguration, read_trained, train_all, train_cnn

CONFIGURATION = CNNConfiguration('one', 0.001, 3, seed=1, batch_size=4)


@pytest.fixture(scope='module')
def sets(study_folder):
    return load_set(study_folder, 'train'), load_set(study_folder, 'test')


@pytest.fixture(scope='module')
def trained(tmp_path_factory, sets):
    return train(tmp_path_factory.mktemp('trained') / 'one.pt', sets)


def train(path, sets, **changes):
    return train_cnn(*sets, replace(CONFIGURATION, **changes), path, progress=False)


def answers(trained, study_set, columns=None):
    with torch.inference_mode():
        return trained.network(torch.from_numpy(study_set.images)[:, None], columns).numpy()


def assert_same(one, other):
    np.testing.assert_array_equal(one.history.iloc[:, :3], other.history.iloc[:, :3])
    np.testing.assert_array_equal(one.predictions, other.predictions)
    weights = other.network.state_dict()
    torch.testing.assert_close(one.network.state_dict(), weights, rtol=0, atol=0)
    assert {**one.summary, 'seconds': 0} == {**other.summary, 'seconds': 0}


def test_losses_are_what_they_say(trained, sets):
    train, test = sets
    history, summary = trained.history, trained.summary
    assert history['epoch'].tolist() == [1, 2, 3]
    assert history['train_loss'][2] < history['train_loss'][0] / 3
    loss = np.mean((trained.predictions - test.log_flux) ** 2)
    assert summary['test_loss'] == history['test_loss'][2] == pytest.approx(loss, rel=1e-5)
    loss = np.mean((answers(trained, train) - train.log_flux) ** 2)
    assert summary['train_loss_dropout_off'] == pytest.approx(loss, rel=1e-4)
    # neurons are left out, so that the answers scatter more
    assert summary['train_loss_dropout_on'] > 1.1 * loss


@pytest.mark.parametrize('after', [1, 3])
def test_resumed_training_is_the_same(trained, sets, tmp_path, monkeypatch, after):
    path, write = tmp_path / 'one.pt', trainings._write_state

    def write_and_stop(state, path):
        write(state, path)
        if len(state['history']) == after:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(trainings, '_write_state', write_and_stop)
        with pytest.raises(KeyboardInterrupt):
            train(path, sets)
    with pytest.raises(ValueError, match='is not finished'):
        read_trained(path)
    assert_same(train(path, sets), trained)
    # what is finished is read
    monkeypatch.setattr(trainings, '_train', None)
    assert_same(train(path, sets), trained)
    with pytest.raises(ValueError, match=r'with epochs=3, not with epochs=4'):
        train(path, sets, epochs=4)


def test_more_noise(sets):
    test, rows = sets[1], torch.tensor([7, 3])
    noisy = trainings._Pixels(test, replace(CONFIGURATION, noise_factor=10), 1)
    images = noisy.batch(rows)[0][:, 0].numpy()
    added = images - test.images[rows]
    assert added.std() == pytest.approx(test.noise * np.sqrt(99), rel=0.02)
    # the same in each epoch, another in each image
    np.testing.assert_array_equal(noisy.batch(rows.flip(0))[0][1, 0], images[0])
    assert abs(np.corrcoef(added[0].ravel(), added[1].ravel())[0, 1]) < 0.03


def test_processes_give_the_same(trained, study_context, monkeypatch):
    monkeypatch.setattr(trainings, 'FEW_IMAGES', 0)
    # nothing is left to this process
    monkeypatch.setattr(trainings, '_one_epoch', None)
    other = replace(CONFIGURATION, epochs=1, seed=2, name='other')
    found = train_all(replace(study_context, workers=2), [other, CONFIGURATION])
    assert_same(found['one'], trained)
    assert found['other'].history['train_loss'][0] != trained.history['train_loss'][0]
    assert not any(study_context.folder.iterdir())


def test_plan_of_the_full_study():
    plan = plan_trainings(replace(PRESETS['full'], n_joined_seeds=4))
    published = [(c.learning_rate, c.epochs, c.seed) for c in plan['published']]
    assert published == [(0.01, 7, 1), (0.001, 10, 2), (0.001, 15, 3)]
    assert [(c.seed, c.epochs) for c in plan['first']] == [(k, 7) for k in (1, 2, 3, 4, 5)]
    # twins of the same seeds are not trained twice
    twins = [(c.name, c.seed) for c in plan['image only']]
    assert twins == [('cnn-2', 2), ('cnn-3', 3), ('third-seed-4', 4), ('second-seed-5', 5)]


def test_results_of_the_networks(smoke_run):
    test, found = load_set(smoke_run / 'dataset', 'test'), read_study(smoke_run)['stages']['cnn']
    table = pd.read_csv(smoke_run / 'cnn' / 'predictions.csv').set_index(test.table['file_name'])
    np.testing.assert_array_equal(table['img_number'], test.table['img_number'])
    np.testing.assert_allclose(table['actual'], test.log_flux)
    assert [row['name'] for row in found['trainings']] == list(CNN_NAMES)
    for row in found['trainings']:
        name, label = row['name'], row['title'].partition(':')[0]
        own = [each for each in found['rows'] if each['what'].startswith(label)]
        assert [each['published'] for each in own[:2]] == list(PUBLISHED_LOSSES[name])
        assert [each['ours'] for each in own[:2]] == [row['train_loss'], row['test_loss']]
        loss = np.mean((table[name] - table['actual']) ** 2)
        assert row['test_loss'] == pytest.approx(loss, rel=1e-5)
        samples = pd.DataFrame(found['samples'][name]).set_index('file_name')
        assert len(samples) == 10
        drawn = table.loc[samples.index]
        np.testing.assert_allclose(samples[['actual', 'predicted']], drawn[['actual', name]])
        away = abs(drawn[name] - drawn['actual'])
        np.testing.assert_allclose(samples['difference'], away, atol=1e-12)
    assert found['n_parameters'] == 1_884_465


def test_explanations_are_trained(smoke_run):
    found = read_study(smoke_run)['stages']['explanations']
    assert [row['seed'] for row in found['first_seeds']] == [1, 2, 1]
    assert [row['seed'] for row in found['third_seeds']] == [3, 4]
    assert list(found['second']['seeds']) == ['2']
    assert list(found['second']['variants']) == list(cnn.VARIANTS)
    # each is something else
    losses = [loss for each in ('seeds', 'variants') for loss in found['second'][each].values()]
    assert len(set(losses)) == 5


def test_joined_networks_see_the_columns(smoke_run):
    found = read_study(smoke_run)['stages']['joined']
    train, test = (load_set(smoke_run / 'dataset', which) for which in ('train', 'test'))
    columns = found['columns']['image, all columns']
    assert {'sersic_idx_d', 'PA_b', 'R_e', 'Bt'} <= set(columns)
    assert not {'total_flux', 'log_total_flux', 'file_name'} & set(columns)
    trained = read_trained(smoke_run / 'trainings' / 'all-columns-seed-2.pt')
    seen, scatter = train.table[columns].mean(), train.table[columns].std(ddof=0)
    np.testing.assert_allclose(trained.network.column_mean, seen, rtol=1e-5, atol=1e-5)
    # a column of one value must not divide by zero
    wanted = scatter.mask(scatter == 0, 1)
    np.testing.assert_allclose(trained.network.column_scale, wanted, rtol=1e-5)
    values = torch.tensor(test.table[columns].to_numpy(np.float32))
    np.testing.assert_allclose(trained.predictions, answers(trained, test, values), rtol=1e-4)
    assert pd.read_csv(smoke_run / 'joined' / 'joined.csv')['seed'].tolist() == [2, 2, 2]
    twin = read_trained(smoke_run / 'trainings' / 'cnn-2.pt')
    assert found['losses']['image only'] == [twin.history['test_loss'][0]]


def test_failures_count_as_wrong():
    actual = np.linspace(2, 4, 20)
    predicted = actual + 0.05
    predicted[0] += 0.45
    predicted[19] = np.nan
    numbers = cnn.judge_predictions(actual, predicted)
    assert numbers['n_failed'] == 1
    assert numbers['within_narrow'] == numbers['within_wide'] == 18 / 20
    assert numbers['bias'] == numbers['median_difference'] == pytest.approx(0.05)
    # two of the nineteen are in the faintest tenth
    assert numbers['faint_share'] == pytest.approx((0.25 + 0.0025) / (0.25 + 18 * 0.0025))
    assert cnn.judge_predictions(actual, np.nan * actual)['within_wide'] == 0
    # equal to the digits that the report prints
    assert cnn.constant_share([4.0268221, 4.0268223, 4.0268222, 4.2]) == 0.75


def test_gain():
    low, high = [0.020, 0.021, 0.0205], [0.040, 0.042, 0.041]
    gain = gain_of(high, low)
    assert gain['factor'] == pytest.approx(2)
    assert 1 < gain['low'] < 2 < gain['high']
    assert gain['p_value'] < 0.001
    assert math.isnan(gain_of([0.04], [0.02])['p_value'])
    assert math.isnan(gain_of([0.04, math.nan], [0.02, 0.03])['p_value'])
