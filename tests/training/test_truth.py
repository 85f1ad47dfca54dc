# Licensed under a 3-clause BSD style license - see LICENSE.rst
from dataclasses import fields

from astroflux.networks.outputs import SHAPE
from astroflux.training.library import Library, Truth
from astroflux.training.observe import Observation


def names_of(cls):
    return {field.name for field in fields(cls)}


def test_truth_has_what_the_network_says():
    assert {output.column for output in SHAPE} <= set(Truth._fields) <= names_of(Library)
    assert {output.name for output in SHAPE} <= names_of(Observation)
