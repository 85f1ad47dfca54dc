# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Profiles that were fitted, drawn again."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from astroflux.networks.sersic_model import PROFILE_PARAMETERS
from astroflux.networks.source_models import MODEL_PARAMETERS, SourceModels

K = 8
TYPICAL = {'ln_flux': np.log(500.0), 'x': 3.2, 'y': -1.4, 'e1': 0.3, 'ln_radius': np.log(3.0)}


def make(n=1, *, psf_variance=3.0, bend=0.0, **parameters):
    """Some sources, all alike, in a frame whose origin is pixel (40, 30)."""
    named = dict.fromkeys(MODEL_PARAMETERS, 0.0) | TYPICAL | parameters | {'bend_1': bend}
    model = np.tile([*named.values(), *[0.0] * K], (n, 1))
    psf = np.tile([*[np.log(psf_variance)] * 4, 0.4, 0.3, 0.2, 0.1], (n, 1))
    return SourceModels.of_fit(model, psf)


def image_of(models, half=40):
    (_, corner, image), *_ = models.draw(np.full(len(models), half))
    return image, corner


def moments(image, corner):
    y, x = np.indices(image.shape)
    x, y = x + corner[0], y + corner[1]
    total = image.sum()
    cx, cy = (x * image).sum() / total, (y * image).sum() / total
    return (
        total,
        cx,
        cy,
        ((x - cx) ** 2 * image).sum() / total,
        ((y - cy) ** 2 * image).sum() / total,
    )


def test_flux_and_place():
    total, x, y, xx, yy = moments(*image_of(make(ln_index=np.log(0.5))))
    assert total == pytest.approx(500, rel=5e-3)
    assert (x, y) == (pytest.approx(3.2, abs=1e-3), pytest.approx(-1.4, abs=1e-3))
    # a Gaussian of a half-light radius of 1.177 sigma, the PSF and the pixel
    sigma2 = (3 / 1.1774) ** 2
    assert xx == pytest.approx(sigma2 * np.exp(0.3) + 3 + 1 / 12, rel=0.03)
    assert yy == pytest.approx(sigma2 * np.exp(-0.3) + 3 + 1 / 12, rel=0.03)


@pytest.mark.parametrize('turn', ['flip', 'transpose', 'blocks'])
def test_moved(turn):
    matrix = {
        'flip': [[-1.0, 0.0], [0.0, 1.0]],
        'transpose': [[0.0, 1.0], [1.0, 0.0]],
        'blocks': [[3.0, 0.0], [0.0, 3.0]],
    }[turn]
    models = make()
    frame = np.concatenate([np.array(matrix), [[10.0], [20.0]]], axis=1)[None]
    moved = models.moved(frame, np.array([2.0]))
    _, *place, xx, yy = moments(*image_of(models))
    total, *new_place, new_xx, new_yy = moments(*image_of(moved, half=120))
    assert total == pytest.approx(1000, rel=0.02)
    assert_allclose(new_place, np.array(matrix) @ place + [10, 20], atol=0.01)
    own = np.array([xx, yy])
    wanted = {'flip': own, 'transpose': own[::-1], 'blocks': 9 * own}[turn]
    # blocks of pixels are not smeared by the pixel again
    assert_allclose([new_xx, new_yy], wanted, rtol=0.06)
    for name, sign in (('e1', {'transpose': -1}.get(turn, 1)), ('ln_index', 1)):
        column = PROFILE_PARAMETERS.index(name)
        assert moved.profile[0, column] == pytest.approx(sign * models.profile[0, column])


def test_reach():
    models = make()
    near, far = models.reach(1.0), models.reach(1e-3)
    assert near < far
    image, _ = image_of(models, int(far[0]))
    assert image[0].max() < 1e-3
    assert image[len(image) // 2].max() > 1


def test_bend_is_limited():
    fluxes = [image_of(make(bend=bend))[0] for bend in (0.8, 5.0)]
    assert_allclose(*fluxes, rtol=1e-6)


def test_what_is_not_known():
    models = SourceModels.unknown(3, K)
    assert models.is_known.tolist() == [False] * 3
    models.put(np.array([1]), make())
    assert models.is_known.tolist() == [False, True, False]
    assert len(models[models.is_known]) == 1
    assert not list(models[np.zeros(3, bool)].draw(np.zeros(0, int)))
