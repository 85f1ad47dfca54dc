# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Correct fluxes and widths of errors by what galaxies of known flux in the same image tell."""

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from astropy import units as u

from astroflux._work import write_whole
from astroflux.estimators._magnitudes import MAG_OF_LN, N_SIGMA_95
from astroflux.flags import FATAL_FLAGS, MeasurementFlag

__all__ = ['FACTOR_COLUMNS', 'Recalibration', 'as_recalibration']

# The format of the file.
FORMAT = 'astroflux recalibration 1'

# Galaxies of a bin of S/N, and the most bins.
PER_BIN = 60
MOST_BINS = 6

# A bin says so much of the correction as n / (n + this) of its n galaxies.
PRIOR = 20

# The scatter of ln(flux) of a bin is taken to be this at least.
SMALLEST_SCATTER = 1e-4

# Fewer galaxies correct nothing.
FEWEST = 40

COVERAGES = {'68': 0.6827, '95': 0.95}

# The columns of the factors, and what they hold.
FLUX_FACTOR, FACTOR_68, FACTOR_95 = 'recal_flux', 'recal_68', 'recal_95'
FACTOR_COLUMNS = {
    FLUX_FACTOR: 'what the recalibration multiplied fluxes, errors and intervals by',
    FACTOR_68: 'what it multiplied the error and the halves of the 68 % interval by besides',
    FACTOR_95: 'what it multiplied the halves of the 95 % interval by besides',
}

_FLUXES = ('flux', 'flux_uniform_prior')
_INTERVALS = {
    FACTOR_68: ('flux_lower', 'flux_upper'),
    FACTOR_95: ('flux_lower_95', 'flux_upper_95'),
}
LOW_SNR = 5.0


@dataclass(frozen=True)
class Recalibration:
    """
    A correction of fluxes and errors, as functions of the measured signal-to-noise ratio.

    Fluxes, their errors and intervals are divided by ``exp(bias)``. Then the error and the halves
    of the 68 % interval are multiplied by one factor, and those of the 95 % interval by another.
    Between the points of the table below, these are linear in ln(S/N), and constant beyond.

    Each point is of a bin of galaxies of known flux. ``bias`` is their median of
    ln(measured / true). The factors are conformal: what makes the interval hold as many of them as
    it should. What all ``n`` galaxies say together counts as ``n / (n + 20)``, and so does, of its
    own galaxies, what a bin differs from that: few correct little. All three are made monotone by
    isotonic regression; a bias counts for as much as it is known.

    Attributes
    ----------
    snr : tuple of float
        Measured S/N of the points.
    bias, factor_68, factor_95 : tuple of float
        At these.
    n : int
        Number of galaxies.
    method : str
        Class of the estimator that measured them.
    weights : str or None
        Its weights, if it has any.
    neighbors : str
        What became of the light of neighbors, as ``measure_field`` has it.
    origin : dict
        How the galaxies were made.
    file : str
        Name of the file it was read from.
    """

    snr: tuple
    bias: tuple
    factor_68: tuple
    factor_95: tuple
    n: int
    method: str
    weights: str | None = None
    neighbors: str = 'model'
    origin: dict = field(default_factory=dict)
    file: str = ''

    @classmethod
    def from_injection(cls, result):
        """
        Learn from galaxies that were put into an image.

        Parameters
        ----------
        result : `~astroflux.evaluation.InjectionResult`
            Not of a run that was recalibrated itself.

        Raises
        ------
        ValueError
            If it has fewer than 40 galaxies with a positive flux, or was recalibrated itself.
        """
        table = result.table
        if 'recalibrated' in table.meta:
            msg = 'the galaxies were measured with a recalibration: measure them without'
            raise ValueError(msg)
        unit = table['flux'].unit
        columns = {
            name: np.asarray(table[name].to_value(unit), float)
            for name in table.colnames
            if name in ('true_flux', *_FLUXES, *sum(_INTERVALS.values(), ()))
        }
        snr = np.asarray(table['snr'], float)
        with np.errstate(invalid='ignore'):
            good = (columns['flux'] > 0) & (snr > 0) & np.isfinite(snr)
        good &= np.asarray(table['flags']) & FATAL_FLAGS == 0
        if good.sum() < FEWEST:
            msg = f'a recalibration needs {FEWEST} galaxies with a positive flux, got {good.sum()}'
            raise ValueError(msg)
        columns = {name: values[good] for name, values in columns.items()}
        return cls(
            **_learned(columns, snr[good]),
            n=int(good.sum()),
            method=str(table.meta['method']),
            weights=table.meta.get('weights'),
            neighbors=table.meta['injection']['neighbors'],
            origin=dict(table.meta['injection']),
        )

    def at(self, snr):
        """
        Return the corrections at some signal-to-noise ratios.

        Parameters
        ----------
        snr : `~numpy.ndarray`
            Measured, positive.

        Returns
        -------
        bias, factor_68, factor_95 : `~numpy.ndarray`
        """
        ln_snr, points = np.log(snr), np.log(self.snr)
        return tuple(
            np.interp(ln_snr, points, values)
            for values in (self.bias, self.factor_68, self.factor_95)
        )

    def apply(self, table):
        """
        Return a corrected copy of a table of measurements.

        Parameters
        ----------
        table : `~astropy.table.QTable`
            What ``measure`` or ``measure_field`` of the same method returns.

        Returns
        -------
        table : `~astropy.table.QTable`
            With columns of the factors, ``recal_flux``, ``recal_68`` and ``recal_95``, and the
            record of the recalibration in ``meta['recalibrated']``. Rows with a fatal flag or
            without a positive flux stay as they are; their factors are 1. `undo` makes the
            original table of it.

        Raises
        ------
        ValueError
            If the table is of another method, of other weights, or of neighbors that were not
            treated alike; or was recalibrated before.
        """
        self._check(table)
        snr = np.asarray(table['snr'], float)
        with np.errstate(invalid='ignore'):
            good = (snr > 0) & np.isfinite(snr)
        good &= np.asarray(table['flags']) & FATAL_FLAGS == 0
        factors = np.ones((3, len(table)))
        bias, *widths = self.at(snr[good])
        factors[0, good], factors[1:, good] = np.exp(-bias), widths
        names = (FLUX_FACTOR, FACTOR_68, FACTOR_95)
        factors = dict(zip(names, factors, strict=True))
        table = _multiplied(table, good, factors)
        for name, values in factors.items():
            table[name] = values
            table[name].info.description = FACTOR_COLUMNS[name]
            table[name].info.format = '.4f'
        table.meta['recalibrated'] = self.record
        return table

    @staticmethod
    def undo(table):
        """
        Return a table that `apply` corrected as it was before, to rounding.

        Raises
        ------
        ValueError
            If it was not recalibrated.
        """
        if 'recalibrated' not in table.meta or FLUX_FACTOR not in table.colnames:
            msg = 'the table was not recalibrated'
            raise ValueError(msg)
        names = (FLUX_FACTOR, FACTOR_68, FACTOR_95)
        factors = {name: 1 / np.asarray(table[name], float) for name in names}
        changed = np.any([factor != 1 for factor in factors.values()], axis=0)
        table = _multiplied(table, changed, factors)
        table.remove_columns(names)
        del table.meta['recalibrated']
        return table

    @property
    def record(self):
        """What a table says of it, a dict."""
        record = asdict(self)
        record['origin'] = {
            name: self.origin[name]
            for name in ('image', 'n', 'seed', 'population')
            if name in self.origin
        }
        return {
            name: [float(f'{value:.6g}') for value in values]
            if isinstance(values, tuple)
            else values
            for name, values in record.items()
            if values not in ('', None)
        }

    def _check(self, table):
        if 'recalibrated' in table.meta:
            msg = 'the table was recalibrated before'
            raise ValueError(msg)
        meta = table.meta
        how = meta.get('field', meta.get('injection', {}))
        found = {
            'method': meta.get('method'),
            'weights': meta.get('weights'),
            'neighbors': how.get('neighbors', 'none'),
        }
        for name, value in found.items():
            if value != getattr(self, name):
                msg = (
                    f'the recalibration is for {name}={getattr(self, name)!r}, the table has '
                    f'{value!r}'
                )
                raise ValueError(msg)

    def write(self, path, *, overwrite=False):
        """
        Write it as JSON.

        Raises
        ------
        FileExistsError
            If the file exists and ``overwrite`` is not set.
        """
        path = Path(path)
        if path.exists() and not overwrite:
            msg = f'{path} exists and overwrite is not set'
            raise FileExistsError(msg)
        content = {'format': FORMAT, **asdict(self)}
        del content['file']
        with write_whole(path) as part:
            part.write_text(json.dumps(content, indent=1) + '\n', encoding='utf-8')

    @classmethod
    def read(cls, path):
        """
        Read what `write` wrote.

        Raises
        ------
        OSError
            If the file cannot be read.
        ValueError
            If it holds something else, or numbers that are none.
        """
        try:
            content = json.loads(Path(path).read_text(encoding='utf-8'))
        except ValueError:
            content = None
        if not isinstance(content, dict) or content.pop('format', None) != FORMAT:
            msg = f'{path} holds no recalibration'
            raise ValueError(msg)
        try:
            content = {
                name: tuple(map(float, value)) if isinstance(value, list) else value
                for name, value in content.items()
            }
            recalibration = cls(**content, file=Path(path).name)
            recalibration._check_points()
        except (TypeError, ValueError) as exc:
            msg = f'{path} holds a damaged recalibration: {exc}'
            raise ValueError(msg) from None
        return recalibration

    def _check_points(self):
        points = np.array([self.snr, self.bias, self.factor_68, self.factor_95], float)
        if points.ndim != 2 or not points.size or not np.isfinite(points).all():
            msg = 'its points are not finite numbers, as many of each kind'
            raise ValueError(msg)
        if (np.diff(points[0]) <= 0).any() or (points[[0, 2, 3]] <= 0).any():
            msg = 'S/N must increase and be positive, as factors must be'
            raise ValueError(msg)


def as_recalibration(recalibrate):
    """Return a `Recalibration` of what ``recalibrate=`` may be: one, or the path of its file."""
    if isinstance(recalibrate, Recalibration):
        return recalibrate
    if isinstance(recalibrate, str | os.PathLike):
        return Recalibration.read(recalibrate)
    msg = (
        'recalibrate must be a Recalibration or the path of its file, got '
        f'{type(recalibrate).__name__}'
    )
    raise TypeError(msg)


# -- what is learned ------------------------------------------------------------------------------


def _learned(columns, snr):
    """Return the points of a `Recalibration`."""
    ln_error = np.log(columns['flux'] / columns['true_flux'])
    order = np.argsort(snr, kind='stable')
    bins = np.array_split(order, int(np.clip(len(snr) // PER_BIN, 1, MOST_BINS)))
    ln_points = np.log([np.exp(np.mean(np.log(snr[rows]))) for rows in bins])
    n = np.array([len(rows) for rows in bins])
    of_bin, of_all = n / (n + PRIOR), len(snr) / (len(snr) + PRIOR)
    # that of all galaxies, and then what those of a bin differ by
    median = np.median(ln_error)
    bias = of_all * median
    # where galaxies scatter little, the median is well known, and a small bias matters
    known = n / np.square([max(_scatter(ln_error[rows]), SMALLEST_SCATTER) for rows in bins])
    bias += _monotone(of_bin * [np.median(ln_error[rows]) - median for rows in bins], known)
    correction = np.exp(-np.interp(np.log(snr), ln_points, bias))
    factors = {}
    for (name, ends), coverage in zip(_INTERVALS.items(), COVERAGES.values(), strict=True):
        if ends[0] not in columns:
            ends, wider = _INTERVALS[FACTOR_68], 1.96
        else:
            wider = 1.0
        lower, upper = (np.abs(columns[end] - columns['flux']) * wider for end in ends)
        off = columns['true_flux'] / correction - columns['flux']
        # by how much the half on the side of the truth must grow to reach it
        with np.errstate(divide='ignore', invalid='ignore'):
            score = np.abs(off) / np.where(off > 0, upper, lower)
        score = np.where(np.isfinite(score), score, np.inf)
        ln_all = np.log(_conformal(score, coverage))
        ln_bins = np.log([_conformal(score[rows], coverage) for rows in bins])
        differing = _monotone(of_bin * (ln_bins - ln_all), n)
        # so that all of them together are held as often as they should be
        rest = score / np.exp(np.interp(np.log(snr), ln_points, differing))
        ln_factor = differing + of_all * np.log(_conformal(rest, coverage))
        factors[name] = tuple(np.exp(ln_factor).tolist())
    return {
        'snr': tuple(np.exp(ln_points).tolist()),
        'bias': tuple(bias.tolist()),
        'factor_68': factors[FACTOR_68],
        'factor_95': factors[FACTOR_95],
    }


def _conformal(score, coverage):
    """
    Return what so many of the scores are below, and with that chance the next one.

    Of exchangeable scores: Vovk, Gammerman & Shafer 2005, Algorithmic Learning in a Random World.
    """
    rank = min(int(np.ceil((len(score) + 1) * coverage)), len(score))
    value = np.sort(score)[rank - 1]
    finite = score[np.isfinite(score)]
    return float(np.clip(value, 0.2, max(finite.max(initial=0.2), 0.2)))


def _scatter(ln_error):
    """Return the standard deviation of a normal distribution as wide as the middle half."""
    low, high = np.percentile(ln_error, [25, 75])
    return (high - low) / 1.349


def _monotone(values, weight):
    """Return the nearest values that only rise or only fall."""
    from sklearn.isotonic import IsotonicRegression

    places = np.arange(len(values))
    fits = [
        IsotonicRegression(increasing=increasing).fit(places, values, weight).predict(places)
        for increasing in (True, False)
    ]
    return min(fits, key=lambda fit: np.sum(weight * (fit - values) ** 2))


# -- what is corrected ----------------------------------------------------------------------------


def _multiplied(table, rows, factors):
    """Return a copy of a table with fluxes and widths of some rows multiplied by factors."""
    table = table.copy()
    by_flux, by_width, by_95 = (
        np.where(rows, factors[name], 1.0) for name in (FLUX_FACTOR, FACTOR_68, FACTOR_95)
    )
    upper_before = _upper_end(table)
    flux = table['flux'].copy()
    for ends, width in zip(_INTERVALS.values(), (by_width, by_95), strict=True):
        for end in ends:
            if end in table.colnames:
                table[end][:] = by_flux * (flux + width * (table[end] - flux))
    for name in _FLUXES:
        if name in table.colnames:
            table[name][:] = by_flux * table[name]
    table['flux_err'][:] = by_flux * by_width * table['flux_err']
    table['snr'][:] = table['snr'] / by_width
    if 'mag' in table.colnames:
        with np.errstate(invalid='ignore', divide='ignore'):
            higher = -MAG_OF_LN * np.log((_upper_end(table) / upper_before).value)
        higher = np.where(rows, higher, 0.0)
        table['mag'][:] = table['mag'] - MAG_OF_LN * np.log(by_flux) * u.mag
        table['mag_err'][:] = by_width * table['mag_err']
        table['mag_limit'][:] = table['mag_limit'] + higher * u.mag
    is_low = np.asarray(table['snr']) < LOW_SNR
    low = int(MeasurementFlag.LOW_SNR)
    flags = np.asarray(table['flags'])
    table['flags'][rows] = np.where(is_low, flags | low, flags & ~low)[rows]
    return table


def _upper_end(table):
    """Return the end of the 95 % interval that the limiting magnitude is of."""
    upper = np.maximum(table['flux'], 0 * table['flux'].unit) + N_SIGMA_95 * table['flux_err']
    if 'flux_upper_95' in table.colnames:
        return np.where(np.isfinite(table['flux_upper_95']), table['flux_upper_95'], upper)
    return upper
