# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The PSF of an image from the stars in it."""

import math
from itertools import pairwise

import numpy as np
import scipy  # its parts load at first use
from astropy import units as u
from astropy.nddata import NDData
from astropy.stats import SigmaClip
from astropy.table import QTable

from astroflux._quiet import quiet_libraries
from astroflux.cutouts._catalog import sources_of
from astroflux.cutouts._field_pixels import FieldPixels
from astroflux.cutouts._image import whole_image
from astroflux.cutouts._psf import known_psf
from astroflux.cutouts._star_finding import STAR, StarSearch, stamps_around
from astroflux.cutouts._told import LOCAL
from astroflux.cutouts.psf_field import PSFField, content_hash

__all__ = ['StarPSF', 'psf_from_stars']

# The sky about a star is measured in a ring, in units of the side of its stamp.
_RING = (0.5, 0.8)

# Pixels of the effective PSF in one of the image: a higher number needs many more stars.
_OVERSAMPLING = 2
_ITERATIONS = 5

# The wings of the PSF begin at so many FWHM. Rings in them are of that width, and have no fewer
# pixels than that.
_WINGS = 1.5
_RING_WIDTH = 0.5
_FEWEST_IN_RING = 12

# The sky is measured in no more pixels than that.
_SKY_PIXELS = 1_000_000


class StarPSF(PSFField):
    """
    The PSF that `psf_from_stars` has built: one image for all positions.

    It may be given as ``psf=`` like any other PSF of an image.

    Attributes
    ----------
    psf : 2D `~numpy.ndarray`
        The PSF, in pixels of the image, of sum 1.
    fwhm : float
        Its full width at half maximum in pixels.
    epsf : 2D `~numpy.ndarray`
        What `~photutils.psf.EPSFBuilder` made, of finer pixels.
    oversampling : int
        Pixels of ``epsf`` in one of the image, along an axis.
    stars : `~astropy.table.QTable`
        The stars that it was built from: ``x``, ``y``, ``flux`` (within 2.5 FWHM), ``snr``,
        ``half_light_radius`` and ``elongation``.
    sources : `~astropy.table.QTable`
        All bright sources that were looked at, with the same columns and ``status``: why it is no
        star, or ``'star'``; ``'more than enough'`` if the brighter ones were taken.
    stamps : 3D `~numpy.ndarray`
        The stars, in order, as they are in the image.
    """

    def __init__(self, epsf, oversampling, sources, stamps):
        self.epsf, self.oversampling = epsf, oversampling
        self.sources, self.stamps = sources, stamps
        self.stars = sources[sources['status'] == STAR]
        self.stars.remove_column('status')
        known = known_psf(epsf, (oversampling, oversampling))
        self.psf, self.fwhm = known.image, known.fwhm
        super().__init__(
            f'{len(self.stars)} stars of the image, FWHM {self.fwhm:.2f} pixels, SHA-256 '
            f'{content_hash(epsf)}'
        )

    def _psf_at(self, x, y):
        return self.epsf, (self.oversampling, self.oversampling)

    def known_at(self, x, y):
        """Return the one image, with its width, wherever the position is."""
        return super().known_at(0.0, 0.0)

    def plot(self, where=None):
        """
        Draw sizes against brightness, the stars that were used, and the PSF.

        Parameters
        ----------
        where : str, `~pathlib.Path` or three `~matplotlib.axes.Axes`, optional
            A file to write, or axes to draw on. By default a new figure is made.

        Returns
        -------
        figure : `~matplotlib.figure.Figure`
        """
        from astroflux.cutouts._star_plot import plot_star_psf

        return plot_star_psf(self, where)


def psf_from_stars(
    image,
    *,
    stars=None,
    error=None,
    mask=None,
    background=None,
    saturation=None,
    min_snr=50.0,
    min_stars=5,
    max_stars=50,
):
    """
    Find the stars of an image, and build its PSF from them.

    Sources are detected, and those that are bright, alone, unsaturated, and neither masked nor at
    the edge are looked at. Stars have one size, whatever their brightness, and are smaller than
    galaxies: of those as small as most small ones are, the brightest become an effective PSF, by
    `~photutils.psf.EPSFBuilder`. It is the same for all of the image.

    Parameters
    ----------
    image : object
        One image, of any kind that `iter_cutouts` takes. What is left of its sky is subtracted as
        one number.
    stars : object, optional
        Positions of stars that are known, such as those of Gaia, as ``positions`` of `iter_cutouts`
        may be. Stars are chosen among them, and not by their sizes.
    error, mask, background : object, optional
        As of `iter_cutouts`.
    saturation : float, optional
        Pixels of this value or more, in the unit of the image without its sky, are saturated.
        Without it, stars are taken for that which are flat at their peak, or the highest of all
        if these are of one height.
    min_snr : float, optional
        Signal-to-noise ratio of the faintest star.
    min_stars, max_stars : int, optional
        How many stars are wanted at least, and are taken at most.

    Returns
    -------
    psf : `StarPSF`

    Raises
    ------
    ValueError
        If there are too few stars; it says how many sources there were, and why not all are taken.
    TypeError, OSError, `~astropy.units.UnitsError`
        If it is no image, or what is told does not fit it.

    Examples
    --------
    >>> from astroflux.cutouts import psf_from_stars
    >>> psf = psf_from_stars('field.fits')  # doctest: +SKIP
    >>> psf.plot('stars.png')  # doctest: +SKIP
    >>> table = CNNFluxEstimator().measure_field('field.fits', catalog, psf=psf)  # doctest: +SKIP
    """
    if isinstance(background, str) and background == LOCAL:
        # that of stamps says nothing of an image
        background = None
    known = None if stars is None else _places(stars, image)
    data, noise, mask, scale = _pixels(image, error, mask, background)
    if saturation is not None:
        saturation = saturation / scale
    with quiet_libraries():
        search = StarSearch(data, noise, mask, min_snr, saturation, known)
        n_stars = (search.status == STAR).sum()
        if n_stars < max(min_stars, 1):
            msg = (
                f'the PSF needs {min_stars} stars or more, got {n_stars}: {search.explain()}. Say '
                'which are stars by stars= of psf_from_stars, or give the PSF otherwise'
            )
            raise ValueError(msg)
        search.keep_best(min_stars, max_stars)
        sources = search.sources
        sources['status'] = search.status
        sources.sort('snr', reverse=True)
        epsf, stamps = _built(search, data, mask, sources[sources['status'] == STAR])
    return StarPSF(epsf, _OVERSAMPLING, _with_units(sources, scale), stamps * scale)


def _pixels(image, error, mask, background):
    """
    Return the pixels without sky and in units of about the noise, and what is known of them.

    These are the noise, where pixels cannot be used and are 0, and the unit.
    """
    pixels = FieldPixels.of(image, error=error, mask=mask, background=background)
    data, bad = pixels.data, pixels.mask
    step = max(1, math.isqrt(data.size // _SKY_PIXELS))
    some = data[::step, ::step][~bad[::step, ::step]]
    if not some.size:
        msg = f'the image of shape {data.shape} has no usable pixels to find stars in'
        raise ValueError(msg)
    data -= np.median(SigmaClip(3.0)(some, masked=False))
    data[bad] = 0
    noise = np.where(bad, np.float32(np.inf), pixels.noise)
    return data, noise, bad, pixels.reference / pixels.factor


def _places(stars, image):
    """Return the positions of stars that the image has, ``(n, 2)``."""
    nothing = dict.fromkeys(('error', 'mask', 'background', 'effective_gain'))
    known = sources_of(stars, whole_image(image, nothing), nothing)
    known = np.column_stack([known.x, known.y])
    known = known[np.isfinite(known).all(axis=1)]
    if not len(known):
        msg = 'stars has no position that is in the image'
        raise ValueError(msg)
    return known


def _built(search, data, mask, stars):
    """Return the effective PSF of some stars, and their stamps."""
    from photutils.background import LocalBackground
    from photutils.psf import EPSFBuilder, extract_stars

    side = search.side
    sky = LocalBackground(*(part * side for part in _RING))
    levels = np.atleast_1d(sky(data, np.asarray(stars['x']), np.asarray(stars['y']), mask=mask))
    half = side // 2 + 1
    stamps, masks, segments = (
        stamps_around(array, stars, half) for array in (data, mask, search.segments)
    )
    # the light of others reaches farther than where they were detected
    others = (segments != 0) & (segments != np.asarray(stars['label'])[:, None, None])
    grow = np.ones((1, 3, 3), bool)
    masks |= scipy.ndimage.binary_dilation(others, grow, iterations=round(search.fwhm))
    positions = np.column_stack([stars['x'], stars['y']])
    positions += half - np.round(positions)
    extracted = extract_stars(
        [
            NDData(stamp - level, mask=its_mask)
            for stamp, level, its_mask in zip(stamps, levels, masks, strict=True)
        ],
        [QTable(xy[None], names=('x', 'y')) for xy in positions],
        size=side,
    )
    builder = EPSFBuilder(oversampling=_OVERSAMPLING, maxiters=_ITERATIONS, progress_bar=False)
    result = builder(extracted)
    epsf = _with_wings(np.array(result.epsf.data), result.fitted_stars.all_stars, search.fwhm)
    return epsf, stamps[:, 1:-1, 1:-1].astype(np.float32)


def _with_wings(epsf, stars, fwhm):
    """
    Return an effective PSF whose wings are the mean of the stars in rings.

    There the noise of single pixels is higher than the light, and there are so many that it
    matters for the sum. In proportion to their light, bright stars count for more.
    """
    middle = (np.array(epsf.shape) - 1) / 2
    radius = np.hypot(*((np.indices(epsf.shape) - middle[:, None, None]) / _OVERSAMPLING))
    edges = np.arange(_WINGS * fwhm, radius.max() + fwhm, _RING_WIDTH * fwhm)
    light, flux = np.zeros(len(edges) - 1), np.zeros(len(edges) - 1)
    for star in stars:
        y, x = np.indices(star.shape)
        distance = np.hypot(x - star.cutout_center[0], y - star.cutout_center[1])
        for ring, (inner, outer) in enumerate(pairwise(edges)):
            values = star.data[(distance >= inner) & (distance < outer) & ~star.mask]
            if values.size >= _FEWEST_IN_RING:
                light[ring] += np.median(values)
                flux[ring] += star.flux
    known = flux > 0
    if known.any():
        middles = (edges[:-1] + edges[1:]) / 2
        wings = np.interp(radius, middles[known], light[known] / flux[known])
        epsf = np.where(radius > middles[0], wings, epsf)
    return epsf


def _with_units(sources, scale):
    """Return the table of sources, lengths in pixels, fluxes as in the image."""
    names = ('x', 'y', 'flux', 'snr', 'half_light_radius', 'elongation', 'status')
    table = QTable(sources[names])
    table['flux'] *= scale
    for name in ('x', 'y', 'half_light_radius'):
        table[name] = np.asarray(table[name]) * u.pix
    return table
