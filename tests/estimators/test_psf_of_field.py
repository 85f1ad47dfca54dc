# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What the PSF of an image may be, where all sources of it are measured."""

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData, NDData, StdDevUncertainty
from astropy.table import QTable, Table
from astropy.wcs import WCS
from numpy.testing import assert_allclose
from photutils.psf import GriddedPSFModel

from astroflux import CNNFluxEstimator, decode_flags
from astroflux.cutouts import GriddedPSF, StarPSF
from astroflux.estimators import FieldMeasurement
from astroflux.networks.sersic_mixture import sersic_mixture

SHAPE = (400, 1300)
NARROW, BROAD = 1.2, 2.2
FLUX = 8000.0


# Gaussians that make a PSF with the wings of a star: light, and width in units of the core's
WEIGHTS, WIDTHS = (0.7, 0.25, 0.05), (1.0, 1.8, 3.5)


def gaussian(sigma, half=25):
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    return np.exp(-0.5 * (x**2 + y**2) / sigma**2) / (2 * np.pi * sigma**2)


def draw_psf(sigma):
    return sum(w * gaussian(sigma * f) for w, f in zip(WEIGHTS, WIDTHS, strict=True))


# a PSF that is broader at one end, by linear interpolation
CORNERS = [(0, 0), (SHAPE[1], 0), (0, SHAPE[0]), (SHAPE[1], SHAPE[0])]
IMAGES = np.array([draw_psf(NARROW), draw_psf(BROAD)] * 2)


def draw(image, x, y):
    """Add a galaxy of Sersic index 2 and a half-light radius of 2.5 pixels, behind that PSF."""
    part = x / SHAPE[1]
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    distance2 = (columns - x) ** 2 + (rows - y) ** 2
    for amplitude, width in zip(*sersic_mixture()(2.0), strict=True):
        for end, sigma in ((1 - part, NARROW), (part, BROAD)):
            for weight, factor in zip(WEIGHTS, WIDTHS, strict=True):
                variance = (2.5 * width) ** 2 + (sigma * factor) ** 2
                light = np.exp(-0.5 * distance2 / variance) / (2 * np.pi * variance)
                image += FLUX * end * amplitude * weight * light


@pytest.fixture(scope='module')
def places():
    x = np.linspace(60, SHAPE[1] - 60, 12)
    return Table({'x': x, 'y': np.where(np.arange(12) % 2, 120.0, 280.0) + x % 7, 'id': range(12)})


@pytest.fixture(scope='module')
def field(places):
    image = np.random.default_rng(8).normal(size=SHAPE)
    for x, y in places.iterrows('x', 'y'):
        draw(image, x, y)
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = 'RA---TAN', 'DEC--TAN'
    wcs.wcs.cdelt = -0.2 / 3600, 0.2 / 3600
    return CCDData(image, unit='nJy', uncertainty=StdDevUncertainty(np.ones(SHAPE)), wcs=wcs)


@pytest.fixture(scope='module')
def network():
    return CNNFluxEstimator()


@pytest.fixture(scope='module')
def psfex(tmp_path_factory):
    """The same PSF as PSFEx would have it: a polynomial of degree 1, in pixels from 1 on."""
    slope = IMAGES[1] - IMAGES[0]
    images = np.array([IMAGES[0], slope, 0 * slope])
    ny, nx = IMAGES[0].shape
    dim = f'({nx}, {ny}, 3)'
    column = fits.Column('PSF_MASK', f'{images.size}D', dim=dim, array=images[None])
    table = fits.BinTableHDU.from_columns([column], name='PSF_DATA')
    table.header.update({'POLNAXIS': 2, 'POLNGRP': 1, 'POLDEG1': 1, 'PSF_SAMP': 1.0})
    for number, (name, scale) in enumerate((('X_IMAGE', SHAPE[1]), ('Y_IMAGE', SHAPE[0])), 1):
        cards = {'POLGRP': 1, 'POLNAME': name, 'POLZERO': 1.0, 'POLSCAL': float(scale)}
        table.header.update({f'{key}{number}': value for key, value in cards.items()})
    path = tmp_path_factory.mktemp('psfex') / 'field.psf'
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(path)
    return path


@pytest.mark.parametrize('neighbors', ['model', 'none'])
def test_right_psf_beats_the_mean(network, field, places, neighbors):
    errors, slopes = [], []
    for psf in ((IMAGES, CORNERS), IMAGES.mean(axis=0)):
        table = network.measure_field(field, places, psf=psf, neighbors=neighbors)
        errors.append(np.abs(np.log(table['flux'].value / FLUX)).mean())
        size = np.log(table['half_light_radius'].value)
        slopes.append(abs(np.polyfit(places['x'], size, 1)[0]))
    assert errors[0] < 0.9 * errors[1]
    # all galaxies are of one size
    assert slopes[0] < 0.3 * slopes[1]


@pytest.mark.parametrize('neighbors', ['model', 'none'])
def test_all_kinds_agree(network, field, places, psfex, neighbors):
    nddata = NDData(IMAGES, meta={'grid_xypos': CORNERS, 'oversampling': 1})
    psf = GriddedPSF(IMAGES, CORNERS).over(SHAPE)
    table = places.copy()
    table['psf'] = psf.at(places['x'], places['y'])
    kinds = {
        'pair': (IMAGES, CORNERS),
        'nddata': nddata,
        'model': GriddedPSFModel(nddata),
        'psf': psf,
        'file': psfex,
        'name of file': str(psfex),
        'column': 'psf',
    }
    flux, record = {}, {}
    for name, kind in kinds.items():
        measured = network.measure_field(field, table, psf=kind, neighbors=neighbors)
        flux[name] = measured['flux'].value
        record[name] = measured.meta['arguments']['psf']
    for name, values in flux.items():
        assert_allclose(values, flux['pair'], rtol=1e-5, err_msg=name)
    assert record['column'] == "column 'psf' of the catalogue"
    assert record['file'].startswith('PSFEx file field.psf, degree 1')
    assert record['pair'] == record['model'] == psf.description
    assert record['pair'].startswith('grid of 2 x 2 images, SHA-256')


@pytest.mark.parametrize('neighbors', ['model', 'none'])
def test_column_of_widths(network, field, places, neighbors):
    fwhm = 2.3548 * np.linspace(NARROW, BROAD, len(places))
    table = QTable(places)
    table['pixels'] = fwhm
    table['angle'] = (fwhm * 0.2 * u.arcsec).to(u.deg)
    known = network.measure_field(field, places, psf_fwhm=fwhm, neighbors=neighbors)
    for name in ('pixels', 'angle'):
        measured = network.measure_field(field, table, psf=name, neighbors=neighbors)
        assert_allclose(measured['flux'].value, known['flux'].value, rtol=1e-5)
        assert measured.meta['arguments']['psf_fwhm'] == f'column {name!r} of the catalogue'
    # some of the sources, in another order
    some = network.measure_field(field, table, psf='pixels', labels=[7, 2], neighbors='none')
    alone = network.measure_field(
        field, places, psf_fwhm=fwhm[[7, 2]], labels=[7, 2], neighbors='none'
    )
    assert_allclose(some['flux'].value, alone['flux'].value, rtol=1e-6)


def test_unknown_widths_are_flagged(network, field, places):
    table = places[:4].copy()
    table['fwhm'] = [4.0, np.nan, -99.0, 0.0]
    measured = network.measure_field(field, table, psf='fwhm', neighbors='none')
    is_unknown = ['PSF_UNKNOWN' in decode_flags(flags) for flags in measured['flags']]
    assert is_unknown == [False, True, True, True]


def test_stars_of_the_image(network):
    rng = np.random.default_rng(5)
    image = rng.normal(size=SHAPE)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    stars = np.column_stack([rng.uniform(30, n - 30, 15) for n in SHAPE[::-1]])
    for x0, y0 in stars:
        image += 300 * np.exp(-0.5 * ((x - x0) ** 2 + (y - y0) ** 2) / 1.8**2)
    measurement = FieldMeasurement(network, image, stars, psf='stars', error=1.0)
    table = measurement.run()
    assert isinstance(measurement.psf, StarPSF)
    assert_allclose(measurement.psf.fwhm, 2.3548 * 1.8, rtol=0.02)
    assert table.meta['arguments']['psf'] == measurement.psf.description
    again = network.measure_field(image, stars, psf='stars', error=1.0)
    assert_allclose(again['flux'], table['flux'])
    # without a catalogue
    detected = network.measure_field(image, psf='stars', error=1.0)
    assert len(detected) == len(stars)
    assert ' stars of the image, FWHM' in detected.meta['arguments']['psf']
    with pytest.raises(ValueError, match='needs 5 stars or more'):
        network.measure_field(image[:60, :60], [(30, 30)], psf='stars')


def test_cells_are_small_enough(network):
    """A PSF that is 10 % broader at one end of 4000 pixels than at the other."""
    rng = np.random.default_rng(6)
    sigmas = 1.8 * np.linspace(0.95, 1.05, 5)
    images = [gaussian(sigma) for sigma in sigmas for _ in (0, 1)]
    corners = [(x, y) for x in np.linspace(0, 4000, 5) for y in (0, 4000)]
    psf = GriddedPSF(images, corners).over((4000, 4000))
    places = rng.uniform(0, 4000, (2, 40))
    stamps = []
    for x in places[0]:
        sigma = np.hypot(rng.uniform(1.0, 2.5), 1.8 * (0.95 + 0.1 * x / 4000))
        stamps.append(2000 * gaussian(sigma, 35) + rng.normal(size=(71, 71)))
    exact = [psf._psf_at(*place)[0] for place in places.T]
    fluxes = [
        network.measure(stamps, psf=some, error=1.0)['flux'] for some in (exact, psf.at(*places))
    ]
    change = np.abs(np.log(fluxes[1] / fluxes[0]))
    assert np.median(change) < 0.001
    assert change.max() < 0.005


@pytest.mark.parametrize(
    ('psf', 'error', 'message'),
    [
        ('nothing', ValueError, r"psf='nothing' is no file, no column .*'fwhm'.*'stars'"),
        ('name', TypeError, "column 'name' must hold the FWHM"),
        ('flux', u.UnitsError, "column 'flux' must be in pixels or an angle, got the unit 'Jy'"),
        ((IMAGES, CORNERS[:3]), ValueError, 'their positions'),
        (NDData(IMAGES), (ValueError, TypeError), 'psf'),
        (IMAGES, ValueError, 'psf has 4 values for 12'),
    ],
)
def test_what_is_no_psf(network, field, places, psf, error, message):
    table = QTable(places)
    table['fwhm'], table['name'], table['flux'] = 4.0, 'a', 3 * u.Jy
    for neighbors in ('model', 'none'):
        with pytest.raises(error, match=message):
            network.measure_field(field, table, psf=psf, neighbors=neighbors)


def test_column_and_width_at_once(network, field, places):
    table = places.copy()
    table['fwhm'] = 4.0
    with pytest.raises(ValueError, match='want one of both'):
        network.measure_field(field, table, psf='fwhm', psf_fwhm=4.0)
    with pytest.raises(ValueError, match='this catalogue has none'):
        network.measure_field(field, [(30, 30)], psf='fwhm')
