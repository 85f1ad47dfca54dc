# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""One image of the study: its pixels, its FITS header, and its middle."""

import numpy as np
from astropy.io import fits

from astroflux.simulation.scene import draw_galaxy, galaxy_profile, psf_profile
from astroflux.study.catalogue import IMAGE_SIZE, draw_offset, image_generator, image_model_truth

__all__ = ['crop_centre', 'draw_image', 'image_header']

# Light beyond the plane that GalSim transforms is folded back into it. With a plane of at least
# this many pixels, that changes the chi square of the brightest galaxies by less than 0.5; with
# GalSim's own smallest one by up to 17. It takes no longer.
ACCURACY = {'minimum_fft_size': 512}


def draw_image(row, settings):
    """
    Draw the image of one galaxy, with noise.

    Parameters
    ----------
    row : mapping
        A row of the catalogue.
    settings : `StudySettings`
        Of the data set.

    Returns
    -------
    image : 2D `~numpy.ndarray` of float32
        In ADU.
    """
    survey = settings.constants
    truth = image_model_truth(row, settings)
    shape = (settings.image_size, settings.image_size)
    rng = image_generator(settings, row['img_number'])
    image = draw_galaxy(
        galaxy_profile(truth) * truth['flux'],
        psf_profile(truth),
        shape,
        survey.pixel_scale,
        offset=tuple(draw_offset(rng)),
        accuracy=ACCURACY,
    )
    return (image + survey.noise * rng.standard_normal(shape)).astype(np.float32)


def image_header(row, settings):
    """Return the FITS header of the image of one galaxy."""
    survey, size = settings.constants, settings.image_size
    scale = survey.pixel_scale / 3600
    centre = (size + 1) / 2
    return fits.Header(
        [
            ('SIMPLE', True, 'conforms to FITS standard'),
            ('BITPIX', -32, 'array data type'),
            ('NAXIS', 2, 'number of array dimensions'),
            ('NAXIS1', size),
            ('NAXIS2', size),
            ('BUNIT', 'adu'),
            ('IMGNUM', int(row['img_number']), 'number of the image'),
            ('TOTFLUX', float(row['total_flux']), '[adu] true total flux of the galaxy'),
            ('SEED', settings.seed, 'seed of the data set'),
            ('NOISE', survey.noise, '[adu] standard deviation per pixel'),
            ('ZEROPT', survey.zeropoint, '[mag] AB magnitude of 1 adu'),
            ('FLUXMAG0', 10 ** (0.4 * survey.zeropoint), '[adu] flux of AB magnitude 0'),
            ('PSFFWHM', settings.psf_fwhm, '[arcsec] Kolmogorov PSF'),
            ('SURVEY', settings.survey),
            ('CTYPE1', 'RA---TAN'),
            ('CTYPE2', 'DEC--TAN'),
            ('CUNIT1', 'deg'),
            ('CUNIT2', 'deg'),
            ('CRPIX1', centre),
            ('CRPIX2', centre),
            ('CRVAL1', 150.0),
            ('CRVAL2', 2.0),
            ('CDELT1', -scale),
            ('CDELT2', scale),
        ]
    )


def crop_centre(image):
    """
    Return the middle 143 x 143 pixels of an image.

    Parameters
    ----------
    image : 2D `~numpy.ndarray`
        Both sides odd, so that there is a pixel in the middle.

    Returns
    -------
    image : 2D `~numpy.ndarray`
        A view.

    Raises
    ------
    ValueError
        If the image is not 2-d, is too small, or has pixels that are not finite.
    """
    if image is None or image.ndim != 2:
        msg = f'want a 2-d image, got the shape {None if image is None else image.shape}'
        raise ValueError(msg)
    if min(image.shape) < IMAGE_SIZE:
        msg = f'want at least {IMAGE_SIZE} x {IMAGE_SIZE} pixels, got the shape {image.shape}'
        raise ValueError(msg)
    top, left = ((side - IMAGE_SIZE) // 2 for side in image.shape)
    image = image[top : top + IMAGE_SIZE, left : left + IMAGE_SIZE]
    if not np.isfinite(image).all():
        msg = 'the image has pixels that are not finite'
        raise ValueError(msg)
    return image
