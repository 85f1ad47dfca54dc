# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The parts that a page is made of: tables and figures."""

import base64
from dataclasses import dataclass
from io import BytesIO

import jinja2

__all__ = [
    'PAGE_DPI',
    'Cell',
    'Column',
    'PageFigure',
    'PageTable',
    'Row',
    'page_figure',
    'render_page',
]

# Pixels of the page for an inch of a figure.
PAGE_DPI = 100
# More pixels than that, for screens that have them.
_DPI = 140


@dataclass
class Column:
    """A column of a table on the page."""

    title: str
    is_number: bool = True


@dataclass
class Cell:
    """An entry of a table on the page; ``value`` is what it sorts by, `None` the text."""

    text: str
    value: float | None = None


@dataclass
class Row:
    """A row of a table on the page, the first ``Cell`` its head."""

    cells: list[Cell]
    starts_group: bool = False


@dataclass
class PageTable:
    """A table on the page."""

    caption: str
    columns: list[Column]
    rows: list[Row]


@dataclass
class PageFigure:
    """A figure on the page."""

    name: str
    alt: str
    caption: str
    png: bytes
    width: int
    height: int

    @property
    def source(self):
        """The image as a URL that holds it."""
        return f'data:image/png;base64,{base64.b64encode(self.png).decode()}'


def render_page(template, content, package='astroflux.evaluation'):
    """
    Fill in a template, a file in the ``templates`` of a package, with what it asks for.

    One of another package may use those of this one.
    """
    packages = dict.fromkeys([package, 'astroflux.evaluation'])
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader(name, 'templates') for name in packages]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(content)


def page_figure(name, figure, *, alt, caption, dpi=_DPI):
    """Make an image of a figure of matplotlib; ``name`` is that of its file."""
    buffer = BytesIO()
    figure.savefig(buffer, format='png', dpi=dpi)
    width, height = (round(PAGE_DPI * inches) for inches in figure.get_size_inches())
    # an alternative text may have gaps where there is nothing to say
    return PageFigure(name, ' '.join(alt.split()), caption, buffer.getvalue(), width, height)
