# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Which networks are trained, and where: the report's three, and those that explain them."""

from dataclasses import replace

from astroflux.study.cnn_configuration import CONFIGURATIONS

__all__ = [
    'BATCH_SIZE',
    'EXTRA_EPOCHS',
    'NOISE_FACTOR',
    'SCALE',
    'first_trainings',
    'image_only_trainings',
    'joined_trainings',
    'published_trainings',
    'short_second',
    'third_trainings',
    'variant_trainings',
]

# Trainings that explain something are compared with the second configuration after so many
# epochs, not after its ten: there are many of them.
EXTRA_EPOCHS = 5

# What the variants have in place of raw pixels [ADU], of the noise of the images and of batches of
# 64. The scale is of the order of the brightest pixels of a typical galaxy of the set.
SCALE = 100.0
NOISE_FACTOR = 10.0
BATCH_SIZE = 16

FIRST, SECOND, THIRD = CONFIGURATIONS


def published_trainings(context):
    """
    Return the three trainings of the report.

    Parameters
    ----------
    context : `~astroflux.study.context.Context`
        What a stage is given. As for all functions here, epochs are cut to the preset's
        ``max_epochs``, and folders are those of the stage that a training belongs to.

    Returns
    -------
    trainings : dict of `~pathlib.Path` to `~astroflux.study.cnn.CNNConfiguration`
    """
    return _placed(context, 'cnn', CONFIGURATIONS)


def first_trainings(context):
    """Return the first configuration with the preset's ``n_seeds`` seeds, and on scaled pixels."""
    seeds = range(FIRST.seed + 1, FIRST.seed + context.preset.n_seeds)
    again = [replace(FIRST, name=f'first-seed-{seed}', seed=seed) for seed in seeds]
    scaled = replace(FIRST, name='first-scaled', scale=SCALE)
    return (
        _placed(context, 'cnn', [FIRST]) | _placed(context, 'explanations', again),
        _placed(context, 'explanations', [scaled]),
    )


def third_trainings(context):
    """Return the third configuration with two seeds."""
    seed = THIRD.seed + 1
    again = replace(THIRD, name=f'third-seed-{seed}', seed=seed)
    return _placed(context, 'cnn', [THIRD]) | _placed(context, 'explanations', [again])


def short_second(context):
    """Return the second configuration with as many epochs as its variants have."""
    return _cut(context, replace(SECOND, epochs=EXTRA_EPOCHS))


def variant_trainings(context):
    """Return the second configuration with other pixels, noise or batches."""
    short = short_second(context)
    variants = [
        replace(short, name='second-scaled', scale=SCALE),
        replace(short, name='second-asinh', scale=context.train.noise, stretch='asinh'),
        replace(short, name='second-noisy', noise_factor=NOISE_FACTOR),
        replace(short, name='second-batch', batch_size=BATCH_SIZE),
    ]
    return _placed(context, 'explanations', variants)


def image_only_trainings(context):
    """
    Return trainings that are, or begin as, the second configuration, each of another seed.

    Parameters
    ----------
    context : `~astroflux.study.context.Context`
        What a stage is given.

    Returns
    -------
    trainings : dict of `~pathlib.Path` to `~astroflux.study.cnn.CNNConfiguration`
        The preset's ``n_joined_seeds``. The third configuration differs from the second one in
        the number of epochs alone, and the rate does not change on the way, so that its first
        epochs serve as well.
    """
    trainings = _placed(context, 'cnn', [SECOND]) | third_trainings(context)
    known = {configuration.seed for configuration in trainings.values()}
    wanted = _joined_seeds(context)
    short = short_second(context)
    more = [replace(short, name=f'second-seed-{s}', seed=s) for s in wanted if s not in known]
    trainings |= _placed(context, 'joined', more)
    return {folder: c for folder, c in trainings.items() if c.seed in wanted}


def joined_trainings(context, name, columns):
    """
    Return trainings with columns beside the image, of the same seeds as those without.

    Parameters
    ----------
    context : `~astroflux.study.context.Context`
        What a stage is given.
    name : str
        Beginning of the names.
    columns : sequence of str
        Of the table.

    Returns
    -------
    trainings : dict of `~pathlib.Path` to `~astroflux.study.cnn.CNNConfiguration`
    """
    short = short_second(context)
    group = [
        replace(short, name=f'{name}-seed-{seed}', seed=seed, columns=tuple(columns))
        for seed in _joined_seeds(context)
    ]
    return _placed(context, 'joined', group)


def _joined_seeds(context):
    return range(SECOND.seed, SECOND.seed + context.preset.n_joined_seeds)


def _cut(context, configuration):
    return configuration.cut(context.preset.max_epochs)


def _placed(context, stage, configurations):
    folder = context.folder.parent / stage
    return {folder / c.name: _cut(context, c) for c in configurations}
