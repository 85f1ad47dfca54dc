# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Pixels that hold nothing, in the ways in which images say so without a mask."""

import numpy as np
import pytest
from astropy.nddata import InverseVariance, NDData, StdDevUncertainty

from astroflux.cutouts import iter_cutouts
from astroflux.cutouts._unusable import is_fill
from astroflux.flags import MeasurementFlag as Flag

SHAPE = (61, 61)
LOST = np.zeros(SHAPE, dtype=bool)
LOST[:, :9] = LOST[30:36, 40:47] = True


@pytest.fixture
def data():
    return np.random.default_rng(0).normal(size=SHAPE)


def mask_of(data, **options):
    (cutout,) = iter_cutouts(NDData(data, **options))
    assert bool(cutout.flags & Flag.MASKED_PIXELS) == cutout.mask.any()
    assert (cutout.data[cutout.mask] == 0).all()
    return cutout.mask


def white(value=1.0):
    return StdDevUncertainty(np.full(SHAPE, float(value)))


@pytest.mark.parametrize('value', [0.0, -1.0, 42.5, -32768.0, 1e20, -3.4e38, np.nan])
@pytest.mark.parametrize('noise', [None, white()], ids=['noise estimated', 'noise stated'])
def test_fill_of_any_value(data, value, noise):
    data[LOST] = value
    assert np.array_equal(mask_of(data, uncertainty=noise), LOST)


@pytest.mark.parametrize('value', [1e20, -3.4e38, -9999.0])
def test_single_pixels_without_data(data, value):
    data[20, 30] = data[50, 50] = value
    assert np.argwhere(mask_of(data, uncertainty=white())).tolist() == [[20, 30], [50, 50]]


@pytest.mark.parametrize('noise', [40.0, 1e3, 1e10, 1e300, np.inf, 0.0, -1.0, np.nan, 1e-5])
def test_noise_that_marks_pixels(data, noise):
    uncertainty = StdDevUncertainty(np.where(LOST, noise, 1.0))
    assert np.array_equal(mask_of(data, uncertainty=uncertainty), LOST)


def test_most_of_the_noise_marks_pixels(data):
    lost = np.zeros(SHAPE, dtype=bool)
    lost[:40] = True
    uncertainty = StdDevUncertainty(np.where(lost, 1e10, 1.0))
    assert np.array_equal(mask_of(data, uncertainty=uncertainty), lost)


def test_zeros_of_inverse_variance_after_lossy_compression(data):
    rest = np.random.default_rng(1).normal(scale=1e-6, size=SHAPE)
    uncertainty = InverseVariance(np.where(LOST, rest, 1.0))
    assert np.array_equal(mask_of(data, uncertainty=uncertainty), LOST)


def test_noise_of_a_bright_core_is_its_photons(data):
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]] - 30
    counts = 1e5 * np.exp(-(x**2 + y**2) / 20)
    noise = np.sqrt(counts + 1)
    assert noise.max() > 100
    uncertainty = StdDevUncertainty(noise)
    assert not mask_of(data * noise + counts, uncertainty=uncertainty).any()


@pytest.mark.parametrize(
    'values',
    [
        lambda rng: rng.poisson(0.05, SHAPE),
        lambda rng: rng.poisson(2.0, SHAPE) - 2.0,
        lambda rng: np.round(rng.normal(size=SHAPE)),
        lambda rng: np.round(rng.normal(scale=3.0, size=SHAPE)).astype('i2'),
    ],
    ids=['few photons', 'photons', 'coarse', 'integers'],
)
def test_equal_values_of_counts_are_data(values):
    assert not mask_of(values(np.random.default_rng(0)), uncertainty=white()).any()


def test_fill_beside_counts(data):
    counts = np.round(3 * data)
    counts[LOST] = 0
    found = mask_of(counts, uncertainty=white(3))
    assert found[LOST].all()
    assert found[~LOST].mean() < 0.01


@pytest.mark.parametrize('value', [0.0, 0.3])
@pytest.mark.parametrize(
    'where', [np.s_[:, 33], np.s_[:, 31:34], np.s_[27], np.s_[20:28, 40]], ids=str
)
def test_dead_lines(data, where, value):
    dead = np.zeros(SHAPE, bool)
    dead[where] = True
    data[dead] = value
    assert np.array_equal(mask_of(data, uncertainty=white()), dead)


def test_short_lines_may_be_chance(data):
    data[20:27, 40] = 0.3
    assert not mask_of(data, uncertainty=white()).any()


@pytest.mark.parametrize('part', [0.05, 0.3, 0.6])
def test_scattered_pixels_of_one_value(data, part):
    dead = np.random.default_rng(1).random(SHAPE) < part
    data[dead] = 0.0
    found = mask_of(data, uncertainty=white())
    assert found[dead].all()
    assert found[~dead].mean() < 0.01


@pytest.mark.parametrize('rate', [0.02, 0.2, 1.0, 30.0])
def test_photons_are_equal_by_chance(rate):
    counts = np.random.default_rng(1).poisson(rate, SHAPE).astype(float)
    assert not mask_of(counts, uncertainty=white()).any()


@pytest.mark.parametrize('step', [0.1, 0.5, 1.0, 3.0])
def test_counts_are_equal_by_chance(data, step):
    assert not mask_of(np.round(data / step), uncertainty=white(1 / step)).any()


def test_saturated_core(data):
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]] - 30
    core = np.hypot(x, y) < 4
    data[core] = 6e4
    (cutout,) = iter_cutouts(NDData(data, uncertainty=white()), psf_fwhm=4.0)
    assert cutout.mask[core].mean() > 0.9
    assert cutout.flags & Flag.MASKED_CORE


def test_nothing_but_a_fill_stays_as_it_is():
    star = np.zeros(SHAPE)
    star[30, 30] = 1.0
    assert is_fill(np.ones(SHAPE)) is is_fill(star) is None
    assert not mask_of(np.ones(SHAPE), uncertainty=white()).any()
