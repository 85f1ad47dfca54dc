# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Torch modules, and the weights files that fill them.

The names below load what they need at first use: the names of weights are known without torch.
"""

from astroflux._lazy import lazy_names

# public name -> module that defines it
_MODULES = {
    'ProfileNet': 'astroflux.networks.profile_net',
    'Weights': 'astroflux.networks.store',
    'WeightsError': 'astroflux.networks.store',
    'available_weights': 'astroflux.networks.registry',
    'default_weights': 'astroflux.networks.registry',
    'load_weights': 'astroflux.networks.store',
    'save_weights': 'astroflux.networks.store',
}

__all__ = [*_MODULES]

__getattr__, __dir__ = lazy_names(__name__, _MODULES)
