# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of what is not code: imports, pins, and the commands of the README."""

import importlib.util
import json
import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def load_tool(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / 'tools' / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_command_line_is_light():
    # astroflux --help answers at once
    code = 'import astroflux.cli, sys; print(*sys.modules)'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    heavy = {'torch', 'galsim', 'sklearn', 'photutils', 'scipy', 'matplotlib', 'pandas', 'astropy'}
    assert not heavy & set(done.stdout.split())


def test_data_are_installed():
    package = files('astroflux')
    for pattern in (
        'networks/weights/*.safetensors',
        'training/configs/*.toml',
        'data/demo/*.fits*',
    ):
        assert list(Path(str(package)).glob(pattern)), f'no {pattern} in the installed package'


def test_oldest_constraints_are_current():
    written = (ROOT / 'constraints-oldest.txt').read_text(encoding='utf-8')
    assert written == load_tool('oldest_constraints').render()


def test_oldest_constraints_want_floors():
    tool = load_tool('oldest_constraints')
    project = {'dependencies': ['numpy'], 'optional-dependencies': {key: [] for key in tool.EXTRAS}}
    with pytest.raises(ValueError, match="want name>=version, got 'numpy'"):
        tool.oldest_pins(project)


@pytest.mark.parametrize(('name', 'end'), [('setup-demo', 'astroflux demo'), ('setup-test', '')])
def test_readme_commands_exist(name, end):
    text = (ROOT / 'README.rst').read_text(encoding='utf-8')
    command = load_tool('readme_command').readme_command(text, name)
    # without the constraints pip may download gigabytes
    assert '-c constraints.txt' in command
    assert command.endswith(end)


def test_readme_command_is_missing():
    with pytest.raises(
        ValueError, match="want one command in the block 'x' of the README, found 0"
    ):
        load_tool('readme_command').readme_command('no block', 'x')


@pytest.mark.parametrize(
    ('answer', 'faults', 'reason'),
    [
        ([{'name': 'a', 'version': '1', 'vulns': []}], [], []),
        (
            [{'name': 'a', 'version': '1', 'vulns': [{'id': 'CVE-1', 'fix_versions': ['2']}]}],
            ['a 1: CVE-1, mended in 2'],
            [],
        ),
        # a mirror of packages knows nothing, which is not that there is nothing
        ([{'name': 'a', 'skip_reason': 'not found'}], None, ['not found']),
        (None, None, ['ConnectionError']),
    ],
)
def test_audit(monkeypatch, answer, faults, reason):
    audit = load_tool('audit')

    class Done:
        stdout = '' if answer is None else json.dumps({'dependencies': answer})
        stderr = 'Traceback\nConnectionError'

    monkeypatch.setattr(audit.subprocess, 'run', lambda *_, **__: Done)
    dependencies, why = audit.audit(['a==1'])
    assert why == reason
    assert (None if dependencies is None else audit.report(dependencies)) == faults


def test_readme_names_files_that_exist():
    text = (ROOT / 'README.rst').read_text(encoding='utf-8')
    names = re.findall(
        r'<([\w./-]+\.\w+)>`_|image:: (\S+)|``((?:docs|benchmarks)/[\w./-]+)``', text
    )
    names = [name for found in names for name in found if name]
    assert len(names) >= 5
    assert [name for name in names if not (ROOT / name).exists()] == []
