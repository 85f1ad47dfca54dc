# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of the catalogue of the study: how it is drawn, checked and read."""

import numpy as np
import pandas as pd
import pytest
from astropy import units as u

from astroflux.simulation.population import radius_of_sum
from astroflux.study.catalogue import (
    COLUMN_NOTES,
    COLUMNS,
    FEATURES,
    FLAT_LOG_VARIANCE,
    RANGES,
    READINGS,
    StudySettings,
    check_table,
    draw_catalogue,
    half_light_radius_in_circle,
    image_generator,
    published_radii,
    read_table,
)

SIZES = {'n_train': 1500, 'n_test': 500}

NOT_POSITIVE = r'a total_flux that is not positive and finite: row 4 \(\d+\.fits\)$'


@pytest.fixture(scope='module')
def table():
    return draw_catalogue(StudySettings(**SIZES, seed=1))


def failures(table):
    return [check['name'] for check in check_table(table) if not check['passed']]


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


@pytest.mark.parametrize('name', [*RANGES, 'total_flux'])
def test_ranges_are_filled_and_kept(table, name):
    low, high = RANGES.get(name, (1, 30_000))
    assert low <= table[name].min() < low + 0.03 * (high - low)
    assert high - 0.03 * (high - low) < table[name].max() <= high


def test_seed(table):
    pd.testing.assert_frame_equal(draw_catalogue(StudySettings(**SIZES, seed=1)), table)
    other = draw_catalogue(StudySettings(**SIZES, seed=2))
    assert not np.isin(other['total_flux'], table['total_flux']).any()
    # nor do images share draws with the catalogue
    first = image_generator(StudySettings(**SIZES, seed=1), 0).random(2000)
    flux = np.round(1 + 29_999 * (1 - first), 3)
    assert not np.isin(flux, table['total_flux']).any()


@pytest.mark.parametrize(
    ('keywords', 'message'),
    [
        ({'n_train': 0}, 'n_train must be at least 1, got 0'),
        ({'n_test': -1}, 'n_test must be at least 1, got -1'),
        ({'seed': -1}, 'seed must not be negative, got -1'),
        ({'image_size': 150}, 'image_size must be odd and at least 143, got 150'),
        ({'image_size': 141}, 'image_size must be odd and at least 143, got 141'),
        ({'psf_fwhm': 0.0}, 'psf_fwhm must be a positive number of arcsec, got 0.0'),
        ({'psf_fwhm': np.nan}, 'psf_fwhm must be a positive number of arcsec, got nan'),
    ],
)
def test_settings(keywords, message):
    with pytest.raises(ValueError, match=message):
        StudySettings(**keywords)


class TestRadius:
    def test_round_galaxies(self):
        # a disc and a bulge each: fraction of the flux, index, radius
        galaxies = [[(0.3, 1.0, 2.0), (0.7, 4.0, 0.5)], [(0.9, 0.8, 0.3), (0.1, 5.0, 1.9)]]
        fraction, index, radius = np.moveaxis(galaxies, 0, -1).swapaxes(0, 1)
        found = half_light_radius_in_circle(fraction, index, radius, np.ones((2, 2)))
        wanted = [radius_of_sum(galaxy) for galaxy in galaxies]
        np.testing.assert_allclose(found, wanted, rtol=1e-7)

    def test_by_counting_light(self):
        # radii of photons of an elliptical exponential disc
        rng = np.random.default_rng(0)
        axis_ratio, n = 0.3, 400_000
        radius = rng.gamma(2.0, size=n) / 1.67834699
        phi = rng.uniform(0, 2 * np.pi, n)
        x, y = radius * np.cos(phi) / np.sqrt(axis_ratio), radius * np.sin(phi) * axis_ratio**0.5
        arguments = (np.array([[value]]) for value in (1.0, 1.0, 1.0, axis_ratio))
        wanted = np.median(np.hypot(x, y))
        assert half_light_radius_in_circle(*arguments)[0] == pytest.approx(wanted, rel=5e-3)

    def test_is_what_the_catalogue_holds(self, table):
        columns = (
            np.array([table[f'{name}_d'], table[f'{name}_b']])
            for name in ('flux_frac', 'sersic_idx', 'R_e', 'axis_ratio')
        )
        np.testing.assert_allclose(table['R_e'], half_light_radius_in_circle(*columns), atol=1e-6)

    def test_published_radii(self):
        radii = published_radii()
        assert len(radii) == 10
        misfit = {name: (radii[name] / radii['published'] - 1).abs() for name in READINGS}
        circle, _, of_round = READINGS
        assert misfit[circle].max() < 0.05
        assert misfit[circle].median() < 0.005
        assert misfit[of_round].median() > 0.02


class TestChecks:
    def test_all_pass(self, table):
        checks = check_table(table)
        assert failures(table) == []
        assert failures(draw_catalogue(StudySettings(n_train=8, n_test=4, seed=3))) == []
        assert {tuple(check) for check in checks} == {('name', 'wanted', 'found', 'passed')}
        found = {check['name']: check['found'] for check in checks}
        assert len(found) == len(checks)
        assert found['correlation of total_flux with R_e'] == pytest.approx(
            np.corrcoef(table['total_flux'], table['R_e'])[0, 1]
        )
        assert found['skewness of log_total_flux (left-skewed)'] < -1
        assert found['range of R_e_d'] == [table['R_e_d'].min(), table['R_e_d'].max()]

    def test_no_galaxies(self, table):
        with pytest.raises(ValueError, match=r'want at least 5 galaxies .*, got 4'):
            check_table(table[:4])

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
    def test_what_is_wrong_fails(self, table, column, change, name):
        assert any(
            failed.startswith(name) for failed in failures(table.assign(**{column: change(table)}))
        )

    def test_variance_of_a_flat_flux(self):
        flux = (np.arange(200_000) + 0.5) / 200_000
        assert np.var(np.log10(flux)) == pytest.approx(FLAT_LOG_VARIANCE, rel=1e-3)


class TestReading:
    def test_columns_in_any_order(self, table, tmp_path):
        table[sorted(COLUMNS)].to_csv(tmp_path / 'table.csv', index=False)
        pd.testing.assert_frame_equal(read_table(tmp_path / 'table.csv'), table)

    @pytest.mark.parametrize(
        ('column', 'row', 'value', 'message'),
        [
            *(('total_flux', 4, flux, NOT_POSITIVE) for flux in (-3.0, 0.0, np.nan, np.inf)),
            ('total_flux', slice(2, 8), -1.0, r'row 2 \(.*row 6 \(\d+.fits\) and 2 more'),
            ('R_e_b', 1, 'large', r'a R_e_b that is not a finite number: row 1 \('),
            ('PA_d', 1, np.nan, r'a PA_d that is not a finite number: row 1 \('),
            ('file_name', 1, None, r'no file_name: row 1 \('),
            ('log_total_flux', 9, 5.0, r'not the logarithm of total_flux: row 9 \('),
            ('img_number', slice(0, 1), 7, r'an img_number that is there twice: row 1 \('),
        ],
    )
    def test_what_cannot_be_meant(self, table, tmp_path, column, row, value, message):
        spoiled = table[:30].astype(object)
        spoiled.loc[row, column] = value
        spoiled.to_csv(tmp_path / 'table.csv', index=False)
        with pytest.raises(ValueError, match=rf'table.csv has .*{message}'):
            read_table(tmp_path / 'table.csv')

    def test_other_columns(self, table, tmp_path):
        path = tmp_path / 'table.csv'
        table.rename(columns={'sersic_idx_d': 'seraic_idx_d'}).to_csv(path, index=False)
        with pytest.raises(ValueError, match='missing: sersic_idx_d; unknown: seraic_idx_d'):
            read_table(path)
        table.drop(columns=['Bt', 'R_e']).to_csv(path, index=False)
        with pytest.raises(ValueError, match='missing: R_e, Bt; unknown: none'):
            read_table(path)
