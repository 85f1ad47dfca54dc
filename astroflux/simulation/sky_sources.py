# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The sources of a sky as a table, and their light in an image."""

from dataclasses import dataclass

import numpy as np
from astropy import units as u
from astropy.table import QTable, Table

from astroflux._optional import import_optional
from astroflux.simulation.scene import draw_source, galaxy_profile, psf_profile
from astroflux.simulation.sky import draw_saturation

__all__ = [
    'SHAPE_COLUMNS',
    'SkyLight',
    'draw_sources',
    'source_profile',
    'source_psf',
    'source_table',
]

# Where the PSF of sources ends, in FWHM: a part in 100,000 of their light is farther out.
PSF_TRUNCATION = 50.0

# GalSim's own accuracy would take most of the time for sources that nobody sees.
ACCURACY = {
    'folding_threshold': 2e-2,
    'maxk_threshold': 1e-2,
    'minimum_fft_size': 32,
    'maximum_fft_size': 16384,
}

# Of the components of a source, as in the truth of a galaxy.
SHAPE_COLUMNS = (
    *('n_components', 'bulge_to_total'),
    *('sersic_index_1', 'half_light_radius_1', 'axis_ratio_1', 'position_angle_1'),
    *('sersic_index_2', 'half_light_radius_2', 'axis_ratio_2', 'position_angle_2'),
)
UNITS = {
    **dict.fromkeys(('x', 'y'), u.pix),
    'flux': u.adu,
    **dict.fromkeys(('half_light_radius', 'half_light_radius_1', 'half_light_radius_2'), u.arcsec),
    **dict.fromkeys(('position_angle_1', 'position_angle_2'), u.deg),
}

# A mask of full pixels is grown by no more than that, in pixels.
LARGEST_GROWTH = 6


def source_table(sources, galaxies, survey, shape, rng):
    """
    Return the sources of a sky with shapes, as wide as they are.

    Parameters
    ----------
    sources : `~astroflux.simulation.SkySources`
        Fluxes in units of the noise.
    galaxies : `~astroflux.simulation.GalaxyPopulation`
        Whose shapes they have; stars have none.
    survey : `~astroflux.simulation.Survey`
        Its noise and pixel scale.
    shape : tuple of int
        ``(ny, nx)`` of the image in whose center the positions of the sources begin.
    rng : `numpy.random.Generator`
        Source of randomness.

    Returns
    -------
    table : `~astropy.table.QTable`
        In the order of the sources.
    """
    shapes = galaxies.draw(len(sources), rng)
    radius = survey.pixel_scale * sources.radius
    scale = radius / shapes['half_light_radius']
    for name in ('half_light_radius_1', 'half_light_radius_2'):
        shapes[name] *= scale
    for name in SHAPE_COLUMNS:
        shapes[name][sources.is_star] = 0 if name == 'n_components' else np.nan
    ny, nx = shape
    table = Table(
        {
            'x': sources.x + (nx - 1) / 2,
            'y': sources.y + (ny - 1) / 2,
            'flux': survey.noise * sources.flux,
            'half_light_radius': radius,
            'is_detected': sources.is_detected,
            'is_companion': sources.is_companion,
            **{name: shapes[name] for name in SHAPE_COLUMNS},
        }
    )
    for name, unit in UNITS.items():
        table[name].unit = unit
    return QTable(table)


@dataclass
class SkyLight:
    """The light of sources in an image, in units of the noise."""

    #: Of those that are detected, and of all others, 2D.
    detected: np.ndarray
    faint: np.ndarray
    #: Pixels that a star has filled, 2D.
    mask: np.ndarray
    #: Of each source, the sum of the squares of its light in the image.
    power: np.ndarray
    #: Which sources are stars that are bright enough to fill pixels.
    is_saturated: np.ndarray


def draw_sources(table, flux, reach, psf, shape, pixel_scale, *, full, peak, rng):
    """
    Draw the light of sources.

    Parameters
    ----------
    table : `~astropy.table.QTable`
        Of `source_table`.
    flux, reach : `~numpy.ndarray`
        Flux of each in units of the noise, and how far from its center it is drawn, in pixels.
    psf : `galsim.GSObject`
        From `source_psf`.
    shape : tuple of int
        ``(ny, nx)`` of the image.
    pixel_scale : float
        In arcsec per pixel.
    full, peak : float
        The flux of a star whose brightest pixel is full, and what part of its light that has.
    rng : `numpy.random.Generator`
        Source of randomness, for the trails of such stars.

    Returns
    -------
    light : `SkyLight`
    """
    galsim = import_optional('galsim', extra='simulate')
    detected, faint = np.zeros((2, *shape))
    mask = np.zeros(shape, bool)
    power, is_saturated = np.zeros(len(table)), np.zeros(len(table), bool)
    for number, row in enumerate(_plain_rows(table)):
        position = (row['x'], row['y'])
        if _is_outside(position, reach[number], shape):
            continue
        profile = flux[number] * galsim.Convolve(source_profile(row), psf)
        light, where = draw_source(profile, position, reach[number], shape, pixel_scale)
        if light is None:
            continue
        (detected if row['is_detected'] else faint)[where] += light
        power[number] = np.vdot(light, light)
        if row['n_components'] == 0 and flux[number] > full:
            is_saturated[number] = True
            columns, filled = _saturate(light, where, position, full * peak, shape, rng)
            mask[:, columns] |= filled
    return SkyLight(detected, faint, mask, power, is_saturated)


def _plain_rows(table):
    """Yield the rows of a table as dicts of plain numbers, which are looked up faster."""
    table = Table(table)
    for values in table.as_array().tolist():
        yield dict(zip(table.colnames, values, strict=True))


def _is_outside(position, reach, shape):
    """Return whether nothing can be drawn in the image, two pixels being left for rounding."""
    (x, y), (ny, nx) = position, shape
    reach = reach + 2
    return x + reach < 0 or y + reach < 0 or x - reach > nx or y - reach > ny


def _saturate(light, where, position, saturation, shape, rng):
    """Return some columns of the image, and which of their pixels a star has filled."""
    rows, columns = where
    first = max(columns.start - LARGEST_GROWTH, 0)
    near = slice(first, min(columns.stop + LARGEST_GROWTH, shape[1]))
    star = np.zeros((shape[0], near.stop - first))
    star[rows, columns.start - first : columns.stop - first] = light
    return near, draw_saturation(star, (position[0] - first, position[1]), saturation, rng)


def source_profile(row):
    """Build the source of a row of the table, of plain numbers, with unit flux."""
    galsim = import_optional('galsim', extra='simulate')
    profile = galsim.DeltaFunction() if row['n_components'] == 0 else galaxy_profile(row)
    return profile.withGSParams(**ACCURACY)


def source_psf(truth):
    """Build the PSF that sources are seen through."""
    # told once of the accuracy, so that its table is made once
    return psf_profile(truth, truncation=PSF_TRUNCATION).withGSParams(**ACCURACY)
