# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What is known of the sources of an image while they are measured, again and again."""

from copy import copy

import numpy as np

from astroflux.estimators._rows import RowCollector
from astroflux.estimators._sky_error import ENDS
from astroflux.flags import FATAL_FLAGS
from astroflux.flags import MeasurementFlag as Flag

__all__ = ['FieldResults', 'nearest_pixel']

# What a `Cutout` holds of its pixels, which is not kept.
_PIXELS = ('data', 'sigma', 'ignored', '_noise', '_mask', 'psf', 'neighbors')


class FieldResults:
    """
    The last measurement of each source, and where it is.

    Parameters
    ----------
    n : int
        Number of sources.

    Attributes
    ----------
    is_measured : `~numpy.ndarray`
        ``(n,)`` bool, of the last measurement of each.
    fwhm, noise : `~numpy.ndarray`
        ``(n,)``, of the PSF in pixels, and of a pixel at the source; NaN where unknown.
    """

    def __init__(self, n):
        self._places = [None] * n
        self.is_measured = np.zeros(n, bool)
        self.fwhm, self.noise = np.full((2, n), np.nan)
        self.forget()

    def __len__(self):
        return len(self._places)

    def forget(self):
        """Forget all measurements, but not where the sources are."""
        self._columns, self._messages = {}, {}
        self.is_measured[:] = False

    def place(self, row):
        """Return the `~astroflux.cutouts.Cutout` of a source, without its pixels."""
        return self._places[row]

    @property
    def position(self):
        """Of all sources in the image, ``(n, 2)``; NaN where unknown."""
        return np.array([np.add(p.position, p.origin) for p in self._places], float).reshape(-1, 2)

    def column(self, name):
        """Return what was measured, NaN of sources that never were."""
        empty = np.full(len(self), np.nan)
        return self._columns.get(name, empty)

    def is_good(self, rows):
        """Return which of some sources that were measured have no fatal flag."""
        return self._columns['flags'][rows] & FATAL_FLAGS == 0

    def keep_places(self, rows, cutouts):
        """Keep what is to be told of cutouts, but not their pixels."""
        for row, cutout in zip(rows, cutouts, strict=True):
            if not cutout.is_failed:
                at = nearest_pixel(cutout.position, cutout.shape)
                self.fwhm[row] = cutout.psf_fwhm
                self.noise[row] = cutout.sigma if np.ndim(cutout.sigma) == 0 else cutout.sigma[at]
            place = copy(cutout)
            for name in _PIXELS:
                setattr(place, name, None)
            self._places[row] = place
        self.is_measured[rows] = False

    def keep(self, rows, results):
        """Keep what was measured: results as of ``_measure_batch`` of an estimator."""
        results = dict(results)
        messages = results.pop('messages', None) or [None] * len(rows)
        self._messages |= dict(zip(rows.tolist(), messages, strict=True))
        self.is_measured[rows] = True
        results.setdefault('flags', np.zeros(len(rows), int))
        for name, values in results.items():
            values = np.asarray(values)
            if name not in self._columns:
                empty = 0 if name == 'flags' else np.nan
                self._columns[name] = np.full(len(self), empty, values.dtype)
            self._columns[name][rows] = values

    def widen(self, rows, error):
        """Add errors to those of the fluxes of some sources."""
        flux = self._columns['flux'][rows]
        with np.errstate(invalid='ignore'):
            self._columns['flux_err'][rows] = np.hypot(self._columns['flux_err'][rows], error)
            for name, n_sigma in ENDS.items():
                if name in self._columns:
                    half = np.hypot(self._columns[name][rows] - flux, n_sigma * error)
                    self._columns[name][rows] = flux + np.sign(n_sigma) * half

    def divide(self, rows, share, error):
        """
        Divide what was measured of a source among a group, with the errors of the shares.

        The first of the rows is the one that was measured for all.
        """
        leader, others = rows[0], rows[1:]
        for values in self._columns.values():
            values[others] = values[leader]
        self._messages |= dict.fromkeys(others.tolist(), self._messages.get(leader))
        self.is_measured[others] = True
        self._columns['flags'][rows] |= int(Flag.BLENDED)
        whole = self._columns['flux'][leader]
        for name in ('flux', *ENDS):
            if name in self._columns:
                # the error of the whole stays
                self._columns[name][rows] += (share - 1) * whole
        if 'flux_uniform_prior' in self._columns:
            self._columns['flux_uniform_prior'][rows] *= share
        self.widen(rows, error * whole)

    def fail(self, rows):
        """Let a group fail as the first of its rows did."""
        leader, others = rows[0], rows[1:]
        self.is_measured[others] = False
        for row in others:
            place = copy(self._places[row])
            place.flags, place.message = (
                getattr(self._places[leader], name) for name in ('flags', 'message')
            )
            self._places[row] = place

    def rows(self, extra_units):
        """Return a `~astroflux.estimators._rows.RowCollector` of all sources."""
        rows = RowCollector(extra_units)
        measured = np.flatnonzero(self.is_measured)
        results = {name: values[measured] for name, values in self._columns.items()}
        results['messages'] = [self._messages.get(row) for row in measured.tolist()]
        rows.add(self._places, measured.tolist(), results)
        return rows


def nearest_pixel(position, shape):
    """Return the row and the column of the pixel of an image that is nearest to a position."""
    return tuple(
        int(np.clip(round(at), 0, length - 1))
        for at, length in zip(position[::-1], shape, strict=True)
    )
