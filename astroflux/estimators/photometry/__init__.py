# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Methods that sum pixels, and what they share; import the classes from `astroflux.estimators`."""
