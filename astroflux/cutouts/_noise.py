# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Noise of a cutout: as given with the data, or estimated from its pixels."""

import math
from dataclasses import dataclass

import numpy as np
from astropy import units as u
from astropy.nddata import (
    InverseVariance,
    NDUncertainty,
    StdDevUncertainty,
    VarianceUncertainty,
)

from astroflux.cutouts._units import conversion_factor

__all__ = ['GivenNoise', 'clipped_scatter', 'estimate_noise', 'noise_of']

# Median of |x| and rms of |x| < 3 for a standard normal x.
_NORMAL_MEDIAN = 0.6744897501960817
_CLIP = 3.0
_CLIPPED_RMS = math.sqrt(
    1
    - 2
    * _CLIP
    * math.exp(-(_CLIP**2) / 2)
    / (math.sqrt(2 * math.pi) * math.erf(_CLIP / math.sqrt(2)))
)

# Interpolation in a coadd correlates pixels out to two neighbours; from the
# third on, the correlation is near zero.
_BLOCK = 3
_SMALLEST_FOR_BLOCKS = 32
_FEWEST_DIFFERENCES = 16


@dataclass(slots=True, frozen=True)
class GivenNoise:
    """
    An uncertainty array and how to get a standard deviation from it.

    The power is 1 for a standard deviation, 2 for a variance, -2 for its inverse; the unit is that
    of the standard deviation, `None` if it is that of the data.
    """

    array: np.ndarray
    power: int = 1
    unit: u.UnitBase | None = None

    def __getitem__(self, index):
        return GivenNoise(self.array[index], self.power, self.unit)

    def std(self):
        """Return the standard deviation in float64: a new array, or a read-only view."""
        # In float64 from the start: a float32 variance may overflow.
        std = np.asarray(self.array, dtype=float)
        if self.power != 1:
            with np.errstate(invalid='ignore', divide='ignore'):
                std = np.asarray(np.sqrt(std) if self.power == 2 else 1 / np.sqrt(std))
        std = std.view()
        std.flags.writeable = False
        return std

    def factor(self, unit):
        """
        Return the factor that brings the standard deviation to the unit of the data.

        `~astropy.units.UnitsError` if they do not convert.
        """
        if self.unit is None:
            return 1.0
        factor = conversion_factor(self.unit, unit)
        if factor is None:
            msg = f'the uncertainty has the unit {str(self.unit)!r}, the data have {str(unit)!r}'
            raise u.UnitsError(msg)
        return factor


def noise_of(uncertainty):
    """
    Wrap any uncertainty that can become a standard deviation; `None` if there is none.

    `TypeError` if its kind is unknown.
    """
    if uncertainty is None or uncertainty.array is None:
        return None
    for kind, power in ((StdDevUncertainty, 1), (VarianceUncertainty, 2), (InverseVariance, -2)):
        # Not isinstance: a subclass may mean something else by its array.
        if type(uncertainty) is kind:
            unit = uncertainty.unit
            if unit is not None and power != 1:
                unit = unit ** (1 / power)
            return GivenNoise(np.asarray(uncertainty.array), power, unit)
    try:
        std = NDUncertainty.represent_as(uncertainty, StdDevUncertainty)
    except TypeError as exc:
        msg = (
            f'the uncertainty is {type(uncertainty).__name__}, which cannot be represented as '
            'StdDevUncertainty'
        )
        raise TypeError(msg) from exc
    return GivenNoise(np.asarray(std.array), 1, std.unit)


def _order_statistic(values, fraction):
    """Return the value that this fraction of the values lies below."""
    rank = int(fraction * values.size)
    return np.partition(values, rank)[rank]


def _median_sigma(values):
    """Return the normal sigma of absolute values from the median of a sample of them."""
    sample = values[:: max(values.size // 2048, 1)]
    return _order_statistic(sample, 0.5) / _NORMAL_MEDIAN


def _clipped_rms(values, sigma):
    """Return the normal sigma of absolute values, outliers clipped."""
    # The median is robust, which matters at the start; the rms is precise.
    sigma = min(sigma, _median_sigma(values))
    for _ in range(6):
        kept = values[values < _CLIP * sigma]
        if kept.size == 0:
            break
        last, sigma = sigma, math.sqrt(np.dot(kept, kept) / kept.size) / _CLIPPED_RMS
        if abs(sigma - last) < 2e-3 * sigma:
            break
    return sigma


def clipped_scatter(values):
    """Return the normal sigma of values about their median, outliers clipped."""
    absolute = np.abs(values - np.median(values))
    return _clipped_rms(absolute, _median_sigma(absolute))


def _differences(data, valid, block):
    """
    Return the absolute differences at a lag, by place and offset in a block.

    With them the mean level of the four blocks that they are made from, and which differences
    have no masked pixel, or `None` if all.
    """
    data = _blocks(data, block)
    diff = data[1:, 1:] - data[:-1, 1:] - data[1:, :-1] + data[:-1, :-1]
    np.abs(diff, out=diff)
    diff *= 0.5
    if valid is None:
        level, good = data.mean(axis=2), None
    else:
        valid = _blocks(valid, block)
        # Masked pixels are 0.
        level = data.sum(axis=2) / np.maximum(np.count_nonzero(valid, axis=2), 1)
        good = valid[1:, 1:] & valid[:-1, 1:] & valid[1:, :-1] & valid[:-1, :-1]
    level = 0.25 * (level[1:, 1:] + level[:-1, 1:] + level[1:, :-1] + level[:-1, :-1])
    return diff, level, good


def _blocks(array, block):
    """Return an array as (block rows, block columns, pixels of a block)."""
    ny, nx = (size // block for size in array.shape)
    array = array[: ny * block, : nx * block].reshape(ny, block, nx, block)
    return array.transpose(0, 2, 1, 3).reshape(ny, nx, block**2)


def estimate_noise(data, mask=None):
    r"""
    Estimate the noise per pixel of an image that holds sources.

    The estimate is the clipped root mean square of mixed differences,

    .. math::

        d = \frac{1}{2} (p_{x,y} - p_{x+l,y} - p_{x,y+l} + p_{x+l,y+l}),

    which have the variance of a pixel and are blind to any background that is
    a plane, over the places where the mean level is low. For independent
    normal noise, choosing places by their mean level does not bias the
    result, since the level and the differences are independent.

    The noise is assumed to be the same in all pixels and, at the lag ``l``,
    uncorrelated. The lag is 3 pixels, beyond the reach of the correlation that
    resampling leaves in a coadd; 1 pixel in images of less than 32 pixels a
    side. Noise correlated over more pixels is underestimated.

    Parameters
    ----------
    data : `~numpy.ndarray`
        Image, shape ``(ny, nx)``, float64; masked pixels must be 0.
    mask : `~numpy.ndarray`, optional
        Bool, same shape; `True` where a pixel is to be ignored.

    Returns
    -------
    sigma : float
        Standard deviation of the noise; NaN if the pixels do not tell, as when
        they are all the same. Scales exactly with ``data``.
    """
    valid = None if mask is None or not mask.any() else ~mask
    block = _BLOCK if min(data.shape) >= _SMALLEST_FOR_BLOCKS else 1
    diff, level, good = _differences(data, valid, block)
    found = diff.size if good is None else np.count_nonzero(good)
    if found < _FEWEST_DIFFERENCES:
        pixels = data if valid is None else data[valid]
        sigma = np.median(np.abs(pixels - np.median(pixels))) / _NORMAL_MEDIAN
        return float(sigma) if sigma > 0 else math.nan
    values = diff.ravel() if good is None else diff[good]
    low = _order_statistic(level.ravel() if good is None else level[good.any(axis=2)], 0.25)
    sigma = _median_sigma(values)
    for _ in range(2):
        # The level is a mean of 4 block**2 pixels; its lower quartile lies
        # 0.67 sigma below its median, to which we add 3 sigma.
        keep = level <= low + 3.67 * sigma / (2 * block)
        values = diff[keep] if good is None else diff[keep][good[keep]]
        if values.size < _FEWEST_DIFFERENCES:
            break
        sigma = _clipped_rms(values.ravel(), sigma)
    return float(sigma) if sigma > 0 else math.nan
