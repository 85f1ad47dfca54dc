# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The methods of today on the study's images: measurements, statistics, costs, stages."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from astropy import units as u
from astropy.table import QTable

pytest.importorskip('galsim')

from astroflux.estimators.methods import Method
from astroflux.evaluation import ImageModel, ln_flux_bound
from astroflux.evaluation.information import fisher_information, population_prior
from astroflux.networks import load_weights
from astroflux.study import figures, today
from astroflux.study.catalogue import image_model_truth
from astroflux.study.dataset import load_set
from astroflux.study.published import CNN_NAMES
from astroflux.study.results import fit_for_json
from astroflux.study.today import (
    BOUND,
    GOAL_MSE,
    METHODS,
    PARAMETERS,
    StudyPopulation,
    cost_table,
    fine_tune,
    goal_table,
    measure,
    summarize,
)


@pytest.fixture(scope='module')
def galaxies(study_folder):
    return load_set(study_folder, 'test')


@pytest.fixture(scope='module')
def tuned(study_folder, tmp_path_factory):
    path = tmp_path_factory.mktemp('tuned') / 'tuned.safetensors'
    return fine_tune(load_set(study_folder, 'train'), path, n_images=6, epochs=1)


@pytest.fixture(scope='module')
def whole(galaxies, study_settings, tuned, tmp_path_factory):
    """All test images, in one part."""
    return measure(galaxies, study_settings, tuned, tmp_path_factory.mktemp('whole'))


@pytest.fixture
def synthetic():
    """Predictions for many galaxies without images, and their bounds."""
    rng = np.random.default_rng(6)
    n = 600
    actual = np.log10(rng.uniform(1, 30_000, n))
    bound = 0.3 / 10 ** (actual - 1)
    table = pd.DataFrame({'actual': actual})
    for name in METHODS:
        table[name] = actual + rng.normal(0, 0.1, n)
    table['shipped'] = actual + bound / np.log(10) * rng.normal(size=n)
    table.loc[:4, 'kron'] = np.nan
    return table, bound


def write_predictions(context, stage, **columns):
    """Write what an earlier stage leaves, in another order."""
    test = context.test
    table = pd.DataFrame({'img_number': test.table['img_number'], 'actual': test.log_flux})
    folder = context.folder.parent / stage
    folder.mkdir()
    table.assign(**columns)[::-1].to_csv(folder / 'predictions.csv', index=False)


# -- measurements ------------------------------------------------------------------------------


def test_bound_is_that_of_the_evaluation(galaxies, study_settings, whole):
    population = StudyPopulation(study_settings)
    for row in (0, 7):
        truth = image_model_truth(galaxies.table.iloc[row], study_settings)
        model = ImageModel(truth, (143, 143), 0.168)
        bound, snr = whole['bound'][row], whole['snr'][row]
        assert snr == pytest.approx(np.sqrt(np.sum(model.image**2)) / 0.05)
        direct = ln_flux_bound(model, 0.05, sky_error=0, population=population)
        assert bound == pytest.approx(direct, rel=1e-9)
        # between a galaxy of known shape and one of which nothing is known
        known = fisher_information(model.jacobian, 0.05)[0, 0] ** -0.5
        assert known < bound <= ln_flux_bound(model, 0.05, sky_error=0) * (1 + 1e-9)


def test_prior_is_that_of_the_population(study_settings):
    names, covariance = population_prior(StudyPopulation(study_settings), 2)
    variance = dict(zip(names, np.diag(covariance), strict=True))
    assert variance['x'] == pytest.approx(1 / 12, rel=0.05)
    assert variance['bulge_to_total'] == pytest.approx(1 / 12, rel=0.05)
    index = np.log(np.random.default_rng(0).uniform(4, 5, 10_000))
    assert variance['ln_sersic_index_2'] == pytest.approx(index.var(), rel=0.1)
    # the components are aligned
    shears = [names.index('g1_1'), names.index('g1_2')]
    correlated = covariance[shears[0], shears[1]] / np.sqrt(np.prod(np.diag(covariance)[shears]))
    assert 0.4 < correlated < 1


def test_measurements_are_of_their_galaxies(whole, galaxies):
    assert list(whole) == ['img_number', 'kron', 'shipped', 'tuned', 'bound', 'snr']
    assert (whole['img_number'] == galaxies.table['img_number']).all()
    bright = galaxies.flux > 1000
    assert bright.sum() > 5
    for name in ('shipped', 'tuned'):
        assert np.abs(whole[name] - galaxies.log_flux)[bright].max() < 0.06
    found = today.positive_log10([100.0, 0.0, -3.0, np.nan, np.inf])
    np.testing.assert_array_equal(found, [2, *4 * [np.nan]])


def test_processes_give_the_same(whole, galaxies, study_settings, tuned, tmp_path, monkeypatch):
    monkeypatch.setattr(today, 'CHUNK_SIZE', 6)
    table = measure(galaxies, study_settings, tuned, tmp_path, workers=2)
    # batches of another size differ in rounding
    pd.testing.assert_frame_equal(table, whole, rtol=1e-4)


def test_parts_are_kept(whole, galaxies, study_settings, tuned, tmp_path, monkeypatch):
    monkeypatch.setattr(today, 'PART_SIZE', 5)
    original, measured = today.compare_methods, []

    def interrupted(source, *arguments, **options):
        measured.append(source.part.table['img_number'].tolist())
        if len(measured) == 3:
            raise KeyboardInterrupt
        return original(source, *arguments, **options)

    monkeypatch.setattr(today, 'compare_methods', interrupted)
    arguments = galaxies, study_settings, tuned, tmp_path
    with pytest.raises(KeyboardInterrupt):
        measure(*arguments)
    assert len(list(tmp_path.glob('*.csv'))) == 2
    table = measure(*arguments)
    pd.testing.assert_frame_equal(table, whole, rtol=1e-4)
    numbers = galaxies.table['img_number'].tolist()
    assert measured == [numbers[:5], numbers[5:10], numbers[10:], numbers[10:]]
    # and all is there
    pd.testing.assert_frame_equal(measure(*arguments), table)
    assert len(measured) == 4
    with pytest.raises(ValueError, match=r'was begun with data.seed=5, not with data.seed=6'):
        measure(galaxies, replace(study_settings, seed=6), tuned, tmp_path)
    with pytest.raises(ValueError, match=r'was begun with tuned='):
        measure(galaxies, study_settings, 'study-2024', tmp_path)


def test_fine_tuning_is_done_once(study_folder, tuned):
    train = load_set(study_folder, 'train')
    before = tuned.stat().st_mtime_ns
    assert fine_tune(train, tuned, n_images=6, epochs=1) == tuned
    assert tuned.stat().st_mtime_ns == before
    weights = load_weights(tuned)
    assert weights.metadata['n_fitted'] == 6
    assert weights.sha256 != load_weights().sha256
    with pytest.raises(ValueError, match=r'was begun with images=6, fluxes=.* not with images=7'):
        fine_tune(train, tuned, n_images=7, epochs=1)
    with pytest.raises(ValueError, match=r'was begun with epochs=1, not with epochs=2'):
        fine_tune(train, tuned, n_images=6, epochs=2)
    other = replace(train, table=train.table.assign(total_flux=2 * train.table['total_flux']))
    with pytest.raises(ValueError, match=r'was begun with fluxes='):
        fine_tune(other, tuned, n_images=6, epochs=1)


def test_predictions_are_put_in_order_or_refused(study_context):
    actual = study_context.test.log_flux
    with pytest.raises(FileNotFoundError, match="run the stage 'cnn' first"):
        today.today(study_context)
    write_predictions(study_context, 'cnn', **{'cnn-2': actual + 0.1})
    table = today.read_predictions(study_context, 'cnn')
    np.testing.assert_allclose(table['cnn-2'], actual + 0.1)
    write_predictions(study_context, 'other', img_number=np.arange(12) + 500)
    write_predictions(study_context, 'changed', actual=np.zeros(12))
    for name in ('other', 'changed'):
        with pytest.raises(ValueError, match='not of the galaxies of the test set'):
            today.read_predictions(study_context, name)


# -- statistics --------------------------------------------------------------------------------


def test_failures_count_as_wrong():
    error, guess = np.log([1.05, 1.2, 1.5, np.nan]), np.full(4, np.log(10))
    found = today.method_statistics(error, guess, np.full(4, 0.01))
    assert (found['n'], found['n_failed']) == (4, 1)
    assert (found['beyond_10'], found['beyond_30']) == (0.75, 0.5)
    squared = np.log10([1.05, 1.2, 1.5]) ** 2
    assert found['mse_measured'] == pytest.approx(squared.mean())
    assert found['mse'] == pytest.approx((squared.sum() + 1) / 4)
    assert found['bias_percent'] == pytest.approx(20)
    nothing = today.method_statistics(np.full(3, np.nan), guess[:3], np.ones(3))
    assert (nothing['n_failed'], nothing['beyond_30']) == (3, 1.0)
    assert nothing['mse'] == pytest.approx(1)
    assert np.isnan(nothing['mse_measured'])


def test_bound_as_a_method():
    bound = np.array([0.01, 0.05, 0.2, 0.4])
    errors = bound * np.random.default_rng(1).normal(size=(100_000, 4))
    found = today.bound_statistics(bound)
    assert found['mse'] == pytest.approx(np.mean((errors / np.log(10)) ** 2), rel=0.01)
    for name, limit in today.SHARES.items():
        assert found[name] == pytest.approx((np.abs(np.expm1(errors)) > limit).mean(), rel=0.02)
    spread = 1.4826 * np.median(np.abs(errors))
    assert found['scatter_percent'] == pytest.approx(100 * spread, rel=0.02)


def test_bins_sum_to_all(synthetic):
    predictions, bound = synthetic
    table = summarize(predictions, bound, 4.0).set_index('method')
    faint = predictions['actual'].to_numpy() < 3
    bins = summarize(predictions, bound, 4.0, [({}, faint), ({}, ~faint), ({}, faint & ~faint)])
    assert list(table.index) == [*METHODS.values(), BOUND]
    for method, rows in bins.groupby('method'):
        rows = rows[rows['n'] > 0]
        for name in ('n', 'n_failed'):
            assert rows[name].sum() == table[name][method]
        for name in ('mse', 'beyond_10', 'beyond_30'):
            mean = np.average(rows[name], weights=rows['n'])
            assert mean == pytest.approx(table[name][method])
    # errors of the size of the bound
    assert table.loc['shipped network', 'scatter_over_bound'] == pytest.approx(1, abs=0.15)
    assert table.loc[BOUND, 'scatter_over_bound'] == 1
    rows = {row['what']: row for row in today._mse_rows(table.reset_index())}
    assert rows['MSE of log10 flux, study CNN 3']['published'] == 0.0388
    replaced = rows['MSE of log10 flux, Kron, 5 failures replaced']['ours']
    assert replaced == table.loc['Kron', 'mse']


def test_goal(synthetic):
    good, bound = synthetic
    good['shipped'] = good['actual'] + 0.9 * np.sqrt(GOAL_MSE)
    good['tuned'] = good['actual'] + 1.1 * np.sqrt(GOAL_MSE)
    table = goal_table(good, bound, 4.0).set_index(['galaxies', 'method'])
    judged = table.loc['all']
    assert judged.loc['shipped network', 'mse'] == pytest.approx(0.81 * GOAL_MSE)
    assert judged.loc['shipped network', ['mse_met', 'share_met']].tolist() == [True, True]
    assert judged.loc['fine-tuned network', ['mse_met', 'share_met']].tolist() == [False, True]
    assert judged.loc[BOUND, 'mse_over_bound'] == 1
    assert table.loc[('without the faintest 1 %', BOUND), 'n'] == len(good) - 6
    # without them more is possible
    mses = table['mse'].unstack('galaxies').loc[BOUND]
    assert mses['without the faintest 1 %'] < 0.5 * mses['all']
    # one failure of 600 is more than may be beyond 10 %
    good.loc[3, 'shipped'] = np.nan
    table = goal_table(good, bound, 4.0).set_index(['galaxies', 'method'])
    columns = ['n', 'n_failed', 'mse_met', 'share_met']
    assert table.loc[('all', 'shipped network'), columns].tolist() == [600, 1, False, False]
    assert table.loc[('measured', 'shipped network'), columns].tolist() == [599, 0, True, True]


def test_part_of_the_faintest():
    actual = np.linspace(1, 4, 200)
    errors = np.where(np.arange(200) < 2, 0.1, 0.01)
    table = pd.DataFrame({'actual': actual, 'shipped': actual + errors, 'tuned': actual - errors})
    table.loc[0, 'tuned'] = np.nan
    found = today.part_of_the_faintest(table, np.full(200, 0.3), 3.0).set_index('method')
    rest = 198e-4
    assert (found['n'] == 2).all()
    assert found.loc[BOUND, 'part'] == pytest.approx(0.01)
    assert found.loc['shipped network', 'part'] == pytest.approx(0.02 / (0.02 + rest))
    tuned = found.loc['fine-tuned network']
    assert tuned['part'] == pytest.approx(4.01 / (4.01 + rest))
    assert tuned['part_measured'] == pytest.approx(0.01 / (0.01 + rest))
    assert tuned['brightest'] == pytest.approx(10 ** actual[1])


def test_accuracy_by_a_parameter(synthetic):
    predictions, _ = synthetic
    bt = np.random.default_rng(5).uniform(0, 1, 600)
    noise = np.random.default_rng(6).normal(size=600)
    # one whose scatter and bias grow with Bt, and one that does not care
    predictions['kron'] = predictions['actual'] + bt * (0.02 * noise - 0.01)
    predictions['shipped'] = predictions['actual'] + 0.004 * noise
    predictions['bound'] = 0.004 * np.log(10)
    predictions.loc[:2, 'kron'] = np.nan
    summary, bounds = today.accuracy_by(predictions, bt, PARAMETERS[0].edges)
    for method in today.JUDGED:
        assert summary['n'][summary['method'] == method].sum() == 600
    assert bounds['scatter'] == pytest.approx(0.004 * np.log(10))
    kron = summary[summary['method'] == 'kron']
    middle = (np.array(kron['low']) + np.array(kron['high'])) / 2
    assert kron['bias'] == pytest.approx(-0.01 * np.log(10) * middle, abs=0.006)
    assert kron['scatter'][-1] > 4 * kron['scatter'][0]
    assert (kron['n'] * (1 - kron['completeness'])).sum() == pytest.approx(3)
    shipped = summary[summary['method'] == 'shipped']
    assert shipped['scatter_over_bound'] == pytest.approx(1, abs=0.25)


# -- costs -------------------------------------------------------------------------------------


def test_fast_methods_are_measured_again_and_again(monkeypatch):
    monkeypatch.setattr(today, 'FEWEST_TIMED', 10)
    calls = []

    class Numbers:
        """Answers with the cutouts themselves, which are numbers, and counts them."""

        def measure(self, cutouts, *, progress):
            calls.append(len(cutouts))
            return QTable({'flux': np.array(cutouts, float) * u.adu})

    log_flux, seconds = today.measure_timed(Numbers(), [1, 10, -2, 1000])
    assert log_flux == pytest.approx([0, 1, np.nan, 3], nan_ok=True)
    # once to warm up, then three times at least 10, in whole repetitions
    assert calls == [4, 12, 12, 12]
    assert seconds >= 0


def test_fits_have_one_core_and_may_be_missing(galaxies, monkeypatch):
    monkeypatch.setattr(Method, 'is_available', property(lambda self: False))
    seen = []
    monkeypatch.setattr(
        today,
        'measure_timed',
        lambda *arguments: (seen.append(torch.get_num_threads()), (np.ones(1), 1.0))[1],
    )
    log_flux, seconds, missing = today.run_fits(list(galaxies.cutouts([0])))
    assert seen == [1, 1, 1]
    assert list(log_flux) == ['shipped', 'kron']
    assert list(seconds) == ['study', 'shipped', 'kron']
    assert len(missing) == 1
    assert "pip install 'astroflux[compare]'" in missing[0]
    assert cost_table(np.ones(1), log_flux, seconds)['speed_over_fit'].isna().all()


def costs():
    actual = np.array([3.0, 4.0])
    off = {'kron': -0.02, 'shipped': 0.001, 'cnn-1': 0.5, 'cnn-2': 0.2, 'cnn-3': 0.1}
    log_flux = {name: actual + error for name, error in off.items()}
    log_flux['sersic'] = np.array([3.01, np.nan])
    seconds = {'kron': 8e-3, 'shipped': 1e-3, 'study': 5e-4, 'sersic': 2.0}
    return cost_table(actual, log_flux, seconds)


def test_costs():
    table = costs().set_index('method')
    networks = [METHODS[name] for name in (*CNN_NAMES, 'shipped')]
    assert list(table.index) == [*networks, 'Kron', 'Sersic fit']
    assert table['speed_over_fit'].tolist() == pytest.approx([4000, 4000, 4000, 2000, 250, 1])
    assert table['per_second']['Kron'] == pytest.approx(125)
    assert table['mse']['study CNN 3'] == pytest.approx(0.01)
    assert table['median_percent']['Kron'] == pytest.approx(100 * (1 - 10**-0.02))
    fit = table.loc['Sersic fit']
    assert (fit['n'], fit['n_failed']) == (2, 1)
    assert fit['mse'] == pytest.approx(1e-4)
    ax = figures.plot_costs(costs())
    points = {line.get_label(): (line.get_xdata()[0], line.get_ydata()[0]) for line in ax.lines}
    assert points['Kron'] == pytest.approx((125, 100 * (1 - 10**-0.02)))


# -- figures and stages ------------------------------------------------------------------------


def test_figures(synthetic):
    predictions, bound = synthetic
    biased = predictions.assign(sum=predictions['actual'] + 0.3)
    drawn = today._today_figures(biased, bound)
    axes = drawn['today_residuals.png']
    assert [ax.get_title() for ax in axes][:2] == ['Kron (5 failed: x)', 'stamp sum']
    # the failures are drawn
    assert len(axes[0].lines[-1].get_xdata()) == 5
    left, right = drawn['today_scatter.png']
    x, y = left.lines[-1].get_data()
    assert left.lines[-1].get_label() == 'information bound'
    middle = len(x) // 2
    assert y[middle] == pytest.approx(100 * 0.3 / (x[middle] / 10), rel=0.2)
    # a bias counts where the deviations are from the truth
    assert np.nanmax(left.lines[1].get_ydata()) < 1e-6
    expected = 100 * 0.3 * np.log(10) / 0.6745
    assert np.nanmin(right.lines[1].get_ydata()) == pytest.approx(expected, rel=1e-3)
    groups = today.flux_groups(predictions['actual'].to_numpy())
    assert sorted(np.concatenate(groups)) == list(range(600))
    assert min(map(len, groups)) >= 5
    assert today.flux_groups(np.array([1.0, 2.0])) == []


def test_stage_today(study_context, tuned, whole, monkeypatch):
    asked = []
    monkeypatch.setattr(today, 'fine_tune', lambda *_, epochs: asked.append(epochs) or tuned)
    # of a galaxy that is not seen
    whole = whole.assign(bound=whole['bound'].where(whole.index > 0, np.inf))
    monkeypatch.setattr(today, 'measure', lambda *_, **options: whole.copy())
    test, log_flux = study_context.test, study_context.test.log_flux
    offsets = {'cnn-1': np.full(12, 4.0), 'cnn-2': log_flux + 0.1, 'cnn-3': log_flux - 0.05}
    write_predictions(study_context, 'cnn', **offsets)
    result = fit_for_json(today.today(study_context))
    # of the preset
    assert asked == [1]
    predictions = pd.read_csv(study_context.folder / 'predictions.csv')
    assert list(predictions.columns) == ['img_number', 'actual', *METHODS, 'bound', 'snr']
    assert (predictions['img_number'] == test.table['img_number']).all()
    np.testing.assert_allclose(predictions['cnn-3'], log_flux - 0.05)
    np.testing.assert_allclose(predictions['shipped'], whole['shipped'])
    sums = test.images.sum(axis=(1, 2), dtype=float)
    np.testing.assert_allclose(predictions['sum'], np.log10(sums))
    train = study_context.train.log_flux
    assert result['substitute'] == pytest.approx(train.mean())
    assert result['weights']['sha256'] == load_weights().sha256
    methods = {row['method']: row for row in result['methods']}
    assert methods['study CNN 2']['mse'] == pytest.approx(0.01)
    assert methods['study CNN 1']['mse'] == pytest.approx(np.mean((log_flux - 4) ** 2))
    limited = (whole['bound'] ** -2 + (np.log(10) * train.std()) ** -2) ** -0.5
    assert limited[0] == np.log(10) * train.std()
    assert methods[BOUND]['mse'] == pytest.approx(np.mean((limited / np.log(10)) ** 2))
    for name in ('today_by_flux.csv', 'today_by_snr.csv'):
        rows = pd.read_csv(study_context.folder / name)
        assert (rows.groupby('method')['n'].sum() == len(test)).all()


def test_stage_accuracy(study_context, monkeypatch):
    pytest.importorskip('pyimfit')
    monkeypatch.setattr(today, 'FEWEST_TIMED', 4)
    test = study_context.test
    # the last bin is as wide as it must be
    test.table.loc[3, 'R_e'] = 3.461
    columns = {'kron': test.log_flux - 0.03, 'shipped': test.log_flux, 'bound': 0.001}
    columns |= dict.fromkeys(CNN_NAMES, test.log_flux + 0.25)
    columns['kron'][0] = np.nan
    write_predictions(study_context, 'today', **columns)
    result = fit_for_json(today.accuracy(study_context))
    for name in ('accuracy_bt.csv', 'accuracy_r_e.csv'):
        rows = pd.read_csv(study_context.folder / name)
        assert (rows.groupby('method')['n'].sum() == len(test)).all()
        measured = (rows['n'] * rows['completeness']).groupby(rows['method']).sum()
        assert measured['Kron'] == pytest.approx(len(test) - 1)
        np.testing.assert_allclose(rows['bound'].dropna(), 0.001)
        assert rows['high'].max() == (1.0 if name == 'accuracy_bt.csv' else 3.5)
    fits = pd.read_csv(study_context.folder / 'accuracy_fits.csv')
    assert fits['img_number'].tolist() == [test.table['img_number'][0]]
    assert fits['bulge-disc'][0] == pytest.approx(test.log_flux[0], abs=0.1)
    assert fits['cnn-1'][0] == pytest.approx(test.log_flux[0] + 0.25)
    by_method = {row['method']: row for row in result['costs']}
    assert by_method['bulge + disc fit']['speed_over_fit'] == 1
    assert by_method['study CNN 1']['speed_over_fit'] > 50
    assert by_method['shipped network']['per_second'] > by_method['Sersic fit']['per_second']
