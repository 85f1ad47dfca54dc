# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""One table of many cutouts that are measured in parts, in one process or in several."""

from astroflux.estimators._rows import RowCollector

__all__ = ['join_parts', 'measure_part', 'record_of']


def measure_part(estimator, cutouts, **options):
    """Return the rows of some of the cutouts; the options are those of ``measure``."""
    return estimator._collect(cutouts, progress=False, **options)


def join_parts(estimator, parts, **options):
    """
    Return the table of all parts, as ``measure`` would have made it in one call.

    `~astropy.units.UnitsError` if their units do not convert.
    """
    rows = RowCollector(estimator._extra_units)
    for part in parts:
        rows.extend(part)
    return estimator._table(rows, options)


def record_of(estimator, **options):
    """Return the metadata that the table will have; raises for bad parameters of the estimator."""
    return estimator._record(options)
