# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The networks of the study: the report's three, what explains their losses, and joined ones."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.stats import gmean, ttest_ind

from astroflux.simulation import get_survey
from astroflux.study import figures
from astroflux.study.catalogue import FEATURES
from astroflux.study.published import CNN_NAMES, PUBLISHED_LOSSES, published_samples
from astroflux.study.results import comparison_row, write_outputs, write_table
from astroflux.study.trainings import CNNConfiguration, train_all

__all__ = ['CNN_NAMES', 'CONFIGURATIONS', 'cnn', 'explanations', 'joined', 'plan_trainings']

# The three trainings of the report. With the same seed the third would begin as the second.
CONFIGURATIONS = FIRST, SECOND, THIRD = (
    CNNConfiguration('cnn-1', 0.01, 7, seed=1),
    CNNConfiguration('cnn-2', 0.001, 10, seed=2),
    CNNConfiguration('cnn-3', 0.001, 15, seed=3),
)
OTHER_THIRD = replace(THIRD, name='third-seed-4', seed=4)

# The second configuration is varied for fewer epochs than its ten: there are many variants. The
# scale, in ADU, is of the order of the brightest pixels of a typical galaxy of the set.
SHORT = replace(SECOND, epochs=5)
SCALED = 'image / 100 ADU'
VARIANTS = {
    'second-scaled': (SCALED, {'scale': 100.0}),
    'second-asinh': ('asinh(image / noise)', {'stretch': 'asinh', 'scale': get_survey().noise}),
    'second-noisy': ('10 times the noise', {'noise_factor': 10.0}),
    'second-batch': ('batches of 16', {'batch_size': 16}),
}

# What networks see beside the image: name of their trainings, and columns of the table.
IMAGE_ONLY = 'image only'
JOINED = {
    'image, R_e, Bt': ('radius-ratio', ('R_e', 'Bt')),
    'image, all columns': ('all-columns', tuple(FEATURES)),
}

SEED_COLUMNS = [
    *('seed', 'epochs', 'train_loss', 'test_loss'),
    *('constant_share', 'constant', 'median_prediction'),
]
DROPOUT_COLUMNS = [
    *('name', 'published_train_loss', 'published_test_loss', 'train_loss'),
    *('train_loss_dropout_on', 'train_loss_dropout_off', 'test_loss'),
]

# The report prints six decimals.
DECIMALS = 6


def plan_trainings(preset):
    """
    Return the configurations of all trainings, in groups by what they show.

    A training may be in several groups. Epochs are cut to the preset's ``max_epochs``.
    """
    seeds = range(SECOND.seed, SECOND.seed + preset.n_joined_seeds)
    # The third configuration differs from the second one in the number of epochs alone, and the
    # rate does not change on the way, so that its first epochs serve as well.
    twins = {one.seed: one for one in (SECOND, THIRD, OTHER_THIRD)}
    plan = {
        'published': CONFIGURATIONS,
        'first': [FIRST, *(_again(FIRST, 'first', 1 + k) for k in range(1, preset.n_seeds))],
        'first scaled': [replace(FIRST, name='first-scaled', scale=100.0)],
        'third': [THIRD, OTHER_THIRD],
        'second': [replace(SHORT, name=name, **changes) for name, (_, changes) in VARIANTS.items()],
        IMAGE_ONLY: [twins.get(seed) or _again(SHORT, 'second', seed) for seed in seeds],
    }
    for what, (name, columns) in JOINED.items():
        plan[what] = [_again(SHORT, name, seed, columns=columns) for seed in seeds]
    limit = preset.max_epochs or math.inf
    return {
        what: [replace(one, epochs=min(one.epochs, limit)) for one in group]
        for what, group in plan.items()
    }


def _again(configuration, name, seed, **changes):
    return replace(configuration, name=f'{name}-seed-{seed}', seed=seed, **changes)


def _train(context, *groups):
    """Return the networks of some groups, of which several may hold the same ones."""
    plan = plan_trainings(context.preset)
    wanted = {one.name: one for group in groups for one in plan[group]}
    trained = train_all(context, wanted.values())
    return {group: [trained[one.name] for one in plan[group]] for group in groups}


def describe(trained, actual):
    """Return a table of all numbers of trainings, in the order of ``losses.csv``."""
    rows = []
    for one in trained:
        settings, summary, name = one.settings, one.summary, one.settings['name']
        label, rate = name.replace('cnn-', 'CNN '), settings['learning_rate']
        published = PUBLISHED_LOSSES.get(name, (None, None))
        judged = judge_predictions(actual, one.predictions)
        row = {
            'name': name,
            'title': f'{label}: rate {rate:g}, {settings["epochs"]} epochs',
            **{key: settings[key] for key in ('learning_rate', 'epochs', 'seed', 'batch_size')},
            'published_train_loss': published[0],
            'train_loss': one.history['train_loss'].iloc[-1],
            'published_test_loss': published[1],
            'test_loss': summary['test_loss'],
            'train_loss_dropout_on': summary['train_loss_dropout_on'],
            'train_loss_dropout_off': summary['train_loss_dropout_off'],
            **judged,
            'seconds': summary['seconds'],
            'constant': judged['constant_share'] > 0.5,
            'median_prediction': float(np.median(one.predictions)),
        }
        rows.append(row)
    return pd.DataFrame(rows)


def judge_predictions(actual, predicted):
    """Return numbers on predictions of log10 fluxes; those that failed count as wrong."""
    error = np.asarray(predicted, float) - actual
    good = np.isfinite(error)
    away = np.where(good, np.abs(error), np.inf)
    squares = error[good] ** 2
    # what the faintest tenth contributes to the squared error
    faint = np.asarray(actual)[good] <= np.quantile(actual, 0.1)
    total = squares.sum()
    return {
        'n_failed': int((~good).sum()),
        'constant_share': constant_share(predicted),
        'median_difference': float(np.median(away)),
        'within_narrow': float(np.mean(away < 0.1)),
        'within_wide': float(np.mean(away < 0.3)),
        'bias': float(np.median(error[good])) if good.any() else math.nan,
        'faint_share': float(squares[faint].sum() / total) if total > 0 else math.nan,
    }


def constant_share(predictions):
    """Return the share of predictions that are, as printed, equal to the most frequent one."""
    counts = pd.Series(np.round(predictions, DECIMALS)).value_counts(dropna=False)
    return float(counts.iloc[0] / counts.sum())


def cnn(context):
    """Train the three networks of the report."""
    table, actual = context.test.table, context.test.log_flux
    trained = _train(context, 'published')['published']
    losses = describe(trained, actual).drop(columns=['constant', 'median_prediction'])
    variance = float(np.var(actual))
    answers = {one.settings['name']: one.predictions for one in trained}
    predictions = table[['img_number', 'file_name']].assign(actual=actual, **answers)
    write_table(predictions.drop(columns='file_name'), context.folder / 'predictions.csv')
    samples = _draw_samples(predictions)
    tables = {'losses.csv': losses}
    for name, table in samples.items():
        tables[f'samples-{name}.csv'] = table.round(DECIMALS)
        tables[f'samples-{name}-published.csv'] = published_samples(name)
    rows = losses.to_dict('records')
    best = min(rows, key=lambda row: np.nan_to_num(row['test_loss'], nan=np.inf))
    return {
        'rows': [*_cnn_rows(rows, variance)],
        'trainings': rows,
        'variance': variance,
        'best': best['name'],
        'n_parameters': trained[0].network.n_parameters,
        'samples': {name: table.to_dict('records') for name, table in samples.items()},
        **write_outputs(context.folder, tables, _cnn_figures(trained, rows, actual)),
    }


def _cnn_rows(rows, variance):
    for row in rows:
        title, predicted = row['title'], published_samples(row['name'])['predicted']
        for kind in ('train', 'test'):
            published, ours = row[f'published_{kind}_loss'], row[f'{kind}_loss']
            yield comparison_row(f'{title}: {kind} loss', published, ours)
        published = constant_share(predicted)
        # ten that all differ say nothing of ten thousand
        if published > 0.5 or row['constant_share'] > published:
            what = f'{title}: share of equal predictions (published: of ten)'
            yield comparison_row(what, published, row['constant_share'])
    yield comparison_row('variance of log10 flux, test set', None, variance)


def _draw_samples(predictions):
    """Return the ten samples of each network, of the same images."""
    n = len(predictions)
    rows = np.random.default_rng(10).choice(n, min(10, n), replace=False)
    samples = {}
    for name in CNN_NAMES:
        table = predictions[['file_name', name, 'actual']].iloc[rows]
        table = table.rename(columns={name: 'predicted'})
        samples[name] = table.assign(difference=(table['predicted'] - table['actual']).abs())
    return samples


def _cnn_figures(trained, rows, actual):
    panels = []
    for one, row, published in zip(trained, rows, CONFIGURATIONS, strict=True):
        history = one.history
        curves = {'test': history['test_loss'], 'train, with dropout': history['train_loss']}
        marks = {
            'train, dropout off': (row['epochs'], row['train_loss_dropout_off']),
            'train, published': (published.epochs, row['published_train_loss']),
            'test, published': (published.epochs, row['published_test_loss']),
        }
        panels.append((row['title'], curves, marks))
    predictions = {row['title']: one.predictions for row, one in zip(rows, trained, strict=True)}
    drawn = {
        'architecture.png': figures.plot_layers(_layers(trained[0].network)),
        'losses.png': figures.plot_losses(panels, variance=np.var(actual)),
        'predictions.png': figures.plot_predictions(actual, predictions),
    }
    for name, (title, predicted) in zip(CNN_NAMES, predictions.items(), strict=True):
        away = np.nan_to_num(np.abs(predicted - actual), nan=np.inf)
        drawn[f'differences-{name}.png'] = figures.plot_differences(away, title=title)
    return drawn


def _layers(network):
    """Return what each layer does, the shape that leaves it, and the layer if it is trained."""
    return [
        ('image [ADU]', '1 x 143 x 143', None),
        ('convolution\n12 filters 3 x 3\nReLU, max-pool 2 x 2', '12 x 71 x 71', network.first),
        ('convolution\n24 filters 3 x 3\nReLU, max-pool 2 x 2', '24 x 35 x 35', network.second),
        ('flatten', '29,400', None),
        ('dense\n64 neurons\nReLU, dropout 0.2', '64', network.dense),
        ('dense\nlog$_{10}$ flux', '1', network.output),
    ]


def explanations(context):
    """Train with other seeds, input scalings, noise and batches, and see what that changes."""
    actual, which = context.test.log_flux, ('first', 'first scaled', 'third')
    groups = _train(context, *which, 'published', IMAGE_ONLY, 'second')
    first, scaled, third = (describe(groups[name], actual)[SEED_COLUMNS] for name in which)
    dropout = describe(groups['published'], actual)[DROPOUT_COLUMNS]
    n_epochs = groups['second'][0].settings['epochs']
    second = _curves(groups[IMAGE_ONLY] + groups['second'], n_epochs)
    losses = {what: curve.iloc[-1] for what, curve in second.items()}
    variance = float(np.var(actual))
    tables = {
        'first-seeds.csv': pd.concat([first, scaled.assign(seed=f'{FIRST.seed}, {SCALED}')]),
        'third-seeds.csv': third,
        'second-variants.csv': pd.DataFrame(
            {'what': losses.keys(), 'epochs': n_epochs, 'test_loss': losses.values()}
        ),
        'dropout.csv': dropout,
    }
    panels = {
        'seeds.png': [
            _panel(FIRST, 'first', _curves(groups['first'] + groups['first scaled'])),
            _panel(THIRD, 'third', _curves(groups['third'])),
        ],
        # what was published is after more epochs
        'variants.png': [(*_panel(SECOND, 'second', second)[:2], {})],
    }
    drawn = {name: figures.plot_losses(each, variance=variance) for name, each in panels.items()}
    first, scaled, third = (table.to_dict('records') for table in (first, scaled, third))
    return {
        'rows': [*_explanation_rows(first, scaled[0], third, losses, n_epochs)],
        'first_seeds': first + scaled,
        'third_seeds': third,
        'second': {
            'epochs': n_epochs,
            'seeds': _losses_after(n_epochs, groups[IMAGE_ONLY], 'seed'),
            'variants': _losses_after(n_epochs, groups['second'], 'name'),
        },
        'dropout': dropout.to_dict('records'),
        'variance': variance,
        **write_outputs(context.folder, tables, drawn),
    }


def _explanation_rows(first, scaled, third, second, n_epochs):
    n_constant = sum(row['constant'] for row in first)
    what = 'first configuration: seeds that end in a constant prediction'
    yield comparison_row(what, '1 of 1', f'{n_constant} of {len(first)}')
    for which, group, name in (('first', first, 'cnn-1'), ('third', third, 'cnn-3')):
        for row in group:
            what = f'{which} configuration, seed {row["seed"]}: test loss'
            yield comparison_row(what, PUBLISHED_LOSSES[name][1], row['test_loss'])
    yield comparison_row(f'first configuration, {SCALED}: test loss', None, scaled['test_loss'])
    for which, loss in second.items():
        what = f'second configuration after {n_epochs} epochs, {which}: test loss'
        yield comparison_row(what, None, loss)


def _losses_after(n_epochs, trained, key):
    """Return test losses by the seed or the name; some trainings are longer."""
    return {str(one.settings[key]): one.history['test_loss'][n_epochs - 1] for one in trained}


def _curves(trained, n_epochs=None):
    """Return test losses by what is varied, or by the seed, up to an epoch."""
    labels = {'first-scaled': SCALED, **{name: label for name, (label, _) in VARIANTS.items()}}
    curves = {}
    for one in trained:
        label = labels.get(one.settings['name'], f'seed {one.settings["seed"]}')
        curves[label] = one.history['test_loss'][:n_epochs]
    return curves


def _panel(configuration, which, curves):
    """Return a panel of `figures.plot_losses`, with the loss that was published."""
    title = f'test loss, {which} configuration, rate {configuration.learning_rate:g}'
    published = configuration.epochs, PUBLISHED_LOSSES[configuration.name][1]
    return title, curves, {'published': published}


def joined(context):
    """
    Train the network with columns of the table beside the image, and twins without.

    The columns are standardized by the training set's mean and scatter, and join the pooled maps
    before the dense layer, so that its neurons may combine both.
    """
    groups = _train(context, IMAGE_ONLY, *JOINED)
    n_epochs = groups['image, R_e, Bt'][0].settings['epochs']
    by_seed = {what: _losses_after(n_epochs, each, 'seed') for what, each in groups.items()}
    losses = {what: list(each.values()) for what, each in by_seed.items()}
    table = pd.DataFrame(by_seed).rename_axis('seed').reset_index().assign(epochs=n_epochs)
    table = table.melt(['seed', 'epochs'], var_name='input', value_name='test_loss')
    gains = {what: gain_of(losses[IMAGE_ONLY], losses[what]) for what in JOINED}
    after = f'test loss after {n_epochs} epochs, mean of seeds'
    rows = {f'{what}: {after}': float(gmean(values)) for what, values in losses.items()}
    for what, gain in gains.items():
        rows[f'{what}: factor by which the loss is lower than of the image only'] = gain['factor']
    tables = {'joined.csv': table[['input', 'seed', 'epochs', 'test_loss']]}
    drawn = {'joined.png': figures.plot_joined(losses, n_epochs=n_epochs)}
    return {
        'rows': [comparison_row(what, None, value) for what, value in rows.items()],
        'losses': losses,
        'gains': gains,
        'epochs': n_epochs,
        'columns': {what: list(columns) for what, (_, columns) in JOINED.items()},
        **write_outputs(context.folder, tables, drawn),
    }


def gain_of(alone, together):
    """Return by what factor losses are lower together, its 95 % interval, and Welch's p-value."""
    one, other = np.log(alone), np.log(together)
    gain = {'factor': float(np.exp(one.mean() - other.mean()))}
    # a single seed has no scatter, nor has a training that diverged
    if min(len(one), len(other)) < 2 or not np.isfinite([*one, *other]).all():
        return gain | {'low': math.nan, 'high': math.nan, 'p_value': math.nan}
    test = ttest_ind(one, other, equal_var=False)
    low, high = np.exp(test.confidence_interval(0.95))
    return gain | {'low': float(low), 'high': float(high), 'p_value': float(test.pvalue)}
