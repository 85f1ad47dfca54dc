# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""A survey on a cluster: the same numbers anywhere, and no source lost, whatever goes wrong."""

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import numpy as np
import pandas as pd
import pyarrow.dataset
import pyarrow.parquet
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import QTable, vstack
from astropy.wcs import WCS
from click.testing import CliRunner
from numpy.testing import assert_allclose, assert_array_equal

from astroflux import ApertureFluxEstimator, CNNFluxEstimator, read_cutout
from astroflux._locks import lock_folder
from astroflux.cli import main
from astroflux.estimators import Recalibration
from astroflux.survey import SurveyImage, measure_survey
from astroflux.survey._cluster import connected

distributed = pytest.importorskip('distributed')

SIZE, PER_TILE = 200, 8
PSF_FWHM = 7.0
NAMES = ['tile-0', 'tile-1', 'tile-2']
# The options of most runs here, which take no time.
CHEAP = {
    'estimator': ApertureFluxEstimator(),
    'neighbors': 'none',
    'psf_fwhm': PSF_FWHM,
    'progress': False,
}
CHEAP_ARGUMENTS = (
    *('--method', 'aperture', '--neighbors', 'none'),
    *('--psf-fwhm', f'{PSF_FWHM}pix', '--quiet'),
)


def tile_wcs(number):
    """Tiles side by side, each with 20 pixels in common with the next."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = 'RA---TAN', 'DEC--TAN'
    wcs.wcs.crval = 150, 2
    wcs.wcs.crpix = SIZE / 2 + number * (SIZE - 20), SIZE / 2
    wcs.wcs.cdelt = -0.168 / 3600, 0.168 / 3600
    return wcs


def gaussian(x, y, flux, sigma=3.0):
    rows, columns = np.mgrid[:SIZE, :SIZE]
    r2 = (columns - x) ** 2 + (rows - y) ** 2
    return flux * np.exp(-0.5 * r2 / sigma**2) / (2 * np.pi * sigma**2)


def write_tiles(folder):
    """Write three tiles, with the catalogue of their galaxies and of two that are on none."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    sources = []
    for number, name in enumerate(NAMES):
        wcs, flux = tile_wcs(number), rng.uniform(500, 2000, PER_TILE)
        xy = rng.uniform(22, SIZE - 22, (PER_TILE, 2))
        data = rng.normal(scale=0.5, size=(SIZE, SIZE))
        for (x, y), each in zip(xy, flux, strict=True):
            data += gaussian(x, y, each)
        header = wcs.to_header()
        header['BUNIT'] = 'nJy'
        image = fits.ImageHDU(data.astype('f4'), header, name='IMAGE')
        variance = fits.ImageHDU(np.full(data.shape, 0.25, 'f4'), name='VARIANCE')
        fits.HDUList([fits.PrimaryHDU(), image, variance]).writeto(folder / f'{name}.fits')
        sky = wcs.pixel_to_world(*xy.T)
        sources.append(
            QTable({'ra': sky.ra.deg * u.deg, 'dec': sky.dec.deg * u.deg, 'truth': flux * u.nJy})
        )
    lost = QTable({'ra': [np.nan, 90] * u.deg, 'dec': [2, 2] * u.deg, 'truth': [1, 1] * u.nJy})
    # not in the order of the tiles
    catalogue = vstack([*sources, lost])[rng.permutation(3 * PER_TILE + 2)]
    catalogue.add_column([f'g{i:02}' for i in range(len(catalogue))], 0, 'source_id')
    catalogue.write(folder / 'catalogue.ecsv')
    return folder


@pytest.fixture(scope='module')
def tiles(tmp_path_factory):
    return write_tiles(tmp_path_factory.mktemp('survey') / 'tiles')


@pytest.fixture
def own_tiles(tiles, tmp_path):
    """Tiles that a test may damage."""
    return shutil.copytree(tiles, tmp_path / 'tiles')


@pytest.fixture(scope='module')
def catalogue(tiles):
    return QTable.read(tiles / 'catalogue.ecsv')


@pytest.fixture(scope='module')
def client():
    """The cluster that a survey starts by default."""
    with connected(workers=2) as client:
        yield client


@pytest.fixture(scope='module')
def cluster(client):
    return client.cluster


def run(tiles, output, client, **options):
    return measure_survey(
        tiles, tiles / 'catalogue.ecsv', output, client=client, **{**CHEAP, **options}
    )


@pytest.fixture(scope='module')
def whole(tiles, client, tmp_path_factory):
    """A run that nothing has disturbed."""
    folder = tmp_path_factory.mktemp('whole') / 'out'
    run(tiles, folder, client)
    return folder


def rows_of(folder, names=NAMES):
    return [QTable.read(folder / 'data' / f'{name}.parquet') for name in names]


def assert_same(folder, other, names=NAMES):
    """Two surveys have the same rows, to the last bit."""
    assert sorted(path.name for path in (folder / 'data').iterdir()) == [
        f'{name}.parquet' for name in names
    ]
    for one, two in zip(rows_of(folder, names), rows_of(other, names), strict=True):
        assert one.colnames == two.colnames
        for name in one.colnames:
            assert_array_equal(one[name], two[name])


def failures(folder):
    with (folder / 'failures.csv').open(newline='') as file:
        return {row['image']: row for row in csv.DictReader(file)}


def status(folder):
    return json.loads((folder / 'status.json').read_text())


def test_rows_are_those_of_each_image(tiles, catalogue, client, whole):
    result = run(tiles, whole, client, resume=True)
    assert str(result) == '26 sources: 24 measured, 0 without a flux, 2 on no image'
    assert status(whole)['is_complete']
    tables = rows_of(whole)
    together = vstack(tables, metadata_conflicts='silent')
    off = QTable.read(whole / 'off.parquet')
    assert off['reason'].tolist() == [
        'off every image' if np.isfinite(ra) else 'position is not finite' for ra in off['ra']
    ]
    assert_array_equal(np.sort([*together['row'], *off['row']]), np.arange(len(catalogue)))
    for table in (together, off):
        assert_array_equal(catalogue['source_id'][table['row']], table['source_id'])
        assert_array_equal(catalogue['truth'][table['row']], table['truth'])
    assert_array_equal(together['id'], together['source_id'])
    for name, table in zip(NAMES, tables, strict=True):
        assert set(table['image']) == {name}
        assert np.all(np.diff(table['row']) > 0)
        estimator = CHEAP['estimator']
        image = read_cutout(tiles / f'{name}.fits')
        alone = estimator.measure_field(
            image, catalogue[table['row']], neighbors='none', psf_fwhm=PSF_FWHM, progress=False
        )
        for column in ('flux', 'flux_err', 'flags', 'mag'):
            assert_array_equal(table[column], alone[column])
        assert_allclose(table['x'].value, alone['x'].value, atol=1e-7)
        assert_allclose(table['ra'].value, alone['ra'].value, atol=1e-10)
        assert table.meta['method'] == 'ApertureFluxEstimator'
        assert table.meta['survey'] == {'image': name, 'path': str(tiles / f'{name}.fits')}


@contextmanager
def external():
    """A scheduler and a worker that know nothing of this process."""
    ends = []
    environment = {name: text for name, text in os.environ.items() if name != 'OMP_NUM_THREADS'}
    try:
        port = 18700 + os.getpid() % 1000
        address = f'tcp://127.0.0.1:{port}'
        no_pages = ('--no-dashboard',)
        for command in (
            ('scheduler', '--host', '127.0.0.1', '--port', str(port), *no_pages),
            ('worker', address, '--nthreads', '1', '--no-nanny', *no_pages),
        ):
            ends.append(
                subprocess.Popen(
                    [sys.executable, '-m', 'dask', *command],
                    env=environment,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
            )
        yield address
    finally:
        for process in ends:
            process.kill()
            process.wait()


def test_same_bits_on_any_cluster(tiles, client, tmp_path):
    options = {'estimator': CNNFluxEstimator(), 'neighbors': 'model', 'passes': 2}
    run(tiles, tmp_path / 'two', client, **options)
    with external() as address:
        run(tiles, tmp_path / 'one', address, **options)
    run(tiles, tmp_path / 'alone', None, workers=1, **options)
    for name, n_workers in (('two', 2), ('one', 1), ('alone', 1)):
        assert status(tmp_path / name)['runs'][0]['workers'] == n_workers
        assert_same(tmp_path / name, tmp_path / 'two')
    table = rows_of(tmp_path / 'two')[0]
    assert np.median(np.abs(table['flux'] / table['truth'] - 1)) < 0.05
    assert table.meta['weights_sha256']
    assert table['half_light_radius'].unit == u.arcsec


# Dask with the newest pandas
@pytest.mark.filterwarnings('ignore:The inplace keyword')
def test_all_read_the_tables(tiles, client, tmp_path):
    # an image without a source, and one in another unit
    data = fits.getdata(tiles / 'tile-0.fits', 1)
    header = fits.getheader(tiles / 'tile-0.fits', 1)
    header['CRVAL1'] = 10
    fits.PrimaryHDU(data, header).writeto(tmp_path / 'empty.fits')
    with fits.open(tiles / 'tile-1.fits') as hdus:
        for hdu, factor in zip(hdus[1:], (1e-3, 1e-6), strict=True):
            hdu.data *= np.float32(factor)
        hdus[1].header['BUNIT'] = 'uJy'
        hdus.writeto(tmp_path / 'tile-1.fits')
    paths = [tiles / 'tile-0.fits', tmp_path / 'tile-1.fits', tmp_path / 'empty.fits']
    folder = tmp_path / 'out'
    measure_survey(paths, tiles / 'catalogue.ecsv', folder, client=client, **CHEAP)

    empty, *tables = rows_of(folder, ['empty', 'tile-0', 'tile-1'])
    assert len(empty) == 0
    for table in (empty, *tables):
        assert table['flux'].unit == u.nJy
        assert table['flux'].info.description == 'total flux'
        assert table['ra_catalogue'].unit == u.deg
    assert 0.5 < np.median(tables[1]['flux'] / tables[1]['truth']) < 1.5
    files = sorted((folder / 'data').iterdir())
    schemas = [pyarrow.parquet.read_schema(path) for path in files]
    assert all(schema.equals(schemas[0]) for schema in schemas)
    assert b'table_meta_yaml' in schemas[0].metadata
    together = np.concatenate([table['flux'].value for table in tables])
    import dask.dataframe

    for frame in (
        pd.read_parquet(folder / 'data'),
        pyarrow.dataset.dataset(folder / 'data').to_table().to_pandas(),
        dask.dataframe.read_parquet(folder / 'data').compute(scheduler='synchronous'),
    ):
        assert_array_equal(frame['flux'], together)
        assert frame['flags'].dtype == np.int32
        assert list(frame.columns) == tables[0].colnames


def test_blocks_are_as_the_whole(tiles, whole, client, tmp_path, monkeypatch):
    monkeypatch.setattr('astroflux.survey.plan.MARGIN', 40)
    run(tiles, tmp_path, client, block_size=70)
    for one, two in zip(rows_of(tmp_path), rows_of(whole), strict=True):
        assert_array_equal(one['row'], two['row'])
        assert_array_equal(one['flux'], two['flux'])
        assert_allclose(one['x'].value, two['x'].value, atol=1e-9)


# -- interrupted and killed -----------------------------------------------------------------------

# The process of a survey, which kills itself when it calls a function again.
KILLED = """
import os, signal, sys
from pathlib import Path
from astroflux import ApertureFluxEstimator
from astroflux.survey import SurveyImage, measure_survey
from astroflux.survey._cluster import connected
from astroflux.survey.run import _Run

tiles, output, address, name, n_calls = sys.argv[1:]
where = {'replace': os, '_take': _Run}[name]
function, calls = getattr(where, name), []

def call_or_die(*arguments):
    calls.append(arguments)
    if len(calls) == int(n_calls):
        os.kill(os.getpid(), signal.SIGKILL)
    return function(*arguments)

setattr(where, name, call_or_die)
measure_survey(
    tiles, Path(tiles) / 'catalogue.ecsv', output, client=address, progress=False,
    estimator=ApertureFluxEstimator(), neighbors='none', psf_fwhm=7.0,
)
"""


# before the second of its files is there, and when two images are
@pytest.mark.parametrize(('name', 'n_calls'), [('replace', 2), ('_take', 2)])
def test_killed_and_resumed(tiles, whole, cluster, client, tmp_path, name, n_calls):
    folder = tmp_path / 'out'
    arguments = map(str, (tiles, folder, cluster.scheduler_address, name, n_calls))
    done = subprocess.run([sys.executable, '-c', KILLED, *arguments], stderr=subprocess.PIPE)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    n_there = len(list(folder.glob('data/*.parquet')))
    assert n_there == 0 if name == 'replace' else n_there >= 2
    with pytest.raises(FileExistsError, match='holds a survey'):
        run(tiles, folder, client)
    result = run(tiles, folder, client, resume=True)
    assert result.n_rows == 3 * PER_TILE
    assert_same(folder, whole)
    assert not list(folder.rglob('*.part'))
    assert status(folder)['runs'][-1]['n_images'] == len(NAMES) - n_there


@pytest.mark.slow
def test_killed_at_any_moment(tiles, whole, tmp_path):
    rng = random.Random(0)
    command = [sys.executable, '-m', 'astroflux', 'survey', tiles, *CHEAP_ARGUMENTS]
    command += ['--catalogue', tiles / 'catalogue.ecsv', '-o', tmp_path / 'out', '--workers', '2']
    began = time.monotonic()
    subprocess.run([*command[:-4], '-o', tmp_path / 'other'], check=True)
    seconds = time.monotonic() - began
    for _ in range(10):
        process = subprocess.Popen([*command, '--resume'], start_new_session=True)
        time.sleep(rng.uniform(0, seconds))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    subprocess.run([*command, '--resume'], check=True)
    for folder in ('out', 'other'):
        assert_same(tmp_path / folder, whole)


def test_interrupted(tiles, whole, cluster, tmp_path, monkeypatch):
    from astroflux.survey.run import _Run

    take = _Run._take

    def take_or_stop(self, *result):
        take(self, *result)
        raise KeyboardInterrupt

    arguments = ['survey', tiles, '--catalogue', tiles / 'catalogue.ecsv', '-o', tmp_path / 'out']
    arguments += [*CHEAP_ARGUMENTS, '--scheduler', cluster.scheduler_address]
    arguments = list(map(str, arguments))
    monkeypatch.setattr(_Run, '_take', take_or_stop)
    stopped = CliRunner().invoke(main, arguments)
    assert stopped.exit_code == 130, stopped.output
    assert 'interrupted: 1 of 3 images are in' in stopped.stderr
    assert '--resume goes on with them' in stopped.stderr
    monkeypatch.undo()
    refused = CliRunner().invoke(main, arguments)
    assert refused.exit_code == 1
    assert '--overwrite, or go on with --resume' in refused.stderr
    assert CliRunner().invoke(main, [*arguments, '--resume']).exit_code == 0
    assert_same(tmp_path / 'out', whole)


def die_in(client, name, *, once=None):
    """Let the worker die that measures an image; once, if there is a file to remember that."""

    class Deadly(distributed.WorkerPlugin):
        name = 'deadly'

        def setup(self, worker):
            from astroflux.survey import SurveyImage

            read = self.read = SurveyImage.read

            def read_or_die(image, section=None):
                if image.name == name and section is None and not (once and once.exists()):
                    if once:
                        once.touch()
                    os.kill(os.getpid(), signal.SIGKILL)
                return read(image, section)

            SurveyImage.read = read_or_die

        def teardown(self, worker):
            from astroflux.survey import SurveyImage

            SurveyImage.read = self.read

    client.register_plugin(Deadly())


def test_worker_is_killed(tiles, whole, cluster, client, tmp_path):
    die_in(client, 'tile-1', once=tmp_path / 'dead')
    try:
        # another one takes over
        run(tiles, tmp_path / 'once', client)
        assert (tmp_path / 'dead').exists()
        assert_same(tmp_path / 'once', whole)
        # all that try the image die of it
        (tmp_path / 'dead').unlink()
        cluster.scheduler.allowed_failures = 0
        result = run(tiles, tmp_path / 'ever', client)
    finally:
        cluster.scheduler.allowed_failures = 3
        client.unregister_worker_plugin('deadly')
    assert set(result.failures) >= {'tile-1'}
    assert 'came to an end by themselves' in failures(tmp_path / 'ever')['tile-1']['reason']
    assert result.n_rows + result.n_of_failed_images + result.n_off == result.n_sources
    client.wait_for_workers(2, timeout=60)
    run(tiles, tmp_path / 'ever', client, resume=True)
    assert_same(tmp_path / 'ever', whole)
    assert not failures(tmp_path / 'ever')


def test_full_disk(tiles, whole, client, tmp_path):
    disk = tmp_path / 'disk'
    disk.mkdir()
    # room for what the survey writes of itself, and the table of one image
    small = ['mount', '-t', 'tmpfs', '-o', 'size=60k', 'tmpfs', disk]
    if shutil.which('mount') is None or subprocess.run(small, capture_output=True).returncode:
        pytest.skip('no file system can be mounted')
    try:
        with pytest.raises(OSError, match='No space left'):
            run(tiles, disk / 'out', client)
        assert not list(disk.rglob('data/*.part'))
        n_there = len(list(disk.glob('out/data/*.parquet')))
        assert n_there < len(NAMES)
        subprocess.run(['mount', '-o', 'remount,size=10m', disk], check=True)
        result = run(tiles, disk / 'out', client, resume=True)
        assert result.n_rows == 3 * PER_TILE
        assert_same(disk / 'out', whole)
    finally:
        subprocess.run(['umount', '--lazy', disk], check=True)


# -- damaged input --------------------------------------------------------------------------------


def test_damaged_tiles(tiles, own_tiles, whole, client, tmp_path):
    content = (own_tiles / 'tile-0.fits').read_bytes()
    (own_tiles / 'tile-0.fits').write_bytes(content[: len(content) // 3])
    (own_tiles / 'tile-1.fits').unlink()
    paths = [own_tiles / f'{name}.fits' for name in NAMES]
    options = {**CHEAP, 'client': client}
    result = measure_survey(paths, own_tiles / 'catalogue.ecsv', tmp_path / 'out', **options)
    told = failures(tmp_path / 'out')
    assert 'truncated' in told['tile-0']['reason']
    assert 'there is no such file' in told['tile-1']['reason']
    assert result.n_rows + result.n_of_failed_images + result.n_off == 3 * PER_TILE + 2
    assert result.n_measured >= PER_TILE - 1
    assert_same(tmp_path / 'out', whole, ['tile-2'])

    # mended, they are measured
    for name in ('tile-0', 'tile-1'):
        shutil.copy2(tiles / f'{name}.fits', own_tiles)
    options['resume'] = True
    result = measure_survey(paths, own_tiles / 'catalogue.ecsv', tmp_path / 'out', **options)
    assert not result.failures
    assert not failures(tmp_path / 'out')
    assert_same(tmp_path / 'out', whole)
    # a newer image is measured again, and what cannot be read any more is not forgotten
    os.utime(own_tiles / 'tile-2.fits')
    measure_survey(paths, own_tiles / 'catalogue.ecsv', tmp_path / 'out', **options)
    assert status(tmp_path / 'out')['runs'][-1]['n_images'] == 1
    # so is one that is read in another way
    paths[2] = SurveyImage(paths[2], unit='uJy')
    measure_survey(paths, own_tiles / 'catalogue.ecsv', tmp_path / 'out', **options)
    assert status(tmp_path / 'out')['runs'][-1]['n_images'] == 1
    table = rows_of(tmp_path / 'out')[2]
    assert_allclose(table['flux'].value, 1e3 * rows_of(whole)[2]['flux'].value)
    paths[2] = paths[2].path
    measure_survey(paths, own_tiles / 'catalogue.ecsv', tmp_path / 'out', **options)
    (own_tiles / 'tile-2.fits').unlink()
    with pytest.raises(OSError, match='measured before, cannot be read now'):
        measure_survey(paths, own_tiles / 'catalogue.ecsv', tmp_path / 'out', **options)
    assert_same(tmp_path / 'out', whole)


def test_wrong_calls_write_nothing(tiles, catalogue, client, tmp_path):
    twice = vstack([catalogue, catalogue[:1]])
    for error, sources, options, match in (
        (ValueError, twice, {}, "identifier 'g00' in the column 'source_id' is on 2 rows"),
        (ValueError, catalogue, {'neighbors': 'all'}, "must be one of .* got 'all'"),
        (ValueError, catalogue, {'passes': 0}, 'passes must be 1 or more'),
        (TypeError, catalogue, {'sigma': 1}, "unexpected keyword argument 'sigma'"),
        (FileNotFoundError, tmp_path / 'none.fits', {}, 'there is no catalogue'),
    ):
        with pytest.raises(error, match=match):
            measure_survey(tiles, sources, tmp_path / 'out', client=client, **{**CHEAP, **options})
    assert not (tmp_path / 'out').exists()


def test_wrong_option_ends_the_run(tiles, client, tmp_path):
    with pytest.raises(TypeError, match='psf_fwhm'):
        run(tiles, tmp_path / 'out', client, psf_fwhm=object())


def test_masked_columns_and_odd_ones(tiles, catalogue, client, tmp_path):
    from astropy.table import MaskedColumn

    some = QTable(catalogue, copy=True)
    mask = np.arange(len(some)) % 2 == 0
    some['visits'] = MaskedColumn(np.arange(len(some)), mask=mask)
    some['note'] = MaskedColumn(['a'] * len(some), mask=mask)
    some['big'] = np.arange(len(some), dtype='>f4')
    measure_survey(tiles, some, tmp_path / 'out', client=client, **CHEAP)
    table = vstack(rows_of(tmp_path / 'out'), metadata_conflicts='silent')
    assert_array_equal(table['visits'], np.where(mask, np.nan, np.arange(len(some)))[table['row']])
    assert_array_equal(table['note'], np.where(mask, '', 'a')[table['row']])
    assert_array_equal(table['big'], table['row'])
    some['any'] = [object()] * len(some)
    with pytest.raises(TypeError, match="column 'any' of the catalogue holds objects"):
        measure_survey(tiles, some, tmp_path / 'other', client=client, **CHEAP)


# -- other folders --------------------------------------------------------------------------------


def test_folder_of_another_run(tiles, whole, client, tmp_path):
    folder = shutil.copytree(whole, tmp_path / 'out')
    with pytest.raises(FileExistsError, match='holds a survey'):
        run(tiles, folder, client)
    with pytest.raises(ValueError, match=r'parameters.radius=15.0, not with parameters.radius=5'):
        run(tiles, folder, client, resume=True, estimator=ApertureFluxEstimator(radius=5))
    with pytest.raises(ValueError, match='has tables of 1 images that are not named'):
        measure_survey(
            [tiles / 'tile-0.fits', tiles / 'tile-1.fits'],
            tiles / 'catalogue.ecsv',
            folder,
            client=client,
            resume=True,
            **CHEAP,
        )
    assert_same(folder, whole)

    (folder / 'notes.txt').write_text('mine')
    foreign = folder / 'data' / 'mine.parquet'
    shutil.copy(folder / 'off.parquet', foreign)
    with pytest.raises(FileExistsError, match='is no table of a survey'):
        run(tiles, folder, client, overwrite=True)
    foreign.unlink()
    run(tiles, folder, client, overwrite=True, estimator=ApertureFluxEstimator(radius=5))
    assert (folder / 'notes.txt').read_text() == 'mine'
    assert rows_of(folder)[0].meta['parameters']['radius'] == 5

    other = tmp_path / 'other'
    other.mkdir()
    (other / 'settings.json').write_text('{"preset": "smoke"}')
    for options in ({}, {'resume': True}, {'overwrite': True}):
        with pytest.raises(FileExistsError, match=r'holds settings\.json, and no survey'):
            run(tiles, other, client, **options)


def test_second_run_is_refused(tiles, client, tmp_path):
    ready, done = threading.Event(), threading.Event()

    def hold():
        with lock_folder(tmp_path / 'out'):
            ready.set()
            done.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    ready.wait(60)
    try:
        with pytest.raises(BlockingIOError, match='is being written by another process'):
            run(tiles, tmp_path / 'out', client)
    finally:
        done.set()
        thread.join()


# -- without a catalogue --------------------------------------------------------------------------


def test_detected_sources_are_counted_once(tiles, catalogue, whole, client, tmp_path):
    # a tile, and again 60 pixels to the right: each source is in that which holds it better
    data, header = fits.getdata(tiles / 'tile-1.fits', 1, header=True)
    noise = np.random.default_rng(1).normal(scale=0.5, size=(2, *data.shape)).astype('f4')
    data = np.concatenate([(data + noise[0])[:, 60:], noise[1][:, :60]], axis=1)
    header['CRPIX1'] -= 60
    variance = fits.ImageHDU(np.full(data.shape, 0.5, 'f4'), name='VARIANCE')
    again = fits.ImageHDU(data, header, name='IMAGE')
    fits.HDUList([fits.PrimaryHDU(), again, variance]).writeto(tmp_path / 'again.fits')
    paths, folder = [tiles / 'tile-1.fits', tmp_path / 'again.fits'], tmp_path / 'out'
    result = measure_survey(paths, None, folder, client=client, **CHEAP)
    tables = rows_of(folder, ['again', 'tile-1'])
    found = vstack(tables, metadata_conflicts='silent')
    assert result.n_rows == len(found) == status(folder)['n_sources']
    truth = catalogue[rows_of(whole, ['tile-1'])[0]['row']]
    sky, true_sky = (SkyCoord(table['ra'], table['dec']) for table in (found, truth))
    nearest, apart, _ = true_sky.match_to_catalog_sky(sky)
    isolated = true_sky.match_to_catalog_sky(true_sky, 2)[1].arcsec > 3
    assert np.all(apart[isolated].arcsec < 0.5)
    # no other detection of any of them, in either image
    near = sky[:, None].separation(true_sky[isolated]).arcsec < 1
    assert_array_equal(near.sum(axis=0), 1)
    assert {*found['image'][nearest]} == {'again', 'tile-1'}
    for table in tables:
        assert table['segment_flux'].unit == u.nJy
        assert len({*table['id']}) == len(table)
    measure_survey(paths, None, folder, client=client, resume=True, **CHEAP)
    assert status(folder)['runs'][-1]['n_images'] == 0


# -- the PSF --------------------------------------------------------------------------------------


def test_psf_of_a_part_of_an_image(tiles, tmp_path):
    GriddedPSF = pytest.importorskip('astroflux.cutouts.psf_field').GriddedPSF
    from astroflux.survey._psf import psf_of_part

    images = [gaussian(SIZE / 2, SIZE / 2, 1, sigma)[80:121, 80:121] for sigma in (2, 3, 2, 3)]
    psf = GriddedPSF(images, [(0, 0), (1000, 0), (0, 1000), (1000, 1000)])
    assert psf_of_part(psf, (0, 0), []) is psf
    part = psf_of_part(psf, (700, 100), [])
    assert_array_equal(part._psf_at(50, 3)[0], psf._psf_at(750, 103)[0])
    assert part.description == psf.description
    # names that are no files, and an image of one
    assert psf_of_part('stars', (700, 100), []) == 'stars'
    assert psf_of_part('fwhm', (700, 100), ['fwhm']) == 'fwhm'
    fits.writeto(tmp_path / 'psf.fits', images[0])
    assert_array_equal(psf_of_part(tmp_path / 'psf.fits', (0, 0), ['fwhm']), images[0])


# -- the command ----------------------------------------------------------------------------------


def test_command(tiles, whole, cluster, tmp_path):
    arguments = ['survey', tiles / 'tile-*.fits', tmp_path / 'none.fits', *CHEAP_ARGUMENTS]
    arguments += ['--catalogue', tiles / 'catalogue.ecsv', '-o', tmp_path / 'out']
    arguments = [text for text in map(str, arguments) if text != '--quiet']
    told = CliRunner().invoke(main, [*arguments, '--dry-run', '--workers', '4'])
    assert told.exit_code == 0, told.output
    *_, counts, rate = told.output.splitlines()
    assert counts == '3 images can be read, 1 cannot; 24 of 26 sources on them, 2 on none'
    assert rate.startswith('about 0:00:0')
    assert 'ms per source' in rate
    assert not (tmp_path / 'out').exists()

    done = CliRunner().invoke(main, [*arguments, '--scheduler', cluster.scheduler_address])
    assert done.exit_code == 0, done.output
    assert "none.fits': there is no such file" in done.stderr
    assert '24 measured' in done.stderr
    assert_same(tmp_path / 'out', whole)

    for options, match in (
        (['--detect'], 'want either --catalogue TABLE or --detect'),
        (['--scheduler', 'tcp://127.0.0.1:1', '--workers', '2'], 'exclude each other'),
        (['--resume', '--overwrite'], 'exclude each other'),
        (['--method', 'kron', '--device', 'cpu'], 'is for --method cnn only'),
    ):
        refused = CliRunner().invoke(main, [*arguments, *options])
        assert refused.exit_code == 2
        assert match in refused.stderr


def test_workers_keep_free_memory(client):
    """Dask would have them give it back all the time."""
    assert int(client.submit(os.environ.get, 'MALLOC_TRIM_THRESHOLD_').result()) >= 2**26


def test_recalibrated(tiles, client, whole, tmp_path):
    """By a file, which is told in every table, and which a run goes on with only as it was."""
    points = {'snr': (5.0, 100.0), 'bias': (0.1, 0.1), 'factor_68': (1.5, 1.5)}
    recalibration = Recalibration(
        **points, factor_95=(1.2, 1.2), n=100, method='ApertureFluxEstimator', neighbors='none'
    )
    path, folder = tmp_path / 'recalibration.json', tmp_path / 'out'
    recalibration.write(path)
    run(tiles, folder, client, recalibrate=path)
    for mine, plain in zip(rows_of(folder), rows_of(whole), strict=True):
        assert_allclose(mine['flux'], plain['flux'] * np.exp(-0.1), rtol=1e-6)
        assert_allclose(mine['recal_68'], 1.5)
        assert mine.meta['recalibrated']['n'] == 100
        assert_allclose(recalibration.undo(mine)['flux'], plain['flux'], rtol=1e-6)
    with pytest.raises(ValueError, match='was begun with recalibrated'):
        run(tiles, folder, client, resume=True)
