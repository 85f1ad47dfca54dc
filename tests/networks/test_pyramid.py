# Licensed under a 3-clause BSD style license - see LICENSE.rst
import numpy as np
import pytest
import torch
from torch.testing import assert_close

from astroflux.networks.pyramid import (
    BLOCKS,
    CANVAS_SIZE,
    PICTURE_SIZES,
    REACH,
    Pyramid,
    symmetric_pictures,
    tiles,
)

# The picture of the pixels begins here.
EDGE = (CANVAS_SIZE - PICTURE_SIZES[0]) // 2


@pytest.fixture(scope='module')
def pyramid():
    return Pyramid()


@pytest.fixture(scope='module')
def side():
    return torch.as_tensor(tiles().side, dtype=torch.float32)


@pytest.fixture(scope='module')
def ones():
    return torch.ones(1, CANVAS_SIZE, CANVAS_SIZE)


def noise(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, CANVAS_SIZE, CANVAS_SIZE, generator=generator)


def tiles_at(dx, dy):
    """Return which tile holds the pixel at this distance from the centre."""
    all_tiles = tiles()
    distance = np.maximum(abs(all_tiles.x - dx), abs(all_tiles.y - dy))
    return np.flatnonzero(distance < all_tiles.side / 2)


# -- tiles -------------------------------------------------------------------------------------


def test_every_pixel_is_in_one_tile():
    all_tiles = tiles()
    number = np.zeros((CANVAS_SIZE, CANVAS_SIZE), int)
    for x, y, length in zip(all_tiles.x, all_tiles.y, all_tiles.side.astype(int), strict=True):
        top, left = int(y) + REACH - length // 2, int(x) + REACH - length // 2
        number[top : top + length, left : left + length] += 1
    assert np.all(number == 1)
    # single pixels where the galaxy is, blocks of 21 at the edge
    assert all_tiles.side[tiles_at(0, 0)] == all_tiles.side[tiles_at(7, -7)] == 1
    assert all_tiles.side[tiles_at(8, 0)] == all_tiles.side[tiles_at(-31, 31)] == 3
    assert all_tiles.side[tiles_at(32, 0)] == all_tiles.side[tiles_at(-52, 52)] == 7
    assert all_tiles.side[tiles_at(53, 0)] == all_tiles.side[tiles_at(-73, 73)] == 21


def test_bounds_tell_the_sides():
    all_tiles = tiles()
    for block, bounds, index in zip(BLOCKS, all_tiles.bounds, all_tiles.index, strict=True):
        assert np.all(all_tiles.side[bounds] == block)
        assert len(index) == len(all_tiles.side[bounds])
    assert all_tiles.bounds[0].start == 0
    assert all_tiles.bounds[-1].stop == len(all_tiles.x) == Pyramid().n_tiles


@pytest.mark.parametrize(('dx', 'dy'), [(0, 0), (5, -3), (-13, 13), (20, -27), (-60, 4), (73, 73)])
def test_a_bright_pixel_is_where_it_belongs(pyramid, side, ones, dx, dy):
    image = torch.zeros_like(ones)
    image[0, REACH + dy, REACH + dx] = 6.0
    raw, _ = pyramid(image, ones)
    value = pyramid.tile(raw.pictures)[0]
    (at,) = tiles_at(dx, dy)
    expected = torch.zeros_like(value)
    expected[at] = 6.0 / side[at]
    assert_close(value, expected)


# -- values and weights ------------------------------------------------------------------------


def test_flux_is_conserved(pyramid, side, ones):
    image = noise(3) + 1
    raw, filled = pyramid(image, ones)
    total = image.sum(dim=(1, 2))
    assert_close(pyramid.tile(raw.pictures) @ side, total, rtol=1e-5, atol=0)
    assert_close(pyramid.tile(filled.pictures) @ side, total, rtol=1e-5, atol=0)
    # and in each of the pictures, which cover the whole canvas, but for that of the pixels
    for length, size, picture in zip(BLOCKS, PICTURE_SIZES, raw.pictures, strict=True):
        assert picture.shape == (3, size, size)
        if length > 1:
            assert_close(length * picture.sum(dim=(1, 2)), total, rtol=1e-5, atol=0)
    assert_close(raw.pictures[0], image[:, EDGE:-EDGE, EDGE:-EDGE])


def test_noise_of_tiles_is_one(pyramid, ones):
    raw, _ = pyramid(noise(40), ones)
    value = pyramid.tile(raw.pictures)
    for bounds in tiles().bounds:
        # of 960 numbers or more
        assert value[:, bounds].std() == pytest.approx(1, abs=0.07)
    assert torch.all(pyramid.tile(raw.weights) == 1)


def test_weight_is_the_inverse_variance(pyramid, side):
    rng = np.random.default_rng(3)
    # alike within blocks of 21 pixels, and so within any tile
    variance = np.kron(rng.uniform(0.2, 5, (7, 7)), np.ones((21, 21)))
    variance = torch.as_tensor(variance, dtype=torch.float32)[None]
    image = noise(300, seed=5) * variance.sqrt()
    raw, _ = pyramid(image, 1 / variance)
    weight = pyramid.tile(raw.weights)
    all_tiles = tiles()
    y, x = (all_tiles.y + REACH).astype(int), (all_tiles.x + REACH).astype(int)
    assert_close(weight, 1 / variance[:, y, x])
    pull = pyramid.tile(raw.pictures) * weight.sqrt()
    assert pull.std() == pytest.approx(1, abs=0.005)
    for bounds in all_tiles.bounds:
        assert pull[:, bounds].std() == pytest.approx(1, abs=0.03)


def test_variances_within_a_tile_are_averaged(pyramid):
    weight = torch.ones(1, CANVAS_SIZE, CANVAS_SIZE)
    weight[0, 0, :7] = 1 / 8
    raw, _ = pyramid(torch.zeros_like(weight), weight)
    # 7 of 49 pixels have a variance of 8
    assert raw.weights[2][0, 0, 0] == pytest.approx(49 / (42 + 7 * 8))


def test_masked_pixels_are_as_bright_as_the_rest(pyramid):
    weight = torch.ones(1, CANVAS_SIZE, CANVAS_SIZE)
    weight[0, 3:5, 3:5] = 0
    weight[0, 6:9, 6:9] = 0
    image = 2.0 * (weight > 0)
    raw, _ = pyramid(image, weight)
    block, known = raw.pictures[1][0], raw.weights[1][0]
    assert block[0, 0] == block[1, 1] == pytest.approx(2 * 9 / 3)
    # the mean of five values, times nine, divided by three: variance 9 / 5
    assert known[1, 1] == pytest.approx(5 / 9)
    assert block[2, 2] == known[2, 2] == 0


def test_masked_pixel_is_zero(pyramid):
    weight = torch.ones(1, CANVAS_SIZE, CANVAS_SIZE)
    weight[0, EDGE + 3, EDGE + 4] = 0
    raw, _ = pyramid(2.0 * weight, weight)
    assert raw.pictures[0][0, 3, 4] == raw.weights[0][0, 3, 4] == 0
    assert raw.pictures[0][0, 4, 3] == 2 * raw.weights[0][0, 4, 3] == 2


# -- filling -----------------------------------------------------------------------------------


def test_missing_half_is_filled_from_the_other(pyramid, ones):
    image = noise(2)
    image = image + image.flip((-2, -1))
    complete, _ = pyramid(image, ones)
    weight = ones.clone()
    weight[:, :, : REACH - 4] = 0
    raw, filled = pyramid(image * weight, weight)
    for got, want, known in zip(filled.pictures, complete.pictures, filled.weights, strict=True):
        assert_close(got, want, rtol=1e-5, atol=1e-5)
        assert torch.all(known == 1)
    assert torch.all(raw.pictures[0][:, :, : REACH - 4 - EDGE] == 0)
    assert torch.all(raw.weights[0][:, :, : REACH - 4 - EDGE] == 0)


def test_only_stamps_that_lack_something_are_filled(pyramid):
    image, weight = noise(3), torch.ones(3, CANVAS_SIZE, CANVAS_SIZE)
    weight[1, REACH - 3 : REACH + 5, REACH + 2 :] = 0
    raw, filled = pyramid(image * weight, weight)
    alone = [pyramid((image * weight)[i : i + 1], weight[i : i + 1])[1] for i in range(3)]
    for level in range(len(BLOCKS)):
        for name in ('pictures', 'weights'):
            got = getattr(filled, name)[level]
            assert torch.equal(got, torch.cat([getattr(each, name)[level] for each in alone]))
            assert torch.equal(got[::2], getattr(raw, name)[level][::2])
    assert not torch.equal(filled.pictures[0][1], raw.pictures[0][1])


def test_what_fills_keeps_its_variance(pyramid):
    weight = torch.full((1, CANVAS_SIZE, CANVAS_SIZE), 0.5)
    weight[0, EDGE + 10, EDGE + 20] = 0
    weight[0, -EDGE - 11, -EDGE - 21] = 4.0
    image = torch.zeros_like(weight)
    image[0, -EDGE - 11, -EDGE - 21] = 3.0
    raw, filled = pyramid(image, weight)
    assert filled.pictures[0][0, 10, 20] == 3
    assert filled.weights[0][0, 10, 20] == 4
    assert raw.weights[0][0, 10, 20] == 0
    # the pixel that gave is as it was
    assert filled.weights[0][0, -11, -21] == 4


def test_missing_on_both_sides_stays_missing(pyramid, ones):
    weight = ones.clone()
    weight[0, EDGE + 10, EDGE + 20] = weight[0, -EDGE - 11, -EDGE - 21] = 0
    image = torch.ones_like(ones) * weight
    _, filled = pyramid(image, weight)
    assert filled.pictures[0][0, 10, 20] == filled.weights[0][0, 10, 20] == 0
    assert torch.isfinite(pyramid.tile(filled.pictures)).all()


@pytest.mark.parametrize('border', [0, 30])
def test_shared_weight(pyramid, ones, border):
    weight = ones.clone()
    weight[:, :, CANVAS_SIZE - border :] = 0
    image = noise(3) * weight
    shared, each = pyramid(image, weight), pyramid(image, weight.expand(3, -1, -1).clone())
    for one, other in zip(shared, each, strict=True):
        for got, want in zip(one.pictures, other.pictures, strict=True):
            assert torch.equal(got, want)
        for got, want in zip(one.weights, other.weights, strict=True):
            assert got.shape[0] == 1
            assert torch.equal(got.expand_as(want), want)


# -- symmetric pictures ------------------------------------------------------------------------


def test_neighbour_disappears(pyramid, ones, gaussian):
    galaxy, neighbour = gaussian(5.0, flux=1e5), gaussian(3.0, flux=5e4, dx=33, dy=12)
    _, alone = pyramid(galaxy[None], ones)
    _, both = pyramid((galaxy + neighbour)[None], ones)
    for got, want in zip(symmetric_pictures(both), symmetric_pictures(alone), strict=True):
        assert_close(got, want, rtol=1e-3, atol=1e-2)


def test_noise_alone_has_no_mean(pyramid, ones):
    _, filled = pyramid(noise(30, seed=9), ones)
    for picture in symmetric_pictures(filled):
        error = np.sqrt(2 / picture.numel())
        assert float(picture.mean()) == pytest.approx(0, abs=4 * error)
        assert torch.equal(picture, picture.flip((-2, -1)))


def test_nothing_known_on_one_side_is_zero(pyramid, ones):
    weight = ones.clone()
    weight[0, EDGE + 10, EDGE + 20] = weight[0, -EDGE - 11, -EDGE - 21] = 0
    _, filled = pyramid(weight.clone(), weight)
    picture = symmetric_pictures(filled)[0]
    assert picture[0, 10, 20] == picture[0, -11, -21] == 0
    assert picture[0, 10, 21] == pytest.approx(1 + 1 / np.sqrt(np.pi))
