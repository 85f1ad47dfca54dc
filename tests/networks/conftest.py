# Licensed under a 3-clause BSD style license - see LICENSE.rst
import numpy as np
import pytest
import torch

from astroflux.networks.pyramid import CANVAS_SIZE, REACH


def draw_gaussian(sigma, *, flux=1.0, dx=0, dy=0):
    y, x = np.mgrid[:CANVAS_SIZE, :CANVAS_SIZE] - REACH
    image = np.exp(-0.5 * ((x - dx) ** 2 + (y - dy) ** 2) / sigma**2)
    return torch.as_tensor(flux * image / image.sum(), dtype=torch.float32)


@pytest.fixture(scope='session')
def gaussian():
    """A function that draws a Gaussian on the canvas."""
    return draw_gaussian
