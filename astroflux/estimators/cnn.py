# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The neural network as an estimator of total flux."""

import warnings

import numpy as np
from astropy import units as u
from astropy.utils.exceptions import AstropyUserWarning
from sklearn.exceptions import NotFittedError

from astroflux.cutouts import iter_cutouts
from astroflux.estimators._canvas import Canvases
from astroflux.estimators._study_network import (
    is_study_network,
    measure_with_study_network,
    refuse_study_network,
)
from astroflux.estimators.base import FluxEstimator, check_flux
from astroflux.flags import FATAL_FLAGS, MeasurementFlag
from astroflux.networks.profile_net import QUANTILES
from astroflux.networks.pyramid import CANVAS_SIZE

__all__ = ['CNNFluxEstimator']

# Below this S/N of the best matched filter there is nothing to measure (a
# cutout of pure noise stays below it in 98 of 100 cases), and below the
# second one the training had few examples.
DETECTION_SNR = 2.5
LOW_SNR = 5.0

# A galaxy of which the canvas shows little is measured again in blocks of pixels, so
# large that its half-light radius is no more than so many of them, and that the stamp fits,
# as far as the radius is no less than so many, with so many pixels along an axis at the most.
LARGE_RADIUS = 10.0
RESOLVED_RADIUS = 4.0
MAX_BINNING = 12

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
    filter. It sees the 147 x 147 pixels around the galaxy; if the galaxy is
    too large for that, a network of its own sees blocks of pixels instead (`fit`
    leaves that one as it is). The flag ``STAMP_CROPPED``
    says when there was more, ``OUT_OF_RANGE`` when the PSF or the galaxy is
    larger or smaller than the training had them, and ``UNFAMILIAR`` when the
    column ``novelty`` is above one: of cutouts like those of the training one
    in a hundred is.

    The flux is the median of a predictive distribution, of which
    ``flux_lower`` and ``flux_upper`` are the 16th and 84th percentiles,
    ``flux_lower_95`` and ``flux_upper_95`` the ends of the central 95 %.
    ``concentration`` is ``5 log10(r80 / r20)``; ``half_light_radius`` is
    circularised and without the PSF.

    The weights ``'study-2024'``, and others of the architecture ``StudyNet``, the network of a
    study of 2024, are kept for comparison. They are **not** proportional to the cutout: they see
    raw values of the 143 x 143 pixels around the galaxy (0 where there are none, or masked ones),
    answer with the logarithm of the flux in ADU at the zero point 27, and know no other unit:
    a cutout in another unit, or without any, raises `~astropy.units.UnitsError`. They use neither
    noise nor PSF. Their errors are one number of dex, the scatter over their own test set;
    ``OUT_OF_RANGE`` says that the answer is beyond the fluxes of their training; the columns of
    shape and ``novelty`` are NaN; `fit` and `weight_map` refuse such weights.

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

    _extra_units = {
        'flux_lower_95': 'flux',
        'flux_upper_95': 'flux',
        'half_light_radius': u.pix,
        'half_light_radius_err': u.pix,
        'concentration': None,
        'concentration_err': None,
        'bulge_to_total': None,
        'bulge_to_total_err': None,
        'novelty': None,
    }
    _packages = ('torch',)

    def __init__(
        self,
        weights='profile-4',
        *,
        device='cpu',
        batch_size=128,
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
            for network in (loaded.network, loaded.network_for_blocks):
                network.to(self._torch_device())
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
        weights = self._weights_in_use()
        if is_study_network(weights):
            device = self._torch_device()
            return measure_with_study_network(weights, cutouts, self._extra_units, device)
        canvases = Canvases(cutouts)
        answer = self._answer(weights.network, canvases)
        binning = np.ones(len(cutouts), int)
        self._measure_large(weights.network_for_blocks, cutouts, canvases, answer, binning)

        # What is too large for a number is no measurement: of a canvas without a usable pixel.
        with np.errstate(over='ignore'):
            flux, *limits = (
                np.exp(answer['ln_flux'] + answer['quantiles'][:, QUANTILES.index(q)])
                * canvases.scale
                for q in (0.5, 0.1587, 0.8413, 0.025, 0.975)
            )
        lower, upper, lower_95, upper_95 = limits
        radius = np.exp(answer['ln_radius'])
        radius_error, concentration_error, ratio_error = answer['shape_error'].T
        flags = self._flags(canvases, answer, binning, weights.metadata)
        missed = flags & int(MeasurementFlag.NOT_DETECTED) != 0
        return {
            'flux': flux,
            'flux_err': (upper - lower) / 2,
            'flux_lower': lower,
            'flux_upper': upper,
            'flux_lower_95': lower_95,
            'flux_upper_95': upper_95,
            'half_light_radius': radius * binning,
            'half_light_radius_err': radius * radius_error * binning,
            'concentration': answer['concentration'],
            'concentration_err': concentration_error,
            'bulge_to_total': answer['bulge_to_total'],
            'bulge_to_total_err': ratio_error,
            # a network without a fit has no features to judge
            'novelty': answer.get('novelty', np.full(len(flux), np.nan)),
            'flags': flags,
            'messages': [
                f'no source at the position: S/N {snr:.1f} of the best matched filter'
                if m
                else None
                for m, snr in zip(missed, answer['detection_snr'], strict=True)
            ],
        }

    def _answer(self, network, canvases):
        """Return the network's answer as arrays of double precision."""
        import torch

        device = self._torch_device()
        with torch.inference_mode():
            answer = network(
                *(
                    torch.from_numpy(array).to(device)
                    for array in (canvases.image, canvases.weight, canvases.psf)
                ),
                canvases.binning,
            )
        return {name: value.cpu().numpy().astype(float) for name, value in answer.items()}

    def _measure_large(self, network, cutouts, canvases, answer, binning):
        """Measure galaxies that are too large for the canvas again, in blocks of pixels."""
        while True:
            radius = np.exp(answer['ln_radius'])
            large = canvases.cropped & (radius > LARGE_RADIUS) & (binning < MAX_BINNING)
            if not large.any():
                return
            rows = np.flatnonzero(large)
            pixels = binning[rows] * radius[rows]
            sides = np.array([max(cutouts[row].data.shape) for row in rows])
            fitting = np.minimum(np.ceil(sides / CANVAS_SIZE), pixels // RESOLVED_RADIUS)
            wanted = np.maximum(np.ceil(pixels / LARGE_RADIUS), fitting).astype(int)
            wanted = np.clip(wanted, binning[rows] + 1, MAX_BINNING)
            for value in np.unique(wanted):
                chosen = rows[wanted == value]
                again = Canvases([cutouts[row] for row in chosen], int(value))
                for name, values in self._answer(network, again).items():
                    answer[name][chosen] = values
                binning[chosen] = value
                for name in ('psf', 'scale', 'cropped'):
                    getattr(canvases, name)[chosen] = getattr(again, name)

    @staticmethod
    def _flags(canvases, answer, binning, metadata):
        detection_snr = answer['detection_snr']
        flags = np.zeros(len(detection_snr), np.int64)
        flags[canvases.cropped] |= int(MeasurementFlag.STAMP_CROPPED)
        flags[detection_snr < LOW_SNR] |= int(MeasurementFlag.LOW_SNR)
        flags[detection_snr < DETECTION_SNR] |= int(MeasurementFlag.NOT_DETECTED)
        flags[answer.get('novelty', np.zeros(len(flags))) > 1] |= int(MeasurementFlag.UNFAMILIAR)
        if trained := metadata.get('psf_fwhm_range'):
            # Comparisons with NaN, the unknown width, are false.
            fwhm = canvases.psf[:, 0]
            outside = (fwhm * binning < trained[0]) | (fwhm > trained[1])
            flags[outside] |= int(MeasurementFlag.OUT_OF_RANGE)
        if trained := metadata.get('half_light_radius_range'):
            radius = np.exp(answer['ln_radius'])
            flags[radius > SUSPECT_RADIUS * trained[1]] |= int(MeasurementFlag.OUT_OF_RANGE)
        return flags

    def weight_map(self, cutout, *, psf=None, psf_fwhm=None, positions=None):
        """
        Return how much each pixel counts: the effective aperture of the estimator.

        It is the derivative of the flux with respect to the pixel values. As the flux is
        proportional to the cutout if its noise is scaled, too,
        ``sum(weight * cutout) + noise * d(flux)/d(noise) = flux`` (Euler's theorem), where the
        second term is small if the galaxy is bright.

        Parameters
        ----------
        cutout
            One cutout, of any kind that `predict` takes.
        psf, psf_fwhm, positions
            As for `predict`.

        Returns
        -------
        weight : 2D `~numpy.ndarray`
            Of the shape of the cutout, without unit; 0 where pixels are not used.

        Raises
        ------
        ValueError
            If it is not one cutout, or cannot be measured.
        """
        import torch

        items = list(iter_cutouts(cutout, psf=psf, psf_fwhm=psf_fwhm, positions=positions))
        if len(items) != 1:
            msg = f'weight_map takes one cutout, got {len(items)}'
            raise ValueError(msg)
        if items[0].flags & FATAL_FLAGS:
            msg = f'the cutout cannot be measured: {items[0].message}'
            raise ValueError(msg)
        weights, device = self._weights_in_use(), self._torch_device()
        refuse_study_network(weights, 'weight_map')
        canvases, binning = Canvases(items), np.ones(1, int)
        answer = self._answer(weights.network, canvases)
        self._measure_large(weights.network_for_blocks, items, canvases, answer, binning)
        network = weights.network if binning[0] == 1 else weights.network_for_blocks
        canvases = Canvases(items, int(binning[0]))
        image, weight, psf_numbers = (
            torch.from_numpy(array).to(device)
            for array in (canvases.image, canvases.weight, canvases.psf)
        )
        answer = network(image.requires_grad_(), weight, psf_numbers, canvases.binning)
        ln_flux = answer['ln_flux'] + answer['quantiles'][:, QUANTILES.index(0.5)]
        # The flux and the image are both in units of the noise.
        (derivative,) = torch.autograd.grad(ln_flux.exp().sum(), image)
        return canvases.to_cutout(0, derivative[0].cpu().numpy().astype(float))

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
        from astroflux.networks.store import hash_of_tensors, tensors_of

        start = None if self.weights is None else self._pretrained()
        refuse_study_network(start, 'fit')
        canvases, ln_flux = self._training_arrays(
            cutouts, flux, psf=psf, psf_fwhm=psf_fwhm, positions=positions
        )
        network = refine(
            new_network(self.random_state) if start is None else start.network,
            canvases.image,
            canvases.weight,
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
        # what is seen in blocks of pixels is not trained
        blocks = None if start is None else start.blocks
        sha256 = hash_of_tensors(tensors_of(network, blocks))
        self.fitted_ = Weights(network, name, sha256, metadata, blocks)
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
        save_weights(
            path,
            weights.network,
            name=weights.name,
            metadata=weights.metadata,
            blocks=weights.blocks,
        )

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
