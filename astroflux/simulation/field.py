# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Simulated images of a whole field: all sources of a part of the sky, none in particular."""

from dataclasses import dataclass, field, replace

import numpy as np
from astropy import units as u
from astropy.table import QTable, hstack, vstack
from scipy.ndimage import convolve
from scipy.spatial import KDTree

from astroflux._sersic import b_n, brightness
from astroflux.simulation.observation import PSF_SIZE, delivered
from astroflux.simulation.population import GalaxyPopulation, PSFPopulation
from astroflux.simulation.scene import draw_psf, psf_profile
from astroflux.simulation.sky import DETECTION_SNR, SkyPopulation, correlation_kernel, sky_level
from astroflux.simulation.sky_sources import (
    SHAPE_COLUMNS,
    draw_sources,
    source_psf,
    source_table,
)
from astroflux.simulation.surveys import Survey, get_survey

__all__ = ['SOURCES_PER_GALAXY', 'FieldSimulation', 'nearest_brighter']

# Sources of S/N 5 and more in 100 x 100 pixels of HSC Wide: 40,000 in 16 x 4000 x 4000.
HSC_WIDE_DENSITY = 1.5625

# How many there are in the sky below for each galaxy that is brighter than a point source of S/N 5:
# there are stars and companions, but large galaxies have less S/N.
SOURCES_PER_GALAXY = 0.77

FIELD_SKY = SkyPopulation(
    density=(HSC_WIDE_DENSITY / SOURCES_PER_GALAXY,) * 2,
    # the middles of the ranges that `SkyPopulation` has for coadds of any depth
    slope=(0.33, 0.33),
    star_share=(0.15, 0.15),
    star_slope=(0.18, 0.18),
    companion_rate=(0.2, 0.2),
    radius=(0.55, 0.55),
    # The counts go on; but what is fainter yet changes a pixel by about a hundredth of its noise.
    faintest=2.0,
)

# Noise-equivalent areas: of a PSF, in squares of its FWHM; and what a galaxy adds to that, in
# squares of its half-light radius if this is one FWHM. Found by drawing Sersic profiles of the
# indices 0.5 to 6 through Moffat and Kolmogorov profiles, for radii of 0.2 to 4 FWHM.
PSF_AREA = 3.3
SERSIC_AREA = 11.5

# Sources are drawn around an image as far as that, in pixels.
MARGIN = 100

# Least and most that a source is drawn on, in pixels from its center; and the part of the noise
# of a pixel that its light has there.
REACH = (12, 800)
FAINTEST_EDGE = 0.005

# Columns of the truth that are those of `FieldSimulation.draw_sky`.
TOLD = ('half_light_radius', 'is_companion', *SHAPE_COLUMNS)


@dataclass(frozen=True)
class FieldSimulation:
    """
    Images of a field like those of a coadd.

    In the image are galaxies with companions, and stars. Those of about S/N 5 and more are
    detected, and are the truth; others go on to two magnitudes below a point source of S/N 5. The
    PSF is the same everywhere in an image. The noise is correlated, its variance is not quite what
    is stated, the background was subtracted with faint galaxies in it, and the full pixels of
    bright stars are masked.

    Attributes
    ----------
    survey : `~astroflux.simulation.Survey`
        Pixels, noise, zero point and seeing.
    galaxies : `~astroflux.simulation.GalaxyPopulation`
        Of which the galaxies have their shapes, but neither S/N nor size. Those that are fainter
        than a point source of S/N 5 have one component, which takes half of the time.
    psfs : `~astroflux.simulation.PSFPopulation` or None
        By default with the survey's range of widths.
    sky : `~astroflux.simulation.SkyPopulation`
        Numbers, brightness and sizes of the sources. By default as many as in HSC Wide: 1.56 of
        S/N 5 and more in 100 x 100 pixels.
    shape : tuple of int
        ``(ny, nx)`` of the images.
    correlation : float
        Largest weight of a neighboring pixel in the noise, over that of the pixel itself.
    depth : tuple of float
        Range of the noise of an image over that of the survey.

    Examples
    --------
    >>> import numpy as np
    >>> from astroflux.simulation import FieldSimulation
    >>> image, truth = FieldSimulation(shape=(300, 400)).draw(np.random.default_rng(1))
    >>> image.shape
    (300, 400)
    """

    survey: Survey = field(default_factory=get_survey)
    galaxies: GalaxyPopulation = field(default_factory=GalaxyPopulation)
    psfs: PSFPopulation | None = None
    sky: SkyPopulation = FIELD_SKY
    shape: tuple[int, int] = (1000, 1000)
    correlation: float = 0.2
    depth: tuple[float, float] = (0.92, 1.14)

    def __post_init__(self):
        if min(self.shape) < PSF_SIZE:
            msg = f'shape must be {PSF_SIZE} pixels or more on each side, got {self.shape}'
            raise ValueError(msg)
        if not 0 <= self.correlation < 0.5:
            msg = f'correlation must be at least 0 and less than 0.5, got {self.correlation}'
            raise ValueError(msg)
        if not 0 < self.depth[0] <= self.depth[1]:
            msg = f'depth is a range of positive numbers, got {self.depth}'
            raise ValueError(msg)

    def draw(self, rng):
        """
        Simulate one image.

        Parameters
        ----------
        rng : `numpy.random.Generator`
            Source of randomness.

        Returns
        -------
        image : `~astropy.nddata.CCDData`
            As of `draw_image`.
        truth : `~astropy.table.QTable`
            As of `draw_image`.
        """
        psf = self.draw_psf(rng)
        sources = self.draw_sky(self.shape, rng, fwhm=psf['psf_fwhm'])
        return self.draw_image(sources, rng, psf=psf)

    def draw_psf(self, rng):
        """Draw a PSF: a row of `~astroflux.simulation.PSFPopulation.draw`, as a dict."""
        psfs = self.psfs or PSFPopulation(fwhm=self.survey.psf_fwhm)
        return dict(psfs.draw(1, rng)[0])

    def draw_sky(self, shape, rng, *, fwhm=None):
        """
        Draw the sources of a part of the sky, of which one image or several can be drawn.

        Parameters
        ----------
        shape : tuple of int
            ``(ny, nx)`` of it in pixels. Sources are drawn around it, too.
        rng : `numpy.random.Generator`
            Source of randomness.
        fwhm : float, optional
            Of the PSF that sources are detected with, in arcsec; by default the mean of the
            survey's. Sizes of galaxies are in proportion to it.

        Returns
        -------
        sources : `~astropy.table.QTable`
            The brightest first: ``id``, the running number from 1; ``x`` and ``y`` in pixels,
            where (0, 0) is the first pixel; flux; half-light radius (0 of a star); whether it is
            detected; whether it is the companion of another source; its components (none of a
            star); ``expected_snr``, about what its S/N is, which is 5 or more if it is detected;
            and what is the nearest detected source that is brighter: ``brighter_distance`` and
            ``brighter_flux_ratio``, its flux over that of the source. ``meta['limit']`` is the
            flux of a point source of S/N 5.
        """
        fwhm = np.mean(self.survey.psf_fwhm) if fwhm is None else fwhm
        wide = tuple(length + 2 * MARGIN for length in shape)
        sources = self.sky.draw(wide, fwhm / self.survey.pixel_scale, rng)
        bright, faint = sources[sources.is_detected], sources[~sources.is_detected]
        simple = replace(self.galaxies, two_component_fraction=0.0)
        table = vstack(
            [
                source_table(part, galaxies, self.survey, shape, rng)
                for part, galaxies in ((bright, self.galaxies), (faint, simple))
            ]
        )
        table.add_column(np.arange(1, len(table) + 1), name='id', index=0)
        table['expected_snr'] = self._expected_snr(table, fwhm)
        table.meta['limit'] = self.survey.noise * sources.limit
        return self.detect(table, DETECTION_SNR)

    def detect(self, sources, snr):
        """
        Decide which sources are detected, and find the nearest brighter one of each of these.

        Parameters
        ----------
        sources : `~astropy.table.QTable`
            Of `draw_sky`; it is changed.
        snr : float
            The least ``expected_snr``.

        Returns
        -------
        sources : `~astropy.table.QTable`
            With ``is_detected``, ``brighter_distance`` and ``brighter_flux_ratio``.
        """
        sources['is_detected'] = seen = sources['expected_snr'] >= snr
        columns = (sources[name].value[seen] for name in ('x', 'y', 'flux'))
        distance, ratio = np.full((2, len(sources)), np.nan)
        distance[seen], ratio[seen] = nearest_brighter(*columns)
        sources['brighter_distance'] = self.survey.pixel_scale * distance * u.arcsec
        sources['brighter_flux_ratio'] = ratio
        return sources

    def _expected_snr(self, sources, fwhm):
        """Return about what the S/N of sources is, seen with a PSF of a width in arcsec."""
        of_psf = PSF_AREA * (fwhm / self.survey.pixel_scale) ** 2
        first, second = (of_psf + self._area(sources, number, fwhm) for number in (1, 2))
        share = np.where(sources['n_components'] == 2, sources['bulge_to_total'], 0.0)
        # one over the area; that of two components as if they were Gaussians
        sharpness = (1 - share) ** 2 / first + share**2 / second
        sharpness += 4 * share * (1 - share) / (first + second)
        return sources['flux'].to_value(u.adu) / self.survey.noise * np.sqrt(sharpness)

    def _area(self, sources, number, fwhm):
        """Return what a component adds to the noise-equivalent area of the PSF, in pixels."""
        index = np.nan_to_num(sources[f'sersic_index_{number}'], nan=1.0)
        radius = np.nan_to_num(sources[f'half_light_radius_{number}'].to_value(u.arcsec))
        steepness = np.maximum(0.16 + 0.36 * np.log(index), 0.05)
        area = SERSIC_AREA * radius ** (2 - steepness) * fwhm**steepness
        return area / self.survey.pixel_scale**2

    def draw_image(self, sources, rng, *, psf=None, wcs=None):
        """
        Simulate an image of sources.

        Parameters
        ----------
        sources : `~astropy.table.QTable`
            Of `draw_sky`; positions are those in the image, and may lie outside.
        rng : `numpy.random.Generator`
            Source of randomness.
        psf : dict, optional
            Of `draw_psf`.
        wcs : `~astropy.wcs.WCS`, optional
            Of the image.

        Returns
        -------
        image : `~astropy.nddata.CCDData`
            In ADU, with noise, mask, PSF image and WCS. ``meta['zeropoint']`` is the AB magnitude
            of 1 ADU. Further metadata: the PSF's width in arcsec, ``sky_level``, what the
            subtraction of the background left, in units of the noise; ``variance_factor``, the
            stated variance over the true one; and ``noise_growth``, the noise of a sum over many
            pixels, over that of white noise, which is what ``noise_correlation`` may be.
        truth : `~astropy.table.QTable`
            The sources that are detected and in the image, the brightest first: ``id``; ``x`` and
            ``y`` in pixels; ``ra`` and ``dec``; flux and AB magnitude; ``snr``,
            ``sqrt(sum(model**2)) / sigma`` of its own light in the image, of the noise that is
            stated; ``is_star``; ``is_saturated``; and other columns of `draw_sky`.
        """
        psf = self.draw_psf(rng) if psf is None else psf
        scale, survey = self.survey.pixel_scale, self.survey
        noise = survey.noise * rng.uniform(*self.depth)
        # from here on, the noise is the unit
        flux = sources['flux'].to_value(u.adu) / noise
        limit = sources.meta['limit'] / noise
        seen = source_psf(psf)
        light = draw_sources(
            sources,
            flux,
            _reach(sources, flux, seen, scale),
            seen,
            self.shape,
            scale,
            full=limit * 10 ** (0.4 * rng.uniform(*self.sky.saturation)),
            peak=draw_psf(seen, scale).max(),
            rng=rng,
        )
        level = sky_level(light.faint, rng)
        factor = rng.uniform(*self.sky.variance_factor)
        kernel = correlation_kernel(rng, largest=self.correlation)
        pixels = light.detected
        pixels += light.faint
        pixels += level + _correlated_noise(self.shape, kernel, rng) / np.sqrt(factor)
        image = delivered(
            noise * pixels,
            psf_profile(psf),
            survey,
            noise=noise,
            mask=light.mask,
            wcs=wcs,
            psf_fwhm=psf['psf_fwhm'],
            sky_level=level,
            variance_factor=factor,
            noise_growth=float(kernel.sum()),
        )
        return image, self._truth(sources, light, image.wcs)

    def _truth(self, sources, light, wcs):
        """Return the truth of what is in the image and can be detected."""
        ny, nx = self.shape
        x, y = sources['x'].value, sources['y'].value
        inside = (x > -0.5) & (x < nx - 0.5) & (y > -0.5) & (y < ny - 0.5)
        which = np.flatnonzero(sources['is_detected'] & inside)
        seen = sources[which]
        ra, dec = wcs.wcs_pix2world(x[which], y[which], 0)
        magnitude = self.survey.zeropoint - 2.5 * np.log10(seen['flux'].to_value(u.adu))
        first = seen['id', 'x', 'y']
        own = QTable(
            {
                'ra': ra * u.deg,
                'dec': dec * u.deg,
                'flux': seen['flux'],
                'magnitude': magnitude * u.mag,
                'snr': np.sqrt(light.power[which]),
                'is_star': seen['n_components'] == 0,
                'is_saturated': light.is_saturated[which],
            }
        )
        rest = seen['brighter_distance', 'brighter_flux_ratio', *TOLD]
        truth = hstack([first, own, rest])
        truth.meta = {}
        return truth


def nearest_brighter(x, y, flux):
    """
    Find the nearest brighter source of each source.

    Parameters
    ----------
    x, y, flux : 1D `~numpy.ndarray`
        Positions and fluxes of all.

    Returns
    -------
    distance, ratio : 1D `~numpy.ndarray`
        To that source, in the unit of the positions, and its flux over that of the source;
        infinite and NaN for the brightest one.
    """
    distance, ratio = np.full(len(flux), np.inf), np.full(len(flux), np.nan)
    points = np.column_stack([x, y])
    tree, left, k = KDTree(points), np.arange(len(flux)), 4
    while len(left):
        # most have a brighter one among the nearest few
        k = min(4 * k, len(flux))
        away, others = tree.query(points[left], k=np.arange(1, k + 1))
        brighter = flux[others] > flux[left, None]
        found, first = brighter.any(axis=1), brighter.argmax(axis=1)
        rows, first = left[found], first[found]
        distance[rows] = away[found, first]
        ratio[rows] = flux[others[found, first]] / flux[rows]
        left = left[~found] if k < len(flux) else left[:0]
    return distance, ratio


def _reach(sources, flux, psf, pixel_scale):
    """Return how far from their centers sources are drawn, in pixels."""
    # that of a point: where the light of the PSF falls below the edge's
    radius = np.geomspace(1, REACH[1], 200)
    wing = [psf.xValue(r * pixel_scale, 0.0) * pixel_scale**2 for r in radius]
    wing = np.maximum.accumulate(np.array(wing)[::-1])
    reach = np.interp(FAINTEST_EDGE / flux, wing, radius[::-1])
    share = {1: 1 - sources['bulge_to_total'], 2: sources['bulge_to_total']}
    for number in (1, 2):
        is_there = sources['n_components'] >= number
        part = sources[is_there]
        index, axis_ratio = part[f'sersic_index_{number}'], part[f'axis_ratio_{number}']
        radius = part[f'half_light_radius_{number}'].to_value(u.arcsec) / pixel_scale
        # of the center over that of the edge
        center = flux[is_there] * share[number][is_there] * brightness(0.0, index) / radius**2
        depth = np.log(np.maximum(center / FAINTEST_EDGE, 1.0))
        own = radius / np.sqrt(axis_ratio) * (depth / b_n(index)) ** index
        reach[is_there] = np.maximum(reach[is_there], own)
    return np.clip(reach, *REACH)


def _correlated_noise(shape, kernel, rng):
    """Return noise of unit variance, as a kernel makes it."""
    # so much larger that the edge is like the rest
    white = rng.standard_normal([length + 2 for length in shape])
    return convolve(white, kernel)[1:-1, 1:-1]
