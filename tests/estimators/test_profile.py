# Licensed under a 3-clause BSD style license - see LICENSE.rst
import sys

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import CCDData, StdDevUncertainty
from scipy.integrate import quad
from scipy.special import gammaincinv

from astroflux import SersicFluxEstimator, decode_flags
from astroflux.cutouts import iter_cutouts
from astroflux.estimators import MeasurementError
from astroflux.estimators.profile import _imfit, _search
from astroflux.estimators.profile._model import Component, Limits, Model, b_n, sersic_flux
from astroflux.estimators.profile._parameters import describe, from_imfit, to_imfit
from astroflux.estimators.profile._source import find_source
from astroflux.flags import MeasurementFlag

pyimfit = pytest.importorskip('pyimfit')


def pixel_integral(function, shape, centre, n_sub):
    """Integrate a function of (x, y) over pixels, and the central ones finely."""
    ny, nx = shape
    image = np.empty(shape)
    for row in range(ny):
        for column in range(nx):
            near = max(abs(row - centre[1]), abs(column - centre[0])) < 4
            n = n_sub if near else 5
            step = (np.arange(n) + 0.5) / n - 0.5
            values = function(column + step - centre[0], row + step[:, None] - centre[1])
            image[row, column] = values.mean()
    return image


def sersic(index, radius, axis_ratio=0.6, angle=30.0):
    """A Sersic profile of total flux 1, with the exact b_n."""
    b_n = gammaincinv(2 * index, 0.5)

    def circular(r):
        return np.exp(-b_n * (r / radius) ** (1 / index))

    total = axis_ratio * quad(lambda r: 2 * np.pi * r * circular(r), 0, np.inf, limit=200)[0]
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))

    def function(x, y):
        return circular(np.hypot(x * cos + y * sin, (y * cos - x * sin) / axis_ratio)) / total

    return function


def gaussian_image(fwhm, half=8, *, with_pixel=True):
    """A Gaussian PSF, integrated over the pixels or not."""
    offset = np.arange(-half, half + 1.0)
    sigma = fwhm / 2.3548
    if with_pixel:
        step = (np.arange(21) + 0.5) / 21 - 0.5
        offset = offset[:, None] + step
    row = np.exp(-0.5 * (offset / sigma) ** 2)
    row = row.mean(axis=1) if with_pixel else row
    return np.outer(row, row) / row.sum() ** 2


def convolve(image, psf):
    shape = tuple(np.add(image.shape, psf.shape) - 1)
    full = np.fft.irfft2(np.fft.rfft2(image, shape) * np.fft.rfft2(psf, shape), shape)
    trim = [slice(n // 2, n // 2 + size) for n, size in zip(psf.shape, image.shape, strict=True)]
    return full[tuple(trim)]


def render(function, *, shape=(61, 61), fwhm=3.5, centre=None, margin=8):
    """A profile through a Gaussian PSF, from a wider area than the stamp."""
    x, y = centre or ((shape[1] - 1) / 2, (shape[0] - 1) / 2)
    wide = (shape[0] + 2 * margin, shape[1] + 2 * margin)
    image = pixel_integral(function, wide, (x + margin, y + margin), 41)
    image = convolve(image, gaussian_image(fwhm, with_pixel=False))
    return image[margin:-margin, margin:-margin]


def to_ccd(image, sigma=1.0, *, fwhm=3.5, unit='adu', seed=None, **kwargs):
    """A `CCDData` with its noise, which is added if there is a seed."""
    if seed is not None:
        image = image + np.random.default_rng(seed).normal(0, sigma, image.shape)
    psf = None if fwhm is None else gaussian_image(fwhm)
    uncertainty = StdDevUncertainty(np.full(image.shape, sigma))
    return CCDData(image, unit=unit, uncertainty=uncertainty, psf=psf, **kwargs)


@pytest.fixture(scope='module')
def disc():
    """An inclined exponential disc of flux 1."""
    return render(sersic(1.0, 4.0), centre=(30.3, 29.8))


# -- the flux ----------------------------------------------------------------------------------


@pytest.mark.parametrize('index', [0.3, 0.5, 1.0, 2.5, 4.0, 8.0])
def test_analytic_flux(index):
    # the flux of the profile that imfit draws, with its own b_n, by numerical integration
    b = b_n(index)
    expected = quad(
        lambda t: 2 * np.pi * 9 * np.exp(-b * (t ** (1 / index) - 1)) * t,
        0,
        np.inf,
        limit=500,
        epsrel=1e-10,
    )[0]
    flux = sersic_flux(2.0, 3.0, index, 0.7)
    np.testing.assert_allclose(flux, 2.0 * 0.7 * expected, rtol=1e-6)


@pytest.mark.parametrize('index', [0.3, 0.37, 1.0, 4.0, 8.0])
def test_radius_holds_half(index):
    np.testing.assert_allclose(b_n(index), gammaincinv(2 * index, 0.5), rtol=3e-3)


@pytest.mark.parametrize('is_disc', [False, True])
def test_flux_is_that_of_imfit(is_disc):
    component = Component(100.0, 4.0, 0.3, 20.0, 1.0 if is_disc else 2.5, is_disc)
    model = Model(15.0, 15.0, 0.0, (component,))
    limits = Limits((15.0, 15.0), (0.1, 20.0), (0.3, 8.0), (1.5, 8.0))
    fitter = pyimfit.Imfit(describe(model, limits, (0, 0)), maxThreads=1)
    fitter.loadData(np.zeros((31, 31)), error=np.ones((31, 31)))
    flux = fitter.getModelFluxes(to_imfit(model, (0, 0)))[1][0]
    np.testing.assert_allclose(flux, 100.0, rtol=1e-6)
    again = from_imfit(model, to_imfit(model, (7, 3)), (7, 3))
    np.testing.assert_allclose(again.flux, 100.0)
    assert again.x == pytest.approx(15)
    assert again.y == pytest.approx(15)


@pytest.mark.parametrize(
    ('index', 'radius'), [(0.5, 1.5), (0.5, 6.0), (1.0, 2.0), (2.5, 3.0), (4.0, 2.0)]
)
def test_recovered(index, radius):
    image = render(sersic(index, radius), centre=(30.2, 29.9))
    table = SersicFluxEstimator().measure(to_ccd(1e4 * image, 0.02, seed=0))
    np.testing.assert_allclose(table['flux'][0].value, 1e4, rtol=5e-3)
    np.testing.assert_allclose(table['sersic_index'][0], index, rtol=0.05)
    circular = radius * np.sqrt(0.6)
    np.testing.assert_allclose(table['half_light_radius'][0].value, circular, rtol=0.02)
    np.testing.assert_allclose(table['axis_ratio'][0], 0.6, rtol=0.02)
    np.testing.assert_allclose(table['position_angle'][0].value, 30.0, atol=1.0)
    assert np.isnan(table['bulge_to_total'][0])
    assert table['flags'][0] == 0


def test_galsim():
    pytest.importorskip('galsim')
    from astroflux.simulation import draw_galaxy, draw_psf, galaxy_profile, psf_profile

    psf = psf_profile({'psf_fwhm': 0.7, 'moffat_beta': 4.0, 'psf_g1': 0.0, 'psf_g2': 0.0})
    truth = {
        'n_components': 1,
        'sersic_index_1': 1.5,
        'half_light_radius_1': 0.4,
        'axis_ratio_1': 0.5,
        'position_angle_1': -50.0,
    }
    image = draw_galaxy(galaxy_profile(truth), psf, (81, 81), 0.168, offset=(0.3, -0.2))
    ccd = CCDData(
        1e4 * image.astype(float),
        unit='adu',
        uncertainty=StdDevUncertainty(np.ones((81, 81))),
        psf=draw_psf(psf, 0.168),
    )
    table = SersicFluxEstimator().measure(ccd)
    np.testing.assert_allclose(table['flux'][0].value, 1e4, rtol=2e-3)
    np.testing.assert_allclose(table['position_angle'][0].value, -50.0, atol=0.5)
    np.testing.assert_allclose(table['half_light_radius'][0].value, 0.4 / 0.168, rtol=0.01)


def test_pixel_is_taken_out_of_the_psf():
    # the images hold few Fourier modes beyond those that the pixel leaves alone
    psf = _imfit._take_out_pixel(gaussian_image(3.5))
    np.testing.assert_allclose(psf, gaussian_image(3.5, with_pixel=False), atol=1e-5)
    assert psf.sum() == pytest.approx(1)


def test_pixel_would_count_twice(monkeypatch):
    ccd = to_ccd(1e4 * render(sersic(1.0, 1.5), fwhm=2.5), 0.1, fwhm=2.5)
    right = SersicFluxEstimator().measure(ccd)
    monkeypatch.setattr(_imfit, '_take_out_pixel', lambda psf: psf)
    wrong = SersicFluxEstimator().measure(ccd)
    expected = 1.5 * np.sqrt(0.6)
    assert abs(right['half_light_radius'][0].value / expected - 1) < 0.01
    assert abs(wrong['half_light_radius'][0].value / expected - 1) > 0.03


def test_psf_of_even_sides(disc):
    psf = gaussian_image(3.5)
    ccd = to_ccd(1e4 * disc)
    expected = SersicFluxEstimator().predict(ccd)
    # the same image with one more row and column; the centre is pixel n // 2
    even = SersicFluxEstimator().predict(ccd, psf=np.pad(psf, ((1, 0), (1, 0))))
    np.testing.assert_allclose(even.value, expected.value, rtol=1e-5)


def test_fwhm_alone(disc):
    ccd = to_ccd(1e4 * disc, fwhm=None)
    table = SersicFluxEstimator().measure(ccd, psf_fwhm=3.5)
    # a Moffat profile instead of the Gaussian
    np.testing.assert_allclose(table['flux'][0].value, 1e4, rtol=0.02)
    without = SersicFluxEstimator().measure(ccd)
    np.testing.assert_allclose(without['flux'][0].value, 1e4, rtol=0.05)
    assert 'PSF_UNKNOWN' in decode_flags(without['flags'])[0]
    assert without['half_light_radius'][0] > table['half_light_radius'][0]


def test_sky_is_free(disc):
    flux = [SersicFluxEstimator().predict(to_ccd(1e4 * disc + sky)).value for sky in (0, 50)]
    np.testing.assert_allclose(flux[1], flux[0], rtol=1e-3)


# -- units, masks, neighbours ------------------------------------------------------------------


@pytest.mark.parametrize('unit', ['1e-12 Jy', '1e12 adu'])
def test_any_unit(disc, unit):
    unit = u.Unit(unit)
    image = 500 * disc + np.random.default_rng(5).normal(size=disc.shape)
    expected = SersicFluxEstimator().measure(to_ccd(image))
    factor = unit.scale
    table = SersicFluxEstimator().measure(to_ccd(image * factor, factor, unit='adu'))
    for name in ('flux', 'flux_err'):
        ratio = table[name][0].value / expected[name][0].value
        np.testing.assert_allclose(ratio, factor, rtol=1e-5)
    np.testing.assert_allclose(table['reduced_chi2'], expected['reduced_chi2'])


def test_mask(disc):
    mask = np.zeros(disc.shape, bool)
    mask[30:33, 33:50] = True
    image = 1e4 * disc
    expected = SersicFluxEstimator().predict(to_ccd(image))
    image[mask] = 1e6
    flux = SersicFluxEstimator().predict(to_ccd(image, mask=mask))
    np.testing.assert_allclose(flux.value, expected.value, rtol=1e-3)


def test_noise_map_is_used(disc):
    # a wrong half of the image counts little if its noise says so
    image = 1e4 * disc
    image[:, 38:] *= 2
    ccd = to_ccd(image)
    wrong = SersicFluxEstimator(mask_neighbors=False).predict(ccd).value
    ccd.uncertainty.array[:, 38:] = 1e4
    right = SersicFluxEstimator(mask_neighbors=False).predict(ccd).value
    assert abs(right / 1e4 - 1) < 0.01
    assert abs(wrong / 1e4 - 1) > 0.05


def test_neighbours_are_masked(disc):
    neighbour = 5e3 * render(sersic(1.0, 2.0), centre=(47.0, 40.0))
    ccd = to_ccd(1e4 * disc + neighbour, 2.0, seed=1)
    table = SersicFluxEstimator().measure(ccd)
    unmasked = SersicFluxEstimator(mask_neighbors=False).predict(ccd).value
    assert abs(table['flux'][0].value / 1e4 - 1) < 0.03
    assert unmasked > 1.1e4
    assert 'NEIGHBOUR' not in decode_flags(table['flags'])[0]


def test_close_neighbour_is_flagged(disc):
    neighbour = 5e3 * render(sersic(1.0, 1.5), centre=(39.0, 31.0))
    table = SersicFluxEstimator().measure(to_ccd(1e4 * disc + neighbour, 2.0, seed=1))
    assert 'NEIGHBOUR' in decode_flags(table['flags'])[0]


def test_wings_are_not_neighbours(disc):
    # noise makes islands of them, whose loss would lower the flux
    cutout = next(iter_cutouts([to_ccd(2000 * disc, seed=1)]))
    data = cutout.data.copy()
    data[30:34, 50:54] += 2.5
    _, neighbours = find_source(data, cutout.noise, cutout)
    assert not neighbours.any()
    data[30:34, 50:54] += 5
    _, neighbours = find_source(data, cutout.noise, cutout)
    assert neighbours[32, 52]


def test_position(disc):
    # the neighbour instead of the galaxy in the middle
    neighbour = 5e3 * render(sersic(1.0, 2.0), centre=(47.0, 40.0))
    ccd = to_ccd(1e4 * disc + neighbour, 2.0, seed=1)
    flux = SersicFluxEstimator().predict(ccd, positions=(46.5, 40.5)).value
    assert abs(flux / 5e3 - 1) < 0.1


def test_stamp_need_not_be_square():
    image = render(sersic(1.0, 3.0), shape=(41, 70), centre=(25.0, 22.0))
    flux = SersicFluxEstimator().predict(to_ccd(1e4 * image), positions=(25, 22))
    np.testing.assert_allclose(flux.value, 1e4, rtol=5e-3)


# -- errors and starts -------------------------------------------------------------------------


def test_errors_are_calibrated(disc):
    small = disc[10:51, 10:51]
    table = SersicFluxEstimator(n_starts=1).measure(
        [to_ccd(3000 * small, seed=seed) for seed in range(20)]
    )
    pull = (table['flux'].value - 3000) / table['flux_err'].value
    assert 0.6 < np.std(pull) < 1.5
    assert abs(np.mean(pull)) < 0.7
    np.testing.assert_allclose(np.median(table['reduced_chi2']), 1.0, atol=0.03)


def test_error_grows_with_what_is_free(disc):
    # flux, radius and index go together: more than the noise within an optimal aperture
    ccd = to_ccd(1500 * disc, seed=2)
    snr = SersicFluxEstimator().measure(ccd)['snr'][0]
    assert 0.2 < snr / np.sqrt(((1500 * disc) ** 2).sum()) < 0.7


def test_error_of_compact_components():
    # imfit divides the pixel into a number of parts that jumps with the radius just here, which
    # the derivatives must not take for a property of the galaxy
    bulge = Component(810.24, 0.30766780, 0.21, 36.2, 2.118)
    disc = Component(1127.45, 1.6304, 0.51, 126.5, 1.0, is_disc=True)
    model = Model(20.2, 19.6, 0.0, (bulge, disc))
    limits = Limits((20.0, 20.0), (0.1, 20.0), (0.3, 8.0), (1.5, 8.0))
    data, noise, bad = np.zeros((41, 41)), np.ones((41, 41)), np.zeros((41, 41), bool)
    psf = gaussian_image(4.0, with_pixel=False)
    error = _imfit.Stamp(data, noise, bad, psf, limits).flux_error(model)
    assert 0.005 < error / model.flux < 0.05


def test_least_chi2_is_taken(disc, monkeypatch):
    # all starts are tried, and a failure of one does not matter
    fit, starts, found = _imfit.Stamp.fit, [], []

    def recorded(self, model, tolerance):
        starts.append(model)
        if tolerance == _imfit.SEARCH_TOLERANCE[1] and not found:
            found.append((None, np.inf))
            raise MeasurementError(MeasurementFlag.FAILED, 'no luck')
        result = fit(self, model, tolerance)
        found.append(result)
        return result

    monkeypatch.setattr(_imfit.Stamp, 'fit', recorded)
    flux = SersicFluxEstimator(n_starts=3).predict(to_ccd(1e4 * disc))
    assert len(found) == 4
    # the last fit, to the whole stamp, starts from the best of the others
    *searched, _ = found
    assert len({chi2 for _, chi2 in searched}) == 3
    assert starts[-1] is min(searched, key=lambda result: result[1])[0]
    np.testing.assert_allclose(flux.value, 1e4, rtol=5e-3)


def test_starts_are_sorted():
    class Stamp:
        def fit(self, model, tolerance):
            return model, {'a': 7.0, 'b': 3.0, 'c': 1.0}[model.name]

    class Model:
        flux = 1.0
        components = (None,)

        def __init__(self, name):
            self.name = name

    starts = [(5.0, Model('c')), (1.0, Model('a')), (2.0, Model('b'))]
    assert _search._fit_best(Stamp(), starts, 1).name == 'a'
    assert _search._fit_best(Stamp(), starts, 2).name == 'b'
    assert _search._fit_best(Stamp(), starts, 3).name == 'c'


# -- two components ----------------------------------------------------------------------------


def test_two_components():
    bulge, disc = sersic(3.5, 2.0, 0.8, 10.0), sersic(1.0, 9.0, 0.5, 10.0)
    image = 4e3 * render(bulge, shape=(75, 75)) + 6e3 * render(disc, shape=(75, 75))
    ccd = to_ccd(image, 0.1, seed=3)
    two = SersicFluxEstimator(n_components=2).measure(ccd)
    one = SersicFluxEstimator(n_components=1).measure(ccd)
    np.testing.assert_allclose(two['flux'][0].value, 1e4, rtol=0.01)
    np.testing.assert_allclose(two['bulge_to_total'][0], 0.4, atol=0.03)
    np.testing.assert_allclose(two['axis_ratio'][0], 0.5, atol=0.02)
    assert two['reduced_chi2'][0] < 1.1 < one['reduced_chi2'][0]
    assert two.colnames == one.colnames
    # between those of the bulge and of the disc
    assert 2.0 < two['half_light_radius'][0].value < 9.0 * np.sqrt(0.5)


def test_half_light_radius_of_sum():
    component = Component(3.0, 4.0, 0.2, 0.0, 2.0)
    twice = Model(0, 0, 0, (component, component))
    assert twice.half_light_radius == pytest.approx(4 * np.sqrt(0.8))
    other = Component(3.0, 8.0, 0.2, 0.0, 1.0, is_disc=True)
    radius = Model(0, 0, 0, (component, other)).half_light_radius
    assert component.enclosed(radius) + other.enclosed(radius) == pytest.approx(1)


# -- failures ----------------------------------------------------------------------------------


def test_exception_costs_one_row(disc, monkeypatch):
    ccds = [to_ccd(2000 * disc, fwhm=fwhm, seed=1) for fwhm in (3.5, None, 3.5)]
    estimator = SersicFluxEstimator(n_starts=1)
    expected = estimator.predict(ccds)
    fit = pyimfit.Imfit.doFit

    def failing(self, **kwargs):
        if self._psf is None:
            raise Exception('the pixels are odd')
        return fit(self, **kwargs)

    monkeypatch.setattr(pyimfit.Imfit, 'doFit', failing)
    table = estimator.measure(ccds)
    assert 'FAILED' in decode_flags(table['flags'])[1]
    assert table.meta['messages'] == {1: 'imfit: Exception: the pixels are odd'}
    assert np.isnan(table['flux'][1])
    np.testing.assert_array_equal(table['flux'][[0, 2]], expected[[0, 2]])


def test_no_convergence(disc, monkeypatch):
    result = pyimfit.FitResult()
    result.fitConverged, result.nIter = False, 1000
    monkeypatch.setattr(pyimfit.Imfit, 'doFit', lambda self, **kwargs: result)
    table = SersicFluxEstimator().measure(to_ccd(1e4 * disc))
    assert 'FAILED' in decode_flags(table['flags'])[0]
    assert table.meta['messages'] == {0: 'the fit did not converge in 1000 iterations'}


def test_missing_package(disc, monkeypatch):
    monkeypatch.setitem(sys.modules, 'pyimfit', None)
    with pytest.raises(ImportError, match=r'astroflux\[compare\]'):
        SersicFluxEstimator().predict(to_ccd(disc))


def test_nothing_there():
    hole = to_ccd(-500 * render(sersic(1.0, 3.0), shape=(41, 41)), seed=4)
    outside = to_ccd(500 * render(sersic(1.0, 3.0), shape=(41, 41)))
    table = SersicFluxEstimator().measure([hole, outside], positions=[(20, 20), (90, 20)])
    assert all('NOT_DETECTED' in names for names in decode_flags(table['flags']))
    assert 'is not on the stamp' in table.meta['messages'][1]


def test_limits_are_flagged(disc):
    ccd = to_ccd(1e4 * disc, seed=0)
    for limits in ({'sersic_index_bounds': (2.0, 8.0)}, {'max_radius': 3.0}):
        table = SersicFluxEstimator(**limits).measure(ccd)
        assert 'OUT_OF_RANGE' in decode_flags(table['flags'])[0]
        assert table['flux_err'][0] > 0
    assert SersicFluxEstimator().measure(ccd)['flags'][0] == 0


def test_nothing_is_printed(disc, capfd):
    SersicFluxEstimator().measure(to_ccd(1e4 * disc), progress=False)
    assert capfd.readouterr() == ('', '')


def test_versions(disc):
    assert {'pyimfit', 'photutils'} <= set(
        SersicFluxEstimator().measure(to_ccd(1e4 * disc)).meta['versions']
    )


@pytest.mark.parametrize(
    ('params', 'text'),
    [
        ({'n_components': 3}, 'n_components must be 1 or 2, got 3'),
        ({'n_starts': 0}, 'n_starts must be a positive integer, got 0'),
        ({'n_starts': 1.5}, 'n_starts must be a positive integer, got 1.5'),
        (
            {'sersic_index_bounds': (4, 1)},
            r'sersic_index_bounds must be a lower and .*, got \(4, 1\)',
        ),
        ({'sersic_index_bounds': 4}, 'sersic_index_bounds must be a lower and .*, got 4'),
        (
            {'bulge_index_bounds': (0.0, 1)},
            r'bulge_index_bounds must be .* from 0.2 to 20, got \(0.0, 1\)',
        ),
        ({'max_radius': 0}, 'max_radius must be at least 1 pixel, got 0'),
    ],
)
def test_bad_params(disc, params, text):
    estimator = SersicFluxEstimator(**params)
    with pytest.raises(ValueError, match=text):
        estimator.predict(to_ccd(disc))


def test_starts_are_within_the_limits(disc):
    # limits that leave out some or all of the usual starting points
    for limits in ((0.3, 0.6), (4.5, 8.0)):
        (cutout,) = iter_cutouts([to_ccd(1e4 * disc)])
        result = SersicFluxEstimator(sersic_index_bounds=limits)._measure_one(cutout)
        assert limits[0] <= result['sersic_index'] <= limits[1]
