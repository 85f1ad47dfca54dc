# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Flux of a Sersic profile, or of a bulge and a disc, fitted to the image."""

import math
from contextlib import contextmanager
from dataclasses import dataclass, replace
from numbers import Integral

import numpy as np
from astropy.stats import gaussian_fwhm_to_sigma
from scipy.fft import next_fast_len
from scipy.ndimage import binary_dilation, gaussian_filter, maximum
from scipy.optimize import brentq, nnls
from scipy.special import gammainc, gammaln

from astroflux._optional import import_optional
from astroflux.estimators._photometric import MeasurementError, PhotometricEstimator
from astroflux.estimators._photutils import deblend, detect
from astroflux.flags import MeasurementFlag

__all__ = ['SersicFluxEstimator']

__doctest_requires__ = {('SersicFluxEstimator',): ['pyimfit']}

# The galaxy is sought within this many pixels of the position, along each axis.
_MAX_SHIFT = 5.0

# below this signal-to-noise ratio of the profile as a whole, there is no galaxy
_MIN_SNR = 3.0

_MAX_ELLIPTICITY = 0.95
_MIN_RADIUS = 0.1
# imfit wants an upper limit if there is a lower one
_MAX_BRIGHTNESS = 1e15

# Relative tolerance on chi2 in the search for a start and in the final fit, by the number of
# components. In a stamp of 143 pixels 1e-5 is a fifth of what an error of one sigma is. Bulge
# and disc can be exchanged for each other at next to no cost in chi2: smaller steps than these
# along such valleys take many times as long and change nothing within the errors.
_SEARCH_TOLERANCE = {1: 1e-5, 2: 1e-3}
_FIT_TOLERANCE = {1: 1e-6, 2: 1e-5}

# imfit gives up after so many iterations, which pyimfit does not let one change.
_MAX_ITERATIONS = 1000

# Added to the data, in units of the noise: imfit's steps for derivatives are relative to the
# parameter, and would be lost in rounding for a sky near zero.
_PEDESTAL = 10.0

# Half-light radii to start from, over the width of the source, and indices.
_START_RADII = (0.4, 0.8, 1.5, 3.0)
_START_INDICES = (0.7, 1.0, 2.0, 4.0)
# The same for two components, over the half-light radius of a single profile.
_START_DISC_RADII = (0.8, 1.2, 1.8)
_START_BULGE_RADII = (0.15, 0.35, 0.8)
_START_BULGE_INDEX = 3.0

# Half the steps of the numerical derivatives, those of radius and index relative. They are large,
# as imfit divides pixels into a number of parts that jumps with radius and distance.
_STEPS = {'x': 0.05, 'y': 0.05, 'radius': 0.02, 'index': 0.02, 'ellipticity': 0.01, 'angle': 1.0}

# Detection: threshold in units of the noise of a pixel, connected pixels, and the deblending.
_NSIGMA = 1.5
_N_PIXELS = 5
_N_LEVELS = 32
_CONTRAST = 0.005
# Only brighter segments are neighbours, in units of the noise of a pixel: noise makes islands of
# the wings of an extended galaxy, and without them its flux would be too low.
_NEIGHBOUR_PEAK = 3.0
# A row is flagged if one is so close, in half-light radii of the galaxy.
_NEIGHBOUR_RADIUS = 3.0

# in pixels, for the detection where the PSF is unknown
_DEFAULT_FWHM = 3.0

# exponent of the Moffat profile where only the FWHM of the PSF is known
_MOFFAT_BETA = 3.5

# half-light radius of an exponential disc over its scale length
_DISC_RADIUS = 1.6783469900166605


class SersicFluxEstimator(PhotometricEstimator):
    """
    Flux of a Sersic profile [1]_ fitted to the image, by imfit [2]_.

    The profile, convolved with the PSF, and a flat sky are fitted to the pixels by least
    squares. The flux is that of the profile out to infinity [3]_, and its error comes from the
    covariance of all parameters. This needs pyimfit: ``pip install 'astroflux[compare]'``.

    Parameters
    ----------
    n_components : {1, 2}, optional
        1 for a Sersic profile; 2 for a Sersic bulge and an exponential disc about one centre.

    n_starts : int, optional
        From how many starting points the minimum is sought; the best one found is taken.

    sersic_index : tuple of float, optional
        Limits of the index of a single profile.

    bulge_index : tuple of float, optional
        Limits of the index of a bulge.

    max_radius : float, optional
        Largest half-light radius along the major axis, in pixels; by default half the longer
        side of the stamp.

    mask_neighbours : bool, optional
        Whether to leave out the pixels of other sources detected on the stamp, which are not
        modelled.

    Attributes
    ----------
    aperture_correction_ : float
        True flux over measured flux, learned by `fit`.

    Notes
    -----
    `measure` adds the columns ``half_light_radius`` (circularised, the geometric mean of the
    semi-axes; with two components that of their sum, as if both were circular),
    ``sersic_index`` (with two components the bulge's), ``axis_ratio`` and ``position_angle``
    (in degrees anticlockwise from the x axis; with two components the disc's),
    ``bulge_to_total`` (NaN with one component) and ``reduced_chi2``.

    Images of PSFs include the pixel, and imfit integrates profiles over the pixels itself, so
    that the pixel is taken out of the image of the PSF first. Where only the FWHM is known, the
    PSF is a Moffat profile of exponent 3.5, which has wings as the atmosphere makes them and a
    Gaussian has not; where nothing is known, the profile is not convolved.

    A row is flagged OUT_OF_RANGE if an index or a radius ends at its limit, and NEIGHBOUR if
    another source lies within three half-light radii, whether it is left out or not.

    References
    ----------
    .. [1] Sersic, J. L. 1963, Boletin de la Asociacion Argentina de Astronomia, 6, 41
    .. [2] Erwin, P. 2015, ApJ, 799, 226
    .. [3] Graham, A. W., & Driver, S. P. 2005, PASA, 22, 118

    Examples
    --------
    >>> import numpy as np
    >>> from astropy.nddata import CCDData, StdDevUncertainty
    >>> from astroflux import SersicFluxEstimator
    >>> y, x = np.mgrid[-20:21, -20:21]
    >>> image = 500 * np.exp(-0.5 * (x**2 + y**2) / 3**2) / (2 * np.pi * 3**2)
    >>> ccd = CCDData(image, unit='adu', uncertainty=StdDevUncertainty(np.full((41, 41), 0.1)))
    >>> SersicFluxEstimator().predict(ccd).round(0)
    <Quantity 500. adu>
    """

    _extra_units = {
        'half_light_radius': 'pix',
        'sersic_index': None,
        'axis_ratio': None,
        'position_angle': 'deg',
        'bulge_to_total': None,
        'reduced_chi2': None,
    }
    _packages = ('pyimfit', 'photutils')

    def __init__(
        self,
        *,
        n_components=1,
        n_starts=2,
        sersic_index=(0.3, 8.0),
        bulge_index=(1.5, 8.0),
        max_radius=None,
        mask_neighbours=True,
    ):
        self.n_components = n_components
        self.n_starts = n_starts
        self.sersic_index = sersic_index
        self.bulge_index = bulge_index
        self.max_radius = max_radius
        self.mask_neighbours = mask_neighbours

    def _check_params(self):
        if self.n_components not in (1, 2):
            msg = f'n_components must be 1 or 2, got {self.n_components!r}'
            raise ValueError(msg)
        if not isinstance(self.n_starts, Integral) or self.n_starts < 1:
            msg = f'n_starts must be a positive integer, got {self.n_starts!r}'
            raise ValueError(msg)
        for name in ('sersic_index', 'bulge_index'):
            limits = getattr(self, name)
            # imfit's approximation of b_n holds in this range
            if np.shape(limits) != (2,) or not 0.2 <= limits[0] < limits[1] <= 20:
                msg = f'{name} must be a lower and a higher limit from 0.2 to 20, got {limits!r}'
                raise ValueError(msg)
        if self.max_radius is not None and not self.max_radius >= 1:
            msg = f'max_radius must be at least 1 pixel, got {self.max_radius!r}'
            raise ValueError(msg)
        # here, so that a missing package is told once, and not in every row
        import_optional('pyimfit', extra='compare')

    def _measure_one(self, cutout):
        _check_position(cutout)
        # In units of the noise, so that any unit of the data will do. In single precision, so
        # that rounding cannot send the solver another way in another unit.
        reference = float(np.median(cutout.noise))
        data = (cutout.data / reference).astype(np.float32).astype(float)
        noise = (cutout.noise / reference).astype(np.float32).astype(float)
        source, neighbours = _find_source(data, noise, cutout)
        bad = cutout.mask | neighbours if self.mask_neighbours else cutout.mask
        limits = _Limits(
            centre=cutout.position,
            radius=(_MIN_RADIUS, float(self.max_radius or max(data.shape) / 2)),
            sersic_index=self.sersic_index,
            bulge_index=self.bulge_index,
        )
        psf = _find_psf(cutout)
        rough = _Stamp(
            data,
            noise,
            bad,
            _central_part(psf, cutout.psf_fwhm),
            limits,
            _window(source, data.shape, cutout.psf_fwhm),
        )
        model = _search_one(rough, source, self.n_starts)
        if self.n_components == 2:
            model = _search_two(rough, model, self.n_starts)
        stamp = _Stamp(data, noise, bad, psf, limits)
        model, chi2 = stamp.fit(model, _FIT_TOLERANCE[self.n_components])

        # by chi2, as the flux of a bright galaxy may have a large error if its components are
        # hard to tell from each other and the sky
        snr = math.sqrt(max(stamp.chi2_of_sky() - chi2, 0.0))
        if not (model.flux > 0 and snr > _MIN_SNR):
            msg = f'the signal-to-noise ratio of the profile fitted at the position is {snr:.2g}'
            raise MeasurementError(MeasurementFlag.NOT_DETECTED, msg)
        first, last = model.components[0], model.components[-1]
        return {
            'flux': model.flux * reference,
            'flux_err': stamp.flux_error(model) * reference,
            'flags': _find_flags(model, limits, neighbours),
            'half_light_radius': model.half_light_radius,
            'sersic_index': first.index,
            'axis_ratio': last.axis_ratio,
            'position_angle': (last.angle + 90) % 180 - 90,
            'bulge_to_total': first.flux / model.flux if first is not last else math.nan,
            'reduced_chi2': chi2 / max(stamp.n_pixels - model.n_parameters, 1),
        }


@dataclass(frozen=True)
class _Component:
    """
    A Sersic profile, or an exponential disc.

    Attributes
    ----------
    flux : float
        Out to infinity.
    radius : float
        Half-light radius along the major axis, in pixels.
    ellipticity : float
        One minus the axis ratio.
    angle : float
        Of the major axis, in degrees anticlockwise from the x axis.
    index : float
        1 for a disc.
    is_disc : bool
        Whether the index is fixed.
    """

    flux: float
    radius: float
    ellipticity: float
    angle: float
    index: float = 1.0
    is_disc: bool = False

    @property
    def axis_ratio(self):
        return 1 - self.ellipticity

    @property
    def circular_radius(self):
        return self.radius * math.sqrt(self.axis_ratio)

    @property
    def shape_names(self):
        names = ('radius', 'ellipticity', 'angle')
        return names if self.is_disc else (*names, 'index')

    def enclosed(self, radius):
        """Fraction of the flux within a circularised radius."""
        scaled = (radius / self.circular_radius) ** (1 / self.index)
        return gammainc(2 * self.index, _b_n(self.index) * scaled)


@dataclass(frozen=True)
class _Model:
    """Components about one centre (0-based pixels), with the bulge first, and a flat sky."""

    x: float
    y: float
    sky: float
    components: tuple

    @property
    def flux(self):
        return sum(component.flux for component in self.components)

    @property
    def n_parameters(self):
        return 3 + sum(1 + len(component.shape_names) for component in self.components)

    @property
    def half_light_radius(self):
        """Circularised, in pixels."""
        radii = [c.circular_radius for c in self.components if c.flux > 0]
        if min(radii) == max(radii):
            return radii[0]

        def excess(radius):
            return sum(c.flux * (c.enclosed(radius) - 0.5) for c in self.components)

        return brentq(excess, 0.99 * min(radii), 1.01 * max(radii))

    def with_component(self, number, **changes):
        components = list(self.components)
        components[number] = replace(components[number], **changes)
        return replace(self, components=tuple(components))

    def to_imfit(self, origin):
        """The parameters as imfit has them, for a window that starts at the origin (x, y)."""
        # pixels are counted from 1, angles from the y axis
        values = [self.x - origin[0] + 1, self.y - origin[1] + 1]
        for c in self.components:
            # well away from zero, as the steps of derivatives are relative
            values += [(c.angle - 90) % 180 + 180, c.ellipticity]
            if c.is_disc:
                scale = c.radius / _DISC_RADIUS
                values += [c.flux / (2 * math.pi * scale**2 * c.axis_ratio), scale]
            else:
                unit_flux = _sersic_flux(1.0, c.radius, c.index, c.axis_ratio)
                values += [c.index, c.flux / unit_flux, c.radius]
        return np.array([*values, self.sky + _PEDESTAL])

    def from_imfit(self, values, origin):
        """A model of the same components with parameters as imfit has them."""
        x, y, *values, sky = (float(value) for value in values)
        components = []
        for c in self.components:
            angle, ellipticity, *values = values
            if c.is_disc:
                peak, scale, *values = values
                index, radius = 1.0, scale * _DISC_RADIUS
                flux = 2 * math.pi * scale**2 * peak * (1 - ellipticity)
            else:
                index, brightness, radius, *values = values
                flux = _sersic_flux(brightness, radius, index, 1 - ellipticity)
            components.append(
                _Component(flux, radius, ellipticity, angle + 90, index, is_disc=c.is_disc)
            )
        return _Model(x + origin[0] - 1, y + origin[1] - 1, sky - _PEDESTAL, tuple(components))


@dataclass(frozen=True)
class _Limits:
    """What the parameters may be."""

    centre: tuple
    radius: tuple
    sersic_index: tuple
    bulge_index: tuple
    ellipticity: tuple = (0.0, _MAX_ELLIPTICITY)

    def of_index(self, model):
        low, high = self.sersic_index if len(model.components) == 1 else self.bulge_index
        return float(low), float(high)

    def start(self, model):
        """Move a model to where a solver can start, off the limits."""
        x, y = (
            float(np.clip(value, centre - 0.8 * _MAX_SHIFT, centre + 0.8 * _MAX_SHIFT))
            for value, centre in zip((model.x, model.y), self.centre, strict=True)
        )
        least = 0.02 * model.flux
        components = tuple(
            replace(
                component,
                flux=max(component.flux, least),
                radius=_move_inside(component.radius, self.radius),
                ellipticity=_move_inside(component.ellipticity, self.ellipticity),
                index=1.0
                if component.is_disc
                else _move_inside(component.index, self.of_index(model)),
            )
            for component in model.components
        )
        return replace(model, x=x, y=y, components=components)

    def is_met(self, model, number, name):
        """Whether a parameter of the shape of a component is at a limit."""
        value = getattr(model.components[number], name)
        limits = {
            'radius': self.radius,
            'ellipticity': self.ellipticity,
            'index': self.of_index(model),
            'angle': (),
        }
        return any(math.isclose(value, end, rel_tol=1e-4, abs_tol=1e-6) for end in limits[name])

    def are_met(self, model):
        """Whether an index or a radius of a component that matters is at a limit."""
        return any(
            self.is_met(model, number, name)
            for number, component in enumerate(model.components)
            if component.flux > 0.01 * model.flux
            for name in ('radius', 'index')
            if name in component.shape_names
        )

    def describe(self, model, origin):
        """The model and its limits as pyimfit wants to have them."""
        values = iter(model.to_imfit(origin).tolist())
        functions = []
        centre = {}
        for name, position, start in zip(('X0', 'Y0'), self.centre, origin, strict=True):
            middle = position - start + 1
            centre[name] = [next(values), middle - _MAX_SHIFT, middle + _MAX_SHIFT]
        for component in model.components:
            parameters = {'PA': next(values), 'ell': [next(values), *self.ellipticity]}
            if component.is_disc:
                parameters['I_0'] = [next(values), 0.0, _MAX_BRIGHTNESS]
                parameters['h'] = [next(values), *(radius / _DISC_RADIUS for radius in self.radius)]
            else:
                parameters['n'] = [next(values), *self.of_index(model)]
                parameters['I_e'] = [next(values), 0.0, _MAX_BRIGHTNESS]
                parameters['r_e'] = [next(values), *self.radius]
            name = 'Exponential' if component.is_disc else 'Sersic'
            functions.append({'name': name, 'label': '', 'parameters': parameters})
        sky = {'name': 'FlatSky', 'label': '', 'parameters': {'I_sky': next(values)}}
        return {'function_sets': [centre | {'function_list': [*functions, sky]}]}


def _move_inside(value, limits, margin=0.05):
    low, high = limits
    gap = margin * (high - low)
    return float(np.clip(value, low + min(gap, low or gap), high - gap))


@contextmanager
def _failure_of_imfit():
    """Turn what pyimfit raises, which may be the base class of all, into the failure of a row."""
    try:
        yield
    except Exception as exc:
        msg = f'imfit: {type(exc).__name__}: {exc}'
        raise MeasurementError(MeasurementFlag.FAILED, msg) from exc


class _Stamp:
    """
    The pixels to fit, and imfit's models of them.

    Parameters
    ----------
    data, noise, bad : `~numpy.ndarray`, shape (ny, nx)
        Pixels and their noise in units of the median noise, and which to leave out.
    psf : `~numpy.ndarray` or None
        PSF without the pixel, of odd sides, its centre in the middle.
    limits : `_Limits`
        What the parameters may be.
    window : tuple of slice, optional
        The part of the stamp to use, in y and x.
    """

    def __init__(self, data, noise, bad, psf, limits, window=(slice(0, None), slice(0, None))):
        self.data, noise, bad = data[window], noise[window], bad[window]
        self.weights = np.where(bad, 0.0, noise**-2)
        self.limits = limits
        self._origin = window[1].start, window[0].start
        self._psf = psf
        # imfit adds one width of the PSF on each side, so that light from outside comes in, and
        # transforms arrays of ny + 3 * ny_psf - 1 rows, which for many sizes is slow
        padding = [(0, 0), (0, 0)]
        if psf is not None:
            for axis in (0, 1):
                size = self.data.shape[axis] + 3 * psf.shape[axis] - 1
                padding[axis] = (0, next_fast_len(size) - size)
        self._inputs = {
            'image': np.pad(self.data + _PEDESTAL, padding),
            'error': np.pad(noise, padding, constant_values=1.0),
            'mask': np.pad(bad.astype(float), padding, constant_values=1.0),
        }
        self._loaded = {}

    @property
    def n_pixels(self):
        return int(np.count_nonzero(self.weights))

    def _load(self, model):
        pyimfit = import_optional('pyimfit', extra='compare')
        description = self.limits.describe(model, self._origin)
        with _failure_of_imfit():
            fitter = pyimfit.Imfit(description, psf=self._psf, maxThreads=1)
            fitter.loadData(**self._inputs)
        return fitter

    def image(self, model):
        """A model on the pixels."""
        kind = tuple(component.is_disc for component in model.components)
        if kind not in self._loaded:
            self._loaded[kind] = self._load(model)
        with _failure_of_imfit():
            image = self._loaded[kind].getModelImage(newParameters=model.to_imfit(self._origin))
        ny, nx = self.data.shape
        return image[:ny, :nx] - _PEDESTAL

    def unit_image(self, model, number):
        """One component of a model at a flux of 1."""
        component = replace(model.components[number], flux=1.0)
        return self.image(replace(model, sky=0.0, components=(component,)))

    def chi2(self, model):
        return float((self.weights * (self.data - self.image(model)) ** 2).sum())

    def chi2_of_sky(self):
        """Chi2 without a galaxy."""
        sky = np.average(self.data, weights=self.weights)
        return float((self.weights * (self.data - sky) ** 2).sum())

    def solve(self, model, images):
        """
        The fluxes and the sky that fit best, with components as in the images of flux 1.

        Returns
        -------
        chi2 : float
        model : `_Model`
            With fluxes that are not negative.
        """
        means = [np.average(image, weights=self.weights) for image in (self.data, *images)]
        root = np.sqrt(self.weights)
        data, *columns = (
            ((image - mean) * root).ravel()
            for image, mean in zip((self.data, *images), means, strict=True)
        )
        fluxes, norm = nnls(np.stack(columns, axis=1), data)
        components = tuple(
            replace(component, flux=float(flux))
            for component, flux in zip(model.components, fluxes, strict=True)
        )
        sky = float(means[0] - np.dot(fluxes, means[1:]))
        return norm**2, replace(model, sky=sky, components=components)

    def fit(self, model, tolerance):
        """
        Fit from a model to start with.

        Returns
        -------
        model : `_Model`
        chi2 : float

        Raises
        ------
        MeasurementError
            If imfit fails or does not converge.
        """
        fitter = self._load(self.limits.start(model))
        with _failure_of_imfit():
            result = fitter.doFit(solver='LM', ftol=tolerance)
            values = fitter.getRawParameters()
        # where rounding forbids to get closer, imfit says that it has not converged
        if not result.fitConverged and result.nIter >= _MAX_ITERATIONS:
            msg = f'the fit did not converge in {result.nIter} iterations'
            raise MeasurementError(MeasurementFlag.FAILED, msg)
        model = model.from_imfit(values, self._origin)
        chi2 = self.chi2(model)
        if not math.isfinite(model.flux + chi2):
            msg = f'the fit ended with a flux of {model.flux} and chi2 of {chi2}'
            raise MeasurementError(MeasurementFlag.FAILED, msg)
        return model, chi2

    def flux_error(self, model):
        """
        Error of the total flux, from the covariance of all parameters that are not at a limit.

        imfit gives the errors of single parameters alone, while flux, radius and index go
        together.
        """
        root = np.sqrt(self.weights)
        good = root > 0
        columns, is_flux = [np.ones_like(root)], [False]
        for name in ('x', 'y'):
            value, step = getattr(model, name), _STEPS[name]
            low, high = (self.image(replace(model, **{name: value + h})) for h in (-step, step))
            columns.append((high - low) / (2 * step))
        is_flux += [False, False]
        for number, component in enumerate(model.components):
            if not component.flux > 1e-6 * model.flux:
                continue
            unit = self.unit_image(model, number)
            columns.append(unit * model.flux)
            is_flux.append(True)
            for name in component.shape_names:
                if self.limits.is_met(model, number, name):
                    continue
                value = getattr(component, name)
                step = _STEPS[name] * (value if name in ('radius', 'index') else 1.0)
                low, high = (
                    self.unit_image(model.with_component(number, **{name: value + h}), number)
                    for h in (-step, step)
                )
                derivative = (high - low) * (component.flux / (2 * step))
                columns.append(derivative)
                is_flux.append(False)
        jacobian = np.stack([(column * root)[good] for column in columns])
        # each parameter in units of its own error, so that all sizes are comparable
        lengths = np.linalg.norm(jacobian, axis=1)
        known = lengths > 0
        scaled = jacobian[known] / lengths[known, None]
        values, vectors = np.linalg.eigh(scaled @ scaled.T)
        # what the pixels do not tell apart has a large error rather than an infinite one
        values = np.maximum(values, 1e-10)
        sums = vectors.T @ (np.array(is_flux, float)[known] / lengths[known])
        return model.flux * math.sqrt(float((sums**2 / values).sum()))


def _search_one(stamp, source, n_starts):
    """The best model of one component, on a part of the stamp."""
    low, high = stamp.limits.sersic_index
    indices = [index for index in _START_INDICES if low < index < high]
    starts = []
    for index in indices or [math.sqrt(low * high)]:
        trials = []
        for radius in _START_RADII:
            component = _Component(
                1.0, radius * source.width, source.ellipticity, source.angle, index
            )
            model = _Model(source.x, source.y, 0.0, (component,))
            model = stamp.limits.start(model)
            trials.append(stamp.solve(model, [stamp.unit_image(model, 0)]))
        # the radii of one index lead to one minimum, most often
        starts.append(min(trials, key=lambda trial: trial[0]))
    return _fit_best(stamp, starts, n_starts)


def _search_two(stamp, single, n_starts):
    """The best model of a bulge and a disc, on a part of the stamp, given that of a profile."""
    (whole,) = single.components
    disc = replace(whole, index=1.0, is_disc=True)
    bulge = replace(whole, index=_START_BULGE_INDEX, ellipticity=0.5 * whole.ellipticity)
    pairs = {'bulge': [], 'disc': []}
    for name, component, radii in (
        ('bulge', bulge, _START_BULGE_RADII),
        ('disc', disc, _START_DISC_RADII),
    ):
        for radius in radii:
            model = replace(single, components=(replace(component, radius=radius * whole.radius),))
            model = stamp.limits.start(model)
            pairs[name].append((model.components[0], stamp.unit_image(model, 0)))
    starts = []
    for bulge, bulge_image in pairs['bulge']:
        trials = [
            stamp.solve(replace(single, components=(bulge, disc)), [bulge_image, disc_image])
            for disc, disc_image in pairs['disc']
        ]
        starts.append(min(trials, key=lambda trial: trial[0]))
    return _fit_best(stamp, starts, n_starts)


def _fit_best(stamp, starts, n_starts):
    """Fit from the best of the starts (chi2, model), and return the best of the results."""
    starts = [start for start in starts if start[1].flux > 0]
    if not starts:
        msg = 'there is no light at the position'
        raise MeasurementError(MeasurementFlag.NOT_DETECTED, msg)
    starts.sort(key=lambda start: start[0])
    results, failure = [], None
    for _, model in starts[:n_starts]:
        try:
            results.append(stamp.fit(model, _SEARCH_TOLERANCE[len(model.components)]))
        except MeasurementError as exc:
            failure = exc
    if not results:
        raise failure
    return min(results, key=lambda result: result[1])[0]


@dataclass(frozen=True)
class _Source:
    """
    What the light looks like, to begin with.

    Attributes
    ----------
    x, y : float
        Centroid in pixels.
    width : float
        Standard deviation in pixels without the PSF, geometric mean of the axes.
    ellipticity : float
        Without the PSF.
    angle : float
        In degrees anticlockwise from the x axis.
    extent : float
        Standard deviation along the major axis, with the PSF.
    """

    x: float
    y: float
    width: float
    ellipticity: float
    angle: float
    extent: float


def _find_flags(model, limits, neighbours):
    flags = 0
    if limits.are_met(model):
        flags |= int(MeasurementFlag.OUT_OF_RANGE)
    rows, columns = np.nonzero(neighbours)
    distance = np.hypot(columns - model.x, rows - model.y)
    if (distance < _NEIGHBOUR_RADIUS * model.half_light_radius).any():
        flags |= int(MeasurementFlag.NEIGHBOUR)
    return flags


def _check_position(cutout):
    ny, nx = cutout.data.shape
    x, y = cutout.position
    if not (-0.5 <= x <= nx - 0.5 and -0.5 <= y <= ny - 0.5):
        msg = f'the position {cutout.position} is not on the stamp'
        raise MeasurementError(MeasurementFlag.NOT_DETECTED, msg)


def _find_source(data, noise, cutout):
    """
    Detect sources.

    Returns
    -------
    source : `_Source`
        That at the position; of the width of the PSF if there is none.
    neighbours : `~numpy.ndarray` of bool
        The pixels of the others.
    """
    fwhm = cutout.psf_fwhm if math.isfinite(cutout.psf_fwhm) else _DEFAULT_FWHM
    sigma = fwhm * gaussian_fwhm_to_sigma
    smooth = gaussian_filter(data, sigma)
    mask = cutout.mask if cutout.mask.any() else None
    segmentation = detect(smooth, _NSIGMA * noise, _N_PIXELS, mask=mask)
    x, y = cutout.position
    if segmentation is None:
        return _Source(x, y, sigma, 0.2, 0.0, sigma), np.zeros(data.shape, dtype=bool)
    label = _label_at(segmentation.data, x, y)
    if label:
        segmentation = deblend(
            smooth,
            segmentation,
            _N_PIXELS,
            labels=[label],
            n_levels=_N_LEVELS,
            contrast=_CONTRAST,
        )
        label = _label_at(segmentation.data, x, y)
    own = segmentation.data == label if label else np.zeros(data.shape, dtype=bool)
    peaks = maximum(smooth / noise, segmentation.data, segmentation.labels)
    bright = segmentation.labels[np.asarray(peaks) > _NEIGHBOUR_PEAK]
    others = np.isin(segmentation.data, bright) & ~own
    # the isophote of a neighbour is not all of it
    others = binary_dilation(others, iterations=max(round(fwhm / 2), 1)) & ~own
    return _measure_moments(np.where(own, data, 0.0), sigma, (x, y)), others


def _label_at(labels, x, y):
    """The segment nearest to the position, 0 if there is none where the galaxy may be."""
    rows, columns = np.nonzero(labels)
    distance = np.hypot(columns - x, rows - y)
    nearest = int(np.argmin(distance))
    return int(labels[rows[nearest], columns[nearest]]) if distance[nearest] < _MAX_SHIFT else 0


def _measure_moments(light, sigma, position):
    light = np.maximum(light, 0.0)
    total = light.sum()
    if total == 0:
        return _Source(*position, sigma, 0.2, 0.0, sigma)
    rows, columns = np.indices(light.shape)
    x, y = (light * columns).sum() / total, (light * rows).sum() / total
    xx = (light * (columns - x) ** 2).sum() / total
    yy = (light * (rows - y) ** 2).sum() / total
    xy = (light * (columns - x) * (rows - y)).sum() / total
    middle, spread = (xx + yy) / 2, math.hypot((xx - yy) / 2, xy)
    # the PSF taken out, as far as the noise allows
    least = (0.3 * sigma) ** 2
    major = max(middle + spread - sigma**2, 2 * least)
    minor = max(middle - spread - sigma**2, least)
    return _Source(
        float(x),
        float(y),
        (major * minor) ** 0.25,
        float(np.clip(1 - math.sqrt(minor / major), 0.1, 0.7)),
        math.degrees(0.5 * math.atan2(2 * xy, xx - yy)),
        math.sqrt(max(middle + spread, sigma**2)),
    )


def _window(source, shape, fwhm):
    """The part of the stamp in which to search, in y and x."""
    fwhm = fwhm if math.isfinite(fwhm) else _DEFAULT_FWHM
    half = math.ceil(5 * source.extent + 3 * fwhm)
    window = []
    for centre, size in zip((source.y, source.x), shape, strict=True):
        start = max(round(centre) - half, 0)
        window.append(slice(start, max(min(round(centre) + half + 1, size), start + 1)))
    return tuple(window)


def _find_psf(cutout):
    """The PSF without the pixel, of odd sides, its centre in the middle, or `None`."""
    if cutout.psf is not None:
        # imfit takes the pixel n // 2 for the centre, as is the custom for even sides, too
        psf = np.pad(cutout.psf, [(0, 1 - n % 2) for n in cutout.psf.shape])
        return _take_out_pixel(psf)
    if math.isfinite(cutout.psf_fwhm):
        return _moffat_image(cutout.psf_fwhm)
    return None


def _take_out_pixel(psf):
    """Undo the integration over the pixel, whose transfer function is at least 0.4."""
    fy, fx = (np.fft.fftfreq(n) for n in psf.shape)
    transfer = np.sinc(fy)[:, None] * np.sinc(fx)
    return np.fft.ifft2(np.fft.fft2(psf) / transfer).real


def _moffat_image(fwhm):
    half = math.ceil(4 * fwhm)
    offset = np.arange(-half, half + 1)
    alpha = 0.5 * fwhm / math.sqrt(2 ** (1 / _MOFFAT_BETA) - 1)
    psf = (1 + (offset**2 + offset[:, None] ** 2) / alpha**2) ** -_MOFFAT_BETA
    return psf / psf.sum()


def _central_part(psf, fwhm):
    """The core of the PSF, which is enough to search with."""
    if psf is None:
        return None
    half = math.ceil(2 * fwhm) if math.isfinite(fwhm) else max(psf.shape)
    part = tuple(slice(max(n // 2 - half, 0), n // 2 + half + 1) for n in psf.shape)
    return psf[part]


def _b_n(index):
    """Imfit's approximation, by Ciotti & Bertin (1999) and by MacArthur et al. (2003)."""
    n = index
    if n > 0.36:
        return (
            2 * n
            - 1 / 3
            + 4 / (405 * n)
            + 46 / (25515 * n**2)
            + 131 / (1148175 * n**3)
            - 2194697 / (30690717750 * n**4)
        )
    return 0.01945 - 0.8902 * n + 10.95 * n**2 - 19.67 * n**3 + 13.43 * n**4


def _sersic_flux(brightness, radius, index, axis_ratio):
    """
    Flux of a Sersic profile out to infinity.

    Parameters
    ----------
    brightness : float
        Surface brightness at the half-light radius.
    radius : float
        Half-light radius along the major axis.
    index, axis_ratio : float
        Sersic index and axis ratio.
    """
    b_n = _b_n(index)
    # Graham & Driver (2005), equation 4; the gamma function alone would overflow
    shape = index * math.exp(b_n - 2 * index * math.log(b_n) + gammaln(2 * index))
    return 2 * math.pi * radius**2 * brightness * axis_ratio * shape
