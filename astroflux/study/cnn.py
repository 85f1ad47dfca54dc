# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The networks of the study: the report's three, what explains their losses, and joined ones."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.stats import gmean, ttest_ind

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
    # the scale is the noise of the images
    'second-asinh': ('asinh(image / noise)', {'stretch': 'asinh'}),
    'second-noisy': ('10 times the noise', {'noise_factor': 10.0}),
    'second-batch': ('batches of 16', {'batch_size': 16}),
}

# What networks see beside the image: name of their trainings, and columns of the table.
IMAGE_ONLY = 'image only'
JOINED = {
    'image, R_e, Bt': ('radius-ratio', ('R_e', 'Bt')),
    'image, all columns': ('all-columns', tuple(FEATURES)),
}

SEEDS = ('first', 'first scaled', 'third')

# Columns of the tables of trainings, from `_describe`.
LOSSES_COLUMNS = (
    *('name', 'title', 'learning_rate', 'epochs', 'seed', 'batch_size', 'published_train_loss'),
    *('train_loss', 'published_test_loss', 'test_loss', 'train_loss_dropout_on'),
    *('train_loss_dropout_off', 'n_failed', 'constant_share', 'median_difference'),
    *('within_narrow', 'within_wide', 'bias', 'faint_share', 'seconds'),
)
SEED_COLUMNS = (
    *('seed', 'epochs', 'train_loss', 'test_loss'),
    *('constant_share', 'constant', 'median_prediction'),
)
DROPOUT_COLUMNS = (
    *('name', 'published_train_loss', 'published_test_loss', 'train_loss'),
    *('train_loss_dropout_on', 'train_loss_dropout_off', 'test_loss'),
)

VARIANCE = 'variance of log10 flux, test set'

# The report prints six decimals.
DECIMALS = 6


def plan_trainings(context):
    """
    Return all trainings, in groups by what they show; a training may be in several.

    Of each group the folders and configurations. A folder is in that of the stage which trains it,
    and epochs are cut to the preset's ``max_epochs``.
    """
    preset = context.preset
    seeds = range(SECOND.seed, SECOND.seed + preset.n_joined_seeds)
    # The third configuration differs from the second one in the number of epochs alone, and the
    # rate does not change on the way, so that its first epochs serve as well.
    twins = {2: ('cnn', SECOND), 3: ('cnn', THIRD), 4: ('explanations', OTHER_THIRD)}
    changes = {name: change for name, (_, change) in VARIANTS.items()}
    changes['second-asinh'] = changes['second-asinh'] | {'scale': context.train.noise}
    others = [_again(FIRST, 'first', FIRST.seed + k) for k in range(1, preset.n_seeds)]
    varied = [replace(SHORT, name=name, **change) for name, change in changes.items()]
    plan = {
        'published': [('cnn', one) for one in CONFIGURATIONS],
        'first': [('cnn', FIRST), *(('explanations', one) for one in others)],
        'first scaled': [('explanations', replace(FIRST, name='first-scaled', scale=100.0))],
        'third': [('cnn', THIRD), ('explanations', OTHER_THIRD)],
        IMAGE_ONLY: [twins.get(seed, ('joined', _again(SHORT, 'second', seed))) for seed in seeds],
        'second': [('explanations', one) for one in varied],
    }
    for what, (name, columns) in JOINED.items():
        plan[what] = [('joined', _again(SHORT, name, seed, columns=columns)) for seed in seeds]
    run = context.folder.parent
    return {
        group: {run / stage / one.name: _cut(context, one) for stage, one in members}
        for group, members in plan.items()
    }


def _again(configuration, name, seed, **changes):
    return replace(configuration, name=f'{name}-seed-{seed}', seed=seed, **changes)


def _cut(context, configuration):
    limit = context.preset.max_epochs or configuration.epochs
    return replace(configuration, epochs=min(configuration.epochs, limit))


def _train(context, *groups):
    """Return the networks of some groups, of which several may hold the same ones."""
    plan = plan_trainings(context)
    everything = {folder: one for group in groups for folder, one in plan[group].items()}
    found = train_all(context, everything)
    return {group: [found[folder] for folder in plan[group]] for group in groups}


# -- numbers of a training ---------------------------------------------------------------------


def _describe(trained, actual):
    """Return all numbers of a training; tables hold some of them."""
    one = trained.configuration
    published = PUBLISHED_LOSSES.get(one.name, (None, None))
    judged = judge_predictions(actual, trained.predictions)
    label = one.name.replace('cnn-', 'CNN ')
    return {
        **vars(one),
        **trained.history.iloc[-1].to_dict(),
        **trained.summary,
        'published_train_loss': published[0],
        'published_test_loss': published[1],
        **judged,
        'title': f'{label}: rate {one.learning_rate:g}, {one.epochs} epochs',
        'constant': judged['constant_share'] > 0.5,
        'median_prediction': float(np.median(trained.predictions)),
    }


def _pick(context, trained, columns):
    rows = [_describe(one, context.test.log_flux) for one in trained]
    return [{name: row[name] for name in columns} for row in rows]


def judge_predictions(actual, predicted):
    """
    Return numbers on predictions; those that failed count as wrong.

    The medians and the shares within 0.1 and 0.3 dex are of the absolute differences in dex; the
    report judges by the latter. ``faint_share`` is what the faintest tenth contributes to the
    squared error.
    """
    error = np.asarray(predicted, float) - actual
    good = np.isfinite(error)
    away = np.where(good, np.abs(error), np.inf)
    squares = error[good] ** 2
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


# -- the three networks of the report ----------------------------------------------------------


def cnn(context):
    """Train the three networks of the report."""
    test = context.test
    trained = _train(context, 'published')['published']
    predictions = {one.configuration.name: one.predictions for one in trained}
    rows = _pick(context, trained, LOSSES_COLUMNS)
    samples = _draw_samples(test, predictions)
    variance = float(np.var(test.log_flux))
    everything = {'img_number': test.table['img_number'], 'actual': test.log_flux, **predictions}
    write_table(pd.DataFrame(everything), context.folder / 'predictions.csv')
    tables = {'losses.csv': pd.DataFrame(rows)}
    for name, table in samples.items():
        tables[f'samples-{name}.csv'] = table.round(DECIMALS)
        tables[f'samples-{name}-published.csv'] = pd.DataFrame(published_samples(name))
    best = min(rows, key=lambda row: np.nan_to_num(row['test_loss'], nan=np.inf))
    return {
        'rows': [*_cnn_rows(rows), comparison_row(VARIANCE, None, variance)],
        'trainings': rows,
        'variance': variance,
        'best': best['name'],
        'n_parameters': trained[0].network.n_parameters,
        'samples': {name: table.to_dict('records') for name, table in samples.items()},
        **write_outputs(context.folder, tables, _cnn_figures(test, trained, rows)),
    }


def _cnn_rows(rows):
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
        if row['n_failed']:
            yield comparison_row(f'{title}: answers that are no number', None, row['n_failed'])


def _draw_samples(test, predictions):
    """Return the ten samples of each network, of the same images."""
    rng = np.random.default_rng(10)
    rows = rng.choice(len(test), min(10, len(test)), replace=False)
    table = pd.DataFrame({'file_name': test.table['file_name'].to_numpy()[rows]})
    samples = {}
    for name, predicted in predictions.items():
        two = {'predicted': predicted[rows], 'actual': test.log_flux[rows]}
        samples[name] = table.assign(**two, difference=np.abs(two['predicted'] - two['actual']))
    return samples


def _cnn_figures(test, trained, rows):
    predictions = {row['title']: one.predictions for row, one in zip(rows, trained, strict=True)}
    losses = [
        {
            'title': row['title'],
            'history': one.history,
            'dropout_off': row['train_loss_dropout_off'],
            'published': (published.epochs, *PUBLISHED_LOSSES[published.name]),
        }
        for row, one, published in zip(rows, trained, CONFIGURATIONS, strict=True)
    ]
    drawn = {
        'architecture.png': figures.plot_layers(_layers(trained[0].network)),
        'losses.png': figures.plot_losses(losses, variance=np.var(test.log_flux)),
        'predictions.png': figures.plot_predictions(test.log_flux, predictions),
    }
    for name, (title, predicted) in zip(CNN_NAMES, predictions.items(), strict=True):
        away = np.nan_to_num(np.abs(predicted - test.log_flux), nan=np.inf)
        drawn[f'differences-{name}.png'] = figures.plot_differences(away, title=title)
    return drawn


def _layers(network):
    """Return what each layer does, the shape that leaves it, and its number of parameters."""
    n = {
        name: sum(weights.numel() for weights in layer.parameters())
        for name, layer in network.named_children()
    }
    return [
        ('image [ADU]', '1 x 143 x 143', 0),
        ('convolution\n12 filters 3 x 3\nReLU, max-pool 2 x 2', '12 x 71 x 71', n['first']),
        ('convolution\n24 filters 3 x 3\nReLU, max-pool 2 x 2', '24 x 35 x 35', n['second']),
        ('flatten', '29,400', 0),
        ('dense\n64 neurons\nReLU, dropout 0.2', '64', n['dense']),
        ('dense\nlog$_{10}$ flux', '1', n['output']),
    ]


# -- what explains their losses ----------------------------------------------------------------


def explanations(context):
    """Train with other seeds, input scalings, noise and batches, and see what that changes."""
    groups = _train(context, *SEEDS, 'published', IMAGE_ONLY, 'second')
    first, scaled, third = (_pick(context, groups[name], SEED_COLUMNS) for name in SEEDS)
    dropout = _pick(context, groups['published'], DROPOUT_COLUMNS)
    n_epochs = _cut(context, SHORT).epochs
    seeds = {str(one.configuration.seed): one.loss_after(n_epochs) for one in groups[IMAGE_ONLY]}
    variants = {one.configuration.name: one.loss_after(n_epochs) for one in groups['second']}
    second = {f'seed {seed}': loss for seed, loss in seeds.items()}
    second |= {VARIANTS[name][0]: loss for name, loss in variants.items()}
    tables = {
        'first-seeds.csv': [*first, scaled[0] | {'seed': f'{FIRST.seed}, {SCALED}'}],
        'third-seeds.csv': third,
        'second-variants.csv': [
            {'what': what, 'epochs': n_epochs, 'test_loss': loss} for what, loss in second.items()
        ],
        'dropout.csv': dropout,
    }
    variance = float(np.var(context.test.log_flux))
    drawn = {
        'seeds.png': [
            _panel(FIRST, 'first', groups['first'], groups['first scaled']),
            _panel(THIRD, 'third', groups['third']),
        ],
        'variants.png': [
            _panel(SECOND, 'second', groups[IMAGE_ONLY], groups['second'], n_epochs),
        ],
    }
    drawn = {name: figures.plot_curves(one, variance=variance) for name, one in drawn.items()}
    tables = {name: pd.DataFrame(rows) for name, rows in tables.items()}
    return {
        'rows': [*_explanation_rows(first, scaled[0], third, second, n_epochs)],
        'first_seeds': first + scaled,
        'third_seeds': third,
        'second': {'epochs': n_epochs, 'seeds': seeds, 'variants': variants},
        'dropout': dropout,
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


def _panel(configuration, which, seeds, others=(), n_epochs=None):
    """Return test losses of several seeds and of what is varied, or the published one."""
    curves = {
        f'seed {one.configuration.seed}': one.history['test_loss'][:n_epochs] for one in seeds
    }
    for one in others:
        label = VARIANTS.get(one.configuration.name, (SCALED,))[0]
        curves[label] = one.history['test_loss']
    panel = {
        'title': f'{which} configuration, rate {configuration.learning_rate:g}',
        'curves': curves,
    }
    if n_epochs is None:
        panel['published'] = configuration.epochs, PUBLISHED_LOSSES[configuration.name][1]
    return panel


# -- networks that see more than the image -----------------------------------------------------


def joined(context):
    """
    Train the network with columns of the table beside the image, and twins without.

    The columns are standardized by the training set's mean and scatter, and join the pooled maps
    before the dense layer, so that its neurons may combine both.
    """
    groups = _train(context, IMAGE_ONLY, *JOINED)
    n_epochs = _cut(context, SHORT).epochs
    table = pd.DataFrame(
        [
            (what, one.configuration.seed, n_epochs, one.loss_after(n_epochs))
            for what, group in groups.items()
            for one in group
        ],
        columns=['input', 'seed', 'epochs', 'test_loss'],
    )
    losses = table.groupby('input', sort=False)['test_loss'].apply(list).to_dict()
    gains = {what: gain_of(losses[IMAGE_ONLY], losses[what]) for what in JOINED}
    after = f'test loss after {n_epochs} epochs, mean of seeds'
    rows = {f'{what}: {after}': float(gmean(values)) for what, values in losses.items()}
    for what, gain in gains.items():
        rows[f'{what}: factor by which the loss is lower than of the image only'] = gain['factor']
    drawn = {'joined.png': figures.plot_joined(losses, n_epochs=n_epochs)}
    return {
        'rows': [comparison_row(what, None, value) for what, value in rows.items()],
        'losses': losses,
        'gains': gains,
        'epochs': n_epochs,
        'columns': {what: list(columns) for what, (_, columns) in JOINED.items()},
        **write_outputs(context.folder, {'joined.csv': table}, drawn),
    }


def gain_of(alone, together):
    """
    Compare the losses of two groups of networks with the scatter of their seeds.

    The factor is the geometric mean of the losses alone over that together (above one if the
    columns help), with its 95 % interval. Welch's test of the logarithms gives the two-sided
    p-value; it is NaN for a single seed, or if a training diverged.
    """
    one, other = (np.log(np.asarray(values, float)) for values in (alone, together))
    factor = float(np.exp(one.mean() - other.mean()))
    if min(len(one), len(other)) < 2 or not np.isfinite([*one, *other]).all():
        return {'factor': factor, 'low': math.nan, 'high': math.nan, 'p_value': math.nan}
    test = ttest_ind(one, other, equal_var=False)
    low, high = (float(np.exp(end)) for end in test.confidence_interval(0.95))
    return {'factor': factor, 'low': low, 'high': high, 'p_value': float(test.pvalue)}
