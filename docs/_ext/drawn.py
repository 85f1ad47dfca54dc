# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Before the pages are read: the tables and figures that take seconds to make."""

import subprocess
import sys
from pathlib import Path

# What tells that it was made, the command, and what it is made from.
MADE = (
    (
        'benchmarks/isolated.png',
        ('benchmarks/pages.py', 'docs/benchmarks', 'docs/_generated/benchmarks'),
        'docs/benchmarks/*.csv',
    ),
    ('weight_maps.png', ('docs/examples/weight_maps.py',), 'docs/examples/weight_maps.py'),
    ('fields.png', ('docs/examples/fields.py',), 'docs/examples/fields.py'),
    (
        'survey-fluxes.png',
        ('docs/examples/survey_tutorial.py',),
        'docs/survey_tutorial.rst',
    ),
    ('stars.png', ('docs/examples/stars.py',), 'docs/examples/stars.py'),
)


def draw(app):
    """Run the commands whose results are missing or older than what they are made from."""
    docs = Path(app.srcdir)
    for name, command, sources in MADE:
        made = docs / '_generated' / name
        newest = max(path.stat().st_mtime for path in docs.parent.glob(sources))
        if not made.exists() or made.stat().st_mtime < newest:
            subprocess.run([sys.executable, *command], cwd=docs.parent, check=True)


def setup(app):
    """Draw before the first page is read."""
    app.connect('builder-inited', draw)
    return {'parallel_read_safe': True, 'parallel_write_safe': True}
