# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The tool that puts a run where it belongs: its best network, its page."""

import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from astroflux import CNNFluxEstimator
from astroflux.networks import load_weights
from astroflux.study.results import read_study

pytest.importorskip('galsim')

from astroflux.study.catalogue import StudySettings
from astroflux.study.cnn import cnn
from astroflux.study.dataset import load_set, write_study_dataset
from astroflux.study.run import Context, Preset

TOOL_PATH = Path(__file__).parents[1] / 'tools' / 'ship_study.py'

pytestmark = pytest.mark.skipif(not TOOL_PATH.exists(), reason='tools are not installed')


@pytest.fixture(scope='module')
def tool():
    spec = importlib.util.spec_from_file_location('ship_study', TOOL_PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """Folder of a run that has its data set and its networks."""
    folder = tmp_path_factory.mktemp('run')
    (folder / 'cnn').mkdir()
    write_study_dataset(folder / 'dataset', StudySettings(30, 12), workers=1, progress=False)
    preset = Preset(30, 12, max_epochs=1)
    cnn(Context(preset, folder / 'dataset', folder / 'cnn', workers=1, progress=False))
    return folder


@pytest.fixture
def weights_folder(tmp_path):
    folder = tmp_path / 'weights'
    folder.mkdir()
    (folder / 'registry.json').write_text('{"study-2024": "old", "other-1": "0123"}')
    return folder


def test_ships_the_best(tool, run, weights_folder):
    tool.ship(run, run / 'dataset', weights_folder)
    losses = pd.read_csv(run / 'cnn' / 'losses.csv').set_index('name')['test_loss']

    path = weights_folder / 'study-2024.safetensors'
    weights = load_weights(path)
    assert weights.name == 'study-2024'
    assert weights.metadata['training']['name'] == losses.idxmin()
    assert path.stat().st_size < 0.6 * (run / 'trainings' / 'cnn-1.pt').stat().st_size
    # the default comes first
    registry = json.loads((weights_folder / 'registry.json').read_text())
    assert list(registry) == ['other-1', 'study-2024']
    assert registry['study-2024'] == weights.sha256

    test = load_set(run / 'dataset', 'test')
    flux = CNNFluxEstimator(weights=path).predict(list(test.cutouts())).value
    rms = np.sqrt(np.mean((np.log10(flux) - test.log_flux) ** 2))
    assert weights.metadata['test_rms_dex'] == pytest.approx(rms, rel=1e-5)
    assert rms**2 == pytest.approx(losses.min(), rel=0.05)

    card = (weights_folder / 'study-2024.rst').read_text()
    assert card.startswith('study-2024\n----------\n')
    assert weights.sha256 in card
    assert f'off by {rms:.3f} dex' in card
    assert 'Kept for\ncomparison' in card


def test_unfinished_run(tool, tmp_path):
    with pytest.raises(FileNotFoundError, match=r'cnn-1\.pt'):
        tool.find_best(tmp_path)


def test_errors_and_table(tool):
    flux = np.array([100.0, 200.0, 1000.0, 20_000.0])
    predicted = np.log10(flux * [1.05, 1.2, 0.5, np.nan])
    errors = tool.describe_errors(np.log10(flux), predicted)
    assert errors['n_failed'] == 1
    # the failure counts as wrong
    assert errors['beyond'] == 75
    assert errors['median'] == pytest.approx(35)
    lines = tool.table_by_flux(flux[:3], predicted[:3]).splitlines()
    assert [line.split()[:2] for line in lines[3:5]] == [['0-300', '2'], ['300-3,000', '1']]
    assert len({len(line) for line in (lines[0], lines[2], lines[-1])}) == 1


@pytest.fixture
def full_run(tmp_path):
    return shutil.copytree(TOOL_PATH.parents[1] / 'docs' / 'study', tmp_path / 'run')


def test_ships_the_page(tool, full_run, tmp_path):
    target = tmp_path / 'docs' / 'study'
    (target / 'old').mkdir(parents=True)
    (full_run / 'linear' / 'results.json').touch()
    plain = full_run / 'linear' / 'linear.png'
    with Image.open(plain) as image:
        image.convert('RGBA').save(plain)
    tool.ship_page(full_run, target)
    shipped = {path.relative_to(target): path for path in target.glob('*/*')}
    assert shipped.keys() == {path.relative_to(full_run) for path in full_run.glob('*/*.[cp]*')}
    for name, path in shipped.items():
        if path == target / 'linear' / 'linear.png':
            assert path.stat().st_size < 0.6 * plain.stat().st_size
        else:
            assert path.stat().st_size <= (full_run / name).stat().st_size
    assert read_study(target) == read_study(full_run)
    assert [*target.parent.iterdir()] == [target]


@pytest.mark.parametrize(
    ('edit', 'message'),
    [
        (lambda study: study['settings'].update(preset='smoke'), 'the preset full, got smoke'),
        (lambda study: study['stages'].pop('today'), 'this one lacks today'),
    ],
)
def test_page_of_a_run_that_is_not_whole(tool, full_run, tmp_path, edit, message):
    study = read_study(full_run)
    edit(study)
    (full_run / 'study.json').write_text(json.dumps(study))
    (tmp_path / 'study').mkdir()
    with pytest.raises(ValueError, match=message):
        tool.ship_page(full_run, tmp_path / 'study')
    assert (tmp_path / 'study').is_dir()
