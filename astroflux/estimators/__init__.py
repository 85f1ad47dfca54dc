# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Estimators of total flux, which all keep one contract.

The names below load what they need at first use, so that photometry does not load torch.
"""

from importlib import import_module

__all__ = [
    'ApertureFluxEstimator',
    'CNNFluxEstimator',
    'CurveOfGrowthFluxEstimator',
    'FluxEstimator',
    'KronFluxEstimator',
    'PetrosianFluxEstimator',
    'RegressionFluxEstimator',
    'SEPFluxEstimator',
    'SExtractorFluxEstimator',
    'SersicFluxEstimator',
]

# public name -> module that defines it
_LAZY = {
    'ApertureFluxEstimator': 'astroflux.estimators.aperture',
    'CNNFluxEstimator': 'astroflux.estimators.cnn',
    'CurveOfGrowthFluxEstimator': 'astroflux.estimators.growth',
    'FluxEstimator': 'astroflux.estimators.base',
    'KronFluxEstimator': 'astroflux.estimators.kron',
    'PetrosianFluxEstimator': 'astroflux.estimators.petrosian',
    'RegressionFluxEstimator': 'astroflux.estimators.regression',
    'SEPFluxEstimator': 'astroflux.estimators.sep_auto',
    'SExtractorFluxEstimator': 'astroflux.estimators.sextractor',
    'SersicFluxEstimator': 'astroflux.estimators.profile',
}


def __getattr__(name):
    if name not in _LAZY:
        msg = f'module {__name__!r} has no attribute {name!r}'
        raise AttributeError(msg)
    return getattr(import_module(_LAZY[name]), name)


def __dir__():
    return sorted({*globals(), *__all__})
