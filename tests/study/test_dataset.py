# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of the data set of the study on disk: drawn, resumed, read again."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_scales

from astroflux.cutouts import read_cutout
from astroflux.estimators import KronFluxEstimator
from astroflux.evaluation.information import ImageModel
from astroflux.simulation.scene import draw_galaxy, galaxy_profile, psf_profile
from astroflux.study import dataset
from astroflux.study.catalogue import draw_catalogue, image_generator, image_model_truth
from astroflux.study.dataset import ACCURACY, load_set, read_settings, write_study_dataset

TRAIN, TEST = 'gal_morph_train_val.csv', 'gal_morph_test.csv'


def contents(folder):
    paths = (path for path in folder.rglob('*') if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


@pytest.fixture(scope='module')
def train(study_folder):
    return load_set(study_folder, 'train')


@pytest.fixture
def brightest(train):
    return train.table.iloc[train.flux.argmax()]


def test_files(study_folder, study_settings):
    table = draw_catalogue(study_settings)
    images = {f'images/{name}' for name in table['file_name']}
    others = {'settings.json', 'psf.fits', 'columns.csv', TRAIN, TEST}
    assert set(contents(study_folder)) == images | others
    parts = [pd.read_csv(study_folder / name) for name in (TRAIN, TEST)]
    pd.testing.assert_frame_equal(pd.concat(parts, ignore_index=True), table)
    assert read_settings(study_folder) == study_settings
    path = study_folder / 'images' / table['file_name'][7]
    header = fits.getheader(path)
    wanted = {'BITPIX': -32, 'NAXIS1': 151, 'NAXIS2': 151, 'SEED': 5, 'NOISE': 0.05}
    wanted |= {'IMGNUM': table['img_number'][7], 'TOTFLUX': table['total_flux'][7]}
    assert {keyword: header[keyword] for keyword in wanted} == wanted
    np.testing.assert_allclose(3600 * proj_plane_pixel_scales(WCS(header)), 0.168)
    ccd = read_cutout(path)
    assert ccd.unit == 'adu'
    assert ccd.meta['zeropoint'] == pytest.approx(27.0)


@pytest.mark.parametrize('margin', [0, 4])
def test_truth_is_that_of_the_image_and_of_its_middle(
    study_settings, study_folder, brightest, margin
):
    truth = image_model_truth(brightest, study_settings)
    data = fits.getdata(study_folder / 'images' / brightest['file_name']).astype(float)
    data = data[margin : len(data) - margin, margin : len(data) - margin]
    model = ImageModel(truth, data.shape, 0.168)
    residuals, spread = (data - model.image) / 0.05, np.sqrt(2 * data.size)
    assert abs((residuals**2).sum() - data.size) < 4 * spread
    assert abs(residuals.sum()) < 4 * np.sqrt(data.size)
    # a wrong place would have been noticed
    shifted = ImageModel({**truth, 'x_offset': truth['x_offset'] + 0.01}, data.shape, 0.168)
    assert (((data - shifted.image) / 0.05) ** 2).sum() - data.size > 10 * spread


def test_draws_of_an_image_are_those_of_its_number(study_folder, study_settings, brightest):
    data = fits.getdata(study_folder / 'images' / brightest['file_name'])
    rng = image_generator(study_settings, brightest['img_number'])
    truth = image_model_truth(brightest, study_settings)
    assert tuple(rng.uniform(-0.5, 0.5, 2)) == (truth['x_offset'], truth['y_offset'])
    # far from the centre hardly any light is left, and no noise
    assert (data - 0.05 * rng.standard_normal(data.shape))[:5].std() < 0.02


def test_drawn_accurately_enough(study_settings, brightest):
    # the wings of a small bulge reach farther than GalSim would look
    galaxy = {**brightest, 'Bt': 0.98, 'axis_ratio_d': 1.0, 'axis_ratio_b': 1.0}
    galaxy |= {'sersic_idx_d': 1.0, 'R_e_d': 3.0, 'sersic_idx_b': 4.0, 'R_e_b': 0.5}
    truth = image_model_truth(galaxy, study_settings)

    def draw(accuracy):
        # a profile keeps the accuracy that it was first drawn with
        galaxy, psf = 30_000 * galaxy_profile(truth), psf_profile(truth)
        return draw_galaxy(galaxy, psf, (151, 151), 0.168, accuracy=accuracy).astype(float)

    exact = draw({'minimum_fft_size': 1024})
    assert (((draw(ACCURACY) - exact) / 0.05) ** 2).sum() < 0.5
    assert (((draw(None) - exact) / 0.05) ** 2).sum() > 10


@pytest.mark.parametrize('workers', [1, 2])
def test_interruption(tmp_path, monkeypatch, study_folder, study_settings, workers):
    drawn, draw = [], dataset.draw_image

    def interrupted(row, settings):
        drawn.append(row)
        if len(drawn) == 4:
            raise KeyboardInterrupt
        return draw(row, settings)

    with monkeypatch.context() as patch:
        # threads, as processes would not see what is patched
        patch.setattr(dataset, 'spawn_pool', lambda *_: ThreadPoolExecutor(1))
        patch.setattr(dataset, 'CHUNK_SIZE', 1)
        patch.setattr(dataset, 'draw_image', interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_study_dataset(tmp_path, study_settings, workers=workers, progress=False)
    # what had not begun was given up
    before = contents(tmp_path / 'images')
    assert 3 <= len(before) < 42
    assert {name.rpartition('.')[2] for name in before} == {'fits'}
    with pytest.raises(OSError, match=TRAIN):
        load_set(tmp_path, 'train')
    old = next((tmp_path / 'images').iterdir())
    modified = old.stat().st_mtime_ns
    write_study_dataset(tmp_path, study_settings, workers=workers, progress=False)
    assert contents(tmp_path) == contents(study_folder)
    assert old.stat().st_mtime_ns == modified


def test_other_settings_are_refused(study_folder, study_settings):
    before = contents(study_folder)
    other = replace(study_settings, seed=6, psf_fwhm=0.8)
    message = r'was begun with seed=5, psf_fwhm=0.7, not with seed=6, psf_fwhm=0.8'
    with pytest.raises(ValueError, match=message):
        write_study_dataset(study_folder, other, workers=1, progress=False)
    with pytest.raises(FileExistsError, match='holds a data set: resume it, or name another'):
        write_study_dataset(study_folder, study_settings, resume=False, progress=False)
    assert contents(study_folder) == before


def test_set(study_folder, train, tmp_path, capsys):
    assert (len(train), train.images.shape, train.images.dtype) == (30, (30, 143, 143), np.float32)
    whole = fits.getdata(study_folder / 'images' / train.table['file_name'][11])
    np.testing.assert_array_equal(train.images[11], whole[4:147, 4:147])
    np.testing.assert_allclose(train.log_flux, train.table['log_total_flux'], rtol=1e-12)
    # the stamp holds nearly all of the light: image and row belong together
    np.testing.assert_allclose(train.images.sum((1, 2), dtype=float), train.flux, rtol=0.15)
    assert (train.noise, train.pixel_scale, train.zeropoint) == (0.05, 0.168, 27.0)
    psf = train.psf
    assert psf.sum() == pytest.approx(1, abs=1e-12)
    assert (psf.shape, np.unravel_index(psf.argmax(), psf.shape)) == ((43, 43), (21, 21))
    # the area above half of the peak is that of a circle of the FWHM
    width = 2 * np.sqrt((psf > psf.max() / 2).sum() / np.pi) * 0.168
    assert width == pytest.approx(0.7, abs=0.1)
    test = load_set(study_folder, 'test', progress=True)
    assert '12/12' in capsys.readouterr().err
    assert not set(test.table['img_number']) & set(train.table['img_number'])
    # rows may be in another order
    copy = shutil.copytree(study_folder, tmp_path / 'copy')
    train.table[::-1].to_csv(copy / TRAIN, index=False)
    np.testing.assert_array_equal(load_set(copy, 'train').images, train.images[::-1])


def test_cutouts(train):
    cutout = list(train.cutouts())[3]
    assert (cutout.uncertainty.array == np.full((143, 143), 0.05, np.float32)).all()
    np.testing.assert_array_equal(cutout.psf, train.psf)
    np.testing.assert_allclose(3600 * proj_plane_pixel_scales(cutout.wcs), 0.168)
    names = train.table[['img_number', 'file_name']].iloc[3].to_dict()
    assert cutout.meta == {'zeropoint': 27.0, **names}
    # the estimators take them
    bright = np.argsort(train.flux)[-2:]
    table = KronFluxEstimator().measure(train.cutouts(bright), progress=False)
    np.testing.assert_allclose(table['flux'].to_value('adu'), train.flux[bright], rtol=0.15)


@pytest.mark.parametrize('length', [0, 2880, 50_000, None])
@pytest.mark.filterwarnings('ignore:.*truncated')
def test_damaged_file_is_named(study_folder, train, tmp_path, length):
    copy = shutil.copytree(study_folder, tmp_path / 'copy')
    for path in (copy / 'images' / train.table['file_name'][2], copy / 'psf.fits'):
        whole = path.read_bytes()
        path.unlink()
        if length is not None:
            path.write_bytes(whole[: min(length, len(whole) // 2)])
        with pytest.raises(OSError, match=f'{path.name} cannot be read'):
            load_set(copy, 'train')
        path.write_bytes(whole)
    assert len(load_set(copy, 'train')) == 30
