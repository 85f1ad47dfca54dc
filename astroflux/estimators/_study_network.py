# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Measure cutouts with the network of the study of 2024, which knows nothing but ADU."""

import math

import numpy as np
import torch
from astropy import units as u

from astroflux.flags import MeasurementFlag
from astroflux.networks.study_net import SIDE, StudyNet

__all__ = ['is_study_network', 'measure_with_study_network', 'refuse_study_network']

REACH = SIDE // 2

# Of 1 ADU, in AB magnitudes: that of the Hyper Suprime-Cam Survey.
ZEROPOINT = 27.0
NANOJANSKY_PER_ADU = 3631e9 * 10 ** (-0.4 * ZEROPOINT)

# The ends of the central 95 % of a normal distribution, in standard deviations.
TWO_SIGMA = 1.95996


def is_study_network(weights):
    """
    Tell whether weights are for the network of the study.

    Parameters
    ----------
    weights : `~astroflux.networks.Weights`
        Any weights.

    Returns
    -------
    answer : bool
    """
    return isinstance(weights.network, StudyNet)


def refuse_study_network(weights, what):
    """
    Raise an error if weights are for the network of the study.

    Parameters
    ----------
    weights : `~astroflux.networks.Weights` or None
        Any weights, or none.
    what : str
        What cannot be done with them.

    Raises
    ------
    ValueError
        Saying so.
    """
    if weights is not None and is_study_network(weights):
        msg = (
            f'{what} is not possible with the weights {weights.name!r}, a network of the study '
            'of 2024 that is kept for comparison; take weights of the architecture ProfileNet'
        )
        raise ValueError(msg)


def measure_with_study_network(weights, cutouts, names, device):
    """
    Measure a batch of cutouts.

    Parameters
    ----------
    weights : `~astroflux.networks.Weights`
        Of a `~astroflux.networks.study_net.StudyNet`. Of its metadata, ``test_rms_dex`` is the
        error of the answer in dex and ``log_flux_range`` what the training saw.
    cutouts : list of `~astroflux.cutouts.Cutout`
        None of them failed; all of one unit.
    names : iterable of str
        Further columns that the caller wants; what the network does not know is NaN.
    device : `torch.device`
        Where to compute.

    Returns
    -------
    results : dict
        As `~astroflux.estimators.base.FluxEstimator` wants it.

    Raises
    ------
    `~astropy.units.UnitsError`
        If the cutouts are not in ADU.
    ValueError
        If the network needs more than an image.
    """
    if n_columns := weights.network.settings['n_columns']:
        msg = (
            f'the weights {weights.name!r} need {n_columns} known columns per galaxy besides its '
            'image: they measure no cutouts'
        )
        raise ValueError(msg)
    _check_unit(weights, cutouts[0].unit)
    image, cropped = _stack(cutouts)
    with torch.inference_mode():
        log_flux = weights.network(torch.from_numpy(image).to(device))
    log_flux = log_flux.cpu().numpy().astype(float)

    rms = weights.metadata.get('test_rms_dex')
    rms = math.nan if rms is None else rms
    low, high = weights.metadata.get('log_flux_range', (-math.inf, math.inf))
    flags = np.zeros(len(cutouts), np.int64)
    flags[cropped] |= int(MeasurementFlag.STAMP_CROPPED)
    flags[(log_flux < low) | (log_flux > high)] |= int(MeasurementFlag.OUT_OF_RANGE)
    # too large for a number is no measurement
    with np.errstate(over='ignore', invalid='ignore'):
        ends = {
            name: 10 ** (log_flux + n_sigma * rms)
            for name, n_sigma in (
                ('flux_lower', -1),
                ('flux_upper', 1),
                ('flux_lower_95', -TWO_SIGMA),
                ('flux_upper_95', TWO_SIGMA),
            )
        }
        unknown = {name: np.full(len(cutouts), np.nan) for name in names}
        return {
            **unknown,
            'flux': 10**log_flux,
            'flux_err': (ends['flux_upper'] - ends['flux_lower']) / 2,
            **ends,
            'flags': flags,
        }


def _check_unit(weights, unit):
    if unit != u.adu:
        given = 'no unit' if unit == u.dimensionless_unscaled else f"the unit '{unit}'"
        msg = (
            f'the weights {weights.name!r} know pixels in adu at the zero point {ZEROPOINT:g} of '
            f'the Hyper Suprime-Cam Survey and nothing else, got cutouts with {given}: convert '
            f'them (1 adu is {NANOJANSKY_PER_ADU:.2f} nJy) and give them the unit adu'
        )
        raise u.UnitsError(msg)


def _stack(cutouts):
    """Return the pixels around the galaxies, and whether a cutout has more than these."""
    image = np.zeros((len(cutouts), 1, SIDE, SIDE), np.float32)
    cropped = np.zeros(len(cutouts), bool)
    for row, cutout in enumerate(cutouts):
        pairs = [
            _window(length, centre)
            for length, centre in zip(cutout.data.shape, cutout.position[::-1], strict=True)
        ]
        source, target = (tuple(pair[k] for pair in pairs) for k in (0, 1))
        # what is masked is zero in a cutout
        part = image[row, 0][target]
        with np.errstate(over='ignore'):
            part[...] = cutout.data[source]
        cropped[row] = part.size < cutout.data.size
    return image, cropped


def _window(length, centre):
    """Return the slices of a cutout's and of the image's axis that coincide."""
    # the pixel nearest to the position is in the middle; half a pixel to the same side always
    shift = REACH - math.ceil(centre - 0.5 + 1e-9)
    start, stop = max(0, -shift), min(length, SIDE - shift)
    stop = max(start, stop)
    return slice(start, stop), slice(start + shift, stop + shift)
