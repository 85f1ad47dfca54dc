# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Flux in the Petrosian aperture, by statmorph."""

from functools import lru_cache

import numpy as np
from photutils.aperture import CircularAperture, EllipticalAperture

from astroflux._optional import import_optional
from astroflux._quiet import quiet_libraries
from astroflux.estimators._checks import POSITIVE, one_of
from astroflux.estimators._docs import share_docs
from astroflux.estimators.photometry._errors import error_growth
from astroflux.estimators.photometry.base import MeasurementError, PhotometricFluxEstimator
from astroflux.estimators.photometry.finder import (
    FINDER_FLAGS,
    IS_FINDER,
    SourceFinder,
    neighbor_flag,
)
from astroflux.flags import MeasurementFlag

__all__ = ['PetrosianFluxEstimator']
__doctest_requires__ = {('PetrosianFluxEstimator',): ['statmorph']}

# statmorph's flag: from here on a measurement is bad, or there is none
_BAD, _CATASTROPHIC = 2, 4

# what statmorph would measure besides, which takes more than half of its time
_SKIPPED = (
    'asymmetry',
    'deviation',
    'gini',
    'gini_m20_bulge',
    'gini_m20_merger',
    'intensity',
    'm20',
    'multimode',
    'outer_asymmetry',
    'rhalf_circ',
    'rhalf_ellip',
    'rmax_circ',
    'rmax_ellip',
    'rms_asymmetry2',
    'sersic_aic',
    'sersic_amplitude',
    'sersic_bic',
    'sersic_chi2_dof',
    'sersic_ellip',
    'sersic_n',
    'sersic_rhalf',
    'sersic_theta',
    'sersic_xc',
    'sersic_yc',
    'shape_asymmetry',
    'smoothness',
    'sn_per_pixel',
)


@share_docs
class PetrosianFluxEstimator(PhotometricFluxEstimator):
    """
    Flux within two Petrosian radii [1]_ of the galaxy, by statmorph [2]_.

    The Petrosian radius is where the surface brightness has fallen to a fifth of its mean
    within. It needs the package statmorph, which the extra ``compare`` installs.

    Parameters
    ----------
    {aperture}

    eta : float, optional
        The ratio of the surface brightness at the Petrosian radius to its mean within.

    extent : float, optional
        Radius of the aperture in units of the Petrosian radius.

    {finder}

    Attributes
    ----------
    {aperture_correction}

    Notes
    -----
    The defaults, a ratio of 0.2 and an aperture of 2 radii, are those of the Sloan Digital Sky
    Survey [3]_, which used circles; statmorph's ellipse misses less of an inclined galaxy per
    noise. All else is as statmorph does by default: pixels of other segments, masked pixels and
    outliers count nothing; the aperture is centred where the asymmetry of the galaxy is least.
    The segments are those of `KronFluxEstimator`. What statmorph would measure besides, such as
    a Sersic profile, is skipped.

    The error is that of the noise in the aperture. The flag OUT_OF_RANGE is set when
    statmorph calls the measurement bad (its ``flag`` is 2 or more), for instance as no Petrosian
    radius is found on the stamp.

    `measure` adds the columns ``petrosian_radius`` (the semimajor axis of the ellipse, or the
    radius of the circle), ``axis_ratio`` (of the galaxy, by its second moments) and
    ``concentration``, 5 log10(r80 / r20).

    References
    ----------
    .. [1] Petrosian, V. 1976, ApJ, 209, L1
    .. [2] Rodriguez-Gomez, V. et al. 2019, MNRAS, 483, 4140
    .. [3] Blanton, M. R. et al. 2001, AJ, 121, 2358

    Examples
    --------
    {gaussian}
    >>> from astroflux import PetrosianFluxEstimator
    >>> PetrosianFluxEstimator().predict(ccd).round(1)
    <Quantity 500. adu>
    """

    _packages = ('photutils', 'statmorph')
    _needs = 'statmorph'
    _extra_units = {'petrosian_radius': 'pix', 'axis_ratio': None, 'concentration': None}
    _descriptions = {
        'petrosian_radius': 'Petrosian radius, along the major axis of an elliptical aperture',
        'axis_ratio': 'minor over major axis of the galaxy, by its second moments',
        'concentration': '5 log10(r80 / r20)',
    }
    _flags_set = {**FINDER_FLAGS, 'OUT_OF_RANGE': 'statmorph calls its measurement bad'}
    _checks = {
        'finder': IS_FINDER,
        'aperture': one_of('elliptical', 'circular'),
        'eta': (lambda value: 0 < value < 1, 'must be between 0 and 1'),
        'extent': POSITIVE,
    }

    def __init__(self, *, aperture='elliptical', eta=0.2, extent=2.0, finder=None):
        self.aperture = aperture
        self.eta = eta
        self.extent = extent
        self.finder = SourceFinder() if finder is None else finder

    def _measure_one(self, cutout):
        found = self.finder.find(cutout)
        morphology = self._measure_morphology(found)
        centre = (morphology.xc_asymmetry, morphology.yc_asymmetry)
        if self.aperture == 'elliptical':
            flux, radius = morphology.flux_ellip, morphology.rpetro_ellip
            major = self.extent * radius
            minor = major / morphology.elongation_asymmetry
            theta = morphology.orientation_asymmetry
            aperture = EllipticalAperture(centre, a=major, b=minor, theta=theta)
        else:
            flux, radius = morphology.flux_circ, morphology.rpetro_circ
            aperture = CircularAperture(centre, r=self.extent * radius)
        flags = neighbor_flag(aperture, found.segmentation.data, found.label)
        if morphology.flag >= _BAD:
            flags |= int(MeasurementFlag.OUT_OF_RANGE)

        # the noise of the pixels that statmorph has summed
        unused = np.ones(found.data.shape, bool)
        stamp = (
            slice(morphology.ymin_stamp, morphology.ymax_stamp + 1),
            slice(morphology.xmin_stamp, morphology.xmax_stamp + 1),
        )
        unused[stamp] = found.unusable[stamp]
        _, flux_err = aperture.do_photometry(
            found.data, error=found.noise, mask=unused, method='exact'
        )
        growth = error_growth(cutout, aperture, unused=unused)
        return {
            'flux': float(flux) * found.reference,
            'flux_err': float(flux_err[0]) * growth * found.reference,
            'flags': flags,
            'petrosian_radius': float(radius),
            'axis_ratio': 1 / float(morphology.elongation_asymmetry),
            'concentration': float(morphology.concentration),
        }

    def _measure_morphology(self, found):
        # its flag tells what is wrong
        with quiet_libraries(), np.errstate(all='ignore'):
            try:
                morphology = _morphology_class()(
                    found.data,
                    found.segmentation,
                    found.label,
                    mask=found.mask,
                    # statmorph 0.6 writes to it
                    weightmap=found.noise.copy(),
                    eta=self.eta,
                    petro_extent_flux=self.extent,
                )
            except AssertionError as exc:
                msg = f'statmorph cannot measure this source: {str(exc) or "an assertion failed"}'
                raise MeasurementError(MeasurementFlag.FAILED, msg) from exc
        if morphology.flag >= _CATASTROPHIC:
            msg = 'statmorph cannot measure this source: its flux is not positive'
            raise MeasurementError(MeasurementFlag.FAILED, msg)
        return morphology


@lru_cache(maxsize=1)
def _morphology_class():
    """Make a class that measures what is needed here: statmorph measures all its attributes."""
    statmorph = import_optional('statmorph', extra='compare')
    skipped = dict.fromkeys(_SKIPPED, np.nan)
    return type('PetrosianMorphology', (statmorph.SourceMorphology,), skipped)
