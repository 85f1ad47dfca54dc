# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of the command line, with small files measured in an aperture."""

import json
import sys
from types import ModuleType

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.table import QTable
from click.testing import CliRunner
from numpy.testing import assert_allclose

import astroflux
from astroflux.cli import expand_paths, main
from astroflux.estimators import FluxEstimator
from astroflux.simulation import CutoutSimulation

SHAPE = (41, 41)
FLUX = 500.0


def write_galaxy(path, *, seed=0, unit='adu', flux=FLUX):
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    sigma = 2.0
    model = np.exp(-((x - 20) ** 2 + (y - 20) ** 2) / (2 * sigma**2)) / (2 * np.pi * sigma**2)
    noise = np.random.default_rng(seed).normal(scale=0.1, size=SHAPE)
    header = fits.Header({'BUNIT': unit} if unit else {})
    path.parent.mkdir(exist_ok=True, parents=True)
    fits.writeto(path, flux * model + noise, header)
    return path


@pytest.fixture
def galaxies(tmp_path):
    return [write_galaxy(tmp_path / 'cutouts' / f'g{i}.fits', seed=i) for i in range(3)]


@pytest.fixture
def not_fits(tmp_path):
    path = tmp_path / 'cutouts' / 'g9.fits'
    path.parent.mkdir(exist_ok=True)
    path.write_text('not an image')
    return path


def run(*args, exit_code=0):
    result = CliRunner().invoke(main, [str(arg) for arg in args])
    assert result.exit_code == exit_code, result.output
    # whatever goes wrong is told in words
    assert 'Traceback' not in result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def measure(*args, exit_code=0):
    return run('measure', '--method', 'aperture', *args, exit_code=exit_code)


class FakeEstimator(FluxEstimator):
    """Stands for the network: records its arguments, measures 1 adu."""

    calls = []
    given = []

    def __init__(self, **options):
        self.options = options

    def get_params(self, deep=True):
        return self.options

    def _measure_batch(self, cutouts):
        ones = np.ones(len(cutouts))
        return {'flux': ones, 'flux_err': ones}

    def _collect(self, cutouts, *, psf_fwhm=None, **keywords):
        type(self).calls.append((self.options, cutouts, psf_fwhm))
        del keywords['progress']
        type(self).given.append(keywords)
        return super()._collect(cutouts, progress=False)

    def fit(self, cutouts, flux=None, **options):
        raise NotImplementedError

    save = load = fit


@pytest.fixture
def fake_network(monkeypatch):
    monkeypatch.setattr(FakeEstimator, 'calls', [])
    monkeypatch.setattr(FakeEstimator, 'given', [])
    # into the namespace itself: the real one need not load
    monkeypatch.setitem(vars(astroflux), 'CNNFluxEstimator', FakeEstimator)
    return FakeEstimator


def test_help():
    for command in ((), ('measure',), ('simulate',), ('demo',)):
        assert 'Usage' in run(*command, '--help').stdout
    assert astroflux.__version__ in run('--version').stdout


@pytest.mark.parametrize('suffix', ['ecsv', 'parquet', 'fits'])
def test_measure_writes_table(galaxies, tmp_path, suffix):
    output = tmp_path / f'fluxes.{suffix}'
    result = measure(*galaxies, '-o', output)
    assert '3 measured, 0 failed' in result.stderr
    assert result.stdout == ''

    table = QTable.read(output)
    expected = astroflux.ApertureFluxEstimator().measure(galaxies)
    assert table.colnames == expected.colnames
    assert list(table['name']) == list(expected['name'])
    assert table['flux'].unit == u.adu
    assert_allclose(table['flux'].value, expected['flux'].value)
    assert_allclose(table['flux'].value, FLUX, rtol=0.1)
    assert_allclose(table['flags'], expected['flags'])
    meta = json.loads(table.meta['METADATA']) if suffix == 'fits' else table.meta
    assert 'ApertureFluxEstimator' in meta['method']
    assert meta['versions']['astroflux'] == astroflux.__version__


def test_measure_writes_csv_without_units(galaxies, tmp_path):
    output = tmp_path / 'fluxes.csv'
    measure(*galaxies, '-o', output)
    table = QTable.read(output, format='ascii.csv')
    assert table['flux'].unit is None
    assert_allclose(table['flux'], FLUX, rtol=0.1)


def test_measure_prints_table(galaxies):
    result = measure(*galaxies)
    lines = result.stdout.splitlines()
    assert 'flux_err' in lines[0]
    assert 'adu' in lines[1]
    assert sum('NOISE_ESTIMATED' in line for line in lines) == 3


def test_files_of_folder_and_pattern(galaxies, tmp_path):
    folder = tmp_path / 'cutouts'
    packed = write_galaxy(folder / 'a.fits.gz')
    (folder / 'notes.txt').write_text('not a cutout')
    assert expand_paths([str(folder)]) == [packed, *galaxies]
    assert expand_paths([str(folder / 'g*.fits')]) == galaxies
    assert expand_paths([str(galaxies[2]), str(galaxies[0])]) == [galaxies[2], galaxies[0]]


def test_file_with_brackets_in_name(tmp_path):
    path = write_galaxy(tmp_path / 'g[1].fits')
    assert expand_paths([str(path)]) == [path]


def test_folder_without_fits(tmp_path):
    result = measure(tmp_path, exit_code=1)
    assert 'there is no .fits or .fits.gz or .fits.fz file in the folder' in result.stderr


def test_pattern_without_match(tmp_path):
    result = measure(tmp_path / '*.fits', exit_code=1)
    assert 'no file matches' in result.stderr


def test_one_bad_file_is_a_row(galaxies, not_fits, tmp_path):
    output = tmp_path / 'fluxes.ecsv'
    result = measure(galaxies[0], not_fits, galaxies[1], '-o', output)
    assert '2 measured, 1 failed (UNREADABLE 1)' in result.stderr
    assert str(not_fits) in result.stderr
    table = QTable.read(output)
    assert list(np.isfinite(table['flux'])) == [True, False, True]


def test_nothing_measured(not_fits, tmp_path):
    output = tmp_path / 'fluxes.ecsv'
    result = measure(not_fits, tmp_path / 'missing.fits', '-o', output, exit_code=1)
    assert '0 measured, 2 failed (UNREADABLE 2)' in result.stderr
    # the table says why
    assert len(QTable.read(output)) == 2


def test_many_failures_are_not_all_named(not_fits):
    result = measure(*[not_fits] * 12, exit_code=1)
    assert '... and 2 more' in result.stderr


def test_incompatible_units(galaxies, tmp_path):
    other = write_galaxy(tmp_path / 'cutouts' / 'nanojansky.fits', unit='nJy')
    result = measure(galaxies[0], other, exit_code=1)
    assert 'nJy' in result.stderr


def test_output_is_not_overwritten(galaxies, tmp_path):
    output = tmp_path / 'fluxes.ecsv'
    output.write_text('precious')
    result = measure(galaxies[0], '-o', output, exit_code=1)
    assert 'fluxes.ecsv exists and overwrite is not set' in result.stderr
    assert 'replace it with --overwrite' in result.stderr
    assert output.read_text() == 'precious'
    measure(galaxies[0], '-o', output, '--overwrite')
    assert len(QTable.read(output)) == 1


@pytest.mark.parametrize(
    ('name', 'text'),
    [
        ('fluxes.txt', "must end in .ecsv, .parquet, .fits, .csv; got 'fluxes.txt'"),
        ('missing/fluxes.ecsv', 'missing does not exist'),
    ],
)
def test_output_that_cannot_be_written(fake_network, galaxies, tmp_path, name, text):
    result = run('measure', galaxies[0], '-o', tmp_path / name, exit_code=2)
    assert text in result.stderr
    # told before the work is done
    assert not fake_network.calls


def test_no_file():
    assert "Missing argument 'FILE...'" in run('measure', exit_code=2).stderr


def test_unknown_method(galaxies):
    result = run('measure', '--method', 'magic', galaxies[0], exit_code=2)
    assert "'magic' is not one of 'cnn', 'kron', 'aperture'" in result.stderr


@pytest.mark.parametrize(
    ('text', 'fwhm'),
    [('0.7arcsec', 0.7 * u.arcsec), ('4 pix', 4 * u.pix), ('3.5px', 3.5 * u.pix)],
)
def test_psf_fwhm(fake_network, galaxies, text, fwhm):
    run('measure', '--psf-fwhm', text, *galaxies)
    [(options, paths, given)] = fake_network.calls
    assert options == {}
    assert paths == galaxies
    assert given == fwhm
    assert given.unit == fwhm.unit


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('4', 'lacks its unit: want 0.7arcsec or 4pix'),
        ('4m', "'4m' is in meter, neither an angle nor pixels: want 0.7arcsec or 4pix"),
        ('0.7as', "'0.7as' is in attosecond, neither an angle nor pixels"),
        ('wide', 'is not a length such as 0.7arcsec or 4pix'),
        ('-1pix', 'is not a positive length'),
        ('nan pix', 'is not a positive length'),
    ],
)
def test_bad_psf_fwhm(fake_network, galaxies, text, message):
    result = run('measure', f'--psf-fwhm={text}', *galaxies, exit_code=2)
    assert message in result.stderr
    assert not fake_network.calls


def test_noise_correlation(fake_network, galaxies):
    run('measure', *galaxies)
    run('measure', '--noise-correlation', '1.2', *galaxies)
    run('measure', '--noise-correlation', 'estimate', *galaxies)
    correlations = [given.get('noise_correlation') for given in fake_network.given]
    assert correlations == [None, 1.2, 'estimate']


@pytest.mark.parametrize(
    ('text', 'exit_code', 'message'),
    [
        ('white', 2, "'white' is neither a number such as 1.2 nor estimate"),
        ('9', 2, "a number from 0.5 to 5 or 'estimate', got 9"),
    ],
)
def test_bad_noise_correlation(galaxies, text, exit_code, message):
    result = run(
        *('measure', '--method', 'aperture', f'--noise-correlation={text}'),
        *galaxies,
        exit_code=exit_code,
    )
    assert message in result.stderr


def test_options_of_network(fake_network, galaxies):
    run('measure', '--weights', 'study-2024', '--batch-size', '7', *galaxies)
    assert fake_network.calls[0][0] == {'weights': 'study-2024', 'batch_size': 7}


def test_options_of_network_elsewhere(galaxies):
    result = measure('--weights', 'study-2024', '--batch-size', '7', galaxies[0], exit_code=2)
    assert '--weights and --batch-size are for --method cnn only' in result.stderr


@pytest.fixture
def fake_writer(monkeypatch):
    calls = []
    module = ModuleType('astroflux.simulation.dataset')
    module.write_dataset = lambda *args, **kwargs: calls.append((args, kwargs))
    monkeypatch.setitem(sys.modules, 'astroflux.simulation.dataset', module)
    return calls


def test_simulate_passes_options(fake_writer, tmp_path):
    result = run('simulate', tmp_path, '-n', 5, '--seed', 3, '--neighbours', 1, 2, '--resume')
    [(args, kwargs)] = fake_writer
    assert args == (tmp_path, 5, CutoutSimulation(neighbors=(1, 2)))
    assert kwargs == {'seed': 3, 'overwrite': False, 'resume': True}
    assert '5 cutouts in' in result.stderr


def test_simulate_overwrite_and_resume(fake_writer, tmp_path):
    result = run('simulate', tmp_path, '--overwrite', '--resume', exit_code=2)
    assert '--overwrite and --resume exclude each other' in result.stderr
    assert not fake_writer


def test_demo(monkeypatch, tmp_path):
    module = ModuleType('astroflux.demo')
    table = QTable({'name': ['a'], 'flux': [1.23456789] * u.nJy})
    module.run_demo = lambda folder: (table, folder / 'figure.png')
    monkeypatch.setitem(sys.modules, 'astroflux.demo', module)
    result = run('demo', '-o', tmp_path / 'new')
    assert '1.2346' in result.stdout
    assert 'figure.png' in result.stderr
    assert (tmp_path / 'new').is_dir()


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (('--survey', 'nope'), "unknown survey 'nope': want 'hsc-wide'"),
        (('--neighbours', 3, 1), 'want MIN MAX with MIN <= MAX, got 3 1'),
    ],
)
def test_bad_simulation_leaves_nothing(tmp_path, options, message):
    for command in (('simulate',), ('compare', '--simulate', 2, '-o')):
        result = run(*command, tmp_path / 'new', *options, exit_code=2)
        assert message in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    'command',
    [
        ('simulate',),
        ('demo', '-o'),
        ('compare', 'a.fits', '-o'),
        ('study', 'run', '--preset', 'smoke', '-o'),
    ],
)
def test_folder_that_cannot_be_written(tmp_path, monkeypatch, command):
    def refuse(dir):
        raise PermissionError(13, 'Permission denied', str(dir))

    monkeypatch.setattr('astroflux._work.TemporaryFile', refuse)
    result = run(*command, tmp_path / 'new' / 'folder', exit_code=2)
    assert 'no file can be written to the folder' in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_folder_in_a_file(galaxies):
    result = run('simulate', galaxies[0] / 'new', exit_code=2)
    assert 'no file can be written to the folder' in result.stderr
