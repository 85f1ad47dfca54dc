# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Which units are fluxes, and how batches come to one unit."""

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import CCDData, NDData, StdDevUncertainty
from astropy.units import photometric
from numpy.testing import assert_allclose, assert_array_equal

from astroflux.cutouts import iter_cutouts
from astroflux.cutouts._noise import GivenNoise
from astroflux.cutouts._units import check_flux_unit

FLUXES = [
    u.dimensionless_unscaled,
    u.percent,
    u.adu,
    u.DN,
    u.electron,
    u.photon,
    u.ct,
    u.adu / u.s,
    u.electron / u.hour,
    u.s**-1,
    u.Jy,
    u.nJy,
    u.Unit('1e-20 erg / (s cm2 Angstrom)'),
    u.W / u.m**2 / u.Hz,
    u.erg / u.s / u.cm**2,
    photometric.mgy,
    u.Unit('nmgy'),
    u.photon / u.s / u.cm**2,
]


@pytest.mark.parametrize('unit', FLUXES, ids=str)
def test_fluxes_are_themselves(unit):
    assert check_flux_unit(unit) == (unit, None)


def test_no_unit_is_dimensionless():
    assert check_flux_unit(None) == (u.dimensionless_unscaled, None)


@pytest.mark.parametrize(
    ('unit', 'flux', 'factor'),
    [
        (u.MJy / u.sr, u.MJy, (u.arcsec**2).to(u.sr)),
        (u.nJy / u.arcsec**2, u.nJy, 1.0),
        (u.adu / u.deg**2, u.adu, 3600**-2),
        (u.Unit('1e-17 erg / (s cm2 Angstrom arcsec2)'), None, 1.0),
        (u.electron / u.s / u.mas**2, u.electron / u.s, 1e6),
        (u.arcsec**-2, u.dimensionless_unscaled, 1.0),
    ],
    ids=str,
)
def test_surface_brightness_loses_its_area(unit, flux, factor):
    found, per_arcsec2 = check_flux_unit(unit)
    assert found == (flux or unit * u.arcsec**2)
    assert per_arcsec2 == pytest.approx(factor, rel=1e-12)


@pytest.mark.parametrize('unit', [u.adu / u.pix, u.adu / u.pix**2, u.adu / u.s / u.pix], ids=str)
def test_per_pixel_is_one_pixel(unit):
    flux, per_arcsec2 = check_flux_unit(unit)
    assert per_arcsec2 is None
    assert flux in (u.adu, u.adu / u.s)


def test_defined_units_are_looked_into():
    flux, per_arcsec2 = check_flux_unit(u.def_unit('SB', u.MJy / u.sr))
    assert flux.is_equivalent(u.Jy)
    assert per_arcsec2 * flux.to(u.MJy) == pytest.approx((u.arcsec**2).to(u.sr))


@pytest.mark.parametrize(
    'unit',
    [
        u.mag,
        u.ABmag,
        u.STmag,
        u.mag / u.arcsec**2,
        u.m,
        u.K,
        u.Jy / u.beam,
        u.arcsec,
        u.sr,
        u.Jy**2,
        u.Jy / u.arcsec,
        u.adu * u.pix,
        u.Jy / u.arcsec**4,
        u.Jy / u.sr / u.pix**2,
    ],
    ids=str,
)
def test_other_units_are_refused(unit, stamp):
    text = str(unit)
    with pytest.raises(u.UnitsError, match='is not a flux: want a flux') as caught:
        check_flux_unit(unit)
    assert f'the unit {text!r} is not a flux' in str(caught.value)
    with pytest.raises(u.UnitsError, match='is not a flux'):
        list(iter_cutouts(NDData(stamp, unit=unit)))


def test_unit_in_a_sequence_is_named_with_its_index(stamp):
    with pytest.raises(u.UnitsError, match=r"^cutout 1: the unit 'mag' is not a flux"):
        list(iter_cutouts([stamp, NDData(stamp, unit='mag')]))


def test_surface_brightness_through_the_wcs(stamp, sky):
    sigma = StdDevUncertainty(np.full(stamp.shape, 2.0))
    ccd = CCDData(stamp, unit=u.nJy / u.arcsec**2, wcs=sky, uncertainty=sigma)
    (cutout,) = iter_cutouts(ccd)
    assert cutout.unit == u.nJy
    assert cutout.pixel_scale == pytest.approx(0.2, rel=1e-9)
    assert_allclose(cutout.data, 0.04 * stamp, rtol=1e-9)
    assert_allclose(cutout.noise, 0.08, rtol=1e-9)


def test_surface_brightness_needs_a_wcs(stamp):
    match = "^the unit 'MJy / sr' is a surface brightness: a WCS is needed to know the area"
    with pytest.raises(u.UnitsError, match=match):
        list(iter_cutouts(CCDData(stamp, unit=u.MJy / u.sr)))


def test_batch_is_in_the_unit_of_the_first(stamp):
    items = [stamp * u.uJy, NDData(stamp, unit=u.mJy), stamp * u.Unit('erg / (s cm2 Hz)')]
    cutouts = list(iter_cutouts(items))
    assert {c.unit for c in cutouts} == {u.uJy}
    for cutout, factor in zip(cutouts, (1, 1e3, 1e29), strict=True):
        assert_allclose(cutout.data, factor * stamp, rtol=1e-12)
        assert_allclose(cutout.noise, factor * cutouts[0].noise, rtol=1e-12)


@pytest.mark.parametrize(
    ('second', 'name'), [(u.adu, "'adu'"), (None, "'' [(]none[)]"), (u.ct, "'ct'")]
)
def test_incompatible_units_raise(second, name, stamp):
    stream = iter_cutouts([NDData(stamp, unit='Jy'), NDData(stamp, unit=second)])
    assert_array_equal(next(stream).data, stamp)
    match = f"^cutout 1: its unit {name} does not convert to 'Jy', the unit of the first cutout"
    with pytest.raises(u.UnitsError, match=match):
        next(stream)


def test_uncertainty_in_another_kind_of_unit():
    with pytest.raises(u.UnitsError, match="the uncertainty has the unit 'Jy', the data have 'ct'"):
        GivenNoise(np.ones((8, 8)), unit=u.Jy).factor(u.ct)
