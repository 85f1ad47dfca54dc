# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Total fluxes of galaxies from single-band image cutouts.

The names below load what they need at first use, so that ``import astroflux`` stays light.
"""

from astroflux._lazy import lazy_names
from astroflux.estimators.methods import ESTIMATOR_MODULES

# public name -> module that defines it
_MODULES = ESTIMATOR_MODULES | {
    'decode_flags': 'astroflux.flags',
    'read_cutout': 'astroflux.cutouts',
}

__all__ = [*_MODULES, '__version__']


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


_load, __dir__ = lazy_names(__name__, _MODULES)


def __getattr__(name):
    if name != '__version__':
        return _load(name)
    globals()[name] = _find_version()
    return globals()[name]
