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

# Neighbors affect the answer from this part of the galaxy's light on, as `neighbor_light` has it.
AFFECTING_LIGHT = 0.1

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
    # What is too large for a number is no measurement: of a canvas without a usable pixel.
    with np.errstate(over='ignore'):
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


# The same in words.
FLAGS_SET = {
    **DETECTION_FLAGS,
    'NEIGHBOUR': 'the column ``neighbor_light`` is above 0.1',
    'OUT_OF_RANGE': (
        'the PSF is narrower or wider than those of the training, or the galaxy as large as the '
        'largest of the training'
    ),
    'UNFAMILIAR': 'the column ``novelty`` is above 1',
    'AMBIGUOUS': 'a brighter source is nearer than two FWHM of the PSF',
}

# When a further flag is set, from the answer and the metadata of the weights.
FLAG_RULES = (
    (Flag.UNFAMILIAR, lambda answer, metadata: _value(answer, 'novelty') > 1),
    (Flag.NEIGHBOUR, lambda answer, metadata: _value(answer, 'neighbor_light') > AFFECTING_LIGHT),
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
    messages = messages_of_missed(flags, answer.values['detection_snr'])
    return {**columns_of(answer), 'flags': flags, 'messages': messages}
