# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Principal components and factors of the table, and whether they predict the flux."""

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA, FactorAnalysis
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score
from sklearn.model_selection import KFold, cross_val_score
from sklearn.preprocessing import StandardScaler

from astroflux.study._output import comparison_row, plain, rounded, save_figure, write_table
from astroflux.study.chance import r2_of_shuffled
from astroflux.study.components_plots import loadings_figure, prediction_figure, scree_figure
from astroflux.study.tabular import feature_names
from astroflux.study.tabular_remarks import SIGNIFICANCE

__all__ = ['component_columns', 'components', 'decompose', 'distinct_columns']

# A name of the image, not a property of the galaxy.
IDENTIFIER = 'img_number'

# Eigenvalues below this are zero: as many columns follow from others. So does a column whose
# correlation with another one is no farther than this from 1 or -1.
SMALLEST = 1e-6

# A loading above this is told.
STRONG = 0.4

N_TABLE_SHUFFLES = 20
N_FOLDS = 5
SEED = 378


def component_columns(table):
    """
    Columns that components are made of: properties of the galaxies that vary, without the flux.

    Parameters
    ----------
    table : `~pandas.DataFrame`
        A table of the study.

    Returns
    -------
    names : list of str
    """
    names = [name for name in feature_names(table) if name != IDENTIFIER]
    return [name for name in names if np.ptp(table[name].to_numpy(float)) > 0]


def distinct_columns(values):
    """
    Tell which columns are not the same as an earlier one, but for a factor and a constant.

    Parameters
    ----------
    values : 2D `~numpy.ndarray`
        ``(n, n_columns)``, none of them constant.

    Returns
    -------
    columns : list of int
        Numbers of the columns.
    """
    correlation = np.abs(np.corrcoef(values, rowvar=False))
    return [
        column
        for column in range(values.shape[1])
        if not (correlation[column, :column] > 1 - SMALLEST).any()
    ]


def decompose(values, rng):
    """
    Find the principal components of standardised columns, and how many of them are no chance.

    Parameters
    ----------
    values : 2D `~numpy.ndarray`
        ``(n, n_columns)``, each column with the mean 0 and the variance 1.
    rng : `numpy.random.Generator`
        Source of randomness.

    Returns
    -------
    pca : `~sklearn.decomposition.PCA`
        Fitted.
    scree : `~pandas.DataFrame`
        One row per component: ``component`` from 1, ``eigenvalue`` in units of a column's
        variance, ``shuffled``, the 95th percentile of that if each column is shuffled by itself,
        and ``cumulative``, the part of all variance.
    n_kept : int
        Components before the first whose eigenvalue is not above ``shuffled`` (parallel analysis,
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
    scree = pd.DataFrame(
        {
            'component': np.arange(1, len(eigenvalues) + 1),
            'eigenvalue': eigenvalues,
            'shuffled': limit,
            'cumulative': np.cumsum(eigenvalues) / eigenvalues.sum(),
        }
    )
    return pca, scree, n_kept


def components(context):
    """
    Principal components and factors of the table, and regressions of log flux on them.

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
    names = component_columns(train.table)
    scaler = StandardScaler().fit(train.table[names].to_numpy(float))
    parts = [scaler.transform(part.table[names].to_numpy(float)) for part in (train, test)]
    pca, scree, n_components = decompose(parts[0], rng)
    n_free = int((scree['eigenvalue'] > SMALLEST).sum())

    # columns that are the same leave a factor nothing to explain but themselves
    distinct = distinct_columns(parts[0])
    _, _, n_factors = decompose(parts[0][:, distinct], rng)
    factors = FactorAnalysis(n_factors, rotation='varimax', svd_method='lapack', max_iter=5000)
    factors.fit(parts[0][:, distinct])
    scale = np.sqrt(scree['eigenvalue'].to_numpy())[:n_free, None]
    loadings = {
        'PCA': _loadings(names, pca.components_[:n_free] * scale, 'PC'),
        'factor analysis': _loadings([names[i] for i in distinct], factors.components_, 'F'),
    }
    scores = {
        'PCA': [pca.transform(part)[:, :n_free] for part in parts],
        'factor analysis': [factors.transform(part[:, distinct]) for part in parts],
    }
    predicted = _predict(scores, train.log_flux, test.log_flux, rng)
    result = {
        'n_columns': len(names),
        'n_free': n_free,
        'n_components': n_components,
        'n_factors': n_factors,
        'explained': plain(scree['cumulative'][n_components - 1]),
        'uniqueness': dict(
            zip([names[i] for i in distinct], factors.noise_variance_.tolist(), strict=True)
        ),
    }
    full = {kind: rows.iloc[-1].to_dict() for kind, rows in predicted.groupby('decomposition')}
    return {
        **result,
        'rows': [
            comparison_row(f'R2 of log flux, all of {kind}', None, row['r2'])
            for kind, row in full.items()
        ],
        'remarks': [*_remarks(result, loadings, full)],
        'tables': [
            write_table(scree, folder / 'components_scree.csv'),
            write_table(loadings['PCA'], folder / 'components_loadings.csv'),
            write_table(loadings['factor analysis'], folder / 'components_factors.csv'),
            write_table(predicted, folder / 'components_flux.csv'),
        ],
        'figures': [
            save_figure(scree_figure(scree), folder / 'components_scree.png'),
            save_figure(loadings_figure(loadings), folder / 'components_loadings.png'),
            save_figure(prediction_figure(predicted), folder / 'components_flux.png'),
        ],
    }


def _loadings(names, values, prefix):
    """Make a table of loadings, the largest of each component positive."""
    table = {'column': names}
    for number, row in enumerate(values, start=1):
        sign = np.sign(row[np.argmax(np.abs(row))])
        table[f'{prefix}{number}'] = sign * row
    return pd.DataFrame(table)


def _predict(scores, train_target, test_target, rng):
    """Regress the target on the first components, on the first two, and so on."""
    folds = KFold(N_FOLDS, shuffle=True, random_state=SEED)
    rows = []
    for kind, (train, test) in scores.items():
        for n in range(1, train.shape[1] + 1):
            x_train, x_test = train[:, :n], test[:, :n]
            predicted = LinearRegression().fit(x_train, train_target).predict(x_test)
            shuffled = r2_of_shuffled(x_train, train_target, x_test, test_target, rng)
            low, high = np.quantile(shuffled, [0.025, 0.975])
            r2 = r2_score(test_target, predicted)
            crossed = cross_val_score(LinearRegression(), x_train, train_target, cv=folds)
            rows.append(
                {
                    'decomposition': kind,
                    'n_components': n,
                    'correlation': float(np.corrcoef(train[:, n - 1], train_target)[0, 1]),
                    'r2': float(r2),
                    'cross_validated_r2': float(crossed.mean()),
                    'shuffled_low': float(low),
                    'shuffled_high': float(high),
                    'p_value': float((1 + np.sum(shuffled >= r2)) / (1 + len(shuffled))),
                }
            )
    return pd.DataFrame(rows)


# What a decomposition gives.
_WHAT = {'PCA': 'principal components', 'factor analysis': 'factors'}


def _remarks(result, loadings, full):
    """Yield what the components are, and whether they predict the flux."""
    n_zero = result['n_columns'] - result['n_free']
    yield (
        f'Of {result["n_columns"]} columns that vary, {n_zero} follow from others. '
        f'{result["n_components"]} principal components have more variance than shuffled columns, '
        f'together {100 * result["explained"]:.0f} % of all. The number of the image is left out, '
        'as it is a name.'
    )
    left_out = {*loadings['PCA']['column']} - {*loadings['factor analysis']['column']}
    if left_out:
        yield (
            f'The factors leave out {" and ".join(sorted(left_out))} as well, which are others by '
            'another name.'
        )
    for name in loadings['factor analysis'].columns[1:]:
        values = loadings['factor analysis'].set_index('column')[name]
        strong = values[values.abs() > STRONG].sort_values(key=np.abs, ascending=False)
        told = ', '.join(f'{column} ({value:+.2f})' for column, value in strong.items())
        yield f'Factor {name}: {told or "no column with a loading above 0.4"}.'
    for kind, row in full.items():
        verdict = 'do not predict' if row['p_value'] > SIGNIFICANCE else 'predict'
        yield (
            f'The {row["n_components"]} {_WHAT[kind]} {verdict} the flux: R2 {row["r2"]:+.5f} on '
            f'the test set, {row["cross_validated_r2"]:+.5f} cross-validated; '
            f'{row["shuffled_low"]:+.5f} to {row["shuffled_high"]:+.5f} with shuffled fluxes '
            f'(p = {rounded(row["p_value"])}).'
        )
