# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Training configurations: TOML files with one section per part."""

import tomllib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from astroflux.simulation.sky import SkyPopulation
from astroflux.training.loop import OptimiserSettings
from astroflux.training.observe import ObservationSettings

__all__ = ['StampSettings', 'TrainingConfiguration', 'read_configuration']

# Sections of stamps that are not trained on. They have galaxies of their own, and are observed
# as those of the training but for what they set.
HELD_OUT = ('validation', 'calibration')

SECTIONS = ('library', 'observation', *HELD_OUT, 'network', 'optimiser')

# The section with what is different in the second training, for galaxies in blocks of pixels.
BLOCKS = 'blocks'


@dataclass(frozen=True)
class StampSettings:
    """
    Which galaxies there are, and how they are observed.

    Attributes
    ----------
    library : dict
        For ``astroflux.training.library.render_library``.
    observation : `~astroflux.training.observe.ObservationSettings`
        For ``astroflux.training.observe.observe``.
    """

    library: dict
    observation: ObservationSettings


@dataclass(frozen=True)
class TrainingConfiguration:
    """
    All that a training needs.

    Attributes
    ----------
    name, description : str
        Of the weights.
    training, validation, calibration : `StampSettings`
        What is trained on, what follows the training, and what the errors are learned from.
    network : dict
        Keyword arguments of the network.
    optimiser : `~astroflux.training.loop.OptimiserSettings`
    blocks : `TrainingConfiguration` or None
        Of the second training, for galaxies in blocks of pixels, if there is to be one.
    source : dict
        The file's content.
    """

    name: str
    description: str
    training: StampSettings
    validation: StampSettings
    calibration: StampSettings
    network: dict
    optimiser: OptimiserSettings
    blocks: 'TrainingConfiguration | None'
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
    ValueError
        If it lacks a section.
    """
    shipped = resources.files('astroflux.training') / 'configs' / f'{name_or_path}.toml'
    path = shipped if shipped.is_file() else Path(name_or_path)
    if not path.is_file():
        msg = f'no training configuration {str(name_or_path)!r}: want a shipped name or a TOML file'
        raise FileNotFoundError(msg)
    source = tomllib.loads(path.read_text())
    if missing := [name for name in SECTIONS if name not in source]:
        msg = f'{path} lacks the sections {missing}: want {list(SECTIONS)}'
        raise ValueError(msg)
    return _configuration(source)


def _configuration(source):
    library, observation = source['library'], source['observation']
    stamps = {'training': StampSettings(library, _observation(observation))}
    for name in HELD_OUT:
        changes = dict(source[name])
        own = {key: changes.pop(key) for key in ('seed', 'n_galaxies')}
        observed = _observation({**observation, **changes})
        stamps[name] = StampSettings({**library, **own}, observed)
    return TrainingConfiguration(
        name=source['name'],
        description=source['description'],
        **stamps,
        network=source['network'],
        optimiser=OptimiserSettings(**source['optimiser']),
        blocks=_configuration(_of_blocks(source)) if BLOCKS in source else None,
        source=source,
    )


def _observation(settings):
    """Return the settings of a section, whose table ``sky`` is what is set of the sky."""
    sky = SkyPopulation(**settings.get('sky', {}))
    return ObservationSettings(**{**settings, 'sky': sky})


def _of_blocks(source):
    """Return the content of a file that would describe the second training alone."""
    first = {name: value for name, value in source.items() if name != BLOCKS}
    changes = source[BLOCKS]
    return {**first, **{name: {**first[name], **changes[name]} for name in changes}}
