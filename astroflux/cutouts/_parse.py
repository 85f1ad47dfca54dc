# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""From whatever the user has to a stream of `Cutout`."""

from collections.abc import Sized

from astroflux.cutouts._batch import Batch, Told
from astroflux.cutouts._catalog import is_catalog, is_many
from astroflux.cutouts._correlation import parse_noise_correlation
from astroflux.cutouts._cutout import Cutout
from astroflux.cutouts._image import stamps_of, whole_image
from astroflux.cutouts._items import is_single, is_stack, unpack_stack
from astroflux.cutouts._keywords import parse_positions, parse_psf, parse_psf_fwhm
from astroflux.cutouts._psf import parse_oversampling
from astroflux.cutouts._told import (
    parse_background,
    parse_effective_gain,
    parse_error,
    parse_mask,
)
from astroflux.cutouts._zeropoint import parse_zeropoint
from astroflux.cutouts.psf_field import PSFField

__all__ = ['fit_psf_cells', 'iter_cutouts', 'parse_options']


def iter_cutouts(
    cutouts,
    *,
    psf=None,
    oversampling=1,
    psf_fwhm=None,
    positions=None,
    labels=None,
    stamp_size=None,
    error=None,
    mask=None,
    background=None,
    effective_gain=None,
    noise_correlation=None,
    zeropoint=None,
):
    """
    Turn any accepted input into cutouts ready to measure, one at a time.

    Parameters
    ----------
    cutouts : object
        One cutout (`~astropy.nddata.CCDData`, `~astropy.nddata.NDData`,
        `~astropy.nddata.Cutout2D`, `~astropy.units.Quantity`, 2-d array, the
        path of a FITS file, or a `~astroflux.cutouts.CutoutFile`), any iterable
        of them, or a 3-d stack of shape ``(n, ny, nx)``. Sides of 8 pixels or more; never modified.
    psf : 2-d array, or one for each cutout, optional
        PSF image, or a `~photutils.psf.ImagePSF`; instead of the cutout's own ``psf``. Of one
        image, also what differs from place to place: a `PSFField`, or what it is made from.
    oversampling : int or pair of int, optional
        Pixels of the PSF image, that of ``psf`` or of the cutout's own, per pixel of the cutout
        along an axis, or ``(y, x)``; a model of photutils says its own. As in photutils, it is an
        effective PSF: each of its pixels holds the light that a pixel of the cutout receives
        about it, and every so manieth is taken, from the centroid on. Of a PSF that was drawn in
        fine pixels, sum blocks with `~astropy.nddata.block_reduce` instead. A `Cutout` has its
        PSF in its own pixels already.
    psf_fwhm : float, `~astropy.units.Quantity`, or one for each cutout, optional
        Full width at half maximum of the PSF, in pixels or as an angle (which
        needs a WCS); instead of the width of the PSF image.
    positions : pair of float, `~astropy.coordinates.SkyCoord`, or one for each cutout, optional
        Where the galaxy is, ``(x, y)`` in 0-based pixels; else the centre of
        the stamp, or the position that a `~astropy.nddata.Cutout2D` was made
        for. Of one image, many positions may be given: ``(n, 2)`` of them, an array
        `~astropy.coordinates.SkyCoord`, a table, or a `~photutils.segmentation.SourceCatalog` or
        `~photutils.segmentation.SegmentationImage`. A stamp is cut around each, and of a map in
        another keyword.
    labels : int or str, or a list of them, optional
        Which sources of a catalogue in ``positions`` to take, by their labels or identifiers; by
        default all.
    stamp_size : int, or one for each position, optional
        Side in pixels of the stamps of many positions on one image.
    error : float, 2-d array or `~astropy.units.Quantity`, or one for each cutout, optional
        Noise (1 sigma) of the pixels, in the unit of the cutout if it has none; instead of the
        cutout's own uncertainty.
    mask : 2-d array of bool, or one for each cutout, optional
        `True` where a pixel is to be ignored, besides the cutout's own mask.
    background : float, 2-d array, `~astropy.units.Quantity`, str, or one for each, optional
        The sky to subtract: ``'none'`` (as by default), ``'local'`` for the sigma-clipped median
        of a frame at the edge of each stamp, a number, a map, or a
        `~photutils.background.Background2D`.
    effective_gain : float, 2-d array or `~astropy.units.Quantity`, optional
        Electrons per unit of the cutout, if the noise is that of the sky alone: that of the
        galaxy's photons is added.
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
        a failed `Cutout` that says why. Its attribute ``n`` is their number, `None` if unknown,
        and ``single`` says whether the input was one cutout.

    Raises
    ------
    TypeError, ValueError, OSError
        If the only cutout, a keyword, or the call as a whole is wrong.
    `~astropy.units.UnitsError`
        If a unit is not a flux, or does not convert to that of the first
        cutout; raised when the iteration arrives there.
    """
    single = is_single(cutouts)
    of_image = single and is_many(positions)
    if not of_image:
        _check_per_cutout(positions, labels=labels, stamp_size=stamp_size)
    options, correlation, oversampling = parse_options(
        psf=psf,
        oversampling=oversampling,
        psf_fwhm=psf_fwhm,
        positions=None if of_image else positions,
        error=error,
        mask=mask,
        background=background,
        effective_gain=effective_gain,
        noise_correlation=noise_correlation,
        zeropoint=zeropoint,
    )
    if of_image:
        told = {option.name: option.shared for option in options}
        whole = whole_image(cutouts, told)
        fit_psf_cells(options, whole.data.shape)
        items, n = stamps_of(whole, positions, told, labels=labels, stamp_size=stamp_size)
        single = False
    elif single:
        items, n = [cutouts], 1
    elif is_stack(cutouts):
        items, n = unpack_stack(cutouts)
    else:
        items, n = cutouts, len(cutouts) if isinstance(cutouts, Sized) else None
    if isinstance(options[0].shared, PSFField) and not (of_image or single):
        msg = (
            f'psf is a {type(options[0].shared).__name__}, which is for one image and positions in '
            'it: for a list or stack of cutouts want an image of the PSF, or one for each'
        )
        raise TypeError(msg)
    if n is not None:
        _check_not_empty(n)
        for option in options:
            option.check_size(n)
    batch = Batch(single, correlation, of_image, oversampling)
    stream = _stream(batch, items, options)
    if single:
        # Now rather than at the first step, so that the error is the call's.
        stream = [next(stream)]
    return CutoutStream(stream, n, single)


def parse_options(
    *,
    psf=None,
    oversampling=1,
    psf_fwhm=None,
    positions=None,
    error=None,
    mask=None,
    background=None,
    effective_gain=None,
    noise_correlation=None,
    zeropoint=None,
):
    """
    Parse the keywords of `iter_cutouts`.

    Return what they tell of each cutout, in the order of `~astroflux.cutouts._batch.Told`, how
    noise is correlated, and how PSF images are sampled.
    """
    oversampling = parse_oversampling(oversampling)
    options = (
        parse_psf(psf, oversampling),
        parse_psf_fwhm(psf_fwhm),
        parse_positions(positions),
        parse_error(error),
        parse_mask(mask),
        parse_background(background),
        parse_effective_gain(effective_gain),
        parse_zeropoint(zeropoint),
    )
    return options, parse_noise_correlation(noise_correlation), oversampling


def fit_psf_cells(options, shape):
    """Give a PSF that differs from place to place the cells of an image of some shape."""
    psf = options[0]
    if isinstance(psf.shared, PSFField):
        psf.shared = psf.shared.over(shape)


class CutoutStream:
    """Iterator of cutouts that knows their number, if anyone does, and if one was asked for."""

    def __init__(self, cutouts, n, single):
        self._cutouts = iter(cutouts)
        self.n, self.single = n, single

    def __iter__(self):
        return self

    def __next__(self):
        return next(self._cutouts)


def _check_per_cutout(positions, **of_image):
    """Raise an error for what can only be said of many positions on one image."""
    if is_catalog(positions):
        msg = (
            f'positions is a {type(positions).__name__}, which is for one image: for a list or '
            'stack of cutouts want a pair (x, y) for each'
        )
        raise TypeError(msg)
    for name, value in of_image.items():
        if value is not None:
            msg = f'{name} is for many positions on one image, and there are none'
            raise ValueError(msg)


def _check_not_empty(n):
    if n == 0:
        msg = 'there are no cutouts: the input is empty'
        raise ValueError(msg)


def _stream(batch, items, options):
    n = 0
    for item in items:
        told = Told(*(option.next(n) for option in options))
        if batch.of_image and not isinstance(item, Cutout):
            told = told.part(*item.window)
        yield batch.parse(item, told)
        n += 1
    _check_not_empty(n)
    for option in options:
        option.finish(n)
