# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What is in the tables of a survey, counted a part at a time, so that memory does not grow."""

from dataclasses import dataclass, field

import numpy as np
import pyarrow.parquet as pq
from astropy.table import QTable

from astroflux.flags import FATAL_FLAGS, FLAGS

__all__ = ['Histogram', 'SkyMap', 'Tally', 'tally_of']

# Rows that are read at once.
_ROWS = 1 << 17

# Cells of the map of the sky: about so many sources in each, and so many along its longer side.
_SOURCES_PER_CELL = 8
_FEWEST_CELLS, _MOST_CELLS = 8, 200


class Histogram:
    """
    How many sources have which value, and how many of those have no flags.

    Parameters
    ----------
    low, high, step : float
        Range and width of the bins. What is outside, or NaN, is not counted.
    """

    def __init__(self, low, high, step):
        self._edges = low + step * np.arange(round((high - low) / step) + 1)
        self._counts = np.zeros((2, len(self._edges) - 1), np.int64)

    def add(self, values, has_no_flags):
        """Count some sources."""
        for row, some in enumerate((values, values[has_no_flags])):
            self._counts[row] += np.histogram(some, self._edges)[0]

    @property
    def n(self):
        """How many sources are counted."""
        return int(self._counts[0].sum())

    @property
    def bins(self):
        """Edges of the bins from the first to the last with a source, and the counts in them."""
        filled = np.flatnonzero(self._counts[0])
        first, last = (filled[0], filled[-1] + 1) if len(filled) else (0, 0)
        return self._edges[first : last + 1], *self._counts[:, first:last]


@dataclass
class SkyMap:
    """
    How many sources there are where in the sky.

    Attributes
    ----------
    ra, dec : `~numpy.ndarray`
        Edges of the cells in degrees; ``ra`` may begin below 0.
    counts : 2D `~numpy.ndarray`
        Sources in each cell, ``(len(dec) - 1, len(ra) - 1)``.
    """

    ra: np.ndarray
    dec: np.ndarray
    counts: np.ndarray

    def add(self, ra, dec):
        """Count some sources."""
        ra = (ra - self.ra[0]) % 360 + self.ra[0]
        self.counts += np.histogram2d(dec, ra, (self.dec, self.ra))[0].astype(np.int64)

    @property
    def density(self):
        """Sources per square arcmin."""
        sin = np.sin(np.radians(self.dec))
        areas = np.degrees(np.diff(sin))[:, None] * np.diff(self.ra) * 3600
        return self.counts / areas


@dataclass
class Tally:
    """
    What is in the tables of a survey.

    Attributes
    ----------
    n, n_flagged : int
        Rows, and those with any flag.
    flags : dict of str to int
        How many rows have each flag, of those that any row has.
    snr : `Histogram`
        Of log10 of flux over error.
    brightness : `Histogram`
        Of AB magnitudes, or if there are none of log10 of the flux.
    is_mag : bool
        Whether it is of magnitudes.
    unit : str
        Of the fluxes.
    sky : `SkyMap` or None
        `None` if no position on the sky is known.
    meta : dict
        How the first table was made.
    """

    n: int = 0
    n_flagged: int = 0
    flags: dict = field(default_factory=dict)
    snr: Histogram = field(default_factory=lambda: Histogram(-1, 7, 0.1))
    brightness: Histogram = None
    is_mag: bool = False
    unit: str = ''
    sky: SkyMap | None = None
    meta: dict = field(default_factory=dict)


def tally_of(paths):
    """
    Count what is in the tables of a survey.

    Parameters
    ----------
    paths : list of `~pathlib.Path`
        The Parquet files.

    Returns
    -------
    tally : `Tally`
    """
    tally = Tally()
    if paths:
        first = QTable.read(paths[0], include_names=['flux'])
        tally.meta, tally.unit = first.meta, str(first['flux'].unit or '')
    tally.is_mag = any(
        np.isfinite(part['mag']).any() for part in _parts(paths, ['mag']) if 'mag' in part
    )
    bins = (-10, 50, 0.25) if tally.is_mag else (-30, 30, 0.1)
    tally.brightness = Histogram(*bins)
    tally.sky = _empty_map(paths)
    counts = dict.fromkeys((flag.name for flag in FLAGS), 0)
    for part in _parts(paths, ['flags', 'snr', 'mag', 'flux', 'ra', 'dec']):
        flags = part['flags']
        tally.n += len(flags)
        tally.n_flagged += int(np.count_nonzero(flags))
        for flag in FLAGS:
            counts[flag.name] += int(np.count_nonzero(flags & flag.bit))
        _add_values(tally, part)
        if tally.sky is not None:
            tally.sky.add(part['ra'], part['dec'])
    tally.flags = {name: n for name, n in counts.items() if n}
    return tally


def _parts(paths, names):
    """Yield columns of the tables, those that there are, some rows at a time."""
    for path in paths:
        with pq.ParquetFile(path) as file:
            there = [name for name in names if name in file.schema_arrow.names]
            for batch in file.iter_batches(_ROWS, columns=there):
                yield {name: batch[name].to_numpy(zero_copy_only=False) for name in there}


def _add_values(tally, part):
    measured = part['flags'] & FATAL_FLAGS == 0
    has_no_flags = part['flags'][measured] == 0
    with np.errstate(divide='ignore', invalid='ignore'):
        tally.snr.add(np.log10(part['snr'][measured]), has_no_flags)
        values = part['mag'] if tally.is_mag else np.log10(part['flux'])
    tally.brightness.add(values[measured], has_no_flags)


def _empty_map(paths):
    """Return a map of the part of the sky that has sources; `None` if they have no positions."""
    n, dec, turns = 0, [90.0, -90.0], np.array([[360.0, 0.0], [180.0, -180.0]])
    for part in _parts(paths, ['ra', 'dec']):
        if not {'ra', 'dec'} <= part.keys():
            continue
        known = np.isfinite(part['ra']) & np.isfinite(part['dec'])
        if not known.any():
            continue
        n += np.count_nonzero(known)
        dec = _range_with(dec, part['dec'][known])
        # from 0 to 360, and from -180 to 180, which the smaller range is taken of
        ra = part['ra'][known] % 360
        turns = [_range_with(turns[0], ra), _range_with(turns[1], (ra + 180) % 360 - 180)]
    if not n:
        return None
    ra = min(turns, key=np.ptp)
    shrinks = max(np.cos(np.radians(np.mean(dec))), 0.01)
    width, height = max(np.ptp(ra) * shrinks, 1e-3), max(np.ptp(dec), 1e-3)
    side = np.sqrt(width * height * _SOURCES_PER_CELL / n)
    side = np.clip(side, max(width, height) / _MOST_CELLS, max(width, height) / _FEWEST_CELLS)
    edges = [
        np.linspace(
            middle - length / 2, middle + length / 2, max(round(length * per / side), 1) + 1
        )
        # a little wider, as the last edge is not counted after a turn
        for middle, length, per in (
            (np.mean(ra), 1.001 * width / shrinks, shrinks),
            (np.mean(dec), 1.001 * height, 1),
        )
    ]
    return SkyMap(*edges, np.zeros((len(edges[1]) - 1, len(edges[0]) - 1), np.int64))


def _range_with(given, values):
    return [min(given[0], values.min()), max(given[1], values.max())]
