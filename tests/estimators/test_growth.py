# Licensed under a 3-clause BSD style license - see LICENSE.rst
import numpy as np
import pytest
from astropy import units as u
from astropy.modeling.models import Sersic2D
from astropy.nddata import CCDData, StdDevUncertainty
from photutils.aperture import CircularAperture, EllipticalAperture, aperture_photometry
from photutils.profiles import CurveOfGrowth
from scipy.special import gamma

from astroflux import CurveOfGrowthFluxEstimator, decode_flags
from astroflux.estimators import SourceFinder
from astroflux.estimators.photometry import growth


@pytest.fixture
def estimator():
    return CurveOfGrowthFluxEstimator()


def make_sersic(n, *, flux=1e5, r_eff=5.0, size=121, sigma=1.0, seed=0):
    """A Sersic profile seen through some seeing; flux is that of an infinite stamp."""
    from scipy.ndimage import gaussian_filter

    # even, so that no point falls on the cusp
    factor = 6
    y, x = (np.mgrid[: size * factor, : size * factor] + 0.5) / factor - size / 2
    image = Sersic2D(amplitude=1, r_eff=r_eff, n=n)(x, y)
    image = gaussian_filter(image, 1.7 * factor)
    image = image.reshape(size, factor, size, factor).mean((1, 3))
    # total flux for a surface brightness of 1 at the effective radius
    b = {1: 1.67834699, 4: 7.66924944}[n]
    total = 2 * np.pi * n * r_eff**2 * np.exp(b) * b ** (-2 * n) * gamma(2 * n)
    image *= flux / total
    image += np.random.default_rng(seed).normal(0, sigma, image.shape)
    noise = StdDevUncertainty(np.full(image.shape, sigma))
    return CCDData(image, unit='adu', uncertainty=noise)


def by_hand(ccd, radii, centre, axis_ratio, theta, mask=None):
    """The flux in ellipses, by photutils."""
    apertures = [
        EllipticalAperture(centre, a=radius, b=radius * axis_ratio, theta=theta) for radius in radii
    ]
    table = aperture_photometry(ccd.data, apertures, error=ccd.uncertainty.array, mask=mask)
    names = [f'aperture_sum_{index}' for index in range(len(radii))]
    return (
        np.array([table[name][0] for name in names]),
        np.array([table[name.replace('sum', 'sum_err')][0] for name in names]),
    )


def find(ccd):
    """The centre and ellipse of the source in the middle."""
    from astroflux.cutouts import iter_cutouts

    (cutout,) = iter_cutouts(ccd)
    found = SourceFinder().find(cutout)
    x, y, a, b, theta = growth._segment_ellipse(found)
    return (x, y), a, b / a, theta, found


@pytest.mark.parametrize('seed', [0, 1, 2])
def test_parity_elliptical(make_ccd, seed):
    ccd = make_ccd(seed=seed, flux=5000.0)
    table = CurveOfGrowthFluxEstimator(extrapolate=False).measure(ccd)
    centre, _, axis_ratio, theta, _ = find(ccd)
    flux, flux_err = by_hand(ccd, [table['max_radius'][0].value], centre, axis_ratio, theta)
    np.testing.assert_allclose(table['axis_ratio'], axis_ratio, rtol=1e-12)
    np.testing.assert_allclose(table['flux'].value, flux, rtol=1e-10)
    # a pixel on the edge counts with its weight, which photutils does not square
    np.testing.assert_allclose(table['flux_err'].value, flux_err, rtol=0.02)


def test_parity_circular(make_ccd):
    ccd = make_ccd(flux=5000.0)
    estimator = CurveOfGrowthFluxEstimator(extrapolate=False, aperture='circular')
    table = estimator.measure(ccd)
    centre, a, _, _, found = find(ccd)
    curve = growth._Curve.follow(found, centre, 1.0, 0.0, min_snr=2.0, least_radius=3 * a)
    profile = CurveOfGrowth(ccd.data, centre, curve.radii)
    np.testing.assert_allclose(curve.flux, profile.profile, rtol=1e-10)
    np.testing.assert_allclose(table['flux'][0].value, profile.profile[-1], rtol=1e-10)
    np.testing.assert_allclose(
        table['flux'][0].value,
        CircularAperture(centre, r=curve.radii[-1]).do_photometry(ccd.data)[0][0],
        rtol=1e-10,
    )


def test_parity_mask(make_ccd):
    # a masked pixel counts with the mean of its ring
    mask = np.zeros((61, 61), bool)
    mask[33:36, 38:42] = True
    ccd = make_ccd(flux=5000.0, mask=mask)
    centre, a, axis_ratio, theta, found = find(ccd)
    curve = growth._Curve.follow(found, centre, axis_ratio, theta, min_snr=2.0, least_radius=3 * a)
    flux, _ = by_hand(ccd, curve.radii, centre, axis_ratio, theta, mask)
    whole = CCDData(np.ones((61, 61)), unit='nJy', uncertainty=ccd.uncertainty)
    area, _ = by_hand(whole, curve.radii, centre, axis_ratio, theta, mask)
    rings = np.diff(flux, prepend=0) / np.diff(area, prepend=0)
    rings *= np.pi * axis_ratio * np.diff(curve.radii**2, prepend=0)
    np.testing.assert_allclose(curve.rings, rings, rtol=1e-8)


def test_line_by_hand(make_ccd):
    ccd = make_ccd(flux=50000.0)
    centre, a, axis_ratio, theta, found = find(ccd)
    curve = growth._Curve.follow(found, centre, axis_ratio, theta, min_snr=2.0, least_radius=3 * a)
    slope = curve.rings / np.diff(curve.radii, prepend=0)
    flux = curve.flux - curve.rings / 2
    outer = curve.flux > 0.95 * curve.flux[-1]
    assert outer.sum() >= 4
    weight = 1 / np.sqrt(np.cumsum(curve.variances))
    _, intercept = np.polyfit(slope[outer], flux[outer], 1, w=weight[outer])
    total, gradient = growth._extrapolate(curve)
    np.testing.assert_allclose(total, intercept, rtol=1e-10)
    measured = CurveOfGrowthFluxEstimator().predict(ccd)
    np.testing.assert_allclose(measured.value, total * found.reference, rtol=1e-10)
    # the derivatives are those of the fit
    rings = curve.rings.copy()
    for index in (0, len(rings) // 2, len(rings) - 1):
        step = 1e-4 * rings[index]
        sides = []
        for sign in (1, -1):
            curve.rings = rings.copy()
            curve.rings[index] += sign * step
            sides.append(growth._extrapolate(curve)[0])
        np.testing.assert_allclose((sides[0] - sides[1]) / (2 * step), gradient[index], rtol=1e-5)


@pytest.mark.parametrize(('n', 'tolerance'), [(1, 0.003), (4, 0.02)])
def test_known_flux(estimator, n, tolerance):
    ccd = make_sersic(n)
    np.testing.assert_allclose(estimator.predict(ccd).value, 1e5, rtol=tolerance)


def test_gaussian(estimator):
    y, x = np.mgrid[-40:41, -40:41]
    image = 1e6 * np.exp(-0.5 * (x**2 + y**2) / 3**2) / (2 * np.pi * 3**2)
    ccd = CCDData(image, unit='adu', uncertainty=StdDevUncertainty(np.ones((81, 81))))
    np.testing.assert_allclose(estimator.predict(ccd).value, 1e6, rtol=2e-3)


@pytest.mark.parametrize('flux', [1e4, 1e5, 1e6])
def test_extrapolation_beats_the_largest_aperture(estimator, flux):
    ccds = [make_sersic(4, flux=flux, seed=seed) for seed in range(3)]
    total = np.median(estimator.predict(ccds).value) / flux - 1
    estimator.set_params(extrapolate=False)
    largest = np.median(estimator.predict(ccds).value) / flux - 1
    assert abs(total) < 0.85 * abs(largest)


def test_error_is_the_scatter(make_ccd):
    ccds = [make_ccd(seed=seed, flux=4000.0) for seed in range(40)]
    for extrapolate in (True, False):
        estimator = CurveOfGrowthFluxEstimator(extrapolate=extrapolate)
        table = estimator.measure(ccds, progress=False)
        scatter = np.std(table['flux'].value)
        error = np.median(table['flux_err'].value)
        # the choice of the radii, which varies, adds to the scatter
        assert 0.75 < scatter / error < 1.8


def test_neighbours(estimator, make_ccd, draw_galaxy):
    shape = (81, 81)
    ccd = make_ccd(shape, flux=5000.0, sigma=0.5)
    alone = estimator.predict(ccd).value
    ccd.data += draw_galaxy(shape, flux=4000.0, scale=1.2, centre=(56.0, 40.0))
    table = estimator.measure(ccd)
    np.testing.assert_allclose(table['flux'][0].value, alone, rtol=0.1)
    assert 'NEIGHBOUR' in decode_flags(table['flags'])[0]


@pytest.mark.parametrize('distance', range(16, 26))
def test_neighbor_is_flagged_if_the_largest_aperture_reaches_it(estimator, distance):
    ccd = make_sersic(1, flux=1e4, r_eff=3.0)
    y, x = np.indices(ccd.shape)
    ccd.data += 50 * np.exp(-((x - 60 - distance) ** 2 + (y - 60) ** 2) / 8)
    row = estimator.measure(ccd)[0]
    centre, _, axis_ratio, theta, found = find(ccd)
    radius = row['max_radius'].value
    largest = EllipticalAperture(centre, a=radius, b=radius * axis_ratio, theta=theta)
    inside = largest.to_mask(method='center').to_image(ccd.shape) > 0
    labels = found.segmentation.data
    reaches = np.any(inside & (labels != 0) & (labels != found.label))
    assert ('NEIGHBOUR' in decode_flags(row['flags'])) == reaches


def test_faint_is_not_extrapolated(estimator, make_ccd):
    table = estimator.measure([make_ccd(flux=130.0, scale=1.0, seed=seed) for seed in range(9)])
    flags = decode_flags(table['flags'])
    fallback = [
        index
        for index, names in enumerate(flags)
        if 'OUT_OF_RANGE' in names and table['extrapolation'][index] == 0
    ]
    assert fallback
    for index in fallback:
        assert np.isfinite(table['flux'][index])


def test_too_few_good_pixels(estimator, make_ccd):
    mask = np.ones((61, 61), bool)
    mask[28:33, 28:33] = False
    mask[:3, :3] = False
    table = estimator.measure([make_ccd(mask=mask), make_ccd()])
    assert np.isfinite(table['flux'][1])
    inner = table['max_radius'][0]
    assert np.isnan(inner) or inner < 6 * u.pix


def test_columns(estimator, make_ccd):
    table = estimator.measure([make_ccd(wcs=True), make_ccd(wcs=True)])
    assert table.colnames[-3:] == ['max_radius', 'axis_ratio', 'extrapolation']
    assert table['max_radius'].unit == u.arcsec


@pytest.mark.parametrize(
    ('params', 'text'),
    [
        ({'aperture': 'square'}, "aperture must be 'elliptical' or 'circular', got 'square'"),
        ({'min_snr': 0}, 'min_snr must be positive, got 0'),
        ({'finder__n_pixels': 0}, 'n_pixels must be a positive integer, got 0'),
    ],
)
def test_bad_params(make_ccd, params, text):
    with pytest.raises(ValueError, match=text):
        CurveOfGrowthFluxEstimator().set_params(**params).predict(make_ccd())
