# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The study's images measured by today's methods: how accurate they are, and what they cost."""

from dataclasses import asdict, dataclass, replace

import numpy as np
import pandas as pd
from astropy import units as u
from astropy.table import QTable, Table
from scipy.stats import norm
from threadpoolctl import threadpool_limits

from astroflux.estimators import CNNFluxEstimator, KronFluxEstimator
from astroflux.estimators.methods import make_estimator
from astroflux.evaluation import CutoutSource, ImageModel, Parameter, metrics
from astroflux.evaluation.comparison import compare_methods, cpu_seconds
from astroflux.evaluation.comparison_plots import binned_figure, method_styles
from astroflux.evaluation.information import ln_flux_bound
from astroflux.networks import load_weights
from astroflux.study import figures
from astroflux.study.catalogue import StudySettings, draw_catalogue, image_model_truth
from astroflux.study.dataset import StudySet
from astroflux.study.published import CNN_NAMES, PUBLISHED_LOSSES
from astroflux.study.results import comparison_row, write_outputs, write_table

__all__ = ['accuracy', 'today']

# Column of the fluxes of each method, and label.
SHIPPED = {'shipped': 'shipped network', 'tuned': 'fine-tuned network'}
METHODS = {'kron': 'Kron', 'sum': 'stamp sum'}
METHODS |= {name: name.replace('cnn-', 'study CNN ') for name in CNN_NAMES} | SHIPPED
FITS = {'sersic': 'Sersic fit', 'bulge-disc': 'bulge + disc fit'}

# What stands beside the methods: the smallest errors that are possible, and those of the flux
# that takes the place of a failure.
BOUND, SUBSTITUTE = 'information bound', 'substitute'

# What errors are looked at by, in which bins.
PARAMETERS = (
    Parameter('Bt', 'bulge-to-total ratio', (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)),
    Parameter('R_e', 'half-light radius [arcsec]', (0.0, 0.3, 0.6, 1.0, 1.5, 2.0, 3.0)),
)

# Bins of the fluxes, of which the data set has none above the last, and of the S/N.
FLUX_EDGES = (0.0, 100.0, 300.0, 1000.0, 3000.0, 10_000.0, 20_000.0, 30_000.0)
SNR_EDGES = (0.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10_000.0, 30_000.0, np.inf)

# A flux off by more than these fractions is counted.
SHARES = {'beyond_10': 0.1, 'beyond_30': 0.3}

# What is asked of the shipped network: the MSE of log10 flux, and the share beyond 10 %.
GOAL_MSE, GOAL_SHARE = 2e-5, 1e-3

# A network is timed on so many images at the least.
FEWEST_TIMED = 500

# In a figure a point of a curve stands for so many galaxies at the least.
FEWEST = 5

LN10 = np.log(10)


@dataclass(frozen=True)
class StudyPopulation:
    """The galaxies of the study, as `~astroflux.evaluation.population_prior` wants them."""

    settings: StudySettings

    def draw(self, n, rng, *, derived=True):
        """Draw a table of truth of at least two galaxies; nothing derived is given."""
        seed = int(rng.integers(2**31))
        settings = replace(self.settings, n_train=n - 1, n_test=1, seed=seed)
        rows = draw_catalogue(settings).to_dict('records')
        return Table([image_model_truth(row, settings) for row in rows])


@dataclass
class StudyCutouts(CutoutSource):
    """Galaxies of the study, with the information bound of each."""

    galaxies: StudySet
    population: StudyPopulation
    #: Hashes of the weights that are to measure them.
    weights: dict

    def __len__(self):
        return len(self.galaxies)

    @property
    def settings(self):
        """What the measurements depend on."""
        return {'data': asdict(self.population.settings), 'weights': self.weights}

    def load(self, start, stop):
        """Return the cutouts, and their flux, bound and S/N."""
        rows = range(len(self))[start:stop]
        survey = self.population.settings.constants
        bounds = []
        for row in self.galaxies.table.iloc[rows].to_dict('records'):
            galaxy = image_model_truth(row, self.population.settings)
            model = ImageModel(galaxy, self.galaxies.images.shape[1:], survey.pixel_scale)
            # sky, PSF and noise are known exactly, as they are in the study
            bound = ln_flux_bound(model, survey.noise, sky_error=0, population=self.population)
            bounds.append((bound, np.sqrt((model.image**2).sum()) / survey.noise))
        truth = QTable({'flux': self.galaxies.flux[rows] * u.adu})
        truth['bound'], truth['snr'] = np.transpose(bounds)
        return list(self.galaxies.cutouts(rows)), truth


def measure(test, settings, tuned, folder, **options):
    """Return log10 of the fluxes by the methods of today, and the bound and S/N of each galaxy."""
    methods = {
        'kron': KronFluxEstimator(),
        'shipped': CNNFluxEstimator(),
        'tuned': CNNFluxEstimator(weights=str(tuned)),
    }
    weights = {name: load_weights(methods[name].weights).sha256 for name in SHIPPED}
    source = StudyCutouts(test, StudyPopulation(settings), weights)
    # an interruption costs one chunk at the most
    options = {'n_extremes': 0, 'chunk_size': 250, 'resume': folder, **options}
    found = compare_methods(source, methods, **options)
    table = found.truth['bound', 'snr'].to_pandas()
    for name in methods:
        table[name] = positive_log10(found.of_method(name)['flux'].to_value(u.adu))
    return table


def fine_tune(train, path, *, epochs, progress=None):
    """Fine-tune the shipped network on 2000 training images, unless that has been done."""
    if not path.exists():
        rows = range(min(2000, len(train)))
        estimator = CNNFluxEstimator(epochs=epochs)
        estimator.fit(list(train.cutouts(rows)), train.flux[rows] * u.adu, progress=progress)
        estimator.save(path)
    return path


def positive_log10(flux):
    """Return the logarithm of measured fluxes, NaN where there is no positive, finite one."""
    flux = np.asarray(flux, float)
    return np.log10(np.where((flux > 0) & np.isfinite(flux), flux, np.nan))


def read_predictions(context, stage):
    """Read what an earlier stage predicted, row by row for the galaxies of the test set."""
    table = pd.read_csv(context.folder.parent / stage / 'predictions.csv').set_index('img_number')
    return table.loc[context.test.table['img_number']].reset_index()


# -- how accurate the methods are --------------------------------------------------------------


def today(context):
    """Compare the study's networks with the methods of today and the information bound."""
    train, test, folder = context.train, context.test, context.folder
    epochs = CNNFluxEstimator().epochs
    epochs = min(epochs, context.preset.max_epochs or epochs)
    path = folder / 'fine-tuned.safetensors'
    tuned = fine_tune(train, path, epochs=epochs, progress=context.progress)
    options = {'workers': context.workers, 'progress': context.progress}
    measured = measure(test, context.preset.settings, tuned, folder / 'parts', **options)
    measured['sum'] = positive_log10(test.images.sum(axis=(1, 2), dtype=float))
    predictions = read_predictions(context, 'cnn').assign(actual=test.log_flux).join(measured)
    predictions = predictions[['img_number', 'actual', *METHODS, 'bound', 'snr']]
    write_table(predictions, folder / 'predictions.csv')

    substitute = float(train.log_flux.mean())
    named = METHODS | {SUBSTITUTE: SUBSTITUTE}
    errors = ln_errors(predictions.assign(substitute=substitute), named)
    # The population says something of the flux as well, here as a Gaussian prior of its scatter:
    # without it the bound of a galaxy that is not seen has no limit.
    scatter = LN10 * train.log_flux.std()
    errors[BOUND] = 1 / np.sqrt(1 / predictions['bound'] ** 2 + 1 / scatter**2)
    table = summarize(errors)
    is_faint = predictions['actual'].rank(method='first') <= max(1, round(0.01 * len(test)))
    goal, faint = goal_table(errors, is_faint), part_of_the_faintest(errors, is_faint)
    tables = {
        'today.csv': table,
        'today_goal.csv': goal,
        'today_by_flux.csv': summarize_by(errors, test.flux, FLUX_EDGES),
        'today_by_snr.csv': summarize_by(errors, predictions['snr'], SNR_EDGES),
    }
    weights = load_weights(CNNFluxEstimator().weights)
    return {
        'rows': list(_mse_rows(table)),
        'methods': table.to_dict('records'),
        'goal': goal.to_dict('records'),
        'faintest': faint.assign(brightest=test.flux[is_faint].max()).to_dict('records'),
        'substitute': substitute,
        'weights': {'name': weights.name, 'sha256': weights.sha256},
        **write_outputs(folder, tables, _today_figures(errors, predictions['actual'])),
    }


def _mse_rows(table):
    published = {METHODS[name]: test for name, (_, test) in PUBLISHED_LOSSES.items()}
    for row in table.to_dict('records'):
        what, n_failed = f'MSE of log10 flux, {row["method"]}', row['n_failed']
        note = f', {n_failed} failures replaced' if n_failed else ''
        yield comparison_row(what + note, published.get(row['method']), row['mse'])
        if n_failed:
            yield comparison_row(f'{what}, without failures', None, row['mse_measured'])
        beyond = 100 * row['beyond_10']
        yield comparison_row(f'beyond 10 % [%], {row["method"]}', None, beyond)


def ln_errors(predictions, methods):
    """Return a table of the errors of ln flux by the methods' labels; NaN where one has failed."""
    errors = LN10 * predictions[[*methods]].sub(predictions['actual'], axis=0)
    return errors.rename(columns=methods)


def summarize(errors, **labels):
    """Summarize errors of ln flux, as `today` collects them; labels become columns."""
    errors = {name: values.to_numpy() for name, values in errors.items()}
    guess, bound = errors.pop(SUBSTITUTE), errors.pop(BOUND)
    found = {name: method_statistics(error, guess, bound) for name, error in errors.items()}
    found[BOUND] = bound_statistics(bound)
    return pd.DataFrame([{'method': name, **labels, **row} for name, row in found.items()])


def summarize_by(errors, values, edges):
    """Summarize errors in bins, but for empty ones, method by method."""
    bins = _filled_bins(values, edges)
    tables = [summarize(errors[inside], low=low, high=high) for low, high, inside in bins]
    table = pd.concat(tables).set_index('method')
    return table.loc[table.index.unique()].reset_index()


def method_statistics(error, guess, bound):
    """Summarize errors of ln flux: a failure is NaN, and has the error of the guess in ``mse``."""
    n, failed = len(error), np.isnan(error)
    squares = (np.where(failed, guess, error) / LN10) ** 2
    drawn = np.random.default_rng(0).integers(n, size=(metrics.N_BOOTSTRAP, n))
    found = metrics.flux_error_statistics(Table({'ln_error': error}), bound=bound, n_bootstrap=1)
    # a failure is beyond every threshold
    off = np.where(failed, np.inf, np.abs(np.expm1(error)))
    return {
        'n': n,
        'n_failed': int(failed.sum()),
        'mse': squares.mean(),
        'mse_err': squares[drawn].mean(axis=1).std() if n > 1 else np.nan,
        'mse_measured': squares[~failed].mean() if not failed.all() else np.nan,
        'bias_percent': 100 * np.expm1(found['bias']),
        'scatter_percent': 100 * found['scatter'],
        'scatter_over_bound': found['scatter_over_bound'],
        **{name: np.mean(off > limit) for name, limit in SHARES.items()},
    }


def bound_statistics(bound):
    """Return what `method_statistics` would be of Gaussian errors of these sizes, without bias."""
    mse = np.mean((bound / LN10) ** 2)
    beyond = {
        name: norm.sf(np.log1p(limit) / bound) + norm.cdf(np.log1p(-limit) / bound)
        for name, limit in SHARES.items()
    }
    return {
        'n': len(bound),
        'n_failed': 0,
        'mse': mse,
        # the galaxies are what they are
        'mse_err': np.nan,
        'mse_measured': mse,
        'bias_percent': 0.0,
        'scatter_percent': 100 * metrics.scatter_at_bound(bound),
        'scatter_over_bound': 1.0,
        **{name: values.mean() for name, values in beyond.items()},
    }


def goal_table(errors, is_faint):
    """Judge the shipped networks and the bound by the goal, on all galaxies and without some."""
    errors = errors[[*SHIPPED.values(), SUBSTITUTE, BOUND]]
    selections = {
        'all': errors,
        'measured': errors[errors[SHIPPED['shipped']].notna()],
        'without the faintest 1 %': errors[~is_faint],
    }
    tables = [summarize(part, galaxies=name) for name, part in selections.items()]
    table = pd.concat(tables, ignore_index=True)
    table = table[['method', 'galaxies', 'n', 'n_failed', 'mse', 'beyond_10']]
    # the bound is the last of each selection
    possible = table.groupby('galaxies')['mse'].transform('last')
    is_met = {'mse_met': table['mse'] <= GOAL_MSE, 'share_met': table['beyond_10'] < GOAL_SHARE}
    return table.assign(**is_met, mse_over_bound=table['mse'] / possible)


def part_of_the_faintest(errors, is_faint):
    """Tell how much of the summed squared errors is of faint galaxies, and without failures."""
    squares = errors[[BOUND, SHIPPED['shipped']]] ** 2
    replaced = squares.apply(lambda measured: measured.fillna(errors[SUBSTITUTE] ** 2))
    parts = {'part': replaced, 'part_measured': squares}
    found = {name: part[is_faint].sum() / part.sum() for name, part in parts.items()}
    return pd.DataFrame(found).reset_index(names='method')


def _today_figures(errors, actual):
    methods, groups = errors.drop(columns=[SUBSTITUTE, BOUND]), flux_groups(actual)
    centers = {'median of the bin': methods.groupby(groups).transform('median'), 'truth': 0}
    scatters = {}
    for about, center in centers.items():
        away = (methods - center).abs().groupby(groups)
        nmad = away.median() / norm.ppf(0.75)
        scatters[about] = 100 * nmad.where(away.count() >= FEWEST)
    flux = 10 ** actual.groupby(groups).median()
    possible = 100 * errors[BOUND].groupby(groups).agg(metrics.scatter_at_bound)
    return {
        'today_residuals.png': figures.plot_residuals(10**actual, 100 * np.expm1(methods)),
        'today_scatter.png': figures.plot_scatter(flux, scatters, bound=possible),
    }


def flux_groups(actual):
    """Number bins of equal width in log flux; one of fewer than 5 galaxies joins the next."""
    begins, *edges, _ = np.linspace(actual.min(), actual.max(), 15)
    begins = [begins]
    for edge in edges:
        n_below = ((actual >= begins[-1]) & (actual < edge)).sum()
        if min(n_below, (actual >= edge).sum()) >= FEWEST:
            begins.append(edge)
    return np.digitize(actual, begins)


# -- accuracy by the shape, and the cost -------------------------------------------------------


def accuracy(context):
    """Take the accuracy by bulge-to-total ratio and radius, and the cost beside that of fits."""
    predictions = read_predictions(context, 'today')
    judged = {name: METHODS[name] for name in ('kron', *CNN_NAMES, 'shipped')}
    errors, bound = ln_errors(predictions, judged), predictions['bound'].to_numpy()
    styles = method_styles({label: label for label in errors})
    tables, drawn = {}, {}
    for parameter in PARAMETERS:
        values, name = context.test.table[parameter.name], f'accuracy_{parameter.name.lower()}'
        # the last bin holds all that is larger
        last = max(parameter.edges[-1], float(np.ceil(10 * values.max()) / 10))
        parameter = replace(parameter, edges=(*parameter.edges[:-1], last))
        tables[f'{name}.csv'] = table = accuracy_by(errors, bound, values, parameter.edges)
        bounds = table[['low', 'high', 'bound']].rename(columns={'bound': 'scatter'})
        bounds = Table.from_pandas(bounds.drop_duplicates())
        drawn[f'{name}.png'] = binned_figure(table, parameter, styles, bounds=bounds).axes

    known = predictions[: context.preset.n_profile_fits]
    cutouts = list(context.test.cutouts(range(len(known))))
    log_flux, seconds = time_methods(cutouts, progress=context.progress)
    log_flux = known[['img_number', 'actual']].assign(**log_flux, **known[[*CNN_NAMES]])
    tables['accuracy_cost.csv'] = costs = cost_table(log_flux, seconds)
    tables['accuracy_fits.csv'] = log_flux
    drawn['accuracy_cost.png'] = figures.plot_costs(costs)
    shown = {'per_second': 'cutouts per second and core'}
    shown['median_percent'] = 'median error of the flux [%]'
    rows = [
        comparison_row(f'{label}, {method}', None, found)
        for column, label in shown.items()
        for method, found in zip(costs['method'], costs[column], strict=True)
    ]
    return {
        'rows': rows,
        'costs': costs.to_dict('records'),
        **write_outputs(context.folder, tables, drawn),
    }


def accuracy_by(errors, bound, values, edges):
    """Summarize the errors of methods in bins of a parameter, with the scatter at the bound."""
    tables = {}
    for label, error in errors.items():
        table = metrics.summarize_by(values, edges, Table({'ln_error': error}), bound=bound)
        tables[label] = table.to_pandas()
    # nothing is known of intervals
    table = pd.concat(tables, names=['method']).dropna(axis='columns', how='all')
    bins = _filled_bins(values, edges)
    bounds = {low: metrics.scatter_at_bound(bound[inside]) for low, _, inside in bins}
    return table.assign(bound=table['low'].map(bounds)).reset_index('method')


def _filled_bins(values, edges):
    return [bin_ for bin_ in metrics.split_into_bins(values, edges) if bin_[-1].any()]


def time_methods(cutouts, *, progress):
    """Return log10 of the fluxes of cutouts and processor seconds of each, by method."""
    methods = {
        # nearly twice as fast as batches of 64, whose first maps the C library does not keep
        'study': CNNFluxEstimator(weights='study-2024', batch_size=16),
        'shipped': CNNFluxEstimator(),
        'kron': KronFluxEstimator(),
        **{name: make_estimator(name) for name in FITS},
    }
    # a fast method again, when it has loaded what it needs
    many = cutouts * -(-FEWEST_TIMED // len(cutouts))
    log_flux, seconds = {}, {}
    with threadpool_limits(1):
        for name, estimator in methods.items():
            for images in [cutouts] if name in FITS else [cutouts, many]:
                began = cpu_seconds()
                flux = estimator.measure(images, progress=progress)['flux'].value
                seconds[name] = (cpu_seconds() - began) / len(images)
                log_flux.setdefault(name, positive_log10(flux))
    # the three networks of the study take the time of one, and have predicted before
    del log_flux['study']
    return log_flux, seconds | dict.fromkeys(CNN_NAMES, seconds.pop('study'))


def cost_table(log_flux, seconds):
    """Put speed and accuracy, without failures, of methods side by side, the fastest first."""
    errors = log_flux[[*seconds]].sub(log_flux['actual'], axis=0)
    percent = 100 * np.expm1(LN10 * errors).abs()
    time = pd.Series(seconds)
    table = pd.DataFrame(
        {
            'method': pd.Series(METHODS | FITS)[[*seconds]],
            'n': len(errors),
            'n_failed': errors.isna().sum(),
            'milliseconds': 1e3 * time,
            'per_second': 1 / time,
            'speed_over_fit': time[[*FITS]].max() / time,
            'mse': (errors**2).mean(),
            'median_percent': percent.median(),
            'largest_percent': percent.max(),
        }
    )
    return table.sort_values('milliseconds', kind='stable', ignore_index=True)
