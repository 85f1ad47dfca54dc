# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Comparisons on disk: tables that anything can read, and what ties them together."""

import json
from pathlib import Path

from astropy.table import QTable

from astroflux._table_files import write_table
from astroflux._work import write_whole
from astroflux.evaluation.comparison import Comparison

__all__ = ['comparison_files', 'read_comparison', 'write_comparison']

TABLES = ('measurements', 'truth', 'speed')
RECORD_NAME = 'comparison.json'


def comparison_files(comparison):
    """Name the tables that `write_comparison` writes."""
    return [f'{name}.ecsv' for name in TABLES if getattr(comparison, name) is not None]


def write_comparison(comparison, directory, *, overwrite=False):
    """
    Write the tables of a comparison.

    Parameters
    ----------
    comparison : `~astroflux.evaluation.Comparison`
        All but its ``extremes`` is written.
    directory : path-like
        Folder of ``measurements.ecsv``, ``truth.ecsv`` (if known), ``speed.ecsv`` and
        ``comparison.json``; it must exist.
    overwrite : bool, optional
        Whether files that exist may be replaced.
    """
    directory = Path(directory)
    for name in comparison_files(comparison):
        table = getattr(comparison, name.removesuffix('.ecsv'))
        write_table(table, directory / name, overwrite=overwrite)
    record = {
        'title': comparison.title,
        'labels': comparison.labels,
        'has_truth': comparison.truth is not None,
        'meta': comparison.meta,
    }
    with write_whole(directory / RECORD_NAME) as part:
        part.write_text(json.dumps(record, indent=1) + '\n', encoding='utf-8')


def read_comparison(directory):
    """
    Read what `write_comparison` wrote.

    Parameters
    ----------
    directory : path-like
        The folder.

    Returns
    -------
    comparison : `~astroflux.evaluation.Comparison`
        Without ``extremes``.

    Raises
    ------
    FileNotFoundError
        If the folder does not hold one.
    """
    directory = Path(directory)
    path = directory / RECORD_NAME
    if not path.is_file():
        msg = f'{directory} holds no comparison: {RECORD_NAME} is missing'
        raise FileNotFoundError(msg)
    record = json.loads(path.read_text(encoding='utf-8'))
    tables = dict.fromkeys(TABLES)
    for name in TABLES if record['has_truth'] else ('measurements', 'speed'):
        tables[name] = QTable.read(directory / f'{name}.ecsv')
    return Comparison(
        title=record['title'],
        labels=record['labels'],
        **tables,
        extremes={name: [] for name in record['labels']},
        meta=record['meta'],
    )
