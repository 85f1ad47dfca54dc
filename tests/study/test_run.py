# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of the run of the study: stage by stage, interrupted and resumed."""

import json
import shutil

import numpy as np
import pytest

import astroflux
from astroflux.study.dataset import write_study_dataset
from astroflux.study.results import fit_for_json, read_study
from astroflux.study.run import PRESETS, STAGE_NAMES, Preset, load_stages, run_study

PRESET = Preset(30, 12, max_epochs=1)


class Stages(dict):
    """Three stages that count how often they were run; the second draws numbers from a seed."""

    def __init__(self):
        super().__init__(first=self.first, second=self.second, third=self.third)
        self.runs = []
        self.fault = None

    def first(self, context):
        self.runs.append('first')
        (context.folder / 'a.csv').write_text('x\n1\n')
        return {'rows': [], 'tables': ['a.csv'], 'value': 1.5}

    def second(self, context):
        self.runs.append('second')
        self.seen = context.results
        if self.fault:
            raise self.fault
        rng = np.random.default_rng(context.preset.settings.seed)
        return {'rows': [], 'drawn': rng.random(3), 'nothing': np.nan}

    def third(self, context):
        self.runs.append('third')
        return {'rows': [], 'workers': context.workers, 'data': str(context.data)}


@pytest.fixture
def stages():
    return Stages()


def run(folder, stages, *, preset=PRESET, **options):
    return run_study(folder, preset, stages=stages, progress=False, **options)


def test_stages_run_in_order(tmp_path, stages):
    lines, folder = [], tmp_path / 'new'
    study = run(folder, stages, workers=1, tell=lines.append)
    assert stages.runs == ['first', 'second', 'third']
    assert lines[0] == 'first (1 of 3) ...'
    assert lines[1].startswith('first (1 of 3): done in')
    assert len(lines) == 6
    assert {name: found['value'] for name, found in stages.seen.items()} == {'first': 1.5}
    found = study['stages']['third']
    assert (found['workers'], found['data']) == (1, str(folder / 'dataset'))
    # what is in memory is what is on disk
    assert read_study(folder) == study
    for name, found in study['stages'].items():
        assert json.loads((folder / name / 'results.json').read_text()) == found
        assert found['attempts'] == 1
        assert found['seconds'] >= 0
        assert found['version'] == astroflux.__version__
    assert study['stages']['second']['nothing'] is None
    assert study['stages']['second']['figures'] == []
    settings = json.loads((folder / 'settings.json').read_text())
    assert settings == study['settings']
    assert (settings['preset'], settings['sizes']['n_train']) == ('of its own', 30)
    assert settings['data']['seed'] == PRESET.settings.seed
    assert settings['versions']['numpy'] == np.__version__
    assert settings['seeds']['cnn-1'] == 1


def test_resume_runs_what_is_missing(tmp_path, stages):
    # there is nothing yet, which does no harm
    study = run(tmp_path, stages, resume=True)
    (tmp_path / 'second' / 'results.json').unlink()
    # as a process leaves it that was killed
    (tmp_path / 'second' / 'attempts.json').write_text('{"seconds": [null]}')
    lines = []
    again = run(tmp_path, stages, resume=True, tell=lines.append)
    assert stages.runs == ['first', 'second', 'third', 'second']
    assert lines[0] == 'first (1 of 3): done before'
    found = again['stages']['second']
    assert found['drawn'] == study['stages']['second']['drawn']
    assert (found['attempts'], found['killed']) == (2, 1)
    assert again['stages']['first'] == study['stages']['first']
    assert read_study(tmp_path) == again


@pytest.mark.parametrize('fault', [KeyboardInterrupt(), ValueError('no image')])
def test_interrupted_stage_leaves_no_results(tmp_path, stages, fault, monkeypatch):
    clock = iter([0, 10, 100, 101, 200, 230, 300, 301])
    monkeypatch.setattr('astroflux.study.run.time.monotonic', lambda: next(clock))
    stages.fault = fault
    with pytest.raises(type(fault)):
        run(tmp_path, stages)
    assert (tmp_path / 'first' / 'results.json').exists()
    assert not (tmp_path / 'second' / 'results.json').exists()
    assert not (tmp_path / 'third').exists()
    # there is something to make a page of
    assert list(read_study(tmp_path)['stages']) == ['first']
    stages.fault = None
    found = run(tmp_path, stages, resume=True)['stages']
    assert stages.runs == ['first', 'second', 'second', 'third']
    assert (found['second']['attempts'], found['second']['killed']) == (2, 0)
    assert [found[name]['seconds'] for name in ('first', 'second')] == [10, 31]


def test_other_runs_are_refused(tmp_path, stages):
    run(tmp_path, stages)
    with pytest.raises(FileExistsError, match='holds a run of the study: resume it, or name'):
        run(tmp_path, stages)
    message = (
        r"was begun with preset='of its own', sizes\.n_train=30, .*data\.n_train=30, .*"
        r"not with preset='smoke', sizes\.n_train=200"
    )
    with pytest.raises(ValueError, match=message):
        run(tmp_path, stages, preset='smoke', resume=True)
    path = tmp_path / 'settings.json'
    settings = json.loads(path.read_text())
    settings['versions']['numpy'] = '1.0'
    path.write_text(json.dumps(settings))
    message = rf"versions\.numpy='1\.0', not with versions\.numpy='{np.__version__}'"
    with pytest.raises(ValueError, match=message):
        run(tmp_path, stages, resume=True)
    path.unlink()
    with pytest.raises(FileExistsError, match=r'results\.json, but no settings\.json of them'):
        run(tmp_path, stages, resume=True)
    assert len(stages.runs) == 3


@pytest.mark.parametrize('name', ['settings.json', 'first/results.json'])
def test_damaged_file_is_named(tmp_path, stages, name):
    run(tmp_path, stages)
    path = tmp_path / name
    path.write_text(path.read_text()[:20])
    with pytest.raises(ValueError, match=f'{name} is damaged') as caught:
        run(tmp_path, stages, resume=True)
    # without settings no one knows what the results are of
    assert ('are made again' in str(caught.value)) == (name != 'settings.json')


def test_data_of_other_settings_are_refused(study_folder, tmp_path, stages):
    with pytest.raises(ValueError, match=r'the data set in .* is of .*n_train=30.*, want'):
        run(tmp_path / 'run', stages, preset='smoke', data=study_folder)
    assert not (tmp_path / 'run').exists()


def test_arguments(tmp_path, stages):
    message = "preset must be one of smoke, small, full, got 'enormous'"
    with pytest.raises(ValueError, match=message):
        run(tmp_path / 'new', stages, preset='enormous')
    with pytest.raises(ValueError, match='workers must be at least 1, got 0'):
        run(tmp_path / 'new', stages, workers=0)
    assert not (tmp_path / 'new').exists()


def test_file_that_was_not_written(tmp_path):
    stages = {'only': lambda context: {'rows': [], 'figures': ['a.png']}}
    with pytest.raises(FileNotFoundError, match=r"stage 'only' names the file a\.png"):
        run(tmp_path, stages)
    assert not (tmp_path / 'only' / 'results.json').exists()


def test_fit_for_json():
    value = {'a': np.float32(0.5), 2: (np.int64(3), float('nan'), None), 'b': np.array([True])}
    assert fit_for_json(value) == {'a': 0.5, '2': [3, None, None], 'b': [True]}
    with pytest.raises(TypeError, match=r'got set: \{1\}'):
        fit_for_json({'a': [{1}]})


def test_images_are_read_once(tmp_path):
    pytest.importorskip('galsim')
    preset, seen = Preset(3, 2), []
    write_study_dataset(tmp_path / 'data', preset.settings, workers=1, progress=False)

    def look(context):
        seen.append(context.train)
        return {'rows': []}

    stages = {'one': look, 'two': look}
    run(tmp_path / 'run', stages, preset=preset, data=tmp_path / 'data')
    assert len(seen[0]) == 3
    assert seen[0] is seen[1]


def test_preset_sizes_grow():
    sizes = [preset.n_train for preset in PRESETS.values()]
    assert sizes == sorted(sizes)
    assert (PRESETS['full'].n_train, PRESETS['full'].n_test) == (30_000, 10_000)
    assert PRESETS['full'].max_epochs is None


def test_smoke_run_is_whole(smoke_run):
    study = read_study(smoke_run)
    assert tuple(study['stages']) == STAGE_NAMES
    for name, found in study['stages'].items():
        assert json.loads((smoke_run / name / 'results.json').read_text()) == found
        assert found['rows'], name
        for row in found['rows']:
            assert set(row) == {'what', 'published', 'ours'}
        for file in (*found['tables'], *found['figures']):
            assert (smoke_run / name / file).stat().st_size > 0
    # paths of this machine are nothing to publish
    assert str(smoke_run) not in (smoke_run / 'study.json').read_text()


def test_smoke_run_resumes_one_stage(smoke_run, smoke_preset, tmp_path):
    folder = shutil.copytree(smoke_run, tmp_path / 'copy')
    before = read_study(folder)['stages']
    (folder / 'forest' / 'results.json').unlink()
    lines = []
    options = {'resume': True, 'workers': 1, 'tell': lines.append}
    after = run(folder, load_stages(), preset=smoke_preset, **options)['stages']
    assert sum(line.endswith(': done before') for line in lines) == len(STAGE_NAMES) - 1
    for key in ('seconds', 'attempts', 'killed'):
        del before['forest'][key], after['forest'][key]
    assert after == before
