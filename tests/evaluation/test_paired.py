# Licensed under a 3-clause BSD style license - see LICENSE.rst
import numpy as np
import pytest
from astropy import units as u
from astropy.table import QTable

from astroflux.evaluation import Comparison, paired_ratios


def comparison_of(errors, snr):
    """Methods with the errors given, on galaxies of the S/N given."""
    rows = [
        (method, cutout, error)
        for method, values in errors.items()
        for cutout, error in enumerate(values)
    ]
    measurements = QTable(rows=rows, names=('method', 'cutout', 'ln_error'))
    return Comparison(
        title='made up',
        labels={name: name for name in errors},
        measurements=measurements,
        truth=QTable({'flux': np.ones(len(snr)) * u.nJy, 'snr': np.asarray(snr, float)}),
        speed=QTable(),
        extremes={},
    )


def test_known_ratios():
    rng = np.random.default_rng(0)
    errors = rng.normal(0, 0.1, 2000)
    snr = np.repeat([10.0, 50.0], 1000)
    comparison = comparison_of({'a': errors, 'b': 2 * errors, 'c': errors + 0.3}, snr)
    ratios = paired_ratios(comparison, 'a', edges=(5, 20, 100))
    assert list(ratios['method']) == ['a', 'a', 'b', 'b', 'c', 'c']
    assert list(ratios['n']) == [1000] * 6
    np.testing.assert_allclose(ratios['scatter_ratio'], [1, 1, 2, 2, 1, 1], rtol=1e-9)
    np.testing.assert_allclose(ratios['rms_ratio'][:4], [1, 1, 2, 2], rtol=1e-9)
    np.testing.assert_allclose(ratios['rms_ratio'][4:], np.hypot(0.1, 0.3) / 0.1, rtol=0.1)
    # the errors of the pair cancel where the methods agree
    np.testing.assert_allclose(ratios['rms_ratio_err'][:4], 0, atol=1e-9)
    assert np.all(ratios['rms_ratio_err'][4:] > 0.02)


def test_only_galaxies_that_both_measured():
    good = np.full(50, 0.1) * np.tile([1, -1], 25)
    bad = np.concatenate([good[:40], np.full(10, 5.0)])
    missing = np.where(np.arange(50) < 40, good, np.nan)
    comparison = comparison_of({'all': bad, 'easy': missing, 'few': good[:1]}, np.full(50, 10))
    ratios = paired_ratios(comparison, 'all', edges=(5, 20))
    assert list(ratios['n']) == [50, 40, 1]
    # on the easy galaxies both are alike
    assert ratios['rms_ratio'][1] == pytest.approx(1)
    assert np.isnan(ratios['rms_ratio'][2])


def test_bins_are_those_of_the_summary():
    comparison = comparison_of({'a': [0.1, 0.2, 0.3]}, [5, 20, 20])
    assert paired_ratios(comparison, 'a', edges=(5, 20))['n'] == [3]


def test_without_truth():
    comparison = comparison_of({'a': [0.1]}, [10])
    comparison.truth = None
    with pytest.raises(ValueError, match='no truth'):
        paired_ratios(comparison, 'a', edges=(5, 20))


def test_unknown_reference():
    comparison = comparison_of({'a': [0.1]}, [10])
    with pytest.raises(ValueError, match=r"'b' is not one of the methods \['a'\]"):
        paired_ratios(comparison, 'b', edges=(5, 20))
