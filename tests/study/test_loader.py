# Licensed under a 3-clause BSD style license - see LICENSE.rst
import re

import numpy as np
import pandas as pd
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.nddata import StdDevUncertainty
from astropy.wcs.utils import proj_plane_pixel_scales

pytest.importorskip('galsim')

from astroflux.estimators import KronFluxEstimator
from astroflux.study.images import crop_centre
from astroflux.study.loader import COLUMNS, StudySet, flux_of_log10, load_set, log10_flux

TRAIN = 'gal_morph_train_val.csv'


@pytest.fixture(scope='module')
def train(study_folder):
    return load_set(study_folder, 'train')


def spoil(folder, change):
    """Change the training table of a folder."""
    table = pd.read_csv(folder / TRAIN)
    table = change(table)
    table.to_csv(folder / TRAIN, index=False)
    return table


class TestSet:
    def test_joined(self, study_folder, train):
        assert len(train) == 30
        assert train.images.shape == (30, 143, 143)
        assert train.images.dtype == np.float32
        assert tuple(train.table.columns) == COLUMNS
        for row in (0, 11, 29):
            name = train.table['file_name'].iloc[row]
            whole = fits.getdata(study_folder / 'images' / name)
            np.testing.assert_array_equal(train.images[row], whole[4:147, 4:147])

    def test_sets_are_disjoint(self, study_folder, train):
        test = load_set(study_folder, 'test')
        assert len(test) == 12
        assert not set(test.table['img_number']) & set(train.table['img_number'])

    def test_flux(self, train):
        np.testing.assert_array_equal(train.flux, train.table['total_flux'])
        assert train.log_flux.dtype == np.float64
        np.testing.assert_allclose(train.log_flux, train.table['log_total_flux'], rtol=1e-12)
        # the stamp holds nearly all of the light: image and row belong together
        np.testing.assert_allclose(train.images.sum((1, 2), dtype=float), train.flux, rtol=0.15)

    def test_constants(self, study_folder, train):
        assert train.noise == 0.05
        assert train.pixel_scale == 0.168
        assert train.zeropoint == 27.0
        assert train.psf.shape == (43, 43)
        assert train.psf.sum() == pytest.approx(1, abs=1e-12)
        np.testing.assert_allclose(train.psf, fits.getdata(study_folder / 'psf.fits'), rtol=1e-5)

    def test_cutouts(self, train):
        cutouts = list(train.cutouts())
        assert len(cutouts) == 30
        cutout = cutouts[3]
        np.testing.assert_array_equal(cutout.data, train.images[3])
        assert cutout.unit == u.adu
        assert isinstance(cutout.uncertainty, StdDevUncertainty)
        assert (cutout.uncertainty.array == np.float32(0.05)).all()
        assert cutout.uncertainty.array.shape == (143, 143)
        np.testing.assert_array_equal(cutout.psf, train.psf)
        np.testing.assert_allclose(3600 * proj_plane_pixel_scales(cutout.wcs), 0.168)
        assert cutout.meta['zeropoint'] == 27.0
        assert cutout.meta['file_name'] == train.table['file_name'][3]
        assert cutout.meta['img_number'] == train.table['img_number'][3]

    def test_some_cutouts(self, train):
        rows = [5, 2]
        for row, cutout in zip(rows, train.cutouts(rows), strict=True):
            np.testing.assert_array_equal(cutout.data, train.images[row])

    def test_estimators_take_the_cutouts(self, train):
        bright = np.argsort(train.flux)[-2:]
        table = KronFluxEstimator().measure(train.cutouts(bright), progress=False)
        assert table['flux'].unit == u.adu
        np.testing.assert_allclose(table['flux'].value, train.flux[bright], rtol=0.15)

    def test_order_of_columns(self, study_copy, train):
        spoil(study_copy, lambda table: table[sorted(table.columns)])
        table = load_set(study_copy, 'train').table
        pd.testing.assert_frame_equal(table, train.table)

    def test_rows_need_not_be_in_the_order_of_the_catalogue(self, study_copy, train):
        spoil(study_copy, lambda table: table[::-1])
        turned = load_set(study_copy, 'train')
        np.testing.assert_array_equal(turned.images, train.images[::-1])
        np.testing.assert_array_equal(turned.flux, train.flux[::-1])

    def test_progress(self, study_folder, capsys):
        load_set(study_folder, 'test', progress=True)
        assert '12/12' in capsys.readouterr().err
        load_set(study_folder, 'test')
        assert capsys.readouterr().err == ''


class TestTableErrors:
    def assert_refused(self, folder, error, message):
        with pytest.raises(error, match=message):
            load_set(folder, 'train')

    def test_which(self, study_folder):
        with pytest.raises(ValueError, match="which must be 'train' or 'test', got 'dev'"):
            load_set(study_folder, 'dev')

    def test_column(self, study_copy):
        spoil(study_copy, lambda table: table.rename(columns={'sersic_idx_d': 'seraic_idx_d'}))
        message = 'missing: sersic_idx_d; unknown: seraic_idx_d'
        self.assert_refused(study_copy, ValueError, message)

    def test_missing_columns(self, study_copy):
        spoil(study_copy, lambda table: table.drop(columns=['Bt', 'R_e']))
        self.assert_refused(study_copy, ValueError, 'missing: R_e, Bt; unknown: none')

    @pytest.mark.parametrize('flux', [-3.0, 0.0, np.nan, np.inf])
    def test_flux(self, study_copy, flux):
        def change(table):
            table.loc[4, 'total_flux'] = flux
            return table

        table = spoil(study_copy, change)
        name = re.escape(table['file_name'][4])
        message = rf'has a total_flux that is not positive and finite: row 4 \({name}\)$'
        self.assert_refused(study_copy, ValueError, message)

    def test_many_bad_fluxes(self, study_copy):
        def change(table):
            table.loc[2:8, 'total_flux'] *= -1
            return table

        spoil(study_copy, change)
        self.assert_refused(study_copy, ValueError, r'row 2 \(.*row 6 \(\d+.fits\) and 2 more')

    def test_text_in_a_column(self, study_copy):
        def change(table):
            table['R_e_b'] = table['R_e_b'].astype(object)
            table.loc[1, 'R_e_b'] = 'large'
            return table

        spoil(study_copy, change)
        self.assert_refused(
            study_copy, ValueError, r'has a R_e_b that is not a finite number: row 1 \('
        )

    def test_hole_in_a_column(self, study_copy):
        def change(table):
            table.loc[1, 'PA_d'] = np.nan
            return table

        spoil(study_copy, change)
        self.assert_refused(
            study_copy, ValueError, r'has a PA_d that is not a finite number: row 1 \('
        )

    def test_no_name(self, study_copy):
        def change(table):
            table.loc[1, 'file_name'] = None
            return table

        spoil(study_copy, change)
        self.assert_refused(study_copy, ValueError, r'has no file_name: row 1 \(')

    def test_logarithm(self, study_copy):
        def change(table):
            table.loc[9, 'log_total_flux'] += 0.01
            return table

        spoil(study_copy, change)
        self.assert_refused(study_copy, ValueError, r'not the logarithm of total_flux: row 9 \(')

    def test_twice(self, study_copy):
        spoil(study_copy, lambda table: pd.concat([table[:-1], table[:1]]))
        self.assert_refused(study_copy, ValueError, r'an img_number that is there twice: row 29 \(')

    def test_rows_missing(self, study_copy):
        spoil(study_copy, lambda table: table[:20])
        message = 'has 20 rows, but the settings of the data set say 30'
        self.assert_refused(study_copy, ValueError, message)


class TestFolderErrors:
    def test_no_data_set(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r'holds no data set .* no settings.json'):
            load_set(tmp_path, 'train')

    @pytest.mark.parametrize('name', [TRAIN, 'psf.fits'])
    def test_half_written(self, study_copy, name):
        (study_copy / name).unlink()
        with pytest.raises(FileNotFoundError, match=f'is half written: it has no {name}. Write'):
            load_set(study_copy, 'train')

    def test_missing_images(self, study_copy, train):
        names = train.table['file_name'][[3, 20]].tolist()
        for name in names:
            (study_copy / 'images' / name).unlink()
        message = rf'lacks 2 of 30 images: row 3 \({names[0]}\), row 20 \({names[1]}\). Write'
        with pytest.raises(FileNotFoundError, match=message):
            load_set(study_copy, 'train')

    def test_no_images(self, study_copy):
        (study_copy / 'images').rename(study_copy / 'pictures')
        with pytest.raises(FileNotFoundError, match=r'lacks 30 of 30 images: .* and 25 more'):
            load_set(study_copy, 'train')

    def replace_image(self, folder, train, data, row=2, **cards):
        path = folder / 'images' / train.table['file_name'][row]
        header = fits.getheader(path)
        header.update(cards)
        fits.PrimaryHDU(data, header).writeto(path, overwrite=True)
        return path

    @pytest.mark.parametrize(('size', 'rows'), [(2880, 1), (0.5, 1), (0, 1)])
    def test_torn_image(self, study_copy, train, size, rows):
        path = study_copy / 'images' / train.table['file_name'][2]
        whole = path.read_bytes()
        path.write_bytes(whole[: size if size > 1 else int(size * len(whole))])
        message = f'{path.name}( is not a whole FITS file|: want a 2-d image)'
        with pytest.raises(ValueError, match=message):
            load_set(study_copy, 'train')

    def test_other_number(self, study_copy, train):
        one, other = (study_copy / 'images' / train.table['file_name'][row] for row in (2, 3))
        one.write_bytes(other.read_bytes())
        wanted, found = train.table['img_number'][[2, 3]]
        message = f'has IMGNUM {found} in its header, but the table has img_number {wanted}'
        with pytest.raises(ValueError, match=message):
            load_set(study_copy, 'train')

    def test_other_flux(self, study_copy, train):
        self.replace_image(study_copy, train, np.zeros((151, 151)), TOTFLUX=1.5)
        message = 'has TOTFLUX 1.5 in its header, but the table has total_flux'
        with pytest.raises(ValueError, match=message):
            load_set(study_copy, 'train')

    def test_no_number(self, study_copy, train):
        path = study_copy / 'images' / train.table['file_name'][0]
        fits.PrimaryHDU(np.zeros((151, 151))).writeto(path, overwrite=True)
        with pytest.raises(ValueError, match='has IMGNUM None in its header'):
            load_set(study_copy, 'train')

    def test_small_image(self, study_copy, train):
        path = self.replace_image(study_copy, train, np.zeros((151, 101)))
        message = rf'{path.name}: want at least 143 x 143 pixels, got the shape \(151, 101\)'
        with pytest.raises(ValueError, match=message):
            load_set(study_copy, 'train')

    def test_cube(self, study_copy, train):
        path = self.replace_image(study_copy, train, np.zeros((1, 151, 151)))
        with pytest.raises(ValueError, match=rf'{path.name}: want a 2-d image, got the shape \(1'):
            load_set(study_copy, 'train')

    def test_no_image(self, study_copy, train):
        path = self.replace_image(study_copy, train, None)
        with pytest.raises(ValueError, match=f'{path.name}: want a 2-d image, got the shape None'):
            load_set(study_copy, 'train')

    def test_pixels(self, study_copy, train):
        data = np.zeros((151, 151))
        data[80, 80] = np.nan
        self.replace_image(study_copy, train, data)
        with pytest.raises(ValueError, match='the image has pixels that are not finite'):
            load_set(study_copy, 'train')

    def test_psf(self, study_copy):
        fits.PrimaryHDU(np.zeros((5, 5))).writeto(study_copy / 'psf.fits', overwrite=True)
        with pytest.raises(ValueError, match=r'psf.fits must hold a 2-d image with a positive sum'):
            load_set(study_copy, 'train')


def test_crop():
    image = np.arange(151 * 145.0).reshape(151, 145)
    cropped = crop_centre(image)
    assert cropped.shape == (143, 143)
    assert cropped[71, 71] == image[75, 72]


class TestLogarithm:
    def test_there_and_back(self):
        flux = np.array([1e-3, 1.0, 27.5, 30_000.0])
        np.testing.assert_allclose(log10_flux(flux), [-3, 0, 1.439332694, 4.477121255])
        np.testing.assert_allclose(flux_of_log10(log10_flux(flux)), flux, rtol=1e-14)

    def test_float32_keeps_its_value(self):
        log_flux = log10_flux(np.array([12345.67], np.float32))
        assert log_flux.dtype == np.float64
        assert flux_of_log10(np.float32([4.0])).dtype == np.float64

    def test_refused(self):
        flux = [1.0, -2.0, 3.0, 0.0, np.nan, np.inf]
        message = '-2 in row 1, 0 in row 3, nan in row 4, inf in row 5$'
        with pytest.raises(ValueError, match=message):
            log10_flux(flux)

    def test_many_refused(self):
        with pytest.raises(ValueError, match=r'0 in row 4 and 3 more$'):
            log10_flux(np.zeros(8))

    def test_missing_predictions_stay_missing(self):
        np.testing.assert_array_equal(flux_of_log10([np.nan, 2.0]), [np.nan, 100.0])


def test_a_set_of_ones_own():
    table = pd.DataFrame({'img_number': [7], 'total_flux': [100.0], 'file_name': ['7.fits']})
    images = np.ones((1, 143, 143), np.float32)
    own = StudySet(table=table, images=images, psf=np.ones((1, 1)), noise=0.1)
    assert own.log_flux == pytest.approx([2.0])
    assert own.pixel_scale == 0.168
    assert next(own.cutouts()).meta['img_number'] == 7
