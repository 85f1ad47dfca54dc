# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Torch modules, and the weights files that fill them."""

from astroflux.networks.profile_net import ProfileNet
from astroflux.networks.store import (
    Weights,
    WeightsError,
    available_weights,
    load_weights,
    save_weights,
)

__all__ = [
    'ProfileNet',
    'Weights',
    'WeightsError',
    'available_weights',
    'load_weights',
    'save_weights',
]
