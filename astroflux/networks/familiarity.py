# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""How much a case looks like those of the training, at its signal-to-noise ratio."""

import torch
from torch import nn

__all__ = ['Familiarity']

# What is usual depends on the S/N: it is told for so many of them, and in between by
# interpolation. Each takes so many cases, or there are fewer.
N_KNOTS = 12
CASES_PER_KNOT = 200

# A feature's usual range, between these parts of the cases.
USUAL = (0.005, 0.995)

# Ranges are at least this part of the typical one.
SMALLEST_RANGE = 1e-2
SMALLEST_VARIANCE = 1e-4

# Features, in units of their ranges, are drawn in beyond this.
SOFT_LIMIT = 3.0

# The higher, the more it is the strangest of the numbers that counts.
POWER = 8.0


class Familiarity(nn.Module):
    """
    How strange the strangest group of a case's features is.

    In units of what a given part of familiar cases stays below.

    Parameters
    ----------
    sizes : sequence of int
        Number of features of each group.
    """

    def __init__(self, sizes):
        super().__init__()
        self.sizes = list(sizes)
        self.groups = nn.ModuleList(_Group(size) for size in self.sizes)
        # large, but finite: averages of it are taken
        self.register_buffer('limit', torch.full((), 1e30))

    def _distance(self, features, snr):
        parts = zip(self.groups, features.split(self.sizes, dim=1), strict=True)
        return torch.stack([group(part, snr.log()) for group, part in parts]).amax(dim=0)

    def forward(self, features, snr):
        """
        Return how far cases are from the familiar ones.

        Parameters
        ----------
        features : `torch.Tensor`
            ``(n, n_features)``, those of all groups.
        snr : `torch.Tensor`
            ``(n,)``, signal-to-noise ratio.

        Returns
        -------
        novelty : `torch.Tensor`
            ``(n,)``; above one, a case is as strange as hardly any of the training.
        """
        return self._distance(features, snr) / self.limit

    def fit(self, features, snr, level=0.99):
        """
        Learn what is familiar: what is usual from every second case, the limit from the others.

        Parameters
        ----------
        features : `torch.Tensor`
            ``(n, n_features)`` of cases like those of the training.
        snr : `torch.Tensor`
            ``(n,)``, their signal-to-noise ratios.
        level : float
            Part of them that is to be below a novelty of one.
        """
        ln_snr = snr.log()
        for group, part in zip(self.groups, features.split(self.sizes, dim=1), strict=True):
            group.fit(part[::2], ln_snr[::2].contiguous())
            group.limit.copy_(_quantile(group(part[1::2], ln_snr[1::2].contiguous()), level))
        self.limit.copy_(_quantile(self._distance(features[1::2], snr[1::2].contiguous()), level))

    def extend(self, features, snr, level=0.99):
        """
        Raise the limit, if need be, so that other cases are familiar, too.

        Parameters
        ----------
        features, snr, level
            As for `fit`.
        """
        self.limit.mul_(_quantile(self(features, snr), level).clamp(min=1))


class _Group(nn.Module):
    """
    Distance of features from those of the training that were as bright.

    Each feature is put in units of its usual range, below and above the median, at the S/N of
    the case. So are the principal components of these, as a combination may be strange whose
    parts are not. The distance is a mean of high power over all, in units of the distance that
    a given part of familiar cases stays below.

    Parameters
    ----------
    n_features : int
        Number of features.
    """

    def __init__(self, n_features):
        super().__init__()
        for name, shape in {
            'knots': (N_KNOTS,),
            'centre': (N_KNOTS, n_features),
            'below': (N_KNOTS, n_features),
            'above': (N_KNOTS, n_features),
            'component_centre': (n_features,),
            'component_below': (n_features,),
            'component_above': (n_features,),
        }.items():
            fill = torch.zeros if 'centre' in name else torch.ones
            self.register_buffer(name, fill(shape))
        # torch.eye takes a second to load what it needs for a network without memory
        unit = torch.zeros(n_features, n_features).fill_diagonal_(1)
        self.register_buffer('components', unit)
        self.register_buffer('limit', torch.ones(()))

    @staticmethod
    def _in_ranges(values, centre, below, above):
        offset = values - centre
        return offset / torch.where(offset < 0, below, above)

    def _usual(self, features, ln_snr):
        """Return features in units of their ranges at this S/N."""
        upper = torch.searchsorted(self.knots, ln_snr).clamp(1, N_KNOTS - 1)
        low, high = self.knots[upper - 1], self.knots[upper]
        part = ((ln_snr - low) / (high - low).clamp(min=1e-6)).clamp(0, 1)[:, None]
        ranges = (
            torch.lerp(table[upper - 1], table[upper], part)
            for table in (self.centre, self.below, self.above)
        )
        return self._in_ranges(features, *ranges)

    @staticmethod
    def _soften(values):
        return SOFT_LIMIT * torch.asinh(values / SOFT_LIMIT)

    def forward(self, features, ln_snr):
        alone = self._usual(features, ln_snr)
        together = self._in_ranges(
            self._soften(alone) @ self.components,
            self.component_centre,
            self.component_below,
            self.component_above,
        )
        # drawn in, so that no power is too large for a float
        all_numbers = self._soften(torch.cat([alone, together], dim=1))
        return (all_numbers.abs() ** POWER).mean(dim=1) ** (1 / POWER) / self.limit

    def fit(self, features, ln_snr):
        n_knots = min(N_KNOTS, max(1, len(features) // CASES_PER_KNOT))
        groups = ln_snr.argsort().tensor_split(n_knots)
        # with fewer knots, the last one stands for the rest
        groups = [*groups, *[groups[-1]] * (N_KNOTS - n_knots)]
        typical = _half_ranges(features)
        for number, rows in enumerate(groups):
            self.knots[number] = ln_snr[rows].median()
            centre, below, above = _half_ranges(features[rows])
            self.centre[number] = centre
            floor = SMALLEST_RANGE * torch.minimum(typical[1], typical[2])
            floor = floor.clamp(min=SMALLEST_RANGE)
            self.below[number] = torch.maximum(below, floor)
            self.above[number] = torch.maximum(above, floor)

        soft = self._soften(self._usual(features, ln_snr))
        values, vectors = torch.linalg.eigh(torch.cov(soft.T).double())
        values = values.clamp(min=SMALLEST_VARIANCE * float(values.max()))
        self.components.copy_((vectors / values.sqrt()).to(soft.dtype))
        centre, below, above = _half_ranges(soft @ self.components)
        self.component_centre.copy_(centre)
        # their variance is one, unless it was too small to divide by
        self.component_below.copy_(below.clamp(min=1.0))
        self.component_above.copy_(above.clamp(min=1.0))


def _quantile(values, level):
    """Return a quantile along the first axis; torch's own takes 16 million numbers at most."""
    ordered = values.sort(dim=0).values
    return ordered[round(level * (len(values) - 1))]


def _half_ranges(values):
    """Return the median of each column, and how far its usual range reaches below and above."""
    low, centre, high = (_quantile(values, level) for level in (USUAL[0], 0.5, USUAL[1]))
    return centre, centre - low, high - centre
