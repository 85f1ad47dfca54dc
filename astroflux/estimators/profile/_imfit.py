# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Fits of models to the pixels, by imfit."""

import math
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
from scipy.fft import next_fast_len
from scipy.optimize import nnls

from astroflux._optional import import_optional
from astroflux.estimators.photometry.base import MeasurementError
from astroflux.estimators.profile._parameters import PEDESTAL, describe, from_imfit, to_imfit
from astroflux.flags import MeasurementFlag

__all__ = ['FIT_TOLERANCE', 'SEARCH_TOLERANCE', 'Stamp', 'central_part', 'find_psf']

# Relative tolerance on chi2 in the search for a start and in the final fit, by the number of
# components. In a stamp of 143 pixels 1e-5 is a fifth of what an error of one sigma is. Bulge
# and disc can be exchanged for each other at next to no cost in chi2: smaller steps than these
# along such valleys take many times as long and change nothing within the errors.
SEARCH_TOLERANCE = {1: 1e-5, 2: 1e-3}
FIT_TOLERANCE = {1: 1e-6, 2: 1e-5}

# imfit gives up after so many iterations, which pyimfit does not let one change.
_MAX_ITERATIONS = 1000

# Half the steps of the numerical derivatives, those of radius and index relative. They are large,
# as imfit divides pixels into a number of parts that jumps with radius and distance.
_STEPS = {'x': 0.05, 'y': 0.05, 'radius': 0.02, 'index': 0.02, 'ellipticity': 0.01, 'angle': 1.0}

# exponent of the Moffat profile where only the FWHM of the PSF is known
_MOFFAT_BETA = 3.5


class Stamp:
    """
    The pixels to fit, and imfit's models of them.

    Pixels and their noise are in units of the median noise; the PSF is without the pixel, of odd
    sides, its centre in the middle; the window is the part of the stamp to use, in y and x.
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
            'image': np.pad(self.data + PEDESTAL, padding),
            'error': np.pad(noise, padding, constant_values=1.0),
            'mask': np.pad(bad.astype(float), padding, constant_values=1.0),
        }
        self._loaded = {}

    @property
    def n_pixels(self):
        return int(np.count_nonzero(self.weights))

    def _load(self, model):
        pyimfit = import_optional('pyimfit', extra='compare')
        description = describe(model, self.limits, self._origin)
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
            image = self._loaded[kind].getModelImage(newParameters=to_imfit(model, self._origin))
        ny, nx = self.data.shape
        return image[:ny, :nx] - PEDESTAL

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
        """Return chi2 and a model with the best sky and (not negative) fluxes of unit images."""
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
        """Return the model that fits best, sought from a model, and its chi2."""
        fitter = self._load(self.limits.start(model))
        with _failure_of_imfit():
            result = fitter.doFit(solver='LM', ftol=tolerance)
            values = fitter.getRawParameters()
        # where rounding forbids to get closer, imfit says that it has not converged
        if not result.fitConverged and result.nIter >= _MAX_ITERATIONS:
            msg = f'the fit did not converge in {result.nIter} iterations'
            raise MeasurementError(MeasurementFlag.FAILED, msg)
        model = from_imfit(model, values, self._origin)
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


@contextmanager
def _failure_of_imfit():
    """Turn what pyimfit raises, which may be the base class of all, into the failure of a row."""
    try:
        yield
    except Exception as exc:
        msg = f'imfit: {type(exc).__name__}: {exc}'
        raise MeasurementError(MeasurementFlag.FAILED, msg) from exc


def find_psf(cutout):
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


def central_part(psf, fwhm):
    """The core of the PSF, which is enough to search with."""
    if psf is None:
        return None
    half = math.ceil(2 * fwhm) if math.isfinite(fwhm) else max(psf.shape)
    part = tuple(slice(max(n // 2 - half, 0), n // 2 + half + 1) for n in psf.shape)
    return psf[part]
