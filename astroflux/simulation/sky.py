# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The sky around a galaxy: faint and bright galaxies, stars, and what a coadd makes of them.

Lengths are in pixels and fluxes in units of the noise per pixel, so that one population serves
surveys of any depth and pixel scale. What is bright is told from the limit of detection: the flux
of a point source of S/N 5.
"""

from dataclasses import dataclass, fields

import numpy as np
from astropy.stats import gaussian_fwhm_to_sigma
from scipy.ndimage import binary_dilation, shift

__all__ = ['SkyPopulation', 'SkySources']

DETECTION_SNR = 5.0

# Of the differential counts, in magnitudes.
STEP = 0.05

# How the footprints of detected neighbors mask their pixels.
FOOTPRINTS = ('none', 'tight', 'grown', 'wrong')


def detection_limit(fwhm):
    """Return the flux of a point source of S/N 5 for a Gaussian PSF of a width in pixels."""
    # whose noise-equivalent area is 4 pi sigma^2: King 1983, PASP 95, 163, equation 1
    return DETECTION_SNR * np.sqrt(4 * np.pi) * gaussian_fwhm_to_sigma * fwhm


@dataclass
class SkySources:
    """Sources around a galaxy, each attribute but the last an array of one number for each."""

    #: Positions from the center of the image.
    x: np.ndarray
    y: np.ndarray
    flux: np.ndarray
    #: Half-light radius; 0 of a star.
    radius: np.ndarray
    #: Whether it belongs to another source.
    is_companion: np.ndarray
    #: Flux of detection.
    limit: float

    def __len__(self):
        return len(self.flux)

    def __getitem__(self, which):
        """Return some of the sources."""
        arrays = {f.name: getattr(self, f.name)[which] for f in fields(self) if f.name != 'limit'}
        return SkySources(**arrays, limit=self.limit)

    @property
    def is_star(self):
        """Which sources are points."""
        return self.radius == 0

    @property
    def is_detected(self):
        """Which sources are brighter than the limit."""
        return self.flux > self.limit


@dataclass(frozen=True)
class SkyPopulation:
    """
    Galaxies and stars whose brightness knows nothing of the galaxy that they stand beside.

    Pairs are ranges, from which a number is drawn for each sky. The slopes are of
    ``d(log10 N) / dm``. Those of galaxies are 0.33 to 0.35 in I for 20 to 24 AB mag (McCracken et
    al. 2001, A&A 376, 756), towards 0.6 where space is Euclidean, and less where counts turn over.
    With the range of the density they hold for coadds from 22 to 27 mag: the number in a pixel is
    nearly the same for all, as deeper surveys have smaller ones.
    """

    #: Number of galaxies brighter than the limit in 100 x 100 pixels.
    density: tuple[float, float] = (1.5, 7.0)
    #: Slope of the counts of galaxies at the limit, and by how much it falls per magnitude.
    slope: tuple[float, float] = (0.24, 0.42)
    turn_over: float = 0.035
    #: How many magnitudes the counts go on below and above the limit.
    faintest: float = 3.7
    brightest: float = 10.0
    #: Number of stars brighter than the limit over that of galaxies, and the slope of theirs.
    star_share: tuple[float, float] = (0.03, 0.5)
    star_slope: tuple[float, float] = (0.12, 0.25)
    #: Mean number of companions of a detected galaxy, in excess of chance; their distances in FWHM
    #: of the PSF, with a surface density that falls as the distance to the power -0.8 (Groth &
    #: Peebles 1977, ApJ 217, 385); and the scatter of their magnitudes about that of the galaxy.
    companion_rate: tuple[float, float] = (0.0, 0.4)
    companion_distance: tuple[float, float] = (0.8, 8.0)
    companion_magnitude: float = 2.0
    #: Median half-light radius at the limit, in FWHM of the PSF; the slope of its decimal logarithm
    #: with the magnitude, and the scatter of that.
    radius: tuple[float, float] = (0.35, 0.8)
    radius_slope: float = -0.09
    radius_scatter: float = 0.2
    #: Magnitudes above the limit at which stars begin to saturate; shares of skies with each kind
    #: of `FOOTPRINTS`; the stated variance over the true one.
    saturation: tuple[float, float] = (6.0, 9.0)
    footprint_shares: tuple[float, float, float, float] = (0.4, 0.2, 0.2, 0.2)
    variance_factor: tuple[float, float] = (0.85, 1.05)

    def __post_init__(self):
        for name in ('density', 'star_share'):
            low, high = getattr(self, name)
            if not (0 < low <= high or low == high == 0):
                msg = f'{name} is a range of positive numbers, or (0, 0) for none, got {low, high}'
                raise ValueError(msg)

    def draw(self, shape, fwhm, rng, *, target_flux=None):
        """
        Draw the sources of one sky.

        Parameters
        ----------
        shape : tuple of int
            ``(ny, nx)`` of the image, with as much around it as sources may shine from.
        fwhm : float
            Full width at half maximum of the PSF in pixels.
        rng : `numpy.random.Generator`
            Source of randomness.
        target_flux : float, optional
            That of a galaxy at the center, in units of the noise: it has companions like others.

        Returns
        -------
        sources : `SkySources`
            The brightest first.
        """
        limit = detection_limit(fwhm)
        expected = _log_uniform(rng, self.density) * np.prod(shape) / 1e4
        galaxies = self._magnitudes(expected, rng.uniform(*self.slope), self.turn_over, rng)
        stars = self._magnitudes(
            expected * _log_uniform(rng, self.star_share), rng.uniform(*self.star_slope), 0.0, rng
        )
        magnitude = np.concatenate([galaxies, stars])
        ny, nx = shape
        x = rng.uniform(-nx / 2, nx / 2, len(magnitude))
        y = rng.uniform(-ny / 2, ny / 2, len(magnitude))
        is_star = np.arange(len(magnitude)) >= len(galaxies)

        hosts = np.flatnonzero(~is_star & (magnitude < 0))
        host_magnitude, host_x, host_y = magnitude[hosts], x[hosts], y[hosts]
        if target_flux is not None:
            target_magnitude = -2.5 * np.log10(target_flux / limit)
            host_magnitude = np.append(host_magnitude, target_magnitude)
            host_x, host_y = np.append(host_x, 0.0), np.append(host_y, 0.0)
        number = rng.poisson(rng.uniform(*self.companion_rate), len(host_magnitude))
        host = np.repeat(np.arange(len(number)), number)
        # the surface density integrates to the distance to the power 1.2
        near, far = np.power(self.companion_distance, 1.2)
        distance = fwhm * rng.uniform(near, far, len(host)) ** (1 / 1.2)
        angle = rng.uniform(0, 2 * np.pi, len(host))
        scatter = self.companion_magnitude * rng.standard_normal(len(host))
        companions = np.clip(host_magnitude[host] + scatter, -self.brightest, self.faintest)

        magnitude = np.concatenate([magnitude, companions])
        order = np.argsort(magnitude)
        median = np.log10(rng.uniform(*self.radius) * fwhm) + self.radius_slope * magnitude
        radius = 10 ** (median + self.radius_scatter * rng.standard_normal(len(magnitude)))
        is_star = np.concatenate([is_star, np.zeros(len(host), bool)])
        return SkySources(
            x=np.concatenate([x, host_x[host] + distance * np.cos(angle)])[order],
            y=np.concatenate([y, host_y[host] + distance * np.sin(angle)])[order],
            flux=limit * 10 ** (-0.4 * magnitude[order]),
            radius=np.where(is_star, 0.0, radius)[order],
            is_companion=np.arange(len(magnitude))[order] >= len(magnitude) - len(host),
            limit=limit,
        )

    def _magnitudes(self, expected, slope, turn_over, rng):
        """Draw magnitudes relative to the limit, as many as expected brighter than that."""
        if expected == 0:
            return np.empty(0)
        grid = np.arange(-self.brightest, self.faintest, STEP)
        slopes = np.clip(slope - turn_over * grid, 0.0, 0.6)
        counts = 10 ** (np.cumsum(slopes) * STEP)
        counts *= expected / counts[grid < 0].sum()
        number = rng.poisson(counts.sum())
        drawn = rng.choice(grid, number, p=counts / counts.sum())
        return drawn + rng.uniform(0, STEP, number)


def _log_uniform(rng, limits):
    return np.exp(rng.uniform(*np.log(limits))) if any(limits) else 0.0


def source_reach(sources, fwhm):
    """Return how far from their centers sources are to be drawn, in pixels."""
    # Beyond, a pixel has less than a 300th of the noise: the wings of a Moffat profile of the
    # exponent 2.5 fall as the distance to the power -5.
    return fwhm * (sources.flux / (0.003 * fwhm**2)) ** 0.2 + 6 * sources.radius


def sky_level(faint, rng):
    """Draw the level that a background subtraction leaves where it took faint light for sky."""
    return -rng.uniform(0.5, 1.5) * float(np.mean(faint))


def draw_saturation(starlight, position, saturation, rng):
    """
    Mask the core of a star that saturates, and the trail that it bleeds along its column.

    The saturation is the value of a pixel that is full; the position, ``(x, y)``, may lie outside.
    """
    mask = starlight > saturation
    if not mask.any():
        return mask
    x, y = np.round(position).astype(int)
    # what does not fit into the full pixels runs along the column
    overflow = float(np.maximum(starlight - saturation, 0).sum()) / saturation
    length, width = int(rng.uniform(0.3, 1.0) * overflow), int(rng.integers(0, 3))
    rows = slice(max(y - length, 0), max(y + length + 1, 0))
    mask[rows, max(x - width, 0) : max(x + width + 1, 0)] = True
    return binary_dilation(mask, iterations=int(rng.integers(1, 4)))


def draw_footprints(own, others, kind, rng):
    """
    Mask detected neighbors, as the footprints of a detection would.

    Of the `FOOTPRINTS`, tight ones hold the pixels above the noise that belong to neighbors, grown
    ones more than these, and wrong ones are shifted or cut into the galaxy.
    """
    if kind == 'none':
        return np.zeros(own.shape, bool)
    if kind == 'tight':
        return (others > rng.uniform(1.0, 2.5)) & (others > own)
    if kind == 'grown':
        detected = (others > rng.uniform(0.7, 1.5)) & (others > own)
        grown = binary_dilation(detected, iterations=int(rng.integers(2, 7)))
        return grown & (own < 3 * np.maximum(others, rng.uniform(0.2, 1.0)))
    mask = others > rng.uniform(0.5, 2.0)
    if rng.random() < 0.5:
        return mask & (others > rng.uniform(0.1, 0.5) * own)
    moved = shift((mask & (others > own)).astype(float), rng.uniform(-4, 4, 2), order=0)
    return moved > 0.5


def correlation_kernel(rng, *, largest=0.2):
    """
    Draw the kernel that makes the noise of a coadd from white noise.

    The variance of a pixel stays; the noise of a sum over many grows by ``kernel.sum()``.
    """
    p, q = rng.uniform(0, largest, 2)
    kernel = np.outer([q, 1, q], [p, 1, p])
    return kernel / np.sqrt((kernel**2).sum())
