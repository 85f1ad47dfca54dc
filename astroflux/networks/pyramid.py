# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
A stamp at four resolutions, at a cost that hardly depends on its size.

Pixels in the centre, and ever larger blocks around it: 809 tiles hold nearly all that
21,609 pixels hold of a galaxy that the point-spread function has smoothed.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

__all__ = [
    'BLOCKS',
    'CANVAS_SIZE',
    'PICTURE_SIZES',
    'REACH',
    'Pixels',
    'Pyramid',
    'Tiles',
    'symmetric_pictures',
    'tiles',
]

CANVAS_SIZE = 147
REACH = CANVAS_SIZE // 2

# Sides of the blocks, the squares that each tiles, outside the one before, in pixels; and
# how many blocks there are along the side of the picture of them, which has the same centre.
BLOCKS = (1, 3, 7, 21)
EXTENTS = (15, 63, 105, CANVAS_SIZE)
PICTURE_SIZES = (49, 49, 21, 7)

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
        Which they are of the picture's blocks.
    """

    x: np.ndarray
    y: np.ndarray
    side: np.ndarray
    bounds: tuple
    index: tuple


def tiles(blocks=BLOCKS, extents=EXTENTS, sizes=PICTURE_SIZES):
    """
    Return the tiles of a canvas.

    Parameters
    ----------
    blocks, extents, sizes : sequence of int
        Side of the blocks of each resolution, of the square in the centre that they tile beyond
        that of the one before, and of the picture in blocks that they are part of.

    Returns
    -------
    tiles : `Tiles`
    """
    columns, bounds, index = [], [], []
    inner = 0
    start = 0
    for block, extent, n in zip(blocks, extents, sizes, strict=True):
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
    An image at all resolutions. All values have unit noise where the weight is one.

    Attributes
    ----------
    pictures : tuple of `torch.Tensor`
        ``(n, size, size)``, of the sizes of `PICTURE_SIZES`.
    weights : tuple of `torch.Tensor`
        Inverse variances of these, 0 where nothing is known; of ``n`` or of 1.
    """

    pictures: tuple
    weights: tuple

    def with_rows(self, rows, others):
        """Return the same with others for some of the images, by their numbers."""
        return Pixels(
            *(
                tuple(a.index_copy(0, rows, b) for a, b in zip(mine, theirs, strict=True))
                for mine, theirs in (
                    (self.pictures, others.pictures),
                    (self.weights, others.weights),
                )
            )
        )


def _block_sum(picture, side):
    rows = sum(picture[:, start::side] for start in range(side))
    return sum(rows[..., start::side] for start in range(side))


def _blocks(canvas):
    """Return the sums over the blocks of each side, of the middle of the canvas for pixels."""
    edge = (CANVAS_SIZE - PICTURE_SIZES[0]) // 2
    pixels = canvas[:, edge : CANVAS_SIZE - edge, edge : CANVAS_SIZE - edge]
    sevens = _block_sum(canvas, 7)
    return pixels, _block_sum(canvas, 3), sevens, _block_sum(sevens, 3)


def _reduce(image, valid, variance):
    """Return `Pixels`: means over the valid part of each block, times its side."""
    pictures, weights = [], []
    sums = zip(BLOCKS, *map(_blocks, (image, valid, variance)), strict=True)
    for side, light, number, total in sums:
        pictures.append(light * (side / number.clamp(min=1)))
        weights.append(number**2 / (side**2 * total.clamp(min=1e-12)))
    return Pixels(tuple(pictures), tuple(weights))


def _fill(image, valid, variance, fillable):
    """Return `Pixels` with what lies across the centre where a pixel is missing."""
    return _reduce(
        torch.addcmul(image, fillable, image.flip((-2, -1))),
        valid + fillable,
        torch.addcmul(variance, fillable, variance.flip((-2, -1))),
    )


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
        # mostly nothing is missing, or the same on both sides
        rows = (valid == 0).flatten(1).any(dim=1).nonzero()[:, 0]
        fillable = (1 - valid[rows]) * valid[rows].flip((-2, -1))
        is_filled = fillable.flatten(1).any(dim=1)
        if not is_filled.any():
            return raw, raw
        if len(weight) == 1:
            return raw, _fill(image, valid, variance, fillable)
        rows, fillable = rows[is_filled], fillable[is_filled]
        return raw, raw.with_rows(rows, _fill(image[rows], valid[rows], variance[rows], fillable))

    def tile(self, pictures):
        """Return the tiles of the pictures of each side, ``(n, n_tiles)``."""
        parts = [
            picture.flatten(1)[:, getattr(self, f'index_{side}')]
            for side, picture in zip(BLOCKS, pictures, strict=True)
        ]
        return torch.cat(parts, dim=1)

    def turn(self, values):
        """Return values of tiles, ``(n, n_tiles)``, turned by 180 degrees."""
        return torch.cat([values[:, bounds].flip(1) for bounds in self._tiles.bounds], dim=1)


def symmetric_pictures(pixels):
    """
    Return the minimum of each picture of filled `Pixels` with itself turned by 180 degrees.

    What stands on one side only, such as a neighbour, disappears. The
    minimum of two noisy values is low by ``1/sqrt(pi)`` sigma; this is added
    back, so that the sum over a symmetric source is unbiased where the source
    is symmetric and the noise is one.
    """
    result = []
    for picture, weight in zip(pixels.pictures, pixels.weights, strict=True):
        both = ((weight > 0) & (weight.flip((-2, -1)) > 0)).to(picture.dtype)
        minimum = torch.minimum(picture, picture.flip((-2, -1)))
        result.append((minimum - MEAN_OF_MINIMUM) * both)
    return tuple(result)
