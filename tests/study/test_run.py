# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of the run of the study: stage by stage, interrupted and resumed."""

import json
import shutil
from functools import partial

import numpy as np
import pytest

import astroflux
from astroflux.study.results import read_study
from astroflux.study.run import STAGE_NAMES, Preset, load_stages, run_study


class Stages(dict):
    """Three stages that tell that they are run; the second may have a fault."""

    def __init__(self):
        super().__init__({name: partial(self.run, name) for name in ('first', 'second', 'third')})
        self.runs, self.fault = [], None

    def run(self, name, context):
        self.runs.append(name)
        if self.fault and name == 'second':
            raise self.fault
        given = {'before': list(context.results), 'data': str(context.data)}
        return {'rows': [], 'numbers': (np.float32(1.5), np.nan, None, np.arange(2)), **given}


def run(folder, stages, *, preset=None, **options):
    preset = preset or Preset(30, 12, max_epochs=1)
    return run_study(folder, preset, stages=stages, progress=False, **options)


def test_stages_run_once_in_order(tmp_path):
    stages, folder = Stages(), tmp_path / 'new'
    study = run(folder, stages, workers=1, resume=True)
    assert stages.runs == ['first', 'second', 'third']
    # what is in memory is what is on disk
    assert read_study(folder) == study
    for name, found in study['stages'].items():
        assert json.loads((folder / name / 'results.json').read_text()) == found
        assert found['version'] == astroflux.__version__
    found = study['stages']['third']
    assert found['numbers'] == [1.5, None, None, [0, 1]]
    assert (found['before'], found['data']) == (['first', 'second'], str(folder / 'dataset'))
    settings = study['settings']
    assert (settings['preset'], settings['sizes']['n_train']) == ('of its own', 30)
    assert (settings['seeds']['cnn-1'], settings['versions']['numpy']) == (1, np.__version__)


@pytest.mark.parametrize('fault', [KeyboardInterrupt(), ValueError('no image')])
def test_interrupted_stage_leaves_no_results(tmp_path, fault, monkeypatch):
    clock = iter([0, 10, 100, 101, 200, 230, 300, 301])
    monkeypatch.setattr('astroflux.study.run.time.monotonic', lambda: next(clock))
    stages = Stages()
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


def test_other_and_damaged_runs_are_refused(tmp_path, study_folder):
    stages = Stages()
    run(tmp_path, stages)
    with pytest.raises(FileExistsError, match='holds a run of the study: resume it, or name'):
        run(tmp_path, stages)
    message = r"preset='of its own', sizes\.n_train=30, .*not with preset='smoke', sizes\.n_train="
    with pytest.raises(ValueError, match=message):
        run(tmp_path, stages, preset='smoke', resume=True)
    with pytest.raises(ValueError, match=r'the data set in .* begun with seed=5, not with seed='):
        run(tmp_path, stages, data=study_folder, resume=True)
    for path in (tmp_path / 'first' / 'results.json', tmp_path / 'settings.json'):
        path.write_text('{"preset": ')
        with pytest.raises(ValueError, match=f'{path.name} is damaged'):
            run(tmp_path, stages, resume=True)
    assert len(stages.runs) == 3


def test_smoke_run_is_whole_and_resumes_one_stage(smoke_run, tmp_path):
    settings, _, before = read_study(smoke_run).values()
    assert tuple(before) == STAGE_NAMES
    for name, found in before.items():
        assert found['rows'], name
        for file in (*found['tables'], *found['figures']):
            assert (smoke_run / name / file).stat().st_size > 0
    # paths of this machine are nothing to publish
    assert str(smoke_run) not in (smoke_run / 'study.json').read_text()
    lines, folder = [], shutil.copytree(smoke_run, tmp_path / 'copy')
    (folder / 'forest' / 'results.json').unlink()
    options = {'preset': Preset(**settings['sizes']), 'workers': 1, 'tell': lines.append}
    after = run(folder, load_stages(), resume=True, **options)['stages']
    assert sum(line.endswith(': done before') for line in lines) == len(STAGE_NAMES) - 1
    assert after['forest'].pop('seconds') > before['forest'].pop('seconds')
    assert after == before
