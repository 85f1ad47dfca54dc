# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The rooms of the package import only from rooms before them."""

import ast
from pathlib import Path

import pytest

import astroflux

# As in docs/development/architecture.rst: data pass through them in this order.
ROOMS = (
    'flags',
    'cutouts',
    'datasets',
    'networks',
    'tables',
    'estimators',
    'simulation',
    'evaluation',
    'survey',
    'training',
    'study',
    'demo',
    'cli',
    '__main__',
)
# Small helpers that any room may use, and that use none but those before them.
HELPERS = (
    '_lazy',
    '_forks',
    '_quiet',
    '_optional',
    '_sersic',
    '_version',
    '_installed',
    '_locks',
    '_dataset_files',
    '_work',
    '_tensor_files',
    '_progress',
    '_table_files',
)

PACKAGE = Path(astroflux.__file__).parent
MODULES = sorted(path for path in PACKAGE.rglob('*.py') if path != PACKAGE / '__init__.py')


def room_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix('.py')


def imported_rooms(path):
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            parts = name.split('.')
            if parts[0] == 'astroflux' and len(parts) > 1:
                yield parts[1]


@pytest.mark.parametrize('path', MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_up(path):
    room = room_of(path)
    assert room in (*ROOMS, *HELPERS)
    order = (*HELPERS, *ROOMS)
    assert set(imported_rooms(path)) <= {*order[: order.index(room) + 1]}


def test_networks_know_nothing_of_astropy():
    for path in (PACKAGE / 'networks').rglob('*.py'):
        assert 'astropy' not in path.read_text(encoding='utf-8')
