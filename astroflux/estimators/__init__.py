# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Estimators of total flux, which all keep one contract.

The names below load what they need at first use, so that photometry does not load torch.
"""

from astroflux._lazy import lazy_names
from astroflux.estimators.methods import ESTIMATOR_MODULES, available_methods, make_estimator

_BASES = {
    'FieldDetector': 'astroflux.estimators.field._detection',
    'FieldMeasurement': 'astroflux.estimators.field',
    'FluxEstimator': 'astroflux.estimators.base',
    'MeasurementError': 'astroflux.estimators.photometry.base',
    'PhotometricFluxEstimator': 'astroflux.estimators.photometry.base',
    'SourceFinder': 'astroflux.estimators.photometry.finder',
}

__all__ = [*_BASES, *ESTIMATOR_MODULES, 'available_methods', 'make_estimator']

__getattr__, __dir__ = lazy_names(__name__, _BASES | ESTIMATOR_MODULES)
