# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The network of the study of 2024 as a method of its own, which knows nothing but ADU."""

import math

import numpy as np
import torch
from astropy import units as u

from astroflux.estimators._canvas import coinciding
from astroflux.estimators._columns import COLUMNS
from astroflux.flags import MeasurementFlag
from astroflux.networks.study_net import SIDE

__all__ = ['StudyMethod']

# Of 1 ADU, in AB magnitudes: that of the Hyper Suprime-Cam Survey.
ZEROPOINT = 27.0
NANOJANSKY_PER_ADU = 3631e9 * 10 ** (-0.4 * ZEROPOINT)

# Where the flux columns lie in the distribution of log10(flux), in standard deviations: the last
# two are the ends of the central 95 % of a normal distribution.
LIMITS = {'flux_lower': -1, 'flux_upper': 1, 'flux_lower_95': -1.95996, 'flux_upper_95': 1.95996}


class StudyMethod:
    """
    Measure cutouts with weights of a `~astroflux.networks.study_net.StudyNet`.

    Of their metadata, ``test_rms_dex`` is the error of the answer in dex and ``log_flux_range``
    what the training saw.
    """

    def __init__(self, weights, device):
        self.weights, self.device = weights, device

    def check(self):
        """Raise `ValueError` if the network needs more than an image."""
        weights = self.weights
        if n_columns := weights.network.settings['n_columns']:
            msg = (
                f'the weights {weights.name!r} need {n_columns} known columns per galaxy besides '
                'its image: they measure no cutouts'
            )
            raise ValueError(msg)

    def measure(self, cutouts):
        """
        Return what `~astroflux.estimators.base.FluxEstimator` wants to know of a batch.

        What the network does not know is NaN. `~astropy.units.UnitsError` if the cutouts are not in
        ADU.
        """
        weights = self.weights
        _check_unit(weights, cutouts[0].unit)
        image, cropped = _stack(cutouts)
        with torch.inference_mode():
            log_flux = weights.network(torch.from_numpy(image).to(self.device))
        log_flux = log_flux.cpu().numpy().astype(float)
        low, high = weights.metadata.get('log_flux_range', (-math.inf, math.inf))
        flags = np.zeros(len(cutouts), np.int64)
        flags[cropped] |= int(MeasurementFlag.STAMP_CROPPED)
        flags[(log_flux < low) | (log_flux > high)] |= int(MeasurementFlag.OUT_OF_RANGE)
        return {**_columns(log_flux, weights.metadata.get('test_rms_dex')), 'flags': flags}

    @property
    def network_to_fit(self):
        """Raise an error: there is no fit."""
        self._refuse('fit')

    def weight_map(self, cutout):
        """Raise an error: there is no map."""
        self._refuse('weight_map')

    def _refuse(self, what):
        msg = (
            f'{what} is not possible with the weights {self.weights.name!r}, a network of the '
            'study of 2024 that is kept for comparison; take weights of the architecture '
            'ProfileNet'
        )
        raise ValueError(msg)


def _columns(log_flux, rms):
    """Return all columns, from log10(flux) and its error in dex, if that is known."""
    rms = math.nan if rms is None else rms
    columns = {name: np.full(len(log_flux), np.nan) for name in COLUMNS}
    # too large for a number is no measurement
    with np.errstate(over='ignore', invalid='ignore'):
        columns['flux'] = 10**log_flux
        for name, n_sigma in LIMITS.items():
            columns[name] = 10 ** (log_flux + n_sigma * rms)
        columns['flux_err'] = (columns['flux_upper'] - columns['flux_lower']) / 2
    return columns


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
        source, target = coinciding(cutout.data.shape, cutout.position, SIDE)
        # what is masked is zero in a cutout
        part = image[row, 0][target]
        with np.errstate(over='ignore'):
            part[...] = cutout.data[source]
        cropped[row] = part.size < cutout.data.size
    return image, cropped
