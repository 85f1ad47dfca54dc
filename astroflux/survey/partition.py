# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Measure a partition of a catalogue, as ``map_partitions`` of Dask and LSDB calls for."""

import warnings

import numpy as np
import pandas as pd
from astropy import units as u
from astropy.table import QTable
from astropy.utils.exceptions import AstropyUserWarning

from astroflux.cutouts._catalog import sky_in
from astroflux.estimators import make_estimator
from astroflux.estimators.field import SUFFIX
from astroflux.flags import MeasurementFlag as Flag
from astroflux.survey._image_task import OF_THE_CALL, measured_table, reason_of
from astroflux.survey.assignment import NOT_FINITE
from astroflux.survey.plan import SurveyPlan

__all__ = ['measure_partition', 'partition_meta']

# Columns of the table of an image that the user's data frame has itself.
_OF_CATALOGUE = ('id', 'row', 'ra', 'dec')

# Of texts, so that Dask has nothing to convert.
_TEXT = 'string[pyarrow]'

# Flags of the sources that are on no image; of those without a position; and of those on an image
# that cannot be read or measured.
_OFF, _NO_POSITION = int(Flag.NO_PIXELS | Flag.OFF_CENTRE), int(Flag.BAD_INPUT)
_UNREADABLE, _FAILED = int(Flag.UNREADABLE), int(Flag.FAILED)


def measure_partition(df, *, images, estimator=None, keep=(), unit=None, **options):
    """
    Measure the sources of a part of a catalogue, in the images of a survey.

    It is for ``map_partitions`` of a Dask data frame or an LSDB catalogue, together with
    `partition_meta`, and works on any pandas data frame.

    Parameters
    ----------
    df : `~pandas.DataFrame`
        Sources, with columns of positions on the sky that are called as one image's may be
        (:doc:`/fields`), such as ``ra`` and ``dec``, in degrees.
    images : path-like, `~astroflux.survey.SurveyImage`, or iterable of them
        All images of the survey, as `~astroflux.survey.find_images` takes; the same for each
        partition. Of all the headers are read, and the pixels of those with sources.
    estimator : str or `~astroflux.estimators.FluxEstimator`, optional
        The method, or its short name on the command line; by default the network.
    keep : bool or list of str, optional
        Which columns of the data frame the result has behind the measured ones; `True` for all.
        One whose name is measured, too, is called ``NAME_catalogue``.
    unit : `~astropy.units.Unit` or str, optional
        Of the fluxes; by default that of the first image that can be read.
    **options
        Further ones of `~astroflux.survey.measure_survey`: ``psf``, ``neighbors``, ``passes``,
        ``block_size`` and those of the method.

    Returns
    -------
    measured : `~pandas.DataFrame`
        A row for each of ``df``, in order, with its index. The columns are always the same, of the
        same types: ``image``, the name of the image; the flags, int32; and float64 for all others
        that the method measures. Their units are in ``attrs['units']``. A source that is not
        measured has a row of NaN and a flag: ``NO_PIXELS`` if it is on no image, ``BAD_INPUT`` if
        its position is not finite, ``UNREADABLE`` or ``FAILED`` if its image could not be read or
        measured; a warning says why. If the header of an image cannot be read, none is on it.

    Raises
    ------
    TypeError, ValueError
        If an argument is wrong, or there are no positions on the sky.

    Notes
    -----
    The sources of a partition are measured as those of a survey. Sources of another partition are
    not known to it: their light is not taken away, but fitted with that of the source, as in a
    cutout.
    """
    if estimator is None or isinstance(estimator, str):
        estimator = make_estimator(estimator or 'cnn')
    plan = SurveyPlan(images, _catalogue(df, options), estimator=estimator, **options)
    _warn_of_unreadable(plan.assignment)
    looks = plan.look() if unit is None else {'unit': str(u.Unit(unit)), 'in_arcsec': True}
    job = plan.job(looks, None)
    like = {
        name: column for name, column in job.columns.measured.items() if name not in _OF_CATALOGUE
    }
    values = {name: _empty(column, len(df)) for name, column in like.items()}
    values['flags'][plan.assignment.off] = [
        _NO_POSITION if reason == NOT_FINITE else _OFF for reason in plan.assignment.reasons
    ]
    for rows, measured in _measured(plan, job):
        for name in measured:
            column = measured[name]
            values[name][rows] = getattr(column, 'value', column)
    result = pd.DataFrame(values, index=df.index)
    result['image'] = result['image'].astype(_TEXT)
    for name in _names_kept(df, keep):
        result[name if name not in values else name + SUFFIX] = df[name].array
    result.attrs['units'] = {
        name: str(column.unit)
        for name, column in like.items()
        if getattr(column, 'unit', None) is not None
    }
    return result


def partition_meta(df, **arguments):
    """
    Return what Dask calls ``meta``: the columns and types that `measure_partition` returns.

    Parameters
    ----------
    df : `~pandas.DataFrame` or `dask.dataframe.DataFrame`
        The catalogue, or any part of it.
    **arguments
        Those of `measure_partition`.

    Returns
    -------
    meta : `~pandas.DataFrame`
        Without rows; its types and index are those of every result.
    """
    return measure_partition(getattr(df, '_meta', df).iloc[:0], **arguments)


def _catalogue(df, options):
    """Return a catalogue of the positions, and of what an option calls by its name."""
    numbers = [name for name in df.columns if pd.api.types.is_numeric_dtype(df[name].dtype)]
    table = {name: df[name].to_numpy(dtype=float, na_value=np.nan) for name in numbers}
    sky = sky_in(QTable(table, copy=False))
    catalogue = QTable({'ra': sky.ra, 'dec': sky.dec})
    psf = options.get('psf')
    if isinstance(psf, str) and psf in df.columns:
        catalogue[psf] = table[psf] if psf in table else df[psf].tolist()
    return catalogue


def _warn_of_unreadable(found):
    """Warn that sources may be on images of which not even the place is known."""
    if found.failed and len(found.off):
        reasons = '; '.join(f'{name}: {reason}' for name, reason in found.failed.items())
        msg = f'{len(found.off)} sources are on no image that can be read: {reasons}'
        warnings.warn(msg, AstropyUserWarning, stacklevel=3)


def _empty(column, n):
    """Return values for the rows of a data frame, where nothing is measured."""
    if column.dtype.kind in 'iu':
        return np.zeros(n, column.dtype)
    return np.full(n, np.nan if column.dtype.kind == 'f' else None)


def _measured(plan, job):
    """Yield the rows of the sources of each image, and columns of what was measured of them."""
    for index, image in enumerate(plan.images):
        task = plan.task(index, '')
        if not len(task.rows):
            continue
        try:
            table = measured_table(job, task)
        except OF_THE_CALL:
            raise
        except Exception as exc:  # a damaged image brings any error of any library
            msg = f'{len(task.rows)} sources of {image.name} are not measured: {reason_of(exc)}'
            warnings.warn(msg, AstropyUserWarning, stacklevel=3)
            flag = _UNREADABLE if isinstance(exc, OSError) else _FAILED
            yield (
                task.rows,
                {
                    'image': np.full(len(task.rows), image.name, object),
                    'x': task.x[: len(task.rows)],
                    'y': task.y[: len(task.rows)],
                    'flags': np.full(len(task.rows), flag),
                },
            )
        else:
            yield (
                task.rows,
                {
                    name: table[name]
                    for name in job.columns.measured.colnames
                    if name not in _OF_CATALOGUE
                },
            )


def _names_kept(df, keep):
    if isinstance(keep, bool):
        return list(df.columns) if keep else []
    if lacking := [name for name in keep if name not in df.columns]:
        msg = f'keep has {lacking}, which are no columns: there are {list(df.columns)}'
        raise ValueError(msg)
    return list(keep)
