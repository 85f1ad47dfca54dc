# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Sersic profiles as sums of Gaussians (Hogg & Lang 2013, PASP 125, 719).

A sum of Gaussians stays one under convolution with another, and its derivatives
are known. Here amplitudes and widths are polynomials of ln(index), so that the
index can be fitted, too.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.polynomial import chebyshev

from astroflux._sersic import brightness, enclosing_radius

__all__ = ['LN_INDEX_RANGE', 'SersicMixture', 'sersic_mixture', 'to_unit_interval']

LN_INDEX_RANGE = (float(np.log(0.3)), float(np.log(6.3)))

# The narrowest and the widest Gaussian: this many times the radius that encloses
# this fraction of the light.
NARROWEST = (0.8, 0.015)
WIDEST = (0.45, 0.99)

WIDTH_DEGREE = 6
AMPLITUDE_DEGREE = 9
N_INDICES = 80
N_RADII = 300

# Squared residuals are weighted with this power of the radius beyond the area, as
# total flux matters more than the cusp; and amplitudes are held small by a ridge.
RADIUS_POWER = 0.3
RIDGE = 1e-9


def to_unit_interval(ln_index):
    """Map the range of ln(Sersic index) to -1 to 1, the range of Chebyshev polynomials."""
    low, high = LN_INDEX_RANGE
    return 2 * (ln_index - low) / (high - low) - 1


@dataclass(frozen=True)
class SersicMixture:
    """
    Chebyshev coefficients of the Gaussians of a Sersic profile of unit flux and radius.

    Attributes
    ----------
    amplitude : `~numpy.ndarray`
        ``(n_gaussians, degree + 1)``, of the flux of each Gaussian.
    ln_width : `~numpy.ndarray`
        Same shape, of ln of its standard deviation in half-light radii.
    """

    amplitude: np.ndarray
    ln_width: np.ndarray

    def __call__(self, index):
        """Return fluxes and standard deviations, in half-light radii, for a Sersic index."""
        basis = chebyshev.chebvander([to_unit_interval(np.log(index))], AMPLITUDE_DEGREE)[0]
        return self.amplitude @ basis, np.exp(self.ln_width @ basis)


@lru_cache(maxsize=4)
def sersic_mixture(n_gaussians=8):
    """
    Fit the mixture by least squares over all indices at once.

    Eight Gaussians give enclosed fluxes to 0.2 % for indices of 0.5 to 4.
    """
    indices = np.exp(np.linspace(*LN_INDEX_RANGE, N_INDICES))
    u = to_unit_interval(np.log(indices))
    basis = chebyshev.chebvander(u, AMPLITUDE_DEGREE)
    ends = [
        chebyshev.chebfit(u, np.log(factor * enclosing_radius(fraction, indices)), WIDTH_DEGREE)
        for factor, fraction in (NARROWEST, WIDEST)
    ]
    ends = [np.pad(end, (0, AMPLITUDE_DEGREE - WIDTH_DEGREE)) for end in ends]
    mix = np.linspace(0, 1, n_gaussians)[:, None]
    ln_width = (1 - mix) * ends[0] + mix * ends[1]

    rows, values = [], []
    for index, polynomials in zip(indices, basis, strict=True):
        width = np.exp(ln_width @ polynomials)
        radius = np.geomspace(0.2 * width[0], 4.5 * width[-1], N_RADII)
        weight = radius ** (1 + RADIUS_POWER)
        gaussians = np.exp(-0.5 * (radius[:, None] / width) ** 2) / (2 * np.pi * width**2)
        wanted = brightness(radius, index) * weight
        norm = np.sqrt((wanted**2).sum())
        design = (gaussians * weight[:, None] / norm)[:, :, None] * polynomials
        rows.append(design.reshape(N_RADII, -1))
        values.append(wanted / norm)
    rows, values = np.concatenate(rows), np.concatenate(values)
    normal = rows.T @ rows
    ridge = RIDGE * np.trace(normal) / len(normal) * np.eye(len(normal))
    amplitude = np.linalg.solve(normal + ridge, rows.T @ values).reshape(n_gaussians, -1)
    return SersicMixture(amplitude, ln_width)
