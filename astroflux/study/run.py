# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Run the study: stage by stage, each once, so that it goes on where it was interrupted."""

import os
import platform
import time
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import astroflux
from astroflux.study.context import PRESETS, Context
from astroflux.study.run_files import (
    DATA_NAME,
    RESULTS_NAME,
    STUDY_NAME,
    fit_for_json,
    prepare_folder,
    read_json,
    versions,
    write_json,
)
from astroflux.study.stages import load_stages

__all__ = ['run_settings', 'run_study']

# Seconds of each attempt at a stage; none for one that was killed.
ATTEMPTS_NAME = 'attempts.json'


def run_study(
    directory,
    preset,
    *,
    data=None,
    resume=False,
    workers=2,
    progress=True,
    stages=None,
    tell=None,
):
    """
    Run the stages of the study, and keep what each of them found.

    Parameters
    ----------
    directory : path-like
        Folder of the run; made if need be. It gets ``settings.json``; a folder for each stage,
        with its tables, figures and ``results.json``, which is there only if the stage is done;
        and ``study.json``, all of it in one.
    preset : str or `~astroflux.study.context.Preset`
        How large the run is: ``'smoke'``, ``'small'`` or ``'full'``, or sizes of one's own.
    data : path-like, optional
        Folder of the data set, which may be there already; by default ``dataset`` in the folder
        of the run.
    resume : bool
        Whether to go on with a run that is in the folder. Stages that are done are not run again.
    workers : int
        Number of processes.
    progress : bool
        Whether to show progress bars.
    stages : dict of str to callable, optional
        Stages in place of those of `~astroflux.study.stages.load_stages`.
    tell : callable, optional
        Called with a line of text as each stage begins, ends or is found to be done.

    Returns
    -------
    study : dict
        What ``study.json`` holds, see `~astroflux.study.run_files.read_study`.

    Raises
    ------
    FileExistsError
        If the folder holds a run and ``resume`` is false.
    ValueError
        If the run in the folder was begun with other settings, the data set is of others, or the
        preset is unknown.
    """
    if workers < 1:
        msg = f'workers must be at least 1, got {workers}'
        raise ValueError(msg)
    directory = Path(directory)
    name, preset = _find_preset(preset)
    stages = load_stages() if stages is None else stages
    settings = run_settings(name, preset)
    data = Path(data) if data else directory / DATA_NAME
    _check_data(data, preset)
    prepare_folder(directory, settings, resume=resume)
    study = {'settings': settings, 'machine': _machine(workers), 'stages': {}}
    context = Context(
        preset=preset,
        data=data,
        folder=directory,
        workers=workers,
        progress=progress,
    )
    for number, (stage, function) in enumerate(stages.items(), start=1):
        context = _for_stage(context, directory / stage, study['stages'])
        found = _run_stage(function, context, f'{stage} ({number} of {len(stages)})', tell)
        study['stages'][stage] = found
        # after each stage, so that there is a page of what is done
        write_json(study, directory / STUDY_NAME)
    return study


def run_settings(name, preset):
    """
    Collect what the numbers of a run depend on.

    Parameters
    ----------
    name : str
        Of the preset.
    preset : `~astroflux.study.context.Preset`
        Its sizes.

    Returns
    -------
    settings : dict
        ``preset``, ``sizes``, ``data``, ``seeds`` and ``versions``, fit for JSON.
    """
    # torch and scikit-learn are slow to load: not before they are wanted
    from astroflux.study.cnn import CONFIGURATIONS
    from astroflux.study.tabular import SEED

    seeds = {'models of the table': SEED} | {each.name: each.seed for each in CONFIGURATIONS}
    return {
        'preset': name,
        'sizes': asdict(preset),
        'data': asdict(preset.settings),
        'seeds': seeds,
        'versions': versions(),
    }


def _find_preset(preset):
    if not isinstance(preset, str):
        names = [name for name, other in PRESETS.items() if other == preset]
        return (names[0] if names else 'of its own'), preset
    if preset not in PRESETS:
        msg = f'preset must be one of {", ".join(PRESETS)}, got {preset!r}'
        raise ValueError(msg)
    return preset, PRESETS[preset]


def _check_data(data, preset):
    """Refuse a data set that is not the preset's: later stages read it, and do not ask."""
    # loads GalSim
    from astroflux.study.dataset import SETTINGS_NAME as DATA_SETTINGS_NAME
    from astroflux.study.dataset import read_settings

    if not (data / DATA_SETTINGS_NAME).exists():
        return
    if (found := read_settings(data)) != preset.settings:
        msg = f'the data set in {data} is of {found}, want {preset.settings}'
        raise ValueError(msg)


def _machine(workers):
    return {
        'workers': workers,
        'cores': os.cpu_count(),
        'processor': platform.machine(),
        'system': platform.system(),
        'python': platform.python_version(),
    }


def _for_stage(context, folder, results):
    """Return the context of the next stage, with the images if they have been read."""
    following = replace(context, folder=folder, results=dict(results))
    for name in ('train', 'test'):
        # a copy of a frozen instance would read the images again
        if name in vars(context):
            vars(following)[name] = vars(context)[name]
    return following


def _run_stage(function, context, title, tell):
    """Run a stage, unless it is done; return what it found."""
    tell = tell or (lambda line: None)
    path = context.folder / RESULTS_NAME
    if path.exists():
        tell(f'{title}: done before')
        return read_json(path)
    tell(f'{title} ...')
    context.folder.mkdir(exist_ok=True)
    with _timed(context.folder / ATTEMPTS_NAME) as attempts:
        found = _checked(function(context), context.folder)
    found['version'] = astroflux.__version__
    found['seconds'] = sum(seconds for seconds in attempts if seconds is not None)
    found['attempts'] = len(attempts)
    found['killed'] = attempts.count(None)
    write_json(found, path)
    tell(f'{title}: done in {found["seconds"]:.0f} s')
    return found


@contextmanager
def _timed(path):
    """Add an attempt to the list in a file, and its seconds once it ends, however it does."""
    attempts = [*(read_json(path)['seconds'] if path.exists() else []), None]
    write_json({'seconds': attempts}, path)
    started = time.monotonic()
    try:
        yield attempts
    finally:
        attempts[-1] = time.monotonic() - started
        write_json({'seconds': attempts}, path)


def _checked(found, folder):
    """Return what a stage found as JSON has it, after a look for its files."""
    found = fit_for_json(found)
    for kind in ('tables', 'figures'):
        for name in found.setdefault(kind, []):
            if not (folder / name).is_file():
                msg = f'the stage {folder.name!r} names the file {name}, which is not in {folder}'
                raise FileNotFoundError(msg)
    return found
