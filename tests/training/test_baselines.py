# Licensed under a 3-clause BSD style license - see LICENSE.rst
import numpy as np
import pytest
from astropy.nddata import CCDData, StdDevUncertainty
from click.testing import CliRunner

from astroflux import RegressionFluxEstimator
from astroflux.estimators.regression._features import FEATURES
from astroflux.estimators.regression._training_table import read_training_table

pytest.importorskip('galsim')

from astroflux.training.baselines import main, make_training_table

CONFIGURATION = """
name = "tiny"
description = "For tests."
[library]
seed = 1
n_galaxies = 6400
group_size = 2
stamp_size = 51
pixel_scale = 0.168
[library.galaxies]
sersic_index = [1.0, 2.0]
[[library.part]]
share = 1
psf = {fwhm = [0.5, 0.8]}
galaxies = {half_light_radius = [0.2, 0.8]}
[validation]
seed = 2
n_galaxies = 64
[calibration]
seed = 3
n_galaxies = 64
[observation]
snr = [20.0, 2000.0]
[network]
[optimiser]
cycles = [[6, 1e-3]]
"""


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('baselines')
    (folder / 'tiny.toml').write_text(CONFIGURATION)
    return folder


@pytest.fixture(scope='module')
def make(folder):
    def make(**changes):
        settings = {'n_galaxies': 64, 'n_observations': 300, 'workers': 1, 'progress': False}
        return make_training_table(folder / 'stamps', folder / 'tiny.toml', **settings | changes)

    return make


def test_table(make):
    table = make()
    assert table.features.shape == (300, len(FEATURES))
    assert np.all(np.abs(table.target) < 3)
    assert 30 < len(np.unique(table.group)) <= 64
    assert table.metadata['psf_fwhm_range'] == pytest.approx([0.5 / 0.168, 0.8 / 0.168])
    assert table.metadata['library']['n_galaxies'] == 64
    # the same again, and another for another seed
    assert make() == table
    assert make(seed=2) != table


def test_from_a_table_to_an_estimator(folder, make):
    path = folder / 'some' / 'table.safetensors'
    options = {
        'output': path,
        'library': folder / 'stamps',
        'configuration': folder / 'tiny.toml',
        'galaxies': 64,
        'observations': 300,
        'workers': 1,
        'name': 'tiny',
    }
    arguments = [text for name, value in options.items() for text in (f'--{name}', str(value))]
    result = CliRunner().invoke(main, [*arguments, '--quiet'], catch_exceptions=False)
    assert result.exit_code == 0
    assert result.output == f'wrote {path}\n'
    assert read_training_table(path)[0] == make()
    estimator = RegressionFluxEstimator(model='linear', training_table=path)
    y, x = np.mgrid[-25:26, -25:26]
    image = 3000 / (2 * np.pi * 9) * np.exp(-(x**2 + y**2) / 18)
    noise = StdDevUncertainty(np.ones(image.shape))
    ccd = CCDData(image, unit='adu', uncertainty=noise)
    measured = estimator.measure(ccd, psf_fwhm=4.0)
    assert measured['flux'][0].value == pytest.approx(3000, rel=0.2)
    assert measured.meta['weights'] == 'tiny'
