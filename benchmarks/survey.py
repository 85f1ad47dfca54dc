# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Accuracy and speed on a simulated survey of overlapping tiles.

    python benchmarks/survey.py --workers 2 --write

simulates 16 tiles of 4000 x 4000 pixels with 40,000 catalogued sources, measures them by each
method and compares with the truth, and times the survey engine. What is done is kept in
``--folder``: the command can be stopped and given again. ``--tiles 2 --side 1500 --folder FOLDER``
is a small survey of the same kind; ``--only accuracy`` or ``--only speed`` is one half.

The seed is the benchmark's own. Nothing is tuned on this sky.
"""

import time
from functools import partial
from pathlib import Path
from shutil import rmtree

import numpy as np
from astropy import units as u
from astropy.table import QTable, Table, vstack
from report import command_line, put_out, rst_table
from scipy.ndimage import distance_transform_edt

from astroflux import CNNFluxEstimator, KronFluxEstimator, read_cutout
from astroflux._progress import progress_bar
from astroflux._table_files import write_table
from astroflux._work import call_in_processes, use_one_thread
from astroflux.cutouts import noise_growth
from astroflux.estimators.field import FieldMeasurement
from astroflux.estimators.methods import make_estimator
from astroflux.evaluation import flux_error_statistics, flux_errors
from astroflux.evaluation._numbers import percent_text, ratio_text
from astroflux.evaluation.metrics import nmad, split_into_bins
from astroflux.simulation import FieldSimulation, simulate_survey

SEED = 90190
FOLDER = Path('.runs/survey')

SNR_BINS = (5, 10, 30, 300, 3000)

# Statistics of fewer sources tell nothing.
FEWEST = 5

# A brighter source that is nearer than that, in arcsec, is a neighbor.
NEAR = 4.0

# Pixels that are nearer to those that a star has filled do not count, nor do these.
AWAY = 20

# Residuals beyond that many times the noise, which is stated, are counted.
SIGMAS = 5.0

# Resamplings for each error.
N_BOOTSTRAP = 200

# The method that the scatter of the others is compared with.
REFERENCE = 'cnn-modelled'

METHODS = {
    'cnn-modelled': ('CNN, neighbors modelled', partial(CNNFluxEstimator), 'model'),
    'cnn': ('CNN, one pass', partial(CNNFluxEstimator), 'none'),
    'kron': ('Kron (photutils)', partial(KronFluxEstimator), 'none'),
    'sep': ('AUTO (sep)', partial(make_estimator, 'sep'), 'none'),
}

STATISTICS = ('bias', 'scatter', 'outliers', 'coverage_68')

# What is kept of a measurement.
KEPT = ('id', 'flux', 'flux_err', 'flux_lower', 'flux_upper', 'flags')
KEPT_OF_NETWORK = ('flux_lower_95', 'flux_upper_95')


# -- accuracy -------------------------------------------------------------------------------------


def measure_tile(path, catalogue_path, method, output):
    """Measure all sources of the catalogue in a tile by a method, and write what came of it."""
    _, make, neighbors = METHODS[method]
    estimator, image = make(), read_cutout(path)
    catalogue = QTable.read(catalogue_path)['id', 'ra', 'dec', 'tile']
    x, y = image.wcs.wcs_world2pix(catalogue['ra'], catalogue['dec'], 0)
    ny, nx = image.shape
    is_own = catalogue['tile'] == path.name
    # those that are measured in the next tile are neighbors here
    inside = (x > -0.5) & (x < nx - 0.5) & (y > -0.5) & (y < ny - 0.5)
    catalogue = catalogue[is_own | inside]
    told = {'noise_correlation': noise_growth(image), 'progress': False}
    began, meta = time.process_time(), {}
    if neighbors == 'model':
        field = FieldMeasurement(estimator, image, catalogue, **told)
        table = field.run()
        meta = _residuals(image, field.residual)
    else:
        table = estimator.measure_field(image, catalogue, neighbors='none', **told)
    table = table[[name for name in (*KEPT, *KEPT_OF_NETWORK) if name in table.colnames]]
    table = table[catalogue['tile'] == path.name]
    table.meta = meta | {'seconds': time.process_time() - began, 'n': len(catalogue)}
    write_table(table, output, overwrite=True)


def _residuals(image, residual):
    """Return how many pixels count, and in how many image and residual are within the noise."""
    mask = image.mask if image.mask is not None else np.zeros(image.shape, bool)
    counts = distance_transform_edt(~mask) > AWAY if mask.any() else ~mask
    limit = SIGMAS * image.uncertainty.array
    within = {
        name: int(np.sum(counts & (np.abs(array) <= limit)))
        for name, array in (('image', image.data), ('residual', residual))
    }
    return {'pixels': int(counts.sum())} | within


def measure_all(folder, methods, workers):
    """Measure all tiles by some methods; return the table of each method."""
    sky = folder / 'sky'
    tiles, catalogue = sorted(sky.glob('tile-*.fits')), sky / 'catalogue.parquet'
    found = {
        (method, tile): folder / 'accuracy' / method / f'{tile.stem}.parquet'
        for method in methods
        for tile in tiles
    }
    calls = []
    for (method, tile), output in found.items():
        output.parent.mkdir(parents=True, exist_ok=True)
        if not output.exists():
            calls.append((tile, catalogue, method, output))
    pool = {'workers': workers, 'initializer': use_one_thread}
    with progress_bar(total=len(calls), desc='accuracy', unit=' tiles', progress=True) as bar:
        for _ in call_in_processes(measure_tile, calls, **pool):
            bar.update()
    return {method: [QTable.read(found[method, tile]) for tile in tiles] for method in methods}


def errors_of(tables, truth):
    """Return the errors of a method in the order of the truth, which is sorted."""
    flux = dict(zip(truth['id'].tolist(), truth['flux'], strict=True))
    parts = []
    for table in tables:
        part = flux_errors(table, u.Quantity([flux[name] for name in table['id'].tolist()]))
        part['id'] = table['id']
        parts.append(part)
    errors = vstack(parts)
    errors.sort('id')
    assert errors['id'].tolist() == truth['id'].tolist(), 'a row was lost'
    return errors


def groups_of(truth):
    """Yield titles of groups of sources, and which are in them."""
    counts = ~truth['is_saturated']
    near = truth['brighter_distance'].value < NEAR
    yield f'brighter neighbor within {NEAR:g} arcsec', counts & near
    yield 'all others', counts & ~near


def half_of_68(values):
    """Return half of the range from 16 to 84 %, along the last axis."""
    low, high = np.percentile(values, [16, 84], axis=-1)
    return (high - low) / 2


def with_error(function, *columns):
    """Return a figure of some sources, and its bootstrap error."""
    n = len(columns[0])
    if n < FEWEST:
        return np.nan, np.nan
    drawn = np.random.default_rng(0).integers(n, size=(N_BOOTSTRAP, n))
    error = np.std(function(*(column[drawn] for column in columns)))
    return float(function(*columns)), float(error)


def _ratio(mine, reference):
    with np.errstate(invalid='ignore', divide='ignore'):
        return nmad(mine) / nmad(reference)


def accuracy_rows(errors, truth):
    """Return the rows of the table of accuracy."""
    rows = []
    for title, group in groups_of(truth):
        for low, high, of_bin in split_into_bins(truth['snr'], SNR_BINS):
            inside = group & of_bin
            if inside.sum() < FEWEST:
                continue
            for method, table in errors.items():
                other = errors[REFERENCE][inside] if REFERENCE in {*errors} - {method} else None
                cells = figures(table[inside], other)
                rows.append([title, f'{low}-{high}', METHODS[method][0], *cells])
    return rows


def figures(mine, reference):
    """Return the cells of a method: what its errors are, and over those of the reference."""
    found = flux_error_statistics(mine, n_bootstrap=N_BOOTSTRAP)
    ln_error = np.asarray(mine['ln_error'])
    half = with_error(half_of_68, ln_error[np.isfinite(ln_error)])
    ratio = np.nan, np.nan
    if reference is not None:
        others = np.asarray(reference['ln_error'])
        both = np.isfinite(ln_error) & np.isfinite(others)
        ratio = with_error(_ratio, ln_error[both], others[both])
    of = {name: (found[name], found[f'{name}_err']) for name in STATISTICS}
    return [
        str(found['n']),
        f'{100 * found["completeness"]:.1f}',
        *(_percent(pair) for pair in (of['bias'], of['scatter'], half)),
        '' if np.isnan(ratio[0]) else ratio_text(*ratio),
        *(_percent(pair) for pair in (of['outliers'], of['coverage_68'])),
    ]


def _percent(pair):
    return percent_text(*(100 * value for value in pair))


ACCURACY_HEADER = [
    *('sources', 'S/N', 'method', 'n', 'measured [%]', 'median bias [%]', 'scatter [%]'),
    *('half of 16-84 % [%]', 'scatter / modelled', 'beyond 30 % [%]', 'in 68 % interval [%]'),
]


def residual_rows(tables):
    """Return the rows of the table of residuals, of the image and without the models."""
    pixels = sum(table.meta['pixels'] for table in tables)
    return [
        [title, f'{pixels:,}', f'{100 * sum(t.meta[name] for t in tables) / pixels:.3f}']
        for title, name in (('the image', 'image'), ('without the models', 'residual'))
    ]


def accuracy(folder, arguments):
    """Measure how right the fluxes are, and write the tables."""
    methods = arguments.methods or [*METHODS]
    truth = QTable.read(folder / 'sky' / 'truth.parquet')
    tables = measure_all(folder, methods, arguments.workers)
    errors = {method: errors_of(tables[method], truth) for method in methods}
    table = rst_table(ACCURACY_HEADER, accuracy_rows(errors, truth))
    put_out(table, 'survey-accuracy', write=arguments.write)
    if REFERENCE in tables:
        header = ['pixels', 'number', f'within {SIGMAS:g} sigma [%]']
        table = rst_table(header, residual_rows(tables[REFERENCE]))
        put_out(table, 'survey-residuals', write=arguments.write)


# -- speed ----------------------------------------------------------------------------------------

SPEED_HEADER = [
    *('neighbors', 'workers', 'sources', 'seconds', 'sources a second', 'ms of a worker'),
    *('ms, of the first tiles', 'peak memory of a worker [MB]'),
]


def time_survey(folder, tiles, catalogue, neighbors, workers, n_first):
    """
    Measure a survey from end to end, and return a row of what it took.

    Tiles differ in what they take by a tenth and more, as skies do: that of a source of some tiles,
    the first ones, can be compared between surveys of different sizes.
    """
    from astroflux.survey import measure_survey

    output = folder / 'output'
    if output.exists():
        rmtree(output)
    began = time.perf_counter()
    result = measure_survey(
        tiles, catalogue, output, neighbors=neighbors, workers=workers, progress=True
    )
    seconds = time.perf_counter() - began
    # a position at the edge of the survey may be wrong by so much that it is outside
    assert result.n_rows + result.n_off == len(catalogue), 'a row was lost'
    images = Table.read(output / 'images.csv', format='ascii.csv')
    images.sort('image')
    return [
        {'none': 'one pass', 'model': 'modelled'}[neighbors],
        str(workers),
        f'{len(catalogue):,}',
        f'{seconds:.1f}',
        f'{len(catalogue) / seconds:,.0f}',
        *(
            f'{1e3 * part["seconds"].sum() / part["n_sources"].sum():.2f}'
            for part in (images, images[:n_first])
        ),
        f'{images["peak_memory_mb"].max():,.0f}',
    ]


# Surveys, and how many sources they have: Kuijken et al. 2019, A&A 625, A2 (KiDS); 1400 square
# degrees (Aihara et al. 2018, PASJ 70, S4) of 20 sources per square arcmin as here (HSC); Ivezic et
# al. 2019, ApJ 873, 111 (Rubin: galaxies, and as many stars).
SURVEYS = {
    'KiDS, fourth release': 1.0e8,
    'HSC-SSP Wide': 1.0e8,
    'Rubin, ten years': 4.0e10,
}
CAPACITY_HEADER = [
    *('sources of a band', 'number', 'one pass [core hours]', 'modelled [core hours]'),
    'modelled, days on 1000 cores',
]


def capacity_rows(rows):
    """Return what a number of sources takes, from the rows of all sources on most workers."""
    rates = {row[0]: float(row[4].replace(',', '')) / int(row[1]) for row in rows}
    for title, number in {'a million': 1e6, **SURVEYS}.items():
        hours = {name: number / rate / 3600 for name, rate in rates.items()}
        yield [
            title,
            f'{number:,.0f}',
            *(f'{hour:.2g}' if hour < 100 else f'{hour:,.0f}' for hour in hours.values()),
            f'{hours["modelled"] / 1000 / 24:.2g}',
        ]


def speed(folder, arguments):
    """Time the survey engine, and write the table."""
    sky = folder / 'sky'
    tiles = sorted(sky.glob('tile-*.fits'))
    catalogue = QTable.read(sky / 'catalogue.parquet')
    # a tenth of the sources, of whole tiles that are as full as the others
    few = tiles[: max(round(len(tiles) / 10), 1)]
    part = catalogue[np.isin(catalogue['tile'], [tile.name for tile in few])]
    rows = [
        time_survey(folder, *of, neighbors, workers, len(few))
        for neighbors in ('none', 'model')
        for of, workers in (((few, part), 1), ((tiles, catalogue), 1), ((tiles, catalogue), 2))
    ]
    put_out(rst_table(SPEED_HEADER, rows), 'survey-speed', write=arguments.write)
    table = rst_table(CAPACITY_HEADER, list(capacity_rows(rows)))
    put_out(table, 'survey-capacity', write=arguments.write)


def main():
    """Run from the command line."""
    counts = {
        'tiles': (16, 'tiles of the survey'),
        'side': (4000, 'pixels on a side of a tile'),
        'workers': (2, 'processes that simulate, and measure the accuracy'),
    }
    parser = command_line(__doc__, **counts)
    parser.add_argument('--folder', type=Path, default=FOLDER, help='what is done is kept there')
    parser.add_argument('--only', choices=('accuracy', 'speed'), help='one half')
    parser.add_argument('--methods', nargs='+', choices=METHODS, help='of the accuracy')
    arguments = parser.parse_args()
    simulate_survey(
        arguments.folder / 'sky',
        n_tiles=arguments.tiles,
        simulation=FieldSimulation(shape=(arguments.side, arguments.side)),
        seed=SEED,
        workers=arguments.workers,
        resume=True,
    )
    if arguments.only != 'speed':
        accuracy(arguments.folder, arguments)
    if arguments.only != 'accuracy':
        speed(arguments.folder, arguments)


if __name__ == '__main__':
    main()
