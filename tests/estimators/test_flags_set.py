# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The flags that methods say they set are those that their code names."""

import inspect
import re
from importlib import import_module

import numpy as np
import pytest

import astroflux
from astroflux import estimators
from astroflux.estimators.methods import ESTIMATOR_MODULES
from astroflux.flags import FLAGS, MeasurementFlag

NAMES = {flag.name for flag in FLAGS}
# what every method sets: that a row is faint, or without a finite flux
OF_ALL = {'LOW_SNR'}
SHARED = ('astroflux.estimators.base', 'astroflux.estimators._rows')


def modules_of(name, seen=None):
    """Return the modules that a module of methods is made of, with those that they import."""
    seen = {} if seen is None else seen
    seen[name] = inspect.getsource(import_module(name))
    for other in re.findall(r'from (astroflux\.estimators\.[\w.]+) import', seen[name]):
        if other not in seen and other not in SHARED:
            modules_of(other, seen)
    return seen


@pytest.mark.parametrize('name', ESTIMATOR_MODULES)
def test_flags_are_those_of_the_code(name):
    cls = getattr(astroflux, name)
    source = '\n'.join(modules_of(cls.__module__).values())
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
