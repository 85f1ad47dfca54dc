# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Classical regressions on features of the light profile, to compare the network with."""

import warnings
from itertools import islice

import numpy as np
from astropy.utils.exceptions import AstropyUserWarning
from sklearn.exceptions import NotFittedError

from astroflux.cutouts import iter_cutouts
from astroflux.estimators._canvas import Canvases
from astroflux.estimators._features import join_features, measure_features
from astroflux.estimators._regression_models import MODELS, train
from astroflux.estimators._training_table import (
    TrainingTable,
    achievable_scatter,
    locate_table,
    read_table,
    write_table,
)
from astroflux.estimators.base import FluxEstimator, check_flux
from astroflux.flags import FATAL_FLAGS, MeasurementFlag

__all__ = ['RegressionFluxEstimator']

# As for the network: below the first S/N of the best filter there is nothing
# to measure, and below the second one the training had few examples.
DETECTION_SNR = 2.5
LOW_SNR = 5.0

MINIMUM_FIT = 20


class RegressionFluxEstimator(FluxEstimator):
    """
    Total flux by a classical regression on twenty-six features of the light profile.

    The flux in the best matched filter, corrected by what the regression says of the growth
    curve around it, of the galaxy's size and elongation, and of the PSF. It is what to compare
    the network with, and needs no GPU to be trained.

    Parameters
    ----------
    model : {'boosting', 'forest', 'linear'}, optional
        Gradient-boosted trees, a random forest, or a linear regression.

    weights : str, path-like or None, optional
        Name of a training table in the package (``'simulated-3'``, of simulated
        galaxies), or the path of a file that `save` wrote. `None`: untrained, for
        `fit`.

    batch_size : int, optional
        Cutouts to measure at a time.

    random_state : int, optional
        Seed of the training.

    Notes
    -----
    A file holds the training table, not the trained models, as these cannot be stored safely
    across versions of scikit-learn: the first measurement trains the models, which takes some
    seconds, and other estimators of the same process use them, too.

    The flux is proportional to the cutout, but for rounding: trees are step functions. The
    features expect noise: an image without any, whatever noise it states, looks like none of the
    training.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy.nddata import CCDData, StdDevUncertainty
    >>> from astroflux import RegressionFluxEstimator
    >>> y, x = np.mgrid[-30:31, -30:31]
    >>> image = 500 / (2 * np.pi * 9) * np.exp(-(x**2 + y**2) / 18)
    >>> image += np.random.default_rng(0).normal(scale=0.05, size=image.shape)
    >>> noise = StdDevUncertainty(np.full(image.shape, 0.05))
    >>> ccd = CCDData(image, unit='adu', uncertainty=noise)
    >>> RegressionFluxEstimator(model='linear').predict(ccd, psf_fwhm=4.0).round(-2)
    <Quantity 500. adu>
    """

    _packages = ('sklearn',)

    def __init__(self, model='boosting', *, weights='simulated-3', batch_size=256, random_state=0):
        self.model = model
        self.weights = weights
        self.batch_size = batch_size
        self.random_state = random_state

    def __sklearn_is_fitted__(self):
        return self.weights is not None or hasattr(self, 'fitted_')

    def _check_params(self):
        self._check_model()
        self._table_in_use()

    def _check_model(self):
        if self.model not in MODELS:
            known = ', '.join(repr(name) for name in MODELS)
            msg = f'model must be one of {known}, got {self.model!r}'
            raise ValueError(msg)

    def _table_in_use(self):
        if hasattr(self, 'fitted_'):
            return self.fitted_
        if self.weights is None:
            msg = (
                'RegressionFluxEstimator(weights=None) is untrained: call fit first, or name '
                'weights'
            )
            raise NotFittedError(msg)
        # Keyed by what it was loaded from: set_params may change it.
        key = str(self.weights)
        if getattr(self, '_loaded', (None, None))[0] != key:
            self._loaded = (key, read_table(locate_table(self.weights))[0])
        return self._loaded[1]

    def _more_meta(self):
        table = self._table_in_use()
        return {'weights': table.name, 'weights_sha256': table.sha256}

    def _measure_batch(self, cutouts):
        table = self._table_in_use()
        regression = train(table, self.model, self.random_state)
        canvases = Canvases(cutouts)
        features = measure_features(canvases.image, canvases.valid, canvases.psf)
        ln_ratio, spread = regression.predict(features.values)
        flux = np.exp(features.ln_reference + ln_ratio) * canvases.scale
        lower, upper = flux * np.exp(-spread), flux * np.exp(spread)
        flags = self._flags(canvases, features.snr, table.metadata)
        missed = flags & int(MeasurementFlag.NOT_DETECTED) != 0
        return {
            'flux': flux,
            'flux_err': (upper - lower) / 2,
            'flux_lower': lower,
            'flux_upper': upper,
            'flags': flags,
            'messages': [
                f'no source at the position: S/N {snr:.1f} of the best matched filter'
                if m
                else None
                for m, snr in zip(missed, features.snr, strict=True)
            ],
        }

    @staticmethod
    def _flags(canvases, snr, metadata):
        flags = np.zeros(len(snr), np.int64)
        flags[canvases.cropped] |= int(MeasurementFlag.STAMP_CROPPED)
        flags[snr < LOW_SNR] |= int(MeasurementFlag.LOW_SNR)
        flags[snr < DETECTION_SNR] |= int(MeasurementFlag.NOT_DETECTED)
        if trained := metadata.get('psf_fwhm_range'):
            # Comparisons with NaN, the unknown width, are false.
            fwhm = canvases.psf[:, 0]
            outside = (fwhm < trained[0]) | (fwhm > trained[1])
            flags[outside] |= int(MeasurementFlag.OUT_OF_RANGE)
        return flags

    def fit(self, cutouts, flux, *, psf=None, psf_fwhm=None, positions=None):
        """
        Train on cutouts of known flux, and on nothing else.

        The cutouts are read a batch at a time. One that cannot be measured is left out with a
        warning. Hundreds are needed for trees to be of use.

        Parameters
        ----------
        cutouts, psf, psf_fwhm, positions
            As for `predict`.

        flux : `~astropy.units.Quantity` or array_like, shape (n,)
            True total flux of each cutout; without a unit only if the cutouts have none.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If the fluxes are not positive or not one per cutout, or fewer than 20 cutouts can
            be used.

        `~astropy.units.UnitsError`
            If the units of fluxes and cutouts do not agree.
        """
        self._check_model()
        stream = iter_cutouts(cutouts, psf=psf, psf_fwhm=psf_fwhm, positions=positions)
        parts, scales, usable, unit = [], [], [], None
        while batch := list(islice(stream, self.batch_size)):
            good = np.array([not cutout.flags & FATAL_FLAGS for cutout in batch])
            usable.append(good)
            kept = [cutout for cutout, keep in zip(batch, good, strict=True) if keep]
            if kept:
                unit = unit or kept[0].unit
                canvases = Canvases(kept)
                parts.append(measure_features(canvases.image, canvases.valid, canvases.psf))
                scales.append(canvases.scale)
        if not parts:
            msg = f'fit needs at least {MINIMUM_FIT} usable cutouts, got none'
            raise ValueError(msg)
        usable = np.concatenate(usable)
        values = check_flux(flux, unit, len(usable))[usable]
        if len(values) < MINIMUM_FIT:
            n_usable = f'{len(values)} of {len(usable)}'
            msg = f'fit needs at least {MINIMUM_FIT} usable cutouts, got {n_usable}'
            raise ValueError(msg)
        if not usable.all():
            n_left_out = f'{(~usable).sum()} of {len(usable)}'
            msg = f'{n_left_out} cutouts cannot be measured and are left out of fit'
            warnings.warn(msg, AstropyUserWarning, stacklevel=2)
        features = join_features(parts)
        table = TrainingTable.from_features(
            features,
            np.log(values / np.concatenate(scales)),
            scatter=achievable_scatter(features.snr),
            group=np.arange(len(values)),
            name='fitted',
            metadata={'n_fitted': len(values)},
        )
        train(table, self.model, self.random_state)
        self.fitted_ = table
        return self

    def save(self, path):
        """
        Write the training table in use to a safetensors file.

        Parameters
        ----------
        path : str or `~pathlib.Path`
            The file; it is overwritten.
        """
        params = {'model': self.model, 'random_state': self.random_state}
        write_table(path, self._table_in_use(), params=params)

    @classmethod
    def load(cls, path):
        """
        Return an estimator with the model and training table of a file.

        Parameters
        ----------
        path : str or `~pathlib.Path`
            A file that `save` wrote.

        Returns
        -------
        estimator : `RegressionFluxEstimator`

        Raises
        ------
        ValueError
            If the file is not such a file, or is damaged.

        FileNotFoundError
            If there is none.
        """
        _, params = read_table(path)
        return cls(**params, weights=path)
