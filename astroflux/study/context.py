# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What every stage of the study is given: sizes, folders, data, earlier results."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from astroflux.study.dataset import StudySettings
from astroflux.study.loader import load_set

__all__ = ['PRESETS', 'Context', 'Preset']


@dataclass(frozen=True)
class Preset:
    """
    How large a run of the study is.

    Attributes
    ----------
    n_train, n_test : int
        Number of images.
    max_epochs : int or None
        Trainings are cut to so many epochs; `None`: as published.
    n_seeds : int
        Trainings of the first configuration, each of another seed.
    n_joined_seeds : int
        Trainings of each joined network.
    n_profile_fits : int
        Images that light-profile fits are timed on.
    n_trees : int
        Trees of a forest.
    """

    n_train: int
    n_test: int
    max_epochs: int | None = None
    n_seeds: int = 5
    n_joined_seeds: int = 3
    n_profile_fits: int = 20
    n_trees: int = 100

    @property
    def settings(self):
        """The data set's `~astroflux.study.dataset.StudySettings`."""
        return StudySettings(n_train=self.n_train, n_test=self.n_test)


PRESETS = {
    'smoke': Preset(200, 100, max_epochs=2, n_seeds=2, n_joined_seeds=1, n_profile_fits=2),
    'small': Preset(3000, 1000, max_epochs=5, n_seeds=3, n_joined_seeds=2, n_profile_fits=10),
    'full': Preset(30_000, 10_000),
}


@dataclass(frozen=True)
class Context:
    """
    What a stage of the study is given.

    Attributes
    ----------
    preset : `Preset`
        How large the run is.
    data : `~pathlib.Path`
        Folder of the data set.
    folder : `~pathlib.Path`
        Where the stage writes; it exists. The other stages' are beside it.
    workers : int
        Number of processes.
    progress : bool
        Whether to show progress bars.
    results : dict of str to dict
        What the earlier stages returned, by their names.
    """

    preset: Preset
    data: Path
    folder: Path
    workers: int = 2
    progress: bool = True
    results: dict = field(default_factory=dict)

    @cached_property
    def train(self):
        """The training set, read at the first use."""
        return load_set(self.data, 'train', progress=self.progress)

    @cached_property
    def test(self):
        """The test set, read at the first use."""
        return load_set(self.data, 'test', progress=self.progress)
