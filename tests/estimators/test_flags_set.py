# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The flags that methods say they set are those that their code names."""

import inspect
import re
import sys

import numpy as np
import pytest

import astroflux
from astroflux import estimators
from astroflux.estimators.methods import ESTIMATOR_MODULES
from astroflux.flags import FLAGS, MeasurementFlag

NAMES = {flag.name for flag in FLAGS}
# what every method sets: that a row is faint, or without a finite flux
OF_ALL = {'LOW_SNR'}


def modules_of(module, seen=None):
    """Return the modules of methods that a module is made of, with those that they import."""
    seen = {module.__name__: module} if seen is None else seen
    for value in list(vars(module).values()):
        name = value.__name__ if inspect.ismodule(value) else getattr(value, '__module__', '')
        shared = ('astroflux.estimators.base', 'astroflux.estimators._rows')
        is_method = str(name).startswith('astroflux.estimators.') and name not in shared
        if is_method and name not in seen:
            seen[name] = sys.modules[name]
            modules_of(sys.modules[name], seen)
    return seen


@pytest.mark.parametrize('name', ESTIMATOR_MODULES)
def test_flags_are_those_of_the_code(name):
    cls = getattr(astroflux, name)
    source = '\n'.join(map(inspect.getsource, modules_of(sys.modules[cls.__module__]).values()))
    named = set(re.findall(r'Flag\.([A-Z_]+)', source)) & NAMES
    assert set(cls._flags_set) == named - OF_ALL
    assert all(cls._flags_set.values())


def test_faint_means_that_snr_is_low(make_ccd):
    fluxes = [30.0, 60.0, 120.0, 250.0, 500.0, 1000.0]
    ccds = [make_ccd(flux=flux, seed=seed) for seed, flux in enumerate(fluxes)]
    for estimator in (astroflux.CNNFluxEstimator(), astroflux.ApertureFluxEstimator(radius=12)):
        table = estimator.measure(ccds)
        faint = table['flags'] & MeasurementFlag.LOW_SNR != 0
        measured = np.isfinite(table['flux'])
        np.testing.assert_array_equal(faint[measured], table['snr'][measured] < 5)
        assert 0 < faint[measured].sum() < measured.sum()


def test_a_method_of_the_user_need_not_say():
    assert estimators.FluxEstimator._flags_set == {}
