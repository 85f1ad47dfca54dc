# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The tables of predictions that the stages of the study share."""

import numpy as np
import pandas as pd

__all__ = ['CNN_NAMES', 'PREDICTIONS_NAME', 'read_predictions']

PREDICTIONS_NAME = 'predictions.csv'

CNN_NAMES = ('cnn-1', 'cnn-2', 'cnn-3')

# Between a logarithm that was written to a file and one that is taken again.
TOLERANCE = 1e-5


def read_predictions(context, stage, columns):
    """
    Read what an earlier stage predicted for the test set.

    Parameters
    ----------
    context : `~astroflux.study.context.Context`
        Of the stage that wants to know.
    stage : str
        Name of the earlier stage.
    columns : sequence of str
        Columns that are wanted.

    Returns
    -------
    predictions : `~pandas.DataFrame`
        These columns, row by row the galaxies of the test set.

    Raises
    ------
    FileNotFoundError
        If the stage has not been run.
    ValueError
        If a column is missing, or the predictions are not of these galaxies.
    """
    path = context.folder.parent / stage / PREDICTIONS_NAME
    if not path.is_file():
        msg = f'there is no {path}: run the stage {stage!r} first'
        raise FileNotFoundError(msg)
    table = pd.read_csv(path)
    if missing := [name for name in ('img_number', 'actual', *columns) if name not in table]:
        msg = f'{path} has no column {", ".join(missing)}; it has {", ".join(table.columns)}'
        raise ValueError(msg)
    numbers = context.test.table['img_number'].to_numpy()
    if len(table) != len(numbers) or {*table['img_number']} != {*numbers}:
        msg = f'{path} is not of the galaxies of the test set: run the stage {stage!r} again'
        raise ValueError(msg)
    table = table.set_index('img_number').loc[numbers].reset_index()
    wrong = np.flatnonzero(np.abs(table['actual'] - context.test.log_flux) > TOLERANCE)
    if wrong.size:
        row = wrong[0]
        msg = (
            f'{path} has the true log flux {table["actual"].iloc[row]:.6f} for image '
            f'{numbers[row]}, the test set {context.test.log_flux[row]:.6f}'
        )
        raise ValueError(msg)
    return table[list(columns)]
