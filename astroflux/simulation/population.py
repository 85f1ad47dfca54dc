# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Random galaxies and point-spread functions, as tables of truth."""

from dataclasses import dataclass

import numpy as np
from astropy.table import Table
from scipy.optimize import brentq

from astroflux._sersic import enclosed_flux, enclosing_radius

__all__ = ['GalaxyPopulation', 'PSFPopulation', 'components_of', 'radius_of_sum']

# GalSim tabulates each Sersic index once and keeps the table, so that drawing
# is much faster when the indices come from a grid.
SERSIC_INDEX_STEP = 0.1


def radius_of_sum(components, fraction=0.5):
    """
    Return the radius that encloses a fraction of the flux of a sum of Sersic profiles.

    Radii are circularised: geometric means of the semi-axes. The components
    are treated as circular, which is exact when their axis ratios agree.

    Parameters
    ----------
    components : sequence of (flux_fraction, sersic_index, half_light_radius)
        The fractions sum to one; radii in any one unit.
    fraction : float
        Of the flux.

    Returns
    -------
    radius : float
        In the unit of the components' radii.
    """
    components = [c for c in components if c[0] > 0]
    # that of the sum lies between those of the components
    radii = [r * enclosing_radius(fraction, n) for _, n, r in components]
    if len(components) == 1 or min(radii) == max(radii):
        return float(radii[0])

    def excess(radius):
        return sum(f * enclosed_flux(radius / r, n) for f, n, r in components) - fraction

    return brentq(excess, min(radii), max(radii))


def components_of(row):
    """Return the components of a galaxy of a `GalaxyPopulation`, for `radius_of_sum`."""
    bulge_to_total = row['bulge_to_total']
    return [
        (1 - bulge_to_total, row['sersic_index_1'], row['half_light_radius_1']),
        (bulge_to_total, row['sersic_index_2'], row['half_light_radius_2']),
    ]


def _log_uniform(rng, low, high, size):
    return np.exp(rng.uniform(np.log(low), np.log(high), size))


@dataclass(frozen=True)
class PSFPopulation:
    """
    Moffat and Kolmogorov point-spread functions.

    Attributes
    ----------
    fwhm : tuple of float
        Range of the full width at half maximum in arcsec, drawn uniformly.
    moffat_beta : tuple of float
        Range of the Moffat exponent.
    moffat_fraction : float
        Share of Moffat profiles; the rest is Kolmogorov.
    max_ellipticity : float
        Largest modulus of the shear applied to the profile.
    """

    fwhm: tuple[float, float] = (0.5, 1.0)
    moffat_beta: tuple[float, float] = (2.5, 5.0)
    moffat_fraction: float = 0.5
    max_ellipticity: float = 0.05

    def draw(self, n, rng):
        """
        Draw point-spread functions.

        Parameters
        ----------
        n : int
            How many.
        rng : `numpy.random.Generator`
            Source of randomness.

        Returns
        -------
        table : `~astropy.table.Table`
            Columns ``psf_fwhm`` (arcsec), ``moffat_beta`` (NaN for
            Kolmogorov), ``psf_g1`` and ``psf_g2`` (reduced shear).
        """
        fwhm = rng.uniform(*self.fwhm, n)
        is_moffat = rng.random(n) < self.moffat_fraction
        beta = np.where(is_moffat, rng.uniform(*self.moffat_beta, n), np.nan)
        ellipticity = rng.uniform(0, self.max_ellipticity, n)
        angle = rng.uniform(0, 2 * np.pi, n)
        return Table(
            {
                'psf_fwhm': fwhm,
                'moffat_beta': beta,
                'psf_g1': ellipticity * np.cos(angle),
                'psf_g2': ellipticity * np.sin(angle),
            }
        )


@dataclass(frozen=True)
class GalaxyPopulation:
    """
    Galaxies of one Sersic component, or of a disc and a bulge.

    Attributes
    ----------
    half_light_radius : tuple of float
        Range of the circularised half-light radius in arcsec, log-uniform.
        For two components it is the disc's.
    sersic_index : tuple of float
        Range for a single component.
    sersic_index_spacing : {'log', 'linear'}
        Whether the logarithm of the index is uniform, so that discs are as
        common among single components as they are in surveys, or the index.
    axis_ratio : tuple of float
        Range, uniform.
    two_component_fraction : float
        Share of galaxies with a disc (index 0.8 to 1.2) and a bulge (index 3
        to 5; radius 0.1 to 1 times the disc's; bulge-to-total ratio uniform).
    snr : tuple of float
        Range of the signal-to-noise ratio ``sqrt(sum(model**2)) / sigma``,
        log-uniform.
    max_offset : float
        The centre lies within this many pixels of the stamp's, per axis.
    """

    half_light_radius: tuple[float, float] = (0.15, 3.0)
    sersic_index: tuple[float, float] = (0.5, 6.0)
    sersic_index_spacing: str = 'log'
    axis_ratio: tuple[float, float] = (0.2, 1.0)
    two_component_fraction: float = 0.4
    snr: tuple[float, float] = (5.0, 3000.0)
    max_offset: float = 0.5

    def __post_init__(self):
        if self.sersic_index_spacing not in ('log', 'linear'):
            msg = (
                f"sersic_index_spacing must be 'log' or 'linear', got {self.sersic_index_spacing!r}"
            )
            raise ValueError(msg)

    def _single_index(self, n, rng):
        if self.sersic_index_spacing == 'log':
            return _log_uniform(rng, *self.sersic_index, n)
        return rng.uniform(*self.sersic_index, n)

    def draw(self, n, rng, *, derived=True):
        """
        Draw galaxies.

        Parameters
        ----------
        n : int
            How many.
        rng : `numpy.random.Generator`
            Source of randomness.
        derived : bool
            Whether to compute ``half_light_radius``, which takes longer than all else.

        Returns
        -------
        table : `~astropy.table.Table`
            One row per galaxy. Components are numbered 1 and 2 (the disc and
            the bulge if there are two); radii are circularised and in arcsec,
            position angles in degrees anticlockwise from the x axis, offsets
            in pixels. ``half_light_radius`` is that of the whole galaxy.
        """
        two = rng.random(n) < self.two_component_fraction
        single_index = self._single_index(n, rng)
        disc_index = rng.uniform(0.8, 1.2, n)
        bulge_index = rng.uniform(3.0, 5.0, n)
        radius = _log_uniform(rng, *self.half_light_radius, n)
        bulge_radius = np.maximum(
            radius * rng.uniform(0.1, 1.0, n), 0.4 * self.half_light_radius[0]
        )
        axis_ratio = rng.uniform(*self.axis_ratio, n)
        bulge_axis_ratio = np.maximum(axis_ratio, rng.uniform(*self.axis_ratio, n))
        angle = rng.uniform(-90, 90, n)
        bulge_angle = angle + rng.uniform(-15, 15, n)
        bulge_to_total = np.where(two, rng.uniform(0, 1, n), 0.0)

        def on_grid(index):
            return np.round(np.round(index / SERSIC_INDEX_STEP) * SERSIC_INDEX_STEP, 6)

        table = Table(
            {
                'n_components': np.where(two, 2, 1),
                'sersic_index_1': on_grid(np.where(two, disc_index, single_index)),
                'half_light_radius_1': radius,
                'axis_ratio_1': axis_ratio,
                'position_angle_1': angle,
                'sersic_index_2': np.where(two, on_grid(bulge_index), np.nan),
                'half_light_radius_2': np.where(two, bulge_radius, np.nan),
                'axis_ratio_2': np.where(two, bulge_axis_ratio, np.nan),
                'position_angle_2': np.where(two, bulge_angle, np.nan),
                'bulge_to_total': bulge_to_total,
                'snr': _log_uniform(rng, *self.snr, n),
                'x_offset': rng.uniform(-self.max_offset, self.max_offset, n),
                'y_offset': rng.uniform(-self.max_offset, self.max_offset, n),
            }
        )
        if not derived:
            return table
        table['half_light_radius'] = [radius_of_sum(components_of(row)) for row in table]
        return table
