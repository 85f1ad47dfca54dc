# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The directive ``study-page``: what a run of the study found, made from its numbers.

Its argument is the folder of the run, relative to that of the documentation: ``study.json``, and
for each stage its tables and figures. Without such a folder it is a sentence that says so.
"""

from pathlib import Path

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from astroflux.study.page import build_page
from astroflux.study.run_files import STUDY_NAME

SOURCE = (
    'The rest of this page is what the full run found, made from its numbers when this '
    'documentation was built.'
)
NOT_DONE = 'The full run of the study is not part of this version of the documentation.'


class StudyPage(SphinxDirective):
    """Sections of a run of the study, in the order of its report."""

    required_arguments = 1

    def run(self):
        name = self.arguments[0]
        folder = Path(self.env.srcdir) / name
        self.env.note_dependency(str(folder / STUDY_NAME))
        if not (folder / STUDY_NAME).is_file():
            return [nodes.paragraph(text=NOT_DONE)]
        page = build_page(folder)
        made = [paragraph(SOURCE), paragraph(page.lead)]
        if page.warning:
            made.append(nodes.warning('', paragraph(page.warning)))
        summary = [paragraph('Numbers of sections are those of the report.'), table(page.summary)]
        made.append(self.section('study-summary', 'At a glance', summary))
        for section in page.sections:
            content = [paragraph(section.intro)]
            for part in section.parts:
                content += self.part(part, name)
            made.append(self.section(f'study-{section.anchor}', section.heading, content))
        content = [facts(page.facts), table(page.times)]
        made.append(self.section('study-made', 'How it was made', content))
        return made

    def section(self, anchor, heading, content):
        made = nodes.section(ids=[anchor], names=[anchor])
        made += nodes.title(text=heading)
        made += content
        self.state.document.note_explicit_target(made)
        return made

    def part(self, part, name):
        made = [nodes.rubric(text=part.title)] if part.title else []
        if part.missing:
            made.append(paragraph(f'The stage {part.missing} is not done in this run.'))
        if part.comparison:
            made.append(table(part.comparison))
        if part.remarks:
            items = [nodes.list_item('', paragraph(remark)) for remark in part.remarks]
            made.append(nodes.bullet_list('', *items))
        # the images are relative to the page
        up = '../' * self.env.docname.count('/')
        for figure in part.figures:
            image = nodes.image(uri=f'{up}{name}/{figure.source}', alt=figure.alt)
            made.append(nodes.figure('', image, nodes.caption(text=figure.caption)))
        return made + [table(each) for each in part.tables]


def paragraph(text):
    return nodes.paragraph(text=text)


def facts(pairs):
    items = [
        nodes.field('', nodes.field_name(text=name), nodes.field_body('', paragraph(text)))
        for name, text in pairs
    ]
    return nodes.field_list('', *items)


def table(content):
    """Make a table of one of the page."""
    group = nodes.tgroup(cols=len(content.columns))
    group += [nodes.colspec(colwidth=1) for _ in content.columns]
    head = nodes.thead('', row([column.title for column in content.columns]))
    rows = [row([cell.text for cell in line.cells]) for line in content.rows]
    group += [head, nodes.tbody('', *rows)]
    made = nodes.table('', nodes.title(text=content.caption), group)
    # as wide as its content
    made['classes'].append('colwidths-auto')
    return made


def row(texts):
    return nodes.row('', *(nodes.entry('', paragraph(text)) for text in texts))


def setup(app):
    """Register the directive."""
    app.add_directive('study-page', StudyPage)
    return {'parallel_read_safe': True, 'parallel_write_safe': True}
