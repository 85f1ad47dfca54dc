# Licensed under a 3-clause BSD style license - see LICENSE.rst
import json

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import NDData, StdDevUncertainty

from astroflux import ApertureFluxEstimator, KronFluxEstimator, decode_flags


def test_flux_of_known_galaxy(make_ccd):
    # nearly all light within 25 pixels, nearly no noise
    flux = ApertureFluxEstimator(radius=25).predict(make_ccd(sigma=0.001))
    np.testing.assert_allclose(flux.value, 2000.0, rtol=1e-3)


def test_error_is_that_of_the_noise(make_ccd):
    estimator = ApertureFluxEstimator(radius=8)
    ccds = [make_ccd(seed=seed, flux=0.0, sigma=2.0) for seed in range(200)]
    table = estimator.measure(ccds)
    np.testing.assert_allclose(table['flux_err'].value, 2 * np.sqrt(np.pi) * 8, rtol=0.01)
    assert abs(np.std(table['flux'] / table['flux_err']) - 1) < 0.15
    assert all('LOW_SNR' in names for names in decode_flags(table['flags'][:20]))


def test_angle(make_ccd):
    ccd = make_ccd(wcs=True)
    expected = ApertureFluxEstimator(radius=10).predict(ccd)
    for radius in (1.68 * u.arcsec, 10 * u.pix, (1.68 / 60) * u.arcmin):
        flux = ApertureFluxEstimator(radius=radius).predict(ccd)
        np.testing.assert_allclose(flux.value, expected.value, rtol=1e-5)


def test_angle_without_pixel_scale(make_ccd):
    table = ApertureFluxEstimator(radius=2 * u.arcsec).measure([make_ccd(), make_ccd(wcs=True)])
    assert 'FAILED' in decode_flags(table['flags'])[0]
    assert 'needs a pixel scale, but the cutout has no WCS' in table.meta['messages'][0]
    assert np.isfinite(table['flux'][1])


def test_annulus(make_ccd):
    plain = make_ccd((101, 101))
    raised = make_ccd((101, 101))
    raised.data += 0.7
    estimator = ApertureFluxEstimator(radius=12, background='annulus')
    table = estimator.measure([plain, raised])
    np.testing.assert_allclose(table['flux'][0].value, table['flux'][1].value, rtol=1e-9)
    without = ApertureFluxEstimator(radius=12).measure([plain, raised])
    assert without['flux'][1] > 1.1 * without['flux'][0]
    assert np.all(table['flux_err'] > without['flux_err'])
    np.testing.assert_allclose(table['flux'][0].value, without['flux'][0].value, rtol=0.03)


def test_annulus_beyond_the_stamp(make_ccd):
    estimator = ApertureFluxEstimator(radius=12, background='annulus', annulus=(60, 70))
    table = estimator.measure([make_ccd((41, 41)), make_ccd((151, 151))])
    assert 'FAILED' in decode_flags(table['flags'])[0]
    assert 'no good pixel in the annulus' in table.meta['messages'][0]
    assert np.isfinite(table['flux'][1])


def test_no_good_pixel(make_ccd):
    mask = np.zeros((61, 61), bool)
    mask[20:41, 20:41] = True
    table = ApertureFluxEstimator(radius=5).measure(make_ccd(mask=mask))
    assert 'NO_PIXELS' in decode_flags(table['flags'])[0]
    assert 'no good pixel within 5 pixels' in table.meta['messages'][0]


@pytest.mark.parametrize(
    ('params', 'error', 'text'),
    [
        ({'radius': 0}, ValueError, 'radius must be positive and finite, got 0'),
        ({'radius': np.nan}, ValueError, 'radius must be positive and finite, got nan'),
        ({'radius': 1 * u.m}, u.UnitsError, "in pixels or an angle, got the unit 'm'"),
        ({'background': 'mean'}, ValueError, "must be 'none' or 'annulus', got 'mean'"),
        ({'background': 'annulus', 'annulus': (3,)}, ValueError, 'an inner and an outer radius'),
        ({'background': 'annulus', 'annulus': (9, 3)}, ValueError, 'outer radius must exceed'),
    ],
)
def test_bad_params(make_ccd, params, error, text):
    with pytest.raises(error, match=text):
        ApertureFluxEstimator(**params).predict(make_ccd())


def test_save_quantity(tmp_path, make_ccd):
    path = tmp_path / 'aperture.json'
    estimator = ApertureFluxEstimator(radius=2 * u.arcsec, annulus=(np.float64(20), 30))
    estimator.save(path)
    content = json.loads(path.read_text())
    assert content['estimator'] == 'ApertureFluxEstimator'
    assert content['params']['radius'] == {'value': 2.0, 'unit': 'arcsec'}
    assert content['fitted'] == {}
    again = ApertureFluxEstimator.load(path)
    assert again.radius == 2 * u.arcsec
    assert again.annulus == (20, 30)


def test_load_refuses(tmp_path):
    path = tmp_path / 'kron.json'
    KronFluxEstimator().save(path)
    with pytest.raises(ValueError, match="not hold a ApertureFluxEstimator, but 'KronFlux"):
        ApertureFluxEstimator.load(path)
    path.write_text('nonsense')
    with pytest.raises(ValueError, match='not a file of a saved ApertureFluxEstimator'):
        ApertureFluxEstimator.load(path)
    path.write_text('[1]')
    with pytest.raises(ValueError, match="but 'list'"):
        ApertureFluxEstimator.load(path)
    path.write_text('{"estimator": "ApertureFluxEstimator", "params": {"size": 1}}')
    with pytest.raises(ValueError, match=r"parameters that .* does not know: \['size'\]"):
        ApertureFluxEstimator.load(path)


def test_unsaveable_parameter_leaves_the_file(tmp_path):
    path = tmp_path / 'aperture.json'
    path.write_text('before')
    with pytest.raises(TypeError, match='a parameter of type object cannot be saved'):
        ApertureFluxEstimator(radius=object()).save(path, overwrite=True)
    assert path.read_text() == 'before'


def test_surface_brightness_of_a_stamp(make_ccd):
    # per solid angle becomes flux through the pixel area of the WCS
    ccd = make_ccd(wcs=True)
    area = (0.168 * u.arcsec) ** 2
    bright = NDData(
        ccd.data / area.value,
        unit=u.nJy / u.arcsec**2,
        uncertainty=StdDevUncertainty(ccd.uncertainty.array / area.value),
        wcs=ccd.wcs,
    )
    estimator = ApertureFluxEstimator(radius=10)
    flux = estimator.predict(bright)
    assert flux.unit.is_equivalent(u.nJy)
    np.testing.assert_allclose(flux.to_value(u.nJy), estimator.predict(ccd).value, rtol=1e-4)
