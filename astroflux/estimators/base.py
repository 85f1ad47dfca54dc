# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The contract that every estimator of total flux keeps."""

import warnings
from abc import ABCMeta, abstractmethod
from collections import Counter
from copy import copy
from itertools import islice

import numpy as np
from astropy import units as u
from astropy.utils.exceptions import AstropyUserWarning

from astroflux._progress import progress_bar
from astroflux._quiet import keep_filters
from astroflux.cutouts import iter_cutouts
from astroflux.estimators._checks import POSITIVE_INTEGER, check_values
from astroflux.estimators._defaults import PASSES
from astroflux.estimators._described import describe, plain
from astroflux.estimators._docs import share_docs
from astroflux.estimators._magnitudes import Calibration
from astroflux.estimators._options import CUTOUT_OPTIONS, takes_cutout_options
from astroflux.estimators._parameters import HasParameters
from astroflux.estimators._rows import RowCollector
from astroflux.estimators._sky_error import with_sky_error
from astroflux.estimators._truth import check_flux, true_flux
from astroflux.flags import FATAL_FLAGS, MeasurementFlag, decode_flags
from astroflux.tables import build_meta, build_table

__all__ = ['FluxEstimator']

# Errors that say that the call, the program or the machine is at fault, and not one of the cutouts,
# which are plain arrays by then.
_OF_THE_CALL = (
    *(ImportError, u.UnitsError),
    *(TypeError, AttributeError, NameError, NotImplementedError),
)


class FluxEstimator(HasParameters, metaclass=ABCMeta):
    """
    Base class of the estimators of total flux.

    A subclass stores its arguments in the constructor and does nothing else there
    (scikit-learn's rule), and defines ``_measure_batch``, ``fit``, ``save`` and ``load``.
    A method that measures one cutout after the other and has little to learn is easier to
    add as a `~astroflux.estimators.PhotometricFluxEstimator`.

    Notes
    -----
    What a subclass may set:

    - ``_extra_units``: dict of the names and units (or `None`) of its extra columns;
    - ``_descriptions``: dict of their names and what they hold, in a few words;
    - ``_formats``: dict of their names and how they are printed (``'.4g'``, without);
    - ``_flags_set``: dict of the names of the flags that it sets and when, for the documentation;
    - ``_packages``: names of the packages whose versions go into ``meta``;
    - a constructor argument ``batch_size``: how many cutouts ``_measure_batch`` receives at
      most (one, without);
    - ``_check_params``: called before any cutout is touched, to raise for bad arguments;
    - ``_more_meta``: what else goes into ``meta``;
    - ``__sklearn_is_fitted__``: whether it can measure; without it, it always can;
    - ``_loaded``: what was read from files and can be read again: it is not pickled.

    Lengths have the unit ``'pix'``, which becomes arcsec where the pixel scale is known; the
    unit ``'flux'`` stands for that of the fluxes.
    """

    _extra_units = {}
    _descriptions = {}
    _formats = {}
    _flags_set = {}
    _packages = ()

    #: Whether it fits profiles to sources, as a `~astroflux.estimators.FieldMeasurement` wants.
    fits_sources = False

    @abstractmethod
    def _measure_batch(self, cutouts):
        """
        Measure some cutouts.

        Parameters
        ----------
        cutouts : list of `~astroflux.cutouts.Cutout`
            At least one; never a failed one.

        Returns
        -------
        results : dict of str to array_like
            One value per cutout, in the unit of the cutouts: ``flux``, ``flux_err``, and every
            name in ``_extra_units``; optionally ``flux_lower`` and ``flux_upper``, ``flags``
            (those that the method adds; a fatal one makes the row NaN) and ``messages`` (str or
            `None`).
        """

    def _check_params(self):
        """Raise if the constructor's arguments make no sense; called before measuring."""

    def _more_meta(self):
        """Further metadata of the method, such as the name and hash of weights."""
        return {}

    def __sklearn_is_fitted__(self):
        # it measures without having learned anything
        return True

    def __sklearn_tags__(self):
        from sklearn.utils import InputTags, RegressorTags, Tags, TargetTags

        return Tags(
            estimator_type='regressor',
            target_tags=TargetTags(required=True, positive_only=True),
            transformer_tags=None,
            regressor_tags=RegressorTags(),
            classifier_tags=None,
            # cutouts, or a stack of them; their bad pixels may be NaN
            input_tags=InputTags(two_d_array=False, three_d_array=True, allow_nan=True),
            requires_fit=not self.__sklearn_is_fitted__(),
        )

    def __getstate__(self):
        return {name: value for name, value in super().__getstate__().items() if name != '_loaded'}

    @share_docs
    @takes_cutout_options
    def predict(self, cutouts, *, progress=None, **options):
        """
        Measure the total flux of one galaxy or many.

        Parameters
        ----------
        {cutouts}

        {options}

        {progress}

        Returns
        -------
        flux : `~astropy.units.Quantity`
            A scalar for one cutout, else an array of shape ``(n,)`` in the order of the
            cutouts, in the unit of the first cutout. NaN where there is no measurement: a
            warning says how many and which flags they have, `measure` says why for each.

        Raises
        ------
        TypeError, ValueError
            If the input as a whole is not what is wanted, for instance empty.

        `~astropy.units.UnitsError`
            If a unit is not one of flux, or the units of the cutouts are incompatible.
        """
        rows = self._collect(cutouts, progress=progress, **options)
        _warn_of_missing(rows)
        flux = u.Quantity(rows.column('flux'), rows.unit)
        return flux[0] if rows.is_single else flux

    @share_docs
    @takes_cutout_options
    def measure(self, cutouts, *, zeropoint=None, progress=None, **options):
        """
        Measure the total flux of galaxies, with errors and quality flags.

        Parameters
        ----------
        {cutouts}

        {options}

        zeropoint : float or `~astropy.units.Quantity`, optional
            AB magnitude of 1 unit of flux, of all cutouts or one per cutout, for the columns
            ``mag``, ``mag_err`` and ``mag_limit``; NaN if unknown. By default
            ``meta['zeropoint']`` of each cutout. Calibrated units, such as nJy and nmgy, need
            none.

        {progress}

        Returns
        -------
        table : `~astropy.table.QTable`
            One row per cutout, in order: ``id``; ``x`` and ``y``, the position in pixels; ``flux``,
            ``flux_err`` (1 sigma), ``snr``, ``flags`` (see `astroflux.decode_flags`); ``mag``,
            ``mag_err`` and ``mag_limit`` (AB) if a zero point or a calibrated unit is known; ``ra``
            and ``dec`` if a cutout has a WCS; ``flux_lower`` and ``flux_upper`` (68 % interval);
            and the extra columns of the method. A cutout that cannot be measured has a row of
            NaN, flags that say why, and a text in ``meta['messages']``.

        Raises
        ------
        TypeError, ValueError, `~astropy.units.UnitsError`
            As for `predict`, and if ``zeropoint`` is no magnitude, or is given for a calibrated
            unit.
        """
        options['zeropoint'] = zeropoint
        rows = self._collect(cutouts, progress=progress, **options)
        return self._table(rows, options)

    @share_docs
    @takes_cutout_options(without=('positions',))
    def measure_field(
        self,
        image,
        catalogue=None,
        *,
        detector=None,
        neighbors='model',
        passes=PASSES,
        recalibrate=None,
        zeropoint=None,
        progress=None,
        **options,
    ):
        """
        Measure all sources of an image, each without the light of the others.

        Parameters
        ----------
        image
            One image, of any kind that `measure` takes as a cutout.

        catalogue : array_like, optional
            Its sources: positions ``(n, 2)`` in pixels, a `~astropy.coordinates.SkyCoord`, a
            table, a `~photutils.segmentation.SourceCatalog` or
            `~photutils.segmentation.SegmentationImage`. By default those that photutils detects.

        detector : `~astroflux.estimators.FieldDetector`, optional
            How sources are detected if there is no catalogue.

        neighbors : {'model', 'none'}, optional
            What becomes of the light of other sources: ``'model'`` fits and subtracts it, see
            `~astroflux.estimators.FieldMeasurement`; ``'none'`` leaves it to the method, as
            `measure` does.

        passes : int, optional
            The most passes over the sources.

        recalibrate : path-like or `~astroflux.estimators.Recalibration`, optional
            A correction of fluxes and errors that simulated galaxies in such an image have told,
            see `~astroflux.evaluation.inject_galaxies`.

        {options}

        zeropoint : float or `~astropy.units.Quantity`, optional
            As for `measure`.

        {progress}

        Returns
        -------
        table : `~astropy.table.QTable`
            The columns of `measure`, and then those of the catalogue, or of
            `~astroflux.estimators.FieldDetector.detect`; one row per source. Without a catalogue
            it has no rows if nothing is detected.

        Raises
        ------
        TypeError, ValueError, `~astropy.units.UnitsError`
            As for `measure`.
        """
        from astroflux.estimators.field import measure_field

        options['zeropoint'] = zeropoint
        return measure_field(
            self,
            image,
            catalogue,
            detector=detector,
            neighbors=neighbors,
            passes=passes,
            recalibrate=recalibrate,
            progress=progress,
            **options,
        )

    def _table(self, rows, options):
        """Make the table of the rows that were measured with some options."""
        columns = rows.columns()
        is_told = options.get('zeropoint') is not None
        calibration = Calibration(rows.unit, rows.column('zeropoint'), is_told=is_told)
        columns |= calibration.magnitudes(columns)
        return build_table(
            columns,
            rows.unit,
            self._record(options, rows.messages) | calibration.meta(),
            self._descriptions,
            rows.catalog_column,
            self._formats,
        )

    def _record(self, options, messages=None):
        """Return the metadata of a table: how it is made, with which options."""
        arguments = dict.fromkeys(CUTOUT_OPTIONS) | options
        if arguments.get('zeropoint') is None:
            # the fluxes do not depend on it
            arguments.pop('zeropoint', None)
        meta = build_meta(
            type(self).__name__,
            parameters={name: plain(value) for name, value in self.get_params().items()},
            arguments={name: describe(value) for name, value in arguments.items()},
            messages=messages,
            packages=self._packages,
        )
        return meta | self._more_meta()

    @abstractmethod
    @share_docs
    @takes_cutout_options
    def fit(self, cutouts, flux=None, *, y=None, progress=None, **options):
        """
        Learn from cutouts of known flux.

        {known_galaxies}

        Returns
        -------
        self
        """

    @abstractmethod
    @share_docs
    def save(self, path, *, overwrite=False):
        """
        Write the estimator, with what it has learned, to a file.

        {save}
        """

    @classmethod
    @abstractmethod
    @share_docs
    def load(cls, path):
        """
        Read an estimator that `save` wrote.

        {load}
        """

    @share_docs
    @takes_cutout_options
    def score(self, cutouts, flux=None, *, y=None, progress=None, **options):
        """
        Coefficient of determination of ln(flux).

        {known_galaxies}

        Returns
        -------
        score : float
            R2 over the cutouts measured with a positive flux; 1 is perfect. A warning says how
            many were left out.

        Raises
        ------
        ValueError
            If fewer than two cutouts were measured, or the number of fluxes differs from that of
            cutouts.
        """
        from sklearn.metrics import r2_score

        flux = true_flux(flux, y)
        rows = self._collect(cutouts, progress=progress, **options)
        measured = rows.column('flux')
        truth = check_flux(flux, rows.unit, rows.n_rows)
        with np.errstate(invalid='ignore'):
            usable = measured > 0
        if usable.sum() < 2:
            msg = (
                f'the score needs at least 2 cutouts measured with a positive flux, got '
                f'{usable.sum()} of {rows.n_rows}'
            )
            raise ValueError(msg)
        if not usable.all():
            msg = (
                f'{(~usable).sum()} of {rows.n_rows} cutouts have no positive flux measured and '
                'are left out of the score'
            )
            warnings.warn(msg, AstropyUserWarning, stacklevel=3)
        return float(r2_score(np.log(truth[usable]), np.log(measured[usable])))

    def _collect(self, cutouts, *, progress=None, **options):
        """Measure all cutouts, a batch at a time; the options are those of `iter_cutouts`."""
        self._check_params()
        batch_size = 1
        if hasattr(self, 'batch_size'):
            check_values({'batch_size': POSITIVE_INTEGER}, self)
            batch_size = int(self.batch_size)
        rows = RowCollector(self._extra_units)
        stream = iter_cutouts(cutouts, **options)
        rows.is_single = stream.single
        counts = {'total': stream.n, 'unit': ' cutouts'}
        with keep_filters(), progress_bar(desc='measure', progress=progress, **counts) as bar:
            while batch := list(islice(stream, batch_size)):
                for part in self._measure_or_fail(batch):
                    rows.add(*part)
                bar.update(len(batch))
        if not rows.n_rows:
            msg = 'there are no cutouts to measure'
            raise ValueError(msg)
        return rows

    def _measure_or_fail(self, batch, measure=None):
        """
        Yield a batch, which of its cutouts were measured, and what came of these.

        They are measured by ``measure``, by default `_measure_batch`.

        If the method raises an error, each cutout is measured by itself, so that an odd one loses
        no other. If there is not enough memory, smaller batches are measured.
        """
        measure = measure or self._measure_batch
        measurable = [
            index
            for index, cutout in enumerate(batch)
            if cutout.data is not None and not cutout.flags & FATAL_FLAGS
        ]
        try:
            results = None
            if measurable:
                usable = [batch[index] for index in measurable]
                results = measure(usable)
                results = with_sky_error(measure, usable, results)
        except MemoryError:
            if len(batch) == 1:
                shape = batch[0].data.shape
                msg = f'there is not enough memory to measure a cutout of the shape {shape}'
                raise MemoryError(msg) from None
            half = len(batch) // 2
            for part in (batch[:half], batch[half:]):
                yield from self._measure_or_fail(part, measure)
        except _OF_THE_CALL:
            raise
        except Exception as exc:  # of any library
            if len(batch) == 1:
                yield [_failed_by(batch[0], exc)], [], None
            for cutout in batch if len(batch) > 1 else ():
                yield from self._measure_or_fail([cutout], measure)
        else:
            yield batch, measurable, results


def _failed_by(cutout, exc):
    """Return a cutout that a method could not measure, with the reason."""
    failed = copy(cutout)
    failed.flags |= int(MeasurementFlag.FAILED)
    failed.message = f'the method failed: {type(exc).__name__}: {exc}'
    return failed


def _warn_of_missing(rows):
    """Warn that some fluxes are NaN, and why, as only `measure` has flags."""
    fatal = [flags & FATAL_FLAGS for flags in rows.column('flags')]
    if not any(fatal):
        return
    counts = Counter(name for flags in fatal for name in decode_flags(flags))
    reasons = ', '.join(f'{n} {name}' for name, n in counts.most_common())
    n_missing = np.count_nonzero(fatal)
    msg = (
        f'{n_missing} of {rows.n_rows} cutouts {"was" if n_missing == 1 else "were"} not measured: '
        f'{reasons}; measure() says why for each'
    )
    # the caller of a method with the options of cutouts
    warnings.warn(msg, AstropyUserWarning, stacklevel=4)
