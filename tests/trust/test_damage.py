# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What damaged inputs have shown: each of these once ended otherwise."""

import json

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.nddata import CCDData, StdDevUncertainty
from astropy.table import QTable
from astropy.wcs import WCS

from astroflux import ApertureFluxEstimator, KronFluxEstimator, decode_flags, read_cutout
from astroflux.evaluation.sources import DatasetSource
from astroflux.simulation.dataset import TRUTH_NAME


def galaxy(noise=1.0):
    y, x = np.mgrid[:31, :31] - 15
    data = 50 * np.exp(-(x**2 + y**2) / 18) + np.random.default_rng(0).normal(size=x.shape)
    return CCDData(data, unit='adu', uncertainty=StdDevUncertainty(np.full(x.shape, noise)))


ESTIMATOR = ApertureFluxEstimator(radius=6.0)


@pytest.mark.parametrize(
    ('name', 'value'),
    [
        ('positions', 15 * u.pix),
        ('positions', np.array(15.0)),
        ('positions', (10**400, 15)),
        ('psf', SkyCoord(150, 2, unit='deg')),
        ('psf_fwhm', 10**400),
        ('zeropoint', 10**400),
        ('error', 1 * u.ABmag),
        ('effective_gain', 1 * u.mag),
        ('noise_correlation', 1 * u.m),
    ],
)
def test_odd_keywords_are_named(name, value):
    with pytest.raises((TypeError, ValueError, u.UnitsError), match=name):
        ESTIMATOR.measure(galaxy(), **{name: value})


def test_a_width_beyond_all_numbers():
    assert np.isfinite(ESTIMATOR.measure(galaxy(), psf_fwhm=1e200)['flux'][0])


@pytest.mark.parametrize('label', [[1, 2], {1}, {'a': 1}])
def test_labels_that_are_no_labels(label):
    table = QTable({'id': [1, 2], 'x': [15.0, 14.0], 'y': [15.0, 16.0]})
    with pytest.raises(TypeError, match='labels must be integers or strings'):
        ESTIMATOR.measure(galaxy(), positions=table, labels=np.array([label, None], object))


def test_a_data_frame_of_odd_bytes():
    pandas = pytest.importorskip('pandas')
    frame = pandas.DataFrame({'id': [b'\xff', 'a'], 'x': [15.0, 14.0], 'y': [15.0, 16.0]})
    with pytest.raises(ValueError, match='positions is a table with text that is none'):
        ESTIMATOR.measure(galaxy(), positions=frame)


def test_bytes_among_identifiers():
    table = QTable({'x': [15.0, 14.0], 'y': [15.0, 16.0]})
    table['id'] = np.array([b'\xff', 3], object)
    names = ESTIMATOR.measure(galaxy(), positions=table)['id']
    assert list(names) == ['\ufffd', '3']


def test_pixels_without_an_end():
    rng = np.random.default_rng(0)
    data = np.exp(250 * rng.uniform(-1, 1, (41, 41)))
    table = ESTIMATOR.measure([CCDData(data, unit='adu'), galaxy()])
    assert np.isfinite(table['flux'][1])


@pytest.mark.parametrize('name', ['BSOFTEN', 'BOFFSET'])
def test_half_of_a_scale_of_asinh_magnitudes(tmp_path, name):
    hdu = fits.PrimaryHDU(galaxy().data)
    hdu.header[name] = 1.0
    hdu.writeto(tmp_path / 'a.fits')
    with pytest.raises(OSError, match=f'its header has {name} alone'):
        read_cutout(tmp_path / 'a.fits')


def test_some_of_a_list_of_maps_may_be_none():
    table = ESTIMATOR.measure([galaxy(), galaxy()], error=[np.full((31, 31), 2.0), None])
    np.testing.assert_allclose(table['flux_err'][0], 2 * table['flux_err'][1])


@pytest.mark.parametrize('noise', [1e-200, 1e200])
def test_an_error_of_zero_or_infinity_is_none(noise):
    table = ESTIMATOR.measure([galaxy(noise), galaxy()])
    assert 'FAILED' in decode_flags(table['flags'][0])
    assert np.isnan(table['flux'][0])
    assert 'no error above zero that is finite' in table.meta['messages'][0]
    assert np.isfinite(table['flux'][1])


def test_correlation_of_huge_noise():
    one, huge = (
        ESTIMATOR.measure(galaxy(noise), noise_correlation=2.0)['flux_err'][0].value
        for noise in (1.0, 1e140)
    )
    np.testing.assert_allclose(huge, 1e140 * one)


def test_a_psf_wider_than_the_stamp_smooths_it_no_more():
    # a kernel of its size would take all memory
    table = KronFluxEstimator().measure(galaxy(), psf_fwhm=1e6)
    assert len(table) == 1


@pytest.mark.filterwarnings('ignore::astropy.utils.exceptions.AstropyWarning')
def test_bytes_beyond_ascii_in_a_wcs(tmp_path):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = 'RA---TAN', 'DEC--TAN'
    path = tmp_path / 'a.fits'
    fits.PrimaryHDU(galaxy().data, header=wcs.to_header()).writeto(path)
    content = path.read_bytes().replace(b'CRVAL1  =', b'CRVAL\xb1  =')
    path.write_bytes(content)
    # wcslib would end the process
    assert read_cutout(path).shape == (31, 31)


def test_identifiers_with_a_unit_or_of_odd_bytes():
    for identifier in ([7] * u.pix, np.array([b'\xff'])):
        table = QTable({'id': identifier, 'x': [15.0], 'y': [15.0]})
        assert len(ESTIMATOR.measure(galaxy(), positions=table)) == 1


@pytest.mark.parametrize(
    ('change', 'text'),
    [
        ({'params': 1}, "'params' and 'fitted'"),
        ({'fitted': []}, "'params' and 'fitted'"),
        ({'params': {'finder__x': 1}}, 'finder|Invalid parameter'),
        ({'params': {'radius': {'value': 'x', 'unit': 'm'}}}, 'not a file of a saved'),
        ({'params': {'radius': {'value': 1, 'unit': 'parrots'}}}, 'not a file of a saved'),
        ({'fitted': {'aperture_correction_': 'x'}}, 'not a file of a saved'),
    ],
)
def test_odd_saved_estimators(tmp_path, change, text):
    path = tmp_path / 'a.json'
    ESTIMATOR.save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match=text):
        ApertureFluxEstimator.load(path)


@pytest.mark.parametrize('value', ['x', [1, 2], 3 * u.m, 10**400, np.nan, -1.0])
def test_odd_parameters_are_named(value):
    estimator = KronFluxEstimator().set_params(finder__n_sigma=value)
    with pytest.raises(ValueError, match='n_sigma must be positive, got'):
        estimator.measure(galaxy())


@pytest.mark.parametrize('content', [b'', b'\xff\xfe', b'# %ECSV 1.0\n# ---\n# {datatype: 1}\nx\n'])
def test_a_damaged_table_of_truth(tmp_path, content):
    (tmp_path / TRUTH_NAME).write_bytes(content)
    with pytest.raises(ValueError, match='is no readable table'):
        DatasetSource(tmp_path)
