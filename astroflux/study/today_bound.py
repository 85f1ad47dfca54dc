# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The information bound of the galaxies of the study, with what their population says of them."""

from dataclasses import dataclass, replace

import numpy as np
from astropy.table import Table

from astroflux.evaluation.information import ImageModel, ln_flux_bound
from astroflux.study.dataset import StudySettings, draw_catalogue, image_model_truth

__all__ = ['StudyPopulation', 'galaxy_bound', 'limit_bound']


@dataclass(frozen=True)
class StudyPopulation:
    """
    The galaxies of the study, for `~astroflux.evaluation.population_prior`.

    Attributes
    ----------
    settings : `~astroflux.study.dataset.StudySettings`
        Of the data set; its numbers of galaxies and its seed do not matter.
    """

    settings: StudySettings

    def draw(self, n, rng, *, derived=True):
        """
        Draw galaxies.

        Parameters
        ----------
        n : int
            How many, at least two.
        rng : `numpy.random.Generator`
            Source of randomness.
        derived : bool
            Accepted for the sake of `~astroflux.simulation.GalaxyPopulation`; nothing derived is
            given.

        Returns
        -------
        table : `~astropy.table.Table`
            What `~astroflux.study.dataset.image_model_truth` gives, one row per galaxy.
        """
        seed = int(rng.integers(2**31))
        settings = replace(self.settings, n_train=n - 1, n_test=1, seed=seed)
        rows = draw_catalogue(settings).to_dict('records')
        return Table([image_model_truth(row, settings) for row in rows])


def galaxy_bound(row, settings, *, shape, noise, population):
    """
    Compute the information bound of one galaxy.

    The sky, the PSF and the noise are known exactly, as they are in the study.

    Parameters
    ----------
    row : mapping
        A row of the study's table.
    settings : `~astroflux.study.dataset.StudySettings`
        Of the data set.
    shape : tuple of int
        ``(ny, nx)`` of the image.
    noise : float
        Standard deviation per pixel in ADU.
    population : `StudyPopulation`
        What is known of the galaxy beforehand, but for its flux.

    Returns
    -------
    bound : float
        Smallest standard deviation of ln flux, see `~astroflux.evaluation.ln_flux_bound`.
    snr : float
        Signal-to-noise ratio ``sqrt(sum(model**2)) / noise``.
    """
    truth = image_model_truth(row, settings)
    model = ImageModel(truth, shape, settings.constants.pixel_scale)
    bound = ln_flux_bound(model, noise, sky_error=0, population=population)
    return bound, float(np.sqrt((model.image**2).sum()) / noise)


def limit_bound(bound, ln_flux_scatter):
    """
    Add to a bound what the population says of the flux.

    Without it the bound of a galaxy that is not seen has no limit; but who knows the population
    is not wrong by more than its scatter.

    Parameters
    ----------
    bound : 1D `~numpy.ndarray`
        Standard deviations of ln flux, may be infinite.
    ln_flux_scatter : float
        Standard deviation of ln flux in the population, as a Gaussian prior.

    Returns
    -------
    limited : 1D `~numpy.ndarray`
    """
    return 1 / np.sqrt(1 / np.asarray(bound, float) ** 2 + 1 / ln_flux_scatter**2)
