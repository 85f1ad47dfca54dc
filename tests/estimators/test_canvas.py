# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""How cutouts come onto the network's canvas, and back."""

from collections import OrderedDict
from itertools import product

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import NDData, StdDevUncertainty
from numpy.testing import assert_allclose, assert_array_equal

from astroflux.cutouts import iter_cutouts
from astroflux.estimators import _canvas
from astroflux.estimators._canvas import Canvases
from astroflux.networks.orientation import Orientation
from astroflux.networks.psf_mixture import N_PSF_NUMBERS, fit_psf_mixtures, psf_numbers
from astroflux.networks.pyramid import CANVAS_SIZE, REACH

ORIENTATIONS = [Orientation(*flags) for flags in product((False, True), repeat=3)]


@pytest.fixture(autouse=True)
def nothing_remembered(monkeypatch):
    """Let no test know the PSFs of another."""
    monkeypatch.setattr(_canvas, '_remembered', OrderedDict())


def cutouts_of(images, noise=1.0, masks=None, **keywords):
    """Return cutouts of images, with a noise of one number or an array for each."""
    noises = noise if isinstance(noise, list) else [noise] * len(images)
    masks = masks or [None] * len(images)
    data = [
        NDData(
            np.array(image),
            uncertainty=StdDevUncertainty(np.broadcast_to(sigma, image.shape).copy()),
            mask=None if mask is None else np.array(mask),
            unit=u.nJy,
        )
        for image, sigma, mask in zip(images, noises, masks, strict=True)
    ]
    return list(iter_cutouts(data, **keywords))


def canvas_of(image, noise=1.0, mask=None, *, binning=1, **keywords):
    return Canvases(cutouts_of([image], [noise], [mask], **keywords), binning)


def noise_image(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def star(shape, x, y, value=100.0):
    image = np.zeros(shape)
    image[y, x] = value
    return image


def galaxy(shape, seed=0):
    """A galaxy whose light leans to one side, in noise."""
    cy, cx = ((n - 1) / 2 for n in shape)
    y, x = np.indices(shape)
    core = 80 * np.exp(-0.5 * ((x - cx - 0.3) ** 2 + (y - cy + 0.2) ** 2) / 3**2)
    knot = 20 * np.exp(-0.5 * ((x - cx - 6) ** 2 + (y - cy + 3) ** 2) / 2**2)
    return core + knot + noise_image(shape, seed)


# -- orientation -------------------------------------------------------------------------------


@pytest.mark.parametrize('orientation', ORIENTATIONS)
def test_undo_is_the_inverse_of_apply(orientation):
    image = np.arange(12).reshape(3, 4)
    assert_array_equal(orientation.undo(orientation.apply(image)), image)
    turned = np.arange(12).reshape((4, 3) if orientation.transpose else (3, 4))
    assert_array_equal(orientation.apply(orientation.undo(turned)), turned)
    # a view, not a copy
    assert np.shares_memory(orientation.apply(image), image)


def test_eight_orientations_are_eight():
    image = np.arange(9).reshape(3, 3)
    assert len({orientation.apply(image).tobytes() for orientation in ORIENTATIONS}) == 8


@pytest.mark.parametrize('orientation', ORIENTATIONS)
@pytest.mark.parametrize(('x', 'y'), [(0, 0), (5, 2), (3, 6)])
def test_move_follows_a_pixel(orientation, x, y):
    image = star((7, 10), x, y)
    new_x, new_y = orientation.move((x, y), image.shape)
    assert orientation.apply(image)[new_y, new_x] == 100


@pytest.mark.parametrize(('dx', 'dy'), [*product((-9, -4, 4, 9), repeat=2)])
def test_light_leans_to_the_right(dx, dy):
    image = star((61, 61), 30 + dx, 30 + dy)
    y, x = np.argwhere(Orientation.of(image, (30, 30)).apply(image))[0]
    assert x > 30
    assert y > 30
    assert x >= y


def test_only_light_near_the_galaxy_decides():
    image = star((101, 101), 55, 52) + star((101, 101), 1, 1, 1e5)
    assert Orientation.of(image, (50.0, 50.0)) == Orientation(False, False, False)


def turns(image):
    return [orientation.apply(image) for orientation in ORIENTATIONS]


@pytest.mark.parametrize('shape', [(61, 61), (62, 62), (45, 61), (48, 63), (160, 151)])
def test_turned_cutouts_look_the_same(shape):
    image = galaxy(shape)
    sigma = np.random.default_rng(1).uniform(0.8, 1.2, shape)
    mask = np.random.default_rng(2).random(shape) < 0.02
    canvases = Canvases(cutouts_of(turns(image), turns(sigma), turns(mask)))
    assert len(set(canvases.orientations)) == 8
    for picture, weight in zip(canvases.image, canvases.weight, strict=True):
        assert_array_equal(picture, canvases.image[0])
        assert_array_equal(weight, canvases.weight[0])
    assert canvases.image[0].any()
    assert len(set(canvases.scale)) == 1
    assert np.all(canvases.cropped == (max(shape) > CANVAS_SIZE))


@pytest.mark.parametrize('x_y', [(20.0, 33.0), (20.3, 33.2), (20.6, 32.9)])
def test_turned_cutouts_with_a_position_look_the_same(x_y):
    image = galaxy((61, 58))
    positions = [orientation.move(x_y, image.shape) for orientation in ORIENTATIONS]
    canvases = Canvases(cutouts_of(turns(image), positions=positions))
    assert len(set(canvases.orientations)) == 8
    for picture in canvases.image:
        assert_array_equal(picture, canvases.image[0])


@pytest.mark.parametrize('shape', [(61, 61), (62, 62), (64, 50)])
def test_turned_noise_looks_the_same(shape):
    """Where the light leans by little, so that the box must be exactly the same."""
    for seed in range(12):
        canvases = Canvases(cutouts_of(turns(noise_image(shape, seed))))
        for picture in canvases.image:
            assert_array_equal(picture, canvases.image[0])


# -- where things are --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('shape', 'position', 'pixel'),
    [
        ((61, 61), None, (30, 30)),
        ((61, 45), (10.0, 40.0), (10, 40)),
        ((61, 45), (10.4, 39.7), (10, 40)),
        ((200, 149), (70.0, 120.0), (70, 120)),
        ((20, 9), None, (4, 10)),
    ],
)
def test_the_galaxy_is_in_the_centre(shape, position, pixel):
    x, y = pixel
    image = star(shape, x, y)
    image[y + 1, x + 2] = 50
    canvas = canvas_of(image, positions=None if position is None else [position])
    assert canvas.image[0, REACH, REACH] == 100
    away = abs(np.argwhere(canvas.image[0] == 50)[0] - REACH)
    assert sorted(away) == [1, 2]
    assert np.count_nonzero(canvas.image) == 2


def test_half_a_pixel_is_rounded_the_same_way():
    """Of an even number of pixels, the galaxy is between two: the upper one is central."""
    canvas = canvas_of(star((60, 62), 31, 30))
    assert canvas.orientations[0] == Orientation()
    assert canvas.image[0, REACH, REACH] == 100
    # and so also when it comes turned
    assert canvas_of(star((60, 62), 30, 29)).image[0, REACH, REACH] == 100


@pytest.mark.parametrize('shape', [(61, 61), (147, 147), (200, 149), (150, 60), (512, 512)])
def test_canvas_holds_the_cutout_or_its_middle(shape):
    image = noise_image(shape) + 3
    canvas = canvas_of(image, 2.0)
    seen = canvas.orientations[0].apply(image)
    (ny, nx), known = seen.shape, canvas.weight[0] > 0
    assert known.sum() == min(ny, CANVAS_SIZE) * min(nx, CANVAS_SIZE)
    assert np.all(canvas.image[0][~known] == 0)
    y = ny // 2 + np.arange(-REACH, REACH + 1)
    x = nx // 2 + np.arange(-REACH, REACH + 1)
    rows, columns = (y >= 0) & (y < ny), (x >= 0) & (x < nx)
    expected = seen[np.ix_(y[rows], x[columns])] / 2
    assert_allclose(canvas.image[0][np.ix_(rows, columns)], expected, rtol=1e-6)
    assert canvas.cropped[0] == (max(shape) > CANVAS_SIZE)
    assert canvas.image.dtype == canvas.weight.dtype == canvas.psf.dtype == np.float32


# -- noise -------------------------------------------------------------------------------------


def test_image_is_in_units_of_the_noise():
    image = galaxy((61, 61))
    one, tiny = canvas_of(image, 1.0), canvas_of(3e-60 * image, 3e-60)
    assert one.scale[0] == 1
    assert tiny.scale[0] == pytest.approx(3e-60)
    assert_allclose(tiny.image, one.image, rtol=1e-6)
    assert_array_equal(tiny.weight, one.weight)


def test_weight_follows_the_noise():
    image = galaxy((61, 75))
    sigma = np.random.default_rng(5).uniform(0.5, 3, image.shape)
    canvas = canvas_of(image, sigma)
    scale = np.median(sigma)
    assert canvas.scale[0] == pytest.approx(scale)
    known = canvas.weight[0] > 0
    expected = canvas.orientations[0].apply((scale / sigma) ** 2)
    assert_allclose(canvas.weight[0][known].reshape(expected.shape), expected, rtol=1e-5)
    assert_array_equal(canvas.valid[0], known)
    expected = canvas.orientations[0].apply(image / scale)
    assert_allclose(canvas.image[0][known].reshape(expected.shape), expected, rtol=1e-5)


def test_masked_pixels():
    image, mask = galaxy((61, 61)), np.zeros((61, 61), bool)
    mask[40:50, 20:29] = True
    image[mask] = np.nan
    sigma = np.where(mask, 1e9, np.where(np.arange(61) < 30, 1.0, 3.0))
    canvas = canvas_of(image, sigma, mask)
    lost = canvas.orientations[0].apply(mask)
    edge = REACH - 30
    inside = slice(edge, edge + 61)
    assert_array_equal(canvas.weight[0][inside, inside] == 0, lost)
    assert np.all(canvas.image[0][inside, inside][lost] == 0)
    # which is of the other pixels
    assert canvas.scale[0] == np.median(sigma[~mask])
    assert np.count_nonzero(canvas.image) == 61 * 61 - 90


def test_mask_in_even_noise():
    mask = np.zeros((61, 61), bool)
    mask[3, 4:9] = True
    canvas = canvas_of(galaxy((61, 61)), 2.0, mask)
    assert canvas.weight.sum() == 61 * 61 - 5
    assert set(np.unique(canvas.weight)) == {0, 1}


def test_weight_is_shared_where_it_can_be():
    images = [galaxy((61, 61), seed) for seed in range(3)]
    alike = Canvases(cutouts_of(images))
    # the same noise everywhere is a weight of one, whatever it is
    different_noise = Canvases(cutouts_of(images, [1.0, 2.0, 3.0]))
    for canvases in (alike, different_noise):
        assert canvases.weight.shape == (1, CANVAS_SIZE, CANVAS_SIZE)
        assert canvases.weight.sum() == 61 * 61
    assert_allclose(different_noise.scale, [1, 2, 3])
    mask = np.zeros((61, 61), bool)
    mask[2, 2] = True
    uneven = np.ones((61, 61))
    uneven[5, 5] = 2
    for other in (
        cutouts_of([*images[:2], galaxy((61, 62))]),
        cutouts_of(images, masks=[None, mask, None]),
        cutouts_of(images, [1.0, 1.0, uneven]),
        cutouts_of(images, positions=[(30, 30), (30, 30), (31, 30)]),
    ):
        canvases = Canvases(other)
        assert canvases.weight.shape == canvases.image.shape
        # each as it would be alone
        for row, cutout in enumerate(other):
            assert_array_equal(canvases.weight[row], Canvases([cutout]).weight[0])
            assert_array_equal(canvases.image[row], Canvases([cutout]).image[0])


# -- binning -----------------------------------------------------------------------------------


@pytest.mark.parametrize('binning', [2, 3, 4, 7])
@pytest.mark.parametrize('shape', [(61, 61), (84, 84), (60, 77)])
def test_binning_conserves_the_flux(shape, binning):
    image = galaxy(shape)
    # nothing near the edge, where blocks may be incomplete
    y, x = (np.minimum(i, n - 1 - i) for i, n in zip(np.indices(shape), shape, strict=True))
    image[np.minimum(x, y) < binning] *= 1e-9
    canvas = canvas_of(image, 0.5, binning=binning)
    assert canvas.scale[0] == pytest.approx(0.5 * binning)
    assert canvas.image.sum() * canvas.scale[0] == pytest.approx(image.sum(), rel=1e-5)
    # whole blocks, and at the edges those of which the image has half or more
    whole = np.count_nonzero(canvas.weight == 1)
    assert whole >= ((shape[0] - binning + 1) // binning) * ((shape[1] - binning + 1) // binning)
    assert whole <= (shape[0] // binning) * (shape[1] // binning)
    others = canvas.weight[(canvas.weight > 0) & (canvas.weight < 1)]
    assert np.all(others >= 0.5)


@pytest.mark.parametrize('margin', [1, 5, 90])
@pytest.mark.parametrize('binning', [1, 3])
def test_masked_padding_changes_nothing(binning, margin):
    image = galaxy((61, 70))
    mask = np.pad(np.zeros(image.shape, bool), margin, constant_values=True)
    plain, padded = (
        canvas_of(image, 1.0, binning=binning),
        canvas_of(np.pad(image, margin), 1.0, mask, binning=binning),
    )
    assert_array_equal(padded.image, plain.image)
    assert_array_equal(padded.weight, plain.weight)
    assert_array_equal(padded.cropped, plain.cropped)


@pytest.mark.parametrize('binning', [2, 3])
def test_noise_of_blocks_is_one(binning):
    images = [4.0 * noise_image((120, 120), seed) for seed in range(5)]
    canvases = Canvases(cutouts_of(images, 4.0), binning)
    known = np.broadcast_to(canvases.weight > 0, canvases.image.shape)
    assert canvases.image[known].std() == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize('binning', [2, 3, 4, 5])
@pytest.mark.parametrize('position', [(30.0, 30.0), (29.6, 31.3), (22.5, 35.0), (23.0, 40.4)])
def test_the_galaxy_is_in_the_central_block(position, binning):
    x, y = (int(np.ceil(c - 0.5 + 1e-9)) for c in position)
    canvas = canvas_of(star((61, 66), x, y), 1.0, binning=binning, positions=[position])
    assert np.count_nonzero(canvas.image) == 1
    assert canvas.image[0, REACH, REACH] == pytest.approx(100 / binning)


def test_blocks_are_sums():
    """Against plain slices: the galaxy's pixel, (30, 30), is the middle of a block."""
    image = galaxy((61, 61))
    sigma = np.random.default_rng(5).uniform(0.5, 3, image.shape)
    canvas = canvas_of(image, sigma, binning=3)
    seen, noise = (canvas.orientations[0].apply(a) for a in (image, sigma))
    for row, column in ((0, 0), (1, -2), (-9, 9)):
        block = np.s_[29 + 3 * row : 32 + 3 * row, 29 + 3 * column : 32 + 3 * column]
        at = 0, REACH + row, REACH + column
        assert canvas.image[at] * canvas.scale[0] == pytest.approx(seen[block].sum(), rel=1e-4)
        variance = (noise[block] ** 2).sum()
        assert canvas.weight[at] == pytest.approx(canvas.scale[0] ** 2 / variance, rel=1e-4)


def test_masked_part_of_a_block():
    """The rest of it stands for all; less than half is nothing."""
    image, mask = np.full((61, 61), 2.0), np.zeros((61, 61), bool)
    mask[29:31, 32:34] = True  # 4 of the 9 pixels of the block beside the centre
    mask[29:32, 35:37] = True  # 6 of the 9 of the next
    image[mask] = 1e6
    image[30, 30] += 1e-6
    canvas = canvas_of(image, 1.0, mask, binning=3)
    seen = canvas.orientations[0].apply(np.arange(61 * 61).reshape(61, 61) == 30 * 61 + 33)
    y, x = (int(i) for i in np.argwhere(seen)[0] - 30)
    near = (0, REACH + y // 3, REACH + x // 3)
    far = (0, REACH + 2 * (y // 3), REACH + 2 * (x // 3))
    assert (abs(x), abs(y)) in ((3, 0), (0, 3))
    assert canvas.scale[0] == pytest.approx(3)
    assert canvas.image[near] * canvas.scale[0] == pytest.approx(18, rel=1e-5)
    # the sum of 5 values of unit noise, times 9 / 5
    assert canvas.weight[near] == pytest.approx(9 / (5 * (9 / 5) ** 2))
    assert canvas.image[far] == canvas.weight[far] == 0
    assert canvas.weight[0, REACH, REACH] == 1


def test_turned_cutouts_look_the_same_in_blocks():
    image = galaxy((122, 122))
    sigma = np.random.default_rng(1).uniform(0.8, 1.2, image.shape)
    mask = np.random.default_rng(2).random(image.shape) < 0.05
    for binning in (2, 3):
        canvases = Canvases(cutouts_of(turns(image), turns(sigma), turns(mask)), binning)
        for row in range(1, 8):
            assert_allclose(canvases.image[row], canvases.image[0], rtol=1e-4, atol=1e-5)
            assert_allclose(canvases.weight[row], canvases.weight[0], rtol=1e-5)


def test_large_cutouts_fit_in_blocks():
    image = galaxy((400, 410))
    assert canvas_of(image).cropped[0]
    assert not canvas_of(image, binning=3).cropped[0]


# -- and back ----------------------------------------------------------------------------------


def check_derivatives(shape, binning, mask):
    """Assert that sum(g * canvas) = sum(g by pixels * pixels) for any g: both are linear."""
    image = galaxy(shape) + 5
    sigma = np.random.default_rng(4).uniform(1, 2, shape)
    canvas = canvas_of(image, sigma, mask, binning=binning)
    derivative = np.random.default_rng(5).normal(size=(CANVAS_SIZE, CANVAS_SIZE))
    back = canvas.to_cutout(0, derivative)
    assert back.shape == shape
    assert np.all(back[mask] == 0)
    expected = np.vdot(derivative, canvas.image[0].astype(float) * canvas.scale[0])
    assert np.vdot(back, np.where(mask, 0, image)) == pytest.approx(expected, rel=1e-4)
    return back


@pytest.mark.parametrize('binning', [1, 2, 3])
@pytest.mark.parametrize('shape', [(61, 61), (62, 75), (200, 149)])
def test_derivatives_come_back_to_their_pixels(shape, binning):
    check_derivatives(shape, binning, np.zeros(shape, bool))
    # so few that all blocks are used
    mask = np.zeros(shape, bool)
    mask[3::5, 1::5] = True
    back = check_derivatives(shape, binning, mask)
    seen = [min(n - 2 * (binning - 1), binning * CANVAS_SIZE) for n in shape]
    assert np.count_nonzero(back) > 0.94 * seen[0] * seen[1]


@pytest.mark.parametrize('binning', [1, 3])
def test_derivatives_where_much_is_masked(binning):
    check_derivatives((62, 75), binning, np.random.default_rng(3).random((62, 75)) < 0.4)


@pytest.mark.parametrize('binning', [1, 2])
def test_each_row_comes_back_its_own_way(binning):
    images = turns(galaxy((61, 66)))
    canvases = Canvases(cutouts_of(images), binning)
    derivative = np.random.default_rng(5).normal(size=(CANVAS_SIZE, CANVAS_SIZE))
    first = canvases.to_cutout(0, derivative)
    for row, orientation in enumerate(ORIENTATIONS):
        assert_array_equal(canvases.to_cutout(row, derivative), orientation.apply(first))


# -- PSF ---------------------------------------------------------------------------------------


def moffat_psf(fwhm, beta=3.0, size=43):
    """A profile whose Gaussians are not all alike, as those of a Gaussian would be."""
    y, x = np.mgrid[:size, :size] - size // 2
    alpha = 0.5 * fwhm / np.sqrt(2 ** (1 / beta) - 1)
    image = (1 + (x**2 + y**2) / alpha**2) ** -beta
    return image / image.sum()


def area_of_moffat(fwhm, beta=3.0):
    """Return the noise-equivalent area: pi alpha^2 (2 beta - 1) / (beta - 1)^2."""
    alpha2 = (0.5 * fwhm) ** 2 / (2 ** (1 / beta) - 1)
    return np.pi * alpha2 * (2 * beta - 1) / (beta - 1) ** 2


def test_numbers_of_the_psf():
    psf = moffat_psf(4.6)
    canvas = canvas_of(galaxy((61, 61)), psf=psf, psf_fwhm=4.6)
    assert canvas.psf.shape == (1, N_PSF_NUMBERS)
    assert canvas.psf[0, 0] == pytest.approx(4.6)
    assert canvas.psf[0, 1] == pytest.approx(area_of_moffat(4.6), rel=0.01)
    assert_allclose(canvas.psf[0, 2:], fit_psf_mixtures([psf], [4.6])[0], rtol=1e-5)
    # whatever the sum of its pixels
    other = canvas_of(galaxy((61, 61)), psf=7 * psf, psf_fwhm=4.6)
    assert_allclose(other.psf, canvas.psf, rtol=1e-4)


def test_psf_in_blocks():
    cutouts = cutouts_of([galaxy((61, 61))], psf=moffat_psf(4.6))
    pixels, blocks = Canvases(cutouts).psf[0], Canvases(cutouts, 3).psf[0]
    assert blocks[0] == pytest.approx(pixels[0] / 3)
    assert blocks[1] == pytest.approx(pixels[1] / 9)
    assert_array_equal(blocks[2:], pixels[2:])


def test_unknown_psf():
    images = [galaxy((61, 61), seed) for seed in range(2)]
    canvases = Canvases(cutouts_of(images, psf_fwhm=[np.nan, 3.0]))
    assert np.isnan(canvases.psf[0]).all()
    assert canvases.psf[1, 0] == 3
    assert np.isnan(canvases.psf[1, 1:]).all()


def test_each_psf_is_its_own():
    images = [galaxy((61, 61), seed) for seed in range(3)]
    widths, exponents = (3.5, 4.7, 3.5), (5.0, 3.0, 5.0)
    psfs = [moffat_psf(*shape) for shape in zip(widths, exponents, strict=True)]
    canvases = Canvases(cutouts_of(images, psf=psfs, psf_fwhm=list(widths)))
    assert_array_equal(canvases.psf[0], canvases.psf[2])
    areas = [area_of_moffat(*shape) for shape in zip(widths, exponents, strict=True)]
    assert_allclose(canvases.psf[:, 1], areas, rtol=0.01)
    alone = [fit_psf_mixtures([psf], [fwhm])[0] for psf, fwhm in zip(psfs, widths, strict=True)]
    assert np.abs(alone[0] - alone[1]).max() > 0.4
    assert_allclose(canvases.psf[:, 2:], alone, atol=0.1)


def test_one_psf_with_two_widths():
    images = [galaxy((61, 61), seed) for seed in range(2)]
    psf = moffat_psf(4.6)
    canvases = Canvases(cutouts_of(images, psf=psf, psf_fwhm=[4.6, 5.2]))
    expected = [fit_psf_mixtures([psf], [fwhm])[0] for fwhm in (4.6, 5.2)]
    assert_allclose(canvases.psf[:, 2:], expected, atol=0.1)


def test_psf_is_fitted_once(monkeypatch):
    fitted = []

    def count(psfs, fwhm):
        fitted.append(len(psfs))
        return psf_numbers(psfs, fwhm)

    monkeypatch.setattr(_canvas, 'psf_numbers', count)
    monkeypatch.setattr(_canvas, 'MAX_REMEMBERED', 2)
    images = [galaxy((61, 61), seed) for seed in range(3)]
    widths = (3.5, 4.2, 5.0)
    psfs = [moffat_psf(fwhm) for fwhm in widths]
    expected = Canvases(cutouts_of(images, psf=psfs[0])).psf
    again = Canvases(cutouts_of(images, psf=psfs[0].copy())).psf
    assert fitted == [1]
    assert_array_equal(again, expected)
    # more than are remembered
    canvases = Canvases(cutouts_of(images, psf=psfs))
    assert fitted == [1, 2]
    assert_allclose(canvases.psf[:, 1], [area_of_moffat(w) for w in widths], rtol=0.01)
    assert len(_canvas._remembered) == 2
