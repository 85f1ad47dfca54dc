# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What a stage of the study found, on disk: numbers as JSON, tables as CSV, figures as PNG."""

import json
import math
from pathlib import Path

import numpy as np

from astroflux._work import refuse_other_settings, write_whole

__all__ = ['read_study']

# All that a run found, in one file.
STUDY_NAME = 'study.json'


def comparison_row(what, published, ours):
    """Put what was published beside what was found here: numbers, text, or `None` for neither."""
    return {'what': what, 'published': published, 'ours': ours}


def write_outputs(folder, tables, figures):
    """Write tables as CSV, axes' figures as PNG, both by their files' names; return the names."""
    return {
        'tables': [write_table(table, folder / name) for name, table in tables.items()],
        'figures': [write_figure(axes, folder / name) for name, axes in figures.items()],
    }


def write_table(table, path):
    """Write a `~pandas.DataFrame` as CSV, without its index; return the name of the file."""
    with write_whole(path) as part:
        table.to_csv(part, index=False)
    return path.name


def write_figure(axes, path):
    """Write the figure of axes, or of an array of them, as PNG; return the name of the file."""
    figure = np.ravel(axes)[0].figure
    with write_whole(path) as part:
        figure.savefig(part, dpi=110, format='png')
    return path.name


def write_json(content, path):
    """Write what is fit for JSON, see `fit_for_json`."""
    with write_whole(path) as part:
        part.write_text(json.dumps(content, indent=1, allow_nan=False) + '\n', encoding='utf-8')


def read_json(path):
    """Read a file that `write_json` has written."""
    try:
        return json.loads(path.read_text(encoding='utf-8'))
    except ValueError as exc:
        msg = f'{path} is damaged: {exc}'
        raise ValueError(msg) from None


def claim(path, what, settings, *, resume=True):
    """Write what the work in a folder depends on; refuse work of other settings."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(settings, path)
    elif not resume:
        msg = f'{path.parent} holds a {what}: resume it, or name another folder'
        raise FileExistsError(msg)
    refuse_other_settings(f'the {what} in {path.parent}', read_json(path), settings)


def fit_for_json(value):
    """Make plain values of numbers (of numpy too), text, lists and dicts; `None` of NaN."""
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, dict):
        return {str(name): fit_for_json(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [fit_for_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def read_study(directory):
    """
    Read all that a run of the study found from its folder.

    It is a dict of ``settings``, ``machine`` and ``stages``: what each stage returned, its
    ``seconds``, and the ``version`` of this package that it ran with. A folder without a stage
    that is done raises a `FileNotFoundError`.
    """
    path = Path(directory) / STUDY_NAME
    if not path.is_file():
        msg = f'{directory} holds no run of the study: it has no {STUDY_NAME}'
        raise FileNotFoundError(msg)
    return read_json(path)
