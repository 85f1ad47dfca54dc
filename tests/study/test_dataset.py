# Licensed under a 3-clause BSD style license - see LICENSE.rst
import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.utils.exceptions import AstropyUserWarning
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_scales

pytest.importorskip('galsim')

from astroflux.cutouts import read_cutout
from astroflux.evaluation.information import ImageModel
from astroflux.simulation.scene import draw_galaxy, galaxy_profile, psf_profile
from astroflux.study import dataset, images
from astroflux.study.catalogue import COLUMN_NOTES, COLUMNS, RANGES, draw_offset, image_generator
from astroflux.study.dataset import (
    StudySettings,
    draw_catalogue,
    image_model_truth,
    read_settings,
    write_study_dataset,
)
from astroflux.study.loader import load_set

FEW = StudySettings(n_train=3, n_test=1, seed=5)


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob('*')
        if path.is_file()
    }


@pytest.fixture
def draws(monkeypatch):
    """Numbers of the images that are drawn, as they are."""
    drawn = []

    def draw_image(row, settings):
        drawn.append(row['img_number'])
        return images.draw_image(row, settings)

    monkeypatch.setattr(dataset, 'draw_image', draw_image)
    return drawn


@pytest.fixture(scope='module')
def table():
    return draw_catalogue(StudySettings(n_train=1500, n_test=500))


class TestCatalogue:
    def test_columns(self, table):
        assert tuple(table.columns) == COLUMNS
        assert len(COLUMNS) == 17
        assert len(table) == 2000

    @pytest.mark.parametrize('name', RANGES)
    def test_ranges_are_filled_and_kept(self, table, name):
        low, high = RANGES[name]
        values = table[name]
        assert values.min() >= low
        assert values.max() <= high
        assert values.min() < low + 0.03 * (high - low)
        assert values.max() > high - 0.03 * (high - low)

    def test_fluxes(self, table):
        flux = table['total_flux']
        assert flux.min() > 0
        assert 29_900 < flux.max() <= 30_000
        np.testing.assert_array_equal(table['log_total_flux'], np.log10(flux))

    def test_sums_and_names(self, table):
        np.testing.assert_allclose(table['flux_frac_d'] + table['flux_frac_b'], 1, atol=1e-12)
        np.testing.assert_array_equal(table['Bt'], table['flux_frac_b'])
        assert (table['num_components'] == 2).all()
        assert (table['file_name'] == table['img_number'].astype(str) + '.fits').all()
        twist = (table['PA_b'] - table['PA_d']).abs()
        assert 14 < twist.max() <= 15

    def test_numbers_are_shuffled(self, table):
        assert sorted(table['img_number']) == list(range(2000))
        assert abs(np.corrcoef(table['img_number'], range(2000))[0, 1]) < 0.1

    def test_few_sersic_indices(self, table):
        # GalSim keeps a hundred tables
        assert table['sersic_idx_d'].nunique() == 21
        assert table['sersic_idx_b'].nunique() == 51

    def test_seed(self, table):
        again = draw_catalogue(StudySettings(n_train=1500, n_test=500))
        pd.testing.assert_frame_equal(again, table)
        other = draw_catalogue(StudySettings(n_train=1500, n_test=500, seed=1))
        assert not np.isin(other['total_flux'], table['total_flux']).any()

    def test_images_share_no_draws_with_the_catalogue(self, table):
        settings = StudySettings(n_train=1500, n_test=500, seed=2024)
        first = image_generator(settings, 0).random(2000)
        assert not np.isin(np.round(30_000 * (1 - first), 3), table['total_flux']).any()

    @pytest.mark.parametrize(
        ('keywords', 'message'),
        [
            ({'n_train': 0}, 'n_train must be at least 1, got 0'),
            ({'n_test': -1}, 'n_test must be at least 1, got -1'),
            ({'seed': -1}, 'seed must not be negative, got -1'),
            ({'image_size': 150}, 'image_size must be odd and at least 143, got 150'),
            ({'image_size': 141}, 'image_size must be odd and at least 143, got 141'),
            ({'psf_fwhm': 0.0}, 'psf_fwhm must be a positive number of arcsec, got 0.0'),
            ({'psf_fwhm': np.nan}, 'psf_fwhm must be a positive number of arcsec, got nan'),
        ],
    )
    def test_settings(self, keywords, message):
        with pytest.raises(ValueError, match=message):
            StudySettings(**keywords)


class TestFiles:
    def test_what_is_there(self, study_folder, study_settings):
        names = set(contents(study_folder))
        table = draw_catalogue(study_settings)
        assert names == {
            'settings.json',
            'psf.fits',
            'columns.csv',
            'gal_morph_train_val.csv',
            'gal_morph_test.csv',
            *(f'images/{name}' for name in table['file_name']),
        }
        train = pd.read_csv(study_folder / 'gal_morph_train_val.csv')
        test = pd.read_csv(study_folder / 'gal_morph_test.csv')
        pd.testing.assert_frame_equal(pd.concat([train, test], ignore_index=True), table)
        assert len(train) == 30
        assert read_settings(study_folder) == study_settings

    def test_columns_are_documented(self, study_folder):
        notes = pd.read_csv(study_folder / 'columns.csv', keep_default_na=False)
        assert tuple(notes['column']) == COLUMNS
        units = dict(zip(notes['column'], notes['unit'], strict=True))
        assert units['R_e'] == units['R_e_d'] == 'arcsec'
        assert units['PA_b'] == 'deg'
        assert units['total_flux'] == 'adu'
        assert units['Bt'] == ''
        for unit in units.values():
            u.Unit(unit)
        assert all(text for _, text in COLUMN_NOTES.values())

    def test_image(self, study_folder, study_settings):
        row = draw_catalogue(study_settings).iloc[7]
        path = study_folder / 'images' / row['file_name']
        with fits.open(path) as hdus:
            header = hdus[0].header
            assert hdus[0].data.shape == (151, 151)
            assert hdus[0].data.dtype == np.dtype('>f4')
        assert header['IMGNUM'] == row['img_number']
        assert header['TOTFLUX'] == row['total_flux']
        assert header['SEED'] == 5
        assert header['BUNIT'] == 'adu'
        assert header['NOISE'] == 0.05
        assert header['ZEROPT'] == 27.0
        np.testing.assert_allclose(3600 * proj_plane_pixel_scales(WCS(header)), 0.168)

    def test_package_reads_the_image(self, study_folder, study_settings):
        row = draw_catalogue(study_settings).iloc[0]
        ccd = read_cutout(study_folder / 'images' / row['file_name'])
        assert ccd.unit == u.adu
        assert ccd.meta['zeropoint'] == pytest.approx(27.0)

    def test_psf(self, study_folder):
        psf = fits.getdata(study_folder / 'psf.fits')
        assert psf.sum() == pytest.approx(1, abs=1e-6)
        assert np.unravel_index(psf.argmax(), psf.shape) == (21, 21)
        # the area above half of the peak is that of a circle of the FWHM
        width = 2 * np.sqrt((psf > psf.max() / 2).sum() / np.pi) * 0.168
        assert width == pytest.approx(0.7, abs=0.1)


class TestTruth:
    @pytest.fixture
    def row(self, study_settings):
        table = draw_catalogue(study_settings)
        return table.iloc[table['total_flux'].argmax()]

    def test_model_is_the_image(self, study_folder, study_settings, row):
        truth = image_model_truth(row, study_settings)
        data = fits.getdata(study_folder / 'images' / row['file_name']).astype(float)
        model = ImageModel(truth, data.shape, 0.168)
        residuals = (data - model.image) / 0.05
        spread = np.sqrt(2 * data.size)
        assert abs((residuals**2).sum() - data.size) < 4 * spread
        assert abs(residuals.sum()) < 4 * np.sqrt(data.size)
        # a wrong place would have been noticed
        shifted = ImageModel({**truth, 'x_offset': truth['x_offset'] + 0.01}, data.shape, 0.168)
        assert (((data - shifted.image) / 0.05) ** 2).sum() - data.size > 10 * spread
        # flux of a matched filter, with its error of a few in 100,000
        flux = (data * model.image).sum() / (model.image**2).sum() * truth['flux']
        flux_err = 0.05 * truth['flux'] / np.sqrt((model.image**2).sum())
        assert flux_err < 1e-3 * truth['flux']
        assert abs(flux - row['total_flux']) < 4 * flux_err

    def test_noise_is_that_of_the_number(self, study_folder, study_settings, row):
        data = fits.getdata(study_folder / 'images' / row['file_name'])
        rng = image_generator(study_settings, row['img_number'])
        truth = image_model_truth(row, study_settings)
        assert tuple(draw_offset(rng)) == (truth['x_offset'], truth['y_offset'])
        noise = 0.05 * rng.standard_normal(data.shape)
        galaxy = data - noise
        # far from the centre hardly any light is left, and no noise
        assert galaxy[:5].std() < 0.02

    def test_offsets_differ(self, study_settings):
        table = draw_catalogue(study_settings)
        offsets = [
            image_model_truth(row, study_settings)['x_offset'] for _, row in table.iterrows()
        ]
        assert len(set(offsets)) == len(table)
        assert max(np.abs(offsets)) <= 0.5
        assert np.std(offsets) == pytest.approx(1 / np.sqrt(12), abs=0.1)

    def test_crop_keeps_the_centre(self, study_folder, study_settings):
        train = load_set(study_folder, 'train')
        row = int(train.table['total_flux'].argmax())
        truth = image_model_truth(train.table.iloc[row], study_settings)
        image = draw_galaxy(
            galaxy_profile(truth),
            psf_profile(truth),
            (143, 143),
            0.168,
            offset=(truth['x_offset'], truth['y_offset']),
        )
        residuals = (train.images[row] - truth['flux'] * image) / 0.05
        assert abs((residuals**2).mean() - 1) < 6 * np.sqrt(2 / image.size)

    def test_drawn_accurately_enough(self):
        # the wings of a small bulge reach farther than GalSim would look
        truth = {
            'n_components': 2,
            'bulge_to_total': 0.98,
            'sersic_index_1': 1.0,
            'half_light_radius_1': 3.0,
            'axis_ratio_1': 1.0,
            'position_angle_1': 20.0,
            'sersic_index_2': 4.0,
            'half_light_radius_2': 0.5,
            'axis_ratio_2': 1.0,
            'position_angle_2': 20.0,
            'psf_fwhm': 0.7,
            'moffat_beta': np.nan,
            'psf_g1': 0.0,
            'psf_g2': 0.0,
        }

        def draw(accuracy):
            # a profile keeps the accuracy that it was first drawn with
            return draw_galaxy(
                30_000 * galaxy_profile(truth),
                psf_profile(truth),
                (151, 151),
                0.168,
                accuracy=accuracy,
            ).astype(float)

        exact = draw({'minimum_fft_size': 1024})

        def chi2(image):
            return (((image - exact) / 0.05) ** 2).sum()

        assert chi2(draw(images.ACCURACY)) < 0.5
        assert chi2(draw(None)) > 10


class TestResume:
    def test_same_seed_same_bytes(self, tmp_path):
        for name in ('one', 'other'):
            write_study_dataset(tmp_path / name, FEW, workers=1, progress=False)
        assert contents(tmp_path / 'one') == contents(tmp_path / 'other')

    def test_number_of_workers(self, tmp_path, monkeypatch):
        monkeypatch.setattr(dataset, 'CHUNK_SIZE', 2)
        write_study_dataset(tmp_path / 'one', FEW, workers=1, progress=False)
        write_study_dataset(tmp_path / 'two', FEW, workers=2, progress=False)
        assert contents(tmp_path / 'one') == contents(tmp_path / 'two')

    def test_torn_and_foreign_images(self, study_folder, study_copy, study_settings, draws):
        table = draw_catalogue(study_settings)
        paths = [study_copy / 'images' / name for name in table['file_name'][:5]]
        whole = paths[0].read_bytes()
        paths[0].write_bytes(whole[: len(whole) // 2])
        paths[1].write_bytes(b'')
        paths[2].write_bytes(whole)
        paths[3].unlink()
        # what a process that was killed leaves
        paths[4].with_name(paths[4].name + '.part').write_bytes(whole[:1000])
        old = 1_000_000_000
        for path in (*paths[:3], paths[4]):
            os.utime(path, (old, old))
        (study_copy / 'gal_morph_test.csv').unlink()
        names = ', '.join(table['file_name'][:3])
        with pytest.warns(AstropyUserWarning, match=f'3 images are torn .* again: {names}$'):
            write_study_dataset(study_copy, study_settings, workers=1, progress=False)
        assert draws == list(table['img_number'][:4])
        assert paths[4].stat().st_mtime == old
        assert contents(study_copy) == contents(study_folder)

    def test_nothing_is_drawn_again(self, study_copy, study_folder, study_settings, draws):
        table = write_study_dataset(study_copy, study_settings, workers=1, progress=False)
        assert draws == []
        pd.testing.assert_frame_equal(table, draw_catalogue(study_settings))
        assert contents(study_copy) == contents(study_folder)

    def test_interruption(self, tmp_path, monkeypatch, study_folder, study_settings, draws):
        draw = dataset.draw_image

        def interrupted(row, settings):
            if len(draws) == 3:
                raise KeyboardInterrupt
            return draw(row, settings)

        monkeypatch.setattr(dataset, 'draw_image', interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_study_dataset(tmp_path, study_settings, workers=1, progress=False)
        assert read_settings(tmp_path) == study_settings
        assert len(list((tmp_path / 'images').iterdir())) == 3
        with pytest.raises(FileNotFoundError, match='is half written'):
            load_set(tmp_path, 'train')
        monkeypatch.setattr(dataset, 'draw_image', draw)
        write_study_dataset(tmp_path, study_settings, workers=1, progress=False)
        assert len(draws) == 42
        assert contents(tmp_path) == contents(study_folder)

    def test_interruption_of_a_pool(self, tmp_path, monkeypatch, study_settings):
        def pool(workers, **_):
            return ThreadPoolExecutor(1)

        def as_completed(futures):
            yield futures[0]
            raise KeyboardInterrupt

        monkeypatch.setattr(dataset, 'CHUNK_SIZE', 1)
        monkeypatch.setattr(dataset, 'ProcessPoolExecutor', pool)
        monkeypatch.setattr(dataset, 'as_completed', as_completed)
        with pytest.raises(KeyboardInterrupt):
            write_study_dataset(tmp_path, study_settings, workers=2, progress=False)
        # what had not begun was given up; what had is whole
        found = list((tmp_path / 'images').iterdir())
        assert 1 <= len(found) <= 4
        assert {path.suffix for path in found} == {'.fits'}
        assert len({path.stat().st_size for path in found}) == 1

    def test_other_settings(self, study_folder, study_settings):
        before = contents(study_folder)
        other = replace(study_settings, seed=6, psf_fwhm=0.8)
        message = r'was begun with seed=5, psf_fwhm=0.7, not with seed=6, psf_fwhm=0.8'
        with pytest.raises(ValueError, match=message):
            write_study_dataset(study_folder, other, workers=1, progress=False)
        assert contents(study_folder) == before

    def test_no_resume(self, study_folder, study_settings):
        with pytest.raises(FileExistsError, match='holds a data set: resume it, or name another'):
            write_study_dataset(study_folder, study_settings, resume=False, progress=False)

    def test_workers(self, tmp_path):
        with pytest.raises(ValueError, match='workers must be at least 1, got 0'):
            write_study_dataset(tmp_path, FEW, workers=0)

    def test_progress(self, tmp_path, capsys):
        write_study_dataset(tmp_path, FEW, workers=1)
        assert '4/4' in capsys.readouterr().err

    def test_settings_come_first(self, tmp_path, monkeypatch):
        def fail(row, settings):
            assert json.loads((tmp_path / 'settings.json').read_text())['n_train'] == 3
            msg = 'no space'
            raise OSError(msg)

        monkeypatch.setattr(dataset, 'draw_image', fail)
        with pytest.raises(OSError, match='no space'):
            write_study_dataset(tmp_path, FEW, workers=1, progress=False)

    @pytest.mark.parametrize('text', ['{"n_train": 3, "colour": 1}', '{"n_train": ', '[1]'])
    def test_settings_that_are_none(self, tmp_path, text):
        (tmp_path / 'settings.json').write_text(text)
        with pytest.raises(ValueError, match=r'settings.json does not hold settings of the study'):
            read_settings(tmp_path)
