# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Positions of many sources in one image, from whatever catalogue the user has of them."""

import sys
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import Row, Table
from astropy.wcs import NoConvergence
from astropy.wcs.utils import skycoord_to_pixel

from astroflux.cutouts._told import amended

__all__ = [
    'Sources',
    'as_table',
    'identifier_column',
    'identifiers_of',
    'is_many',
    'is_table',
    'pixels_in',
    'rows_of',
    'sky_in',
    'sources_of',
    'to_pixels',
]

# Names of columns, whatever their case, and the number of the first pixel. The first pair that a
# table has is taken.
_PIXELS = {
    ('x', 'y'): 0,
    ('x_centroid', 'y_centroid'): 0,
    ('xcentroid', 'ycentroid'): 0,
    ('x_center', 'y_center'): 0,
    ('xcenter', 'ycenter'): 0,
    ('x_fit', 'y_fit'): 0,
    ('x_peak', 'y_peak'): 0,
    ('xwin_image', 'ywin_image'): 1,
    ('x_image', 'y_image'): 1,
}
_ANGLES = (
    ('ra', 'dec'),
    ('raj2000', 'dej2000'),
    ('ra_icrs', 'de_icrs'),
    ('alpha_j2000', 'delta_j2000'),
    ('coord_ra', 'coord_dec'),
)
_IDENTIFIERS = ('label', 'id', 'source_id', 'object_id', 'objid', 'objectid', 'number')
_BOX = ('bbox_xmin', 'bbox_xmax', 'bbox_ymin', 'bbox_ymax')

_WANTED = 'pairs (x, y), a SkyCoord, a table, or a SourceCatalog or SegmentationImage of photutils'


@dataclass(frozen=True)
class Sources:
    """
    Sources in one image, in the order of the user's catalogue.

    Attributes
    ----------
    x, y : `~numpy.ndarray`
        Positions in 0-based pixels of the image; NaN where unknown.
    identifiers : list or None
        What the catalogue calls each.
    catalog_column : str or None
        Name of the catalogue's column that they are from, if it is not ``id``.
    extents : `~numpy.ndarray` or None
        Length of the longer side of the box about the pixels of each, in pixels.
    segmentation : `~numpy.ndarray` or None
        Whose pixel each is, by the identifier, or 0 for the sky: those of others are to be masked.
    """

    x: np.ndarray
    y: np.ndarray
    identifiers: list | None = None
    catalog_column: str | None = None
    extents: np.ndarray | None = None
    segmentation: np.ndarray | None = None

    def __len__(self):
        return len(self.x)

    def chosen(self, labels):
        """
        Return some of the sources, in the order of their labels.

        `ValueError` if there are no labels, or not all of these.
        """
        chosen = rows_of(self.identifiers, labels)
        return replace(
            self,
            x=self.x[chosen],
            y=self.y[chosen],
            identifiers=np.atleast_1d(labels).tolist(),
            extents=None if self.extents is None else self.extents[chosen],
        )


def rows_of(identifiers, labels):
    """
    Return the rows of a catalogue that have some labels, in the order of these.

    Its identifiers are given, or `None`. `ValueError` if there are no labels, or not all of these.
    """
    if identifiers is None:
        msg = 'labels are for a catalogue that has some, and positions has none'
        raise ValueError(msg)
    labels = np.atleast_1d(labels).tolist()
    for label in labels:
        if not isinstance(label, Hashable):
            msg = f'labels must be integers or strings, got {label!r:.80}'
            raise TypeError(msg)
    rows = {identifier: row for row, identifier in enumerate(identifiers)}
    if unknown := [label for label in labels if label not in rows]:
        msg = f'labels has {unknown}, which none of the {len(identifiers)} sources has'
        raise ValueError(msg)
    if not labels:
        msg = 'labels is empty: name some, or leave it out to take all sources'
        raise ValueError(msg)
    return [rows[label] for label in labels]


def identifiers_of(table):
    """Return what a table calls its sources; `None` if it has no such column."""
    name = identifier_column(table)
    return None if name is None else _plain(table[name])


def _of_photutils(positions, name):
    """Return whether this is of a class of photutils, which is not imported for that."""
    return isinstance(positions, getattr(sys.modules.get('photutils.segmentation'), name, ()))


def _is_data_frame(positions):
    return isinstance(positions, getattr(sys.modules.get('pandas'), 'DataFrame', ()))


def is_table(positions):
    """Return whether this is a table of any kind; not a row of one."""
    if isinstance(positions, Row | np.void):
        return False
    is_structured = getattr(getattr(positions, 'dtype', None), 'names', None) is not None
    return isinstance(positions, Table) or _is_data_frame(positions) or is_structured


def as_table(positions):
    """Return a table of any kind as one of astropy's."""
    if isinstance(positions, Table):
        return positions
    try:
        return Table.from_pandas(positions) if _is_data_frame(positions) else Table(positions)
    except UnicodeError as exc:
        msg = f'positions is a table with text that is none: {exc}'
        raise ValueError(msg) from None


def is_catalog(positions):
    """Return whether this is a catalogue, which says more than positions."""
    return (
        _of_photutils(positions, 'SourceCatalog')
        or _of_photutils(positions, 'SegmentationImage')
        or is_table(positions)
    )


def is_many(positions):
    """
    Return whether ``positions`` are a list of them, or a catalogue, rather than one or none.

    An iterator is not touched.
    """
    if positions is None or isinstance(positions, str | bytes | Mapping):
        return False
    if isinstance(positions, SkyCoord):
        return not positions.isscalar
    if is_catalog(positions):
        return True
    if isinstance(positions, np.ndarray) and positions.dtype.kind != 'O':
        return positions.ndim > 1 or positions.size == 0
    if isinstance(positions, list | tuple):
        return not positions or np.ndim(positions[0]) > 0 or isinstance(positions[0], SkyCoord)
    return isinstance(positions, Iterable) and not isinstance(positions, Row | np.void)


def sources_of(positions, image, told):
    """
    Return the `Sources` that ``positions`` tell of in an image.

    Parameters
    ----------
    positions : object
        Of which `is_many` is true.
    image : `~astroflux.cutouts._items.RawItem`
        The image.
    told : dict
        What the call says of the whole image.

    Raises
    ------
    TypeError, ValueError, `~astropy.units.UnitsError`
        If they are none, or not of this image.
    """
    if _of_photutils(positions, 'SegmentationImage'):
        sources = _of_segmentation(positions, image, told)
    elif _of_photutils(positions, 'SourceCatalog'):
        sources = _of_source_catalog(positions)
    elif is_table(positions):
        sources = _of_table(as_table(positions), image)
    else:
        sources = _of_pairs(positions, image)
    if not len(sources):
        msg = f'positions is empty: the {type(positions).__name__} has no source'
        raise ValueError(msg)
    return sources


def _of_segmentation(segmentation, image, told):
    from photutils.segmentation import SourceCatalog

    if segmentation.shape != image.data.shape:
        msg = (
            f'the segmentation image has the shape {segmentation.shape}, the image has '
            f'{image.data.shape}'
        )
        raise ValueError(msg)
    if not segmentation.n_labels:
        msg = 'positions is empty: the segmentation image has no source'
        raise ValueError(msg)
    # a sky would draw the centroids to the middle of the segments
    sky = None if isinstance(told['background'], str) else told['background']
    image = amended(image, mask=told['mask'], background=sky)
    mask = None if image.mask is None else np.broadcast_to(image.mask, image.data.shape)
    catalog = SourceCatalog(image.data, segmentation, mask=mask)
    return replace(_of_source_catalog(catalog), segmentation=segmentation.data)


def _of_source_catalog(catalog):
    # one that was sliced to a single source has numbers instead of arrays
    box = [np.atleast_1d(getattr(catalog, name)) for name in _BOX]
    return Sources(
        _numbers(np.atleast_1d(catalog.x_centroid)),
        _numbers(np.atleast_1d(catalog.y_centroid)),
        np.atleast_1d(catalog.label).tolist(),
        'label',
        _longer_side(*box),
    )


def _longer_side(xmin, xmax, ymin, ymax):
    return np.maximum(_numbers(xmax) - _numbers(xmin), _numbers(ymax) - _numbers(ymin)) + 1


def _of_table(table, image):
    names = _by_small_letters(table)
    identifier = identifier_column(table)
    has_box = all(name in names for name in _BOX)
    return Sources(
        *_pixels_of(table, image),
        identifiers_of(table),
        None if identifier in (None, 'id') else identifier,
        _longer_side(*(table[names[name]] for name in _BOX)) if has_box else None,
    )


def identifier_column(table):
    """Return the name of the column that identifies the sources; `None` if there is none."""
    names = _by_small_letters(table)
    return next((names[name] for name in _IDENTIFIERS if name in names), None)


def _pixels_of(table, image):
    """Return the positions that a table has, in pixels of an image."""
    pixels = pixels_in(table)
    return to_pixels(sky_in(table), image) if pixels is None else pixels


def pixels_in(table):
    """Return the positions in 0-based pixels that a table has; `None` if it has none."""
    names = _by_small_letters(table)
    for pair, first in _PIXELS.items():
        if all(name in names for name in pair):
            x, y = (_numbers(table[names[name]], names[name]) for name in pair)
            return x - first, y - first
    return None


def sky_in(table):
    """
    Return the positions on the sky that a table has; `ValueError` if it has none.

    A declination beyond 90 degrees, as some write where they have none, is taken for NaN. What
    ``meta['sky_columns']`` names, a pair in degrees, goes before the names that are known.
    """
    coordinates = [name for name in table.colnames if isinstance(table[name], SkyCoord)]
    if len(coordinates) == 1 or 'sky_centroid' in coordinates:
        return table['sky_centroid' if 'sky_centroid' in coordinates else coordinates[0]]
    names = _by_small_letters(table)
    told = [str(name).lower() for name in table.meta.get('sky_columns', ())]
    for pair in (told, *_ANGLES) if len(told) == 2 else _ANGLES:
        if all(name in names for name in pair):
            lon, lat = (_numbers(table[names[name]], names[name], u.deg) for name in pair)
            return SkyCoord(lon, np.where(np.abs(lat) > 90, np.nan, lat), unit=u.deg)
    pixels = ', '.join('/'.join(pair) for pair in _PIXELS)
    msg = (
        f'the table has no positions: want the columns {pixels}, one SkyCoord, or '
        f'{", ".join("/".join(pair) for pair in _ANGLES)}; got {table.colnames}'
    )
    raise ValueError(msg)


def _by_small_letters(table):
    """Return the names of a table's columns, by themselves in small letters."""
    return {name.lower(): name for name in reversed(table.colnames)}


def _of_pairs(positions, image):
    if not isinstance(positions, np.ndarray | SkyCoord):
        positions = list(positions)
        if positions and all(isinstance(each, SkyCoord) for each in positions):
            positions = SkyCoord(positions)
    if isinstance(positions, SkyCoord):
        if positions.ndim != 1:
            msg = f'positions must be a SkyCoord of shape (n,), got the shape {positions.shape}'
            raise ValueError(msg)
        return Sources(*to_pixels(positions, image))
    try:
        pairs = _numbers(positions).reshape(len(positions), -1 if len(positions) else 2)
    except (TypeError, ValueError):
        msg = f'positions for one image must be {_WANTED}'
        raise ValueError(msg) from None
    if pairs.shape[1] != 2:
        msg = f'positions must have the shape (n, 2), got {np.shape(positions)}'
        raise ValueError(msg)
    return Sources(*pairs.T)


def _numbers(column, name='positions', unit=u.pix):
    """Return a column as plain float numbers in a unit, NaN where it is masked."""
    try:
        values = np.array(getattr(column, 'unmasked', column), dtype=float)
    except (TypeError, ValueError):
        msg = f'{name} must be numbers, got {column!r}'
        raise TypeError(msg) from None
    own = getattr(column, 'unit', None)
    if own is not None and own != u.dimensionless_unscaled:
        if not own.is_equivalent(unit):
            msg = f'{name} must be in {unit}, got the unit {str(own)!r}'
            raise u.UnitsError(msg)
        values = own.to(unit, values)
    values[getattr(column, 'mask', False)] = np.nan
    return values


def _plain(column):
    """Return identifiers as plain numbers or texts; `None` where there is none."""
    values = np.ma.asarray(getattr(column, 'value', column))
    if values.dtype.kind == 'S':
        values = np.char.decode(values, 'utf-8', 'replace')
    # among objects of other types, too
    return [
        value.decode('utf-8', 'replace') if isinstance(value, bytes) else value
        for value in values.tolist()
    ]


def to_pixels(sky, image):
    """Return positions in the sky as pixels of the image, NaN where it has none."""
    if image.wcs is None:
        msg = 'the positions are in the sky, but the image has no WCS'
        raise ValueError(msg)
    try:
        x, y = skycoord_to_pixel(sky, image.wcs)
    except NoConvergence as exc:
        # far from the image its distortion makes no sense
        x, y = np.array(exc.best_solution).T
        lost = np.union1d(*(np.array(rows, dtype=int) for rows in _lost_rows(exc)))
        x[lost] = y[lost] = np.nan
    return _numbers(x), _numbers(y)


def _lost_rows(exc):
    return [[] if rows is None else rows for rows in (exc.divergent, exc.slow_conv)]
