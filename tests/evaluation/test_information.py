# Licensed under a 3-clause BSD style license - see LICENSE.rst
import numpy as np
import pytest
from scipy.optimize import least_squares

galsim = pytest.importorskip('galsim', reason='the bound is computed with GalSim (extra simulate)')

from astroflux.evaluation.information import (  # noqa: E402
    ImageModel,
    fisher_information,
    ln_flux_bound,
    population_prior,
)
from astroflux.simulation import (  # noqa: E402
    GalaxyPopulation,
    draw_galaxy,
    galaxy_profile,
    psf_profile,
)

SCALE = 0.2

ONE = {
    'flux': 100.0,
    'n_components': 1,
    'sersic_index_1': 1.4,
    'half_light_radius_1': 0.8,
    'axis_ratio_1': 0.6,
    'position_angle_1': 35.0,
    'bulge_to_total': 0.0,
    'x_offset': 0.3,
    'y_offset': -0.2,
    'psf_fwhm': 0.7,
    'moffat_beta': np.nan,
    'psf_g1': 0.02,
    'psf_g2': -0.01,
}
TWO = {
    **ONE,
    'n_components': 2,
    'sersic_index_1': 1.0,
    'sersic_index_2': 4.0,
    'half_light_radius_2': 0.4,
    'axis_ratio_2': 0.8,
    'position_angle_2': 20.0,
    'bulge_to_total': 0.3,
}
# a Gaussian is the Sersic profile of index 1/2
ROUND_GAUSSIAN = {
    **ONE,
    'sersic_index_1': 0.5,
    'axis_ratio_1': 1.0,
    'x_offset': 0.0,
    'y_offset': 0.0,
}


def draw(truth, shape=(61, 61)):
    offset = truth['x_offset'], truth['y_offset']
    unit = draw_galaxy(galaxy_profile(truth), psf_profile(truth), shape, SCALE, offset=offset)
    return truth['flux'] * unit.astype(float)


def snr(image, noise):
    return np.sqrt((image**2).sum()) / noise


@pytest.mark.parametrize('truth', [ONE, TWO], ids=['one', 'two'])
@pytest.mark.parametrize('shape', [(61, 61), (60, 81)], ids=str)
def test_image_is_that_of_the_simulation(truth, shape):
    expected = draw(truth, shape)
    model = ImageModel(truth, shape, SCALE)
    assert model.image.shape == shape
    np.testing.assert_allclose(model.image, expected, atol=2e-4 * expected.max())


PARAMETERS = [
    ('ln_flux', 'flux', True),
    ('x', 'x_offset', False),
    ('y', 'y_offset', False),
    ('bulge_to_total', 'bulge_to_total', False),
    ('ln_half_light_radius_1', 'half_light_radius_1', True),
    ('ln_half_light_radius_2', 'half_light_radius_2', True),
    ('ln_sersic_index_1', 'sersic_index_1', True),
    ('ln_sersic_index_2', 'sersic_index_2', True),
]


@pytest.mark.parametrize(('name', 'column', 'is_log'), PARAMETERS)
def test_derivatives(name, column, is_log):
    step = 0.02
    changed = [
        {**TWO, column: TWO[column] * np.exp(sign * step) if is_log else TWO[column] + sign * step}
        for sign in (1, -1)
    ]
    expected = (draw(changed[0]) - draw(changed[1])) / (2 * step)
    model = ImageModel(TWO, (61, 61), SCALE)
    derivative = model.jacobian[model.names.index(name)]
    difference = np.linalg.norm(derivative - expected) / np.linalg.norm(expected)
    assert difference < 0.01


def test_derivative_by_shape():
    # along the ellipse's own direction, its shear is (1 - q) / (1 + q)
    def with_shear(modulus):
        return draw({**ONE, 'axis_ratio_1': (1 - modulus) / (1 + modulus)})

    modulus = (1 - 0.6) / (1 + 0.6)
    expected = (with_shear(modulus + 0.01) - with_shear(modulus - 0.01)) / 0.02
    model = ImageModel(ONE, (61, 61), SCALE)
    by_g1, by_g2 = (model.jacobian[model.names.index(name)] for name in ('g1_1', 'g2_1'))
    angle = np.radians(2 * ONE['position_angle_1'])
    derivative = np.cos(angle) * by_g1 + np.sin(angle) * by_g2
    assert np.linalg.norm(derivative - expected) < 0.01 * np.linalg.norm(expected)


def test_size_of_the_box_hardly_matters(monkeypatch):
    # the widest wings that the populations have
    truth = {**ONE, 'flux': 1e4, 'half_light_radius_1': 3.5, 'sersic_index_1': 6.0}
    bounds = []
    for size in (3.0, 6.0):
        monkeypatch.setattr('astroflux.evaluation.information.LARGEST_BOX', size)
        model = ImageModel(truth, (143, 143), SCALE)
        bounds.append(ln_flux_bound(model, 0.05, sky_error=0.001, population=GalaxyPopulation()))
    assert bounds[0] == pytest.approx(bounds[1], rel=0.01)


# -- the analytic case: a round Gaussian galaxy seen through a Gaussian PSF ---------------------


def gaussian_model(shape=(101, 101), flux=100.0):
    truth = {**ROUND_GAUSSIAN, 'flux': flux}
    return ImageModel(truth, shape, SCALE, psf=galsim.Gaussian(fwhm=0.9))


def gaussian_information(model, noise):
    """
    Fisher matrix of ln flux, ln width and sky, with the sums over pixels as integrals.

    For m = f G(r; s): the mean of r**2 / s**2, weighted by m**2, is 1, that of its square 2.
    """
    flux = ROUND_GAUSSIAN['flux']
    nu2 = snr(model.image, noise) ** 2
    n_pixels = model.image.size
    return np.array(
        [
            [nu2, -nu2, flux / noise**2],
            [-nu2, 2 * nu2, 0],
            [flux / noise**2, 0, n_pixels / noise**2],
        ]
    )


def test_gaussian_of_known_profile():
    model, noise = gaussian_model(), 0.1
    bound = ln_flux_bound(model, noise, sky_error=0, known=('ln_sersic_index_1',))
    # flux and width are correlated: the variance is twice that of a matched filter
    assert bound == pytest.approx(np.sqrt(2) / snr(model.image, noise), rel=1e-3)


def test_gaussian_of_known_shape():
    model, noise = gaussian_model(), 0.1
    known = [name for name in model.names if name not in ('ln_flux', 'x', 'y')]
    bound = ln_flux_bound(model, noise, known=known)
    assert bound == pytest.approx(1 / snr(model.image, noise), rel=1e-6)


@pytest.mark.parametrize('sky_error', [np.inf, 0.01, 0.003])
def test_gaussian_with_sky(sky_error):
    model, noise = gaussian_model(), 0.1
    information = gaussian_information(model, noise)
    information[2, 2] += 1 / sky_error**2
    expected = np.sqrt(np.linalg.inv(information)[0, 0])
    bound = ln_flux_bound(model, noise, sky_error=sky_error, known=('ln_sersic_index_1',))
    assert bound == pytest.approx(expected, rel=2e-3)
    assert bound > np.sqrt(2) / snr(model.image, noise)


def test_noise_map_and_mask():
    model = gaussian_model()
    noise = np.full(model.image.shape, 0.1)
    expected = ln_flux_bound(model, 0.1)
    assert ln_flux_bound(model, noise) == pytest.approx(expected, rel=1e-9)
    # a masked pixel tells as little as one of infinite noise
    mask = np.zeros(noise.shape, bool)
    mask[45:52, 48:60] = True
    masked = ln_flux_bound(model, noise, mask=mask)
    assert masked > expected
    noise[mask] = np.inf
    assert ln_flux_bound(model, noise) == pytest.approx(masked, rel=1e-9)
    noise[mask] = 0
    assert ln_flux_bound(model, noise, mask=mask) == pytest.approx(masked, rel=1e-9)


# -- scaling, priors, and what cannot be measured ------------------------------------------------


@pytest.mark.parametrize('truth', [ONE, TWO], ids=['one', 'two'])
def test_bound_goes_as_one_over_snr(truth):
    bounds = [
        ln_flux_bound(ImageModel({**truth, 'flux': flux}, (61, 61), SCALE), 0.1)
        for flux in (10.0, 100.0, 1000.0)
    ]
    np.testing.assert_allclose(bounds[0] / np.array(bounds), [1, 10, 100], rtol=1e-6)


def test_prior_of_the_population():
    population = GalaxyPopulation(sersic_index=(1.0, 4.0), axis_ratio=(0.5, 1.0))
    names, covariance = population_prior(population, 1)
    deviations = dict(zip(names, np.sqrt(np.diag(covariance)), strict=True))
    # that of a uniform distribution is its range over sqrt(12)
    assert deviations['ln_sersic_index_1'] == pytest.approx(np.log(4) / np.sqrt(12), rel=0.05)
    assert deviations['ln_half_light_radius_1'] == pytest.approx(np.log(20) / np.sqrt(12), rel=0.02)
    assert deviations['x'] == pytest.approx(1 / np.sqrt(12), rel=0.02)
    assert deviations['g1_1'] == pytest.approx(deviations['g2_1'], rel=0.05)
    names, covariance = population_prior(population, 2)
    assert covariance.shape == (len(names), len(names)) == (11, 11)


@pytest.mark.parametrize('truth', [ONE, TWO], ids=['one', 'two'])
def test_prior_matters_at_low_snr_only(truth):
    population = GalaxyPopulation()

    def gain(flux):
        model = ImageModel({**truth, 'flux': flux}, (61, 61), SCALE)
        return ln_flux_bound(model, 0.1, population=population) / ln_flux_bound(model, 0.1)

    assert gain(10.0) < 0.9
    assert gain(10.0) < gain(100.0) < gain(1e5) <= 1
    assert gain(1e5) == pytest.approx(1, abs=0.01)


def test_prior_that_tells_everything():
    # then flux, position and sky remain
    population = GalaxyPopulation(
        half_light_radius=(0.8, 0.80001),
        sersic_index=(1.4, 1.4),
        axis_ratio=(0.99999, 1.0),
        two_component_fraction=0.0,
    )
    model = gaussian_model()
    names, covariance = population_prior(population, 1)
    assert covariance[names.index('ln_half_light_radius_1')].max() < 1e-6
    information = fisher_information(model.jacobian, 0.1)
    # the index of the grid does not vary at all: its variance is that of rounding
    known = ('ln_sersic_index_1',)
    bound = ln_flux_bound(model, 0.1, sky_error=0, known=known)
    free = 1 / np.sqrt(information[0, 0])
    rows = [model.names.index(name) for name in names]
    information[np.ix_(rows, rows)] += np.linalg.inv(covariance + 1e-12 * np.eye(len(rows)))
    informed = np.sqrt(np.linalg.inv(information[:-1, :-1])[0, 0])
    assert bound == pytest.approx(np.sqrt(2) * free, rel=1e-3)
    assert informed == pytest.approx(free, rel=1e-3)


def test_what_all_galaxies_share_is_known():
    population = GalaxyPopulation(
        half_light_radius=(0.8, 0.8),
        sersic_index=(1.4, 1.4),
        axis_ratio=(1.0, 1.0),
        two_component_fraction=0.0,
        max_offset=0.0,
    )
    model = gaussian_model()
    bound = ln_flux_bound(model, 0.1, sky_error=0, population=population)
    assert bound == pytest.approx(1 / snr(model.image, 0.1))
    with pytest.raises(ValueError, match='no galaxies of 2 components'):
        population_prior(population, 2)


def test_image_without_information():
    model = gaussian_model()
    everything = np.ones(model.image.shape, bool)
    assert ln_flux_bound(model, 0.1, mask=everything) == np.inf


def test_bulge_without_light_costs_nothing():
    one = ImageModel(ONE, (61, 61), SCALE)
    two = ImageModel({**TWO, 'sersic_index_1': 1.4, 'bulge_to_total': 0.0}, (61, 61), SCALE)
    known = ('bulge_to_total',)
    assert ln_flux_bound(two, 0.1, known=known) == pytest.approx(ln_flux_bound(one, 0.1), rel=1e-3)


# -- the best method reaches it ------------------------------------------------------------------


def test_maximum_likelihood_reaches_the_bound():
    shape, noise, n_fits = (41, 41), 0.03, 60
    truth = {**ONE, 'half_light_radius_1': 0.6}
    psf = psf_profile(truth)

    def image_of(parameters):
        ln_flux, x, y, ln_radius, g1, g2, sky = parameters
        profile = galsim.Sersic(n=1.4, half_light_radius=float(np.exp(ln_radius)))
        profile = profile.shear(g1=float(g1), g2=float(g2))
        unit = draw_galaxy(profile, psf, shape, SCALE, offset=(x, y))
        return np.exp(ln_flux) * unit.astype(float) + sky

    angle = np.radians(2 * truth['position_angle_1'])
    best = [np.log(100), 0.3, -0.2, np.log(0.6), 0.25 * np.cos(angle), 0.25 * np.sin(angle), 0]
    truth_image = image_of(best)
    rng = np.random.default_rng(6)
    errors = []
    for _ in range(n_fits):
        data = truth_image + rng.normal(0, noise, shape)
        start = best + rng.normal(0, 0.05, len(best))
        fit = least_squares(
            lambda parameters, data=data: ((image_of(parameters) - data) / noise).ravel(),
            start,
            method='lm',
            diff_step=1e-4,
        )
        errors.append(fit.x[0] - best[0])
    model = ImageModel(truth, shape, SCALE)
    np.testing.assert_allclose(model.image, truth_image, atol=1e-3 * truth_image.max())
    bound = ln_flux_bound(model, noise, known=('ln_sersic_index_1',))
    assert snr(truth_image, noise) > 200
    # the standard deviation of 60 values is known to 9 %
    assert np.std(errors) == pytest.approx(bound, rel=0.25)
    assert abs(np.mean(errors)) < 3 * bound / np.sqrt(n_fits)
