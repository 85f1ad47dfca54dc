# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Torch modules, and the weights files that fill them."""

from astroflux.networks.foveated import FoveatedNet
from astroflux.networks.store import (
    Weights,
    WeightsError,
    available_weights,
    load_weights,
    save_weights,
)

__all__ = [
    'FoveatedNet',
    'Weights',
    'WeightsError',
    'available_weights',
    'load_weights',
    'save_weights',
]
