# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""From simulation to a weights file."""

from astroflux.training.configuration import (
    StampSettings,
    TrainingConfiguration,
    read_configuration,
)
from astroflux.training.library import Library, load_library, render_library
from astroflux.training.loop import OptimiserSettings, Stamps, Trainer
from astroflux.training.observe import Observation, ObservationSettings, draw_indices, observe
from astroflux.training.run import make_stamps, make_trainer, train

__all__ = [
    'Library',
    'Observation',
    'ObservationSettings',
    'OptimiserSettings',
    'StampSettings',
    'Stamps',
    'Trainer',
    'TrainingConfiguration',
    'draw_indices',
    'load_library',
    'make_stamps',
    'make_trainer',
    'observe',
    'read_configuration',
    'render_library',
    'train',
]
