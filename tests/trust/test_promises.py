# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Each promise of the documentation has a test, and what is promised of the code as a whole."""

import ast
import re
import socket
from functools import cache
from pathlib import Path

import pytest

import astroflux

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / 'docs' / 'promises.rst'
PACKAGE = Path(astroflux.__file__).parent

TEXT = PAGE.read_text(encoding='utf-8')

# A line of a list: the promise and its tests.
PROMISES = re.findall('^- (.*)$', TEXT, re.MULTILINE)
NAMED = sorted(set(re.findall(':test:`(.*?)`', TEXT)))

TREES = {
    str(path.relative_to(PACKAGE)): ast.parse(path.read_text(encoding='utf-8'))
    for path in sorted(PACKAGE.rglob('*.py'))
}


@cache
def functions_of(path):
    tree = ast.parse((TESTS / path).read_text(encoding='utf-8'))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize('promise', PROMISES)
def test_promise_has_a_test(promise):
    assert re.fullmatch(r'.+?\.( :test:`[\w/]+\.py::test_\w+`)+', promise)


@pytest.mark.parametrize('name', NAMED)
def test_named_test_is_there(name):
    path, function = name.split('::')
    assert function in functions_of(path)


def test_page_has_promises():
    assert len(PROMISES) > 40
    assert len(NAMED) > 40


# -- of the code -------------------------------------------------------------------------------


def imports_of(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def calls_of(tree):
    """Yield calls as text, without arguments, and their nodes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def test_nothing_is_executed():
    """No module reads pickles or evaluates what it reads, and one alone runs a program."""
    refused = {'pickle', 'marshal', 'shelve', 'dill', 'cloudpickle', 'joblib', 'runpy', 'yaml'}
    for path, tree in TREES.items():
        imported = {name.split('.')[0] for name in imports_of(tree)}
        assert not refused & imported, path
        assert 'subprocess' not in imported or path == 'estimators/photometry/sextractor.py', path
        for name, node in calls_of(tree):
            assert name not in {'eval', 'exec', 'compile', '__import__', 'os.system'}, path
            said = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            assert not said.keys() & {'allow_pickle', 'shell'}, path
            assert name != 'torch.load' or said['weights_only'] == 'True', path


def test_nothing_is_fetched():
    refused = {'urllib', 'http', 'socket', 'ssl', 'ftplib', 'requests', 'httpx', 'aiohttp'}
    fetching = {'download_file', 'load_state_dict_from_url', 'urlopen'}
    for path, tree in TREES.items():
        assert not refused & {name.split('.')[0] for name in imports_of(tree)}, path
        assert not fetching & {name.split('.')[-1] for name, _ in calls_of(tree)}, path


def test_no_test_reaches_the_internet():
    """The tests run with it cut off, and so does all that they call."""
    with pytest.raises(OSError, match='internet'):
        socket.create_connection(('192.0.2.1', 80), timeout=1)
