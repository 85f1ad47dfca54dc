# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Trainings of the network of the study, on blobs, and the stages that show them."""

import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

pytest.importorskip('galsim')

from astroflux.networks import load_weights
from astroflux.study import cnn, figures, trainings
from astroflux.study.cnn import CNN_NAMES, CONFIGURATIONS, gain_of, plan_trainings
from astroflux.study.dataset import StudySet
from astroflux.study.published import PUBLISHED_LOSSES, published_samples
from astroflux.study.results import fit_for_json
from astroflux.study.run import PRESETS, Context, Preset
from astroflux.study.trainings import CNNConfiguration, find_trained, train_all, train_cnn

CONFIGURATION = CNNConfiguration('blobs', 0.001, 3, seed=1, batch_size=16)
STAGES = ('cnn', 'explanations', 'joined')


def draw_blobs(n, seed):
    """Gaussian galaxies of one size, with log flux from 2.5 to 4.5."""
    rng = np.random.default_rng(seed)
    flux = 10 ** rng.uniform(2.5, 4.5, n)
    y, x = np.mgrid[-71:72, -71:72]
    blob = np.exp(-0.5 * (x**2 + y**2) / 25) / (2 * np.pi * 25)
    images = (flux[:, None, None] * blob).astype(np.float32)
    images += 0.05 * rng.standard_normal(images.shape, np.float32)
    table = pd.DataFrame(
        {'img_number': np.arange(n), 'total_flux': flux, 'R_e': 1.0, 'Bt': rng.random(n)}
    )
    return StudySet(table=table, images=images, psf=np.ones((3, 3)) / 9, noise=0.05)


@pytest.fixture(scope='module')
def sets():
    return draw_blobs(56, 1), draw_blobs(20, 2)


@pytest.fixture(scope='module')
def train(sets):
    """Train on the blobs, or on other sets."""

    def train(directory, configuration=CONFIGURATION, sets=sets, **changes):
        configuration = replace(configuration, **changes)
        return train_cnn(*sets, configuration, directory=directory, progress=False)

    return train


@pytest.fixture(scope='module')
def trained(train, tmp_path_factory):
    return train(tmp_path_factory.mktemp('blobs'))


def losses(trained):
    return trained.history[['epoch', 'train_loss', 'test_loss']].to_numpy()


def answers(trained, study_set, columns=None):
    with torch.inference_mode():
        return trained.network(torch.from_numpy(study_set.images)[:, None], columns).numpy()


# -- one training ------------------------------------------------------------------------------


def test_learns(train, tmp_path):
    sets = draw_blobs(160, 1), draw_blobs(40, 2)
    trained = train(tmp_path, sets=sets, epochs=8, dropout=0.0)
    variance = np.var(sets[1].log_flux)
    assert trained.summary['variance'] == pytest.approx(variance)
    assert trained.summary['test_loss'] < variance / 3
    assert np.corrcoef(trained.predictions, sets[1].log_flux)[0, 1] > 0.85


def test_losses_are_what_they_say(trained, sets):
    train, test = sets
    assert trained.history['epoch'].tolist() == [1, 2, 3]
    loss = np.mean((trained.predictions - test.log_flux) ** 2)
    assert trained.loss_after(3) == pytest.approx(loss, rel=1e-5)
    assert trained.summary['test_loss'] == trained.loss_after(3)
    loss = np.mean((answers(trained, train) - train.log_flux) ** 2)
    assert trained.summary['train_loss_dropout_off'] == pytest.approx(loss, rel=1e-4)
    # neurons are left out, so that the answers scatter more
    assert trained.summary['train_loss_dropout_on'] > 1.1 * loss


def test_weights_file(trained, sets):
    weights = load_weights(trained.directory / 'weights.safetensors')
    metadata, log_flux = weights.metadata, sets[0].log_flux
    assert weights.name == 'study-blobs'
    assert metadata['test_rms_dex'] == pytest.approx(trained.summary['test_loss'] ** 0.5)
    assert metadata['log_flux_range'] == pytest.approx([log_flux.min(), log_flux.max()])
    assert metadata['training']['learning_rate'] == 0.001
    assert (metadata['zeropoint'], metadata['noise']) == (27.0, 0.05)


def test_repeatable_seeded_and_torch_as_it_was(trained, train, tmp_path):
    state, n_threads = torch.random.get_rng_state(), torch.get_num_threads()
    again = train(tmp_path / 'a')
    np.testing.assert_array_equal(losses(again), losses(trained))
    np.testing.assert_array_equal(again.predictions, trained.predictions)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.get_num_threads() == n_threads
    assert float(torch.tensor(1e-40) * 1) > 0
    with trainings.one_thread():
        assert torch.get_num_threads() == 1
        assert float(torch.tensor(1e-40) * 1) == 0
    other = train(tmp_path / 'b', seed=2, epochs=1)
    assert other.history['train_loss'][0] != trained.history['train_loss'][0]


def interrupt(monkeypatch, after):
    """Let the training be interrupted when it has written so many checkpoints."""
    write = trainings._write_checkpoint

    def write_and_stop(*arguments):
        write(*arguments)
        if len(arguments[-1]) == after:
            raise KeyboardInterrupt

    monkeypatch.setattr(trainings, '_write_checkpoint', write_and_stop)


@pytest.mark.parametrize('after', [1, 2, 3])
def test_resumed_training_is_the_same(trained, train, sets, tmp_path, monkeypatch, after):
    with monkeypatch.context() as patch:
        interrupt(patch, after)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path)
    assert find_trained(*sets, CONFIGURATION, tmp_path) is None
    assert len(pd.read_csv(tmp_path / 'history.csv')) == after
    resumed = train(tmp_path)
    np.testing.assert_array_equal(losses(resumed), losses(trained))
    np.testing.assert_array_equal(resumed.predictions, trained.predictions)
    for name, value in trained.network.state_dict().items():
        assert torch.equal(resumed.network.state_dict()[name], value)
    assert {**resumed.summary, 'seconds': 0} == {**trained.summary, 'seconds': 0}
    assert not (tmp_path / 'checkpoint.pt').exists()


def test_finished_training_is_read(trained, train, monkeypatch):
    monkeypatch.setattr(trainings, '_one_epoch', None)
    again = train(trained.directory)
    pd.testing.assert_frame_equal(again.history, trained.history)
    np.testing.assert_array_equal(again.predictions, trained.predictions)
    assert again.summary == trained.summary


def test_other_training_is_refused(trained, train, sets, tmp_path, monkeypatch):
    message = r'was begun with learning_rate=0.001, not with learning_rate=0.01'
    with pytest.raises(ValueError, match=message):
        train(trained.directory, learning_rate=0.01)
    with pytest.raises(ValueError, match=r'was begun with galaxies='):
        train(trained.directory, sets=(sets[0], draw_blobs(20, 9)))
    interrupt(monkeypatch, 1)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path)
    with pytest.raises(ValueError, match=message):
        train(tmp_path, learning_rate=0.01)


def test_more_noise(sets):
    test = sets[1]
    noisy = replace(CONFIGURATION, noise_factor=10)
    pixels = trainings._Pixels(test, noisy, 1)
    before, rows = test.images.copy(), torch.tensor([7, 3])
    images = pixels.batch(rows)[0][:, 0].numpy()
    added = images - test.images[rows]
    assert added.std() == pytest.approx(0.05 * np.sqrt(99), rel=0.02)
    # the same in each epoch, another in each image and set
    np.testing.assert_array_equal(pixels.batch(rows.flip(0))[0][1, 0], images[0])
    assert abs(np.corrcoef(added[0].ravel(), added[1].ravel())[0, 1]) < 0.03
    other_set = trainings._Pixels(test, noisy, 0)
    assert not np.array_equal(other_set.batch(rows)[0][:, 0], images)
    np.testing.assert_array_equal(test.images, before)
    plain = trainings._Pixels(test, CONFIGURATION, 1).batch(rows)
    np.testing.assert_array_equal(plain[0][:, 0], test.images[rows])
    np.testing.assert_allclose(plain[2], test.log_flux[rows], rtol=1e-6)


def test_columns_are_standardized_by_the_training_set(train, sets, tmp_path):
    # R_e is a constant here, which must not divide by zero
    trained = train(tmp_path, epochs=1, columns=('R_e', 'Bt'))
    network, ratio = trained.network, sets[0].table['Bt']
    assert network.column_mean.tolist() == pytest.approx([1.0, ratio.mean()], rel=1e-5)
    assert network.column_scale.tolist() == pytest.approx([1.0, ratio.std(ddof=0)], rel=1e-5)
    columns = torch.tensor(sets[1].table[['R_e', 'Bt']].to_numpy(np.float32))
    expected = answers(trained, sets[1], columns)
    np.testing.assert_allclose(trained.predictions, expected, rtol=1e-4)


def test_diverged_training_ends(train, sets, tmp_path):
    bright = [replace(part, images=np.float32(1e30) * part.images) for part in sets]
    trained = train(tmp_path, sets=bright, epochs=2, learning_rate=0.5)
    assert np.isnan(trained.summary['test_loss'])
    assert trained.history['test_loss'].isna().any()
    # JSON has no NaN
    text = (tmp_path / 'summary.json').read_text()
    assert json.loads(text)['summary']['test_loss'] is None
    assert 'NaN' not in text
    assert load_weights(tmp_path / 'weights.safetensors').metadata['test_rms_dex'] is None


# -- several at a time -------------------------------------------------------------------------


@pytest.fixture
def several(sets, tmp_path, monkeypatch):
    """Context of two processes for the blobs, however few they are."""
    monkeypatch.setattr(trainings, 'FEW_IMAGES', 0)
    folder = tmp_path / 'stage'
    folder.mkdir()
    context = Context(Preset(56, 20), tmp_path, folder, workers=2, progress=False)
    vars(context).update(train=sets[0], test=sets[1])
    return context


def test_processes_give_the_same(trained, several, tmp_path, monkeypatch):
    short = replace(CONFIGURATION, epochs=1, name='short')
    plan = {tmp_path / 'a': CONFIGURATION, tmp_path / 'b': short}
    with monkeypatch.context() as patch:
        # nothing is left to this process
        patch.setattr(trainings, '_one_epoch', None)
        one, other = train_all(several, plan).values()
        # and nothing is trained twice
        patch.setattr(trainings, 'Parallel', None)
        assert list(train_all(several, plan)) == list(plan)
    assert other.configuration is short
    np.testing.assert_array_equal(losses(one), losses(trained))
    np.testing.assert_array_equal(one.predictions, trained.predictions)
    np.testing.assert_array_equal(losses(other), losses(trained)[:1])
    assert not any(several.folder.iterdir())


def test_process_that_fails_stops_the_others(several, tmp_path):
    # where a folder should be there is a file
    (tmp_path / 'file').write_text('')
    other = replace(CONFIGURATION, epochs=500, name='other')
    plan = {tmp_path / 'file' / 'a': CONFIGURATION, tmp_path / 'b': other}
    with pytest.raises(NotADirectoryError):
        train_all(several, plan)
    assert not (tmp_path / 'b' / 'summary.json').exists()


# -- which networks are trained ----------------------------------------------------------------


def test_configurations_of_the_report():
    assert [(c.name, c.learning_rate, c.epochs) for c in CONFIGURATIONS] == [
        ('cnn-1', 0.01, 7),
        ('cnn-2', 0.001, 10),
        ('cnn-3', 0.001, 15),
    ]
    assert all(c.dropout == 0.2 and c.scale == 1 and not c.columns for c in CONFIGURATIONS)
    # or the third would begin as the second
    assert len({c.seed for c in CONFIGURATIONS}) == 3


def test_plan_of_the_full_study(study_context):
    full = PRESETS['full']
    plan = plan_trainings(replace(study_context, preset=full))
    rates = {name: [c.learning_rate for c in group.values()] for name, group in plan.items()}
    seeds = {name: [c.seed for c in group.values()] for name, group in plan.items()}
    assert seeds['first'] == [1, 2, 3, 4, 5]
    assert {c.epochs for c in plan['first'].values()} == {7}
    assert (seeds['first scaled'], rates['first scaled']) == ([1], [0.01])
    for what in ('image only', 'image, R_e, Bt', 'image, all columns'):
        assert seeds[what] == [2, 3, 4]
        assert set(rates[what]) == {0.001}
    more = plan_trainings(replace(study_context, preset=replace(full, n_joined_seeds=4)))
    assert [c.name for c in more['image only'].values()][-1] == 'second-seed-5'


# -- stages ------------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def run(tmp_path_factory, study_folder):
    """Folder of a run of the three stages, its sets, and what the stages return."""
    folder = tmp_path_factory.mktemp('run')
    preset = Preset(30, 12, max_epochs=1, n_seeds=3, n_joined_seeds=2)
    context = Context(preset, study_folder, folder, workers=1, progress=False)
    sets = {'train': context.train, 'test': context.test}
    found = {}
    for stage in STAGES:
        (folder / stage).mkdir()
        own = replace(context, folder=folder / stage)
        vars(own).update(sets)
        found[stage] = fit_for_json(getattr(cnn, stage)(own))
    return folder, sets, found


@pytest.mark.parametrize('stage', STAGES)
def test_result_of_a_stage(run, stage):
    folder, _, found = run
    assert all(row['ours'] is not None for row in found[stage]['rows'])
    for name in (*found[stage]['tables'], *found[stage]['figures']):
        assert (folder / stage / name).stat().st_size > 50


def test_published_numbers_stand_beside_ours(run):
    rows = run[2]['cnn']['rows']
    for name, published in PUBLISHED_LOSSES.items():
        label = name.replace('cnn-', 'CNN ')
        own = [row for row in rows if row['what'].startswith(label) and 'loss' in row['what']]
        assert [row['published'] for row in own] == list(published)
        assert all(row['ours'] > 0 for row in own)
    assert any(row['what'].startswith('CNN 1') and 'equal' in row['what'] for row in rows)


@pytest.mark.parametrize('name', CNN_NAMES)
def test_published_samples_are_consistent(name):
    samples = pd.DataFrame(published_samples(name))
    assert len(samples) == 10
    away = np.abs(samples['predicted'] - samples['actual'])
    np.testing.assert_allclose(samples['difference'], away, atol=1.5e-6)


def test_predictions_are_shared_and_the_best_network_is_there(run):
    folder, sets, found = run
    test = sets['test']
    table = pd.read_csv(folder / 'cnn' / 'predictions.csv')
    assert list(table.columns) == ['img_number', 'actual', *CNN_NAMES]
    np.testing.assert_array_equal(table['img_number'], test.table['img_number'])
    np.testing.assert_allclose(table['actual'], test.log_flux)
    losses = {row['name']: row['test_loss'] for row in found['cnn']['trainings']}
    for name, loss in losses.items():
        assert loss == pytest.approx(np.mean((table[name] - table['actual']) ** 2), rel=1e-5)
    best = found['cnn']['best']
    assert losses[best] == min(losses.values())
    network = load_weights(folder / 'cnn' / best / 'weights.safetensors').network
    assert network.n_parameters == found['cnn']['n_parameters'] == 1_884_465
    # what the flowchart says
    layers = cnn._layers(network)
    assert sum(n for *_, n in layers) == network.n_parameters
    assert layers[3][1] == f'{network.dense.in_features:,}'


def test_samples_are_of_the_same_images(run):
    test, samples = run[1]['test'], run[2]['cnn']['samples']
    truth = dict(zip(test.table['file_name'], test.log_flux, strict=True))
    files = [row['file_name'] for row in samples['cnn-1']]
    assert len(set(files)) == 10
    for name in CNN_NAMES:
        assert [row['file_name'] for row in samples[name]] == files
        for row in samples[name]:
            assert row['actual'] == pytest.approx(truth[row['file_name']])
            assert row['difference'] == pytest.approx(abs(row['predicted'] - row['actual']))


def test_explanations_are_trained(run):
    folder, _, results = run
    found = results['explanations']
    assert [row['seed'] for row in found['first_seeds']] == [1, 2, 3, 1]
    assert [row['seed'] for row in found['third_seeds']] == [3, 4]
    assert list(found['second']['seeds']) == ['2', '3']
    variants = found['second']['variants']
    assert list(variants) == ['second-scaled', 'second-asinh', 'second-noisy', 'second-batch']
    # each is something else
    losses = [*found['second']['seeds'].values(), *variants.values()]
    assert len(set(losses)) == len(losses)
    assert [row['name'] for row in found['dropout']] == list(CNN_NAMES)
    settings = {
        name: load_weights(folder / 'explanations' / name / 'weights.safetensors').network.settings
        for name in ('first-scaled', *variants)
    }
    assert settings['first-scaled']['scale'] == settings['second-scaled']['scale'] == 100
    assert settings['second-asinh']['stretch'] == 'asinh'
    assert settings['second-asinh']['scale'] == pytest.approx(0.05)
    assert settings['second-noisy']['scale'] == 1


def test_joined_networks_see_the_columns(run):
    folder, sets, results = run
    found = results['joined']
    columns = found['columns']['image, all columns']
    assert found['columns']['image, R_e, Bt'] == ['R_e', 'Bt']
    assert {'sersic_idx_d', 'PA_b', 'R_e', 'Bt'} <= set(columns)
    assert not {'total_flux', 'log_total_flux', 'file_name'} & set(columns)
    path = folder / 'joined' / 'all-columns-seed-2' / 'weights.safetensors'
    mean = sets['train'].table[columns].mean()
    np.testing.assert_allclose(load_weights(path).network.column_mean, mean, rtol=1e-5, atol=1e-5)
    # twins of the same seeds, which are not trained twice: the first epochs of the third network
    # are those of the second one with its seed
    table = pd.read_csv(folder / 'joined' / 'joined.csv')
    assert table.groupby('input')['seed'].apply(list).tolist() == [[2, 3]] * 3
    assert not (folder / 'joined' / 'second-seed-3').exists()
    third = pd.read_csv(folder / 'cnn' / 'cnn-3' / 'history.csv')
    assert found['losses']['image only'][1] == pytest.approx(third['test_loss'][0])


# -- numbers and figures -----------------------------------------------------------------------


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
    assert numbers['bias'] == pytest.approx(0.05)
    assert numbers['median_difference'] == pytest.approx(0.05)
    # two of the nineteen are in the faintest tenth
    assert numbers['faint_share'] == pytest.approx((0.25 + 0.0025) / (0.25 + 18 * 0.0025))


def test_gain():
    low, high = [0.020, 0.021, 0.0205], [0.040, 0.042, 0.041]
    gain = gain_of(high, low)
    assert gain['factor'] == pytest.approx(2)
    assert gain['low'] < 2 < gain['high']
    assert gain['p_value'] < 0.001
    assert gain_of(low, high)['factor'] == pytest.approx(0.5)
    assert gain_of([0.03, 0.06, 0.045], [0.035, 0.05, 0.04])['p_value'] > 0.3
    single, diverged = gain_of([0.04], [0.02]), gain_of([0.04, math.nan], [0.02, 0.03])
    assert single['factor'] == pytest.approx(2)
    assert math.isnan(single['p_value'])
    assert math.isnan(diverged['p_value'])


def test_figures_show_the_losses_and_the_published_ones():
    history = pd.DataFrame({'epoch': [1, 2], 'train_loss': [0.2, 0.1], 'test_loss': [0.15, 0.05]})
    network = {'title': 'a', 'history': history, 'dropout_off': 0.04, 'published': (7, 0.3, 0.2)}
    (ax,) = figures.plot_losses([network], variance=0.2)
    points = {line.get_label(): np.array(line.get_data())[:, -1] for line in ax.lines}
    np.testing.assert_allclose(points['test'], [2, 0.05])
    np.testing.assert_allclose(points['train, dropout off'], [2, 0.04])
    np.testing.assert_allclose(points['test, published'], [7, 0.2])
    # what is far off, or no number, is in the last bin
    ax = figures.plot_differences(np.array([0.01, 0.02, 5.0, np.inf]), title='a')
    assert [patch.get_height() for patch in ax.patches][:: len(ax.patches) - 1] == [2, 2]
