# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Simulated cutouts as a survey would deliver them, one at a time, with truth."""

from dataclasses import dataclass, field

import numpy as np
from astropy import units as u
from astropy.nddata import CCDData, StdDevUncertainty
from astropy.wcs import WCS

from astroflux.simulation.population import GalaxyPopulation, PSFPopulation
from astroflux.simulation.scene import draw_galaxy, draw_psf, galaxy_profile, psf_profile
from astroflux.simulation.surveys import Survey, get_survey

__all__ = ['CutoutSimulation', 'delivered', 'psf_size', 'simulate_cutouts', 'tangent_wcs']

# Side of the PSF images that surveys deliver, in pixels.
PSF_SIZE = 43

# Right ascension and declination of all that is simulated, in degrees.
SKY_CENTER = (150.0, 2.0)


@dataclass(frozen=True)
class CutoutSimulation:
    """
    What to simulate.

    Attributes
    ----------
    survey : `~astroflux.simulation.Survey`
        Pixels, noise, zero point and seeing.
    galaxies : `~astroflux.simulation.GalaxyPopulation`
        The central galaxies and, but for their S/N, their neighbours.
    psfs : `~astroflux.simulation.PSFPopulation` or None
        By default with the survey's range of widths.
    shape : tuple of int
        ``(ny, nx)`` of the cutouts.
    neighbors : tuple of int
        Fewest and most neighbours.
    neighbor_distance : tuple of float
        Range of the first neighbour's distance in arcsec, uniform; the others
        lie anywhere in the cutout beyond its lower end.
    neighbor_flux_ratio : tuple of float
        Range of the neighbours' flux over the galaxy's, log-uniform.
    sky_residual : float
        Standard deviation of the sky left in a cutout, in units of the noise
        per pixel.
    """

    survey: Survey = field(default_factory=get_survey)
    galaxies: GalaxyPopulation = field(default_factory=GalaxyPopulation)
    psfs: PSFPopulation | None = None
    shape: tuple[int, int] = (143, 143)
    neighbors: tuple[int, int] = (0, 0)
    neighbor_distance: tuple[float, float] = (1.2, 4.0)
    neighbor_flux_ratio: tuple[float, float] = (0.1, 2.0)
    sky_residual: float = 0.02

    def __post_init__(self):
        low, high = self.neighbors
        if not 0 <= low <= high:
            msg = f'neighbors must be (fewest, most) with 0 <= fewest <= most, got ({low}, {high})'
            raise ValueError(msg)

    def draw(self, rng):
        """
        Simulate one cutout.

        Parameters
        ----------
        rng : `numpy.random.Generator`
            Source of randomness.

        Returns
        -------
        cutout : `~astropy.nddata.CCDData`
            In ADU, with noise, PSF image and WCS; ``meta['zeropoint']`` is
            the AB magnitude of 1 ADU.
        truth : dict
            Flux (ADU) and shape of the central galaxy, the PSF, the nearest
            neighbour; lengths in arcsec.
        """
        survey = self.survey
        image, psf, truth = self._draw_galaxy(rng)
        offset = (truth['x_offset'], truth['y_offset'])
        neighbors = self._neighbors(truth['flux'], psf, offset, rng)
        image += neighbors['image']
        image += survey.noise * self.sky_residual * rng.standard_normal()
        image += survey.noise * rng.standard_normal(self.shape)
        columns = {name: neighbors[name] for name in ('n_neighbours', *NEIGHBOUR_COLUMNS)}
        return self._cutout(image, psf), {**truth, **columns}

    def _draw_galaxy(self, rng):
        """Draw a galaxy and a PSF; return the image of the one, the profile of the other, truth."""
        survey = self.survey
        psfs = self.psfs or PSFPopulation(fwhm=survey.psf_fwhm)
        psf_truth = dict(psfs.draw(1, rng)[0])
        truth = dict(self.galaxies.draw(1, rng)[0])
        psf = psf_profile(psf_truth)
        offset = (truth['x_offset'], truth['y_offset'])
        unit_image = self._draw(galaxy_profile(truth), psf, offset).astype(float)
        flux = truth['snr'] * survey.noise / np.sqrt((unit_image**2).sum())
        magnitude = survey.zeropoint - 2.5 * np.log10(flux)
        truth = {'flux': flux, 'magnitude': magnitude, **truth, **psf_truth}
        return flux * unit_image, psf, truth

    def _cutout(self, image, psf, *, mask=None, **meta):
        """Return an image as the survey delivers it."""
        return delivered(image, psf, self.survey, mask=mask, **meta)

    def _draw(self, profile, psf, offset):
        return draw_galaxy(profile, psf, self.shape, self.survey.pixel_scale, offset=offset)

    def _neighbors(self, flux, psf, offset, rng):
        image = np.zeros(self.shape)
        number = int(rng.integers(self.neighbors[0], self.neighbors[1] + 1))
        nearest = (np.inf, np.nan)
        for index in range(number):
            x, y, distance = self._neighbor_place(index == 0, offset, rng)
            ratio = np.exp(rng.uniform(*np.log(self.neighbor_flux_ratio)))
            galaxy = galaxy_profile(self.galaxies.draw(1, rng)[0])
            image += ratio * flux * self._draw(galaxy, psf, (x, y))
            nearest = min(nearest, (distance, ratio))
        if number == 0:
            nearest = (np.nan, np.nan)
        return {
            'image': image,
            'n_neighbours': number,
            'neighbour_distance': nearest[0],
            'neighbour_flux_ratio': nearest[1],
        }

    def _neighbor_place(self, is_first, offset, rng):
        """Draw an offset from the image's centre in pixels, and the distance in arcsec."""
        scale = self.survey.pixel_scale
        if is_first:
            distance, angle = rng.uniform(*self.neighbor_distance), rng.uniform(0, 2 * np.pi)
            dx, dy = distance / scale * np.cos(angle), distance / scale * np.sin(angle)
            return offset[0] + dx, offset[1] + dy, distance
        half = np.array(self.shape[::-1]) / 2
        while True:
            place = rng.uniform(-half, half)
            distance = scale * np.hypot(*(place - offset))
            if distance > self.neighbor_distance[0]:
                return *place, distance


def delivered(image, psf, survey, *, noise=None, mask=None, wcs=None, **meta):
    """
    Return an image as a survey delivers it.

    Parameters
    ----------
    image : 2D `~numpy.ndarray`
        In ADU.
    psf : `galsim.GSObject`
        Point-spread function.
    survey : `~astroflux.simulation.Survey`
        Pixel scale, zero point and noise.
    noise : float, optional
        Standard deviation of a pixel that is stated, if it is not the survey's.
    mask : 2D `~numpy.ndarray` of bool, optional
        Pixels that cannot be used.
    wcs : `~astropy.wcs.WCS`, optional
        By default that of an image whose center is `SKY_CENTER`.
    **meta
        Further metadata.

    Returns
    -------
    cutout : `~astropy.nddata.CCDData`
    """
    shape = image.shape
    center = ((shape[1] - 1) / 2, (shape[0] - 1) / 2)
    noise = survey.noise if noise is None else noise
    return CCDData(
        image.astype(np.float32),
        unit=u.adu,
        mask=mask,
        uncertainty=StdDevUncertainty(np.full(shape, noise, np.float32)),
        wcs=wcs or tangent_wcs(survey.pixel_scale, center),
        meta={'zeropoint': survey.zeropoint, 'survey': survey.name, **meta},
        psf=draw_psf(psf, survey.pixel_scale, size=psf_size(shape)),
    )


def psf_size(shape):
    """Return the side of the PSF image that comes with an image: odd, and not larger than that."""
    return min(PSF_SIZE, (min(shape) - 1) // 2 * 2 + 1)


def tangent_wcs(pixel_scale, center):
    """Return the WCS of an image with `SKY_CENTER` at a position ``(x, y)`` in pixels."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = 'RA---TAN', 'DEC--TAN'
    wcs.wcs.cunit = 'deg', 'deg'
    wcs.wcs.cdelt = -pixel_scale / 3600, pixel_scale / 3600
    wcs.wcs.crpix = center[0] + 1, center[1] + 1
    wcs.wcs.crval = SKY_CENTER
    return wcs


NEIGHBOUR_COLUMNS = ('neighbour_distance', 'neighbour_flux_ratio')


def simulate_cutouts(n, simulation=None, *, seed=0, start=0):
    """
    Simulate cutouts one by one.

    Parameters
    ----------
    n : int
        Number of the last cutout, plus one.
    simulation : `CutoutSimulation`, optional
        By default isolated galaxies in HSC Wide.
    seed : int
        Each cutout is seeded by this and its own number, so that it does not
        depend on how many are made.
    start : int
        Number of the first cutout.

    Yields
    ------
    cutout : `~astropy.nddata.CCDData`
        See `CutoutSimulation.draw`.
    truth : dict
        See `CutoutSimulation.draw`.
    """
    simulation = simulation or CutoutSimulation()
    for index in range(start, n):
        yield simulation.draw(np.random.default_rng([seed, index]))
