# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The study's images measured by today's methods: how accurate they are, and what they cost."""

import hashlib
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from astropy import units as u
from astropy.table import QTable, Table, vstack
from scipy.stats import median_abs_deviation, norm
from threadpoolctl import threadpool_limits

from astroflux._work import refuse_other_settings, write_whole
from astroflux.estimators import CNNFluxEstimator, KronFluxEstimator
from astroflux.estimators.methods import KNOWN_METHODS, make_estimator
from astroflux.evaluation import CutoutSource, ImageModel, Parameter, metrics
from astroflux.evaluation.comparison import compare_methods, cpu_seconds
from astroflux.evaluation.comparison_plots import binned_figure, method_styles
from astroflux.evaluation.information import ln_flux_bound
from astroflux.networks import load_weights, save_weights
from astroflux.networks.study_net import StudyNet
from astroflux.study import figures, results
from astroflux.study.catalogue import StudySettings, draw_catalogue, image_model_truth
from astroflux.study.dataset import StudySet, read_settings
from astroflux.study.published import CNN_NAMES, PUBLISHED_LOSSES
from astroflux.study.results import comparison_row, write_outputs, write_table

__all__ = ['accuracy', 'today']

# Column of the fluxes of each method, and label.
STUDY_CNNS = {name: name.replace('cnn-', 'study CNN ') for name in CNN_NAMES}
SHIPPED = {'shipped': 'shipped network', 'tuned': 'fine-tuned network'}
METHODS = {'kron': 'Kron', 'sum': 'stamp sum', **STUDY_CNNS, **SHIPPED}
FITS = {'sersic': 'Sersic fit', 'bulge-disc': 'bulge + disc fit'}
BOUND = 'information bound'

# Whose errors are looked at by the shape of the galaxies: by which columns, in which bins.
JUDGED = {name: METHODS[name] for name in ('kron', *CNN_NAMES, 'shipped')}
PARAMETERS = (
    Parameter('Bt', 'bulge-to-total ratio', (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)),
    Parameter('R_e', 'half-light radius [arcsec]', (0.0, 0.3, 0.6, 1.0, 1.5, 2.0, 3.0)),
)
STATISTICS = ('completeness', 'bias', 'scatter', 'rms', 'outliers', 'scatter_over_bound')

# What galaxies are binned by; the last flux is that of the data set, which holds no brighter one.
EDGES = {
    'flux': (0.0, 100.0, 300.0, 1000.0, 3000.0, 10_000.0, 20_000.0, 30_000.0),
    'snr': (0.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10_000.0, 30_000.0, np.inf),
}

# A flux off by more than these fractions is counted.
SHARES = {'beyond_10': 0.1, 'beyond_30': 0.3}

# What is asked of the shipped network: the MSE of log10 flux, and the share beyond 10 %.
GOAL_MSE, GOAL_SHARE = 2e-5, 1e-3

# Galaxies that an interruption costs at the most, a minute's work, and those of a task.
PART_SIZE, CHUNK_SIZE = 1000, 250

# A network measures at least so many images so many times, that there is time enough to take.
FEWEST_TIMED, REPEATS = 256, 3

# In a figure a point of a curve stands for so many galaxies at the least.
FEWEST, N_BINS = 5, 14

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

    part: StudySet
    population: StudyPopulation

    def __len__(self):
        return len(self.part)

    def load(self, start, stop):
        """Return the cutouts, and their flux, bound and S/N."""
        part = _rows_of(self.part, slice(start, stop))
        settings = self.population.settings
        survey = settings.constants
        truth = QTable({'flux': part.flux * u.adu})
        bounds = []
        for row in part.table.to_dict('records'):
            galaxy = image_model_truth(row, settings)
            model = ImageModel(galaxy, part.images.shape[1:], survey.pixel_scale)
            # sky, PSF and noise are known exactly, as they are in the study
            bound = ln_flux_bound(model, survey.noise, sky_error=0, population=self.population)
            bounds.append((bound, np.sqrt((model.image**2).sum()) / survey.noise))
        truth['bound'], truth['snr'] = np.transpose(bounds)
        return list(part.cutouts()), truth


def _rows_of(study_set, rows):
    return replace(study_set, table=study_set.table.iloc[rows], images=study_set.images[rows])


def measure(test, settings, tuned, folder, *, workers=1, progress=False):
    """
    Measure all galaxies of a set by the methods of today, and keep each part that is done.

    The table has ``img_number``; log10 of the flux by each method, NaN without a positive flux;
    ``bound``, the smallest standard deviation of ln flux, with what the population says of shapes;
    and ``snr``. Parts of another data set or other weights are refused.
    """
    methods = {
        'kron': KronFluxEstimator(),
        'shipped': CNNFluxEstimator(),
        'tuned': CNNFluxEstimator(weights=str(tuned)),
    }
    hashes = {name: load_weights(methods[name].weights).sha256 for name in SHIPPED}
    _claim(folder / 'settings.json', {'data': asdict(settings), 'part_size': PART_SIZE, **hashes})
    options = {'n_extremes': 0, 'chunk_size': CHUNK_SIZE, 'workers': workers, 'progress': progress}
    population, tables = StudyPopulation(settings), []
    for start in range(0, len(test), PART_SIZE):
        path = folder / f'{start:06d}.csv'
        if not path.exists():
            part = _rows_of(test, slice(start, start + PART_SIZE))
            found = compare_methods(StudyCutouts(part, population), methods, **options)
            table = pd.DataFrame({'img_number': part.table['img_number'].to_numpy()})
            for name in methods:
                table[name] = positive_log10(found.of_method(name)['flux'].to_value(u.adu))
            write_table(table.assign(bound=found.truth['bound'], snr=found.truth['snr']), path)
        tables.append(pd.read_csv(path))
    return pd.concat(tables, ignore_index=True)


def _claim(path, wanted):
    """Write what the work in a folder depends on; refuse work of other settings."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        refuse_other_settings(f'the work in {path.parent}', results.read_json(path), wanted)
    results.write_json(wanted, path)


def fine_tune(train, path, *, epochs, n_images=2000):
    """Fine-tune the shipped network on the first training images, unless that has been done."""
    estimator = CNNFluxEstimator(epochs=epochs)
    cutouts = list(train.cutouts(range(min(n_images, len(train)))))
    flux = np.ascontiguousarray(train.flux[: len(cutouts)])
    wanted = {
        'weights': load_weights(estimator.weights).sha256,
        'images': len(cutouts),
        'fluxes': hashlib.sha256(flux.tobytes()).hexdigest(),
    }
    for name in ('epochs', 'learning_rate', 'batch_size', 'random_state'):
        wanted[name] = getattr(estimator, name)
    _claim(path.with_suffix('.json'), wanted)
    if not path.exists():
        estimator.fit(cutouts, flux * u.adu)
        with write_whole(path) as part:
            estimator.save(part)
    return path


def positive_log10(flux):
    """Return the logarithm of measured fluxes, NaN where there is no positive, finite one."""
    with np.errstate(divide='ignore', invalid='ignore'):
        log_flux = np.log10(np.asarray(flux, float))
    return np.where(np.isfinite(log_flux), log_flux, np.nan)


def read_predictions(context, stage):
    """Read what an earlier stage predicted, row by row for the galaxies of the test set."""
    path = context.folder.parent / stage / 'predictions.csv'
    if not path.is_file():
        msg = f'there is no {path}: run the stage {stage!r} first'
        raise FileNotFoundError(msg)
    numbers = context.test.table['img_number'].to_numpy()
    table = pd.read_csv(path).set_index('img_number').reindex(numbers).reset_index()
    if not np.allclose(table['actual'], context.test.log_flux, rtol=0, atol=1e-5):
        msg = f'{path} is not of the galaxies of the test set: run the stage {stage!r} again'
        raise ValueError(msg)
    return table


# -- how accurate the methods are --------------------------------------------------------------


def today(context):
    """Compare the study's networks with the methods of today and the information bound."""
    train, test, folder = context.train, context.test, context.folder
    # first, as all else takes long
    predictions = read_predictions(context, 'cnn')
    epochs = CNNFluxEstimator().epochs
    epochs = min(epochs, context.preset.max_epochs or epochs)
    tuned = fine_tune(train, folder / 'fine-tuned.safetensors', epochs=epochs)
    options = {'workers': context.workers, 'progress': context.progress}
    measured = measure(test, read_settings(context.data), tuned, folder / 'parts', **options)
    measured['sum'] = positive_log10(test.images.sum(axis=(1, 2), dtype=float))
    predictions = predictions.assign(actual=test.log_flux).merge(measured, on='img_number')
    predictions = predictions[['img_number', 'actual', *METHODS, 'bound', 'snr']]
    write_table(predictions, folder / 'predictions.csv')

    # The population says something of the flux as well, here as a Gaussian prior of its scatter:
    # without it the bound of a galaxy that is not seen has no limit.
    scatter = LN10 * train.log_flux.std()
    bound = 1 / np.sqrt(1 / predictions['bound'].to_numpy() ** 2 + 1 / scatter**2)
    known = predictions, bound, float(train.log_flux.mean())
    table, goal, faint = summarize(*known), goal_table(*known), part_of_the_faintest(*known)
    tables = {'today.csv': table, 'today_goal.csv': goal}
    for name, values in (('flux', test.flux), ('snr', predictions['snr'])):
        bins = metrics.split_into_bins(values, EDGES[name])
        bins = [({'low': low, 'high': high}, inside) for low, high, inside in bins]
        tables[f'today_by_{name}.csv'] = summarize(*known, bins)
    weights = load_weights(CNNFluxEstimator().weights)
    return {
        'rows': list(_mse_rows(table)),
        'methods': table.to_dict('records'),
        'goal': goal.to_dict('records'),
        'faintest': faint.to_dict('records'),
        'substitute': known[-1],
        'weights': {'name': weights.name, 'sha256': weights.sha256},
        **write_outputs(folder, tables, _today_figures(predictions, bound)),
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


def ln_errors(predictions, name):
    """Return errors of ln flux of a method; NaN where it has failed."""
    return LN10 * (predictions[name] - predictions['actual']).to_numpy(float)


def summarize(predictions, bound, substitute, selections=None, methods=METHODS):
    """
    Summarize methods, and the bound beside them.

    A selection is a dict of labels, which become columns, and a mask of the galaxies; by default
    all are selected. The substitute is log10 of the flux that stands for a failure.
    """
    selections = selections or [({}, np.ones(len(predictions), bool))]
    guess = LN10 * (substitute - predictions['actual'].to_numpy())
    rows = []
    for name, label in methods.items():
        error = ln_errors(predictions, name)
        for labels, inside in selections:
            found = method_statistics(error[inside], guess[inside], bound[inside])
            rows.append({'method': label, **labels, **found})
    for labels, inside in selections:
        rows.append({'method': BOUND, **labels, **bound_statistics(bound[inside])})
    return pd.DataFrame(rows)


def method_statistics(error, guess, bound):
    """
    Summarize errors of ln flux; failures are NaN, and guesses what is said in their place.

    ``mse``, of log10 flux, is with the guesses, and has a bootstrap error; ``mse_measured``,
    ``bias_percent`` (the median error of the flux), ``scatter_percent`` (the NMAD of ln flux) and
    ``scatter_over_bound`` are without failures; in the `SHARES` failures count.
    """
    failed = ~np.isfinite(error)
    squares = (np.where(failed, guess, error) / LN10) ** 2
    table = Table({'ln_error': error})
    found = metrics.flux_error_statistics(table, bound=bound, n_bootstrap=1)
    n, rng = len(error), np.random.default_rng(0)
    drawn = rng.integers(n, size=(metrics.N_BOOTSTRAP, n)) if n > 1 else None
    # a failure is beyond every threshold
    off = np.where(failed, np.inf, np.abs(np.expm1(error)))
    return {
        'n': n,
        'n_failed': int(failed.sum()),
        'mse': _mean(squares),
        'mse_err': np.nan if drawn is None else float(squares[drawn].mean(axis=1).std()),
        'mse_measured': _mean(squares[~failed]),
        'bias_percent': 100 * float(np.expm1(found['bias'])),
        'scatter_percent': 100 * found['scatter'],
        'scatter_over_bound': found['scatter_over_bound'],
        **{name: _mean(off > limit) for name, limit in SHARES.items()},
    }


def bound_statistics(bound):
    """Return what `method_statistics` would be of Gaussian errors of these sizes, without bias."""
    mse, is_any = _mean((bound / LN10) ** 2), len(bound) > 0
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
        'bias_percent': 0.0 if is_any else np.nan,
        'scatter_percent': 100 * metrics.scatter_at_bound(bound) if is_any else np.nan,
        'scatter_over_bound': 1.0 if is_any else np.nan,
        **{name: _mean(values) for name, values in beyond.items()},
    }


def _mean(values):
    return float(np.mean(values)) if len(values) else np.nan


def _faintest(predictions):
    n = max(1, round(0.01 * len(predictions)))
    return predictions['actual'].rank(method='first').to_numpy() <= n


def goal_table(predictions, bound, substitute):
    """Judge the shipped networks and the bound by the goal, on all galaxies and without some."""
    selections = {
        'all': np.ones(len(bound), bool),
        'measured': np.isfinite(predictions['shipped'].to_numpy()),
        'without the faintest 1 %': ~_faintest(predictions),
    }
    tables = [
        summarize(predictions, bound, substitute, [({'galaxies': name}, inside)], SHIPPED)
        for name, inside in selections.items()
    ]
    table = pd.concat(tables, ignore_index=True)
    table = table[['method', 'galaxies', 'n', 'n_failed', 'mse', 'beyond_10']]
    # the bound is the last of each selection
    possible = table.groupby('galaxies')['mse'].transform('last')
    is_met = {'mse_met': table['mse'] <= GOAL_MSE, 'share_met': table['beyond_10'] < GOAL_SHARE}
    return table.assign(**is_met, mse_over_bound=table['mse'] / possible)


def part_of_the_faintest(predictions, bound, substitute):
    """
    Tell how much of the summed squared errors comes from the faintest 1 % of the galaxies.

    The flux of the ``brightest`` of them is in ADU; ``part_measured`` is without failures.
    """
    faint = _faintest(predictions)
    guess = LN10 * (substitute - predictions['actual'].to_numpy())
    errors = {BOUND: (bound, bound)}
    for name, label in SHIPPED.items():
        error = ln_errors(predictions, name)
        errors[label] = np.where(np.isfinite(error), error, guess), np.nan_to_num(error)
    brightest = float(10 ** predictions['actual'][faint].max())
    rows = []
    for method, both in errors.items():
        part, measured = ((e[faint] ** 2).sum() / (e**2).sum() for e in both)
        rows.append((method, int(faint.sum()), brightest, part, measured))
    return pd.DataFrame(rows, columns=['method', 'n', 'brightest', 'part', 'part_measured'])


def _today_figures(predictions, bound):
    actual = predictions['actual'].to_numpy()
    errors = {label: ln_errors(predictions, name) for name, label in METHODS.items()}
    percents = {label: 100 * np.expm1(error) for label, error in errors.items()}
    groups = flux_groups(actual)
    flux = [10 ** np.median(actual[group]) for group in groups]
    scatters = {
        about: {label: [nmad(e[group], center) for group in groups] for label, e in errors.items()}
        for about, center in (('median of the bin', np.median), ('truth', lambda *_: 0.0))
    }
    possible = [100 * metrics.scatter_at_bound(bound[group]) for group in groups]
    return {
        'today_residuals.png': figures.plot_residuals(10**actual, percents),
        'today_scatter.png': figures.plot_scatter(flux, scatters, bound=possible),
    }


def nmad(errors, center):
    """Return the scatter in percent of those that were measured, if they are enough."""
    errors = errors[np.isfinite(errors)]
    if len(errors) < FEWEST:
        return np.nan
    return 100 * median_abs_deviation(errors, center=lambda e, axis: center(e), scale='normal')


def flux_groups(actual):
    """
    Split galaxies by their flux, into bins of equal width in its logarithm where they suffice.

    Each has at least 5 galaxies, the faintest first; what is left over joins the next bin, and at
    the bright end the last one.
    """
    edges = np.linspace(actual.min(), actual.max(), N_BINS + 1)
    groups, pending = [], np.array([], int)
    for _, _, inside in metrics.split_into_bins(actual, edges):
        pending = np.concatenate([pending, np.flatnonzero(inside)])
        if len(pending) >= FEWEST:
            groups.append(pending)
            pending = pending[:0]
    if len(pending) and groups:
        groups[-1] = np.concatenate([groups[-1], pending])
    return groups


# -- accuracy by the shape, and the cost -------------------------------------------------------


def accuracy(context):
    """Take the accuracy by bulge-to-total ratio and radius, and the cost beside that of fits."""
    predictions = read_predictions(context, 'today')
    tables, drawn = {}, {}
    for parameter in PARAMETERS:
        values = context.test.table[parameter.name].to_numpy(float)
        # the last bin holds all that is larger
        last = max(parameter.edges[-1], float(np.ceil(10 * np.max(values)) / 10))
        parameter = replace(parameter, edges=(*parameter.edges[:-1], last))
        summary, bounds = accuracy_by(predictions, values, parameter.edges)
        figure = binned_figure(summary, parameter, method_styles(JUDGED), bounds=bounds)
        drawn[f'accuracy_{parameter.name.lower()}.png'] = figure.axes
        table, possible = summary.to_pandas(), bounds['low', 'high', 'scatter'].to_pandas()
        table['method'] = table['method'].map(METHODS)
        table = table.merge(possible.rename(columns={'scatter': 'bound'}), 'left', ['low', 'high'])
        tables[f'accuracy_{parameter.name.lower()}.csv'] = table

    known = predictions[: context.preset.n_profile_fits]
    cutouts = list(context.test.cutouts(range(len(known))))
    log_flux, seconds, missing = run_fits(cutouts, progress=context.progress)
    log_flux |= {name: known[name].to_numpy() for name in CNN_NAMES}
    costs = cost_table(known['actual'].to_numpy(), log_flux, seconds)
    tables['accuracy_cost.csv'] = costs
    tables['accuracy_fits.csv'] = known[['img_number', 'actual']].assign(**log_flux)
    drawn['accuracy_cost.png'] = figures.plot_costs(costs)
    rows = [
        comparison_row(f'{label}, {row["method"]}', None, row[column])
        for column, label in (
            ('per_second', 'cutouts per second and core'),
            ('median_percent', 'median error of the flux [%]'),
        )
        for row in costs.to_dict('records')
    ]
    rows += [comparison_row('fits that were left out need', None, needs) for needs in missing]
    return {
        'rows': rows,
        'costs': costs.to_dict('records'),
        **write_outputs(context.folder, tables, drawn),
    }


def accuracy_by(predictions, values, edges):
    """
    Summarize the errors of methods in bins of a parameter, and the bounds there.

    Failures count in the completeness alone; see `~astroflux.evaluation.flux_error_statistics`.
    """
    bound = predictions['bound'].to_numpy()
    kept = ['low', 'high', 'n', *(f'{name}{end}' for name in STATISTICS for end in ('', '_err'))]
    tables = []
    for name in JUDGED:
        errors = Table({'ln_error': ln_errors(predictions, name)})
        table = metrics.summarize_by(values, edges, errors, bound=bound)[kept]
        table.add_column([name] * len(table), name='method', index=0)
        tables.append(table)
    rows = []
    for low, high, inside in metrics.split_into_bins(values, edges):
        known = bound[inside & np.isfinite(bound)]
        scatter = metrics.scatter_at_bound(known) if len(known) else np.nan
        rows.append({'low': low, 'high': high, 'n': int(inside.sum()), 'scatter': scatter})
    return vstack(tables), Table(rows)


def run_fits(cutouts, *, progress=False):
    """
    Measure the same images by networks, Kron and light-profile fits, on one core.

    Returns log10 of the fluxes, and the seconds per cutout, by method; a network of the study,
    ``study``, has seconds alone, as it is one of chance. Last, what fits that were left out need.
    """
    log_flux, seconds, missing = {}, {}, {}
    with threadpool_limits(1), tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'study.safetensors'
        with torch.random.fork_rng(devices=[]):
            save_weights(path, StudyNet(), name='untrained')
        for name, estimator in (
            # nearly twice as fast as batches of 64, whose first maps the C library does not keep
            ('study', CNNFluxEstimator(weights=str(path), batch_size=16)),
            ('shipped', CNNFluxEstimator()),
            ('kron', KronFluxEstimator()),
        ):
            log_flux[name], seconds[name] = measure_timed(estimator, cutouts)
        for name in FITS:
            if KNOWN_METHODS[name].is_available:
                log_flux[name], seconds[name] = measure_timed_once(
                    make_estimator(name), cutouts, progress=progress
                )
            else:
                missing[KNOWN_METHODS[name].how_to_install] = name
    del log_flux['study']
    return log_flux, seconds, list(missing)


def measure_timed_once(estimator, cutouts, *, progress=False):
    """Return log10 of the fluxes, NaN without one, and the processor time per cutout."""
    began = cpu_seconds()
    flux = estimator.measure(cutouts, progress=progress)['flux'].value
    return positive_log10(flux), (cpu_seconds() - began) / len(cutouts)


def measure_timed(estimator, cutouts):
    """Do the same after a first time, which loads what has to be; the best time of three."""
    log_flux, _ = measure_timed_once(estimator, cutouts)
    many = cutouts * -(-FEWEST_TIMED // len(cutouts))
    return log_flux, min(measure_timed_once(estimator, many)[1] for _ in range(REPEATS))


def cost_table(actual, log_flux, seconds):
    """
    Put speed and accuracy of methods side by side, the fastest first.

    Times are of one core per cutout, ``speed_over_fit`` against the slowest fit. Of the ``mse`` of
    log10 flux and the absolute errors of the flux in percent, failures have no part.
    """
    errors = LN10 * pd.DataFrame(log_flux).sub(actual, axis=0)
    percent = 100 * np.expm1(errors).abs()
    time = pd.Series({n: seconds['study' if n in CNN_NAMES else n] for n in log_flux})
    slowest = max((seconds[name] for name in FITS if name in seconds), default=np.nan)
    table = pd.DataFrame(
        {
            'method': pd.Series({name: (METHODS | FITS)[name] for name in log_flux}),
            'n': len(actual),
            'n_failed': errors.isna().sum(),
            'milliseconds': 1e3 * time,
            'per_second': 1 / time,
            'speed_over_fit': slowest / time,
            'mse': ((errors / LN10) ** 2).mean(),
            'median_percent': percent.median(),
            'largest_percent': percent.max(),
        }
    )
    return table.sort_values('milliseconds', kind='stable', ignore_index=True)
