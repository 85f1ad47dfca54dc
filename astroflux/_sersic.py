# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Sersic profiles of unit flux and half-light radius (Graham & Driver 2005, PASA 22, 118).

Radii are circularised and in half-light radii; all functions take numbers or arrays.
"""

import numpy as np
from scipy.special import gamma, gammainc, gammaincinv

__all__ = ['b_n', 'brightness', 'enclosed_flux', 'enclosing_radius']


def b_n(index):
    """Return the constant of a Sersic index that puts half of the light within radius one."""
    return gammaincinv(2 * index, 0.5)


def brightness(radius, index):
    """Return the surface brightness at a radius (equations 1 and 4)."""
    b = b_n(index)
    norm = b ** (2 * index) / (2 * np.pi * index * gamma(2 * index))
    return norm * np.exp(-b * radius ** (1 / index))


def enclosed_flux(radius, index):
    """Return the fraction of the flux within a radius (equation 2)."""
    return gammainc(2 * index, b_n(index) * radius ** (1 / index))


def enclosing_radius(fraction, index):
    """Return the radius that encloses a fraction of the flux."""
    return (gammaincinv(2 * index, fraction) / b_n(index)) ** index
