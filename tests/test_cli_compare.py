# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of the command that compares methods."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import QTable
from click.testing import CliRunner

from astroflux.cli import main
from astroflux.estimators.methods import KNOWN_METHODS


def compare(*args, exit_code=0):
    result = CliRunner().invoke(main, ['compare', *(str(arg) for arg in args)])
    assert result.exit_code == exit_code, result.output
    assert 'Traceback' not in result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


@pytest.fixture
def files(tmp_path):
    y, x = np.mgrid[-20:21, -20:21]
    paths = []
    for index in range(4):
        rng = np.random.default_rng(index)
        image = 500 * (1 + index) * np.exp(-0.5 * (x**2 + y**2) / 9) / (18 * np.pi)
        paths.append(tmp_path / f'galaxy{index}.fits')
        header = fits.Header({'BUNIT': 'adu'})
        fits.writeto(paths[-1], image + rng.normal(0, 0.1, image.shape), header)
    return paths


def test_files(files, tmp_path):
    folder = tmp_path / 'new' / 'report'
    result = compare(*files, '--methods', 'kron,aperture', '-o', folder)
    assert (folder / 'report.html').is_file()
    assert f'report: {folder / "report.html"}' in result.output
    # every method against the median, and the one pair
    assert result.output.count('median of the methods') == 2
    table = QTable.read(folder / 'measurements.ecsv')
    assert list(table['method']) == ['kron'] * 4 + ['aperture'] * 4
    assert list(table['name'][:4]) == [str(path) for path in files]
    assert np.all(np.isfinite(table['flux']))
    page = (folder / 'report.html').read_text()
    # people see the labels
    assert KNOWN_METHODS['kron'].label in page


def test_goes_on(files, tmp_path):
    arguments = *files, '--methods', 'aperture', '--resume', tmp_path / 'parts'
    compare(*arguments, '-o', tmp_path / 'one')
    assert (tmp_path / 'parts' / 'part_00000000.ecsv').is_file()
    compare(*arguments, '-o', tmp_path / 'other')
    one, other = (QTable.read(tmp_path / d / 'speed.ecsv') for d in ('one', 'other'))
    assert one['cpu_time'] == other['cpu_time']
    result = compare(files[0], *arguments[4:], '-o', tmp_path / 'third', exit_code=1)
    assert 'was begun with source.title=' in result.output


def test_folder_without_truth(files, tmp_path):
    compare(tmp_path, '--methods', 'aperture', '-o', tmp_path / 'report')
    assert len(QTable.read(tmp_path / 'report' / 'measurements.ecsv')) == 4


def test_simulated_dataset(tmp_path):
    pytest.importorskip('galsim')
    from astroflux.simulation import CutoutSimulation, write_dataset

    simulation = CutoutSimulation(shape=(61, 61))
    truth = write_dataset(tmp_path / 'data', 3, simulation, seed=2, progress=False)
    result = compare(
        tmp_path / 'data', '--methods', 'cnn,aperture', '-o', tmp_path / 'report', '--workers', 1
    )
    assert 'bias [%]' in result.output
    again = QTable.read(tmp_path / 'report' / 'truth.ecsv')
    np.testing.assert_array_equal(again['flux'], truth['flux'])
    # what was simulated is known, so its bound is
    assert np.all(again['bound'] > 0)


def test_simulate(tmp_path):
    pytest.importorskip('galsim')
    result = compare(
        *('--simulate', 3, '--seed', 6, '--methods', 'aperture', '--neighbors', 1, 1),
        *('-o', tmp_path / 'report'),
    )
    assert 'scatter_over_bound' in result.output
    truth = QTable.read(tmp_path / 'report' / 'truth.ecsv')
    assert np.all(truth['bound'] > 0)
    assert list(truth['n_neighbours']) == [1, 1, 1]


def test_slow_limit(files, tmp_path):
    pytest.importorskip('pyimfit')
    compare(*files, '--methods', 'aperture,sersic', '--slow-limit', 1, '-o', tmp_path / 'report')
    table = QTable.read(tmp_path / 'report' / 'measurements.ecsv')
    assert list(table['method']) == ['aperture'] * 4 + ['sersic']


def test_report_is_not_replaced_by_accident(files, tmp_path):
    arguments = *files, '--methods', 'aperture', '-o', tmp_path / 'report'
    compare(*arguments)
    result = compare(*arguments, exit_code=1)
    assert 'exists and overwrite is not set: replace it with --overwrite' in result.output
    compare(*arguments, '--overwrite')


@pytest.mark.parametrize('arguments', [(), ('a.fits', '--simulate', 3)])
def test_either_files_or_simulation(arguments, tmp_path):
    result = compare(*arguments, '-o', tmp_path, exit_code=2)
    assert 'give either files or --simulate N' in result.output


def test_unknown_method(tmp_path):
    result = compare('a.fits', '--methods', 'kron,magic', '-o', tmp_path, exit_code=2)
    assert "'magic' is not one of cnn, kron" in result.output


def test_missing_package_is_told_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr('astroflux.estimators.methods.find_spec', lambda name: None)
    result = compare('a.fits', '--methods', 'kron,sep', '-o', tmp_path / 'new', exit_code=1)
    assert "the method sep needs sep: pip install 'astroflux[compare]'" in result.output
    assert not (tmp_path / 'new').exists()


def test_missing_program_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr('astroflux.estimators.methods.shutil.which', lambda name: None)
    result = compare('a.fits', '--methods', 'sextractor', '-o', tmp_path, exit_code=1)
    assert 'the method sextractor needs the program source-extractor or sex' in result.output


def test_incompatible_units(files, tmp_path):
    fits.setval(files[2], 'BUNIT', value='nJy')
    result = compare(*files, '--methods', 'aperture', '-o', tmp_path / 'report', exit_code=1)
    assert 'nJy' in result.output
    assert not (tmp_path / 'report' / 'report.html').exists()


def test_nothing_measured(tmp_path):
    folder = tmp_path / 'report'
    result = compare(tmp_path / 'no.fits', '--methods', 'aperture', '-o', folder, exit_code=1)
    assert 'no cutout was measured by any method' in result.output
    assert (folder / 'report.html').exists()
