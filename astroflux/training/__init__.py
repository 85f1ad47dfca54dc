# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""From simulation to a weights file."""

from astroflux.training.configuration import (
    StampSettings,
    TrainingConfiguration,
    read_configuration,
)
from astroflux.training.loop import OptimiserSettings
from astroflux.training.observe import ObservationSettings
from astroflux.training.run import train

__all__ = [
    'ObservationSettings',
    'OptimiserSettings',
    'StampSettings',
    'TrainingConfiguration',
    'read_configuration',
    'train',
]
