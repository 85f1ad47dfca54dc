# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The parts that a page is made of, tables and figures, and numbers as its text."""

import base64
from dataclasses import dataclass
from io import BytesIO

import jinja2
import numpy as np

__all__ = [
    'MISSING',
    'PAGE_DPI',
    'Cell',
    'Column',
    'PageFigure',
    'PageTable',
    'Row',
    'count_cell',
    'error_cell',
    'error_text',
    'number_cell',
    'number_text',
    'page_figure',
    'range_cell',
    'render_page',
    'with_unit',
]

# In place of a number that there is not.
MISSING = '\N{EN DASH}'

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
    Fill in the template of a page; that of another package may use those of this one.

    Parameters
    ----------
    template : str
        Name of a file in the package's ``templates``.
    content : dict
        What it asks for.
    package : str
        Where the template is.

    Returns
    -------
    html : str
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


def number_text(value, digits=3):
    """Write a number with so many digits."""
    if not np.isfinite(value):
        return MISSING
    # Whole numbers up to a million are read more easily without an exponent; what is rounded to
    # more digits than asked for is one of them.
    plain = 10**digits - 0.5 <= abs(value) < 1e6
    return _minus(f'{value:.0f}' if plain else f'{value:.{digits}g}')


def error_text(value, error):
    """Write a value and its error, to two digits of the error."""
    if not np.isfinite(value):
        return MISSING
    if not np.isfinite(error) or error <= 0:
        return number_text(value, 4)
    n_decimals = 1 - int(np.floor(np.log10(error)))
    if n_decimals > 5 or abs(value) >= 1e6:
        return f'{_minus(f"{value:.4g}")} ± {error:.2g}'
    n_decimals = max(n_decimals, 0)
    return f'{_minus(f"{value:.{n_decimals}f}")} ± {error:.{n_decimals}f}'


def with_unit(text, unit):
    """Put the unit behind a number, if there is a number."""
    return text if text == MISSING else f'{text} {unit}'.rstrip()


def _minus(text):
    """Use the sign for minus that is as wide as a plus."""
    return text.replace('-', '\N{MINUS SIGN}', 1) if text.startswith('-') else text


def count_cell(value):
    """Make an entry of a whole number."""
    return Cell(str(int(value)), int(value))


def number_cell(value):
    """Make an entry of a number of three digits."""
    value = float(value)
    return Cell(number_text(value), value if np.isfinite(value) else None)


def error_cell(value, error, scale):
    """Make an entry of a value and its error, both multiplied by ``scale``."""
    value, error = scale * float(value), scale * float(error)
    return Cell(error_text(value, error), value if np.isfinite(value) else None)


def range_cell(low, high):
    """Make an entry of the edges of a bin."""
    if not (np.isfinite(low) or np.isfinite(high)):
        return Cell('all', 0)
    return Cell(f'{low:g}{MISSING}{high:g}', low)
