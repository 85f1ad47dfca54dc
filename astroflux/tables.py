# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Measurements as an astropy table: columns, units and the record of how they were made."""

import sys
from datetime import UTC, datetime

import numpy as np
from astropy import units as u
from astropy.table import QTable

__all__ = ['build_meta', 'build_table']

# the columns in flux units, in the order of the table
FLUX_COLUMNS = ('flux', 'flux_err', 'flux_lower', 'flux_upper')

_DESCRIPTIONS = {
    'id': 'running number of the cutout',
    'name': 'file or label of the cutout',
    'flux': 'total flux',
    'flux_err': '1-sigma error of the flux',
    'flux_lower': 'lower end of the 68 % interval of the flux',
    'flux_upper': 'upper end of the 68 % interval of the flux',
    'snr': 'flux / flux_err',
    'flags': 'quality flags, see astroflux.decode_flags',
    'noise_ratio': 'scatter of the pixels at the edge over the stated noise; NaN if none is stated',
}


def build_table(columns, unit, meta=None, descriptions=None):
    """
    Make the table of measurements from plain arrays.

    Parameters
    ----------
    columns : dict of str to array_like
        1-d arrays of one length ``n``. ``flux``, ``flux_err`` and ``flags`` are required;
        ``flux_lower`` and ``flux_upper`` default to one ``flux_err`` on either side, ``id`` to
        the running number. ``name`` (str) is optional. All others are extra columns of the
        method, written as they are (a `~astropy.units.Quantity` keeps its unit), after
        ``flags``.

    unit : `~astropy.units.UnitBase`
        Unit of the flux columns.

    meta : dict, optional
        The metadata of the table.

    descriptions : dict of str to str, optional
        What the extra columns hold, by their names.

    Returns
    -------
    table : `~astropy.table.QTable`
        Columns ``id``, ``name`` (if given), ``flux``, ``flux_err``, ``flux_lower``,
        ``flux_upper``, ``snr``, ``flags`` and the extra ones; one row per measurement.

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

    table = QTable(meta=meta)
    for name in ('id', 'name'):
        if name in columns:
            table[name] = columns.pop(name)
    for name in FLUX_COLUMNS:
        table[name] = u.Quantity(np.asarray(columns.pop(name), dtype=float), unit)
    with np.errstate(divide='ignore', invalid='ignore'):
        table['snr'] = flux / flux_err
    table['flags'] = np.asarray(columns.pop('flags'), dtype=np.int32)
    for name, values in columns.items():
        table[name] = values
    for name, text in {**(descriptions or {}), **_DESCRIPTIONS}.items():
        if name in table.colnames:
            table[name].info.description = text
    return table


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
        Keys ``method``, ``parameters``, ``arguments``, ``versions``, ``date`` (UTC, ISO 8601) and
        ``messages``; plain values throughout, so that the table can be written as ECSV.
    """
    names = ('astroflux', 'astropy', 'numpy', *packages)
    versions = {name: str(sys.modules[name].__version__) for name in names if name in sys.modules}
    return {
        'method': method,
        'parameters': dict(parameters or {}),
        'arguments': dict(arguments or {}),
        'versions': versions,
        'date': datetime.now(UTC).isoformat(timespec='seconds'),
        'messages': dict(messages or {}),
    }
