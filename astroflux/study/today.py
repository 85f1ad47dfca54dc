# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The study's images measured by today's methods: how accurate they are, and what they cost."""

import hashlib
import tempfile
from contextlib import contextmanager
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
from astroflux.estimators.methods import METHODS as KNOWN_METHODS
from astroflux.estimators.methods import make_estimator
from astroflux.evaluation import CutoutSource, ImageModel, Parameter, compare_methods, ln_flux_bound
from astroflux.evaluation.comparison import cpu_seconds
from astroflux.evaluation.comparison_plots import binned_figure, method_styles
from astroflux.evaluation.metrics import (
    N_BOOTSTRAP,
    flux_error_statistics,
    scatter_at_bound,
    split_into_bins,
    summarise_by,
)
from astroflux.networks import load_weights, save_weights
from astroflux.networks.study_net import StudyNet
from astroflux.study import figures
from astroflux.study.catalogue import StudySettings, draw_catalogue, image_model_truth
from astroflux.study.dataset import StudySet, read_settings
from astroflux.study.published import CNN_NAMES, PUBLISHED_LOSSES
from astroflux.study.results import (
    comparison_row,
    read_json,
    write_json,
    write_outputs,
    write_table,
)

__all__ = ['accuracy', 'today']

# Name of the column of fluxes, and label.
METHODS = {
    'kron': 'Kron',
    'sum': 'stamp sum',
    'cnn-1': 'study CNN 1',
    'cnn-2': 'study CNN 2',
    'cnn-3': 'study CNN 3',
    'shipped': 'shipped network',
    'tuned': 'fine-tuned network',
}
BOUND = 'information bound'
NETWORKS = ('shipped', 'tuned')

# Light-profile fits, by their names in `astroflux.estimators.methods`.
FITS = {'sersic': 'Sersic fit', 'bulge-disc': 'bulge + disc fit'}

# Whose errors are looked at by the shape of the galaxies: by which columns, in which bins.
JUDGED = ('kron', *CNN_NAMES, 'shipped')
PARAMETERS = (
    Parameter('Bt', 'bulge-to-total ratio', (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)),
    Parameter('R_e', 'half-light radius [arcsec]', (0.0, 0.3, 0.6, 1.0, 1.5, 2.0, 3.0)),
)
STATISTICS = ('completeness', 'bias', 'scatter', 'rms', 'outliers', 'scatter_over_bound')

# The last flux is that of the data set, which holds no brighter galaxy.
FLUX_EDGES = (0.0, 100.0, 300.0, 1000.0, 3000.0, 10_000.0, 20_000.0, 30_000.0)
SNR_EDGES = (0.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10_000.0, 30_000.0, np.inf)

# A flux off by more than these fractions is counted.
SHARES = {'beyond_10': 0.1, 'beyond_30': 0.3}

# What is asked of the shipped network: the MSE of log10 flux, and the share beyond 10 %.
GOAL_MSE = 2e-5
GOAL_SHARE = 1e-3

# Training images that the shipped network is fine-tuned on.
N_FINE_TUNE = 2000

# Galaxies that an interruption costs at the most, a minute's work, and those of a task.
PART_SIZE = 1000
CHUNK_SIZE = 250

# A network measures the images again and again, so that there is time enough to take.
FEWEST_TIMED = 256
REPEATS = 3

# Nearly twice as fast as batches of 64, whose first maps (63 MB) the C library does not keep.
STUDY_BATCH = 16

# In a figure a point of a curve stands for so many galaxies at the least.
FEWEST = 5
N_BINS = 14

LN10 = np.log(10)

# Between a logarithm that was written to a file and one that is taken again.
TOLERANCE = 1e-5


# -- measurements ------------------------------------------------------------------------------


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
    settings: StudySettings

    def __len__(self):
        return len(self.part)

    def load(self, start, stop):
        """Return the cutouts, and their flux, bound and S/N."""
        part = _rows_of(self.part, slice(start, stop))
        rows = part.table.to_dict('records')
        shape = part.images.shape[1:]
        bounds = [galaxy_bound(row, self.settings, shape, part.noise) for row in rows]
        truth = dict(zip(('bound', 'snr'), np.transpose(bounds), strict=True))
        return list(part.cutouts()), QTable({'flux': part.flux * u.adu, **truth})


def _rows_of(study_set, rows):
    return replace(study_set, table=study_set.table.iloc[rows], images=study_set.images[rows])


def galaxy_bound(row, settings, shape, noise):
    """
    Return the bound of a galaxy, the smallest standard deviation of ln flux, and its S/N.

    The sky, the PSF and the noise are known exactly, as they are in the study, and what its
    population says of the shape.
    """
    model = ImageModel(image_model_truth(row, settings), shape, settings.constants.pixel_scale)
    bound = ln_flux_bound(model, noise, sky_error=0, population=StudyPopulation(settings))
    return bound, float(np.sqrt((model.image**2).sum()) / noise)


def measure(test, settings, tuned, folder, *, workers=1, progress=False):
    """
    Measure all galaxies of a set by the methods of today, and keep each part that is done.

    The table has ``img_number``; log10 of the flux by each method, NaN without a positive flux;
    ``bound``, the smallest standard deviation of ln flux; and ``snr``.
    """
    methods = {
        'kron': KronFluxEstimator(),
        'shipped': CNNFluxEstimator(),
        'tuned': CNNFluxEstimator(weights=str(tuned)),
    }
    hashes = {name: load_weights(methods[name].weights).sha256 for name in ('shipped', 'tuned')}
    _claim(folder / 'settings.json', {'data': asdict(settings), 'part_size': PART_SIZE, **hashes})
    options = {'n_extremes': 0, 'workers': workers, 'progress': progress}
    tables = []
    for start in range(0, len(test), PART_SIZE):
        path = folder / f'{start:06d}.csv'
        if not path.exists():
            part = _rows_of(test, slice(start, start + PART_SIZE))
            source = StudyCutouts(part, settings)
            found = compare_methods(source, methods, chunk_size=CHUNK_SIZE, **options)
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
        refuse_other_settings(f'the work in {path.parent}', read_json(path), wanted)
    write_json(wanted, path)


def fine_tune(train, path, *, epochs, n_images=N_FINE_TUNE):
    """Fine-tune the shipped network on the first training images, unless that has been done."""
    n_images = min(n_images, len(train))
    estimator = CNNFluxEstimator(epochs=epochs)
    flux = np.ascontiguousarray(train.flux[:n_images])
    wanted = {
        'weights': load_weights(estimator.weights).sha256,
        'images': n_images,
        'fluxes': hashlib.sha256(flux.tobytes()).hexdigest(),
        **{name: getattr(estimator, name) for name in ('epochs', 'learning_rate', 'batch_size')},
        'random_state': estimator.random_state,
    }
    _claim(path.with_suffix('.json'), wanted)
    if not path.exists():
        cutouts = list(train.cutouts(range(n_images)))
        estimator.fit(cutouts, flux * cutouts[0].unit)
        with write_whole(path) as part:
            estimator.save(part)
    return path


def positive_log10(flux):
    """Return the logarithm of measured fluxes, NaN where there is no positive, finite one."""
    flux = np.asarray(flux, float)
    good = np.isfinite(flux) & (flux > 0)
    return np.where(good, np.log10(np.where(good, flux, 1.0)), np.nan)


def read_predictions(context, stage, columns):
    """Read columns of what an earlier stage predicted, row by row the galaxies of the test set."""
    path = context.folder.parent / stage / 'predictions.csv'
    if not path.is_file():
        msg = f'there is no {path}: run the stage {stage!r} first'
        raise FileNotFoundError(msg)
    table = pd.read_csv(path).set_index('img_number')
    numbers = context.test.table['img_number']
    if len(table) != len(numbers) or {*table.index} != {*numbers}:
        msg = f'{path} is not of the galaxies of the test set: run the stage {stage!r} again'
        raise ValueError(msg)
    table = table.loc[numbers].reset_index()
    wrong = np.flatnonzero(np.abs(table['actual'] - context.test.log_flux) > TOLERANCE)
    if wrong.size:
        row = wrong[0]
        msg = (
            f'{path} has the true log flux {table["actual"][row]:.6f} for image '
            f'{table["img_number"][row]}, the test set {context.test.log_flux[row]:.6f}'
        )
        raise ValueError(msg)
    return table[list(columns)]


# -- how accurate the methods are --------------------------------------------------------------


def today(context):
    """Compare the study's networks with the methods of today and the information bound."""
    test, folder = context.test, context.folder
    # first, as all else takes long
    networks = read_predictions(context, 'cnn', CNN_NAMES)
    epochs = CNNFluxEstimator().epochs
    epochs = min(epochs, context.preset.max_epochs or epochs)
    tuned = fine_tune(context.train, folder / 'fine-tuned.safetensors', epochs=epochs)
    options = {'workers': context.workers, 'progress': context.progress}
    measured = measure(test, read_settings(context.data), tuned, folder / 'parts', **options)
    predictions = pd.concat([networks, measured], axis=1)
    predictions['actual'] = test.log_flux
    predictions['sum'] = positive_log10(test.images.sum(axis=(1, 2), dtype=float))
    predictions = predictions[['img_number', 'actual', *METHODS, 'bound', 'snr']]
    write_table(predictions, folder / 'predictions.csv')

    bound = limit_bound(predictions['bound'], LN10 * context.train.log_flux.std())
    substitute = float(context.train.log_flux.mean())
    table = summarize(predictions, bound, substitute)
    goal = goal_table(predictions, bound, substitute)
    by_flux, by_snr = (
        summarize(predictions, bound, substitute, _bins(values, edges))
        for values, edges in ((test.flux, FLUX_EDGES), (predictions['snr'], SNR_EDGES))
    )
    tables = {
        'today.csv': table,
        'today_goal.csv': goal,
        'today_by_flux.csv': by_flux,
        'today_by_snr.csv': by_snr,
    }
    weights = load_weights(CNNFluxEstimator().weights)
    return {
        'rows': [*_mse_rows(table)],
        'methods': table.to_dict('records'),
        'goal': goal.to_dict('records'),
        'faintest': part_of_the_faintest(predictions, bound, substitute).to_dict('records'),
        'substitute': substitute,
        'weights': {'name': weights.name, 'sha256': weights.sha256},
        **write_outputs(folder, tables, _today_figures(predictions, bound)),
    }


def limit_bound(bound, ln_flux_scatter):
    """
    Add to bounds what the population says of the flux, as a Gaussian prior of its scatter.

    Without it the bound of a galaxy that is not seen has no limit; but who knows the population
    is not wrong by more than its scatter.
    """
    return 1 / np.sqrt(1 / np.asarray(bound, float) ** 2 + 1 / ln_flux_scatter**2)


def ln_errors(predictions, name):
    """Return errors of ln flux of a method; NaN where it has failed."""
    return LN10 * (predictions[name] - predictions['actual']).to_numpy(float)


def _bins(values, edges):
    return [({'low': a, 'high': b}, inside) for a, b, inside in split_into_bins(values, edges)]


def summarize(predictions, bound, substitute, selections=None, methods=tuple(METHODS)):
    """
    Summarize methods, and the bound beside them.

    A selection is a dict of labels, which become columns, and a mask of the galaxies; by default
    all are selected. The substitute is log10 of the flux that stands for a failure.
    """
    selections = selections or [({}, np.ones(len(predictions), bool))]
    rows = []
    for name in methods:
        error = ln_errors(predictions, name)
        guess = LN10 * (substitute - predictions['actual'].to_numpy())
        for labels, inside in selections:
            found = method_statistics(error[inside], guess[inside], bound[inside])
            rows.append({'method': METHODS[name], **labels, **found})
    for labels, inside in selections:
        rows.append({'method': BOUND, **labels, **bound_statistics(bound[inside])})
    return pd.DataFrame(rows)


def method_statistics(error, guess, bound):
    """
    Summarize errors of ln flux.

    A failure is NaN, and the guess what is said in its place. ``mse``, of log10 flux, is with the
    guesses, and has a bootstrap error; ``mse_measured``, ``bias_percent`` (the median error of the
    flux), ``scatter_percent`` (the NMAD of ln flux) and ``scatter_over_bound`` are without
    failures; in the `SHARES` failures count. NaN where there is nothing to tell.
    """
    failed = ~np.isfinite(error)
    squares = (np.where(failed, guess, error) / LN10) ** 2
    found = flux_error_statistics(Table({'ln_error': error}), bound=bound, n_bootstrap=1)
    # a failure is beyond every threshold
    off = np.where(failed, np.inf, np.abs(np.expm1(error)))
    return {
        'n': len(error),
        'n_failed': int(failed.sum()),
        'mse': _mean(squares),
        'mse_err': _error_of_mean(squares),
        'mse_measured': _mean(squares[~failed]),
        'bias_percent': 100 * float(np.expm1(found['bias'])),
        'scatter_percent': 100 * found['scatter'],
        'scatter_over_bound': found['scatter_over_bound'],
        **{name: _mean(off > limit) for name, limit in SHARES.items()},
    }


def bound_statistics(bound):
    """Return what `method_statistics` would be of Gaussian errors of these sizes, without bias."""
    n, mse = len(bound), _mean((bound / LN10) ** 2)
    return {
        'n': n,
        'n_failed': 0,
        'mse': mse,
        # the galaxies are what they are
        'mse_err': np.nan,
        'mse_measured': mse,
        'bias_percent': 0.0 if n else np.nan,
        'scatter_percent': 100 * scatter_at_bound(bound) if n else np.nan,
        'scatter_over_bound': 1.0 if n else np.nan,
        **{
            name: _mean(norm.sf(np.log1p(limit) / bound) + norm.cdf(np.log1p(-limit) / bound))
            for name, limit in SHARES.items()
        },
    }


def _mean(values):
    return float(np.mean(values)) if len(values) else np.nan


def _error_of_mean(values):
    if len(values) < 2:
        return np.nan
    drawn = np.random.default_rng(0).integers(len(values), size=(N_BOOTSTRAP, len(values)))
    return float(values[drawn].mean(axis=1).std())


def goal_table(predictions, bound, substitute):
    """
    Judge the shipped networks, and the bound, by the goal.

    Of all galaxies, of those that the shipped network measures, and of all but the faintest 1 %:
    ``mse_met`` and ``share_met``, whether the goal is met, and ``mse_over_bound``.
    """
    selections = {
        'all': np.ones(len(bound), bool),
        'measured': np.isfinite(predictions['shipped'].to_numpy()),
        'without the faintest 1 %': ~faintest(predictions['actual']),
    }
    table = pd.concat(
        [
            summarize(predictions, bound, substitute, [({'galaxies': name}, inside)], NETWORKS)
            for name, inside in selections.items()
        ],
        ignore_index=True,
    )
    table = table[['method', 'galaxies', 'n', 'n_failed', 'mse', 'beyond_10']]
    # the bound is the last of each selection
    possible = table.groupby('galaxies')['mse'].transform('last')
    return table.assign(
        mse_met=table['mse'] <= GOAL_MSE,
        share_met=table['beyond_10'] < GOAL_SHARE,
        mse_over_bound=table['mse'] / possible,
    )


def part_of_the_faintest(predictions, bound, substitute):
    """
    Tell how much of the summed squared errors comes from the faintest 1 % of the galaxies.

    For the bound and each shipped network: ``n``, how many these are; ``brightest``, the flux of
    the brightest of them in ADU; ``part``; ``part_measured``, the same without failures.
    """
    faint = faintest(predictions['actual'])
    guess = LN10 * (substitute - predictions['actual'].to_numpy())
    errors = {BOUND: (bound, bound)}
    for name in NETWORKS:
        error = ln_errors(predictions, name)
        errors[METHODS[name]] = np.where(np.isfinite(error), error, guess), np.nan_to_num(error)
    rows = []
    for method, both in errors.items():
        part, part_measured = ((e[faint] ** 2).sum() / (e**2).sum() for e in both)
        rows.append({'method': method, 'part': part, 'part_measured': part_measured})
    brightest = float(10 ** predictions['actual'][faint].max())
    return pd.DataFrame(rows).assign(n=int(faint.sum()), brightest=brightest)


def faintest(actual):
    """Tell which galaxies are the faintest 1 %, at least one."""
    is_faint = np.zeros(len(actual), bool)
    is_faint[np.argsort(actual, kind='stable')[: max(1, round(0.01 * len(actual)))]] = True
    return is_faint


def _mse_rows(table):
    published = {METHODS[name]: test for name, (_, test) in PUBLISHED_LOSSES.items()}
    for row in table.to_dict('records'):
        method, n_failed = row['method'], row['n_failed']
        note = f', {n_failed} failures replaced' if n_failed else ''
        what = f'MSE of log10 flux, {method}'
        yield comparison_row(what + note, published.get(method), row['mse'])
        if n_failed:
            yield comparison_row(f'{what}, without failures', None, row['mse_measured'])
        yield comparison_row(f'beyond 10 % [%], {method}', None, 100 * row['beyond_10'])


def _today_figures(predictions, bound):
    actual = predictions['actual'].to_numpy()
    errors = {label: ln_errors(predictions, name) for name, label in METHODS.items()}
    groups = flux_groups(actual)
    percents = {label: 100 * np.expm1(error) for label, error in errors.items()}
    scatters = {
        about: {
            label: [_scatter_percent(error[group], centre) for group in groups]
            for label, error in errors.items()
        }
        for about, centre in (('median of the bin', np.median), ('truth', _zero))
    }
    flux = [10 ** np.median(actual[group]) for group in groups]
    possible = [100 * scatter_at_bound(bound[group]) for group in groups]
    return {
        'today_residuals.png': figures.plot_residuals(10**actual, percents),
        'today_scatter.png': figures.plot_scatter(flux, scatters, bound=possible),
    }


def _zero(errors, axis):
    return 0.0


def _scatter_percent(errors, centre):
    """NMAD of those that were measured, if that are enough."""
    errors = errors[np.isfinite(errors)]
    if len(errors) < FEWEST:
        return np.nan
    return 100 * median_abs_deviation(errors, center=centre, scale='normal')


def flux_groups(actual):
    """
    Split galaxies by their flux, into bins of equal width in its logarithm where they suffice.

    Each has at least 5 galaxies, the faintest first; what is left over joins the next bin, and at
    the bright end the last one.
    """
    groups, pending = [], np.array([], int)
    for _, _, inside in split_into_bins(
        actual, np.linspace(actual.min(), actual.max(), N_BINS + 1)
    ):
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
    folder = context.folder
    predictions = read_predictions(context, 'today', ('img_number', 'actual', *JUDGED, 'bound'))
    tables, drawn = {}, {}
    for parameter in PARAMETERS:
        values = context.test.table[parameter.name].to_numpy(float)
        wide = widen(parameter, values)
        summary, bounds = accuracy_by(predictions, values, wide.edges)
        stem = f'accuracy_{parameter.name.lower()}'
        tables[f'{stem}.csv'] = _for_people(summary, bounds)
        styles = method_styles({name: METHODS[name] for name in JUDGED})
        drawn[f'{stem}.png'] = binned_figure(summary, wide, styles, bounds=bounds).axes
    rows = np.arange(min(context.preset.n_profile_fits, len(context.test)))
    cutouts = list(context.test.cutouts(rows))
    log_flux, seconds, missing = run_fits(cutouts, progress=context.progress)
    known = predictions.iloc[rows]
    log_flux |= {name: known[name].to_numpy() for name in CNN_NAMES}
    costs = cost_table(known['actual'].to_numpy(), log_flux, seconds)
    tables['accuracy_cost.csv'] = costs
    tables['accuracy_fits.csv'] = known[['img_number', 'actual']].assign(**log_flux)
    drawn['accuracy_cost.png'] = figures.plot_costs(costs)
    return {
        'rows': [
            comparison_row(f'{label}, {row["method"]}', None, row[column])
            for column, label in (
                ('per_second', 'cutouts per second and core'),
                ('median_percent', 'median error of the flux [%]'),
            )
            for row in costs.to_dict('records')
        ],
        'costs': costs.to_dict('records'),
        # how to install what fits need that were left out
        'missing': missing,
        **write_outputs(folder, tables, drawn),
    }


def widen(parameter, values):
    """Return a parameter whose last bin holds all values: its edge has one decimal."""
    last = max(parameter.edges[-1], float(np.ceil(10 * np.max(values)) / 10))
    return replace(parameter, edges=(*parameter.edges[:-1], last))


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
        table = summarise_by(values, edges, errors, bound=bound)[kept]
        table.add_column([name] * len(table), name='method', index=0)
        tables.append(table)
    rows = []
    for low, high, inside in split_into_bins(values, edges):
        known = bound[inside & np.isfinite(bound)]
        scatter = scatter_at_bound(known) if len(known) else np.nan
        rows.append({'low': low, 'high': high, 'n': int(inside.sum()), 'scatter': scatter})
    return vstack(tables), Table(rows)


def _for_people(summary, bounds):
    """Make a table with labels, and with what is possible in each bin."""
    table = summary.to_pandas()
    table['method'] = table['method'].map(METHODS)
    possible = bounds.to_pandas().rename(columns={'scatter': 'bound'})
    return table.merge(possible[['low', 'high', 'bound']], on=['low', 'high'], how='left')


def run_fits(cutouts, *, progress=False):
    """
    Measure the same images by networks, Kron and light-profile fits, on one core.

    Returns log10 of the fluxes and the seconds per cutout by method (of the study's networks,
    ``study``, the seconds alone: it is one of chance, on which they do not depend), and how to
    install what fits need that were left out.
    """
    log_flux, seconds, missing = {}, {}, []
    with one_core(), tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'study.safetensors'
        with torch.random.fork_rng(devices=[]):
            save_weights(path, StudyNet(), name='untrained')
        fast = {
            'study': CNNFluxEstimator(weights=str(path), batch_size=STUDY_BATCH),
            'shipped': CNNFluxEstimator(),
            'kron': KronFluxEstimator(),
        }
        for name, estimator in fast.items():
            log_flux[name], seconds[name] = measure_timed(estimator, cutouts)
        for name in FITS:
            if KNOWN_METHODS[name].is_available:
                estimator = make_estimator(name)
                log_flux[name], seconds[name] = measure_timed_once(estimator, cutouts, progress)
            elif (needs := KNOWN_METHODS[name].how_to_install) not in missing:
                missing.append(needs)
    del log_flux['study']
    return log_flux, seconds, missing


@contextmanager
def one_core():
    """Let all libraries compute in one thread, and then as before."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(n_threads)


def measure_timed_once(estimator, cutouts, progress=False):
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

    Of each ``milliseconds`` of one core per cutout; ``speed_over_fit``, how many times as fast as
    the slowest fit; and without failures the ``mse`` of log10 flux, and median and largest absolute
    error of the flux in percent.
    """
    slowest = max((seconds[name] for name in FITS if name in seconds), default=np.nan)
    rows = []
    for name, values in log_flux.items():
        error = LN10 * (values - actual)
        good = error[np.isfinite(error)]
        percent = 100 * np.abs(np.expm1(good))
        time = seconds['study' if name in CNN_NAMES else name]
        rows.append(
            {
                'method': (METHODS | FITS)[name],
                'n': len(error),
                'n_failed': len(error) - len(good),
                'milliseconds': 1e3 * time,
                'per_second': 1 / time,
                'speed_over_fit': slowest / time,
                'mse': _mean((good / LN10) ** 2),
                'median_percent': float(np.median(percent)) if len(good) else np.nan,
                'largest_percent': percent.max(initial=0) if len(good) else np.nan,
            }
        )
    return pd.DataFrame(rows).sort_values('milliseconds', kind='stable', ignore_index=True)
