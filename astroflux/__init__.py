# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Total fluxes of galaxies from single-band image cutouts.

The names below load what they need at first use, so that ``import astroflux`` stays light.
"""

from importlib import import_module

__all__ = [
    'ApertureFluxEstimator',
    'CNNFluxEstimator',
    'CurveOfGrowthFluxEstimator',
    'KronFluxEstimator',
    'PetrosianFluxEstimator',
    'RegressionFluxEstimator',
    'SEPFluxEstimator',
    'SExtractorFluxEstimator',
    'SersicFluxEstimator',
    '__version__',
    'decode_flags',
    'read_cutout',
]

# public name -> module that defines it
_LAZY = {
    'ApertureFluxEstimator': 'astroflux.estimators.aperture',
    'CNNFluxEstimator': 'astroflux.estimators.cnn',
    'CurveOfGrowthFluxEstimator': 'astroflux.estimators.growth',
    'KronFluxEstimator': 'astroflux.estimators.kron',
    'PetrosianFluxEstimator': 'astroflux.estimators.petrosian',
    'RegressionFluxEstimator': 'astroflux.estimators.regression',
    'SEPFluxEstimator': 'astroflux.estimators.sep_auto',
    'SExtractorFluxEstimator': 'astroflux.estimators.sextractor',
    'SersicFluxEstimator': 'astroflux.estimators.profile',
    'decode_flags': 'astroflux.flags',
    'read_cutout': 'astroflux.cutouts',
}


def _find_version():
    # setuptools_scm writes _version.py when the package is built; a bare checkout lacks it
    try:
        from astroflux._version import version
    except ImportError:
        from importlib.metadata import PackageNotFoundError
        from importlib.metadata import version as installed_version

        try:
            return installed_version('astroflux')
        except PackageNotFoundError:
            return '0.0.0+unknown'
    return version


def __getattr__(name):
    if name == '__version__':
        value = _find_version()
    elif name in _LAZY:
        value = getattr(import_module(_LAZY[name]), name)
    else:
        msg = f'module {__name__!r} has no attribute {name!r}'
        raise AttributeError(msg)
    # kept, so that the next access does not come here
    globals()[name] = value
    return value


def __dir__():
    return sorted({*globals(), *__all__})
