# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""From whatever the user has to a stream of `Cutout`."""

import math
from collections.abc import Sized

import numpy as np
from astropy import units as u

from astroflux.cutouts._cutout import Cutout
from astroflux.cutouts._items import ItemFault, RawItem, is_single, is_stack, unpack, unpack_stack
from astroflux.cutouts._keywords import parse_positions, parse_psf, parse_psf_fwhm
from astroflux.cutouts._psf import fwhm_of_image, normalise_psf
from astroflux.cutouts._steps import (
    check_structure,
    estimated_noise,
    given_noise,
    is_inside,
    is_masked_near,
    position_of,
    typical_noise,
    valid_pixels,
)
from astroflux.cutouts._units import check_flux_unit, conversion_factor
from astroflux.cutouts._wcs import pixel_scale
from astroflux.flags import MeasurementFlag as Flag

__all__ = ['iter_cutouts']

_EDGE = 8.0
_CORE_RADIUS = 3.0


def iter_cutouts(cutouts, *, psf=None, psf_fwhm=None, positions=None):
    """
    Turn any accepted input into cutouts ready to measure, one at a time.

    Parameters
    ----------
    cutouts : object
        One cutout (`~astropy.nddata.CCDData`, `~astropy.nddata.NDData`,
        `~astropy.nddata.Cutout2D`, `~astropy.units.Quantity`, 2-d array, or
        the path of a FITS file), any iterable of them, or a 3-d stack of shape
        ``(n, ny, nx)``. Sides of 8 pixels or more; never modified.
    psf : 2-d array, or one for each cutout, optional
        PSF image; instead of the cutout's own ``psf``.
    psf_fwhm : float, `~astropy.units.Quantity`, or one for each cutout, optional
        Full width at half maximum of the PSF, in pixels or as an angle (which
        needs a WCS); instead of the width of the PSF image.
    positions : pair of float, `~astropy.coordinates.SkyCoord`, or one for each cutout, optional
        Where the galaxy is, ``(x, y)`` in 0-based pixels; else the centre of
        the stamp, or the position that a `~astropy.nddata.Cutout2D` was made
        for.

    Returns
    -------
    cutouts : iterator of `~astroflux.cutouts.Cutout`
        In order, all in the flux unit of the first. What cannot be measured is
        a failed `Cutout` that says why.

    Raises
    ------
    TypeError, ValueError, OSError
        If the only cutout, a keyword, or the call as a whole is wrong.
    `~astropy.units.UnitsError`
        If a unit is not a flux, or does not convert to that of the first
        cutout; raised when the iteration arrives there.
    """
    options = (parse_psf(psf), parse_psf_fwhm(psf_fwhm), parse_positions(positions))
    single = is_single(cutouts)
    if single:
        items, n = [cutouts], 1
    elif is_stack(cutouts):
        items, n = unpack_stack(cutouts)
    else:
        items, n = cutouts, len(cutouts) if isinstance(cutouts, Sized) else None
    if n is not None:
        _check_not_empty(n)
        for option in options:
            option.check_size(n)
    batch = _Batch(single)
    if single:
        # Now rather than at the first step, so that the error is the call's.
        return iter([batch.parse(cutouts, *(option.next(0) for option in options))])
    return _stream(batch, items, options)


def _check_not_empty(n):
    if n == 0:
        msg = 'there are no cutouts: the input is empty'
        raise ValueError(msg)


def _stream(batch, items, options):
    n = 0
    for item in items:
        yield batch.parse(item, *(option.next(n) for option in options))
        n += 1
    _check_not_empty(n)
    for option in options:
        option.finish(n)


class _Batch:
    """What the cutouts of one call share: the flux unit, and whether there is only one."""

    def __init__(self, single):
        self.single = single
        self.unit = None
        self.index = -1
        self._wcs = None
        self._pixel_scale = math.nan
        self._given_psf = self._normalised_psf = None

    def parse(self, item, psf, psf_fwhm, position):
        """Return one item as a `Cutout`, failed if need be."""
        self.index += 1
        if isinstance(item, Cutout) and item.is_failed:
            return item
        raw = None
        try:
            raw = item if isinstance(item, RawItem) else unpack(item)
            return self._build(raw, psf, psf_fwhm, position)
        except ItemFault as exc:
            if self.single and exc.error is not None:
                raise exc.error(exc.message) from exc.__cause__
            label = getattr(raw, 'label', None)
            if label is None and exc.flag == Flag.UNREADABLE:
                label = str(item)
            unit = self.unit if self.unit is not None else u.dimensionless_unscaled
            return Cutout.failed(exc.flag, exc.message, label=label, unit=unit)

    def _build(self, raw, psf, psf_fwhm, position):
        check_structure(raw)
        scale = self._scale_of(raw)
        factor = self._factor(raw, scale)
        data = np.array(raw.data, dtype=float, order='C')
        if factor != 1:
            data *= factor
        valid = valid_pixels(data, raw.mask)
        flags = raw.flags
        if raw.noise is None:
            flags |= Flag.NOISE_ESTIMATED
            noise, valid = estimated_noise(data, valid)
        else:
            noise, valid = given_noise(raw, factor, valid)
        image, fwhm = self._psf(raw, psf, psf_fwhm, scale)
        if math.isnan(fwhm):
            flags |= Flag.PSF_UNKNOWN
        xy = position_of(raw, position)
        if not is_inside(xy, data.shape, _EDGE):
            flags |= Flag.OFF_CENTRE
        if valid is None:
            mask = np.zeros(data.shape, dtype=bool)
        else:
            mask = ~valid
            np.copyto(data, 0.0, where=mask)
            noise = np.where(mask, typical_noise(noise, valid), noise)
            flags |= Flag.MASKED_PIXELS
            if is_masked_near(mask, xy, _CORE_RADIUS if math.isnan(fwhm) else fwhm):
                flags |= Flag.MASKED_CORE
        return Cutout(
            data=data,
            noise=noise,
            mask=mask,
            position=xy,
            psf=image,
            psf_fwhm=fwhm,
            pixel_scale=scale,
            unit=self.unit,
            label=raw.label,
            flags=int(flags),
        )

    def _scale_of(self, raw):
        if raw.pixel_scale is not None:
            return raw.pixel_scale
        if raw.wcs is None:
            return math.nan
        if raw.wcs is not self._wcs:
            self._wcs, self._pixel_scale = raw.wcs, pixel_scale(raw.wcs)
        return self._pixel_scale

    def _factor(self, raw, scale):
        """Return the factor from the item's pixel values to the batch's flux unit."""
        where = '' if self.single else f'cutout {self.index}: '
        try:
            unit, per_arcsec2 = check_flux_unit(raw.unit)
        except u.UnitsError as exc:
            msg = f'{where}{exc}'
            raise u.UnitsError(msg) from None
        factor = 1.0
        if per_arcsec2 is not None:
            if math.isnan(scale):
                msg = (
                    f'{where}the unit {str(raw.unit)!r} is a surface brightness: a WCS is needed '
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

    def _normalised(self, psf):
        """Return a PSF image of sum 1; the last one is remembered if nobody can change it."""
        if psf is not self._given_psf or getattr(psf, 'flags', None) is None or psf.flags.writeable:
            try:
                self._given_psf, self._normalised_psf = psf, normalise_psf(psf)
            except ValueError as exc:
                raise ItemFault(Flag.BAD_PSF, str(exc)) from None
        return self._normalised_psf

    def _psf(self, raw, psf, psf_fwhm, scale):
        """Return the normalised PSF image (or None) and the FWHM in pixels."""
        image = raw.psf if psf is None else psf
        if image is not None:
            image = self._normalised(image)
        if image is not None and any(
            p > s for p, s in zip(image.shape, raw.data.shape, strict=True)
        ):
            msg = (
                f'the PSF image of shape {image.shape} is larger than the cutout of shape '
                f'{raw.data.shape}'
            )
            raise ItemFault(Flag.BAD_PSF, msg)
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
            if psf is None and not math.isnan(raw.psf_fwhm):
                fwhm = raw.psf_fwhm
            elif image is not None:
                fwhm = fwhm_of_image(image)
        return image, fwhm


def _name(unit):
    return repr(str(unit)) if str(unit) else "'' (none)"
