# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""From one item, whatever the user has, and what a call says of it to a `Cutout`."""

import math
from typing import NamedTuple

import numpy as np
from astropy import units as u

from astroflux.cutouts._correlation import ESTIMATE, NoiseCorrelation, noise_growth
from astroflux.cutouts._cutout import Cutout
from astroflux.cutouts._edge import edge_of
from astroflux.cutouts._elsewhere import is_elsewhere
from astroflux.cutouts._items import ItemFault, RawItem, unpack
from astroflux.cutouts._noise import GivenNoise
from astroflux.cutouts._photons import lacks_photons, photon_noise
from astroflux.cutouts._psf import known_psf
from astroflux.cutouts._sharpness import is_sharper, variance_of_fwhm
from astroflux.cutouts._steps import (
    check_structure,
    is_inside,
    is_masked_near,
    position_of,
    usable_pixels,
)
from astroflux.cutouts._told import LOCAL, amended, local_sky
from astroflux.cutouts._units import check_flux_unit, conversion_factor
from astroflux.cutouts._wcs import pixel_scale
from astroflux.cutouts._zeropoint import in_other_unit, is_calibrated
from astroflux.cutouts.psf_field import PSFField
from astroflux.flags import MeasurementFlag as Flag

__all__ = ['Batch', 'Told']

_EDGE = 8.0
_CORE_RADIUS = 3.0

# Flags that depend on the PSF and the position, and those of what the edge says.
_OF_PLACE = Flag.PSF_UNKNOWN | Flag.OFF_CENTRE | Flag.MASKED_CORE
_OF_EDGE = Flag.SKY_RESIDUAL | Flag.NOISE_SUSPECT | Flag.OUT_OF_RANGE

# A sky or a noise this far from what was stated is beyond what methods were made for.
_FAR_LEVEL = 0.3
_FAR_NOISE = 3.0

# The PSF of a `Cutout` is in its pixels.
_OWN_PIXELS = (1, 1)

# What a call may say of each pixel.
_OF_PIXELS = ('error', 'mask', 'background', 'effective_gain')


class Told(NamedTuple):
    """What a call says of one cutout."""

    psf: object
    psf_fwhm: tuple
    position: object
    error: object
    mask: object
    background: object
    effective_gain: object
    zeropoint: float | None = None

    @property
    def changes_pixels(self):
        """Whether it changes data, noise or mask."""
        return any(getattr(self, name) is not None for name in _OF_PIXELS)

    def part(self, rows, columns):
        """Return what is told of a part of an image: views of maps of the whole."""
        maps = {name: getattr(self, name) for name in _OF_PIXELS}
        return self._replace(
            **{name: value[rows, columns] for name, value in maps.items() if np.ndim(value) == 2}
        )


class Batch:
    """What the cutouts of one call share: unit, what is told of the noise, and if it is but one."""

    def __init__(self, single, correlation, of_image=False, oversampling=(1, 1)):
        self.single, self.of_image = single, of_image
        self.correlation, self.oversampling = correlation, oversampling
        self.unit = None
        self.index = -1
        self._scale = (None, None, math.nan)

    def parse(self, item, told, scale=None):
        """Return one item as a `Cutout`, failed if need be; ``scale`` is that of its pixels."""
        self.index += 1
        if isinstance(item, Cutout) and item.is_failed:
            return item
        raw = None
        try:
            if isinstance(item, Cutout):
                raw = item
                return self._again(raw, told)
            raw = item if isinstance(item, RawItem) else unpack(item)
            return self._build(raw, told, scale)
        except ItemFault as exc:
            if self.single and exc.error is not None:
                raise exc.error(exc.message) from exc.__cause__
            label = getattr(raw, 'label', None)
            if label is None and exc.flag == Flag.UNREADABLE:
                label = str(item)
            unit = self.unit if self.unit is not None else u.dimensionless_unscaled
            return Cutout.failed(exc.flag, exc.message, label=label, unit=unit, **_place_of(raw))

    def _build(self, raw, told, scale):
        """Return a cutout of what was given."""
        check_structure(raw)
        position = raw.position if told.position is None else told.position
        xy = position_of(position, raw.data.shape, raw.wcs, raw.wcs_origin)
        scale = self._scale_of(raw, xy) if scale is None else scale
        pixels, correlation, sky_err = self._pixels(raw, told, self._factor(raw.unit, scale))
        image = raw.psf if told.psf is None else told.psf
        psf = _psf(image, self.oversampling, raw.data.shape, np.add(xy, raw.origin))
        fwhm = _fwhm(told.psf_fwhm, math.nan, psf, scale)
        known = self._known_of(raw, told)
        cutout = self._place(pixels, xy, psf, fwhm, scale, known, correlation, sky_err)
        # the middle of a stamp is a guess
        if position is None and _is_elsewhere(cutout):
            cutout.flags |= int(Flag.OFF_CENTRE)
        return cutout

    def _again(self, cutout, told):
        """Return a cutout as it is, but for what the call says of it."""
        scale = cutout.pixel_scale
        factor = self._factor(cutout.unit, scale)
        is_told = (
            told.changes_pixels
            or told.psf is not None
            or told.position is not None
            or not math.isnan(told.psf_fwhm[0])
            or self.correlation is not None
            or told.zeropoint is not None
        )
        if not is_told and cutout.unit == self.unit:
            return cutout
        noise = GivenNoise(np.asarray(cutout.sigma))
        raw = RawItem(cutout.data, cutout.unit, cutout.ignored, noise)
        pixels, correlation, sky_err = self._pixels(raw, told, factor)
        flags = cutout.flags & ~(_OF_PLACE | _OF_EDGE)
        # what was found before stays true as long as it is the same PSF and position
        if told.psf is not None:
            flags &= ~Flag.PSF_SUSPECT
        if told.position is None:
            flags |= cutout.flags & Flag.OFF_CENTRE
        if told.error is not None:
            flags &= ~Flag.NOISE_ESTIMATED
        if self.correlation is None:
            correlation = cutout.noise_correlation
        else:
            flags &= ~Flag.NOISE_ASSUMED_WHITE
        pixels = pixels._replace(flags=pixels.flags | flags)
        is_own = told.psf is None
        image, own_fwhm = (cutout.psf, cutout.psf_fwhm) if is_own else (told.psf, math.nan)
        position = cutout.position if told.position is None else told.position
        xy = position_of(position, cutout.shape, cutout.wcs, cutout.wcs_origin)
        oversampling = _OWN_PIXELS if is_own else self.oversampling
        psf = _psf(image, oversampling, cutout.shape, np.add(xy, cutout.origin))
        fwhm = _fwhm(told.psf_fwhm, own_fwhm, psf, scale)
        sky_err = math.hypot(sky_err, cutout.sky_err * factor)
        known = self._known_of(cutout, told)
        return self._place(pixels, xy, psf, fwhm, scale, known, correlation, sky_err)

    def _pixels(self, raw, told, factor):
        """Return the pixels, how their noise is correlated, and the error of the sky."""
        is_local = isinstance(told.background, str) and told.background == LOCAL
        background = None if is_local else told.background
        pixels = usable_pixels(amended(raw, told.error, told.mask, background), factor)
        correlation, flag = self._correlation_of(pixels)
        sky_err = 0.0
        if is_local:
            growth = 1.0 if correlation is None else correlation.growth
            level, sky_err = local_sky(pixels.data, pixels.mask, growth)
            data = pixels.data - level
            if pixels.mask is not None:
                np.copyto(data, 0.0, where=pixels.mask)
            pixels = pixels._replace(data=data)
        if told.effective_gain is not None:
            photons = factor * photon_noise(pixels.data / factor, raw.unit, told.effective_gain)
            pixels = pixels._replace(noise=np.hypot(pixels.noise, photons))
        return pixels._replace(flags=pixels.flags | flag), correlation, sky_err

    def _correlation_of(self, pixels):
        """Return how the noise is correlated, and a flag if that was to be measured in vain."""
        if self.correlation != ESTIMATE:
            return self.correlation, 0
        growth = noise_growth(pixels.data / pixels.noise, pixels.mask)
        if math.isnan(growth):
            return None, Flag.NOISE_ASSUMED_WHITE
        return NoiseCorrelation.of_growth(growth), 0

    def _place(self, pixels, xy, psf, fwhm, scale, known, correlation, sky_err):
        """Return a cutout with the flags of what is known of its PSF, its position and its edge."""
        flags, mask = pixels.flags, pixels.mask
        if math.isnan(fwhm):
            flags |= Flag.PSF_UNKNOWN
        if not is_inside(xy, pixels.data.shape, _EDGE, mask):
            flags |= Flag.OFF_CENTRE
        radius = _CORE_RADIUS if math.isnan(fwhm) else fwhm
        if mask is not None and is_masked_near(mask, xy, radius):
            flags |= Flag.MASKED_CORE
        if _is_suspect(psf, fwhm, pixels, xy):
            flags |= Flag.PSF_SUSPECT
        edge = edge_of(pixels.data, pixels.noise, mask)
        noise_ratio = math.nan if flags & Flag.NOISE_ESTIMATED else edge.scatter
        flags |= _flags_of_edge(edge, noise_ratio)
        if lacks_photons(pixels.data, pixels.noise, self.unit):
            flags |= Flag.NOISE_SUSPECT
        return Cutout(
            data=pixels.data,
            noise=pixels.noise,
            mask=mask,
            position=xy,
            psf=None if psf is None else psf.image,
            psf_fwhm=fwhm,
            pixel_scale=scale,
            unit=self.unit,
            flags=int(flags),
            noise_correlation=correlation,
            noise_ratio=noise_ratio,
            sky_err=sky_err,
            **known,
        )

    def _known_of(self, given, told):
        """Return what a cutout has of a `RawItem` or `Cutout`, but for its pixels."""
        names = ('label', 'origin', 'identifier', 'catalog_column', 'wcs', 'wcs_origin')
        known = {name: getattr(given, name) for name in names}
        return known | {'zeropoint': self._zeropoint_of(given, told.zeropoint)}

    def _zeropoint_of(self, given, zeropoint):
        """Return the AB magnitude of 1 unit of the batch: as the call or the cutout tells."""
        unit, _ = check_flux_unit(given.unit)
        if not is_calibrated(unit):
            zeropoint = given.zeropoint if zeropoint is None else zeropoint
            return in_other_unit(zeropoint, conversion_factor(unit, self.unit))
        if zeropoint is not None and not math.isnan(zeropoint):
            msg = (
                f'{self._where}a zeropoint is given, but the unit {str(unit)!r} is calibrated: '
                'magnitudes follow from the unit, leave the zeropoint out'
            )
            raise ValueError(msg)
        return math.nan

    def _scale_of(self, raw, xy):
        """Return the pixel scale at a position: found once for those that share WCS and place."""
        if raw.wcs is None:
            return math.nan
        xy = (xy[0] + raw.wcs_origin[0], xy[1] + raw.wcs_origin[1])
        wcs, place, scale = self._scale
        if raw.wcs is not wcs or xy != place:
            scale = pixel_scale(raw.wcs, xy)
            self._scale = raw.wcs, xy, scale
        return scale

    @property
    def _where(self):
        return '' if self.single or self.of_image else f'cutout {self.index}: '

    def _factor(self, own_unit, scale):
        """Return the factor from the item's pixel values to the batch's flux unit."""
        where = self._where
        try:
            unit, per_arcsec2 = check_flux_unit(own_unit)
        except u.UnitsError as exc:
            msg = f'{where}{exc}'
            raise u.UnitsError(msg) from None
        factor = 1.0
        if per_arcsec2 is not None:
            if math.isnan(scale):
                msg = (
                    f'{where}the unit {str(own_unit)!r} is a surface brightness: a WCS is needed '
                    'to know the area of a pixel'
                )
                raise u.UnitsError(msg)
            factor = per_arcsec2 * scale**2
        if self.unit is None:
            self.unit = unit
        elif unit != self.unit:
            converted = conversion_factor(unit, self.unit)
            if converted is None:
                msg = (
                    f'{where}its unit {_name(unit)} does not convert to {_name(self.unit)}, '
                    'the unit of the first cutout'
                )
                raise u.UnitsError(msg)
            factor *= converted
        return factor


def _flags_of_edge(edge, noise_ratio):
    """Return what is to be said of the sky and the noise."""
    flags = 0
    if edge.is_off_zero:
        flags |= Flag.SKY_RESIDUAL
        if abs(edge.level) > _FAR_LEVEL:
            flags |= Flag.OUT_OF_RANGE
    if not math.isnan(noise_ratio) and edge.contradicts_noise:
        flags |= Flag.NOISE_SUSPECT
        if not 1 / _FAR_NOISE < noise_ratio < _FAR_NOISE:
            flags |= Flag.OUT_OF_RANGE
    return flags


def _place_of(given):
    """Return where an item is that cannot be measured, as far as it tells."""
    names = ('position', 'origin', 'identifier', 'catalog_column', 'wcs', 'wcs_origin')
    told = {name: getattr(given, name, None) for name in names}
    return {name: value for name, value in told.items() if value is not None}


def _is_elsewhere(cutout):
    """Return whether the light of a stamp is not at the position that was guessed."""
    # any numbers may be in it: the largest say nothing
    with np.errstate(all='ignore'):
        return is_elsewhere(
            cutout.data,
            cutout.sigma,
            cutout.ignored,
            cutout.position,
            cutout.psf_fwhm,
            cutout.noise_growth,
        )


def _is_suspect(psf, fwhm, pixels, xy):
    """Return whether the PSF image or the source at the position tells that the PSF is wrong."""
    if psf is not None and psf.had_pedestal:
        return True
    source = pixels.data, pixels.noise, pixels.mask, xy
    with np.errstate(all='ignore'):
        if psf is None:
            return is_sharper(*source, variance_of_fwhm(fwhm))
        # what is as wide as any PSF of that width needs no closer look
        return is_sharper(*source, psf.largest_variance) and is_sharper(*source, psf.core_variance)


def _psf(image, oversampling, shape, place):
    """
    Return the PSF image in pixels of the cutout, no larger than it; `None` if there is none.

    One that differs from place to place is that of the galaxy's place in the user's image.
    """
    if image is None:
        return None
    try:
        if isinstance(image, PSFField):
            return image.known_at(*place).within(shape)
        return known_psf(image, oversampling).within(shape)
    except ValueError as exc:
        raise ItemFault(Flag.BAD_PSF, str(exc)) from None


def _fwhm(psf_fwhm, own_fwhm, psf, scale):
    """Return the width of the PSF in pixels: as told, else known, else that of the image."""
    fwhm, in_arcsec = psf_fwhm
    if in_arcsec:
        if math.isnan(scale):
            msg = (
                'psf_fwhm is an angle, but the cutout has no WCS to give its pixel scale: '
                'give psf_fwhm in pixels'
            )
            raise ItemFault(Flag.BAD_INPUT, msg, ValueError)
        fwhm /= scale
    if math.isnan(fwhm):
        fwhm = own_fwhm
    if math.isnan(fwhm) and psf is not None:
        fwhm = psf.fwhm
    return fwhm


def _name(unit):
    return repr(str(unit)) if str(unit) else "'' (none)"
