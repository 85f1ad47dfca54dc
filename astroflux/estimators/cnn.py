# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The neural network as an estimator of total flux."""

import math
from importlib import import_module

import numpy as np
from astropy.table import Table

from astroflux._progress import progress_bar
from astroflux.cutouts import iter_cutouts
from astroflux.estimators._checks import POSITIVE, POSITIVE_INTEGER, check_values
from astroflux.estimators._columns import COLUMNS, FLAGS_SET
from astroflux.estimators._docs import share_docs
from astroflux.estimators._options import takes_cutout_options
from astroflux.estimators._pretrained import PretrainedFluxEstimator, count_usable
from astroflux.estimators._save import refuse_to_replace
from astroflux.estimators._truth import check_flux, true_flux
from astroflux.flags import FATAL_FLAGS
from astroflux.networks.registry import default_weights

__all__ = ['CNNFluxEstimator']

DEFAULT_WEIGHTS = default_weights()

# How a network is used, by its architecture: module and name, loaded with torch at first use.
METHODS_OF_NETWORKS = {
    'ProfileNet': ('astroflux.estimators._measurement', 'ProfileMethod'),
    'StudyNet': ('astroflux.estimators._study_network', 'StudyMethod'),
}

MINIMUM_FIT = 2

CHECKS_OF_FIT = {
    'epochs': POSITIVE_INTEGER,
    'batch_size': POSITIVE_INTEGER,
    'learning_rate': POSITIVE,
    'validation_fraction': (lambda value: 0 <= value < 1, 'must be at least 0 and less than 1'),
}


class CNNFluxEstimator(PretrainedFluxEstimator):
    """
    Total flux by a convolutional neural network.

    Parameters
    ----------
    weights : str, path-like or None
        Name of weights in the package (see
        `astroflux.networks.available_weights`; by default those of
        `astroflux.networks.default_weights`), or the path of a file that
        `save` wrote. `None`: untrained, for `fit`.
    device : str
        Where to compute: ``'cpu'``, ``'cuda'``, ``'cuda:1'``, or another device that torch
        finds here; or ``'auto'`` for a CUDA GPU if there is one.
    batch_size : int
        Cutouts per pass through the network.
    epochs : int
        Passes over the cutouts in `fit`.
    learning_rate : float
        Highest learning rate of `fit`.
    validation_fraction : float
        Part of the cutouts that `fit` does not train on, but judges the network by after each
        epoch. With one, it keeps the network of the best epoch; with 0, the default, it trains on
        all cutouts and keeps that of the last epoch.
    random_state : int
        Seed of `fit`.

    Attributes
    ----------
    history_ : `~astropy.table.Table`
        What `fit` saw, a row per epoch: ``epoch``, ``learning_rate`` (at its end), ``loss`` (mean
        over the cutouts trained on, while the weights change), ``validation_loss`` (over the
        others, after the epoch; NaN without any), and whether its network was ``kept``. The loss
        is that of ln(flux) and of its error, in units of what is achievable.

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
    ``flux_lower_95`` and ``flux_upper_95`` the ends of the central 95 %. In the training all
    ln(flux) are equally frequent; ``flux_uniform_prior`` is the median if all fluxes were, which
    is less biased for faint galaxies that are alone, and more for others.
    ``concentration`` is ``5 log10(r80 / r20)``; ``half_light_radius`` is
    circularised and without the PSF.

    Up to four neighbors are solved for together with the galaxy. ``n_neighbors``,
    ``neighbor_distance`` and ``neighbor_light`` say how many were found, how far the nearest one
    is, and how much light they have over that of the galaxy where the galaxy is. From a tenth of
    it on, or from less that matters beside the error, the flag ``NEIGHBOUR`` is set; and where
    there is a second maximum, as near as a part of the galaxy would be. ``AMBIGUOUS`` says that a
    brighter source is nearer than two FWHM; what is measured is the one at the position. With
    weights whose training had no ``n_neighbors`` these columns are NaN.

    ``TRUNCATED`` says that the stamp is small for the galaxy, ``OFF_CENTRE`` that the light has
    its centre elsewhere, and ``ARTEFACT`` that there is a trail, a cosmic ray, a hot pixel, or a
    dead row or column. They are looked for in the pixels themselves, and change no flux.

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

    _extra_units = {name: column.unit for name, column in COLUMNS.items()}
    _descriptions = {name: column.description for name, column in COLUMNS.items()}
    _formats = {name: column.format for name, column in COLUMNS.items()}
    _flags_set = FLAGS_SET
    _packages = ('torch',)

    def __init__(
        self,
        weights=DEFAULT_WEIGHTS,
        *,
        device='cpu',
        batch_size=128,
        epochs=20,
        learning_rate=3e-4,
        validation_fraction=0.0,
        random_state=0,
    ):
        self.weights = weights
        self.device = device
        self.batch_size = batch_size
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.validation_fraction = validation_fraction
        self.random_state = random_state

    def _load(self, source):
        from astroflux.networks import load_weights

        loaded = load_weights(source)
        for network in (loaded.network, loaded.network_for_blocks):
            network.to(self._torch_device())
        return loaded

    def _source_key(self):
        return super()._source_key(), self.device

    def _torch_device(self):
        from astroflux.networks.devices import find_device

        return find_device(self.device)

    def _check_params(self):
        # first, as weights are read to a device
        self._torch_device()
        super()._check_params()
        self._method(self._in_use()).check()

    def _method(self, weights):
        """Return how weights are used."""
        module, name = METHODS_OF_NETWORKS[type(weights.network).__name__]
        return getattr(import_module(module), name)(weights, self._torch_device())

    def _measure_batch(self, cutouts):
        return self._method(self._in_use()).measure(cutouts)

    @property
    def fits_sources(self):
        """Whether it fits profiles to sources: the network of the study does not."""
        return getattr(self._method(self._in_use()), 'fits_sources', False)

    def fit_sources(self, cutouts):
        """
        Measure cutouts, and tell what was fitted to each.

        Parameters
        ----------
        cutouts : list of `~astroflux.cutouts.Cutout`
            None of them failed.

        Returns
        -------
        results : dict of str to array_like
            As of ``_measure_batch``.
        models : ``SourceModels`` of ``networks/source_models.py``
            In the pixels of each stamp, and in the unit of the cutouts.
        """
        return self._method(self._in_use()).fit_sources(cutouts)

    @share_docs
    @takes_cutout_options
    def weight_map(self, cutout, **options):
        """
        Return how much each pixel counts: the effective aperture of the estimator.

        It is the derivative of the flux with respect to the pixel values. As the flux is
        proportional to the cutout if its noise is scaled, too,
        ``sum(weight * cutout) + noise * d(flux)/d(noise) = flux`` (Euler's theorem), where the
        second term is small if the galaxy is bright. Where neighbors are found is taken for given,
        so that beside bright ones this holds less well.

        Parameters
        ----------
        cutout
            One cutout, of any kind that `predict` takes.

        {options}

        Returns
        -------
        weight : 2D `~numpy.ndarray`
            Of the shape of the cutout, without unit; 0 where pixels are not used.

        Raises
        ------
        ValueError
            If it is not one cutout, or cannot be measured.
        """
        self._check_params()
        items = list(iter_cutouts(cutout, **options))
        if len(items) != 1:
            msg = f'weight_map takes one cutout, got {len(items)}'
            raise ValueError(msg)
        if items[0].flags & FATAL_FLAGS:
            msg = f'the cutout cannot be measured: {items[0].message}'
            raise ValueError(msg)
        return self._method(self._in_use()).weight_map(items[0])

    @share_docs
    @takes_cutout_options
    def fit(self, cutouts, flux=None, *, y=None, progress=None, **options):
        """
        Train (``weights=None``) or fine-tune on cutouts of known flux.

        All cutouts are held in memory, at 170 kB each. One that cannot be
        measured is left out with a warning. The result measures until
        ``set_params`` names other weights.

        The learning rate rises over the first tenth of the steps and falls to nothing over the
        others: another number of epochs is another training, not a part of the same one.

        {known_galaxies}

        Returns
        -------
        self
            With ``history_``.

        Raises
        ------
        ValueError
            If a parameter is out of its range, the fluxes are not positive or not one per
            cutout, fewer than two cutouts can be trained on, or the training diverges.
        `~astropy.units.UnitsError`
            If the units of fluxes and cutouts do not agree.
        """
        from astroflux.estimators._canvas import Canvases
        from astroflux.networks import Weights
        from astroflux.networks.refine import new_network
        from astroflux.networks.store import hash_of_tensors, tensors_of

        check_values(CHECKS_OF_FIT, self)
        self._torch_device()
        flux = true_flux(flux, y)
        if self.weights is None:
            start, name = Weights(new_network(self.random_state), 'untrained', '', {}), 'fitted'
        else:
            start = self._pretrained()
            name = f'{start.name}, fine-tuned'
        network = self._method(start).network_to_fit
        stream = iter_cutouts(cutouts, **options)
        counts = {'total': stream.n, 'unit': ' cutouts'}
        items = list(progress_bar(stream, desc='read', progress=progress, **counts))
        usable = np.array([not item.flags & FATAL_FLAGS for item in items], bool)
        count_usable(usable, MINIMUM_FIT)
        kept = [item for item, good in zip(items, usable, strict=True) if good]
        canvases = Canvases(kept)
        values = check_flux(flux, kept[0].unit, len(items))[usable]
        n_validated = self._count_validated(len(kept))
        ln_flux = np.log(values / canvases.scale)
        network, history = self._refine(network, canvases, ln_flux, n_validated, progress)
        # what is seen in blocks of pixels is not trained
        sha256 = hash_of_tensors(tensors_of(network, start.blocks))
        counts = {'n_fitted': len(kept) - n_validated, 'n_validated': n_validated}
        self._keep(Weights(network, name, sha256, start.metadata | counts, start.blocks))
        self.history_ = Table(history, meta=counts)
        return self

    def _count_validated(self, n):
        """Return how many of the cutouts to keep for the validation, at least one if any."""
        n_validated = math.ceil(self.validation_fraction * n)
        if n - n_validated < MINIMUM_FIT:
            msg = (
                f'validation_fraction={self.validation_fraction:g} leaves {n - n_validated} of {n} '
                f'usable cutouts to train on, want at least {MINIMUM_FIT}'
            )
            raise ValueError(msg)
        return n_validated

    def _refine(self, network, canvases, ln_flux, n_validated, progress):
        """Return the trained network and its history."""
        from astroflux.networks.refine import refine

        n_seen = self.epochs * (len(ln_flux) - n_validated)
        with progress_bar(desc='fit', total=n_seen, unit=' cutouts', progress=progress) as bar:

            def tell(n_stamps, history):
                if history:
                    bar.set_postfix(_postfix(history[-1]), refresh=False)
                bar.update(n_stamps)

            return refine(
                network,
                canvases.image,
                canvases.weight,
                canvases.psf,
                ln_flux,
                epochs=self.epochs,
                batch_size=min(self.batch_size, 128),
                learning_rate=self.learning_rate,
                seed=self.random_state,
                n_validation=n_validated,
                device=self._torch_device(),
                tell=tell,
            )

    @share_docs
    def save(self, path, *, overwrite=False):
        """
        Write the weights in use to a safetensors file.

        {save}
        """
        from astroflux.networks import save_weights

        refuse_to_replace(path, overwrite=overwrite)
        weights = self._in_use()
        save_weights(
            path,
            weights.network,
            name=weights.name,
            metadata=weights.metadata,
            blocks=weights.blocks,
        )

    @classmethod
    @share_docs
    def load(cls, path):
        """
        Return an estimator with the weights of a file; the same as ``weights=path``.

        {load}
        """
        return cls(weights=path)


def _postfix(row):
    """What a progress bar shows of an epoch."""
    names = ['epoch', 'loss'] + ['validation_loss'] * math.isfinite(row['validation_loss'])
    return {name: row[name] for name in names}
