# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Many positions on one image: which are accepted, and the stamps that are cut."""

import numpy as np
import pandas as pd
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.nddata import CCDData, InverseVariance
from astropy.table import MaskedColumn, QTable, Table
from astropy.utils.masked import Masked
from astropy.wcs.utils import pixel_to_skycoord
from photutils.segmentation import SegmentationImage, SourceCatalog

from astroflux.cutouts import iter_cutouts
from astroflux.cutouts._image import LARGEST_SIZE, STAMP_SIZE, stamps_of, whole_image
from astroflux.flags import MeasurementFlag as Flag
from astroflux.networks.pyramid import CANVAS_SIZE

# (x, y) of round sources, far from each other but for the last two
PLACES = np.array([(30.0, 40.0), (100.25, 60.5), (160.0, 120.0), (171.0, 120.0)])
SHAPE = (200, 240)

NOTHING_TOLD = dict.fromkeys(('error', 'mask', 'background', 'effective_gain'))


@pytest.fixture
def field(rng):
    """Four sources in unit noise."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    image = rng.normal(size=SHAPE)
    for x0, y0 in PLACES:
        image += 60 * np.exp(-((x - x0) ** 2 + (y - y0) ** 2) / 18)
    return image


@pytest.fixture
def segmentation():
    """Squares of 9 pixels about the sources; the last two touch. Labels are 2, 3, 5, 7."""
    labels = np.zeros(SHAPE, int)
    for label, (x, y) in zip((2, 3, 5, 7), PLACES.round().astype(int), strict=True):
        labels[y - 5 : y + 6, x - 5 : x + 6] = label
    return SegmentationImage(labels)


def in_image(cutouts):
    return [np.add(cutout.position, cutout.origin) for cutout in cutouts]


KINDS = {
    'array': lambda xy, _: xy,
    'list': lambda xy, _: [tuple(each) for each in xy],
    'iterator': lambda xy, _: iter(xy),
    'quantity': lambda xy, _: xy * u.pix,
    'SkyCoord': lambda xy, wcs: pixel_to_skycoord(*xy.T, wcs),
    'list of SkyCoord': lambda xy, wcs: list(pixel_to_skycoord(*xy.T, wcs)),
    'table': lambda xy, _: Table(xy, names=('x', 'y')),
    'centroids': lambda xy, _: QTable([*xy.T * u.pix], names=('xcentroid', 'ycentroid')),
    'photutils': lambda xy, _: Table(xy, names=('x_centroid', 'y_centroid')),
    'peaks': lambda xy, _: Table(xy, names=('x_peak', 'y_peak')),
    'SExtractor': lambda xy, _: Table(xy + 1, names=('X_IMAGE', 'Y_IMAGE')),
    'pandas': lambda xy, _: pd.DataFrame(xy, columns=['x', 'y']),
    'structured': lambda xy, _: Table(xy, names=('x', 'y')).as_array(),
    'coordinates': lambda xy, wcs: QTable({'where': pixel_to_skycoord(*xy.T, wcs)}),
    'degrees': lambda xy, wcs: degrees(xy, wcs),
    'hours': lambda xy, wcs: hours(xy, wcs),
}


def degrees(xy, wcs):
    sky = pixel_to_skycoord(*xy.T, wcs)
    return Table({'RA': sky.ra.deg, 'DEC': sky.dec.deg})


def hours(xy, wcs):
    sky = pixel_to_skycoord(*xy.T, wcs)
    return Table({'ra': sky.ra.to(u.hourangle), 'dec': sky.dec.to(u.arcmin)})


@pytest.mark.parametrize('kind', KINDS)
def test_kinds_of_positions(kind, field, sky):
    ccd = CCDData(field, unit='adu', wcs=sky)
    cutouts = list(iter_cutouts(ccd, positions=KINDS[kind](PLACES, sky)))
    np.testing.assert_allclose(in_image(cutouts), PLACES, atol=1e-6)
    assert [cutout.identifier for cutout in cutouts] == [None] * 4


def test_image_in_a_file(field, sky, tmp_path):
    path = tmp_path / 'field.fits'
    CCDData(field, unit='nJy', wcs=sky).write(path)
    cutouts = list(iter_cutouts(path, positions=PLACES))
    np.testing.assert_array_equal(in_image(cutouts), PLACES)
    assert {(cutout.label, cutout.unit) for cutout in cutouts} == {(str(path), u.nJy)}


def test_positions_of_photutils(field, segmentation):
    catalog = SourceCatalog(field, segmentation)
    expected = np.transpose([catalog.x_centroid, catalog.y_centroid])
    for positions in (segmentation, catalog):
        cutouts = list(iter_cutouts(field, positions=positions))
        np.testing.assert_allclose(in_image(cutouts), expected)
        assert [cutout.identifier for cutout in cutouts] == [2, 3, 5, 7]
        assert {cutout.catalog_column for cutout in cutouts} == {'label'}
    # what else was detected is masked by a segmentation image alone
    left, masked = (
        next(iter_cutouts(field, positions=positions)) for positions in (catalog, segmentation)
    )
    assert left.ignored is None
    labels = segmentation.data[: masked.shape[0], : masked.shape[1]]
    np.testing.assert_array_equal(masked.mask, (labels != 0) & (labels != 2))
    # an element of a catalogue is a catalogue of one
    (one,) = iter_cutouts(field, positions=catalog[2])
    assert (one.identifier, *in_image([one])[0]) == (5, *expected[2])


@pytest.mark.parametrize(
    ('name', 'values', 'found', 'column'),
    [
        ('label', [4, 9], [4, 9], 'label'),
        ('id', [4, 9], [4, 9], None),
        ('SOURCE_ID', [4, 2**60], [4, 2**60], 'SOURCE_ID'),
        ('id', ['a', 'b'], ['a', 'b'], None),
        ('id', [b'a', b'b'], ['a', 'b'], None),
        ('id', MaskedColumn([4, 9], mask=[False, True]), [4, None], None),
        ('flux', [4.0, 9.0], [None, None], None),
    ],
)
def test_identifiers(name, values, found, column, field):
    table = Table({name: values, 'x': [30, 40], 'y': [50, 60]})
    cutouts = list(iter_cutouts(field, positions=table))
    assert [cutout.identifier for cutout in cutouts] == found
    assert {cutout.catalog_column for cutout in cutouts} == {column}


def test_stamps_are_views_cut_along(field, sky):
    mask = field > 20
    variance = np.random.default_rng(1).uniform(1, 2, SHAPE)
    ccd = CCDData(field, unit='adu', wcs=sky, mask=mask, uncertainty=InverseVariance(1 / variance))
    whole = whole_image(ccd, NOTHING_TOLD)
    stamps, n = stamps_of(whole, PLACES, NOTHING_TOLD, stamp_size=41)
    stamps = list(stamps)
    assert n == 4
    for (x, y), stamp in zip(PLACES, stamps, strict=True):
        x0, y0 = stamp.origin
        window = np.s_[y0 : y0 + 41, x0 : x0 + 41]
        assert (stamp.position[0] + x0, stamp.position[1] + y0) == (x, y)
        assert max(abs(each - 20) for each in stamp.position) <= 0.5
        np.testing.assert_array_equal(stamp.data, field[window])
        np.testing.assert_array_equal(stamp.mask, mask[window])
        np.testing.assert_allclose(stamp.noise.std(), np.sqrt(variance[window]))
        assert np.shares_memory(stamp.data, field)
        assert stamp.wcs is ccd.wcs


def test_maps_of_keywords_are_cut_along(field, rng):
    sky, error, gain = (rng.uniform(1, 2, SHAPE) for _ in range(3))
    mask = rng.uniform(size=SHAPE) > 0.9
    told = {'background': sky, 'error': error, 'mask': mask, 'effective_gain': gain}
    for (x, y), cutout in zip(
        PLACES, iter_cutouts(field, positions=PLACES, stamp_size=41, **told), strict=True
    ):
        x0, y0 = cutout.origin
        window = np.s_[y0 : y0 + 41, x0 : x0 + 41]
        (alone,) = iter_cutouts(
            field[window],
            positions=(x - x0, y - y0),
            **{name: value[window] for name, value in told.items()},
        )
        for name in ('data', 'noise', 'mask', 'flags', 'position'):
            np.testing.assert_array_equal(getattr(cutout, name), getattr(alone, name))


def test_numbers_are_for_all_or_for_each(field):
    levels = [
        cutout.data.mean()
        for background in (10.0, [10.0, 20.0, 30.0, 40.0])
        for cutout in iter_cutouts(field, positions=PLACES, background=background, error=1.0)
    ]
    np.testing.assert_allclose(np.subtract(levels[:4], levels[4:]), [0, 10, 20, 30], atol=1e-9)


def test_centroids_without_the_sky(field, segmentation):
    sky = np.linspace(0, 200, SHAPE[1]) * np.ones((SHAPE[0], 1))
    there = iter_cutouts(field + sky, positions=segmentation, background=sky)
    expected = iter_cutouts(field, positions=segmentation)
    np.testing.assert_allclose(in_image(there), in_image(expected), atol=1e-6)


@pytest.mark.parametrize('name', ['error', 'mask', 'background', 'effective_gain'])
def test_maps_of_another_shape(name, field):
    match = rf'the {name} has the shape \(20, 30\), the image has \(200, 240\)'
    with pytest.raises(ValueError, match=match):
        iter_cutouts(field, positions=PLACES, **{name: np.ones((20, 30), bool) * 1})
    if name == 'background':
        with pytest.raises(u.UnitsError, match="the background has the unit 'nJy'"):
            iter_cutouts(field, positions=PLACES, background=3 * u.nJy)


def test_one_after_the_other(field):
    positions = np.tile(PLACES, (250_000, 1))
    cutouts = iter_cutouts(field, positions=positions)
    assert cutouts.n == 1_000_000
    # the rest is never cut
    found = in_image(next(cutouts) for _ in range(4))
    np.testing.assert_array_equal(found, PLACES)


def test_size_that_the_network_sees(field):
    assert STAMP_SIZE == CANVAS_SIZE
    wide = np.pad(field, 150, mode='wrap')
    sizes = {cutout.shape for cutout in iter_cutouts(wide, positions=PLACES + 150)}
    assert sizes == {(CANVAS_SIZE, CANVAS_SIZE)}


def test_size_follows_the_source():
    image = np.random.default_rng(2).normal(size=(900, 900))
    labels = np.zeros(image.shape, int)
    labels[300:303, 300:420] = 1
    labels[600:610, 600:610] = 2
    catalog = SourceCatalog(abs(image), SegmentationImage(labels))
    sizes = [(360, 360), (STAMP_SIZE, STAMP_SIZE)]
    assert [cutout.shape for cutout in iter_cutouts(image, positions=catalog)] == sizes
    cutouts = iter_cutouts(image, positions=catalog.to_table())
    assert [cutout.shape for cutout in cutouts] == sizes
    # a detection that is half the image is no galaxy of that size
    labels[:700] = 3
    huge = np.broadcast_to(np.float32(0), (3000, 3000))
    everywhere = SegmentationImage(np.pad(labels, (0, 2100), mode='edge'))
    stamps = iter_cutouts(huge + np.float32(1), positions=everywhere, error=1.0)
    assert max(max(stamp.shape) for stamp in stamps) <= LARGEST_SIZE


def test_size_that_is_asked_for(field):
    (one, *_) = iter_cutouts(field, positions=[(100, 100)] * 2, stamp_size=31)
    assert (one.shape, one.position, one.origin) == ((31, 31), (15, 15), (85, 85))
    cutouts = iter_cutouts(field, positions=[(100, 100)] * 2, stamp_size=[31, 50])
    assert [cutout.shape for cutout in cutouts] == [(31, 31), (50, 50)]


def test_edge_of_the_image(field):
    (corner, right) = iter_cutouts(field, positions=[(2, 3.4), (239, 100)], stamp_size=41)
    assert (corner.shape, corner.position, corner.origin) == ((24, 23), (2, 3.4), (0, 0))
    assert corner.flags & Flag.OFF_CENTRE
    assert (right.shape, right.position, right.origin) == ((41, 21), (20, 20), (219, 80))


def test_no_position_is_lost(field, sky):
    table = Table({'x': [30, np.nan, 400, -3, 50], 'y': [40.0] * 5, 'id': [9, 8, 7, 6, 5]})
    table['x'] = MaskedColumn(table['x'], mask=[False] * 4 + [True])
    cutouts = list(iter_cutouts(CCDData(field, unit='adu', wcs=sky), positions=table))
    assert [cutout.is_failed for cutout in cutouts] == [False, True, True, True, True]
    assert [cutout.identifier for cutout in cutouts] == [9, 8, 7, 6, 5]
    assert cutouts[1].flags & Flag.BAD_INPUT
    assert cutouts[1].message == 'the position must be finite, got (nan, 40)'
    assert cutouts[2].flags & Flag.NO_PIXELS
    assert 'the position (400.0, 40.0) is off the image of shape (200, 240)' in cutouts[2].message
    assert cutouts[3].position == (-3, 40)
    assert cutouts[4].flags & Flag.BAD_INPUT
    # nor where the masked value has a unit
    for table in (
        Table({'x': MaskedColumn([30, 31], mask=[False, True], unit='pix'), 'y': [40, 41]}),
        QTable({'x': Masked([30, 31] * u.pix, mask=[False, True]), 'y': [40, 41]}),
        pd.DataFrame({'x': pd.array([30, None], dtype='Int64'), 'y': [40, 41]}),
    ):
        here, nowhere = iter_cutouts(field, positions=table)
        assert (here.is_failed, nowhere.is_failed) == (False, True)
    # nor one behind the sky
    places = SkyCoord([150.0, 330.0], [2.0, -2.0], unit='deg')
    here, there = iter_cutouts(CCDData(field, unit='adu', wcs=sky), positions=places)
    assert (here.is_failed, there.is_failed) == (False, True)


def test_unit_error_is_of_the_image(field):
    with pytest.raises(u.UnitsError, match=r"^the unit 'm' is not"):
        iter_cutouts(field * u.m, positions=PLACES)
    (lost,) = iter_cutouts(field * u.nJy, positions=[(999, 999)])
    assert lost.unit == u.nJy


def test_a_psf_for_each(field, gaussian_psf):
    cutouts = list(iter_cutouts(field, positions=PLACES, psf_fwhm=[3, 4, 5, 6]))
    assert [cutout.psf_fwhm for cutout in cutouts] == [3, 4, 5, 6]
    psfs = [gaussian_psf, None, gaussian_psf**2, None]
    cutouts = list(iter_cutouts(field, positions=PLACES, psf=psfs))
    assert [cutout.psf is None for cutout in cutouts] == [False, True, False, True]


BAD = {
    'pairs': ([(1, 2, 3)], ValueError, r'positions must have the shape \(n, 2\), got \(1, 3\)'),
    'columns': (np.ones((2, 5)), ValueError, r'the shape \(n, 2\), got \(2, 5\)'),
    'texts': ([('a', 'b')], ValueError, r'positions for one image must be pairs \(x, y\), a Sky'),
    'angles': (PLACES * u.arcsec, u.UnitsError, "must be in pix, got the unit 'arcsec'"),
    'empty list': ([], ValueError, 'positions is empty: the list has no source'),
    'empty array': (np.ones((0, 2)), ValueError, 'positions is empty: the ndarray has no source'),
    'empty table': (Table(names=('x', 'y')), ValueError, 'positions is empty: the Table has no'),
    'no columns': (
        Table({'x': [1], 'flux': [2]}),
        ValueError,
        r"the table has no positions: want the columns x/y, .* got \['x', 'flux'\]",
    ),
    'unit': (
        Table({'x': [1] * u.s, 'y': [2]}),
        u.UnitsError,
        "x must be in pix, got the unit 's'",
    ),
    'no numbers': (
        Table({'x': ['a'], 'y': [2]}),
        TypeError,
        'x must be numbers, got',
    ),
    'no WCS': (
        SkyCoord([1], [2], unit='deg'),
        ValueError,
        'the positions are in the sky, but the image has no WCS',
    ),
    'no sources': (
        SegmentationImage(np.zeros(SHAPE, int)),
        ValueError,
        'positions is empty: the segmentation image has no source',
    ),
    'segmentation': (
        SegmentationImage(np.ones((20, 30), int)),
        ValueError,
        r'the segmentation image has the shape \(20, 30\), the image has \(200, 240\)',
    ),
}


@pytest.mark.parametrize('case', BAD)
def test_bad_positions(case, field):
    positions, error, match = BAD[case]
    with pytest.raises(error, match=match):
        iter_cutouts(field, positions=positions)


@pytest.mark.parametrize(
    ('size', 'match'),
    [
        (7, 'stamp_size must be 8 pixels or more, got 7'),
        (np.nan, 'stamp_size must be 8 pixels or more, got nan'),
        ('big', "stamp_size must be 8 pixels or more, got 'big'"),
        ([31, 31], r'stamp_size has the shape \(2,\) for 4 positions: want a number of pixels, or'),
    ],
)
def test_bad_size(size, match, field):
    with pytest.raises(ValueError, match=match):
        iter_cutouts(field, positions=PLACES, stamp_size=size)


def test_what_is_for_one_image(field, segmentation):
    with pytest.raises(ValueError, match='psf_fwhm has 3 values for 4 cutouts'):
        iter_cutouts(field, positions=PLACES, psf_fwhm=[1, 2, 3])
    with pytest.raises(ValueError, match='positions has 4 values for 2 cutouts'):
        iter_cutouts(np.stack([field, field]), positions=PLACES)
    for cutouts in (np.stack([field] * 4), [field] * 4):
        for positions in (segmentation, Table(PLACES, names=('x', 'y'))):
            name = type(positions).__name__
            with pytest.raises(TypeError, match=f'positions is a {name}, which is for one image'):
                iter_cutouts(cutouts, positions=positions)
    for positions in (None, (30, 40)):
        with pytest.raises(ValueError, match='stamp_size is for many positions on one image'):
            iter_cutouts(field, positions=positions, stamp_size=31)
    with pytest.raises(ValueError, match='a cutout must be a 2-d image, got a 1-d array'):
        iter_cutouts(field[0], positions=PLACES)


def test_sky_position_of_a_stamp(field, sky):
    """A stamp has the WCS of the image: it knows where it begins there."""
    ccd = CCDData(field, unit='adu', wcs=sky)
    target = pixel_to_skycoord(105, 62, sky)
    stamps = iter_cutouts(ccd, positions=PLACES, stamp_size=41)
    again = list(iter_cutouts(stamps, positions=target))
    np.testing.assert_allclose(in_image(again), [(105, 62)] * 4, atol=1e-6)


# -- labels --------------------------------------------------------------------------------------


def test_labels_of_a_catalogue(field, segmentation):
    whole = list(iter_cutouts(field, positions=segmentation))
    last, first = whole[-1], whole[0]
    labels = [last.identifier, first.identifier]
    chosen = list(iter_cutouts(field, positions=segmentation, labels=labels))
    assert [cutout.identifier for cutout in chosen] == labels
    for cutout, other in zip(chosen, (last, first), strict=True):
        assert cutout.position == other.position
        np.testing.assert_array_equal(cutout.data, other.data)
    (one,) = iter_cutouts(field, positions=segmentation, labels=first.identifier)
    assert one.identifier == first.identifier


@pytest.mark.parametrize(
    ('positions', 'labels', 'match'),
    [
        (Table({'id': [3, 5], 'x': [30, 40], 'y': [30, 40]}), [5, 4, 99], r'labels has \[4, 99\]'),
        (
            Table({'id': ['a'], 'x': [30], 'y': [30]}),
            'b',
            r"labels has \['b'\], which none",
        ),
        (Table({'id': [3], 'x': [30], 'y': [30]}), [], 'labels is empty'),
        (PLACES, [1], 'labels are for a catalogue that has some'),
        ((30, 40), [1], 'labels is for many positions on one image'),
    ],
)
def test_labels_that_do_not_exist(positions, labels, match, field):
    with pytest.raises(ValueError, match=match):
        iter_cutouts(field, positions=positions, labels=labels)
