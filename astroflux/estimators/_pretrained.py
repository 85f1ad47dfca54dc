# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""A base for methods that are trained: shipped with what they have learned, or fitted."""

import warnings
from abc import abstractmethod

import numpy as np
from astropy.utils.exceptions import AstropyUserWarning

from astroflux._forks import ForkLock
from astroflux.estimators.base import FluxEstimator
from astroflux.flags import MeasurementFlag

__all__ = [
    'DETECTION_FLAGS',
    'DETECTION_SNR',
    'PretrainedFluxEstimator',
    'count_usable',
    'detection_flags',
    'messages_of_missed',
]

# Below this S/N of the best matched filter there is nothing to measure (a cutout of pure noise
# stays below it in 98 of 100 cases).
DETECTION_SNR = 2.5


# when `detection_flags` sets them
DETECTION_FLAGS = {
    'STAMP_CROPPED': 'the cutout has more pixels than the method sees',
    'NOT_DETECTED': 'the S/N of the best matched filter is below 2.5',
}


# Threads that share an estimator load once.
_loading = ForkLock()


class PretrainedFluxEstimator(FluxEstimator):
    """
    Base class of methods that have learned from galaxies of known flux.

    One parameter, which ``_source`` names, says what to load: a name or the path of a file;
    `None` is for `fit`. What is loaded, and what `fit` stores as ``fitted_``, has a ``name`` and
    a ``sha256``.
    """

    _source = 'weights'

    @abstractmethod
    def _load(self, source):
        """Load what the parameter names."""

    def _source_key(self):
        """What the loaded depends on: ``set_params`` may change it."""
        return str(getattr(self, self._source))

    @property
    def _is_fitted(self):
        """Whether `fit` was called, and ``set_params`` has not named another source since."""
        return hasattr(self, 'fitted_') and self._fitted_from == str(getattr(self, self._source))

    def _keep(self, fitted):
        """Keep what `fit` has learned."""
        self.fitted_ = fitted
        self._fitted_from = str(getattr(self, self._source))

    def __sklearn_is_fitted__(self):
        return getattr(self, self._source) is not None or self._is_fitted

    def _check_params(self):
        self._in_use()

    def _in_use(self):
        """Return what was fitted, else what was loaded."""
        if self._is_fitted:
            return self.fitted_
        if getattr(self, self._source) is None:
            from sklearn.exceptions import NotFittedError

            msg = (
                f'{type(self).__name__}({self._source}=None) is untrained: call fit first, or '
                f'name {self._source}'
            )
            raise NotFittedError(msg)
        return self._pretrained()

    def _pretrained(self):
        """Return what the parameter names, loaded once and kept."""
        key = self._source_key()
        loaded = getattr(self, '_loaded', (None, None))
        if loaded[0] != key:
            with _loading:
                # another thread may have
                loaded = getattr(self, '_loaded', (None, None))
                if loaded[0] != key:
                    loaded = self._loaded = (key, self._load(getattr(self, self._source)))
        return loaded[1]

    def _more_meta(self):
        learned = self._in_use()
        return {'weights': learned.name, 'weights_sha256': learned.sha256}


def count_usable(usable, least):
    """Refuse to fit to fewer cutouts than that, and warn of those that are left out."""
    n_usable = np.count_nonzero(usable)
    if n_usable < least:
        msg = f'fit needs at least {least} usable cutouts, got {n_usable} of {len(usable)}'
        raise ValueError(msg)
    if n_usable < len(usable):
        n_left_out = f'{len(usable) - n_usable} of {len(usable)}'
        msg = f'{n_left_out} cutouts cannot be measured and are left out of fit'
        warnings.warn(msg, AstropyUserWarning, stacklevel=4)


def detection_flags(canvases, snr):
    """Flags that follow from the canvas and from the S/N of the best matched filter."""
    flags = np.zeros(len(snr), np.int64)
    flags[canvases.cropped] |= int(MeasurementFlag.STAMP_CROPPED)
    flags[snr < DETECTION_SNR] |= int(MeasurementFlag.NOT_DETECTED)
    return flags


def messages_of_missed(flags, snr):
    """Why a galaxy is not detected, `None` for one that is."""
    missed = flags & int(MeasurementFlag.NOT_DETECTED) != 0
    return [
        f'no source at the position: S/N {value:.1f} of the best matched filter' if m else None
        for m, value in zip(missed, snr, strict=True)
    ]
