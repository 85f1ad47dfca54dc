# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of the catalogue of the study: how it is drawn, checked and read."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import gammaincinv

from astroflux.study import catalogue
from astroflux.study.catalogue import COLUMNS, StudySettings, draw_catalogue

SETTINGS = StudySettings(n_train=1500, n_test=500, seed=1)


@pytest.fixture(scope='module')
def table():
    return draw_catalogue(SETTINGS)


def test_columns(table):
    assert tuple(table.columns) == COLUMNS
    assert table.shape == (2000, 17)
    np.testing.assert_array_equal(table['log_total_flux'], np.log10(table['total_flux']))
    # GalSim keeps a hundred tables
    assert table[['sersic_idx_d', 'sersic_idx_b']].nunique().sum() < 100
    assert sorted(table['img_number']) == list(range(2000))
    assert abs(np.corrcoef(table['img_number'], range(2000))[0, 1]) < 0.1
    # the target and the name of the file are nothing to predict from
    assert set(COLUMNS) - set(catalogue.FEATURES) == {'total_flux', 'log_total_flux', 'file_name'}
    for name, (low, high) in {**catalogue.RANGES, 'total_flux': (1, 30_000)}.items():
        margin = 0.03 * (high - low)
        assert low <= table[name].min() < low + margin, name
        assert high - margin < table[name].max() <= high, name


def test_seed(table):
    pd.testing.assert_frame_equal(draw_catalogue(SETTINGS), table)
    other = draw_catalogue(StudySettings(n_train=1500, n_test=500, seed=2))
    assert not np.isin(other['total_flux'], table['total_flux']).any()
    # nor do images share draws with the catalogue
    flux = np.round(1 + 29_999 * (1 - catalogue.image_generator(SETTINGS, 0).random(2000)), 3)
    assert not np.isin(flux, table['total_flux']).any()


def test_half_light_radius_in_circle(table):
    names = ('flux_frac', 'sersic_idx', 'R_e', 'axis_ratio')
    columns = [np.array([table[f'{name}_d'], table[f'{name}_b']]) for name in names]
    found = catalogue.half_light_radius_in_circle(*columns)
    np.testing.assert_allclose(table['R_e'], found, atol=1e-6)
    # and by counting photons of the flattest galaxy
    flattest, rng = table['axis_ratio_d'].argmin(), np.random.default_rng(0)
    distances = []
    for fraction, index, radius, ratio in np.transpose(columns)[flattest]:
        n = round(400_000 * fraction)
        radii = radius * (rng.gamma(2 * index, size=n) / gammaincinv(2 * index, 0.5)) ** index
        phi = rng.uniform(0, 2 * np.pi, n)
        distances.append(radii * np.hypot(np.cos(phi) / ratio**0.5, np.sin(phi) * ratio**0.5))
    assert np.median(np.concatenate(distances)) == pytest.approx(found[flattest], rel=5e-3)
    # a reading of the report's radii fits its figure 1
    radii = catalogue.published_radii()
    misfit = radii.drop(columns='published').div(radii['published'], axis=0).sub(1).abs()
    assert misfit['circle, geometric means'].max() < 0.05
    assert misfit['round components'].median() > 0.02


def failures(table):
    return [check['name'] for check in catalogue.check_table(table) if not check['passed']]


def test_all_checks_pass(table):
    assert failures(table) == []
    assert failures(draw_catalogue(StudySettings(n_train=8, n_test=4, seed=3))) == []
    checks = catalogue.check_table(table)
    found = {check['name']: check['found'] for check in checks}
    assert len(found) == len(checks) == 35
    assert found['skewness of log_total_flux (left-skewed)'] < -1
    assert found['range of R_e_d'] == [table['R_e_d'].min(), table['R_e_d'].max()]


@pytest.mark.parametrize(
    ('column', 'change', 'name'),
    [
        ('R_e_d', lambda t: 1.01 * t['R_e_d'], 'range of R_e_d'),
        ('PA_b', lambda t: t['PA_d'] + 3, 'PA_b - PA_d is spread evenly'),
        ('log_total_flux', lambda t: 1.3 * t['log_total_flux'], 'variance of log_total_flux'),
        ('R_e', lambda t: t['total_flux'], 'correlation of total_flux with R_e'),
    ],
)
def test_what_is_wrong_fails(table, column, change, name):
    failed = failures(table.assign(**{column: change(table)}))
    assert any(each.startswith(name) for each in failed)


def test_reading(table, tmp_path):
    path = tmp_path / 'table.csv'
    table[sorted(COLUMNS)].to_csv(path, index=False)
    pd.testing.assert_frame_equal(catalogue.read_table(path, 2000), table)
    table.rename(columns={'R_e': 'radius'}).to_csv(path, index=False)
    with pytest.raises(ValueError, match=r'table\.csv has columns .* unknown: R_e, radius'):
        catalogue.read_table(path, 2000)
