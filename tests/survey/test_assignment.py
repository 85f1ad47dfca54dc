# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Each source goes to the image that holds it best, or is told to be on none."""

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import QTable, Table
from astropy.wcs import WCS
from numpy.testing import assert_allclose, assert_array_equal

from astroflux.survey import SurveyImage, assign

SCALE = 0.2


def write(path, ra, dec, *, shape=(60, 80), scale=SCALE):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ['RA---TAN', 'DEC--TAN']
    wcs.wcs.crval = [ra, dec]
    wcs.wcs.crpix = [shape[1] / 2 + 0.5, shape[0] / 2 + 0.5]
    wcs.wcs.cdelt = [-scale / 3600, scale / 3600]
    fits.PrimaryHDU(np.zeros(shape, 'i2'), wcs.to_header()).writeto(path)
    return SurveyImage(path)


def sky_of(image, x, y):
    ra, dec = image.wcs.all_pix2world(x, y, 0)
    return QTable({'ra': ra * u.deg, 'dec': dec * u.deg})


@pytest.mark.parametrize('center', [(150, 2), (0.001, 30), (10, 89.9995), (200, -90)])
def test_sources_come_back_to_their_pixels(center, tmp_path):
    """Across RA 0, and where the pole is on the image."""
    image = write(tmp_path / 'a.fits', *center)
    x, y = np.random.default_rng(1).uniform(-0.5, [[79.5], [59.5]], (2, 200))
    # 50 degrees away, and on the other side of the sky
    away = SkyCoord(*center, unit='deg').directional_offset_by([90, 0] * u.deg, [50, 180] * u.deg)
    rows = sky_of(image, x, y)
    for each in away:
        rows.add_row([each.ra, each.dec])
    found = assign(rows, [image])
    assert_array_equal(found.rows[0], np.arange(200))
    assert_allclose(found.x[:200], x, rtol=0, atol=1e-6)
    assert_allclose(found.y[:200], y, rtol=0, atol=1e-6)
    assert found.off.tolist() == [200, 201]
    assert found.reasons == ['off every image'] * 2
    assert np.isnan(found.x[200:]).all()


def test_overlaps_go_to_the_image_with_the_farther_edge(tmp_path):
    # of their 20 columns of overlap, the middle is at 69.5; what is at the upper edge of both is
    # well inside the third
    tiles = {
        'left': write(tmp_path / 'left.fits', 150 + 30 * SCALE / 3600, 0),
        'right': write(tmp_path / 'right.fits', 150 - 30 * SCALE / 3600, 0),
        'wide': write(tmp_path / 'wide.fits', 150, 12 / 3600, shape=(60, 60), scale=0.3),
    }
    x = np.array([40.0, 65.0, 69.4, 69.6, 75.0, 69.5, 69.5])
    y = np.array([29.5, 29.5, 29.5, 29.5, 29.5, 29.5, 59.4])
    rows = sky_of(tiles['left'], x, y)
    rows.add_row([np.nan * u.deg, 0 * u.deg])
    rows.add_row([150 * u.deg, -99 * u.deg])
    where = ['left', 'left', 'left', 'right', 'right', 'left', 'wide', None, None]
    for names in (['left', 'right', 'wide'], ['wide', 'right', 'left']):
        images = [tiles[name] for name in names]
        found = assign(rows, images)
        assert [names[i] if i >= 0 else None for i in found.image] == where
        for i, name in enumerate(names):
            assert found.rows[i].tolist() == [r for r, n in enumerate(where) if n == name]
        on_right = images[names.index('right')]
        others, other_x, _ = found.others[names.index('right')]
        assert others.tolist() == [1, 2, 5, 6]
        assert_allclose(sky_of(on_right, other_x, y[others])['ra'], rows['ra'][others], rtol=1e-12)
        assert found.off.tolist() == [7, 8]
        assert found.reasons == ['position is not finite'] * 2
    # nor does the order of rows matter
    order = np.random.default_rng(3).permutation(len(rows))
    again = assign(rows[order], images)
    assert_array_equal(again.image, found.image[order])
    assert_array_equal(again.x, found.x[order])


def test_frames_and_masked_positions(tmp_path):
    images = [write(tmp_path / f'{ra}.fits', ra, 2) for ra in (150, 160)]
    sky = SkyCoord([160, 150, 170], [2, 2, 2], unit='deg').galactic
    assert assign(QTable({'sky': sky}), images).image.tolist() == [1, 0, -1]
    masked = Table({'ra': np.ma.array([160.0, 150.0], mask=[True, False]), 'dec': [2.0, 2.0]})
    found = assign(masked, images)
    assert found.image.tolist() == [-1, 0]
    assert found.reasons == ['position is not finite']


def test_positions_in_pixels(tmp_path):
    images = [write(tmp_path / f'{name}.fits', ra, 2) for ra, name in enumerate('ab')]
    x, y = [10.0, 79.4, 79.6, np.nan], [20.0, 0.0, 0.0, 1.0]
    found = assign(Table({'X_IMAGE': np.array(x) + 1, 'Y_IMAGE': np.array(y) + 1}), images[:1])
    assert found.rows[0].tolist() == [0, 1]
    assert_allclose(found.x[:2], x[:2])
    assert found.reasons == ['off every image', 'position is not finite']
    with pytest.raises(ValueError, match=r"2 images: it must have .* or a column 'image'"):
        assign(Table({'x': x, 'y': y}), images)
    named = Table({'x': x, 'y': y, 'image': ['b', 'a', 'c', str(images[1].path)]})
    found = assign(named, images)
    assert found.image.tolist() == [1, 0, -1, -1]
    assert found.reasons == ["its image 'c' is none of the images", 'position is not finite']
    # where the sky is told as well, pixels are those of some image
    both = Table({'x': [3.0], 'y': [3.0], 'ra': [1.0], 'dec': [2.0]})
    assert assign(both, images).image.tolist() == [1]


def test_images_that_fail_leave_the_others(tmp_path):
    good = write(tmp_path / 'good.fits', 150, 2)
    fits.PrimaryHDU(np.zeros((9, 9))).writeto(tmp_path / 'plain.fits')
    others = [SurveyImage(tmp_path / f'{name}.fits') for name in ('missing', 'plain')]
    found = assign(Table({'ra': [150.0, 10.0], 'dec': [2.0, 2.0]}), [*others, good])
    assert found.image.tolist() == [2, -1]
    assert found.reasons == ['off every image that can be read (2 cannot)']
    assert 'there is no such file' in found.failed['missing']
    assert 'has no WCS' in found.failed['plain']
    assert [len(rows) for rows in found.rows] == [0, 0, 1]


def test_nothing_to_assign(tmp_path):
    image = write(tmp_path / 'a.fits', 150, 2)
    empty = Table({'ra': np.empty(0), 'dec': np.empty(0)})
    assert [rows.size for rows in assign(empty, [image]).rows] == [0]
    assert assign(Table({'ra': [1.0], 'dec': [1.0]}), []).reasons == ['off every image']
    with pytest.raises(ValueError, match=r"different names, got \['a', 'a'\]"):
        assign(empty, [image, image])
    with pytest.raises(ValueError, match='the table has no positions'):
        assign(Table({'flux': [1.0]}), [image])
