# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The sources around a galaxy as parameters of its image, for the information bound."""

from types import SimpleNamespace

import numpy as np
from astropy.stats import gaussian_fwhm_to_sigma
from astropy.table import Table

from astroflux._optional import import_optional
from astroflux.evaluation.information import ln_flux_bound, ln_flux_response
from astroflux.simulation.scene import draw_source
from astroflux.simulation.sky import DETECTION_SNR, detection_limit, source_reach
from astroflux.simulation.sky_scene import REACH
from astroflux.simulation.sky_sources import source_profile, source_psf

__all__ = ['NeighborModel', 'scene_bounds']

# Steps of the derivatives by radius and ellipse.
RADIUS_STEP = 0.05
SHEAR_STEP = 0.05

# Sources fainter than this part of the limit of detection are taken as known: each of them is
# below S/N 1. So are those that change the flux by less than this part of its error.
FAINTEST = 0.2
LEAST_CHANGE = 0.1

# What is known of a source before it is measured: standard deviations of ln(flux), of ln(radius)
# and of the shear of its ellipse. Its place is known to the standard deviation of the PSF: what
# is farther away is another source.
PRIOR_ERROR = {'ln_flux': 1.0, 'ln_half_light_radius': 0.5, 'g1': 0.25, 'g2': 0.25}


class NeighborModel:
    """
    The sources around a galaxy that it has to be told from, as parameters of the image.

    Those are left out whose light, taken for the galaxy's, would hardly change its flux.
    The parameters of each of the others are ``ln_flux``, ``x`` and ``y``, and of a galaxy
    ``ln_half_light_radius``, ``g1`` and ``g2``, with its number in the table of sources. Sersic
    indices, and which sources there are, are taken as known.

    Parameters
    ----------
    sources : `~astropy.table.QTable`
        As ``meta['sources']`` of a cutout of `~astroflux.simulation.SceneSimulation`.
    truth : mapping
        Truth of the cutout, with its PSF.
    pixel_scale : float
        In arcsec per pixel.
    noise : float
        Standard deviation of the noise of a pixel, in the unit of the fluxes.
    response : 2D `~numpy.ndarray`
        What light in a pixel does to the galaxy's ln(flux), of `ln_flux_response`.
    least_change : float
        Sources whose light changes ln(flux) by less are left out.

    Attributes
    ----------
    names : list of str
        The parameters.
    jacobian : 3D `~numpy.ndarray`
        ``(n_parameters, ny, nx)``, the derivatives of the image.
    prior_error : `~numpy.ndarray`
        What is known of each parameter beforehand, as a standard deviation: about as much as of
        any source that is there. So those hardly matter that the image does not show.
    """

    def __init__(self, sources, truth, pixel_scale, *, noise, response, least_change):
        self._galsim = import_optional('galsim', extra='simulate')
        self._shape = response.shape
        self._pixel_scale = pixel_scale
        self._psf = source_psf(truth)
        fwhm = float(truth['psf_fwhm']) / pixel_scale
        rows = Table(sources)
        lengths = SimpleNamespace(
            flux=np.asarray(rows['flux']) / noise,
            radius=np.asarray(rows['half_light_radius']) / pixel_scale,
        )
        reach = np.clip(source_reach(lengths, fwhm), *REACH)
        # the norm of its light if it is a point, and more than that if not
        norm = np.asarray(rows['flux']) * DETECTION_SNR / detection_limit(fwhm)
        derivatives = {}
        for number, row in enumerate(rows):
            # no more than the product of the norms, which saves drawing it
            around = response[self._square(row, reach[number])]
            if norm[number] * np.linalg.norm(around) < least_change:
                continue
            image = self._draw(source_profile(row), row, reach[number])
            if (abs(response) * image).sum() < least_change:
                continue
            for name, derivative in self._differentiate(row, image, reach[number]):
                derivatives[f'{name}_of_{number}'] = derivative
        errors = {**PRIOR_ERROR, **dict.fromkeys(('x', 'y'), gaussian_fwhm_to_sigma * fwhm)}
        self.names = list(derivatives)
        self.jacobian = np.array([*derivatives.values()]).reshape(-1, *self._shape)
        self.prior_error = np.array([errors[name.split('_of_')[0]] for name in self.names])

    @staticmethod
    def _square(row, reach):
        """Return the part of the image that a source may shine on."""
        starts = (int(max(round(row[name] - reach), 0)) for name in ('y', 'x'))
        stops = (int(max(round(row[name] + reach) + 1, 0)) for name in ('y', 'x'))
        return tuple(map(slice, starts, stops))

    def _draw(self, profile, row, reach):
        image = np.zeros(self._shape)
        seen = row['flux'] * self._galsim.Convolve(profile, self._psf)
        position = row['x'], row['y']
        light, where = draw_source(seen, position, reach, self._shape, self._pixel_scale)
        if light is not None:
            image[where] = light
        return image

    def _differentiate(self, row, image, reach):
        yield 'ln_flux', image
        # the image moves against its gradient
        y, x = np.gradient(image)
        yield from (('x', -x), ('y', -y))
        if row['n_components'] == 0:
            return
        profile = source_profile(row)
        for name, changed, step in (
            ('ln_half_light_radius', profile.dilate(np.exp(RADIUS_STEP)), RADIUS_STEP),
            ('g1', profile.shear(g1=SHEAR_STEP), SHEAR_STEP),
            ('g2', profile.shear(g2=SHEAR_STEP), SHEAR_STEP),
        ):
            yield name, (self._draw(changed, row, reach) - image) / step


def scene_bounds(model, cutout, truth, simulation):
    """
    Smallest errors of the flux of a galaxy in a scene, with all that stands around it unknown.

    Parameters
    ----------
    model : `ImageModel`
        The galaxy.
    cutout : `~astropy.nddata.CCDData`
    truth : dict
        Both from `~astroflux.simulation.SceneSimulation.draw`.
    simulation : `~astroflux.simulation.SceneSimulation`
        That drew them.

    Returns
    -------
    bound, bound_without_prior : float
        `ln_flux_bound` with and without what the population tells of the galaxy beforehand, for
        the noise as it is, not as it is stated.
    """
    survey = simulation.survey
    noise = survey.noise / np.sqrt(truth['variance_factor'])
    # what a subtraction of the background leaves is of the order of what this one has left
    sky_error = survey.noise * np.hypot(simulation.sky_residual, truth['sky_level'])
    options = {'mask': cutout.mask, 'sky_error': sky_error}
    x, y = truth['noise_weight_x'], truth['noise_weight_y']
    kernel = np.outer([y, 1, y], [x, 1, x])
    informed = {'population': simulation.galaxies, **options}
    response = ln_flux_response(model, noise, **informed)
    alone = ln_flux_bound(model, noise, kernel=kernel, **informed)
    sources = cutout.meta['sources']
    limit = survey.noise * detection_limit(truth['psf_fwhm'] / survey.pixel_scale)
    options['neighbors'] = NeighborModel(
        sources[sources['flux'].value > FAINTEST * limit],
        truth,
        survey.pixel_scale,
        noise=survey.noise,
        response=response,
        least_change=LEAST_CHANGE * alone,
    )
    return tuple(
        ln_flux_bound(model, noise, kernel=kernel, population=population, **options)
        for population in (simulation.galaxies, None)
    )
