# Licensed under a 3-clause BSD style license - see LICENSE.rst
from astroflux.networks.outputs import SHAPE
from astroflux.training.library import Truth


def test_truth_has_what_the_network_says():
    assert {output.column for output in SHAPE} <= set(Truth._fields)
