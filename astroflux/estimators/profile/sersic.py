# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Flux of a Sersic profile, or of a bulge and a disc, fitted to the image."""

import math

import numpy as np

from astroflux.estimators._checks import POSITIVE_INTEGER, one_of
from astroflux.estimators._docs import share_docs
from astroflux.estimators.photometry.base import MeasurementError, PhotometricFluxEstimator
from astroflux.estimators.profile._imfit import FIT_TOLERANCE, Stamp, central_part, find_psf
from astroflux.estimators.profile._model import Limits
from astroflux.estimators.profile._search import search_one, search_two
from astroflux.estimators.profile._source import find_source, find_window
from astroflux.flags import MeasurementFlag

__all__ = ['SersicFluxEstimator']

__doctest_requires__ = {('SersicFluxEstimator',): ['pyimfit']}

# below this signal-to-noise ratio of the profile as a whole, there is no galaxy
_MIN_SNR = 3.0

# smallest half-light radius, in pixels
_MIN_RADIUS = 0.1

# A row is flagged if a neighbour is so close, in half-light radii of the galaxy.
_NEIGHBOUR_RADIUS = 3.0


@share_docs
class SersicFluxEstimator(PhotometricFluxEstimator):
    """
    Flux of a Sersic profile [1]_ fitted to the image, by imfit [2]_.

    The profile, convolved with the PSF, and a flat sky are fitted to the pixels by least
    squares. The flux is that of the profile out to infinity [3]_, and its error comes from the
    covariance of all parameters. This needs pyimfit: ``pip install 'astroflux[compare]'``.

    Parameters
    ----------
    n_components : {1, 2}, optional
        1 for a Sersic profile; 2 for a Sersic bulge and an exponential disc about one centre.

    n_starts : int, optional
        From how many starting points the minimum is sought; the best one found is taken.

    sersic_index_bounds : tuple of float, optional
        Limits of the index of a single profile.

    bulge_index_bounds : tuple of float, optional
        Limits of the index of a bulge.

    max_radius : float, optional
        Largest half-light radius along the major axis, in pixels; by default half the longer
        side of the stamp.

    mask_neighbors : bool, optional
        Whether to leave out the pixels of other sources detected on the stamp, which are not
        modelled.

    Attributes
    ----------
    {aperture_correction}

    Notes
    -----
    `measure` adds the columns ``half_light_radius`` (circularised, the geometric mean of the
    semi-axes; with two components that of their sum, as if both were circular),
    ``sersic_index`` (with two components the bulge's), ``axis_ratio`` and ``position_angle``
    (in degrees anticlockwise from the x axis; with two components the disc's),
    ``bulge_to_total`` (NaN with one component) and ``reduced_chi2``.

    Images of PSFs include the pixel, and imfit integrates profiles over the pixels itself, so
    that the pixel is taken out of the image of the PSF first. Where only the FWHM is known, the
    PSF is a Moffat profile of exponent 3.5, which has wings as the atmosphere makes them and a
    Gaussian has not; where nothing is known, the profile is not convolved.

    A row is flagged OUT_OF_RANGE if an index or a radius ends at its limit, and NEIGHBOUR if
    another source lies within three half-light radii, whether it is left out or not.

    References
    ----------
    .. [1] Sersic, J. L. 1963, Boletin de la Asociacion Argentina de Astronomia, 6, 41
    .. [2] Erwin, P. 2015, ApJ, 799, 226
    .. [3] Graham, A. W., & Driver, S. P. 2005, PASA, 22, 118

    Examples
    --------
    {gaussian}
    >>> from astroflux import SersicFluxEstimator
    >>> SersicFluxEstimator().predict(ccd).round(0)
    <Quantity 500. adu>
    """

    _extra_units = {
        'half_light_radius': 'pix',
        'sersic_index': None,
        'axis_ratio': None,
        'position_angle': 'deg',
        'bulge_to_total': None,
        'reduced_chi2': None,
    }
    _descriptions = {
        'half_light_radius': 'half-light radius, circularized, without the PSF',
        'sersic_index': 'Sersic index, of the bulge if there are two components',
        'axis_ratio': 'minor over major axis, of the disc if there are two components',
        'position_angle': 'position angle of the major axis, anticlockwise from the x axis',
        'bulge_to_total': 'flux of the bulge over the total flux',
        'reduced_chi2': 'chi2 of the fit over its degrees of freedom',
    }
    _formats = {'position_angle': '.1f'}
    _flags_set = {
        **PhotometricFluxEstimator._flags_set,
        'NEIGHBOUR': 'another source is within three half-light radii',
        'OUT_OF_RANGE': 'an index or a radius ends at its limit',
        'NOT_DETECTED': 'the fitted profile has a S/N of 3 or less, or none is at the position',
    }
    _packages = ('pyimfit', 'photutils')
    _needs = 'pyimfit'
    _checks = {'n_components': one_of(1, 2), 'n_starts': POSITIVE_INTEGER}

    def __init__(
        self,
        *,
        n_components=1,
        n_starts=2,
        sersic_index_bounds=(0.3, 8.0),
        bulge_index_bounds=(1.5, 8.0),
        max_radius=None,
        mask_neighbors=True,
    ):
        self.n_components = n_components
        self.n_starts = n_starts
        self.sersic_index_bounds = sersic_index_bounds
        self.bulge_index_bounds = bulge_index_bounds
        self.max_radius = max_radius
        self.mask_neighbors = mask_neighbors

    def _check_params(self):
        super()._check_params()
        for name in ('sersic_index_bounds', 'bulge_index_bounds'):
            limits = getattr(self, name)
            # imfit's approximation of b_n holds in this range
            if np.shape(limits) != (2,) or not 0.2 <= limits[0] < limits[1] <= 20:
                msg = f'{name} must be a lower and a higher limit from 0.2 to 20, got {limits!r}'
                raise ValueError(msg)
        if self.max_radius is not None and not self.max_radius >= 1:
            msg = f'max_radius must be at least 1 pixel, got {self.max_radius!r}'
            raise ValueError(msg)

    def _measure_one(self, cutout):
        _check_position(cutout)
        # In units of the noise, so that any unit of the data will do. In single precision, so
        # that rounding cannot send the solver another way in another unit.
        data, noise, reference = cutout.in_noise_units()
        data, noise = (image.astype(np.float32).astype(float) for image in (data, noise))
        source, neighbours = find_source(data, noise, cutout)
        bad = cutout.mask | neighbours if self.mask_neighbors else cutout.mask
        limits = Limits(
            centre=cutout.position,
            radius=(_MIN_RADIUS, float(self.max_radius or max(data.shape) / 2)),
            sersic_index=self.sersic_index_bounds,
            bulge_index=self.bulge_index_bounds,
        )
        psf = find_psf(cutout)
        rough = Stamp(
            data,
            noise,
            bad,
            central_part(psf, cutout.psf_fwhm),
            limits,
            find_window(source, data.shape, cutout.psf_fwhm),
        )
        model = search_one(rough, source, self.n_starts)
        if self.n_components == 2:
            model = search_two(rough, model, self.n_starts)
        stamp = Stamp(data, noise, bad, psf, limits)
        model, chi2 = stamp.fit(model, FIT_TOLERANCE[self.n_components])

        # by chi2, as the flux of a bright galaxy may have a large error if its components are
        # hard to tell from each other and the sky
        snr = math.sqrt(max(stamp.chi2_of_sky() - chi2, 0.0))
        if not (model.flux > 0 and snr > _MIN_SNR):
            msg = f'the signal-to-noise ratio of the profile fitted at the position is {snr:.2g}'
            raise MeasurementError(MeasurementFlag.NOT_DETECTED, msg)
        first, last = model.components[0], model.components[-1]
        return {
            'flux': model.flux * reference,
            'flux_err': stamp.flux_error(model) * cutout.noise_growth * reference,
            'flags': _find_flags(model, limits, neighbours),
            'half_light_radius': model.half_light_radius,
            'sersic_index': first.index,
            'axis_ratio': last.axis_ratio,
            'position_angle': (last.angle + 90) % 180 - 90,
            'bulge_to_total': first.flux / model.flux if first is not last else math.nan,
            'reduced_chi2': chi2 / max(stamp.n_pixels - model.n_parameters, 1),
        }


def _find_flags(model, limits, neighbours):
    flags = 0
    if limits.are_met(model):
        flags |= int(MeasurementFlag.OUT_OF_RANGE)
    rows, columns = np.nonzero(neighbours)
    distance = np.hypot(columns - model.x, rows - model.y)
    if (distance < _NEIGHBOUR_RADIUS * model.half_light_radius).any():
        flags |= int(MeasurementFlag.NEIGHBOUR)
    return flags


def _check_position(cutout):
    ny, nx = cutout.data.shape
    x, y = cutout.position
    if not (-0.5 <= x <= nx - 0.5 and -0.5 <= y <= ny - 0.5):
        msg = f'the position {cutout.position} is not on the stamp'
        raise MeasurementError(MeasurementFlag.NOT_DETECTED, msg)
