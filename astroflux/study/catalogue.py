# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The galaxies of the study: 17 columns of truth, drawn to the description in the report."""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from astroflux.simulation.surveys import get_survey
from astroflux.study.radii import half_light_radius_in_circle

__all__ = [
    'COLUMNS',
    'COLUMN_NOTES',
    'IMAGE_SIZE',
    'MAX_FLUX',
    'MAX_TWIST',
    'MIN_FLUX',
    'RANGES',
    'StudySettings',
    'column_notes',
    'draw_catalogue',
    'image_generator',
    'image_model_truth',
]

# Side in pixels to which the loader crops; the images on disk are larger.
IMAGE_SIZE = 143

# In ADU. The report's logarithms lie between 0 and 5: no flux is below 1 ADU.
MIN_FLUX, MAX_FLUX = 1.0, 30_000.0

# Largest angle between the bulge and the disc, in degrees.
MAX_TWIST = 15.0

# Each is drawn uniformly; lengths in arcsec, angles in degrees.
RANGES = {
    'sersic_idx_d': (0.8, 1.2),
    'R_e_d': (0.1, 3.0),
    'axis_ratio_d': (0.25, 1.0),
    'PA_d': (-90.0, 90.0),
    'flux_frac_d': (0.001, 0.999),
    'sersic_idx_b': (4.0, 5.0),
    'R_e_b': (0.1, 2.0),
    'axis_ratio_b': (0.25, 1.0),
    'flux_frac_b': (0.001, 0.999),
}

# GalSim tabulates each index once and keeps a hundred tables; these are 21 and 51.
SERSIC_INDEX_STEP = 0.02

# The report prints three decimals. The images are drawn from the rounded values.
DECIMALS = 3

# Name of a column -> its unit, and what it is. The order is that of the files.
COLUMN_NOTES = {
    'img_number': ('', 'number of the image, which names its file and seeds its noise'),
    'num_components': ('', 'number of Sersic components: a disc and a bulge'),
    'sersic_idx_d': ('', 'Sersic index of the disc'),
    'R_e_d': ('arcsec', 'half-light radius of the disc, geometric mean of the semi-axes'),
    'axis_ratio_d': ('', 'minor over major axis of the disc'),
    'PA_d': ('deg', 'position angle of the major axis of the disc, from +x towards +y'),
    'flux_frac_d': ('', "the disc's part of the total flux"),
    'sersic_idx_b': ('', 'Sersic index of the bulge'),
    'R_e_b': ('arcsec', 'half-light radius of the bulge, geometric mean of the semi-axes'),
    'axis_ratio_b': ('', 'minor over major axis of the bulge'),
    'PA_b': ('deg', 'as PA_d, of the bulge; within 15 deg of it, not wrapped'),
    'flux_frac_b': ('', "the bulge's part of the total flux"),
    'total_flux': ('adu', 'flux of the whole galaxy, out to infinity'),
    'log_total_flux': ('dex(adu)', 'decimal logarithm of total_flux'),
    'file_name': ('', 'file in the folder images'),
    'R_e': ('arcsec', 'radius of the circle that holds half of the light, before the PSF'),
    'Bt': ('', 'bulge-to-total ratio of the flux; the same as flux_frac_b'),
}
COLUMNS = tuple(COLUMN_NOTES)

# Draws of the catalogue; those of image number k are of [seed, k], and never of three words.
CATALOGUE_STREAM = (0, 1)

# The centre of a galaxy is within this many pixels of the image's, per axis.
MAX_OFFSET = 0.5


@dataclass(frozen=True)
class StudySettings:
    """
    Settings of the study's data set.

    Attributes
    ----------
    n_train, n_test : int
        Number of galaxies to train and to test with.
    seed : int
        Of the catalogue, and with its number of each image.
    image_size : int
        Side of an image in pixels: odd, so that cropping keeps its centre, and
        not less than 143.
    psf_fwhm : float
        Full width at half maximum of the Kolmogorov PSF of all images, in arcsec.
    survey : str
        Where pixel scale, noise and zero point come from: a name that
        `~astroflux.simulation.get_survey` knows.
    """

    n_train: int = 30_000
    n_test: int = 10_000
    seed: int = 2024
    image_size: int = 151
    psf_fwhm: float = 0.7
    survey: str = 'hsc-wide'

    def __post_init__(self):
        for name in ('n_train', 'n_test'):
            if getattr(self, name) < 1:
                msg = f'{name} must be at least 1, got {getattr(self, name)}'
                raise ValueError(msg)
        if self.seed < 0:
            msg = f'seed must not be negative, got {self.seed}'
            raise ValueError(msg)
        if self.image_size < IMAGE_SIZE or self.image_size % 2 == 0:
            msg = f'image_size must be odd and at least {IMAGE_SIZE}, got {self.image_size}'
            raise ValueError(msg)
        if not 0 < self.psf_fwhm < math.inf:
            msg = f'psf_fwhm must be a positive number of arcsec, got {self.psf_fwhm}'
            raise ValueError(msg)

    @property
    def constants(self):
        """The `~astroflux.simulation.Survey`."""
        return get_survey(self.survey)


def draw_catalogue(settings):
    """
    Draw the galaxies of the study.

    Parameters
    ----------
    settings : `StudySettings`
        How many, and the seed.

    Returns
    -------
    table : `pandas.DataFrame`
        The columns `COLUMNS`, with the units of `COLUMN_NOTES`. The first
        ``n_train`` rows are to train with, the others to test. Image numbers
        are shuffled.

    Notes
    -----
    Radii are circularised: GalSim's shear keeps the area. The position angle
    of a bulge is not wrapped, so that the difference of the two columns is the
    angle between the components. The fluxes are spread evenly over (1, 30000]
    ADU, rounded to a thousandth.
    """
    n = settings.n_train + settings.n_test
    rng = np.random.default_rng([settings.seed, *CATALOGUE_STREAM])

    def uniform(name):
        return np.round(rng.uniform(*RANGES[name], n), DECIMALS)

    def index(name):
        low, high = RANGES[name]
        steps = round((high - low) / SERSIC_INDEX_STEP)
        return np.round(low + SERSIC_INDEX_STEP * rng.integers(0, steps + 1, n), DECIMALS)

    bulge = uniform('flux_frac_b')
    flux = MIN_FLUX + (MAX_FLUX - MIN_FLUX) * (1 - rng.random(n))
    flux = np.round(flux, DECIMALS)
    number = rng.permutation(n)
    angle = uniform('PA_d')
    columns = {
        'img_number': number,
        'num_components': np.full(n, 2),
        'sersic_idx_d': index('sersic_idx_d'),
        'R_e_d': uniform('R_e_d'),
        'axis_ratio_d': uniform('axis_ratio_d'),
        'PA_d': angle,
        'flux_frac_d': np.round(1 - bulge, DECIMALS),
        'sersic_idx_b': index('sersic_idx_b'),
        'R_e_b': uniform('R_e_b'),
        'axis_ratio_b': uniform('axis_ratio_b'),
        'PA_b': np.round(angle + rng.uniform(-MAX_TWIST, MAX_TWIST, n), DECIMALS),
        'flux_frac_b': bulge,
        'total_flux': flux,
        'log_total_flux': np.log10(flux),
        'file_name': [f'{value}.fits' for value in number],
        'Bt': bulge,
    }
    columns['R_e'] = np.round(_radius_of_galaxies(columns), 2 * DECIMALS)
    return pd.DataFrame(columns)[list(COLUMNS)]


def column_notes():
    """
    Return the columns of the study with their units and meanings.

    Returns
    -------
    notes : `pandas.DataFrame`
        ``column``, ``unit`` (empty if there is none) and ``description``.
    """
    rows = [(name, *notes) for name, notes in COLUMN_NOTES.items()]
    return pd.DataFrame(rows, columns=['column', 'unit', 'description'])


def _radius_of_galaxies(columns):
    return half_light_radius_in_circle(
        *(
            np.stack([columns[f'{name}_{part}'] for part in 'db'])
            for name in ('flux_frac', 'sersic_idx', 'R_e', 'axis_ratio')
        )
    )


def image_generator(settings, img_number):
    """
    Return the source of an image's random draws: first the centre's offset, then the noise.

    Parameters
    ----------
    settings : `StudySettings`
        Of the data set.
    img_number : int
        Of the image.

    Returns
    -------
    rng : `numpy.random.Generator`
    """
    return np.random.default_rng([settings.seed, int(img_number)])


def draw_offset(rng):
    """Draw the offset ``(x, y)`` of a galaxy's centre from that of its image, in pixels."""
    return rng.uniform(-MAX_OFFSET, MAX_OFFSET, 2)


def image_model_truth(row, settings):
    """
    Translate a row of the study's table into the truth of a simulation.

    Parameters
    ----------
    row : mapping
        A row with the columns `COLUMNS`.
    settings : `StudySettings`
        Of the data set.

    Returns
    -------
    truth : dict
        What `~astroflux.evaluation.information.ImageModel` and
        `~astroflux.simulation.scene.galaxy_profile` take, component 1 being
        the disc. The offsets, which the table does not hold, are drawn again;
        they are those of the whole image and of its middle 143 pixels alike.
    """
    x_offset, y_offset = draw_offset(image_generator(settings, row['img_number']))
    truth = {
        'n_components': int(row['num_components']),
        'bulge_to_total': float(row['Bt']),
        'flux': float(row['total_flux']),
        'x_offset': float(x_offset),
        'y_offset': float(y_offset),
        **psf_truth(settings),
    }
    for number, part in enumerate('db', start=1):
        truth[f'sersic_index_{number}'] = float(row[f'sersic_idx_{part}'])
        truth[f'half_light_radius_{number}'] = float(row[f'R_e_{part}'])
        truth[f'axis_ratio_{number}'] = float(row[f'axis_ratio_{part}'])
        truth[f'position_angle_{number}'] = float(row[f'PA_{part}'])
    return truth


def psf_truth(settings):
    """Return the round Kolmogorov PSF of a data set, as `psf_profile` wants it."""
    return {'psf_fwhm': settings.psf_fwhm, 'moffat_beta': math.nan, 'psf_g1': 0.0, 'psf_g2': 0.0}
