# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""A table of measurements to go on with: whether it may be, and its rows beside new ones."""

import json

import numpy as np
from astropy import units as u
from astropy.table import vstack

from astroflux._table_files import read_table
from astroflux._work import refuse_other_settings

__all__ = ['combine', 'names_in', 'plain_name', 'read_earlier']

# What of the metadata the numbers depend on.
SETTINGS = ('method', 'parameters', 'arguments', 'weights', 'weights_sha256', 'reading')


def read_earlier(path, record):
    """
    Read a table that was made with the settings of a record, and has names of files.

    `ValueError` if it was made with others, or is no such table.
    """
    try:
        table = read_table(path)
    except Exception as exc:
        msg = f'{path} cannot be gone on with: it is no readable table ({exc})'
        raise ValueError(msg) from exc
    if 'method' not in table.meta or not {'name', 'flux', 'flags'} <= {*table.colnames}:
        msg = f'{path} cannot be gone on with: it is no table of measurements of files'
        raise ValueError(msg)
    refuse_other_settings(f'the table {path}', _settings(table.meta), _settings(record))
    return table


def _settings(meta):
    """Return the part of metadata that must be equal, as a file would have kept it."""
    return json.loads(json.dumps({name: meta[name] for name in SETTINGS if name in meta}))


def names_in(table):
    """Return the row of each name in a table."""
    return {plain_name(name): row for row, name in enumerate(table['name'])}


def plain_name(name):
    """Return a name as every format of tables can hold it: FITS has nothing but ASCII."""
    return str(name).encode('ascii', 'backslashreplace').decode()


def combine(earlier, table, names):
    """
    Return rows of an earlier table and new ones in the order of their names.

    Rows of the earlier table with other names stay, at the end. The metadata are the new ones.
    """
    both = vstack(_in_same_units(earlier, table), metadata_conflicts='silent')
    for name in both.colnames:
        if hasattr(both[name], 'mask'):
            # a column that one of them lacks
            both[name] = both[name].filled(np.nan)
    rows = names_in(earlier)
    rows |= {name: len(earlier) + row for name, row in names_in(table).items()}
    wanted = [rows[name] for name in map(plain_name, names) if name in rows]
    order = [*wanted, *sorted({*rows.values()} - {*wanted})]
    messages = {int(row): text for row, text in earlier.meta.get('messages', {}).items()}
    messages |= {len(earlier) + row: text for row, text in table.meta['messages'].items()}

    both = both[order]
    both['id'] = np.arange(len(both))
    both.meta = {
        **table.meta,
        'messages': {new: messages[old] for new, old in enumerate(order) if old in messages},
    }
    return both


def _in_same_units(earlier, table):
    """Return copies of both whose columns have one unit; that of numbers wins over that of none."""
    earlier, table = earlier.copy(), table.copy()
    for name in [name for name in earlier.colnames if name in table.colnames]:
        if not isinstance(table[name], u.Quantity):
            continue
        old, new = u.Quantity(earlier[name]), u.Quantity(table[name])
        if not old.unit.is_equivalent(new.unit):
            if np.isnan(old).all():
                old = u.Quantity(old.value, new.unit)
            elif np.isnan(new).all():
                new = u.Quantity(new.value, old.unit)
            else:
                msg = (
                    f'the table has {name} in {str(old.unit)!r}, new rows have it in '
                    f'{str(new.unit)!r}: measure all files anew'
                )
                raise u.UnitsError(msg)
        earlier[name], table[name] = old, new
    return earlier, table
