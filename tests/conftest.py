# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Settings of all tests."""

from hypothesis import HealthCheck, Phase, settings
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

# Properties are tried on few examples, the same in every run; on many, drawn at random, with
# pytest tests/trust/test_properties.py --hypothesis-profile=thorough
settings.register_profile(
    'quick',
    max_examples=4,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
settings.register_profile(
    'thorough',
    settings.get_profile('quick'),
    max_examples=200,
    derandomize=False,
    print_blob=True,
)
settings.load_profile('quick')
