# Licensed under a 3-clause BSD style license - see LICENSE.rst
import subprocess
import sys

import pytest

import astroflux
from astroflux import estimators, networks

HEAVY = ('torch', 'galsim', 'sklearn', 'photutils', 'matplotlib', 'pandas', 'dask')


def run(code):
    """Run Python code in a fresh process, and return what it writes."""
    return subprocess.run(
        [sys.executable, '-c', code], check=True, capture_output=True, text=True
    ).stdout.strip()


def test_import_is_light():
    loaded = run(f'import sys, astroflux; print([n for n in {HEAVY} if n in sys.modules])')
    assert loaded == '[]'


def test_import_is_fast():
    # the best of three, as a busy machine delays some
    code = 'import time; t = time.perf_counter(); import astroflux; print(time.perf_counter() - t)'
    assert min(float(run(code)) for _ in range(3)) < 0.5


@pytest.mark.parametrize(
    ('module', 'name'),
    [
        ('astroflux', 'KronFluxEstimator'),
        ('astroflux', 'ApertureFluxEstimator'),
        ('astroflux', 'read_cutout'),
        ('astroflux.networks', 'default_weights'),
    ],
)
def test_no_network_is_loaded_without_need(module, name):
    code = (
        f'import sys; from {module} import {name}; '
        "print([n for n in ('torch', 'galsim') if n in sys.modules])"
    )
    assert run(code) == '[]'


def test_network_loads_what_it_needs_when_it_measures():
    # an import costs less than that of torch alone; scikit-learn and pandas never measure
    # and torch does without its compiler, which takes longer than the rest of it
    compiler = ('torch._dynamo', 'sympy')
    heavy = ('torch', 'sklearn', 'pandas', 'photutils', 'scipy.optimize', 'scipy.signal', *compiler)
    begin = 'import sys; from astroflux import CNNFluxEstimator; estimator = CNNFluxEstimator(); '
    loaded = f'print([n for n in {heavy} if n in sys.modules])'
    assert run(begin + loaded) == '[]'
    measure = (
        'import numpy as np; estimator.predict(np.random.default_rng(0).normal(size=(40, 40)));'
    )
    assert run(begin + measure + loaded) == "['torch']"


def test_names():
    assert set(astroflux.__all__) <= set(dir(astroflux))
    for name in astroflux.__all__:
        assert getattr(astroflux, name) is not None


def test_names_of_estimators():
    for name in estimators.__all__:
        assert name in dir(estimators)
        assert getattr(estimators, name).__name__ == name
    with pytest.raises(AttributeError, match=r"'astroflux\.estimators' has no attribute 'flux'"):
        estimators.flux  # noqa: B018


def test_names_of_networks():
    for name in networks.__all__:
        assert name in dir(networks)
        assert getattr(networks, name).__name__ == name
    with pytest.raises(AttributeError, match=r"'astroflux\.networks' has no attribute 'flux'"):
        networks.flux  # noqa: B018


def test_unknown_name():
    with pytest.raises(AttributeError, match="module 'astroflux' has no attribute 'flux'"):
        astroflux.flux  # noqa: B018


def test_version():
    assert isinstance(astroflux.__version__, str)
    assert astroflux.__version__[0].isdigit()
