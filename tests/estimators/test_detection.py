# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Fields without a catalogue, and with one of photutils."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import CCDData, StdDevUncertainty
from astropy.table import join
from astropy.wcs import WCS
from photutils.segmentation import SegmentationImage, SourceCatalog
from scipy.ndimage import gaussian_filter

from astroflux import ApertureFluxEstimator, CNNFluxEstimator, KronFluxEstimator, read_cutout
from astroflux.estimators import FieldDetector
from astroflux.estimators._segments import detect_segments, split_segments

FWHM = 4.0
SIGMA = FWHM / 2.3548


def gaussian(shape, x, y, flux, sigma=SIGMA):
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    shape = np.exp(-0.5 * ((columns - x) ** 2 + (rows - y) ** 2) / sigma**2)
    return flux * shape / (2 * np.pi * sigma**2)


def noisy(sources, shape=(200, 220), seed=1):
    """Draw sources into white noise of 1."""
    image = np.random.default_rng(seed).normal(size=shape)
    for source in sources:
        image += gaussian(shape, *source)
    return CCDData(image, unit='nJy', uncertainty=StdDevUncertainty(np.ones(shape)))


def pairs(table):
    return np.transpose([table['x'].value, table['y'].value])


@pytest.fixture(scope='module')
def crowded():
    """Sources of which some touch, on the borders of blocks of 50 pixels, too."""
    rng = np.random.default_rng(7)
    places = np.append(rng.uniform(5, 195, (60, 2)), [(50, 50), (100, 25), (149.5, 149.5)], axis=0)
    sources = [(x, y, 10 ** rng.uniform(2, 3.5)) for x, y in places]
    # larger than a block
    return noisy([*sources, (120, 110, 2e5, 20)])


def test_blocks_do_not_matter(crowded):
    whole = FieldDetector(block_size=1000).detect(crowded, psf_fwhm=FWHM)
    assert max(whole['bbox_xmax'] - whole['bbox_xmin']) > 70
    assert len(whole) > 30
    for size, overlap in ((50, 16), (50, 40), (64, 1)):
        parts = FieldDetector(block_size=size, overlap=overlap).detect(crowded, psf_fwhm=FWHM)
        for name in whole.colnames:
            np.testing.assert_array_equal(parts[name], whole[name], err_msg=name)


def test_as_photutils(crowded):
    found = FieldDetector(block_size=60, overlap=20).detect(crowded, psf_fwhm=FWHM)
    ones = np.ones(crowded.shape)
    edge = gaussian_filter(ones, SIGMA, mode='constant')
    smooth = gaussian_filter(crowded.data, SIGMA, mode='constant') / edge
    noise = np.sqrt(gaussian_filter(ones, SIGMA / np.sqrt(2), mode='constant')) / edge
    # how much noise the smoothing leaves is measured
    noise *= (smooth / noise).max() / found['peak_snr'].max()
    segments = detect_segments(smooth / noise, 4.0, 5, None)
    segments = split_segments(smooth, segments, segments.labels, 5, 32, 0.005)
    theirs = SourceCatalog(crowded.data, segments, convolved_data=smooth)
    assert len(found) == len(theirs)
    order = np.lexsort((theirs.x_centroid, theirs.y_centroid))
    np.testing.assert_allclose(found['x'].value, theirs.x_centroid[order], atol=1e-4)
    np.testing.assert_allclose(found['y'].value, theirs.y_centroid[order], atol=1e-4)
    np.testing.assert_array_equal(found['bbox_xmin'], theirs.bbox_xmin[order])
    np.testing.assert_array_equal(found['area'], theirs.area[order])
    np.testing.assert_allclose(found['segment_flux'].value, theirs.segment_flux[order], rtol=1e-5)
    assert found['segment_flux'].unit == u.nJy


def test_table(crowded):
    found = FieldDetector().detect(crowded, psf_fwhm=FWHM)
    assert found['id'].tolist() == list(range(1, len(found) + 1))
    assert (np.diff(found['y'].value) >= 0).all()
    box = [found[f'bbox_{side}'] for side in ('xmin', 'ymin', 'xmax', 'ymax')]
    at_edge = (box[0] == 0) | (box[1] == 0) | (box[2] == 219) | (box[3] == 199)
    np.testing.assert_array_equal(found['touches_edge'], at_edge)
    assert at_edge.any()
    assert (found['semimajor_sigma'] >= found['semiminor_sigma']).all()
    assert found['peak_snr'].min() > 4


@pytest.mark.parametrize('reach', [0, 0.8], ids=['white', 'correlated'])
def test_threshold_is_that_of_the_noise(reach):
    """Sources of S/N 7 are found, and noise hardly is, however it is correlated."""
    noise = gaussian_filter(np.random.default_rng(3).normal(size=(600, 600)), reach)
    noise /= noise.std()
    points = np.zeros(noise.shape)
    points[20::40, 20::40] = 7 * gaussian_filter(noise, SIGMA).std() * 4 * np.pi * SIGMA**2
    detector = FieldDetector()
    assert len(detector.detect(noise, error=1.0, psf_fwhm=FWHM)) <= 4
    found = pairs(detector.detect(noise + gaussian_filter(points, SIGMA), error=1.0, psf_fwhm=FWHM))
    places = np.argwhere(points)[:, ::-1]
    distance = np.hypot(*(found[:, None] - places).T)
    assert (distance.min(axis=1) < 2).mean() > 0.95
    assert (distance.min(axis=0) > 4).sum() <= 4


@pytest.mark.skipif('ASTROFLUX_REAL_DATA' not in os.environ, reason='no folder of real images')
def test_real_field():
    """Bright galaxies, each once; the noise turned upside down has hardly a source."""
    ccd = read_cutout(Path(os.environ['ASTROFLUX_REAL_DATA']) / 'hsc_r_field.fits')
    found = FieldDetector(block_size=200, overlap=50).detect(ccd, psf_fwhm=4.5)
    assert 70 < len(found) < 100
    bright = pairs(found[found['peak_snr'] > 200])
    galaxies = [(247, 109), (211, 116), (318, 137), (386, 205), (174, 198), (61, 195), (228, 248)]
    galaxies += [(266, 322), (406, 376)]
    distance = np.hypot(*(bright[:, None] - np.array(galaxies)).T)
    assert (np.sort(distance, axis=1)[:, 0] < 3).all()
    assert len(bright) == len(galaxies)
    ccd.data = -ccd.data
    assert len(FieldDetector().detect(ccd, psf_fwhm=4.5)) <= 5


def test_noise_need_not_be_known(crowded):
    known = FieldDetector().detect(crowded, psf_fwhm=FWHM)
    estimated = FieldDetector().detect(crowded.data, psf_fwhm=FWHM)
    assert len(estimated) == pytest.approx(len(known), abs=2)
    # nor is there a unit: any positive factor finds the same
    scaled = FieldDetector().detect(1e-150 * crowded.data, psf_fwhm=FWHM)
    np.testing.assert_allclose(pairs(scaled), pairs(estimated), atol=1e-3)
    flux = 1e-150 * estimated['segment_flux']
    np.testing.assert_allclose(scaled['segment_flux'], flux, rtol=1e-5)


def test_masked_pixels():
    """A saturated star is found once, at its center; a masked column splits nothing."""
    ccd = noisy([(60, 70, 3e5), (150, 120, 5000, 5)])
    y, x = np.mgrid[:200, :220]
    ccd.mask = (np.hypot(x - 60, y - 70) < 6) | ((abs(x - 60) < 2) & (y > 40)) | (x == 150)
    ccd.data[ccd.mask] = np.nan
    found = FieldDetector().detect(ccd, psf_fwhm=FWHM)
    np.testing.assert_allclose(pairs(found), [(60, 70), (150, 120)], atol=0.5)
    light = np.nansum(ccd.data[:110, :110])
    assert found['segment_flux'][0].value == pytest.approx(light, rel=0.05)
    assert light < 0.1 * 3e5
    # there may be nothing else in a block
    ccd.mask[:, 130:] = True
    found = FieldDetector(block_size=50, overlap=20).detect(ccd, psf_fwhm=FWHM)
    np.testing.assert_allclose(pairs(found), [(60, 70)], atol=0.5)


def test_sky():
    sources = [(60, 70, 3000), (150, 120, 5000)]
    ccd = noisy(sources)
    raised = ccd.add(50 * u.nJy, handle_meta='first_found')
    with pytest.raises(ValueError, match='the sky is not subtracted: half of the pixels'):
        FieldDetector().detect(raised, psf_fwhm=FWHM)
    with pytest.raises(ValueError, match='the sky is not subtracted'):
        FieldDetector().detect(np.full((50, 50), 100.0), error=1.0)
    assert len(FieldDetector().detect(np.zeros((50, 50)), error=1.0)) == 0
    estimate = FieldDetector(background='estimate', box_size=40)
    found = estimate.detect(raised, psf_fwhm=FWHM)
    np.testing.assert_allclose(pairs(found), [place[:2] for place in sources], atol=0.3)
    # and fluxes are measured without it
    aperture = ApertureFluxEstimator(radius=8)
    flux = aperture.measure_field(raised, detector=estimate, psf_fwhm=FWHM, neighbors='none')[
        'flux'
    ]
    np.testing.assert_allclose(flux.value, [3000, 5000], rtol=0.03)
    with pytest.raises(ValueError, match='a background is given, and the detector is to estimate'):
        aperture.measure_field(raised, detector=estimate, background=50.0)


def test_unit_and_width_by_wcs():
    """Of a surface brightness the flux is that of the pixels; the width may be an angle."""
    ccd = noisy([(60, 70, 3000)])
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.cdelt = ('RA---TAN', 'DEC--TAN'), (-0.2 / 3600, 0.2 / 3600)
    noise = StdDevUncertainty(ccd.uncertainty.array / 0.04)
    bright = CCDData(ccd.data / 0.04, unit='nJy / arcsec2', wcs=wcs, uncertainty=noise)
    found = FieldDetector().detect(bright, psf_fwhm=0.2 * FWHM * u.arcsec)
    plain = FieldDetector().detect(ccd, psf_fwhm=FWHM)
    assert found['segment_flux'].unit == u.nJy
    np.testing.assert_allclose(found['segment_flux'], plain['segment_flux'], rtol=1e-4)


@pytest.mark.parametrize('neighbors', ['none', 'model'])
def test_measured_without_catalogue(neighbors):
    places = [(60.0, 70.0, 3000), (150.0, 120.0, 5000), (67.0, 74.0, 2000)]
    ccd = noisy(places)
    method = {'none': KronFluxEstimator, 'model': CNNFluxEstimator}[neighbors]()
    how = {'neighbors': neighbors, 'psf_fwhm': FWHM}
    table = method.measure_field(ccd, **how)
    np.testing.assert_allclose(
        pairs(table), [place[:2] for place in sorted(places, key=lambda p: p[1])], atol=0.5
    )
    detector = FieldDetector()
    found = detector.detect(ccd, psf_fwhm=FWHM)
    again = method.measure_field(ccd, found, **how)
    np.testing.assert_array_equal(table['flux'], again['flux'])
    np.testing.assert_array_equal(table['segment_flux'], found['segment_flux'])
    assert table.meta['detector']['n_sigma'] == detector.n_sigma
    # an image without sources has the same columns
    for empty in (noisy([]), noisy(places)):
        empty.mask = np.ones(empty.shape, bool) if empty.data.max() > 50 else None
        nothing = method.measure_field(empty, **how)
        assert len(nothing) == 0
        assert nothing.colnames == table.colnames
        assert nothing['flux'].unit == u.nJy
        assert nothing.meta['messages'] == {}


@pytest.mark.parametrize('neighbors', ['none', 'model'])
def test_photutils_goes_straight_in(neighbors):
    """The result joins photutils' own table by label: each row is of the right source."""
    ccd = noisy([(50, 40, 3000), (62, 46, 1500), (150, 60, 5000), (90, 150, 8000)])
    smooth = gaussian_filter(ccd.data, SIGMA)
    segments = detect_segments(smooth, 0.8, 9, None)
    segments = split_segments(smooth, segments, segments.labels, 5, 32, 0.005)
    assert segments.n_labels == 4
    gaps = segments.copy()
    gaps.reassign_labels([1, 3], [70, 12])
    catalog = SourceCatalog(ccd.data, gaps)
    aperture = ApertureFluxEstimator(radius=6)
    whole = aperture.measure_field(ccd, catalog, neighbors=neighbors, psf_fwhm=FWHM)
    for given in (segments, gaps, catalog[[3, 0]], catalog[2], catalog[[False, True, True, False]]):
        table = aperture.measure_field(ccd, given, neighbors=neighbors, psf_fwhm=FWHM)
        is_map = isinstance(given, SegmentationImage)
        theirs = (SourceCatalog(ccd.data, given) if is_map else given).to_table()
        both = join(theirs, table['label', 'x', 'y', 'flux'], keys='label')
        assert len(both) == len(theirs) == len(table)
        np.testing.assert_allclose(both['x'].value, both['x_centroid'], atol=1e-6)
        np.testing.assert_allclose(both['y'].value, both['y_centroid'], atol=1e-6)
        if given is gaps:
            # the pixels of others are masked, or their light is subtracted
            is_same = np.isclose(table['flux'], whole['flux'], rtol=1e-6)
            assert is_same.tolist() == [True] * 4 if neighbors == 'model' else not is_same.all()
    # a part of the image, and the same part of the segments
    part = np.s_[20:120, 10:180]
    table = aperture.measure_field(ccd[part], gaps[part], neighbors=neighbors, psf_fwhm=FWHM)
    theirs = SourceCatalog(ccd.data[part], gaps[part]).to_table()
    both = join(theirs, table, keys='label')
    assert len(both) == len(theirs) == 3
    np.testing.assert_allclose(both['x'].value, both['x_centroid'], atol=1e-6)


@pytest.mark.parametrize(
    ('keywords', 'message'),
    [
        ({'n_sigma': 0}, 'n_sigma must be positive, got 0'),
        ({'n_pixels': 2.5}, 'n_pixels must be a positive integer, got 2.5'),
        ({'contrast': 2}, 'contrast must be between 0 and 1'),
        ({'background': 'local'}, "background must be 'none' or 'estimate', got 'local'"),
        ({'block_size': 3}, 'block_size must be 16 or more, got 3'),
        ({'kernel_fwhm': -1}, 'kernel_fwhm must be positive, got -1'),
    ],
)
def test_bad_detectors(keywords, message):
    with pytest.raises(ValueError, match=message):
        replace(FieldDetector(), **keywords)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'detector': FieldDetector(), 'catalogue': [(30, 30)]}, 'a detector is for an image'),
        ({'labels': [1, 2]}, 'labels are those of a catalogue, and there is none'),
        ({'psf_fwhm': [3.0, 4.0]}, 'psf_fwhm has one value for each source'),
        ({'background': 'local'}, "background='local' is measured about known sources"),
        (
            {'error': np.ones((3, 3))},
            r'the error has the shape \(3, 3\), the image has \(200, 220\)',
        ),
        ({'error': -1.0}, 'no pixel has a positive, finite noise'),
        ({'neighbors': 'all'}, "neighbors must be one of .*, got 'all'"),
    ],
)
def test_bad_calls(options, message):
    with pytest.raises(ValueError, match=message):
        KronFluxEstimator().measure_field(noisy([]), **options)


def test_bad_kinds():
    with pytest.raises(TypeError, match='detector must be a FieldDetector, got str'):
        KronFluxEstimator().measure_field(noisy([]), detector='photutils')
    with pytest.raises(ValueError, match='must be a 2-d image, got a 3-d array'):
        FieldDetector().detect(np.zeros((3, 50, 50)))
