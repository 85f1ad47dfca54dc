# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What the page of the study says is held against the numbers of the run that it shows."""

import importlib.util
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from astroflux.study.published import PUBLISHED_LOSSES
from astroflux.study.results import read_study
from astroflux.study.run import STAGE_NAMES

DOCS = Path(__file__).parents[2] / 'docs'
PAGE = (DOCS / 'study.rst').read_text(encoding='utf-8')
PROSE = ' '.join(PAGE.split())
STUDY = read_study(DOCS / 'study')

DATA, EXPLORATION, LINEAR, LOGISTIC, FOREST = (STUDY['stages'][name] for name in STAGE_NAMES[:5])
CNN, EXPLANATIONS, JOINED, COMPONENTS, TODAY, ACCURACY = (
    STUDY['stages'][name] for name in STAGE_NAMES[5:]
)

# Of log10 of a flux that is spread evenly from zero, whose kurtosis is 9.
FLAT = 1 / np.log(10) ** 2
N_TRAIN, N_TEST = 30_000, 10_000
TRAIN_ERROR, TEST_ERROR = (FLAT * np.sqrt(8 / n) for n in (N_TRAIN, N_TEST))


def by(name, rows):
    return pd.DataFrame(rows).set_index(name)


def read(name):
    return pd.read_csv(DOCS / 'study' / name)


def near(values, others, within):
    return np.all(abs(np.divide(values, others) - 1) < within)


def is_chance(accuracy, found):
    return abs(accuracy - found['chance']['chance']) < 2 * found['chance']['error']


def correlations(pair):
    """Correlations of both sets, in standard errors."""
    found = EXPLORED.filter(like=f'correlation of {pair},').astype(float)
    return abs(found.to_numpy()) * np.sqrt([N_TRAIN, N_TEST])


EXPLORED = by('what', EXPLORATION['rows'])['ours']
RADII = by('published', DATA['radii'])
RADII = abs(RADII.div(RADII.index, axis=0) - 1).median()
MODELS, REGRESSOR = by('model', LINEAR['models']), FOREST['regressor']
INFORMATION = read('linear/linear_information.csv')

PUBLISHED = pd.DataFrame(PUBLISHED_LOSSES, index=['train', 'test']).T
TRAINED, VARIANCE = by('name', CNN['trainings']), CNN['variance']
TEST, ON, OFF = (
    TRAINED[f'{key}'] for key in ('test_loss', 'train_loss_dropout_on', 'train_loss_dropout_off')
)
SAMPLES, PRINTED = (
    {name: read(f'cnn/samples-{name}{end}.csv') for name in PUBLISHED_LOSSES}
    for end in ('', '-published')
)
OFFSETS, PRINTED_OFFSETS = (
    [samples[name].difference.mean() for name in ('cnn-2', 'cnn-3')]
    for samples in (SAMPLES, PRINTED)
)
FAINT_FIRST = PRINTED['cnn-3'].sort_values('actual').difference ** 2

*FIRST, SCALED = EXPLANATIONS['first_seeds']
FIRST = by('seed', FIRST)
LEARNED, CONSTANT = (FIRST.test_loss[FIRST.constant == constant] for constant in (False, True))
THIRD, OTHER_THIRD = (row['test_loss'] for row in EXPLANATIONS['third_seeds'])
LEAST, _, MOST = EXPLANATIONS['second']['seeds'].values()
VARIED = EXPLANATIONS['second']['variants']

BT, R_E = (read(f'accuracy/accuracy_{name}.csv') for name in ('bt', 'r_e'))
BY_BT, BY_R_E = (table.pivot(index='method', columns='low').scatter for table in (BT, R_E))
STUDIED = [f'study CNN {number}' for number in (1, 2, 3)]
COSTS = by('method', ACCURACY['costs'])
FITS, SHIPPED_COST = COSTS.loc[['Sersic fit', 'bulge + disc fit']], COSTS.loc['shipped network']
FACTORS = read('components/components_factors.csv').set_index('column')
STRONG = {name: {*FACTORS.index[abs(FACTORS[name]) > 0.4]} for name in ('F1', 'F2', 'F3')}
FLUX = read('components/components_flux.csv').groupby('decomposition').last()
GAINS = pd.DataFrame(JOINED['gains']).T

METHODS = by('method', TODAY['methods'])
SHIPPED, TUNED = METHODS.loc['shipped network'], METHODS.loc['fine-tuned network']
OTHERS = METHODS.loc[['Kron', 'stamp sum', *STUDIED]]
GOAL = by(['galaxies', 'method'], TODAY['goal'])
LIMIT = GOAL.xs('information bound', level='method').loc[['all', 'measured']]
BRIGHTER = GOAL.loc['without the faintest 1 %']
BRIGHT, BRIGHT_TUNED, BRIGHT_LIMIT = (
    BRIGHTER.loc[name] for name in ('shipped network', 'fine-tuned network', 'information bound')
)

# Words of the page -> whether what they say is so.
CLAIMS = {
    'the best with an rms error of 0.2 dex': f'{PUBLISHED.test.min() ** 0.5:.1f}' == '0.2',
    # 3.1 to 3.3
    'all checks of the columns pass': all(check['passed'] for check in DATA['checks']),
    'geometric means of the semi-axes': RADII.idxmin() == 'circle, geometric means',
    'the closest, within half a percent in the median': RADII.min() < 0.005,
    'left-skewed, as published': EXPLORED.filter(like='skewness').between(-2.2, -1.8).all(),
    'within four standard errors of zero, in both sets': (
        max(*correlations('Bt and total_flux'), *correlations('R_e and total_flux')) < 4
    ),
    'more bulge is a smaller ``R_e``': min(correlations('Bt and R_e')) > 20,
    # 3.4 to 3.6
    'no model of the table can do better than chance': (
        np.all(abs(MODELS.r2) < 0.01) and near(MODELS.mse, LINEAR['variance'], 0.01)
    ),
    'when they learn from shuffled fluxes': (
        MODELS.eval('shuffled_r2_low < r2 < shuffled_r2_high and r2_p_value > 0.05').all()
    ),
    'more mutual information': INFORMATION.eval('information <= shuffled_largest').all(),
    '0.1886 for fluxes spread evenly': f'{FLAT:.4f}' == '0.1886',
    'a standard deviation of 0.0053 in a set of 10,000': f'{TEST_ERROR:.4f}' == '0.0053',
    'two standard deviations below': -2.2 < (0.17889 - FLAT) / TEST_ERROR < -1.8,
    'the less accurate one, and so do ours': MODELS.mse.idxmax() == 'all columns',
    'It cannot: the accuracy': is_chance(LOGISTIC['chance']['accuracy'], LOGISTIC),
    'The published 34 % is chance as well': is_chance(0.34, LOGISTIC) and is_chance(0.34, FOREST),
    'predicted most often is high here': pd.Series(LOGISTIC['predicted_shares']).idxmax() == 'high',
    'The classifier is right in': is_chance(FOREST['chance']['accuracy'], FOREST),
    'It predicts high most often': pd.Series(FOREST['predicted_shares']).idxmax() == 'high',
    'is worse than the mean': REGRESSOR['r2'] < 0,
    'is expected of predictions': abs(REGRESSOR['r2'] - REGRESSOR['expected_r2']) < 0.005,
    'correlation with the truth': abs(REGRESSOR['correlation']) < REGRESSOR['correlation_error'],
    # 4 and 5
    'end with train losses close to the published ones': (
        near(TRAINED['train_loss'], PUBLISHED.train, 0.15) and not TRAINED['n_failed'].any()
    ),
    'and with test losses below them': np.all(PUBLISHED.test > TEST),
    'best one, in the report': TEST.idxmin() == PUBLISHED.test.idxmin() == CNN['best'] == 'cnn-3',
    'makes 86 % of the squared error': (round(FAINT_FIRST.iloc[0] / FAINT_FIRST.sum(), 2) == 0.86),
    '0.177 dex in the mean, against 0.203 dex': [*np.round(PRINTED_OFFSETS, 3)] == [0.177, 0.203],
    'by a factor of more than two': OFFSETS[0] > 2 * OFFSETS[1],
    'Within 0.3 dex are nearly all our test images': np.all(TRAINED.within_wide[1:] > 0.99),
    'Nine of the ten published predictions': (PRINTED['cnn-1'].predicted == 4.026822).sum() == 9,
    'from 2.47 to 4.44': [*PRINTED['cnn-1'].actual.agg(['min', 'max']).round(2)] == [2.47, 4.44],
    'predicted a constant, nearly. Ours did not.': TRAINED.constant_share['cnn-1'] < 0.01,
    'Ours is too low on all ten of them': SAMPLES['cnn-2'].eval('predicted < actual').sum() == 10,
    # 6
    "published test loss, 0.1781, is a constant's": near(PUBLISHED.test['cnn-1'], VARIANCE, 0.11),
    'end in a constant prediction too': len(FIRST) >= 5 and [*CONSTANT.index] == [4, 5],
    'with the variance for their loss': near(CONSTANT, VARIANCE, 0.01),
    'the others learn': np.all(LEARNED < VARIANCE / 3),
    'the first seed, which learns from raw pixels, ends in a constant': (
        SCALED['constant'] and not FIRST.constant[SCALED['seed']]
    ),
    'the seed may explain it': 1 < PUBLISHED.test['cnn-3'] / OTHER_THIRD < OTHER_THIRD / THIRD,
    'with three seeds, it ends between': [*EXPLANATIONS['second']['seeds']] == ['2', '3', '4'],
    'which is a larger factor': PUBLISHED.test['cnn-2'] / TEST['cnn-2'] < MOST / LEAST,
    "each ends between the seeds' losses": (
        [*VARIED] == [f'second-{name}' for name in ('scaled', 'asinh', 'noisy', 'batch')]
        and all(LEAST < loss < MOST for loss in VARIED.values())
    ),
    "two sets' variances apart": near(0.1844 - 0.1781, np.hypot(TRAIN_ERROR, TEST_ERROR), 0.1),
    'In ours it is the dropout': np.all(ON > 4 * OFF),
    'but for a few percent. The other two are alike': near(OFF, TEST, 0.07),
    # the abstract
    'Kron fluxes grows with the bulge-to-total ratio': BY_BT.loc['Kron'].is_monotonic_increasing,
    'where there is least bulge': not BY_BT.loc[STUDIED[:2]].idxmax(axis=1).any(),
    'where galaxies are smallest': not BY_R_E.loc[STUDIED].idxmax(axis=1).any(),
    'The shipped network stays below 1 % in every bin': (
        max(*BY_BT.loc['shipped network'], *BY_R_E.loc['shipped network']) < 0.01
    ),
    'the closest to the bound in all': {*BY_BT.idxmin(), *BY_R_E.idxmin()} == {'shipped network'},
    'the bound is at 0.1 % or below': max(*BT.bound, *R_E.bound) < 0.00105,
    'is above that of both': COSTS.mse['study CNN 3'] > FITS.mse.max(),
    'The shipped network is as fast': COSTS.per_second.idxmax() == 'shipped network',
    'and more accurate than either': (
        SHIPPED_COST[['mse', 'median_percent']] < FITS[['mse', 'median_percent']].min()
    ).all(),
    # future work
    'two follow from others': COMPONENTS['n_columns'] - COMPONENTS['n_free'] == 2,
    'leave out ``Bt`` and ``flux_frac_b``': {'Bt', 'flux_frac_b'}.isdisjoint(FACTORS.index),
    'is the radius of the disc (``R_e_d``, and with it ``R_e``)': STRONG['F1'] == {'R_e_d', 'R_e'},
    'the second the position angle of both components': STRONG['F2'] == {'PA_d', 'PA_b'},
    'the radius of the bulge (``R_e_b``, and again ``R_e``)': STRONG['F3'] == {'R_e_b', 'R_e'},
    'None of them predicts the flux': np.all(abs(FLUX.r2) < 0.01),
    'which is what shuffled fluxes give': np.all(FLUX.p_value > 0.05),
    'with three seeds each': {len(losses) for losses in JOINED['losses'].values()} == {3},
    'or all 14 but the flux': len(JOINED['columns']['image, all columns']) == 14,
    'No gain is shown': GAINS.eval('factor < 1 < high and p_value > 0.05').all(),
    # today
    'times less than the 0.0388 of the best network of the report': (
        SHIPPED.n == N_TEST and SHIPPED.mse_measured < PUBLISHED.test['cnn-3'] / 400
    ),
    'It is better than Kron fluxes, than the sum of the stamp and than the networks': (
        SHIPPED[['mse_measured', 'scatter_percent']]
        < OTHERS[['mse_measured', 'scatter_percent']].min()
    ).all(),
    'halves the scatter, nearly': TUNED.scatter_percent < 0.6 * SHIPPED.scatter_percent,
    'and takes the bias away': abs(TUNED.bias_percent) < 0.1 * abs(SHIPPED.bias_percent),
    'by the two networks of today': [*METHODS.n_failed[METHODS.n_failed > 0]] == [6, 2, 2, 2],
    'that the shipped network measures': LIMIT.eval('mse > 2e-5 and beyond_10 > 0.001').all(),
    'Without these galaxies the bound allows it': BRIGHT_LIMIT.mse_met and BRIGHT_LIMIT.share_met,
    'The shipped network then meets the share': BRIGHT.share_met and not BRIGHT.n_failed,
    'and falls short of the MSE': 2e-5 < BRIGHT.mse < 3.5e-5 and BRIGHT.n == 9900,
    'the fine-tuned one meets both': BRIGHT_TUNED.mse_met and BRIGHT_TUNED.share_met,
}


@pytest.mark.parametrize('claim', CLAIMS)
def test_claim(claim):
    assert claim in PROSE
    assert CLAIMS[claim]


def test_run_is_the_full_one_with_the_weights_named():
    assert STUDY['settings']['preset'] == 'full'
    assert STUDY['settings']['data'].items() >= {'n_train': N_TRAIN, 'n_test': N_TEST}.items()
    assert tuple(STUDY['stages']) == STAGE_NAMES
    assert ':study:`today.weights.name`' in PROSE
    assert ':study:`today.weights.sha256 .12`' in PROSE


def test_every_table_and_figure_is_on_the_page():
    files = [path.relative_to(DOCS).as_posix() for path in (DOCS / 'study').glob('*/*')]
    named = [
        f'study/{stage}/{name}'
        for stage, found in STUDY['stages'].items()
        for name in (*found['tables'], *found['figures'])
    ]
    assert sorted(named) == sorted(files)
    for file in files:
        assert len(re.findall(rf'\b{re.escape(file)}\b', PAGE)) == 1, file


def test_numbers_of_the_page():
    pytest.importorskip('sphinx')
    spec = importlib.util.spec_from_file_location('study_page', DOCS / '_ext' / 'study_page.py')
    extension = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(extension)
    texts = re.findall(r':study:`([^`]+)`', PAGE)
    assert len(texts) > 100
    for text in texts:
        assert extension.number_text(STUDY, text)
    assert extension.number_text(STUDY, 'linear.variance .4f') == f'{LINEAR["variance"]:.4f}'
    ratio = 'cnn.trainings.cnn-3.test_loss / cnn.variance .1%'
    percent = f'{100 * TEST["cnn-3"] / VARIANCE:.1f} %'
    assert extension.number_text(STUDY, ratio) == percent
    with pytest.raises(LookupError):
        extension.number_text(STUDY, 'linear.no_such_number')
