# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The network of the study of 2024: two convolutions and a dense layer, on raw pixels."""

import math

import torch
from torch import nn
from torch.nn import functional

__all__ = ['SIDE', 'STRETCHES', 'StudyNet']

# Pixels along an axis of an image.
SIDE = 143

CHANNELS = (12, 24)
N_NEURONS = 64

# What the pixels pass through after they were divided by the scale.
STRETCHES = {'linear': None, 'asinh': torch.asinh}


class StudyNet(nn.Module):
    """
    Decimal logarithm of the flux of a galaxy, from an image in ADU.

    Two 3 x 3 convolutions of 12 and 24 filters, each with a ReLU and 2 x 2 max-pooling; a dense
    layer of 64 neurons with ReLU and dropout; one output. The study fed it raw pixels, as do the
    defaults; the other parameters are what its reproduction varies.

    Parameters
    ----------
    dropout : float
        Share of the neurons that are left out in training.
    scale : float
        Pixels are divided by this, in ADU.
    stretch : {'linear', 'asinh'}
        Function that the divided pixels pass through.
    n_columns : int
        Further numbers per galaxy, which join the pooled maps before the dense layer. The
        buffers ``column_mean`` and ``column_scale`` standardise them.

    Attributes
    ----------
    settings : dict
        The parameters, to build the network again.

    Raises
    ------
    ValueError
        If the scale is not positive or the stretch is unknown.
    """

    def __init__(self, dropout=0.2, scale=1.0, stretch='linear', n_columns=0):
        super().__init__()
        if not 0 < scale < math.inf:
            msg = f'scale must be positive and finite, got {scale!r}'
            raise ValueError(msg)
        if stretch not in STRETCHES:
            known = ' or '.join(repr(name) for name in STRETCHES)
            msg = f'stretch must be {known}, got {stretch!r}'
            raise ValueError(msg)
        self.settings = {
            'dropout': dropout,
            'scale': scale,
            'stretch': stretch,
            'n_columns': n_columns,
        }
        self.first = nn.Conv2d(1, CHANNELS[0], 3, stride=1, padding=1)
        self.second = nn.Conv2d(*CHANNELS, 3, stride=1, padding=1)
        side = SIDE // 4
        self.dense = nn.Linear(CHANNELS[1] * side * side + n_columns, N_NEURONS)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(N_NEURONS, 1)
        if n_columns:
            self.register_buffer('column_mean', torch.zeros(n_columns))
            self.register_buffer('column_scale', torch.ones(n_columns))

    def forward(self, image, columns=None):
        """
        Measure a batch of images.

        Parameters
        ----------
        image : `torch.Tensor`
            ``(n, 1, 143, 143)`` float32, in ADU, with the galaxy in the middle.
        columns : `torch.Tensor`, optional
            ``(n, n_columns)``, not standardised; needed if there are any.

        Returns
        -------
        log_flux : `torch.Tensor`
            ``(n,)``, decimal logarithm of the flux in ADU.

        Raises
        ------
        ValueError
            If images or columns have another shape.
        """
        return self.answer(self.neurons(image, columns))

    def maps(self, image):
        """Return what the convolutions make of the images: ``(n, 24, 35, 35)``."""
        if image.ndim != 4 or image.shape[1:] != (1, SIDE, SIDE):
            msg = f'want images of the shape (n, 1, {SIDE}, {SIDE}), got {tuple(image.shape)}'
            raise ValueError(msg)
        maps = image / self.settings['scale'] if self.settings['scale'] != 1 else image
        if (stretch := STRETCHES[self.settings['stretch']]) is not None:
            maps = stretch(maps)
        # Channels last in memory, which convolutions on a CPU prefer: of one channel, the strides
        # have to say so. The ReLU follows the pooling, with the same result at a quarter of the
        # cost: both keep the order of values.
        maps = maps.reshape(len(maps), SIDE, SIDE, 1).permute(0, 3, 1, 2)
        for convolution in (self.first, self.second):
            maps = functional.relu(functional.max_pool2d(convolution(maps), 2))
        return maps

    def neurons(self, image, columns=None):
        """Return the 64 neurons of the dense layer, before the dropout; as for `forward`."""
        features = self.maps(image).flatten(1)
        n_columns = self.settings['n_columns']
        given = None if columns is None else tuple(columns.shape)
        wanted = (len(image), n_columns) if n_columns else None
        if given != wanted:
            msg = f'want columns of the shape {wanted}, got {given}'
            raise ValueError(msg)
        if n_columns:
            columns = (columns - self.column_mean) / self.column_scale
            features = torch.cat([features, columns], dim=1)
        return functional.relu(self.dense(features))

    def answer(self, neurons):
        """Return the output of `neurons`, ``(n,)``, with dropout when in training mode."""
        return self.output(self.dropout(neurons))[:, 0]

    @property
    def n_parameters(self):
        """Number of trained parameters."""
        return sum(math.prod(p.shape) for p in self.parameters())
