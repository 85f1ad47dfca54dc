# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Put cutouts of any shape onto the network's canvas, in units of their noise."""

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from astroflux.networks.orientation import BOX_REACH, Orientation
from astroflux.networks.psf_mixture import N_PSF_NUMBERS, fit_psf_mixtures
from astroflux.networks.pyramid import CANVAS_SIZE, REACH

__all__ = ['Canvases']

# A block of pixels counts if at least this part of it can be used.
LEAST_USABLE = 0.5

# PSFs whose mixtures are remembered.
MAX_REMEMBERED = 256


@dataclass(frozen=True)
class _Stamp:
    """
    A cutout in pixels or in blocks of them; ``noise`` may be one number for all.

    Of blocks, ``origin`` tells where the first one starts, and ``share`` which part of each
    can be used.
    """

    data: np.ndarray
    noise: np.ndarray | float
    mask: np.ndarray | None
    position: tuple[float, float]
    binning: int = 1
    origin: tuple[int, int] = (0, 0)
    share: np.ndarray | float = 1.0

    @classmethod
    def of(cls, cutout):
        noise = cutout.noise
        if noise[0, 0] == noise[-1, -1] and noise.min() == noise.max():
            noise = float(noise[0, 0])
        mask = cutout.mask if cutout.mask.any() else None
        return cls(cutout.data, noise, mask, cutout.position)

    def binned(self, binning):
        """Return blocks of pixels; the galaxy's pixel is in the middle of one, or beside it."""
        position, windows = [], []
        for centre, length in zip(self.position[::-1], self.data.shape, strict=True):
            start = (int(np.ceil(centre - 0.5 + 1e-9)) - binning // 2) % binning
            stop = start + (length - start) // binning * binning
            windows.append(slice(start, stop))
            position.append((centre - start + 0.5) / binning - 0.5)
        windows = tuple(windows)

        def total(values):
            ny, nx = (length // binning for length in values.shape)
            return values.reshape(ny, binning, nx, binning).sum(axis=(1, 3))

        data = self.data[windows]
        noise = np.broadcast_to(self.noise, self.data.shape)[windows]
        usable = np.ones(data.shape, bool) if self.mask is None else ~self.mask[windows]
        part = total(usable) / binning**2
        mask = part < LEAST_USABLE
        # what is missing in a block is as bright as the rest of it
        share = np.maximum(part, LEAST_USABLE)
        variance = total(np.where(usable, noise**2, 0)) / share**2
        return _Stamp(
            np.where(mask, 0, total(np.where(usable, data, 0)) / share),
            np.sqrt(np.where(mask, 1, variance)) if mask.any() else np.sqrt(variance),
            mask if mask.any() else None,
            tuple(position[::-1]),
            binning,
            tuple(window.start for window in windows),
            share,
        )

    def spread(self, values, shape):
        """Return values of blocks as values of the pixels of an image, 0 beyond the blocks."""
        if self.binning == 1:
            return values
        pixels = np.repeat(np.repeat(values / self.share, self.binning, 0), self.binning, 1)
        image = np.zeros(shape)
        (y, x), (ny, nx) = self.origin, pixels.shape
        image[y : y + ny, x : x + nx] = pixels
        return image

    @property
    def typical_noise(self):
        """Median noise of the usable pixels."""
        if isinstance(self.noise, float):
            return self.noise
        return float(np.median(self.noise if self.mask is None else self.noise[~self.mask]))

    @property
    def is_even(self):
        """Whether all pixels are alike."""
        return self.mask is None and isinstance(self.noise, float)

    def oriented(self, binning):
        """Return the stamp as it is seen, in blocks or not, and how it was turned."""
        orientation = Orientation.of(self.data, self.position, BOX_REACH * binning)
        noise, mask = self.noise, self.mask
        return (
            _Stamp(
                orientation.apply(self.data),
                noise if isinstance(noise, float) else orientation.apply(noise),
                mask if mask is None else orientation.apply(mask),
                orientation.move(self.position, self.data.shape),
            ),
            orientation,
        )


class Canvases:
    """
    A batch of cutouts as the network takes it.

    The galaxy's position falls on the central pixel, to the nearest pixel.
    What a cutout lacks has no weight; what reaches beyond the canvas is left
    out. Each cutout is flipped and turned into a standard orientation.

    Parameters
    ----------
    cutouts : list of `~astroflux.cutouts.Cutout`
        None of them failed.
    binning : int
        Blocks of so many pixels along an axis are summed up first.

    Attributes
    ----------
    binning : int
        As given.
    image : `~numpy.ndarray`
        ``(n, 147, 147)`` float32, 0 where a pixel is missing or ignored.
    weight : `~numpy.ndarray`
        Same shape: inverse variance in units of ``scale**-2``, 0 where a pixel
        cannot be used; or ``(1, 147, 147)`` if that is the same for all.
    psf : `~numpy.ndarray`
        ``(n, 9)`` float32: full width at half maximum in pixels (or blocks),
        noise-equivalent area, and the numbers of
        `~astroflux.networks.psf_mixture.fit_psf_mixtures`; NaN where unknown.
    scale : `~numpy.ndarray`
        ``(n,)`` the noise that the image was divided by: the median over the
        usable pixels.
    cropped : `~numpy.ndarray`
        ``(n,)`` bool, whether a part of the cutout was left out.
    orientations : list of `Orientation`
        How the cutouts were turned.
    """

    def __init__(self, cutouts, binning=1):
        n = len(cutouts)
        self.binning = binning
        stamps, self.orientations = zip(
            *(_Stamp.of(cutout).oriented(binning) for cutout in cutouts), strict=True
        )
        self._masks = [stamp.mask for stamp in stamps]
        self._shapes = [stamp.data.shape for stamp in stamps]
        if binning > 1:
            stamps = [stamp.binned(binning) for stamp in stamps]
        self._stamps = stamps
        self.image = np.zeros((n, CANVAS_SIZE, CANVAS_SIZE), np.float32)
        shared = _all_pixels_alike(stamps)
        self.weight = np.zeros_like(self.image[:1] if shared else self.image)
        if shared:
            self.weight[0][_windows(stamps[0])[1]] = 1
        self.psf = _psf_numbers(cutouts, binning)
        self.scale = np.empty(n)
        self.cropped = np.zeros(n, bool)
        for row, stamp in enumerate(stamps):
            source, target = _windows(stamp)
            scale = self.scale[row] = stamp.typical_noise
            # In double precision until here: any unit fits into the network's
            # floats. Ignored pixels are zero already.
            np.multiply(
                stamp.data[source], 1 / scale, out=self.image[row][target], casting='same_kind'
            )
            self.cropped[row] = self.image[row][target].size < stamp.data.size
            if not shared:
                self.weight[row][target] = _weight(stamp, source, scale)

    def to_cutout(self, row, picture):
        """
        Return a picture of the canvas as one of the cutout.

        Parameters
        ----------
        row : int
            Which of the cutouts.
        picture : 2D `~numpy.ndarray`
            ``(147, 147)``, derivatives with respect to ``image * scale``.

        Returns
        -------
        image : 2D `~numpy.ndarray`
            Of the cutout's shape: derivatives with respect to its pixels; 0 where they are
            ignored or not on the canvas.
        """
        stamp, mask = self._stamps[row], self._masks[row]
        source, target = _windows(stamp)
        values = np.zeros(stamp.data.shape)
        values[source] = picture[target]
        if stamp.mask is not None:
            values[stamp.mask] = 0
        values = stamp.spread(values, self._shapes[row])
        if mask is not None:
            values = np.where(mask, 0, values)
        return self.orientations[row].undo(values)

    @property
    def valid(self):
        """Where a pixel can be used: 1, else 0."""
        return (self.weight > 0).astype(np.float32)


def _weight(stamp, source, scale):
    if isinstance(stamp.noise, float):
        return 1 if stamp.mask is None else ~stamp.mask[source]
    weight = (scale / stamp.noise[source]) ** 2
    return weight if stamp.mask is None else weight * ~stamp.mask[source]


def _all_pixels_alike(stamps):
    """Return whether all stamps lie alike on the canvas and their pixels are of equal weight."""
    first = stamps[0]
    return all(
        s.data.shape == first.data.shape and s.position == first.position and s.is_even
        for s in stamps
    )


_remembered = OrderedDict()


def _psf_numbers(cutouts, binning):
    """Return width, area and mixture of each PSF; NaN where unknown."""
    numbers = np.full((len(cutouts), N_PSF_NUMBERS), np.nan)
    numbers[:, 0] = [c.psf_fwhm for c in cutouts]
    keys, fresh = {}, {}
    for cutout in cutouts:
        which = (id(cutout.psf), cutout.psf_fwhm)
        if cutout.psf is not None and which not in keys:
            key = keys[which] = (cutout.psf.tobytes(), cutout.psf_fwhm)
            if key not in _remembered:
                fresh[key] = cutout.psf
    if fresh:
        mixtures = fit_psf_mixtures(list(fresh.values()), [key[1] for key in fresh])
        for (key, psf), mixture in zip(fresh.items(), mixtures, strict=True):
            _remembered[key] = (1 / np.vdot(psf, psf), *mixture)
    for row, cutout in enumerate(cutouts):
        if cutout.psf is not None:
            numbers[row, 1:] = _remembered[keys[id(cutout.psf), cutout.psf_fwhm]]
    while len(_remembered) > MAX_REMEMBERED:
        _remembered.popitem(last=False)
    numbers[:, 0] /= binning
    numbers[:, 1] /= binning**2
    return numbers.astype(np.float32)


def _windows(stamp):
    """Return the slices of a stamp and of the canvas that coincide."""
    pairs = [
        _window(length, centre)
        for length, centre in zip(stamp.data.shape, stamp.position[::-1], strict=True)
    ]
    return tuple(pair[0] for pair in pairs), tuple(pair[1] for pair in pairs)


def _window(length, centre):
    """Return the slices of a stamp's and of the canvas's axis that coincide."""
    # Half a pixel to the same side always, as the training has it.
    shift = REACH - int(np.ceil(centre - 0.5 + 1e-9))
    start, stop = max(0, -shift), min(length, CANVAS_SIZE - shift)
    return slice(start, max(start, stop)), slice(start + shift, max(start, stop) + shift)
