# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""How a stage of the study writes its numbers, tables and figures."""

import math
import os

__all__ = ['comparison_row', 'plain', 'records', 'rounded', 'save_figure', 'write_table']

DPI = 110


def plain(value):
    """
    Make a number fit for JSON.

    Parameters
    ----------
    value : float or None
        Any number.

    Returns
    -------
    value : float or None
        `None` if it is not finite.
    """
    return float(value) if value is not None and math.isfinite(value) else None


def comparison_row(what, published, ours):
    """
    Put what was published beside what was found here.

    Parameters
    ----------
    what : str
        What it is.
    published, ours : float, str or None
        The two; `None` where there is none.

    Returns
    -------
    row : dict
        ``what``, ``published`` and ``ours``, fit for JSON.
    """

    def fit(value):
        return value if isinstance(value, str) else plain(value)

    return {'what': what, 'published': fit(published), 'ours': fit(ours)}


def records(table):
    """
    Make the rows of a table fit for JSON.

    Parameters
    ----------
    table : `~pandas.DataFrame`
        The table.

    Returns
    -------
    rows : list of dict
        Plain values by the names of the columns; `None` for what is not finite.
    """
    return [
        {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in row.items()
        }
        for row in table.to_dict('records')
    ]


def rounded(value, digits=2):
    """
    Write a number with so many digits that count, for a sentence.

    Parameters
    ----------
    value : float
        Any number.
    digits : int, optional
        How many.

    Returns
    -------
    text : str
    """
    return f'{float(f"{value:.{digits}g}"):,g}'


def write_table(table, path):
    """
    Write a table as CSV, so that it is never there in part.

    Parameters
    ----------
    table : `~pandas.DataFrame`
        The table; its index is not written.
    path : `~pathlib.Path`
        The file; it is overwritten.

    Returns
    -------
    name : str
        Of the file, without its folder.
    """
    torn = path.with_name(f'{path.name}.tmp')
    table.to_csv(torn, index=False)
    os.replace(torn, path)
    return path.name


def save_figure(figure, path):
    """
    Write a figure as PNG.

    Parameters
    ----------
    figure : `matplotlib.figure.Figure`
        The figure.
    path : `~pathlib.Path`
        The file; it is overwritten.

    Returns
    -------
    name : str
        Of the file, without its folder.
    """
    figure.savefig(path, dpi=DPI)
    return path.name
