# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The ``.psf`` file of PSFEx: a PSF that is a polynomial in the position."""

import math
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from astroflux.cutouts._planes import ContentError
from astroflux.cutouts.readers import opened

__all__ = ['PSFExModel', 'read_psfex']

# What no PSF needs more of, so that a file cannot make us take much time or memory.
_MOST_BYTES = 2**28
_MOST_AXES = 2
_MOST_DEGREES = 20
_STEPS = (0.02, 50.0)
_LARGEST_SIDE = 1025


@dataclass(frozen=True)
class PSFExModel:
    """
    A polynomial whose coefficients are PSF images.

    Attributes
    ----------
    images : 3D `~numpy.ndarray`
        The coefficients.
    exponents : 2D `~numpy.ndarray` of int
        Of each of them, the powers of x and y.
    zero, scale : tuple of float
        Of x and y: the variables are ``(position - zero) / scale``, where positions count from 1.
    step : float
        Side of a pixel of the images, in pixels of the image.
    """

    images: np.ndarray
    exponents: np.ndarray
    zero: tuple
    scale: tuple
    step: float

    def __str__(self):
        degree = int(self.exponents.sum(axis=1).max())
        return f'degree {degree} in the position, steps of {self.step:g} pixels'

    @property
    def numbers(self):
        """All that it is made of, as arrays."""
        return self.images, self.exponents, self.zero, self.scale, self.step

    def image_at(self, x, y):
        """Return the image at a position, which is counted from 0."""
        place = (np.array((x, y)) + 1 - self.zero) / self.scale
        return np.tensordot((place**self.exponents).prod(axis=1), self.images, axes=1)


def read_psfex(path):
    """
    Read a ``.psf`` file of PSFEx.

    Parameters
    ----------
    path : str or `~pathlib.Path`
        The file.

    Returns
    -------
    model : `PSFExModel`

    Raises
    ------
    CutoutReadError
        If there is no such file, it is none of PSFEx, is damaged, or its PSF depends on more than
        the position.
    """
    with opened(Path(path)) as (hdus, _, claims):
        table = next((hdu for hdu in hdus if hdu.name == 'PSF_DATA'), None)
        if table is None:
            _refuse('it is no file of PSFEx: there is no HDU PSF_DATA')
        if sum(claim.n_pixels for claim in claims) > _MOST_BYTES:
            _refuse(f'it has more than {_MOST_BYTES} bytes, which no PSF has')
        return _model(table)


def _refuse(reason):
    raise ContentError(reason)


def _model(table):
    header = table.header
    axes = [_axis_of(header, number) for number in range(1, _n_axes(header) + 1)]
    if len(set(axes)) < len(axes):
        _refuse('its polynomial has the same axis twice')
    exponents, zero, scale = _polynomial(header, axes)
    step = _number(header, 'PSF_SAMP')
    if not _STEPS[0] <= step <= _STEPS[1]:
        _refuse(f'PSF_SAMP is {step:g}, want {_STEPS[0]:g} to {_STEPS[1]:g} pixels')
    return PSFExModel(_images(table, len(exponents), step), exponents, zero, scale, step)


def _number(header, name, kind=float):
    value = header.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        _refuse(f'{name} is {value!r}, want a number')
    return kind(value)


def _n_axes(header):
    n = _number(header, 'POLNAXIS', int)
    if not 0 <= n <= _MOST_AXES:
        names = [str(header.get(f'POLNAME{number}')) for number in range(1, min(n, 9) + 1)]
        _refuse(f'its PSF depends on {", ".join(names)}: want the position alone')
    return n


def _axis_of(header, number):
    """Return which axis of the image one of the polynomial is: 0 for x, 1 for y."""
    name = str(header.get(f'POLNAME{number}')).strip()
    if name[:1] not in ('X', 'Y') or not name.endswith('_IMAGE'):
        _refuse(f'its PSF depends on {name}: want the position alone, X_IMAGE and Y_IMAGE')
    return 'XY'.index(name[0])


def _polynomial(header, axes):
    """Return the exponents of x and y of each coefficient, and the zeros and scales of x and y."""
    groups = [_number(header, f'POLGRP{number}', int) for number in range(1, len(axes) + 1)]
    degrees = [_number(header, f'POLDEG{group}', int) for group in groups]
    if not all(0 <= degree <= _MOST_DEGREES for degree in degrees):
        _refuse(f'POLDEG1 and so on are {degrees}, want 0 to {_MOST_DEGREES}')
    limits = dict(zip(groups, degrees, strict=True))
    zero, scale = [0.0, 0.0], [1.0, 1.0]
    for number, axis in enumerate(axes, 1):
        zero[axis] = _number(header, f'POLZERO{number}')
        scale[axis] = _number(header, f'POLSCAL{number}')
    if not all(scale):
        _refuse('POLSCAL1 or POLSCAL2 is 0')
    exponents = []
    # the first axis changes fastest; the degree of a group is that of all its axes together
    for powers in product(*(range(degree + 1) for degree in reversed(degrees))):
        powers = powers[::-1]
        totals = dict.fromkeys(groups, 0)
        for group, power in zip(groups, powers, strict=True):
            totals[group] += power
        if all(totals[group] <= limits[group] for group in groups):
            exponents.append([0, 0])
            for axis, power in zip(axes, powers, strict=True):
                exponents[-1][axis] = power
    return np.array(exponents), tuple(zero), tuple(scale)


def _images(table, n, step):
    if 'PSF_MASK' not in (table.columns.names if hasattr(table, 'columns') else ()):
        _refuse('its table PSF_DATA has no column PSF_MASK')
    images = np.array(table.data['PSF_MASK'][0], float)
    if images.ndim == 2:
        # that of a PSF that does not vary
        images = images[None]
    if images.ndim != 3 or len(images) != n:
        _refuse(f'PSF_MASK has the shape {images.shape}, want {n} images')
    if max(images.shape[1:]) * max(step, 1) > _LARGEST_SIDE:
        _refuse(f'its images of {images.shape[1:]} pixels are larger than any PSF')
    if not np.isfinite(images).all():
        _refuse('PSF_MASK has numbers that are not finite')
    return images
