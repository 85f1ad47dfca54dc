# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The keywords error, mask, background and effective_gain."""

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import CCDData, NDData, StdDevUncertainty
from photutils.background import Background2D

from astroflux.cutouts import iter_cutouts
from astroflux.flags import MeasurementFlag as Flag

SHAPE = (50, 60)


@pytest.fixture
def data():
    return np.random.default_rng(0).normal(size=SHAPE)


@pytest.fixture
def ccd(data):
    return CCDData(data, unit='uJy', uncertainty=StdDevUncertainty(np.ones(SHAPE)))


def one(item, **options):
    (cutout,) = iter_cutouts(item, **options)
    return cutout


# -- error and mask -------------------------------------------------------------------------------


@pytest.mark.parametrize('error', [2.0, 2 * u.uJy, 0.002 * u.mJy, np.full(SHAPE, 2.0)])
def test_error_takes_the_place_of_the_uncertainty(ccd, error):
    assert one(ccd, error=error).noise == pytest.approx(np.full(SHAPE, 2.0))


def test_error_of_an_array(data):
    cutout = one(data, error=np.ones(SHAPE))
    assert not cutout.flags & Flag.NOISE_ESTIMATED
    assert cutout.sigma == 1


def test_error_of_a_cutout_whose_noise_was_estimated(data):
    again = one(one(data), error=1.5)
    assert not again.flags & Flag.NOISE_ESTIMATED
    assert again.sigma == 1.5


def test_mask_is_added(data):
    own, more = np.zeros((2, *SHAPE), dtype=bool)
    own[3, 4] = more[5, 6] = True
    cutout = one(NDData(data, mask=own, uncertainty=StdDevUncertainty(np.ones(SHAPE))), mask=more)
    assert np.argwhere(cutout.mask).tolist() == [[3, 4], [5, 6]]
    assert np.array_equal(one(one(data), mask=more).mask, more)


def test_one_for_each(data):
    errors = [np.full(SHAPE, 1.0), np.full(SHAPE, 3.0)]
    for given in (errors, np.array(errors), [1.0, 3.0]):
        sigmas = [cutout.sigma for cutout in iter_cutouts([data, data], error=given)]
        assert sigmas == [1, 3]
    masks = np.zeros((2, *SHAPE), dtype=bool)
    masks[1, 2, 2] = True
    stack = np.stack([data, data])
    counts = [cutout.mask.sum() for cutout in iter_cutouts(stack, error=1.0, mask=masks)]
    assert counts == [0, 1]


# -- background -----------------------------------------------------------------------------------


@pytest.mark.parametrize('background', [5.0, 5 * u.uJy, 0.005 * u.mJy, np.full(SHAPE, 5.0)])
def test_background_is_subtracted(ccd, data, background):
    raised = ccd.copy()
    raised.data = data + 5
    assert one(raised, background=background).data == pytest.approx(data)
    assert one(one(raised), background=background).data == pytest.approx(data)
    assert one(raised).flags & Flag.SKY_RESIDUAL
    assert not one(raised, background=background).flags & Flag.SKY_RESIDUAL


def test_input_stays(ccd, data):
    before = data.copy()
    one(ccd, background=5.0, error=2.0, effective_gain=1.0)
    assert np.array_equal(ccd.data, before)


def test_background2d(data):
    plane = np.broadcast_to(3 + 0.05 * np.arange(SHAPE[1]), SHAPE)
    background = Background2D(data + plane, (25, 20))
    cutout = one(data + plane, error=1.0, background=background)
    assert cutout.data == pytest.approx(data + plane - background.background)


def test_local_background(data):
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]] - 25
    galaxy = 1e3 * np.exp(-(x**2 + y**2) / 20)
    item = NDData(data + galaxy + 7, uncertainty=StdDevUncertainty(np.ones(SHAPE)))
    cutout = one(item, background='local')
    assert np.median(cutout.data - data - galaxy) == pytest.approx(0, abs=4 * cutout.sky_err)
    # a median of some 1,500 pixels
    assert cutout.sky_err == pytest.approx(1.25 / np.sqrt(1500), rel=0.1)
    grown = one(item, background='local', noise_correlation=1.4)
    assert grown.sky_err == pytest.approx(1.4 * cutout.sky_err)


def test_local_background_leaves_masked_pixels(data):
    mask = np.zeros(SHAPE, dtype=bool)
    mask[:10, :10] = True
    data[mask] = 1e5
    cutout = one(data + 3, mask=mask, error=1.0, background='local')
    assert (cutout.data[mask] == 0).all()
    assert np.median(cutout.data[~mask]) == pytest.approx(0, abs=0.1)


def test_none_is_none(data):
    assert np.array_equal(one(data, background='none').data, one(data).data)
    mixed = list(iter_cutouts([data, data], background=['none', 'local'], error=1.0))
    assert [cutout.sky_err > 0 for cutout in mixed] == [False, True]


# -- gain -----------------------------------------------------------------------------------------


def test_gain_adds_the_photons_of_the_source(data):
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]] - 25
    galaxy = 1e4 * np.exp(-(x**2 + y**2) / 50)
    ccd = CCDData(data + galaxy, unit='adu', uncertainty=StdDevUncertainty(np.ones(SHAPE)))
    for gain in (2.0, 2 * u.electron / u.adu, np.full(SHAPE, 2.0)):
        cutout = one(ccd, effective_gain=gain)
        assert cutout.noise[25, 25] == pytest.approx(np.sqrt(1 + 1e4 / 2), rel=0.02)
        assert cutout.noise[0, -1] == pytest.approx(1, abs=0.6)
    assert one(ccd, effective_gain=np.zeros(SHAPE)).sigma == pytest.approx(np.ones(SHAPE))


def test_gain_belongs_to_the_unit_of_the_cutout(data):
    """The first cutout decides the unit of the fluxes, not that of the gain."""
    first = CCDData(data, unit='Jy', uncertainty=StdDevUncertainty(np.ones(SHAPE)))
    bright = CCDData(data + 1e4, unit='mJy', uncertainty=StdDevUncertainty(np.ones(SHAPE)))
    _, cutout = iter_cutouts([first, bright], effective_gain=2.0)
    assert cutout.noise[25, 25] == pytest.approx(1e-3 * np.sqrt(1 + 1e4 / 2), rel=1e-3)


@pytest.mark.parametrize(
    ('unit', 'suspect'), [('electron', True), ('photon', True), ('adu', False)]
)
def test_noise_without_photons_is_suspect_if_they_are_counted(unit, suspect):
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:81, :81] - 40
    galaxy = 50 * np.exp(-(x**2 + y**2) / 50)
    counts = rng.poisson(galaxy + 4.0) - 4.0
    sky = CCDData(counts, unit=unit, uncertainty=StdDevUncertainty(np.full(counts.shape, 2.0)))
    assert bool(one(sky).flags & Flag.NOISE_SUSPECT) is suspect
    assert not one(sky, effective_gain=1.0).flags & Flag.NOISE_SUSPECT


# -- wrong arguments ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('options', 'error', 'match'),
    [
        ({'background': np.zeros((5, 5))}, ValueError, r'background has the shape \(5, 5\)'),
        ({'background': 'lokal'}, ValueError, "'none', 'local', a number or a map, got 'lokal'"),
        (
            {'background': 3 * u.m},
            u.UnitsError,
            "background has the unit 'm', the cutout",
        ),
        ({'error': np.zeros((5, 5))}, ValueError, r'error has the shape \(5, 5\), the cutout has'),
        ({'error': 1 * u.s}, u.UnitsError, "the uncertainty has the unit 's'"),
        ({'error': np.array(['a'])}, ValueError, 'error must be a number or a 2-d map'),
        ({'mask': np.zeros((5, 5), bool)}, ValueError, r'mask has the shape \(5, 5\)'),
        ({'mask': np.zeros(SHAPE)}, ValueError, 'mask must be 2-d, True where'),
        (
            {'effective_gain': -1.0},
            ValueError,
            'effective_gain must be positive and finite',
        ),
        ({'effective_gain': 1 * u.s}, u.UnitsError, "effective_gain has the unit 's', want"),
        ({'effective_gain': np.ones((5, 5))}, ValueError, r'effective_gain has the shape \(5, 5\)'),
        ({'error': [1.0, 2.0]}, ValueError, 'error has 2 values for 1 cutouts'),
    ],
)
def test_wrong(ccd, options, error, match):
    with pytest.raises(error, match=match):
        iter_cutouts(ccd, **options)


def test_wrong_map_fails_its_row_alone(ccd, data):
    small = CCDData(data[:40, :40], unit='uJy', uncertainty=StdDevUncertainty(np.ones((40, 40))))
    good, bad = iter_cutouts([ccd, small], background=np.zeros(SHAPE))
    assert (good.flags, bad.flags & Flag.BAD_INPUT) == (Flag.PSF_UNKNOWN, Flag.BAD_INPUT)


def test_local_background_without_an_edge(ccd):
    mask = np.ones(SHAPE, dtype=bool)
    mask[10:-10, 10:-10] = False
    with pytest.raises(ValueError, match="background='local' needs 16 usable pixels"):
        iter_cutouts(ccd, mask=mask, background='local')
