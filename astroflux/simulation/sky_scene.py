# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Simulated cutouts of a whole sky: a galaxy with all that stands around it in a coadd."""

from dataclasses import dataclass, field

import numpy as np
from scipy.signal import fftconvolve

from astroflux.simulation.observation import CutoutSimulation, psf_size
from astroflux.simulation.scene import draw_psf
from astroflux.simulation.sky import (
    FOOTPRINTS,
    SkyPopulation,
    correlation_kernel,
    draw_footprints,
    sky_level,
    source_reach,
)
from astroflux.simulation.sky_sources import draw_sources, source_psf, source_table

__all__ = ['MARGIN', 'REACH', 'SceneSimulation']

# Sources this far outside the image still shine into it, in pixels.
MARGIN = 30

# Least and most that a source is drawn on, in pixels from its center.
REACH = (12, 200)


@dataclass(frozen=True)
class SceneSimulation(CutoutSimulation):
    """
    Galaxies in a sky like that of a coadd.

    Around each galaxy are others and stars, whose brightness knows nothing of it. The noise is
    correlated, its variance is not quite what is stated, the background was subtracted with faint
    galaxies in it, and saturated stars and the footprints of detected sources are masked.

    Attributes
    ----------
    sky : `~astroflux.simulation.SkyPopulation`
        What is around the galaxies, in place of the neighbors of `CutoutSimulation`. The shapes
        of the other galaxies are those of ``galaxies``.
    correlation : float
        Largest weight of a neighboring pixel in the noise, over that of the pixel itself.
    """

    sky: SkyPopulation = field(default_factory=SkyPopulation)
    correlation: float = 0.2

    def __post_init__(self):
        if self.neighbors != (0, 0):
            msg = f'the neighbors of a SceneSimulation are those of its sky, got {self.neighbors}'
            raise ValueError(msg)
        if not 0 <= self.correlation < 0.5:
            msg = f'correlation must be at least 0 and less than 0.5, got {self.correlation}'
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
            As of `CutoutSimulation.draw`, with a mask. ``meta['sources']`` is a
            `~astropy.table.QTable` of all other sources, the brightest first: position in pixels
            of the cutout, which may lie outside, flux, half-light radius (0 of a star), whether it
            is brighter than the limit of detection, whether it is the companion of another source,
            and its components (none of a star).
        truth : dict
            As of `CutoutSimulation.draw`; neighbors are the detected ones in the cutout. Also
            ``neighbour_light``, the light of other sources over that of the galaxy, as a matched
            filter counts it; ``sky_level`` in units of the noise; ``variance_factor``, the stated
            variance over the true one; ``noise_weight_x`` and ``noise_weight_y``, those of
            a neighboring pixel in the noise; and the kind of ``footprints``.
        """
        image, psf, truth = self._draw_galaxy(rng)
        # the noise is the unit
        own = image / self.survey.noise
        flux, fwhm = truth['flux'] / self.survey.noise, truth['psf_fwhm'] / self.survey.pixel_scale
        wide = tuple(length + 2 * MARGIN for length in self.shape)
        sources = self.sky.draw(wide, fwhm, rng, target_flux=flux)
        table = source_table(sources, self.galaxies, self.survey, self.shape, rng)
        # the flux of a star whose brightest pixel is full
        full = sources.limit * 10 ** (0.4 * rng.uniform(*self.sky.saturation))
        reach = np.clip(source_reach(sources, fwhm), *REACH)
        seen, scale = source_psf(truth), self.survey.pixel_scale
        peak = draw_psf(seen, scale, size=psf_size(self.shape)).max()
        light = draw_sources(
            table, sources.flux, reach, seen, self.shape, scale, full=full, peak=peak, rng=rng
        )
        detected, faint, mask = light.detected, light.faint, light.mask

        level = sky_level(faint, rng) + self.sky_residual * rng.standard_normal()
        factor = rng.uniform(*self.sky.variance_factor)
        kernel = correlation_kernel(rng, largest=self.correlation)
        kind = FOOTPRINTS[rng.choice(len(FOOTPRINTS), p=self.sky.footprint_shares)]
        mask |= draw_footprints(own, detected, kind, rng)
        # so much larger that the edge is like the rest
        white = rng.standard_normal([length + 2 for length in self.shape])
        noise = fftconvolve(white, kernel, mode='valid') / np.sqrt(factor)
        image = self.survey.noise * (own + detected + faint + level + noise)

        truth |= {
            **self._neighbor_truth(table, truth),
            'neighbour_light': float((own * (detected + faint)).sum() / (own**2).sum()),
            'sky_level': level,
            'variance_factor': factor,
            'noise_weight_x': kernel[1, 0] / kernel[1, 1],
            'noise_weight_y': kernel[0, 1] / kernel[1, 1],
            'footprints': kind,
        }
        return self._cutout(image, psf, mask=mask, sources=table), truth

    def _neighbor_truth(self, table, truth):
        """Return the number of detected neighbors in the image, and what the nearest one is."""
        ny, nx = self.shape
        x, y = table['x'].value, table['y'].value
        inside = (x > -0.5) & (x < nx - 0.5) & (y > -0.5) & (y < ny - 0.5)
        seen = table['is_detected'] & inside
        if not seen.any():
            return {'n_neighbours': 0, 'neighbour_distance': np.nan, 'neighbour_flux_ratio': np.nan}
        center = ((nx - 1) / 2 + truth['x_offset'], (ny - 1) / 2 + truth['y_offset'])
        distance = np.hypot(x - center[0], y - center[1])[seen]
        nearest = np.argmin(distance)
        return {
            'n_neighbours': int(seen.sum()),
            'neighbour_distance': self.survey.pixel_scale * distance[nearest],
            'neighbour_flux_ratio': table['flux'].value[seen][nearest] / truth['flux'],
        }
