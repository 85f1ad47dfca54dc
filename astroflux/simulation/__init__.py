# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""GalSim scenes with known truth: surveys, populations, datasets on disk."""
