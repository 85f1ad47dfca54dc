# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The galaxies that faults are done to: rendered once and kept, with all that a fault needs."""

import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.nddata import CCDData, StdDevUncertainty

from astroflux._progress import progress_bar
from astroflux.simulation import (
    GalaxyPopulation,
    PSFPopulation,
    draw_galaxy,
    draw_psf,
    galaxy_profile,
    get_survey,
    psf_profile,
)
from astroflux.simulation.scene import draw_source

__all__ = ['CANVAS', 'NOISE', 'SIDE', 'SMALL', 'Galaxy', 'Stamp', 'read_galaxies']

SEED = 61811
SURVEY = get_survey()
NOISE, SCALE = SURVEY.noise, SURVEY.pixel_scale

# Pixels a side of a stamp, of what is drawn around it, and of the stamp of a large galaxy.
SIDE, CANVAS, SMALL = 143, 263, 41


def _of_radius(pixels):
    """Return galaxies of one component and one half-light radius."""
    radius = pixels * SCALE
    return GalaxyPopulation(
        half_light_radius=(radius, radius), sersic_index=(1.0, 4.0), two_component_fraction=0.0
    )


GALAXIES = GalaxyPopulation(snr=(30.0, 300.0), half_light_radius=(0.2, 1.2))
# One that fills its stamp, and one that is larger than its small one.
WIDE, LARGE = _of_radius(14), _of_radius(18)
# Distances of a second galaxy, in FWHM of the PSF, by the names of what is drawn.
DOUBLES = {'twin at half': 0.5, 'twin at one': 1.0, 'twin at two': 2.0}
NEIGHBOR_DISTANCE = 5.0
# PSFs that are given: a factor on the true width, the pixels a side, and their size.
PSFS = {
    'psf': (1.0, 43, 1.0),
    'broad psf': (1.2, 43, 1.0),
    'narrow psf': (0.8, 43, 1.0),
    'oversampled psf': (1.0, 85, 0.5),
}


@dataclass
class Stamp:
    """
    A cutout as a user has it, before it is handed to the package.

    Attributes
    ----------
    data, noise : 2D `~numpy.ndarray`
        Pixels and their stated noise.
    psf : 2D `~numpy.ndarray`
        The PSF as it is given.
    truth : float
        The flux that is asked for; NaN if there is no source.
    mask : 2D `~numpy.ndarray` of bool or None
    position : tuple of float or None
        ``(x, y)``, if it is given.
    """

    data: np.ndarray
    noise: np.ndarray
    psf: np.ndarray
    truth: float
    mask: np.ndarray | None = None
    position: tuple[float, float] | None = None

    @property
    def ccd(self):
        """The same as the package takes it."""
        return CCDData(
            self.data.astype(np.float32),
            unit='adu',
            mask=self.mask,
            uncertainty=StdDevUncertainty(self.noise.astype(np.float32)),
            psf=self.psf,
        )


@dataclass(frozen=True, eq=False)
class Galaxy:
    """
    A galaxy, drawn in all the ways that faults ask for.

    Attributes
    ----------
    number : int
        Which one; it seeds the noise and the faults.
    fwhm, x, y : float
        The width of the PSF in pixels, and the place of the galaxy from the middle of the stamp.
    drawn : dict of str to `~numpy.ndarray`
        The galaxy, a wide and a large one on their canvas, a star and other galaxies on stamps,
        PSFs, and the fluxes of the sources.
    """

    number: int
    fwhm: float
    x: float
    y: float
    drawn: dict

    @property
    def white(self):
        """Gaussian noise of unit variance, as large as the canvas."""
        rng = np.random.default_rng([SEED, self.number, 0])
        return rng.standard_normal((CANVAS, CANVAS))

    @property
    def rng(self):
        """Randomness for a fault, the same for all."""
        return np.random.default_rng([SEED, self.number, 1])

    def stamp(self, source='galaxy', *, side=SIDE, shift=0):
        """
        Return a stamp without a fault.

        Parameters
        ----------
        source : str, optional
            What to show, of ``drawn``.
        side : int, optional
            Its pixels a side.
        shift : int, optional
            By how many pixels the source is left of the middle, if it is on a canvas.
        """
        light = self.drawn[source]
        if light.shape[0] == CANVAS:
            light = light[_middle(side), _middle(side, shift)]
        data = light + NOISE * self.white[_middle(side), _middle(side, shift)]
        truth = float(self.drawn[f'flux of {source}'])
        return Stamp(data, np.full(data.shape, NOISE), self.drawn['psf'], truth)

    def at(self, dx=0.0, dy=0.0):
        """Return the column and the row of the pixel so far from the galaxy's center."""
        middle = (SIDE - 1) / 2
        return round(middle + self.x + dx), round(middle + self.y + dy)

    def from_center(self):
        """Return the distances of a stamp's pixels from the galaxy's center along x and y."""
        y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
        return x - self.x, y - self.y


def _middle(side, shift=0):
    first = (CANVAS - side) // 2 + shift
    return slice(first, first + side)


def _draw(number):
    """Draw one galaxy in all ways, and return what a `Galaxy` has."""
    rng = np.random.default_rng([SEED, number])
    psf_truth = dict(PSFPopulation(fwhm=SURVEY.psf_fwhm).draw(1, rng)[0])
    own, other, large = (
        dict(population.draw(1, rng)[0]) for population in (GALAXIES, GALAXIES, LARGE)
    )
    angle = rng.uniform(0, 2 * np.pi)
    wide = dict(WIDE.draw(1, rng)[0])
    psf = psf_profile(psf_truth)
    fwhm = psf_truth['psf_fwhm'] / SCALE
    place = own['x_offset'], own['y_offset']

    def beside(distance):
        return tuple(place + distance * fwhm * np.array([np.cos(angle), np.sin(angle)]))

    def draw(truth, side, offset=place):
        return draw_galaxy(galaxy_profile(truth), psf, (side, side), SCALE, offset=offset)

    # no farther than the stamp reaches
    middle = (SIDE - 1) / 2 + np.array(place)
    star, _ = draw_source(psf, middle, SIDE, (SIDE, SIDE), SCALE)
    units = {
        'galaxy': draw(own, CANVAS),
        'wide': draw(wide, CANVAS),
        'large': draw(large, CANVAS),
        'star': star,
    }
    # all of the S/N of the galaxy
    fluxes = {
        name: own['snr'] * NOISE / np.sqrt(np.square(unit, dtype=float).sum())
        for name, unit in units.items()
    }
    flux = fluxes['galaxy']
    images = {
        **{name: fluxes[name] * unit for name, unit in units.items()},
        'neighbor': 10 * flux * draw(other, SIDE, beside(NEIGHBOR_DISTANCE)),
        **{name: flux * draw(own, SIDE, beside(distance)) for name, distance in DOUBLES.items()},
        **{name: _draw_psf(psf_truth, *how) for name, how in PSFS.items()},
    }
    numbers = {'fwhm': fwhm, 'x': place[0], 'y': place[1]}
    numbers |= {f'flux of {name}': flux for name, flux in fluxes.items()}
    return numbers | {name: image.astype(np.float32) for name, image in images.items()}


def _draw_psf(truth, widening, size, step):
    truth = {**truth, 'psf_fwhm': widening * truth['psf_fwhm']}
    return draw_psf(psf_profile(truth), step * SCALE, size=size)


def read_galaxies(n, folder):
    """
    Return galaxies, which are drawn if the folder does not hold them.

    Parameters
    ----------
    n : int
        How many.
    folder : `~pathlib.Path`
        Where they are kept.

    Returns
    -------
    galaxies : list of `Galaxy`
    """
    # drawn anew if this module has changed
    version = zlib.crc32(Path(__file__).read_bytes())
    path = folder / f'galaxies-{n}-{version:08x}.npz'
    if not path.exists():
        rows = [_draw(number) for number in progress_bar(range(n), desc='drawing')]
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(path, **{name: np.stack([row[name] for row in rows]) for name in rows[0]})
    with np.load(path) as file:
        columns = dict(file)
    own = {name: columns.pop(name) for name in ('fwhm', 'x', 'y')}
    return [
        Galaxy(
            number,
            **{name: float(values[number]) for name, values in own.items()},
            drawn={name: images[number] for name, images in columns.items()},
        )
        for number in range(n)
    ]
