# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
A stamp at three resolutions, at a cost that hardly depends on its size.

Pixels in the centre, blocks of 3 x 3 around it, blocks of 7 x 7 far out: a few
hundred of each tile the stamp, and hold nearly all that 21,609 pixels hold of a
galaxy that the point-spread function has smoothed.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

__all__ = [
    'BLOCKS',
    'CANVAS_SIZE',
    'PICTURE_SIZE',
    'REACH',
    'Pixels',
    'Pyramid',
    'Tiles',
    'central_part',
    'symmetric_pictures',
    'tiles',
]

CANVAS_SIZE = 147
REACH = CANVAS_SIZE // 2

# Sides of the blocks; each divides the canvas or, for single pixels, the next one's.
BLOCKS = (1, 3, 7)

# The squares that pixels, and blocks of three, tile; in pixels.
FINE_EXTENT = 27
MIDDLE_EXTENT = 63

# Pixels and blocks of three, seen as pictures.
PICTURE_SIZE = 49

# The mean of the smaller of two standard normal deviates is -1/sqrt(pi).
MEAN_OF_MINIMUM = -1.0 / math.sqrt(math.pi)


@dataclass(frozen=True)
class Tiles:
    """
    The tiles of a canvas.

    Attributes
    ----------
    x, y : `~numpy.ndarray`
        ``(n_tiles,)`` centres, from the canvas's.
    side : `~numpy.ndarray`
        In pixels.
    bounds : tuple of slice
        The tiles of each side, in the order of `BLOCKS`.
    index : tuple of `~numpy.ndarray`
        Which they are of the canvas's pixels, or of its blocks.
    """

    x: np.ndarray
    y: np.ndarray
    side: np.ndarray
    bounds: tuple
    index: tuple


def tiles():
    """
    Return the tiles of a canvas.

    Returns
    -------
    tiles : `Tiles`
    """
    columns, bounds, index = [], [], []
    inner = 0
    start = 0
    for block, extent in zip(BLOCKS, (FINE_EXTENT, MIDDLE_EXTENT, CANVAS_SIZE), strict=True):
        n = CANVAS_SIZE // block
        ticks = block * (np.arange(n) - n // 2)
        y, x = (axis.ravel() for axis in np.meshgrid(ticks, ticks, indexing='ij'))
        distance = np.maximum(abs(x), abs(y))
        chosen = np.flatnonzero((distance >= inner / 2) & (distance < extent / 2))
        columns.append((x[chosen], y[chosen], np.full(len(chosen), block)))
        index.append(chosen)
        bounds.append(slice(start, start + len(chosen)))
        start += len(chosen)
        inner = extent
    x, y, side = (np.concatenate(column).astype(float) for column in zip(*columns, strict=True))
    return Tiles(x, y, side, tuple(bounds), tuple(index))


@dataclass
class Pixels:
    """
    An image at the three resolutions. All values have unit noise where the weight is one.

    Attributes
    ----------
    pictures : tuple of `torch.Tensor`
        ``(n, size, size)`` blocks of the whole canvas, for each side.
    weights : tuple of `torch.Tensor`
        Inverse variances of these, 0 where nothing is known; of ``n`` or of 1.
    """

    pictures: tuple
    weights: tuple


def _block_sum(picture, side):
    if side == 1:
        return picture
    rows = sum(picture[:, start::side] for start in range(side))
    return sum(rows[..., start::side] for start in range(side))


def _reduce(image, valid, variance):
    """Return `Pixels`: means over the valid part of each block, times its side."""
    pictures, weights = [], []
    for side in BLOCKS:
        number, total = _block_sum(valid, side), _block_sum(variance, side)
        pictures.append(_block_sum(image, side) * (side / number.clamp(min=1)))
        weights.append(number**2 / (side**2 * total.clamp(min=1e-12)))
    return Pixels(tuple(pictures), tuple(weights))


class Pyramid(nn.Module):
    """
    Reduce stamps to pixels and blocks.

    Attributes
    ----------
    n_tiles : int
        Number of tiles.
    """

    def __init__(self):
        super().__init__()
        self._tiles = tiles()
        self.n_tiles = len(self._tiles.x)
        for side, index in zip(BLOCKS, self._tiles.index, strict=True):
            self.register_buffer(f'index_{side}', torch.as_tensor(index), persistent=False)

    def forward(self, image, weight):
        """
        Reduce a batch of stamps.

        Parameters
        ----------
        image : `torch.Tensor`
            ``(n, 147, 147)``; 0 where the weight is.
        weight : `torch.Tensor`
            Inverse variance, 0 where a pixel does not exist or cannot be
            used: same shape, or ``(1, 147, 147)`` if that is the same for all.

        Returns
        -------
        raw, filled : `Pixels`
            As it is, and with what is missing replaced by what lies across
            the centre.
        """
        valid = (weight > 0).to(image.dtype)
        variance = valid / weight.clamp(min=1e-12)
        raw = _reduce(image, valid, variance)
        fillable = (1 - valid) * valid.flip((-2, -1))
        if not fillable.any():
            return raw, raw
        turned = [t.flip((-2, -1)) for t in (image, variance)]
        filled = _reduce(
            torch.addcmul(image, fillable, turned[0]),
            valid + fillable,
            torch.addcmul(variance, fillable, turned[1]),
        )
        return raw, filled

    def tile(self, pictures):
        """
        Return the tiles of pictures.

        Parameters
        ----------
        pictures : tuple of `torch.Tensor`
            For each side.

        Returns
        -------
        values : `torch.Tensor`
            ``(n, n_tiles)``.
        """
        parts = [
            picture.flatten(1)[:, getattr(self, f'index_{side}')]
            for side, picture in zip(BLOCKS, pictures, strict=True)
        ]
        return torch.cat(parts, dim=1)


def symmetric_pictures(pixels):
    """
    Return each picture's minimum with itself turned by 180 degrees.

    What stands on one side only, such as a neighbour, disappears. The
    minimum of two noisy values is low by ``1/sqrt(pi)`` sigma; this is added
    back, so that the sum over a symmetric source is unbiased where the source
    is symmetric and the noise is one.

    Parameters
    ----------
    pixels : `Pixels`
        Filled.

    Returns
    -------
    pictures : tuple of `torch.Tensor`
        For each side.
    """
    result = []
    for picture, weight in zip(pixels.pictures, pixels.weights, strict=True):
        both = ((weight > 0) & (weight.flip((-2, -1)) > 0)).to(picture.dtype)
        minimum = torch.minimum(picture, picture.flip((-2, -1)))
        result.append((minimum - MEAN_OF_MINIMUM) * both)
    return tuple(result)


def central_part(picture, size=PICTURE_SIZE):
    """
    Return the centre of pictures.

    Parameters
    ----------
    picture : `torch.Tensor`
        ``(n, larger, larger)``, odd.
    size : int
        Odd.

    Returns
    -------
    centre : `torch.Tensor`
        ``(n, size, size)``.
    """
    edge = (picture.shape[-1] - size) // 2
    return picture[:, edge : edge + size, edge : edge + size]
