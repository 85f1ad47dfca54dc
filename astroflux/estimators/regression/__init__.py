# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Regressions on features; import the class from `astroflux.estimators`."""
