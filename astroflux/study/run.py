# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Run the study: stage by stage, each once, so that it goes on where it was interrupted."""

import os
import platform
import time
from dataclasses import asdict, dataclass, field
from functools import cached_property
from importlib import import_module, metadata
from pathlib import Path

import astroflux
from astroflux._locks import lock_folder
from astroflux.study.catalogue import StudySettings
from astroflux.study.dataset import SETTINGS_NAME, load_set
from astroflux.study.results import STUDY_NAME, claim, fit_for_json, read_json, write_json

__all__ = ['PRESETS', 'STAGE_NAMES', 'Context', 'Preset', 'run_study']

# The stages in the order of the report, each a function of its name in a module of the study.
STAGES = {
    'data': 'tabular',
    'exploration': 'tabular',
    'linear': 'tabular',
    'logistic': 'tabular',
    'forest': 'tabular',
    'cnn': 'cnn',
    'explanations': 'cnn',
    'joined': 'cnn',
    'components': 'tabular',
    'today': 'today',
    'accuracy': 'today',
}
STAGE_NAMES = tuple(STAGES)

# What numbers depend on, beside this package, whose version each stage tells of itself.
PACKAGES = ('numpy', 'scipy', 'astropy', 'photutils', 'pandas', 'scikit-learn', 'torch', 'galsim')


@dataclass(frozen=True)
class Preset:
    """How large a run of the study is: how many images it trains and tests with, and more."""

    n_train: int
    n_test: int
    #: Trainings are cut to so many epochs; `None`: as published.
    max_epochs: int | None = None
    #: Trainings of the first configuration, each of another seed.
    n_seeds: int = 5
    #: Trainings of each joined network.
    n_joined_seeds: int = 3
    #: Images that light-profile fits are timed on.
    n_profile_fits: int = 20
    #: Trees of a forest.
    n_trees: int = 100

    @property
    def settings(self):
        """The data set's `~astroflux.study.catalogue.StudySettings`."""
        return StudySettings(n_train=self.n_train, n_test=self.n_test)


PRESETS = {
    'smoke': Preset(200, 100, max_epochs=2, n_seeds=2, n_joined_seeds=1, n_profile_fits=2),
    'small': Preset(3000, 1000, max_epochs=5, n_seeds=3, n_joined_seeds=2, n_profile_fits=10),
    'full': Preset(30_000, 10_000),
}


@dataclass
class Context:
    """What a stage of the study is given."""

    preset: Preset
    #: Folder of the data set.
    data: Path
    #: Where the stage writes; it exists. The other stages' are beside it.
    folder: Path
    workers: int = 2
    progress: bool | None = None
    #: What the earlier stages returned, by their names.
    results: dict = field(default_factory=dict)

    @cached_property
    def train(self):
        """The training set, read at the first use."""
        return load_set(self.data, 'train', progress=self.progress)

    @cached_property
    def test(self):
        """The test set, read at the first use."""
        return load_set(self.data, 'test', progress=self.progress)


def load_stages():
    """Load the functions of all stages, by their names."""
    stages = STAGES.items()
    return {name: getattr(import_module(f'astroflux.study.{room}'), name) for name, room in stages}


def run_study(
    directory,
    preset,
    *,
    data=None,
    resume=False,
    workers=2,
    progress=None,
    stages=None,
    tell=lambda line: None,
):
    """
    Run the stages of the study, and keep what each of them found.

    Parameters
    ----------
    directory : path-like
        Folder of the run; made if need be. It gets ``settings.json``; a folder for each stage,
        with its tables, figures and ``results.json``, which is there only if the stage is done;
        and ``study.json``, all of it in one.
    preset : str or `Preset`
        How large the run is: ``'smoke'``, ``'small'`` or ``'full'``, or sizes of one's own.
    data : path-like, optional
        Folder of the data set, which may be there already; by default ``dataset`` in the folder
        of the run.
    resume : bool
        Whether to go on with a run that is in the folder. Stages that are done are not run again.
    workers : int
        Number of processes.
    progress : bool, optional
        Whether to show progress: a bar on a terminal or in a notebook, lines in a log. By
        default it appears when the work takes long.
    stages : dict of str to callable, optional
        Stages in place of the study's own: functions of a `Context`, by their names.
    tell : callable, optional
        Called with a line of text as each stage begins, ends or is found to be done.

    Returns
    -------
    study : dict
        What ``study.json`` holds, see `~astroflux.study.results.read_study`.

    Raises
    ------
    FileExistsError
        If the folder holds a run and ``resume`` is false.
    ValueError
        If the run in the folder was begun with other settings, or the data set is of others.
    BlockingIOError
        If another process runs the study in the folder.
    """
    preset = PRESETS[preset] if isinstance(preset, str) else preset
    directory = Path(directory)
    data = Path(data or directory / 'dataset')
    stages = load_stages() if stages is None else stages
    context = Context(preset, data, directory, workers=workers, progress=progress)
    with lock_folder(directory):
        settings = _run_settings(preset)
        claim(directory / SETTINGS_NAME, 'run of the study', settings, resume=resume)
        # stages read it, and do not ask
        claim(data / SETTINGS_NAME, 'data set', settings['data'])
        return _run_stages(stages, context, settings, tell)


def _run_stages(stages, context, settings, tell):
    """Run what is missing; keep what was found after each stage, so that there is a page of it."""
    machine = {
        'workers': context.workers,
        'cores': os.cpu_count(),
        'processor': platform.machine(),
        'system': platform.system(),
        'python': platform.python_version(),
    }
    study = {'settings': settings, 'machine': machine, 'stages': {}}
    directory = context.folder
    for number, (stage, function) in enumerate(stages.items(), start=1):
        # the same for all, so that the images are read once
        context.folder, context.results = directory / stage, dict(study['stages'])
        title = f'{stage} ({number} of {len(stages)})'
        study['stages'][stage] = _run_stage(function, context, title, tell)
        write_json(study, directory / STUDY_NAME)
    return study


def _run_settings(preset):
    """Collect what the numbers of a run depend on."""
    # torch and scikit-learn are slow to load: not before they are wanted
    from astroflux.study.cnn import CONFIGURATIONS
    from astroflux.study.tabular import SEED

    return {
        'preset': next((k for k, other in PRESETS.items() if other == preset), 'of its own'),
        'sizes': asdict(preset),
        'data': asdict(preset.settings),
        'seeds': {'models of the table': SEED, **{each.name: each.seed for each in CONFIGURATIONS}},
        'versions': {name: metadata.version(name) for name in PACKAGES},
    }


def _run_stage(function, context, title, tell):
    """Run a stage, unless it is done; return what it found."""
    path, spent = context.folder / 'results.json', context.folder / 'seconds.json'
    if path.exists():
        tell(f'{title}: done before')
        return read_json(path)
    tell(f'{title} ...')
    context.folder.mkdir(exist_ok=True)
    started = time.monotonic()
    try:
        found = fit_for_json({'tables': [], 'figures': [], **function(context)})
    finally:
        # attempts that fail count as well
        before = read_json(spent) if spent.exists() else 0
        write_json(before + time.monotonic() - started, spent)
    found |= {'version': astroflux.__version__, 'seconds': read_json(spent)}
    write_json(found, path)
    tell(f'{title}: done in {found["seconds"]:.0f} s')
    return found
