# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Collect the results of batches into rows, in order, so that no cutout is ever lost."""

import numpy as np
from astropy import units as u

from astroflux.cutouts._units import conversion_factor
from astroflux.cutouts._zeropoint import in_other_unit
from astroflux.estimators._sky_positions import SkyPositions
from astroflux.flags import FATAL_FLAGS, MeasurementFlag
from astroflux.tables import FLUX_COLUMNS

# stands for the unit of the fluxes, whichever that is
FLUX_UNIT = 'flux'

_LIMITS = FLUX_COLUMNS[2:]

# what is told of a cutout, whether it was measured or not
_OF_CUTOUTS = ('pixel_scale', 'x', 'y', 'zeropoint', 'noise_ratio')

# An array of its own for each row takes ten times the memory of its numbers: so many are joined.
_LOOSE = 1000

# below this signal-to-noise ratio a row is flagged
LOW_SNR = 5.0


class RowCollector:
    """
    Rows of measurements, grown batch by batch.

    Parameters
    ----------
    extra_units : dict of str to unit or None
        Name and unit of the extra columns that the method gives, besides flux and flags.
        Lengths are in ``pix``; they become arcsec when every pixel scale is known. The unit
        ``'flux'`` stands for that of the fluxes.

    Attributes
    ----------
    n_rows : int
        How many rows there are.

    messages : dict of int to str
        Row number and reason of each row without a measurement.

    unit : `~astropy.units.UnitBase`
        Unit of the fluxes.

    is_single : bool
        Whether one cutout was asked for, rather than a list of them.

    catalog_column : str or None
        Name that the user's catalogue has for the ``id``.
    """

    def __init__(self, extra_units):
        self._extra_units = {
            name: unit if unit is None or _is_flux(unit) else u.Unit(unit)
            for name, unit in extra_units.items()
        }
        self._names = (*FLUX_COLUMNS, *self._extra_units)
        self._batches = {name: [] for name in (*self._names, 'flags', *_OF_CUTOUTS)}
        self._n_loose = 0
        self._sky = SkyPositions()
        self._labels = []
        self._identifiers = []
        self._has_limits = None
        self._unit = None
        self._first_unit = None
        self.is_single = False
        self.catalog_column = None
        self.n_rows = 0
        self.messages = {}

    @property
    def unit(self):
        # a failed cutout may not know its unit: the first that can be measured decides
        unit = self._unit if self._unit is not None else self._first_unit
        return u.dimensionless_unscaled if unit is None else unit

    @property
    def has_unit(self):
        """Whether any row was measured, so that the unit is known for sure."""
        return self._unit is not None

    def add(self, cutouts, measurable, results):
        """
        Append one row per cutout of a batch, failed ones included.

        ``measurable`` says which were measured, ``results`` what came of these: ``flux``,
        ``flux_err``, optionally ``flux_lower``, ``flux_upper``, ``flags``, ``messages``, and
        the extra columns. `ValueError` for a fault of the estimator: one is missing or of a
        wrong length.
        """
        n_new = len(cutouts)
        columns = {name: np.full(n_new, np.nan) for name in self._names}
        flags = np.array([int(cutout.flags) for cutout in cutouts], dtype=np.int64)
        messages = [cutout.message or None for cutout in cutouts]

        if measurable:
            self._place(columns, flags, messages, measurable, results)
            if self._unit is None:
                self._unit = cutouts[measurable[0]].unit
        if self._first_unit is None:
            self._first_unit = cutouts[0].unit

        with np.errstate(divide='ignore', invalid='ignore'):
            faint = columns['flux'] / columns['flux_err'] < LOW_SNR
        flags[faint] |= int(MeasurementFlag.LOW_SNR)

        # a row holds a measurement or says why it does not: never NaN without a fatal flag
        fatal = flags & FATAL_FLAGS != 0
        unexplained = ~fatal & ~np.isfinite(columns['flux'])
        # NaN is the error of a method that gives none
        no_error = ~fatal & ((columns['flux_err'] <= 0) | np.isinf(columns['flux_err']))
        flags[unexplained | no_error] |= int(MeasurementFlag.FAILED)
        fatal |= unexplained | no_error
        for values in columns.values():
            values[fatal] = np.nan
        for index in np.flatnonzero(fatal):
            lacking = 'finite flux' if unexplained[index] else 'error above zero that is finite'
            text = messages[index] or f'the method gave no {lacking}'
            self.messages[self.n_rows + int(index)] = text

        for name, values in columns.items():
            self._batches[name].append(values)
        self._batches['flags'].append(flags.astype(np.int32))
        for name, values in zip(_OF_CUTOUTS, _told_of(cutouts), strict=True):
            self._batches[name].append(values)
        self._n_loose += 1
        if self._n_loose == _LOOSE:
            self._join()
        self._sky.add(cutouts)
        self._labels += [cutout.label for cutout in cutouts]
        self._identifiers += [cutout.identifier for cutout in cutouts]
        self.catalog_column = cutouts[0].catalog_column
        self.n_rows += n_new

    def _join(self):
        """Make one array of the batches that were added last."""
        for batches in self._batches.values():
            batches[-_LOOSE:] = [np.concatenate(batches[-_LOOSE:])]
        self._n_loose = 0

    def _place(self, columns, flags, messages, measurable, results):
        results = dict(results)
        if self._has_limits is None:
            self._has_limits = 'flux_lower' in results
        flags[measurable] |= np.asarray(results.pop('flags', 0), dtype=np.int64)
        new_messages = results.pop('messages', None) or [None] * len(measurable)
        for index, text in zip(measurable, new_messages, strict=True):
            messages[index] = text
        wanted = set(columns) if self._has_limits else set(columns) - set(_LIMITS)
        if unknown := set(results) ^ wanted:
            msg = f'the results of the method lack, or must not have, {sorted(unknown)}'
            raise ValueError(msg)
        for name, values in results.items():
            if len(values) != len(measurable):
                msg = f'{name} has {len(values)} values for {len(measurable)} cutouts'
                raise ValueError(msg)
            columns[name][measurable] = values

    def extend(self, other):
        """
        Append the rows of another collector of the same method, in the unit of this one.

        Raises as `factor_from`.
        """
        factor = self.factor_from(other)
        if self._unit is None:
            self._unit = other._unit
        if self._first_unit is None:
            self._first_unit = other._first_unit
        if self._has_limits is None:
            self._has_limits = other._has_limits
        for name, batches in other._batches.items():
            if name in FLUX_COLUMNS or _is_flux(self._extra_units.get(name)):
                batches = [batch * factor for batch in batches]
            elif name == 'zeropoint':
                batches = [in_other_unit(batch, factor) for batch in batches]
            self._batches[name] += batches
        self._n_loose = 0
        self._sky.extend(other._sky)
        self._labels += other._labels
        self._identifiers += other._identifiers
        self.catalog_column = other.catalog_column
        self.messages |= {self.n_rows + row: text for row, text in other.messages.items()}
        self.n_rows += other.n_rows

    def factor_from(self, other):
        """
        Return what the fluxes of another collector are to be multiplied by.

        `~astropy.units.UnitsError` if their units do not convert.
        """
        if self._unit is None or other._unit is None or other._unit == self._unit:
            return 1.0
        factor = conversion_factor(other._unit, self._unit)
        if factor is None:
            measured = np.flatnonzero(other.column('flags') & FATAL_FLAGS == 0)
            msg = (
                f'{other._labels[measured[0]]}: its unit {str(other._unit)!r} does not convert to '
                f'{str(self._unit)!r}, the unit of others'
            )
            raise u.UnitsError(msg)
        return factor

    def column(self, name):
        """One column as an array of shape ``(n_rows,)``, without unit."""
        return np.concatenate(self._batches[name])

    def columns(self):
        """All columns, for `~astroflux.tables.build_table`; those of flux without unit."""
        columns = {name: self.column(name) for name in ('x', 'y', *FLUX_COLUMNS, 'flags')}
        columns |= self._sky.columns()
        if not self._has_limits:
            # the table has its own
            for name in _LIMITS:
                del columns[name]
        if any(identifier is not None for identifier in self._identifiers):
            columns['id'] = np.array(
                [row if known is None else known for row, known in enumerate(self._identifiers)]
            )
        if any(label is not None for label in self._labels):
            columns['name'] = np.array(['' if text is None else text for text in self._labels])
        columns['noise_ratio'] = self.column('noise_ratio')
        scale = self.column('pixel_scale')
        measured = columns['flags'] & FATAL_FLAGS == 0
        scale_known = measured.any() and np.isfinite(scale[measured]).all()
        for name, unit in self._extra_units.items():
            values = self.column(name)
            if _is_flux(unit):
                columns[name] = u.Quantity(values, self.unit)
            elif unit == u.pix and scale_known:
                columns[name] = u.Quantity(values * scale, u.arcsec)
            else:
                columns[name] = values if unit is None else u.Quantity(values, unit)
        return columns


def _told_of(cutouts):
    """Return the values of `_OF_CUTOUTS`, each an array; positions are those in the image."""
    return np.array(
        [
            (
                cutout.pixel_scale,
                cutout.position[0] + cutout.origin[0],
                cutout.position[1] + cutout.origin[1],
                cutout.zeropoint,
                cutout.noise_ratio,
            )
            for cutout in cutouts
        ],
        dtype=float,
    ).T


def _is_flux(unit):
    # A unit that is compared with a text takes milliseconds to find out that the text is none.
    return isinstance(unit, str) and unit == FLUX_UNIT
