# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Which galaxies are put into an image: like its own, of a population, or of a table."""

import numpy as np
from astropy import units as u
from astropy.table import QTable, Table

from astroflux.flags import FATAL_FLAGS
from astroflux.simulation import GalaxyPopulation

__all__ = ['LikeDetected', 'LikeTable', 'galaxies_of']

# Of the image's own sources, those that are measured at least so well are models of others.
LEAST_SNR = 5.0
FEWEST = 5

# A source is taken for a star if it is well measured and its half-light radius is less than this
# part of the FWHM.
STAR_SNR, STAR_SIZE = 20.0, 0.2

# Galaxies are fainter than the detected ones by a random amount, in magnitudes, of this mean: the
# counts of galaxies go on below the limit of a detection.
FAINTER = 0.3

# Galaxies are at least so large, in FWHM: what is smaller looks like a star.
SMALLEST = 0.1

# How a user's table may call its columns.
_SHAPES = ('sersic_index', 'axis_ratio', 'position_angle')


class LikeDetected:
    """
    Galaxies with the brightness and size of the sources of an image.

    Fluxes and half-light radii are those of a source, drawn at random, times a random factor that
    makes their distribution smooth (a Gaussian kernel density of the logarithms). Sersic indices
    and ellipses are those of a `~astroflux.simulation.GalaxyPopulation`.

    Parameters
    ----------
    flux, half_light_radius : `~numpy.ndarray`
        Of the sources.
    smallest : float
        The smallest radius that is drawn.
    """

    def __init__(self, flux, half_light_radius, *, smallest):
        self._ln = np.log([flux, half_light_radius])
        self._smallest = smallest
        n = self._ln.shape[1]
        # Scott's rule; of some width even if all sources are alike
        self._width = n ** (-1 / 6) * np.maximum(self._ln.std(axis=1), 0.1)

    def draw(self, n, rng):
        """Return so many galaxies."""
        rows = rng.integers(self._ln.shape[1], size=n)
        ln = self._ln[:, rows] + self._width[:, None] * rng.standard_normal((2, n))
        # none is brighter or larger than any of them
        flux, radius = np.exp(np.minimum(ln, self._ln.max(axis=1, keepdims=True)))
        table = _with_radius(GalaxyPopulation().draw(n, rng), np.maximum(radius, self._smallest))
        table['flux'] = flux * 10 ** (-0.4 * rng.exponential(FAINTER, n))
        return table

    def __str__(self):
        return (
            f'like {self._ln.shape[1]} sources of the image, and {FAINTER} mag fainter in the mean'
        )


class LikeTable:
    """
    Galaxies of a table, drawn with replacement.

    Parameters
    ----------
    table : `~astropy.table.Table`
        Columns ``flux`` and ``half_light_radius``; ``sersic_index``, ``axis_ratio`` and
        ``position_angle``, if they are there.
    flux_unit, length_unit : `~astropy.units.UnitBase`
        In which fluxes and lengths are wanted; those of plain columns.
    """

    def __init__(self, table, flux_unit, length_unit, scale):
        table = QTable(table)
        for name in ('flux', 'half_light_radius'):
            if name not in table.colnames:
                msg = f'the population has no column {name!r}, only {table.colnames}'
                raise ValueError(msg)
        pixels = [] if length_unit == u.pix else u.pixel_scale(scale * length_unit / u.pix)
        self._values = {
            'flux': _plain(table, 'flux', flux_unit),
            'half_light_radius': _plain(table, 'half_light_radius', length_unit, pixels),
        }
        for name in _SHAPES:
            if name in table.colnames:
                self._values[name] = _plain(table, name, u.deg if 'angle' in name else u.one)
        good = np.all([np.isfinite(values) for values in self._values.values()], axis=0)
        good &= (self._values['flux'] > 0) & (self._values['half_light_radius'] > 0)
        if not good.any():
            msg = 'the population has no row with a positive flux and half_light_radius'
            raise ValueError(msg)
        self._values = {name: values[good] for name, values in self._values.items()}

    def draw(self, n, rng):
        """Return so many galaxies."""
        rows = rng.integers(len(self._values['flux']), size=n)
        chosen = {name: values[rows] for name, values in self._values.items()}
        kinds = GalaxyPopulation(two_component_fraction=0.0)
        table = kinds.draw(n, rng)
        for name in _SHAPES:
            if name in chosen:
                table[f'{name}_1'] = chosen[name]
        table = _with_radius(table, chosen['half_light_radius'])
        table['flux'] = chosen['flux']
        return table

    def __str__(self):
        return f'{len(self._values["flux"])} galaxies of a table, drawn with replacement'


def galaxies_of(population, measured, image, fwhm):
    """
    Return what draws galaxies: with ``draw(n, rng)``, of a table with ``flux`` or ``snr``.

    Parameters
    ----------
    population : None, `~astroflux.simulation.GalaxyPopulation` or `~astropy.table.Table`
        `None` for galaxies like the sources of the image.
    measured : `~astropy.table.QTable`
        Of these, by the network.
    image : `~astroflux.evaluation._injected_image.UserImage`
    fwhm : float
        Of the PSF, in pixels.
    """
    if isinstance(population, GalaxyPopulation):
        return population
    if population is not None:
        if not isinstance(population, Table):
            msg = (
                'population must be a GalaxyPopulation or a table with the columns flux and '
                f'half_light_radius, got {type(population).__name__}'
            )
            raise TypeError(msg)
        return LikeTable(population, image.unit, image.length_unit, image.scale)
    width = fwhm * image.scale
    flux = _plain(measured, 'flux', image.unit)
    radius = _plain(measured, 'half_light_radius', image.length_unit)
    snr = np.asarray(measured['snr'], float)
    with np.errstate(invalid='ignore'):
        good = (np.asarray(measured['flags']) & FATAL_FLAGS == 0) & (snr > LEAST_SNR)
        good &= (flux > 0) & (radius > 0)
        good &= ~((snr > STAR_SNR) & (radius < STAR_SIZE * width))
    if good.sum() < FEWEST:
        msg = (
            f'the image has {good.sum()} sources of S/N above {LEAST_SNR:g} that are no stars: too '
            'few to draw galaxies like them; name a population'
        )
        raise ValueError(msg)
    return LikeDetected(flux[good], radius[good], smallest=SMALLEST * width)


def _plain(table, name, unit, equivalencies=()):
    """Return a column as plain numbers in a unit, which is that of one without any."""
    column = table[name]
    if isinstance(column, u.Quantity):
        return np.asarray(column.to_value(unit, equivalencies), float)
    return np.asarray(column, float)


def _with_radius(table, radius):
    """Return galaxies of another half-light radius and the same shape."""
    scale = radius / np.asarray(table['half_light_radius'])
    for number in (1, 2):
        table[f'half_light_radius_{number}'] *= scale
    table['half_light_radius'] = radius
    return table
