# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What the tested explanations are worth, in sentences that follow the numbers."""

import math

import numpy as np

from astroflux.study.cnn_published import (
    PUBLISHED_LOSSES,
    PUBLISHED_N_TEST,
    PUBLISHED_N_TRAIN,
)
from astroflux.study.cnn_remarks import ALIKE, comparison_text, constant_samples_remark, label_of

__all__ = [
    'dropout_remark',
    'first_remark',
    'second_remark',
    'third_remark',
    'variant_remark',
]

# A loss is a constant's if it is within this factor of the variance, either way.
NEAR_VARIANCE = 1.1


def _list(values):
    return ', '.join(f'{value:.4g}' for value in values)


def _range(values):
    return min(values), max(values)


def first_remark(rows, scaled, variance, scale):
    """
    Judge the published constant prediction of the first network by other seeds, and by scaling.

    Parameters
    ----------
    rows : list of dict
        One per seed: ``test_loss``, ``constant`` and ``median_prediction``.
    scaled : dict
        The same of a training on scaled pixels, of the first one's seed.
    variance : float
        Loss of the best constant.
    scale : float
        What the scaled pixels are divided by, in ADU.

    Returns
    -------
    text : str
    """
    constant = [row for row in rows if row['constant']]
    losses = _list(row['test_loss'] for row in rows)
    published = PUBLISHED_LOSSES['cnn-1'][1]
    text = (
        f'{constant_samples_remark()} Its loss {published:g} is {published / variance:.2f} times '
        f'the variance of our test set. With {_seeds(rows)} ours ends at {losses}; '
        f'{len(constant)} of {len(rows)} end in a constant prediction'
    )
    if constant:
        values = _list(row['median_prediction'] for row in constant)
        near = all(
            1 / NEAR_VARIANCE < row['test_loss'] / variance < NEAR_VARIANCE for row in constant
        )
        text += f' ({values})' + (', with the variance for its loss' if near else '')
    if not constant:
        text += ': none of these seeds gives the published constant'
    elif len(constant) < len(rows):
        text += ': at this rate it depends on the seed whether the network learns at all'
    else:
        text += ': at this rate the published constant is what any of these seeds gives'
    text += (
        f'. With the pixels divided by {scale:g} ADU the first of these seeds ends at '
        f'{scaled["test_loss"]:.4g}, {_constant_text(scaled)}, and with raw pixels at '
        f'{rows[0]["test_loss"]:.4g}, {_constant_text(rows[0])}: '
    )
    if bool(scaled['constant']) == bool(rows[0]['constant']):
        return text + 'scaling does not change whether it learns.'
    text += f'scaling {"prevents" if scaled["constant"] else "helps"} it'
    if 0 < len(constant) < len(rows):
        text += ', or chance does, as another seed changes as much'
    return text + '.'


def _constant_text(row):
    return 'a constant' if row['constant'] else 'not a constant'


def _seeds(rows):
    return f'{len(rows)} seeds' if len(rows) > 1 else 'one seed'


def third_remark(rows):
    """
    Compare the third network's seeds with each other and with the report.

    Parameters
    ----------
    rows : list of dict
        One per seed, with ``test_loss``.

    Returns
    -------
    text : str
    """
    losses = [row['test_loss'] for row in rows]
    published = PUBLISHED_LOSSES['cnn-3'][1]
    low, high = _range(losses)
    if not all(math.isfinite(loss) for loss in losses):
        return f'The two seeds of the third network end at {_list(losses)}: one diverged.'
    text = (
        f'With another seed the third network ends at {losses[1]:.4g} instead of {losses[0]:.4g}, '
        f'a factor of {high / low:.2f}. '
    )
    if low <= published <= high:
        return text + f'The published {published:g} is between the two.'
    nearest = min(losses, key=lambda loss: abs(math.log(loss / published)))
    away = max(nearest / published, published / nearest)
    verdict = (
        'less than what the seed changes, so that the seed may explain it'
        if away < high / low
        else 'more than what the seed changes, so that the seed does not explain it'
    )
    return (
        text + f'The published {published:g} is a factor of {away:.2f} from the nearer: {verdict}.'
    )


def variant_remark(name, loss, seeds, n_epochs, *, scale, noise_factor, batch_size):
    """
    Compare a variant of the second network with its seeds.

    Parameters
    ----------
    name : str
        Of the variant.
    loss : float
        Its test loss.
    seeds : list of float
        Test losses of the second configuration with several seeds.
    n_epochs : int
        After which they are compared.
    scale : float
        What the pixels of ``second-scaled`` are divided by, in ADU.
    noise_factor : float
        Of ``second-noisy``.
    batch_size : int
        Of ``second-batch``.

    Returns
    -------
    text : str
    """
    what = {
        'second-scaled': f'Input scaling: with the pixels divided by {scale:g} ADU',
        'second-asinh': 'Input scaling: with asinh(pixel / noise)',
        'second-noisy': f'Noise: with images of {noise_factor:g} times the noise',
        'second-batch': f'Batch size: with {batch_size} images per step',
    }[name]
    low, high = _range(seeds)
    text = f'{what}, the second configuration has a test loss of {loss:.4g} after {n_epochs} epochs'
    known = f'{_list(seeds)} with the images as they are'
    if len(seeds) > 1:
        known += f' and {len(seeds)} seeds'
    if not math.isfinite(loss):
        return f'{text}, against {known}: it diverged.'
    if loss < low:
        return f'{text}, against {known}: lower, by a factor of {low / loss:.2f} from the nearest.'
    if loss > high:
        return (
            f'{text}, against {known}: higher, by a factor of {loss / high:.2f} from the nearest.'
        )
    return f'{text}, against {known}: no more than the seed changes.'


def second_remark(second, seeds, variants, n_epochs):
    """
    Say which of the tested causes is large enough to explain the second network's loss.

    Parameters
    ----------
    second : `~astroflux.study.cnn.TrainedCNN`
        The second network, after all of its epochs.
    seeds : list of float
        Test losses of the second configuration after ``n_epochs``, several seeds.
    variants : dict of str to float
        Test losses of its variants.
    n_epochs : int
        After which they are compared.

    Returns
    -------
    text : str
    """
    published = PUBLISHED_LOSSES['cnn-2'][1]
    losses = second.history['test_loss']
    ours = float(losses.iloc[-1])
    text = f'The second network ends at {ours:.4g}, {comparison_text(ours, published)}. '
    if not math.isfinite(ours):
        return text + 'It diverged.'
    wanted = math.log(published / ours)
    if abs(wanted) > math.log(ALIKE):
        finite = [loss for loss in seeds if math.isfinite(loss)]
        base = float(np.mean(np.log(finite))) if finite else math.nan
        changes = {
            'the input scaling': [variants[name] for name in ('second-scaled', 'second-asinh')],
            'the noise': [variants['second-noisy']],
            'the batch size': [variants['second-batch']],
            'the seed': finite,
        }
        enough = [
            cause
            for cause, values in changes.items()
            if any((math.log(v) - base) / wanted >= 1 for v in values if math.isfinite(v))
        ]
        text += (
            f'After {n_epochs} epochs, what changes the loss by at least that factor and in that '
            f'direction: {" and ".join(enough) or "none of scaling, noise, batch size and seed"}. '
        )
        if len(finite) < len(seeds):
            text += f'Of the {len(seeds)} seeds {len(seeds) - len(finite)} diverged. '
    # how much the loss moves from one epoch to the next, late in the training
    late = np.asarray(losses, float)[-4:]
    if len(late) > 1:
        text += (
            f'From epoch to epoch, the last {len(late)} test losses are {_list(late)}: where a '
            f'training stops changes it by a factor of {late.max() / late.min():.2f}.'
        )
    return text.rstrip()


def dropout_remark(rows):
    """
    Say whether dropout is why the train loss is above the test loss.

    Parameters
    ----------
    rows : list of dict
        One per network, with ``name``, ``train_loss``, ``train_loss_dropout_on``,
        ``train_loss_dropout_off`` and ``test_loss``.

    Returns
    -------
    text : str
    """
    parts, explained = [], []
    for row in rows:
        on, off = row['train_loss_dropout_on'], row['train_loss_dropout_off']
        parts.append(
            f'{label_of(row["name"])}: {row["train_loss"]:.4g} on the way through the last epoch, '
            f'{on:.4g} with the final weights and dropout, {off:.4g} with the same weights '
            f'without; test {row["test_loss"]:.4g}'
        )
        # with the dropout off, the gap to the test loss is the smaller part of what it was
        if row['train_loss'] > row['test_loss']:
            explained.append(abs(off - row['test_loss']) < (on - row['test_loss']) / 2)
    train_loss, test_loss = PUBLISHED_LOSSES['cnn-1']
    # of the difference of two variances of the logarithm of an even number, of kurtosis 9
    chance = math.log10(math.e) ** 2 * math.sqrt(8 / PUBLISHED_N_TRAIN + 8 / PUBLISHED_N_TEST)
    text = (
        'The report explains train losses above the test losses by the larger training set. For '
        f'the constant prediction of CNN 1 chance is enough: {train_loss:g} and {test_loss:g} are '
        f"{(train_loss - test_loss) / chance:.1f} standard deviations of the two sets' variances "
        'apart. '
        f'Train losses of ours are: {"; ".join(parts)}. '
    )
    if not explained:
        return text + 'No train loss of ours is above its test loss.'
    n_true = sum(explained)
    if n_true == len(explained):
        return text + (
            f'Where the train loss is the larger one ({n_true} of {len(rows)}), switching the '
            'dropout off removes most of the difference: it is the dropout, not the number of '
            'galaxies.'
        )
    return text + (
        f'In {n_true} of the {len(explained)} networks whose train loss is the larger one, '
        'switching the dropout off removes most of the difference.'
    )
