# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Which files a simulated data set on disk consists of, as its own tables list them."""

from pathlib import Path

__all__ = [
    'PROGRESS_NAME',
    'SETTINGS_NAME',
    'TRUTH_NAME',
    'cutout_name',
    'files_of_dataset',
    'inside',
    'names_in_progress',
    'read_truth',
]

TRUTH_NAME = 'truth.ecsv'
# One line per finished cutout: what a resumed run goes on from.
PROGRESS_NAME = 'truth.csv'
SETTINGS_NAME = 'settings.json'


def cutout_name(index, *, compress=False):
    """Return the name of the file of a cutout."""
    return f'{index:06d}.fits{".gz" if compress else ""}'


def names_in_progress(directory):
    """Return the names of the cutouts that are finished, whatever else is in the table."""
    path = Path(directory) / PROGRESS_NAME
    if not path.is_file():
        return []
    whole_lines = path.read_text(encoding='utf-8', errors='replace').split('\n')[:-1]
    return [line.split(',')[0].strip() for line in whole_lines[1:] if line.strip()]


def files_of_dataset(directory):
    """
    Return the paths of the cutouts of a data set, `None` if the folder holds none.

    Other files in the folder, such as those of an older data set, are not its own. `ValueError`
    for a name outside of the folder, and for a table that cannot be read.
    """
    directory = Path(directory)
    if (directory / TRUTH_NAME).is_file():
        truth = read_truth(directory / TRUTH_NAME)
        if 'file_name' not in truth.colnames:
            return None
        return inside(directory, truth['file_name'])
    if (directory / SETTINGS_NAME).is_file() and (directory / PROGRESS_NAME).is_file():
        # one that is being made, or was interrupted
        return inside(directory, names_in_progress(directory))
    return None


def read_truth(path):
    """Return a table of truth; `ValueError` if it is no readable table."""
    from astropy.table import QTable

    try:
        return QTable.read(path)
    except Exception as exc:  # a damaged table brings any error of any library
        msg = f'{path} is no readable table: {type(exc).__name__}: {exc}'
        raise ValueError(msg) from exc


def inside(directory, names):
    """Return the paths of files in a folder; `ValueError` if a name leads out of it."""
    paths = []
    for name in map(str, names):
        relative = Path(name)
        if not relative.parts or relative.is_absolute() or '..' in relative.parts:
            msg = f'the data set in {directory} lists {name!r}, which is no file in the folder'
            raise ValueError(msg)
        paths.append(Path(directory) / relative)
    return paths
