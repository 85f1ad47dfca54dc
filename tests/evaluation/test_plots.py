# Licensed under a 3-clause BSD style license - see LICENSE.rst
import numpy as np
import pytest
from matplotlib.figure import Figure

from astroflux.evaluation.plots import plot_cutout, plot_flux_ratio


@pytest.fixture
def ax():
    return Figure().subplots()


def test_cutout(ax):
    image = np.random.default_rng(0).normal(0, 1, (20, 30))
    image[10, 15] = 500
    assert plot_cutout(ax, image, 1.0, title='one') is ax
    (shown,) = ax.images
    assert shown.get_array().shape == (20, 30)
    assert shown.norm.vmin == -2
    assert shown.norm.vmax == 500
    # the sky is told from the peak, and the noise from the sky
    levels = shown.norm([-2.0, 0.0, 3.0, 500.0])
    assert np.all(np.diff(levels) > 0.05)
    assert ax.get_title() == 'one'


def test_flux_ratio(ax):
    plot_flux_ratio(ax, [10, 100], [0.9, 1.0], [0.1, 0.01], label='a', color='k')
    assert ax.get_xscale() == 'log'
    assert ax.get_xlabel() == 'true S/N'
    assert 'a' in ax.get_legend_handles_labels()[1]
    np.testing.assert_array_equal(ax.lines[1].get_ydata(), [0.9, 1.0])
