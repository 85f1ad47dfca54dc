# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Linear and logistic regression and random forests: what the table alone says of the flux."""

import numpy as np
import pandas as pd
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import (
    classification_report,
    confusion_matrix,
    mean_squared_error,
    r2_score,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from astroflux.study._output import comparison_row, plain, save_figure, write_table
from astroflux.study.chance import (
    accuracy_by_chance,
    column_information,
    independence,
    r2_of_shuffled,
)
from astroflux.study.tabular_plots import (
    confusion_figure,
    information_figure,
    predictions_figure,
)
from astroflux.study.tabular_remarks import (
    BY_CONSTRUCTION,
    PUBLISHED_ACCURACY,
    PUBLISHED_CLASS,
    PUBLISHED_MSE,
    PUBLISHED_R2,
    class_remarks,
    information_remark,
    linear_remark,
    regressor_remark,
    variance_remarks,
)

__all__ = ['CLASSES', 'feature_names', 'flux_classes', 'forest', 'linear', 'logistic']

# The target, in either form, and what is no number.
TARGETS = ('total_flux', 'log_total_flux', 'file_name')

CLASSES = ('low', 'medium', 'high')

SEED = 378


def feature_names(table):
    """
    Columns that a flux may be predicted from: all but the target's and the file's name.

    Parameters
    ----------
    table : `~pandas.DataFrame`
        A table of the study.

    Returns
    -------
    names : list of str
    """
    return [name for name in table.columns if name not in TARGETS]


def flux_classes(log_flux, train_log_flux):
    """
    Sort fluxes into low, medium and high, by the terciles of the training set.

    Parameters
    ----------
    log_flux, train_log_flux : 1D `~numpy.ndarray`
        log10 of the fluxes, and of those of the training set.

    Returns
    -------
    classes : 1D `~numpy.ndarray` of str
        One of `CLASSES` for each.
    """
    edges = np.quantile(train_log_flux, [1 / 3, 2 / 3])
    return np.array(CLASSES)[np.digitize(log_flux, edges)]


def linear(context):
    """
    Linear regressions of log flux on all other columns, and on R_e and Bt alone.

    Parameters
    ----------
    context : `~astroflux.study.context.Context`
        What a stage is given.

    Returns
    -------
    result : dict
        Numbers for the page; see `~astroflux.study`.
    """
    train, test, folder = context.train, context.test, context.folder
    rng = np.random.default_rng(SEED)
    features = feature_names(train.table)
    models, predictions, rows, remarks = [], {}, [], [BY_CONSTRUCTION]
    for name, columns in {'all columns': features, 'R_e and Bt': ['R_e', 'Bt']}.items():
        x_train, x_test = (part.table[columns].to_numpy(float) for part in (train, test))
        predicted = LinearRegression().fit(x_train, train.log_flux).predict(x_test)
        shuffled = r2_of_shuffled(x_train, train.log_flux, x_test, test.log_flux, rng)
        model = _judge(name, test.log_flux, predicted)
        low, high = np.quantile(shuffled, [0.025, 0.975])
        model |= {
            'n_columns': len(columns),
            'shuffled_r2_low': float(low),
            'shuffled_r2_high': float(high),
            # the truth is one of the orders
            'r2_p_value': float((1 + np.sum(shuffled >= model['r2'])) / (1 + len(shuffled))),
        }
        models.append(model)
        predictions[f'linear regression on {name}'] = predicted
        rows += [
            comparison_row(f'MSE, {name}', PUBLISHED_MSE[name], model['mse']),
            comparison_row(f'R2, {name}', PUBLISHED_R2[name], model['r2']),
        ]
        remarks.append(linear_remark(model))
    information, n_sigma = column_information(train.table[features], train.log_flux, rng)
    remarks += [information_remark(information, n_sigma), *variance_remarks(test.log_flux)]
    rows.append(comparison_row('variance of log10 flux, test set', None, test.log_flux.var()))
    return {
        'rows': rows,
        'remarks': remarks,
        'models': [_fit_for_json(model) for model in models],
        'variance': plain(test.log_flux.var()),
        'information_n_sigma': plain(n_sigma),
        'tables': [
            write_table(pd.DataFrame(models), folder / 'linear.csv'),
            write_table(information, folder / 'linear_information.csv'),
        ],
        'figures': [
            save_figure(predictions_figure(test.log_flux, predictions), folder / 'linear.png'),
            save_figure(information_figure(information), folder / 'linear_information.png'),
        ],
    }


def _judge(name, actual, predicted):
    """Compare the predictions of a regression with the truth, and with chance."""
    return {
        'model': name,
        'mse': float(mean_squared_error(actual, predicted)),
        'r2': float(r2_score(actual, predicted)),
        **independence(actual, predicted),
    }


def _fit_for_json(model):
    return {
        name: value if isinstance(value, str | int) else plain(value)
        for name, value in model.items()
    }


def logistic(context):
    """
    Logistic regression into low, medium and high flux.

    Parameters
    ----------
    context : `~astroflux.study.context.Context`
        What a stage is given.

    Returns
    -------
    result : dict
        Numbers for the page; see `~astroflux.study`.
    """
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    return _classify(context, model, 'logistic', 'logistic regression')


def forest(context):
    """
    Random forests: a classifier into low, medium and high flux, and a regressor of log flux.

    Parameters
    ----------
    context : `~astroflux.study.context.Context`
        What a stage is given.

    Returns
    -------
    result : dict
        Numbers for the page; see `~astroflux.study`.
    """
    train, test, folder = context.train, context.test, context.folder
    options = {
        'n_estimators': context.preset.n_trees,
        'n_jobs': context.workers,
        'random_state': SEED,
    }
    result = _classify(context, RandomForestClassifier(**options), 'forest', 'random forest')
    features = feature_names(train.table)
    x_train, x_test = (part.table[features].to_numpy(float) for part in (train, test))
    regressor = RandomForestRegressor(**options).fit(x_train, train.log_flux)
    predicted = regressor.predict(x_test)
    model = _judge('random forest regressor', test.log_flux, predicted)
    result['rows'] += [
        comparison_row('MSE, random forest regressor', None, model['mse']),
        comparison_row('R2, random forest regressor', None, model['r2']),
    ]
    result['remarks'].append(regressor_remark(model))
    result['regressor'] = _fit_for_json(model)
    figure = predictions_figure(test.log_flux, {'random forest regressor': predicted})
    result['figures'].append(save_figure(figure, folder / 'forest_regressor.png'))
    result['tables'].append(write_table(pd.DataFrame([model]), folder / 'forest_regressor.csv'))
    return result


def _classify(context, model, stage, label):
    """Train and judge a classifier of fluxes."""
    train, test, folder = context.train, context.test, context.folder
    features = feature_names(train.table)
    y_train, y_test = (flux_classes(part.log_flux, train.log_flux) for part in (train, test))
    model.fit(train.table[features].to_numpy(float), y_train)
    predicted = model.predict(test.table[features].to_numpy(float))
    judged = accuracy_by_chance(y_test, predicted)
    report = classification_report(
        y_test, predicted, labels=CLASSES, output_dict=True, zero_division=0
    )
    # the accuracy comes as a bare number
    report = {name: row for name, row in report.items() if isinstance(row, dict)}
    table = pd.DataFrame(report).T.rename_axis('class').reset_index()
    table['support'] = table['support'].astype(int)
    counts = confusion_matrix(y_test, predicted, labels=CLASSES)
    shares = dict(zip(CLASSES, (counts.sum(axis=0) / counts.sum()).tolist(), strict=True))
    matrix = pd.DataFrame(counts, columns=[f'predicted {name}' for name in CLASSES])
    matrix.insert(0, 'actual', CLASSES)
    favourite = max(shares, key=shares.get)
    title = f'{label}: accuracy {100 * judged["accuracy"]:.1f} %'
    return {
        'rows': [
            comparison_row(f'accuracy, {label}', PUBLISHED_ACCURACY, judged['accuracy']),
            comparison_row('class predicted most often', PUBLISHED_CLASS[stage], favourite),
        ],
        'remarks': [BY_CONSTRUCTION, *class_remarks(judged, shares, PUBLISHED_CLASS[stage])],
        'chance': _fit_for_json(judged),
        'predicted_shares': shares,
        'tables': [
            write_table(table, folder / f'{stage}_report.csv'),
            write_table(matrix, folder / f'{stage}_confusion.csv'),
        ],
        'figures': [
            save_figure(
                confusion_figure(counts, CLASSES, title=title), folder / f'{stage}_confusion.png'
            )
        ],
    }
