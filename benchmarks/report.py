# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Put tables into documents, so that no figure is ever typed."""

import argparse
import re
from pathlib import Path

__all__ = ['DOCS', 'command_line', 'put_out', 'replace_block', 'rst_table']

DOCS = Path(__file__).parents[1] / 'docs' / 'benchmarks'


def command_line(doc, **counts):
    """
    Return a parser of what the commands of benchmarks have in common.

    Parameters
    ----------
    doc : str
        Docstring of the command; its first line is the description.
    **counts
        Options that are numbers: ``n=(300, 'galaxies')`` is ``-n`` with its default and its help.

    Returns
    -------
    parser : `~argparse.ArgumentParser`
        With ``--write``.
    """
    parser = argparse.ArgumentParser(description=doc.strip().split('\n')[0])
    for name, (default, text) in counts.items():
        option = f'-{name}' if len(name) == 1 else f'--{name}'
        parser.add_argument(option, type=int, default=default, help=text)
    parser.add_argument('--write', action='store_true', help='rewrite the documents')
    return parser


def put_out(table, name, *, write):
    """Print a table, and write it to the document of a name if asked to."""
    print(table)
    if write:
        (DOCS / f'{name}.rst.inc').write_text(table)


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
