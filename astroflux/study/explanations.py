# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Why our losses differ from the published ones: each explanation is tested by a training."""

import numpy as np
import pandas as pd

from astroflux.study._output import comparison_row, plain, save_figure, write_table
from astroflux.study.cnn import CONFIGURATIONS
from astroflux.study.cnn_plan import (
    BATCH_SIZE,
    NOISE_FACTOR,
    SCALE,
    first_trainings,
    image_only_trainings,
    published_trainings,
    short_second,
    third_trainings,
    variant_trainings,
)
from astroflux.study.cnn_plots import curves_figure
from astroflux.study.cnn_published import PUBLISHED_LOSSES
from astroflux.study.cnn_remarks import constant_share, cut_remark, is_constant
from astroflux.study.explanation_remarks import (
    dropout_remark,
    first_remark,
    second_remark,
    third_remark,
    variant_remark,
)
from astroflux.study.trainings import train_all

__all__ = ['explanations']

LABELS = {
    'second-scaled': f'image / {SCALE:g} ADU',
    'second-asinh': 'asinh(image / noise)',
    'second-noisy': f'{NOISE_FACTOR:g} times the noise',
    'second-batch': f'batches of {BATCH_SIZE}',
}


def explanations(context):
    """
    Train with other seeds, input scalings, noise and batches, and judge what that changes.

    Parameters
    ----------
    context : `~astroflux.study.context.Context`
        What a stage is given.

    Returns
    -------
    result : dict
        Numbers for the page; see `~astroflux.study`. ``first_seeds``, ``third_seeds``,
        ``second`` and ``dropout`` have one entry per training.
    """
    groups = _train(context)
    n_epochs = short_second(context).epochs
    variance = float(np.var(context.test.log_flux))
    first, third = ([_describe(one) for one in groups[name]] for name in ('first', 'third'))
    scaled = _describe(groups['first scaled'][0])
    seeds = {one.configuration.seed: _loss_after(one, n_epochs) for one in groups['image only']}
    variants = {one.name: _loss_after(one, n_epochs) for one in groups['variants']}
    dropout = [_describe_dropout(one) for one in groups['published']]
    options = {'scale': SCALE, 'noise_factor': NOISE_FACTOR, 'batch_size': BATCH_SIZE}
    cut = [one.configuration for one in groups['published']]
    tables = {
        'first-seeds': [*first, {**scaled, 'seed': f'{scaled["seed"]}, image / {SCALE:g} ADU'}],
        'third-seeds': third,
        'second-variants': [
            {'what': what, 'epochs': n_epochs, 'test_loss': loss}
            for what, loss in _with_labels(seeds, variants).items()
        ],
        'dropout': dropout,
    }
    figures = {
        'seeds': _seeds_figure(groups, variance),
        'variants': _variants_figure(groups, n_epochs, variance),
    }
    return {
        'rows': list(_rows(first, scaled, third, _with_labels(seeds, variants), n_epochs)),
        'remarks': [
            *cut_remark(context, cut, CONFIGURATIONS),
            first_remark(first, scaled, variance, SCALE),
            third_remark(third),
            *(
                variant_remark(name, loss, list(seeds.values()), n_epochs, **options)
                for name, loss in variants.items()
            ),
            second_remark(groups['published'][1], list(seeds.values()), variants, n_epochs),
            dropout_remark(dropout),
        ],
        'first_seeds': _fit_for_json([*first, scaled]),
        'third_seeds': _fit_for_json(third),
        'second': {
            'epochs': n_epochs,
            'seeds': {str(seed): plain(loss) for seed, loss in seeds.items()},
            'variants': {name: plain(loss) for name, loss in variants.items()},
        },
        'dropout': _fit_for_json(dropout),
        'variance': plain(variance),
        'tables': [
            write_table(pd.DataFrame(rows), context.folder / f'{name}.csv')
            for name, rows in tables.items()
        ],
        'figures': [
            save_figure(figure, context.folder / f'{name}.png') for name, figure in figures.items()
        ],
    }


def _train(context):
    """Return all networks, in groups; one may be in several."""
    first, scaled = first_trainings(context)
    plan = {
        'published': published_trainings(context),
        'first': first,
        'first scaled': scaled,
        'third': third_trainings(context),
        'image only': image_only_trainings(context),
        'variants': variant_trainings(context),
    }
    everything = {folder: c for group in plan.values() for folder, c in group.items()}
    found = dict(zip(everything, train_all(context, everything), strict=True))
    return {name: [found[folder] for folder in group] for name, group in plan.items()}


def _describe(trained):
    last = trained.history.iloc[-1]
    return {
        'seed': trained.configuration.seed,
        'epochs': trained.configuration.epochs,
        'train_loss': float(last['train_loss']),
        'test_loss': float(last['test_loss']),
        'constant_share': constant_share(trained.predictions),
        'constant': is_constant(trained.predictions),
        'median_prediction': float(np.median(trained.predictions)),
    }


def _loss_after(trained, n_epochs):
    """Return the test loss after so many epochs, of a training that may be longer."""
    return float(trained.history['test_loss'].iloc[n_epochs - 1])


def _describe_dropout(trained):
    published = PUBLISHED_LOSSES[trained.name]
    return {
        'name': trained.name,
        'published_train_loss': published[0],
        'published_test_loss': published[1],
        'train_loss': float(trained.history['train_loss'].iloc[-1]),
        'train_loss_dropout_on': trained.summary['train_loss_dropout_on'],
        'train_loss_dropout_off': trained.summary['train_loss_dropout_off'],
        'test_loss': trained.summary['test_loss'],
    }


def _fit_for_json(rows):
    return [{k: plain(v) if isinstance(v, float) else v for k, v in row.items()} for row in rows]


def _with_labels(seeds, variants):
    losses = {f'seed {seed}': loss for seed, loss in seeds.items()}
    return losses | {LABELS[name]: loss for name, loss in variants.items()}


def _rows(first, scaled, third, second, n_epochs):
    yield comparison_row(
        'first configuration: seeds that end in a constant prediction',
        '1 of 1',
        f'{sum(row["constant"] for row in first)} of {len(first)}',
    )
    for what, group, published in (
        ('first', first, PUBLISHED_LOSSES['cnn-1'][1]),
        ('third', third, PUBLISHED_LOSSES['cnn-3'][1]),
    ):
        for row in group:
            yield comparison_row(
                f'{what} configuration, seed {row["seed"]}: test loss', published, row['test_loss']
            )
    yield comparison_row(
        f'first configuration, image / {SCALE:g} ADU: test loss', None, scaled['test_loss']
    )
    for what, loss in second.items():
        yield comparison_row(
            f'second configuration after {n_epochs} epochs, {what}: test loss', None, loss
        )


def _seeds_figure(groups, variance):
    panels = []
    published = {c.name: (c.epochs, PUBLISHED_LOSSES[c.name][1]) for c in CONFIGURATIONS}
    for name in ('first', 'third'):
        group = groups[name]
        configuration = group[0].configuration
        curves = {f'seed {one.configuration.seed}': one.history['test_loss'] for one in group}
        if name == 'first':
            curves[f'image / {SCALE:g} ADU'] = groups['first scaled'][0].history['test_loss']
        panels.append(
            {
                'title': f'{name} configuration, rate {configuration.learning_rate:g}',
                'curves': curves,
                'published': published[configuration.name],
            }
        )
    return curves_figure(panels, variance=variance)


def _variants_figure(groups, n_epochs, variance):
    curves = {
        f'seed {one.configuration.seed}': one.history['test_loss'][:n_epochs]
        for one in groups['image only']
    }
    curves |= {LABELS[one.name]: one.history['test_loss'] for one in groups['variants']}
    rate = groups['published'][1].configuration.learning_rate
    panel = {'title': f'second configuration, rate {rate:g}', 'curves': curves}
    return curves_figure([panel], variance=variance)
