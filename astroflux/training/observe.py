# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
New observations of a library's noiseless stamps: neighbours, masks, noise.

In the orientation in which the network sees all stamps.
"""

from dataclasses import dataclass, field

import numpy as np
import torch

from astroflux.networks.orientation import ORIENTATIONS, Orientation
from astroflux.networks.outputs import SHAPE
from astroflux.networks.pyramid import CANVAS_SIZE, REACH
from astroflux.simulation.sky import SkyPopulation
from astroflux.training.noise import correlate, draw_kernels, noise_maps
from astroflux.training.sky import add_stamp, draw_sky

__all__ = ['Observation', 'ObservationSettings', 'draw_indices', 'observe']

# Scatter of ln flux, beyond that of any galaxy, that no method gets below: of a blend
# whose neighbour is as bright as the galaxy where that is, and per fraction of the light
# that no pixel shows; and of a galaxy that is not smooth. They only weigh the cases of
# the training against each other.
BLEND_FLOOR = 0.03
LOST_LIGHT_FLOOR = 0.1
STRUCTURE_FLOOR = 0.003

# Large stamps are smaller than the canvas by up to so many pixels.
LARGE_STAMP_MARGIN = 8

# The PSF of another field is narrower or wider by up to this factor.
OTHER_WIDTH = 1.1

# Widths of PSFs in a survey's own pixels.
SURVEY_FWHM = (1.8, 8.0)

# Catalogue positions: mostly the right pixel, else one or two beside it.
SHIFTS, SHIFT_SHARES = (-2, -1, 0, 1, 2), (0.02, 0.1, 0.76, 0.1, 0.02)


@dataclass(frozen=True)
class ObservationSettings:
    """
    How stamps are observed. Fluxes and skies are in units of the noise.

    Attributes
    ----------
    sersic_index_power : float
        Galaxies of a single component are drawn from the library with a
        weight of their Sersic index to this power: -1 makes an index that is
        uniform in the library log-uniform in the training.
    compact_radius : float
        Galaxies of a half-light radius below this many times the FWHM of the
        PSF are the rarer the smaller: drawn with a weight proportional to it.
    snr : tuple of float
        Range of ``sqrt(sum(model**2)) / sigma``, log-uniform.
    blend_fraction : float
        Share of stamps with one to ``max_neighbours`` neighbours.
    max_neighbours : int
        Most neighbours.
    neighbour_flux_ratio : tuple of float
        Range of a neighbour's flux over the galaxy's, log-uniform.
    neighbour_distance : tuple of float
        Range of the first neighbour's distance in pixels, uniform; the
        others lie anywhere from its lower end to the stamp's edge.
    star_fraction : float
        Share of point sources among the neighbours.
    sky_fraction : float
        Share of stamps with a whole sky instead, as in a coadd.
    sky : `~astroflux.simulation.SkyPopulation`
        What is in it.
    neighbour_mask_fraction : float
        Share of the neighbours that come masked.
    defect_fraction : float
        Share of stamps with bad columns or masked blobs.
    unknown_psf_fraction : float
        Share of stamps whose PSF width is withheld.
    unknown_shape_fraction : float
        Share, of the rest, with nothing known but the width.
    exact_psf_fraction, other_psf_fraction : float
        Share of stamps whose PSF is given as it is, and with that of another
        field, of about the same width; the others come with errors.
    psf_fwhm_error, psf_shape_error : float
        Relative error of the PSF width given, and error of ln of its
        noise-equivalent area and of the numbers of its mixture.
    uneven_noise_fraction : float
        Share of stamps whose noise changes across them: by a step, along a
        slope, or from pixel to pixel.
    photon_noise_fraction : float
        Share of stamps with the noise of the sources' own photons; in half
        of them the variances tell it.
    correlated_noise_fraction : float
        Share of stamps with noise that is correlated between neighbouring
        pixels, beside those with a sky.
    told_correlation_fraction, correlation_error : float
        Share of these in units of the noise of sums over a few pixels, as with
        ``noise_correlation``; and the relative error by which that is off.
    sky_residual : float
        Standard deviation of the sky left in a stamp, of a survey's own pixels.
    sky_offset_fraction, sky_offset : float
        Share of stamps whose sky is off by more, and the standard deviation of that.
    max_binning : int
        If more than one, pixels are blocks of so many pixels of a survey along an axis, and of
        at least two: log-uniform, as far as the survey's pixels sample the PSF as the survey's
        do (`SURVEY_FWHM`). In units of the noise the sky is so many times further off.
    small_stamp_fraction : float
        Share of stamps cut to a random size and shape.
    min_stamp_size : int
        Smallest side of those, in pixels.
    min_stamp_radii : float
        And in half-light radii of the galaxy.
    """

    sersic_index_power: float = -1.0
    compact_radius: float = 0.25
    snr: tuple[float, float] = (3.0, 7000.0)
    blend_fraction: float = 0.35
    max_neighbours: int = 3
    neighbour_flux_ratio: tuple[float, float] = (0.05, 3.0)
    neighbour_distance: tuple[float, float] = (6.0, 27.0)
    star_fraction: float = 0.15
    sky_fraction: float = 0.0
    sky: SkyPopulation = field(default_factory=SkyPopulation)
    neighbour_mask_fraction: float = 0.4
    defect_fraction: float = 0.1
    unknown_psf_fraction: float = 0.15
    unknown_shape_fraction: float = 0.25
    exact_psf_fraction: float = 0.5
    other_psf_fraction: float = 0.1
    psf_fwhm_error: float = 0.01
    psf_shape_error: float = 0.02
    uneven_noise_fraction: float = 0.2
    photon_noise_fraction: float = 0.2
    correlated_noise_fraction: float = 0.2
    told_correlation_fraction: float = 0.0
    correlation_error: float = 0.03
    sky_residual: float = 0.02
    sky_offset_fraction: float = 0.0
    sky_offset: float = 0.15
    max_binning: int = 1
    small_stamp_fraction: float = 0.2
    min_stamp_size: int = 32
    min_stamp_radii: float = 6.0


@dataclass
class Observation:
    """
    A batch as the network takes it, with its truth.

    Attributes
    ----------
    image, weight : `~numpy.ndarray`
        ``(n, 147, 147)`` float32; the weight is the inverse variance, 0
        where a pixel cannot be used.
    psf : `~numpy.ndarray`
        ``(n, 9)`` float32: `~astroflux.networks.psf_mixture.psf_numbers`, in pixels;
        NaN where unknown.
    ln_flux : `~numpy.ndarray`
        ``(n,)`` float32, in units of the noise.
    shape : dict of str to `~numpy.ndarray`
        ``(n,)`` float32 each: what ``SHAPE`` of `astroflux.networks.outputs` lists, lengths in
        pixels.
    snr : `~numpy.ndarray`
        ``(n,)`` float32, ``sqrt(sum(model**2))`` in units of the noise.
    effective_snr : `~numpy.ndarray`
        The same with the noise as it is in each pixel.
    floor : `~numpy.ndarray`
        ``(n,)`` float32, the scatter of ln flux that is not to be had at any
        S/N, for the loss.
    binning : `~numpy.ndarray`
        ``(n,)`` float32, how many of a survey's pixels, along an axis, a pixel stands for.
    """

    image: np.ndarray
    weight: np.ndarray
    psf: np.ndarray
    ln_flux: np.ndarray
    shape: dict
    snr: np.ndarray
    effective_snr: np.ndarray
    floor: np.ndarray
    binning: np.ndarray

    def arrays(self):
        """Return all of it by name, the shape's among the others."""
        return {name: value for name, value in vars(self).items() if name != 'shape'} | self.shape


def _neighbours(library, index, flux, canvas, valid, settings, rng):
    """Add neighbours that share the galaxy's PSF; mask some of them."""
    group = library.group[index]
    first = group * library.group_size
    target = canvas.copy()
    for number in range(rng.integers(1, settings.max_neighbours + 1)):
        near, far = settings.neighbour_distance
        if number == 0:
            distance = rng.uniform(near, far)
        else:
            distance = np.sqrt(rng.uniform(near**2, (1.3 * REACH) ** 2))
        angle = rng.uniform(0, 2 * np.pi)
        dx, dy = round(distance * np.cos(angle)), round(distance * np.sin(angle))
        ratio = np.exp(rng.uniform(*np.log(settings.neighbour_flux_ratio)))
        if rng.random() < settings.star_fraction:
            stamp, peak = library.stars[group], library.star_peak[group]
        else:
            other = first + rng.integers(library.group_size)
            stamp, peak = library.stamps[other], library.unit_peak[other]
        stamp = ORIENTATIONS[rng.integers(8)].apply(stamp)
        part, where = add_stamp(canvas, stamp, ratio * flux * peak, dx, dy)
        if rng.random() < settings.neighbour_mask_fraction:
            # As a detection map would: above the noise, and not the galaxy's own.
            own = target[where]
            valid[where][(part > rng.uniform(0.2, 1.0)) & (part > own)] = 0


def _defects(valid, rng):
    """Mask a few bad columns or rows, or a blob."""
    if rng.random() < 0.5:
        lines = valid if rng.random() < 0.5 else valid.T
        for _ in range(rng.integers(1, 4)):
            start = rng.integers(CANVAS_SIZE)
            lines[start : start + rng.integers(1, 3)] = 0
    else:
        y, x = rng.integers(0, CANVAS_SIZE, 2)
        rows, columns = np.ogrid[:CANVAS_SIZE, :CANVAS_SIZE]
        valid[(rows - y) ** 2 + (columns - x) ** 2 < rng.uniform(1, 15) ** 2] = 0


def _cut(valid, stamp_size, radius, settings, rng):
    """Blank what lies outside the stamp, which may be small but holds the galaxy."""
    # most fill the canvas, or nearly
    ny = nx = int(rng.integers(stamp_size - LARGE_STAMP_MARGIN, stamp_size + 1))
    if rng.random() < settings.small_stamp_fraction:
        smallest = max(settings.min_stamp_size, settings.min_stamp_radii * radius)
        low, high = np.log(min(smallest, stamp_size)), np.log(stamp_size + 1)
        ny = int(np.exp(rng.uniform(low, high)))
        square = rng.random() < 0.7
        nx = ny if square else int(np.exp(rng.uniform(low, high)))
    # An even stamp has no central pixel: the galaxy is half a pixel off.
    top, left = REACH - ny // 2, REACH - nx // 2
    inside = np.zeros_like(valid)
    inside[top : top + ny, left : left + nx] = 1
    valid *= inside


def _other_groups(fwhm, groups, rng):
    """Return for each group another one whose PSF is of nearly the same width, if there is one."""
    order = np.argsort(fwhm)
    widths = fwhm[order]
    low = np.searchsorted(widths, fwhm[groups] / OTHER_WIDTH)
    high = np.searchsorted(widths, fwhm[groups] * OTHER_WIDTH, side='right')
    return order[rng.integers(low, high)]


def _psf_as_given(library, indices, settings, rng):
    """Return width, area and mixture, some with errors, some of them withheld."""
    n = len(indices)
    groups = library.group[indices]
    kind = rng.random(n)
    exact = kind < settings.exact_psf_fraction
    other = ~exact & (kind < settings.exact_psf_fraction + settings.other_psf_fraction)
    groups = np.where(other, _other_groups(library.psf[:, 0], groups, rng), groups)
    psf = library.psf[groups].copy()
    has_error = ~exact & ~other
    psf[:, 0] *= np.exp(has_error * settings.psf_fwhm_error * rng.standard_normal(n))
    shape_error = settings.psf_shape_error * rng.standard_normal((n, psf.shape[1] - 1))
    shape_error *= has_error[:, None]
    psf[:, 1] *= np.exp(shape_error[:, 0])
    psf[:, 2:] += shape_error[:, 1:]
    psf[rng.random(n) < settings.unknown_shape_fraction, 1:] = np.nan
    psf[rng.random(n) < settings.unknown_psf_fraction] = np.nan
    return psf.astype(np.float32)


def _unknowable(image, alone, valid, flux):
    """Return the scatter of ln flux due to neighbours' light and to light that no pixel shows."""
    inside, own, both = np.empty((3, len(flux)))
    for row, (whole, galaxy, used) in enumerate(zip(image, alone, valid, strict=True)):
        seen = galaxy * used
        inside[row], own[row], both[row] = seen.sum(), np.vdot(seen, galaxy), np.vdot(seen, whole)
    lost = 1 - inside / flux
    # what a matched filter would count in of the neighbours
    overlap = (both - own) / (own + 1e-9)
    return LOST_LIGHT_FLOOR * np.maximum(lost, 0) + BLEND_FLOOR * np.sqrt(np.clip(overlap, 0, 1))


def _binning(fwhm, settings, rng):
    """Return how many of a survey's pixels, along an axis, a pixel stands for."""
    if settings.max_binning == 1:
        return np.ones(len(fwhm))
    low, high = (np.clip(width / fwhm, 2, settings.max_binning) for width in SURVEY_FWHM)
    return np.round(np.exp(rng.uniform(np.log(low), np.log(high))))


def _without_noise(library, indices, flux, settings, rng):
    """Return images, those of the galaxies alone, which pixels there are, and skies by row."""
    image = np.zeros((len(indices), CANVAS_SIZE, CANVAS_SIZE), np.float32)
    alone, valid, skies = np.zeros_like(image), np.ones_like(image), {}
    for row, index in enumerate(indices):
        dx, dy = rng.choice(SHIFTS, 2, p=SHIFT_SHARES)
        stamp = ORIENTATIONS[rng.integers(8)].apply(library.stamps[index])
        add_stamp(alone[row], stamp, flux[row] * library.unit_peak[index], dx, dy)
        image[row] = alone[row]
        if settings.sky_fraction and rng.random() < settings.sky_fraction:
            sky = skies[row] = draw_sky(library, index, alone[row], flux[row], settings.sky, rng)
            image[row] += sky.light
            valid[row][sky.mask] = 0
        elif rng.random() < settings.blend_fraction:
            _neighbours(library, index, flux[row], image[row], valid[row], settings, rng)
        if rng.random() < settings.defect_fraction:
            _defects(valid[row], rng)
        _cut(valid[row], CANVAS_SIZE, library.truth.half_light_radius[index], settings, rng)
    return image, alone, valid, skies


def _sky_left(n, settings, rng):
    """Return by how much the sky of each stamp is off."""
    is_off = rng.random(n) < settings.sky_offset_fraction
    width = np.where(is_off, settings.sky_offset, settings.sky_residual)
    return width * rng.standard_normal(n)


def draw_indices(library, n, settings, rng):
    """
    Draw ``n`` galaxies of a `~astroflux.training.library.Library`: their numbers.

    The weights are ``sersic_index_power`` and ``compact_radius`` of the settings.
    """
    single = library.truth.n_components == 1
    # The share of single components stays that of the library.
    weight = np.ones(len(library))
    weight[single] = library.truth.sersic_index[single] ** settings.sersic_index_power
    weight[single] /= weight[single].mean()
    size = library.truth.half_light_radius / library.psf[library.group, 0]
    weight *= np.minimum(1, size / settings.compact_radius)
    return rng.choice(len(library), n, p=weight / weight.sum())


def observe(library, indices, settings, rng, *, orient=Orientation.of):
    """
    Observe galaxies of a `~astroflux.training.library.Library`, by their numbers.

    Called with an image and the position of the galaxy in it, ``orient`` returns the
    `~astroflux.networks.orientation.Orientation` to see it in.
    """
    n = len(indices)
    snr = np.exp(rng.uniform(*np.log(settings.snr), n))
    flux = snr / library.unit_norm[indices]
    image, alone, valid, skies = _without_noise(library, indices, flux, settings, rng)
    floor = np.full(n, STRUCTURE_FLOOR) * (library.truth.n_components[indices] == 0)
    floor += _unknowable(image, alone, valid, flux)

    true_variance, told_variance = noise_maps(image, settings, rng)
    # torch draws normal deviates faster than numpy
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    noise = torch.randn(image.shape, generator=generator).numpy()
    for row, sky in skies.items():
        true_variance[row] /= np.float32(sky.variance_factor)
    kernels = draw_kernels(n, {row: sky.kernel for row, sky in skies.items()}, settings, rng)
    unit = correlate(noise, kernels, settings, rng)
    effective_snr = np.empty(n)
    binning = _binning(library.psf[library.group[indices], 0], settings, rng)
    level = _sky_left(n, settings, rng) * binning
    for row, sky in skies.items():
        level[row] += sky.level
    weight = np.empty_like(image)
    # one at a time, as that is faster: a stamp fits into a processor's cache
    for row in range(n):
        effective_snr[row] = np.sqrt((alone[row] ** 2 / true_variance[row]).sum())
        noise[row] *= np.sqrt(true_variance[row])
        seen = image[row] + noise[row]
        seen += np.float32(level[row])
        seen *= valid[row] / np.float32(unit[row])
        orientation = orient(seen, (REACH, REACH))
        image[row] = orientation.apply(seen)
        weight[row] = orientation.apply(valid[row] / told_variance[row])
    for row, kernel in kernels.items():
        effective_snr[row] /= kernel.sum()

    truth = {
        'ln_flux': np.log(flux / unit),
        'snr': snr,
        'effective_snr': effective_snr,
        'floor': floor,
        'binning': binning,
    }
    return Observation(
        image=image,
        weight=weight,
        psf=_psf_as_given(library, indices, settings, rng),
        shape={
            o.name: o.of_column(getattr(library.truth, o.column)[indices]).astype(np.float32)
            for o in SHAPE
        },
        **{name: value.astype(np.float32) for name, value in truth.items()},
    )
