# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Threads and processes: the same numbers, no errors, nothing left behind."""

import multiprocessing
import pickle
import threading
import warnings
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData, StdDevUncertainty
from astropy.utils.exceptions import AstropyUserWarning
from threadpoolctl import threadpool_info

from astroflux import CNNFluxEstimator, KronFluxEstimator, RegressionFluxEstimator, read_cutout
from astroflux._forks import ForkLock
from astroflux._quiet import quiet_libraries
from astroflux.cutouts.readers import CutoutReadError
from astroflux.estimators.methods import available_methods, make_estimator
from astroflux.estimators.regression._models import train

N_THREADS = 8

# one of each kind: the others do the same with other parameters
METHODS = [name for name in available_methods() if name not in ('bulge-disc', 'forest', 'boosting')]
ESTIMATORS = {name: (make_estimator, name) for name in METHODS} | {
    'study': (CNNFluxEstimator, 'study-2024')
}

needs_fork = pytest.mark.skipif(
    'fork' not in multiprocessing.get_all_start_methods(), reason='needs fork'
)


def make(name):
    function, argument = ESTIMATORS[name]
    return function(argument)


@pytest.fixture(scope='module')
def galaxies():
    """Three galaxies, each with a PSF of its own, in ADU."""
    y, x = np.mgrid[-30:31, -30:31]
    rng = np.random.default_rng(3)
    cutouts = []
    for sigma in (2.0, 2.6, 3.4):
        image = 400 / (2 * np.pi * sigma**2) * np.exp(-(x**2 + (y / 0.8) ** 2) / (2 * sigma**2))
        psf = np.exp(-(x**2 + y**2)[10:-10, 10:-10] / (2 * (sigma - 0.6) ** 2))
        noise = StdDevUncertainty(np.full(image.shape, 0.1))
        data = image + rng.normal(scale=0.1, size=image.shape)
        cutouts.append(CCDData(data, unit='adu', uncertainty=noise, psf=psf))
    return cutouts


def measure(estimator, cutouts):
    return numbers_of(estimator.measure(cutouts, progress=False))


def numbers_of(table):
    """All columns of numbers, bit by bit."""
    columns = {name: np.asarray(table[name]) for name in table.colnames}
    return {name: values.tobytes() for name, values in columns.items() if values.dtype != object}


def fluxes(estimator, cutouts):
    return estimator.predict(cutouts, progress=False).value


def in_threads(function):
    """Call a function in threads that begin at the same moment."""
    start = threading.Barrier(N_THREADS)

    def call(_):
        start.wait(timeout=60)
        return function()

    with ThreadPoolExecutor(N_THREADS) as pool:
        return list(pool.map(call, range(N_THREADS)))


# -- threads -----------------------------------------------------------------------------------


@pytest.mark.parametrize('name', sorted(ESTIMATORS.keys() - {'linear'}))
def test_threads_share_an_estimator(name, galaxies):
    """Nothing was loaded before: the first use is in all threads at once."""
    wanted = measure(make(name), galaxies)
    assert {'flux', 'flux_err', 'flags'} <= wanted.keys()
    shared = make(name)
    assert in_threads(lambda: measure(shared, galaxies)) == [wanted] * N_THREADS


def test_threads_load_weights_once(galaxies, monkeypatch):
    loaded = []
    load = CNNFluxEstimator._load
    monkeypatch.setattr(
        CNNFluxEstimator, '_load', lambda self, source: loaded.append(source) or load(self, source)
    )
    shared = CNNFluxEstimator('study-2024')
    in_threads(lambda: shared.predict(galaxies[0]))
    assert loaded == ['study-2024']


def test_threads_train_once(galaxies):
    """Also with an estimator each; and the limits of threads are as they were."""
    train.cache_clear()
    estimators = [RegressionFluxEstimator('linear') for _ in range(N_THREADS)]
    limits = [(pool['filepath'], pool['num_threads']) for pool in threadpool_info()]
    found = in_threads(lambda: measure(estimators.pop(), galaxies))
    assert train.cache_info().misses == 1
    assert found == [measure(RegressionFluxEstimator('linear'), galaxies)] * N_THREADS
    now = {pool['filepath']: pool['num_threads'] for pool in threadpool_info()}
    assert limits == [(path, now[path]) for path, _ in limits]


def test_threads_see_many_psfs(galaxies):
    """More of them than are remembered."""
    shared = CNNFluxEstimator()
    image = galaxies[2]
    y, x = np.mgrid[-12:13, -12:13]
    cutouts = [
        CCDData(
            image.data,
            unit='adu',
            uncertainty=image.uncertainty,
            psf=np.exp(-(x**2 + y**2) / (2 * width**2)),
        )
        for width in np.linspace(1.3, 3.0, 300)
    ]
    orders = [np.random.default_rng(seed).permutation(300)[:60] for seed in range(N_THREADS)]

    def flux(order):
        return list(fluxes(shared, [cutouts[number] for number in order]))

    wanted = {tuple(order): flux(order) for order in orders}
    left = list(wanted)
    found = dict(in_threads(lambda: (order := left.pop(), flux(order))))
    assert found == wanted


@pytest.mark.parametrize('name', ['kron', 'aperture'])
def test_threads_leave_the_filters_of_warnings(name, galaxies):
    """Libraries change them, too."""
    shared = make(name)
    fluxes(shared, galaxies[:1])
    filters, show = list(warnings.filters), warnings.showwarning
    for _ in range(3):
        in_threads(lambda: [fluxes(shared, galaxies) for _ in range(3)])
        assert warnings.filters == filters
        assert warnings.showwarning is show


def test_warnings_of_other_modules_pass():
    with quiet_libraries():
        warnings.warn_explicit('quiet', AstropyUserWarning, 'x.py', 1, module='photutils.x')
        with pytest.warns(UserWarning, match='told'):
            warnings.warn('told', stacklevel=1)
    with pytest.warns(AstropyUserWarning, match='loud'):
        warnings.warn_explicit('loud', AstropyUserWarning, 'x.py', 1, module='photutils.x')


def test_files_are_read_while_others_are_measured(galaxies, tmp_path):
    """A truncated file is found, whatever is done with warnings beside it."""
    good, short = tmp_path / 'good.fits', tmp_path / 'short.fits'
    hdus = [fits.PrimaryHDU(), *(fits.ImageHDU(np.ones((64, 64), 'f4')) for _ in range(2))]
    fits.HDUList(hdus).writeto(good)
    short.write_bytes(good.read_bytes()[:-8000])
    shared = KronFluxEstimator()

    def is_read(path):
        shared.predict(galaxies[0])
        try:
            return read_cutout(path).shape == (64, 64)
        except CutoutReadError:
            return False

    with ThreadPoolExecutor(N_THREADS) as pool:
        assert list(pool.map(is_read, [good, short] * 40)) == [True, False] * 40


# -- processes ---------------------------------------------------------------------------------


@pytest.mark.parametrize('name', ESTIMATORS)
def test_pickled_small(name, galaxies):
    """Weights go by their name, also when they have been used."""
    estimator = make(name)
    fluxes(estimator, galaxies[:1])
    content = pickle.dumps(estimator)
    assert len(content) < 1000
    again = pickle.loads(content)
    assert type(again) is type(estimator)
    assert again.get_params() == estimator.get_params()


def answer_of_fork(function, *arguments):
    """What a forked process sends; an error if that takes more than a minute."""
    context = multiprocessing.get_context('fork')
    here, there = context.Pipe()
    process = context.Process(target=function, args=(there, *arguments))
    with warnings.catch_warnings():
        # from Python 3.12 on: that there are threads
        warnings.filterwarnings('ignore', message='.*fork', category=DeprecationWarning)
        process.start()
    try:
        assert here.poll(60), 'the forked process hangs'
        return here.recv()
    finally:
        process.kill()
        process.join()


@pytest.fixture
def two_threads():
    """Torch computes with two threads, and has."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    torch.rand(1000, 1000) @ torch.rand(1000, 1000)
    yield
    torch.set_num_threads(before)


def tell_fluxes(connection, estimators, cutouts):
    connection.send({name: fluxes(one, cutouts) for name, one in estimators.items()})


@needs_fork
def test_forked_after_measuring(two_threads, galaxies):
    estimators = {name: make(name) for name in ESTIMATORS}
    # the more galaxies, the more is done by several threads
    for names, cutouts in (
        (['cnn', 'linear', 'study'], galaxies * 20),
        (estimators.keys() - {'cnn', 'linear', 'study'}, galaxies),
    ):
        chosen = {name: estimators[name] for name in names}
        wanted = {name: fluxes(one, cutouts) for name, one in chosen.items()}
        found = answer_of_fork(tell_fluxes, chosen, cutouts)
        for name in names:
            np.testing.assert_allclose(found[name], wanted[name], rtol=1e-6, err_msg=name)


def tell_threads(connection):
    import torch

    connection.send((torch.get_num_threads(), float((torch.ones(1000, 1000) ** 2).sum())))


@needs_fork
def test_forked_before_measuring(two_threads):
    """Torch was used by the parent, not by this package."""
    assert answer_of_fork(tell_threads) == (1, 1e6)


def tell_whether_free(connection, lock):
    with lock:
        connection.send('free')


@needs_fork
def test_forked_while_a_thread_holds_a_lock():
    lock, held, over = ForkLock(), threading.Event(), threading.Event()

    def hold():
        with lock:
            held.set()
            over.wait(60)

    with ThreadPoolExecutor(1) as pool:
        pool.submit(hold)
        held.wait(60)
        try:
            assert answer_of_fork(tell_whether_free, lock) == 'free'
        finally:
            over.set()


def test_spawned(galaxies):
    """A process that shares nothing gives the same."""
    estimators = {name: make(name) for name in ('cnn', 'study', 'kron', 'aperture')}
    wanted = {name: measure(one, galaxies) for name, one in estimators.items()}
    with ProcessPoolExecutor(1, multiprocessing.get_context('spawn')) as pool:
        # what it is to do must be there to be imported: nothing of this module is
        calls = {name: pool.submit(one.measure, galaxies) for name, one in estimators.items()}
        found = {name: numbers_of(call.result(timeout=60)) for name, call in calls.items()}
    # sums of photutils depend in the last bit on where arrays lie in memory
    kron, wanted_kron = found.pop('kron'), wanted.pop('kron')
    assert found == wanted
    for name, numbers in kron.items():
        if len(numbers) % 8:
            assert numbers == wanted_kron[name]
        else:
            mine, other = (np.frombuffer(each) for each in (numbers, wanted_kron[name]))
            np.testing.assert_allclose(mine, other, rtol=1e-13)


@pytest.mark.parametrize('backend', ['threading', 'loky'])
def test_joblib(backend, galaxies):
    joblib = pytest.importorskip('joblib')
    estimator = CNNFluxEstimator()
    wanted = [measure(estimator, [galaxy]) for galaxy in galaxies]
    with joblib.parallel_config(backend, n_jobs=2):
        found = joblib.Parallel()(joblib.delayed(estimator.measure)([one]) for one in galaxies)
    assert [numbers_of(table) for table in found] == wanted


@pytest.mark.parametrize(
    ('scheduler', 'options'), [('threads', {'num_workers': 4}), ('processes', {'num_workers': 1})]
)
def test_dask(scheduler, options, galaxies):
    dask = pytest.importorskip('dask')
    bag = pytest.importorskip('dask.bag')
    estimator = CNNFluxEstimator()
    wanted = [measure(estimator, [galaxy]) for galaxy in galaxies]
    each = bag.from_sequence(galaxies, npartitions=3).map(estimator.measure)
    delayed = dask.delayed(estimator.measure)(galaxies[:1])
    first, found = dask.compute(delayed, each, scheduler=scheduler, **options)
    assert [numbers_of(table) for table in found] == wanted
    assert numbers_of(first) == wanted[0]
