# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Sersic profiles and discs, models of them, and the limits of their parameters."""

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import brentq
from scipy.special import gammainc, gammaln

__all__ = ['MAX_SHIFT', 'Component', 'Limits', 'Model', 'b_n', 'sersic_flux']

# The galaxy is sought within this many pixels of the position, along each axis.
MAX_SHIFT = 5.0

_MAX_ELLIPTICITY = 0.95


@dataclass(frozen=True)
class Component:
    """A Sersic profile, or an exponential disc."""

    flux: float  # out to infinity
    radius: float  # half-light radius along the major axis, in pixels
    ellipticity: float
    angle: float  # of the major axis, in degrees anticlockwise from the x axis
    index: float = 1.0
    is_disc: bool = False  # the index is fixed

    @property
    def axis_ratio(self):
        return 1 - self.ellipticity

    @property
    def circular_radius(self):
        return self.radius * math.sqrt(self.axis_ratio)

    @property
    def shape_names(self):
        names = ('radius', 'ellipticity', 'angle')
        return names if self.is_disc else (*names, 'index')

    def enclosed(self, radius):
        """Fraction of the flux within a circularised radius."""
        scaled = (radius / self.circular_radius) ** (1 / self.index)
        return gammainc(2 * self.index, b_n(self.index) * scaled)


@dataclass(frozen=True)
class Model:
    """Components about one centre (0-based pixels), with the bulge first, and a flat sky."""

    x: float
    y: float
    sky: float
    components: tuple

    @property
    def flux(self):
        return sum(component.flux for component in self.components)

    @property
    def n_parameters(self):
        return 3 + sum(1 + len(component.shape_names) for component in self.components)

    @property
    def half_light_radius(self):
        """Circularised, in pixels."""
        radii = [c.circular_radius for c in self.components if c.flux > 0]
        if min(radii) == max(radii):
            return radii[0]

        def excess(radius):
            return sum(c.flux * (c.enclosed(radius) - 0.5) for c in self.components)

        return brentq(excess, 0.99 * min(radii), 1.01 * max(radii))

    def with_component(self, number, **changes):
        components = list(self.components)
        components[number] = replace(components[number], **changes)
        return replace(self, components=tuple(components))


@dataclass(frozen=True)
class Limits:
    """What the parameters may be."""

    centre: tuple
    radius: tuple
    sersic_index: tuple
    bulge_index: tuple
    ellipticity: tuple = (0.0, _MAX_ELLIPTICITY)

    def of_index(self, model):
        low, high = self.sersic_index if len(model.components) == 1 else self.bulge_index
        return float(low), float(high)

    def start(self, model):
        """Move a model to where a solver can start, off the limits."""
        x, y = (
            float(np.clip(value, centre - 0.8 * MAX_SHIFT, centre + 0.8 * MAX_SHIFT))
            for value, centre in zip((model.x, model.y), self.centre, strict=True)
        )
        least = 0.02 * model.flux
        components = tuple(
            replace(
                component,
                flux=max(component.flux, least),
                radius=_move_inside(component.radius, self.radius),
                ellipticity=_move_inside(component.ellipticity, self.ellipticity),
                index=1.0
                if component.is_disc
                else _move_inside(component.index, self.of_index(model)),
            )
            for component in model.components
        )
        return replace(model, x=x, y=y, components=components)

    def is_met(self, model, number, name):
        """Whether a parameter of the shape of a component is at a limit."""
        value = getattr(model.components[number], name)
        limits = {
            'radius': self.radius,
            'ellipticity': self.ellipticity,
            'index': self.of_index(model),
            'angle': (),
        }
        return any(math.isclose(value, end, rel_tol=1e-4, abs_tol=1e-6) for end in limits[name])

    def are_met(self, model):
        """Whether an index or a radius of a component that matters is at a limit."""
        return any(
            self.is_met(model, number, name)
            for number, component in enumerate(model.components)
            if component.flux > 0.01 * model.flux
            for name in ('radius', 'index')
            if name in component.shape_names
        )


def _move_inside(value, limits, margin=0.05):
    low, high = limits
    gap = margin * (high - low)
    return float(np.clip(value, low + min(gap, low or gap), high - gap))


def b_n(index):
    """Imfit's approximation, by Ciotti & Bertin (1999) and by MacArthur et al. (2003)."""
    n = index
    if n > 0.36:
        return (
            2 * n
            - 1 / 3
            + 4 / (405 * n)
            + 46 / (25515 * n**2)
            + 131 / (1148175 * n**3)
            - 2194697 / (30690717750 * n**4)
        )
    return 0.01945 - 0.8902 * n + 10.95 * n**2 - 19.67 * n**3 + 13.43 * n**4


def sersic_flux(brightness, radius, index, axis_ratio):
    """Flux out to infinity of a Sersic profile with a brightness at its half-light radius."""
    b = b_n(index)
    # Graham & Driver (2005), equation 4; the gamma function alone would overflow
    shape = index * math.exp(b - 2 * index * math.log(b) + gammaln(2 * index))
    return 2 * math.pi * radius**2 * brightness * axis_ratio * shape
