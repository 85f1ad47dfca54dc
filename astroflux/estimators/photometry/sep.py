# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""MAG_AUTO of SExtractor, by its library sep."""

import numpy as np

from astroflux._optional import import_optional
from astroflux.estimators._checks import one_of
from astroflux.estimators._docs import share_docs
from astroflux.estimators.photometry._auto import AutoFluxEstimator, AutoSource
from astroflux.estimators.photometry.base import MeasurementError
from astroflux.estimators.photometry.finder import find_label
from astroflux.flags import MeasurementFlag

__all__ = ['SEPFluxEstimator']

__doctest_requires__ = {('SEPFluxEstimator',): ['sep']}

# Kron's radius is measured in an ellipse of this many semimajor axes
_KRON_EXTENT = 6.0


@share_docs
class SEPFluxEstimator(AutoFluxEstimator):
    """
    SExtractor's FLUX_AUTO [1]_ [2]_ of the galaxy, by its library sep [3]_.

    Connected pixels above a threshold in the filtered image make sources, which are deblended
    and cleaned; the pixels whose centre lies in the Kron ellipse of the source at the position
    are summed. It needs the package sep, which the extra ``compare`` installs.

    Parameters
    ----------
    {auto_finder}

    {auto_params}

    filter_type : {'matched', 'conv'}, optional
        Whether the threshold is in units of the noise of the filtered image, as sep does by
        default when it is given the noise, or of that of a pixel of the image, as the program
        does. The former goes deeper by the factor by which the filter averages.

    Attributes
    ----------
    {aperture_correction}

    Notes
    -----
    The defaults are those of sep, which are those of SExtractor (its ``default.sex``) but for
    the matched filter: it finds the wings of the galaxy better, so that the ellipse is larger
    and less light is missed. The recipe is that of the documentation of sep ("Equivalent of
    FLUX_AUTO"), with the least radius applied and the neighbours replaced as the program does,
    which sep leaves to its user. With ``filter_type='conv'`` the fluxes are those of
    `SExtractorFluxEstimator`.

    {kron_columns}

    References
    ----------
    {auto_references}
    .. [3] Barbary, K. 2016, Journal of Open Source Software, 1(6), 58

    Examples
    --------
    {gaussian}
    >>> from astroflux import SEPFluxEstimator
    >>> SEPFluxEstimator().predict(ccd).round(1)
    <Quantity 499. adu>
    """

    _packages = ('photutils', 'sep')
    _needs = 'sep'
    _checks = AutoFluxEstimator._checks | {'filter_type': one_of('matched', 'conv')}

    def __init__(
        self,
        *,
        finder=None,
        auto_params=(2.5, 3.5),
        min_radius=1.75,
        neighbors='correct',
        filter_type='matched',
    ):
        super().__init__(finder, auto_params, min_radius, neighbors)
        self.filter_type = filter_type

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
            self.finder.n_sigma,
            err=noise,
            mask=mask,
            minarea=int(self.finder.n_pixels),
            filter_kernel=kernel,
            filter_type=self.filter_type,
            deblend_nthresh=int(self.finder.n_levels),
            deblend_cont=self._contrast,
            segmentation_map=True,
        )
        label = find_label(labels, position, self.finder.match_radius)
        found = objects[label - 1 : label]
        # arrays of one value, as not all functions of sep take scalars
        x, y, a, b, theta = (found[name] for name in ('x', 'y', 'a', 'b', 'theta'))

        unusable = np.zeros(data.shape, bool) if mask is None else mask
        if self.neighbors != 'none':
            unusable = unusable | ((labels != 0) & (labels != label))
        data, noise = (
            _fill(image, unusable, x[0], y[0], self.neighbors) for image in (data, noise)
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


def _fill(image, unusable, x, y, neighbors):
    """Replace unusable pixels by those opposite, or by 0 where these are unusable, too."""
    if not unusable.any():
        return image
    image = np.where(unusable, 0.0, image)
    if neighbors != 'correct':
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
