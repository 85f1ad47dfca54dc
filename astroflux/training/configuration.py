# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Training configurations: TOML files with one section per part."""

import tomllib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from astroflux.training.loop import OptimiserSettings
from astroflux.training.observe import ObservationSettings

__all__ = ['TrainingConfiguration', 'read_configuration']


@dataclass(frozen=True)
class TrainingConfiguration:
    """
    All that a training needs.

    Attributes
    ----------
    name, description : str
        Of the weights.
    library, validation_library : dict
        For `~astroflux.training.render_library`.
    network : dict
        Keyword arguments of the network.
    optimiser : `~astroflux.training.loop.OptimiserSettings`
    observation, validation : `~astroflux.training.observe.ObservationSettings`
        How stamps are observed in training and to follow it.
    source : dict
        The file's content.
    """

    name: str
    description: str
    library: dict
    validation_library: dict
    network: dict
    optimiser: OptimiserSettings
    observation: ObservationSettings
    validation: ObservationSettings
    source: dict


def read_configuration(name_or_path):
    """
    Read a configuration by the name of its weights, or a TOML file.

    Parameters
    ----------
    name_or_path : str or path-like
        A name of a file in ``astroflux/training/configs``, or a path.

    Returns
    -------
    configuration : `TrainingConfiguration`

    Raises
    ------
    FileNotFoundError
        If there is none.
    """
    shipped = resources.files('astroflux.training') / 'configs' / f'{name_or_path}.toml'
    path = shipped if shipped.is_file() else Path(name_or_path)
    if not path.is_file():
        msg = f'no training configuration {str(name_or_path)!r}: want a shipped name or a TOML file'
        raise FileNotFoundError(msg)
    source = tomllib.loads(path.read_text())
    validation = dict(source['validation'])
    validation_library = {
        **source['library'],
        **{key: validation.pop(key) for key in ('seed', 'n_galaxies')},
    }
    return TrainingConfiguration(
        name=source['name'],
        description=source['description'],
        library=source['library'],
        validation_library=validation_library,
        network=source['network'],
        optimiser=OptimiserSettings(**source['optimiser']),
        observation=ObservationSettings(**source['observation']),
        validation=ObservationSettings(**{**source['observation'], **validation}),
        source=source,
    )
