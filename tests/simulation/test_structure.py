# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Galaxies with structure, and how accurately they are drawn."""

import numpy as np
import pytest

galsim = pytest.importorskip('galsim')

from astroflux.simulation import structure  # noqa: E402
from astroflux.simulation.scene import draw_galaxy  # noqa: E402
from astroflux.simulation.structure import STRUCTURES, structured_profile  # noqa: E402

RADIUS = 2.0
TRUTH = {'half_light_radius_1': RADIUS}


def photons_of(profile, n=4000, seed=1):
    photons = profile.shoot(n, galsim.BaseDeviate(seed))
    return photons.x, photons.y


def profiles_of(build, n=20):
    return [build(RADIUS, np.random.default_rng(seed)) for seed in range(n)]


def test_all_structures_are_reached(monkeypatch):
    seen = []

    def spy(build):
        def build_and_note(radius, rng):
            seen.append(build.__name__)
            return build(radius, rng)

        return build_and_note

    monkeypatch.setattr(structure, 'STRUCTURES', tuple(spy(build) for build in STRUCTURES))
    rng = np.random.default_rng(0)
    for _ in range(75):
        structured_profile(TRUTH, rng)
    assert set(seen) == {'_ring', 'arms', 'clumps', '_bar', '_patches'}
    # none is rare
    assert min(seen.count(name) for name in set(seen)) >= 6


def test_flux_is_one_and_most_of_it_is_near():
    rng = np.random.default_rng(2)
    far = []
    for _ in range(25):
        profile = structured_profile(TRUTH, rng)
        assert profile.flux == pytest.approx(1, rel=1e-6)
        x, y = photons_of(profile)
        far.append(np.mean(np.hypot(x, y) > 4 * RADIUS))
        assert np.median(np.hypot(x, y)) < 2 * RADIUS
    # loose spiral arms reach furthest
    assert max(far) < 0.25
    assert np.median(far) < 0.03


@pytest.mark.parametrize('build', STRUCTURES)
def test_flux_of_a_structure_is_one(build):
    for profile in profiles_of(build):
        assert profile.flux == pytest.approx(1, rel=1e-6)


@pytest.mark.parametrize('seed', range(4))
def test_same_seed_same_galaxy(seed):
    one, other = (structured_profile(TRUTH, np.random.default_rng(seed)) for _ in range(2))
    assert one == other
    assert one != structured_profile(TRUTH, np.random.default_rng(seed + 100))


@pytest.mark.parametrize('seed', range(8))
def test_radius_is_the_unit_of_length(seed):
    small, large = (
        structured_profile({'half_light_radius_1': radius}, np.random.default_rng(seed))
        for radius in (0.5, 1.5)
    )
    for one, other in zip(photons_of(small, 500), photons_of(large, 500), strict=True):
        np.testing.assert_allclose(other, 3 * np.asarray(one), rtol=1e-3, atol=1e-3)


# -- each structure ----------------------------------------------------------------------------


def test_ring_is_closed_and_empty_within():
    for profile in profiles_of(structure._ring, 8):
        x, y = photons_of(profile)
        radius, angle = np.hypot(x, y), np.arctan2(y, x)
        middle = np.median(radius)
        assert 0.65 * RADIUS < middle < 2.15 * RADIUS
        assert np.mean(radius < 0.3 * middle) < 0.05
        # neither a part of the circle is dark, nor the gaps between the blobs
        for turn in (2 * np.pi, 2 * np.pi / structure.N_RING_BLOBS):
            number = np.histogram(angle % turn, 8, (0, turn))[0]
            assert number.min() > 0.4 * number.mean()


def test_arms_lie_across_the_centre():
    """Of a pair of arms one is the other turned by 180 degrees, but for its clumps of light."""
    for profile in profiles_of(structure.arms, 8):
        components = profile.obj_list
        assert len(components) == 2 * structure.N_ARM_BLOBS
        centres = np.array([(c.centroid.x, c.centroid.y) for c in components])
        first, second = np.split(centres, 2)
        np.testing.assert_allclose(second, -first, atol=1e-9)
        # wound: radius and angle both grow along an arm
        radius = np.hypot(*first.T)
        assert np.all(np.diff(radius) > 0)
        turned = np.unwrap(np.arctan2(first[:, 1], first[:, 0]))
        assert 0.6 * np.pi - 1e-6 < turned[-1] - turned[0] < 1.4 * np.pi + 1e-6


def test_clumps_are_few_and_near():
    numbers = set()
    for profile in profiles_of(structure.clumps, 40):
        components = profile.obj_list
        numbers.add(len(components))
        for clump in components:
            assert np.hypot(clump.centroid.x, clump.centroid.y) <= 1.3 * RADIUS * (1 + 1e-9)
            assert clump.flux > 0
    assert min(numbers) >= 3
    assert max(numbers) <= 9
    assert len(numbers) >= 5


def test_bar_is_long_and_narrow():
    angles = []
    for profile in profiles_of(structure._bar, 8):
        x, y = photons_of(profile)
        small, large = np.sqrt(np.linalg.eigvalsh(np.cov(x, y)))
        assert 0.18 < small / large < 0.43
        # round, a Gaussian's half-light radius is 1.177 sigma
        assert 0.28 * RADIUS < 1.177 * np.sqrt(small * large) < 0.95 * RADIUS
        angles.append(0.5 * np.arctan2(2 * np.cov(x, y)[0, 1], np.var(x) - np.var(y)))
    assert np.ptp(angles) > 1


def test_patches_lie_beside_the_centre():
    numbers = set()
    for profile in profiles_of(structure._patches, 30):
        numbers.add(len(profile.obj_list))
        for patch in profile.obj_list:
            distance = np.hypot(patch.centroid.x, patch.centroid.y)
            assert 0.2 * RADIUS - 1e-9 < distance < 1.2 * RADIUS + 1e-9
    assert numbers == {1, 2, 3}


def test_light_is_centred():
    for profile in (structured_profile(TRUTH, np.random.default_rng(seed)) for seed in range(20)):
        assert np.hypot(profile.centroid.x, profile.centroid.y) < 1e-9 * RADIUS


# -- drawing -----------------------------------------------------------------------------------

MOFFAT = galsim.Moffat(beta=2.5, fwhm=0.8)
STAMP = ((31, 31), 0.25)


@pytest.mark.parametrize('seed', range(3))
def test_it_can_be_drawn(seed):
    profile = structured_profile({'half_light_radius_1': 0.4}, np.random.default_rng(seed))
    image = draw_galaxy(profile, MOFFAT, *STAMP)
    assert image.dtype == np.float32
    assert image.shape == STAMP[0]
    assert 0.9 < image.sum() <= 1.001
    assert image.min() > -1e-3 * image.max()


def test_accuracy_is_that_of_galsim():
    profile = galsim.Sersic(n=4.0, half_light_radius=2.0)
    settings = {'folding_threshold': 0.1, 'maxk_threshold': 0.02}
    coarse = draw_galaxy(profile, MOFFAT, *STAMP, offset=(0.3, -0.2), accuracy=settings)
    both = (part.withGSParams(galsim.GSParams(**settings)) for part in (profile, MOFFAT))
    expected = galsim.Convolve(*both).drawImage(
        nx=31, ny=31, scale=0.25, offset=(0.3, -0.2), dtype=np.float32
    )
    np.testing.assert_array_equal(coarse, expected.array)
    usual = draw_galaxy(profile, MOFFAT, *STAMP, offset=(0.3, -0.2))
    assert 0 < np.abs(coarse - usual).max() < 0.01 * usual.max()


def test_accuracy_is_what_it_says():
    profile = galsim.Sersic(n=4.0, half_light_radius=2.0)
    usual = draw_galaxy(profile, MOFFAT, *STAMP)
    for nothing in (None, {}, {'folding_threshold': 0.005}):
        # the last is GalSim's own
        np.testing.assert_array_equal(draw_galaxy(profile, MOFFAT, *STAMP, accuracy=nothing), usual)
    best = draw_galaxy(profile, MOFFAT, *STAMP, accuracy={'folding_threshold': 1e-3})
    error = [
        np.abs(draw_galaxy(profile, MOFFAT, *STAMP, accuracy={'folding_threshold': t}) - best).max()
        for t in (0.1, 0.03, 0.005)
    ]
    assert error[0] > 2 * error[1] > 4 * error[2] > 0
    assert error[0] < 1e-3 * best.max()
