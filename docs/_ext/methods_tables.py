# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Directives of what the methods give, made from the methods themselves.

``standard-columns`` is a table of the columns that all have in common, ``method-columns`` has
those that each method adds, and ``method-flags`` the flags that each sets.
"""

from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

import astroflux
from astroflux.estimators.methods import KNOWN_METHODS
from astroflux.flags import FLAGS
from astroflux.tables import STANDARD_COLUMNS


def _classes():
    """Yield the names of methods that a class has on the command line, and the class."""
    for name in dict.fromkeys(method.estimator for method in KNOWN_METHODS.values()):
        methods = [key for key, method in KNOWN_METHODS.items() if method.estimator == name]
        yield methods, getattr(astroflux, name)


def _list_table(header, widths, rows):
    yield from ('.. list-table::', '   :header-rows: 1', f'   :widths: {widths}', '')
    for row in (header, *rows):
        for index, cell in enumerate(row):
            yield f'   {"* -" if index == 0 else "  -"} {cell}'
    yield ''


def _unit(unit):
    if unit is None:
        return ''
    # of extra columns, lengths in pixels become angles
    return {'flux': 'that of the cutouts'}.get(str(unit), str(unit))


def _standard_columns():
    rows = [
        (f'``{name}``', _unit(column.unit), column.description)
        for name, column in STANDARD_COLUMNS.items()
    ]
    return _list_table(('column', 'unit', 'what it holds'), '20 20 60', rows)


def _method_columns():
    rows = []
    for methods, cls in _classes():
        label = ', '.join(f'``{method}``' for method in methods)
        for name, unit in cls._extra_units.items():
            text = 'pix or arcsec' if str(unit) == 'pix' else _unit(unit)
            rows.append((label, f'``{name}``', text, cls._descriptions[name]))
            label = ''
    return _list_table(('method', 'column', 'unit', 'what it holds'), '15 25 15 45', rows)


def _method_flags():
    rows = []
    for flag in FLAGS:
        by_text = {}
        for methods, cls in _classes():
            if flag.name in cls._flags_set:
                by_text.setdefault(cls._flags_set[flag.name], []).extend(methods)
        label = f'``{flag.name}``'
        for text, methods in by_text.items():
            rows.append((label, ', '.join(f'``{method}``' for method in methods), text))
            label = ''
    return _list_table(('flag', 'method', 'when'), '20 30 50', rows)


def _directive(make_lines):
    class Table(SphinxDirective):
        def run(self):
            lines = StringList(list(make_lines()), source=__file__)
            return self.parse_text_to_nodes(lines)

    return Table


def setup(app):
    """Register the directives."""
    app.add_directive('standard-columns', _directive(_standard_columns))
    app.add_directive('method-columns', _directive(_method_columns))
    app.add_directive('method-flags', _directive(_method_flags))
    return {'parallel_read_safe': True, 'parallel_write_safe': True}
