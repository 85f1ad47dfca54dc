# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The network's answer as columns and flags of a table, both of them lists that say what is in."""

from typing import NamedTuple

import numpy as np
import scipy  # its parts load at first use
from astropy import units as u

from astroflux.estimators._pretrained import (
    DETECTION_FLAGS,
    detection_flags,
    messages_of_missed,
)
from astroflux.flags import MeasurementFlag as Flag
from astroflux.networks.outputs import SHAPE

__all__ = [
    'COLUMNS',
    'FLAGS_SET',
    'Column',
    'columns_of',
    'flags_of',
    'results_of',
    'rise_by_uniform_prior',
]

# A galaxy larger than any of the training is given about the largest radius
# of the training: from this fraction of it on, the answer is suspect.
SUSPECT_RADIUS = 0.9

# Neighbors affect the answer from this part of the galaxy's light on, as `neighbor_light` has it;
# or from a smaller one on, if that is more than this part of the error of the flux.
AFFECTING_LIGHT = 0.1
NOTABLE_LIGHT, PART_OF_ERROR = 0.003, 0.3

# Of two maxima, the fainter one is above what is between them by so many standard deviations.
SECOND_MAXIMUM = 3.0

# Light that no galaxy has: a pixel that stands out of a star, a line of light that reaches so much
# farther than those beside it, a row or column without its light; see `networks/artefacts.py`.
SPIKE, TRAIL, GAP = 12.0, 0.42, 3.4

# The galaxy is elsewhere if its profile has its centre farther from the position than a pixel and
# so much of its radius, and so many times its error, which is about the radius over the S/N.
FARTHEST_CENTRE = 1.0
PART_OF_RADIUS = 0.1
ERRORS_OF_CENTRE = 3.0

# More than this part of the light of the profile lies where no pixels are, or its half-light
# radius is more than this part of the way to there.
LIGHT_BEYOND = 0.08
RADIUS_OF_REACH = 0.3

# No total flux is known better than the noise of one pixel; a network that says so has seen too
# little of the galaxy, and knows nothing.
LEAST_ERROR = 0.5

# The flux columns are these quantiles of the distribution of the flux.
FLUX_QUANTILES = {
    'flux': 0.5,
    'flux_lower': 0.1587,
    'flux_upper': 0.8413,
    'flux_lower_95': 0.025,
    'flux_upper_95': 0.975,
}


# Wider halves of the distribution of ln(flux) count as so wide for ``flux_uniform_prior``: there
# nothing is measured, and exponentials would overflow.
LARGEST_WIDTH = 5.0


class Column(NamedTuple):
    """What a column holds, and how it is printed; the unit ``'flux'`` is that of the cutouts."""

    unit: u.UnitBase | str | None
    description: str
    format: str = '.4g'


def _shape_columns():
    """Return a column for each number of the shape, and for its error."""
    columns = {}
    for output in SHAPE:
        unit = u.pix if output.is_ln_of_pixels else None
        columns[output.column] = Column(unit, output.description)
        error = f'1-sigma error of {output.column}'
        columns[f'{output.column}_err'] = Column(unit, error, '.2g')
    return columns


# Beside those that every table has.
COLUMNS = {
    'flux_uniform_prior': Column(
        'flux',
        'median of the flux if all fluxes were equally frequent, and not all ln(flux)',
        '.6g',
    ),
    'flux_lower_95': Column('flux', 'lower end of the 95 % interval of the flux', '.6g'),
    'flux_upper_95': Column('flux', 'upper end of the 95 % interval of the flux', '.6g'),
    **_shape_columns(),
    'n_neighbors': Column(
        None, 'number of neighbors that the fit of the profile has taken into account', '.0f'
    ),
    'neighbor_distance': Column(u.pix, 'distance of the nearest one of these; NaN if none'),
    'neighbor_light': Column(
        None, 'their light over that of the galaxy, weighted with the profile of the galaxy'
    ),
    'novelty': Column(
        None, 'how unlike the training the cutout is; one in a hundred of these is above 1'
    ),
}


def columns_of(answer):
    """
    Return the flux columns of an `Answer` and those of `COLUMNS`.

    Fluxes are in the unit of the data, lengths in their pixels.
    """
    columns = {
        name: np.exp(answer.ln_flux(quantile)) * answer.scale
        for name, quantile in FLUX_QUANTILES.items()
    }
    median = answer.ln_flux(FLUX_QUANTILES['flux'])
    rise = rise_by_uniform_prior(
        median - answer.ln_flux(FLUX_QUANTILES['flux_lower']),
        answer.ln_flux(FLUX_QUANTILES['flux_upper']) - median,
    )
    columns['flux_uniform_prior'] = np.exp(rise) * columns['flux']
    columns['flux_err'] = (columns['flux_upper'] - columns['flux_lower']) / 2
    for output in SHAPE:
        value, error = _value(answer, output.name), _value(answer, output.error)
        if output.is_ln_of_pixels:
            value = np.exp(value)
            value, error = value * answer.binning, value * error * answer.binning
        columns[output.column], columns[f'{output.column}_err'] = value, error
    number = _value(answer, 'n_neighbors')
    distance = _value(answer, 'neighbor_distance') * answer.binning
    columns['n_neighbors'] = number
    columns['neighbor_distance'] = np.where(np.isfinite(distance), distance, np.nan)
    for name in ('neighbor_light', 'novelty'):
        columns[name] = _value(answer, name)
    return columns


def rise_by_uniform_prior(below, above):
    """
    Return by how much the median of ln(flux) rises if all fluxes are equally frequent.

    Parameters
    ----------
    below, above : `~numpy.ndarray`
        From the 16th percentile of the distribution of ln(flux) to its median, and from there to
        the 84th. It is taken for two halves of Gaussians of these widths.

    Returns
    -------
    rise : `~numpy.ndarray`
        How far the median of the distribution times the flux is above its own.
    """
    # a half of width s, times exp(x), has the mass exp(s**2 / 2) ndtr(s) above 0, and with -s below
    below, above = np.minimum(below, LARGEST_WIDTH), np.minimum(above, LARGEST_WIDTH)
    ndtr = scipy.special.ndtr
    mass = np.exp(below**2 / 2) * ndtr(-below) + np.exp(above**2 / 2) * ndtr(above)
    return above * (above - scipy.special.ndtri(np.exp(-(above**2) / 2) * mass / 2))


def _value(answer, name):
    """Return what a network says, or NaN where it has no fit, or one without neighbors."""
    return answer.values.get(name, np.full(len(answer.scale), np.nan))


# -- flags ---------------------------------------------------------------------------------------


def _psf_is_outside(answer, metadata):
    narrowest, widest = metadata.get('psf_fwhm_range') or (-np.inf, np.inf)
    # Comparisons with NaN, the unknown width, are false.
    too_narrow = answer.psf_fwhm * answer.binning < narrowest
    return too_narrow | (answer.psf_fwhm > widest)


def _galaxy_is_outside(answer, metadata):
    _, largest = metadata.get('half_light_radius_range') or (0.0, np.inf)
    return np.exp(answer.values['ln_radius']) > SUSPECT_RADIUS * largest


def _has_neighbor(answer, metadata):
    light = _value(answer, 'neighbor_light')
    lower, upper = (answer.ln_flux(FLUX_QUANTILES[f'flux_{end}']) for end in ('lower', 'upper'))
    matters = (light > NOTABLE_LIGHT) & (light > PART_OF_ERROR * (upper - lower) / 2)
    return (light > AFFECTING_LIGHT) | matters | (_value(answer, 'second') > SECOND_MAXIMUM)


def _has_artefact(answer, metadata):
    # in blocks of pixels stars are too sharp
    is_spike = (_value(answer, 'spike') > SPIKE) & (answer.binning == 1)
    return is_spike | (_value(answer, 'trail') > TRAIL) | (_value(answer, 'gap') > GAP)


def _is_elsewhere(answer, metadata):
    centre = np.stack([_value(answer, 'fit_x'), _value(answer, 'fit_y')], axis=1)
    distance = np.hypot(*(centre - answer.offset).T)
    radius = np.exp(answer.values['ln_radius'])
    size = radius + np.exp(_value(answer, 'ln_fwhm')) / 2
    error = size / answer.values['detection_snr']
    return distance > FARTHEST_CENTRE + PART_OF_RADIUS * radius + ERRORS_OF_CENTRE * error


def _is_truncated(answer, metadata):
    index, radius = (
        np.exp(_value(answer, f'fit_ln_{name}'))[:, None] for name in ('index', 'radius')
    )
    # Ciotti & Bertin (1999, A&A 352, 447): the light of a Sersic profile within a radius. To each
    # of the four sides it is taken to end at as far as there are pixels.
    scale = scipy.special.gammaincinv(2 * index, 0.5)
    beyond = scipy.special.gammaincc(
        2 * index, scale * (np.maximum(answer.reach, 0) / radius) ** (1 / index)
    )
    is_wide = np.exp(answer.values['ln_radius']) > RADIUS_OF_REACH * answer.reach.mean(axis=1)
    return is_wide | (beyond.mean(axis=1) > LIGHT_BEYOND)


# The same in words.
FLAGS_SET = {
    **DETECTION_FLAGS,
    'NEIGHBOUR': (
        'the column ``neighbor_light`` is above 0.1, or above 0.003 and 0.3 of the relative error '
        'of the flux; or there is a second maximum within 2.5 FWHM of the PSF'
    ),
    'OFF_CENTRE': (
        'the centre of the fitted profile is farther from the position than a pixel and a tenth '
        'of the half-light radius, by more than its error'
    ),
    'TRUNCATED': (
        'more than 8 % of the light of the fitted profile lies beyond the pixels, or these end '
        'within 3.3 half-light radii'
    ),
    'ARTEFACT': (
        'there is a straight line of light through the galaxy, a row or column without light, or '
        'a pixel sharper than the PSF'
    ),
    'OUT_OF_RANGE': (
        'the PSF is narrower or wider than those of the training, or the galaxy as large as the '
        'largest of the training'
    ),
    'UNFAMILIAR': 'the column ``novelty`` is above 1',
    'AMBIGUOUS': 'a brighter source is nearer than two FWHM of the PSF',
    'FAILED': 'the error of the flux is less than half of the noise of a pixel',
}

# When a further flag is set, from the answer and the metadata of the weights.
FLAG_RULES = (
    (Flag.UNFAMILIAR, lambda answer, metadata: _value(answer, 'novelty') > 1),
    (Flag.NEIGHBOUR, _has_neighbor),
    (Flag.OFF_CENTRE, _is_elsewhere),
    (Flag.TRUNCATED, _is_truncated),
    (Flag.ARTEFACT, _has_artefact),
    (Flag.AMBIGUOUS, lambda answer, metadata: _value(answer, 'rival') > 1),
    (Flag.OUT_OF_RANGE, _psf_is_outside),
    (Flag.OUT_OF_RANGE, _galaxy_is_outside),
)


def flags_of(answer, metadata):
    """Return the flags of an `Answer` by weights whose metadata say what the training saw."""
    flags = detection_flags(answer, answer.values['detection_snr'])
    for flag, applies in FLAG_RULES:
        flags[applies(answer, metadata)] |= int(flag)
    return flags


def results_of(answer, metadata):
    """Return columns, flags and messages, as a `FluxEstimator` wants them of a batch."""
    flags = flags_of(answer, metadata)
    columns = columns_of(answer)
    messages = messages_of_missed(flags, answer.values['detection_snr'])
    for row in np.flatnonzero(columns['flux_err'] < LEAST_ERROR * answer.scale):
        flags[row] |= int(Flag.FAILED)
        messages[row] = messages[row] or (
            f'the error of the flux, {columns["flux_err"][row]:.2g}, is less than the noise of a '
            'pixel can be: too little of the galaxy is seen'
        )
    return {**columns, 'flags': flags, 'messages': messages}
