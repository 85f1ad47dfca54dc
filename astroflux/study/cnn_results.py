# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The three networks of the report: losses, samples and differences beside the published ones."""

import numpy as np
import pandas as pd

from astroflux.networks.study_net import SIDE
from astroflux.study._output import comparison_row, plain, save_figure, write_table
from astroflux.study.cnn import CONFIGURATIONS
from astroflux.study.cnn_plan import published_trainings
from astroflux.study.cnn_plots import architecture_figure, differences_figure, losses_figure
from astroflux.study.cnn_published import (
    PUBLISHED_LOSSES,
    PUBLISHED_PREDICTED,
    published_samples,
)
from astroflux.study.cnn_remarks import (
    constant_samples_remark,
    constant_share,
    cut_remark,
    is_constant,
    judge_predictions,
    label_of,
    loss_remark,
    sample_remark,
    tail_remark,
)
from astroflux.study.tabular_plots import predictions_figure
from astroflux.study.trainings import train_all

__all__ = ['cnn']

# Of the ten test images that are shown for each network.
SAMPLE_SEED = 10
N_SAMPLES = 10


def cnn(context):
    """
    Train the three networks of the report.

    Parameters
    ----------
    context : `~astroflux.study.context.Context`
        What a stage is given.

    Returns
    -------
    result : dict
        Numbers for the page; see `~astroflux.study`. ``trainings`` has the losses and further
        numbers of each network, ``best`` the name of the one of the lowest test loss, whose
        weights are in ``BEST/weights.safetensors``, and ``n_parameters`` those of each. The
        folder has ``predictions.csv`` and a folder of each training.
    """
    test = context.test
    trained = train_all(context, published_trainings(context))
    configurations = [one.configuration for one in trained]
    predictions = {one.name: one.predictions for one in trained}
    numbers = {name: judge_predictions(test.log_flux, p) for name, p in predictions.items()}
    variance = float(np.var(test.log_flux))
    trainings = [_describe(one, numbers[one.name]) for one in trained]
    samples = _draw_samples(test, predictions)
    losses = {row['name']: row['test_loss'] for row in trainings}
    best = min(losses, key=lambda name: np.nan_to_num(losses[name], nan=np.inf))
    return {
        'rows': list(_rows(trainings, variance)),
        'remarks': [
            *cut_remark(context, configurations, CONFIGURATIONS),
            _choices_remark(configurations, trained[0].network.n_parameters),
            *(
                loss_remark(name, losses[name], variance, numbers[name]['constant_share'])
                for name in losses
            ),
            constant_samples_remark(),
            tail_remark(numbers),
            sample_remark(samples, numbers, len(context.test)),
        ],
        'trainings': [_fit_for_json(row) for row in trainings],
        'variance': plain(variance),
        'best': best,
        'n_parameters': trained[0].network.n_parameters,
        'samples': {name: table.to_dict('records') for name, table in samples.items()},
        'published_samples': {name: published_samples(name) for name in samples},
        'tables': _write_tables(context, trainings, samples, predictions),
        'figures': _draw_figures(context, trained, predictions, variance),
    }


def _describe(trained, numbers):
    """Return one row of the table of losses."""
    configuration, last = trained.configuration, trained.history.iloc[-1]
    return {
        'name': trained.name,
        'title': _title(configuration),
        'learning_rate': configuration.learning_rate,
        'epochs': configuration.epochs,
        'seed': configuration.seed,
        'batch_size': configuration.batch_size,
        'published_train_loss': PUBLISHED_LOSSES[trained.name][0],
        'train_loss': float(last['train_loss']),
        'published_test_loss': PUBLISHED_LOSSES[trained.name][1],
        'test_loss': float(last['test_loss']),
        'train_loss_dropout_on': trained.summary['train_loss_dropout_on'],
        'train_loss_dropout_off': trained.summary['train_loss_dropout_off'],
        **numbers,
        'seconds': trained.summary['seconds'],
    }


def _fit_for_json(row):
    return {k: plain(v) if isinstance(v, float) else v for k, v in row.items()}


def _title(configuration):
    return (
        f'{label_of(configuration.name)}: rate {configuration.learning_rate:g}, '
        f'{configuration.epochs} epochs'
    )


def _rows(trainings, variance):
    for row in trainings:
        name, title = row['name'], row['title']
        yield comparison_row(f'{title}: train loss', row['published_train_loss'], row['train_loss'])
        yield comparison_row(f'{title}: test loss', row['published_test_loss'], row['test_loss'])
        published = constant_share(PUBLISHED_PREDICTED[name])
        # ten that all differ say nothing of ten thousand
        if is_constant(PUBLISHED_PREDICTED[name]) or row['constant_share'] > published:
            yield comparison_row(
                f'{title}: share of equal predictions (published: of ten)',
                published,
                row['constant_share'],
            )
        if row['n_failed']:
            yield comparison_row(f'{title}: answers that are no number', None, row['n_failed'])
    yield comparison_row('variance of log10 flux, test set', None, variance)


def _choices_remark(configurations, n_parameters):
    seeds = ', '.join(str(configuration.seed) for configuration in configurations)
    return (
        f'The network has {n_parameters:,} parameters. The report states neither the batch size '
        f'nor the initial weights: batches have {configurations[0].batch_size} images, the last '
        f"of an epoch may have fewer; the weights begin as torch's layers do, with the seeds "
        f'{seeds}. The train loss is the mean over an epoch, with dropout and while the weights '
        'change; the test loss is taken after it, without dropout.'
    )


def _draw_samples(test, predictions):
    """Return the ten samples of each network, of the same images."""
    rng = np.random.default_rng(SAMPLE_SEED)
    rows = rng.choice(len(test), min(N_SAMPLES, len(test)), replace=False)
    tables = {}
    for name, predicted in predictions.items():
        table = pd.DataFrame({'file_name': test.table['file_name'].iloc[rows].tolist()})
        table['predicted'], table['actual'] = predicted[rows], test.log_flux[rows]
        table['difference'] = (table['predicted'] - table['actual']).abs()
        tables[name] = table
    return tables


def _write_tables(context, trainings, samples, predictions):
    """Write all tables; return the names of those for the page."""
    folder, test = context.folder, context.test
    everything = pd.DataFrame({'img_number': test.table['img_number'].to_numpy()})
    everything['actual'] = test.log_flux
    for name, predicted in predictions.items():
        everything[name] = predicted
    write_table(everything, folder / 'predictions.csv')
    names = [write_table(pd.DataFrame(trainings), folder / 'losses.csv')]
    for name, table in samples.items():
        names.append(write_table(table.round(6), folder / f'samples-{name}.csv'))
        published = pd.DataFrame(published_samples(name)).round(6)
        names.append(write_table(published, folder / f'samples-{name}-published.csv'))
    return names


def _draw_figures(context, trained, predictions, variance):
    """Draw all figures; return their names."""
    folder, actual = context.folder, context.test.log_flux
    titles = {one.name: _title(one.configuration) for one in trained}
    published_epochs = {c.name: c.epochs for c in CONFIGURATIONS}
    panels = [
        {
            'history': one.history,
            'title': titles[one.name],
            'variance': variance,
            'published': (published_epochs[one.name], *PUBLISHED_LOSSES[one.name]),
            'dropout_off': one.summary['train_loss_dropout_off'],
        }
        for one in trained
    ]
    shown = {titles[name]: p for name, p in predictions.items()}
    figures = {
        'architecture': architecture_figure(_layers(trained[0].network)),
        'losses': losses_figure(panels),
        'predictions': predictions_figure(actual, shown),
    }
    for name, predicted in predictions.items():
        figures[f'differences-{name}'] = differences_figure(predicted - actual, title=titles[name])
    return [save_figure(figure, folder / f'{name}.png') for name, figure in figures.items()]


def _layers(network):
    """Return the layers as rows of a table."""
    side, rows = SIDE, []
    rows.append({'layer': 'image [ADU]', 'output': f'1 x {side} x {side}', 'parameters': 0})
    for convolution in (network.first, network.second):
        side //= 2
        n_filters, _, size, _ = convolution.weight.shape
        rows.append(
            {
                'layer': f'convolution\n{n_filters} filters {size} x {size}\nReLU, max-pool 2 x 2',
                'output': f'{n_filters} x {side} x {side}',
                'parameters': _count(convolution),
            }
        )
    n_neurons, n_features = network.dense.weight.shape
    dropout = f'ReLU, dropout {network.dropout.p:g}'
    return [
        *rows,
        {'layer': 'flatten', 'output': f'{n_features:,}', 'parameters': 0},
        {
            'layer': f'dense\n{n_neurons} neurons\n{dropout}',
            'output': f'{n_neurons}',
            'parameters': _count(network.dense),
        },
        {
            'layer': 'dense\nlog$_{10}$ flux',
            'output': '1',
            'parameters': _count(network.output),
        },
    ]


def _count(layer):
    return sum(p.numel() for p in layer.parameters())
