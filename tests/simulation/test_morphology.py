# Licensed under a 3-clause BSD style license - see LICENSE.rst

import numpy as np
import pytest

galsim = pytest.importorskip('galsim')

from astroflux.simulation import morphology  # noqa: E402
from astroflux.simulation.morphology import KINDS, morphological_profile  # noqa: E402

RADIUS = 2.0
TRUTH = {'half_light_radius_1': RADIUS, 'axis_ratio_1': 0.3}


def photons_of(profile, n=4000, seed=1):
    photons = profile.shoot(n, galsim.BaseDeviate(seed))
    return photons.x, photons.y


@pytest.mark.parametrize('kind', KINDS)
def test_each_kind_has_unit_flux_about_its_radius(kind):
    for seed in range(8):
        profile = kind(RADIUS, 0.3, np.random.default_rng(seed))
        assert profile.flux == pytest.approx(1, rel=1e-6)
        x, y = photons_of(profile.shift(-profile.centroid))
        assert 0.2 * RADIUS < np.median(np.hypot(x, y)) < 2.5 * RADIUS


def test_all_kinds_are_drawn(monkeypatch):
    drawn = []

    def spy(kind):
        def noted(*arguments):
            drawn.append(kind.__name__)
            return kind(*arguments)

        return noted

    monkeypatch.setattr(morphology, 'KINDS', tuple(map(spy, KINDS)))
    rng = np.random.default_rng(0)
    for _ in range(90):
        profile = morphological_profile(TRUTH, rng)
        assert profile.flux == pytest.approx(1, rel=1e-6)
        assert np.hypot(profile.centroid.x, profile.centroid.y) < 1e-6 * RADIUS
    counts = [drawn.count(kind.__name__) for kind in KINDS]
    assert min(counts) >= 6


def test_same_seed_same_galaxy():
    one, other, third = (
        morphological_profile(TRUTH, np.random.default_rng(seed)) for seed in (3, 3, 4)
    )
    assert one == other
    assert one != third


def test_bulge_of_an_inclined_disc_stays_round():
    """The disc is as flat as the galaxy is inclined, the bulge in its middle is not."""
    profile = morphology.edge_on(RADIUS, 0.2, np.random.default_rng(5))
    seen = profile.shear(q=0.2, beta=0 * galsim.degrees)
    x, y = photons_of(seen, 40_000)
    # medians within and beyond: the bulge is small
    inner = np.hypot(x, y) < 0.15 * RADIUS
    outer = abs(x) > 1.5 * RADIUS
    assert np.std(y[inner]) / np.std(x[inner]) > 0.5
    assert np.median(abs(y[outer])) / np.median(abs(x[outer])) < 0.2


def test_shells_reach_far():
    profiles = [morphology.shells(RADIUS, 1.0, np.random.default_rng(s)) for s in range(20)]
    reach = [
        max(np.hypot(b.centroid.x, b.centroid.y) for b in debris_of(profile))
        for profile in profiles
    ]
    assert max(reach) > 4 * RADIUS
    assert max(reach) < 6 * RADIUS


def debris_of(profile):
    return [part for part in parts_of(profile) if isinstance(part, galsim.Transformation)]


def parts_of(profile):
    """Return the parts of nested sums."""
    if isinstance(profile, galsim.Sum):
        return [part for each in profile.obj_list for part in parts_of(each)]
    if isinstance(profile, galsim.Transformation) and isinstance(profile.original, galsim.Sum):
        return parts_of(profile.original)
    return [profile]


def test_nucleus_is_a_point(monkeypatch):
    monkeypatch.setattr(morphology, 'NUCLEUS_FRACTION', 1.0)
    monkeypatch.setattr(morphology, 'HALO_FRACTION', 0.0)
    monkeypatch.setattr(morphology, 'NUCLEUS_SHARE', (0.3, 0.3))
    profile = morphological_profile(TRUTH, np.random.default_rng(1))
    x, y = photons_of(profile)
    # it is where the light of the rest is centered, and so is the whole
    assert np.mean(np.hypot(x, y) < 0.05 * RADIUS) > 0.28
