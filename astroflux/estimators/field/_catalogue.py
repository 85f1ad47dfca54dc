# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""A table of measurements, with the columns that the user's catalogue has of the sources."""

from astropy.table import QTable, hstack

from astroflux.cutouts._catalog import as_table, identifier_column, is_table

__all__ = ['SUFFIX', 'with_catalogue']

# What joins the name of a column of the catalogue that the measurements have, too.
SUFFIX = '_catalogue'


def with_catalogue(table, catalogue):
    """
    Return a table of measurements and, behind them, the columns of the catalogue.

    Parameters
    ----------
    table : `~astropy.table.QTable`
        Measurements, as of all sources of the catalogue, or of some by their ``labels``.
    catalogue : object
        Of any kind; one that is no table has no columns of its own.

    Returns
    -------
    table : `~astropy.table.QTable`
        Of a column of the same name, the catalogue's is ``NAME_catalogue``.
    """
    if not is_table(catalogue):
        return table
    own = QTable(as_table(catalogue), copy=False)
    identifier = identifier_column(own)
    if len(own) != len(table):
        rows = {name: row for row, name in enumerate(own[identifier].tolist())}
        own = own[[rows[name] for name in table['id'].tolist()]]
    for name in own.colnames:
        if name == identifier and name in table.colnames:
            # it is the same
            own.remove_column(name)
        elif name in table.colnames:
            own.rename_column(name, name + SUFFIX)
    own.meta = {}
    joined = hstack([table, own], join_type='exact') if own.colnames else table
    joined = type(table)(joined, copy=False)
    joined.meta = table.meta
    return joined
