# Licensed under a 3-clause BSD style license - see LICENSE.rst
import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

pytest.importorskip('galsim')

from astroflux.evaluation.information import (
    ImageModel,
    fisher_information,
    ln_flux_bound,
    population_prior,
)
from astroflux.networks import load_weights
from astroflux.study import today as stage
from astroflux.study import today_parts
from astroflux.study.dataset import image_model_truth
from astroflux.study.loader import load_set
from astroflux.study.predictions import CNN_NAMES, read_predictions
from astroflux.study.today_bound import StudyPopulation, galaxy_bound, limit_bound
from astroflux.study.today_goal import GOAL_MSE, goal_table, part_of_the_faintest
from astroflux.study.today_parts import (
    MEASURED,
    fine_tune,
    measure_in_parts,
    positive_log10,
)
from astroflux.study.today_plots import flux_groups, residuals_figure, scatter_figure
from astroflux.study.today_remarks import comparison_rows, remarks
from astroflux.study.today_tables import (
    BOUND,
    METHODS,
    SNR_EDGES,
    bound_statistics,
    method_statistics,
    summarise,
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
    folder = tmp_path_factory.mktemp('whole') / 'parts'
    return measure_in_parts(galaxies, folder, study_settings, tuned)


@pytest.fixture
def synthetic():
    """Predictions for many galaxies without images."""
    rng = np.random.default_rng(6)
    n = 600
    actual = np.log10(rng.uniform(1, 30_000, n))
    bound = 0.3 / 10 ** (actual - 1)
    columns = {name: actual + rng.normal(0, 0.1, n) for name in METHODS}
    columns['shipped'] = actual + bound / np.log(10) * rng.normal(size=n)
    predictions = pd.DataFrame({'img_number': np.arange(n), 'actual': actual, **columns})
    predictions['snr'] = 1.5 / bound
    predictions.loc[:4, 'kron'] = np.nan
    return predictions, bound


def write_cnn_predictions(context, **changes):
    """Write what the stage of the networks leaves, in another order."""
    actual = context.test.log_flux
    table = pd.DataFrame(
        {
            'img_number': context.test.table['img_number'],
            'actual': actual,
            'cnn-1': np.full(len(actual), 4.0),
            'cnn-2': actual + 0.1,
            'cnn-3': actual - 0.05,
        }
    ).assign(**changes)
    folder = context.folder.parent / 'cnn'
    folder.mkdir()
    table[::-1].to_csv(folder / 'predictions.csv', index=False)


def test_positive_log10():
    found = positive_log10([100.0, 0.0, -3.0, np.nan, np.inf])
    assert found[0] == 2
    assert np.isnan(found[1:]).all()


def test_bound_is_that_of_the_evaluation(galaxies, study_settings, whole):
    population = StudyPopulation(study_settings)
    for row in (0, 7):
        truth = image_model_truth(galaxies.table.iloc[row], study_settings)
        model = ImageModel(truth, (143, 143), 0.168)
        bound, snr = galaxy_bound(
            galaxies.table.iloc[row].to_dict(),
            study_settings,
            shape=(143, 143),
            noise=0.05,
            population=population,
        )
        assert snr == pytest.approx(np.sqrt(np.sum(model.image**2)) / 0.05)
        direct = ln_flux_bound(model, 0.05, sky_error=0, population=population)
        assert bound == pytest.approx(direct, rel=1e-9)
        # between a galaxy of known shape and one of which nothing is known
        known = fisher_information(model.jacobian, 0.05)[0, 0] ** -0.5
        assert known < bound <= ln_flux_bound(model, 0.05, sky_error=0) * (1 + 1e-9)
        assert whole['bound'][row] == pytest.approx(direct, rel=1e-9)
        assert whole['snr'][row] == pytest.approx(snr, rel=1e-9)


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


def test_limit_of_a_bound():
    assert limit_bound([np.inf, 1e-4], 1.0) == pytest.approx([1.0, 1e-4])
    assert limit_bound([1.0], 1.0) == pytest.approx(np.sqrt(0.5))


def test_measurements_are_of_their_galaxies(whole, galaxies):
    assert tuple(whole.columns) == MEASURED
    assert (whole['img_number'] == galaxies.table['img_number']).all()
    bright = galaxies.flux > 1000
    assert bright.sum() > 5
    for name in ('sum', 'shipped', 'tuned'):
        assert np.abs(whole[name] - galaxies.log_flux)[bright].max() < 0.06
    assert whole['sum'].to_numpy() == pytest.approx(
        np.log10(galaxies.images.sum(axis=(1, 2), dtype=float))
    )


def test_parts_keep_the_order_and_are_resumed(
    whole, galaxies, study_settings, tuned, tmp_path, monkeypatch
):
    folder = tmp_path / 'parts'
    options = {'part_size': 5}
    measured = []
    original = today_parts.measure_part

    def record(part, *arguments):
        measured.append(part.table['img_number'].tolist())
        return original(part, *arguments)

    monkeypatch.setattr(today_parts, 'measure_part', record)
    table = measure_in_parts(galaxies, folder, study_settings, tuned, **options)
    numbers = galaxies.table['img_number'].tolist()
    assert measured == [numbers[:5], numbers[5:10], numbers[10:]]
    # batches of another size differ in rounding
    pd.testing.assert_frame_equal(table, whole, rtol=1e-4)

    # one part is lost, one torn, and nothing of the others
    paths = sorted(folder.glob('*.csv'))
    assert len(paths) == 3
    paths[0].unlink()
    paths[2].write_text(paths[2].read_text()[:150])
    kept = paths[1].stat().st_mtime_ns
    measured.clear()
    again = measure_in_parts(galaxies, folder, study_settings, tuned, **options)
    assert measured == [numbers[:5], numbers[10:]]
    assert paths[1].stat().st_mtime_ns == kept
    pd.testing.assert_frame_equal(again, table, rtol=1e-9)

    # parts that have changed places are not of these galaxies
    texts = [path.read_text() for path in paths]
    paths[0].write_text(texts[1])
    measured.clear()
    again = measure_in_parts(galaxies, folder, study_settings, tuned, **options)
    assert measured == [numbers[:5]]
    pd.testing.assert_frame_equal(again, table, rtol=1e-9)

    # and all is there
    measured.clear()
    measure_in_parts(galaxies, folder, study_settings, tuned, **options)
    assert measured == []


def test_several_processes_give_the_same(whole, galaxies, study_settings, tuned, tmp_path):
    table = measure_in_parts(
        galaxies, tmp_path / 'parts', study_settings, tuned, workers=2, part_size=4
    )
    pd.testing.assert_frame_equal(table, whole, rtol=1e-4)
    assert len(list((tmp_path / 'parts').glob('*.csv'))) == 3


def test_parts_of_something_else_are_refused(galaxies, study_settings, tuned, tmp_path):
    folder = tmp_path / 'parts'
    folder.mkdir()
    begun = {
        'data': {'seed': -1},
        'shipped': load_weights().sha256,
        'tuned': load_weights(tuned).sha256,
        'part_size': 5,
    }
    (folder / 'settings.json').write_text(json.dumps(begun))
    with pytest.raises(ValueError, match=r"data \{'seed': -1\}, not .*'seed': 5.*remove it"):
        measure_in_parts(galaxies, folder, study_settings, tuned, part_size=5)
    begun['data'] = vars(study_settings)
    begun['tuned'] = 'f00'
    (folder / 'settings.json').write_text(json.dumps(begun))
    with pytest.raises(ValueError, match="was begun with tuned 'f00', not"):
        measure_in_parts(galaxies, folder, study_settings, tuned, part_size=5)


def test_fine_tuning_is_done_once(study_folder, tuned):
    train = load_set(study_folder, 'train')
    before = tuned.stat().st_mtime_ns
    assert fine_tune(train, tuned, n_images=6, epochs=1) == tuned
    assert tuned.stat().st_mtime_ns == before
    weights = load_weights(tuned)
    assert weights.metadata['n_fitted'] == 6
    assert weights.sha256 != load_weights().sha256
    with pytest.raises(ValueError, match=r'trained with images 6, not 7, fluxes .*remove it'):
        fine_tune(train, tuned, n_images=7, epochs=1)
    with pytest.raises(ValueError, match=r'trained with epochs 1, not 2: remove it'):
        fine_tune(train, tuned, n_images=6, epochs=2)
    other = replace(train, table=train.table.assign(total_flux=2 * train.table['total_flux']))
    with pytest.raises(ValueError, match=r'trained with fluxes '):
        fine_tune(other, tuned, n_images=6, epochs=1)


def test_interrupted_parts_are_kept(whole, galaxies, study_settings, tuned, tmp_path, monkeypatch):
    folder = tmp_path / 'parts'
    original = today_parts.measure_part

    def fail_at_the_third(part, *arguments):
        if part.table['img_number'].iloc[0] == galaxies.table['img_number'].iloc[10]:
            raise KeyboardInterrupt
        return original(part, *arguments)

    monkeypatch.setattr(today_parts, 'measure_part', fail_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        measure_in_parts(galaxies, folder, study_settings, tuned, part_size=5)
    assert len(list(folder.glob('*.csv'))) == 2
    monkeypatch.setattr(today_parts, 'measure_part', original)
    table = measure_in_parts(galaxies, folder, study_settings, tuned, part_size=5)
    pd.testing.assert_frame_equal(table, whole, rtol=1e-4)


def test_predictions_are_put_in_order(study_context):
    write_cnn_predictions(study_context)
    table = read_predictions(study_context, 'cnn', CNN_NAMES)
    assert list(table.columns) == list(CNN_NAMES)
    assert table['cnn-2'].to_numpy() == pytest.approx(study_context.test.log_flux + 0.1)


def test_predictions_that_are_not_there(study_context):
    with pytest.raises(FileNotFoundError, match="run the stage 'cnn' first"):
        read_predictions(study_context, 'cnn', CNN_NAMES)
    with pytest.raises(FileNotFoundError, match="run the stage 'cnn' first"):
        stage.today(study_context)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'img_number': np.arange(12) + 500}, 'not of the galaxies of the test set'),
        ({'actual': np.zeros(12)}, r'has the true log flux 0\.000000 for image \d+'),
    ],
)
def test_predictions_of_others(study_context, changes, message):
    write_cnn_predictions(study_context, **changes)
    with pytest.raises(ValueError, match=message):
        read_predictions(study_context, 'cnn', CNN_NAMES)


def test_predictions_lack_a_column(study_context):
    write_cnn_predictions(study_context)
    with pytest.raises(ValueError, match='has no column joined'):
        read_predictions(study_context, 'cnn', ['joined'])


def test_failures_count_as_wrong():
    actual = np.array([2.0, 3.0, 4.0, 4.0])
    predicted = actual + np.log10([1.05, 1.2, 1.5, np.nan])
    found = method_statistics(actual, predicted, np.full(4, 0.01), substitute=3.0)
    assert (found['n'], found['n_failed']) == (4, 1)
    assert found['beyond_10'] == 0.75
    assert found['beyond_30'] == 0.5
    squared = np.log10([1.05, 1.2, 1.5]) ** 2
    assert found['mse_measured'] == pytest.approx(squared.mean())
    assert found['mse'] == pytest.approx((squared.sum() + 1) / 4)
    assert found['bias_percent'] == pytest.approx(20)


def test_a_method_without_any_measurement():
    found = method_statistics(np.ones(3), np.full(3, np.nan), np.ones(3), substitute=2.0)
    assert (found['n_failed'], found['mse'], found['beyond_30']) == (3, 1.0, 1.0)
    assert np.isnan(found['mse_measured'])


def test_bound_as_a_method():
    rng = np.random.default_rng(1)
    bound = np.array([0.01, 0.05, 0.2, 0.4])
    errors = bound * rng.normal(size=(100_000, 4))
    found = bound_statistics(bound)
    assert found['mse'] == pytest.approx(np.mean((errors / np.log(10)) ** 2), rel=0.01)
    for name, limit in (('beyond_10', 0.1), ('beyond_30', 0.3)):
        beyond = np.abs(np.expm1(errors)) > limit
        assert found[name] == pytest.approx(beyond.mean(), rel=0.02)
    spread = 1.4826 * np.median(np.abs(errors))
    assert found['scatter_percent'] == pytest.approx(100 * spread, rel=0.02)


def test_bins_sum_to_all(synthetic):
    predictions, bound = synthetic
    options = {'substitute': 4.0, 'n_bootstrap': 10}
    table = summarise(predictions, bound, **options).set_index('method')
    bins = summarise(predictions, bound, by=predictions['snr'], edges=SNR_EDGES, **options)
    assert list(table.index) == [*METHODS.values(), BOUND]
    for method, rows in bins.groupby('method'):
        rows = rows[rows['n'] > 0]
        whole = table.loc[method]
        assert rows['n'].sum() == len(predictions)
        assert rows['n_failed'].sum() == whole['n_failed']
        for name in ('mse', 'beyond_10', 'beyond_30'):
            mean = np.average(rows[name], weights=rows['n'])
            assert mean == pytest.approx(whole[name])
    assert table.loc['Kron', 'n_failed'] == 5
    # errors of the size of the bound
    assert table.loc['shipped network', 'scatter_over_bound'] == pytest.approx(1, abs=0.15)
    assert table.loc[BOUND, 'scatter_over_bound'] == 1


def test_goal(synthetic):
    predictions, bound = synthetic
    good = predictions.copy()
    good['shipped'] = good['actual'] + 0.9 * np.sqrt(GOAL_MSE)
    good['tuned'] = good['actual'] + 1.1 * np.sqrt(GOAL_MSE)
    table = goal_table(good, bound, substitute=4.0).set_index(['galaxies', 'method'])
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
    table = goal_table(good, bound, substitute=4.0).set_index(['galaxies', 'method'])
    row = table.loc[('all', 'shipped network')]
    assert (row['n_failed'], row['mse_met'], row['share_met']) == (1, False, False)
    row = table.loc[('measured', 'shipped network')]
    assert (row['n'], row['n_failed'], row['mse_met'], row['share_met']) == (599, 0, True, True)


def test_part_of_the_faintest():
    n = 200
    actual = np.linspace(1, 4, n)
    errors = np.full(n, 0.01)
    errors[:2] = 0.1
    predictions = pd.DataFrame(
        {'actual': actual, 'shipped': actual + errors, 'tuned': actual - errors}
    )
    predictions.loc[0, 'tuned'] = np.nan
    table = part_of_the_faintest(predictions, np.full(n, 0.3), substitute=3.0).set_index('method')
    assert (table['n'] == 2).all()
    assert table.loc[BOUND, 'part'] == pytest.approx(0.01)
    assert table.loc['shipped network', 'part'] == pytest.approx(0.02 / (0.02 + 198e-4))
    tuned = table.loc['fine-tuned network']
    assert tuned['part'] == pytest.approx(4.01 / (4.01 + 198e-4))
    assert tuned['part_measured'] == pytest.approx(0.01 / (0.01 + 198e-4))
    assert tuned['brightest'] == pytest.approx(10 ** actual[1])


def test_remarks_follow_the_numbers(synthetic):
    predictions, bound = synthetic
    options = {'substitute': 4.0}
    table = summarise(predictions, bound, n_bootstrap=10, **options)
    told = [
        *remarks(
            table,
            goal_table(predictions, bound, **options),
            part_of_the_faintest(predictions, bound, **options),
            **options,
        )
    ]
    assert any('5 measurements failed (Kron 5)' in remark for remark in told)
    assert any('times less' in remark for remark in told)
    worse = table.assign(mse_measured=0.1)
    told = [
        *remarks(
            worse,
            goal_table(predictions, bound, **options),
            part_of_the_faintest(predictions, bound, **options),
            **options,
        )
    ]
    assert any('2.6 times more than the 0.0388' in remark for remark in told)
    rows = {row['what']: row for row in comparison_rows(table)}
    assert rows['MSE of log10 flux, study CNN 3']['published'] == 0.0388
    assert rows['MSE of log10 flux, Kron, 5 failures replaced']['ours'] == pytest.approx(
        table.set_index('method').loc['Kron', 'mse']
    )


def test_groups_of_flux_hold_all_galaxies_once():
    actual = np.log10(np.random.default_rng(2).uniform(0.04, 30_000, 500))
    groups = flux_groups(actual)
    assert sorted(np.concatenate(groups)) == list(range(500))
    assert min(map(len, groups)) >= 5
    assert flux_groups(np.array([1.0, 2.0])) == []


def test_figures(synthetic):
    predictions, bound = synthetic
    panels = residuals_figure(predictions).axes
    assert [ax.get_title() for ax in panels][:2] == ['Kron (5 failed: x)', 'stamp sum']
    # the failures are drawn
    assert len(panels[0].lines[-1].get_xdata()) == 5
    left, right = scatter_figure(predictions, bound).axes
    line = left.lines[-1]
    assert line.get_label() == 'information bound'
    x, y = line.get_xdata(), line.get_ydata()
    middle = len(x) // 2
    assert y[middle] == pytest.approx(100 * 0.3 / (x[middle] / 10), rel=0.2)
    # a bias counts where the deviations are from the truth
    biased = predictions.assign(kron=predictions['actual'] + 0.3)
    left, right = scatter_figure(biased, bound).axes
    assert np.nanmax(left.lines[0].get_ydata()) < 1e-6
    assert np.nanmin(right.lines[0].get_ydata()) == pytest.approx(
        100 * 0.3 * np.log(10) / 0.6745, rel=1e-3
    )


def test_stage(study_context, tuned, whole, monkeypatch):
    monkeypatch.setattr(stage, 'fine_tune', lambda *arguments, **options: tuned)
    monkeypatch.setattr(stage, 'measure_in_parts', lambda *arguments, **options: whole)
    write_cnn_predictions(study_context)
    result = stage.today(study_context)
    json.dumps(result, allow_nan=False)
    folder, test = study_context.folder, study_context.test
    predictions = pd.read_csv(folder / 'predictions.csv')
    assert list(predictions.columns) == ['img_number', 'actual', *METHODS, 'bound', 'snr']
    assert (predictions['img_number'] == test.table['img_number']).all()
    assert predictions['cnn-3'].to_numpy() == pytest.approx(test.log_flux - 0.05)
    assert predictions['shipped'].to_numpy() == pytest.approx(
        whole['shipped'].to_numpy(), nan_ok=True
    )
    assert result['substitute'] == pytest.approx(study_context.train.log_flux.mean())
    methods = {row['method']: row for row in result['methods']}
    assert methods['study CNN 2']['mse'] == pytest.approx(0.01)
    assert methods['study CNN 1']['mse'] == pytest.approx(np.mean((test.log_flux - 4) ** 2))
    limited = limit_bound(whole['bound'], np.log(10) * study_context.train.log_flux.std())
    assert methods[BOUND]['mse'] == pytest.approx(np.mean((limited / np.log(10)) ** 2))
    for name in ('today_by_flux.csv', 'today_by_snr.csv'):
        rows = pd.read_csv(folder / name)
        assert (rows.groupby('method')['n'].sum() == len(test)).all()
    for name in (*result['tables'], *result['figures']):
        assert (folder / name).stat().st_size > 0


def test_training_is_cut_to_the_epochs_of_the_preset(study_context, monkeypatch, tuned):
    asked = []

    def record(train, path, *, n_images, epochs):
        asked.append((len(train), n_images, epochs))
        return tuned

    monkeypatch.setattr(stage, 'fine_tune', record)
    monkeypatch.setattr(stage, 'measure_in_parts', lambda *arguments, **options: None)
    stage._measure(study_context)
    preset = replace(study_context.preset, max_epochs=None)
    stage._measure(SimpleNamespace(**{**context_items(study_context), 'preset': preset}))
    assert asked == [(30, 2000, 1), (30, 2000, 20)]


def context_items(context):
    names = ('data', 'folder', 'workers', 'progress', 'train', 'test')
    return {name: getattr(context, name) for name in names}
