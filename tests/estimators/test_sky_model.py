# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Models of sources in an image, and how they share its light."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from astroflux.estimators.field._sky_model import SkyModel
from astroflux.networks.source_models import MODEL_PARAMETERS, SourceModels

SHAPE = (120, 140)
FWHM = 4.0


def models_of(*sources):
    """Return models of ``(x, y, flux, half-light radius)``."""
    rows = []
    for x, y, flux, radius in sources:
        named = dict.fromkeys(MODEL_PARAMETERS, 0.0)
        named |= {'x': x, 'y': y, 'ln_flux': np.log(flux), 'ln_radius': np.log(radius)}
        rows.append([*named.values(), *[0.0] * 8])
    psf = np.tile([*[np.log((FWHM / 2.355) ** 2)] * 4, 0.25, 0.25, 0.25, 0.25], (len(rows), 1))
    return SourceModels.of_fit(np.array(rows), psf)


def image_of(models):
    image = np.zeros(SHAPE, np.float32)
    for _, (x, y), light in models.draw(np.full(len(models), 30)):
        image[y : y + light.shape[0], x : x + light.shape[1]] += light
    return image


def sky_of(image, models):
    sky = SkyModel(image, np.ones_like(image), len(models))
    sky.put(np.arange(len(models)), models, np.ones(len(models)))
    sky.solve()
    return sky


def test_fluxes_are_solved_for_together():
    truth = models_of((50, 50, 4000, 2.0), (58, 52, 2000, 2.0), (100, 80, 500, 2.0))
    # each with some light of the other
    fitted = models_of((50, 50, 4500, 2.0), (58, 52, 3000, 2.0), (100, 80, 500, 2.0))
    image = image_of(truth)
    sky = sky_of(image, fitted)
    assert_allclose(sky.factor, [4000 / 4500, 2000 / 3000, 1], rtol=0.05)
    assert np.abs(sky.total - image).max() < 0.03 * image.max()


@pytest.mark.parametrize('excess', [-0.03, 0.0, 0.03])
def test_models_of_the_same_light_share_it(excess):
    # both sources were taken for the light of both; one model is a little nearer to it
    image = image_of(models_of((60, 60, 40000, 6.0)))
    fitted = models_of((60, 60, 40000, 6.0 + excess), (60.5, 60, 40000, 6.0 - excess))
    sky = sky_of(image, fitted)
    assert_allclose(sky.factor.sum(), 1, atol=0.02)
    assert (sky.factor > 0.1).all()


def test_who_is_outshone():
    sky = sky_of(
        np.zeros(SHAPE, np.float32),
        models_of((40, 40, 5000, 2.0), (48, 40, 2000, 2.0), (110, 80, 1000, 2.0)),
    )
    sky.factor[:] = 1
    fwhm = np.full(3, FWHM)
    assert sky.is_outshone(fwhm).tolist() == [False, True, False]
    # what is solved for counts
    sky.factor[1] = 3
    assert sky.is_outshone(fwhm).tolist() == [True, False, False]


def test_without_models():
    sky = SkyModel(np.zeros(SHAPE, np.float32), np.ones(SHAPE, np.float32), 2)
    sky.solve()
    assert not sky.is_outshone(np.full(2, FWHM)).any()
    assert list(sky.neighbors(np.arange(2), np.full(2, FWHM))) == [None, None]
