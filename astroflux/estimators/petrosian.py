# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Flux in the Petrosian aperture, by statmorph."""

import warnings
from functools import lru_cache

import numpy as np
from photutils.aperture import CircularAperture, EllipticalAperture

from astroflux._optional import import_optional
from astroflux.estimators._photometric import MeasurementError, PhotometricEstimator
from astroflux.estimators._segments import (
    check_params,
    detect,
    detection_params,
    neighbour_flag,
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


class PetrosianFluxEstimator(PhotometricEstimator):
    """
    Flux within two Petrosian radii [1]_ of the galaxy, by statmorph [2]_.

    The Petrosian radius is where the surface brightness has fallen to a fifth of its mean
    within. It needs the package statmorph, which the extra ``compare`` installs.

    Parameters
    ----------
    aperture : {'elliptical', 'circular'}, optional
        Shape of the aperture.

    eta : float, optional
        The ratio of the surface brightness at the Petrosian radius to its mean within.

    extent : float, optional
        Radius of the aperture in units of the Petrosian radius.

    nsigma : float, optional
        Detection threshold in units of the noise of a pixel (of the image before smoothing, as
        is the custom).

    npixels : int, optional
        How many connected pixels above the threshold make a source.

    deblend : bool, optional
        Whether to split the segment into several sources.

    nlevels : int, optional
        Number of levels of the deblending.

    contrast : float, optional
        Fraction of the flux of the segment that a part must have to become a source.

    kernel_fwhm : float, optional
        FWHM of the smoothing kernel in pixels; by default that of the PSF, or 3 if unknown.
        0 for no smoothing.

    match_radius : float, optional
        If no segment covers the position, the nearest one within this many pixels is taken.

    Attributes
    ----------
    aperture_correction_ : float
        True flux over measured flux, learned by `fit`.

    Notes
    -----
    The defaults, a ratio of 0.2 and an aperture of 2 radii, are those of the Sloan Digital Sky
    Survey [3]_, which used circles; statmorph's ellipse misses less of an inclined galaxy per
    noise. All else is as statmorph does by default: pixels of other segments, masked pixels and
    outliers count nothing; the aperture is centred where the asymmetry of the galaxy is least.
    The segments are those of `KronFluxEstimator`. What statmorph would measure besides, such as
    a Sersic profile, is skipped.

    The error is that of uncorrelated noise in the aperture. The flag OUT_OF_RANGE is set when
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
    >>> import numpy as np
    >>> from astropy.nddata import CCDData, StdDevUncertainty
    >>> from astroflux import PetrosianFluxEstimator
    >>> y, x = np.mgrid[-30:31, -30:31]
    >>> image = 500 * np.exp(-0.5 * (x**2 + y**2) / 3**2) / (2 * np.pi * 3**2)
    >>> ccd = CCDData(image, unit='adu', uncertainty=StdDevUncertainty(np.full((61, 61), 0.1)))
    >>> PetrosianFluxEstimator().predict(ccd).round(1)
    <Quantity 500. adu>
    """

    _packages = ('photutils', 'statmorph')
    _extra_units = {'petrosian_radius': 'pix', 'axis_ratio': None, 'concentration': None}

    def __init__(
        self,
        *,
        aperture='elliptical',
        eta=0.2,
        extent=2.0,
        nsigma=1.5,
        npixels=5,
        deblend=True,
        nlevels=32,
        contrast=0.001,
        kernel_fwhm=None,
        match_radius=5.0,
    ):
        self.aperture = aperture
        self.eta = eta
        self.extent = extent
        self.nsigma = nsigma
        self.npixels = npixels
        self.deblend = deblend
        self.nlevels = nlevels
        self.contrast = contrast
        self.kernel_fwhm = kernel_fwhm
        self.match_radius = match_radius

    def _check_params(self):
        check_params(self)
        import_optional('statmorph', extra='compare')

    def _measure_one(self, cutout):
        found = detect(cutout, **detection_params(self))
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
        flags = neighbour_flag(aperture, found.segmentation.data, found.label)
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
        return {
            'flux': float(flux) * found.reference,
            'flux_err': float(flux_err[0]) * found.reference,
            'flags': flags,
            'petrosian_radius': float(radius),
            'axis_ratio': 1 / float(morphology.elongation_asymmetry),
            'concentration': float(morphology.concentration),
        }

    def _measure_morphology(self, found):
        with warnings.catch_warnings(), np.errstate(all='ignore'):
            # its flag tells what is wrong
            warnings.simplefilter('ignore')
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
