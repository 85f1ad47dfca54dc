# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Configuration of the documentation build."""

import sys
import urllib.request
from datetime import UTC, datetime
from pathlib import Path
from urllib.error import URLError

from sphinx_astropy.conf.v3 import *

import astroflux

sys.path.append(str(Path(__file__).parent / '_ext'))

# -- project ------------------------------------------------------------------
project = 'astroflux'
author = 'astroflux developers'
copyright = f'2024-{datetime.now(UTC).year}, {author}'
release = astroflux.__version__
version = release.split('+')[0]

# -- general ------------------------------------------------------------------
extensions += ['drawn', 'flags_table', 'methods_tables', 'sphinx_click', 'study_page']
exclude_patterns += ['_build', '_generated', '_templates']
templates_path = ['_templates']
# the diagrams need graphviz, which pip cannot install
extensions.remove('sphinx.ext.inheritance_diagram')
automodapi_inheritance_diagram = False
numpydoc_xref_param_type = False
todo_include_todos = False

# -- links --------------------------------------------------------------------
INVENTORIES = {
    'python': 'https://docs.python.org/3/',
    'numpy': 'https://numpy.org/doc/stable/',
    'astropy': 'https://docs.astropy.org/en/stable/',
    'photutils': 'https://photutils.readthedocs.io/en/stable/',
    'sklearn': 'https://scikit-learn.org/stable/',
    'torch': 'https://docs.pytorch.org/docs/stable/',
}


def _is_reachable(url):
    request = urllib.request.Request(url + 'objects.inv', method='HEAD')
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status == 200
    except (OSError, URLError):
        return False


# An inventory that does not answer is a warning, hence an error under -W. The documentation must
# build without a network too: then only the links to other projects are missing.
intersphinx_mapping = (
    {name: (url, None) for name, url in INVENTORIES.items()}
    if _is_reachable(INVENTORIES['python'])
    else {}
)
intersphinx_timeout = 30

# a link within this project must lead somewhere; one to another may be without inventory
nitpicky = True
nitpick_ignore_regex = [
    (r'py:.*', r'(?!astroflux\b).*'),
    (r'py:.*', r'astroflux\.(\w+\.)*_.*'),  # a private base class
]

linkcheck_timeout = 60
linkcheck_retries = 2
# publishers refuse programs
linkcheck_ignore = [r'https://doi\.org/.*', r'https://ui\.adsabs\.harvard\.edu/.*']

# -- pages --------------------------------------------------------------------
html_title = f'astroflux {version}'
html_static_path = ['_static']
htmlhelp_basename = 'astrofluxdoc'
