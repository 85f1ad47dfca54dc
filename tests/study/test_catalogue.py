# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of the catalogue of the study: how it is drawn, checked and read."""

import numpy as np
import pandas as pd
import pytest
from astropy import units as u

from astroflux.simulation.population import half_light_radius_of_sum
from astroflux.study.catalogue import (
    COLUMN_NOTES,
    COLUMNS,
    FEATURES,
    FLAT_LOG_VARIANCE,
    RANGES,
    StudySettings,
    check_table,
    draw_catalogue,
    half_light_radius_in_circle,
    image_generator,
    published_radii,
    read_table,
)

SETTINGS = StudySettings(n_train=1500, n_test=500, seed=1)


@pytest.fixture(scope='module')
def table():
    return draw_catalogue(SETTINGS)


def test_columns(table):
    assert tuple(table.columns) == COLUMNS
    assert table.shape == (2000, 17)
    np.testing.assert_array_equal(table['log_total_flux'], np.log10(table['total_flux']))
    # GalSim keeps a hundred tables
    assert table[['sersic_idx_d', 'sersic_idx_b']].nunique().tolist() == [21, 51]
    assert sorted(table['img_number']) == list(range(2000))
    assert abs(np.corrcoef(table['img_number'], range(2000))[0, 1]) < 0.1
    # the target and the name of the file are nothing to predict from
    assert set(COLUMNS) - set(FEATURES) == {'total_flux', 'log_total_flux', 'file_name'}
    for unit, text in COLUMN_NOTES.values():
        u.Unit(unit)
        assert text
    for name, (low, high) in {**RANGES, 'total_flux': (1, 30_000)}.items():
        margin = 0.03 * (high - low)
        assert low <= table[name].min() < low + margin, name
        assert high - margin < table[name].max() <= high, name


def test_seed(table):
    pd.testing.assert_frame_equal(draw_catalogue(SETTINGS), table)
    other = draw_catalogue(StudySettings(n_train=1500, n_test=500, seed=2))
    assert not np.isin(other['total_flux'], table['total_flux']).any()
    # nor do images share draws with the catalogue
    flux = np.round(1 + 29_999 * (1 - image_generator(SETTINGS, 0).random(2000)), 3)
    assert not np.isin(flux, table['total_flux']).any()


def test_radius_of_round_galaxies():
    # a disc and a bulge each: fraction of the flux, index, radius
    galaxies = [[(0.3, 1.0, 2.0), (0.7, 4.0, 0.5)], [(0.9, 0.8, 0.3), (0.1, 5.0, 1.9)]]
    fraction, index, radius = np.moveaxis(galaxies, 0, -1).swapaxes(0, 1)
    found = half_light_radius_in_circle(fraction, index, radius, np.ones((2, 2)))
    wanted = [half_light_radius_of_sum(galaxy) for galaxy in galaxies]
    np.testing.assert_allclose(found, wanted, rtol=1e-7)


def test_radius_by_counting_photons():
    # of an elliptical exponential disc
    rng = np.random.default_rng(0)
    axis_ratio, n = 0.3, 400_000
    radius = rng.gamma(2.0, size=n) / 1.67834699
    phi = rng.uniform(0, 2 * np.pi, n)
    x, y = radius * np.cos(phi) / np.sqrt(axis_ratio), radius * np.sin(phi) * axis_ratio**0.5
    arguments = (np.array([[value]]) for value in (1.0, 1.0, 1.0, axis_ratio))
    wanted = np.median(np.hypot(x, y))
    assert half_light_radius_in_circle(*arguments)[0] == pytest.approx(wanted, rel=5e-3)


def test_radii_of_the_catalogue_and_of_the_report(table):
    names = ('flux_frac', 'sersic_idx', 'R_e', 'axis_ratio')
    columns = (np.array([table[f'{name}_d'], table[f'{name}_b']]) for name in names)
    np.testing.assert_allclose(table['R_e'], half_light_radius_in_circle(*columns), atol=1e-6)
    radii = published_radii()
    misfit = radii.drop(columns='published').div(radii['published'], axis=0).sub(1).abs()
    assert misfit.shape == (10, 3)
    assert misfit['circle, geometric means'].max() < 0.05
    assert misfit['circle, geometric means'].median() < 0.005
    assert misfit['round components'].median() > 0.02


def failures(table):
    return [check['name'] for check in check_table(table) if not check['passed']]


def test_all_checks_pass(table):
    assert failures(table) == []
    assert failures(draw_catalogue(StudySettings(n_train=8, n_test=4, seed=3))) == []
    checks = check_table(table)
    found = {check['name']: check['found'] for check in checks}
    assert len(found) == len(checks) == 35
    correlation = np.corrcoef(table['total_flux'], table['R_e'])[0, 1]
    assert found['correlation of total_flux with R_e'] == pytest.approx(correlation)
    assert found['skewness of log_total_flux (left-skewed)'] < -1
    assert found['range of R_e_d'] == [table['R_e_d'].min(), table['R_e_d'].max()]
    flat = np.log10((np.arange(200_000) + 0.5) / 200_000)
    assert np.var(flat) == pytest.approx(FLAT_LOG_VARIANCE, rel=1e-3)


@pytest.mark.parametrize(
    ('column', 'change', 'name'),
    [
        ('img_number', lambda t: t['img_number'] * 0, 'image numbers that are there twice'),
        ('file_name', lambda t: 'a' + t['file_name'], 'files not named by their number'),
        ('num_components', lambda t: 1, 'galaxies without two components'),
        ('R_e_d', lambda t: 1.01 * t['R_e_d'], 'range of R_e_d'),
        ('sersic_idx_b', lambda t: t['sersic_idx_b'] - 0.1, 'mean of sersic_idx_b'),
        ('total_flux', lambda t: t['total_flux'].clip(upper=2e4), 'total_flux is spread'),
        ('total_flux', lambda t: t['total_flux'] - 100, 'range of total_flux'),
        ('PA_b', lambda t: t['PA_d'] + 20, 'largest angle between the bulge and the disc'),
        ('PA_b', lambda t: t['PA_d'] + 3, 'PA_b - PA_d is spread evenly'),
        ('Bt', lambda t: 1 - t['Bt'], 'Bt: largest difference from flux_frac_b'),
        ('flux_frac_d', lambda t: t['flux_frac_d'] * 0.99, 'flux fractions: largest'),
        ('log_total_flux', lambda t: np.log(t['total_flux']), 'log_total_flux: largest'),
        ('log_total_flux', lambda t: 4 - t['log_total_flux'], 'skewness of log_total_flux'),
        ('log_total_flux', lambda t: 1.3 * t['log_total_flux'], 'variance of log_total_flux'),
        ('R_e', lambda t: 10 * t['R_e'], 'R_e not between the axes'),
        ('R_e', lambda t: t['total_flux'], 'correlation of total_flux with R_e'),
        ('Bt', lambda t: -t['log_total_flux'], 'correlation of log_total_flux with Bt'),
        ('color', lambda t: 1.0, 'number of columns'),
    ],
)
@pytest.mark.filterwarnings('ignore:invalid value:RuntimeWarning')
def test_what_is_wrong_fails(table, column, change, name):
    failed = failures(table.assign(**{column: change(table)}))
    assert any(each.startswith(name) for each in failed)


def test_reading(table, tmp_path):
    path = tmp_path / 'table.csv'
    table[sorted(COLUMNS)].to_csv(path, index=False)
    pd.testing.assert_frame_equal(read_table(path, 2000), table)
    with pytest.raises(ValueError, match=r'table\.csv must have 1999 rows'):
        read_table(path, 1999)
    table.assign(img_number=7).to_csv(path, index=False)
    with pytest.raises(ValueError, match=r'2000 rows, each with an img_number of its own'):
        read_table(path, 2000)
    table.rename(columns={'R_e': 'radius'}).to_csv(path, index=False)
    with pytest.raises(ValueError, match=r'table\.csv has columns .* unknown: R_e, radius'):
        read_table(path, 2000)
