# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Torch modules, and the weights files that fill them.

The names below load what they need at first use: the names of weights are known without torch.
"""

from importlib import import_module

__all__ = [
    'ProfileNet',
    'Weights',
    'WeightsError',
    'available_weights',
    'default_weights',
    'load_weights',
    'save_weights',
]

# public name -> module that defines it
_LAZY = {
    'ProfileNet': 'astroflux.networks.profile_net',
    'Weights': 'astroflux.networks.store',
    'WeightsError': 'astroflux.networks.store',
    'available_weights': 'astroflux.networks.registry',
    'default_weights': 'astroflux.networks.registry',
    'load_weights': 'astroflux.networks.store',
    'save_weights': 'astroflux.networks.store',
}


def __getattr__(name):
    if name not in _LAZY:
        msg = f'module {__name__!r} has no attribute {name!r}'
        raise AttributeError(msg)
    return getattr(import_module(_LAZY[name]), name)


def __dir__():
    return sorted({*globals(), *__all__})
