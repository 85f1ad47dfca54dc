# Licensed under a 3-clause BSD style license - see LICENSE.rst
import numpy as np
import pytest
import torch
from photutils.aperture import CircularAperture

from astroflux.networks.foveation import (
    APERTURE_RADII,
    CANVAS_SIZE,
    FILTER_SIGMAS,
    REACH,
    Foveation,
    fill_from_opposite_side,
    symmetric_part,
)

N_APERTURES = len(APERTURE_RADII)


@pytest.fixture(scope='module')
def foveation():
    return Foveation()


def look(foveation, image, valid=None, fwhm=4.0, area=60.0):
    valid = torch.ones_like(image) if valid is None else valid
    return foveation(image[None], valid[None], torch.tensor([[fwhm, area]]))


def test_apertures_are_photutils(foveation):
    image = torch.as_tensor(
        np.random.default_rng(0).normal(size=(CANVAS_SIZE, CANVAS_SIZE)), dtype=torch.float32
    )
    sums = (image.flatten() @ foveation.joined)[:N_APERTURES].numpy()
    for radius, value in zip(APERTURE_RADII, sums, strict=True):
        exact = CircularAperture((REACH, REACH), radius).do_photometry(image.numpy())[0][0]
        # subsampling ten times ten against the exact area
        assert value == pytest.approx(float(exact), abs=0.02 * radius)


def test_matched_filter_is_unbiased_and_optimal(foveation, gaussian):
    sigma = FILTER_SIGMAS[2]
    view = look(foveation, gaussian(sigma, flux=500.0))
    assert view['ln_reference'].exp().item() == pytest.approx(500, rel=1e-3)
    assert view['ln_width'].exp().item() == pytest.approx(sigma)
    snr = 500 * gaussian(sigma).square().sum().sqrt().item()
    assert view['reference_snr'].item() == pytest.approx(snr, rel=1e-3)


def test_candidates_are_ratios_to_the_reference(foveation, gaussian):
    view = look(foveation, gaussian(2.4, flux=1000.0))
    largest = view['candidates'][0, N_APERTURES - 1].item()
    assert largest == pytest.approx(1.0, abs=2e-3)
    brighter = look(foveation, gaussian(2.4, flux=4000.0))
    # those of the symmetric part have the noise's share added back
    n_image = Foveation.n_candidates // 2
    torch.testing.assert_close(brighter['candidates'][:, :n_image], view['candidates'][:, :n_image])


def test_features_are_finite_for_an_empty_canvas(foveation):
    empty = torch.zeros(CANVAS_SIZE, CANVAS_SIZE)
    for valid in (torch.ones_like(empty), torch.zeros_like(empty)):
        view = look(foveation, empty, valid, float('nan'), float('nan'))
        for value in view.values():
            assert torch.isfinite(value).all()


def test_number_of_features_and_candidates(foveation, gaussian):
    view = look(foveation, gaussian(2.4))
    assert view['features'].shape == (1, Foveation.n_features)
    assert view['candidates'].shape == (1, Foveation.n_candidates)
    assert view['fine'].shape == view['coarse'].shape == (1, 3, 49, 49)


def test_psf_features(foveation, gaussian):
    def last_four(fwhm, area):
        return look(foveation, gaussian(2.4), fwhm=fwhm, area=area)['features'][0, -4:].tolist()

    nan = float('nan')
    assert last_four(3.0, 36.0) == pytest.approx([np.log(3.0), 1, np.log(4.0), 1])
    assert last_four(3.0, nan) == pytest.approx([np.log(3.0), 1, 0, 0])
    assert last_four(nan, nan) == [0, 0, 0, 0]


def test_common_valid_is_that_of_each(foveation, gaussian):
    image = torch.stack([gaussian(2.4, flux=300.0), gaussian(5.0, flux=900.0)])
    valid = torch.zeros_like(image)
    valid[:, 10:-10, 10:-10] = 1
    image = image * valid
    psf = torch.tensor([[3.0, 30.0], [4.0, 60.0]])
    each, common = foveation(image, valid, psf), foveation(image, valid[:1], psf)
    for name, value in each.items():
        torch.testing.assert_close(common[name], value, atol=1e-4, rtol=1e-5)


def test_fill_from_opposite_side(gaussian):
    image = gaussian(6.0, flux=1000.0)
    valid = torch.ones_like(image)
    valid[REACH + 2 : REACH + 5, REACH + 1 : REACH + 4] = 0
    filled, covered = fill_from_opposite_side((image * valid)[None], valid[None])
    torch.testing.assert_close(filled[0], image)
    assert (covered == 1).all()


def test_pixels_masked_on_both_sides_stay_empty():
    image = torch.ones(1, CANVAS_SIZE, CANVAS_SIZE)
    valid = torch.ones_like(image)
    valid[0, REACH, REACH - 3] = valid[0, REACH, REACH + 3] = 0
    filled, covered = fill_from_opposite_side(image * valid, valid)
    assert filled[0, REACH, REACH - 3] == 0
    assert covered[0, REACH, REACH + 3] == 0
    assert covered.sum() == CANVAS_SIZE**2 - 2


def test_symmetric_part_keeps_the_galaxy_and_drops_the_neighbour(gaussian):
    generator = torch.Generator().manual_seed(3)
    noise = torch.randn(200, CANVAS_SIZE, CANVAS_SIZE, generator=generator)
    galaxy, neighbour = gaussian(3.0, flux=3000.0), gaussian(2.0, flux=3000.0, dx=20, dy=5)
    image = noise + galaxy + neighbour
    valid = torch.ones_like(image)
    sums = symmetric_part(image, valid).sum(dim=(1, 2))
    alone = symmetric_part(noise + galaxy, valid).sum(dim=(1, 2))
    # the noise of a sum over the canvas is 1.2 x 147
    error = 1.2 * CANVAS_SIZE / 200**0.5
    assert alone.mean().item() == pytest.approx(3000, abs=4 * error)
    # 6000 before; where the neighbour was, 1/sqrt(pi) is added and not missing
    touched = 2 * np.pi * (3.5 * 2.0) ** 2
    assert 3000 - 4 * error < sums.mean().item() < 3000 + touched / np.pi**0.5 + 4 * error
