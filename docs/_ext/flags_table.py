# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The directive ``flags-table``: the quality flags as a table, made from their registry.

Its argument is ``fatal`` (rows without a measurement) or ``warning`` (the others).
"""

from docutils.parsers.rst import directives
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

from astroflux.flags import FLAGS


class FlagsTable(SphinxDirective):
    """Table of the flags of one kind."""

    required_arguments = 1

    def run(self):
        kind = directives.choice(self.arguments[0], ('fatal', 'warning'))
        lines = [
            '.. list-table::',
            '   :header-rows: 1',
            '   :widths: 15 30 55',
            '',
            '   * - value',
            '     - name',
            '     - meaning',
        ]
        for flag in FLAGS:
            if flag.fatal == (kind == 'fatal'):
                lines += [
                    f'   * - {flag.bit}',
                    f'     - ``{flag.name}``',
                    f'     - {flag.description}',
                ]
        return self.parse_text_to_nodes(StringList(lines, source='astroflux/flags.py'))


def setup(app):
    """Register the directive."""
    app.add_directive('flags-table', FlagsTable)
    return {'parallel_read_safe': True, 'parallel_write_safe': True}
