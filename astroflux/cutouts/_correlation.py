# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Noise that is correlated between pixels: as the user tells it, or measured from blank sky."""

import math
from dataclasses import dataclass

import numpy as np
import scipy  # its parts load at first use
from astropy import units as u

from astroflux.cutouts._noise import clipped_scatter

__all__ = ['ESTIMATE', 'NoiseCorrelation', 'noise_growth', 'parse_noise_correlation']

#: The value of the keyword that asks for a measurement.
ESTIMATE = 'estimate'

# Side of the blocks of pixels whose sums tell how the noise grows.
_BLOCK = 7

# By how much it may grow, if a number is all that is known: noise that grows by more is
# correlated over more pixels than a block has.
_LEAST_GROWTH, _MOST_GROWTH = 0.5, 5.0
_WANTED = f"a 2-d kernel, a number from {_LEAST_GROWTH:g} to {_MOST_GROWTH:g} or '{ESTIMATE}'"

# Kernels of one number, by what they add to the central pixel on each side: their growth holds
# all that is accepted.
_EXTENTS = (-0.5, 4.0)

# A sum this many standard deviations above the sky is a source's. At 3, the tail of the noise
# would be cut off, too; at 4, more faint light is left.
_SOURCE = 3.5
_MAX_ROUNDS = 5

# Sums of which a smaller part is blank do not count, and as many must as so many blocks have
# pixels: fewer would tell their scatter to worse than about 15 %.
_LEAST_BLANK = 0.8
_FEWEST_BLOCKS = 16


@dataclass(frozen=True, eq=False)
class NoiseCorrelation:
    """
    How noise is correlated: that of white noise convolved with a kernel.

    Attributes
    ----------
    kernel : 2D `~numpy.ndarray`
        The kernel; its scale has no meaning.
    growth : float
        Scatter of sums over 7 x 7 pixels over 7 times the scatter of the pixels.
    """

    kernel: np.ndarray
    growth: float

    @classmethod
    def of_kernel(cls, kernel):
        """Return the correlation that a kernel makes."""
        return cls(kernel, _growth_of_sum(np.ones((_BLOCK, _BLOCK)), kernel))

    @classmethod
    def of_growth(cls, growth):
        """Return a correlation, alike along both axes, by which noise grows so much."""

        def excess(extent):
            # along one axis: the variance of sums grows by the square of this along two
            line = _line(extent)[None]
            return _growth_of_sum(np.ones((1, _BLOCK)), line) ** 2 - growth

        line = _line(scipy.optimize.brentq(excess, *_EXTENTS))
        return cls(np.outer(line, line), growth)

    def sum_growth(self, weights):
        """
        Return by how much the noise of a weighted sum of pixels grows.

        The weights are an image, those of the sum times the noise of each pixel. 1 if all are 0.
        """
        return _growth_of_sum(weights, self.kernel) if weights.any() else 1.0


def _growth_of_sum(weights, kernel):
    """Return the scatter of a weighted sum of correlated noise over that of white noise."""
    # so that no square is beyond the largest number
    weights = weights / np.abs(weights).max()
    # what each pixel of the white noise adds to the sum
    shares = scipy.signal.convolve(weights, kernel[::-1, ::-1])
    power = np.sum(np.square(weights)) * np.sum(np.square(kernel))
    return math.sqrt(np.sum(np.square(shares)) / power)


def _line(extent):
    """Return ``[q, 1, q]`` for an extent q up to 1; beyond, a box with such ends."""
    reach = max(1, math.ceil(extent))
    side = np.clip(extent - np.arange(reach), None, 1.0)
    return np.concatenate([side[::-1], [1.0], side])


def parse_noise_correlation(value):
    """
    Parse ``noise_correlation``: a `NoiseCorrelation`, `ESTIMATE` or `None`.

    `TypeError` or `ValueError` if it is no kernel, number or `ESTIMATE`,
    `~astropy.units.UnitsError` if it has a unit.
    """
    if value is None:
        return None
    if isinstance(value, str):
        if value != ESTIMATE:
            msg = f'noise_correlation must be {_WANTED}, got {value!r}'
            raise ValueError(msg)
        return ESTIMATE
    if isinstance(value, u.Quantity):
        if not value.unit.is_equivalent(u.dimensionless_unscaled):
            msg = f'noise_correlation has no unit, got the unit {str(value.unit)!r}'
            raise u.UnitsError(msg)
        value = value.to_value(u.dimensionless_unscaled)
    try:
        array = np.asarray(value)
    except ValueError:
        msg = 'the kernel of noise_correlation must be 2-d, got rows of different lengths'
        raise ValueError(msg) from None
    if array.dtype.kind not in 'iuf':
        msg = f'noise_correlation must be {_WANTED}, got {type(value).__name__}'
        raise TypeError(msg)
    return _parse_number(float(array)) if array.ndim == 0 else _parse_kernel(array.astype(float))


def _parse_number(growth):
    # false for NaN, too
    if not _LEAST_GROWTH <= growth <= _MOST_GROWTH:
        msg = (
            f'noise_correlation must be {_WANTED}, got {growth:g}: the number is the scatter of '
            f'sums over {_BLOCK} x {_BLOCK} pixels over that of white noise'
        )
        raise ValueError(msg)
    return NoiseCorrelation.of_growth(growth)


def _parse_kernel(kernel):
    if kernel.ndim != 2 or any(side % 2 == 0 for side in kernel.shape):
        msg = (
            'the kernel of noise_correlation must be 2-d with odd sides, got the shape '
            f'{kernel.shape}'
        )
        raise ValueError(msg)
    if n_bad := np.count_nonzero(~np.isfinite(kernel)):
        msg = f'the kernel of noise_correlation must be finite, got {n_bad} values that are not'
        raise ValueError(msg)
    if not kernel.any():
        msg = f'the kernel of noise_correlation is 0 everywhere, got the shape {kernel.shape}'
        raise ValueError(msg)
    # so that no square of it is too large or too small for a number
    return NoiseCorrelation.of_kernel(kernel / np.abs(kernel).max())


def noise_growth(image, mask=None):
    """
    Measure how much the noise of sums of pixels exceeds that of white noise, from blank sky.

    It is the scatter of sums over 7 x 7 pixels over 7 times the scatter of the pixels: 1 for white
    noise, about 1.1 to 1.5 for coadds, whose pixels were resampled. Give it to ``measure`` and
    others as ``noise_correlation=``.

    Sources are left out: all that lies within 3 pixels of a block whose sum is 3.5 standard
    deviations above the sky. What is fainter counts as noise, which it is for a galaxy in front
    of it.

    Parameters
    ----------
    image : 2D array_like
        An image with blank sky, such as a field or a large cutout: in one of 61 x 61 pixels the
        result is good to 7 %, in one of 300 x 300 to 1 %. If the noise is uneven, give the image
        over its noise.
    mask : 2D array_like, optional
        `True` where a pixel is to be ignored, as are those that are not finite.

    Returns
    -------
    growth : float
        From 0.5 to 5; NaN if there is too little blank sky, about thirty pixels square, or what
        is found there is beyond these numbers.

    Raises
    ------
    ValueError
        If the image is not 2-d, or the mask of another shape.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy.ndimage import uniform_filter
    >>> from astroflux.cutouts import noise_growth
    >>> white = np.random.default_rng(0).normal(size=(300, 300))
    >>> round(noise_growth(white), 1)
    1.0
    >>> round(noise_growth(uniform_filter(white, 3)), 1)
    2.6
    """
    image = np.asarray(image, dtype=float)
    good = np.isfinite(image)
    if mask is not None:
        mask = np.asarray(mask, dtype=bool)
        if mask.shape != image.shape:
            msg = f'the mask has the shape {mask.shape}, the image has {image.shape}'
            raise ValueError(msg)
        good &= ~mask
    if image.ndim != 2:
        msg = f'the image must be 2-d, got the shape {image.shape}'
        raise ValueError(msg)
    blank = good
    for _ in range(_MAX_ROUNDS):
        sums = _Sums.over(image, good, blank)
        if sums.are_few:
            return math.nan
        detected = sums.values > np.median(sums.blank) + _SOURCE * clipped_scatter(sums.blank)
        found = good & ~scipy.ndimage.maximum_filter(detected, _BLOCK)
        if np.array_equal(found, blank):
            break
        blank = found
    sums = _Sums.over(image, blank, blank)
    if sums.are_few:
        return math.nan
    of_sums, of_pixels = clipped_scatter(sums.blank), clipped_scatter(image[blank])
    is_known = _LEAST_GROWTH * of_pixels <= of_sums <= _MOST_GROWTH * of_pixels and of_pixels > 0
    return float(of_sums / of_pixels) if is_known else math.nan


@dataclass
class _Sums:
    """Sums over blocks about each pixel, in units in which white noise has the pixels' scatter."""

    values: np.ndarray
    is_blank: np.ndarray

    @classmethod
    def over(cls, image, pixels, blank):
        """Sum some pixels, above the level of those that are blank."""
        level = np.median(image[blank]) if blank.any() else 0.0
        number = np.round(_block_sums(pixels))
        total = _block_sums(np.where(pixels, image - level, 0.0))
        least = _LEAST_BLANK * _BLOCK**2
        return cls(total / np.sqrt(np.maximum(number, 1)), np.round(_block_sums(blank)) >= least)

    @property
    def blank(self):
        """The sums over what is blank."""
        return self.values[self.is_blank]

    @property
    def are_few(self):
        """Whether they are too few to tell their scatter."""
        return np.count_nonzero(self.is_blank) < _FEWEST_BLOCKS * _BLOCK**2


def _block_sums(values):
    return scipy.ndimage.uniform_filter(values.astype(float), _BLOCK, mode='constant') * _BLOCK**2
