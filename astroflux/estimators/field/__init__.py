# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""All sources of an image: each is measured without the light of the others."""

from dataclasses import asdict

from astroflux.cutouts._field_pixels import FieldPixels
from astroflux.estimators._defaults import PASSES
from astroflux.estimators.field._catalogue import SUFFIX, with_catalogue
from astroflux.estimators.field._psf import is_stars, with_psf
from astroflux.estimators.field.measurement import FieldMeasurement
from astroflux.estimators.recalibration import as_recalibration

__all__ = ['SUFFIX', 'FieldMeasurement', 'measure_field']

NEIGHBORS = ('model', 'none')

# Keywords that say something of known sources, and nothing of the image.
_OF_SOURCES = ('labels', 'stamp_size')


def measure_field(
    estimator,
    image,
    catalogue=None,
    *,
    detector=None,
    neighbors='model',
    passes=PASSES,
    recalibrate=None,
    look=None,
    **options,
):
    """
    Measure all sources of an image: `~astroflux.estimators.FluxEstimator.measure_field`.

    If neighbors are modelled, ``look`` is called with the `FieldMeasurement` and its table.
    """
    if neighbors not in NEIGHBORS:
        msg = f'neighbors must be one of {NEIGHBORS}, got {neighbors!r}'
        raise ValueError(msg)
    if recalibrate is not None:
        # now, as it may not be one
        recalibrate = as_recalibration(recalibrate)
    how = {'neighbors': neighbors, 'passes': passes, 'recalibrate': recalibrate, 'look': look}
    if catalogue is None:
        return _measure_detected(estimator, image, detector, how, options)
    if detector is not None:
        msg = 'a detector is for an image without a catalogue, and both are given'
        raise ValueError(msg)
    return with_catalogue(_measure(estimator, image, catalogue, **how, **options), catalogue)


def _measure(estimator, image, catalogue, *, neighbors, passes, recalibrate, look, **options):
    if neighbors == 'none':
        options = with_psf(image, catalogue, options)
        table = estimator.measure(image, positions=catalogue, **options)
    else:
        field = FieldMeasurement(estimator, image, catalogue, passes=passes, **options)
        table = field.run()
        if look is not None:
            look(field, table)
    return table if recalibrate is None else recalibrate.apply(table)


def _measure_detected(estimator, image, detector, how, options):
    """Measure the sources that are detected, without the sky if the detector estimates that."""
    from astroflux.estimators.field._detection import FieldDetector

    detector = FieldDetector() if detector is None else detector
    if not isinstance(detector, FieldDetector):
        msg = f'detector must be a FieldDetector, got {type(detector).__name__}'
        raise TypeError(msg)
    if options.get('labels') is not None:
        msg = 'labels are those of a catalogue, and there is none'
        raise ValueError(msg)
    if detector.background == 'estimate' and options.get('background') is not None:
        msg = 'a background is given, and the detector is to estimate it, too: want one of them'
        raise ValueError(msg)
    told = {name: value for name, value in options.items() if name not in _OF_SOURCES}
    if is_stars(told.get('psf')):
        # they are found in an image without its sky
        told.pop('psf')
    progress = told.pop('progress', None)
    pixels = FieldPixels.of(image, **told)
    shape = pixels.data.shape
    sources, sky = detector._run(pixels, progress)
    del pixels
    if sky is not None:
        options['background'] = sky
    options = with_psf(image, sources, options)
    if len(sources):
        table = _measure(estimator, image, sources, **how, **options)
    else:
        # that of any place has the columns
        middle = [((shape[1] - 1) / 2, (shape[0] - 1) / 2)]
        table = estimator.measure(image, positions=middle, **options)[:0]
        table.meta['messages'] = {}
    table.meta['detector'] = asdict(detector)
    # the positions are those of the measurement
    sources.remove_columns(['x', 'y'])
    return with_catalogue(table, sources)
