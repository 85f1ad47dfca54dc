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
    '__version__': 'astroflux._installed',
}

__all__ = [*_MODULES]

__getattr__, __dir__ = lazy_names(__name__, _MODULES)
