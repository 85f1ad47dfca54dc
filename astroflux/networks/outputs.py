# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What the network says of a galaxy beside its flux: one list for all who need it.

A network has an output and an error for each entry that its settings name, its training a truth
and a loss, and a table of measurements two columns.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

__all__ = ['FIRST_OUTPUTS', 'QUANTILES', 'SHAPE', 'ShapeOutput']

# The predictive distribution of ln(flux), by these quantiles.
QUANTILES = (0.005, 0.025, 0.1587, 0.5, 0.8413, 0.975, 0.995)

# What a network says whose settings name nothing.
FIRST_OUTPUTS = ('ln_radius', 'concentration', 'bulge_to_total')

TYPICAL_CONCENTRATION = 3.5


@dataclass(frozen=True)
class ShapeOutput:
    """
    One number of a galaxy's shape.

    Attributes
    ----------
    name : str
        In the answer of the network.
    column : str
        In tables of measurements, and in the truth of the training.
    description : str
        What the column holds.
    value : callable
        From the raw output and ln of the radius of the fit to the number.
    floor : float
        Its error where the signal-to-noise ratio is high.
    gain : float
        How much larger than that of ln(flux) its error is otherwise.
    is_ln_of_pixels : bool
        Whether it is ln of a length in pixels, which is what the column holds.
    """

    name: str
    column: str
    description: str
    value: Callable
    floor: float
    gain: float
    is_ln_of_pixels: bool = False

    @property
    def error(self):
        """Name of its error in the answer of the network."""
        return f'{self.name}_error'

    def of_column(self, values):
        """Return the number, as the network has it, from values of the column in pixels."""
        return np.log(values) if self.is_ln_of_pixels else values


SHAPE = (
    ShapeOutput(
        name='ln_radius',
        column='half_light_radius',
        description='half-light radius, circularised and without the PSF',
        value=lambda raw, ln_radius: ln_radius + raw,
        floor=0.02,
        gain=1.0,
        is_ln_of_pixels=True,
    ),
    ShapeOutput(
        name='concentration',
        column='concentration',
        description='5 log10(r80 / r20) of the radii that hold 80 and 20 % of the light',
        value=lambda raw, ln_radius: TYPICAL_CONCENTRATION + raw,
        floor=0.1,
        gain=5.0,
    ),
    ShapeOutput(
        name='bulge_to_total',
        column='bulge_to_total',
        description='flux of the bulge over the total flux',
        value=lambda raw, ln_radius: raw.sigmoid(),
        floor=0.1,
        gain=3.0,
    ),
)
