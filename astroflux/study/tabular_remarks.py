# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What the numbers of the models of the table mean, in sentences that follow the numbers."""

import numpy as np

from astroflux.study._output import rounded

__all__ = [
    'BY_CONSTRUCTION',
    'PUBLISHED_ACCURACY',
    'PUBLISHED_CLASS',
    'PUBLISHED_MSE',
    'PUBLISHED_R2',
    'class_remarks',
    'information_remark',
    'linear_remark',
    'regressor_remark',
    'variance_remarks',
]

# What the report printed.
PUBLISHED_MSE = {'all columns': 0.17889, 'R_e and Bt': 0.17867}
PUBLISHED_R2 = {'all columns': -0.001504, 'R_e and Bt': -0.000351}
PUBLISHED_ACCURACY = 0.34
PUBLISHED_CLASS = {'logistic': 'medium', 'forest': 'high'}

# Variance of log10 of a flux that is uniform from 0 to any number.
UNIFORM_VARIANCE = np.log10(np.e) ** 2

# A result that chance gives more rarely than this is called more than chance.
SIGNIFICANCE = 0.003

CHANCE = 'chance'

# So many standard deviations above the largest information with shuffled fluxes are no chance: the
# largest of many values has a tail to high ones.
INFORMATION_SIGMA = 4.0

BY_CONSTRUCTION = (
    'The total flux is drawn independently of all other columns, so that by construction the table '
    'holds no information on it: no model of the table can do better than chance.'
)


def linear_remark(model):
    """Say whether a linear regression did better than on shuffled fluxes."""
    low, high = model['shuffled_r2_low'], model['shuffled_r2_high']
    verdict = 'no better than chance' if model['r2_p_value'] > SIGNIFICANCE else 'above chance'
    return (
        f'On {model["model"]}: R2 {model["r2"]:+.6f}. The same regression learned from shuffled '
        f'fluxes has an R2 from {low:+.6f} to {high:+.6f} in 95 of 100 cases (p = '
        f'{rounded(model["r2_p_value"])}): {verdict}.'
    )


def information_remark(information, n_sigma):
    """Say whether any column has information on the flux."""
    best = information.loc[information['information'].idxmax()]
    largest = information['shuffled_largest'].max()
    verdict = (
        'no dependence of any form is seen'
        if n_sigma < INFORMATION_SIGMA
        else 'at least one column tells something of the flux'
    )
    return (
        f'The largest mutual information of a column with log flux is {best["information"]:.4f} '
        f'nat ({best["column"]}). Of shuffled fluxes it is up to {largest:.4f} nat; that of the '
        f'actual ones is {n_sigma:+.1f} standard deviations from their mean: {verdict}.'
    )


def variance_remarks(log_flux):
    """Yield what the MSE of a model without knowledge is, and what follows for the report."""
    # the logarithm of a uniform number is exponentially distributed, of kurtosis 9
    error = UNIFORM_VARIANCE * np.sqrt(8 / len(log_flux))
    published_error = UNIFORM_VARIANCE * np.sqrt(8 / 10_000)
    sigma = (PUBLISHED_MSE['R_e and Bt'] - UNIFORM_VARIANCE) / published_error
    yield (
        'A model that knows nothing has the variance of log10 flux for its MSE. For fluxes uniform '
        f'from zero that is {UNIFORM_VARIANCE:.4f} +- {error:.4f} in a set of {len(log_flux)}; '
        f'this test set has {log_flux.var():.4f}. The published MSE is {sigma:+.1f} standard '
        'deviations from it for a set of 10000.'
    )
    first, second = (PUBLISHED_MSE[name] for name in ('all columns', 'R_e and Bt'))
    yield (
        f'The report calls the model of all columns the more accurate one; its own MSE, {first} '
        f'against {second}, says that it is the less accurate one. The difference is what chance '
        'fits with more columns.'
    )


def regressor_remark(model):
    """Say whether a forest of regression trees did better than chance."""
    return (
        'The report calls its forest a classifier and a regression; both are here. The R2 of the '
        f'regressor is {model["r2"]:+.4f}; {model["expected_r2"]:+.4f} is expected of predictions '
        'that scatter as much and know nothing, as trees grown to the end follow chance. Their '
        f'correlation with the truth is {model["correlation"]:+.4f} +- '
        f'{model["correlation_error"]:.4f}: {_verdict(model["p_value"], model["correlation"])}.'
    )


def class_remarks(judged, shares, published_class):
    """Yield whether a classifier did better than chance, and which class it prefers."""
    verdict = _verdict(judged['p_value'], judged['n_sigma'])
    yield (
        f'Predictions as frequent as these that know nothing are right in '
        f'{100 * judged["chance"]:.2f} +- {100 * judged["error"]:.2f} of 100 galaxies. The '
        f'accuracy of {100 * judged["accuracy"]:.1f} % is {judged["n_sigma"]:+.1f} standard '
        f'deviations from that: {verdict}.'
    )
    favourite = max(shares, key=shares.get)
    same = 'the same' if favourite == published_class else 'another one'
    yield (
        f'The class predicted most often is {favourite} ({100 * shares[favourite]:.0f} %), that '
        f'of the report is {published_class}: {same}'
        + ('.' if verdict != CHANCE else '. Which one it is follows the noise of the training set.')
    )


def _verdict(p_value, excess):
    """Judge a two-sided test by the sign of what was found."""
    if not np.isfinite(p_value):
        return 'predictions that are all equal have none'
    if p_value >= SIGNIFICANCE:
        return CHANCE
    return 'more than chance' if excess > 0 else 'worse than chance'
