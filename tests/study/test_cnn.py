# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Trainings of the network of the study, on blobs that take no time to draw."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from astroflux.networks import load_weights
from astroflux.study import cnn, trainings
from astroflux.study._one_thread import one_thread
from astroflux.study.cnn import CONFIGURATIONS, CNNConfiguration, find_trained, train_cnn
from astroflux.study.context import Context, Preset
from astroflux.study.loader import StudySet

CONFIGURATION = CNNConfiguration('blobs', 0.001, 3, seed=1, batch_size=16)


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
def train():
    return draw_blobs(56, 1)


@pytest.fixture(scope='module')
def test():
    return draw_blobs(20, 2)


@pytest.fixture(scope='module')
def trained(train, test, tmp_path_factory):
    folder = tmp_path_factory.mktemp('blobs')
    return train_cnn(train, test, CONFIGURATION, directory=folder, progress=False)


def losses(history):
    return history[['epoch', 'train_loss', 'test_loss']].to_numpy()


def test_configurations_of_the_report():
    assert [(c.name, c.learning_rate, c.epochs) for c in CONFIGURATIONS] == [
        ('cnn-1', 0.01, 7),
        ('cnn-2', 0.001, 10),
        ('cnn-3', 0.001, 15),
    ]
    assert all(c.dropout == 0.2 and c.scale == 1 and not c.columns for c in CONFIGURATIONS)
    # or the third would begin as the second
    assert len({c.seed for c in CONFIGURATIONS}) == 3


def test_bad_configuration():
    with pytest.raises(ValueError, match="must be at least 1, got 0 and 64 for 'a'"):
        CNNConfiguration('a', 0.01, 0, seed=1)
    with pytest.raises(ValueError, match=r"noise_factor must be at least 1, got 0.5 for 'a'"):
        CNNConfiguration('a', 0.01, 1, seed=1, noise_factor=0.5)


def test_learns(tmp_path):
    blobs, others = draw_blobs(160, 1), draw_blobs(40, 2)
    configuration = replace(CONFIGURATION, epochs=8, dropout=0.0)
    trained = train_cnn(blobs, others, configuration, directory=tmp_path, progress=False)
    variance = np.var(others.log_flux)
    assert trained.summary['variance'] == pytest.approx(variance)
    assert trained.summary['test_loss'] < variance / 3
    assert np.corrcoef(trained.predictions, others.log_flux)[0, 1] > 0.85


def test_losses_are_what_they_say(trained, train, test):
    last = trained.history.iloc[-1]
    assert trained.history['epoch'].tolist() == [1, 2, 3]
    error = trained.predictions - test.log_flux
    assert last['test_loss'] == pytest.approx(np.mean(error**2), rel=1e-5)
    assert trained.summary['test_loss'] == last['test_loss']
    with torch.inference_mode():
        answers = trained.network(torch.from_numpy(train.images)[:, None]).numpy()
    loss = np.mean((answers - train.log_flux) ** 2)
    assert trained.summary['train_loss_dropout_off'] == pytest.approx(loss, rel=1e-4)
    # neurons are left out, so that the answers scatter more
    assert trained.summary['train_loss_dropout_on'] > 1.1 * loss


def test_weights_file(trained, train):
    weights = load_weights(trained.directory / 'weights.safetensors')
    assert weights.name == 'study-blobs'
    metadata = weights.metadata
    assert metadata['test_rms_dex'] == pytest.approx(trained.summary['test_loss'] ** 0.5)
    assert metadata['log_flux_range'] == pytest.approx([train.log_flux.min(), train.log_flux.max()])
    assert metadata['training']['learning_rate'] == 0.001
    assert (metadata['zeropoint'], metadata['noise']) == (27.0, 0.05)


def test_repeatable_and_seeded(trained, train, test, tmp_path):
    again = train_cnn(train, test, CONFIGURATION, directory=tmp_path / 'a', progress=False)
    np.testing.assert_array_equal(losses(again.history), losses(trained.history))
    np.testing.assert_array_equal(again.predictions, trained.predictions)
    other = replace(CONFIGURATION, seed=2, epochs=1)
    other = train_cnn(train, test, other, directory=tmp_path / 'b', progress=False)
    assert other.history['train_loss'][0] != trained.history['train_loss'][0]


def test_leaves_torch_as_it_was(train, test, tmp_path):
    state, n_threads = torch.random.get_rng_state(), torch.get_num_threads()
    train_cnn(
        train, test, replace(CONFIGURATION, epochs=1), directory=tmp_path / 'a', progress=False
    )
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.get_num_threads() == n_threads
    assert float(torch.tensor(1e-40) * 1) > 0
    with one_thread():
        assert torch.get_num_threads() == 1
        assert float(torch.tensor(1e-40) * 1) == 0


# -- resume ------------------------------------------------------------------------------------


def interrupt(monkeypatch, after):
    """Let the training be interrupted when it has written so many checkpoints."""
    write = cnn.write_checkpoint

    def write_and_stop(directory, fingerprint, network, optimiser, history):
        write(directory, fingerprint, network, optimiser, history)
        if len(history) == after:
            raise KeyboardInterrupt

    monkeypatch.setattr(cnn, 'write_checkpoint', write_and_stop)


@pytest.mark.parametrize('after', [1, 2, 3])
def test_resumed_training_is_the_same(trained, train, test, tmp_path, monkeypatch, after):
    with monkeypatch.context() as patch:
        interrupt(patch, after)
        with pytest.raises(KeyboardInterrupt):
            train_cnn(train, test, CONFIGURATION, directory=tmp_path, progress=False)
    assert find_trained(train, test, CONFIGURATION, tmp_path) is None
    assert len(pd.read_csv(tmp_path / 'history.csv')) == after
    resumed = train_cnn(train, test, CONFIGURATION, directory=tmp_path, progress=False)
    np.testing.assert_array_equal(losses(resumed.history), losses(trained.history))
    np.testing.assert_array_equal(resumed.predictions, trained.predictions)
    for name, value in trained.network.state_dict().items():
        assert torch.equal(resumed.network.state_dict()[name], value)
    assert {**resumed.summary, 'seconds': 0} == {**trained.summary, 'seconds': 0}
    assert not (tmp_path / 'checkpoint.safetensors').exists()


def test_finished_training_is_read(trained, train, test, monkeypatch):
    monkeypatch.setattr(cnn, '_one_epoch', None)
    again = train_cnn(train, test, CONFIGURATION, directory=trained.directory, progress=False)
    pd.testing.assert_frame_equal(again.history, trained.history)
    np.testing.assert_array_equal(again.predictions, trained.predictions)
    assert again.summary == trained.summary


def test_other_training_is_refused(trained, train, test, tmp_path, monkeypatch):
    other = replace(CONFIGURATION, learning_rate=0.01)
    message = r'was begun with learning_rate=0.001, not with learning_rate=0.01'
    with pytest.raises(ValueError, match=message):
        train_cnn(train, test, other, directory=trained.directory, progress=False)
    with pytest.raises(ValueError, match=r'was begun with galaxies='):
        find_trained(train, draw_blobs(20, 9), CONFIGURATION, trained.directory)
    interrupt(monkeypatch, 1)
    with pytest.raises(KeyboardInterrupt):
        train_cnn(train, test, CONFIGURATION, directory=tmp_path, progress=False)
    with pytest.raises(ValueError, match=message):
        find_trained(train, test, other, tmp_path)


# -- what is varied ----------------------------------------------------------------------------


def test_more_noise(test):
    pixels = cnn._Pixels(test, replace(CONFIGURATION, noise_factor=10), 1)
    before = test.images.copy()
    rows = torch.tensor([7, 3])
    images = pixels.batch(rows)[0][:, 0].numpy()
    added = images - test.images[rows]
    assert added.std() == pytest.approx(0.05 * np.sqrt(99), rel=0.02)
    # the same in each epoch, another in each image
    np.testing.assert_array_equal(pixels.batch(rows.flip(0))[0][1, 0], images[0])
    assert abs(np.corrcoef(added[0].ravel(), added[1].ravel())[0, 1]) < 0.03
    other_set = cnn._Pixels(test, replace(CONFIGURATION, noise_factor=10), 0)
    assert not np.array_equal(other_set.batch(rows)[0][:, 0], images)
    np.testing.assert_array_equal(test.images, before)
    plain = cnn._Pixels(test, CONFIGURATION, 1).batch(rows)
    np.testing.assert_array_equal(plain[0][:, 0], test.images[rows])
    np.testing.assert_allclose(plain[2], test.log_flux[rows], rtol=1e-6)


def test_columns_are_standardised_by_the_training_set(train, test, tmp_path):
    # R_e is a constant here, which must not divide by zero
    configuration = replace(CONFIGURATION, epochs=1, columns=('R_e', 'Bt'))
    trained = train_cnn(train, test, configuration, directory=tmp_path, progress=False)
    network, ratio = trained.network, train.table['Bt']
    assert network.column_mean.tolist() == pytest.approx([1.0, ratio.mean()], rel=1e-5)
    assert network.column_scale.tolist() == pytest.approx([1.0, ratio.std(ddof=0)], rel=1e-5)
    columns = torch.tensor(test.table[['R_e', 'Bt']].to_numpy(np.float32))
    with torch.inference_mode():
        expected = network(torch.from_numpy(test.images)[:, None], columns)
    np.testing.assert_allclose(trained.predictions, expected, rtol=1e-4)


def test_diverged_training_ends(train, test, tmp_path):
    bright = [replace(part, images=np.float32(1e30) * part.images) for part in (train, test)]
    configuration = replace(CONFIGURATION, epochs=2, learning_rate=0.5)
    trained = train_cnn(*bright, configuration, directory=tmp_path, progress=False)
    assert np.isnan(trained.summary['test_loss'])
    assert trained.history['test_loss'].isna().any()
    # JSON has no NaN
    text = (tmp_path / 'summary.json').read_text()
    assert json.loads(text)['summary']['test_loss'] is None
    assert 'NaN' not in text
    assert load_weights(tmp_path / 'weights.safetensors').metadata['test_rms_dex'] is None


# -- several at a time -------------------------------------------------------------------------


@pytest.fixture
def make_context(train, test, tmp_path):
    def make(workers):
        context = Context(
            Preset(56, 20), tmp_path, tmp_path / 'stage', workers=workers, progress=False
        )
        vars(context).update(train=train, test=test)
        return context

    return make


def test_processes_give_the_same(trained, make_context, tmp_path, monkeypatch):
    monkeypatch.setattr(trainings, 'FEW_IMAGES', 0)
    short = replace(CONFIGURATION, epochs=1, name='short')
    plan = {tmp_path / 'a': CONFIGURATION, tmp_path / 'b': short}
    started = []
    start = trainings._train_in_processes
    monkeypatch.setattr(
        trainings, '_train_in_processes', lambda *a, **k: (started.append(a), start(*a, **k))
    )
    one, other = trainings.train_all(make_context(2), plan)
    assert len(started) == 1
    assert (one.name, other.name) == ('blobs', 'short')
    np.testing.assert_array_equal(losses(one.history), losses(trained.history))
    np.testing.assert_array_equal(one.predictions, trained.predictions)
    np.testing.assert_array_equal(losses(other.history), losses(trained.history)[:1])
    # nothing but the trainings is left, and nothing is trained twice
    assert not any((tmp_path / 'stage').iterdir())
    trainings.train_all(make_context(2), plan)
    assert len(started) == 1


def test_process_that_fails(make_context, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(trainings, 'FEW_IMAGES', 0)
    # where a folder should be there is a file
    (tmp_path / 'file').write_text('')
    other = replace(CONFIGURATION, epochs=500, name='other')
    plan = {tmp_path / 'file' / 'a': CONFIGURATION, tmp_path / 'b': other}
    with pytest.raises(RuntimeError, match='the training blobs ended with code 1'):
        trainings.train_all(make_context(2), plan)
    assert 'NotADirectoryError' in capfd.readouterr().err
    assert not any((tmp_path / 'stage').iterdir())
