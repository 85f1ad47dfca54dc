# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""A base for methods that measure one cutout at a time and have one number to learn."""

from abc import abstractmethod

import numpy as np
from sklearn.base import clone

from astroflux._optional import import_optional
from astroflux.estimators._checks import check_values
from astroflux.estimators._docs import share_docs
from astroflux.estimators._options import takes_cutout_options
from astroflux.estimators._save import read_estimator, refuse_to_replace, write_estimator
from astroflux.estimators._truth import check_flux, true_flux
from astroflux.estimators.base import FluxEstimator
from astroflux.flags import MeasurementFlag

__all__ = ['MeasurementError', 'PhotometricFluxEstimator']

# What photutils, scipy and astropy raise for pixels that they cannot digest (LinAlgError is a
# ValueError). Anything else, such as a TypeError or MemoryError, is a fault of the program.
_NUMERICAL_ERRORS = (ValueError, ArithmeticError, LookupError, RuntimeError)


class MeasurementError(Exception):
    """
    A cutout cannot be measured.

    Parameters
    ----------
    flag : `~astroflux.flags.MeasurementFlag`
        The fatal flag of the row.

    message : str
        Why.
    """

    def __init__(self, flag, message):
        super().__init__(message)
        self.flag = flag

    def __reduce__(self):
        # ``args`` is the message alone
        return type(self), (self.flag, *self.args)


@share_docs
class PhotometricFluxEstimator(FluxEstimator):
    """
    Base class of methods that measure one cutout after the other.

    A subclass stores its arguments in the constructor and defines ``_measure_one``; `fit`,
    `save` and `load` come with this class.

    Attributes
    ----------
    {aperture_correction}

    Notes
    -----
    What a subclass may set, besides what `~astroflux.estimators.FluxEstimator` names:

    - ``_checks``: dict of the names of parameters and, for each, a pair of a function, which
      tells whether a value is good, and a text that says what is wanted;
    - ``_needs``: name of an optional package of the extra ``compare``, without which a call
      raises `ImportError`;
    - ``_unsaved``: names of parameters that `save` leaves out and `load` refuses.

    Exceptions that the pixels of a cutout may cause (`ValueError`, `ArithmeticError`,
    `LookupError`, `RuntimeError`) cost its row, with the flag FAILED; others are raised.

    Examples
    --------
    >>> import numpy as np
    >>> from astroflux.estimators import PhotometricFluxEstimator
    >>> class StampSum(PhotometricFluxEstimator):
    ...     _extra_units = {'n_pixels': None}
    ...     _descriptions = {'n_pixels': 'how many pixels were summed'}
    ...
    ...     def _measure_one(self, cutout):
    ...         good = ~cutout.mask
    ...         return {
    ...             'flux': cutout.data[good].sum(),
    ...             'flux_err': np.sqrt(np.sum(cutout.noise[good] ** 2)),
    ...             'flags': 0,
    ...             'n_pixels': good.sum(),
    ...         }
    >>> image = np.random.default_rng(0).normal(10, 1, size=(31, 31))
    >>> StampSum().measure(image)['n_pixels'][0]
    np.float64(961.0)
    """

    _flags_set = {'FAILED': 'the method or its library gives an error for the pixels'}
    _packages = ('photutils',)
    _checks = {}
    _needs = None
    _unsaved = ()

    def _check_params(self):
        check_values(self._checks, self)
        for part in self.get_params(deep=False).values():
            if hasattr(part, '_check_params'):
                part._check_params()
        if self._needs:
            # here, so that a missing package is told once, and not in every row
            import_optional(self._needs, extra='compare')

    @abstractmethod
    def _measure_one(self, cutout):
        """
        Measure one cutout.

        Parameters
        ----------
        cutout : `~astroflux.cutouts.Cutout`
            The cutout.

        Returns
        -------
        result : dict of str to float
            ``flux``, ``flux_err``, ``flags`` and the extra columns.

        Raises
        ------
        MeasurementError
            If it cannot be measured.
        """

    def _measure_batch(self, cutouts):
        correction = getattr(self, 'aperture_correction_', 1.0)
        names = ('flux', 'flux_err', *self._extra_units)
        rows = {name: np.full(len(cutouts), np.nan) for name in names}
        flags = np.zeros(len(cutouts), dtype=np.int64)
        messages = [None] * len(cutouts)
        for index, cutout in enumerate(cutouts):
            try:
                result = self._measure_one(cutout)
            except MeasurementError as exc:
                flags[index] = exc.flag
                messages[index] = str(exc)
                continue
            except _NUMERICAL_ERRORS as exc:
                # one odd cutout must not lose the others
                flags[index] = MeasurementFlag.FAILED
                messages[index] = f'{type(exc).__name__}: {exc}'
                continue
            flags[index] = result['flags']
            for name in names:
                rows[name][index] = result[name]
        rows['flux'] *= correction
        rows['flux_err'] *= correction
        return rows | {'flags': flags, 'messages': messages}

    @share_docs
    @takes_cutout_options
    def fit(self, cutouts, flux=None, *, y=None, progress=None, **options):
        """
        Learn one aperture correction: the median of true over measured flux.

        {known_galaxies}

        Returns
        -------
        self
            With ``aperture_correction_``; cutouts without a positive measured flux are left
            out.

        Raises
        ------
        ValueError
            If no cutout has a positive measured flux, or there is not one positive true flux
            per cutout.

        `~astropy.units.UnitsError`
            If the unit of ``flux`` is incompatible with that of the cutouts.
        """
        flux = true_flux(flux, y)
        # a clone has no correction, so that fitting twice gives the same as once
        rows = clone(self)._collect(cutouts, progress=progress, **options)
        truth = check_flux(flux, rows.unit, rows.n_rows)
        measured = rows.column('flux')
        with np.errstate(invalid='ignore'):
            usable = measured > 0
        if not usable.any():
            msg = f'none of the {rows.n_rows} cutouts has a positive measured flux to fit with'
            raise ValueError(msg)
        self.aperture_correction_ = float(np.median(truth[usable] / measured[usable]))
        return self

    @share_docs
    def save(self, path, *, overwrite=False):
        """
        Write the estimator, with what it has learned, to a JSON file.

        {save}
        """
        refuse_to_replace(path, overwrite=overwrite)
        write_estimator(self, path, fitted=('aperture_correction_',))

    @classmethod
    @share_docs
    def load(cls, path):
        """
        Read an estimator that `save` wrote.

        {load}
        """
        return read_estimator(cls, path, fitted=('aperture_correction_',))
