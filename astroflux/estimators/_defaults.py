# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Defaults that calls and commands share; commands must not import what measures."""

__all__ = ['PASSES']

# How often the sources of a field are measured at the most, if nothing is said.
PASSES = 4
