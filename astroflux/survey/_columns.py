# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The columns of a survey: the same, of the same types and units, in the table of every image."""

import numpy as np
from astropy import units as u
from astropy.nddata import CCDData, StdDevUncertainty
from astropy.table import MaskedColumn, QTable
from astropy.utils.masked import Masked
from astropy.wcs import WCS

from astroflux.cutouts import iter_cutouts
from astroflux.cutouts._catalog import as_table, identifier_column
from astroflux.estimators._rows import RowCollector
from astroflux.estimators.field._catalogue import with_catalogue
from astroflux.estimators.recalibration import FACTOR_COLUMNS

__all__ = ['SurveyColumns', 'plain_catalogue']

# Whole numbers beyond are not the same as floating-point ones.
_LARGEST_EXACT = 2**53

_ADDED = {
    'image': 'name of the image that the source was measured in',
    'row': 'row of the source in the catalogue, from 0',
}


def plain_catalogue(catalogue):
    """
    Return a catalogue whose columns can be kept, with one type each, in many Parquet files.

    Masked numbers become NaN, masked texts empty.

    Parameters
    ----------
    catalogue : object
        A table of any kind.

    Returns
    -------
    catalogue : `~astropy.table.QTable`
        A new table of the same length.

    Raises
    ------
    TypeError, ValueError
        If a column holds objects other than texts; or lacks values, and is the identifier or has
        whole numbers that are too large for floating-point ones.
    """
    table = QTable(as_table(catalogue), copy=False)
    identifier = identifier_column(table)
    # where HATS says which columns the positions are
    plain = QTable(meta=table.meta)
    for name in table.colnames:
        column = table[name]
        if isinstance(column, MaskedColumn | Masked):
            column = _without_mask(column, name, is_identifier=name == identifier)
        if isinstance(column, u.Quantity):
            column = _native(column)
        elif isinstance(column, np.ndarray):
            column = _native(_as_text(column, name))
        plain[name] = column
        plain[name].info.description = table[name].info.description
    return plain


def _without_mask(column, name, *, is_identifier):
    mask = np.asarray(column.mask)
    missing = np.count_nonzero(mask)
    if missing and is_identifier:
        msg = f'the identifier {name!r} of the catalogue lacks {missing} of {len(column)} values'
        raise ValueError(msg)
    if isinstance(column, Masked):
        return column.filled(np.nan) if missing else column.unmasked
    if not missing:
        return column.filled(column.fill_value)
    values = np.asarray(column.data)
    if values.dtype.kind in 'SUO':
        return np.where(mask, b'' if values.dtype.kind == 'S' else '', values)
    if values.dtype.kind in 'iu' and np.abs(values[~mask].astype(float)).max() > _LARGEST_EXACT:
        msg = (
            f'the column {name!r} of the catalogue lacks {missing} values, and its whole numbers '
            'are too large to stand beside NaN: fill it'
        )
        raise ValueError(msg)
    values = np.where(mask, np.nan, values.astype(float))
    return values if column.unit is None else u.Quantity(values, column.unit)


def _as_text(column, name):
    """Return texts as numpy has them; other arrays as they are."""
    if column.dtype.kind == 'S':
        return np.char.decode(np.asarray(column), 'utf-8', 'replace')
    if column.dtype.kind != 'O':
        return column
    if not all(isinstance(value, str) for value in column):
        msg = f'the column {name!r} of the catalogue holds objects, want numbers or texts'
        raise TypeError(msg)
    return np.array(column.tolist(), dtype=str)


def _native(column):
    """Return an array in the order of bytes of the machine."""
    if column.dtype.isnative:
        return column
    return column.astype(column.dtype.newbyteorder('='))


class SurveyColumns:
    """
    What the table of every image of a survey looks like.

    Parameters
    ----------
    estimator : `~astroflux.estimators.FluxEstimator`
        The method.
    catalogue : `~astropy.table.QTable`
        What `plain_catalogue` returned, or some rows of it.
    unit : `~astropy.units.UnitBase`
        Unit of the fluxes.
    in_arcsec : bool
        Whether lengths are in arcsec and not in pixels.
    longest_name : int
        Of the names of images.
    options : dict
        Those of the estimator's ``measure``.
    is_recalibrated : bool
        Whether the columns of a `~astroflux.estimators.Recalibration` are added.
    """

    def __init__(
        self,
        estimator,
        catalogue,
        *,
        unit,
        in_arcsec,
        longest_name,
        options,
        is_recalibrated=False,
    ):
        self.own = catalogue[:0]
        self.identifier = identifier_column(catalogue)
        self.measured = _measured_columns(estimator, unit, in_arcsec, options)
        for name, description in FACTOR_COLUMNS.items() if is_recalibrated else ():
            self.measured[name] = np.zeros(0)
            self.measured[name].info.description = description
        identifiers = np.arange(0) if self.identifier is None else catalogue[self.identifier][:0]
        self.measured['id'] = np.asarray(identifiers)
        self.measured['id'].info.description = (
            'row of the source in the catalogue'
            if self.identifier is None
            else f'identifier of the source, the {self.identifier} of the catalogue'
        )
        images = np.zeros(0, f'U{longest_name}')
        for index, (name, values) in enumerate({'image': images, 'row': np.arange(0)}.items(), 1):
            self.measured.add_column(values, name=name, index=index)
            self.measured[name].info.description = _ADDED[name]

    def table(self, measured, own, *, image, rows):
        """
        Return a table of these columns.

        Parameters
        ----------
        measured : `~astropy.table.QTable` or None
            What the estimator has measured in an image; `None` for no source.
        own : `~astropy.table.QTable`
            Those rows of the catalogue.
        image : str
            Name of the image.
        rows : `~numpy.ndarray`
            Numbers of the rows of the catalogue.

        Raises
        ------
        `~astropy.units.UnitsError`
            If the unit of the image does not convert.
        """
        n = len(rows)
        given = {
            'id': rows if self.identifier is None else np.asarray(own[self.identifier]),
            'image': np.full(n, image),
            'row': rows,
        }
        known = {} if measured is None else {name: measured[name] for name in measured.colnames}
        return with_catalogue(_like(self.measured, known | given, n), own)

    def of_detected(self, measured, *, image):
        """Return a table as `table` does, of sources that were detected in an image."""
        n = len(measured)
        known = {name: measured[name] for name in measured.colnames}
        known |= {'image': np.full(n, image), 'row': np.arange(n)}
        return with_catalogue(_like(self.measured, known, n), _like(self.own, known, n))


def _measured_columns(estimator, unit, in_arcsec, options):
    """Return the columns that a method gives of any image, without rows."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = 'RA---TAN', 'DEC--TAN'
    wcs.wcs.cdelt = -1 / 3600, 1 / 3600
    # a measurement is made up of a galaxy, so that no network has to be loaded
    told = {name: value for name, value in options.items() if name == 'zeropoint'}
    noise = StdDevUncertainty(np.ones((32, 32)))
    image = CCDData(np.eye(32), unit=unit, wcs=wcs, uncertainty=noise)
    (cutout,) = iter_cutouts(image, **told)
    cutout.zeropoint = 0.0
    if not in_arcsec:
        cutout.pixel_scale = np.nan
    rows = RowCollector(estimator._extra_units)
    names = ('flux', 'flux_err', *estimator._extra_units)
    rows.add([cutout], [0], {name: [1.0] for name in names})
    return QTable(estimator._table(rows, options)[:0], copy=False)


def _like(template, known, n):
    """Return a table with the columns of a template, of what is known."""
    table = QTable()
    for name in template.colnames:
        like = template[name]
        table[name] = _column_like(like, known.get(name), n, name)
        table[name].info.description = like.info.description
        table[name].info.format = like.info.format
    return table


def _column_like(like, values, n, name):
    """Return values with the type and unit of another column; NaN if there are none."""
    unit = getattr(like, 'unit', None)
    if values is None:
        values = np.full(n, np.nan).astype(like.dtype)
        return values if unit is None else u.Quantity(values, unit)
    if unit is None:
        return np.asarray(values).astype(like.dtype)
    values = u.Quantity(values)
    if not values.unit.is_equivalent(unit):
        if not np.isnan(values.value).all():
            msg = (
                f'the {name} of the image is in {str(values.unit)!r}, which does not convert to '
                f'{str(unit)!r}, the unit of the survey'
            )
            raise u.UnitsError(msg)
        values = u.Quantity(values.value, unit)
    return values.to(unit)
