# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Put the surroundings of galaxies onto the network's canvas, in units of their noise."""

import math
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from astroflux._forks import ForkLock, cached_property
from astroflux.cutouts._steps import even_noise
from astroflux.networks.orientation import BOX_REACH, ROUNDING, Orientation
from astroflux.networks.psf_mixture import N_PSF_NUMBERS, in_blocks, psf_numbers
from astroflux.networks.pyramid import CANVAS_SIZE
from astroflux.networks.sersic_model import PROFILE_PARAMETERS
from astroflux.networks.source_models import moved_profiles

__all__ = ['Canvases', 'Stamp', 'coinciding', 'stamps_around']

# A block of pixels counts if at least this part of it can be used.
LEAST_USABLE = 0.5

N_OF_PROFILE = len(PROFILE_PARAMETERS)

# PSFs whose numbers are remembered.
MAX_REMEMBERED = 256


@dataclass(frozen=True)
class Stamp:
    """
    The pixels around a galaxy; a `~astroflux.cutouts.Cutout` has all of this, too.

    Attributes
    ----------
    data : 2D `~numpy.ndarray`
        Double precision; 0 where pixels are ignored.
    sigma : 2D `~numpy.ndarray` or float
        Noise, a number if it is the same everywhere.
    ignored : 2D `~numpy.ndarray` or None
        Which pixels are ignored; `None` if there are none.
    position : tuple of float
        ``(x, y)`` of the galaxy.
    psf : 2D `~numpy.ndarray` or None
        Image of the PSF, of sum 1.
    psf_fwhm : float
        Its full width at half maximum in pixels; NaN if unknown.
    noise_growth : float
        By how much the noise of sums of pixels exceeds that of white noise.
    neighbors : 2D `~numpy.ndarray` or None
        ``(k, 7)``, profiles of sources that were subtracted and may be fitted again:
        `~astroflux.networks.sersic_model.PROFILE_PARAMETERS` in pixels of the stamp.
    """

    data: np.ndarray
    sigma: np.ndarray | float
    ignored: np.ndarray | None
    position: tuple[float, float]
    psf: np.ndarray | None = None
    psf_fwhm: float = math.nan
    noise_growth: float = 1.0
    neighbors: np.ndarray | None = None


def stamps_around(
    positions,
    data,
    sigma,
    *,
    ignored=None,
    psf=None,
    psf_fwhm=math.nan,
    noise_growth=1.0,
    size=CANVAS_SIZE,
):
    """
    Return the surroundings of many galaxies of one image, as a list of `Stamp`.

    Views are taken of what a `Stamp` wants, here for the whole image. With a ``size`` larger than
    the canvas, a galaxy that is too large for that can be measured in blocks of pixels; at the
    edge of the image a stamp is smaller.
    """
    stamps = []
    for x, y in positions:
        corner = [max(0, _central_pixel(c) - size // 2) for c in (y, x)]
        ends = [_central_pixel(c) - size // 2 + size for c in (y, x)]
        window = tuple(slice(*bounds) for bounds in zip(corner, ends, strict=True))
        noise = sigma if isinstance(sigma, float) else even_noise(sigma[window])
        mask = None if ignored is None or not ignored[window].any() else ignored[window]
        position = (x - corner[1], y - corner[0])
        stamps.append(Stamp(data[window], noise, mask, position, psf, psf_fwhm, noise_growth))
    return stamps


@dataclass(frozen=True)
class _Placed:
    """
    A stamp as it is seen: turned, in pixels or in blocks of them.

    Of blocks, ``origin`` tells by how much the first one reaches beyond the stamp, and ``share``
    which part of each can be used.
    """

    data: np.ndarray
    noise: np.ndarray | float
    mask: np.ndarray | None
    position: tuple[float, float]
    orientation: Orientation
    binning: int = 1
    origin: tuple[int, int] = (0, 0)
    share: np.ndarray | float = 1.0

    @classmethod
    def of(cls, stamp, binning, growth):
        """Return a stamp in its standard orientation, its noise grown, in blocks if need be."""
        orientation = Orientation.of(stamp.data, stamp.position, BOX_REACH * binning)
        noise, mask = stamp.sigma * growth, stamp.ignored
        turned = cls(
            orientation.apply(stamp.data),
            noise if isinstance(noise, float) else orientation.apply(noise),
            None if mask is None else orientation.apply(mask),
            orientation.move(stamp.position, stamp.data.shape),
            orientation,
        )
        return turned.binned(binning) if binning > 1 else turned

    def binned(self, binning):
        """
        Return blocks of pixels; the galaxy's pixel is in the middle of one, or beside it.

        At the edges, blocks reach beyond the stamp.
        """
        margins, position = [], []
        for centre, length in zip(self.position[::-1], self.data.shape, strict=True):
            before = (binning // 2 - _central_pixel(centre)) % binning
            margins.append((before, -(before + length) % binning))
            position.append((centre + before + 0.5) / binning - 0.5)

        def total(values):
            values = np.pad(values, margins)
            ny, nx = (length // binning for length in values.shape)
            return values.reshape(ny, binning, nx, binning).sum(axis=(1, 3))

        noise = np.broadcast_to(self.noise, self.data.shape)
        usable = np.ones(self.data.shape, bool) if self.mask is None else ~self.mask
        part = total(usable) / binning**2
        mask = part < LEAST_USABLE
        # what is missing in a block is as bright as the rest of it
        share = np.maximum(part, LEAST_USABLE)
        variance = total(np.where(usable, noise**2, 0)) / share**2
        return _Placed(
            np.where(mask, 0, total(np.where(usable, self.data, 0)) / share),
            np.sqrt(np.where(mask, 1, variance)) if mask.any() else np.sqrt(variance),
            mask if mask.any() else None,
            tuple(position[::-1]),
            self.orientation,
            binning,
            tuple(before for before, _ in margins),
            share,
        )

    def spread(self, values, shape):
        """Return values of blocks as values of the pixels of an image."""
        if self.binning == 1:
            return values
        pixels = np.repeat(np.repeat(values / self.share, self.binning, 0), self.binning, 1)
        (y, x), (ny, nx) = self.origin, shape
        return pixels[y : y + ny, x : x + nx]

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

    def n_used(self, window=...):
        """Return how many pixels of a window, or of all, can be used."""
        if self.mask is None:
            return self.data[window].size
        return np.count_nonzero(~self.mask[window])

    @cached_property
    def windows(self):
        """The slices of the stamp and of the canvas that coincide."""
        return coinciding(self.data.shape, self.position, CANVAS_SIZE)

    @property
    def offset(self):
        """Position in pixels from the middle of the one that is at the canvas's centre."""
        return tuple(centre - _central_pixel(centre) for centre in self.position)

    @property
    def reach(self):
        """Distances from the position to where usable pixels of the canvas end, to each side."""
        source, _ = self.windows
        reach = []
        for axis, (window, centre) in enumerate(zip(source, self.position[::-1], strict=True)):
            used = np.arange(window.start, window.stop)
            if self.mask is not None:
                used = used[~self.mask[source].all(axis=1 - axis)]
            first, last = (used[0], used[-1]) if used.size else (centre + 0.5, centre - 0.5)
            reach += [centre - first + 0.5, last + 0.5 - centre]
        return reach

    def to_stamp(self, position, shape):
        """Return where in its stamp, of a shape, something is that far from the central pixel."""
        origin = self.origin[::-1]
        seen = [
            (_central_pixel(centre) + apart + 0.5) * self.binning - 0.5 - before
            for centre, apart, before in zip(self.position, position, origin, strict=True)
        ]
        return self.orientation.move_back(seen, shape)

    def weight(self, scale):
        """Return the weight of the pixels on the canvas: inverse variance in this unit."""
        source, _ = self.windows
        used = None if self.mask is None else ~self.mask[source]
        if isinstance(self.noise, float):
            return 1 if used is None else used
        weight = (scale / self.noise[source]) ** 2
        return weight if used is None else weight * used


class Canvases:
    """
    A batch of galaxies as the network takes it.

    The galaxy's position falls on the central pixel, to the nearest pixel.
    What a stamp lacks has no weight; what reaches beyond the canvas is left
    out. Each stamp is flipped and turned into a standard orientation.

    Parameters
    ----------
    stamps : list of `Stamp` or `~astroflux.cutouts.Cutout`
        None of them failed.
    binning : int
        Blocks of so many pixels along an axis are summed up first.
    of_sums : bool
        Whether correlated noise counts as it is in sums over many pixels, which
        a galaxy is; else as it is in each of them.

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
        usable pixels, grown if it is correlated.
    cropped : `~numpy.ndarray`
        ``(n,)`` bool, whether a part of the cutout was left out.
    orientations : list of `Orientation`
        How the cutouts were turned.
    offset : `~numpy.ndarray`
        ``(n, 2)``, the galaxy's position, ``(x, y)`` from the centre of the canvas in its pixels.
    reach : `~numpy.ndarray`
        ``(n, 4)``, how far from there pixels that can be used lie to each side.
    """

    def __init__(self, stamps, binning=1, *, of_sums=True):
        self.binning = binning
        self.psf = _told_of_psfs(stamps, binning)
        self._stamps = stamps
        growths = [stamp.noise_growth if of_sums else 1.0 for stamp in stamps]
        self._placed = placed = [
            _Placed.of(stamp, binning, growth)
            for stamp, growth in zip(stamps, growths, strict=True)
        ]
        self.orientations = [each.orientation for each in placed]
        self.scale = np.array([each.typical_noise for each in placed])
        self.image = np.zeros((len(placed), CANVAS_SIZE, CANVAS_SIZE), np.float32)
        shared = _all_pixels_alike(placed)
        self.weight = np.zeros_like(self.image[:1] if shared else self.image)
        if shared:
            self.weight[0][placed[0].windows[1]] = 1
        self.cropped = np.zeros(len(placed), bool)
        self.offset = np.array([each.offset for each in placed])
        self.reach = np.array([each.reach for each in placed])
        for row, each in enumerate(placed):
            source, target = each.windows
            image, scale = self.image[row][target], self.scale[row]
            # In double precision until here: any unit fits into the network's
            # floats. Ignored pixels are zero already. What is too large even so is no image.
            with np.errstate(over='ignore', invalid='ignore'):
                np.multiply(each.data[source], 1 / scale, out=image, casting='same_kind')
            self.cropped[row] = each.n_used(source) < each.n_used()
            if not shared:
                self.weight[row][target] = each.weight(scale)

    @property
    def frame(self):
        """
        The way from canvases to stamps, ``(n, 2, 3)``.

        The first two columns are a matrix, the last one what is added to its product with
        ``(x, y)`` from the central pixel of the canvas: ``(x, y)`` in the stamp.
        """
        frames = []
        for placed, stamp in zip(self._placed, self._stamps, strict=True):
            corners = [placed.to_stamp(at, stamp.data.shape) for at in ((1, 0), (0, 1), (0, 0))]
            frames.append(np.transpose(corners))
        frames = np.array(frames, dtype=float)
        frames[:, :, :2] -= frames[:, :, 2:]
        return frames

    @property
    def neighbors(self):
        """
        Profiles of sources that were subtracted, or `None` if there are none.

        They are ``(n, k, 7)``, in pixels of the canvas and units of its noise; and ``(n, k)``,
        1 where there is one, else 0.
        """
        most = max(0 if s.neighbors is None else len(s.neighbors) for s in self._stamps)
        if most == 0:
            return None
        profiles = np.zeros((len(self._stamps), most, N_OF_PROFILE), np.float32)
        exists = np.zeros((len(self._stamps), most), np.float32)
        for row, (stamp, frame) in enumerate(zip(self._stamps, self.frame, strict=True)):
            if stamp.neighbors is None or not len(stamp.neighbors):
                continue
            k = len(stamp.neighbors)
            # from the stamp to the canvas
            matrix = np.linalg.inv(frame[:, :2])
            shift = np.tile(-matrix @ frame[:, 2], (k, 1))
            scale = np.full(k, 1 / self.scale[row])
            matrix = np.tile(matrix, (k, 1, 1))
            profiles[row, :k] = moved_profiles(stamp.neighbors, matrix, shift, scale)
            exists[row, :k] = 1
        return profiles, exists

    def to_cutout(self, row, picture):
        """
        Return derivatives with respect to ``image * scale`` of a canvas as those of its stamp.

        They are 0 where pixels of the stamp are ignored or not on the canvas.
        """
        stamp, placed = self._stamps[row], self._placed[row]
        source, target = placed.windows
        values = np.zeros(placed.data.shape)
        values[source] = picture[target]
        if placed.mask is not None:
            values[placed.mask] = 0
        shape = placed.orientation.apply(stamp.data).shape
        values = placed.orientation.undo(placed.spread(values, shape))
        return values if stamp.ignored is None else np.where(stamp.ignored, 0, values)

    @property
    def valid(self):
        """Where a pixel can be used: 1, else 0."""
        return (self.weight > 0).astype(np.float32)


def _all_pixels_alike(placed):
    """Return whether all stamps lie alike on the canvas and their pixels are of equal weight."""
    first = placed[0]
    return all(
        each.is_even and each.data.shape == first.data.shape and each.position == first.position
        for each in placed
    )


_remembered = OrderedDict()
_lock = ForkLock()


def _numbers_of_images(images):
    """Return the numbers of PSF images by keys: content, shape and width."""
    with _lock:
        known = {key: _remembered[key] for key in images if key in _remembered}
    fresh = [key for key in images if key not in known]
    if fresh:
        numbers = psf_numbers([images[key] for key in fresh], [fwhm for *_, fwhm in fresh])
        known.update(zip(fresh, numbers, strict=True))
        with _lock:
            _remembered.update({key: known[key] for key in fresh})
            while len(_remembered) > MAX_REMEMBERED:
                _remembered.popitem(last=False)
    return known


def _told_of_psfs(stamps, binning):
    """Return width, area and mixture of each PSF; NaN where unknown."""
    numbers = np.full((len(stamps), N_PSF_NUMBERS), np.nan)
    numbers[:, 0] = [stamp.psf_fwhm for stamp in stamps]
    # stamps that share an image need not look at it again
    distinct = {id(stamp.psf): stamp.psf for stamp in stamps if stamp.psf is not None}
    contents = {which: psf.tobytes() for which, psf in distinct.items()}
    keys = [
        None if s.psf is None else (contents[id(s.psf)], s.psf.shape, s.psf_fwhm) for s in stamps
    ]
    images = {key: s.psf for key, s in zip(keys, stamps, strict=True) if key is not None}
    known = _numbers_of_images(images)
    for row, key in enumerate(keys):
        if key is not None:
            numbers[row] = known[key]
    return in_blocks(numbers, binning).astype(np.float32)


def _central_pixel(position):
    """Return the pixel nearest to a position along an axis."""
    # Half a pixel to the same side always, as the training has it.
    return int(np.ceil(position - 0.5 + ROUNDING))


def coinciding(shape, position, side):
    """Return the slices of a stamp that coincide with a square about a position, and of that."""
    pairs = [
        _window(length, centre, side) for length, centre in zip(shape, position[::-1], strict=True)
    ]
    return tuple(zip(*pairs, strict=True))


def _window(length, centre, side):
    shift = side // 2 - _central_pixel(centre)
    start, stop = max(0, -shift), min(length, side - shift)
    stop = max(start, stop)
    return slice(start, stop), slice(start + shift, stop + shift)
