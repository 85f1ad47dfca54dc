# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The user's image that galaxies are put into: its pixels, its noise and its PSF."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.nddata import NDData, StdDevUncertainty
from scipy.ndimage import convolve

from astroflux._optional import import_optional
from astroflux.cutouts._catalog import sources_of
from astroflux.cutouts._image import whole_image
from astroflux.cutouts._items import ItemFault
from astroflux.cutouts._keywords import parse_psf
from astroflux.cutouts._noise import estimate_noise
from astroflux.cutouts._photons import photon_noise
from astroflux.cutouts._psf import parse_oversampling
from astroflux.cutouts._stamps import ImageStamps
from astroflux.cutouts._units import check_flux_unit
from astroflux.cutouts._wcs import pixel_scale
from astroflux.cutouts.readers import CutoutFile

__all__ = ['SeenThrough', 'UserImage']

# What the call may say of each pixel.
_OF_PIXELS = ('error', 'mask', 'background')


@dataclass(frozen=True)
class SeenThrough:
    """
    The point-spread function that galaxies are drawn with.

    Attributes
    ----------
    at : callable
        Takes the position ``(x, y)`` in pixels, and returns the `galsim.GSObject` there: of unit
        flux, lengths in the unit of the galaxies.
    method : str
        How GalSim is to draw with it: ``'no_pixel'`` if it has the pixel in it.
    fwhm : float
        In pixels.
    description : str
        What it is, for people.
    """

    at: Callable
    method: str
    fwhm: float
    description: str


class UserImage:
    """
    An image to put galaxies into.

    Parameters
    ----------
    image : object
        Of any kind that `~astroflux.estimators.FluxEstimator.measure` takes as a cutout.
    options : dict
        What the call says of it: keywords of `~astroflux.cutouts.iter_cutouts`.

    Attributes
    ----------
    data : 2D `~numpy.ndarray`
        Pixels without the sky, in ``unit``; 0 where they cannot be used.
    weight : 2D `~numpy.ndarray`
        Inverse variance; 0 where pixels cannot be used.
    unit : `~astropy.units.UnitBase`
        Unit of flux.
    pixel_scale : float
        In arcsec; NaN if it is not known.
    label : str
        Name of the file or image; empty if it has none.
    has_noise : bool
        Whether the noise is known, and not estimated from the pixels.
    """

    def __init__(self, image, options):
        names = (*_OF_PIXELS, 'effective_gain')
        self._told = {name: options.get(name) for name in names}
        if isinstance(self._told['background'], str):
            # it is measured in each stamp
            self._told['background'] = None
        self._raw = whole_image(image, self._told)
        is_file = isinstance(image, str | Path | CutoutFile)
        self.label = Path(str(image)).name if is_file else self._raw.label or ''
        ny, nx = self._raw.data.shape
        middle = ((nx - 1) / 2, (ny - 1) / 2)
        of_pixels = {name: self._told[name] for name in _OF_PIXELS}
        stamps = ImageStamps(self.with_light(None), [middle], **of_pixels)
        self.data, self.unit = stamps.data, stamps.unit
        self.has_noise = self._raw.noise is not None or self._told['error'] is not None
        self.weight = stamps.weight
        if not self.has_noise:
            sigma = estimate_noise(self.data, self.weight == 0)
            if math.isnan(sigma):
                msg = 'the image has no noise, and its pixels vary too little to estimate it'
                raise ValueError(msg)
            self.weight = (self.weight > 0) / np.float32(sigma) ** 2
        wcs, (x0, y0) = self._raw.wcs, self._raw.wcs_origin
        self.pixel_scale = math.nan
        if wcs is not None:
            self.pixel_scale = pixel_scale(wcs, (middle[0] + x0, middle[1] + y0))
        _, per_arcsec2 = check_flux_unit(self._raw.unit)
        # from the unit of the pixels to that of the flux
        self._factor = 1.0 if per_arcsec2 is None else per_arcsec2 * self.pixel_scale**2

    @property
    def shape(self):
        """``(ny, nx)``."""
        return self._raw.data.shape

    @property
    def scale(self):
        """Pixel scale to draw with: where none is known, lengths are in pixels."""
        return 1.0 if math.isnan(self.pixel_scale) else self.pixel_scale

    @property
    def length_unit(self):
        """Unit of the lengths of galaxies."""
        return u.pix if math.isnan(self.pixel_scale) else u.arcsec

    def sources(self, catalogue):
        """Return the `~astroflux.cutouts._catalog.Sources` of a catalogue in this image."""
        return sources_of(catalogue, self._raw, self._told)

    def with_light(self, light, *, gain=None, rng=None):
        """
        Return the image as `~astropy.nddata.NDData`, with light added to it.

        Parameters
        ----------
        light : 2D `~numpy.ndarray` or None
            In ``unit``; `None` for none.
        gain : float, 2D `~numpy.ndarray` or `~astropy.units.Quantity`, optional
            Electrons per unit of the pixels, for the noise of the photons of the light in pixels
            and noise map. By default the effective gain of the call, if there is one, and in
            pixels alone: the measurement adds it to the noise.
        rng : `numpy.random.Generator`, optional
            Source of that noise.
        """
        raw = self._raw
        data, noise = raw.data, None
        if raw.noise is not None:
            unit = raw.unit if raw.unit is not None else u.dimensionless_unscaled
            noise = np.asarray(raw.noise.std()) * raw.noise.factor(unit)
        if light is not None:
            added = light / self._factor
            own = self._told['effective_gain'] if gain is None else gain
            if own is not None:
                sigma = _photons(added, raw.unit, own)
                added = added + sigma * rng.standard_normal(self.shape)
                if gain is not None and noise is not None:
                    noise = np.hypot(noise, sigma)
            data = data + added
        return NDData(
            data,
            unit=raw.unit,
            mask=raw.mask,
            uncertainty=None
            if noise is None
            else StdDevUncertainty(np.broadcast_to(noise, self.shape)),
            wcs=raw.wcs,
            psf=raw.psf,
            meta={} if math.isnan(raw.zeropoint) else {'zeropoint': raw.zeropoint},
        )

    def seen_through(self, psf=None, psf_fwhm=None, *, oversampling=1, moffat_beta=3.0):
        """
        Return the PSF that the image has, as `SeenThrough`.

        Parameters
        ----------
        psf : object, optional
            As of `~astroflux.cutouts.iter_cutouts`, an image of the PSF or whatever else may be
            the PSF of a whole image; by default the image's own.
        psf_fwhm : float or `~astropy.units.Quantity`, optional
            Its FWHM in pixels or as an angle, if there is no image of it.
        oversampling : int
            Pixels of the PSF image per pixel.
        moffat_beta : float
            Exponent of the Moffat profile that a FWHM stands for.
        """
        galsim = import_optional('galsim', extra='simulate')
        psf = self._raw.psf if psf is None else psf
        if psf is not None:
            known = parse_psf(psf, parse_oversampling(oversampling)).shared
            if known is None:
                msg = 'psf must be one PSF, that of the whole image'
                raise ValueError(msg)
            return self._seen_through_image(known)
        if psf_fwhm is None:
            msg = 'to draw galaxies, the PSF must be known: give psf, an image of it, or psf_fwhm'
            raise ValueError(msg)
        fwhm = self._pixels(psf_fwhm)
        profile = galsim.Moffat(beta=moffat_beta, fwhm=fwhm * self.scale)
        text = f'a Moffat profile of beta {moffat_beta:g} and a FWHM of {fwhm:.3g} pixels'
        return SeenThrough(lambda x, y: profile, 'auto', fwhm, text)

    def _seen_through_image(self, psf):
        """Return what a PSF image makes, or one that differs from place to place."""
        galsim = import_optional('galsim', extra='simulate')
        if not hasattr(psf, 'known_at'):
            profile = _interpolated(galsim, psf, self.scale)
            text = f'an image of the PSF, of a FWHM of {psf.fwhm:.3g} pixels'
            return SeenThrough(lambda x, y: profile, 'no_pixel', psf.fwhm, text)
        psf = psf.over(self.shape)
        # the same object for all places in a cell
        profile_of = lru_cache(maxsize=256)(
            lambda known: _interpolated(galsim, known, self.scale),
        )
        ny, nx = self.shape
        fwhm = psf.known_at(nx / 2, ny / 2).fwhm
        text = f'a PSF that differs from place to place, of a FWHM of {fwhm:.3g} pixels'
        return SeenThrough(
            lambda x, y: profile_of(psf.known_at(float(x), float(y))), 'no_pixel', fwhm, text
        )

    def _pixels(self, length):
        """Return a length in pixels."""
        if np.ndim(length) != 0:
            msg = 'psf_fwhm must be one length, that of the whole image'
            raise ValueError(msg)
        if not isinstance(length, u.Quantity) or length.unit.is_equivalent(u.pix):
            pixels = float(getattr(length, 'value', length))
        elif math.isnan(self.pixel_scale):
            msg = 'psf_fwhm is an angle, but the image has no WCS to give its pixel scale'
            raise ValueError(msg)
        else:
            pixels = length.to_value(u.arcsec) / self.pixel_scale
        if not 0 < pixels < math.inf:
            msg = f'psf_fwhm must be a positive length, got {length}'
            raise ValueError(msg)
        return pixels

    def places(self, edge, fwhm):
        """
        Return where galaxies may be: pixels ``(n, 2)``, as ``(x, y)``.

        They are farther from the edge than ``edge`` pixels, can be used, and so can at least half
        of those within one FWHM.
        """
        good = (self.weight > 0).astype(float)
        reach = int(np.ceil(fwhm))
        y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
        disk = (np.hypot(x, y) <= fwhm).astype(float)
        legal = (convolve(good, disk / disk.sum(), mode='constant') >= 0.5) & (good > 0)
        inside = np.zeros(self.shape, bool)
        inside[edge : self.shape[0] - edge, edge : self.shape[1] - edge] = True
        rows, columns = np.nonzero(legal & inside)
        if not len(rows):
            msg = (
                f'there is no place for a galaxy: all usable pixels of the image of the shape '
                f'{self.shape} are within {edge} pixels of its edge'
            )
            raise ValueError(msg)
        return np.column_stack([columns, rows])


def _interpolated(galsim, psf, scale):
    """Return a PSF image as a profile of GalSim, its core in the middle."""
    y, x = np.indices(psf.image.shape)
    core = np.maximum(psf.image - 0.1 * psf.image.max(), 0)
    center = [np.average(each, weights=core) for each in (x, y)]
    offset = [c - (n - 1) / 2 for c, n in zip(center, psf.image.shape[::-1], strict=True)]
    return galsim.InterpolatedImage(
        galsim.Image(psf.image.astype(float), scale=scale),
        offset=galsim.PositionD(*offset),
        flux=1.0,
    )


def _photons(light, unit, gain):
    """Return the noise of the photons of light, or raise for a gain of a wrong unit or shape."""
    gain = gain if isinstance(gain, u.Quantity) else np.asarray(gain, float)
    try:
        return photon_noise(light, unit, gain)
    except ItemFault as exc:
        raise exc.error(exc.message) from None
