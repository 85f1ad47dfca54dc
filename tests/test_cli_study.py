# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of the command that runs the study, with stages that cost nothing."""

import json

import pytest
from click.testing import CliRunner

from astroflux.cli import main
from astroflux.cli.study import PRESET_NAMES
from astroflux.study.dataset import load_set
from astroflux.study.run import PRESETS


def run(*args, exit_code=0):
    result = CliRunner().invoke(main, ['study', *(str(arg) for arg in args)])
    assert result.exit_code == exit_code, result.output
    assert 'Traceback' not in result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


@pytest.fixture
def contexts(monkeypatch):
    """Contexts that two stages were given; the second is faulty if one says so."""
    seen = []

    def stage(context):
        seen.append(context)
        return {'rows': []}

    stages = {'first': stage, 'second': stage}
    monkeypatch.setattr('astroflux.study.run.load_stages', lambda: stages)
    seen.append(stages)
    return seen


def test_presets():
    assert tuple(PRESETS) == PRESET_NAMES


def test_run(contexts, tmp_path):
    folder = tmp_path / 'new' / 'study'
    result = run('run', '--preset', 'small', '-o', folder, '--workers', 1, '--data', tmp_path / 'd')
    assert result.stdout == f'{folder / "index.html"}\n'
    assert 'first (1 of 2) ...' in result.stderr
    assert 'second (2 of 2): done in' in result.stderr
    page = (folder / 'index.html').read_text()
    assert 'Preset small: 3,000 training images' in page
    assert '>second<' in page
    assert json.loads((folder / 'settings.json').read_text())['preset'] == 'small'
    context = contexts[1]
    assert context.preset == PRESETS['small']
    assert context.workers == 1
    assert context.data == tmp_path / 'd'


def test_run_is_resumed_only_when_asked(contexts, tmp_path):
    arguments = 'run', '--preset', 'smoke', '-o', tmp_path
    run(*arguments)
    result = run(*arguments, exit_code=1)
    assert 'holds a run of the study: resume it, or name another folder' in result.output
    result = run(*arguments, '--resume')
    assert 'first (1 of 2): done before' in result.output
    assert len(contexts) == 3
    result = run('run', '--preset', 'small', '-o', tmp_path, '--resume', exit_code=1)
    assert "was begun with preset='smoke'" in result.output


def test_interruption(contexts, tmp_path):
    stages = contexts[0]

    def interrupt(context):
        raise KeyboardInterrupt

    works, stages['second'] = stages['second'], interrupt
    result = run('run', '--preset', 'smoke', '-o', tmp_path, exit_code=130)
    assert 'interrupted; the same command with --resume goes on' in result.output
    assert not (tmp_path / 'second' / 'results.json').exists()
    stages['second'] = works
    run('run', '--preset', 'smoke', '-o', tmp_path, '--resume')
    assert (tmp_path / 'second' / 'results.json').exists()


def test_faulty_stage(contexts, tmp_path):
    def fail(context):
        msg = 'the image 7.fits is missing'
        raise FileNotFoundError(msg)

    contexts[0]['second'] = fail
    result = run('run', '--preset', 'smoke', '-o', tmp_path, exit_code=1)
    assert 'Error: the image 7.fits is missing' in result.output


def test_page(contexts, tmp_path):
    run('run', '--preset', 'smoke', '-o', tmp_path)
    (tmp_path / 'index.html').unlink()
    result = run('page', tmp_path)
    assert result.stdout == f'{tmp_path / "index.html"}\n'
    assert (tmp_path / 'index.html').exists()


def test_page_of_nothing(tmp_path):
    result = run('page', tmp_path, exit_code=1)
    assert 'holds no run of the study' in result.output


def test_data(tmp_path, monkeypatch):
    pytest.importorskip('galsim')
    from astroflux.study.run import Preset

    monkeypatch.setitem(PRESETS, 'smoke', Preset(4, 2))
    arguments = 'data', '--preset', 'smoke', '-o', tmp_path / 'data', '--workers', 1
    result = run(*arguments)
    assert f'6 images in {tmp_path / "data"}' in result.output
    assert len(load_set(tmp_path / 'data', 'train')) == 4
    result = run(*arguments, exit_code=1)
    assert 'holds a data set: resume it, or name another folder' in result.output
    run(*arguments, '--resume')


@pytest.mark.parametrize('command', ['run', 'data'])
def test_preset_is_needed(command, tmp_path):
    result = run(command, '-o', tmp_path, exit_code=2)
    assert "Missing option '--preset'" in result.output
    result = run(command, '--preset', 'huge', '-o', tmp_path, exit_code=2)
    assert "'huge' is not one of 'smoke', 'small', 'full'" in result.output
