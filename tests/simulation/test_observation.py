# Licensed under a 3-clause BSD style license - see LICENSE.rst
import numpy as np
import pytest
from astropy import units as u
from astropy.wcs.utils import proj_plane_pixel_scales

from astroflux.cutouts import iter_cutouts
from astroflux.simulation import (
    CutoutSimulation,
    GalaxyPopulation,
    Survey,
    draw_galaxy,
    draw_psf,
    galaxy_profile,
    get_survey,
    psf_profile,
    simulate_cutouts,
)
from astroflux.simulation.surveys import SURVEYS

pytest.importorskip('galsim')

PSF = {'psf_fwhm': 0.7, 'moffat_beta': 3.5, 'psf_g1': 0.0, 'psf_g2': 0.0}
GALAXY = {
    'n_components': 1,
    'sersic_index_1': 1.0,
    'half_light_radius_1': 0.6,
    'axis_ratio_1': 0.5,
    'position_angle_1': 0.0,
}


def test_flux_is_the_whole_galaxys():
    profile, psf = galaxy_profile(GALAXY), psf_profile(PSF)
    assert profile.flux == pytest.approx(1)
    wide = draw_galaxy(profile, psf, (401, 401), 0.168)
    assert wide.sum() == pytest.approx(1, abs=3e-3)
    narrow = draw_galaxy(profile, psf, (15, 15), 0.168)
    assert narrow.sum() < 0.9


def test_two_components_share_the_flux():
    truth = {
        **GALAXY,
        'n_components': 2,
        'sersic_index_2': 4.0,
        'half_light_radius_2': 0.2,
        'axis_ratio_2': 0.9,
        'position_angle_2': 10.0,
        'bulge_to_total': 0.3,
    }
    profile = galaxy_profile(truth)
    assert profile.flux == pytest.approx(1)
    assert sorted(part.flux for part in profile.obj_list) == pytest.approx([0.3, 0.7])


def test_axis_ratio_position_angle_and_offset():
    image = draw_galaxy(galaxy_profile(GALAXY), psf_profile(PSF), (61, 81), 0.168, offset=(3, -2))
    assert image.shape == (61, 81)
    y, x = np.indices(image.shape)
    total = image.sum()
    assert (image * x).sum() / total == pytest.approx(43, abs=0.02)
    assert (image * y).sum() / total == pytest.approx(28, abs=0.02)
    # position angle 0: the long axis along x
    assert (image * (x - 43) ** 2).sum() > 1.5 * (image * (y - 28) ** 2).sum()


def test_psf_image_is_normalised():
    image = draw_psf(psf_profile({**PSF, 'moffat_beta': np.nan}), 0.168)
    assert image.shape == (43, 43)
    assert image.sum() == pytest.approx(1, abs=1e-6)
    assert image.argmax() == image.size // 2


def test_cutout_is_what_the_survey_delivers():
    cutout, truth = next(simulate_cutouts(1, seed=3))
    survey = get_survey('hsc-wide')
    assert cutout.shape == (143, 143)
    assert cutout.unit == u.adu
    assert cutout.meta['zeropoint'] == 27.0
    assert np.all(cutout.uncertainty.array == np.float32(survey.noise))
    assert proj_plane_pixel_scales(cutout.wcs) * 3600 == pytest.approx([0.168, 0.168], rel=1e-6)
    assert cutout.psf.sum() == pytest.approx(1, abs=1e-6)
    assert truth['magnitude'] == pytest.approx(27 - 2.5 * np.log10(truth['flux']))
    corner = cutout.data[:20, :20]
    assert corner.std() == pytest.approx(survey.noise, rel=0.1)


@pytest.mark.parametrize('name', SURVEYS)
def test_every_survey_can_be_measured(name):
    survey = get_survey(name)
    assert survey.name == name
    scale = survey.pixel_scale
    galaxies = GalaxyPopulation(half_light_radius=(2 * scale, 3 * scale), snr=(20.0, 30.0))
    cutout, truth = CutoutSimulation(survey, galaxies).draw(np.random.default_rng(1))
    parsed = next(iter_cutouts(cutout))
    assert parsed.flags == 0
    # the pixel widens it
    assert parsed.psf_fwhm * scale == pytest.approx(truth['psf_fwhm'], rel=0.15)
    assert cutout.data[:20, :20].std() == pytest.approx(survey.noise, rel=0.1)


def test_snr_is_the_models_over_the_noise():
    simulation = CutoutSimulation(galaxies=GalaxyPopulation(snr=(200.0, 200.001)))
    cutout, truth = simulation.draw(np.random.default_rng(5))
    offset = truth['x_offset'], truth['y_offset']
    model = truth['flux'] * draw_galaxy(
        galaxy_profile(truth), psf_profile(truth), (143, 143), 0.168, offset=offset
    )
    assert np.sqrt((model**2).sum()) / 0.05 == pytest.approx(200, rel=1e-4)
    residual = (cutout.data - model) / 0.05
    assert residual.std() == pytest.approx(1, abs=0.03)
    assert residual.mean() == pytest.approx(0, abs=0.1)


def test_a_cutout_depends_on_its_number_alone():
    some = list(simulate_cutouts(3, seed=11))
    last = next(simulate_cutouts(3, seed=11, start=2))
    np.testing.assert_array_equal(some[2][0].data, last[0].data)
    assert some[2][1]['flux'] == last[1]['flux']
    assert some[0][1]['flux'] != some[1][1]['flux']
    assert next(simulate_cutouts(1, seed=12))[1]['flux'] != some[0][1]['flux']


def test_neighbours():
    alone = CutoutSimulation()
    crowded = CutoutSimulation(neighbors=(2, 2))
    _, truth = alone.draw(np.random.default_rng(2))
    assert truth['n_neighbours'] == 0
    assert np.isnan(truth['neighbour_distance'])
    for seed in range(5):
        cutout, truth = crowded.draw(np.random.default_rng(seed))
        assert truth['n_neighbours'] == 2
        assert 1.2 <= truth['neighbour_distance'] <= 4.0
        assert 0.1 <= truth['neighbour_flux_ratio'] <= 2.0
        assert np.isfinite(cutout.data).all()


def test_neighbours_must_be_a_range():
    with pytest.raises(ValueError, match=r'0 <= fewest <= most, got \(3, 1\)'):
        CutoutSimulation(neighbors=(3, 1))


def test_survey_from_surveycodex():
    pytest.importorskip('surveycodex')
    survey = get_survey('LSST-i')
    assert isinstance(survey, Survey)
    assert survey.pixel_scale == pytest.approx(0.2)
    assert survey.zeropoint == 27.0
    assert 0.001 < survey.noise < 0.1
    assert survey.psf_fwhm[0] < survey.psf_fwhm[1]


def test_unknown_survey():
    pytest.importorskip('surveycodex')
    with pytest.raises(ValueError, match="unknown survey 'nowhere': want 'hsc-wide'"):
        get_survey('nowhere')
    with pytest.raises(ValueError, match=r"has the bands .*, got 'q'"):
        get_survey('HSC-q')


@pytest.mark.parametrize(('shape', 'size'), [((32, 50), 31), ((41, 41), 41), ((143, 143), 43)])
def test_psf_image_is_not_larger_than_the_cutout(shape, size):
    cutout, _ = next(simulate_cutouts(1, CutoutSimulation(shape=shape), seed=3))
    assert cutout.psf.shape == (size, size)
    assert cutout.psf.sum() == pytest.approx(1, rel=1e-5)
