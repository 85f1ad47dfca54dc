# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Classical regressions on features of the light profile, to compare the network with."""

import hashlib
import json
import warnings
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib import resources
from itertools import islice
from pathlib import Path

import numpy as np
from astropy.utils.exceptions import AstropyUserWarning
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor
from sklearn.exceptions import NotFittedError
from sklearn.impute import SimpleImputer
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

import astroflux
from astroflux.cutouts import iter_cutouts
from astroflux.estimators._canvas import Canvases
from astroflux.estimators._features import FEATURES, design, join_features, measure_features
from astroflux.estimators.base import FluxEstimator, check_flux
from astroflux.flags import FATAL_FLAGS, MeasurementFlag
from astroflux.networks.foveated import SCATTER_FLOOR

__all__ = [
    'MODELS',
    'RegressionFluxEstimator',
    'TrainingTable',
    'achievable_scatter',
    'read_table',
    'write_table',
]

MODELS = ('linear', 'forest', 'boosting')
SHIPPED = ('simulated-1',)
FORMAT = 'astroflux-regression-1'

# As for the network: below the first S/N of the best filter there is nothing
# to measure, and below the second one the training had few examples.
DETECTION_SNR = 2.5
LOW_SNR = 5.0

MINIMUM_FIT = 20

# Each part of the table is predicted by a model that has not seen it, which
# tells honest errors; the answer is the mean of these models.
N_FOLDS = 2

# The share of normal errors within one standard deviation.
ONE_SIGMA = 0.6827

# The inverse square would leave nothing to learn from faint galaxies.
WEIGHT_POWER = 1.6

# ln(flux / reference) beyond this is an extrapolation gone astray.
LARGEST_LN_RATIO = 4.0


@dataclass(frozen=True, eq=False)
class TrainingTable:
    """
    Galaxies of known flux as a regression sees them.

    Attributes
    ----------
    features : `~numpy.ndarray`
        ``(n, 26)`` float16, which is finer than a boosting's bins.
    target : `~numpy.ndarray`
        ``(n,)`` float32, ln of the true flux over the reference.
    scatter : `~numpy.ndarray`
        ``(n,)`` float32, roughly the error of ln flux that any method makes;
        the smaller, the more a galaxy weighs.
    group : `~numpy.ndarray`
        ``(n,)`` int32, the same for observations of the same galaxy.
    name : str
        Name of the table.
    metadata : dict
        What can be written as JSON about its making.
    """

    features: np.ndarray
    target: np.ndarray
    scatter: np.ndarray
    group: np.ndarray
    name: str
    metadata: dict

    @classmethod
    def from_features(cls, features, ln_flux, *, scatter, group, name, metadata=None):
        """
        Make a table, each number in the precision that files have.

        Parameters
        ----------
        features : `~astroflux.estimators._features.Features`
            Of all galaxies.
        ln_flux : array_like
            True ln flux in units of the noise.
        scatter, group, name, metadata
            As the attributes.

        Returns
        -------
        table : `TrainingTable`
        """
        return cls(
            np.asarray(features.values, np.float16),
            np.asarray(ln_flux - features.ln_reference, np.float32),
            np.asarray(scatter, np.float32),
            np.asarray(group, np.int32),
            name,
            metadata or {},
        )

    @property
    def arrays(self):
        """The arrays by their names."""
        return {name: getattr(self, name) for name in ('features', 'target', 'scatter', 'group')}

    def __hash__(self):
        return hash(self.sha256)

    def __eq__(self, other):
        # By content, so that models are trained once per table, not once per object.
        return isinstance(other, TrainingTable) and self.sha256 == other.sha256

    @cached_property
    def sha256(self):
        """Hash of all arrays: names, types, shapes and values."""
        digest = hashlib.sha256()
        for name, array in self.arrays.items():
            digest.update(f'{name} {array.dtype} {array.shape} '.encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


def achievable_scatter(snr, floor=SCATTER_FLOOR):
    """
    Return roughly the scatter of ln flux that is achievable at a given S/N.

    Parameters
    ----------
    snr, floor : array_like
        As for `astroflux.networks.foveated.achievable_scatter`, which takes tensors.

    Returns
    -------
    scatter : `~numpy.ndarray`
    """
    return np.hypot(1.5 / np.asarray(snr, float), floor)


def write_table(path, table, *, params=None):
    """
    Write a training table to a safetensors file.

    Parameters
    ----------
    path : path-like
        The file; it is overwritten.
    table : `TrainingTable`
        The table.
    params : dict, optional
        Parameters of the estimator that uses it.
    """
    from safetensors.numpy import save

    arrays = {name: np.ascontiguousarray(array) for name, array in table.arrays.items()}
    header = {
        'format': FORMAT,
        'astroflux_version': astroflux.__version__,
        'name': table.name,
        'feature_names': json.dumps(FEATURES),
        'sha256': table.sha256,
        'metadata': json.dumps(table.metadata),
        'params': json.dumps(params or {}),
    }
    # Made in full before the file is touched, so that a failure leaves no half of it.
    Path(path).write_bytes(save(arrays, metadata=header))


def read_table(path):
    """
    Read a training table that `write_table` wrote.

    Parameters
    ----------
    path : path-like
        The file.

    Returns
    -------
    table : `TrainingTable`
    params : dict
        The parameters of the estimator that wrote it.

    Raises
    ------
    ValueError
        If the file is not such a table, is damaged, or has the features of
        another version.
    FileNotFoundError
        If there is none.
    """
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        msg = f'there is no training table {str(path)!r}'
        raise FileNotFoundError(msg)
    try:
        with safe_open(path, framework='numpy') as file:
            header = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as exc:
        msg = f'{path} is not a readable safetensors file: {exc}'
        raise ValueError(msg) from exc
    if header.get('format') != FORMAT:
        msg = f'{path} holds no training table: its format is {header.get("format")!r}'
        raise ValueError(msg)
    try:
        names = tuple(json.loads(header['feature_names']))
        table = TrainingTable(
            **arrays, name=header['name'], metadata=json.loads(header['metadata'])
        )
        params = json.loads(header['params'])
        stated = header['sha256']
    except (KeyError, TypeError, ValueError) as exc:
        msg = f'{path} holds no complete training table: {exc}'
        raise ValueError(msg) from exc
    if names != FEATURES:
        msg = f'{path} has other features than this version of astroflux: {sorted(names)}'
        raise ValueError(msg)
    if table.sha256 != stated:
        msg = (
            f'{path} is damaged or was changed: its arrays have the hash {table.sha256[:12]}..., '
            f'want {stated[:12]}...'
        )
        raise ValueError(msg)
    return table, params


def _locate(weights):
    """Return the path of a training table given by name or path."""
    if isinstance(weights, str) and weights in SHIPPED:
        return resources.files('astroflux') / 'data' / 'regression' / f'{weights}.safetensors'
    path = Path(weights)
    if path.is_file():
        return path
    known = ', '.join(repr(name) for name in SHIPPED)
    msg = f'unknown weights {str(weights)!r}: want {known}, or the path of a file that save wrote'
    raise ValueError(msg)


def _new_model(model, random_state):
    """Return the untrained regression of ln(flux / reference)."""
    if model == 'linear':
        return make_pipeline(SimpleImputer(strategy='median'), StandardScaler(), Ridge(alpha=1.0))
    if model == 'forest':
        return RandomForestRegressor(
            n_estimators=60,
            min_samples_leaf=5,
            max_features=0.5,
            max_samples=0.5,
            random_state=random_state,
        )
    return HistGradientBoostingRegressor(
        learning_rate=0.09,
        max_iter=200,
        max_leaf_nodes=63,
        min_samples_leaf=20,
        l2_regularization=1.0,
        max_features=0.3,
        early_stopping=False,
        random_state=random_state,
    )


def _new_spread_model(random_state):
    """Return the untrained model of the errors' size."""
    return HistGradientBoostingRegressor(
        loss='quantile',
        quantile=ONE_SIGMA,
        learning_rate=0.1,
        max_iter=60,
        max_leaf_nodes=31,
        min_samples_leaf=50,
        max_features=0.5,
        early_stopping=False,
        random_state=random_state,
    )


class _Regression:
    """
    Models of ln(flux / reference) and of its error, trained on a table.

    Parameters
    ----------
    table : `TrainingTable`
        What to train on.
    model : str
        One of `MODELS`.
    random_state : int
        Seed.
    """

    def __init__(self, table, model, random_state):
        columns = design(table.features)
        weight = table.scatter.astype(float) ** -WEIGHT_POWER
        weight /= weight.mean()
        n_groups = len(np.unique(table.group))
        folds = list(
            GroupKFold(min(N_FOLDS, n_groups), shuffle=True, random_state=random_state).split(
                columns, groups=table.group
            )
        )
        self.models, guess = _cross_fit(
            _new_model(model, random_state), columns, table.target, weight, folds
        )
        # In units of what is achievable at the S/N that is seen, not the true one.
        error = np.abs(table.target - _limited(guess)) / _seen_scatter(columns)
        ln_error = np.log(np.maximum(error, 1e-6))
        self.spread_models, ln_spread = _cross_fit(
            _new_spread_model(random_state), columns, ln_error, None, folds
        )
        # Conformal: the factor that makes the intervals of galaxies not seen
        # in training hold the truth as often as they should.
        self.ln_factor = np.quantile(ln_error - ln_spread, ONE_SIGMA)

    def predict(self, features):
        """Return ln(flux / reference) and the half-width of its 68 % interval."""
        columns = design(features)
        ln_ratio = _limited(_mean_prediction(self.models, columns))
        ln_spread = _mean_prediction(self.spread_models, columns) + self.ln_factor
        return ln_ratio, np.exp(ln_spread) * _seen_scatter(columns)


# One thread here and below: several gain little, and lose much on a machine that is busy.
@threadpool_limits.wrap(limits=1)
def _cross_fit(model, columns, target, weight, folds):
    """Train one model per fold without that fold; return them and their out-of-fold answers."""
    models, answer = [], np.empty(len(target))
    for inside, outside in folds:
        fitted = clone(model)
        keywords = {}
        if weight is not None:
            last_step = f'{fitted.steps[-1][0]}__' if hasattr(fitted, 'steps') else ''
            keywords = {f'{last_step}sample_weight': weight[inside]}
        known = columns[inside]
        # scikit-learn cannot bin a column of which nothing is known.
        known[:, np.isnan(known).all(axis=0)] = 0
        fitted.fit(known, target[inside], **keywords)
        answer[outside] = fitted.predict(columns[outside])
        models.append(fitted)
    return models, answer


@threadpool_limits.wrap(limits=1)
def _mean_prediction(models, columns):
    # Rounded, as the last bits of a matrix product depend on the size of the batch.
    return np.float32(np.mean([model.predict(columns) for model in models], axis=0)).astype(float)


def _limited(ln_ratio):
    return np.clip(ln_ratio, -LARGEST_LN_RATIO, LARGEST_LN_RATIO)


def _seen_scatter(columns):
    return achievable_scatter(np.exp(columns[:, FEATURES.index('ln_snr')]))


@lru_cache(maxsize=8)
def _train(table, model, random_state):
    """Return the trained models; the same object again for the same table and model."""
    return _Regression(table, model, random_state)


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
        Name of a training table in the package (``'simulated-1'``, with the galaxies of the
        network's training), or the path of a file that `save` wrote. `None`: untrained, for
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

    def __init__(self, model='boosting', *, weights='simulated-1', batch_size=256, random_state=0):
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
            self._loaded = (key, read_table(_locate(self.weights))[0])
        return self._loaded[1]

    def _more_meta(self):
        table = self._table_in_use()
        return {'weights': table.name, 'weights_sha256': table.sha256}

    def _measure_batch(self, cutouts):
        table = self._table_in_use()
        regression = _train(table, self.model, self.random_state)
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
        _train(table, self.model, self.random_state)
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
