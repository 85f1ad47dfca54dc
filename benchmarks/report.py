# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Put tables into documents, so that no figure is ever typed."""

import re

__all__ = ['replace_block', 'rst_table']


def rst_table(header, rows):
    """
    Format a reStructuredText simple table.

    Parameters
    ----------
    header : list of str
    rows : list of list of str

    Returns
    -------
    text : str
    """
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    rule = '  '.join('=' * width for width in widths)
    lines = [
        '  '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [header, *rows]
    ]
    return '\n'.join([rule, lines[0], rule, *lines[1:], rule]) + '\n'


def replace_block(path, name, text):
    """
    Replace what stands between a document's two comments of a name.

    Parameters
    ----------
    path : `~pathlib.Path`
        The document, with ``.. begin NAME`` and ``.. end NAME``.
    name : str
        Name of the block.
    text : str
        Its new content.

    Raises
    ------
    ValueError
        If the document has no such block.
    """
    document = path.read_text()
    pattern = re.compile(rf'(\.\. begin {name}\n\n).*?(\n\.\. end {name}\n)', re.DOTALL)
    if not pattern.search(document):
        msg = f'{path} has no block {name!r}'
        raise ValueError(msg)
    path.write_text(pattern.sub(lambda match: match[1] + text + match[2], document))
