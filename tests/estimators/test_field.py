# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""All sources of an image, each measured without the light of the others."""

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import CCDData, StdDevUncertainty
from astropy.table import Table
from astropy.wcs import WCS
from numpy.testing import assert_allclose, assert_array_equal

from astroflux import CNNFluxEstimator, KronFluxEstimator, decode_flags
from astroflux.estimators import FieldMeasurement

FWHM = 4.0
SHAPE = (220, 260)

# x, y, flux and sigma of round Gaussians; the second is 6.5 pixels from one six times as bright,
# the last two are alone
SOURCES = np.array(
    [
        (60.0, 60.0, 6000.0, 4.0),
        (66.5, 60.5, 1000.0, 2.2),
        (150.3, 80.7, 3000.0, 3.0),
        (158.0, 87.0, 2500.0, 2.2),
        (70.0, 160.0, 1500.0, 2.5),
        (200.0, 170.0, 800.0, 2.0),
    ]
)
PLACES, FLUXES = SOURCES[:, :2], SOURCES[:, 2]
IS_CLOSE = np.array([True] * 4 + [False] * 2)


def draw(sources, shape=SHAPE):
    """Draw sources whose sigma includes that of the PSF."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    image = np.zeros(shape)
    for x0, y0, flux, sigma in sources:
        apart = (x - x0) ** 2 + (y - y0) ** 2
        image += flux * np.exp(-0.5 * apart / sigma**2) / (2 * np.pi * sigma**2)
    return image


def make_field(sources=SOURCES, *, seed=5, mask=None, scale=1.0, unit='nJy'):
    image = draw(sources) + np.random.default_rng(seed).normal(size=SHAPE)
    noise = StdDevUncertainty(np.full(SHAPE, scale))
    return CCDData(scale * image, unit=unit, uncertainty=noise, mask=mask)


@pytest.fixture(scope='module')
def network():
    return CNNFluxEstimator()


@pytest.fixture(scope='module')
def field():
    return make_field()


@pytest.fixture(scope='module')
def table(network, field):
    return network.measure_field(field, PLACES, psf_fwhm=FWHM)


def deviations(table, fluxes=FLUXES):
    return (table['flux'].value - fluxes) / table['flux_err'].value


# -- what it is for ------------------------------------------------------------------------------


def test_beside_brighter_ones(network, field, table):
    alone = network.measure_field(field, PLACES, psf_fwhm=FWHM, neighbors='none')
    errors = [np.abs(np.log(t['flux'].value / FLUXES)) for t in (alone, table)]
    # a pair so close is more than the light of both without their models
    assert deviations(alone)[0] > 20
    assert errors[1][0] < 0.3 * errors[0][0]
    assert np.abs(deviations(table)[1:]).max() < 3.5
    assert_allclose(errors[1][~IS_CLOSE], errors[0][~IS_CLOSE], atol=0.02)


def test_model_and_residual(network, field):
    measurement = FieldMeasurement(network, field, PLACES, psf_fwhm=FWHM)
    measurement.run()
    assert 2 <= measurement.n_passes <= 4
    assert_allclose(measurement.model.sum(), FLUXES.sum(), rtol=0.02)
    assert_allclose(measurement.model + measurement.residual, field.data, atol=1e-3)
    assert 0.97 < measurement.residual.std() < 1.03
    assert np.abs(measurement.residual).max() < 6


def test_brighter_ones_come_first(network, field, monkeypatch):
    measured, measure = [], FieldMeasurement._measure_without_others

    def seen(self, rows):
        measured.append(rows.tolist())
        measure(self, rows)

    monkeypatch.setattr(FieldMeasurement, '_measure_without_others', seen)
    FieldMeasurement(network, field, PLACES, psf_fwhm=FWHM).run()
    # those with a fainter neighbor; then the neighbors, of which one is nearly as bright
    assert measured[:2] == [[0, 2], [1, 3]]
    # and those that are alone stay as they are
    assert not {4, 5} & {row for rows in measured for row in rows}


def test_large_galaxy_has_a_larger_stamp(network):
    # a stamp of 147 pixels ends at 2.5 half-light radii of it
    large = np.array([(130.0, 110.0, 200000.0, 25.0), (175.0, 130.0, 900.0, 2.0)])
    table, told = (
        network.measure_field(make_field(large), large[:, :2], psf_fwhm=FWHM, stamp_size=size)
        for size in (None, 147)
    )
    assert 'TRUNCATED' in decode_flags(int(told['flags'][0]))
    assert 'TRUNCATED' not in decode_flags(int(table['flags'][0]))
    assert_allclose(table['flux'].value, large[:, 2], rtol=0.1)


def test_other_methods_measure_without_neighbors_too(field):
    kron = KronFluxEstimator()
    none, model = (
        kron.measure_field(field, PLACES, psf_fwhm=FWHM, neighbors=neighbors)
        for neighbors in ('none', 'model')
    )
    errors = [np.abs(np.log(t['flux'].value / FLUXES))[IS_CLOSE].mean() for t in (none, model)]
    assert errors[1] < errors[0]
    assert errors[1] < 0.1
    assert 'kron_radius' in model.colnames


def test_one_pass_is_a_measurement_of_stamps(network, field):
    once = network.measure_field(field, PLACES, psf_fwhm=FWHM, passes=1)
    alone = network.measure(field, positions=PLACES, psf_fwhm=FWHM)
    for name in ('flux', 'flux_err', 'half_light_radius', 'flags'):
        assert_array_equal(once[name], alone[name])
    assert once.meta['field'] == {'neighbors': 'model', 'passes': 1}


# -- what changes nothing ------------------------------------------------------------------------


def test_scale_and_unit(network, table):
    scaled = network.measure_field(make_field(scale=1e-12, unit='Jy'), PLACES, psf_fwhm=FWHM)
    assert_allclose(scaled['flux'].to_value(u.pJy), table['flux'].value, rtol=1e-4)
    assert_allclose(scaled['flux_err'].to_value(u.pJy), table['flux_err'].value, rtol=1e-3)


def test_order_and_batches(field, table):
    order = [3, 0, 5, 2, 1, 4]
    other = CNNFluxEstimator(batch_size=2).measure_field(field, PLACES[order], psf_fwhm=FWHM)
    assert_allclose(other['flux'], table['flux'][order], rtol=1e-3)


def test_turned(network, table):
    field = make_field()
    turned = CCDData(field.data.T[:, ::-1], unit='nJy', uncertainty=StdDevUncertainty(1.0))
    turned.uncertainty.array = np.ones(turned.shape)
    places = np.column_stack([SHAPE[0] - 1 - PLACES[:, 1], PLACES[:, 0]])
    other = network.measure_field(turned, places, psf_fwhm=FWHM)
    assert_allclose(other['flux'], table['flux'], rtol=2e-3)


def test_input_stays_as_it_is(network):
    field, places = make_field(), PLACES.copy()
    before = field.data.copy()
    field.data.flags.writeable = places.flags.writeable = False
    network.measure_field(field, places, psf_fwhm=FWHM)
    assert_array_equal(field.data, before)


# -- rows ------------------------------------------------------------------------------------------


def test_columns_of_the_catalogue(network, field):
    catalogue = Table({'id': [7, 3, 5], 'x': PLACES[:3, 0], 'y': PLACES[:3, 1], 'flux': [1, 2, 3]})
    catalogue['color'] = ['red', 'blue', 'green']
    for given in (catalogue, catalogue.to_pandas()):
        table = network.measure_field(field, given, psf_fwhm=FWHM)
        assert table['id'].tolist() == [7, 3, 5]
        assert table['color'].tolist() == ['red', 'blue', 'green']
        assert table['flux_catalogue'].tolist() == [1, 2, 3]
        assert table['flux'].unit == u.nJy
    some = network.measure_field(field, catalogue, labels=[5, 7], psf_fwhm=FWHM)
    assert some['id'].tolist() == [5, 7]
    assert some['color'].tolist() == ['green', 'red']


def test_no_row_is_lost(network, field):
    # the last two are just within the image
    odd = [(np.nan, 3), (1e5, 20), (-40, 20), (0.2, 219.4), (259.5, 219.5)]
    table = network.measure_field(field, [*PLACES, *odd, PLACES[2]], psf_fwhm=FWHM)
    assert len(table) == len(PLACES) + 6
    names = decode_flags(table['flags'])
    assert 'BAD_INPUT' in names[6]
    assert 'NO_PIXELS' in names[7]
    assert 'NO_PIXELS' in names[8]
    assert np.isfinite(table['flux'][:2]).all()
    # the same place twice: told, and with the error of both
    assert 'BLENDED' in names[2]
    assert 'BLENDED' in names[-1]


def test_blended_sources_share_their_error(network):
    pair = np.array([(100.0, 100.0, 2000.0, 2.0), (102.0, 101.0, 1500.0, 2.0)])
    field = make_field(pair)
    table = network.measure_field(field, pair[:, :2], psf_fwhm=FWHM)
    assert all('BLENDED' in names for names in decode_flags(table['flags']))
    assert table['flux_err'][0] == table['flux_err'][1]
    assert np.abs(deviations(table, pair[:, 2])).max() < 3
    total = table['flux'].sum().value
    assert total == pytest.approx(3500, rel=0.1)
    # the interval, too
    half = (table['flux_upper'] - table['flux_lower']) / 2
    assert_allclose(half, table['flux_err'], rtol=1e-2)


def test_all_fail(network, field):
    table = network.measure_field(field, [(-50.0, 3.0), (np.nan, 1.0)], psf_fwhm=FWHM)
    assert np.isnan(table['flux']).all()
    assert (table['flags'] > 0).all()


# -- what is told of the image ---------------------------------------------------------------------


def test_mask_and_background(network, field, table):
    mask = np.zeros(SHAPE, bool)
    mask[100:104, 130:180] = True
    damaged = make_field(mask=mask)
    damaged.data[mask] = 1e7
    damaged.data[:] += 30
    other = network.measure_field(damaged, PLACES, psf_fwhm=FWHM, background=30 * u.nJy)
    assert_allclose(other['flux'], table['flux'], rtol=0.05)
    with pytest.raises(ValueError, match="background='local' is for single cutouts"):
        network.measure_field(field, PLACES, psf_fwhm=FWHM, background='local')


def test_surface_brightness(network, table):
    field = make_field()
    # of 0.2 arcsec: 25 pixels are an arcsec2
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = 'RA---TAN', 'DEC--TAN'
    wcs.wcs.cdelt = -0.2 / 3600, 0.2 / 3600
    wcs.wcs.crval, wcs.wcs.crpix = (150.0, 2.0), (130.0, 110.0)
    sky = CCDData(
        25 * field.data,
        unit=u.nJy / u.arcsec**2,
        uncertainty=StdDevUncertainty(np.full(SHAPE, 25.0)),
        wcs=wcs,
    )
    other = network.measure_field(sky, PLACES, psf_fwhm=0.8 * u.arcsec)
    assert other['flux'].unit == u.nJy
    assert_allclose(other['flux'], table['flux'], rtol=1e-3)


def test_bad_calls(network, field):
    with pytest.raises(ValueError, match=r"neighbors must be one of .*, got 'subtract'"):
        network.measure_field(field, PLACES, neighbors='subtract')
    with pytest.raises(ValueError, match='passes must be 1 or more, got 0'):
        network.measure_field(field, PLACES, passes=0)
    with pytest.raises(TypeError, match=r'measure_field\(\) .*positions'):
        network.measure_field(field, positions=PLACES)


def test_network_without_profiles(field):
    """That of the study fits no profiles: those of the default network are taken."""
    adu = CCDData(field.data, unit='adu', uncertainty=StdDevUncertainty(np.ones(SHAPE)))
    study = CNNFluxEstimator(weights='study-2024')
    table = study.measure_field(adu, PLACES, psf_fwhm=FWHM)
    assert len(table) == len(PLACES)
    assert np.isfinite(table['flux']).all()
