# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The light of all sources of an image, as far as it is known."""

import numpy as np
import scipy.sparse
from scipy.sparse.linalg import cg
from scipy.spatial import KDTree

from astroflux.networks.neighbors import LEAST_INFLUENCE
from astroflux.networks.source_models import SourceModels

__all__ = ['SkyModel', 'within']

# Light is drawn to where it is this part of the noise of a pixel.
FAINTEST = 0.05

# The fluxes of all models are solved for together. Each is held to be right within so many times
# the error that it had alone, or models of the same light would be all or nothing for the little
# by which they differ. And none becomes so many times what it was.
PRIOR_ERRORS = 5.0
HIGHEST_FACTOR = 3.0

# What a factor is taken to be where it may not be zero.
LEAST_FACTOR = 1e-3

# Neighbors that are fitted together with a source: no more than the network takes, and no farther
# away, in pixels, than it sees.
MOST_NEIGHBORS = 4
NEIGHBOR_REACH = 68.0


def within(corner, light, shape):
    """
    Return which part of an image light falls on.

    Parameters
    ----------
    corner : tuple of int
        The pixel ``(x, y)`` of the image that the light begins at, which may be outside.
    light : 2D `~numpy.ndarray`
        The light.
    shape : tuple of int
        ``(ny, nx)`` of the image.

    Returns
    -------
    where, part : tuple of slice, 2D `~numpy.ndarray`
        Of the image, and the light there; `None` and `None` if all of it is outside.
    """
    starts = [max(first, 0) for first in corner[::-1]]
    stops = [
        min(first + side, length)
        for first, side, length in zip(corner[::-1], light.shape, shape, strict=True)
    ]
    if any(start >= stop for start, stop in zip(starts, stops, strict=True)):
        return None, None
    ends = list(zip(starts, stops, strict=True))
    cut = [
        slice(start - first, stop - first)
        for (start, stop), first in zip(ends, corner[::-1], strict=True)
    ]
    return tuple(slice(*each) for each in ends), np.ascontiguousarray(light[tuple(cut)])


class SkyModel:
    """
    Models of sources in an image.

    Parameters
    ----------
    data, weight : 2D `~numpy.ndarray`
        The image without its sky, and the inverse variance of its pixels; 0 where these cannot be
        used.
    n : int
        Number of sources.

    Attributes
    ----------
    total : 2D `~numpy.ndarray`
        The light of all sources, float32.
    factor : `~numpy.ndarray`
        ``(n,)``, by how much the flux of each differs from what was fitted to it alone.
    """

    def __init__(self, data, weight, n):
        self.data, self.weight = data, weight
        self.total = np.zeros_like(data)
        self.factor = np.ones(n)
        self.models = None
        self._light = [None] * n
        self._corner = np.zeros((n, 2), int)
        self._half = np.zeros(n, int)
        # of each, the sum of its squared light over the variance, and of that times the data
        self._power, self._seen = np.zeros((2, n))
        # the same of pairs, as long as both stay as they are
        self._products = {}
        self._is_new = np.zeros(n, bool)

    def __len__(self):
        return len(self._light)

    @property
    def is_known(self):
        """Which sources have a model, ``(n,)``."""
        return self._power > 0

    def put(self, rows, models, noise):
        """
        Take over what was fitted to some sources.

        Parameters
        ----------
        rows : `~numpy.ndarray` of int
            Their numbers.
        models : `~astroflux.networks.source_models.SourceModels`
            In pixels of the image.
        noise : `~numpy.ndarray`
            Of a pixel near each.
        """
        if self.models is None:
            self.models = SourceModels.unknown(len(self), models.flux.shape[1])
        self.models.put(rows, models)
        self.forget(rows)
        known = np.flatnonzero(models.is_known & np.isfinite(noise))
        some = models[known]
        for which, corner, light in some.draw(some.reach(FAINTEST * noise[known])):
            row = rows[known[which]]
            where, part = within(corner, light, self.data.shape)
            if where is None:
                continue
            self._light[row], self._corner[row] = part, (where[1].start, where[0].start)
            self._half[row] = max(part.shape)
            weighted = part * self.weight[where]
            self._power[row] = np.vdot(weighted, part)
            self._seen[row] = np.vdot(weighted, self.data[where])

    def forget(self, rows):
        """Forget the models of some sources."""
        self._is_new[rows] = True
        for row in rows:
            self._light[row], self._power[row] = None, 0.0

    def _where(self, row):
        (x, y), (ny, nx) = self._corner[row], self._light[row].shape
        return slice(y, y + ny), slice(x, x + nx)

    def solve(self):
        """Solve for the fluxes of all models together, and add up their light."""
        self.total[:] = 0
        rows = np.flatnonzero(self.is_known)
        if not len(rows):
            return
        held = self._power[rows] / PRIOR_ERRORS**2
        power, wanted = self._power[rows] + held, self._seen[rows] + held
        i, j, shared = self._overlaps(rows)
        # in units of the diagonal
        scale = 1 / np.sqrt(power)
        shared = shared * scale[i] * scale[j]
        ones = np.arange(len(rows))
        matrix = scipy.sparse.coo_matrix(
            (
                np.concatenate([shared, shared, np.ones(len(rows))]),
                (np.concatenate([i, j, ones]), np.concatenate([j, i, ones])),
            )
        ).tocsr()
        factor, _ = cg(matrix, scale * wanted, x0=1 / scale, rtol=1e-6, maxiter=300)
        self.factor[rows] = np.clip(factor * scale, 0, HIGHEST_FACTOR)
        for row in rows:
            self.total[self._where(row)] += np.float32(self.factor[row]) * self._light[row]

    def _overlaps(self, rows):
        """Return pairs of the rows whose light overlaps, and by how much."""
        is_new = self._is_new
        known = {
            pair: product
            for pair, product in self._products.items()
            if not (is_new[pair[0]] or is_new[pair[1]])
        }
        self._products, is_new[:] = {}, False
        pairs = []
        centers = self._corner[rows] + self._half[rows, None] / 2
        reach = self._half[rows] / 2
        # the one that reaches farther looks for the other
        near = KDTree(centers).query_ball_point(centers, 2 * reach, p=np.inf)
        rows, reach = rows.tolist(), reach.tolist()
        for i, others in enumerate(near):
            for j in others:
                if (reach[j], j) < (reach[i], i):
                    pair = rows[i], rows[j]
                    product = known[pair] if pair in known else self._product(*pair)
                    self._products[pair] = product
                    if product:
                        pairs.append((i, j, product))
        i, j, product = np.reshape(pairs, (-1, 3)).T
        return i.astype(int), j.astype(int), product

    def _product(self, row, other):
        """Return the sum of the product of the light of two sources over the variance."""
        first, second = self._where(row), self._where(other)
        common = tuple(
            slice(max(a.start, b.start), min(a.stop, b.stop))
            for a, b in zip(first, second, strict=True)
        )
        if any(part.start >= part.stop for part in common):
            return 0.0
        light = [
            self._light[each][tuple(slice(c.start - w.start, c.stop - w.start) for c, w in parts)]
            for each, parts in (
                (row, tuple(zip(common, first, strict=True))),
                (other, tuple(zip(common, second, strict=True))),
            )
        ]
        return float(np.vdot(light[0] * self.weight[common], light[1]))

    def without_others(self, row, window):
        """Return a part of the image without the light of all sources but one."""
        rows, columns = window
        data = self.data[window] - self.total[window]
        if self.is_known[row]:
            own_rows, own_columns = self._where(row)
            y = slice(max(rows.start, own_rows.start), min(rows.stop, own_rows.stop))
            x = slice(max(columns.start, own_columns.start), min(columns.stop, own_columns.stop))
            if y.start < y.stop and x.start < x.stop:
                light = self._light[row][
                    y.start - own_rows.start : y.stop - own_rows.start,
                    x.start - own_columns.start : x.stop - own_columns.start,
                ]
                data[
                    y.start - rows.start : y.stop - rows.start,
                    x.start - columns.start : x.stop - columns.start,
                ] += np.float32(self.factor[row]) * light
        return data

    def light_of_others(self):
        """Return the light of all others over that of each source, as its profile weighs it."""
        light = np.zeros(len(self))
        for row in np.flatnonzero(self.is_known):
            where = self._where(row)
            own = self._light[row] * self.weight[where]
            light[row] = np.vdot(own, self.total[where]) / self._power[row] - self.factor[row]
        return light / np.maximum(self.factor, LEAST_FACTOR)

    @property
    def snr(self):
        """Signal-to-noise ratio of the models, ``(n,)``."""
        return self.factor * np.sqrt(self._power)

    def is_outshone(self, fwhm):
        """Return which sources have a brighter one among the neighbors that matter to them."""
        is_outshone = np.zeros(len(self), bool)
        rows = np.flatnonzero(self.is_known)
        for row, others in zip(rows, self.neighbors(rows, fwhm), strict=True):
            flux = self.models.profile[row, 0] + np.log(max(self.factor[row], LEAST_FACTOR))
            is_outshone[row] = (others[:, 0] > flux).any()
        return is_outshone

    def neighbors(self, rows, fwhm):
        """
        Yield the profiles of the neighbors that matter most to each of some sources.

        Parameters
        ----------
        rows : `~numpy.ndarray` of int
            Numbers of the sources.
        fwhm : `~numpy.ndarray`
            Of the PSF at each of all sources, in pixels.

        Yields
        ------
        profiles : `~numpy.ndarray` or None
            ``(k, 7)``, in pixels of the image; `None` for a source without a model.
        """
        known = np.flatnonzero(self.is_known)
        if not len(known):
            yield from (None for _ in rows)
            return
        profile = self.models.profile.copy()
        profile[:, 0] += np.log(np.maximum(self.factor, LEAST_FACTOR))
        radius, snr = np.exp(profile[:, 5]), self.snr
        tree = KDTree(profile[known, 1:3])
        for row in rows:
            if not self.is_known[row]:
                yield None
                continue
            here = profile[row, 1:3]
            others = known[tree.query_ball_point(here, NEIGHBOR_REACH)]
            others = others[others != row]
            distance = np.hypot(*(profile[others, 1:3] - here).T)
            apart = np.maximum(distance - radius[others], 1.0)
            influence = snr[others] * (fwhm[row] / apart) ** 2
            order = np.argsort(-influence, kind='stable')[:MOST_NEIGHBORS]
            yield profile[others[order[influence[order] > LEAST_INFLUENCE]]]
