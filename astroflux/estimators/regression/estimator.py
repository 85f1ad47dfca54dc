# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Classical regressions on features of the light profile, to compare the network with."""

from itertools import islice

import numpy as np

from astroflux._progress import progress_bar
from astroflux.cutouts import iter_cutouts
from astroflux.estimators._canvas import Canvases
from astroflux.estimators._checks import POSITIVE_INTEGER, check_values
from astroflux.estimators._docs import share_docs
from astroflux.estimators._options import takes_cutout_options
from astroflux.estimators._pretrained import (
    DETECTION_FLAGS,
    PretrainedFluxEstimator,
    count_usable,
    detection_flags,
    messages_of_missed,
)
from astroflux.estimators._save import refuse_to_replace
from astroflux.estimators._truth import check_flux, true_flux
from astroflux.estimators.regression._features import (
    centroid_offset,
    join_features,
    measure_features,
)
from astroflux.estimators.regression._models import MODELS, train_once
from astroflux.estimators.regression._training_table import (
    TrainingTable,
    achievable_scatter,
    locate_table,
    read_training_table,
    write_training_table,
)
from astroflux.flags import FATAL_FLAGS, MeasurementFlag

__all__ = ['RegressionFluxEstimator']

MINIMUM_FIT = 20

# Where the centroid is farther from the middle, in units of the filter's sigma, the galaxy is
# elsewhere; where the light is fainter than this, its centroid is noise.
MOST_OFFSET = 0.5
LEAST_SNR = 10.0


class RegressionFluxEstimator(PretrainedFluxEstimator):
    """
    Total flux by a classical regression on twenty-six features of the light profile.

    The flux in the best matched filter, corrected by what the regression says of the growth
    curve around it, of the galaxy's size and elongation, and of the PSF. It is what to compare
    the network with, and needs no GPU to be trained.

    Parameters
    ----------
    model : {'boosting', 'forest', 'linear'}, optional
        Gradient-boosted trees, a random forest, or a linear regression.

    training_table : str, path-like or None, optional
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

    _flags_set = {
        **DETECTION_FLAGS,
        'OFF_CENTRE': 'the light has its centroid elsewhere',
        'OUT_OF_RANGE': 'the PSF is narrower or wider than those of the training',
    }
    _packages = ('sklearn',)
    _source = 'training_table'

    def __init__(
        self, model='boosting', *, training_table='simulated-3', batch_size=256, random_state=0
    ):
        self.model = model
        self.training_table = training_table
        self.batch_size = batch_size
        self.random_state = random_state

    def _check_params(self):
        self._check_model()
        super()._check_params()

    def _check_model(self):
        if self.model not in MODELS:
            known = ', '.join(repr(name) for name in MODELS)
            msg = f'model must be one of {known}, got {self.model!r}'
            raise ValueError(msg)

    def _load(self, source):
        return read_training_table(locate_table(source))[0]

    def _measure_batch(self, cutouts):
        table = self._in_use()
        regression = train_once(table, self.model, self.random_state)
        canvases = Canvases(cutouts, of_sums=False)
        features = measure_features(canvases.image, canvases.valid, canvases.psf)
        ln_ratio, spread = regression.predict(features.values)
        flux = np.exp(features.ln_reference + ln_ratio) * canvases.scale
        # The features want the noise of pixels, and were trained where it is white. Of the spread
        # only what is noise grows.
        growth = np.array([cutout.noise_growth for cutout in cutouts])
        spread = np.hypot(spread, np.sqrt(np.maximum(growth**2 - 1, 0)) / features.snr)
        snr = features.snr / growth
        lower, upper = flux * np.exp(-spread), flux * np.exp(spread)
        flags = self._flags(canvases, snr, table.metadata)
        is_elsewhere = centroid_offset(canvases.image, features) > MOST_OFFSET
        flags[is_elsewhere & (snr > LEAST_SNR)] |= int(MeasurementFlag.OFF_CENTRE)
        return {
            'flux': flux,
            'flux_err': (upper - lower) / 2,
            'flux_lower': lower,
            'flux_upper': upper,
            'flags': flags,
            'messages': messages_of_missed(flags, snr),
        }

    @staticmethod
    def _flags(canvases, snr, metadata):
        flags = detection_flags(canvases, snr)
        if trained := metadata.get('psf_fwhm_range'):
            # Comparisons with NaN, the unknown width, are false.
            fwhm = canvases.psf[:, 0]
            outside = (fwhm < trained[0]) | (fwhm > trained[1])
            flags[outside] |= int(MeasurementFlag.OUT_OF_RANGE)
        return flags

    @share_docs
    @takes_cutout_options
    def fit(self, cutouts, flux=None, *, y=None, progress=None, **options):
        """
        Train on cutouts of known flux, and on nothing else.

        The cutouts are read a batch at a time. One that cannot be measured is left out with a
        warning. Hundreds are needed for trees to be of use.

        {known_galaxies}

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
        check_values({'batch_size': POSITIVE_INTEGER}, self)
        flux = true_flux(flux, y)
        stream = iter_cutouts(cutouts, **options)
        counts = {'total': stream.n, 'unit': ' cutouts'}
        stream = iter(progress_bar(stream, desc='fit', progress=progress, **counts))
        parts, scales, usable, unit = [], [], [], None
        while batch := list(islice(stream, self.batch_size)):
            kept = [cutout for cutout in batch if not cutout.flags & FATAL_FLAGS]
            usable += [not cutout.flags & FATAL_FLAGS for cutout in batch]
            if kept:
                unit = unit or kept[0].unit
                canvases = Canvases(kept, of_sums=False)
                parts.append(measure_features(canvases.image, canvases.valid, canvases.psf))
                scales.append(canvases.scale)
        if not parts:
            msg = f'fit needs at least {MINIMUM_FIT} usable cutouts, got none'
            raise ValueError(msg)
        values = check_flux(flux, unit, len(usable))[usable]
        count_usable(usable, MINIMUM_FIT)
        features = join_features(parts)
        table = TrainingTable.from_features(
            features,
            np.log(values / np.concatenate(scales)),
            scatter=achievable_scatter(features.snr),
            group=np.arange(len(values)),
            name='fitted',
            metadata={'n_fitted': len(values)},
        )
        train_once(table, self.model, self.random_state)
        self._keep(table)
        return self

    @share_docs
    def save(self, path, *, overwrite=False):
        """
        Write the training table in use to a safetensors file.

        {save}
        """
        refuse_to_replace(path, overwrite=overwrite)
        params = {'model': self.model, 'random_state': self.random_state}
        write_training_table(path, self._in_use(), params=params)

    @classmethod
    @share_docs
    def load(cls, path):
        """
        Return an estimator with the model and training table of a file that `save` wrote.

        {load}
        """
        _, params = read_training_table(path)
        return cls(**params, training_table=path)
