# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What is left when a process is killed, a disk is full, or two write to the same place."""

import os
import resource
import signal
import tempfile
import threading
import warnings
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import CCDData
from astropy.table import QTable
from click.testing import CliRunner
from numpy.testing import assert_array_equal

from astroflux import ApertureFluxEstimator, CNNFluxEstimator
from astroflux._dataset_files import files_of_dataset
from astroflux._locks import lock_file, lock_folder
from astroflux._table_files import read_table, write_table
from astroflux._work import write_whole
from astroflux.cli import main
from astroflux.cutouts import read_cutout, write_cutout
from astroflux.estimators import RegressionFluxEstimator
from astroflux.evaluation import ListSource, compare_methods, read_comparison
from astroflux.evaluation.report import write_report
from astroflux.simulation import CutoutSimulation, write_dataset
from astroflux.training.run import train

pytestmark = pytest.mark.skipif(not hasattr(os, 'fork'), reason='processes are forked and killed')

OLD = b'what was there before'
# Bytes of a file that there is room for, less than any of those that are written here.
ROOM = 400


def gaussians(n):
    """Return ``n`` galaxies of other noise."""
    y, x = np.mgrid[-20:21, -20:21]
    image = 500 * np.exp(-0.5 * (x**2 + y**2) / 4) / (8 * np.pi)
    return image + np.random.default_rng(0).normal(scale=0.1, size=(n, *image.shape))


def a_table():
    return QTable({'name': [f'{i}.fits' for i in range(500)], 'flux': np.arange(500.0) * u.nJy})


def a_cutout():
    return CCDData(gaussians(1)[0], unit='adu')


def save_regression(path):
    flux = 500 * np.linspace(0.5, 2, 40)
    images = gaussians(40) * np.linspace(0.5, 2, 40)[:, None, None]
    estimator = RegressionFluxEstimator(model='linear', training_table=None)
    estimator.fit(list(images), flux, progress=False).save(path, overwrite=True)


WRITERS = {
    'fluxes.ecsv': lambda path: write_table(a_table(), path, overwrite=True),
    'fluxes.csv': lambda path: write_table(a_table(), path, overwrite=True),
    'fluxes.fits': lambda path: write_table(a_table(), path, overwrite=True),
    'fluxes.parquet': lambda path: write_table(a_table(), path, overwrite=True),
    'network.safetensors': lambda path: CNNFluxEstimator().save(path, overwrite=True),
    'regression': save_regression,
    'cutout.fits': lambda path: write_cutout(a_cutout(), path, overwrite=True),
    'cutout.fits.gz': lambda path: write_cutout(a_cutout(), path, overwrite=True),
}


@contextmanager
def little_room(*, kill=False):
    """Let no file grow beyond `ROOM`: it is an error as of a full disk, or kills the process."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_DFL if kill else signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


def status_of(function):
    """Return how a process ended that called a function: minus the number of a signal, or 0."""
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', message='.*fork', category=DeprecationWarning)
        process = os.fork()
    if process == 0:
        # nothing of the test's own end is run here
        status = 1
        try:
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            signal.alarm(60)
            function()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def killed_while_it_writes(function, *args):
    """Return whether the system killed a process in the middle of a file that it wrote."""

    def run():
        with little_room(kill=True):
            function(*args)

    return status_of(run) == -signal.SIGXFSZ


@pytest.mark.parametrize('name', WRITERS)
def test_kill_and_full_disk_leave_the_old_file(tmp_path, name):
    path, write = tmp_path / name, WRITERS[name]
    path.write_bytes(OLD)
    with little_room(), pytest.raises(OSError, match=r'too large|space'):
        write(path)
    assert path.read_bytes() == OLD
    assert os.listdir(tmp_path) == [name]

    assert killed_while_it_writes(write, path)
    assert path.read_bytes() == OLD
    # what is left beside it is no file that anything reads
    left = [other for other in os.listdir(tmp_path) if other != name]
    assert left
    assert all(other.endswith('.part') or other.startswith('.tmp') for other in left)

    write(path)
    assert len(path.read_bytes()) > ROOM


@pytest.fixture(scope='module')
def galaxies(tmp_path_factory):
    folder = tmp_path_factory.mktemp('galaxies')
    for index, image in enumerate(gaussians(4)):
        write_cutout(CCDData(image, unit='adu'), folder / f'{index}.fits')
    return folder


def run(*args, exit_code=0):
    result = CliRunner().invoke(main, list(map(str, args)))
    assert result.exit_code == exit_code, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


@pytest.mark.parametrize('suffix', ['ecsv', 'csv', 'fits', 'parquet'])
def test_measure_on_a_full_disk_and_killed(galaxies, tmp_path, suffix):
    path = tmp_path / f't.{suffix}'
    arguments = ('measure', galaxies, '--method', 'aperture', '-o', path, '--overwrite')
    run(*arguments)
    before = path.read_bytes()
    with little_room():
        result = run(*arguments, exit_code=1)
    assert 'Error: ' in result.stderr
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]

    assert killed_while_it_writes(run, *arguments)
    assert path.read_bytes() == before
    # the lock went with the process
    run(*arguments)
    assert len(read_table(path)) == 4


def test_measure_killed_between_files_keeps_nothing_half(galaxies, tmp_path):
    def run_until_killed():
        ApertureFluxEstimator._measure_batch = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        run('measure', galaxies, '--method', 'aperture', '-o', tmp_path / 't.ecsv')

    assert status_of(run_until_killed) == -signal.SIGKILL
    assert not (tmp_path / 't.ecsv').exists()


@pytest.fixture(scope='module')
def comparison():
    methods = {name: ApertureFluxEstimator(radius=r) for name, r in (('small', 4), ('large', 8))}
    return compare_methods(ListSource(list(gaussians(4))), methods, progress=False)


def test_report_killed(comparison, tmp_path):
    page = write_report(comparison, tmp_path)
    before = page.read_bytes()
    assert killed_while_it_writes(lambda: write_report(comparison, tmp_path, overwrite=True))
    assert page.read_bytes() == before
    assert len(read_comparison(tmp_path).measurements) == 8
    with little_room(), pytest.raises(OSError, match='too large'):
        write_report(comparison, tmp_path, overwrite=True)
    assert page.read_bytes() == before
    write_report(comparison, tmp_path, overwrite=True)
    # no data set is taken for a report
    (page.parent / 'measurements.ecsv').unlink()
    page.rename(tmp_path / 'truth.ecsv')
    with pytest.raises(ValueError, match='holds a data set'):
        write_report(comparison, tmp_path, overwrite=True)


SIMULATION = CutoutSimulation(shape=(48, 48))


def simulate(folder, n, **options):
    return write_dataset(folder, n, SIMULATION, progress=False, **options)


def simulate_until_killed(folder, n_whole, **options):
    """Write some cutouts of a data set, and half of another one."""
    pytest.importorskip('galsim')

    def write_or_die(cutout, path, **keywords):
        if path.name.startswith(f'{n_whole:06d}'):
            with little_room(kill=True):
                write_cutout(cutout, path, **keywords)
        write_cutout(cutout, path, **keywords)

    def work():
        from astroflux.simulation import dataset

        dataset.write_cutout = write_or_die
        simulate(folder, n_whole + 2, **options)

    assert status_of(work) == -signal.SIGXFSZ


def test_dataset_killed_goes_on(tmp_path):
    simulate_until_killed(tmp_path / 'killed', 2)
    assert len(files_of_dataset(tmp_path / 'killed')) == 2
    truth = simulate(tmp_path / 'killed', 4, resume=True)
    whole = simulate(tmp_path / 'whole', 4)
    assert_array_equal(truth['flux'], whole['flux'])
    for name in whole['file_name']:
        images = (read_cutout(tmp_path / which / name).data for which in ('killed', 'whole'))
        assert_array_equal(*images)
    # one that replaces it is killed, too: no galaxy of it has the truth of another
    simulate_until_killed(tmp_path / 'killed', 1, overwrite=True, seed=5)
    assert [path.name for path in files_of_dataset(tmp_path / 'killed')] == ['000000.fits']
    with pytest.raises(ValueError, match='was begun with seed=5'):
        simulate(tmp_path / 'killed', 4, resume=True)


def test_dataset_has_no_file_of_an_older_one(tmp_path):
    pytest.importorskip('galsim')
    (tmp_path / '123456.fits').write_bytes(OLD)
    simulate(tmp_path, 4)
    simulate(tmp_path, 2, overwrite=True, seed=1)
    names = ['000000.fits', '000001.fits']
    # nor has it removed what is none of its own
    assert sorted(path.name for path in tmp_path.glob('*.fits')) == [*names, '123456.fits']
    result = run('measure', tmp_path, '--method', 'aperture', '-o', tmp_path / 't.ecsv')
    assert result.stderr == '2 measured, 0 failed\n'
    assert [Path(name).name for name in read_table(tmp_path / 't.ecsv')['name']] == names


def test_dataset_replaces_nothing_unasked(tmp_path):
    pytest.importorskip('galsim')
    (tmp_path / '000001.fits').write_bytes(OLD)
    with pytest.raises(FileExistsError, match=r'000001\.fits exists'):
        simulate(tmp_path, 2)
    assert os.listdir(tmp_path) == ['000001.fits']


@pytest.mark.parametrize('name', ['../secret.fits', '/etc/secret.fits', 'a/../../b.fits'])
def test_dataset_lists_nothing_outside(tmp_path, name):
    truth = QTable({'file_name': [name], 'flux': [1.0] * u.adu})
    truth.write(tmp_path / 'truth.ecsv')
    for command in (('measure',), ('compare', '-o', tmp_path / 'report')):
        result = run(*command, tmp_path, exit_code=1)
        assert f'lists {name!r}, which is no file in the folder' in result.stderr


def test_dataset_whose_table_is_damaged(tmp_path):
    (tmp_path / 'truth.ecsv').write_bytes(b'# %ECSV 1.0\n# ---\n# {\x00')
    result = run('measure', tmp_path, exit_code=1)
    assert 'truth.ecsv is no readable table: ' in result.stderr


@contextmanager
def locked(lock, path):
    """Let another process have a lock; it is killed at the end of the block."""
    ready, told = os.pipe()

    def hold():
        with lock(path):
            os.write(told, b'.')
            signal.pause()

    ends = []
    thread = threading.Thread(target=lambda: ends.append(status_of(hold)))
    thread.start()
    os.read(ready, 1)
    where = path / '.lock' if path.is_dir() else path.with_name(f'.{path.name}.lock')
    process = int(where.read_text())
    try:
        yield process
    finally:
        os.kill(process, signal.SIGKILL)
        thread.join()
        os.close(ready)
        os.close(told)
    assert ends == [-signal.SIGKILL]


def write_study_dataset(folder):
    from astroflux.study.catalogue import StudySettings
    from astroflux.study.dataset import write_study_dataset

    write_study_dataset(folder, StudySettings(n_train=2, n_test=1), workers=1, progress=False)


def run_study(folder):
    from astroflux.study.run import run_study

    run_study(folder, 'smoke', stages={})


def compare(folder):
    methods = {'aperture': ApertureFluxEstimator()}
    compare_methods(list(gaussians(1)), methods, resume=folder, progress=False)


FOLDER_WRITERS = {
    'data set': lambda folder: simulate(folder, 1),
    'comparison': compare,
    'study': run_study,
    'data set of the study': write_study_dataset,
}


@pytest.mark.parametrize('name', FOLDER_WRITERS)
def test_second_writer_is_refused(tmp_path, name):
    write = FOLDER_WRITERS[name]
    with (
        locked(lock_folder, tmp_path) as process,
        pytest.raises(BlockingIOError, match=rf'being written by another process \({process}\)'),
    ):
        write(tmp_path)
    # that process was killed, and so has nothing any more
    write(tmp_path)
    assert not (tmp_path / '.lock').exists()


def test_second_command_is_refused(galaxies, comparison, tmp_path):
    table, report = tmp_path / 't.ecsv', tmp_path / 'report'
    with locked(lock_file, table):
        result = run('measure', galaxies, '--method', 'aperture', '-o', table, exit_code=1)
    assert f'{table} is being written by another process' in result.stderr
    assert not table.exists()
    report.mkdir()
    with locked(lock_folder, report):
        with pytest.raises(BlockingIOError):
            train('profile-5', report)
        with pytest.raises(BlockingIOError):
            write_report(comparison, report)
        result = run('compare', galaxies, '--methods', 'aperture', '-o', report, exit_code=1)
    assert f'{report} is being written by another process' in result.stderr
    assert os.listdir(report) == ['.lock']


def test_lock_is_of_one_thread_and_can_be_nested(tmp_path):
    refused = []

    def other():
        try:
            with lock_folder(tmp_path):
                refused.append(False)
        except BlockingIOError:
            refused.append(True)

    with lock_folder(tmp_path), lock_folder(tmp_path):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    other()
    assert refused == [True, False]
    assert os.listdir(tmp_path) == []


def test_folder_that_stays_empty_is_not_left(tmp_path):
    def fail(folder):
        with lock_folder(folder):
            msg = 'no data'
            raise ValueError(msg)

    for name in ('new', 'old'):
        (tmp_path / 'old').mkdir(exist_ok=True)
        with pytest.raises(ValueError, match='no data'):
            fail(tmp_path / name)
    assert os.listdir(tmp_path) == ['old']


def test_two_writers_leave_the_file_of_one(tmp_path):
    path = tmp_path / 'file'
    with write_whole(path) as one:
        one.write_text('one')
        with write_whole(path) as other:
            other.write_text('other')
    assert path.read_text() == 'one'
    assert os.listdir(tmp_path) == ['file']


@pytest.mark.parametrize('name', WRITERS)
def test_links_are_refused(tmp_path, name):
    target, link = tmp_path / 'target', tmp_path / name
    target.write_bytes(OLD)
    link.symlink_to(target)
    with pytest.raises(OSError, match='is a symbolic link: name the file that it points to'):
        WRITERS[name](link)
    assert target.read_bytes() == OLD
    assert link.is_symlink()


@contextmanager
def another_user():
    """Be a user whom file permissions hold for."""
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)


def test_read_only_targets(monkeypatch):
    with another_user(), tempfile.TemporaryDirectory(dir='/tmp') as folder:
        path = Path(folder) / 't.ecsv'
        path.write_bytes(OLD)
        path.chmod(0o444)
        monkeypatch.setattr(os, 'access', lambda path, mode: os.stat(path).st_mode & 0o200)
        with pytest.raises(PermissionError, match='is read-only'):
            write_table(a_table(), path, overwrite=True)
        assert path.read_bytes() == OLD
        path.unlink()
        Path(folder).chmod(0o555)
        with pytest.raises(PermissionError, match='no file can be written to the folder'):
            write_table(a_table(), path)
        Path(folder).chmod(0o755)


@pytest.fixture
def interrupt_third(monkeypatch):
    """Let the third batch that is measured bring an interruption from the keyboard."""
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    original, calls = ApertureFluxEstimator._measure_batch, []

    def measure_batch(self, cutouts):
        calls.append(cutouts)
        if len(calls) == 3:
            signal.raise_signal(signal.SIGINT)
        return original(self, cutouts)

    monkeypatch.setattr(ApertureFluxEstimator, '_measure_batch', measure_batch)
    yield calls
    signal.signal(signal.SIGINT, handler)


def test_interrupted_comparison_goes_on(galaxies, tmp_path, monkeypatch, interrupt_third):
    original = compare_methods
    monkeypatch.setattr(
        'astroflux.evaluation.compare_methods',
        lambda *args, **keywords: original(*args, **keywords, chunk_size=1),
    )
    arguments = ['compare', galaxies, '--methods', 'aperture', '-o', tmp_path / 'report']
    parts = tmp_path / 'parts'
    result = run(*arguments, '--resume', parts, exit_code=130)
    assert 'interrupted; the same command goes on with what was measured\n' in result.stderr
    assert not (tmp_path / 'report' / 'report.html').exists()
    n_parts = len(list(parts.glob('part_*.ecsv')))
    assert n_parts == 1
    interrupt_third.clear()
    interrupt_third += [None] * 3
    run(*arguments, '--resume', parts)
    assert len(read_comparison(tmp_path / 'report').measurements) == 4
    # the rest, and one to begin with
    assert len(interrupt_third) == 3 + 3 + 1


def test_interrupted_simulation_goes_on(tmp_path, monkeypatch):
    pytest.importorskip('galsim')
    original = CutoutSimulation.draw

    def draw(self, rng):
        if (tmp_path / '000001.fits').exists():
            raise KeyboardInterrupt
        return original(self, rng)

    arguments = ['simulate', tmp_path, '-n', '3', '--stamp-size', '48']
    monkeypatch.setattr(CutoutSimulation, 'draw', draw)
    result = run(*arguments, exit_code=130)
    assert result.stderr.endswith('interrupted\n')
    monkeypatch.undo()
    run(*arguments, '--resume')
    assert len(QTable.read(tmp_path / 'truth.ecsv')) == 3


def test_interrupted_fit_changes_nothing(monkeypatch):
    images, flux = list(gaussians(4)), np.full(4, 500.0)

    def cutouts():
        yield from images[:2]
        raise KeyboardInterrupt

    for estimator in (CNNFluxEstimator(epochs=1), RegressionFluxEstimator(model='linear')):
        before = estimator.measure(images[0], progress=False)['flux'][0]
        attributes = dict(vars(estimator))
        with pytest.raises(KeyboardInterrupt):
            estimator.fit(cutouts(), flux, progress=False)
        assert vars(estimator) == attributes
        assert estimator.measure(images[0], progress=False)['flux'][0] == before


def test_too_little_memory_makes_smaller_batches(monkeypatch):
    images = list(gaussians(5))
    expected = CNNFluxEstimator().measure(images, progress=False)
    original, sizes = CNNFluxEstimator._measure_batch, []

    def measure_batch(self, cutouts, largest=2):
        sizes.append(len(cutouts))
        if len(cutouts) > largest:
            raise MemoryError
        return original(self, cutouts)

    monkeypatch.setattr(CNNFluxEstimator, '_measure_batch', measure_batch)
    table = CNNFluxEstimator().measure(images, progress=False)
    assert max(sizes) == 5
    np.testing.assert_allclose(table['flux'].value, expected['flux'].value, rtol=1e-5)
    assert list(table['id']) == list(range(5))
    monkeypatch.setattr(
        CNNFluxEstimator, '_measure_batch', lambda self, cutouts: measure_batch(self, cutouts, 0)
    )
    with pytest.raises(MemoryError, match=r'memory to measure a cutout of the shape \(41, 41\)'):
        CNNFluxEstimator().measure(images, progress=False)
