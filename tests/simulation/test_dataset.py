# Licensed under a 3-clause BSD style license - see LICENSE.rst
import numpy as np
import pytest
from astropy import units as u
from astropy.table import QTable

from astroflux.cutouts import read_cutout
from astroflux.simulation import CutoutSimulation, Survey, simulate_cutouts, write_dataset

pytest.importorskip('galsim')

KEYWORDS = {'simulation': CutoutSimulation(shape=(48, 48)), 'seed': 4, 'progress': False}


def test_files_and_truth(tmp_path):
    table = write_dataset(tmp_path, 3, **KEYWORDS)
    assert sorted(p.name for p in tmp_path.glob('*.fits')) == [f'00000{i}.fits' for i in range(3)]
    read = QTable.read(tmp_path / 'truth.ecsv')
    assert read['flux'].unit == u.adu
    assert read['half_light_radius'].unit == u.arcsec
    np.testing.assert_array_equal(read['flux'], table['flux'])
    assert list(read['file_name']) == ['000000.fits', '000001.fits', '000002.fits']
    ccd = read_cutout(tmp_path / '000001.fits')
    assert ccd.shape == (48, 48)
    assert ccd.meta['zeropoint'] == pytest.approx(27.0)
    assert ccd.psf.shape == (43, 43)


def test_files_hold_what_was_simulated(tmp_path):
    write_dataset(tmp_path, 1, seed=4, progress=False)
    cutout, truth = next(simulate_cutouts(1, seed=4))
    np.testing.assert_array_equal(read_cutout(tmp_path / '000000.fits').data, cutout.data)
    assert QTable.read(tmp_path / 'truth.ecsv')['flux'][0].value == pytest.approx(truth['flux'])


def test_any_survey(tmp_path):
    survey = Survey('mine', 0.1, 25.0, 0.2, (0.3, 0.4))
    table = write_dataset(tmp_path, 1, CutoutSimulation(survey, shape=(48, 48)), progress=False)
    assert table.meta['survey']['name'] == 'mine'
    ccd = read_cutout(tmp_path / '000000.fits')
    assert ccd.meta['zeropoint'] == 25.0
    np.testing.assert_allclose(ccd.uncertainty.array, 0.2)


def test_refuses_to_touch_a_data_set(tmp_path):
    write_dataset(tmp_path, 1, **KEYWORDS)
    with pytest.raises(FileExistsError, match='holds a data set: resume or overwrite it'):
        write_dataset(tmp_path, 1, **KEYWORDS)


def test_resume_loses_nothing(tmp_path):
    whole = write_dataset(tmp_path / 'whole', 4, **KEYWORDS)
    write_dataset(tmp_path / 'part', 2, **KEYWORDS)
    progress = tmp_path / 'part' / 'truth.csv'
    # interrupted in the middle of a line
    progress.write_text(progress.read_text() + '000002.fits,12.5,')
    resumed = write_dataset(tmp_path / 'part', 4, resume=True, **KEYWORDS)
    assert len(resumed) == 4
    np.testing.assert_array_equal(resumed['flux'], whole['flux'])
    for name in whole['file_name']:
        one, other = (read_cutout(tmp_path / d / name).data for d in ('whole', 'part'))
        np.testing.assert_array_equal(one, other)


def test_resume_wants_the_same_settings(tmp_path):
    write_dataset(tmp_path, 1, **KEYWORDS)
    with pytest.raises(ValueError, match='was begun with seed=4, not with seed=5'):
        write_dataset(tmp_path, 2, resume=True, **{**KEYWORDS, 'seed': 5})
    narrow = CutoutSimulation(shape=(48, 48), survey=Survey('narrow', 0.1, 27.0, 0.05, (0.2, 0.3)))
    with pytest.raises(ValueError, match=r"survey.name='hsc-wide', .*survey.name='narrow'"):
        write_dataset(tmp_path, 2, resume=True, **{**KEYWORDS, 'simulation': narrow})


def test_overwrite(tmp_path):
    first = write_dataset(tmp_path, 2, **KEYWORDS)
    second = write_dataset(tmp_path, 1, overwrite=True, **{**KEYWORDS, 'seed': 5})
    assert len(second) == 1
    assert second['flux'][0] != first['flux'][0]


def test_compressed(tmp_path):
    table = write_dataset(tmp_path, 1, compress=True, **KEYWORDS)
    assert table['file_name'][0] == '000000.fits.gz'
    assert read_cutout(tmp_path / '000000.fits.gz').shape == (48, 48)
