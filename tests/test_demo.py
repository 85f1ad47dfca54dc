# Licensed under a 3-clause BSD style license - see LICENSE.rst
import numpy as np
import pytest
from astropy import units as u
from astropy.utils.exceptions import AstropyDeprecationWarning
from click.testing import CliRunner
from matplotlib.image import imread

from astroflux import demo
from astroflux.cli import main
from astroflux.datasets import load_demo
from astroflux.demo import run_demo
from astroflux.flags import MeasurementFlag


def test_demo_data():
    cutouts, truth = load_demo()
    assert len(cutouts) == len(truth) == 8
    for cutout in cutouts:
        assert cutout.shape == (143, 143)
        assert cutout.unit == u.adu
        assert cutout.psf is not None
        assert cutout.meta['zeropoint'] == 27.0


def test_former_place_still_works():
    with pytest.warns(AstropyDeprecationWarning, match=r'astroflux\.datasets\.load_demo'):
        assert len(demo.load_demo()[0]) == 8


def test_demo_measures_well(tmp_path):
    table, path = run_demo(tmp_path)
    error = np.abs(table['flux'] / table['true_flux'] - 1)
    assert np.all(error < 0.35)
    assert np.median(error) < 0.06
    # no other flag is set than that of a neighbor, where there is one
    _, truth = load_demo()
    alone = np.asarray(truth['n_neighbours']) == 0
    assert 0 < alone.sum() < len(table)
    assert np.all(table['flags'][alone] == 0)
    assert set(table['flags'][~alone]) <= {0, int(MeasurementFlag.NEIGHBOUR)}
    assert np.isfinite(table['kron_flux']).all()
    image = imread(path)
    assert image.shape[0] > 500
    # something is drawn: neither white nor one colour
    assert image[..., :3].std() > 0.05


def test_demo_command(tmp_path):
    result = CliRunner().invoke(main, ['demo', '-o', str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert 'kron_flux' in result.stdout
    assert '000007.fits.gz' in result.stdout
    assert (tmp_path / 'astroflux_demo.png').exists()
