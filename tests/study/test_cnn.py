# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Trainings of the networks of the study, and the stages that show them."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

pytest.importorskip('galsim')

from astroflux.simulation import get_survey
from astroflux.study import cnn, figures, trainings
from astroflux.study.cnn import CNN_NAMES, gain_of, plan_trainings
from astroflux.study.published import PUBLISHED_LOSSES, published_samples
from astroflux.study.results import fit_for_json
from astroflux.study.run import PRESETS, Context, Preset
from astroflux.study.trainings import CNNConfiguration, read_trained, train_all, train_cnn

CONFIGURATION = CNNConfiguration('one', 0.001, 3, seed=1, batch_size=4)


@pytest.fixture(scope='module')
def context(tmp_path_factory, study_folder):
    folder = tmp_path_factory.mktemp('run')
    preset = Preset(30, 12, max_epochs=1, n_seeds=2, n_joined_seeds=2)
    return Context(preset, study_folder, folder / 'stage', workers=1, progress=False)


@pytest.fixture(scope='module')
def sets(context):
    return context.train, context.test


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
    state, n_threads = torch.random.get_rng_state(), torch.get_num_threads()
    assert_same(train(path, sets), trained)
    # torch is as it was
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.get_num_threads() == n_threads
    assert float(torch.tensor(1e-40) * 1) > 0
    # what is finished is read
    monkeypatch.setattr(trainings, '_train', None)
    assert_same(train(path, sets), trained)
    with pytest.raises(ValueError, match=r'with epochs=3, not with epochs=4'):
        train(path, sets, epochs=4)


def test_more_noise(sets):
    test, rows = sets[1], torch.tensor([7, 3])
    noisy, other_set = (
        trainings._Pixels(test, replace(CONFIGURATION, noise_factor=10), k) for k in (1, 0)
    )
    images = noisy.batch(rows)[0][:, 0].numpy()
    added = images - test.images[rows]
    assert added.std() == pytest.approx(test.noise * np.sqrt(99), rel=0.02)
    # the same in each epoch, another in each image and set
    np.testing.assert_array_equal(noisy.batch(rows.flip(0))[0][1, 0], images[0])
    assert abs(np.corrcoef(added[0].ravel(), added[1].ravel())[0, 1]) < 0.03
    assert not np.array_equal(other_set.batch(rows)[0][:, 0], images)


def test_columns_are_standardized_by_the_training_set(sets, tmp_path):
    # of a constant, which must not divide by zero
    sets = [replace(part, table=part.table.assign(R_e=1.0)) for part in sets]
    trained = train(tmp_path / 'one.pt', sets, epochs=1, columns=('R_e', 'Bt'))
    network, ratio = trained.network, sets[0].table['Bt']
    assert network.column_mean.tolist() == pytest.approx([1.0, ratio.mean()], rel=1e-5)
    assert network.column_scale.tolist() == pytest.approx([1.0, ratio.std(ddof=0)], rel=1e-5)
    columns = torch.tensor(sets[1].table[['R_e', 'Bt']].to_numpy(np.float32))
    expected = answers(trained, sets[1], columns)
    np.testing.assert_allclose(trained.predictions, expected, rtol=1e-4)


def test_diverged_training_ends(sets, tmp_path):
    bright = [replace(part, images=np.float32(1e30) * part.images) for part in sets]
    trained = train(tmp_path / 'one.pt', bright, epochs=1, learning_rate=0.5)
    (row,) = cnn.describe([trained], sets[1].log_flux).to_dict('records')
    assert not np.isfinite(row['test_loss'])
    assert row['n_failed'] == 12
    assert row['within_wide'] == 0


def test_processes_give_the_same(trained, context, tmp_path, monkeypatch):
    monkeypatch.setattr(trainings, 'FEW_IMAGES', 0)
    # nothing is left to this process
    monkeypatch.setattr(trainings, '_one_epoch', None)
    (tmp_path / 'stage').mkdir()
    several = replace(context, folder=tmp_path / 'stage', workers=2)
    other = replace(CONFIGURATION, epochs=1, seed=2, name='other')
    found = train_all(several, [other, CONFIGURATION])
    assert_same(found['one'], trained)
    assert found['other'].history['train_loss'][0] != trained.history['train_loss'][0]
    assert not any(several.folder.iterdir())


def test_plan_of_the_full_study():
    plan = plan_trainings(replace(PRESETS['full'], n_joined_seeds=4))
    assert [(c.name, c.learning_rate, c.epochs, c.seed) for c in plan['published']] == [
        ('cnn-1', 0.01, 7, 1),
        ('cnn-2', 0.001, 10, 2),
        ('cnn-3', 0.001, 15, 3),
    ]
    assert all(c.dropout == 0.2 and c.scale == 1 and not c.columns for c in plan['published'])
    assert [(c.seed, c.epochs) for c in plan['first']] == [(k, 7) for k in (1, 2, 3, 4, 5)]
    for what in ('image only', 'image, R_e, Bt', 'image, all columns'):
        assert [(c.seed, c.learning_rate) for c in plan[what]] == [(k, 1e-3) for k in (2, 3, 4, 5)]
    # twins of the same seeds are not trained twice
    names = [c.name for c in plan['image only']]
    assert names == ['cnn-2', 'cnn-3', 'third-seed-4', 'second-seed-5']
    assert [(c.stretch, c.scale, c.noise_factor, c.batch_size) for c in plan['second']] == [
        ('linear', 100, 1, 64),
        ('asinh', get_survey().noise, 1, 64),
        ('linear', 1, 10, 64),
        ('linear', 1, 1, 16),
    ]


@pytest.fixture(scope='module')
def run(context):
    """Folder of the three stages, and what they return."""
    folder, found = context.folder.parent, {}
    for stage in ('cnn', 'explanations', 'joined'):
        (folder / stage).mkdir()
        context.folder = folder / stage
        found[stage] = fit_for_json(getattr(cnn, stage)(context))
    return folder, found


def test_results_of_the_networks(run, sets):
    folder, test, found = run[0], sets[1], run[1]['cnn']
    table = pd.read_csv(folder / 'cnn' / 'predictions.csv').set_index(test.table['file_name'])
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
        assert list(samples.index) == [row['file_name'] for row in found['samples']['cnn-1']]
        away = (samples['predicted'] - samples['actual']).abs()
        for column, wanted in (('actual', 'actual'), ('predicted', name)):
            np.testing.assert_allclose(samples[column], table[wanted][samples.index])
        np.testing.assert_allclose(samples['difference'], away)
    best = min(found['trainings'], key=lambda row: row['test_loss'])
    assert found['best'] == best['name']
    assert found['n_parameters'] == 1_884_465
    # the flowchart has all that is trained
    network = read_trained(folder / 'trainings' / 'cnn-1.pt').network
    drawn = [layer for *_, layer in cnn._layers(network) if layer]
    assert sum(w.numel() for layer in drawn for w in layer.parameters()) == found['n_parameters']


def test_explanations_are_trained(run):
    found = run[1]['explanations']
    assert [row['seed'] for row in found['first_seeds']] == [1, 2, 1]
    assert [row['seed'] for row in found['third_seeds']] == [3, 4]
    assert list(found['second']['seeds']) == ['2', '3']
    assert list(found['second']['variants']) == list(cnn.VARIANTS)
    # each is something else
    losses = [loss for each in ('seeds', 'variants') for loss in found['second'][each].values()]
    assert len(set(losses)) == 6
    assert [row['name'] for row in found['dropout']] == list(CNN_NAMES)


def test_joined_networks_see_the_columns(run, sets):
    folder, found = run[0], run[1]['joined']
    columns = found['columns']['image, all columns']
    assert {'sersic_idx_d', 'PA_b', 'R_e', 'Bt'} <= set(columns)
    assert not {'total_flux', 'log_total_flux', 'file_name'} & set(columns)
    network = read_trained(folder / 'trainings' / 'all-columns-seed-2.pt').network
    mean = sets[0].table[columns].mean()
    np.testing.assert_allclose(network.column_mean, mean, rtol=1e-5, atol=1e-5)
    table = pd.read_csv(folder / 'joined' / 'joined.csv')
    assert table.groupby('input')['seed'].apply(list).tolist() == [[2, 3]] * 3
    twins = [read_trained(folder / 'trainings' / f'cnn-{k}.pt') for k in (2, 3)]
    assert found['losses']['image only'] == [one.history['test_loss'][0] for one in twins]


def test_published_samples_are_consistent():
    for name in CNN_NAMES:
        samples = published_samples(name)
        assert len(samples) == 10
        away = np.abs(samples['predicted'] - samples['actual'])
        np.testing.assert_allclose(samples['difference'], away, atol=1.5e-6)


def test_constant_predictions():
    # equal to the digits that the report prints
    assert cnn.constant_share([4.0268221, 4.0268223, 4.0268222, 4.2]) == 0.75
    assert cnn.constant_share(published_samples('cnn-1')['predicted']) == 0.9
    assert cnn.constant_share(published_samples('cnn-2')['predicted']) == 0.1
    assert cnn.constant_share([np.nan] * 4) == 1


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


def test_gain():
    low, high = [0.020, 0.021, 0.0205], [0.040, 0.042, 0.041]
    gain = gain_of(high, low)
    assert gain['factor'] == pytest.approx(2)
    assert 1 < gain['low'] < 2 < gain['high']
    assert gain['p_value'] < 0.001
    assert gain_of([0.03, 0.06, 0.045], [0.035, 0.05, 0.04])['p_value'] > 0.3
    single, diverged = gain_of([0.04], [0.02]), gain_of([0.04, math.nan], [0.02, 0.03])
    assert single['factor'] == pytest.approx(2)
    assert math.isnan(single['p_value'])
    assert math.isnan(diverged['p_value'])


def test_figures_show_the_losses_and_the_published_ones():
    (ax,) = figures.plot_losses([('a', {'test': [0.15, 0.05]}, {'old': (7, 0.2)})], variance=0.3)
    points = {line.get_label(): np.array(line.get_data())[:, -1] for line in ax.lines}
    np.testing.assert_allclose(points['test'], [2, 0.05])
    np.testing.assert_allclose(points['old'], [7, 0.2])
    np.testing.assert_allclose(points['variance of log flux'], [1, 0.3])
    # what is far off, or no number, is in the last bin
    ax = figures.plot_differences(np.array([0.01, 0.02, 5.0, np.inf]), title='a')
    assert [patch.get_height() for patch in ax.patches][:: len(ax.patches) - 1] == [2, 2]
