# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Fits of light profiles; import the class from `astroflux.estimators`."""
