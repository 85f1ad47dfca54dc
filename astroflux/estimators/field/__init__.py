# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""All sources of an image: each is measured without the light of the others."""

from astroflux.estimators.field._catalogue import with_catalogue
from astroflux.estimators.field._psf import with_psf
from astroflux.estimators.field.measurement import FieldMeasurement

__all__ = ['FieldMeasurement', 'measure_field']

NEIGHBORS = ('model', 'none')


def measure_field(estimator, image, catalogue, *, neighbors='model', passes=3, **options):
    """Measure all sources of an image: `~astroflux.estimators.FluxEstimator.measure_field`."""
    if neighbors not in NEIGHBORS:
        msg = f'neighbors must be one of {NEIGHBORS}, got {neighbors!r}'
        raise ValueError(msg)
    if neighbors == 'none':
        options = with_psf(image, catalogue, options)
        table = estimator.measure(image, positions=catalogue, **options)
    else:
        table = FieldMeasurement(estimator, image, catalogue, passes=passes, **options).run()
    return with_catalogue(table, catalogue)
