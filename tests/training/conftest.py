# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""A tiny training, which all tests share."""

import pytest

from astroflux.networks.outputs import SHAPE
from astroflux.training import read_configuration, train
from astroflux.training.library import load_library

CONFIGURATION = """
name = "tiny"
description = "For tests."
[library]
seed = 1
n_galaxies = 64
group_size = 2
stamp_size = 151
pixel_scale = 0.5
structured_fraction = 0.2
[library.galaxies]
sersic_index = [1.0, 2.0]
[[library.part]]
share = 0.8
psf = {fwhm = [1.5, 2.5]}
galaxies = {half_light_radius = [0.6, 2.4]}
[[library.part]]
share = 0.2
psf = {fwhm = [0.5, 0.6]}
galaxies = {half_light_radius = [2.0, 3.0]}
accuracy = {folding_threshold = 1e-2, maxk_threshold = 5e-3}
[validation]
seed = 2
n_galaxies = 64
snr = [5.0, 3000.0]
blend_fraction = 0.0
[calibration]
seed = 3
n_galaxies = 64
other_psf_fraction = 0.0
[observation]
snr = [20.0, 2000.0]
[network]
channels = [4, 4, 4, 4]
maps = 2
width = 8
outputs = EVERY
[optimiser]
cycles = [[6, 1e-3]]
calibration_steps = 2
batch_size = 8
warmup = 2
""".replace('EVERY', str([output.name for output in SHAPE]))


@pytest.fixture(scope='session')
def configuration(tmp_path_factory):
    path = tmp_path_factory.mktemp('configuration') / 'tiny.toml'
    path.write_text(CONFIGURATION)
    return path


@pytest.fixture(scope='session')
def trained(configuration, tmp_path_factory):
    """Folder of a training that is done."""
    folder = tmp_path_factory.mktemp('trained')
    train(configuration, folder, workers=1, device='cpu', progress=False)
    return folder


@pytest.fixture(scope='session')
def library(configuration, trained):
    settings = read_configuration(configuration).training.library
    return load_library(trained / 'training', settings)
