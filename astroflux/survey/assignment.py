# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Which image of a survey each source of a catalogue is measured in."""

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from astropy.coordinates import UnitSphericalRepresentation
from astropy.wcs.utils import pixel_to_skycoord
from scipy.spatial import cKDTree

from astroflux.cutouts._catalog import as_table, pixels_in, sky_in, to_pixels
from astroflux.cutouts._wcs import pixel_scale

__all__ = ['Assignment', 'assign', 'circle_of']

# Why a source is on no image.
NOT_FINITE = 'position is not finite'
OFF = 'off every image'

# Points on a side of an image at which the circle about it is measured; and what the circle is
# larger by, as distortions may be largest between them.
_PER_SIDE = 9
_MARGIN = 1.05
# Above that chord, of 60 degrees, the circle is the whole sky.
_LARGE = 1.0

# Distances to the edge, in arcsec, that are the same.
_SAME = 1e-6


@dataclass(frozen=True)
class Assignment:
    """
    Where each source of a catalogue is measured.

    Attributes
    ----------
    rows : list of `~numpy.ndarray`
        For each image, in their order, the rows of the catalogue that are measured in it.
    x, y : `~numpy.ndarray`
        For each row of the catalogue, its position in that image, in 0-based pixels; else NaN.
    image : `~numpy.ndarray`
        For each row of the catalogue, the number of the image, or -1.
    off : `~numpy.ndarray`
        The rows of the catalogue that are on no image.
    reasons : list of str
        For each of these, why.
    others : list of tuple
        For each image, which sources are on it, too, but are measured in another that holds them
        better: rows of the catalogue, and positions ``x`` and ``y`` in this image. Their light is
        on both.
    failed : dict
        Names of images whose header cannot be read, and why. They have no sources.
    """

    rows: list
    x: np.ndarray
    y: np.ndarray
    image: np.ndarray
    off: np.ndarray
    reasons: list
    others: list
    failed: dict = field(default_factory=dict)


def assign(catalogue, images):
    """
    Assign each source of a catalogue to the image that holds it best.

    A source that is on several images is measured in that where it is farthest from the edge, in
    arcsec by the scale of the image's center; of equal ones, in that whose name is the first in the
    alphabet. So the order of images does not matter.

    Parameters
    ----------
    catalogue : `~astropy.table.Table` or other table
        With columns of positions as for one image (:doc:`/fields`): on the sky; or in pixels, if
        there is one image or a column ``image`` names that of each source. If there is one image,
        pixels go before the sky; if there are several, the sky does unless ``image`` is there.
    images : sequence of `~astroflux.survey.SurveyImage`
        With different names. Only their headers are read.

    Returns
    -------
    assignment : `Assignment`
        Every row of the catalogue is in one of its ``rows``, or in ``off``.

    Raises
    ------
    ValueError
        If the catalogue has no positions, or these are pixels of several images; or two images
        have one name.
    """
    images, table = list(images), as_table(catalogue)
    names = [image.name for image in images]
    if len({*names}) < len(names):
        msg = f'images must have different names, got {sorted(names)}; find_images gives them'
        raise ValueError(msg)
    column = next((name for name in table.colnames if name.lower() == 'image'), None)
    pixels = pixels_in(table)
    if pixels is not None and (len(images) == 1 or column is not None):
        wanted = None if len(images) == 1 and column is None else _texts(table[column])
        source = _InPixels(*pixels, wanted, images)
    else:
        source = _OnSky(_sky(table, pixels, images))
    return _assigned(source, images, len(table))


def _texts(column):
    """Return names as texts, without what blanks a file has filled them up with."""
    values = np.ma.filled(np.ma.asarray(column).astype(str), '')
    return np.char.strip(values)


def _sky(table, pixels, images):
    try:
        return sky_in(table)
    except ValueError:
        if pixels is None:
            raise
        msg = (
            f'the catalogue has positions in pixels, which are those of one image, but there are '
            f"{len(images)} images: it must have positions on the sky, or a column 'image' that "
            'names the image of each source'
        )
        raise ValueError(msg) from None


class _InPixels:
    """Sources that say where they are in an image, and in which if there are several."""

    def __init__(self, x, y, wanted, images):
        self._finite = np.isfinite(x) & np.isfinite(y)
        self._x, self._y, self._wanted = x, y, wanted
        self._names = {name for image in images for name in _names_of(image)}

    def reason(self, row):
        """Return why a row can be on no image; `None` if it could."""
        if self._wanted is not None and self._wanted[row] not in self._names:
            return f'its image {str(self._wanted[row])!r} is none of the images'
        return None if self._finite[row] else NOT_FINITE

    def on(self, image):
        """Return rows, and their pixels in an image, of all that may be on it; its scale."""
        rows = np.flatnonzero(self._finite)
        if self._wanted is not None:
            rows = rows[np.isin(self._wanted[rows], _names_of(image))]
        return rows, self._x[rows], self._y[rows], 1.0


def _names_of(image):
    return [image.name, str(image.path)]


class _OnSky:
    """Sources whose pixels are found by the WCS, of those near an image."""

    def __init__(self, sky):
        self._sky = sky
        vectors = _vectors(sky)
        self._finite = np.isfinite(vectors).all(axis=1)
        self._rows = np.flatnonzero(self._finite)
        self._tree = cKDTree(vectors[self._finite].reshape(-1, 3))

    def reason(self, row):
        """Return why a row can be on no image; `None` if it could."""
        return None if self._finite[row] else NOT_FINITE

    def on(self, image):
        """Return rows, and their pixels in an image, of all that may be on it; its scale."""
        if image.wcs is None:
            msg = f'the positions are on the sky, but {str(image)!r} has no WCS'
            raise ValueError(msg)
        center, radius = circle_of(image)
        near = self._tree.query_ball_point(center, radius, return_sorted=True)
        rows = self._rows[np.array(near, dtype=int)]
        middle = (np.array(image.shape[::-1]) - 1) / 2
        x, y = to_pixels(self._sky[rows], image) if len(rows) else np.empty((2, 0))
        return rows, x, y, pixel_scale(image.wcs, middle)


def _vectors(sky):
    """Return positions on the sky as vectors of length 1, NaN where they are masked."""
    unit = sky.icrs.represent_as(UnitSphericalRepresentation).to_cartesian().xyz
    vectors = np.array(getattr(unit, 'unmasked', unit).value, dtype=float)
    vectors[np.broadcast_to(getattr(unit, 'mask', False), vectors.shape)] = np.nan
    return vectors.T


def circle_of(image):
    """Return the middle of a circle on the sky that holds an image, and its radius as a chord."""
    ny, nx = image.shape
    along = np.linspace(0, 1, _PER_SIDE)
    ends = np.zeros(_PER_SIDE), np.ones(_PER_SIDE)
    x = np.concatenate([along, along, *ends, [0.5]]) * nx - 0.5
    y = np.concatenate([*ends, along, along, [0.5]]) * ny - 0.5
    *edge, center = _vectors(pixel_to_skycoord(x, y, image.wcs))
    radius = np.linalg.norm(np.array(edge) - center, axis=1).max()
    if not radius < _LARGE:
        # part of the image is off the sky, or it is larger than what its edge tells
        return np.array([0.0, 0.0, 1.0]), 3.0
    return center, _MARGIN * radius


def _assigned(source, images, n_rows):
    """Return the `Assignment`: for each source, the image where it is farthest from the edge."""
    chosen = np.full(n_rows, -1)
    x, y, farthest = np.full((3, n_rows), np.nan)
    farthest[:] = -np.inf
    on, failed = {}, {}
    for number in sorted(range(len(images)), key=lambda i: images[i].name):
        image = images[number]
        try:
            rows, *xy, distance = _inside(source, image)
        except Exception as exc:  # a damaged file or WCS brings any error of any library
            failed[image.name] = str(exc)
            continue
        on[number] = rows, *xy
        better = distance > farthest[rows] + _SAME
        rows = rows[better]
        chosen[rows], farthest[rows] = number, distance[better]
        x[rows], y[rows] = (values[better] for values in xy)
    off = np.flatnonzero(chosen < 0)
    unread = f' that can be read ({len(failed)} cannot)' if failed else ''
    reasons = [source.reason(row) or OFF + unread for row in off]
    order = np.argsort(chosen, kind='stable')
    edges = np.searchsorted(chosen[order], np.arange(len(images) + 1))
    rows = [order[start:stop] for start, stop in pairwise(edges)]
    others = [_elsewhere(on.get(number), chosen, number) for number in range(len(images))]
    return Assignment(rows, x, y, chosen, off, reasons, others, failed)


def _inside(source, image):
    """Return the rows on an image, their pixels, and how far from its edge they are."""
    ny, nx = image.shape
    rows, x, y, scale = source.on(image)
    # a WCS without a scale is one of pixels
    scale = scale if np.isfinite(scale) else 1.0
    distance = np.min([x + 0.5, nx - 0.5 - x, y + 0.5, ny - 0.5 - y], axis=0) * scale
    inside = distance >= 0
    return rows[inside], x[inside], y[inside], distance[inside]


def _elsewhere(found, chosen, number):
    """Return those on an image that are measured in another one."""
    if found is None:
        return np.empty(0, dtype=int), np.empty(0), np.empty(0)
    rows, x, y = found
    elsewhere = chosen[rows] != number
    return rows[elsewhere], x[elsewhere], y[elsewhere]
