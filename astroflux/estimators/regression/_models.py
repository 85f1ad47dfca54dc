# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Regressions of ln flux on features, and of the errors they make."""

from functools import lru_cache

import numpy as np
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from astroflux._forks import ForkLock
from astroflux.estimators.regression._features import FEATURES, design
from astroflux.estimators.regression._training_table import achievable_scatter

__all__ = ['MODELS', 'Regression', 'train', 'train_once']

MODELS = ('linear', 'forest', 'boosting')

# Each part of the table is predicted by a model that has not seen it, which
# tells honest errors; the answer is the mean of these models.
N_FOLDS = 2

# The share of normal errors within one standard deviation.
ONE_SIGMA = 0.6827

# The inverse square would leave nothing to learn from faint galaxies.
WEIGHT_POWER = 1.6

# ln(flux / reference) beyond this is an extrapolation gone astray.
LARGEST_LN_RATIO = 4.0


_training = ForkLock()


@lru_cache(maxsize=8)
def train(table, model, random_state):
    """Return the trained models; the same object again for the same table and model."""
    return Regression(table, model, random_state)


def train_once(table, model, random_state):
    """Return what `train` does; threads that want the same models wait for one that trains them."""
    with _training:
        return train(table, model, random_state)


class Regression:
    """Models of ln(flux / reference) and of its error, trained on a `TrainingTable`."""

    def __init__(self, table, model, random_state):
        columns = design(table.features)
        weight = table.scatter.astype(float) ** -WEIGHT_POWER
        weight /= weight.mean()
        n_groups = len(np.unique(table.group))
        folds = list(
            GroupKFold(min(N_FOLDS, n_groups), shuffle=True, random_state=random_state).split(
                columns, groups=table.group
            )
        )
        self.models, guess = _cross_fit(
            _new_model(model, random_state), columns, table.target, weight, folds
        )
        # In units of what is achievable at the S/N that is seen, not the true one.
        error = np.abs(table.target - _limited(guess)) / _seen_scatter(columns)
        ln_error = np.log(np.maximum(error, 1e-6))
        self.spread_models, ln_spread = _cross_fit(
            _new_spread_model(random_state), columns, ln_error, None, folds
        )
        # Conformal: the factor that makes the intervals of galaxies not seen
        # in training hold the truth as often as they should.
        self.ln_factor = np.quantile(ln_error - ln_spread, ONE_SIGMA)

    def predict(self, features):
        """Return ln(flux / reference) and the half-width of its 68 % interval."""
        columns = design(features)
        ln_ratio = _limited(_mean_prediction(self.models, columns))
        ln_spread = _mean_prediction(self.spread_models, columns) + self.ln_factor
        return ln_ratio, np.exp(ln_spread) * _seen_scatter(columns)


def _new_model(model, random_state):
    """Return the untrained regression of ln(flux / reference)."""
    if model == 'linear':
        return make_pipeline(SimpleImputer(strategy='median'), StandardScaler(), Ridge(alpha=1.0))
    if model == 'forest':
        return RandomForestRegressor(
            n_estimators=60,
            min_samples_leaf=5,
            max_features=0.5,
            max_samples=0.5,
            random_state=random_state,
        )
    return _Boosting(
        learning_rate=0.09,
        max_iter=200,
        max_leaf_nodes=63,
        min_samples_leaf=20,
        l2_regularization=1.0,
        max_features=0.3,
        early_stopping=False,
        random_state=random_state,
    )


class _Boosting(HistGradientBoostingRegressor):
    """
    Boosted trees that see columns as numbers of bins, of about equal weight.

    The bins and trees are those of scikit-learn, which takes more than half of the training to
    find bins where there are weights.
    """

    def fit(self, columns, target, sample_weight):
        self._edges = [_bin_edges(column, sample_weight) for column in columns.T]
        return super().fit(self._binned(columns), target, sample_weight)

    def predict(self, columns):
        return super().predict(self._binned(columns))

    def _binned(self, columns):
        numbers = [
            np.searchsorted(edges, column)
            for edges, column in zip(self._edges, columns.T, strict=True)
        ]
        return np.where(np.isnan(columns), np.nan, np.transpose(numbers))


def _bin_edges(column, weight, n_bins=255):
    """Upper edges of bins of about equal weight, but for the last one."""
    known = ~np.isnan(column)
    values = np.unique(column[known])
    if len(values) <= n_bins:
        return (values[1:] + values[:-1]) / 2
    shares = np.linspace(0, 1, n_bins + 1)[1:-1]
    quantiles = np.quantile(column[known], shares, weights=weight[known], method='inverted_cdf')
    return np.unique(quantiles)


def _new_spread_model(random_state):
    """Return the untrained model of the errors' size."""
    return HistGradientBoostingRegressor(
        loss='quantile',
        quantile=ONE_SIGMA,
        learning_rate=0.1,
        max_iter=60,
        max_leaf_nodes=31,
        min_samples_leaf=50,
        max_features=0.5,
        early_stopping=False,
        random_state=random_state,
    )


# One thread here and below: several gain little, and lose much on a machine that is busy.
@threadpool_limits.wrap(limits=1)
def _cross_fit(model, columns, target, weight, folds):
    """Train one model per fold without that fold; return them and their out-of-fold answers."""
    models, answer = [], np.empty(len(target))
    for inside, outside in folds:
        fitted = clone(model)
        keywords = {}
        if weight is not None:
            last_step = f'{fitted.steps[-1][0]}__' if hasattr(fitted, 'steps') else ''
            keywords = {f'{last_step}sample_weight': weight[inside]}
        known = columns[inside]
        # scikit-learn cannot bin a column of which nothing is known.
        known[:, np.isnan(known).all(axis=0)] = 0
        fitted.fit(known, target[inside], **keywords)
        answer[outside] = fitted.predict(columns[outside])
        models.append(fitted)
    return models, answer


# That of OpenMP is the limit of a thread. Others are those of the process: threads that predict at
# the same time would leave them behind.
@threadpool_limits.wrap(limits=1, user_api='openmp')
def _mean_prediction(models, columns):
    # Rounded, as the last bits of a matrix product depend on the size of the batch.
    return np.float32(np.mean([model.predict(columns) for model in models], axis=0)).astype(float)


def _limited(ln_ratio):
    return np.clip(ln_ratio, -LARGEST_LN_RATIO, LARGEST_LN_RATIO)


def _seen_scatter(columns):
    return achievable_scatter(np.exp(columns[:, FEATURES.index('ln_snr')]))
