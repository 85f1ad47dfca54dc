# Licensed under a 3-clause BSD style license - see LICENSE.rst
import numpy as np
import pytest
from astropy import units as u
from astropy.table import QTable, Table
from astropy.utils.exceptions import AstropyDeprecationWarning
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from astroflux import evaluation
from astroflux.evaluation import (
    SNR_BINS,
    flux_error_statistics,
    flux_errors,
    scatter_at_bound,
    summarize_by,
)
from astroflux.evaluation.metrics import split_into_bins

FLUXES = ('flux', 'flux_err', 'flux_lower', 'flux_upper')


def errors_of(ln_error, **columns):
    return Table({'ln_error': np.asarray(ln_error, float), **columns})


def test_known_answers():
    error = np.array([-0.02, 0.0, 0.01, 0.03, 0.5])
    statistics = flux_error_statistics(
        errors_of(
            error,
            covered_68=[True, True, True, False, False],
            covered_95=[True, True, True, True, False],
            pull=[-2.0, 0.0, 1.0, 3.0, 50.0],
        )
    )
    assert statistics['n'] == 5
    assert statistics['completeness'] == 1
    assert statistics['bias'] == 0.01
    # |error - 0.01| = 0.03, 0.01, 0, 0.02, 0.49: the median is 0.02
    assert statistics['scatter'] == pytest.approx(1.482602 * 0.02, rel=1e-6)
    assert statistics['rms'] == pytest.approx(np.sqrt(np.mean(error**2)))
    assert statistics['outliers'] == pytest.approx(0.2)
    assert statistics['coverage_68'] == pytest.approx(0.6)
    assert statistics['coverage_95'] == pytest.approx(0.8)
    assert statistics['pull_median'] == 1
    assert statistics['pull_scatter'] == pytest.approx(1.482602 * 2, rel=1e-6)
    assert np.isnan(statistics['scatter_over_bound'])


def test_gaussian_errors():
    rng = np.random.default_rng(1)
    error = rng.normal(0.02, 0.1, 100_000)
    within = {name: np.abs(error - 0.02) < 0.1 * z for name, z in (('68', 1.0), ('95', 1.96))}
    errors = errors_of(
        error, covered_68=within['68'], covered_95=within['95'], pull=(error - 0.02) / 0.1
    )
    statistics = flux_error_statistics(errors, bound=np.full(len(error), 0.08), n_bootstrap=5)
    assert statistics['bias'] == pytest.approx(0.02, abs=2e-3)
    assert statistics['scatter'] == pytest.approx(0.1, rel=0.01)
    assert statistics['rms'] == pytest.approx(np.hypot(0.1, 0.02), rel=0.01)
    assert statistics['coverage_68'] == pytest.approx(0.6827, abs=0.005)
    assert statistics['coverage_95'] == pytest.approx(0.95, abs=0.003)
    assert statistics['pull_median'] == pytest.approx(0, abs=0.01)
    assert statistics['pull_scatter'] == pytest.approx(1, rel=0.01)
    assert statistics['scatter_over_bound'] == pytest.approx(1.25, rel=0.01)


def test_bootstrap_errors_are_those_of_repeated_samples():
    rng = np.random.default_rng(2)

    def draw():
        error = rng.normal(0, 0.1, 400)
        errors = errors_of(error, covered_68=np.abs(error) < 0.1, pull=error / 0.1)
        return flux_error_statistics(errors, bound=np.full(400, 0.1))

    samples = Table([draw() for _ in range(60)])
    for name in ('bias', 'scatter', 'rms', 'coverage_68', 'pull_scatter', 'scatter_over_bound'):
        # the spread of 60 samples is itself uncertain by a tenth
        assert np.median(samples[f'{name}_err']) == pytest.approx(np.std(samples[name]), rel=0.35)
    # a known one: sigma / sqrt(2 n) for the root mean square
    assert np.median(samples['rms_err']) == pytest.approx(0.1 / np.sqrt(800), rel=0.1)


def test_bootstrap_is_repeatable():
    errors = errors_of(np.linspace(-1, 1, 50))
    one, two = (flux_error_statistics(errors) for _ in range(2))
    assert one['scatter_err'] == two['scatter_err'] > 0


def test_outliers_are_30_percent_in_flux_either_way():
    ratio = np.array([0.69, 0.71, 1.29, 1.31])
    assert flux_error_statistics(errors_of(np.log(ratio)))['outliers'] == 0.5


def test_rows_not_measured_are_counted_apart():
    statistics = flux_error_statistics(errors_of([0.1, np.nan, 0.1, -np.inf]))
    assert statistics['n'] == 4
    assert statistics['completeness'] == 0.5
    assert statistics['bias'] == pytest.approx(0.1)
    assert np.isnan(statistics['coverage_68'])


def test_nothing_measured():
    errors = errors_of([np.nan, np.nan], covered_68=[False, False])
    statistics = flux_error_statistics(errors, bound=np.array([0.1, 0.1]))
    assert statistics['n'] == 2
    assert statistics['completeness'] == 0
    for name in ('bias', 'coverage_68', 'scatter_over_bound'):
        assert np.isnan(statistics[name])


def test_one_galaxy_has_no_scatter():
    errors = errors_of([0.1], covered_68=[True], pull=[2.0])
    statistics = flux_error_statistics(errors, bound=np.array([0.1]))
    for name, value in (('completeness', 1), ('bias', 0.1), ('rms', 0.1), ('coverage_68', 1)):
        assert statistics[name] == pytest.approx(value)
        assert np.isnan(statistics[f'{name}_err'])
    for name in ('scatter', 'pull_scatter', 'scatter_over_bound'):
        assert np.isnan(statistics[name])
        assert np.isnan(statistics[f'{name}_err'])


def test_only_galaxies_with_a_bound_are_compared_with_it():
    rng = np.random.default_rng(3)
    error = np.concatenate([rng.normal(0, 0.1, 5000), rng.normal(0, 5, 5000)])
    bound = np.repeat([0.1, np.nan], 5000)
    statistics = flux_error_statistics(errors_of(error), bound=bound, n_bootstrap=2)
    assert statistics['scatter_over_bound'] == pytest.approx(1, rel=0.05)


def test_scatter_at_bound():
    assert scatter_at_bound([0.03, 0.03]) == pytest.approx(0.03)
    # alike but for rounding
    nearly = [0.03, np.nextafter(0.03, 1), np.nextafter(0.03, 0)]
    assert scatter_at_bound(nearly) == pytest.approx(0.03)
    # the NMAD of a mixture of Gaussians, against a sample of it
    sigma = np.exp(np.random.default_rng(4).uniform(-4, -1, 200_000))
    sample = np.random.default_rng(5).normal(0, sigma)
    expected = 1.482602 * np.median(np.abs(sample))
    assert scatter_at_bound(sigma) == pytest.approx(expected, rel=0.01)


def measured(flux, flux_err, lower, upper):
    columns = {'flux': flux, 'flux_err': flux_err, 'flux_lower': lower, 'flux_upper': upper}
    return QTable({name: np.array(values) * u.nJy for name, values in columns.items()})


def test_flux_errors():
    table = measured(
        [110.0, 90.0, np.nan, -5.0, 100.0],
        [10.0, 5.0, np.nan, 1.0, 1.0],
        [100.0, 85.0, np.nan, -6.0, 90.0],
        [120.0, 99.9, np.nan, -4.0, 101.0],
    )
    errors = flux_errors(table, np.array([100e-3, 100e-3, 100e-3, 100e-3, 82e-3]) * u.uJy)
    np.testing.assert_allclose(errors['ln_error'][:2], np.log([1.1, 0.9]))
    assert np.isnan(errors['ln_error'][2:4]).all()
    np.testing.assert_array_equal(errors['covered_68'], [True, False, False, False, False])
    # 90 + 1.96 * 9.9 = 109.4 holds 100; 100 - 1.96 * 10 = 80.4 lies below 82
    np.testing.assert_array_equal(errors['covered_95'], [True, True, False, False, True])
    np.testing.assert_allclose(errors['pull'][[0, 1, 4]], [1, -2, 18])


def test_flux_errors_needs_a_unit_of_the_table():
    with pytest.raises(u.UnitConversionError):
        flux_errors(measured([1.0], [1.0], [0.0], [2.0]), [1.0] * u.m)


def test_split_into_bins():
    (first, second) = split_into_bins([0.9, 1, 2, 3, 3.1, np.nan], (1, 2, 3))
    assert first[:2] == (1, 2)
    assert second[:2] == (2, 3)
    np.testing.assert_array_equal(np.flatnonzero(first[2]), [1])
    np.testing.assert_array_equal(np.flatnonzero(second[2]), [2, 3])


def test_bins_hold_their_lower_edge():
    snr = np.array([4.9, 5.0, 19.9, 20.0, 3000.0, 3000.1, np.nan])
    rows = summarize_by(snr, SNR_BINS, errors_of(np.arange(7) / 100))
    assert list(rows['n']) == [2, 1, 0, 1]
    assert [(row['low'], row['high']) for row in rows] == [
        (5, 20),
        (20, 100),
        (100, 500),
        (500, 3000),
    ]
    assert rows['bias'][0] == pytest.approx(0.015)
    assert np.isnan(rows['bias'][2])


def test_bins_take_their_part_of_the_bound():
    error = np.array([-0.1, 0.0, 0.1, -1.0, 0.0, 1.0])
    rows = summarize_by(
        [1, 1, 1, 2, 2, 2], (0.5, 1.5, 2.5), errors_of(error), bound=[0.1] * 3 + [1.0] * 3
    )
    assert rows['scatter_over_bound'][0] == pytest.approx(1.4826, rel=1e-4)
    assert rows['scatter_over_bound'][1] == pytest.approx(1.4826, rel=1e-4)


errors_of_any = arrays(float, st.integers(2, 40), elements=st.floats(-3, 3, width=32))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(errors_of_any, st.floats(-2, 2), st.floats(0.1, 10))
def test_a_shift_is_bias_and_a_factor_scatter(error, shift, factor):
    plain = flux_error_statistics(errors_of(error), n_bootstrap=2)
    other = flux_error_statistics(errors_of(factor * error + shift), n_bootstrap=2)
    assert other['bias'] == pytest.approx(factor * plain['bias'] + shift, abs=1e-9)
    assert other['scatter'] == pytest.approx(factor * plain['scatter'], abs=1e-9)
    assert 0 <= other['outliers'] <= 1
    assert other['n'] == len(error)
    # the order of the galaxies does not matter
    turned = flux_error_statistics(errors_of(error[::-1]), n_bootstrap=2)
    for name in ('bias', 'scatter', 'rms', 'outliers'):
        assert turned[name] == pytest.approx(plain[name], abs=1e-12)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    arrays(float, st.integers(0, 40), elements=st.floats(-1, 6, width=32) | st.just(np.nan)),
    st.lists(st.floats(0, 5, width=32), min_size=2, max_size=6, unique=True).map(sorted),
)
def test_each_value_is_in_one_bin(values, edges):
    counts = np.sum([inside for *_, inside in split_into_bins(values, edges)], axis=0)
    np.testing.assert_array_equal(counts == 1, (values >= edges[0]) & (values <= edges[-1]))
    assert counts.max(initial=0) <= 1


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.floats(1e-3, 1e3), st.sampled_from([u.nJy, u.uJy, u.mJy]))
def test_units_do_not_matter(true, unit):
    table = QTable({name: [1.0, -2.0, 3.0] * u.nJy for name in FLUXES})
    expected = flux_errors(table, np.full(3, true) * u.nJy)
    errors = flux_errors(table, (np.full(3, true) * u.nJy).to(unit))
    for name in ('ln_error', 'pull'):
        np.testing.assert_allclose(errors[name], expected[name], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    'name', ['summarise_bound', 'summarise_by', 'summarise_comparison', 'summarise_speed']
)
def test_former_names_still_work(name):
    with (
        pytest.warns(AstropyDeprecationWarning, match=name.replace('ise', 'ize')),
        pytest.raises(TypeError, match='missing'),
    ):
        getattr(evaluation, name)()
