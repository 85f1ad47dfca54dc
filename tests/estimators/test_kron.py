# Licensed under a 3-clause BSD style license - see LICENSE.rst
import numpy as np
import pytest
from astropy import units as u
from astropy.utils.exceptions import AstropyUserWarning

from astroflux import KronFluxEstimator, decode_flags
from astroflux.estimators import SourceFinder


@pytest.fixture
def estimator():
    return KronFluxEstimator()


def test_extra_columns(estimator, make_ccd):
    table = estimator.measure(make_ccd(sigma=0.1))
    assert table.colnames[-3:] == ['kron_radius', 'semimajor_axis', 'axis_ratio']
    assert table['semimajor_axis'].unit == u.pix
    assert abs(table['axis_ratio'][0] - 0.7) < 0.07
    assert table['kron_radius'][0] >= 1.4


def test_lengths_are_angles_with_a_pixel_scale(estimator, make_ccd):
    with_wcs = make_ccd(wcs=True)
    table = estimator.measure([with_wcs, with_wcs])
    pixels = estimator.measure(make_ccd())['semimajor_axis'][0].value
    assert table['semimajor_axis'].unit == u.arcsec
    np.testing.assert_allclose(table['semimajor_axis'].value, pixels * 0.168, rtol=1e-6)
    # known for some only
    assert estimator.measure([with_wcs, make_ccd()])['semimajor_axis'].unit == u.pix
    # what is not measured does not count
    table = estimator.measure([with_wcs, 'no_such_file.fits'])
    assert table['semimajor_axis'].unit == u.arcsec


def test_not_detected(estimator, make_ccd):
    table = estimator.measure([make_ccd(flux=0.0), make_ccd()])
    assert 'NOT_DETECTED' in decode_flags(table['flags'])[0]
    assert 'no source within 5 pixels of the position' in table.meta['messages'][0]
    assert 'NOT_DETECTED' not in decode_flags(table['flags'])[1]


def test_large_masked_region(estimator, make_ccd):
    # larger than the kernel, which astropy's convolution warns of
    mask = np.zeros((61, 61), bool)
    mask[:20] = True
    flux = estimator.predict(make_ccd(mask=mask))
    np.testing.assert_allclose(flux, estimator.predict(make_ccd()), rtol=0.01)


def test_match_radius(make_ccd):
    ccd = make_ccd(centre=(30.0, 40.0), flux=500.0, scale=1.0)
    with pytest.warns(AstropyUserWarning, match='1 of 1 cutouts was not measured: 1 NOT_DETECTED;'):
        assert np.isnan(KronFluxEstimator(finder=SourceFinder(match_radius=2.0)).predict(ccd))
    assert np.isfinite(KronFluxEstimator(finder=SourceFinder(match_radius=9.0)).predict(ccd))


def test_no_smoothing(make_ccd):
    ccd = make_ccd(sigma=0.1)
    plain = KronFluxEstimator(finder=SourceFinder(kernel_fwhm=0)).predict(ccd)
    smooth = KronFluxEstimator(finder=SourceFinder(kernel_fwhm=3.0)).predict(ccd)
    assert plain != smooth
    np.testing.assert_allclose(plain.value, smooth.value, rtol=0.05)


def test_neighbours(make_ccd, draw_galaxy):
    shape = (81, 81)
    ccd = make_ccd(shape, flux=5000.0, sigma=0.5)
    alone = KronFluxEstimator().predict(ccd)
    ccd.data += draw_galaxy(shape, flux=4000.0, scale=1.2, centre=(52.0, 40.0))
    flux = {
        method: KronFluxEstimator(neighbors=method).predict(ccd).value
        for method in ('correct', 'mask', 'none')
    }
    assert flux['mask'] < flux['correct'] < flux['none']
    assert abs(flux['correct'] / alone.value - 1) < 0.15
    assert 'NEIGHBOUR' in decode_flags(KronFluxEstimator().measure(ccd)['flags'])[0]


def test_circular_minimum(make_ccd):
    # a least radius larger than the galaxy gives a circle
    table = KronFluxEstimator(kron_params=(2.5, 1.4, 25.0)).measure(make_ccd())
    assert table['semimajor_axis'][0] == 25 * u.pix
    assert table['axis_ratio'][0] == 1


def test_exception_costs_one_row(estimator, many, monkeypatch):
    expected = estimator.predict(many)
    find, calls = SourceFinder.find, []

    def failing(*args, **kwargs):
        calls.append(None)
        if len(calls) == 3:
            msg = 'the pixels are odd'
            raise ValueError(msg)
        return find(*args, **kwargs)

    monkeypatch.setattr(SourceFinder, 'find', failing)
    table = estimator.measure(many)
    assert 'FAILED' in decode_flags(table['flags'])[2]
    assert table.meta['messages'] == {2: 'ValueError: the pixels are odd'}
    rest = [0, 1, 3, 4, 5]
    np.testing.assert_array_equal(table['flux'][rest], expected[rest])


def test_fault_of_the_program_is_not_hidden(estimator, many, monkeypatch):
    monkeypatch.setattr(SourceFinder, 'find', lambda: None)
    with pytest.raises(TypeError):
        estimator.predict(many)


@pytest.mark.parametrize(
    ('params', 'text'),
    [
        ({'neighbors': 'remove'}, "neighbors must be 'correct', 'mask' or 'none', got 'remove'"),
        ({'finder__n_sigma': 0}, 'n_sigma must be positive, got 0'),
        ({'finder__n_pixels': 0}, 'n_pixels must be a positive integer, got 0'),
        ({'finder__n_levels': 1.5}, 'n_levels must be a positive integer, got 1.5'),
        ({'finder__contrast': 2}, 'contrast must be between 0 and 1, got 2'),
        ({'finder__kernel_fwhm': -1}, 'kernel_fwhm must not be negative, got -1'),
        ({'finder__match_radius': -1}, 'match_radius must not be negative, got -1'),
        ({'kron_params': (2.5, 1.4)}, r'kron_params must be three numbers, got \(2.5, 1.4\)'),
    ],
)
def test_bad_params(make_ccd, params, text):
    # raised when measuring, before the input is touched, and not by the constructor
    estimator = KronFluxEstimator().set_params(**params)
    with pytest.raises(ValueError, match=text):
        estimator.predict(make_ccd())


def test_fit(estimator, many):
    truth = 1500.0 * 1.5 ** np.arange(len(many)) * u.nJy
    before = estimator.measure(many)
    assert estimator.fit(many, truth.to(u.Jy)) is estimator
    correction = estimator.aperture_correction_
    np.testing.assert_allclose(correction, np.median(truth / before['flux']))
    after = estimator.measure(many)
    for name in ('flux', 'flux_err', 'flux_lower', 'flux_upper'):
        np.testing.assert_allclose(after[name], before[name] * correction)
    np.testing.assert_allclose(after['snr'], before['snr'])
    # fitting twice is like fitting once
    assert estimator.fit(many, truth).aperture_correction_ == pytest.approx(correction, rel=1e-12)


def test_fit_without_any_measurement(estimator, make_ccd):
    with pytest.raises(ValueError, match='none of the 1 cutouts has a positive measured flux'):
        estimator.fit([make_ccd(flux=0.0)], [1.0] * u.nJy)
    assert not hasattr(estimator, 'aperture_correction_')


def test_score_needs_two(estimator, make_ccd):
    with pytest.raises(ValueError, match='at least 2 cutouts'):
        estimator.score([make_ccd()], [2000.0] * u.nJy)


def test_save_keeps_params_and_correction(make_ccd, many, tmp_path):
    truth = 1500.0 * 1.5 ** np.arange(len(many)) * u.nJy
    estimator = KronFluxEstimator(
        finder=SourceFinder(n_sigma=2.0), kron_params=(3.0, 1.4, 0.0)
    ).fit(many, truth)
    estimator.save(tmp_path / 'kron.json')
    again = KronFluxEstimator.load(tmp_path / 'kron.json')
    assert again.get_params() == estimator.get_params()
    assert again.aperture_correction_ == estimator.aperture_correction_
