# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Trials: damaged inputs go to the package, a chunk of one family at a time."""

import json
import signal
import tempfile
import warnings
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import Column, QTable, Table
from fuzz_inputs import FLUXES, SIDE, damaged_array, damaged_bytes, damaged_file, galaxy, layouts
from fuzz_outcomes import COMPANY, FORBIDDEN, REFUSED, SAME, Hang, can_be_seen, of_error, of_row

from astroflux._table_files import TABLE_FORMATS, write_table
from astroflux.cli._earlier import combine, read_earlier
from astroflux.cutouts import CutoutFile, iter_cutouts
from astroflux.estimators.methods import make_estimator
from astroflux.evaluation.sources import DatasetSource

__all__ = ['CHUNK', 'FAMILIES', 'SECONDS', 'Trials', 'folder_for_files', 'seeds_of']

# inputs a chunk, and how many of them are measured in one call
CHUNK, BATCH = 200, 50
SECONDS = 20

# How often each method measures: cheap ones do most of it.
METHODS = {'cnn': 0.5, 'aperture': 0.37, 'kron': 0.1, 'sep': 0.02, 'growth': 0.01}

# What a measurement may differ by in other company, of its error.
_IN_COMPANY = 1e-3


def seeds_of(seed, number):
    """Return the generator of one input: the input can be made again by its number."""
    return np.random.default_rng([seed, number])


@contextmanager
def time_limit():
    """Raise a `Hang` in what takes too long."""

    def stop(*_):
        msg = f'no answer after {SECONDS} s'
        raise Hang(msg)

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Trials:
    """
    What a process needs for trials.

    Parameters
    ----------
    folder : `~pathlib.Path`
        Where damaged files are written.
    seed : int
        Of all inputs.
    """

    def __init__(self, folder, seed):
        self.folder, self.seed = Path(folder), seed
        self._intact = {}
        self._made = {}

    def chunk(self, chunk, *, numbers=None, one_by_one=False, began=None):
        """
        Yield what came of the inputs of a chunk: number, family, change, outcome and a text.

        Parameters
        ----------
        chunk : int
            Which chunk.
        numbers : list of int, optional
            Some of its inputs, by default all.
        one_by_one : bool
            Whether to measure one in a call, so that the one that ends the process is known.
        began : callable, optional
            Called with a number before this and what follows is tried.
        """
        rng = np.random.default_rng([self.seed, chunk, 1])
        family = str(rng.choice(list(FAMILIES), p=[share for share, _ in FAMILIES.values()]))
        method = rng.choice(list(METHODS), p=list(METHODS.values()))
        is_alone = rng.random() < 0.1
        if numbers is None:
            numbers = range(chunk * CHUNK, (chunk + 1) * CHUNK)
        with warnings.catch_warnings(), np.errstate(all='ignore'):
            warnings.simplefilter('ignore')
            step = 1 if is_alone or one_by_one else BATCH
            options = {'is_alone': is_alone, 'step': step, 'began': began}
            yield from self.family(family, numbers, method, **options)

    def family(self, family, numbers, method='aperture', *, is_alone=False, step=BATCH, began=None):
        """Yield what came of inputs of one family, as `chunk` does."""
        self._began = began or (lambda number: None)
        trial = FAMILIES[family][1]
        if family in ('arrays', 'FITS files'):
            numbers = list(numbers)
            for first in range(0, len(numbers), step):
                part = numbers[first : first + step]
                inputs = [(n, trial(self, seeds_of(self.seed, n), n)) for n in part]
                for each in self._apart(inputs):
                    for number, change, *came in self._measured(each, method, is_alone=is_alone):
                        yield number, family, change, *came
            return
        for number in numbers:
            self._began(number)
            yield number, family, *trial(self, seeds_of(self.seed, number), number)

    def warm_up(self):
        """Load all that is needed, so that it counts as no input's time and memory."""
        for method in METHODS:
            self.intact(method)
        for family in FAMILIES:
            list(self.family(family, range(12)))

    # -- arrays and files --

    def estimator(self, method):
        """Return an estimator, one for all inputs."""
        if method not in self._made:
            self._made[method] = make_estimator(method)
        return self._made[method]

    def intact(self, method, item=None, flux=FLUXES[1]):
        """Return what a method gives for what was not damaged: flux, flags and the cutout."""
        layout = item.partition(':')[0] if item else None
        key = method, layout, flux
        if key not in self._intact:
            if layout is None:
                given = galaxy(flux)
            else:
                path = self.folder / 'intact.fits'
                path.write_bytes(layouts()[layout, flux])
                given = _as_given(path, layout)
            table = self.estimator(method).measure(given, progress=False)
            (cutout,) = iter_cutouts(given)
            self._intact[key] = table['flux'].value[0], int(table['flags'][0]), cutout
        return self._intact[key]

    def _measured(self, inputs, method, *, is_alone):
        """Yield what came of inputs in one call, after and before an intact one if not alone."""
        self._began(inputs[0][0])
        good = [] if is_alone else [galaxy(FLUXES[1])]
        items = [_as_given(i.item, i.change) for _, i in inputs]
        given = items[0] if is_alone else [*good, *items, *good]
        try:
            with time_limit():
                table = self.estimator(method).measure(given, progress=False)
        except (Exception, Hang) as exc:
            if len(inputs) > 1:
                yield from self._halves(inputs, method)
                return
            outcome, text = of_error(exc)
            if outcome == REFUSED and not is_alone and not isinstance(exc, u.UnitsError):
                outcome = COMPANY
            yield inputs[0][0], inputs[0][1].change, outcome, text
            return
        if not is_alone and not self._is_company_unharmed(table, len(items), method):
            if len(inputs) > 1:
                yield from self._halves(inputs, method)
            else:
                yield inputs[0][0], inputs[0][1].change, COMPANY, 'an intact one changed'
            return
        for row, (number, each) in enumerate(inputs, start=len(good)):
            layout = each.change if isinstance(each.item, Path) else None
            flux, flags, before = self.intact(method, layout, each.flux)

            def seen(item=items[row - len(good)], before=before):  # noqa: B008
                *_, after = iter_cutouts([*good, item])
                return can_be_seen(before, after)

            seen = seen if method == 'cnn' else None
            yield number, each.change, *of_row(table, row, flux * each.factor, flags, seen)

    @staticmethod
    def _apart(inputs):
        """Return parts of a batch: each of another unit, which ends the call, by itself."""
        odd = [each for each in inputs if getattr(each[1].item, 'unit', None) != u.adu]
        odd = [each for each in odd if not isinstance(each[1].item, Path)]
        numbers = {number for number, _ in odd}
        rest = [each for each in inputs if each[0] not in numbers]
        return [part for part in (rest, *([each] for each in odd)) if part]

    def _halves(self, inputs, method):
        half = len(inputs) // 2
        for part in (inputs[:half], inputs[half:]):
            yield from self._measured(part, method, is_alone=False)

    def _is_company_unharmed(self, table, n, method):
        if len(table) != n + 2:
            return False
        wanted, flags, _ = self.intact(method)
        flux, error = (table[name].value[[0, -1]] for name in ('flux', 'flux_err'))
        is_same = np.abs(flux - wanted) <= _IN_COMPANY * error
        return bool(is_same.all() and (table['flags'][[0, -1]] == flags).all())

    def array(self, rng, _):
        """Return a damaged array."""
        return damaged_array(rng)

    def file(self, rng, number):
        """Return a damaged FITS file."""
        return damaged_file(rng, self.folder, number % BATCH)

    # -- keywords --

    def keywords(self, rng, _):
        """Measure intact galaxies with odd keywords."""
        flux = rng.choice(FLUXES)
        n, ccd = rng.integers(1, 4), galaxy(flux)
        given = (ccd, [ccd] * n, np.stack([ccd.data] * n), ccd.data, iter([ccd] * n))
        given = given[rng.integers(len(given))]
        names = rng.choice(KEYWORDS, size=rng.choice([1, 1, 2, 3]), replace=False)
        pool = odd_objects(n)
        options = {name: pool[rng.integers(len(pool))] for name in names}
        change = ' + '.join(sorted(names))
        method = rng.choice(['aperture', 'kron', 'cnn'], p=[0.7, 0.15, 0.15])
        try:
            with time_limit():
                table = self.estimator(method).measure(given, progress=False, **options)
        except (Exception, Hang) as exc:
            return change, *of_error(exc)
        wanted, flags, before = self.intact(method, flux=flux)

        def seen():
            if given is not ccd or 'zeropoint' in names or len(table) > 1:
                return False
            return can_be_seen(before, next(iter_cutouts(given, **options)))

        seen = seen if method == 'cnn' else None
        rows = [of_row(table, i, wanted, flags, seen) for i in range(len(table))]
        return change, *_worst(rows)

    # -- tables --

    def tables(self, rng, number):
        """Use a damaged table of positions, of earlier measurements or of truth."""
        kind = rng.integers(4)
        if kind <= 1:
            return self._positions(rng)
        if kind == 2:
            return self._earlier(rng)
        return self._truth(rng)

    def _positions(self, rng):
        table, ccd = _damaged_table(_positions_table(), rng), galaxy(FLUXES[1])
        as_kind = (lambda t: t, lambda t: t.as_array(), lambda t: t.to_pandas(), QTable)
        try:
            positions = as_kind[rng.integers(4)](table)
        except Exception:  # no such table can be made
            positions = table
        try:
            with time_limit():
                rows = self.estimator('aperture').measure(ccd, positions=positions, progress=False)
        except (Exception, Hang) as exc:
            return 'table of positions', *of_error(exc)
        if len(rows) != len(table):
            return 'table of positions', COMPANY, f'{len(rows)} rows for {len(table)} positions'
        wanted, flags, _ = self.intact('aperture')
        came = [of_row(rows, i, wanted, flags) for i in range(len(rows))]
        return 'table of positions', *_worst(came)

    def _earlier(self, rng):
        suffix = list(TABLE_FORMATS)[rng.integers(len(TABLE_FORMATS))]
        estimator = self.estimator('aperture')
        if 'earlier' not in self._made:
            table = estimator.measure([galaxy(flux) for flux in FLUXES], progress=False)
            table['name'] = ['a.fits', 'b.fits', 'c.fits']
            self._made['earlier'] = table
            for each in TABLE_FORMATS:
                write_table(table, self.folder / f'earlier{each}', overwrite=True)
                self._made[each] = (self.folder / f'earlier{each}').read_bytes()
        table = self._made['earlier']
        path = self.folder / f'damaged{suffix}'
        path.write_bytes(damaged_bytes(self._made[suffix], rng))
        change = f'table of measurements{suffix}'
        try:
            with time_limit():
                earlier = read_earlier(path, table.meta)
                both = combine(earlier, table[:0], list(table['name']))
        except (Exception, Hang) as exc:
            return change, *of_error(exc)
        return change, SAME, f'{len(both)} rows'

    def _truth(self, rng):
        if 'truth' not in self._made:
            rows = QTable({'file_name': ['a.fits', 'b.fits'], 'flux': [1.0, 2.0] * u.adu})
            rows['half_light_radius'] = [1.0, 2.0] * u.arcsec
            rows.write(self.folder / 'truth.ecsv', overwrite=True)
            self._made['truth'] = (self.folder / 'truth.ecsv').read_bytes()
        (self.folder / 'truth.ecsv').write_bytes(damaged_bytes(self._made['truth'], rng))
        try:
            with time_limit():
                source = DatasetSource(self.folder, with_bound=False)
                source.load(0, len(source))
        except (Exception, Hang) as exc:
            return 'table of truth', *of_error(exc)
        return 'table of truth', SAME, f'{len(source)} rows'

    # -- what was saved --

    def saved(self, rng, number):
        """Load a damaged file of an estimator, and measure with it."""
        name = ('aperture', 'kron', 'growth', 'petrosian')[rng.integers(4)]
        path = self.folder / 'estimator.json'
        estimator = self.estimator(name)
        if (name, 'saved') not in self._made:
            estimator.save(path, overwrite=True)
            self._made[name, 'saved'] = path.read_bytes()
        content = self._made[name, 'saved']
        if rng.random() < 0.4:
            content = damaged_bytes(content, rng)
        else:
            content = json.dumps(_damaged_json(json.loads(content), rng)).encode()
        path.write_bytes(content)
        return f'saved {name}', *self._loaded(name, lambda: type(estimator).load(path))

    def _loaded(self, name, load, seen=None):
        try:
            with time_limit():
                table = load().measure(galaxy(FLUXES[1]), progress=False)
        except (Exception, Hang) as exc:
            return of_error(exc)
        flux, flags, _ = self.intact(name)
        return of_row(table, 0, flux, flags, seen)

    def weights(self, rng, number):
        """Load a damaged file of weights, and measure with it."""
        from astroflux import CNNFluxEstimator

        path = self.folder / 'damaged.safetensors'
        if 'weights' not in self._made:
            self._made['weights'] = _small_weights(path)
            self._made['tiny'] = CNNFluxEstimator(weights=path)
            self.intact('tiny')
        content, change = self._made['weights'], 'bytes of the file'
        if rng.random() < 0.7:
            content, change = _damaged_weights(content, rng)
        if change == 'bytes of the file':
            content = damaged_bytes(content, rng)
        path.write_bytes(content)
        # their answer is of no use, whatever they are
        came = self._loaded('tiny', lambda: CNNFluxEstimator(weights=path), lambda: True)
        return change, *came


FAMILIES = {
    'arrays': (0.45, Trials.array),
    'FITS files': (0.32, Trials.file),
    'keywords': (0.12, Trials.keywords),
    'tables': (0.06, Trials.tables),
    'saved estimators': (0.04, Trials.saved),
    'weights': (0.01, Trials.weights),
}


def _as_given(item, change):
    """Return what is measured: of a cube of bands, one of them."""
    is_cube = isinstance(item, Path) and change.startswith('cube')
    return CutoutFile(item, plane='r') if is_cube else item


def _worst(rows):
    """Return the outcome of all rows of a call: a forbidden one if there is any."""
    bad = [row for row in rows if row[0] in FORBIDDEN]
    return (bad or rows)[0]


# -- keywords -------------------------------------------------------------------------------------

KEYWORDS = (
    *('psf', 'psf_fwhm', 'positions', 'labels', 'stamp_size', 'error', 'mask', 'background'),
    *('effective_gain', 'noise_correlation', 'zeropoint'),
)


def odd_objects(n):
    """Return objects of all kinds, good ones for some keyword among them."""
    ones, middle = np.ones((SIDE, SIDE)), SIDE // 2
    return (
        *(None, np.nan, np.inf, -np.inf, 0, -1, 1, 4.0, 1e-300, 1e300, True, 1j, 10**400, 2**63),
        *(
            'x',
            '',
            b'x',
            'local',
            'estimate',
            'none',
            '4 pix',
            [],
            (),
            {},
            {1: 2},
            [None],
            [np.nan],
        ),
        *(object(), int, Path('.'), np.array([]), np.zeros(3), ones, 0 * ones, np.nan * ones),
        *(-ones, ones > 0, ones < 0, ones[:5, :5], ones[:5, :4], np.ones((n, SIDE, SIDE))),
        *(ones.astype('U3'), ones.astype(object), ones * 1j, np.array('x'), np.ma.masked),
        *(np.datetime64('2020-01-01'), 1 * u.m, ones * u.adu, ones * u.m, 0.8 * u.arcsec),
        *(np.nan * u.arcsec, 4 * u.pix, 27 * u.ABmag, 27 * u.mag, [4.0] * n, [4] * (n + 1)),
        *(iter([1, 2]), iter([]), (middle, middle), [(middle, middle)] * n, [(1, 2, 3)] * n),
        *([[middle, middle]], ((1, 2), (3, 4)), (np.nan, middle), (1e300, -1e300), ('a', 'b')),
        *(SkyCoord(150, 2, unit='deg'), SkyCoord([150] * n, [2] * n, unit='deg')),
        *(SkyCoord(150, -80, unit='deg'), (middle, None), [None] * n, [ones] * n, [ones, None]),
        *(_positions_table(), Table(), Table({'x': []}), np.full((n, 2), 20.0), range(3), {1, 2}),
        *(np.array([1, 'a', None], dtype=object), np.ma.array([4.0], mask=True), 8, 7, 10**9),
    )


# -- tables ---------------------------------------------------------------------------------------


def _positions_table():
    middle = float(SIDE // 2)
    columns = {'id': [3, 1, 2], 'x': [middle] * 3, 'y': [middle, middle, 5.0]}
    return Table(columns)


def _damaged_table(table, rng):
    """Return a table after one to three changes."""
    columns, n = dict(table.columns), len(table)
    for _ in range(rng.integers(1, 4)):
        if not columns:
            break
        name = list(columns)[rng.integers(len(columns))]
        column, cell = columns[name], ODD_CELLS[rng.integers(len(ODD_CELLS))]
        other = ODD_NAMES[rng.integers(len(ODD_NAMES))]
        match rng.integers(9):
            case 0:
                columns[other] = columns.pop(name)
            case 1:
                del columns[name]
            case 2:
                columns[other] = column
            case 3:
                values = [*column]
                values[rng.integers(n)] = cell
                columns[name] = np.array(values, dtype=object)
            case 4:
                columns[name] = [str(value) for value in column]
            case 5:
                unit = ('pix', 'deg', 'm', '', 'arcsec')[rng.integers(5)]
                columns[name] = Column(np.array(column), unit=unit)
            case 6:
                columns[name] = np.ma.array(np.array(column), mask=rng.random(n) < 0.5)
            case 7:
                columns[name] = np.array([cell] * n)
            case _:
                columns[name] = [10.0 ** rng.uniform(-5, 300)] * n
    return Table(columns)[: rng.integers(n + 1) if rng.random() < 0.1 else n]


ODD_NAMES = ('id', 'x', 'y', 'ra', 'dec', 'X_IMAGE', 'y_image', 'label', 'é', 'bbox_xmin')
ODD_CELLS = (np.nan, np.inf, -1, 0, 1e300, 'x', '', None, b'\xff', 1j, True, 10**30, '=1+1', '<b>')


# -- what was saved -------------------------------------------------------------------------------

ODD_JSON = (
    *(None, True, False, 0, 1, -1, 1.5, 1e308, 10**400, np.nan, -np.inf, '', 'x', [], [1, 2], {}),
    *({'value': 1, 'unit': 'm'}, {'value': [], 'unit': 'x'}, {'value': 'x', 'unit': 3}, [[]], '4'),
)


def _damaged_json(content, rng):
    """Return JSON with a few values, or keys, replaced, removed or added."""
    content = {'': content}
    for _ in range(rng.choice([1, 1, 2, 3])):
        places = list(_places(content))
        owner, key = places[rng.integers(len(places))]
        # a copy, as it may be changed in its turn
        value = deepcopy(ODD_JSON[rng.integers(len(ODD_JSON))])
        match rng.integers(6):
            case 0 if isinstance(owner, dict) and key:
                del owner[key]
            case 1 if isinstance(owner, dict) and key:
                owner[('x', 'finder__x', 'aperture', 'a__b__c')[rng.integers(4)]] = owner.pop(key)
            case _:
                owner[key] = value
    return content.get('')


def _places(content):
    items = enumerate(content) if isinstance(content, list) else content.items()
    for key, value in [*items]:
        yield content, key
        if isinstance(value, dict | list):
            yield from _places(value)


def _small_weights(path):
    """Return the content of a file of weights, of a network that is as small as can be."""
    import torch

    from astroflux.networks import save_weights
    from astroflux.networks.profile_net import ProfileNet

    with torch.random.fork_rng():
        torch.manual_seed(0)
        channels = (2, 2, 2, 2)
        network = ProfileNet(channels, channels, maps=2, width=8, n_steps=1)
    save_weights(path, network, name='small', metadata={'psf_fwhm_range': [2, 8]})
    return path.read_bytes()


def _damaged_weights(content, rng):
    """Return a file of weights whose hash fits, with odd tensors or an odd header."""
    import torch
    from safetensors.torch import load, save

    from astroflux.networks.store import hash_of_tensors

    tensors = load(content)
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], 'little')])['__metadata__']
    names = sorted(tensors)
    name = names[rng.integers(len(names))]
    match kind := rng.integers(6):
        case 0:
            key = sorted(header)[rng.integers(len(header))]
            header[key] = str(rng.choice(['', 'x', '{}', '[]', 'null', '1', '{"x": 1}', '[[1]]']))
        case 1:
            key = ('settings', 'metadata')[rng.integers(2)]
            # of sizes that are taken, none is beyond a few megabytes
            header[key] = json.dumps(_damaged_json(json.loads(header[key]), rng))
        case 2:
            del header[sorted(header)[rng.integers(len(header))]]
        case 3:
            value = float(rng.choice([*np.array([0, 1, -1, np.nan, np.inf, 1e30, 1e-30])]))
            chosen = names if rng.random() < 0.3 else [name]
            tensors |= {each: torch.full(tensors[each].shape, value) for each in chosen}
        case 4:
            types = (torch.float16, torch.bfloat16, torch.int64, torch.float64, torch.bool)
            tensors[name] = tensors[name].to(types[rng.integers(len(types))])
        case _:
            shape = tuple(rng.integers(0, 6, rng.integers(0, 4)).tolist())
            tensors[name] = torch.zeros(shape)
    if kind >= 3:
        if rng.random() < 0.1:
            del tensors[name]
        try:
            header['sha256'] = hash_of_tensors(tensors)
        except TypeError:
            header['sha256'] = ''
    change = 'header of the file' if kind < 3 else 'tensors with a hash that fits'
    return save(tensors, metadata=header), change


def folder_for_files():
    """Return a temporary folder, in memory if there is a place for that."""
    place = '/dev/shm' if Path('/dev/shm').is_dir() else None
    return tempfile.TemporaryDirectory(dir=place, prefix='fuzz-')
