# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of the run of the study: stage by stage, interrupted and resumed."""

import json
import shutil

import numpy as np
import pytest

import astroflux
from astroflux.study.results import read_study
from astroflux.study.run import STAGE_NAMES, Preset, run_study


def run(folder, fault=None, *, preset=None, **options):
    """Run three stages, of which the second may have a fault; return which ran, and the study."""
    runs = []

    def stage(context):
        runs.append(context.folder.name)
        if fault and len(context.results) == 1:
            raise fault
        numbers = np.float32(1.5), np.nan, None, np.arange(2)
        return {'rows': [], 'numbers': numbers, 'before': list(context.results)}

    preset, stages = preset or Preset(30, 12), dict.fromkeys(('first', 'second', 'third'), stage)
    return runs, run_study(folder, preset, stages=stages, progress=False, **options)


def test_stages_run_in_order(tmp_path):
    runs, study = run(tmp_path / 'new', workers=1, resume=True)
    assert runs == ['first', 'second', 'third']
    # what is in memory is what is on disk
    assert read_study(tmp_path / 'new') == study
    for name, found in study['stages'].items():
        assert json.loads((tmp_path / 'new' / name / 'results.json').read_text()) == found
        assert found['version'] == astroflux.__version__
    assert found['numbers'] == [1.5, None, None, [0, 1]]
    assert found['before'] == ['first', 'second']
    assert study['settings']['seeds']['cnn-1'] == 1


def test_interrupted_run_goes_on(tmp_path, monkeypatch):
    clock = iter([0, 10, 100, 101, 200, 230, 300, 301])
    monkeypatch.setattr('astroflux.study.run.time.monotonic', lambda: next(clock))
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, KeyboardInterrupt())
    # there is something to make a page of
    assert list(read_study(tmp_path)['stages']) == ['first']
    runs, study = run(tmp_path, resume=True)
    assert runs == ['second', 'third']
    # of both attempts together
    found = study['stages']
    assert [found[name]['seconds'] for name in ('first', 'second')] == [10, 31]


def test_other_runs_are_refused(tmp_path, study_folder):
    run(tmp_path)
    with pytest.raises(ValueError, match=r"preset='of its own', .*not with preset='smoke'"):
        run(tmp_path, preset='smoke', resume=True)
    with pytest.raises(ValueError, match=r'the data set in .* begun with seed=5, not with seed='):
        run(tmp_path, data=study_folder, resume=True)


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
    options = {'resume': True, 'workers': 1, 'progress': False, 'tell': lines.append}
    after = run_study(folder, Preset(**settings['sizes']), **options)['stages']
    assert sum(line.endswith(': done before') for line in lines) == len(STAGE_NAMES) - 1
    assert after['forest'].pop('seconds') > before['forest'].pop('seconds')
    assert after == before
