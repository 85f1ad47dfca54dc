# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""One image and many positions, through the methods of an estimator."""

import warnings

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import CCDData, StdDevUncertainty
from astropy.table import Table, join
from photutils.segmentation import SegmentationImage, SourceCatalog, detect_sources

from astroflux import ApertureFluxEstimator, decode_flags

PLACES = np.array([(40.0, 45.0), (150.0, 40.0), (60.0, 160.0), (165.0, 150.0)])
FLUXES = [1000.0, 2000.0, 4000.0, 8000.0]


@pytest.fixture(scope='module')
def field(draw_galaxy):
    """Four galaxies far from each other."""
    shape = (200, 210)
    image = np.random.default_rng(3).normal(size=shape)
    for place, flux in zip(PLACES, FLUXES, strict=True):
        image += draw_galaxy(shape, flux=flux, centre=place)
    noise = StdDevUncertainty(np.ones(shape))
    return CCDData(image, unit='nJy', uncertainty=noise)


@pytest.fixture
def aperture():
    return ApertureFluxEstimator(radius=14)


def test_scalar_or_array(aperture, field):
    one = aperture.predict(field, positions=tuple(PLACES[0]))
    assert one.isscalar
    for positions in (PLACES[:1], [tuple(PLACES[0])], Table(PLACES[:1], names=('x', 'y'))):
        flux = aperture.predict(field, positions=positions)
        assert flux.shape == (1,)
        assert flux[0].value == pytest.approx(one.value, rel=1e-12)
    assert aperture.predict(field, positions=PLACES).shape == (4,)


def test_score_and_fit(aperture, field):
    truth = FLUXES * u.nJy
    assert aperture.score(field, truth, positions=PLACES) > 0.99
    aperture.fit(field, truth, positions=PLACES)
    assert 1 < aperture.aperture_correction_ < 1.1
    with pytest.raises(ValueError, match=r'got shape \(3,\), 4 cutouts'):
        aperture.score(field, truth[:3], positions=PLACES)


def test_join_with_photutils(aperture, field):
    segmentation = detect_sources(field.data, 4, n_pixels=12)
    catalog = SourceCatalog(field.data, segmentation)
    found = catalog.to_table()
    for positions in (segmentation, catalog, found, found.to_pandas()):
        table = aperture.measure(field, positions=positions)
        assert table.colnames[:2] == ['id', 'label']
        with warnings.catch_warnings():
            warnings.simplefilter('error')
            both = join(found, table, keys='label')
        assert len(both) == len(found) == 4
        np.testing.assert_allclose(both['x'].value, both['x_centroid'], atol=1e-6)
        assert table.meta['arguments']['positions'] == type(positions).__name__


def test_join_by_id(aperture, field):
    mine = Table({'id': [12, 7, 30], 'x': PLACES[:3, 0], 'y': PLACES[:3, 1]})
    table = aperture.measure(field, positions=mine)
    assert 'label' not in table.colnames
    both = join(mine, table['id', 'flux'], keys='id')
    order = np.argsort(mine['id'])
    np.testing.assert_array_equal(both['flux'], aperture.predict(field, positions=PLACES)[order])


def test_progress_knows_the_number(aperture, field, capsys):
    aperture.measure(field, positions=PLACES, progress=True)
    assert '4/4' in capsys.readouterr().err


def test_parts_that_are_masked(aperture, field):
    """A segmentation image masks what it gives to others; a catalogue does not."""
    labels = np.zeros(field.shape, int)
    for label, (x, y) in zip((3, 4, 5, 6), PLACES.astype(int), strict=True):
        labels[y - 12 : y + 13, x - 12 : x + 13] = label
    x, y = PLACES[0].astype(int)
    labels[y + 5 : y + 13, x - 12 : x + 13] = 9
    segmentation = SegmentationImage(labels)
    masked = aperture.measure(field, positions=segmentation)
    left = aperture.measure(field, positions=SourceCatalog(field.data, segmentation))
    for table, is_masked in ((masked, True), (left, False)):
        assert table['label'].tolist() == [3, 4, 5, 6, 9]
        names = decode_flags(table['flags'])
        assert ['MASKED_PIXELS' in names[row] for row in (0, 4)] == [is_masked] * 2
    assert masked['flux'][0] < 0.95 * left['flux'][0]
