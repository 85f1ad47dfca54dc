# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""How much a case looks like those of the training."""

import torch
from torch import nn

__all__ = ['Familiarity']

# Variances of features are taken to be at least this part of the largest one.
SMALLEST_VARIANCE = 1e-4

# Features of normal cases are within a few units; others are drawn in.
SOFT_LIMIT = 3.0


class Familiarity(nn.Module):
    """
    Mahalanobis distance of features from those of the training.

    In units of the distance that a given part of familiar cases stays below.

    Parameters
    ----------
    n_features : int
        Number of features.
    """

    def __init__(self, n_features):
        super().__init__()
        self.register_buffer('centre', torch.zeros(n_features))
        self.register_buffer('whiten', torch.eye(n_features))
        self.register_buffer('limit', torch.full((), float('inf')))

    @staticmethod
    def _soften(features):
        return SOFT_LIMIT * torch.asinh(features / SOFT_LIMIT)

    def _distance(self, features):
        return ((self._soften(features) - self.centre) @ self.whiten).norm(dim=1)

    def forward(self, features):
        """
        Return how far cases are from the familiar ones.

        Parameters
        ----------
        features : `torch.Tensor`
            ``(n, n_features)``, of order one in familiar cases.

        Returns
        -------
        novelty : `torch.Tensor`
            ``(n,)``; above one, a case is as strange as hardly any of the training.
        """
        return self._distance(features) / self.limit

    def fit(self, features, level=0.99):
        """
        Learn what is familiar.

        Parameters
        ----------
        features : `torch.Tensor`
            ``(n, n_features)`` of cases like those of the training.
        level : float
            Part of them that is to be below a novelty of one.
        """
        soft = self._soften(features)
        self.centre.copy_(soft.mean(dim=0))
        values, vectors = torch.linalg.eigh(torch.cov(soft.T).double())
        values = values.clamp(min=SMALLEST_VARIANCE * float(values.max()))
        self.whiten.copy_((vectors / values.sqrt()).to(self.whiten.dtype))
        self.limit.copy_(self._distance(features).quantile(level))
