# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The galaxy-flux study of 2024, reproduced in full and set beside the estimators of today."""
