# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""New observations of a library's noiseless stamps: neighbours, masks, noise."""

from dataclasses import dataclass

import numpy as np
import torch

from astroflux.networks.foveated import SCATTER_FLOOR
from astroflux.networks.foveation import CANVAS_SIZE, REACH

__all__ = ['Observation', 'ObservationSettings', 'draw_indices', 'observe']

# Scatter of ln flux, beyond that of any galaxy, that no method gets below: of a
# blend, and per fraction of the light that no pixel shows. They only weigh the
# cases of the training against each other.
BLEND_FLOOR = 0.03
LOST_LIGHT_FLOOR = 0.1


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
    neighbour_mask_fraction : float
        Share of the neighbours that come masked.
    defect_fraction : float
        Share of stamps with bad columns or masked blobs.
    unknown_psf_fraction : float
        Share of stamps whose PSF width is withheld.
    unknown_area_fraction : float
        Share, of the rest, with nothing known but the width.
    psf_fwhm_error, psf_area_error : float
        Relative errors of the PSF width and noise-equivalent area given.
    sky_residual : float
        Standard deviation of the sky left in a stamp.
    small_stamp_fraction : float
        Share of stamps cut to a random size and shape.
    min_stamp_size : int
        Smallest side of those, in pixels.
    min_stamp_radii : float
        And in half-light radii of the galaxy.
    """

    sersic_index_power: float = -1.0
    snr: tuple[float, float] = (3.0, 7000.0)
    blend_fraction: float = 0.35
    max_neighbours: int = 3
    neighbour_flux_ratio: tuple[float, float] = (0.05, 3.0)
    neighbour_distance: tuple[float, float] = (6.0, 27.0)
    star_fraction: float = 0.15
    neighbour_mask_fraction: float = 0.4
    defect_fraction: float = 0.1
    unknown_psf_fraction: float = 0.15
    unknown_area_fraction: float = 0.25
    psf_fwhm_error: float = 0.01
    psf_area_error: float = 0.02
    sky_residual: float = 0.02
    small_stamp_fraction: float = 0.2
    min_stamp_size: int = 32
    min_stamp_radii: float = 6.0


@dataclass
class Observation:
    """
    A batch as the network takes it, with its truth.

    Attributes
    ----------
    image, valid : `~numpy.ndarray`
        ``(n, 147, 147)`` float32.
    psf : `~numpy.ndarray`
        ``(n, 2)`` float32: width in pixels and noise-equivalent area in
        square pixels, NaN where unknown.
    ln_flux, ln_radius, snr : `~numpy.ndarray`
        ``(n,)`` float32; the flux in units of the noise, lengths in pixels.
    floor : `~numpy.ndarray`
        ``(n,)`` float32, the scatter of ln flux that is not to be had at any
        S/N, for the loss.
    """

    image: np.ndarray
    valid: np.ndarray
    psf: np.ndarray
    ln_flux: np.ndarray
    ln_radius: np.ndarray
    snr: np.ndarray
    floor: np.ndarray


def _turn(stamp, number):
    """Return one of the eight flips and quarter turns of a stamp."""
    stamp = np.rot90(stamp, number % 4)
    return stamp.T if number >= 4 else stamp


def _add(canvas, stamp, scale, dx, dy):
    """Add a stamp to a canvas, its centre moved by whole pixels."""
    half = stamp.shape[0] // 2
    top, left = REACH - half + dy, REACH - half + dx
    y0, x0 = max(top, 0), max(left, 0)
    y1 = min(top + stamp.shape[0], CANVAS_SIZE)
    x1 = min(left + stamp.shape[1], CANVAS_SIZE)
    part = stamp[y0 - top : y1 - top, x0 - left : x1 - left].astype(np.float32)
    part *= np.float32(scale)
    canvas[y0:y1, x0:x1] += part
    return part, (slice(y0, y1), slice(x0, x1))


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
        stamp = _turn(stamp, rng.integers(8))
        part, where = _add(canvas, stamp, ratio * flux * peak, dx, dy)
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
    ny = nx = stamp_size
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


def _psf_as_given(library, indices, settings, rng):
    """Return width and area with errors, some of them withheld."""
    n = len(indices)
    truth = np.stack([library.psf_fwhm[indices], library.psf_area[indices]], axis=1)
    errors = np.array([settings.psf_fwhm_error, settings.psf_area_error])
    psf = truth * (1 + errors * rng.standard_normal((n, 2)))
    psf[rng.random(n) < settings.unknown_area_fraction, 1] = np.nan
    psf[rng.random(n) < settings.unknown_psf_fraction] = np.nan
    return psf.astype(np.float32)


def draw_indices(library, n, settings, rng):
    """
    Draw galaxies of a library, with the weights of the settings.

    Parameters
    ----------
    library : `~astroflux.training.library.Library`
        Noiseless stamps.
    n : int
        How many.
    settings : `ObservationSettings`
        Of which ``sersic_index_power`` counts.
    rng : `numpy.random.Generator`
        Source of randomness.

    Returns
    -------
    indices : `~numpy.ndarray`
        ``(n,)`` integers.
    """
    single = library.bulge_to_total == 0
    weight = library.sersic_index**settings.sersic_index_power
    # The share of single components stays that of the library.
    weight = np.where(single, weight / weight[single].mean(), 1.0)
    return rng.choice(len(library), n, p=weight / weight.sum())


def observe(library, indices, settings, rng):
    """
    Observe galaxies of a library.

    Parameters
    ----------
    library : `~astroflux.training.library.Library`
        Noiseless stamps.
    indices : sequence of int
        Which galaxies.
    settings : `ObservationSettings`
        How.
    rng : `numpy.random.Generator`
        Source of randomness.

    Returns
    -------
    observation : `Observation`
    """
    n = len(indices)
    snr = np.exp(rng.uniform(*np.log(settings.snr), n))
    flux = snr / library.unit_norm[indices]
    image = np.zeros((n, CANVAS_SIZE, CANVAS_SIZE), np.float32)
    valid = np.ones_like(image)
    floor = np.empty(n, np.float32)
    for row, index in enumerate(indices):
        # Mostly centred; now and then a pixel off, as catalogue positions are.
        dx, dy = rng.integers(-1, 2, 2) if rng.random() < 0.3 else (0, 0)
        stamp = _turn(library.stamps[index], rng.integers(8))
        _add(image[row], stamp, flux[row] * library.unit_peak[index], dx, dy)
        alone = image[row]
        is_blend = rng.random() < settings.blend_fraction
        if is_blend:
            alone = alone.copy()
            _neighbours(library, index, flux[row], image[row], valid[row], settings, rng)
        if rng.random() < settings.defect_fraction:
            _defects(valid[row], rng)
        _cut(valid[row], stamp.shape[0], library.half_light_radius[index], settings, rng)
        lost = 1 - np.vdot(alone, valid[row]) / flux[row]
        floor[row] = SCATTER_FLOOR + BLEND_FLOOR * is_blend + LOST_LIGHT_FLOOR * max(lost, 0)
    # torch draws normal deviates faster than numpy
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    image += torch.randn(image.shape, generator=generator).numpy()
    image += (settings.sky_residual * rng.standard_normal((n, 1, 1))).astype(np.float32)
    image *= valid

    return Observation(
        image=image,
        valid=valid,
        psf=_psf_as_given(library, indices, settings, rng),
        ln_flux=np.log(flux).astype(np.float32),
        ln_radius=np.log(library.half_light_radius[indices]).astype(np.float32),
        snr=snr.astype(np.float32),
        floor=floor,
    )
