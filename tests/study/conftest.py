# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""A data set of a few galaxies, and a run, made once for all tests of the study."""

import pytest

from astroflux.study.catalogue import StudySettings
from astroflux.study.dataset import write_study_dataset
from astroflux.study.page import write_page
from astroflux.study.run import Context, Preset, run_study

SETTINGS = StudySettings(n_train=30, n_test=12, seed=5)


@pytest.fixture(scope='session')
def study_settings():
    return SETTINGS


@pytest.fixture(scope='session')
def study_folder(tmp_path_factory):
    """Folder of a data set; not to be changed."""
    folder = tmp_path_factory.mktemp('study') / 'data'
    write_study_dataset(folder, SETTINGS, workers=1, progress=False)
    return folder


@pytest.fixture
def study_context(study_folder, tmp_path):
    """What a stage is given, on the data set of `study_folder`."""
    (tmp_path / 'stage').mkdir()
    preset = Preset(30, 12, max_epochs=1, n_seeds=2, n_joined_seeds=1, n_profile_fits=1, n_trees=5)
    return Context(preset, study_folder, tmp_path / 'stage', workers=1, progress=False)


@pytest.fixture(scope='session')
def smoke_run(tmp_path_factory):
    """Folder of a run of all stages, with its page; not to be changed."""
    pytest.importorskip('pyimfit')
    folder = tmp_path_factory.mktemp('study') / 'smoke'
    sizes = {'max_epochs': 1, 'n_seeds': 2, 'n_joined_seeds': 1, 'n_profile_fits': 1, 'n_trees': 10}
    with pytest.MonkeyPatch.context() as patch:
        # the speeds need not be good to the percent
        patch.setattr('astroflux.study.today.FEWEST_TIMED', 4)
        run_study(folder, Preset(60, 40, **sizes), workers=1, progress=False)
    write_page(folder)
    return folder
