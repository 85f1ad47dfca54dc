# Licensed under a 3-clause BSD style license - see LICENSE.rst
import json

import numpy as np
import pandas as pd
import pytest
from astropy import units as u
from astropy.table import QTable

pytest.importorskip('galsim')

from astroflux.estimators.methods import Method
from astroflux.study import accuracy_cost
from astroflux.study.accuracy import PARAMETERS, accuracy, accuracy_by, parameter_edges
from astroflux.study.accuracy_cost import cost_table, measure_timed, one_core
from astroflux.study.accuracy_plots import cost_figure
from astroflux.study.accuracy_remarks import binned_remark, cost_remarks
from astroflux.study.predictions import CNN_NAMES


class FakeEstimator:
    """Answers with the cutouts themselves, which are numbers, and counts them."""

    def __init__(self):
        self.calls = []

    def measure(self, cutouts, *, progress=None):
        self.calls.append(len(cutouts))
        return QTable({'flux': np.array(cutouts, float) * u.adu})


@pytest.fixture
def predictions():
    rng = np.random.default_rng(5)
    n = 500
    table = pd.DataFrame({'actual': rng.uniform(1, 4.5, n), 'Bt': rng.uniform(0, 1, n)})
    for name in CNN_NAMES:
        table[name] = table['actual'] + rng.normal(0, 0.1, n)
    # one whose scatter and bias grow with Bt, and one that does not care
    error = table['Bt'] * (0.02 * rng.normal(size=n) - 0.01)
    table['kron'] = table['actual'] + error
    table['shipped'] = table['actual'] + 0.004 * rng.normal(size=n)
    table['bound'] = 0.004 * np.log(10)
    return table


def write_predictions(context):
    test = context.test
    table = pd.DataFrame({'img_number': test.table['img_number'], 'actual': test.log_flux})
    for name, error in zip(('kron', *CNN_NAMES, 'shipped'), (-0.03, 0.5, 0.2, 0.1, 0), strict=True):
        table[name] = test.log_flux + error * np.linspace(0.5, 1.5, len(table))
    table['bound'] = 0.001
    table.loc[0, 'kron'] = np.nan
    folder = context.folder.parent / 'today'
    folder.mkdir()
    table.to_csv(folder / 'predictions.csv', index=False)


def test_bins_of_the_parameters_hold_all_galaxies(study_context):
    wider = parameter_edges(PARAMETERS['R_e'], np.array([0.11, 3.461]))
    assert wider.edges == (0.0, 0.3, 0.6, 1.0, 1.5, 2.0, 3.5)
    assert parameter_edges(PARAMETERS['Bt'], np.array([0.5])).edges == PARAMETERS['Bt'].edges


def test_accuracy_by_a_parameter(predictions):
    predictions.loc[:2, 'kron'] = np.nan
    parameter = PARAMETERS['Bt']
    bound = predictions['bound'].to_numpy()
    summary, bounds = accuracy_by(predictions, bound, predictions['Bt'], parameter)
    for method in ('kron', *CNN_NAMES, 'shipped'):
        assert summary['n'][summary['method'] == method].sum() == len(predictions)
    assert bounds['n'].sum() == len(predictions)
    assert bounds['scatter'] == pytest.approx(0.004 * np.log(10))
    kron = summary[summary['method'] == 'kron']
    middle = (np.array(kron['low']) + np.array(kron['high'])) / 2
    assert kron['bias'] == pytest.approx(-0.01 * np.log(10) * middle, abs=0.006)
    assert kron['scatter'][-1] > 4 * kron['scatter'][0]
    n_failed = kron['n'] * (1 - kron['completeness'])
    assert n_failed.sum() == pytest.approx(3)
    shipped = summary[summary['method'] == 'shipped']
    assert shipped['scatter_over_bound'] == pytest.approx(1, abs=0.25)

    told = binned_remark(summary, bounds, parameter)
    assert 'At the bound 0.92 to 0.92 %' in told
    parts = {part.split(' ')[0]: part for part in told.split(': ')[1].split('; ')}
    assert 'at 0-0.2 to' in parts['Kron']
    assert 'not beyond its errors' not in parts['Kron']
    assert 'not beyond its errors' in parts['shipped']


def test_fast_methods_are_measured_again_and_again(monkeypatch):
    monkeypatch.setattr(accuracy_cost, 'FEWEST_TIMED', 10)
    estimator = FakeEstimator()
    log_flux, seconds = measure_timed(estimator, [1, 10, -2, 1000], is_slow=False)
    assert log_flux == pytest.approx([0, 1, np.nan, 3], nan_ok=True)
    # once to warm up, then three times at least 10, in whole repetitions
    assert estimator.calls == [4, 12, 12, 12]
    assert seconds >= 0


def test_slow_methods_are_measured_once():
    estimator = FakeEstimator()
    log_flux, _ = measure_timed(estimator, [10, 100], is_slow=True)
    assert log_flux == pytest.approx([1, 2])
    assert estimator.calls == [2]


def test_one_core_for_a_while():
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with one_core():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def costs(*, sersic=(3.01, np.nan)):
    actual = np.array([3.0, 4.0])
    log_flux = {
        'kron': actual - 0.02,
        'shipped': actual + 0.001,
        'cnn-1': actual + 0.5,
        'cnn-2': actual + 0.2,
        'cnn-3': actual + 0.1,
        'sersic': np.array(sersic),
    }
    return cost_table(
        actual, log_flux, {'kron': 8e-3, 'shipped': 1e-3, 'study': 5e-4, 'sersic': 2.0}
    )


def test_costs():
    table = costs().set_index('method')
    assert list(table.index) == [
        'study CNN 1',
        'study CNN 2',
        'study CNN 3',
        'shipped network',
        'Kron',
        'Sersic fit',
    ]
    assert table['speed_over_fit'].tolist() == pytest.approx([4000, 4000, 4000, 2000, 250, 1])
    assert table['per_second']['Kron'] == pytest.approx(125)
    assert table['mse']['study CNN 3'] == pytest.approx(0.01)
    assert table['median_percent']['Kron'] == pytest.approx(100 * (1 - 10**-0.02))
    fit = table.loc['Sersic fit']
    assert (fit['n'], fit['n_failed']) == (2, 1)
    assert fit['mse'] == pytest.approx(1e-4)


def test_remarks_on_costs_follow_the_numbers():
    table = costs(sersic=(3.01, 3.99))
    told = [*cost_remarks(table, ['pyimfit: pip install it'], 'cnn-3')]
    assert any('pyimfit: pip install it' in remark for remark in told)
    (study,) = (remark for remark in told if remark.startswith('The study CNN 3'))
    assert '4,000 times as fast as the Sersic fit' in study
    assert 'less accurate on these 2' in study
    (shipped,) = (remark for remark in told if remark.startswith('The shipped network'))
    assert 'more accurate on these 2' in shipped
    # the best one is chosen elsewhere
    assert any('The study CNN 1' in remark for remark in cost_remarks(table, [], 'cnn-1'))


def test_errors_of_different_galaxies_do_not_compare():
    told = [*cost_remarks(costs(), [], 'cnn-3')]
    (shipped,) = (remark for remark in told if remark.startswith('The shipped network'))
    assert 'do not compare' in shipped
    assert '1 of 2 by the Sersic fit' in shipped
    assert not any('accurate' in remark for remark in told)


def test_figure_of_costs():
    (ax,) = cost_figure(costs()).axes
    points = {line.get_label(): (line.get_xdata()[0], line.get_ydata()[0]) for line in ax.lines}
    assert points['Kron'] == pytest.approx((125, 100 * (1 - 10**-0.02)))


def test_stage(study_context, monkeypatch):
    pytest.importorskip('pyimfit')
    monkeypatch.setattr(accuracy_cost, 'FEWEST_TIMED', 4)
    write_predictions(study_context)
    result = accuracy(study_context)
    json.dumps(result, allow_nan=False)
    folder, test = study_context.folder, study_context.test
    for name in ('accuracy_bt.csv', 'accuracy_r_e.csv'):
        rows = pd.read_csv(folder / name)
        assert (rows.groupby('method')['n'].sum() == len(test)).all()
        measured = (rows['n'] * rows['completeness']).groupby(rows['method']).sum()
        assert measured['Kron'] == pytest.approx(len(test) - 1)
        assert rows['bound'].dropna().to_numpy() == pytest.approx(0.001)
    fits = pd.read_csv(folder / 'accuracy_fits.csv')
    assert fits['img_number'].tolist() == [test.table['img_number'][0]]
    assert fits['bulge-disc'][0] == pytest.approx(test.log_flux[0], abs=0.1)
    assert fits['cnn-1'][0] == pytest.approx(test.log_flux[0] + 0.25)
    by_method = {row['method']: row for row in result['costs']}
    assert by_method['bulge + disc fit']['speed_over_fit'] == 1
    assert by_method['study CNN 1']['speed_over_fit'] > 50
    assert by_method['shipped network']['per_second'] > by_method['Sersic fit']['per_second']
    for name in (*result['tables'], *result['figures']):
        assert (folder / name).stat().st_size > 0


def test_stage_without_the_program_for_fits(study_context, monkeypatch):
    monkeypatch.setattr(accuracy_cost, 'FEWEST_TIMED', 4)
    monkeypatch.setattr(Method, 'is_available', property(lambda self: False))
    write_predictions(study_context)
    result = accuracy(study_context)
    json.dumps(result, allow_nan=False)
    assert sum("pip install 'astroflux[compare]'" in remark for remark in result['remarks']) == 1
    assert not any('fit' in row['method'] for row in result['costs'])
    assert all(row['speed_over_fit'] is None for row in result['costs'])
