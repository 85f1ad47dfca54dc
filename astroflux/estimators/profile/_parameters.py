# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Models of profiles as imfit has them, with its own parameters and their limits."""

import math

import numpy as np

from astroflux.estimators.profile._model import MAX_SHIFT, Component, Model, sersic_flux

__all__ = ['PEDESTAL', 'describe', 'from_imfit', 'to_imfit']

# Added to the data, in units of the noise: imfit's steps for derivatives are relative to the
# parameter, and would be lost in rounding for a sky near zero.
PEDESTAL = 10.0

# imfit wants an upper limit if there is a lower one
_MAX_BRIGHTNESS = 1e15

# half-light radius of an exponential disc over its scale length
_DISC_RADIUS = 1.6783469900166605


def to_imfit(model, origin):
    """A model's parameters as imfit has them, for a window that starts at the origin (x, y)."""
    # pixels are counted from 1, angles from the y axis
    values = [model.x - origin[0] + 1, model.y - origin[1] + 1]
    for c in model.components:
        # well away from zero, as the steps of derivatives are relative
        values += [(c.angle - 90) % 180 + 180, c.ellipticity]
        if c.is_disc:
            scale = c.radius / _DISC_RADIUS
            values += [c.flux / (2 * math.pi * scale**2 * c.axis_ratio), scale]
        else:
            unit_flux = sersic_flux(1.0, c.radius, c.index, c.axis_ratio)
            values += [c.index, c.flux / unit_flux, c.radius]
    return np.array([*values, model.sky + PEDESTAL])


def from_imfit(model, values, origin):
    """A model of the same components with parameters as imfit has them."""
    x, y, *values, sky = (float(value) for value in values)
    components = []
    for c in model.components:
        angle, ellipticity, *values = values
        if c.is_disc:
            peak, scale, *values = values
            index, radius = 1.0, scale * _DISC_RADIUS
            flux = 2 * math.pi * scale**2 * peak * (1 - ellipticity)
        else:
            index, brightness, radius, *values = values
            flux = sersic_flux(brightness, radius, index, 1 - ellipticity)
        components.append(
            Component(flux, radius, ellipticity, angle + 90, index, is_disc=c.is_disc)
        )
    return Model(x + origin[0] - 1, y + origin[1] - 1, sky - PEDESTAL, tuple(components))


def describe(model, limits, origin):
    """A model and its limits as pyimfit wants to have them."""
    values = iter(to_imfit(model, origin).tolist())
    functions = []
    centre = {}
    for name, position, start in zip(('X0', 'Y0'), limits.centre, origin, strict=True):
        middle = position - start + 1
        centre[name] = [next(values), middle - MAX_SHIFT, middle + MAX_SHIFT]
    for component in model.components:
        parameters = {'PA': next(values), 'ell': [next(values), *limits.ellipticity]}
        if component.is_disc:
            parameters['I_0'] = [next(values), 0.0, _MAX_BRIGHTNESS]
            parameters['h'] = [next(values), *(radius / _DISC_RADIUS for radius in limits.radius)]
        else:
            parameters['n'] = [next(values), *limits.of_index(model)]
            parameters['I_e'] = [next(values), 0.0, _MAX_BRIGHTNESS]
            parameters['r_e'] = [next(values), *limits.radius]
        name = 'Exponential' if component.is_disc else 'Sersic'
        functions.append({'name': name, 'label': '', 'parameters': parameters})
    sky = {'name': 'FlatSky', 'label': '', 'parameters': {'I_sky': next(values)}}
    return {'function_sets': [centre | {'function_list': [*functions, sky]}]}
