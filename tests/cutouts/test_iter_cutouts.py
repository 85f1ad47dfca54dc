# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Every accepted kind of input becomes the same arrays."""

from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import (
    CCDData,
    Cutout2D,
    InverseVariance,
    NDData,
    StdDevUncertainty,
    VarianceUncertainty,
)
from astropy.utils.masked import Masked
from numpy.testing import assert_allclose, assert_array_equal

from astroflux.cutouts import Cutout, CutoutFile, iter_cutouts, write_cutout
from astroflux.cutouts._items import is_single, unpack
from astroflux.flags import MeasurementFlag as Flag


def one(cutouts, **kwargs):
    (cutout,) = iter_cutouts(cutouts, **kwargs)
    return cutout


# How to make one of an array in adu, or without a unit.
KINDS = {
    'ndarray': (lambda d: d, ''),
    'quantity': (lambda d: d * u.adu, 'adu'),
    'nddata': (lambda d: NDData(d, unit='adu'), 'adu'),
    'ccddata': (lambda d: CCDData(d, unit='adu'), 'adu'),
    'masked array': (lambda d: np.ma.MaskedArray(d), ''),
    'masked quantity': (lambda d: Masked(d * u.adu, mask=np.zeros(d.shape, bool)), 'adu'),
    'cutout2d': (lambda d: Cutout2D(d, (20, 16), d.shape), ''),
    'cutout2d of quantity': (lambda d: Cutout2D(d * u.adu, (20, 16), d.shape), 'adu'),
}


@pytest.mark.parametrize('kind', KINDS)
def test_kinds_of_input(kind, stamp):
    before = stamp.copy()
    make, unit = KINDS[kind]
    item = make(stamp)
    assert is_single(item)
    cutout = one(item)
    assert_array_equal(cutout.data, stamp)
    assert cutout.data.dtype == np.float64
    assert not np.shares_memory(cutout.data, stamp)
    assert cutout.unit == u.Unit(unit)
    assert cutout.position == (20, 16)
    assert not cutout.mask.any()
    assert cutout.flags == Flag.NOISE_ESTIMATED | Flag.PSF_UNKNOWN
    assert_array_equal(stamp, before)


def test_every_kind_is_tested(stamp):
    items = [make(stamp) for make, _ in KINDS.values()]
    # the others are paths, of which the next test is
    for kind in {*unpack.registry} - {object, str, Path, CutoutFile}:
        assert any(isinstance(item, kind) for item in items), kind


def test_path_and_its_label(tmp_path, stamp):
    path = tmp_path / 'galaxy.fits'
    write_cutout(CCDData(stamp, unit='nJy'), path)
    for item in (path, str(path), CutoutFile(path)):
        assert is_single(item)
        cutout = one(item)
        assert_array_equal(cutout.data, stamp)
        assert cutout.unit == u.nJy
        assert cutout.label == str(path)


def test_label_from_meta(stamp):
    assert one(CCDData(stamp, unit='adu', meta={'id': 17})).label == '17'
    assert one(NDData(stamp)).label is None


def test_cutout_passes_through(stamp, gaussian_psf):
    first = one(NDData(stamp, unit='Jy', psf=gaussian_psf), psf_fwhm=3.0, positions=(19, 15))
    assert one(first) is first
    failed = Cutout.failed(Flag.UNREADABLE, 'gone')
    good, bad = iter_cutouts([first, failed])
    assert good is first
    assert bad is failed


def assert_same_cutout(cutout, expected):
    for name in ('data', 'noise', 'mask', 'psf'):
        assert_array_equal(getattr(cutout, name), getattr(expected, name))
    for name in ('position', 'psf_fwhm', 'unit', 'label', 'flags'):
        assert getattr(cutout, name) == getattr(expected, name)


@pytest.mark.parametrize(
    'told',
    [
        {'psf_fwhm': 5.5},
        {'positions': (3, 15)},
        {'positions': (19, 15), 'psf_fwhm': 1.5},
        {'psf': np.outer([1.0, 2, 1], [1.0, 2, 1])},
    ],
)
def test_cutout_takes_what_the_call_says(told, stamp, gaussian_psf):
    mask = np.zeros(stamp.shape, bool)
    mask[15, 23] = True
    item = NDData(stamp, unit='Jy', psf=gaussian_psf, mask=mask, meta={'id': 'a'})
    first = one(item)
    before = first.flags
    assert_same_cutout(one(first, **told), one(item, **told))
    assert first.flags == before
    assert first.position == (20, 16)


def test_cutout_made_by_hand(stamp):
    cutout = Cutout(data=stamp, noise=2, mask=None, position=(20, 16), psf_fwhm=3.0)
    assert one(cutout) is cutout
    assert_array_equal(cutout.noise, np.full(stamp.shape, 2.0))
    assert not cutout.mask.any()


def test_cutout_in_another_unit(stamp):
    item = NDData(stamp, unit='mJy', uncertainty=StdDevUncertainty(2.0))
    first, second = iter_cutouts([NDData(stamp, unit='Jy'), one(item)])
    assert second.unit == first.unit == u.Jy
    assert_allclose(second.data, 1e-3 * stamp)
    assert_allclose(second.noise, 2e-3)


def test_noise_and_mask_as_they_were_given(stamp, rng):
    """An even noise is a number and no mask is None; the arrays are made when asked for."""
    sigma = rng.uniform(0.5, 2, stamp.shape)
    mask = np.zeros(stamp.shape, bool)
    even = StdDevUncertainty(np.full(stamp.shape, 2.5))
    for item in (NDData(stamp, uncertainty=even, mask=mask), NDData(stamp, uncertainty=even)):
        cutout = one(item)
        assert cutout.sigma == 2.5
        assert cutout.ignored is None
        assert_array_equal(cutout.noise, np.full(stamp.shape, 2.5))
        assert cutout.mask.dtype == bool
        assert not cutout.mask.any()
        assert cutout.noise is cutout.noise
    # one pixel that is told apart is of no use, and the others are alike
    odd = np.full(stamp.shape, 2.5)
    odd[3, 4] = np.nan
    assert one(NDData(stamp, uncertainty=StdDevUncertainty(odd))).sigma == 2.5
    mask[3, 4] = True
    cutout = one(NDData(stamp, uncertainty=StdDevUncertainty(sigma), mask=mask))
    assert cutout.noise is cutout.sigma
    assert cutout.mask is cutout.ignored
    failed = Cutout.failed(Flag.UNREADABLE, 'gone')
    assert failed.noise is failed.mask is failed.shape is None


@pytest.mark.parametrize('sigma', [2.5, None])
def test_in_noise_units(sigma, stamp, rng):
    if sigma is None:
        sigma = rng.uniform(0.5, 2, stamp.shape)
    data, noise, reference = one(
        NDData(stamp, uncertainty=StdDevUncertainty(sigma))
    ).in_noise_units()
    assert reference == np.median(sigma)
    assert_array_equal(data, stamp / reference)
    assert_array_equal(noise, np.broadcast_to(sigma, stamp.shape) / reference)


@pytest.mark.parametrize(
    'dtype', ['>f4', '<f4', '>f8', 'f8', 'f2', '>i2', 'i4', 'u1', '>u2', 'u8', 'g']
)
def test_dtypes(dtype, rng):
    data = rng.integers(0, 200, (16, 16)).astype(dtype)
    cutout = one(data)
    assert cutout.data.dtype == np.dtype(float)
    assert cutout.data.dtype.isnative
    assert_array_equal(cutout.data, data.astype(float))


@pytest.mark.parametrize('shape', [(8, 8), (32, 32), (33, 48), (101, 64), (512, 512)])
def test_shapes(shape, rng):
    data = rng.normal(size=shape)
    cutout = one(data)
    assert cutout.shape == shape
    assert cutout.noise.shape == cutout.mask.shape == shape
    assert cutout.position == ((shape[1] - 1) / 2, (shape[0] - 1) / 2)


@pytest.mark.parametrize('unit', [None, u.adu, u.mJy])
@pytest.mark.parametrize(
    ('kind', 'power'), [(StdDevUncertainty, 1), (VarianceUncertainty, 2), (InverseVariance, -2)]
)
def test_uncertainty_kinds_and_units(kind, power, unit, stamp, rng):
    sigma = rng.uniform(0.5, 2, stamp.shape)
    # In thousandths of the data's unit, where it has one.
    scale = 1 if unit is None else 1000
    small = None if unit is None else (unit / 1000) ** power
    uncertainty = kind((sigma * scale) ** power, unit=small)
    cutout = one(NDData(stamp, uncertainty=uncertainty, unit=unit))
    assert_allclose(cutout.noise, sigma, rtol=1e-12)
    assert cutout.flags == Flag.PSF_UNKNOWN


def test_uncertainty_of_another_kind_is_converted(stamp):
    class Twice(StdDevUncertainty):
        """Holds two sigma."""

        def _convert_to_variance(self):
            return VarianceUncertainty((self.array / 2) ** 2)

    cutout = one(NDData(stamp, uncertainty=Twice(np.full(stamp.shape, 6.0))))
    assert_array_equal(cutout.noise, 3.0)


def test_scalar_uncertainty_serves_all_pixels(stamp):
    cutout = one(NDData(stamp, uncertainty=StdDevUncertainty(2.5)))
    assert_array_equal(cutout.noise, np.full(stamp.shape, 2.5))


def test_float32_variance_does_not_overflow(stamp):
    sigma = np.full(stamp.shape, 1e25, dtype='f4')
    cutout = one(NDData(stamp * 1e25, uncertainty=StdDevUncertainty(sigma)))
    assert_allclose(cutout.noise, 1e25, rtol=1e-6)


def test_masked_and_bad_pixels(stamp, rng):
    data = stamp.copy()
    sigma = np.ones(stamp.shape)
    mask = np.zeros(stamp.shape, bool)
    mask[0, 1] = True
    data[2, 3], data[4, 5], data[6, 7] = np.nan, np.inf, -np.inf
    sigma[8, 9], sigma[10, 1], sigma[12, 3], sigma[14, 5] = 0, -1, np.nan, np.inf
    cutout = one(NDData(data, mask=mask, uncertainty=StdDevUncertainty(sigma)))
    bad = ([0, 2, 4, 6, 8, 10, 12, 14], [1, 3, 5, 7, 9, 1, 3, 5])
    expected = np.zeros(stamp.shape, bool)
    expected[bad] = True
    assert_array_equal(cutout.mask, expected)
    assert_array_equal(cutout.data, np.where(expected, 0, stamp))
    assert_array_equal(cutout.noise, 1.0)
    assert cutout.flags == Flag.PSF_UNKNOWN | Flag.MASKED_PIXELS
    # The input is as it was.
    assert np.isnan(data[2, 3])
    assert sigma[8, 9] == 0


def test_integer_mask_and_masked_arrays(stamp):
    mask = np.zeros(stamp.shape, int)
    mask[1, 2] = 4
    for item in (
        NDData(stamp, mask=mask),
        np.ma.MaskedArray(stamp, mask=mask != 0),
        NDData(np.ma.MaskedArray(stamp, mask=mask != 0)),
        Masked(stamp * u.adu, mask=mask != 0),
        NDData(Masked(stamp * u.adu, mask=mask != 0)),
    ):
        assert np.argwhere(one(item).mask).tolist() == [[1, 2]]


@pytest.mark.parametrize(
    ('pixel', 'fwhm', 'in_core'),
    [
        ((16, 22), None, True),
        ((16, 24), None, False),
        ((16, 24), 4.0, True),
        ((18, 20), 1.5, False),
    ],
)
def test_masked_core(pixel, fwhm, in_core, stamp):
    mask = np.zeros(stamp.shape, bool)
    mask[pixel] = True
    cutout = one(NDData(stamp, mask=mask), psf_fwhm=fwhm)
    assert bool(cutout.flags & Flag.MASKED_CORE) is in_core
    assert cutout.flags & Flag.MASKED_PIXELS


@pytest.mark.parametrize(
    ('position', 'off'),
    [((20, 16), False), ((7.5, 16), False), ((7.4, 16), True), ((60, 90), True)],
)
def test_off_centre(position, off, stamp):
    cutout = one(stamp, positions=position)
    assert bool(cutout.flags & Flag.OFF_CENTRE) is off
    assert cutout.position == position


def test_position_of_trimmed_cutout2d(rng):
    image = rng.normal(size=(60, 60))
    cutout = one(Cutout2D(image, (10.2, 30.4), 41, mode='trim'))
    assert cutout.shape == (41, 31)
    assert cutout.position == pytest.approx((10.2, 20.4))
    partial = one(Cutout2D(image, (10.2, 30.4), 41, mode='partial', fill_value=np.nan))
    assert partial.position == pytest.approx((20.2, 20.4))
    assert partial.mask[:, :10].all()
    assert not partial.mask[:, 10:].any()


@pytest.mark.parametrize('unit', [None, u.adu])
def test_stack(unit, stamp, gaussian_psf):
    stack = np.stack([stamp, 2 * stamp, 3 * stamp])
    sigma = np.stack([np.full(stamp.shape, s) for s in (1.0, 2.0, 3.0)])
    mask = np.zeros(stack.shape, bool)
    mask[1, 2, 3] = True
    psfs = np.stack([gaussian_psf] * 3)
    psfs[2] *= 5
    whole = NDData(stack, uncertainty=StdDevUncertainty(sigma), mask=mask, unit=unit, psf=psfs)
    assert not is_single(whole)
    cutouts = list(iter_cutouts(whole))
    assert len(cutouts) == 3
    for i, cutout in enumerate(cutouts):
        assert_array_equal(cutout.data, np.where(mask[i], 0, stack[i]))
        assert_array_equal(cutout.noise, i + 1)
        assert_array_equal(cutout.mask, mask[i])
        assert cutout.unit == (unit or u.dimensionless_unscaled)
        assert cutout.psf.sum() == pytest.approx(1)
    for bare in (stack, stack * u.adu):
        assert [c.data[4, 4] for c in iter_cutouts(bare)] == list(stack[:, 4, 4])


def test_stack_shares_what_is_2d(stamp, gaussian_psf):
    mask = np.zeros(stamp.shape, bool)
    mask[2, 3] = True
    sigma = np.full(stamp.shape, 4.0)
    whole = NDData(
        np.stack([stamp] * 2),
        uncertainty=VarianceUncertainty(sigma),
        mask=mask,
        psf=gaussian_psf,
    )
    for cutout in iter_cutouts(whole):
        assert_array_equal(cutout.mask, mask)
        assert_array_equal(cutout.noise, 2.0)
        assert cutout.psf.shape == (21, 21)


def test_read_only_psf_is_normalised(stamp, gaussian_psf):
    layers = np.broadcast_to(3 * gaussian_psf, (2, *gaussian_psf.shape))
    stack = NDData(np.array([stamp, stamp]), unit='adu', psf=layers)
    single = NDData(stamp, unit='adu', psf=layers[0])
    for cutout in [*iter_cutouts(stack), *iter_cutouts([single, single])]:
        assert cutout.psf.sum() == pytest.approx(1, abs=1e-12)


def test_psf_that_changes_between_cutouts(stamp, gaussian_psf):
    psf = gaussian_psf.copy()

    def items():
        for shift in (0, 2):
            psf[:] = np.roll(gaussian_psf, shift, axis=0)
            yield NDData(stamp, unit='adu', psf=psf)

    first, second = iter_cutouts(items())
    assert_allclose(second.psf, np.roll(first.psf, 2, axis=0))
    assert abs(second.psf - first.psf).max() > 1e-3


def test_noise_of_the_input_is_not_changed(stamp):
    noise = np.full(stamp.shape, 2.0)
    mask = np.zeros(stamp.shape, bool)
    mask[3, 4] = True
    noise[5, 5] = np.inf
    before = noise.copy()
    uncertainty = StdDevUncertainty(noise, unit='mJy', copy=False)
    cutout = one(NDData(stamp, unit='Jy', uncertainty=uncertainty, mask=mask))
    assert_allclose(cutout.noise, 2e-3)
    assert_array_equal(noise, before)


def test_iterables_are_streamed(stamp):
    alive = []

    def source():
        for i in range(4):
            alive.append(i)
            yield NDData(stamp + i)

    stream = iter_cutouts(source())
    assert alive == []
    first = next(stream)
    assert alive == [0]
    assert_array_equal(first.data, stamp)
    assert len(list(stream)) == 3


def test_mixed_shapes_and_kinds_in_order(stamp):
    items = (stamp, CCDData(stamp[:20, :20], unit=''), stamp[:, :30] * u.one)
    assert not is_single(items)
    assert [c.shape for c in iter_cutouts(items)] == [(33, 41), (20, 20), (33, 30)]
    objects = np.empty(2, dtype=object)
    objects[:] = [NDData(stamp), NDData(stamp[:9])]
    assert [c.shape for c in iter_cutouts(objects)] == [(33, 41), (9, 41)]


@pytest.mark.parametrize('factor', [1e-12, 1e-3, 7.0, 1e12])
def test_scale_equivariance(factor, stamp):
    # A power of two scales without rounding, so all must be the same bits.
    factor = 2.0 ** np.round(np.log2(factor))
    data = stamp.copy()
    data[3, 3] = np.nan
    cutout, scaled = one(data), one(factor * data)
    assert_array_equal(scaled.data, factor * cutout.data)
    assert_array_equal(scaled.noise, factor * cutout.noise)
    assert scaled.flags == cutout.flags
    for dtype in ('f4', 'f8'):
        variance = np.full(stamp.shape, 4.0, dtype)
        a = one(NDData(data, uncertainty=VarianceUncertainty(variance)))
        scaled = variance * np.asarray(factor, dtype) ** 2
        b = one(NDData(factor * data, uncertainty=VarianceUncertainty(scaled)))
        assert_array_equal(b.noise, factor * a.noise)
