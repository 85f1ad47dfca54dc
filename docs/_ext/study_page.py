# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The numbers and tables of the full run of the study, ``docs/study``, on its page.

Role ``study``: a number of ``study.json``, as ``:study:`logistic.chance.accuracy .1%```. Parts of
the path are keys of a stage, numbers in a list, or what a row of it holds, as in
``today.methods.Kron.mse .2g``; two paths with a slash between them are a quotient.

Directives: ``study-rows`` with a stage, and how its rows begin, for what was published and found;
``study-summary`` for those of all models; ``study-table`` with a file and a caption;
``study-times``.
"""

import re
from pathlib import Path

from docutils import nodes
from sphinx.util.docutils import SphinxDirective, SphinxRole

from astroflux.study.page import comparison_table, read_table, summary_table, times_table
from astroflux.study.results import STUDY_NAME, read_study

FOLDER = 'study'

# Path and format of a number.
NUMBER = re.compile(r'(.+?)(?: ([+,]*(?:\.\d+)?[dfge%]?))?')

SUPERSCRIPTS = str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹')

# Tables with more rows are folded.
LONG_TABLE = 20


def number_text(study, text):
    """Write the number that the text of a role asks for."""
    path, spec = NUMBER.fullmatch(text).groups()
    values = [look_up(study, part) for part in path.split(' / ')]
    value = values[0] / values[1] if len(values) == 2 else values[0]
    if isinstance(value, dict):
        return ', '.join(f'{name} {item}' for name, item in value.items())
    written = format(value, spec or '')
    if isinstance(value, str):
        return written
    mantissa, has_exponent, exponent = written.replace('%', ' %').partition('e')
    if has_exponent:
        power = str(int(exponent)).translate(SUPERSCRIPTS)
        mantissa += f' \N{MULTIPLICATION SIGN} 10{power}'
    return mantissa.replace('-', '\N{MINUS SIGN}')


def look_up(study, path):
    """Find a value of a run."""
    value = {**study, **study['stages']}
    for name in path.split('.'):
        if isinstance(value, dict):
            value = value[name]
        elif name.isdigit():
            value = value[int(name)]
        else:
            value = [row for row in value if name in row.values()]
            value = value[0] if len(value) == 1 else value
    if isinstance(value, list):
        msg = f'{path} is not one value'
        raise TypeError(msg)
    return value


class StudyNumber(SphinxRole):
    """A number of the run."""

    def run(self):
        folder = Path(self.env.srcdir) / FOLDER
        self.env.note_dependency(folder / STUDY_NAME)
        try:
            return [nodes.Text(number_text(read_study(folder), self.text))], []
        except (KeyError, LookupError, TypeError, ValueError) as exc:
            message = self.inliner.reporter.error(f'no number {self.text!r}: {exc!r}')
            return [nodes.problematic(self.rawtext, self.rawtext)], [message]


class StudyRows(SphinxDirective):
    """What was published, and what a stage found."""

    required_arguments = 1
    optional_arguments = 1
    final_argument_whitespace = True

    def run(self):
        folder = Path(self.env.srcdir) / FOLDER
        self.env.note_dependency(folder / STUDY_NAME)
        return table_nodes(self.make_table(read_study(folder)['stages']))

    def make_table(self, stages):
        return comparison_table(stages[self.arguments[0]], *self.arguments[1:])


class StudySummary(StudyRows):
    """What was published of all models, and found."""

    required_arguments = 0

    def make_table(self, stages):
        return summary_table(stages)


class StudyTimes(StudyRows):
    """How long the stages took."""

    required_arguments = 0

    def make_table(self, stages):
        return times_table(stages)


class StudyTable(SphinxDirective):
    """A table of a stage."""

    required_arguments = 1
    has_content = True

    def run(self):
        path = Path(self.env.srcdir) / self.arguments[0]
        self.env.note_dependency(path)
        return table_nodes(read_table(path, ' '.join(self.content)))


def table_nodes(content):
    """Make a table of one of a page; long ones are folded."""
    group = nodes.tgroup(cols=len(content.columns))
    group += [nodes.colspec(colwidth=1) for _ in content.columns]
    head = nodes.thead('', row(content.columns, (column.title for column in content.columns)))
    rows = [row(content.columns, (cell.text for cell in line.cells)) for line in content.rows]
    group += [head, nodes.tbody('', *rows)]
    # as wide as its content
    table = nodes.table(
        '', nodes.title(text=content.caption), group, classes=['colwidths-auto', 'study']
    )
    if len(rows) <= LONG_TABLE:
        return [table]
    summary = f'<details><summary>{content.caption} ({len(rows)} rows)</summary>'
    return [
        nodes.raw('', summary, format='html'),
        table,
        nodes.raw('', '</details>', format='html'),
    ]


def row(columns, texts):
    """Make a row of a table."""
    made = nodes.row()
    for column, text in zip(columns, texts, strict=True):
        entry = nodes.entry('', nodes.paragraph(text=text))
        entry['classes'] += ['number'] * column.is_number
        made += entry
    return made


def setup(app):
    """Register role and directives."""
    app.add_role('study', StudyNumber())
    app.add_directive('study-rows', StudyRows)
    app.add_directive('study-summary', StudySummary)
    app.add_directive('study-table', StudyTable)
    app.add_directive('study-times', StudyTimes)
    return {'parallel_read_safe': True, 'parallel_write_safe': True}
