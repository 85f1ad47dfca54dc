# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of the data set of the study on disk: drawn, resumed, read again."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.nddata import StdDevUncertainty
from astropy.utils.exceptions import AstropyUserWarning
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_scales

pytest.importorskip('galsim')

from astroflux.cutouts import read_cutout
from astroflux.estimators import KronFluxEstimator
from astroflux.evaluation.information import ImageModel
from astroflux.simulation.scene import draw_galaxy, galaxy_profile, psf_profile
from astroflux.study import dataset
from astroflux.study.catalogue import (
    COLUMN_NOTES,
    COLUMNS,
    StudySettings,
    draw_catalogue,
    draw_offset,
    image_generator,
    image_model_truth,
)
from astroflux.study.dataset import (
    ACCURACY,
    StudySet,
    crop_centre,
    load_set,
    read_settings,
    write_study_dataset,
)

FEW = StudySettings(n_train=3, n_test=1, seed=5)
TRAIN = 'gal_morph_train_val.csv'


def contents(folder):
    paths = (path for path in folder.rglob('*') if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


@pytest.fixture(scope='module')
def table(study_settings):
    return draw_catalogue(study_settings)


@pytest.fixture(scope='module')
def train(study_folder):
    return load_set(study_folder, 'train')


@pytest.fixture
def draws(monkeypatch):
    """Numbers of the images that are drawn, as they are."""
    drawn, draw = [], dataset.draw_image

    def draw_image(row, settings):
        drawn.append(row['img_number'])
        return draw(row, settings)

    monkeypatch.setattr(dataset, 'draw_image', draw_image)
    return drawn


class TestFiles:
    def test_what_is_there(self, study_folder, study_settings, table):
        images = {f'images/{name}' for name in table['file_name']}
        tables = {TRAIN, 'gal_morph_test.csv', 'columns.csv'}
        assert set(contents(study_folder)) == {'settings.json', 'psf.fits', *tables, *images}
        train, test = (pd.read_csv(study_folder / name) for name in (TRAIN, 'gal_morph_test.csv'))
        pd.testing.assert_frame_equal(pd.concat([train, test], ignore_index=True), table)
        assert len(train) == 30
        assert read_settings(study_folder) == study_settings
        notes = pd.read_csv(study_folder / 'columns.csv', keep_default_na=False)
        assert {row[0]: row[1:] for row in notes.itertuples(index=False, name=None)} == COLUMN_NOTES

    def test_image(self, study_folder, table):
        row = table.iloc[7]
        path = study_folder / 'images' / row['file_name']
        data, header = fits.getdata(path, header=True)
        assert data.shape == (151, 151)
        assert data.dtype == np.dtype('>f4')
        wanted = {'IMGNUM': row['img_number'], 'TOTFLUX': row['total_flux'], 'SEED': 5}
        wanted |= {'BUNIT': 'adu', 'NOISE': 0.05, 'ZEROPT': 27.0}
        assert {keyword: header[keyword] for keyword in wanted} == wanted
        np.testing.assert_allclose(3600 * proj_plane_pixel_scales(WCS(header)), 0.168)
        ccd = read_cutout(path)
        assert ccd.unit == u.adu
        assert ccd.meta['zeropoint'] == pytest.approx(27.0)


class TestTruth:
    @pytest.fixture
    def row(self, train):
        return int(train.table['total_flux'].argmax())

    @pytest.mark.parametrize('margin', [0, 4])
    def test_model_is_the_image_and_its_middle(
        self, study_settings, study_folder, train, row, margin
    ):
        truth = image_model_truth(train.table.iloc[row], study_settings)
        data = fits.getdata(study_folder / 'images' / train.table['file_name'][row]).astype(float)
        data = data[margin : len(data) - margin, margin : len(data) - margin]
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
        assert abs(flux - train.flux[row]) < 4 * flux_err

    def test_noise_is_that_of_the_number(self, study_folder, study_settings, train, row):
        galaxy = train.table.iloc[row]
        data = fits.getdata(study_folder / 'images' / galaxy['file_name'])
        rng = image_generator(study_settings, galaxy['img_number'])
        truth = image_model_truth(galaxy, study_settings)
        assert tuple(draw_offset(rng)) == (truth['x_offset'], truth['y_offset'])
        # far from the centre hardly any light is left, and no noise
        assert (data - 0.05 * rng.standard_normal(data.shape))[:5].std() < 0.02

    def test_offsets_differ(self, study_settings, table):
        rows = table.to_dict('records')
        offsets = [image_model_truth(row, study_settings)['x_offset'] for row in rows]
        assert len(set(offsets)) == len(table)
        assert max(np.abs(offsets)) <= 0.5
        assert np.std(offsets) == pytest.approx(1 / np.sqrt(12), abs=0.1)

    def test_drawn_accurately_enough(self, study_settings, train, row):
        # the wings of a small bulge reach farther than GalSim would look
        galaxy = {**train.table.iloc[row], 'Bt': 0.98, 'axis_ratio_d': 1.0, 'axis_ratio_b': 1.0}
        galaxy |= {'sersic_idx_d': 1.0, 'R_e_d': 3.0, 'sersic_idx_b': 4.0, 'R_e_b': 0.5}
        truth = image_model_truth(galaxy, study_settings)

        def draw(accuracy):
            # a profile keeps the accuracy that it was first drawn with
            galaxy, psf = 30_000 * galaxy_profile(truth), psf_profile(truth)
            return draw_galaxy(galaxy, psf, (151, 151), 0.168, accuracy=accuracy).astype(float)

        exact = draw({'minimum_fft_size': 1024})
        assert (((draw(ACCURACY) - exact) / 0.05) ** 2).sum() < 0.5
        assert (((draw(None) - exact) / 0.05) ** 2).sum() > 10


class TestResume:
    def test_same_bytes_with_any_number_of_workers(self, tmp_path, monkeypatch, capsys):
        monkeypatch.setattr(dataset, 'CHUNK_SIZE', 2)
        for name, workers in {'one': 1, 'again': 1, 'two': 2}.items():
            write_study_dataset(tmp_path / name, FEW, workers=workers, progress=name == 'two')
            assert contents(tmp_path / name) == contents(tmp_path / 'one')
        assert '4/4' in capsys.readouterr().err

    def test_torn_and_foreign_images(self, study_folder, study_copy, study_settings, table, draws):
        paths = [study_copy / 'images' / name for name in table['file_name'][:5]]
        whole = paths[0].read_bytes()
        paths[0].write_bytes(whole[: len(whole) // 2])
        paths[1].write_bytes(b'')
        paths[2].write_bytes(whole)
        paths[3].unlink()
        # what a process that was killed leaves
        paths[4].with_name(paths[4].name + '.part').write_bytes(whole[:1000])
        os.utime(paths[4], (1_000_000_000, 1_000_000_000))
        (study_copy / 'gal_morph_test.csv').unlink()
        names = ', '.join(table['file_name'][:3])
        with pytest.warns(AstropyUserWarning, match=f'3 images are torn .* again: {names}$'):
            write_study_dataset(study_copy, study_settings, workers=1, progress=False)
        assert draws == list(table['img_number'][:4])
        assert paths[4].stat().st_mtime == 1_000_000_000
        assert contents(study_copy) == contents(study_folder)
        # and now nothing
        again = write_study_dataset(study_copy, study_settings, workers=1, progress=False)
        assert len(draws) == 4
        pd.testing.assert_frame_equal(again, table)
        assert contents(study_copy) == contents(study_folder)

    def test_interruption(self, tmp_path, monkeypatch, study_folder, study_settings, draws):
        draw = dataset.draw_image

        def interrupted(row, settings):
            # the settings are written first
            assert json.loads((tmp_path / 'settings.json').read_text())['n_train'] == 30
            if len(draws) == 3:
                raise KeyboardInterrupt
            return draw(row, settings)

        monkeypatch.setattr(dataset, 'draw_image', interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_study_dataset(tmp_path, study_settings, workers=1, progress=False)
        assert len(list((tmp_path / 'images').iterdir())) == 3
        with pytest.raises(FileNotFoundError, match='is half written'):
            load_set(tmp_path, 'train')
        monkeypatch.setattr(dataset, 'draw_image', draw)
        write_study_dataset(tmp_path, study_settings, workers=1, progress=False)
        assert len(draws) == 42
        assert contents(tmp_path) == contents(study_folder)

    def test_interruption_of_a_pool(self, tmp_path, monkeypatch, study_settings):
        def as_completed(futures):
            yield futures[0]
            raise KeyboardInterrupt

        monkeypatch.setattr(dataset, 'CHUNK_SIZE', 1)
        monkeypatch.setattr(dataset, 'spawn_pool', lambda *_: ThreadPoolExecutor(1))
        monkeypatch.setattr(dataset, 'as_completed', as_completed)
        with pytest.raises(KeyboardInterrupt):
            write_study_dataset(tmp_path, study_settings, workers=2, progress=False)
        # what had not begun was given up; what had is whole
        found = list((tmp_path / 'images').iterdir())
        assert 1 <= len(found) <= 4
        assert {path.suffix for path in found} == {'.fits'}
        assert len({path.stat().st_size for path in found}) == 1

    def test_what_is_refused(self, study_folder, study_settings, tmp_path):
        before = contents(study_folder)
        other = replace(study_settings, seed=6, psf_fwhm=0.8)
        message = r'was begun with seed=5, psf_fwhm=0.7, not with seed=6, psf_fwhm=0.8'
        with pytest.raises(ValueError, match=message):
            write_study_dataset(study_folder, other, workers=1, progress=False)
        with pytest.raises(FileExistsError, match='holds a data set: resume it, or name another'):
            write_study_dataset(study_folder, study_settings, resume=False, progress=False)
        assert contents(study_folder) == before
        with pytest.raises(ValueError, match='workers must be at least 1, got 0'):
            write_study_dataset(tmp_path, FEW, workers=0)

    @pytest.mark.parametrize('text', ['{"n_train": 3, "color": 1}', '{"n_train": ', '[1]'])
    def test_settings_that_are_none(self, tmp_path, text):
        (tmp_path / 'settings.json').write_text(text)
        with pytest.raises(ValueError, match=r'settings.json does not hold settings of the study'):
            read_settings(tmp_path)


class TestSet:
    def test_joined(self, study_folder, train, capsys):
        assert train.images.shape == (len(train), 143, 143) == (30, 143, 143)
        assert train.images.dtype == np.float32
        assert tuple(train.table.columns) == COLUMNS
        assert crop_centre(np.arange(151 * 145.0).reshape(151, 145))[71, 71] == 75 * 145 + 72
        for row in (0, 11, 29):
            whole = fits.getdata(study_folder / 'images' / train.table['file_name'].iloc[row])
            np.testing.assert_array_equal(train.images[row], whole[4:147, 4:147])
        assert capsys.readouterr().err == ''
        test = load_set(study_folder, 'test', progress=True)
        assert '12/12' in capsys.readouterr().err
        assert not set(test.table['img_number']) & set(train.table['img_number'])

    def test_numbers(self, study_folder, train):
        np.testing.assert_array_equal(train.flux, train.table['total_flux'])
        assert train.log_flux.dtype == np.float64
        np.testing.assert_allclose(train.log_flux, train.table['log_total_flux'], rtol=1e-12)
        # the stamp holds nearly all of the light: image and row belong together
        np.testing.assert_allclose(train.images.sum((1, 2), dtype=float), train.flux, rtol=0.15)
        assert (train.noise, train.pixel_scale, train.zeropoint) == (0.05, 0.168, 27.0)
        psf = train.psf
        assert psf.sum() == pytest.approx(1, abs=1e-12)
        np.testing.assert_allclose(psf, fits.getdata(study_folder / 'psf.fits'), rtol=1e-5)
        assert (psf.shape, np.unravel_index(psf.argmax(), psf.shape)) == ((43, 43), (21, 21))
        # the area above half of the peak is that of a circle of the FWHM
        width = 2 * np.sqrt((psf > psf.max() / 2).sum() / np.pi) * 0.168
        assert width == pytest.approx(0.7, abs=0.1)

    def test_cutouts(self, train):
        cutout = list(train.cutouts())[3]
        assert cutout.unit == u.adu
        assert isinstance(cutout.uncertainty, StdDevUncertainty)
        assert (cutout.uncertainty.array == np.full((143, 143), 0.05, np.float32)).all()
        np.testing.assert_array_equal(cutout.psf, train.psf)
        np.testing.assert_allclose(3600 * proj_plane_pixel_scales(cutout.wcs), 0.168)
        names = train.table[['img_number', 'file_name']].iloc[3].to_dict()
        assert cutout.meta == {'zeropoint': 27.0, **names}
        for row, some in zip([5, 2], train.cutouts([5, 2]), strict=True):
            np.testing.assert_array_equal(some.data, train.images[row])

    def test_estimators_take_the_cutouts(self, train):
        bright = np.argsort(train.flux)[-2:]
        table = KronFluxEstimator().measure(train.cutouts(bright), progress=False)
        np.testing.assert_allclose(table['flux'].to_value('adu'), train.flux[bright], rtol=0.15)

    def test_rows_in_another_order(self, study_copy, train):
        pd.read_csv(study_copy / TRAIN)[::-1].to_csv(study_copy / TRAIN, index=False)
        turned = load_set(study_copy, 'train')
        np.testing.assert_array_equal(turned.images, train.images[::-1])
        np.testing.assert_array_equal(turned.flux, train.flux[::-1])

    def test_a_set_of_ones_own(self):
        table = pd.DataFrame({'img_number': [7], 'total_flux': [100.0], 'file_name': ['7.fits']})
        own = StudySet(table, np.ones((1, 143, 143), np.float32), psf=np.ones((1, 1)), noise=0.1)
        assert own.log_flux == pytest.approx([2.0])
        assert own.pixel_scale == 0.168
        assert next(own.cutouts()).meta['img_number'] == 7


class TestDamage:
    def assert_refused(self, folder, message, error=ValueError):
        with pytest.raises(error, match=message):
            load_set(folder, 'train')

    def test_folder(self, study_copy, tmp_path, train):
        with pytest.raises(ValueError, match="which must be 'train' or 'test', got 'dev'"):
            load_set(study_copy, 'dev')
        self.assert_refused(tmp_path, 'holds no data set .* no settings.json', FileNotFoundError)
        table = pd.read_csv(study_copy / TRAIN)
        table[:20].to_csv(study_copy / TRAIN, index=False)
        self.assert_refused(study_copy, 'has 20 rows, but the settings of the data set say 30')
        for name in (TRAIN, 'psf.fits'):
            (study_copy / name).unlink()
            half = f'is half written: it has no {name}. Write'
            self.assert_refused(study_copy, half, FileNotFoundError)
            table.to_csv(study_copy / TRAIN, index=False)

    def test_missing_images(self, study_copy, train):
        names = train.table['file_name'][[3, 20]].tolist()
        for name in names:
            (study_copy / 'images' / name).unlink()
        message = rf'lacks 2 of 30 images: row 3 \({names[0]}\), row 20 \({names[1]}\). Write'
        self.assert_refused(study_copy, message, FileNotFoundError)
        (study_copy / 'images').rename(study_copy / 'pictures')
        self.assert_refused(study_copy, 'lacks 30 of 30 .* and 25 more', FileNotFoundError)

    @pytest.mark.parametrize('part', [2880, 50_000, 0])
    def test_torn_image(self, study_copy, train, part):
        path = study_copy / 'images' / train.table['file_name'][2]
        path.write_bytes(path.read_bytes()[:part])
        self.assert_refused(
            study_copy, f'{path.name}( is not a whole FITS file|: want a 2-d image)'
        )

    @pytest.mark.parametrize(
        ('data', 'cards', 'message'),
        [
            (np.zeros((151, 151)), {'TOTFLUX': 1.5}, ' has TOTFLUX 1.5 .*, but .* has total_flux'),
            (np.zeros((151, 151)), {'IMGNUM': -1}, ' has IMGNUM -1 .*, but .* has img_number'),
            (np.zeros((151, 151)), {'IMGNUM': None}, ' has IMGNUM .* in its header'),
            (np.zeros((151, 101)), {}, r': want at least 143 x 143 .*the shape \(151, 101\)'),
            (np.zeros((1, 151, 151)), {}, r': want a 2-d image, got the shape \(1'),
            (None, {}, ': want a 2-d image, got the shape None'),
            (np.full((151, 151), np.nan), {}, ': the image has pixels that are not finite'),
        ],
    )
    def test_faulty_image(self, study_copy, train, data, cards, message):
        path = study_copy / 'images' / train.table['file_name'][2]
        header = fits.getheader(path)
        header.update(cards)
        fits.PrimaryHDU(data, header).writeto(path, overwrite=True)
        self.assert_refused(study_copy, path.name + message)

    def test_psf(self, study_copy):
        fits.PrimaryHDU(np.zeros((5, 5))).writeto(study_copy / 'psf.fits', overwrite=True)
        self.assert_refused(study_copy, r'psf.fits must hold a 2-d image with a positive sum')
