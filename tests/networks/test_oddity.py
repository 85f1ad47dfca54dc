# Licensed under a 3-clause BSD style license - see LICENSE.rst
import math

import numpy as np
import pytest
import torch

from astroflux.networks.oddity import Oddity
from astroflux.networks.pyramid import PICTURE_SIZES, Pyramid, tiles

SIZE = PICTURE_SIZES[0]
LN_FWHM = math.log(4.0)


def noise(n, seed=0):
    """Return pulls and pictures of nothing but noise."""
    generator = torch.Generator().manual_seed(seed)
    pull = torch.randn(n, len(tiles().x), generator=generator)
    return pull, torch.randn(n, SIZE, SIZE, generator=generator)


def look(pull, picture, ln_fwhm=LN_FWHM):
    features = Oddity()(pull, picture, torch.full((len(pull),), ln_fwhm))
    assert features.shape == (len(pull), Oddity.n_features)
    assert torch.isfinite(features).all()
    scale, quiet, loud, mean, rest = features.split([4, 4, 4, 4, 5], dim=1)
    return {'scale': scale, 'quiet': quiet, 'loud': loud, 'mean': mean, 'rest': rest}


def in_quadrant():
    """Return where tiles are in the upper right."""
    all_tiles = tiles()
    return torch.as_tensor((all_tiles.x > 0) & (all_tiles.y > 0))


def test_pure_noise():
    seen = look(*noise(500))
    assert float(seen['scale'].exp().mean()) == pytest.approx(1.01, abs=0.03)
    assert float((seen['quiet'] ** 2).mean()) == pytest.approx(
        math.erf(0.15 / math.sqrt(2)), abs=0.01
    )
    assert float((seen['loud'] ** 2).mean()) < 0.001
    assert float(seen['mean'].mean()) == pytest.approx(0, abs=0.1)


@pytest.mark.parametrize('factor', [0.3, 4.0])
def test_wrong_noise_shows_in_all_quadrants(factor):
    pull, picture = noise(50)
    seen = look(factor * pull, picture)
    assert torch.all((seen['scale'] - math.log(factor)).abs() < 0.4)


def test_quadrant_without_noise_is_the_first():
    pull, picture = noise(50)
    pull[:, in_quadrant()] *= 1e-3
    seen = look(pull, picture)
    assert torch.all(seen['scale'][:, 0] < -3)
    assert torch.all(seen['scale'][:, 1] > -0.5)
    assert torch.all(seen['quiet'][:, 3] > 0.99)
    assert torch.all(seen['quiet'][:, 2] < 0.6)


def test_light_in_a_quadrant_is_the_last():
    pull, picture = noise(50)
    pull[:, in_quadrant()] += 5
    seen = look(pull, picture)
    for name in ('scale', 'loud', 'mean'):
        assert torch.all(seen[name][:, 3] > seen[name][:, 2] + 0.5), name


def test_which_quadrant_does_not_matter():
    all_tiles = tiles()
    found = []
    for x, y in ((1, 1), (1, -1), (-1, -1)):
        pull, picture = noise(1)
        pull[:] = 0.5
        pull[:, torch.as_tensor((x * all_tiles.x > 0) & (y * all_tiles.y > 0))] = 7
        found.append(look(pull, picture)['mean'])
    torch.testing.assert_close(found[0], found[1])
    torch.testing.assert_close(found[0], found[2])


def test_what_no_pixel_shows_is_usual():
    pull, picture = noise(40)
    usual = look(pull, picture)
    pull[:, in_quadrant()] = 0
    seen = look(pull, picture)
    for name in ('scale', 'quiet', 'loud', 'mean'):
        assert float((seen[name] - usual[name]).abs().mean()) < 0.6, name
    assert torch.all(seen['scale'].abs() < 0.6)


@pytest.mark.parametrize('flux', [100.0, 1e4, 1e6])
@pytest.mark.parametrize('fwhm', [1.8, 4.0])
def test_stars_are_not_sharp(flux, fwhm, gaussian):
    sigma = fwhm / 2.355
    star = gaussian(math.hypot(sigma, math.sqrt(1 / 12)), flux=flux)
    raw, _ = Pyramid()(star[None], torch.ones(1, *star.shape))
    pull, picture = noise(1)
    alone = look(pull, picture, math.log(fwhm))['rest'][0, 0]
    with_star = look(pull, picture + raw.pictures[0], math.log(fwhm))['rest'][0, 0]
    assert with_star <= alone + 0.7


@pytest.mark.parametrize('length', [1, 6])
@pytest.mark.parametrize('across', [True, False])
def test_cosmic_rays_are_sharp(length, across):
    pull, picture = noise(1)
    alone = look(pull, picture)['rest'][0, 0]
    ray = np.s_[0, 20, 11 : 11 + length] if across else np.s_[0, 11 : 11 + length, 20]
    picture[ray] += 60
    assert look(pull, picture)['rest'][0, 0] > alone + 1.5
    # with a PSF that narrow they may be stars
    assert look(pull, picture, math.log(1.1))['rest'][0, 0] == 0


def test_strongest_pixels():
    pull, picture = noise(1)
    centre = tiles().bounds[0]
    pull[0, centre][30], pull[0, centre][40] = 50, -80
    high, low = look(pull, picture)['rest'][0, 1:3]
    assert float(high.sinh()) == pytest.approx(50, rel=1e-4)
    assert float(low.sinh()) == pytest.approx(80, rel=1e-4)


def on_line(angle, offset, width=2.0):
    """Return where tiles are within some pixels of a straight line."""
    all_tiles = tiles()
    across = all_tiles.x * math.sin(angle) - all_tiles.y * math.cos(angle) - offset
    return torch.as_tensor(np.abs(across) < width + 0.5 * all_tiles.side)


@pytest.mark.parametrize('angle', np.deg2rad([0.0, 17.0, 45.0, 93.0, 131.0, 176.0]))
@pytest.mark.parametrize('offset', [0.0, -11.0, 18.0])
def test_trail_is_a_line(angle, offset):
    pull, picture = noise(20)
    alone = look(pull, picture)['rest'][:, 3]
    pull[:, on_line(angle, offset)] += 6
    assert torch.all(look(pull, picture)['rest'][:, 3] > alone.max() + 1)


def test_neighbours_are_no_line():
    pull, picture = noise(20)
    all_tiles = tiles()
    trail = pull.clone()
    trail[:, on_line(0.3, 5.0)] += 6
    for x, y in ((25, 10), (-30, 12), (0, -20)):
        pull[:, torch.as_tensor(np.hypot(all_tiles.x - x, all_tiles.y - y) < 12)] += 60
    seen = look(pull, picture)['rest'][:, 3]
    assert torch.all(1.7 * seen < look(trail, picture)['rest'][:, 3])


def test_short_lines_say_nothing():
    """In a small stamp a neighbour may reach from edge to edge."""
    pull, picture = noise(5)
    all_tiles = tiles()
    pull[:, torch.as_tensor(np.maximum(abs(all_tiles.x), abs(all_tiles.y)) > 16)] = 0
    pull[pull != 0] += 10
    assert torch.all(look(pull, picture)['rest'][:, 3] < 1)


def test_saturated_core_is_flat(gaussian):
    star = gaussian(4.0, flux=1e5)
    raw, _ = Pyramid()(star[None], torch.ones(1, *star.shape))
    picture = raw.pictures[0] + noise(1)[1]
    whole = look(noise(1)[0], picture)['rest'][0, 4]
    assert whole == 0
    flat = picture.clamp(max=0.4 * float(picture.max()))
    assert look(noise(1)[0], flat)['rest'][0, 4] > 1
    # nothing is not flat
    assert look(noise(1)[0], torch.zeros_like(picture))['rest'][0, 4] == 0
