# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Which sources of an image are stars that its PSF can be built from."""

import math

import numpy as np
import scipy  # its parts load at first use
from astropy.stats import mad_std
from astropy.table import Table

__all__ = ['MORE', 'STAR', 'StarSearch', 'stamps_around']

STAR = 'star'
MORE = 'more than enough'

# A source is so many connected pixels above so many times the noise of a pixel.
_THRESHOLD = 5.0
_N_PIXELS = 5

# What is measured of sources is within so many FWHM of them; it takes no other source within
# that, and none of this part of its brightness within the stamp, whose side is so many FWHM.
_REACH = 2.5
_FAINT = 0.05
_SIDE = 10.0
_SMALLEST_SIDE = 15

# A source within so many pixels of a known star is that, or within half a FWHM if that is more.
_NEAR = 2.0

# Axis ratios of stars; PSFs are rounder.
_LONGEST = 1.5

# If so many sources are as high as the highest one, within a part of it, and their fluxes differ by
# more than this factor, that is where the detector is saturated.
_FEWEST_SATURATED = 3
_LEVEL = 0.95
_UNEQUAL = 1.25

# Stars have one size, and there are hardly any smaller sources: the sizes of stars are the lowest
# range of 10 %, or of 5 % if there are many small galaxies, that holds so many sigma more sources
# than the next one, and more than so many times as many as are smaller.
_WIDTHS = (0.10, 0.05)
_EXCESS = 3.0
_OVER_SMALLER = 2.0
# From the size of most stars, a star differs by no more than so many times their scatter.
_CLIP = 3.0
_SMALLEST_SCATTER = 0.01

# Stars that are taken at least, if there are so many, however faint some are.
_FEWEST_FOR_ALL_PARTS = 20

# FWHM over the half-light radius of the profiles of stars, about.
_FWHM_OVER_RADIUS = 1.7


class StarSearch:
    """
    The sources of an image, and which of them are stars.

    Parameters
    ----------
    data, noise, mask : 2D `~numpy.ndarray`
        Pixels without sky, 0 where they cannot be used; their noise; and where that is.
    min_snr : float
        Signal-to-noise ratio of the faintest star.
    saturation : float, optional
        Pixels of this value or more are saturated.
    known : 2D `~numpy.ndarray`, optional
        Positions of stars, ``(n, 2)``: no other sources are stars.

    Attributes
    ----------
    every : `~astropy.table.Table`
        All sources.
    sources : `~astropy.table.Table`
        The bright ones.
    status : `~numpy.ndarray` of str
        `STAR`, or why a bright source is none.
    fwhm : float
        About that of the PSF, in pixels.
    segments : 2D `~numpy.ndarray` of int
        The ``label`` of the source that a pixel is of, or 0.
    """

    def __init__(self, data, noise, mask, min_snr, saturation=None, known=None):
        self._data, self._mask = data, mask
        self._min_snr, self._saturation, self._known = min_snr, saturation, known
        self.every, self.segments = _detected(data, noise, mask)
        self.sources = self.every[self.every['snr'] >= min_snr]
        self.status = np.full(len(self.sources), STAR, dtype='U32')
        self.fwhm = math.nan
        if len(self.sources):
            self._search()

    def _search(self):
        places = zip(self.sources['x'], self.sources['y'], strict=True)
        widths = np.array([_width(self._data, x, y) for x, y in places])
        # pixels are counted, so that it is a rough one
        sizes = _sizes_of_stars(np.log(widths), (2 * _WIDTHS[0],))
        self.fwhm = np.percentile(widths, 20) if sizes is None else math.exp(np.median(sizes))
        # the second time with a better one
        for _ in range(2):
            self._measure()
            self._choose()
            if (is_star := self.status == STAR).any():
                radius = np.median(self.sources['half_light_radius'][is_star])
                self.fwhm = _FWHM_OVER_RADIUS * radius

    def _measure(self):
        """Measure fluxes and half-light radii in circles."""
        from photutils.aperture import CircularAperture, aperture_photometry

        radii = np.linspace(0.1, 1, 15) * _REACH * self.fwhm
        positions = np.column_stack([self.sources['x'], self.sources['y']])
        apertures = [CircularAperture(positions, radius) for radius in radii]
        table = aperture_photometry(self._data, apertures)
        growth = np.array([table[f'aperture_sum_{number}'] for number in range(len(radii))]).T
        self.sources['flux'] = growth[:, -1]
        self.sources['half_light_radius'] = [_half_light(radii, each) for each in growth]

    def _choose(self):
        self.status[:] = STAR
        tests = {
            'not among those given': self._is_unknown,
            'at the edge': self._is_at_edge,
            'masked': self._is_masked,
            'saturated': self._is_saturated,
            'not alone': self._has_neighbor,
            'not round': lambda sources: ~(np.asarray(sources['elongation']) <= _LONGEST),
            'not of the size of stars': self._is_of_other_size,
        }
        for reason, is_none in tests.items():
            left = np.flatnonzero(self.status == STAR)
            if len(left):
                self.status[left[is_none(self.sources[left])]] = reason

    @property
    def side(self):
        """The side of the stamps of stars in pixels, which is odd."""
        return max(_SMALLEST_SIDE, 2 * round(_SIDE * self.fwhm / 2) + 1)

    def _is_at_edge(self, sources):
        # as far as the sources about a star are looked at
        half = self.side / 2 + 2
        ny, nx = self._data.shape
        x, y = np.asarray(sources['x']), np.asarray(sources['y'])
        return ~((x > half) & (x < nx - 1 - half) & (y > half) & (y < ny - 1 - half))

    def _is_masked(self, sources):
        half = min(math.ceil(_REACH * self.fwhm), self.side // 2)
        return stamps_around(self._mask, sources, half).any(axis=(1, 2))

    def _is_saturated(self, sources):
        """Return which sources reach the level of saturation, or are flatter than any PSF is."""
        peak = np.asarray(sources['peak'])
        if self._saturation is not None:
            return peak >= self._saturation
        level = _LEVEL * self.every['peak'].max()
        fluxes = np.asarray(self.every['flux'])[self.every['peak'] > level]
        # of stars that are as high as they are bright, those of one height have one flux
        is_level = len(fluxes) >= _FEWEST_SATURATED and fluxes.max() > _UNEQUAL * fluxes.min()
        core = stamps_around(self._data, sources, math.ceil(self.fwhm / 2))
        n_flat = (core > 0.98 * core.max(axis=(1, 2), keepdims=True)).sum(axis=(1, 2))
        return (n_flat > 4 + 0.1 * self.fwhm**2) | (is_level & (peak > level))

    def _has_neighbor(self, sources):
        """Return which sources have another one near, or a bright one in the stamp."""
        tree = scipy.spatial.KDTree(np.column_stack([self.every['x'], self.every['y']]))
        positions = np.column_stack([sources['x'], sources['y']])
        flux = np.asarray(self.every['flux'])
        found = np.zeros(len(sources), bool)
        reach = _SIDE / 2 * self.fwhm
        for row, near in enumerate(tree.query_ball_point(positions, reach)):
            distance = np.hypot(*(tree.data[near] - positions[row]).T)
            is_bright = flux[near] > _FAINT * sources['flux'][row]
            # the source itself is among them
            found[row] = ((is_bright | (distance < _REACH * self.fwhm)) & (distance > 0)).any()
        return found

    def _is_unknown(self, sources):
        if self._known is None:
            return np.zeros(len(sources), bool)
        positions = np.column_stack([sources['x'], sources['y']])
        distance, _ = scipy.spatial.KDTree(self._known).query(positions)
        return distance > max(_NEAR, self.fwhm / 2)

    def _is_of_other_size(self, sources):
        sizes = np.log(np.asarray(sources['half_light_radius']))
        near = sizes[np.isfinite(sizes)] if self._known is not None else _sizes_of_stars(sizes)
        if near is None or not len(near):
            return np.ones(len(sizes), bool)
        for _ in range(3):
            center, scatter = np.median(near), max(mad_std(near), _SMALLEST_SCATTER)
            near = near[np.abs(near - center) <= _CLIP * scatter]
        return ~(np.abs(sizes - center) <= _CLIP * scatter)

    def keep_best(self, least, most):
        """Keep as many of the brightest stars as make their mean the least noisy, or the most."""
        snr = np.asarray(self.sources['snr'])
        stars = np.flatnonzero(self.status == STAR)
        stars = stars[np.argsort(-snr[stars], kind='stable')]
        error = np.sqrt(np.cumsum(1 / snr[stars] ** 2)) / np.arange(1, len(stars) + 1)
        fewest = min(max(least, _FEWEST_FOR_ALL_PARTS), len(stars))
        best = fewest + np.argmin(error[fewest - 1 :])
        self.status[stars[min(best, most) :]] = MORE

    def explain(self):
        """Say how many sources there are, and why they are no stars."""
        reasons, counts = np.unique(self.status[self.status != STAR], return_counts=True)
        found = ', '.join(f'{n} {reason}' for reason, n in zip(reasons, counts, strict=True))
        of_these = f', of which {found}' if found else ''
        n_bright = len(self.sources)
        return (
            f'of {len(self.every)} sources, {n_bright} have S/N {self._min_snr:g} or more{of_these}'
        )


def stamps_around(array, sources, half):
    """
    Return the squares about sources that are not at the edge.

    Parameters
    ----------
    array : 2D `~numpy.ndarray`
        The image.
    sources : `~astropy.table.Table`
        With their ``x`` and ``y``.
    half : int
        The squares have twice as many pixels a side, and one.
    """
    corners = (np.round(np.column_stack([sources['y'], sources['x']])) - half).astype(int)
    side = 2 * half + 1
    return np.array([array[y : y + side, x : x + side] for y, x in corners])


def _detected(data, noise, mask):
    """Return a table of all sources, and whose each pixel is."""
    from photutils.segmentation import SourceCatalog, detect_sources

    names = ('x', 'y', 'flux', 'snr', 'elongation', 'peak')
    segments = detect_sources(data, _THRESHOLD * noise, _N_PIXELS, mask=mask)
    if segments is None:
        return Table({name: np.zeros(0) for name in names}), np.zeros(data.shape, int)
    catalog = SourceCatalog(data, segments, error=np.where(mask, 0, noise))
    flux = catalog.segment_flux
    columns = (
        catalog.x_centroid,
        catalog.y_centroid,
        flux,
        flux / catalog.segment_flux_err,
        catalog.elongation.value,
        catalog.max_value,
    )
    table = Table(dict(zip(names, columns, strict=True)))
    table['label'] = catalog.labels
    return table, segments.data


def _width(data, x, y, half=15):
    """Return the diameter of the circle with the area above half of the peak of a source."""
    x, y = round(x), round(y)
    stamp = data[max(y - half, 0) : y + half + 1, max(x - half, 0) : x + half + 1]
    peak = data[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2].max()
    labels, _ = scipy.ndimage.label(stamp > 0.5 * peak)
    own = labels[min(y, half), min(x, half)]
    return 2 * math.sqrt(max(np.count_nonzero(labels == own) if own else 1, 1) / math.pi)


def _half_light(radii, growth):
    total = growth[-1]
    if not total > 0:
        return math.nan
    above = np.argmax(growth >= 0.5 * total)
    if above == 0:
        return radii[0]
    # the light grows as the area
    inner, outer = growth[above - 1], growth[above]
    part = (0.5 * total - inner) / (outer - inner)
    return math.sqrt(radii[above - 1] ** 2 + part * (radii[above] ** 2 - radii[above - 1] ** 2))


def _sizes_of_stars(sizes, widths=_WIDTHS):
    """
    Return those of logarithms of sizes that are about as stars have them.

    `None` if none stand out. The ranges to look for have the given widths.
    """
    sizes = np.sort(sizes[np.isfinite(sizes)])
    first = np.arange(len(sizes))
    for width in widths:
        last, next_last = (np.searchsorted(sizes, sizes + n * width, 'right') for n in (1, 2))
        count, more = last - first, next_last - last
        stands_out = count - more >= _EXCESS * np.sqrt(more + 1)
        stands_out &= count > _OVER_SMALLER * first
        if stands_out.any():
            start = np.argmax(stands_out)
            # as long as there are more in it
            while start + 1 < len(sizes) and count[start + 1] >= count[start]:
                start += 1
            return sizes[start : last[start]]
    return None
