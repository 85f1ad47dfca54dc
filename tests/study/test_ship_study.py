# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The tool that puts the best network of a run into the package."""

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from astroflux import CNNFluxEstimator
from astroflux.networks import load_weights

TOOL_PATH = Path(__file__).parents[2] / 'tools' / 'ship_study.py'

pytestmark = pytest.mark.skipif(not TOOL_PATH.exists(), reason='tools are not installed')


@pytest.fixture(scope='module')
def tool():
    spec = importlib.util.spec_from_file_location('ship_study', TOOL_PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(study_context, tmp_path):
    from astroflux.study.cnn_results import cnn

    folder = tmp_path / 'run'
    (folder / 'cnn').mkdir(parents=True)
    cnn(replace(study_context, folder=folder / 'cnn'))
    return folder


@pytest.fixture
def weights_folder(tmp_path):
    folder = tmp_path / 'weights'
    folder.mkdir()
    (folder / 'registry.json').write_text('{"study-2024": "old", "other-1": "0123"}')
    return folder


def test_ships_the_best(tool, run, study_context, weights_folder):
    tool.ship(run, study_context.data, weights_folder)
    best, losses = tool.find_best(run)
    assert losses[best.name] == min(losses.values())

    path = weights_folder / 'study-2024.safetensors'
    weights = load_weights(path)
    assert weights.name == 'study-2024'
    assert weights.metadata['training']['name'] == best.name
    assert path.stat().st_size < 0.6 * (best / 'weights.safetensors').stat().st_size
    # the default comes first
    registry = json.loads((weights_folder / 'registry.json').read_text())
    assert list(registry) == ['other-1', 'study-2024']
    assert registry['study-2024'] == weights.sha256

    test = study_context.test
    flux = CNNFluxEstimator(weights=path).predict(list(test.cutouts())).value
    rms = np.sqrt(np.mean((np.log10(flux) - test.log_flux) ** 2))
    assert weights.metadata['test_rms_dex'] == pytest.approx(rms, rel=1e-5)
    assert rms**2 == pytest.approx(losses[best.name], rel=0.05)

    card = (weights_folder / 'study-2024.rst').read_text()
    assert card.startswith('study-2024\n----------\n')
    assert weights.sha256 in card
    assert f'off by {rms:.3f} dex' in card
    assert 'Kept for\ncomparison' in card


def test_unfinished_run(tool, run):
    (run / 'cnn' / 'cnn-2' / 'summary.json').unlink()
    with pytest.raises(FileNotFoundError, match='no finished training of cnn-2'):
        tool.find_best(run)


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
