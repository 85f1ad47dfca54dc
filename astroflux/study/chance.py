# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Whether predictions are any better than chance, and what chance would give."""

import numpy as np
import pandas as pd
from scipy.stats import binomtest, norm
from sklearn.feature_selection import mutual_info_regression
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score

__all__ = [
    'accuracy_by_chance',
    'column_information',
    'independence',
    'r2_of_shuffled',
]


def independence(actual, predicted):
    """
    Compare predictions with what they would be worth if they knew nothing of the truth.

    Parameters
    ----------
    actual, predicted : 1D `~numpy.ndarray`
        The truth and the predictions, at least three.

    Returns
    -------
    result : dict
        ``correlation``, Pearson's coefficient; ``correlation_error``, its standard deviation
        if the predictions were shuffled, ``1 / sqrt(n - 1)`` whatever their distribution
        (Pitman 1937, Supplement to JRSS 4, 225); ``p_value``, two-sided, by the normal
        distribution; ``expected_mse`` and ``expected_r2``, the mean over all orders of the
        predictions. The first and the third are NaN if the predictions are all equal.
    """
    actual, predicted = np.asarray(actual, float), np.asarray(predicted, float)
    variance, offset = actual.var(), actual.mean() - predicted.mean()
    error = 1 / np.sqrt(len(actual) - 1)
    correlation = np.nan
    if np.ptp(predicted) > 0:
        correlation = np.corrcoef(actual, predicted)[0, 1]
    mse = variance + predicted.var() + offset**2
    return {
        'correlation': float(correlation),
        'correlation_error': float(error),
        'p_value': float(2 * norm.sf(abs(correlation) / error)),
        'expected_mse': float(mse),
        'expected_r2': float(1 - mse / variance),
    }


def accuracy_by_chance(actual, predicted):
    """
    Compare the accuracy of a classification with that of chance.

    Parameters
    ----------
    actual, predicted : 1D `~numpy.ndarray`
        Class of each galaxy, and the one predicted.

    Returns
    -------
    result : dict
        ``accuracy``; ``chance``, the mean over all orders of the predictions; ``error``, the
        binomial standard deviation of the accuracy by chance; ``n_sigma``, how far the accuracy
        is above chance; ``p_value`` of an exact two-sided binomial test.
    """
    actual, predicted = np.asarray(actual), np.asarray(predicted)
    n = len(actual)
    chance = sum(np.mean(actual == one) * np.mean(predicted == one) for one in np.unique(actual))
    n_right = int((actual == predicted).sum())
    error = np.sqrt(chance * (1 - chance) / n)
    return {
        'accuracy': n_right / n,
        'chance': float(chance),
        'error': float(error),
        'n_sigma': float((n_right / n - chance) / error) if error > 0 else 0.0,
        'p_value': float(binomtest(n_right, n, float(chance)).pvalue),
    }


def r2_of_shuffled(train, train_target, test, test_target, rng, *, n_shuffles=400):
    """
    R2 that linear regressions reach on a test set if the truth they learn from is shuffled.

    Parameters
    ----------
    train, test : 2D `~numpy.ndarray`
        ``(n, n_columns)``, predictors.
    train_target, test_target : 1D `~numpy.ndarray`
        What is to be predicted.
    rng : `numpy.random.Generator`
        Source of randomness.
    n_shuffles : int, optional
        How many shuffles.

    Returns
    -------
    r2 : 1D `~numpy.ndarray`
        One for each shuffle.
    """
    shuffled = np.array([rng.permutation(train_target) for _ in range(n_shuffles)]).T
    predicted = LinearRegression().fit(train, shuffled).predict(test)
    return np.array([r2_score(test_target, column) for column in predicted.T])


def column_information(columns, target, rng, *, n_shuffles=20, max_rows=5000):
    """
    Mutual information of each column of a table with a target, and that of shuffled targets.

    By the distances to the nearest neighbours (Kraskov, Stoegbauer & Grassberger 2004, PRE 69,
    066138), as scikit-learn has it, so that any dependence counts, not only a linear one.

    Parameters
    ----------
    columns : `~pandas.DataFrame`
        The columns, numbers.
    target : 1D `~numpy.ndarray`
        The target.
    rng : `numpy.random.Generator`
        Source of randomness.
    n_shuffles : int, optional
        How often the target is shuffled.
    max_rows : int, optional
        Larger tables are sampled.

    Returns
    -------
    table : `~pandas.DataFrame`
        One row per column: ``column``; ``information`` in nats; ``shuffled_median`` and
        ``shuffled_largest`` of the shuffled targets. 0 for a column of one value.
    n_sigma : float
        How far the largest information of all columns is above that of the shuffled targets, in
        standard deviations of these. Their distribution has a tail to high values.
    """
    rows = np.arange(len(columns))
    if len(rows) > max_rows:
        rows = rng.choice(len(rows), max_rows, replace=False)
    values, target = columns.to_numpy(float)[rows], np.asarray(target, float)[rows]
    varies = np.ptp(values, axis=0) > 0
    found = np.zeros((n_shuffles + 1, values.shape[1]))
    for shuffle, information in enumerate(found):
        truth = target if shuffle == 0 else rng.permutation(target)
        # a little noise, which the estimate needs to tell equal values apart
        information[varies] = mutual_info_regression(
            values[:, varies], truth, random_state=int(rng.integers(2**31))
        )
    largest = found.max(axis=1)
    table = pd.DataFrame(
        {
            'column': list(columns.columns),
            'information': found[0],
            'shuffled_median': np.median(found[1:], axis=0),
            'shuffled_largest': found[1:].max(axis=0),
        }
    )
    return table, float((largest[0] - largest[1:].mean()) / max(largest[1:].std(ddof=1), 1e-12))
