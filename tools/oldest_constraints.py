# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Print the oldest versions that ``pyproject.toml`` allows, as pip constraints.

Usage: ``python tools/oldest_constraints.py > constraints-oldest.txt``. A test compares the file
with what this prints, so that the two cannot drift apart.
"""

import re
import sys
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).parents[1] / 'pyproject.toml'

HEADER = """\
# Made by tools/oldest_constraints.py from the floors in pyproject.toml; do not edit.
"""

# torch stays at the version of constraints.txt, so that a CPU build of it that is at hand is taken:
# that of PyPI for Linux brings gigabytes of CUDA libraries, whatever its version.
EXCEPTIONS = {'torch'}

EXTRAS = ('simulate', 'compare', 'test')

REQUIREMENT = re.compile(
    r'(?P<name>[\w.-]+)(\[.*\])?>=(?P<floor>[\w.]+)(,<[\w.]+)?\s*(?P<marker>;.*)?$'
)


def oldest_pins(project):
    """
    Pins of the lower bounds in a ``[project]`` table.

    Parameters
    ----------
    project : dict
        The table.

    Returns
    -------
    pins : list of str
        One ``name==version`` each, with the marker if there is one.

    Raises
    ------
    ValueError
        If a requirement is not of the form ``name>=version`` or ``name>=version,<version``.
    """
    requirements = list(project['dependencies'])
    for extra in EXTRAS:
        requirements += project['optional-dependencies'][extra]
    pins = []
    for requirement in requirements:
        match = REQUIREMENT.fullmatch(requirement)
        if match is None:
            msg = f'want name>=version, got {requirement!r}'
            raise ValueError(msg)
        if match['name'] not in EXCEPTIONS:
            pins.append(f'{match["name"]}=={match["floor"]}{match["marker"] or ""}')
    return pins


def exception_pins(constraints):
    """
    Lines of a constraints file that hold for the packages without an oldest pin.

    Parameters
    ----------
    constraints : str
        Text of ``constraints.txt``.

    Returns
    -------
    pins : list of str
        The lines, unchanged.
    """
    return [line for line in constraints.splitlines() if line.split('==')[0] in EXCEPTIONS]


def render():
    """
    Text of ``constraints-oldest.txt``.

    Returns
    -------
    text : str
        The text, one pin a line.
    """
    project = tomllib.loads(PYPROJECT.read_text(encoding='utf-8'))['project']
    newest = PYPROJECT.with_name('constraints.txt').read_text(encoding='utf-8')
    return HEADER + '\n'.join([*oldest_pins(project), *exception_pins(newest)]) + '\n'


if __name__ == '__main__':
    sys.stdout.write(render())
