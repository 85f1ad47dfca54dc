# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""From whatever the user has to a stream of `Cutout`."""

import math
from collections.abc import Sized

from astropy import units as u

from astroflux.cutouts._correlation import (
    ESTIMATE,
    NoiseCorrelation,
    noise_growth,
    parse_noise_correlation,
)
from astroflux.cutouts._cutout import Cutout
from astroflux.cutouts._items import ItemFault, RawItem, is_single, is_stack, unpack, unpack_stack
from astroflux.cutouts._keywords import parse_positions, parse_psf, parse_psf_fwhm
from astroflux.cutouts._psf import known_psf
from astroflux.cutouts._steps import (
    Pixels,
    check_structure,
    is_inside,
    is_masked_near,
    position_of,
    usable_pixels,
)
from astroflux.cutouts._units import check_flux_unit, conversion_factor
from astroflux.cutouts._wcs import pixel_scale
from astroflux.cutouts._zeropoint import in_other_unit, is_calibrated, parse_zeropoint
from astroflux.flags import MeasurementFlag as Flag

__all__ = ['iter_cutouts']

_EDGE = 8.0
_CORE_RADIUS = 3.0

# Flags that depend on the PSF and the position.
_OF_PLACE = Flag.PSF_UNKNOWN | Flag.OFF_CENTRE | Flag.MASKED_CORE


def iter_cutouts(
    cutouts,
    *,
    psf=None,
    psf_fwhm=None,
    positions=None,
    noise_correlation=None,
    zeropoint=None,
):
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
    noise_correlation : float, 2-d array or ``'estimate'``, optional
        How the noise is correlated between pixels, for all cutouts: a number, the scatter of sums
        over 7 x 7 pixels over that of white noise (0.5 to 5); the kernel, of odd sides, that
        makes it from white noise; or ``'estimate'``, to measure the number in the blank sky of
        each cutout with `~astroflux.cutouts.noise_growth`. By default it is white, or as a
        `~astroflux.cutouts.Cutout` has it.
    zeropoint : float, `~astropy.units.Quantity`, or one for each cutout, optional
        AB magnitude of a source of 1 unit of flux, in the cutout's own unit: a number, or in the
        unit mag or ABmag; NaN if unknown. By default ``meta['zeropoint']`` of the cutout.
        `ValueError` if the unit is calibrated, as nJy and nmgy are, which need none.

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
    options = (
        parse_psf(psf),
        parse_psf_fwhm(psf_fwhm),
        parse_positions(positions),
        parse_zeropoint(zeropoint),
    )
    correlation = parse_noise_correlation(noise_correlation)
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
    batch = _Batch(single, correlation)
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
    """What the cutouts of one call share: unit, what is told of the noise, and if it is but one."""

    def __init__(self, single, correlation):
        self.single = single
        self.correlation = correlation
        self.unit = None
        self.index = -1
        self._scale = (None, None, math.nan)

    def parse(self, item, psf, psf_fwhm, position, zeropoint):
        """Return one item as a `Cutout`, failed if need be."""
        self.index += 1
        if isinstance(item, Cutout) and item.is_failed:
            return item
        raw = None
        try:
            if isinstance(item, Cutout):
                raw = item
                return self._again(raw, psf, psf_fwhm, position, zeropoint)
            raw = item if isinstance(item, RawItem) else unpack(item)
            return self._build(raw, psf, psf_fwhm, position, zeropoint)
        except ItemFault as exc:
            if self.single and exc.error is not None:
                raise exc.error(exc.message) from exc.__cause__
            label = getattr(raw, 'label', None)
            if label is None and exc.flag == Flag.UNREADABLE:
                label = str(item)
            unit = self.unit if self.unit is not None else u.dimensionless_unscaled
            return Cutout.failed(exc.flag, exc.message, label=label, unit=unit, **_place_of(raw))

    def _build(self, raw, psf, psf_fwhm, position, zeropoint):
        """Return a cutout of what was given."""
        check_structure(raw)
        if position is None:
            position = raw.position
        xy = position_of(position, raw.data.shape, raw.wcs)
        scale = self._scale_of(raw, xy)
        pixels = usable_pixels(raw, self._factor(raw.unit, scale))
        image = raw.psf if psf is None else psf
        image, fwhm = _psf(image, psf_fwhm, math.nan, raw.data.shape, scale)
        correlation, flag = self._correlation_of(pixels)
        pixels = pixels._replace(flags=pixels.flags | flag)
        zeropoint = self._zeropoint_of(raw, zeropoint)
        return self._place(pixels, xy, image, fwhm, scale, raw, correlation, zeropoint)

    def _again(self, cutout, psf, psf_fwhm, position, zeropoint):
        """Return a cutout as it is, but for what the call says of it."""
        scale = cutout.pixel_scale
        factor = self._factor(cutout.unit, scale)
        is_told = (
            psf is not None
            or position is not None
            or not math.isnan(psf_fwhm[0])
            or self.correlation is not None
            or zeropoint is not None
        )
        if not is_told and cutout.unit == self.unit:
            return cutout
        data, noise = cutout.data, cutout.sigma
        if factor != 1:
            data, noise = data * factor, noise * factor
        pixels = Pixels(data, noise, cutout.ignored, cutout.flags & ~_OF_PLACE)
        image, own_fwhm = (cutout.psf, cutout.psf_fwhm) if psf is None else (psf, math.nan)
        image, fwhm = _psf(image, psf_fwhm, own_fwhm, cutout.shape, scale)
        xy = position_of(
            cutout.position if position is None else position, cutout.shape, cutout.wcs
        )
        correlation = cutout.noise_correlation
        if self.correlation is not None:
            correlation, flag = self._correlation_of(pixels)
            pixels = pixels._replace(flags=pixels.flags & ~Flag.NOISE_ASSUMED_WHITE | flag)
        zeropoint = self._zeropoint_of(cutout, zeropoint)
        return self._place(pixels, xy, image, fwhm, scale, cutout, correlation, zeropoint)

    def _correlation_of(self, pixels):
        """Return how the noise is correlated, and a flag if that was to be measured in vain."""
        if self.correlation != ESTIMATE:
            return self.correlation, 0
        growth = noise_growth(pixels.data / pixels.noise, pixels.mask)
        if math.isnan(growth):
            return None, Flag.NOISE_ASSUMED_WHITE
        return NoiseCorrelation.of_growth(growth), 0

    def _place(self, pixels, xy, psf, fwhm, scale, given, correlation, zeropoint):
        """
        Return a cutout with the flags of what is known of its PSF and position.

        ``given`` is what it was made of, a `RawItem` or `Cutout`: it has its names.
        """
        flags, mask = pixels.flags, pixels.mask
        if math.isnan(fwhm):
            flags |= Flag.PSF_UNKNOWN
        if not is_inside(xy, pixels.data.shape, _EDGE):
            flags |= Flag.OFF_CENTRE
        radius = _CORE_RADIUS if math.isnan(fwhm) else fwhm
        if mask is not None and is_masked_near(mask, xy, radius):
            flags |= Flag.MASKED_CORE
        return Cutout(
            data=pixels.data,
            noise=pixels.noise,
            mask=mask,
            position=xy,
            psf=psf,
            psf_fwhm=fwhm,
            pixel_scale=scale,
            unit=self.unit,
            label=given.label,
            flags=int(flags),
            noise_correlation=correlation,
            origin=given.origin,
            identifier=given.identifier,
            catalog_column=given.catalog_column,
            wcs=given.wcs,
            zeropoint=zeropoint,
        )

    def _zeropoint_of(self, given, zeropoint):
        """Return the AB magnitude of 1 unit of the batch: as the call or the cutout tells."""
        unit, _ = check_flux_unit(given.unit)
        if not is_calibrated(unit):
            zeropoint = given.zeropoint if zeropoint is None else zeropoint
            return in_other_unit(zeropoint, conversion_factor(unit, self.unit))
        if zeropoint is not None and not math.isnan(zeropoint):
            where = '' if self.single else f'cutout {self.index}: '
            msg = (
                f'{where}a zeropoint is given, but the unit {str(unit)!r} is calibrated: '
                'magnitudes follow from the unit, leave the zeropoint out'
            )
            raise ValueError(msg)
        return math.nan

    def _scale_of(self, raw, xy):
        """Return the pixel scale at a position: found once for those that share WCS and place."""
        if raw.wcs is None:
            return math.nan
        wcs, place, scale = self._scale
        if raw.wcs is not wcs or xy != place:
            scale = pixel_scale(raw.wcs, xy)
            self._scale = raw.wcs, xy, scale
        return scale

    def _factor(self, own_unit, scale):
        """Return the factor from the item's pixel values to the batch's flux unit."""
        where = '' if self.single else f'cutout {self.index}: '
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


def _place_of(given):
    """Return where an item is that cannot be measured, as far as it tells."""
    names = ('position', 'origin', 'identifier', 'catalog_column')
    told = {name: getattr(given, name, None) for name in names}
    return {name: value for name, value in told.items() if value is not None}


def _psf(image, psf_fwhm, own_fwhm, shape, scale):
    """Return the normalised PSF image, or `None`, and its width in pixels, or NaN."""
    known = None
    if image is not None:
        try:
            known = known_psf(image)
        except ValueError as exc:
            raise ItemFault(Flag.BAD_PSF, str(exc)) from None
        image = known.image
        if any(p > s for p, s in zip(image.shape, shape, strict=True)):
            msg = f'the PSF image of shape {image.shape} is larger than the cutout of shape {shape}'
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
        fwhm = own_fwhm
    if math.isnan(fwhm) and known is not None:
        fwhm = known.fwhm
    return image, fwhm


def _name(unit):
    return repr(str(unit)) if str(unit) else "'' (none)"
