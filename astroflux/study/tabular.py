# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What the data set is, and what its table alone says of the flux: six stages of the study."""

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.decomposition import PCA, FactorAnalysis
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.feature_selection import mutual_info_regression
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import classification_report, confusion_matrix, r2_score
from sklearn.model_selection import KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from astroflux.study import catalogue, figures, published
from astroflux.study.catalogue import FEATURES, correlation
from astroflux.study.dataset import write_study_dataset
from astroflux.study.results import comparison_row, write_outputs

__all__ = ['components', 'data', 'exploration', 'forest', 'linear', 'logistic']

CLASSES = ('low', 'medium', 'high')

# Of everything random here but the data.
SEED = 378

# In ADU. Of fainter galaxies the noise would blur the part of the light that an image holds.
BRIGHT = 3000.0

# Shuffled fluxes that a regression learns from, and those that columns are compared with, in
# tables of so many rows.
N_SHUFFLES = 400
N_INFORMATION_SHUFFLES = 20
MAX_INFORMATION_ROWS = 5000

# Tables whose columns are shuffled.
N_TABLE_SHUFFLES = 20

# Eigenvalues below this are zero: as many columns follow from others. So does a column whose
# correlation with another one is no farther than this from 1 or -1.
SMALLEST = 1e-6


def data(context):
    """Draw the data set, as far as it is not there, and describe it."""
    settings = context.preset.settings
    write_study_dataset(context.data, settings, workers=context.workers, progress=context.progress)
    return describe(context)


def describe(context):
    """Describe the data set: its size, rows, units, and whether it is distributed as published."""
    sets = _sets(context)
    table = pd.concat([part.table for part in sets.values()], ignore_index=True)
    checks, radii = catalogue.check_table(table), catalogue.published_radii()
    n_passed = sum(check['passed'] for check in checks)
    flux, log_flux = table['total_flux'], table['log_total_flux']
    ends = pd.concat([context.train.table.head(5), context.train.table.tail(5)])
    rows = (
        *((f'galaxies, {k}', published.N_GALAXIES[k], len(part)) for k, part in sets.items()),
        ('columns', published.N_COLUMNS, table.shape[1]),
        ('side of an image in pixels', published.IMAGE_SIDE, context.train.images.shape[1]),
        ('total flux in ADU', '0 to 30,000', f'{flux.min():,.1f} to {flux.max():,.1f}'),
        ('log10 of the flux', '0 to 5', f'{log_flux.min():.2f} to {log_flux.max():.2f}'),
        ('median S/N of the test images', None, np.median(image_snr(context.test))),
        ('median of the light inside a test image, percent', None, light_inside(context.test)),
        ('checks of the distributions that pass', None, f'{n_passed} of {len(checks)}'),
    )
    tables = {
        'training-rows.csv': ends.round(6).reset_index(names='row'),
        'columns.csv': catalogue.column_notes(),
        'checks.csv': pd.DataFrame([_check_as_text(check) for check in checks]),
        'published-radii.csv': radii.round(4),
    }
    return {
        'rows': [comparison_row(*row) for row in rows],
        'checks': checks,
        'radii': radii.to_dict('records'),
        **write_outputs(context.folder, tables, {}),
    }


def exploration(context):
    """Draw the report's figures 2 to 4: an image, the flux and its logarithm, pairs of columns."""
    tables = {name: part.table for name, part in _sets(context).items()}
    rows = []
    for name, table in tables.items():
        what, found = f'skewness of log10 of the flux, {name}', stats.skew(table['log_total_flux'])
        rows.append(comparison_row(what, 'left-skewed', found))
        for x, y in published.PAIRS:
            what, found = f'correlation of {x} and {y}, {name}', correlation(table[x], table[y])
            rows.append(comparison_row(what, 'no clear correlation', found))
    shown = {
        'example.png': _plot_median_galaxy(context.train),
        'flux.png': figures.plot_fluxes(tables),
        'pairs.png': figures.plot_pairs(tables),
    }
    correlations = {'correlations.csv': pd.DataFrame(rows)}
    return {'rows': rows, **write_outputs(context.folder, correlations, shown)}


def linear(context):
    """Linear regressions of log flux on all other columns, and on R_e and Bt alone."""
    actual, rng = context.test.log_flux, np.random.default_rng(SEED)
    models, predictions, rows = [], {}, []
    for name, columns in {'all columns': FEATURES, 'R_e and Bt': ['R_e', 'Bt']}.items():
        predicted, chance = regress(*_values(context, columns), context, rng)
        model = judge_regression(name, actual, predicted) | {
            'n_columns': len(columns),
            'shuffled_r2_low': chance['shuffled_low'],
            'shuffled_r2_high': chance['shuffled_high'],
            'r2_p_value': chance['p_value'],
        }
        models.append(model)
        predictions[f'linear regression on {name}'] = predicted
        rows.append(comparison_row(f'MSE, {name}', published.LINEAR_MSE[name], model['mse']))
        rows.append(comparison_row(f'R2, {name}', published.LINEAR_R2[name], model['r2']))
    columns = context.train.table[FEATURES]
    information, n_sigma = column_information(columns, context.train.log_flux, rng)
    rows.append(comparison_row('variance of log10 flux, test set', None, actual.var()))
    tables = {'linear.csv': pd.DataFrame(models), 'linear_information.csv': information}
    shown = {
        'linear.png': figures.plot_predictions(actual, predictions),
        'linear_information.png': figures.plot_information(information),
    }
    return {
        'rows': rows,
        'models': models,
        'variance': actual.var(),
        'information_n_sigma': n_sigma,
        **write_outputs(context.folder, tables, shown),
    }


def logistic(context):
    """Logistic regression into low, medium and high flux."""
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    found, tables, shown = _classify(context, model, 'logistic', 'logistic regression')
    return {**found, **write_outputs(context.folder, tables, shown)}


def forest(context):
    """Random forests: a classifier into low, medium and high flux, a regressor of log flux."""
    options = {'n_estimators': context.preset.n_trees, 'n_jobs': context.workers}
    model = RandomForestClassifier(**options, random_state=SEED)
    found, tables, shown = _classify(context, model, 'forest', 'random forest')
    x_train, x_test = _values(context, FEATURES)
    regressor = RandomForestRegressor(**options, random_state=SEED)
    predicted = regressor.fit(x_train, context.train.log_flux).predict(x_test)
    actual, name = context.test.log_flux, 'random forest regressor'
    found['regressor'] = judged = judge_regression(name, actual, predicted)
    found['rows'].append(comparison_row(f'MSE, {name}', None, judged['mse']))
    found['rows'].append(comparison_row(f'R2, {name}', None, judged['r2']))
    tables['forest_regressor.csv'] = pd.DataFrame([judged])
    shown['forest_regressor.png'] = figures.plot_predictions(actual, {name: predicted})
    return {**found, **write_outputs(context.folder, tables, shown)}


def components(context):
    """Principal components and factors of the table, and regressions of log flux on them."""
    rng = np.random.default_rng(SEED)
    columns = context.train.table[FEATURES]
    # those that vary, without the number of the image, which is a name
    names = [name for name in FEATURES if columns[name].nunique() > 1 and name != 'img_number']
    scaler = StandardScaler().fit(_values(context, names)[0])
    train, test = (scaler.transform(values) for values in _values(context, names))
    pca, scree, n_components = decompose(train, rng)
    n_free = int((scree['eigenvalue'] > SMALLEST).sum())

    # columns that are the same leave a factor nothing to explain but themselves
    same = np.abs(np.corrcoef(train, rowvar=False)) > 1 - SMALLEST
    distinct = np.flatnonzero(~np.tril(same, -1).any(axis=1))
    distinct_names = [names[column] for column in distinct]
    _, _, n_factors = decompose(train[:, distinct], rng)
    factors = FactorAnalysis(n_factors, rotation='varimax', svd_method='lapack', max_iter=5000)
    factors.fit(train[:, distinct])
    scale = np.sqrt(scree['eigenvalue'].to_numpy())[:n_free, None]
    loadings = _loadings(names, pca.components_[:n_free] * scale, 'PC')
    of_factors = _loadings(distinct_names, factors.components_, 'F')
    scores = {
        'PCA': [pca.transform(part)[:, :n_free] for part in (train, test)],
        'factor analysis': [factors.transform(part[:, distinct]) for part in (train, test)],
    }
    predicted = predict_by_components(scores, context, rng)
    tables = {
        'components_scree.csv': scree,
        'components_loadings.csv': loadings,
        'components_factors.csv': of_factors,
        'components_flux.csv': predicted,
    }
    loadings = {'PCA': loadings, 'factor analysis': of_factors}
    shown = {
        'components_scree.png': figures.plot_scree(scree),
        'components_loadings.png': figures.plot_loadings(loadings),
        'components_flux.png': figures.plot_components_r2(predicted),
    }
    return {
        'n_columns': len(names),
        'n_free': n_free,
        'n_components': n_components,
        'explained': scree['cumulative'][n_components - 1],
        'rows': [
            comparison_row(f'R2 of log flux, all of {kind}', None, group['r2'].iloc[-1])
            for kind, group in predicted.groupby('decomposition')
        ],
        **write_outputs(context.folder, tables, shown),
    }


def _sets(context):
    return {'training': context.train, 'test': context.test}


def _values(context, columns):
    """Return columns of both tables as arrays."""
    return [part.table[columns].to_numpy(float) for part in (context.train, context.test)]


def _check_as_text(check):
    found, passed = check['found'], 'yes' if check['passed'] else 'no'
    if isinstance(found, list):
        return {**check, 'found': ' to '.join(f'{value:.6g}' for value in found), 'passed': passed}
    return {**check, 'found': f'{found:.4g}', 'passed': passed}


def image_snr(study_set):
    """Signal-to-noise ratio of each image as a whole, from the image less its noise."""
    images = study_set.images
    # float32 would do for the sums, but not for the brightest pixels
    power = np.einsum('nij,nij->n', images, images, dtype=float)
    of_noise = study_set.noise**2 * images[0].size
    return np.sqrt(np.maximum(power - of_noise, 0)) / study_set.noise


def light_inside(study_set):
    """Median part of the light of bright galaxies that their images hold, in percent."""
    inside = study_set.images.sum(axis=(1, 2), dtype=float) / study_set.flux
    return 100 * np.median(inside[study_set.flux >= BRIGHT])


def _plot_median_galaxy(train):
    """Plot the galaxy that is closest to the median in flux and radius."""
    ranks = train.table[['total_flux', 'R_e']].rank(pct=True)
    row = ((ranks - 0.5) ** 2).sum(axis=1).argmin()
    title = (
        '{file_name}: {total_flux:,.0f} ADU, $R_e$ = {R_e:.2f} arcsec, $B/T$ = {Bt:.2f}'
    ).format_map(train.table.iloc[row])
    return figures.plot_example(train.images[row], train.noise, title=title)


def regress(train, test, context, rng):
    """Predict log flux linearly, and compare R2 with the central 95 % from shuffled fluxes."""
    learned, actual = context.train.log_flux, context.test.log_flux
    predicted = LinearRegression().fit(train, learned).predict(test)
    r2 = r2_score(actual, predicted)
    orders = np.array([rng.permutation(learned) for _ in range(N_SHUFFLES)]).T
    by_chance = LinearRegression().fit(train, orders).predict(test)
    shuffled = np.array([r2_score(actual, column) for column in by_chance.T])
    low, high = np.quantile(shuffled, [0.025, 0.975])
    # the truth is one of the orders
    p_value = (1 + np.sum(shuffled >= r2)) / (1 + N_SHUFFLES)
    return predicted, {'r2': r2, 'shuffled_low': low, 'shuffled_high': high, 'p_value': p_value}


def judge_regression(name, actual, predicted):
    """Compare predictions with the truth, and with the mean over all orders of them."""
    # of Pearson's coefficient of shuffled predictions (Pitman 1937, Supplement to JRSS 4, 225)
    error = 1 / np.sqrt(len(actual) - 1)
    found = correlation(actual, predicted) if np.ptp(predicted) > 0 else np.nan
    mse = actual.var() + predicted.var() + (actual.mean() - predicted.mean()) ** 2
    return {
        'model': name,
        'mse': np.mean((actual - predicted) ** 2),
        'r2': r2_score(actual, predicted),
        'correlation': found,
        'correlation_error': error,
        'p_value': 2 * stats.norm.sf(abs(found) / error),
        'expected_mse': mse,
        'expected_r2': 1 - mse / actual.var(),
    }


def column_information(columns, target, rng):
    """
    Mutual information of each column of a table with a target, and that of shuffled targets.

    In nats, by scikit-learn (Kraskov, Stoegbauer & Grassberger 2004, PRE 69, 066138). Returns
    a table, and how many standard deviations the largest is above that of shuffled targets.
    """
    rows = np.arange(len(columns))
    if len(rows) > MAX_INFORMATION_ROWS:
        rows = rng.choice(len(rows), MAX_INFORMATION_ROWS, replace=False)
    values, target = columns.to_numpy(float)[rows], np.asarray(target)[rows]
    varies = np.ptp(values, axis=0) > 0
    found = np.zeros((N_INFORMATION_SHUFFLES + 1, values.shape[1]))
    for shuffle, information in enumerate(found):
        truth = target if shuffle == 0 else rng.permutation(target)
        # a little noise, which the estimate needs to tell equal values apart
        seed = int(rng.integers(2**31))
        information[varies] = mutual_info_regression(values[:, varies], truth, random_state=seed)
    shuffled = found[1:]
    information = {
        'column': columns.columns,
        'information': found[0],
        'shuffled_median': np.median(shuffled, axis=0),
        'shuffled_largest': shuffled.max(axis=0),
    }
    largest = shuffled.max(axis=1)
    n_sigma = (found[0].max() - largest.mean()) / largest.std(ddof=1)
    return pd.DataFrame(information), n_sigma


def flux_classes(log_flux, train_log_flux):
    """Sort fluxes into `CLASSES`, by the terciles of the training set."""
    edges = np.quantile(train_log_flux, [1 / 3, 2 / 3])
    return np.array(CLASSES)[np.digitize(log_flux, edges)]


def _classify(context, model, stage, label):
    """Train and judge a classifier of fluxes; return its results, tables and figures."""
    x_train, x_test = _values(context, FEATURES)
    learned = context.train.log_flux
    model.fit(x_train, flux_classes(learned, learned))
    actual, predicted = flux_classes(context.test.log_flux, learned), model.predict(x_test)
    judged = judge_classes(actual, predicted)
    options = {'labels': CLASSES, 'output_dict': True, 'zero_division': 0}
    report = classification_report(actual, predicted, **options)
    report.pop('accuracy')
    report = pd.DataFrame(report).T.reset_index(names='class')
    counts = confusion_matrix(actual, predicted, labels=CLASSES)
    shares = {name: np.mean(predicted == name) for name in CLASSES}
    favorite = max(shares, key=shares.get)
    matrix = pd.DataFrame(counts, columns=[f'predicted {name}' for name in CLASSES])
    matrix.insert(0, 'actual', CLASSES)
    rows = [
        comparison_row(f'accuracy, {label}', published.ACCURACY, judged['accuracy']),
        comparison_row('class predicted most often', published.FAVORITE_CLASS[stage], favorite),
    ]
    found = {'rows': rows, 'chance': judged, 'predicted_shares': shares}
    tables = {
        f'{stage}_report.csv': report.astype({'support': int}),
        f'{stage}_confusion.csv': matrix,
    }
    title = f'{label}: accuracy {100 * judged["accuracy"]:.1f} %'
    shown = figures.plot_confusion(counts, CLASSES, title=title)
    return found, tables, {f'{stage}_confusion.png': shown}


def judge_classes(actual, predicted):
    """Compare the accuracy of a classification with its mean over all orders of predictions."""
    n, n_right = len(actual), int((actual == predicted).sum())
    chance = sum(np.mean(actual == one) * np.mean(predicted == one) for one in np.unique(actual))
    error = np.sqrt(chance * (1 - chance) / n)
    return {
        'accuracy': n_right / n,
        'chance': chance,
        'error': error,
        'n_sigma': (n_right / n - chance) / error if error > 0 else 0.0,
        'p_value': stats.binomtest(n_right, n, float(chance)).pvalue,
    }


def decompose(values, rng):
    """
    Find the principal components of standardised columns, and how many of them are no chance.

    Those whose eigenvalues are above those of columns shuffled by themselves (parallel analysis,
    Horn 1965, Psychometrika 30, 179), at least one.
    """
    pca = PCA(svd_solver='covariance_eigh').fit(values)
    eigenvalues = np.clip(pca.explained_variance_, 0, None)
    shuffled = [
        np.linalg.eigvalsh(np.corrcoef(rng.permuted(values, axis=0), rowvar=False))[::-1]
        for _ in range(N_TABLE_SHUFFLES)
    ]
    limit = np.percentile(shuffled, 95, axis=0)
    n_kept = max(1, int(np.argmin(np.append(eigenvalues > limit, False))))
    scree = {
        'component': np.arange(1, len(eigenvalues) + 1),
        'eigenvalue': eigenvalues,
        'shuffled': limit,
        'cumulative': np.cumsum(eigenvalues) / eigenvalues.sum(),
    }
    return pca, pd.DataFrame(scree), n_kept


def _loadings(names, values, prefix):
    """Make a table of loadings, the largest of each component positive."""
    table = {'column': names}
    for number, row in enumerate(values, start=1):
        table[f'{prefix}{number}'] = np.sign(row[np.argmax(np.abs(row))]) * row
    return pd.DataFrame(table)


def predict_by_components(scores, context, rng):
    """Regress log flux on the first component of each kind, the first two, and so on."""
    folds = KFold(5, shuffle=True, random_state=SEED)
    rows, learned = [], context.train.log_flux
    for kind, (train, test) in scores.items():
        for n in range(1, train.shape[1] + 1):
            _, found = regress(train[:, :n], test[:, :n], context, rng)
            crossed = cross_val_score(LinearRegression(), train[:, :n], learned, cv=folds)
            row = {
                'decomposition': kind,
                'n_components': n,
                'correlation': correlation(train[:, n - 1], learned),
                'r2': found['r2'],
                'cross_validated_r2': crossed.mean(),
            }
            rows.append(row | found)
    return pd.DataFrame(rows)
