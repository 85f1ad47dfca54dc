# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Draw galaxies through a point-spread function, with GalSim."""

import math

import numpy as np

from astroflux._optional import import_optional

__all__ = [
    'draw_galaxy',
    'draw_psf',
    'draw_source',
    'galaxy_component',
    'galaxy_profile',
    'psf_profile',
]


def galaxy_profile(truth):
    """
    Build the galaxy of one row of truth, with unit flux.

    Parameters
    ----------
    truth : mapping
        A row of `~astroflux.simulation.GalaxyPopulation.draw`.

    Returns
    -------
    profile : `galsim.GSObject`
        Untruncated, centred, flux 1; lengths in arcsec.
    """
    if truth['n_components'] == 1:
        return galaxy_component(truth, 1)
    fraction = float(truth['bulge_to_total'])
    return (1 - fraction) * galaxy_component(truth, 1) + fraction * galaxy_component(truth, 2)


def galaxy_component(truth, number):
    """Build one component, 1 or 2, of the galaxy of one row of truth, as `galaxy_profile` does."""
    galsim = import_optional('galsim', extra='simulate')
    return galsim.Sersic(
        n=float(truth[f'sersic_index_{number}']),
        half_light_radius=float(truth[f'half_light_radius_{number}']),
    ).shear(
        q=float(truth[f'axis_ratio_{number}']),
        beta=float(truth[f'position_angle_{number}']) * galsim.degrees,
    )


def psf_profile(truth, *, truncation=0.0):
    """
    Build the point-spread function of one row of truth, with unit flux.

    Parameters
    ----------
    truth : mapping
        A row of `~astroflux.simulation.PSFPopulation.draw`.
    truncation : float, optional
        Where a Moffat profile ends, in FWHM; by default nowhere. One that ends far out is all but
        the same, and drawn many times faster, as GalSim tabulates its transform.

    Returns
    -------
    profile : `galsim.GSObject`
        Lengths in arcsec; the pixel is not included.
    """
    galsim = import_optional('galsim', extra='simulate')
    fwhm = float(truth['psf_fwhm'])
    if math.isnan(truth['moffat_beta']):
        profile = galsim.Kolmogorov(fwhm=fwhm)
    else:
        profile = galsim.Moffat(
            beta=float(truth['moffat_beta']), fwhm=fwhm, trunc=truncation * fwhm
        )
    return profile.shear(g1=float(truth['psf_g1']), g2=float(truth['psf_g2']))


def draw_galaxy(profile, psf, shape, pixel_scale, *, offset=(0.0, 0.0), accuracy=None):
    """
    Draw a profile through the PSF and the pixel, without noise.

    Parameters
    ----------
    profile, psf : `galsim.GSObject`
        Galaxy and point-spread function, lengths in arcsec.
    shape : tuple of int
        ``(ny, nx)`` of the image.
    pixel_scale : float
        In arcsec per pixel.
    offset : tuple of float
        ``(x, y)`` of the profile's centre from the image's, in pixels.
    accuracy : mapping, optional
        Parameters of ``galsim.GSParams`` that are not to be GalSim's own.

    Returns
    -------
    image : 2D `~numpy.ndarray` of float32
        Its sum is below the profile's flux by what falls outside.
    """
    galsim = import_optional('galsim', extra='simulate')
    ny, nx = shape
    seen = galsim.Convolve(profile, psf)
    if accuracy:
        seen = seen.withGSParams(**accuracy)
    image = seen.drawImage(nx=nx, ny=ny, scale=pixel_scale, offset=offset, dtype=np.float32)
    return image.array


def draw_source(profile, position, reach, shape, pixel_scale, *, method='auto'):
    """
    Draw a profile at a position in an image, or outside, no farther than it reaches.

    Parameters
    ----------
    profile : `galsim.GSObject`
        As the telescope sees it, lengths in arcsec.
    position : tuple of float
        ``(x, y)`` in pixels; (0, 0) is the center of the first pixel.
    reach : float
        Half of the side of the square that it is drawn on, in pixels.
    shape : tuple of int
        ``(ny, nx)`` of the image.
    pixel_scale : float
        In arcsec per pixel.
    method : str
        GalSim's way to draw: ``'no_pixel'`` for a profile that has been seen through the pixel.

    Returns
    -------
    light : 2D `~numpy.ndarray` or None
        `None` if the square lies outside the image.
    where : tuple of slice or None
        The part of the image that it is the light of.
    """
    galsim = import_optional('galsim', extra='simulate')
    (x, y), half = np.round(position).astype(int), int(reach)
    ny, nx = shape
    square = galsim.BoundsI(int(x) - half, int(x) + half, int(y) - half, int(y) + half)
    square &= galsim.BoundsI(0, nx - 1, 0, ny - 1)
    if not square.isDefined():
        return None, None
    center = galsim.PositionD(*position)
    image = profile.drawImage(
        bounds=square, scale=pixel_scale, center=center, method=method, dtype=float
    )
    where = (slice(square.ymin, square.ymax + 1), slice(square.xmin, square.xmax + 1))
    return image.array, where


def draw_psf(psf, pixel_scale, *, size=43):
    """
    Draw the effective PSF (pixel included), normalised to a sum of one.

    Parameters
    ----------
    psf : `galsim.GSObject`
        Point-spread function, lengths in arcsec.
    pixel_scale : float
        In arcsec per pixel.
    size : int
        Width of the square image in pixels.

    Returns
    -------
    image : 2D `~numpy.ndarray` of float32
    """
    image = psf.drawImage(nx=size, ny=size, scale=pixel_scale, dtype=np.float32).array
    return image / image.sum()
