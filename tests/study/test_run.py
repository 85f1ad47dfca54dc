# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of the run of the study: stage by stage, interrupted and resumed."""

import json
import shutil

import numpy as np
import pytest

import astroflux
from astroflux.study.context import PRESETS, Preset
from astroflux.study.dataset import write_study_dataset
from astroflux.study.run import run_study
from astroflux.study.run_files import fit_for_json, read_study, versions
from astroflux.study.stages import STAGE_NAMES, load_stages

PRESET = Preset(30, 12, max_epochs=1)


class Stages:
    """Three stages that count how often they were run; the second draws numbers from a seed."""

    def __init__(self):
        self.runs = []
        self.seen = {}
        self.fault = None

    def first(self, context):
        self.runs.append('first')
        (context.folder / 'a.csv').write_text('x\n1\n')
        return {'rows': [], 'remarks': ['one'], 'tables': ['a.csv'], 'value': 1.5}

    def second(self, context):
        self.runs.append('second')
        self.seen = context.results
        if self.fault:
            raise self.fault
        rng = np.random.default_rng(context.preset.settings.seed)
        return {'rows': [], 'remarks': [], 'drawn': rng.random(3), 'nothing': np.nan}

    def third(self, context):
        self.runs.append('third')
        return {'rows': [], 'remarks': [], 'workers': context.workers, 'data': str(context.data)}

    @property
    def mapping(self):
        return {'first': self.first, 'second': self.second, 'third': self.third}


@pytest.fixture
def stages():
    return Stages()


def run(folder, stages, *, preset=PRESET, **options):
    return run_study(folder, preset, stages=stages.mapping, progress=False, **options)


def test_stages_run_in_order(tmp_path, stages):
    lines = []
    study = run(tmp_path / 'new', stages, workers=1, tell=lines.append)
    assert stages.runs == ['first', 'second', 'third']
    assert lines[0] == 'first (1 of 3) ...'
    assert lines[1].startswith('first (1 of 3): done in')
    assert len(lines) == 6
    assert list(stages.seen) == ['first']
    assert stages.seen['first']['value'] == 1.5
    found = study['stages']['third']
    assert found['workers'] == 1
    assert found['data'] == str(tmp_path / 'new' / 'dataset')
    # what is in memory is what is on disk
    assert read_study(tmp_path / 'new') == study
    for name in stages.mapping:
        path = tmp_path / 'new' / name / 'results.json'
        assert json.loads(path.read_text()) == study['stages'][name]
        assert study['stages'][name]['attempts'] == 1
        assert study['stages'][name]['seconds'] >= 0
        assert study['stages'][name]['version'] == astroflux.__version__
    assert study['stages']['second']['nothing'] is None
    assert study['stages']['second']['figures'] == []


def test_settings_tell_what_numbers_depend_on(tmp_path, stages):
    study = run(tmp_path, stages)
    settings = json.loads((tmp_path / 'settings.json').read_text())
    assert settings == study['settings']
    assert settings['preset'] == 'of its own'
    assert settings['sizes']['n_train'] == 30
    assert settings['data']['seed'] == PRESET.settings.seed
    assert settings['versions'] == versions()
    assert settings['versions']['numpy'] == np.__version__
    assert settings['seeds']['cnn-1'] == 1


def test_resume_runs_what_is_missing(tmp_path, stages):
    study = run(tmp_path, stages)
    (tmp_path / 'second' / 'results.json').unlink()
    lines = []
    again = run(tmp_path, stages, resume=True, tell=lines.append)
    assert stages.runs == ['first', 'second', 'third', 'second']
    assert lines[0] == 'first (1 of 3): done before'
    assert again['stages']['second']['drawn'] == study['stages']['second']['drawn']
    assert again['stages']['first'] == study['stages']['first']
    assert read_study(tmp_path) == again


@pytest.mark.parametrize('fault', [KeyboardInterrupt(), ValueError('no image')])
def test_interrupted_stage_leaves_no_results(tmp_path, stages, fault):
    stages.fault = fault
    with pytest.raises(type(fault)):
        run(tmp_path, stages)
    assert (tmp_path / 'first' / 'results.json').exists()
    assert not (tmp_path / 'second' / 'results.json').exists()
    assert not (tmp_path / 'third').exists()
    # there is something to make a page of
    assert list(read_study(tmp_path)['stages']) == ['first']
    stages.fault = None
    study = run(tmp_path, stages, resume=True)
    assert stages.runs == ['first', 'second', 'second', 'third']
    assert study['stages']['second']['attempts'] == 2
    assert study['stages']['second']['killed'] == 0


def test_times_of_attempts_add_up(tmp_path, stages, monkeypatch):
    clock = iter([0, 10, 100, 101, 200, 230, 300, 301])
    monkeypatch.setattr('astroflux.study.run.time.monotonic', lambda: next(clock))
    stages.fault = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, stages)
    stages.fault = None
    study = run(tmp_path, stages, resume=True)
    assert study['stages']['first']['seconds'] == 10
    assert study['stages']['second']['seconds'] == 31


def test_killed_attempt_is_counted(tmp_path, stages):
    run(tmp_path, stages)
    (tmp_path / 'second' / 'results.json').unlink()
    # as a process leaves it that was killed
    (tmp_path / 'second' / 'attempts.json').write_text('{"seconds": [null]}')
    found = run(tmp_path, stages, resume=True)['stages']['second']
    assert (found['attempts'], found['killed']) == (2, 1)
    assert found['seconds'] >= 0


def test_run_is_not_replaced(tmp_path, stages):
    run(tmp_path, stages)
    with pytest.raises(FileExistsError, match='holds a run of the study: resume it, or name'):
        run(tmp_path, stages)
    assert len(stages.runs) == 3


def test_other_settings_are_refused_by_name(tmp_path, stages):
    run(tmp_path, stages)
    message = (
        r"was begun with preset='of its own', sizes\.n_train=30, .*data\.n_train=30, .*"
        r"not with preset='smoke', sizes\.n_train=200"
    )
    with pytest.raises(ValueError, match=message):
        run(tmp_path, stages, preset='smoke', resume=True)
    assert len(stages.runs) == 3


def test_other_versions_are_refused(tmp_path, stages):
    run(tmp_path, stages)
    path = tmp_path / 'settings.json'
    settings = json.loads(path.read_text())
    settings['versions']['numpy'] = '1.0'
    path.write_text(json.dumps(settings))
    message = rf"versions\.numpy='1\.0', not with versions\.numpy='{np.__version__}'"
    with pytest.raises(ValueError, match=message):
        run(tmp_path, stages, resume=True)


def test_results_without_settings_are_refused(tmp_path, stages):
    run(tmp_path, stages)
    (tmp_path / 'settings.json').unlink()
    with pytest.raises(FileExistsError, match=r'results\.json, but no settings\.json of them'):
        run(tmp_path, stages, resume=True)


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
        run_study(tmp_path / 'run', 'smoke', data=study_folder, stages=stages.mapping)
    assert not (tmp_path / 'run').exists()


def test_resume_begins_where_there_is_nothing(tmp_path, stages):
    assert list(run(tmp_path, stages, resume=True)['stages']) == ['first', 'second', 'third']


def test_unknown_preset(tmp_path, stages):
    with pytest.raises(
        ValueError, match="preset must be one of smoke, small, full, got 'enormous'"
    ):
        run(tmp_path / 'new', stages, preset='enormous')
    assert not (tmp_path / 'new').exists()


def test_workers_must_be_positive(tmp_path, stages):
    with pytest.raises(ValueError, match='workers must be at least 1, got 0'):
        run(tmp_path, stages, workers=0)


def test_file_that_was_not_written(tmp_path):
    stages = {'only': lambda context: {'rows': [], 'remarks': [], 'figures': ['a.png']}}
    with pytest.raises(FileNotFoundError, match=r"stage 'only' names the file a\.png"):
        run_study(tmp_path, PRESET, stages=stages, progress=False)
    assert not (tmp_path / 'only' / 'results.json').exists()


def test_fit_for_json():
    value = {'a': np.float32(0.5), 2: (np.int64(3), float('nan'), None), 'b': np.array([True])}
    assert fit_for_json(value) == {'a': 0.5, '2': [3, None, None], 'b': [True]}
    with pytest.raises(TypeError, match=r'got set: \{1\}'):
        fit_for_json({'a': [{1}]})


def test_images_are_read_once(tmp_path):
    data = tmp_path / 'data'
    preset = Preset(3, 2)
    write_study_dataset(data, preset.settings, workers=1, progress=False)
    seen = []

    def look(context):
        seen.append(context.train)
        return {'rows': [], 'remarks': []}

    run_study(
        tmp_path / 'run',
        preset,
        data=data,
        stages={'one': look, 'two': look},
        progress=False,
    )
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
        assert found['remarks'], name
        for row in found['rows']:
            assert set(row) == {'what', 'published', 'ours'}
        for file in (*found['tables'], *found['figures']):
            assert (smoke_run / name / file).stat().st_size > 0
    # paths of this machine are nothing to publish
    assert str(smoke_run) not in (smoke_run / 'study.json').read_text()


def test_smoke_run_resumes_one_stage(smoke_run, smoke_preset, tmp_path):
    folder = shutil.copytree(smoke_run, tmp_path / 'copy')
    before = read_study(folder)
    (folder / 'forest' / 'results.json').unlink()
    runs = []

    def counted(name, function):
        def stage(context):
            runs.append(name)
            return function(context)

        return stage

    stages = {name: counted(name, function) for name, function in load_stages().items()}
    after = run_study(folder, smoke_preset, stages=stages, resume=True, workers=1, progress=False)
    assert runs == ['forest']
    times = ('seconds', 'attempts', 'killed')
    for name, found in before['stages'].items():
        for key, value in found.items():
            if key not in times:
                assert after['stages'][name][key] == value
