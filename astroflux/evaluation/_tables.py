# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Tables for people: what their columns are, and the text of their cells.

A table is specified once, by its `TableColumn`s, and written as part of a page, as text for
documents, or as lines of a terminal.
"""

from dataclasses import dataclass

import numpy as np
from astropy.table import Table

from astroflux.evaluation._numbers import (
    error_text,
    number_text,
    percent_text,
    plain_text,
    range_text,
    ratio_text,
)
from astroflux.evaluation._page import Cell, Column, PageTable, Row

__all__ = ['TableColumn', 'describe', 'document_cells', 'page_table', 'terminal_lines']


@dataclass(frozen=True)
class TableColumn:
    """
    A column of a table for people.

    Attributes
    ----------
    name : str
        Where its numbers are in the table of numbers.
    title : str
        How it is called, without the unit.
    kind : {'value', 'percent', 'number', 'share', 'count', 'range', 'text'}
        A value has its error in the column of numbers whose name ends in ``_err``, a number has
        none; ``percent`` and ``share`` are these, times 100. A range goes on to the column
        ``high``.
    description : str
        What its numbers are.
    """

    name: str
    title: str
    kind: str = 'value'
    description: str = ''

    @property
    def in_percent(self):
        """Whether it is a fraction or a difference of logarithms, to show in percent."""
        return self.kind in ('percent', 'share')

    @property
    def has_error(self):
        """Whether its values have errors."""
        return self.kind in ('value', 'percent')

    @property
    def head(self):
        """The title and the unit."""
        return f'{self.title} [%]' if self.in_percent else self.title

    def numbers(self, row):
        """Return the number of a row and its error, NaN if there is none, as they are shown."""
        scale = 100 if self.in_percent else 1
        value = row[self.name]
        error = row[f'{self.name}_err'] if self.has_error else np.nan
        return scale * float(getattr(value, 'value', value)), scale * float(error)


def describe(table, columns):
    """Give the columns of a table of numbers their descriptions; return it."""
    for column in columns:
        table[column.name].info.description = column.description
        if column.has_error:
            text = f'1-sigma bootstrap error of {column.name}'
            table[f'{column.name}_err'].info.description = text
    return table


def page_table(caption, columns, rows, *, group_by=None):
    """Make a table of a page from rows of numbers, with a line where ``group_by`` changes."""
    lines, last = [], object()
    for row in rows:
        group = row[group_by] if group_by else last
        lines.append(Row([_page_cell(column, row) for column in columns], group != last))
        last = group
    heads = [Column(column.head, column.kind != 'text') for column in columns]
    return PageTable(caption, heads, lines)


def _page_cell(column, row):
    if column.kind == 'text':
        return Cell(str(row[column.name]))
    if column.kind == 'count':
        return Cell(str(int(row[column.name])), int(row[column.name]))
    if column.kind == 'range':
        low, high = float(row[column.name]), float(row['high'])
        return Cell(range_text(low, high), low if np.isfinite(low) else 0)
    value, error = column.numbers(row)
    text = error_text(value, error) if column.has_error else number_text(value)
    return Cell(text, value if np.isfinite(value) else None)


def document_cells(columns, rows):
    """Write the heads of the columns, and the cells of each row, as texts of a document."""
    cells = [[_document_text(column, row) for column in columns] for row in rows]
    return [column.head for column in columns], cells


def _document_text(column, row):
    if column.kind in ('text', 'count'):
        return str(row[column.name])
    if column.kind == 'range':
        return range_text(row[column.name], row['high'], '-')
    value, error = column.numbers(row)
    if column.in_percent:
        return percent_text(value, error)
    return ratio_text(value, error) if column.has_error else plain_text(value)


def terminal_lines(columns, table):
    """Write lines of a terminal, the columns called as those of the numbers, without errors."""
    shown = Table()
    for column in columns:
        for name in ('low', 'high') if column.kind == 'range' else (column.name,):
            head = f'{name} [%]' if column.in_percent else name
            shown[head] = 100 * table[name] if column.in_percent else table[name]
            if shown[head].dtype.kind == 'f':
                shown[head].info.format = 'g' if column.kind == 'range' else '.3g'
    return shown.pformat(max_lines=-1, max_width=-1)
