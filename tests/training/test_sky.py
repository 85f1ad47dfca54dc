# Licensed under a 3-clause BSD style license - see LICENSE.rst

import numpy as np
import pytest

from astroflux.networks.pyramid import CANVAS_SIZE, REACH
from astroflux.simulation import SkyPopulation
from astroflux.training import read_configuration
from astroflux.training.observe import ObservationSettings, observe
from astroflux.training.sky import add_stamp, draw_sky

pytest.importorskip('galsim')

EMPTY = SkyPopulation(density=(1e-6, 1e-6), companion_rate=(0.0, 0.0), variance_factor=(0.81, 0.81))
UNMASKED = (1.0, 0.0, 0.0, 0.0)
QUIET = {'uneven_noise_fraction': 0.0, 'photon_noise_fraction': 0.0}


def settings(sky=None, **changes):
    return ObservationSettings(
        sky=sky or SkyPopulation(), sky_fraction=1.0, defect_fraction=0.0, **changes
    )


def alone(library, index, flux):
    canvas = np.zeros((CANVAS_SIZE, CANVAS_SIZE), np.float32)
    add_stamp(canvas, library.stamps[index], flux * library.unit_peak[index], 0, 0)
    return canvas


def test_stamp_is_moved_and_cut_at_the_edge():
    canvas = np.zeros((CANVAS_SIZE, CANVAS_SIZE), np.float32)
    stamp = np.arange(1.0, 10.0, dtype=np.float32).reshape(3, 3)
    add_stamp(canvas, stamp, 2.0, 4, -3)
    assert canvas[REACH - 3, REACH + 4] == 10
    assert canvas.sum() == 2 * stamp.sum()
    add_stamp(canvas, stamp, 1.0, REACH + 1, 0)
    assert canvas[:, -1].sum() == 1 + 4 + 7
    before = canvas.copy()
    add_stamp(canvas, stamp, 1.0, REACH + 5, 0)
    np.testing.assert_array_equal(canvas, before)


def test_light_is_that_of_the_sources(library):
    sky = SkyPopulation(density=(30.0, 30.0), star_share=(1e-6, 1e-6), companion_rate=(0.0, 0.0))
    light = np.mean(
        [
            draw_sky(library, 0, alone(library, 0, 1.0), 1.0, sky, rng).light.mean()
            for rng in map(np.random.default_rng, range(30))
        ]
    )
    fwhm = library.psf[library.group[0], 0]
    expected = np.mean(
        [
            sky.draw((500, 500), fwhm, rng, target_flux=1.0).flux.sum() / 500**2
            for rng in map(np.random.default_rng, range(30))
        ]
    )
    assert light == pytest.approx(expected, rel=0.4)


def test_empty_sky_is_noise_with_a_wrong_variance(library):
    options = settings(
        EMPTY, snr=(1e-6, 1.1e-6), sky_residual=0, correlated_noise_fraction=0.0, **QUIET
    )
    seen = observe(library, np.arange(16), options, np.random.default_rng(1))
    used = seen.weight > 0
    assert np.unique(seen.weight[used]).tolist() == [1.0]
    assert seen.image[used].std() == pytest.approx(1 / 0.9, abs=0.01)
    np.testing.assert_array_less(seen.effective_snr, seen.snr)


def test_neighbors_know_nothing_of_the_galaxy(library):
    """Beside a faint galaxy most of the detected light is brighter than it is."""
    sky = SkyPopulation(footprint_shares=UNMASKED)
    flux = 5 / library.unit_norm[3]
    skies = [
        draw_sky(library, 3, alone(library, 3, flux), flux, sky, rng)
        for rng in map(np.random.default_rng, range(20))
    ]
    brightest = [each.light.max() for each in skies]
    assert np.median(brightest) > 2 * flux * library.unit_peak[3]
    # the background was taken with what is too faint to be seen
    levels = [each.level for each in skies]
    assert -0.2 < np.mean(levels) < -0.005


def test_observations_of_a_sky_are_seeded(library):
    one, other = (
        observe(library, np.arange(8), settings(), np.random.default_rng(9)) for _ in range(2)
    )
    for name, value in one.arrays().items():
        np.testing.assert_array_equal(value, other.arrays()[name])


def test_footprints_mask_pixels(library):
    counts = {}
    for kind, shares in (('none', UNMASKED), ('grown', (0.0, 0.0, 1.0, 0.0))):
        options = settings(SkyPopulation(footprint_shares=shares), small_stamp_fraction=0.0)
        seen = observe(library, np.arange(16), options, np.random.default_rng(2))
        counts[kind] = (seen.weight > 0).mean()
    assert counts['grown'] < counts['none'] - 0.01


def test_sky_of_a_configuration(configuration, tmp_path):
    path = tmp_path / 'sky.toml'
    sky = 'sky_fraction = 0.5\nsky = {density = [2.0, 3.0]}\n[network]'
    path.write_text(configuration.read_text().replace('[network]', sky))
    config = read_configuration(path)
    for stamps in (config.training, config.validation, config.calibration):
        assert stamps.observation.sky_fraction == 0.5
        assert stamps.observation.sky == SkyPopulation(density=[2.0, 3.0])
    assert read_configuration(configuration).training.observation.sky == SkyPopulation()
