# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The stages of the networks: numbers beside the published ones, and sentences that follow them."""

import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from astroflux.networks import load_weights
from astroflux.study import cnn_plan, cnn_remarks, explanation_remarks, joined
from astroflux.study.cnn_published import (
    PUBLISHED_LOSSES,
    PUBLISHED_PREDICTED,
    published_samples,
)
from astroflux.study.stages import load_stages

STAGES = ('cnn', 'explanations', 'joined')
NAMES = ('cnn-1', 'cnn-2', 'cnn-3')


@pytest.fixture(scope='module')
def results(tmp_path_factory, study_folder):
    """What the three stages return, and the folder of each."""
    from astroflux.study.context import Context, Preset

    run = tmp_path_factory.mktemp('run')
    preset = Preset(30, 12, max_epochs=1, n_seeds=3, n_joined_seeds=2)
    context = Context(preset, study_folder, run, workers=1, progress=False)
    sets = {'train': context.train, 'test': context.test}
    found = {}
    for stage in STAGES:
        (run / stage).mkdir()
        own = replace(context, folder=run / stage)
        vars(own).update(sets)
        found[stage] = load_stages()[stage](own)
    return run, sets, found


@pytest.mark.parametrize('stage', STAGES)
def test_result_of_a_stage(results, stage):
    run, _, found = results
    result = found[stage]
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    for row in result['rows']:
        assert set(row) == {'what', 'published', 'ours'}
        assert row['ours'] is not None
    assert all(isinstance(text, str) and text.endswith('.') for text in result['remarks'])
    for kind, suffix in (('tables', '.csv'), ('figures', '.png')):
        assert result[kind]
        for name in result[kind]:
            assert name.endswith(suffix)
            assert (run / stage / name).stat().st_size > 50


# -- item by item ------------------------------------------------------------------------------


def test_published_numbers_stand_beside_ours(results):
    rows = {row['what']: row for row in results[2]['cnn']['rows']}
    for name, losses in PUBLISHED_LOSSES.items():
        for kind, published in zip(('train', 'test'), losses, strict=True):
            (row,) = (
                row
                for what, row in rows.items()
                if what.startswith(name.replace('cnn-', 'CNN ')) and what.endswith(f'{kind} loss')
            )
            assert row['published'] == published
            assert row['ours'] > 0


def test_published_samples_are_consistent():
    # the differences that the report prints
    assert published_samples('cnn-1')[6]['difference'] == pytest.approx(1.560576, abs=2e-6)
    assert published_samples('cnn-2')[3]['difference'] == pytest.approx(0.074515, abs=2e-6)
    assert published_samples('cnn-3')[9]['difference'] == pytest.approx(0.138513, abs=2e-6)
    for name in NAMES:
        samples = published_samples(name)
        assert len(samples) == 10
        for row in samples:
            assert row['difference'] == pytest.approx(
                abs(row['predicted'] - row['actual']), abs=1.5e-6
            )


def test_predictions_are_shared(results):
    run, sets, found = results
    test = sets['test']
    table = pd.read_csv(run / 'cnn' / 'predictions.csv')
    assert list(table.columns) == ['img_number', 'actual', *NAMES]
    np.testing.assert_array_equal(table['img_number'], test.table['img_number'])
    np.testing.assert_allclose(table['actual'], test.log_flux)
    for row in found['cnn']['trainings']:
        loss = np.mean((table[row['name']] - table['actual']) ** 2)
        assert row['test_loss'] == pytest.approx(loss, rel=1e-5)


def test_best_network_is_there(results):
    run, _, found = results
    losses = {row['name']: row['test_loss'] for row in found['cnn']['trainings']}
    best = found['cnn']['best']
    assert losses[best] == min(losses.values())
    network = load_weights(run / 'cnn' / best / 'weights.safetensors').network
    assert network.n_parameters == found['cnn']['n_parameters'] == 1_884_465


def test_samples_are_the_same_images(results):
    _, sets, found = results
    samples = found['cnn']['samples']
    files = [[row['file_name'] for row in samples[name]] for name in NAMES]
    assert files[0] == files[1] == files[2]
    assert len(set(files[0])) == 10
    truth = dict(zip(sets['test'].table['file_name'], sets['test'].log_flux, strict=True))
    for name in NAMES:
        for row in samples[name]:
            assert row['actual'] == pytest.approx(truth[row['file_name']])
            assert row['difference'] == pytest.approx(abs(row['predicted'] - row['actual']))


def test_tables_and_figures_of_each_network(results):
    found = results[2]['cnn']
    for name in NAMES:
        assert f'differences-{name}.png' in found['figures']
        assert {f'samples-{name}.csv', f'samples-{name}-published.csv'} <= set(found['tables'])


def test_smaller_run_says_so(results):
    for stage in ('cnn', 'explanations'):
        remarks = results[2][stage]['remarks']
        assert 'trained on 30 galaxies, the report on 30,000' in remarks[0]
        assert 'epochs of CNN 1 1 of 7' in remarks[1]


def test_explanations_are_trained(results):
    found = results[2]['explanations']
    assert [row['seed'] for row in found['first_seeds']] == [1, 2, 3, 1]
    assert [row['seed'] for row in found['third_seeds']] == [3, 4]
    assert list(found['second']['seeds']) == ['2', '3']
    assert list(found['second']['variants']) == [
        *('second-scaled', 'second-asinh', 'second-noisy', 'second-batch')
    ]
    # each is something else
    losses = [*found['second']['seeds'].values(), *found['second']['variants'].values()]
    assert len(set(losses)) == len(losses)
    assert [row['name'] for row in found['dropout']] == list(NAMES)


def test_settings_of_the_variants(results):
    run = results[0]
    settings = {
        name: load_weights(run / 'explanations' / name / 'weights.safetensors').network.settings
        for name in ('first-scaled', 'second-scaled', 'second-asinh', 'second-noisy')
    }
    assert settings['first-scaled']['scale'] == settings['second-scaled']['scale'] == 100
    assert settings['second-asinh']['stretch'] == 'asinh'
    assert settings['second-asinh']['scale'] == pytest.approx(0.05)
    assert settings['second-noisy']['scale'] == 1


def test_joined_networks_see_the_columns(results):
    run, sets, found = results
    columns = found['joined']['columns']
    assert columns['image, R_e, Bt'] == ['R_e', 'Bt']
    everything = columns['image, all columns']
    assert {'sersic_idx_d', 'PA_b', 'R_e', 'Bt'} <= set(everything)
    assert not {'total_flux', 'log_total_flux', 'file_name'} & set(everything)
    network = load_weights(run / 'joined' / 'all-columns-seed-2' / 'weights.safetensors').network
    mean = sets['train'].table[everything].mean()
    np.testing.assert_allclose(network.column_mean, mean, rtol=1e-5, atol=1e-5)
    # twins of the same seeds
    assert {len(losses) for losses in found['joined']['losses'].values()} == {2}
    table = pd.read_csv(run / 'joined' / 'joined.csv')
    assert table.groupby('input')['seed'].apply(list).tolist() == [[2, 3]] * 3


def test_twins_are_not_trained_twice(results):
    """The first epochs of the third network are those of the second one with its seed."""
    run, _, found = results
    assert not (run / 'joined' / 'second-seed-3').exists()
    third = pd.read_csv(run / 'cnn' / 'cnn-3' / 'history.csv')
    assert found['joined']['losses']['image only'][1] == pytest.approx(third['test_loss'][0])


def test_plan_of_the_full_study(study_context):
    from astroflux.study.context import PRESETS

    context = replace(study_context, preset=PRESETS['full'])
    first, scaled = cnn_plan.first_trainings(context)
    assert len(first) == 5
    assert {c.epochs for c in first.values()} == {7}
    assert {(c.learning_rate, c.scale) for c in scaled.values()} == {(0.01, 100)}
    twins = cnn_plan.image_only_trainings(context)
    assert [c.seed for c in twins.values()] == [2, 3, 4]
    assert {c.learning_rate for c in twins.values()} == {0.001}
    together = cnn_plan.joined_trainings(context, 'a', ['R_e'])
    assert [c.seed for c in together.values()] == [2, 3, 4]
    more = replace(context, preset=replace(PRESETS['full'], n_joined_seeds=4))
    assert [c.name for c in cnn_plan.image_only_trainings(more).values()][-1] == 'second-seed-5'


# -- sentences ---------------------------------------------------------------------------------


def test_constant_predictions():
    # equal to the digits that the report prints
    assert cnn_remarks.constant_share([4.0268221, 4.0268223, 4.0268222, 4.2]) == 0.75
    assert cnn_remarks.constant_share(PUBLISHED_PREDICTED['cnn-1']) == 0.9
    assert cnn_remarks.is_constant(PUBLISHED_PREDICTED['cnn-1'])
    assert not cnn_remarks.is_constant(PUBLISHED_PREDICTED['cnn-2'])
    assert cnn_remarks.is_constant([np.nan] * 4)


def test_judged_predictions():
    actual = np.linspace(2, 4, 20)
    predicted = actual + 0.05
    predicted[0] += 0.45
    predicted[19] = np.nan
    numbers = cnn_remarks.judge_predictions(actual, predicted)
    assert numbers['n_failed'] == 1
    assert numbers['within_narrow'] == 18 / 20
    assert numbers['within_wide'] == 18 / 20
    assert numbers['bias'] == pytest.approx(0.05)
    assert numbers['median_difference'] == pytest.approx(0.05)
    # two of the nineteen are in the faintest tenth
    assert numbers['faint_share'] == pytest.approx((0.25 + 0.0025) / (0.25 + 18 * 0.0025))


@pytest.mark.parametrize(
    ('ours', 'text'),
    [
        (0.0489, 'about the published 0.0489'),
        (0.04, 'about the published 0.0489'),
        (0.0978, 'a factor of 2.0 above the published 0.0489'),
        (0.0163, 'a factor of 3.0 below the published 0.0489'),
        (math.nan, 'not a number, while the published one is 0.0489'),
    ],
)
def test_comparison(ours, text):
    assert cnn_remarks.comparison_text(ours, 0.0489) == text
    remark = cnn_remarks.loss_remark('cnn-2', ours, 0.18, 0.2)
    assert text in remark
    assert 'one and the same' not in remark
    assert '93.0 % of its answers' in cnn_remarks.loss_remark('cnn-2', ours, 0.18, 0.93)


def seed_row(loss, constant):
    return {'test_loss': loss, 'constant': constant, 'median_prediction': 4.04}


@pytest.mark.parametrize(
    ('constant', 'scaled', 'texts'),
    [
        ((True, True), False, ('2 of 2 end', 'any of these seeds', 'scaling helps it.')),
        ((True, False), False, ('1 of 2 end', 'depends on the seed', 'helps it, or chance does')),
        ((False, True), True, ('1 of 2 end', 'scaling prevents it, or chance does')),
        ((True, True), True, ('2 of 2 end', 'scaling does not change whether it learns')),
        ((False, False), False, ('0 of 2 end', 'none of these seeds gives', 'does not change')),
        ((False, False), True, ('0 of 2 end', 'scaling prevents it.')),
    ],
)
def test_first_remark(constant, scaled, texts):
    rows = [seed_row(0.18 if flat else 0.03, flat) for flat in constant]
    text = explanation_remarks.first_remark(rows, seed_row(0.05, scaled), 0.18, 100)
    assert '9 are the same number, 4.026822' in text
    assert 'divided by 100 ADU' in text
    for part in texts:
        assert part in text
    assert ('with the variance for its loss' in text) == any(constant)


@pytest.mark.parametrize('loss', [0.1, 0.3])
def test_constant_that_is_not_the_best(loss):
    rows = [seed_row(loss, True)]
    text = explanation_remarks.first_remark(rows, seed_row(0.05, False), 0.18, 100)
    assert 'with the variance for its loss' not in text


@pytest.mark.parametrize(
    ('losses', 'text'),
    [
        ((0.03, 0.05), 'The published 0.0388 is between the two'),
        ((0.02, 0.03), 'less than what the seed changes'),
        ((0.01, 0.011), 'more than what the seed changes'),
        ((0.01, math.nan), 'one diverged'),
    ],
)
def test_third_remark(losses, text):
    rows = [seed_row(loss, False) for loss in losses]
    assert text in explanation_remarks.third_remark(rows)


@pytest.mark.parametrize(
    ('loss', 'text'),
    [
        (0.01, 'lower, by a factor of 2.00'),
        (0.025, 'no more than the seed changes'),
        (0.09, 'higher, by a factor of 3.00'),
        (math.nan, 'it diverged'),
    ],
)
@pytest.mark.parametrize('name', ['second-scaled', 'second-asinh', 'second-noisy', 'second-batch'])
def test_variant_remark(loss, text, name):
    remark = explanation_remarks.variant_remark(
        name, loss, [0.02, 0.03], 5, scale=100, noise_factor=10, batch_size=16
    )
    assert text in remark
    assert '0.02, 0.03 with the images as they are and 2 seeds' in remark


class Second:
    """A training of which only the losses matter."""

    def __init__(self, losses):
        self.history = pd.DataFrame({'test_loss': losses})


def second_remark(final, seeds=(0.04, 0.04), **variants):
    names = ('second-scaled', 'second-asinh', 'second-noisy', 'second-batch')
    return explanation_remarks.second_remark(
        Second([0.08, 0.04, final]), seeds, {k: variants.get(k[7:], 0.04) for k in names}, 5
    )


def test_second_remark():
    # published: 0.0489
    text = second_remark(0.0163, noisy=0.13, batch=0.01)
    assert 'a factor of 3.0 below' in text
    assert 'in that direction: the noise.' in text
    assert 'the last 3 test losses are 0.08, 0.04, 0.0163' in text
    assert 'a factor of 4.91' in text
    assert 'none of scaling, noise, batch size and seed' in second_remark(0.0163, noisy=0.1)
    # the other way about
    assert 'direction: the input scaling and the batch size.' in second_remark(
        0.0978, asinh=0.019, batch=0.01, noisy=0.13
    )
    assert 'direction' not in second_remark(0.05)
    assert second_remark(math.nan).endswith('It diverged.')
    # a seed that diverged hides nothing
    text = second_remark(0.0163, seeds=(0.04, math.nan), noisy=0.13)
    assert 'in that direction: the noise.' in text
    assert 'Of the 2 seeds 1 diverged.' in text


def sample_remark(within, n_test):
    rows = {'difference': [0.1, 0.3]}
    samples = {name: pd.DataFrame(rows) for name in ('cnn-2', 'cnn-3')}
    numbers = {n: {'within_wide': w} for n, w in zip(('cnn-2', 'cnn-3'), within, strict=True)}
    return cnn_remarks.sample_remark(samples, numbers, n_test)


@pytest.mark.parametrize(
    ('within', 'n_test', 'text'),
    [
        ((0.9, 0.8), 10_000, 'by which CNN 2 is the better one.'),
        ((0.8, 0.9), 10_000, 'by which CNN 3 is the better one.'),
        ((0.9, 0.8), 20, 'by which the two are alike.'),
    ],
)
def test_sample_remark(within, n_test, text):
    remark = sample_remark(within, n_test)
    assert text in remark
    # what the report judges by, and the mean of its ten differences
    assert 'within 0.3 dex' in remark
    assert '0.177 and 0.203 dex; of ours 0.200 and 0.200 dex' in remark


def test_tail_remark():
    remark = cnn_remarks.tail_remark({'cnn-2': {'faint_share': 0.1}, 'cnn-3': {'faint_share': 0.5}})
    assert 'makes 10 % of CNN 2, 50 % of CNN 3 of the test loss' in remark
    assert '(63863.fits) makes 86 %' in remark


def test_share_of_equal_predictions_is_compared_where_it_says_something(results):
    rows = [row['what'] for row in results[2]['cnn']['rows'] if 'equal predictions' in row['what']]
    assert any(what.startswith('CNN 1') for what in rows)


def dropout_row(train, on, off, test):
    names = ('train_loss', 'train_loss_dropout_on', 'train_loss_dropout_off', 'test_loss')
    return {'name': 'cnn-2', **dict(zip(names, (train, on, off, test), strict=True))}


def test_dropout_remark():
    explained = dropout_row(0.08, 0.079, 0.05, 0.049)
    not_explained = dropout_row(0.08, 0.079, 0.078, 0.049)
    lower = dropout_row(0.04, 0.04, 0.03, 0.05)
    text = explanation_remarks.dropout_remark([explained, lower])
    assert 'is the larger one (1 of 2)' in text
    assert 'it is the dropout' in text
    # 0.0063 and 0.1886 sqrt(8 / 30000 + 8 / 10000)
    assert '1.0 standard deviations' in text
    text = explanation_remarks.dropout_remark([explained, not_explained])
    assert 'In 1 of the 2 networks' in text
    assert 'it is the dropout' not in text
    assert 'No train loss of ours is above' in explanation_remarks.dropout_remark([lower])


def test_gain():
    gain = joined.gain_of([0.040, 0.042, 0.041], [0.020, 0.021, 0.0205])
    assert gain['factor'] == pytest.approx(2)
    assert gain['low'] < 2 < gain['high']
    assert gain['p_value'] < 0.001
    remark = joined._gain_remark('image, R_e, Bt', gain, 3)
    assert remark.startswith('Image, R_e, Bt: the test loss is lower by a factor of 2.00')
    assert remark.endswith(': a gain.')
    chance = joined.gain_of([0.03, 0.06, 0.045], [0.035, 0.05, 0.04])
    assert chance['p_value'] > 0.3
    assert 'no gain is shown' in joined._gain_remark('a', chance, 3)
    worse = joined.gain_of([0.020, 0.021, 0.0205], [0.040, 0.042, 0.041])
    assert joined._gain_remark('a', worse, 3).endswith('a loss, not a gain.')


def test_gain_that_cannot_be_judged():
    single = joined.gain_of([0.04], [0.02])
    assert single['factor'] == pytest.approx(2)
    assert math.isnan(single['p_value'])
    assert 'One seed cannot tell' in joined._gain_remark('a', single, 1)
    diverged = joined.gain_of([0.04, math.nan], [0.02, 0.03])
    assert 'A training diverged' in joined._gain_remark('a', diverged, 2)
