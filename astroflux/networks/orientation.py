# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""One of the eight ways to flip and turn a stamp, by which the network always sees it."""

import math
from dataclasses import dataclass

import numpy as np

__all__ = ['BOX_REACH', 'ORIENTATIONS', 'ROUNDING', 'Orientation']

# Half the side of the box whose light decides how a stamp is turned.
BOX_REACH = 16

# What a position in pixels may be off by when it was one in the sky.
ROUNDING = 1e-6


@dataclass(frozen=True)
class Orientation:
    """
    One of the eight flips and quarter turns of a stamp.

    Attributes
    ----------
    flip_y, flip_x : bool
        Whether to reverse rows and columns.
    transpose : bool
        Whether to exchange them, after that.
    """

    flip_y: bool = False
    flip_x: bool = False
    transpose: bool = False

    @classmethod
    def of(cls, data, position, reach=BOX_REACH):
        """
        Return the orientation in which a stamp is seen, the same whichever way it is turned.

        The light within ``reach`` pixels of the position, ``(x, y)`` along each axis, is to lean
        towards the upper right, and more to the right.
        """
        bounds = [
            (max(0, math.ceil(c - ROUNDING) - reach), min(n, math.floor(c + ROUNDING) + reach + 1))
            for c, n in zip(position[::-1], data.shape, strict=True)
        ]
        box = data[bounds[0][0] : bounds[0][1], bounds[1][0] : bounds[1][1]]
        lean_y = float((np.arange(*bounds[0]) - position[1]) @ box.sum(axis=1))
        lean_x = float((np.arange(*bounds[1]) - position[0]) @ box.sum(axis=0))
        return cls(lean_y < 0, lean_x < 0, abs(lean_y) > abs(lean_x))

    def apply(self, image):
        """Return a view of an image as it is seen."""
        turned = image[:: -1 if self.flip_y else 1, :: -1 if self.flip_x else 1]
        return turned.T if self.transpose else turned

    def undo(self, image):
        """Return a view of a seen image as it came."""
        turned = image.T if self.transpose else image
        return turned[:: -1 if self.flip_y else 1, :: -1 if self.flip_x else 1]

    def move(self, position, shape):
        """Return where a position ``(x, y)`` is seen; the shape is that of the image as it came."""
        x, y = position
        y = shape[0] - 1 - y if self.flip_y else y
        x = shape[1] - 1 - x if self.flip_x else x
        return (y, x) if self.transpose else (x, y)

    def move_back(self, position, shape):
        """Return where what is seen at a position ``(x, y)`` is in the image as it came."""
        x, y = position[::-1] if self.transpose else position
        y = shape[0] - 1 - y if self.flip_y else y
        x = shape[1] - 1 - x if self.flip_x else x
        return x, y


# All eight: the four turns by a quarter, and these with rows and columns exchanged.
ORIENTATIONS = tuple(
    Orientation(flip_y, flip_x, (flip_y != flip_x) != exchanged)
    for exchanged in (False, True)
    for flip_y, flip_x in ((False, False), (False, True), (True, True), (True, False))
)
