# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The information bound: how well the flux of a galaxy can be measured at all.

The Fisher information of an image in Gaussian noise, marginalised over all that is not known
beforehand. See the documentation for the formulas and what they assume.
"""

import math
from functools import lru_cache

import numpy as np
from scipy.fft import irfft2, next_fast_len

from astroflux._optional import import_optional
from astroflux.evaluation.correlated_noise import correlated_information
from astroflux.simulation.scene import galaxy_component, psf_profile

__all__ = ['ImageModel', 'fisher_information', 'ln_flux_bound', 'population_prior']

# Sersic indices that GalSim draws; it tabulates each index once, so the step for the derivative
# is that of the populations' grid.
SERSIC_INDEX_RANGE = (0.3, 6.2)
SERSIC_INDEX_STEP = 0.1

# Steps of the other derivatives, small against what changes a profile, large against rounding.
RADIUS_STEP = 0.01
SHEAR_STEP = 0.01

# A galaxy is drawn in a box that repeats at its edges: this many times as wide as the stamp, at
# the most. What of the wings is folded back into the stamp from beyond is a nearly even sky.
LARGEST_BOX = 3.0

N_PRIOR_DRAWS = 20_000

# A parameter of a smaller variance in a population, all of which are of the order of one, has the
# same value in all of its galaxies.
SMALLEST_VARIANCE = 1e-20


class ImageModel:
    """
    The noiseless image of a galaxy, and its derivatives with respect to its parameters.

    The parameters are ``ln_flux``; ``x`` and ``y`` of the centre in pixels; for each component
    ``ln_half_light_radius``, ``ln_sersic_index`` and the reduced shear ``g1`` and ``g2`` of its
    ellipse, with the number of the component; the ``bulge_to_total`` ratio of two components,
    which share the centre; and the level of the ``sky``.

    Parameters
    ----------
    truth : mapping or `~astropy.table.Row`
        Truth as `~astroflux.simulation.CutoutSimulation.draw` gives it, or a row of the table
        that `~astroflux.simulation.write_dataset` writes.
    shape : tuple of int
        ``(ny, nx)`` of the image.
    pixel_scale : float
        In arcsec per pixel.
    psf : `galsim.GSObject`, optional
        Point-spread function without the pixel, lengths in arcsec; by default that of ``truth``.

    Attributes
    ----------
    n_components : int
        Number of components of the galaxy.
    names : tuple of str
        The parameters.
    image : 2D `~numpy.ndarray`
        In the unit of ``truth['flux']``.
    jacobian : 3D `~numpy.ndarray`
        ``(n_parameters, ny, nx)``, the derivatives of the image; that by the sky is one.
    """

    def __init__(self, truth, shape, pixel_scale, *, psf=None):
        # a row of a table has units: those of `draw`, which gives plain numbers
        self._truth = {
            name: getattr(value, 'value', value)
            for name, value in zip(truth.keys(), truth.values(), strict=True)
        }
        self._shape = shape
        self._pixel_scale = pixel_scale
        self._galsim = import_optional('galsim', extra='simulate')
        self._flux = float(self._truth['flux'])
        self.n_components = int(truth['n_components'])
        self._set_up_fourier_plane(psf_profile(self._truth) if psf is None else psf)
        self.names, self.jacobian = self._differentiate()
        # the derivative by ln(flux) is the image itself
        self.image = self.jacobian[0]

    def _set_up_fourier_plane(self, psf):
        galsim = self._galsim
        widest = min(
            galsim.Convolve(self._component(number), psf).stepk
            for number in range(1, self.n_components + 1)
        )
        wanted = 2 * math.pi / widest / self._pixel_scale
        side = max(self._shape)
        size = next_fast_len(2 * math.ceil(np.clip(wanted, 1.5 * side, LARGEST_BOX * side) / 2))
        size += size % 2
        self._size = size
        k = 2 * np.pi * np.fft.fftfreq(size)
        # the half plane that stands for all of a real image
        self._kx, self._ky = np.abs(k[: size // 2 + 1]), k[:, None]
        pixel = galsim.Pixel(self._pixel_scale)
        seen = self._transform(galsim.Convolve(psf, pixel))
        ny, nx = self._shape
        x = (nx - 1) / 2 + float(self._truth['x_offset'])
        y = (ny - 1) / 2 + float(self._truth['y_offset'])
        self._transfer = seen * np.exp(-1j * (self._kx * x + self._ky * y))

    def _component(self, number, **changes):
        return galaxy_component({**self._truth, **changes}, number)

    def _transform(self, profile):
        """Fourier transform of a profile, on the half plane."""
        size = self._size
        step = 2 * np.pi / size / self._pixel_scale
        image = profile.drawKImage(nx=size, ny=size, scale=step).array
        return np.fft.ifftshift(image)[:, : size // 2 + 1]

    def _to_image(self, transform):
        ny, nx = self._shape
        return irfft2(transform * self._transfer, s=(self._size, self._size))[:ny, :nx]

    def _differentiate(self):
        fractions = {1: 1.0}
        if self.n_components == 2:
            bulge_to_total = float(self._truth['bulge_to_total'])
            fractions = {1: 1 - bulge_to_total, 2: bulge_to_total}
        parts = {number: self._transform(self._component(number)) for number in fractions}
        whole = sum(fractions[number] * part for number, part in parts.items())
        # a shift is a phase
        derivatives = {
            'ln_flux': whole,
            'x': -1j * self._kx * whole,
            'y': -1j * self._ky * whole,
        }
        if self.n_components == 2:
            derivatives['bulge_to_total'] = parts[2] - parts[1]
        for number, fraction in fractions.items():
            for name, derivative in self._shape_derivatives(number):
                derivatives[f'{name}_{number}'] = fraction * derivative
        images = [self._flux * self._to_image(values) for values in derivatives.values()]
        return (*derivatives, 'sky'), np.array([*images, np.ones(self._shape)])

    def _shape_derivatives(self, number):
        """Derivatives of the transform of one component by its shape, by finite differences."""
        transform, galsim = self._transform, self._galsim
        profile = self._component(number)
        larger, smaller = (
            transform(profile.dilate(math.exp(sign * RADIUS_STEP))) for sign in (1, -1)
        )
        yield 'ln_half_light_radius', (larger - smaller) / (2 * RADIUS_STEP)

        index = float(self._truth[f'sersic_index_{number}'])
        low, high = (
            float(np.clip(round(index + sign * SERSIC_INDEX_STEP, 6), *SERSIC_INDEX_RANGE))
            for sign in (-1, 1)
        )
        steeper, flatter = (
            transform(self._component(number, **{f'sersic_index_{number}': value}))
            for value in (high, low)
        )
        yield 'ln_sersic_index', (steeper - flatter) / math.log(high / low)

        angle = float(self._truth[f'position_angle_{number}']) * galsim.degrees
        shear = galsim.Shear(q=float(self._truth[f'axis_ratio_{number}']), beta=angle)
        round_profile = self._component(number, **{f'axis_ratio_{number}': 1.0})
        for name, step1, step2 in (('g1', SHEAR_STEP, 0.0), ('g2', 0.0, SHEAR_STEP)):
            one, other = (
                transform(
                    round_profile.shear(g1=shear.g1 + sign * step1, g2=shear.g2 + sign * step2)
                )
                for sign in (1, -1)
            )
            yield name, (one - other) / (2 * SHEAR_STEP)


def fisher_information(jacobian, noise, *, mask=None, kernel=None):
    """
    Fisher information of parameters in an image with Gaussian noise.

    ``F_ij = sum(dm/dp_i dm/dp_j / noise**2)`` over the pixels (for instance Tegmark, Taylor &
    Heavens 1997, ApJ 480, 22, equation 15, for noise that does not depend on the parameters); with
    the inverse of the covariance in place of ``1 / noise**2`` if the noise is correlated.

    Parameters
    ----------
    jacobian : 3D `~numpy.ndarray`
        ``(n_parameters, ny, nx)``, derivatives of the noiseless image.
    noise : float or 2D `~numpy.ndarray`
        Standard deviation of the noise, in the unit of the image.
    mask : 2D `~numpy.ndarray` of bool, optional
        `True` where a pixel is not to be used.
    kernel : 2D `~numpy.ndarray`, optional
        If the noise is correlated: what made it of white noise in a convolution, before it was
        multiplied by its standard deviation. The product of a column and a row, of any
        normalization.

    Returns
    -------
    information : 2D `~numpy.ndarray`
        ``(n_parameters, n_parameters)``.
    """
    shape = jacobian.shape[1:]
    used = np.ones(shape, bool) if mask is None else ~np.asarray(mask, bool)
    # pixels that are not used may have no noise to divide by
    weighted = jacobian[:, used] / np.broadcast_to(noise, shape)[used]
    if kernel is None:
        return weighted @ weighted.T
    whole = np.zeros(jacobian.shape)
    whole[:, used] = weighted
    return correlated_information(whole, used, kernel)


@lru_cache(maxsize=16)
def population_prior(population, n_components):
    """
    Gaussian that stands for what a population says about a galaxy's shape before it is measured.

    Of the same covariance as the population's parameters.

    Parameters
    ----------
    population : `~astroflux.simulation.GalaxyPopulation`
        Where the galaxies come from.
    n_components : {1, 2}
        Which of them.

    Returns
    -------
    names : tuple of str
        Parameters of `ImageModel`, all but the flux and the sky.
    covariance : 2D `~numpy.ndarray`
        Of these parameters.

    Raises
    ------
    ValueError
        If the population has no such galaxies.
    """
    rng = np.random.default_rng(0)
    rows = population.draw(N_PRIOR_DRAWS, rng, derived=False)
    rows = rows[rows['n_components'] == n_components]
    if len(rows) < 2:
        msg = f'the population has no galaxies of {n_components} components'
        raise ValueError(msg)
    draws = {'x': rows['x_offset'], 'y': rows['y_offset']}
    if n_components == 2:
        draws['bulge_to_total'] = rows['bulge_to_total']
    for number in range(1, n_components + 1):
        ratio, angle = rows[f'axis_ratio_{number}'], np.radians(rows[f'position_angle_{number}'])
        shear = (1 - ratio) / (1 + ratio)
        draws[f'ln_half_light_radius_{number}'] = np.log(rows[f'half_light_radius_{number}'])
        draws[f'ln_sersic_index_{number}'] = np.log(rows[f'sersic_index_{number}'])
        draws[f'g1_{number}'] = shear * np.cos(2 * angle)
        draws[f'g2_{number}'] = shear * np.sin(2 * angle)
    return tuple(draws), np.cov([np.asarray(values, float) for values in draws.values()])


def ln_flux_bound(
    model,
    noise,
    *,
    mask=None,
    sky_error=np.inf,
    population=None,
    known=(),
    kernel=None,
    neighbors=None,
):
    """
    Smallest standard deviation with which the ln of a galaxy's total flux can be measured.

    Without a population the Cramer-Rao bound for an unbiased estimator that knows the PSF, the
    noise and the number of components, and nothing else. With one its Bayesian form, for
    estimators that know also which galaxies there are (van Trees 1968, Detection, Estimation, and
    Modulation Theory I, section 2.4): the information of the prior is added to that of the image,
    here of this galaxy, where van Trees takes the mean over all. Of the prior only the covariance
    counts.

    Parameters
    ----------
    model : `ImageModel`
        The galaxy.
    noise : float or 2D `~numpy.ndarray`
        Standard deviation of the noise of each pixel, in the unit of the galaxy's flux.
    mask : 2D `~numpy.ndarray` of bool, optional
        `True` where a pixel is not to be used.
    sky_error : float, optional
        Standard deviation of the level of the sky, which is common to all pixels, as it is known
        beforehand; by default it is not known at all.
    population : `~astroflux.simulation.GalaxyPopulation`, optional
        Where the galaxy comes from, as a Gaussian prior of its shape and position
        (``population_prior``); what is the same in all its galaxies is known exactly. Nothing is
        known beforehand about the flux.
    known : sequence of str, optional
        Parameters of `ImageModel` that are known exactly.
    kernel : 2D `~numpy.ndarray`, optional
        If the noise is correlated: what made it of white noise in a convolution; the product of a
        column and a row, of any normalization.
    neighbors : ``astroflux.evaluation.neighbors.NeighborModel``, optional
        Sources around the galaxy, whose parameters are not known either.

    Returns
    -------
    bound : float
        Standard deviation of ln(flux). Infinite if the image does not hold the information.
    """
    names, jacobian, precision = list(model.names), model.jacobian, 0.0
    if neighbors is not None:
        jacobian = np.concatenate([jacobian, neighbors.jacobian])
        precision = np.diag([*[0.0] * len(names), *neighbors.prior_error**-2.0])
        names += neighbors.names
    information = fisher_information(jacobian, noise, mask=mask, kernel=kernel) + precision
    information, free = _add_what_is_known(
        information, names, model.n_components, sky_error, population, known
    )
    return _standard_deviation(information[np.ix_(free, free)])


def ln_flux_response(model, noise, *, mask=None, sky_error=np.inf, population=None):
    """
    What light in a pixel does to ln(flux) as an estimate would find it that reaches the bound.

    Parameters
    ----------
    model, noise, mask, sky_error, population
        As of `ln_flux_bound`.

    Returns
    -------
    response : 2D `~numpy.ndarray`
        Change of ln(flux) per unit of light; 0 where a pixel is not used.
    """
    information = fisher_information(model.jacobian, noise, mask=mask)
    information, free = _add_what_is_known(
        information, list(model.names), model.n_components, sky_error, population, ()
    )
    # pseudo-inverse, for parameters that change nothing
    share = np.linalg.pinv(information[np.ix_(free, free)], hermitian=True)[0]
    response = np.tensordot(share, model.jacobian[free], 1) / np.square(noise)
    return response if mask is None else np.where(mask, 0.0, response)


def _add_what_is_known(information, names, n_components, sky_error, population, known):
    """Add priors to the information; return it, and which parameters are not known exactly."""
    information = information.copy()
    if np.isfinite(sky_error):
        sky = names.index('sky')
        information[sky, sky] += 1 / sky_error**2 if sky_error > 0 else 0
        known = known if sky_error > 0 else (*known, 'sky')
    if population is not None:
        prior_names, covariance = population_prior(population, n_components)
        varies = np.diag(covariance) > SMALLEST_VARIANCE
        known = (*known, *np.array(prior_names)[~varies])
        rows = [names.index(name) for name in np.array(prior_names)[varies]]
        information[np.ix_(rows, rows)] += np.linalg.inv(covariance[np.ix_(varies, varies)])
    return information, [row for row, name in enumerate(names) if name not in known]


def _standard_deviation(information):
    """Square root of the first diagonal element of the inverse of the information."""
    # a parameter that changes nothing, such as the shape of a bulge without light, costs nothing
    used = np.diag(information) > 0
    if not used[0]:
        return math.inf
    information = information[np.ix_(used, used)]
    # scaled to a unit diagonal, as the parameters are of very different size
    scale = 1 / np.sqrt(np.diag(information))
    try:
        inverse = np.linalg.inv(information * np.outer(scale, scale))
    except np.linalg.LinAlgError:
        return math.inf
    variance = inverse[0, 0] * scale[0] ** 2
    return math.sqrt(variance) if variance > 0 else math.inf
