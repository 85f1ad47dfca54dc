# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What a measurement does not depend on, and how it changes with what it depends on.

Each property is tried on galaxies that hypothesis draws: a few of them in a run of the tests, many
with ``pytest --hypothesis-profile=thorough`` (see ``tests/conftest.py``).
"""

import copy
import pickle
import warnings
from functools import cache

import numpy as np
import pytest
import torch
from astropy import units as u
from astropy.nddata import (
    CCDData,
    InverseVariance,
    NDData,
    StdDevUncertainty,
    VarianceUncertainty,
)
from astropy.table import QTable, vstack
from astropy.utils.exceptions import AstropyUserWarning
from astropy.wcs import WCS
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.signal import fftconvolve
from sklearn.base import clone

from astroflux import decode_flags
from astroflux.estimators.methods import KNOWN_METHODS, available_methods, make_estimator
from astroflux.flags import FATAL_FLAGS, MeasurementFlag
from astroflux.networks.orientation import ORIENTATIONS

# Relative errors of fluxes: what rounding leaves in double precision, of the network's single
# precision, and of that if it sums in another order, as in a batch of another size.
DOUBLE, SINGLE, IN_A_BATCH = 1e-8, 1e-6, 1e-5

# What the edge of the stamp says, which is looked at along its sides.
OF_EDGE = (
    MeasurementFlag.SKY_RESIDUAL | MeasurementFlag.NOISE_SUSPECT | MeasurementFlag.OUT_OF_RANGE
)

# Those whose pixels are measured as they are, in milliseconds.
FAST = [
    name
    for name in ('cnn', 'kron', 'aperture', 'growth', 'sep', 'linear')
    if KNOWN_METHODS[name].is_available
]
FLUXES = ('flux', 'flux_err', 'flux_lower', 'flux_upper')

each_method = pytest.mark.parametrize('method', FAST)
seeds = st.integers(0, 2**32 - 1)


@cache
def estimator_of(method):
    return make_estimator(method, **({'radius': 12.0} if method == 'aperture' else {}))


def measure(method, cutouts, **options):
    return estimator_of(method).measure(cutouts, progress=False, **options)


# -- galaxies ----------------------------------------------------------------------------------


def ellipse_radius(shape, position, axis_ratio, angle):
    """The radius of each pixel along the major axis of an ellipse about a position (x, y)."""
    y, x = np.indices(shape)
    x, y = x - position[0], y - position[1]
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    return np.hypot(along, across / axis_ratio)


def moffat(fwhm, axis_ratio=1.0, angle=0.0, side=31):
    """A PSF image of seeing, its sum one."""
    radius = ellipse_radius((side, side), (side // 2, side // 2), axis_ratio, angle)
    image = (1 + (2**0.4 - 1) * (2 * radius / fwhm) ** 2) ** -2.5
    return image / image.sum()


@st.composite
def galaxies(draw, sides=(41, 120), scales=(0.5, 4.0), fluxes=(2.5, 5.0), has_psf=None, noise=None):
    """
    One disc, as seen through a PSF, in noise near the middle of its stamp: a `CCDData`.

    It may have a PSF image, a map of noise and masked pixels.
    """
    shape = draw(st.tuples(st.integers(*sides), st.integers(*sides)))
    rng = np.random.default_rng(draw(seeds))
    position = (np.array(shape[::-1]) - 1) / 2 + rng.uniform(-0.5, 0.5, 2)
    angles = rng.uniform(0, np.pi, 2)
    radius = ellipse_radius(shape, position, rng.uniform(0.4, 1), angles[0])
    # the core is what pixels can show of it
    disc = np.exp(-np.hypot(radius, 0.7) / draw(st.floats(*scales)))
    psf = moffat(rng.uniform(3, 6), rng.uniform(0.85, 1), angles[1])
    disc = fftconvolve(disc, psf, mode='same')
    sigma = np.ones(shape)
    if draw(st.booleans()) if noise is None else noise == 'map':
        sigma = rng.uniform(0.7, 1.4, shape)
    mask = rng.random(shape) < 0.02 if draw(st.booleans()) else None
    if not (draw(st.booleans()) if has_psf is None else has_psf):
        psf = None
    image = 10 ** draw(st.floats(*fluxes)) * disc / disc.sum() + rng.normal(0, sigma)
    return CCDData(image, unit='nJy', uncertainty=StdDevUncertainty(sigma), mask=mask, psf=psf)


few_galaxies = st.lists(galaxies(), min_size=2, max_size=6)


def changed(ccd, data=None, *, noise=None, **parts):
    """A galaxy with other parts."""
    if noise is not None:
        parts['uncertainty'] = StdDevUncertainty(noise)
    known = {
        name: getattr(ccd, name) for name in ('unit', 'uncertainty', 'mask', 'wcs', 'psf', 'meta')
    }
    return CCDData(np.array(ccd.data) if data is None else data, **{**known, **parts})


def turned(ccd, orientation):
    """A galaxy with all its parts flipped and turned."""

    def turn(array):
        return None if array is None else orientation.apply(array).copy()

    parts = {'mask': turn(ccd.mask), 'psf': turn(ccd.psf)}
    return changed(ccd, turn(ccd.data), noise=turn(ccd.uncertainty.array), **parts)


def padded(ccd, widths, fill=0.0):
    """A galaxy in a larger stamp, of which the rest is masked."""
    mask = np.zeros(ccd.shape, bool) if ccd.mask is None else ccd.mask
    return changed(
        ccd,
        np.pad(ccd.data, widths, constant_values=fill),
        noise=np.pad(ccd.uncertainty.array, widths, constant_values=1.0),
        mask=np.pad(mask, widths, constant_values=True),
    )


def assert_same(table, expected, rtol, factor=1.0, ignore=0):
    """
    Assert that fluxes times a factor are the same, and the flags but for some.

    The relative error of ``flux_err`` may be 100 times larger, as it is a difference of fluxes.
    """
    for name in FLUXES:
        np.testing.assert_allclose(
            table[name].value,
            expected[name].value * factor,
            rtol=rtol * (100 if name == 'flux_err' else 1),
            err_msg=name,
        )
    kept = ~int(ignore)
    np.testing.assert_array_equal(
        np.asarray(table['flags']) & kept, np.asarray(expected['flags']) & kept
    )


def assert_identical(table, expected):
    """All that was measured, to the last bit."""
    assert table.colnames == expected.colnames
    for name in table.colnames:
        np.testing.assert_array_equal(table[name], expected[name], err_msg=name)


# -- scale and unit ----------------------------------------------------------------------------


@each_method
@given(galaxies(), st.floats(-150, 150))
def test_flux_scale(method, ccd, exponent):
    """Pixels and noise times a factor: fluxes and errors times this factor, and the same flags."""
    factor = 10.0**exponent
    other = changed(ccd, ccd.data * factor, noise=ccd.uncertainty.array * factor)
    assert_same(measure(method, other), measure(method, ccd), DOUBLE, factor)


@each_method
@given(galaxies(), st.sampled_from(['Jy', 'uJy', '3631 Jy', 'erg / (s cm2 Hz)', 'W / (m2 Hz)']))
def test_flux_unit(method, ccd, unit):
    """The same pixels in another unit: the same flux in that unit, alone and among others."""
    unit = u.Unit(unit)
    factor = u.nJy.to(unit)
    noise = ccd.uncertainty.array * factor
    other = changed(ccd, ccd.data * factor, unit=unit, noise=noise)
    expected = measure(method, ccd)
    table = measure(method, other)
    assert table['flux'].unit == unit
    assert_same(table, expected, DOUBLE, factor)
    both = measure(method, [ccd, other])
    assert both['flux'].unit == u.nJy
    assert_same(both[1:], expected, IN_A_BATCH)


@each_method
@given(galaxies(), st.floats(-3, 3))
def test_sky_that_is_told(method, ccd, level):
    """A sky that is subtracted by ``background=`` does not matter."""
    table = measure(method, changed(ccd, ccd.data + level), background=level)
    # differences of rounding decide what is a peak
    assert_same(table, measure(method, ccd), 1e-5)


# -- place -------------------------------------------------------------------------------------


@each_method
@given(galaxies(), st.sampled_from(ORIENTATIONS))
def test_flips_and_turns(method, ccd, orientation):
    table = measure(method, turned(ccd, orientation))
    assert_same(table, measure(method, ccd), SINGLE, ignore=OF_EDGE)


@each_method
@given(galaxies(sides=(201, 201)), st.tuples(*2 * [st.integers(-25, 25)]))
def test_translation(method, ccd, shift):
    """All pixels moved by whole ones, and the position with them."""
    middle = np.array([100.0, 100.0])

    def moved(array):
        return None if array is None else np.roll(array, shift[::-1], axis=(0, 1))

    other = changed(ccd, moved(ccd.data), noise=moved(ccd.uncertainty.array), mask=moved(ccd.mask))
    table = measure(method, other, positions=middle + shift)
    assert_same(table, measure(method, ccd, positions=middle), DOUBLE, ignore=OF_EDGE)


@each_method
@given(
    galaxies(),
    st.tuples(*2 * [st.sampled_from([0, 0.5, 1])]),
    st.tuples(*2 * [st.floats(-1e-7, 1e-7)]),
)
def test_rounding_of_the_position(method, ccd, offset, rounding):
    """A position that went through the sky is off by 1e-7 pixels or less, which does not matter."""
    position = np.array(ccd.shape[::-1]) // 2 + offset
    table = measure(method, ccd, positions=position + rounding)
    assert_same(table, measure(method, ccd, positions=position), 1e-5)


@each_method
@given(galaxies(sides=(61, 61)), st.tuples(*2 * [st.integers(0, 99)]))
def test_stamp_of_an_image(method, ccd, corner):
    """A stamp that is cut of a larger image by ``positions=`` is that stamp."""
    x0, y0 = corner
    window = np.s_[y0 : y0 + 61, x0 : x0 + 61]
    parts = {'data': np.ones((160, 160)), 'noise': np.ones((160, 160)), 'mask': None}
    parts['data'][window] = ccd.data
    parts['noise'][window] = ccd.uncertainty.array
    if ccd.mask is not None:
        parts['mask'] = np.zeros((160, 160), bool)
        parts['mask'][window] = ccd.mask
    table = measure(method, changed(ccd, **parts), positions=[(x0 + 30, y0 + 30)], stamp_size=61)
    expected = measure(method, ccd)
    np.testing.assert_array_equal([table['x'][0].value, table['y'][0].value], [x0 + 30, y0 + 30])
    table['x'], table['y'] = expected['x'], expected['y']
    assert_identical(table, expected)


@each_method
@given(galaxies(has_psf=True), st.floats(0.05, 2), st.floats(0, 360))
def test_wcs(method, ccd, scale, angle):
    """Where the sky is does not change a flux that is no surface brightness."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = 'RA---TAN', 'DEC--TAN'
    wcs.wcs.crval = 150.0, 2.0
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    wcs.wcs.cd = scale / 3600 * np.array([[-cos, sin], [sin, cos]])
    table = measure(method, changed(ccd, wcs=wcs))
    assert_same(table, measure(method, ccd), 0)
    # and lengths are told in the sky
    assert {'ra', 'dec'} <= set(table.colnames)


# -- more of the sky ---------------------------------------------------------------------------


@pytest.mark.parametrize('method', [name for name in FAST if name not in ('growth', 'sep')])
@given(galaxies(sides=(41, 100)), st.tuples(*2 * [st.integers(0, 23)]), seeds)
def test_padding_with_masked_pixels(method, ccd, width, seed):
    """
    Pixels that are masked say nothing, wherever they are.

    The curve of growth ends where the pixels do, and SExtractor's filter looks beyond the edge.
    """
    before = np.random.default_rng(seed).integers(0, np.array(width) + 1)
    widths = [(n, m - n) for n, m in zip(before, width, strict=True)]
    middle = (np.array(ccd.shape[::-1]) - 1) / 2
    table = measure(method, padded(ccd, widths), positions=middle + before[::-1])
    ignore = OF_EDGE | MeasurementFlag.MASKED_PIXELS | MeasurementFlag.OFF_CENTRE
    # a source is detected in an image that was smoothed by a Fourier transform
    rtol = 1e-4 if method == 'kron' else SINGLE
    assert_same(table, measure(method, ccd, positions=middle), rtol, ignore=ignore)


@given(galaxies(sides=(143, 143), scales=(6.0, 12.0)), st.integers(3, 60))
def test_masked_pixels_beyond_the_canvas(ccd, width):
    table = measure('cnn', padded(ccd, 2 * [(width, width)]))
    ignore = OF_EDGE | MeasurementFlag.MASKED_PIXELS | MeasurementFlag.STAMP_CROPPED
    assert_same(table, measure('cnn', ccd), SINGLE, ignore=ignore)


@given(galaxies(sides=(203, 203), scales=(1.0, 9.0), fluxes=(3.5, 5.0)), st.integers(1, 30))
def test_padding_with_blank_sky(ccd, width):
    """More of the sky, with its noise and the wings of the galaxy, is less than an error."""
    window = np.s_[width:-width, width:-width]
    inner = changed(
        ccd,
        ccd.data[window],
        noise=ccd.uncertainty.array[window],
        mask=None if ccd.mask is None else ccd.mask[window],
    )
    more, less = measure('cnn', ccd), measure('cnn', inner)
    assert abs(more['flux'][0] - less['flux'][0]) < less['flux_err'][0]


# -- pixels ------------------------------------------------------------------------------------


@each_method
@given(
    galaxies(),
    seeds,
    st.sampled_from([0.0, np.nan, np.inf, -np.inf, 1e30, -3.4e38, 1e300]),
)
def test_values_under_a_mask(method, ccd, seed, value):
    """What masked pixels hold never matters, nor what is said of their noise."""
    mask = np.random.default_rng(seed).random(ccd.shape) < 0.05
    known = changed(ccd, np.where(mask, 1.0, ccd.data), mask=mask)
    noise = np.where(mask, value, ccd.uncertainty.array)
    assert_identical(
        measure(method, changed(ccd, np.where(mask, value, ccd.data), mask=mask)),
        measure(method, known),
    )
    if noise[~mask].min() != noise[~mask].max():
        # one number for all is none when one pixel is another
        table = measure(method, changed(known, noise=noise))
        assert_same(table, measure(method, known), DOUBLE)


@each_method
@given(galaxies(), seeds)
def test_not_finite_is_masked(method, ccd, seed):
    """NaN is another way to say that a pixel is masked, and so are the two masks together."""
    rng = np.random.default_rng(seed)
    own, other = rng.random((2, *ccd.shape)) < 0.02
    as_nan = changed(ccd, np.where(own | other, np.nan, ccd.data), mask=None)
    tables = [
        measure(method, as_nan),
        measure(method, changed(ccd, mask=own), mask=other),
        measure(method, changed(ccd, mask=own.astype(np.uint8)), mask=other),
    ]
    for table in tables:
        assert_identical(table, measure(method, changed(ccd, mask=own | other)))


DTYPES = ['i2', '>i2', 'i4', '>i4', 'i8', 'f4', '>f4', 'f8', '>f8', 'g']


@each_method
@given(galaxies(fluxes=(2.5, 4.5)), st.sampled_from(DTYPES))
def test_dtype_and_byte_order(method, ccd, dtype):
    """Pixels and noise that a type can hold are the same in it, to the last bit."""
    data, noise = np.rint(10 * ccd.data), np.rint(10 * ccd.uncertainty.array)
    table = measure(method, changed(ccd, data.astype(dtype), noise=noise.astype(dtype)))
    assert_identical(table, measure(method, changed(ccd, data, noise=noise)))


def _reversed(array):
    return array[::-1, ::-1].copy()[::-1, ::-1]


def _read_only(array):
    array = array.copy()
    array.setflags(write=False)
    return array


LAYOUTS = {
    'Fortran': np.asfortranarray,
    'reversed': _reversed,
    'every second': lambda array: np.repeat(np.repeat(array, 2, 0), 3, 1)[::2, ::3],
    'part': lambda array: np.pad(array, 3)[3:-3, 3:-3],
    'read-only': _read_only,
}


@each_method
@given(galaxies(), st.sampled_from(sorted(LAYOUTS)))
def test_layout_in_memory(method, ccd, layout):
    """Strides and locks of arrays do not matter, to the last bit."""
    make = LAYOUTS[layout]
    other = CCDData(
        make(ccd.data),
        unit=ccd.unit,
        uncertainty=StdDevUncertainty(make(ccd.uncertainty.array), copy=False),
        mask=None if ccd.mask is None else make(ccd.mask),
        psf=None if ccd.psf is None else make(ccd.psf),
    )
    assert_identical(measure(method, other), measure(method, ccd))


# -- noise -------------------------------------------------------------------------------------


@each_method
@given(galaxies(noise='map'))
def test_kinds_of_noise(method, ccd):
    """Standard deviation, variance, inverse variance, in any unit, beside or in the cutout."""
    sigma = ccd.uncertainty.array
    kinds = [
        VarianceUncertainty(sigma**2),
        InverseVariance(sigma**-2.0),
        StdDevUncertainty(sigma / 1000, unit='uJy'),
        VarianceUncertainty(sigma**2 / 1e6, unit='uJy2'),
    ]
    tables = [measure(method, changed(ccd, uncertainty=kind)) for kind in kinds]
    bare = changed(ccd, uncertainty=None)
    tables += [measure(method, bare, error=sigma), measure(method, bare, error=sigma * u.nJy)]
    for table in tables:
        assert_same(table, measure(method, ccd), 1e-6)


@each_method
@given(few_galaxies)
def test_maps_beside_the_cutouts(method, ccds):
    """Noise, mask, sky and PSF of each by keywords, in lists and iterators, are its own."""
    bare = [CCDData(ccd.data + 0.5, unit=ccd.unit) for ccd in ccds]
    sharp = moffat(4.0)
    maps = {
        'error': [ccd.uncertainty.array for ccd in ccds],
        'mask': [np.zeros(ccd.shape, bool) if ccd.mask is None else ccd.mask for ccd in ccds],
        'background': [np.full(ccd.shape, 0.5) for ccd in ccds],
        'psf': [sharp if ccd.psf is None else ccd.psf for ccd in ccds],
    }
    own = [changed(ccd, psf=psf) for ccd, psf in zip(ccds, maps['psf'], strict=True)]
    expected = measure(method, own)
    assert_same(measure(method, bare, **maps), expected, SINGLE)
    streams = {name: iter(each) for name, each in maps.items()}
    assert_same(measure(method, iter(bare), **streams), expected, SINGLE)


@each_method
@given(galaxies(noise='even'), st.floats(0.5, 2))
def test_one_number_for_the_noise(method, ccd, sigma):
    bare = changed(ccd, uncertainty=None)
    expected = measure(method, changed(ccd, noise=np.full(ccd.shape, sigma)))
    for error in (sigma, sigma * u.nJy, 1e-9 * sigma * u.Jy):
        assert_same(measure(method, bare, error=error), expected, DOUBLE)


@given(galaxies(), st.floats(0.1, 10))
def test_noise_of_an_aperture(ccd, factor):
    """Where the noise is but the error of a sum, this scales with it, and the flux stays."""
    table = measure('aperture', changed(ccd, noise=ccd.uncertainty.array * factor))
    expected = measure('aperture', ccd)
    np.testing.assert_allclose(table['flux'], expected['flux'], rtol=DOUBLE)
    np.testing.assert_allclose(table['flux_err'], factor * expected['flux_err'], rtol=DOUBLE)


@given(galaxies(fluxes=(3.5, 5.0)), seeds)
def test_more_noise_larger_error(ccd, seed):
    """With twice the noise in the pixels, told as such, the network's errors are larger."""
    rng, sigma = np.random.default_rng(seed), ccd.uncertainty.array
    noisy = [
        changed(ccd, ccd.data + rng.normal(0, np.sqrt(3) * sigma), noise=2 * sigma)
        for _ in range(5)
    ]
    more = np.median(measure('cnn', noisy)['flux_err'])
    assert more > measure('cnn', ccd)['flux_err'][0]


# -- PSF ---------------------------------------------------------------------------------------


@each_method
@given(galaxies(has_psf=True), st.floats(1e-6, 1e6))
def test_psf_times_a_factor(method, ccd, factor):
    table = measure(method, changed(ccd, psf=ccd.psf * factor))
    assert_same(table, measure(method, ccd), SINGLE)


@each_method
@given(galaxies(sides=(61, 120), has_psf=True), st.tuples(*2 * [st.integers(0, 14)]))
def test_psf_in_zeros(method, ccd, width):
    """An array of zeros around a PSF says nothing of its wings."""
    widths = [(n, n) for n in width]
    assert_identical(
        measure(method, changed(ccd, psf=np.pad(ccd.psf, widths))), measure(method, ccd)
    )


@each_method
@given(galaxies(has_psf=True))
def test_psf_beside_or_in_the_cutout(method, ccd):
    bare = changed(ccd, psf=None)
    for psf in (ccd.psf, u.Quantity(ccd.psf), NDData(ccd.psf), ccd.psf.astype('>f8')):
        assert_identical(measure(method, bare, psf=psf), measure(method, ccd))


# -- many cutouts ------------------------------------------------------------------------------


@each_method
@given(few_galaxies, st.randoms(use_true_random=False))
def test_order_and_company(method, ccds, random):
    """Each has the row of its place, whatever the order and whoever is beside it."""
    expected = vstack([measure(method, ccd) for ccd in ccds], metadata_conflicts='silent')
    assert_same(measure(method, ccds), expected, IN_A_BATCH)
    order = random.sample(range(len(ccds)), len(ccds))[: random.randint(1, len(ccds))]
    assert_same(measure(method, [ccds[i] for i in order]), expected[order], IN_A_BATCH)


@each_method
@given(few_galaxies, st.integers(1, 7))
def test_chunks(method, ccds, size):
    """Batches of any size; lists and generators, to the last bit."""
    estimator = clone(estimator_of(method))
    if hasattr(estimator, 'batch_size') and method == 'cnn':
        estimator.set_params(batch_size=size)
    else:
        estimator = estimator_of(method)
    table = estimator.measure(ccds)
    assert_same(table, measure(method, ccds), IN_A_BATCH)
    for again in ((ccd for ccd in ccds), tuple(ccds), iter(ccds), _object_array(ccds)):
        assert_identical(estimator.measure(again), table)


def _object_array(items):
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array


@each_method
@given(galaxies(has_psf=False, noise='even'), st.integers(1, 5), seeds)
def test_stack(method, ccd, n, seed):
    """A stack is the list of its layers."""
    rng = np.random.default_rng(seed)
    stack = ccd.data + rng.normal(0, 0.5, (n, *ccd.shape))
    layers = [changed(ccd, layer, mask=None) for layer in stack]
    noise = StdDevUncertainty(np.broadcast_to(ccd.uncertainty.array, stack.shape))
    table = measure(method, NDData(stack, unit='nJy', uncertainty=noise))
    assert_identical(table, measure(method, layers))


BAD_COMPANY = {
    'text': lambda ccd: 'no_such_file.fits',
    'object': lambda ccd: object(),
    'None': lambda ccd: None,
    'tiny': lambda ccd: np.ones((3, 3)) * u.nJy,
    'a line': lambda ccd: np.ones(40) * u.nJy,
    'NaN': lambda ccd: changed(ccd, np.full(ccd.shape, np.nan)),
    'masked': lambda ccd: changed(ccd, mask=np.ones(ccd.shape, bool)),
    'no noise': lambda ccd: changed(ccd, noise=np.zeros(ccd.shape)),
    'bad PSF': lambda ccd: changed(ccd, psf=np.zeros((9, 9))),
    'hot pixel': lambda ccd: changed(ccd, np.where(ccd.data == ccd.data.max(), 1e20, ccd.data)),
    'no-data value': lambda ccd: changed(ccd, np.where(ccd.data > 3, -3.4e38, ccd.data)),
    'text pixels': lambda ccd: np.full((40, 40), 'x'),
    'complex': lambda ccd: np.ones((40, 40), complex) * u.nJy,
    'wrong shape': lambda ccd: NDData(ccd.data, unit='nJy', mask=np.zeros((5, 5), bool)),
}


@each_method
@given(
    few_galaxies,
    st.lists(st.tuples(st.sampled_from(sorted(BAD_COMPANY)), st.integers(0, 6)), max_size=4),
)
def test_rows(method, ccds, bad):
    """One row for each cutout, in order; bad ones say why, and touch no other."""
    items, is_bad = list(ccds), [False] * len(ccds)
    for name, where in bad:
        items.insert(where, BAD_COMPANY[name](ccds[0]))
        is_bad.insert(where, True)
    table = measure(method, items)
    assert len(table) == len(items)
    np.testing.assert_array_equal(table['id'], np.arange(len(items)))
    good = ~np.array(is_bad)
    # a unit that the first good one states is that of all
    assert table['flux'].unit in (u.nJy, u.dimensionless_unscaled)
    assume(table['flux'].unit == u.nJy)
    assert_same(table[good], measure(method, ccds), IN_A_BATCH)
    fatal = np.asarray(table['flags']) & FATAL_FLAGS != 0
    np.testing.assert_array_equal(np.isnan(table['flux']), fatal)
    assert set(table.meta['messages']) == set(np.flatnonzero(fatal))
    assert all(table.meta['messages'].values())
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', AstropyUserWarning)
        flux = estimator_of(method).predict(items)
    np.testing.assert_array_equal(flux, table['flux'])


@each_method
@given(few_galaxies)
def test_predict_is_the_column(method, ccds):
    estimator = estimator_of(method)
    np.testing.assert_array_equal(estimator.predict(ccds), measure(method, ccds)['flux'])
    alone = estimator.predict(ccds[0])
    assert alone.isscalar
    assert alone == measure(method, ccds[0])['flux'][0]


names = st.text(st.characters(exclude_categories=['Cs', 'Cc']), min_size=1, max_size=20)


@given(st.lists(names, min_size=1, max_size=5, unique_by=str.strip), seeds)
def test_identifiers(labels, seed):
    """What a catalogue calls its sources is what the table calls them, whatever it is."""
    rng = np.random.default_rng(seed)
    catalog = QTable(
        {'id': labels, 'x': rng.uniform(-9, 70, len(labels)), 'y': [30.0] * len(labels)}
    )
    table = measure('aperture', rng.normal(size=(61, 61)), positions=catalog, stamp_size=41)
    assert list(table['id']) == labels
    again = measure(
        'aperture', rng.normal(size=(61, 61)), positions=catalog, stamp_size=41, labels=labels[::-1]
    )
    assert list(again['id']) == labels[::-1]


# -- nothing there -----------------------------------------------------------------------------

# of the regressions one will do, as each takes seconds to train
SIMPLE = [name for name in available_methods() if name not in ('forest', 'boosting')]
SAID = FATAL_FLAGS | MeasurementFlag.LOW_SNR


@pytest.mark.parametrize('method', SIMPLE)
@given(st.tuples(*2 * [st.integers(30, 90)]), st.floats(-12, 12), seeds)
def test_blank_sky(method, shape, exponent, seed):
    """Noise alone is no galaxy: the row says so."""
    noise = np.random.default_rng(seed).normal(0, 10**exponent, shape)
    sky = NDData(noise, unit='nJy', uncertainty=StdDevUncertainty(np.full(shape, 10**exponent)))
    table = measure(method, [sky], psf_fwhm=4.0)
    assert table['flags'][0] & SAID, decode_flags(int(table['flags'][0]))


@pytest.mark.parametrize('method', SIMPLE)
@given(st.tuples(*2 * [st.integers(30, 90)]), st.floats(-3, 3), st.booleans())
def test_flat_sky(method, shape, level, has_noise):
    """Pixels that are all the same are no galaxy either, with noise told or without."""
    noise = StdDevUncertainty(np.ones(shape)) if has_noise else None
    flat = NDData(np.full(shape, level), unit='nJy', uncertainty=noise)
    table = measure(method, [flat], psf_fwhm=4.0)
    told = SAID | MeasurementFlag.SKY_RESIDUAL
    assert table['flags'][0] & told, decode_flags(int(table['flags'][0]))


# -- calls and estimators ----------------------------------------------------------------------


def content(ccd):
    """All that a cutout holds, as bytes and texts."""
    arrays = (ccd.data, ccd.uncertainty.array, ccd.mask, ccd.psf)
    known = [None if a is None else (a.tobytes(), a.dtype, a.flags.writeable) for a in arrays]
    return [*known, ccd.unit, dict(ccd.meta)]


@each_method
@given(few_galaxies)
def test_input_is_untouched(method, ccds):
    """Cutouts, and what a call says of them."""
    n = len(ccds)
    for number, ccd in enumerate(ccds):
        ccd.data[number, 5] = np.nan
    told = {
        'positions': np.array([(np.array(ccd.shape[::-1]) - 1) / 2 for ccd in ccds]),
        'psf': [moffat(4.0) * 3 for _ in range(n)],
        'psf_fwhm': np.full(n, 4.0),
        'error': [np.full(ccd.shape, 2.0) for ccd in ccds],
        'mask': [ccd.data > 100 for ccd in ccds],
        'background': np.full(n, 0.1),
    }
    before, told_before = [content(ccd) for ccd in ccds], copy.deepcopy(told)
    measure(method, ccds, **told)
    assert [content(ccd) for ccd in ccds] == before
    assert set(told) == set(told_before)
    for name, values in told.items():
        for value, old in zip(values, told_before[name], strict=True):
            np.testing.assert_array_equal(value, old)


@pytest.mark.parametrize('method', SIMPLE)
@given(galaxies(has_psf=True), galaxies())
def test_determinism(method, ccd, other):
    """The same answer to the last bit, whatever was measured before."""
    expected = measure(method, ccd)
    measure(method, other)
    assert_identical(measure(method, ccd), expected)
    assert_identical(clone(estimator_of(method)).measure(ccd), expected)


@each_method
@given(few_galaxies, st.integers(1, 4))
def test_number_of_threads(method, ccds, n_threads):
    before = torch.get_num_threads()
    expected = measure(method, ccds)
    torch.set_num_threads(n_threads)
    try:
        table = measure(method, ccds)
    finally:
        torch.set_num_threads(before)
    assert_same(table, expected, IN_A_BATCH)


@pytest.mark.parametrize('method', FAST)
@given(ccds=few_galaxies)
def test_saved_and_pickled(method, tmp_path_factory, ccds):
    """An estimator from a file, or from another process, gives the same to the last bit."""
    estimator = estimator_of(method)
    path = tmp_path_factory.mktemp('saved') / 'estimator'
    estimator.save(path)
    expected = measure(method, ccds)
    assert_identical(type(estimator).load(path).measure(ccds), expected)
    assert_identical(pickle.loads(pickle.dumps(estimator)).measure(ccds), expected)
