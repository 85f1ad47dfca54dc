# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Layers that the network is built of."""

import math

import torch
from torch import nn
from torch.nn import functional

__all__ = ['DenseResidual', 'highest_of_nine', 'picture_stack', 'silent']


def silent(layer):
    """Let a linear layer say nothing at first; return it."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class DenseResidual(nn.Module):
    """A dense layer from ``n_in`` to ``width`` units, and ``n_residual`` residual ones."""

    def __init__(self, n_in, width, n_residual):
        super().__init__()
        self.first = nn.Linear(n_in, width)
        self.later = nn.ModuleList([nn.Linear(width, width) for _ in range(n_residual)])

    def forward(self, x):
        """Return the last layer's units, ``(n, width)``."""
        x = functional.silu(self.first(x))
        for layer in self.later:
            x = x + functional.silu(layer(x))
        return x


class _ResidualBlock(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        return functional.relu(x + self.second(functional.relu(self.first(x))))


def picture_stack(n_channels, n_out):
    """
    Return layers that halve the resolution four times, then keep ``n_out`` maps of 4 x 4.

    ``n_channels`` are those of the four resolutions.
    """
    n_in, *n_later = n_channels
    # No block at the first resolution, where it would cost as much as all others.
    layers = [nn.Conv2d(3, n_in, 3, stride=2, padding=1), nn.ReLU()]
    for n in n_later:
        layers += [nn.Conv2d(n_in, n, 3, stride=2, padding=1), nn.ReLU(), _ResidualBlock(n)]
        n_in = n
    return nn.Sequential(*layers, nn.Conv2d(n_in, n_out, 1), nn.ReLU(), nn.Flatten())


def highest_of_nine(pictures):
    """
    Return the highest value within a pixel of each, ``(n, ny, nx)`` as the pictures.

    It is what ``max_pool2d`` returns, which is slower.
    """
    padded = functional.pad(pictures, (1, 1, 1, 1), value=-math.inf)
    return _highest_of_three(_highest_of_three(padded, 1), 2)


def _highest_of_three(pictures, axis):
    n = pictures.shape[axis] - 2
    first, second, third = (pictures.narrow(axis, start, n) for start in range(3))
    return torch.maximum(torch.maximum(first, second), third)
