# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The best of several starting points for the fit of a model."""

import math
from dataclasses import replace

from astroflux.estimators.photometry.base import MeasurementError
from astroflux.estimators.profile._imfit import SEARCH_TOLERANCE
from astroflux.estimators.profile._model import Component, Model
from astroflux.flags import MeasurementFlag

__all__ = ['search_one', 'search_two']

# Half-light radii to start from, over the width of the source, and indices.
_START_RADII = (0.4, 0.8, 1.5, 3.0)
_START_INDICES = (0.7, 1.0, 2.0, 4.0)
# The same for two components, over the half-light radius of a single profile.
_START_DISC_RADII = (0.8, 1.2, 1.8)
_START_BULGE_RADII = (0.15, 0.35, 0.8)
_START_BULGE_INDEX = 3.0


def search_one(stamp, source, n_starts):
    """The best model of one component, on a part of the stamp."""
    low, high = stamp.limits.sersic_index
    indices = [index for index in _START_INDICES if low < index < high]
    starts = []
    for index in indices or [math.sqrt(low * high)]:
        trials = []
        for radius in _START_RADII:
            component = Component(
                1.0, radius * source.width, source.ellipticity, source.angle, index
            )
            model = Model(source.x, source.y, 0.0, (component,))
            model = stamp.limits.start(model)
            trials.append(stamp.solve(model, [stamp.unit_image(model, 0)]))
        # the radii of one index lead to one minimum, most often
        starts.append(min(trials, key=lambda trial: trial[0]))
    return _fit_best(stamp, starts, n_starts)


def search_two(stamp, single, n_starts):
    """The best model of a bulge and a disc, on a part of the stamp, given that of a profile."""
    (whole,) = single.components
    disc = replace(whole, index=1.0, is_disc=True)
    bulge = replace(whole, index=_START_BULGE_INDEX, ellipticity=0.5 * whole.ellipticity)
    pairs = {'bulge': [], 'disc': []}
    for name, component, radii in (
        ('bulge', bulge, _START_BULGE_RADII),
        ('disc', disc, _START_DISC_RADII),
    ):
        for radius in radii:
            model = replace(single, components=(replace(component, radius=radius * whole.radius),))
            model = stamp.limits.start(model)
            pairs[name].append((model.components[0], stamp.unit_image(model, 0)))
    starts = []
    for bulge, bulge_image in pairs['bulge']:
        trials = [
            stamp.solve(replace(single, components=(bulge, disc)), [bulge_image, disc_image])
            for disc, disc_image in pairs['disc']
        ]
        starts.append(min(trials, key=lambda trial: trial[0]))
    return _fit_best(stamp, starts, n_starts)


def _fit_best(stamp, starts, n_starts):
    """Fit from the best of the starts (chi2, model), and return the best of the results."""
    starts = [start for start in starts if start[1].flux > 0]
    if not starts:
        msg = 'there is no light at the position'
        raise MeasurementError(MeasurementFlag.NOT_DETECTED, msg)
    starts.sort(key=lambda start: start[0])
    results, failure = [], None
    for _, model in starts[:n_starts]:
        try:
            results.append(stamp.fit(model, SEARCH_TOLERANCE[len(model.components)]))
        except MeasurementError as exc:
            failure = exc
    if not results:
        raise failure
    return min(results, key=lambda result: result[1])[0]
