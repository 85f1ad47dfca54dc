# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""MAG_AUTO of SExtractor, by its library sep."""

import numpy as np

from astroflux._optional import import_optional
from astroflux.estimators._flux_auto import AutoFluxEstimator, AutoSource
from astroflux.estimators._photometric import MeasurementError
from astroflux.estimators._segments import find_label
from astroflux.flags import MeasurementFlag

__all__ = ['SEPFluxEstimator']

__doctest_requires__ = {('SEPFluxEstimator',): ['sep']}

# Kron's radius is measured in an ellipse of this many semimajor axes
_KRON_EXTENT = 6.0


class SEPFluxEstimator(AutoFluxEstimator):
    """
    SExtractor's FLUX_AUTO [1]_ [2]_ of the galaxy, by its library sep [3]_.

    Connected pixels above a threshold in the filtered image make sources, which are deblended
    and cleaned; the pixels whose centre lies in the Kron ellipse of the source at the position
    are summed. It needs the package sep, which the extra ``compare`` installs.

    Parameters
    ----------
    nsigma : float, optional
        Detection threshold in units of the noise of a pixel (DETECT_THRESH).

    npixels : int, optional
        How many connected pixels above the threshold make a source (DETECT_MINAREA).

    deblend : bool, optional
        Whether to split sources.

    nlevels : int, optional
        Number of levels of the deblending (DEBLEND_NTHRESH).

    contrast : float, optional
        Fraction of the flux that a part must have to become a source (DEBLEND_MINCONT).

    auto_params : tuple of float, optional
        Factor on the Kron radius, and the least radius after that, in units of the semimajor
        axis (PHOT_AUTOPARAMS).

    min_radius : float, optional
        An ellipse whose mean radius is smaller than this many pixels is replaced by a circle of
        this radius.

    neighbours : {'correct', 'mask', 'none'}, optional
        What becomes of the pixels of other sources within the ellipse: replaced by those
        opposite, left out, or summed all the same (MASK_TYPE). Masked pixels are replaced by
        those opposite with ``'correct'``, else left out.

    kernel_fwhm : float, optional
        FWHM of the Gaussian filter of the detection in pixels (10 at most); by default that of
        the PSF, or SExtractor's default filter of 3 by 3 pixels if it is unknown. 0 for none.

    filter_type : {'matched', 'conv'}, optional
        Whether the threshold is in units of the noise of the filtered image, as sep does by
        default when it is given the noise, or of that of a pixel of the image, as the program
        does. The former goes deeper by the factor by which the filter averages.

    match_radius : float, optional
        If no source covers the position, the nearest one within this many pixels is taken.

    Attributes
    ----------
    aperture_correction_ : float
        True flux over measured flux, learned by `fit`.

    Notes
    -----
    The defaults are those of sep, which are those of SExtractor (its ``default.sex``) but for
    the matched filter: it finds the wings of the galaxy better, so that the ellipse is larger
    and less light is missed. The recipe is that of the documentation of sep ("Equivalent of
    FLUX_AUTO"), with the least radius applied and the neighbours replaced as the program does,
    which sep leaves to its user. With ``filter_type='conv'`` the fluxes are those of
    `SExtractorFluxEstimator`.

    `measure` adds the columns ``kron_radius`` (in units of the semimajor axis of the source's
    second moments), ``semimajor_axis`` (of the aperture) and ``axis_ratio``.

    References
    ----------
    .. [1] Bertin, E. & Arnouts, S. 1996, A&AS, 117, 393
    .. [2] Kron, R. G. 1980, ApJS, 43, 305
    .. [3] Barbary, K. 2016, Journal of Open Source Software, 1(6), 58

    Examples
    --------
    >>> import numpy as np
    >>> from astropy.nddata import CCDData, StdDevUncertainty
    >>> from astroflux import SEPFluxEstimator
    >>> y, x = np.mgrid[-30:31, -30:31]
    >>> image = 500 * np.exp(-0.5 * (x**2 + y**2) / 3**2) / (2 * np.pi * 3**2)
    >>> ccd = CCDData(image, unit='adu', uncertainty=StdDevUncertainty(np.full((61, 61), 0.1)))
    >>> SEPFluxEstimator().predict(ccd).round(1)
    <Quantity 499. adu>
    """

    _packages = ('photutils', 'sep')

    def __init__(
        self,
        *,
        nsigma=1.5,
        npixels=5,
        deblend=True,
        nlevels=32,
        contrast=0.005,
        auto_params=(2.5, 3.5),
        min_radius=1.75,
        neighbours='correct',
        kernel_fwhm=None,
        filter_type='matched',
        match_radius=5.0,
    ):
        super().__init__(
            nsigma=nsigma,
            npixels=npixels,
            deblend=deblend,
            nlevels=nlevels,
            contrast=contrast,
            auto_params=auto_params,
            min_radius=min_radius,
            neighbours=neighbours,
            kernel_fwhm=kernel_fwhm,
            match_radius=match_radius,
        )
        self.filter_type = filter_type

    def _check_params(self):
        super()._check_params()
        if self.filter_type not in ('conv', 'matched'):
            msg = f"filter_type must be 'matched' or 'conv', got {self.filter_type!r}"
            raise ValueError(msg)
        import_optional('sep', extra='compare')

    def _find(self, data, noise, mask, kernel, position):
        try:
            return self._find_by_sep(data, noise, mask, kernel, position)
        except Exception as exc:
            # what sep cannot do, such as deblending too many parts, it tells by a bare Exception
            if type(exc) is not Exception:
                raise
            raise MeasurementError(MeasurementFlag.FAILED, f'sep: {exc}') from exc

    def _find_by_sep(self, data, noise, mask, kernel, position):
        sep = import_optional('sep', extra='compare')
        objects, labels = sep.extract(
            data,
            self.nsigma,
            err=noise,
            mask=mask,
            minarea=int(self.npixels),
            filter_kernel=kernel,
            filter_type=self.filter_type,
            deblend_nthresh=int(self.nlevels),
            deblend_cont=float(self.contrast) if self.deblend else 1.0,
            segmentation_map=True,
        )
        label = find_label(labels, position, self.match_radius)
        found = objects[label - 1 : label]
        # arrays of one value, as not all functions of sep take scalars
        x, y, a, b, theta = (found[name] for name in ('x', 'y', 'a', 'b', 'theta'))

        unusable = np.zeros(data.shape, bool) if mask is None else mask
        if self.neighbours != 'none':
            unusable = unusable | ((labels != 0) & (labels != label))
        data, noise = (
            _fill(image, unusable, x[0], y[0], self.neighbours) for image in (data, noise)
        )
        factor, least = self.auto_params
        kron_radius, _ = sep.kron_radius(data, x, y, a, b, theta, _KRON_EXTENT)
        radius = np.maximum(factor * kron_radius, least)
        # whole pixels, as in the program
        if self._is_small(a[0], b[0], radius[0]):
            sums = sep.sum_circle(data, x, y, self.min_radius, err=noise, subpix=1)
        else:
            sums = sep.sum_ellipse(data, x, y, a, b, theta, radius, err=noise, subpix=1)
        flux, flux_err, aperture_flags = sums

        flags = 0
        if found['flag'][0] & sep.OBJ_MERGED:
            flags |= int(MeasurementFlag.NEIGHBOUR)
        if found['flag'][0] & sep.OBJ_TRUNC or aperture_flags[0] & sep.APER_TRUNC:
            flags |= int(MeasurementFlag.OUT_OF_RANGE)
        numbers = (float(values[0]) for values in (flux, flux_err, x, y, a, b, theta, radius))
        return AutoSource(*numbers, flags=flags, labels=labels, label=label)


def _fill(image, unusable, x, y, neighbours):
    """Replace unusable pixels by those opposite, or by 0 where these are unusable, too."""
    if not unusable.any():
        return image
    image = np.where(unusable, 0.0, image)
    if neighbours != 'correct':
        return image
    ny, nx = image.shape
    rows, columns = np.nonzero(unusable)
    # rounded as in the program
    opposite = (
        np.floor(2 * y + 0.49999 - rows).astype(int),
        np.floor(2 * x + 0.49999 - columns).astype(int),
    )
    inside = (opposite[0] >= 0) & (opposite[0] < ny) & (opposite[1] >= 0) & (opposite[1] < nx)
    # an unusable pixel is 0 by now
    image[rows[inside], columns[inside]] = image[opposite[0][inside], opposite[1][inside]]
    return image
