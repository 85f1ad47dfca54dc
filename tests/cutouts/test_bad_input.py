# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What cannot be measured: an error for the call, or a flagged cutout that says why."""

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import (
    CCDData,
    NDData,
    StdDevUncertainty,
    UnknownUncertainty,
    VarianceUncertainty,
)
from numpy.testing import assert_array_equal

from astroflux.cutouts import CutoutReadError, iter_cutouts
from astroflux.cutouts._items import is_single
from astroflux.flags import MeasurementFlag as Flag


def with_noise(data, value):
    return NDData(data, uncertainty=StdDevUncertainty(np.full(data.shape, float(value))))


# What is wrong with one cutout: how to make it of a good stamp, the flag, the
# message, and the error when it is all that is given (None if it is flagged
# even then).
FAULTS = {
    '1-d': (
        lambda d: d[0],
        Flag.BAD_INPUT,
        r'a cutout must be a 2-d image, got a 1-d array of shape \(41,\)',
        ValueError,
    ),
    '0-d': (
        lambda d: np.array(3.0),
        Flag.BAD_INPUT,
        r'a cutout must be a 2-d image, got a 0-d array of shape \(\)',
        ValueError,
    ),
    'too small': (
        lambda d: d[:7],
        Flag.BAD_INPUT,
        r'a cutout must have 8 pixels or more a side, got the shape \(7, 41\)',
        ValueError,
    ),
    'empty image': (
        lambda d: d[:0],
        Flag.BAD_INPUT,
        r'a cutout must have 8 pixels or more a side, got the shape \(0, 41\)',
        ValueError,
    ),
    'complex': (
        lambda d: d + 1j,
        Flag.BAD_INPUT,
        'a cutout must be an array of real numbers, got the type complex128',
        TypeError,
    ),
    'bool': (
        lambda d: d > 0,
        Flag.BAD_INPUT,
        'array of real numbers, got the type bool',
        TypeError,
    ),
    'text': (
        lambda d: np.full(d.shape, 'a'),
        Flag.BAD_INPUT,
        'array of real numbers, got the type <U1',
        TypeError,
    ),
    'mask of another shape': (
        lambda d: NDData(d, mask=np.zeros((5, 5), bool)),
        Flag.BAD_INPUT,
        r'the mask has the shape \(5, 5\), the cutout has \(33, 41\)',
        ValueError,
    ),
    'noise of another shape': (
        lambda d: NDData(d, uncertainty=VarianceUncertainty(np.ones(41))),
        Flag.BAD_INPUT,
        r'the uncertainty has the shape \(41,\), the cutout has \(33, 41\)',
        ValueError,
    ),
    'noise is complex': (
        lambda d: NDData(d, uncertainty=StdDevUncertainty(np.full(d.shape, 1j))),
        Flag.BAD_INPUT,
        'the uncertainty must be real numbers, got the type complex128',
        TypeError,
    ),
    'noise of unknown kind': (
        lambda d: NDData(d, uncertainty=UnknownUncertainty(np.ones(d.shape))),
        Flag.BAD_INPUT,
        'the uncertainty is UnknownUncertainty, which cannot be represented as StdDevUncertainty',
        TypeError,
    ),
    'all masked': (
        lambda d: NDData(d, mask=np.ones(d.shape, bool)),
        Flag.NO_PIXELS,
        'every pixel is masked or not finite',
        None,
    ),
    'all masked by a scalar': (
        lambda d: NDData(d, mask=True),
        Flag.NO_PIXELS,
        'every pixel is masked or not finite',
        None,
    ),
    'all NaN': (
        lambda d: np.full(d.shape, np.nan),
        Flag.NO_PIXELS,
        'every pixel is masked or not finite',
        None,
    ),
    'masked or infinite': (
        lambda d: NDData(np.where(d > 0, np.inf, d), mask=d <= 0),
        Flag.NO_PIXELS,
        'every pixel is masked or not finite',
        None,
    ),
    'zero noise': (
        lambda d: with_noise(d, 0),
        Flag.BAD_NOISE,
        'no pixel has a positive, finite noise',
        None,
    ),
    'negative noise': (
        lambda d: with_noise(d, -1),
        Flag.BAD_NOISE,
        'no pixel has a positive, finite noise',
        None,
    ),
    'negative variance': (
        lambda d: NDData(d, uncertainty=VarianceUncertainty(-np.ones(d.shape))),
        Flag.BAD_NOISE,
        'no pixel has a positive, finite noise',
        None,
    ),
    'NaN noise': (
        lambda d: with_noise(d, np.nan),
        Flag.BAD_NOISE,
        'no pixel has a positive, finite noise',
        None,
    ),
    'constant without noise': (
        np.ones_like,
        Flag.BAD_NOISE,
        'there is no uncertainty, and the pixels vary too little to estimate one',
        None,
    ),
    'psf of zero sum': (
        lambda d: NDData(d, psf=np.zeros((9, 9))),
        Flag.BAD_PSF,
        'the PSF must have a positive finite sum, got 0',
        None,
    ),
    'psf with NaN': (
        lambda d: NDData(d, psf=np.diag(np.r_[np.nan, np.ones(8)])),
        Flag.BAD_PSF,
        'the PSF must have a positive finite sum, got nan',
        None,
    ),
    'psf not 2-d': (
        lambda d: NDData(d, psf=np.ones(9)),
        Flag.BAD_PSF,
        r'the PSF must be a 2-d image of numbers, got shape \(9,\) of float64',
        None,
    ),
    'missing file': (
        lambda d: 'no/such/file.fits',
        Flag.UNREADABLE,
        "cannot read 'no/such/file.fits': there is no such file",
        CutoutReadError,
    ),
}


@pytest.mark.parametrize('fault', FAULTS)
def test_alone(fault, stamp):
    make, flag, match, error = FAULTS[fault]
    item = make(stamp)
    assert is_single(item)
    if error is not None:
        with pytest.raises(error, match=match):
            iter_cutouts(item)
        return
    (cutout,) = iter_cutouts(item)
    assert_failed(cutout, flag, match)


@pytest.mark.parametrize('fault', FAULTS)
def test_among_good_ones(fault, stamp):
    make, flag, match, _ = FAULTS[fault]
    first, bad, last = iter_cutouts([NDData(stamp), make(stamp), NDData(2 * stamp)])
    assert_failed(bad, flag, match)
    assert_array_equal(first.data, stamp)
    assert_array_equal(last.data, 2 * stamp)


def assert_failed(cutout, flag, match):
    assert cutout.is_failed
    assert cutout.flags == flag
    assert cutout.unit == u.dimensionless_unscaled
    assert cutout.noise is cutout.mask is cutout.psf is cutout.shape is None
    assert np.isnan(cutout.position).all()
    with pytest.raises(ValueError, match=match):
        raise ValueError(cutout.message)


@pytest.mark.parametrize('item', [3, None, 'abc', {}, [[1.0, 2.0]]], ids=str)
def test_other_objects_among_good_ones(item, stamp):
    good, bad = iter_cutouts([stamp * u.ct, item])
    assert bad.is_failed
    assert bad.unit == u.ct
    if isinstance(item, str):
        assert (bad.flags, bad.label) == (Flag.UNREADABLE, 'abc')
        assert bad.message == "cannot read 'abc': there is no such file"
    else:
        assert bad.flags == Flag.BAD_INPUT
        start = f'a cutout cannot be {type(item).__name__}: want CCDData, NDData, Cutout2D,'
        assert bad.message.startswith(start)
    assert_array_equal(good.data, stamp)


@pytest.mark.parametrize('item', [3, None, {'a': 1}, b'abc', 2.5], ids=str)
def test_other_objects(item):
    match = f'cannot take cutouts from {type(item).__name__}: want CCDData, NDData, Cutout2D, '
    for function in (is_single, iter_cutouts):
        with pytest.raises(TypeError, match=match):
            function(item)


@pytest.mark.parametrize('empty', [[], (), np.zeros((0, 33, 33))], ids=['list', 'tuple', 'stack'])
def test_nothing(empty):
    with pytest.raises(ValueError, match='there are no cutouts'):
        iter_cutouts(empty)


def test_empty_generator():
    with pytest.raises(ValueError, match='there are no cutouts: the input is empty'):
        next(iter_cutouts(iter([])))


def test_stacks_that_do_not_fit(stamp):
    stack = np.stack([stamp] * 3)
    with pytest.raises(ValueError, match=r'must have 3 axes \(n, ny, nx\), got the shape \(1, 3,'):
        iter_cutouts(stack[None])
    with pytest.raises(ValueError, match=r'the mask of a stack of shape .* has the shape \(2, 33'):
        iter_cutouts(NDData(stack, mask=np.zeros((2, 33, 41), bool)))
    uncertainty = StdDevUncertainty(np.ones(3))
    with pytest.raises(ValueError, match=r'the uncertainty of a stack .* has the shape \(3,\)'):
        iter_cutouts(NDData(stack, uncertainty=uncertainty))
    with pytest.raises(TypeError, match='the uncertainty is UnknownUncertainty'):
        iter_cutouts(NDData(stack, uncertainty=UnknownUncertainty(np.ones(stack.shape))))


def test_bad_layer_of_a_stack(stamp):
    stack = np.stack([stamp, np.full(stamp.shape, np.nan), stamp])
    flags = [c.flags & Flag.NO_PIXELS for c in iter_cutouts(stack)]
    assert flags == [0, Flag.NO_PIXELS, 0]


def test_large_psf_is_cut_to_the_stamp(stamp):
    """Its wings beyond the stamp matter little; sides stay odd, so that the middle stays."""
    y, x = np.mgrid[:25, :25] - 12
    psf = np.exp(-(x**2 + y**2) / 10)
    small, large = iter_cutouts([stamp[:20, :21], stamp], psf=psf)
    assert (small.psf.shape, large.psf.shape) == ((19, 21), (25, 25))
    assert small.psf == pytest.approx(large.psf[3:-3, 2:-2], rel=1e-3)
    assert small.psf.sum() == pytest.approx(1)
    assert small.psf_fwhm == pytest.approx(large.psf_fwhm, rel=1e-3)


def test_bad_psf_in_a_list_fails_its_row(stamp):
    bad, good = iter_cutouts([stamp, stamp], psf=[np.zeros((9, 9)), np.eye(9)])
    assert bad.flags == Flag.BAD_PSF
    assert not good.is_failed


def test_failed_row_has_its_name_and_the_unit_of_the_batch(stamp):
    bad_noise = StdDevUncertainty(np.zeros(stamp.shape))
    items = [
        CCDData(stamp, unit='nJy'),
        CCDData(stamp, unit='nJy', uncertainty=bad_noise, meta={'id': 'g7'}),
    ]
    _, bad = iter_cutouts(items)
    assert (bad.label, bad.unit) == ('g7', u.nJy)
