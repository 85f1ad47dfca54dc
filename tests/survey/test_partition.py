# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Partitions of a catalogue, as Dask and LSDB have them: every row, in order, of the same types."""

import numpy as np
import pandas as pd
import pytest
from astropy import units as u
from astropy.nddata import CCDData, StdDevUncertainty
from astropy.utils.exceptions import AstropyUserWarning
from astropy.wcs import WCS

from astroflux import CNNFluxEstimator, decode_flags
from astroflux.cutouts.writers import write_cutout
from astroflux.survey import SurveyImage, measure_partition, partition_meta

dd = pytest.importorskip('dask.dataframe')

FWHM = 4.7
SHAPE = (150, 190)
PIXELS = [(60.0, 60.0), (66.0, 64.5), (120.0, 90.0), (151.3, 30.2)]
FLUXES = np.array([900.0, 3000.0, 5000.0, 1500.0])
# Right ascension of the middle of each of two images, in different base pixels of HEALPix.
PLACES = {'east': 95.0, 'west': 10.0}


def healpix_29(ra, dec):
    """Number of the pixel of order 29, nested, in the equatorial zone (Gorski et al. 2005)."""
    order = 29
    along = 2**order * (0.5 + ra / 90)
    across = 2**order * 0.75 * np.sin(np.radians(dec))
    down, up = (np.floor(values).astype(np.int64) for values in (along - across, along + across))
    face = down >> order
    # both are on the equator of a base pixel
    assert (face == up >> order).all()
    x, y = up & (2**order - 1), 2**order - 1 - (down & (2**order - 1))
    number = 4 + face % 4
    for bit in reversed(range(order)):
        number = 4 * number + (x >> bit & 1) + 2 * (y >> bit & 1)
    return number


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    """Two images on disk."""
    folder = tmp_path_factory.mktemp('images')
    rng = np.random.default_rng(4)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    sigma = FWHM / 2.3548
    for name, ra in PLACES.items():
        data = rng.normal(size=SHAPE)
        for (x0, y0), flux in zip(PIXELS, FLUXES, strict=True):
            light = np.exp(-0.5 * ((x - x0) ** 2 + (y - y0) ** 2) / sigma**2)
            data += flux / (2 * np.pi * sigma**2) * light
        noise = StdDevUncertainty(np.ones(SHAPE))
        image = CCDData(data, unit='adu', wcs=wcs_at(ra), uncertainty=noise)
        write_cutout(image, folder / f'{name}.fits')
    return folder


def wcs_at(ra):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = 'RA---TAN', 'DEC--TAN'
    wcs.wcs.crval = ra, 0.0
    wcs.wcs.crpix = SHAPE[1] / 2, SHAPE[0] / 2
    wcs.wcs.cdelt = -0.2 / 3600, 0.2 / 3600
    return wcs


def sources_at(ra):
    """The sources of an image, and one beside it."""
    sky = wcs_at(ra).pixel_to_world(*np.transpose([*PIXELS, (-400.0, 50.0)]))
    return pd.DataFrame({'ra': sky.ra.deg, 'dec': sky.dec.deg})


@pytest.fixture(scope='module')
def hats(tmp_path_factory):
    """A HATS catalogue of both images, with a partition for each of two pixels of order 0."""
    folder = tmp_path_factory.mktemp('hats')
    sources = pd.concat([sources_at(ra) for ra in PLACES.values()], ignore_index=True)
    sources.insert(0, 'objectId', 100 + np.arange(len(sources)))
    sources['_healpix_29'] = healpix_29(*sources[['ra', 'dec']].to_numpy().T)
    sources = sources.sort_values('_healpix_29')
    partitions = sources.groupby(sources['_healpix_29'] // 4**29)
    for pixel, partition in partitions:
        path = folder / f'dataset/Norder=0/Dir=0/Npix={pixel}.parquet'
        path.parent.mkdir(parents=True, exist_ok=True)
        partition.to_parquet(path, index=False)
    pixels = ''.join(f'0,{pixel}\n' for pixel, _ in partitions)
    (folder / 'partition_info.csv').write_text(f'Norder,Npix\n{pixels}')
    (folder / 'hats.properties').write_text(
        'obs_collection=small\ndataproduct_type=object\n'
        f'hats_nrows={len(sources)}\nhats_col_ra=ra\nhats_col_dec=dec\n'
        'hats_col_healpix=_healpix_29\nhats_col_healpix_order=29\nhats_npix_suffix=.parquet\n'
        'hats_order=0\nhats_version=v1.0\nobs_regime=Optical\n'
    )
    return folder


def test_hats_catalogue(images, hats):
    files = sorted(hats.glob('dataset/Norder=*/Dir=*/Npix=*.parquet'))
    catalogue = dd.from_map(pd.read_parquet, files).set_index('_healpix_29', sorted=True)
    assert catalogue.npartitions == 2
    told = {'images': images, 'psf_fwhm': FWHM, 'keep': ['objectId', 'ra', 'dec']}
    meta = partition_meta(catalogue, **told)
    lazy = catalogue.map_partitions(measure_partition, **told, meta=meta)
    parts = [lazy.get_partition(i).compute(scheduler='synchronous') for i in range(2)]
    for part, image in zip(parts, ['west', 'east'], strict=True):
        pd.testing.assert_series_equal(part.dtypes, meta.dtypes)
        assert part.index.name == meta.index.name == '_healpix_29'
        assert part.attrs == meta.attrs
        assert set(part['image'].dropna()) == {image}
    measured = pd.concat(parts)
    given = catalogue.compute(scheduler='synchronous')
    for name in ('objectId', 'ra', 'dec'):
        pd.testing.assert_series_equal(measured[name], given[name])
    # each by the truth that it has, whatever the order in the catalogue
    measured = measured.sort_values('objectId')
    is_off = np.array(2 * [*(len(PIXELS) * [False]), True])
    good = measured[~is_off]
    pull = (good['flux'] - np.tile(FLUXES, 2)) / good['flux_err']
    assert np.abs(pull).max() < 4
    np.testing.assert_allclose(good[['x', 'y']], 2 * PIXELS, atol=0.01)
    assert (measured['image'].isna() == is_off).all()
    assert measured[is_off]['flux'].isna().all()
    assert decode_flags(measured[is_off]['flags'].tolist()) == 2 * [('OFF_CENTRE', 'NO_PIXELS')]
    assert measured.attrs['units']['flux'] == 'adu'


def test_is_what_the_survey_measures(images):
    """A partition with sources of both images is measured as each image by itself."""
    sources = pd.concat([sources_at(ra)[:4] for ra in PLACES.values()])
    # neither the index nor the order is of use
    sources = sources.iloc[::-1]
    estimator = CNNFluxEstimator()
    measured = measure_partition(sources, images=images, estimator=estimator, psf_fwhm=FWHM)
    assert measured.index.equals(sources.index)
    for name, ra in PLACES.items():
        table = estimator.measure_field(
            images / f'{name}.fits', sources_at(ra)[:4][::-1], psf_fwhm=FWHM
        )
        part = measured[measured['image'] == name]
        for column in ('flux', 'flux_err', 'half_light_radius'):
            np.testing.assert_allclose(part[column], u.Quantity(table[column]).value, rtol=1e-6)
        assert (part['flags'].to_numpy() == table['flags']).all()


def test_types_do_not_depend_on_what_is_measured(images, tmp_path):
    sources = sources_at(PLACES['west'])
    sources.loc[1, 'dec'] = np.nan
    told = {'images': images, 'estimator': 'aperture', 'psf_fwhm': FWHM, 'keep': True}
    measured = measure_partition(sources, **told)
    assert decode_flags(measured['flags'][[1, 4]].tolist()) == [
        ('BAD_INPUT',),
        ('OFF_CENTRE', 'NO_PIXELS'),
    ]
    assert np.isfinite(measured['flux'][[0, 2, 3]]).all()
    for few in (sources[:0], sources[1:2], sources[4:]):
        part = measure_partition(few, **told)
        pd.testing.assert_series_equal(part.dtypes, measured.dtypes)
        assert len(part) == len(few)
    # columns as LSDB has them
    arrow = sources.convert_dtypes(dtype_backend='pyarrow')
    part = measure_partition(arrow, **{**told, 'keep': False})
    pd.testing.assert_frame_equal(part, measured.drop(columns=['ra', 'dec']))


def test_image_that_cannot_be_read(images, tmp_path):
    sources = sources_at(PLACES['west'])
    told = {'estimator': 'aperture', 'psf_fwhm': FWHM, 'unit': 'adu'}
    no_noise = SurveyImage(images / 'west.fits', noise=tmp_path / 'west_rms.fits')
    with pytest.warns(AstropyUserWarning, match='4 sources of west are not measured.*west_rms'):
        measured = measure_partition(sources, images=no_noise, **told)
    assert decode_flags(measured['flags'].tolist()) == [
        *(4 * [('UNREADABLE',)]),
        ('OFF_CENTRE', 'NO_PIXELS'),
    ]
    # it is not known where this one is
    (tmp_path / 'damaged.fits').write_bytes((images / 'west.fits').read_bytes()[:1000])
    with pytest.warns(AstropyUserWarning, match='5 sources are on no image.*damaged.fits'):
        measured = measure_partition(sources, images=tmp_path, **told)
    assert decode_flags(measured['flags'].tolist()) == 5 * [('OFF_CENTRE', 'NO_PIXELS')]
    assert measured['flux'].isna().all()
    with pytest.raises(ValueError, match='no positions'):
        measure_partition(sources[['ra']], images=images)
    with pytest.raises(ValueError, match=r"keep has \['mag'\]"):
        measure_partition(sources[:0], images=images, keep=['mag'])
