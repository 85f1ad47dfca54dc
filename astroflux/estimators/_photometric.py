# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What aperture-like methods share: one cutout at a time, one correction to learn, JSON files."""

from abc import abstractmethod

import numpy as np
from sklearn.base import clone

from astroflux.estimators._save import read_estimator, write_estimator
from astroflux.estimators.base import FluxEstimator, check_flux
from astroflux.flags import MeasurementFlag

__all__ = ['MeasurementError', 'PhotometricEstimator']

# below this signal-to-noise ratio a row is flagged
LOW_SNR = 5.0

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


class PhotometricEstimator(FluxEstimator):
    """
    Base class of methods that sum pixels, over photutils.

    A subclass defines ``_measure_one``.

    Attributes
    ----------
    aperture_correction_ : float
        True flux over measured flux, learned by `fit`; fluxes and errors are multiplied by it.
    """

    _packages = ('photutils',)

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
        with np.errstate(divide='ignore', invalid='ignore'):
            faint = rows['flux'] / rows['flux_err'] < LOW_SNR
        flags[faint] |= int(MeasurementFlag.LOW_SNR)
        rows['flux'] *= correction
        rows['flux_err'] *= correction
        return rows | {'flags': flags, 'messages': messages}

    def __sklearn_is_fitted__(self):
        # it measures without having learned anything
        return True

    def fit(self, cutouts, flux, *, psf=None, psf_fwhm=None, positions=None):
        """
        Learn one aperture correction: the median of true over measured flux.

        Parameters
        ----------
        cutouts, psf, psf_fwhm, positions
            As for `predict`.

        flux : `~astropy.units.Quantity` or array_like, shape (n,)
            True total flux of each cutout, positive; without a unit only if the cutouts have
            none.

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
        # a clone has no correction, so that fitting twice gives the same as once
        rows = clone(self)._collect(cutouts, psf=psf, psf_fwhm=psf_fwhm, positions=positions)
        truth = check_flux(flux, rows.unit, rows.n_rows)
        measured = rows.column('flux')
        with np.errstate(invalid='ignore'):
            usable = measured > 0
        if not usable.any():
            msg = f'none of the {rows.n_rows} cutouts has a positive measured flux to fit with'
            raise ValueError(msg)
        self.aperture_correction_ = float(np.median(truth[usable] / measured[usable]))
        return self

    def save(self, path):
        """
        Write the estimator, with what it has learned, to a JSON file.

        Parameters
        ----------
        path : str or `~pathlib.Path`
            The file; it is overwritten.
        """
        write_estimator(self, path, fitted=('aperture_correction_',))

    @classmethod
    def load(cls, path):
        """
        Read an estimator that `save` wrote.

        Parameters
        ----------
        path : str or `~pathlib.Path`
            The file.

        Returns
        -------
        estimator : same class

        Raises
        ------
        ValueError
            If the file does not hold an estimator of this class.

        OSError
            If the file cannot be read.
        """
        return read_estimator(cls, path, fitted=('aperture_correction_',))
