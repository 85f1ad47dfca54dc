# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of the data set of the study on disk: drawn, resumed, read again."""

import shutil

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.wcs.utils import proj_plane_pixel_scales

from astroflux.cutouts import read_cutout
from astroflux.estimators import KronFluxEstimator
from astroflux.evaluation.information import ImageModel
from astroflux.study import dataset
from astroflux.study.catalogue import draw_catalogue, image_generator, image_model_truth
from astroflux.study.dataset import draw_image, load_set, write_study_dataset

TRAIN, TEST = 'gal_morph_train_val.csv', 'gal_morph_test.csv'


def contents(folder):
    paths = (path for path in folder.rglob('*') if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


@pytest.fixture(scope='module')
def train(study_folder):
    return load_set(study_folder, 'train')


def test_files(study_folder, study_settings):
    table = draw_catalogue(study_settings)
    images = {f'images/{name}' for name in table['file_name']}
    others = {'settings.json', 'psf.fits', 'columns.csv', TRAIN, TEST}
    assert set(contents(study_folder)) == images | others
    parts = [pd.read_csv(study_folder / name) for name in (TRAIN, TEST)]
    pd.testing.assert_frame_equal(pd.concat(parts, ignore_index=True), table)
    ccd = read_cutout(study_folder / 'images' / table['file_name'][7])
    np.testing.assert_array_equal(ccd.data, draw_image(table.iloc[7], study_settings))
    assert (ccd.unit, ccd.meta['zeropoint']) == ('adu', pytest.approx(27.0))
    np.testing.assert_allclose(3600 * proj_plane_pixel_scales(ccd.wcs), 0.168)


def test_image_is_its_truth_and_the_noise_of_its_number(study_settings, train):
    # the wings of a small bulge reach farther than GalSim would look
    galaxy = {**train.table.iloc[0], 'total_flux': 30_000, 'Bt': 0.98, 'R_e_d': 3, 'R_e_b': 0.5}
    galaxy |= {'sersic_idx_d': 1, 'sersic_idx_b': 4, 'axis_ratio_d': 1, 'axis_ratio_b': 1}
    truth = image_model_truth(galaxy, study_settings)
    rng = image_generator(study_settings, galaxy['img_number'])
    assert tuple(rng.uniform(-0.5, 0.5, 2)) == (truth['x_offset'], truth['y_offset'])
    image = draw_image(galaxy, study_settings) - 0.05 * rng.standard_normal((151, 151))
    # the truth is that of the middle, which is read, as well
    for seen in (image, image[4:-4, 4:-4]):
        model = ImageModel(truth, seen.shape, 0.168).image
        np.testing.assert_allclose(seen, model, rtol=0, atol=1e-3)


def test_interruption(tmp_path, monkeypatch, study_folder, study_settings):
    def interrupted(row, settings):
        if len(list((tmp_path / 'images').glob('*.fits'))) == 3:
            raise KeyboardInterrupt
        return draw_image(row, settings)

    with monkeypatch.context() as patch:
        patch.setattr(dataset, 'draw_image', interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_study_dataset(tmp_path, study_settings, workers=1, progress=False)
    (first, *_) = before = sorted((tmp_path / 'images').iterdir())
    assert len(before) == 3
    modified = first.stat().st_mtime_ns
    with pytest.raises(OSError, match=TRAIN):
        load_set(tmp_path, 'train')
    # several processes draw the same
    write_study_dataset(tmp_path, study_settings, workers=2, progress=False)
    assert first.stat().st_mtime_ns == modified
    assert contents(tmp_path) == contents(study_folder)


def test_set_and_its_cutouts(study_folder, train):
    assert train.images.dtype == np.float32
    whole = fits.getdata(study_folder / 'images' / train.table['file_name'][11])
    np.testing.assert_array_equal(train.images[11], whole[4:147, 4:147])
    np.testing.assert_allclose(train.log_flux, train.table['log_total_flux'], rtol=1e-12)
    # the stamp holds nearly all of the light: image and row belong together
    np.testing.assert_allclose(train.images.sum((1, 2), dtype=float), train.flux, rtol=0.15)
    assert train.psf.sum() == pytest.approx(1, abs=1e-12)
    bright = np.argsort(train.flux)[-2:]
    assert (next(train.cutouts(bright)).uncertainty.array == np.float32(0.05)).all()
    table = KronFluxEstimator().measure(train.cutouts(bright), progress=False)
    np.testing.assert_allclose(table['flux'].to_value('adu'), train.flux[bright], rtol=0.15)


@pytest.mark.filterwarnings('ignore:.*truncated')
def test_damaged_file_is_named(study_folder, train, tmp_path):
    copy = shutil.copytree(study_folder, tmp_path / 'copy')
    path = copy / 'images' / train.table['file_name'][2]
    path.write_bytes(path.read_bytes()[:50_000])
    with pytest.raises(OSError, match=f'{path.name} cannot be read'):
        load_set(copy, 'train')
