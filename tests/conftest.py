# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Settings of all tests."""

from pytest_astropy_header.display import PYTEST_HEADER_MODULES, TESTED_VERSIONS

import astroflux

PYTEST_HEADER_MODULES.clear()
PYTEST_HEADER_MODULES.update(
    {
        'numpy': 'numpy',
        'astropy': 'astropy',
        'photutils': 'photutils',
        'scikit-learn': 'sklearn',
        'torch': 'torch',
        'galsim': 'galsim',
    }
)
TESTED_VERSIONS['astroflux'] = astroflux.__version__
