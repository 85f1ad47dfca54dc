# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The galaxies of the study: 17 columns of truth, drawn to the description in the report."""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats
from scipy.special import gammainc, gammaincinv

from astroflux.simulation.surveys import get_survey
from astroflux.study import published

__all__ = ['COLUMNS', 'StudySettings', 'draw_catalogue']

# In ADU. The report's logarithms lie between 0 and 5: no flux is below 1 ADU.
MIN_FLUX, MAX_FLUX = 1.0, 30_000.0

# Largest angle between the bulge and the disc, in degrees.
MAX_TWIST = 15.0
TWIST = 'PA_b - PA_d'

# Read off the rows that the report shows. Each is drawn uniformly; lengths in arcsec, angles in
# degrees. Flux fractions stop short of 0 and 1, so that there are always two components.
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

# What a flux may be predicted from.
FEATURES = [name for name in COLUMNS if name not in ('total_flux', 'log_total_flux', 'file_name')]

# Of a Kolmogorov-Smirnov test: by chance, one of the eight fails in a thousand tables.
SMALLEST_P = 1e-4

# Of log10 of a flux that is spread evenly from zero: minus ln(flux / maximum) is exponential.
FLAT_LOG_VARIANCE = 1 / math.log(10) ** 2

# That of log10 of an even flux is -2; few galaxies scatter widely.
LARGEST_SKEWNESS = -0.5

# Tables hold three decimals of most columns.
ROUNDING = 1e-8


@dataclass(frozen=True)
class StudySettings:
    """Settings of the study's data set: how many galaxies to train and to test with, and what."""

    n_train: int = 30_000
    n_test: int = 10_000
    #: Of the catalogue, and with its number of each image.
    seed: int = 2024
    #: Side of an image in pixels: odd, so that cropping keeps its centre; at least 143.
    image_size: int = 151
    #: Full width at half maximum of the Kolmogorov PSF of all images, in arcsec.
    psf_fwhm: float = 0.7
    #: Where pixel scale, noise and zero point come from, see `~astroflux.simulation.get_survey`.
    survey: str = 'hsc-wide'

    @property
    def constants(self):
        """The `~astroflux.simulation.Survey`."""
        return get_survey(self.survey)

    @property
    def psf_truth(self):
        """The round Kolmogorov PSF of all images, as a simulation's truth has it."""
        return {'psf_fwhm': self.psf_fwhm, 'moffat_beta': math.nan, 'psf_g1': 0.0, 'psf_g2': 0.0}


def draw_catalogue(settings):
    """
    Draw the galaxies of the study: a `~pandas.DataFrame` with the columns `COLUMNS`.

    The first ``n_train`` rows are to train with, the others to test. Image numbers are shuffled.
    Fluxes are spread evenly over (1, 30000] ADU.
    """
    n = settings.n_train + settings.n_test
    # of three words: those of image number k are of [seed, k]
    rng = np.random.default_rng([settings.seed, 0, 1])

    def uniform(name):
        return np.round(rng.uniform(*RANGES[name], n), DECIMALS)

    def index(name):
        low, high = RANGES[name]
        steps = round((high - low) / SERSIC_INDEX_STEP)
        return np.round(low + SERSIC_INDEX_STEP * rng.integers(0, steps + 1, n), DECIMALS)

    bulge = uniform('flux_frac_b')
    flux = np.round(MIN_FLUX + (MAX_FLUX - MIN_FLUX) * (1 - rng.random(n)), DECIMALS)
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
    names = ('flux_frac', 'sersic_idx', 'R_e', 'axis_ratio')
    parts = [np.array([columns[f'{name}_d'], columns[f'{name}_b']]) for name in names]
    radius = half_light_radius_in_circle(*parts)
    columns['R_e'] = np.round(radius, 2 * DECIMALS)
    return pd.DataFrame(columns)[list(COLUMNS)]


def half_light_radius_in_circle(fraction, sersic_index, half_light_radius, axis_ratio):
    r"""
    Return the radius of the circle that holds half of the light of concentric elliptical profiles.

    In the direction :math:`\phi` from the major axis, an ellipse of the axis ratio q that has the
    area of the unit circle is reached at :math:`1 / g`, with
    :math:`g^2 = q \cos^2\phi + \sin^2\phi / q`. A circle of radius r then holds the mean over all
    directions of :math:`P(r g) / g^2`, where P is the enclosed flux of the round profile (Graham &
    Driver 2005, PASA 22, 118, equation 2). Position angles do not matter. All arguments are
    ``(n_components, n_galaxies)``; radii are geometric means of the semi-axes.
    """
    # so many angles, and halvings below, are far beyond the decimals kept
    phi = (np.arange(16) + 0.5) / 16 * np.pi / 2
    ratio, index = axis_ratio[..., None], sersic_index[..., None]
    stretch = np.sqrt(ratio * np.cos(phi) ** 2 + np.sin(phi) ** 2 / ratio)
    relative = stretch / half_light_radius[..., None]
    b_n = gammaincinv(2 * index, 0.5)

    def enclosed(radius):
        within = gammainc(2 * index, b_n * (radius[:, None] * relative) ** (1 / index))
        return (fraction * (within / stretch**2).mean(-1)).sum(0)

    # a circle through the ends of the longest axis holds more than half, and so on
    widest = np.sqrt(axis_ratio.min(0))
    low = np.log(half_light_radius.min(0) * widest)
    high = np.log(half_light_radius.max(0) / widest)
    for _ in range(30):
        middle = (low + high) / 2
        too_small = enclosed(np.exp(middle)) < 0.5
        low, high = np.where(too_small, middle, low), np.where(too_small, high, middle)
    return np.exp((low + high) / 2)


def published_radii():
    """Return R_e of the galaxies that the report prints, and by three readings of its radii."""
    values = np.array(published.GALAXIES).T
    index, radius, ratio, fraction = (values[[k, k + 4]] for k in range(4))
    readings = {
        'circle, geometric means': (radius, ratio),
        'circle, major semi-axes': (radius * np.sqrt(ratio), ratio),
        'round components': (radius, np.ones_like(ratio)),
    }
    radii = {k: half_light_radius_in_circle(fraction, index, *v) for k, v in readings.items()}
    return pd.DataFrame({'published': values[-1], **radii})


def image_generator(settings, img_number):
    """Return the source of an image's random draws: the centre's offset, then the noise."""
    return np.random.default_rng([settings.seed, int(img_number)])


def image_model_truth(row, settings, rng=None):
    """Translate a row of the table into the truth of a simulation, component 1 being the disc."""
    # the centre's offset in pixels, which the table does not hold, is drawn again
    rng = rng or image_generator(settings, row['img_number'])
    x_offset, y_offset = rng.uniform(-0.5, 0.5, 2)
    truth = {
        'n_components': int(row['num_components']),
        'bulge_to_total': float(row['Bt']),
        'flux': float(row['total_flux']),
        'x_offset': float(x_offset),
        'y_offset': float(y_offset),
        **settings.psf_truth,
    }
    for number, part in enumerate('db', start=1):
        truth[f'sersic_index_{number}'] = float(row[f'sersic_idx_{part}'])
        truth[f'half_light_radius_{number}'] = float(row[f'R_e_{part}'])
        truth[f'axis_ratio_{number}'] = float(row[f'axis_ratio_{part}'])
        truth[f'position_angle_{number}'] = float(row[f'PA_{part}'])
    return truth


def column_notes():
    """Return a table of the columns, their units (empty if there is none) and meanings."""
    rows = [(name, *notes) for name, notes in COLUMN_NOTES.items()]
    return pd.DataFrame(rows, columns=['column', 'unit', 'description'])


def read_table(path, n_rows):
    """Read a CSV file with the columns `COLUMNS` in any order, and a row for each galaxy."""
    table = pd.read_csv(path)
    if other := set(COLUMNS).symmetric_difference(table.columns):
        msg = f'{path} has columns that are missing or unknown: {", ".join(sorted(other))}'
        raise ValueError(msg)
    if table['img_number'].nunique() != n_rows or len(table) != n_rows:
        msg = f'{path} must have {n_rows} rows, each with an img_number of its own'
        raise ValueError(msg)
    return table[list(COLUMNS)]


def check_table(table):
    """Hold the columns of a table to the report's description; return a dict for each check."""
    table = table.assign(**{TWIST: table['PA_b'] - table['PA_d']})
    keys = ('name', 'wanted', 'found', 'passed')
    checks = (*_check_columns(table), *_check_spread(table), *_check_flux(table))
    return [dict(zip(keys, check, strict=True)) for check in checks]


def correlation(one, other):
    """Return Pearson's correlation coefficient of two columns."""
    return float(np.corrcoef(one, other)[0, 1])


def _check_columns(table):
    """Check the values of single galaxies."""
    n_columns, named = table.shape[1] - 1, [f'{number}.fits' for number in table['img_number']]
    yield 'number of columns', f'{len(COLUMNS)}', n_columns, n_columns == len(COLUMNS)
    yield _none('image numbers that are there twice', table['img_number'].duplicated())
    yield _none('files not named by their number', table['file_name'] != named)
    yield _none('galaxies without two components', table['num_components'] != 2)
    for name, (low, high) in {**RANGES, 'total_flux': (MIN_FLUX, MAX_FLUX)}.items():
        found = [float(table[name].min()), float(table[name].max())]
        inside = low - ROUNDING <= found[0] and found[1] <= high + ROUNDING
        yield f'range of {name}', f'{low:g} to {high:g}', found, inside
    name, wanted = 'largest angle between the bulge and the disc', f'at most {MAX_TWIST:g} deg'
    yield _smallest(name, table[TWIST], MAX_TWIST + ROUNDING, wanted)
    # the circle may be larger than both ellipses, not than their longest axes
    widest = np.sqrt(table[['axis_ratio_d', 'axis_ratio_b']].min(axis=1))
    radii = table[['R_e_d', 'R_e_b']]
    low, high = radii.min(axis=1) * widest - 1e-6, radii.max(axis=1) / widest + 1e-6
    yield _none('R_e not between the axes of the components', ~table['R_e'].between(low, high))
    total = table['flux_frac_d'] + table['flux_frac_b'] - 1
    yield _smallest('flux fractions: largest difference of the sum from 1', total, ROUNDING)
    same = table['Bt'] - table['flux_frac_b']
    yield _smallest('Bt: largest difference from flux_frac_b', same, ROUNDING)
    log = np.log10(table['total_flux']) - table['log_total_flux']
    name = 'log_total_flux: largest difference from log10(total_flux)'
    # the report prints six decimals
    yield _smallest(name, log, 1e-6)


def _check_spread(table):
    """Test that values are spread evenly; an index is one of few, so its mean has to do."""
    ranges = {'total_flux': (MIN_FLUX, MAX_FLUX), **RANGES, TWIST: (-MAX_TWIST, MAX_TWIST)}
    # one less flux_frac_b
    del ranges['flux_frac_d']
    indices = {name: ranges.pop(name) for name in ('sersic_idx_d', 'sersic_idx_b')}
    for column, (low, high) in ranges.items():
        p_value = float(stats.kstest(table[column], 'uniform', args=(low, high - low)).pvalue)
        name, wanted = f'{column} is spread evenly: p value', f'> {SMALLEST_P:g}'
        yield name, wanted, p_value, p_value > SMALLEST_P
    for column, (low, high) in indices.items():
        # of evenly spaced values the scatter is slightly larger than of a flat density
        error = (high - low) / math.sqrt(12 * len(table)) * 1.06
        middle = (low + high) / 2
        yield _near(f'mean of {column}', table[column].mean(), middle, error, f'{middle:g}')


def _check_flux(table):
    """Check the moments of the logarithm of the flux, and that it follows from no column."""
    name, skewness = 'skewness of log_total_flux (left-skewed)', stats.skew(table['log_total_flux'])
    wanted = f'-2 if the flux is flat, and < {LARGEST_SKEWNESS:g}'
    yield name, wanted, float(skewness), bool(skewness < LARGEST_SKEWNESS)
    variance, wanted = np.var(table['log_total_flux']), f'{FLAT_LOG_VARIANCE:.4f}'
    # the kurtosis of an exponential distribution is 9
    error = math.sqrt((9 - 1) / len(table)) * FLAT_LOG_VARIANCE
    yield _near('variance of log_total_flux', variance, FLAT_LOG_VARIANCE, error, wanted)
    for flux in ('total_flux', 'log_total_flux'):
        for column in ('R_e', 'Bt'):
            found = correlation(table[flux], table[column])
            name = f'correlation of {flux} with {column}'
            yield _near(name, found, 0, 1 / math.sqrt(len(table)), '0')


def _none(name, bad):
    return name, 'none', int(bad.sum()), not bad.any()


def _smallest(name, values, largest, wanted='0'):
    found = float(values.abs().max())
    return name, wanted, found, found <= largest


def _near(name, found, middle, error, text):
    # so many standard errors a mean, a variance or a correlation may be off
    error = 4 * error
    return name, f'{text} +- {error:.2g}', float(found), bool(abs(found - middle) < error)
