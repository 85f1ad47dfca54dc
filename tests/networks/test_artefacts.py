# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What is no galaxy, or more than one, is told from pixels; a galaxy alone is none of that."""

import math

import numpy as np
import pytest
import torch

from astroflux.networks.artefacts import ARTEFACT_OUTPUTS, Artefacts
from astroflux.networks.pyramid import CANVAS_SIZE, REACH, Pyramid

FWHM = 4.0
Y, X = np.mgrid[:CANVAS_SIZE, :CANVAS_SIZE] - REACH


def galaxy(sigma=3.0, x=0.0, y=0.0, peak=30.0, axis_ratio=1.0):
    return peak * np.exp(-0.5 * ((X - x) ** 2 + ((Y - y) / axis_ratio) ** 2) / sigma**2)


def look(image, weight=None, noise=True):
    """Return the numbers of one stamp."""
    if noise:
        image = image + np.random.default_rng(1).normal(size=image.shape)
    weight = np.ones_like(image) if weight is None else weight
    tensors = [torch.as_tensor(a[None], dtype=torch.float32) for a in (image * weight, weight)]
    pyramid = Pyramid()
    raw, _ = pyramid(*tensors)
    tiled = [pyramid.tile(parts) for parts in (raw.pictures, raw.weights)]
    found = Artefacts()(raw.pictures[0], raw.weights[0], *tiled, torch.tensor([math.log(FWHM)]))
    return {name: float(value) for name, value in found.items()}


def trail(angle, offset=0.0, peak=10.0, first=-200.0):
    angle = np.deg2rad(angle)
    along, across = X * np.cos(angle) + Y * np.sin(angle), X * np.sin(angle) - Y * np.cos(angle)
    return peak * np.exp(-0.5 * ((across - offset) / 1.7) ** 2) * (along > first)


@pytest.mark.parametrize(
    'image',
    [
        galaxy(),
        galaxy(sigma=1.7, peak=3000.0),
        galaxy(sigma=20.0),
        galaxy(sigma=9.0, axis_ratio=0.25, peak=100.0),
        galaxy(x=20.0, peak=1000.0) + galaxy(),
        0 * X,
        -galaxy(),
    ],
    ids=['usual', 'star', 'large', 'edge-on', 'beside a bright one', 'sky', 'negative'],
)
@pytest.mark.parametrize('part', ['whole', 'half', 'small', 'nothing'])
def test_nothing_is_found(image, part):
    weight = {
        'whole': np.ones(X.shape),
        'half': (X < 3) * 1.0,
        'small': (np.maximum(abs(X), abs(Y)) < 16) * 1.0,
        'nothing': np.zeros(X.shape),
    }[part]
    found = look(image, weight)
    assert tuple(found) == ARTEFACT_OUTPUTS
    assert found['spike'] < 7
    assert found['trail'] < 0.5
    assert 0 <= found['gap'] < 3
    assert 0 <= found['second'] < 3


@pytest.mark.parametrize('angle', np.arange(0, 180, 11))
def test_trail_through_the_galaxy(angle):
    assert look(galaxy() + trail(angle))['trail'] > 0.6
    # it does not begin there
    assert look(galaxy() + trail(angle, first=0))['trail'] < 0.3
    assert look(galaxy() + trail(angle, offset=30))['trail'] < 0.5


@pytest.mark.parametrize('axis', [0, 1])
@pytest.mark.parametrize('width', [1, 2, 3])
@pytest.mark.parametrize('place', [-5, 0, 4])
def test_dead_line(axis, width, place):
    gone = np.zeros(X.shape, bool)
    gone[:, REACH + place : REACH + place + width] = True
    gone = gone.T if axis else gone
    image = galaxy(sigma=4.0)
    assert look(np.where(gone, 0, image))['gap'] > 4
    # half of the light
    assert look(np.where(gone, 0.5, 1) * image)['gap'] > 3.5
    # what is masked is no gap
    assert look(image, 1.0 * ~gone)['gap'] < 3


@pytest.mark.parametrize(('x', 'y'), [(0, 0), (3, -4), (20, 20)])
def test_hot_pixel(x, y):
    image = galaxy()
    image[REACH + y, REACH + x] += 40
    assert look(image)['spike'] > 15


@pytest.mark.parametrize('angle', [0, 30, 90])
def test_second_maximum(angle):
    at = 1.6 * FWHM * np.array([np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))])
    one, other = galaxy(sigma=2.0), galaxy(2.0, *at, peak=25.0)
    assert look(one + other)['second'] > 6
    assert look(one + 0.02 * other)['second'] == 0
    # one after the other, nearer than either is wide
    assert look(one + galaxy(2.0, 1.0, 1.0))['second'] == 0
