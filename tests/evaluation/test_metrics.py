# Licensed under a 3-clause BSD style license - see LICENSE.rst
import numpy as np
import pytest

from astroflux.evaluation import SNR_BINS, flux_error_statistics, summarise_by_snr


def test_known_answers():
    error = np.array([-0.02, 0.0, 0.01, 0.03, 0.5])
    covered = np.array([True, True, True, False, False])
    statistics = flux_error_statistics(error, covered)
    assert statistics['n'] == 5
    assert statistics['measured'] == 1
    assert statistics['bias'] == 0.01
    # |error - 0.01| = 0.03, 0.01, 0, 0.02, 0.49: the median is 0.02
    assert statistics['scatter'] == pytest.approx(1.482602 * 0.02, rel=1e-6)
    assert statistics['rms'] == pytest.approx(np.sqrt(np.mean(error**2)))
    assert statistics['outliers'] == pytest.approx(0.2)
    assert statistics['coverage'] == pytest.approx(0.6)


def test_gaussian_errors():
    error = np.random.default_rng(1).normal(0.02, 0.1, 200_000)
    statistics = flux_error_statistics(error, np.abs(error - 0.02) < 0.1)
    assert statistics['bias'] == pytest.approx(0.02, abs=1e-3)
    assert statistics['scatter'] == pytest.approx(0.1, rel=0.01)
    assert statistics['rms'] == pytest.approx(np.hypot(0.1, 0.02), rel=0.01)
    assert statistics['coverage'] == pytest.approx(0.6827, abs=0.005)


def test_outliers_are_30_percent_in_flux_either_way():
    ratio = np.array([0.69, 0.71, 1.29, 1.31])
    assert flux_error_statistics(np.log(ratio))['outliers'] == 0.5


def test_rows_not_measured_are_counted_apart():
    statistics = flux_error_statistics([0.1, np.nan, 0.1, -np.inf])
    assert statistics['n'] == 4
    assert statistics['measured'] == 0.5
    assert statistics['bias'] == pytest.approx(0.1)
    assert np.isnan(statistics['coverage'])


def test_nothing_measured():
    statistics = flux_error_statistics([np.nan, np.nan], [False, False])
    assert statistics['n'] == 2
    assert statistics['measured'] == 0
    assert np.isnan(statistics['bias'])


def test_bins_hold_their_lower_edge():
    snr = np.array([4.9, 5.0, 19.9, 20.0, 3000.0])
    rows = summarise_by_snr(snr, np.arange(5) / 100)
    assert [row['n'] for row in rows] == [2, 1, 0, 0]
    assert [(row['snr_low'], row['snr_high']) for row in rows] == [
        (5, 20),
        (20, 100),
        (100, 500),
        (500, 3000),
    ]
    assert len(SNR_BINS) == len(rows) + 1
    assert rows[0]['bias'] == pytest.approx(0.015)
