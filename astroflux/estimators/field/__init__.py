# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""All sources of an image: each is measured without the light of the others."""

from astroflux.estimators.field._catalogue import SUFFIX, with_catalogue
from astroflux.estimators.field.measurement import FieldMeasurement

__all__ = ['SUFFIX', 'FieldMeasurement', 'measure_field']

NEIGHBORS = ('model', 'none')


def measure_field(
    estimator, image, catalogue, *, neighbors='model', passes=3, look=None, **options
):
    """
    Measure all sources of an image: `~astroflux.estimators.FluxEstimator.measure_field`.

    If neighbors are modelled, ``look`` is called with the `FieldMeasurement` and its table.
    """
    if neighbors not in NEIGHBORS:
        msg = f'neighbors must be one of {NEIGHBORS}, got {neighbors!r}'
        raise ValueError(msg)
    if neighbors == 'none':
        table = estimator.measure(image, positions=catalogue, **options)
    else:
        field = FieldMeasurement(estimator, image, catalogue, passes=passes, **options)
        table = field.run()
        if look is not None:
            look(field, table)
    return with_catalogue(table, catalogue)
