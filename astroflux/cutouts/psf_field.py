# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The PSF of an image, which differs from place to place."""

import hashlib
import math
from abc import ABC, abstractmethod
from copy import copy
from pathlib import Path

import numpy as np
from astropy.nddata import NDData

from astroflux.cutouts._psf import known_psf, parse_oversampling

__all__ = ['GriddedPSF', 'PSFExPSF', 'PSFField', 'as_psf_field']

# Side of the cells of an image, in pixels, in each of which the PSF is one image.
SMALLEST_CELL = 256
# An image has no more of them: what a network has found out about so many PSFs is remembered.
MOST_CELLS = 200


class PSFField(ABC):
    """
    The PSF of an image, by the position in it.

    The image is divided into square cells of 256 pixels, or larger ones where it would have more
    than 200 of them. Within a cell the PSF is that at the center of the cell.

    Attributes
    ----------
    description : str
        What it is, in a few words, with a part of the SHA-256 of its numbers; for the metadata of
        tables.
    cell : int
        Side of a cell in pixels.
    """

    def __init__(self, description):
        self.description = description
        self.cell = SMALLEST_CELL
        self._images = {}

    @abstractmethod
    def _psf_at(self, x, y):
        """
        Return a PSF image at a position, and how many of its pixels there are in one of the image.

        Parameters
        ----------
        x, y : float
            In pixels of the image, counted from 0.

        Returns
        -------
        psf : 2D `~numpy.ndarray`
            An effective PSF; its sum is of no importance.
        oversampling : tuple of float
            ``(y, x)``.
        """

    def __repr__(self):
        return f'<{type(self).__name__}: {self.description}>'

    def __getstate__(self):
        return self.__dict__ | {'_images': {}}

    def over(self, shape):
        """
        Return the same PSF with the cells of an image of a given shape.

        Parameters
        ----------
        shape : tuple of int
            Shape of the image.

        Returns
        -------
        psf : `PSFField`
        """
        other = copy(self)
        other.cell = _cell_of(shape)
        if other.cell != self.cell:
            other._images = {}
        return other

    def at(self, x, y):
        """
        Return the PSF images at some positions.

        Parameters
        ----------
        x, y : float or array_like
            Positions in pixels of the image, counted from 0.

        Returns
        -------
        images : list of 2D `~numpy.ndarray`
            One for each position, in pixels of the image, read-only and of sum 1; the same object
            for all positions in a cell.

        Raises
        ------
        ValueError
            If a position is not finite, or the PSF has no positive sum there.
        """
        places = zip(np.atleast_1d(x).tolist(), np.atleast_1d(y).tolist(), strict=True)
        return [self.known_at(*place).image for place in places]

    def known_at(self, x, y):
        """Return the image of the cell that a position is in, with its width, as a ``PSFImage``."""
        if not (math.isfinite(x) and math.isfinite(y)):
            msg = f'the position of a PSF must be finite, got ({x:g}, {y:g})'
            raise ValueError(msg)
        # the first pixel begins at -0.5
        cell = tuple(math.floor((place + 0.5) / self.cell) for place in (x, y))
        if cell not in self._images:
            center = (self.cell * (number + 0.5) - 0.5 for number in cell)
            self._images.setdefault(cell, known_psf(*self._psf_at(*center)))
        return self._images[cell]


def _cell_of(shape):
    """Return the side of the cells of an image."""
    ny, nx = shape
    cell = max(SMALLEST_CELL, math.isqrt(ny * nx // MOST_CELLS))
    while math.ceil(ny / cell) * math.ceil(nx / cell) > MOST_CELLS:
        cell += 1
    return cell


def content_hash(*arrays):
    """Return the first digits of the SHA-256 of some arrays, to tell one PSF from another."""
    digest = hashlib.sha256()
    for array in arrays:
        array = np.ascontiguousarray(array)
        digest.update(f'{array.dtype.str}{array.shape}'.encode())
        digest.update(array.tobytes())
    return digest.hexdigest()[:12]


class GriddedPSF(PSFField):
    """
    PSF images at the points of a rectangular grid, and what is between them by interpolation.

    It is linear in x and in y, as that of a `~photutils.psf.GriddedPSFModel`; beyond the grid,
    the PSF is that at its edge.

    Parameters
    ----------
    images : 3D array_like
        Effective PSFs, ``(n, ny, nx)``.
    positions : array_like
        Where in the image they are, ``(n, 2)``, as pairs ``(x, y)`` of pixels counted from 0; in
        any order.
    oversampling : int or pair of int, optional
        Pixels of the PSF images per pixel of the image along an axis, or ``(y, x)``.

    Raises
    ------
    ValueError
        If there are not as many positions as images, or they are no rectangular grid, or not all
        numbers are finite.

    Examples
    --------
    >>> import numpy as np
    >>> from astroflux.cutouts import GriddedPSF
    >>> y, x = np.mgrid[-15:16, -15:16]
    >>> images = [np.exp(-0.5 * (x**2 + y**2) / sigma**2) for sigma in (1.6, 1.8, 1.8, 2.0)]
    >>> psf = GriddedPSF(images, [(0, 0), (2000, 0), (0, 2000), (2000, 2000)])
    >>> psf.at([5, 1990], [5, 1990])[1].shape
    (31, 31)
    """

    def __init__(self, images, positions, oversampling=1):
        from scipy.interpolate import RegularGridInterpolator

        images, positions = _finite('the PSF images', images), _finite('positions', positions)
        if images.ndim != 3 or positions.shape != (len(images), 2) or not len(images):
            msg = (
                'a grid of PSFs must be images (n, ny, nx) and their positions (n, 2), got the '
                f'shapes {images.shape} and {positions.shape}'
            )
            raise ValueError(msg)
        axes = [np.unique(column) for column in positions.T]
        shape = tuple(len(axis) for axis in axes)
        if len(np.unique(positions, axis=0)) != len(images) or math.prod(shape) != len(images):
            msg = (
                f'the positions of {len(images)} PSF images must be a rectangular grid, each '
                f'once: they have {shape[0]} values of x and {shape[1]} of y'
            )
            raise ValueError(msg)
        self._oversampling = parse_oversampling(oversampling)
        ordered = images[np.lexsort(positions.T[::-1])].reshape(*shape, *images.shape[1:])
        self._first, self._last = positions.min(axis=0), positions.max(axis=0)
        self._interpolate = RegularGridInterpolator(axes, ordered)
        digest = content_hash(positions, images, self._oversampling)
        super().__init__(f'grid of {shape[0]} x {shape[1]} images, SHA-256 {digest}')

    def _psf_at(self, x, y):
        place = np.clip((x, y), self._first, self._last)
        return self._interpolate(place)[0], self._oversampling


def _finite(name, values):
    try:
        array = np.array(values, dtype=float)
    except (TypeError, ValueError):
        msg = f'{name} of a grid must be numbers, all of one shape'
        raise ValueError(msg) from None
    if not np.isfinite(array).all():
        msg = f'{name} of a grid must be finite, {(~np.isfinite(array)).sum()} numbers are not'
        raise ValueError(msg)
    return array


class PSFExPSF(PSFField):
    """
    The PSF that PSFEx has found, of its ``.psf`` file [1]_.

    It is a polynomial in the position, whose coefficients are images. What depends on anything
    else than the position is refused.

    Parameters
    ----------
    path : str or `~pathlib.Path`
        The file. It is read now.

    Raises
    ------
    CutoutReadError
        If it cannot be read, or is no such file.

    References
    ----------
    .. [1] Bertin, E. 2011, ASP Conf. Ser., 442, 435
    """

    def __init__(self, path):
        from astroflux.cutouts._psfex import read_psfex

        self._model = read_psfex(path)
        digest = content_hash(*self._model.numbers)
        super().__init__(f'PSFEx file {Path(path).name}, {self._model}, SHA-256 {digest}')

    def _psf_at(self, x, y):
        return self._model.image_at(x, y), (1 / self._model.step,) * 2


def as_psf_field(psf, oversampling=1):
    """
    Return a `PSFField` of whatever is one.

    Parameters
    ----------
    psf : object
        A `PSFField`; a `~photutils.psf.GriddedPSFModel`, or an `~astropy.nddata.NDData` as it is
        made from, with ``grid_xypos`` and ``oversampling`` in its ``meta``; a pair of a stack of
        images and their positions; or the path of a file of PSFEx.
    oversampling : int or pair of int, optional
        Of the images of a stack, if it does not tell.

    Returns
    -------
    psf : `PSFField` or object
        What was given, if it is none of these.

    Raises
    ------
    TypeError, ValueError, OSError
        If it cannot be used.
    """
    if hasattr(psf, 'grid_xypos'):
        return GriddedPSF(psf.data, psf.grid_xypos, psf.oversampling)
    if isinstance(psf, NDData) and psf.meta and 'grid_xypos' in psf.meta:
        own = psf.meta.get('oversampling', oversampling)
        return GriddedPSF(psf.data, psf.meta['grid_xypos'], own)
    if isinstance(psf, tuple) and len(psf) == 2 and np.ndim(psf[0]) == 3 and np.ndim(psf[1]) == 2:
        return GriddedPSF(*psf, oversampling)
    if isinstance(psf, str | Path):
        if isinstance(psf, str) and not Path(psf).exists():
            msg = (
                f'psf must be a 2-d image, or one for each cutout, got str: {psf!r} is no file of '
                "PSFEx; 'stars' and the name of a column are for measure_field"
            )
            raise TypeError(msg)
        return PSFExPSF(psf)
    return psf
