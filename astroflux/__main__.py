# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""``python -m astroflux``: the command line."""

from astroflux.cli import main

# processes that this one starts import it, too
if __name__ == '__main__':
    main(prog_name='python -m astroflux')
