# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of measuring many files: processes, interruptions, and going on after them."""

import os
import signal
import subprocess
import sys
import time
from importlib import import_module

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.table import QTable
from astropy.wcs import WCS
from click.testing import CliRunner
from numpy.testing import assert_array_equal

import astroflux
from astroflux import ApertureFluxEstimator
from astroflux._table_files import read_table, write_table
from astroflux.cli import main

FLUX = 500.0
N_FILES = 5


def write_galaxy(path, *, seed=0, unit='adu', scale=None):
    y, x = np.mgrid[-20:21, -20:21]
    image = FLUX * np.exp(-0.5 * (x**2 + y**2) / 4) / (8 * np.pi)
    image += np.random.default_rng(seed).normal(scale=0.1, size=image.shape)
    header = fits.Header({'BUNIT': unit})
    if scale is not None:
        wcs = WCS(naxis=2)
        wcs.wcs.ctype = 'RA---TAN', 'DEC--TAN'
        wcs.wcs.cdelt = -scale / 3600, scale / 3600
        wcs.wcs.crpix = 21, 21
        wcs.wcs.crval = 150, 2
        header.update(wcs.to_header())
    fits.writeto(path, image, header)
    return path


@pytest.fixture
def galaxies(tmp_path):
    folder = tmp_path / 'cutouts'
    folder.mkdir()
    return [write_galaxy(folder / f'g{i}.fits', seed=i) for i in range(N_FILES)]


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr('astroflux.cli._measuring.CHUNK_SIZE', 2)


def measure(*args, exit_code=0):
    result = CliRunner().invoke(main, ['measure', '--method', 'aperture', *map(str, args)])
    assert result.exit_code == exit_code, result.output
    assert 'Traceback' not in result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def assert_same_rows(table, expected):
    assert table.colnames == expected.colnames
    for name in expected.colnames:
        assert table[name].unit == expected[name].unit
        assert_array_equal(table[name], expected[name])


@pytest.mark.parametrize('workers', [1, 2])
def test_chunks_make_the_table_of_one_call(galaxies, small_chunks, tmp_path, workers):
    # beyond the first chunk: another unit, a pixel scale, and a file that cannot be read
    bad = tmp_path / 'bad.fits'
    bad.write_text('no image')
    scaled = write_galaxy(tmp_path / 'scaled.fits', scale=0.2)
    files = [*galaxies, bad, scaled]
    measure(*files, '-o', tmp_path / 't.ecsv', '--workers', workers)
    table = QTable.read(tmp_path / 't.ecsv')
    expected = ApertureFluxEstimator().measure(files)
    assert_same_rows(table, expected)
    assert table.meta['messages'] == expected.meta['messages']
    assert table.meta['arguments'] == expected.meta['arguments']


def test_chunks_in_other_units(galaxies, small_chunks, tmp_path):
    files = [write_galaxy(tmp_path / f'{unit}.fits', unit=unit) for unit in ('mJy', 'Jy')]
    files = [files[0], files[0], files[1]]
    measure(*files, '-o', tmp_path / 't.ecsv')
    flux = QTable.read(tmp_path / 't.ecsv')['flux']
    assert flux.unit == u.mJy
    assert flux[2] == 1000 * flux[0]
    # magnitudes go with the units
    one, ten = (write_galaxy(tmp_path / f'{n}.fits', unit=f'{n} adu') for n in (1, 10))
    measure(one, one, ten, '-o', tmp_path / 'mag.ecsv', '--zeropoint', 27)
    table = QTable.read(tmp_path / 'mag.ecsv')
    assert table['flux'][2] == 10 * table['flux'][0]
    assert table['mag'][2].value == pytest.approx(table['mag'][0].value)
    # a unit that does not convert: what was measured before is kept
    result = measure(*files, galaxies[0], '-o', tmp_path / 'other.ecsv', exit_code=1)
    assert (
        "g0.fits: its unit 'adu' does not convert to 'mJy'" in result.stderr
        or 'adu' in result.stderr
    )
    assert len(QTable.read(tmp_path / 'other.ecsv')) == 2


def test_no_workers(galaxies):
    result = measure(galaxies[0], '--workers', 0, exit_code=2)
    assert '0 is not in the range x>=1' in result.stderr


@pytest.fixture
def interrupted(monkeypatch):
    """Interrupts the third file that is measured."""
    measured = []
    original = ApertureFluxEstimator._measure_batch

    def measure_batch(self, cutouts):
        measured.append(cutouts[0].label)
        if len(measured) == 3:
            raise KeyboardInterrupt
        return original(self, cutouts)

    monkeypatch.setattr(ApertureFluxEstimator, '_measure_batch', measure_batch)
    return measured


@pytest.mark.parametrize('suffix', ['ecsv', 'parquet', 'fits'])
def test_interruption_and_resume(galaxies, small_chunks, interrupted, tmp_path, suffix):
    output = tmp_path / f't.{suffix}'
    result = measure(*galaxies, '-o', output, exit_code=130)
    assert f'2 of {N_FILES} files were measured and are in {output}' in result.stderr
    assert result.stderr.endswith('interrupted\n')
    assert len(QTable.read(output)) == 2

    result = measure(*galaxies, '-o', output, exit_code=1)
    assert 'go on with --resume' in result.stderr
    # those that were measured are not even looked at
    galaxies[0].unlink()
    measure(*galaxies, '-o', output, '--resume')
    assert interrupted[3:] == [str(path) for path in galaxies[2:]]
    table = read_table(output)
    assert list(table['name']) == [str(path) for path in galaxies]
    write_galaxy(galaxies[0], seed=0)
    assert_array_equal(table['flux'], ApertureFluxEstimator().measure(galaxies)['flux'])
    assert_array_equal(table['id'], np.arange(N_FILES))

    # nothing is left to do
    interrupted.clear()
    result = measure(*galaxies, '-o', output, '--resume')
    assert f'{N_FILES} measured, 0 failed' in result.stderr
    assert interrupted == []


def test_interruption_prints_rows(galaxies, small_chunks, interrupted):
    result = measure(*galaxies, exit_code=130)
    assert 'g1.fits' in result.stdout
    assert 'g2.fits' not in result.stdout


def test_resume_keeps_order_messages_and_other_rows(galaxies, tmp_path):
    output = tmp_path / 't.ecsv'
    bad = tmp_path / 'bad.fits'
    bad.write_text('no image')
    measure(galaxies[4], bad, galaxies[1], '-o', output)
    measure(galaxies[0], galaxies[1], bad, galaxies[2], '-o', output, '--resume')
    table = read_table(output)
    names = [galaxies[0], galaxies[1], bad, galaxies[2], galaxies[4]]
    assert list(table['name']) == [str(path) for path in names]
    assert list(table.meta['messages']) == [2]
    assert 'not a FITS file' in table.meta['messages'][2]


def test_resume_with_other_settings(galaxies, tmp_path):
    output = tmp_path / 't.ecsv'
    measure(*galaxies[:2], '-o', output)
    before = output.read_bytes()
    result = measure(*galaxies, '-o', output, '--resume', '--psf-fwhm', '4pix', exit_code=1)
    assert "was begun with arguments.psf_fwhm='none', not with arguments.psf_fwhm=" in result.stderr
    result = measure(*galaxies, '-o', output, '--resume', '--method', 'kron', exit_code=1)
    assert "method='ApertureFluxEstimator'" in result.stderr
    assert output.read_bytes() == before


def test_resume_with_no_such_table(galaxies, tmp_path):
    output = tmp_path / 't.ecsv'
    output.write_text('precious')
    result = measure(*galaxies, '-o', output, '--resume', exit_code=1)
    assert 't.ecsv cannot be gone on with: it is no readable table' in result.stderr
    assert output.read_text() == 'precious'
    write_table(QTable({'a': [1]}), output, overwrite=True)
    result = measure(*galaxies, '-o', output, '--resume', exit_code=1)
    assert 'it is no table of measurements of files' in result.stderr


def test_resume_in_other_units(galaxies, tmp_path):
    output = tmp_path / 't.ecsv'
    measure(galaxies[0], '-o', output)
    other = write_galaxy(tmp_path / 'jansky.fits', unit='Jy')
    result = measure(other, '-o', output, '--resume', exit_code=1)
    assert "the table has flux in 'adu', new rows have it in 'Jy'" in result.stderr
    assert len(read_table(output)) == 1


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (('--resume',), '--resume needs an output that tells how it was made'),
        (('--resume', '-o', 'a.csv'), '--resume needs an output that tells how it was made'),
        (('--resume', '--overwrite', '-o', 'a.fits'), 'exclude each other'),
        (('--device', 'cpu'), '--device is for --method cnn only'),
        (('--unit', 'm'), 'want a flux'),
        (('--unit', 'nonsense'), "'nonsense' is not understood: want nJy"),
        (('--background', 'global'), "'global' is none of none, local and a finite number"),
        (('--background', 'nan'), "'nan' is none of none, local and a finite number"),
        (('--zeropoint', 'AB'), "'AB' is not a valid float"),
    ],
)
def test_wrong_options(galaxies, options, message):
    assert message in measure(galaxies[0], *options, exit_code=2).stderr


@pytest.mark.parametrize(
    ('weights', 'message'),
    [
        ('magic', "unknown weights 'magic': want one of 'profile-5'"),
        ('missing.safetensors', "there is no file 'missing.safetensors' of weights"),
    ],
)
def test_unknown_weights(weights, message):
    result = CliRunner().invoke(main, ['measure', 'a.fits', '--weights', weights])
    assert result.exit_code == 2
    assert message in result.stderr


def test_table_is_written_in_between(galaxies, small_chunks, tmp_path, monkeypatch):
    lengths = []
    monkeypatch.setattr(import_module('astroflux.cli.measure'), 'SAVE_INTERVAL', 0)
    monkeypatch.setattr(
        'astroflux._table_files.write_table', lambda table, *_, **__: lengths.append(len(table))
    )
    measure(*galaxies, '-o', tmp_path / 't.ecsv')
    assert lengths == [2, 4, 5, 5]


def test_folder_that_cannot_be_written(galaxies, tmp_path, monkeypatch):
    def refuse(dir):
        raise PermissionError(13, 'Permission denied', str(dir))

    monkeypatch.setattr('astroflux._work.TemporaryFile', refuse)
    result = measure(galaxies[0], '-o', tmp_path / 't.ecsv', exit_code=2)
    assert f'no file can be written to the folder {tmp_path}: Permission denied' in result.stderr


def test_quiet(galaxies, tmp_path):
    assert measure(*galaxies, '-o', tmp_path / 't.ecsv', '--quiet').output == ''
    result = measure(galaxies[0], tmp_path / 'missing.fits', '--quiet')
    assert result.stderr.startswith(f'{tmp_path / "missing.fits"}: ')
    assert 'measured,' not in result.stderr


def test_printed_columns(galaxies, monkeypatch):
    monkeypatch.setenv('COLUMNS', '60')
    lines = measure(*galaxies).stdout.splitlines()
    assert max(map(len, lines)) <= 60
    assert lines[0].split()[:4] == ['name', 'flux', 'flux_err', 'snr']
    # without the folder that all are in
    assert lines[3].startswith('g0.fits')
    long_name = write_galaxy(galaxies[0].parent / f'survey-{"x" * 80}-17.fits')
    lines = measure(long_name, galaxies[0]).stdout.splitlines()
    assert max(map(len, lines)) <= 60
    assert '-17.fits ' in lines[3]
    assert 'flux_lower' in measure(*galaxies, '--all-columns').stdout


def test_zeropoint(galaxies, tmp_path):
    result = measure(galaxies[0], '--zeropoint', 27)
    assert 'mag_err' in result.stdout
    measure(galaxies[0], '--zeropoint', 27, '-o', tmp_path / 't.ecsv')
    table = QTable.read(tmp_path / 't.ecsv')
    assert table['mag'][0].value == pytest.approx(27 - 2.5 * np.log10(table['flux'][0].value))


def test_cube_of_bands(galaxies, tmp_path):
    path = tmp_path / 'cube.fits'
    planes = [factor * fits.getdata(galaxies[0]) for factor in (1, 2)]
    extension = fits.ImageHDU(np.array(planes), name='COADD')
    fits.HDUList([fits.PrimaryHDU(), extension]).writeto(path)
    output = tmp_path / 't.ecsv'
    options = '--hdu', 'COADD', '--plane', 1, '--unit', 'nJy', '-o', output
    measure(path, *options, '--workers', 2)
    table = QTable.read(output)
    expected = ApertureFluxEstimator().measure(galaxies[:1])
    assert table['flux'].unit == u.nJy
    assert table['flux'][0].value == pytest.approx(2 * expected['flux'][0].value)
    assert table.meta['reading'] == {'hdu': 'COADD', 'plane': 1, 'unit': 'nJy'}
    measure(path, *options, '--resume')
    result = measure(path, *options[:3], 0, *options[4:], '--resume', exit_code=1)
    assert 'reading.plane=1, not with reading.plane=0' in result.stderr


def test_background(galaxies, tmp_path):
    fluxes = []
    for sky in (0, 5):
        path = tmp_path / f'{sky}.fits'
        fits.writeto(path, fits.getdata(galaxies[0]) + sky, fits.getheader(galaxies[0]))
        measure(path, '--background', sky, '-o', tmp_path / 't.ecsv', '--overwrite')
        fluxes.append(QTable.read(tmp_path / 't.ecsv')['flux'][0].value)
    assert fluxes[1] == pytest.approx(fluxes[0])


def astroflux_command(*args, **options):
    return subprocess.Popen(
        [sys.executable, '-m', 'astroflux', *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def test_module_is_the_command():
    process = astroflux_command('--version')
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert out == f'astroflux, version {astroflux.__version__}\n'


# What every Python process of a command begins with: one of its files takes until it is released.
WAITING = """
import time
from astroflux.cutouts import readers

check = readers._check_regular

def wait(path):
    check(path)
    if path.name == 'waits.fits':
        path.with_name('reached').touch()
        while not path.with_name('released').exists():
            time.sleep(0.02)

readers._check_regular = wait
"""


@pytest.mark.parametrize('workers', [1, 2])
def test_ctrl_c(tmp_path, workers):
    image, waits = (write_galaxy(tmp_path / name) for name in ('g.fits', 'waits.fits'))
    (tmp_path / 'sitecustomize.py').write_text(WAITING)
    paths = [str(tmp_path), *filter(None, [os.environ.get('PYTHONPATH')])]
    files = [*[image] * 64, *[waits] * 1, *[image] * 200]
    output = tmp_path / 't.ecsv'
    process = astroflux_command(
        *('measure', '--method', 'aperture', '--workers', workers, '-o', output),
        *files,
        start_new_session=True,
        # a test run in the background may ignore it
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        env=os.environ | {'PYTHONPATH': os.pathsep.join(paths)},
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / 'reached').exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    if workers == 1:
        process.wait(timeout=60)
    (tmp_path / 'released').touch()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert 'Traceback' not in err
    assert err.endswith('interrupted\n')
    # whole chunks, and with two processes also those that were begun
    n_rows = len(QTable.read(output))
    assert n_rows == 64 if workers == 1 else n_rows >= 64


@pytest.mark.parametrize('linked', [False, True])
def test_output_is_no_input(galaxies, tmp_path, linked):
    output = galaxies[0]
    if linked:
        output = tmp_path / 'link.fits'
        output.hardlink_to(galaxies[0])
    before = galaxies[0].read_bytes()
    result = measure(*galaxies, '-o', output, '--overwrite', exit_code=2)
    assert 'is one of the files to measure' in result.output
    assert galaxies[0].read_bytes() == before


def test_largest_image_is_an_option(galaxies, tmp_path):
    table = tmp_path / 't.ecsv'
    result = measure(galaxies[0], '-o', table, '--max-pixels', 1680, exit_code=1)
    assert '1681 pixels, more than 1680 are not read' in result.stderr
    measure(galaxies[0], '-o', table, '--overwrite', '--max-pixels', 1681)
    # it is not one of the settings that rows depend on
    measure(*galaxies[:2], '-o', table, '--resume')
    assert len(QTable.read(table)) == 2
