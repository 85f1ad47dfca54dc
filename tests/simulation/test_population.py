# Licensed under a 3-clause BSD style license - see LICENSE.rst
import numpy as np
import pytest

from astroflux.simulation import GalaxyPopulation, PSFPopulation
from astroflux.simulation.population import radius_of_sum


def test_half_light_radius_of_one_component():
    assert radius_of_sum([(1.0, 4.0, 2.5)]) == 2.5
    assert radius_of_sum([(1.0, 4.0, 2.5), (0.0, 1.0, 9.0)]) == 2.5


def test_radius_of_sum_against_galsim():
    galsim = pytest.importorskip('galsim')
    radius = radius_of_sum([(0.6, 1.0, 3.0), (0.4, 4.0, 0.8)])
    disc = galsim.Exponential(half_light_radius=3.0)
    bulge = galsim.DeVaucouleurs(half_light_radius=0.8)
    assert 0.8 < radius < 3.0
    image = (0.6 * disc + 0.4 * bulge).drawImage(nx=801, ny=801, scale=0.05)
    y, x = np.indices(image.array.shape) - 400
    within = image.array[np.hypot(x, y) * 0.05 < radius].sum()
    assert within == pytest.approx(0.5, abs=0.01)


def test_half_light_radius_scales():
    components = [(0.3, 1.0, 2.0), (0.7, 3.5, 0.5)]
    doubled = [(f, n, 2 * r) for f, n, r in components]
    radius = radius_of_sum(components)
    assert radius_of_sum(doubled) == pytest.approx(2 * radius, rel=1e-9)


def test_galaxies_keep_to_their_ranges():
    population = GalaxyPopulation(
        half_light_radius=(0.2, 2.0), sersic_index=(1.0, 3.0), axis_ratio=(0.3, 0.9)
    )
    table = population.draw(3000, np.random.default_rng(0))
    single = table[table['n_components'] == 1]
    double = table[table['n_components'] == 2]
    assert len(double) / len(table) == pytest.approx(0.4, abs=0.03)
    for name, (low, high) in {
        'half_light_radius_1': (0.2, 2.0),
        'sersic_index_1': (1.0, 3.0),
        'axis_ratio_1': (0.3, 0.9),
        'snr': (5.0, 3000.0),
    }.items():
        assert low <= single[name].min() < low * 1.1
        assert high / 1.1 < single[name].max() <= high
    assert np.all(single['half_light_radius'] == single['half_light_radius_1'])
    assert np.all(np.isnan(single['sersic_index_2']))
    assert np.all(single['bulge_to_total'] == 0)
    assert 0.8 <= double['sersic_index_1'].min() <= double['sersic_index_1'].max() <= 1.2
    assert 3.0 <= double['sersic_index_2'].min() <= double['sersic_index_2'].max() <= 5.0
    assert np.all(double['half_light_radius'] <= double['half_light_radius_1'] * (1 + 1e-9))
    # log-uniform: as many below the geometric mean of the range as above
    assert np.mean(table['snr'] < np.sqrt(5 * 3000)) == pytest.approx(0.5, abs=0.03)


def test_sersic_index_spacing():
    def share_below(middle, **keywords):
        table = GalaxyPopulation(two_component_fraction=0.0, **keywords).draw(
            3000, np.random.default_rng(3)
        )
        return np.mean(table['sersic_index_1'] < middle)

    # the geometric and the arithmetic mean of the range, less half a step of the grid
    assert share_below(np.sqrt(0.5 * 6) - 0.05) == pytest.approx(0.5, abs=0.04)
    assert share_below(3.2, sersic_index_spacing='linear') == pytest.approx(0.5, abs=0.04)
    with pytest.raises(ValueError, match="must be 'log' or 'linear', got 'cubic'"):
        GalaxyPopulation(sersic_index_spacing='cubic')


def test_psfs_keep_to_their_ranges():
    table = PSFPopulation(fwhm=(0.6, 0.8), max_ellipticity=0.1).draw(2000, np.random.default_rng(1))
    assert 0.6 <= table['psf_fwhm'].min() <= table['psf_fwhm'].max() <= 0.8
    assert np.hypot(table['psf_g1'], table['psf_g2']).max() <= 0.1
    moffat = np.isfinite(table['moffat_beta'])
    assert moffat.mean() == pytest.approx(0.5, abs=0.04)
    assert table['moffat_beta'][moffat].min() >= 2.5


def test_same_seed_same_galaxies():
    first, second = (GalaxyPopulation().draw(5, np.random.default_rng(7)) for _ in range(2))
    for name in first.colnames:
        np.testing.assert_array_equal(first[name], second[name])
