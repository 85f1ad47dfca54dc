# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Simulated cutouts of a whole sky: a galaxy with all that stands around it in a coadd."""

from dataclasses import dataclass, field

import numpy as np
from astropy import units as u
from astropy.nddata import CCDData, StdDevUncertainty
from astropy.table import QTable
from scipy.signal import fftconvolve

from astroflux._optional import import_optional
from astroflux.simulation.observation import CutoutSimulation
from astroflux.simulation.population import PSFPopulation
from astroflux.simulation.scene import draw_psf, galaxy_profile, psf_profile
from astroflux.simulation.sky import (
    FOOTPRINTS,
    SkyPopulation,
    correlation_kernel,
    draw_footprints,
    draw_saturation,
    sky_level,
)

__all__ = ['SceneSimulation']

# Sources this far outside the image still shine into it, in pixels.
MARGIN = 30

# A source is drawn on so many pixels that what is left out is below this part of the noise.
LEAST_LIGHT = 0.003
SMALLEST_STAMP = 25

# GalSim's own accuracy would take most of the time for sources that nobody sees.
ACCURACY = {'folding_threshold': 2e-2, 'maxk_threshold': 1e-2, 'maximum_fft_size': 16384}


@dataclass(frozen=True)
class SceneSimulation(CutoutSimulation):
    """
    Galaxies in a sky like that of a coadd, with truth.

    Attributes
    ----------
    sky : `~astroflux.simulation.SkyPopulation`
        The sources around the galaxy, in place of the neighbors of `CutoutSimulation`.
    saturation : tuple of float
        Range of the brightness, in magnitudes above the limit of detection, at which stars begin
        to saturate, uniform.
    footprint_shares : tuple of float
        Shares of scenes without a mask of detected sources, and with tight, grown and wrong ones.
    variance_factor : tuple of float
        Range of the stated variance over the true one, uniform.
    correlation : float
        Largest weight of a neighboring pixel in the noise.
    """

    sky: SkyPopulation = field(default_factory=SkyPopulation)
    saturation: tuple[float, float] = (6.0, 9.0)
    footprint_shares: tuple[float, float, float, float] = (0.4, 0.2, 0.2, 0.2)
    variance_factor: tuple[float, float] = (0.85, 1.05)
    correlation: float = 0.2

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
            As of `CutoutSimulation.draw`, with a mask. ``meta['sources']`` is a table of all
            sources but the galaxy, the brightest first: position in pixels of the cutout, flux,
            half-light radius (0 for a star), and whether it is the companion of another.
        truth : dict
            As of `CutoutSimulation.draw`. Neighbors are those brighter than the limit of
            detection. Also ``neighbour_light``, the light of other sources over that of the
            galaxy where the galaxy is, as a matched filter counts it; ``sky_level`` in units of
            the noise; ``variance_factor``; ``noise_growth``, of a sum over many pixels; and the
            kind of ``footprints``.
        """
        survey = self.survey
        psfs = self.psfs or PSFPopulation(fwhm=survey.psf_fwhm)
        psf_truth = dict(psfs.draw(1, rng)[0])
        truth = dict(self.galaxies.draw(1, rng)[0])
        psf = psf_profile(psf_truth)
        offset = (truth['x_offset'], truth['y_offset'])
        own = self._draw(galaxy_profile(truth), psf, offset).astype(float)
        flux = truth['snr'] / np.sqrt((own**2).sum())
        own *= flux
        fwhm = psf_truth['psf_fwhm'] / survey.pixel_scale
        wide = tuple(length + 2 * MARGIN for length in self.shape)
        sources = self.sky.draw(wide, fwhm, rng, target_flux=flux)
        detected, faint, mask = self._draw_sources(sources, psf, fwhm, rng)

        level = sky_level(faint, rng) + self.sky_residual * rng.standard_normal()
        kernel = correlation_kernel(rng, largest=self.correlation)
        factor = rng.uniform(*self.variance_factor)
        kind = FOOTPRINTS[rng.choice(4, p=self.footprint_shares)]
        mask |= draw_footprints(own, detected, kind, rng)
        # so much larger that the edge is like the rest
        white = rng.standard_normal([length + 2 for length in self.shape])
        # the stated noise is the unit
        noise = fftconvolve(white, kernel, mode='valid') / np.sqrt(factor)
        image = survey.noise * (own + detected + faint + level + noise)

        truth = {
            'flux': survey.noise * flux,
            'magnitude': survey.zeropoint - 2.5 * np.log10(survey.noise * flux),
            **truth,
            **psf_truth,
            **self._neighbor_truth(sources, offset, flux),
            'neighbour_light': float((own * (detected + faint)).sum() / (own**2).sum()),
            'sky_level': level,
            'variance_factor': factor,
            'noise_growth': kernel.sum(),
            'footprints': kind,
        }
        cutout = CCDData(
            image.astype(np.float32),
            unit=u.adu,
            mask=mask,
            uncertainty=StdDevUncertainty(np.full(self.shape, survey.noise, np.float32)),
            wcs=self._wcs(),
            meta={
                'zeropoint': survey.zeropoint,
                'survey': survey.name,
                'sources': self._source_table(sources),
            },
            psf=draw_psf(psf, survey.pixel_scale, size=self._psf_size()),
        )
        return cutout, truth

    def _draw_sources(self, sources, psf, fwhm, rng):
        """Return the light of detected sources, that of the others, and a mask of full pixels."""
        galsim = import_optional('galsim', extra='simulate')
        ny, nx = self.shape
        bounds = galsim.BoundsI(1, nx, 1, ny)
        light = {
            True: galsim.ImageD(bounds, init_value=0),
            False: galsim.ImageD(bounds, init_value=0),
        }
        mask = np.zeros(self.shape, bool)
        center = galsim.PositionD((nx + 1) / 2, (ny + 1) / 2)
        magnitude = rng.uniform(*self.saturation)
        peak = draw_psf(psf, self.survey.pixel_scale, size=9).max()
        full = sources.limit * 10 ** (0.4 * magnitude) * peak
        rows = self.galaxies.draw(len(sources), rng, derived=False)
        for row, x, y, flux, radius, is_detected in zip(
            rows,
            sources.x,
            sources.y,
            sources.flux,
            sources.radius,
            sources.is_detected,
            strict=True,
        ):
            profile = psf if radius == 0 else galsim.Convolve(self._profile(row, radius), psf)
            profile = profile.withGSParams(**ACCURACY)
            place = center + galsim.PositionD(x, y)
            size = _stamp_size(flux, fwhm, radius)
            stamp = (
                galsim.BoundsI(
                    round(place.x) - size,
                    round(place.x) + size,
                    round(place.y) - size,
                    round(place.y) + size,
                )
                & bounds
            )
            if not stamp.isDefined():
                continue
            drawn = (flux * profile).drawImage(
                bounds=stamp, scale=self.survey.pixel_scale, center=place, dtype=float
            )
            light[is_detected][stamp] += drawn
            if radius == 0 and flux * peak > full:
                alone = galsim.ImageD(bounds, init_value=0)
                alone[stamp] += drawn
                position = (place.x - 1, place.y - 1)
                mask |= draw_saturation(alone.array, flux, position, full, rng)
        return light[True].array, light[False].array, mask

    def _profile(self, row, radius):
        """Build a galaxy of the population, made as large as the source."""
        row = dict(row)
        scale = radius * self.survey.pixel_scale / row['half_light_radius_1']
        for number in (1, 2):
            row[f'half_light_radius_{number}'] *= scale
        return galaxy_profile(row)

    def _neighbor_truth(self, sources, offset, flux):
        """Return the number of detected neighbors in the image, and what the nearest one is."""
        half = np.array(self.shape[::-1]) / 2
        seen = sources.is_detected & (abs(sources.x) < half[0]) & (abs(sources.y) < half[1])
        distance = np.hypot(sources.x - offset[0], sources.y - offset[1])[seen]
        if not seen.any():
            return {'n_neighbours': 0, 'neighbour_distance': np.nan, 'neighbour_flux_ratio': np.nan}
        nearest = np.argmin(distance)
        return {
            'n_neighbours': int(seen.sum()),
            'neighbour_distance': self.survey.pixel_scale * distance[nearest],
            'neighbour_flux_ratio': sources.flux[seen][nearest] / flux,
        }

    def _source_table(self, sources):
        ny, nx = self.shape
        return QTable(
            {
                'x': (sources.x + (nx - 1) / 2) * u.pix,
                'y': (sources.y + (ny - 1) / 2) * u.pix,
                'flux': sources.flux * self.survey.noise * u.adu,
                'half_light_radius': sources.radius * self.survey.pixel_scale * u.arcsec,
                'is_companion': sources.is_companion,
            }
        )


def _stamp_size(flux, fwhm, radius):
    """Return half of the side of the stamp that a source is drawn on, in pixels."""
    # the wings of a Moffat profile of the exponent 2.5 fall as the distance to the power -5
    reach = fwhm * (flux / (fwhm**2 * LEAST_LIGHT)) ** 0.2
    return int(np.clip(reach + 6 * radius, SMALLEST_STAMP // 2, 200))
