# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tables of measurements as lines of a terminal."""

import os
import shutil

__all__ = ['format_essentials', 'format_table']

# What a terminal has room for, if a table has it.
ESSENTIALS = ('id', 'name', 'flux', 'flux_err', 'snr', 'mag', 'mag_err', 'flags')

MIN_WIDTHS = {'name': 12, 'flags': 16}
ELLIPSIS = '…'
# Of lines that go to a file or another program.
UNLIMITED = 100_000


def format_table(table):
    """Lines of a whole table, with the flags by name."""
    return _lines(_readable(table))


def format_essentials(table):
    """Lines with the essential columns, as wide as the terminal at most."""
    table = table[[name for name in ESSENTIALS if name in table.colnames]]
    if 'name' in table.colnames:
        # the number says no more
        table.remove_column('id')
        table['name'] = _without_common_folder(table['name'])
    table = _readable(table)
    excess = max(map(len, _lines(table))) - shutil.get_terminal_size((UNLIMITED, 0)).columns
    for name, shorten in (('name', _shorten_middle), ('flags', _shorten_end)):
        if excess > 0 and name in table.colnames:
            width = max(len(text) for text in table[name])
            new_width = max(min(width, MIN_WIDTHS[name]), width - excess)
            table[name] = [shorten(text, new_width) for text in table[name]]
            excess -= width - new_width
    return _lines(table)


def _lines(table):
    """All lines of a table, texts at the left."""
    align = ['<' if table[name].dtype.kind == 'U' else '>' for name in table.colnames]
    lines = table.pformat(max_lines=-1, max_width=-1, align=align)
    return [line.rstrip() for line in lines]


def _readable(table):
    """A copy with short numbers, and the flags by name."""
    from astropy.table import QTable

    from astroflux.flags import decode_flags

    table = QTable(table, copy=True)
    for name in table.colnames:
        if table[name].dtype.kind == 'f' and not table[name].info.format:
            table[name].info.format = '.5g'
    if 'flags' in table.colnames:
        names = decode_flags(table['flags'])
        table['flags'] = [' '.join(row) or '-' for row in names]
    return table


def _without_common_folder(names):
    """Names of files without the folder that all of them are in."""
    folders = {os.path.dirname(name) for name in names}
    if '' in folders or len({os.path.isabs(folder) for folder in folders}) > 1:
        return [str(name) for name in names]
    common = os.path.commonpath(folders)
    return [os.path.relpath(name, common) for name in names]


def _shorten_middle(text, width):
    """A text with its beginning and end, the latter being what tells files from each other."""
    if len(text) <= width:
        return text
    n_first = (width - 1) // 3
    return text[:n_first] + ELLIPSIS + text[len(text) - (width - 1 - n_first) :]


def _shorten_end(text, width):
    return text if len(text) <= width else text[: width - 1] + ELLIPSIS
