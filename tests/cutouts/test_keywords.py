# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""psf, psf_fwhm and positions: one for all, or one for each."""

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.nddata import CCDData
from astropy.wcs.utils import pixel_to_skycoord

from astroflux.cutouts import iter_cutouts
from astroflux.flags import MeasurementFlag as Flag


def fwhms(cutouts, **kwargs):
    return [c.psf_fwhm for c in iter_cutouts(cutouts, **kwargs)]


@pytest.mark.parametrize(
    ('given', 'expected'),
    [
        (3.5, [3.5, 3.5]),
        (3.5 * u.pix, [3.5, 3.5]),
        (np.float32(3.5), [3.5, 3.5]),
        ([3.5, 4], [3.5, 4.0]),
        (np.array([3.5, 4.0]), [3.5, 4.0]),
        ([3.5, 4.0] * u.pix, [3.5, 4.0]),
        ([3.5 * u.pix, 0.8 * u.arcsec], [3.5, 4.0]),
        (0.7 * u.arcsec, [3.5, 3.5]),
        ([0.7, 0.8] * u.arcsec, [3.5, 4.0]),
        (700 * u.mas, [3.5, 3.5]),
        ([3.5, None], [3.5, np.nan]),
        ([3.5, np.nan], [3.5, np.nan]),
        (np.nan, [np.nan, np.nan]),
        (None, [np.nan, np.nan]),
    ],
    ids=str,
)
def test_psf_fwhm(given, expected, stamp, sky):
    ccds = [CCDData(stamp, unit='adu', wcs=sky)] * 2
    assert fwhms(ccds, psf_fwhm=given) == pytest.approx(expected, rel=1e-9, nan_ok=True)
    unknown = [bool(c.flags & Flag.PSF_UNKNOWN) for c in iter_cutouts(ccds, psf_fwhm=given)]
    assert unknown == [np.isnan(v) for v in expected]


def test_generators_go_in_step(stamp, gaussian_psf):
    kwargs = {
        'psf': (gaussian_psf**p for p in (1, 0.5)),
        'psf_fwhm': (w for w in (3.0, None)),
        'positions': (p for p in [(10, 11), None]),
    }
    first, second = iter_cutouts((stamp for _ in range(2)), **kwargs)
    assert (first.psf_fwhm, first.position) == (3.0, (10.0, 11.0))
    assert second.psf_fwhm > 5
    assert second.position == (20, 16)


def test_psf_for_each(stamp, gaussian_psf):
    for psfs in ([gaussian_psf, None], np.stack([gaussian_psf, gaussian_psf**0.5])):
        first, second = iter_cutouts([stamp, stamp], psf=psfs)
        assert first.psf_fwhm == pytest.approx(4.6, abs=0.2)
        assert second.psf is None or second.psf_fwhm > 1.3 * first.psf_fwhm


@pytest.mark.parametrize(
    'positions',
    [[(3, 4), (5.5, 6)], np.array([[3, 4], [5.5, 6]]), [[3, 4], [5.5, 6]] * u.pix],
    ids=['list', 'array', 'quantity'],
)
def test_positions_for_each(positions, stamp):
    assert [c.position for c in iter_cutouts([stamp] * 2, positions=positions)] == [
        (3, 4),
        (5.5, 6),
    ]


def test_one_position_for_all(stamp):
    assert {c.position for c in iter_cutouts([stamp] * 2, positions=(3, 4))} == {(3.0, 4.0)}
    assert {c.position for c in iter_cutouts([stamp] * 3, positions=np.array([3, 4]))} == {(3, 4)}


def test_sky_positions(stamp, sky):
    ccd = CCDData(stamp, unit='adu', wcs=sky)
    targets = pixel_to_skycoord([12.5, 20], [8.25, 30], sky)
    found = [c.position for c in iter_cutouts([ccd, ccd], positions=targets)]
    assert found == [pytest.approx((12.5, 8.25)), pytest.approx((20, 30))]
    (one,) = iter_cutouts(ccd, positions=targets[0])
    assert one.position == pytest.approx((12.5, 8.25))


@pytest.mark.parametrize(
    ('kwargs', 'error', 'match'),
    [
        ({'psf_fwhm': 0}, ValueError, 'psf_fwhm must be positive and finite, got 0'),
        ({'psf_fwhm': -2.5}, ValueError, 'psf_fwhm must be positive and finite, got -2.5'),
        ({'psf_fwhm': np.inf}, ValueError, 'psf_fwhm must be positive and finite, got inf'),
        ({'psf_fwhm': [3, -1]}, ValueError, 'psf_fwhm of cutout 1 must be positive'),
        ({'psf_fwhm': 'wide'}, TypeError, 'psf_fwhm must be a number or Quantity, got str'),
        ({'psf_fwhm': [3, [4]]}, TypeError, 'psf_fwhm of cutout 1 must be a number .* got list'),
        ({'psf_fwhm': 3 * u.s}, u.UnitsError, "in pixels or an angle, got the unit 's'"),
        ({'psf_fwhm': [3, 4, 5]}, ValueError, 'psf_fwhm has 3 values for 2 cutouts: want one, or'),
        ({'psf': 3.0}, TypeError, 'psf must be a 2-d image, or one for each cutout, got float'),
        (
            {'psf': 'psf.fits'},
            TypeError,
            'psf must be a 2-d image, or one for .*, got str',
        ),
        ({'psf': np.ones(9)}, ValueError, r'psf: the PSF must be a 2-d image .* shape \(9,\)'),
        (
            {'psf': np.zeros((9, 9))},
            ValueError,
            'psf: .* a positive finite sum, got 0',
        ),
        ({'psf': -np.ones((9, 9))}, ValueError, 'positive finite sum, got -81'),
        ({'psf': np.full((9, 9), np.nan)}, ValueError, 'positive finite sum, got nan'),
        ({'psf': np.ones((3, 9, 9))}, ValueError, 'psf has 3 values for 2 cutouts'),
        ({'positions': 3}, TypeError, r'positions must be a pair \(x, y\), or one for each'),
        ({'positions': [(1, 2)]}, ValueError, 'positions has 1 values for 2 cutouts'),
        ({'positions': (1, 2) * u.arcsec}, u.UnitsError, "in pixels, got the unit 'arcsec'"),
    ],
    ids=str,
)
def test_wrong_keywords(kwargs, error, match, stamp):
    with pytest.raises(error, match=match):
        list(iter_cutouts([stamp, stamp], **kwargs))


def test_wrong_position_among_many(stamp):
    with pytest.raises(ValueError, match=r'positions of cutout 1 must be a pair \(x, y\)'):
        list(iter_cutouts([stamp, stamp], positions=[(1, 2), (1, 2, 3)]))


@pytest.mark.parametrize(('n', 'match'), [(1, 'psf_fwhm has 1 values, but there are more cutouts')])
def test_too_few_values_for_a_generator(n, match, stamp):
    with pytest.raises(ValueError, match=match):
        list(iter_cutouts((stamp for _ in range(2)), psf_fwhm=[3.0] * n))


def test_too_many_values_for_a_generator(stamp):
    with pytest.raises(ValueError, match=r'has more values than there are cutouts \(2\)'):
        list(iter_cutouts((stamp for _ in range(2)), positions=[(1, 2)] * 3))


def test_angle_needs_a_pixel_scale(stamp, sky):
    match = 'psf_fwhm is an angle, but the cutout has no WCS to give its pixel scale'
    with pytest.raises(ValueError, match=match):
        list(iter_cutouts(stamp, psf_fwhm=0.7 * u.arcsec))
    good, bad = iter_cutouts([CCDData(stamp, unit='', wcs=sky), stamp], psf_fwhm=0.7 * u.arcsec)
    assert good.psf_fwhm == pytest.approx(3.5)
    assert (bad.flags, bad.data) == (Flag.BAD_INPUT, None)
    assert 'no WCS' in bad.message


@pytest.mark.parametrize(
    ('position', 'match'),
    [
        ((np.nan, 3), r'the position must be finite, got \(nan, 3\)'),
        (SkyCoord(1, 2, unit='deg'), 'the position is a SkyCoord, but the cutout has no WCS'),
    ],
    ids=['nan', 'sky'],
)
def test_positions_of_one_cutout(position, match, stamp):
    with pytest.raises(ValueError, match=match):
        list(iter_cutouts(stamp, positions=position))
    bad, good = iter_cutouts([stamp, stamp], positions=[position, (3, 4)])
    assert bad.flags == Flag.BAD_INPUT
    assert not good.is_failed
