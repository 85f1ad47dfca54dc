# Licensed under a 3-clause BSD style license - see LICENSE.rst
import numpy as np
import pytest

from astroflux.simulation.population import half_light_radius_of_sum
from astroflux.study.catalogue import StudySettings, draw_catalogue
from astroflux.study.distributions import FLAT_LOG_VARIANCE, check_distributions, correlation
from astroflux.study.radii import READINGS, half_light_radius_in_circle, published_radii


@pytest.fixture(scope='module')
def table():
    return draw_catalogue(StudySettings(n_train=1500, n_test=500, seed=1))


def failures(table):
    return [check['name'] for check in check_distributions(table) if not check['passed']]


class TestChecks:
    def test_all_pass(self, table):
        assert failures(table) == []

    def test_what_a_check_says(self, table):
        checks = check_distributions(table)
        assert {tuple(check) for check in checks} == {('name', 'wanted', 'found', 'passed')}
        assert {type(check['passed']) for check in checks} == {bool}
        names = [check['name'] for check in checks]
        assert len(set(names)) == len(names)
        found = {check['name']: check['found'] for check in checks}
        assert found['correlation of total_flux with R_e'] == pytest.approx(
            np.corrcoef(table['total_flux'], table['R_e'])[0, 1]
        )
        assert found['skewness of log_total_flux (left-skewed)'] < -1
        assert found['range of R_e_d'] == [table['R_e_d'].min(), table['R_e_d'].max()]

    def test_few_galaxies_pass_too(self):
        assert failures(draw_catalogue(StudySettings(n_train=8, n_test=4, seed=3))) == []

    def test_no_galaxies(self, table):
        with pytest.raises(ValueError, match=r'want at least 5 galaxies .*, got 4'):
            check_distributions(table[:4])

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
        ],
    )
    @pytest.mark.filterwarnings('ignore:invalid value:RuntimeWarning')
    def test_what_is_wrong_fails(self, table, column, change, name):
        spoiled = table.copy()
        spoiled[column] = change(table)
        assert any(failed.startswith(name) for failed in failures(spoiled))

    def test_a_column_too_many(self, table):
        assert failures(table.assign(colour=1.0)) == ['number of columns']

    def test_variance_of_a_flat_flux(self):
        flux = (np.arange(200_000) + 0.5) / 200_000
        assert np.var(np.log10(flux)) == pytest.approx(FLAT_LOG_VARIANCE, rel=1e-3)

    def test_correlation(self):
        x = np.arange(5.0)
        assert correlation(x, -2 * x) == pytest.approx(-1)
        assert isinstance(correlation(x, x), float)


class TestRadius:
    def test_round_galaxies(self):
        fraction = np.array([[0.3, 0.9], [0.7, 0.1]])
        index = np.array([[1.0, 0.8], [4.0, 5.0]])
        radius = np.array([[2.0, 0.3], [0.5, 1.9]])
        found = half_light_radius_in_circle(fraction, index, radius, np.ones((2, 2)))
        wanted = [
            half_light_radius_of_sum(list(zip(*parts, strict=True)))
            for parts in zip(fraction.T, index.T, radius.T, strict=True)
        ]
        np.testing.assert_allclose(found, wanted, rtol=1e-7)

    def test_by_counting_light(self):
        # radii of photons of an elliptical exponential disc
        rng = np.random.default_rng(0)
        axis_ratio, n = 0.3, 400_000
        radius = rng.gamma(2.0, size=n) / 1.67834699
        phi = rng.uniform(0, 2 * np.pi, n)
        x, y = radius * np.cos(phi) / np.sqrt(axis_ratio), radius * np.sin(phi) * axis_ratio**0.5
        wanted = np.median(np.hypot(x, y))
        arguments = (np.array([[value]]) for value in (1.0, 1.0, 1.0, axis_ratio))
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
