# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The neural network as an estimator of total flux."""

import warnings

import numpy as np
from astropy import units as u
from astropy.utils.exceptions import AstropyUserWarning
from sklearn.exceptions import NotFittedError

from astroflux.cutouts import iter_cutouts
from astroflux.estimators._canvas import Canvases
from astroflux.estimators.base import FluxEstimator, check_flux
from astroflux.flags import FATAL_FLAGS, MeasurementFlag

__all__ = ['CNNFluxEstimator']

# Below this S/N of the best matched filter there is nothing to measure (a
# cutout of pure noise stays below it in 98 of 100 cases), and below the
# second one the training had few examples.
DETECTION_SNR = 2.5
LOW_SNR = 5.0

# A galaxy larger than any of the training is given about the largest radius
# of the training: from this fraction of it on, the answer is suspect.
SUSPECT_RADIUS = 0.9

MINIMUM_FIT = 2


class CNNFluxEstimator(FluxEstimator):
    """
    Total flux by a convolutional neural network.

    Parameters
    ----------
    weights : str, path-like or None
        Name of weights in the package (see
        `astroflux.networks.available_weights`), or the path of a file that
        `save` wrote. `None`: untrained, for `fit`.
    device : str
        Where to compute: ``'cpu'``, ``'cuda'``, or ``'auto'`` for a GPU if
        there is one.
    batch_size : int
        Cutouts per pass through the network.
    epochs : int
        Passes over the cutouts in `fit`.
    learning_rate : float
        Highest learning rate of `fit`.
    random_state : int
        Seed of `fit`.

    Notes
    -----
    The flux is exactly proportional to the cutout: the network sees it in
    units of its noise, and answers with a ratio to the flux of a matched
    filter. Only the 147 x 147 pixels around the galaxy are used; the flag
    ``STAMP_CROPPED`` says when there were more, and ``OUT_OF_RANGE`` when the
    PSF or the galaxy is larger or smaller than the training had them.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy.nddata import CCDData, StdDevUncertainty
    >>> from astroflux import CNNFluxEstimator
    >>> y, x = np.mgrid[-30:31, -30:31]
    >>> image = 50 / (2 * np.pi * 9) * np.exp(-(x**2 + y**2) / 18)
    >>> noise = StdDevUncertainty(np.full(image.shape, 0.05))
    >>> ccd = CCDData(image, unit='adu', uncertainty=noise)
    >>> CNNFluxEstimator().predict(ccd, psf_fwhm=4.0).round(-1)
    <Quantity 50. adu>
    """

    _extra_units = {'half_light_radius': u.pix}
    _packages = ('torch',)

    def __init__(
        self,
        weights='foveated-1',
        *,
        device='cpu',
        batch_size=256,
        epochs=20,
        learning_rate=3e-4,
        random_state=0,
    ):
        self.weights = weights
        self.device = device
        self.batch_size = batch_size
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.random_state = random_state

    def __sklearn_is_fitted__(self):
        return self.weights is not None or hasattr(self, 'fitted_')

    def _check_params(self):
        self._weights_in_use()

    def _weights_in_use(self):
        if hasattr(self, 'fitted_'):
            return self.fitted_
        if self.weights is None:
            msg = 'CNNFluxEstimator(weights=None) is untrained: call fit first, or name weights'
            raise NotFittedError(msg)
        return self._pretrained()

    def _pretrained(self):
        """Return the weights of the constructor, loaded once and kept."""
        # Keyed by what they were loaded from: set_params may change it.
        key = (str(self.weights), self.device)
        if getattr(self, '_loaded', (None, None))[0] != key:
            from astroflux.networks import load_weights

            loaded = load_weights(self.weights)
            loaded.network.to(self._torch_device())
            self._loaded = (key, loaded)
        return self._loaded[1]

    def _torch_device(self):
        import torch

        if self.device == 'auto':
            return torch.device('cuda' if torch.cuda.is_available() else 'cpu')
        return torch.device(self.device)

    def _more_meta(self):
        weights = self._weights_in_use()
        return {'weights': weights.name, 'weights_sha256': weights.sha256}

    def _measure_batch(self, cutouts):
        import torch

        weights = self._weights_in_use()
        canvases = Canvases(cutouts)
        device = self._torch_device()
        with torch.inference_mode():
            answer = weights.network(
                *(
                    torch.from_numpy(array).to(device)
                    for array in (canvases.image, canvases.valid, canvases.psf)
                )
            )
        answer = {name: value.cpu().numpy().astype(float) for name, value in answer.items()}
        flux = np.exp(answer['ln_flux']) * canvases.scale
        lower, upper = flux * np.exp(-answer['below']), flux * np.exp(answer['above'])
        radius = np.exp(answer['ln_radius'])
        flags = self._flags(canvases, answer['detection_snr'], radius, weights.metadata)
        missed = flags & int(MeasurementFlag.NOT_DETECTED) != 0
        return {
            'flux': flux,
            'flux_err': (upper - lower) / 2,
            'flux_lower': lower,
            'flux_upper': upper,
            'half_light_radius': radius,
            'flags': flags,
            'messages': [
                f'no source at the position: S/N {snr:.1f} of the best matched filter'
                if m
                else None
                for m, snr in zip(missed, answer['detection_snr'], strict=True)
            ],
        }

    @staticmethod
    def _flags(canvases, detection_snr, radius, metadata):
        flags = np.zeros(len(detection_snr), np.int64)
        flags[canvases.cropped] |= int(MeasurementFlag.STAMP_CROPPED)
        flags[detection_snr < LOW_SNR] |= int(MeasurementFlag.LOW_SNR)
        flags[detection_snr < DETECTION_SNR] |= int(MeasurementFlag.NOT_DETECTED)
        if trained := metadata.get('psf_fwhm_range'):
            # Comparisons with NaN, the unknown width, are false.
            fwhm = canvases.psf[:, 0]
            outside = (fwhm < trained[0]) | (fwhm > trained[1])
            flags[outside] |= int(MeasurementFlag.OUT_OF_RANGE)
        if trained := metadata.get('half_light_radius_range'):
            flags[radius > SUSPECT_RADIUS * trained[1]] |= int(MeasurementFlag.OUT_OF_RANGE)
        return flags

    def fit(self, cutouts, flux, *, psf=None, psf_fwhm=None, positions=None):
        """
        Train (``weights=None``) or fine-tune on cutouts of known flux.

        All cutouts are held in memory, at 170 kB each. One that cannot be
        measured is left out with a warning.

        Parameters
        ----------
        cutouts, psf, psf_fwhm, positions
            As for `predict`.
        flux : `~astropy.units.Quantity` or array_like, shape (n,)
            True total flux of each cutout; without a unit only if the cutouts
            have none.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If the fluxes are not positive or not one per cutout, or fewer
            than two cutouts can be used.
        `~astropy.units.UnitsError`
            If the units of fluxes and cutouts do not agree.
        """
        from astroflux.networks import Weights
        from astroflux.networks.refine import new_network, refine
        from astroflux.networks.store import hash_of_tensors

        start = None if self.weights is None else self._pretrained()
        canvases, ln_flux = self._training_arrays(
            cutouts, flux, psf=psf, psf_fwhm=psf_fwhm, positions=positions
        )
        network = refine(
            new_network(self.random_state) if start is None else start.network,
            canvases.image,
            canvases.valid,
            canvases.psf,
            ln_flux,
            epochs=self.epochs,
            batch_size=min(self.batch_size, 128),
            learning_rate=self.learning_rate,
            seed=self.random_state,
            device=self._torch_device(),
        )
        name = 'fitted' if start is None else f'{start.name}, fine-tuned'
        metadata = {} if start is None else dict(start.metadata)
        metadata['n_fitted'] = len(ln_flux)
        self.fitted_ = Weights(network, name, hash_of_tensors(network.state_dict()), metadata)
        return self

    def _training_arrays(self, cutouts, flux, **keywords):
        """Return the usable cutouts' canvases and their ln flux in units of the noise."""
        items = list(iter_cutouts(cutouts, **keywords))
        usable = np.array([not c.flags & FATAL_FLAGS for c in items], bool)
        if usable.sum() < MINIMUM_FIT:
            n_usable = f'{usable.sum()} of {len(items)}'
            msg = f'fit needs at least {MINIMUM_FIT} usable cutouts, got {n_usable}'
            raise ValueError(msg)
        kept = [c for c, good in zip(items, usable, strict=True) if good]
        values = check_flux(flux, kept[0].unit, len(items))[usable]
        if len(kept) < len(items):
            n_left_out = f'{len(items) - len(kept)} of {len(items)}'
            msg = f'{n_left_out} cutouts cannot be measured and are left out of fit'
            warnings.warn(msg, AstropyUserWarning, stacklevel=3)
        canvases = Canvases(kept)
        return canvases, np.log(values / canvases.scale)

    def save(self, path):
        """
        Write the weights in use to a safetensors file.

        Parameters
        ----------
        path : str or `~pathlib.Path`
            The file; it is overwritten.
        """
        from astroflux.networks import save_weights

        weights = self._weights_in_use()
        save_weights(path, weights.network, name=weights.name, metadata=weights.metadata)

    @classmethod
    def load(cls, path):
        """
        Return an estimator with the weights of a file; the same as ``weights=path``.

        Parameters
        ----------
        path : str or `~pathlib.Path`
            A file that `save` wrote.

        Returns
        -------
        estimator : `CNNFluxEstimator`
        """
        return cls(weights=path)
