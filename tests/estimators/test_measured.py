# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Every number of every method, on fixed cutouts, is what it was.

A change that is meant to change numbers runs ``python tools/measured.py``.
"""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

TOOL = Path(__file__).parents[2] / 'tools' / 'measured.py'
spec = importlib.util.spec_from_file_location('measured', TOOL)
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)

KNOWN = json.loads(tool.PATH.read_text())

# Processors differ in the last digits of single precision, solvers in where they stop.
TOLERANCES = {'cnn': 1e-3, 'sersic': 1e-3, 'bulge-disc': 1e-2, 'forest': 1e-5, 'boosting': 1e-5}


@pytest.fixture(scope='module')
def cutouts():
    if (found := tool.versions()) != KNOWN['versions']:
        pytest.skip(f'the numbers are those of {KNOWN["versions"]}, installed are {found}')
    return tool.fixed_cutouts()


def test_all_methods_but_the_program_are_known():
    from astroflux.estimators.methods import KNOWN_METHODS

    assert {*tool.METHODS} == {*KNOWN['measured']} == {*KNOWN_METHODS} - {'sextractor'}


@pytest.mark.parametrize('name', tool.METHODS)
def test_numbers_are_what_they_were(name, cutouts):
    known = KNOWN['measured'][name]
    found = tool.measure(name, cutouts)
    assert found.keys() == known.keys()
    for column, values in known.items():
        # None becomes NaN
        ours, expected = (np.array(part, dtype=float) for part in (found[column], values))
        rtol = TOLERANCES.get(name, 1e-6)
        np.testing.assert_allclose(ours, expected, rtol=rtol, atol=1e-9, err_msg=column)
