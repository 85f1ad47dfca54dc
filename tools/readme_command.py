# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Print the shell command of a named block of ``README.rst``.

Usage: ``python tools/readme_command.py NAME``. The gate runs what this prints, so that what a
reader is told and what is tested are the same.
"""

import re
import sys
from pathlib import Path

README = Path(__file__).parents[1] / 'README.rst'


def readme_command(text, name):
    """
    Command in the ``console`` block of the given name.

    Parameters
    ----------
    text : str
        The reStructuredText.

    name : str
        The block's ``:name:``.

    Returns
    -------
    command : str
        The command, without its prompt.

    Raises
    ------
    ValueError
        If there is no such block, or it does not hold exactly one command.
    """
    block = re.search(
        rf'^\.\. code-block:: console\n +:name: {re.escape(name)}\n\n((?: +.*\n)+)',
        text,
        flags=re.MULTILINE,
    )
    commands = re.findall(r'^ +\$ (.+)$', block[1], flags=re.MULTILINE) if block else []
    if len(commands) != 1:
        msg = f'want one command in the block {name!r} of the README, found {len(commands)}'
        raise ValueError(msg)
    return commands[0]


if __name__ == '__main__':
    sys.stdout.write(readme_command(README.read_text(encoding='utf-8'), sys.argv[1]) + '\n')
