# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Measurements as an astropy table: columns, units and the record of how they were made."""

import sys
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
from astropy import units as u
from astropy.table import QTable, TableFormatter

__all__ = ['build_meta', 'build_table']

# the columns in flux units
FLUX_COLUMNS = ('flux', 'flux_err', 'flux_lower', 'flux_upper')

# how numbers of the extra columns are printed unless their method says more
DEFAULT_FORMAT = '.4g'


class Standard(NamedTuple):
    """What a column of any method holds, and how it is printed; 'flux' is the unit of the flux."""

    description: str
    format: str | None = None
    unit: u.UnitBase | str | None = None


STANDARD_COLUMNS = {
    'id': Standard('identifier of the source, else the running number of the cutout'),
    'name': Standard('file or label of the cutout'),
    'x': Standard('x of the measured position in the image, the first pixel is 0', '.2f', u.pix),
    'y': Standard('y of the measured position in the image, the first pixel is 0', '.2f', u.pix),
    'flux': Standard('total flux', '.6g', 'flux'),
    'flux_err': Standard('1-sigma error of the flux', '.4g', 'flux'),
    'snr': Standard('flux / flux_err', '.1f'),
    'flags': Standard('quality flags, see astroflux.decode_flags'),
    'mag': Standard('AB magnitude of the flux', '.4f', u.mag),
    'mag_err': Standard('1-sigma error of the AB magnitude', '.4f', u.mag),
    'mag_limit': Standard(
        'AB magnitude of the upper end of the 95 % interval of the flux', '.4f', u.mag
    ),
    'ra': Standard('right ascension (ICRS) of the measured position', '.6f', u.deg),
    'dec': Standard('declination (ICRS) of the measured position', '.6f', u.deg),
    'flux_lower': Standard('lower end of the 68 % interval of the flux', '.6g', 'flux'),
    'flux_upper': Standard('upper end of the 68 % interval of the flux', '.6g', 'flux'),
    'noise_ratio': Standard(
        'scatter of the pixels at the edge over the stated noise; NaN if none is stated', '.2f'
    ),
}
"""The columns that methods have in common, in the order of the table."""

_DOTS = ' ...'


class _FirstColumns(TableFormatter):
    """Of a table that is too wide, astropy hides the columns in the middle; here the last ones."""

    def _pformat_table(self, table, max_lines=None, max_width=None, **options):
        lines, outs = super()._pformat_table(table, max_lines, -1, **options)
        _, width = self._get_pprint_size(max_lines, max_width)
        if options.get('html') or len(lines[0]) <= width:
            return lines, outs
        # below the header: a dash for each character of a column
        rule = lines[outs['n_header'] - 1]
        end = rule.rfind(' ', 0, width - len(_DOTS) + 1)
        if end < 0:
            # not even the first column fits
            end = rule.find(' ')
        return lines if end < 0 else [line[:end] + _DOTS for line in lines], outs


class FluxTable(QTable):
    """
    A `~astropy.table.QTable` of measurements, which prints as many of its first columns as fit.

    ``pprint_all`` prints all columns, ``info`` lists them, and a notebook shows them.
    """

    TableFormatter = _FirstColumns


def build_table(columns, unit, meta=None, descriptions=None, catalog_column=None, formats=None):
    """
    Make the table of measurements from plain arrays.

    Parameters
    ----------
    columns : dict of str to array_like
        1-d arrays of one length ``n``. ``flux``, ``flux_err`` and ``flags`` are required;
        ``flux_lower`` and ``flux_upper`` default to one ``flux_err`` on either side, ``id`` to
        the running number. The other columns that methods have in
        common, such as ``name``, ``x`` and ``mag``, are optional. All others are extra
        columns of the method, written as they are (a `~astropy.units.Quantity` keeps its unit),
        at the end.

    unit : `~astropy.units.UnitBase`
        Unit of the flux columns.

    meta : dict, optional
        The metadata of the table.

    descriptions : dict of str to str, optional
        What the extra columns hold, by their names.

    catalog_column : str, optional
        Name of a second column, beside ``id``, with what is in that.

    formats : dict of str to str, optional
        How the numbers of extra columns are printed, by default ``'.4g'``.

    Returns
    -------
    table : `~astropy.table.QTable`
        The columns that methods have in common, as far as they are known, then the extra ones; one
        row per measurement. Numbers are printed with few digits, and kept with all. Where not all
        columns fit, the first ones are printed.

    Raises
    ------
    ValueError
        If a required column is missing, or the columns differ in length.
    """
    missing = [name for name in ('flux', 'flux_err', 'flags') if name not in columns]
    if missing:
        msg = f'the columns {missing} are missing; got {sorted(columns)}'
        raise ValueError(msg)
    columns = dict(columns)
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        msg = f'all columns must have one length, got {lengths}'
        raise ValueError(msg)

    flux = np.asarray(columns['flux'], dtype=float)
    flux_err = np.asarray(columns['flux_err'], dtype=float)
    columns.setdefault('id', np.arange(len(flux)))
    columns.setdefault('flux_lower', flux - flux_err)
    columns.setdefault('flux_upper', flux + flux_err)

    with np.errstate(divide='ignore', invalid='ignore'):
        columns['snr'] = flux / flux_err
    columns['flags'] = np.asarray(columns['flags'], dtype=np.int32)

    table = FluxTable(meta=meta)
    for name, standard in STANDARD_COLUMNS.items():
        if name in columns:
            _add_standard(table, name, standard, columns.pop(name), unit)
        if name == 'id' and catalog_column is not None:
            table[catalog_column] = table['id']
            table[catalog_column].info.description = 'the same as id'
    for name, values in columns.items():
        table[name] = values
        table[name].info.description = (descriptions or {}).get(name)
        if table[name].dtype.kind == 'f':
            table[name].info.format = (formats or {}).get(name, DEFAULT_FORMAT)
    return table


def _add_standard(table, name, standard, values, flux_unit):
    """Add a column with all that is known of it."""
    if standard.unit is not None:
        is_flux = isinstance(standard.unit, str)
        values = u.Quantity(np.asarray(values, float), flux_unit if is_flux else standard.unit)
    table[name] = values
    table[name].info.description = standard.description
    if standard.format is not None:
        table[name].info.format = standard.format


def build_meta(method, *, parameters=None, arguments=None, messages=None, packages=()):
    """
    The record of how a table of measurements was made.

    Parameters
    ----------
    method : str
        The class of the estimator.

    parameters : dict, optional
        The parameters of its constructor, as plain values.

    arguments : dict, optional
        The arguments of the call, as plain values.

    messages : dict of int to str, optional
        Row number and reason of each row without a measurement.

    packages : iterable of str, optional
        Imported packages whose versions matter, besides astroflux, astropy and numpy.

    Returns
    -------
    meta : dict
        Keys ``method``, ``parameters``, ``arguments``, ``versions``, ``measured`` (UTC, ISO
        8601) and ``messages``; plain values throughout, so that the table can be written as ECSV.
        ``measured`` is a list, as tables that are stacked keep all items of lists.
    """
    names = ('astroflux', 'astropy', 'numpy', *packages)
    versions = {name: str(sys.modules[name].__version__) for name in names if name in sys.modules}
    return {
        'method': method,
        'parameters': dict(parameters or {}),
        'arguments': dict(arguments or {}),
        'versions': versions,
        'measured': [datetime.now(UTC).isoformat(timespec='seconds')],
        'messages': dict(messages or {}),
    }
