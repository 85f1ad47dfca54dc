# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of the run of the study: stage by stage, interrupted and resumed."""

import json
import shutil

import numpy as np
import pytest

import astroflux
from astroflux.study.results import fit_for_json, read_study
from astroflux.study.run import STAGE_NAMES, Preset, load_stages, run_study


class Stages(dict):
    """Three stages that count how often they were run; the second may have a fault."""

    def __init__(self):
        super().__init__(first=self.first, second=self.second, third=self.third)
        self.runs, self.fault = [], None

    def first(self, context):
        self.runs.append('first')
        return {'rows': [], 'value': np.float32(1.5)}

    def second(self, context):
        self.runs.append('second')
        if self.fault:
            raise self.fault
        drawn = np.random.default_rng(context.preset.settings.seed).random(3)
        return {'rows': [], 'drawn': drawn, 'twice': 2 * context.results['first']['value']}

    def third(self, context):
        self.runs.append('third')
        return {'rows': [], 'workers': context.workers, 'data': str(context.data)}


@pytest.fixture
def stages():
    return Stages()


def run(folder, stages, *, preset=None, **options):
    preset = preset or Preset(30, 12, max_epochs=1)
    return run_study(folder, preset, stages=stages, progress=False, **options)


def test_stages_run_once_in_order(tmp_path, stages):
    lines, folder = [], tmp_path / 'new'
    # there is nothing yet, which does no harm
    study = run(folder, stages, workers=1, resume=True, tell=lines.append)
    assert stages.runs == ['first', 'second', 'third']
    assert lines[0] == 'first (1 of 3) ...'
    assert lines[1].startswith('first (1 of 3): done in')
    # what is in memory is what is on disk
    assert read_study(folder) == study
    for name, found in study['stages'].items():
        assert json.loads((folder / name / 'results.json').read_text()) == found
        assert found['version'] == astroflux.__version__
    assert study['stages']['second']['twice'] == 3
    found = study['stages']['third']
    assert (found['workers'], found['data']) == (1, str(folder / 'dataset'))
    settings = json.loads((folder / 'settings.json').read_text())
    assert settings == study['settings']
    assert (settings['preset'], settings['sizes']['n_train']) == ('of its own', 30)
    assert settings['versions']['numpy'] == np.__version__
    assert settings['seeds']['cnn-1'] == 1


@pytest.mark.parametrize('fault', [KeyboardInterrupt(), ValueError('no image')])
def test_interrupted_stage_leaves_no_results(tmp_path, stages, fault, monkeypatch):
    clock = iter([0, 10, 100, 101, 200, 230, 300, 301])
    monkeypatch.setattr('astroflux.study.run.time.monotonic', lambda: next(clock))
    stages.fault = fault
    with pytest.raises(type(fault)):
        run(tmp_path, stages)
    assert not (tmp_path / 'second' / 'results.json').exists()
    # there is something to make a page of
    assert list(read_study(tmp_path)['stages']) == ['first']
    stages.fault = None
    found = run(tmp_path, stages, resume=True)['stages']
    assert stages.runs == ['first', 'second', 'second', 'third']
    # of both attempts together
    assert [found[name]['seconds'] for name in ('first', 'second')] == [10, 31]


def test_other_runs_are_refused(tmp_path, stages, study_folder):
    run(tmp_path, stages)
    with pytest.raises(FileExistsError, match='holds a run of the study: resume it, or name'):
        run(tmp_path, stages)
    message = r"preset='of its own', sizes\.n_train=30, .*not with preset='smoke', sizes\.n_train="
    with pytest.raises(ValueError, match=message):
        run(tmp_path, stages, preset='smoke', resume=True)
    with pytest.raises(ValueError, match=r'the data set in .* begun with seed=5, not with seed='):
        run(tmp_path, stages, data=study_folder, resume=True)
    path = tmp_path / 'settings.json'
    settings = json.loads(path.read_text())
    settings['versions']['numpy'] = '1.0'
    path.write_text(json.dumps(settings))
    with pytest.raises(ValueError, match=r"with versions\.numpy='1\.0', not with versions\.numpy="):
        run(tmp_path, stages, resume=True)
    assert len(stages.runs) == 3


@pytest.mark.parametrize('name', ['settings.json', 'first/results.json'])
def test_damaged_file_is_named(tmp_path, stages, name):
    run(tmp_path, stages)
    (tmp_path / name).write_text('{"preset": ')
    with pytest.raises(ValueError, match=f'{name} is damaged'):
        run(tmp_path, stages, resume=True)


def test_fit_for_json():
    value = {'a': np.float32(0.5), 2: (np.int64(3), float('nan'), None), 'b': np.array([True])}
    assert fit_for_json(value) == {'a': 0.5, '2': [3, None, None], 'b': [True]}


def test_smoke_run_is_whole_and_resumes_one_stage(smoke_run, smoke_preset, tmp_path):
    before = read_study(smoke_run)['stages']
    assert tuple(before) == STAGE_NAMES
    for name, found in before.items():
        assert found['rows'], name
        for file in (*found['tables'], *found['figures']):
            assert (smoke_run / name / file).stat().st_size > 0
    # paths of this machine are nothing to publish
    assert str(smoke_run) not in (smoke_run / 'study.json').read_text()
    lines, folder = [], shutil.copytree(smoke_run, tmp_path / 'copy')
    (folder / 'forest' / 'results.json').unlink()
    options = {'resume': True, 'workers': 1, 'tell': lines.append}
    after = run(folder, load_stages(), preset=smoke_preset, **options)['stages']
    assert sum(line.endswith(': done before') for line in lines) == len(STAGE_NAMES) - 1
    assert after['forest'].pop('seconds') > before['forest'].pop('seconds')
    assert after == before
