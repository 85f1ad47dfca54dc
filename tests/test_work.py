# Licensed under a 3-clause BSD style license - see LICENSE.rst

import os

import pytest

from astroflux._work import call_in_processes, refuse_other_settings, spawn_pool, write_whole


def test_file_is_written_at_the_end(tmp_path):
    path = tmp_path / 'table.csv'
    path.write_text('old')
    with write_whole(path) as part:
        part.write_text('new')
        assert path.read_text() == 'old'
    assert path.read_text() == 'new'
    assert os.listdir(tmp_path) == ['table.csv']


def test_failure_leaves_the_old_file(tmp_path):
    path = tmp_path / 'table.csv'
    path.write_text('old')

    def fail():
        with write_whole(path) as part:
            part.write_text('half of the n')
            msg = 'disk full'
            raise RuntimeError(msg)

    with pytest.raises(RuntimeError, match='full'):
        fail()
    assert path.read_text() == 'old'
    assert os.listdir(tmp_path) == ['table.csv']


def test_same_settings_pass():
    begun, now = {'n': 3, 'sizes': {'test': 1}}, {'sizes': {'test': 1}, 'n': 3}
    assert refuse_other_settings('the run', begun, now) is None
    # the same call notices a difference
    with pytest.raises(ValueError, match=r'begun with n=3, not with n=4'):
        refuse_other_settings('the run', begun, now | {'n': 4})


def test_other_settings_are_named_with_both_values():
    begun, now = {'n': 3, 'sizes': {'test': 1, 'train': 2}}, {'n': 4, 'sizes': {'train': 2}}
    with pytest.raises(
        ValueError, match=r'the run was begun with n=3, sizes\.test=1, not with'
    ) as e:
        refuse_other_settings('the run', begun, now)
    assert str(e.value).endswith('not with n=4, sizes.test=None')


def test_pool_spawns():
    with spawn_pool(1, initializer=os.putenv, initargs=('UNUSED', '1')) as pool:
        assert pool.submit(os.getpid).result() != os.getpid()


def test_calls_in_processes():
    results = call_in_processes(divmod, [(7, 3), (9, 2), (5, 5)], workers=2)
    assert dict(results) == {0: (2, 1), 1: (4, 1), 2: (1, 0)}
    with pytest.raises(ZeroDivisionError):
        list(call_in_processes(divmod, [(1, 0), (1, 1)], workers=1))
