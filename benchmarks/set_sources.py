# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Where the galaxies of the test sets come from: simulated ones, real ones, and real skies."""

import os
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData, StdDevUncertainty
from astropy.stats import mad_std
from astropy.table import QTable, Table
from scipy.ndimage import gaussian_filter, maximum_filter

from astroflux.evaluation import CutoutSource, SimulatedSource
from astroflux.simulation import (
    CutoutSimulation,
    GalaxyPopulation,
    PSFPopulation,
    Survey,
    draw_galaxy,
    draw_psf,
    get_survey,
    psf_profile,
)
from astroflux.simulation.morphology import morphological_profile
from astroflux.simulation.structure import structured_profile

# -- what is done to a simulated cutout -----------------------------------------------------------


def mask_pixels(cutout, truth, rng):
    """Mask columns, a blob and single pixels, and spoil what lies under the mask."""
    ny, nx = cutout.shape
    mask = rng.random(cutout.shape) < 0.01
    for _ in range(rng.integers(0, 4)):
        column = rng.integers(nx)
        mask[:, column : column + rng.integers(1, 4)] = True
    y, x = np.mgrid[:ny, :nx]
    for _ in range(rng.integers(1, 4)):
        distance = np.hypot(x - rng.uniform(0, nx), y - rng.uniform(0, ny))
        mask |= distance < rng.uniform(2, 12)
    spoilt = cutout.copy()
    spoilt.data[mask] = rng.choice([-1e4, 0, 1e4], mask.sum()) * cutout.uncertainty.array[mask]
    spoilt.mask = mask
    spoilt.psf = cutout.psf
    return spoilt


def give_wrong_psf(cutout, truth, rng):
    """Give a PSF of a width that is off by up to 10 %, and of the other family."""
    is_moffat = np.isfinite(truth['moffat_beta'])
    wrong = {
        **truth,
        'psf_fwhm': truth['psf_fwhm'] * rng.uniform(0.9, 1.1),
        'moffat_beta': np.nan if is_moffat else 3.0,
        'psf_g1': 0.0,
        'psf_g2': 0.0,
    }
    scale = abs(cutout.wcs.wcs.cdelt[0]) * 3600
    cutout.psf = draw_psf(psf_profile(wrong), scale)
    return cutout


def withhold_psf(cutout, truth, rng):
    """Give no PSF."""
    cutout.psf = None
    return cutout


# -- other surveys --------------------------------------------------------------------------------

# Only of this set, so that it stays as it is whatever surveys the package knows. Zero point and
# noise are without effect, as every method works in units of the noise.
PIXELS = tuple(
    Survey(name, pixel_scale, 27.0, 0.05, psf_fwhm)
    for name, pixel_scale, psf_fwhm in (
        ('space', 0.06, (0.14, 0.4)),
        ('lsst-like', 0.2, (0.6, 1.1)),
        ('kids-like', 0.213, (0.6, 0.9)),
        ('decam-like', 0.263, (0.75, 1.3)),
        ('coarse', 0.4, (0.9, 2.0)),
    )
)


class PixelScaleSource(SimulatedSource):
    """Galaxies in stamps of 64 to 201 pixels, which are of 0.06 to 0.4 arcsec."""

    def simulation_of(self, index):
        """Return the simulation of one cutout: of one of the surveys, of a random stamp size."""
        rng = np.random.default_rng([self.seed, index, 1])
        survey = PIXELS[rng.integers(len(PIXELS))]
        scale = survey.pixel_scale
        size = int(rng.integers(64, 202))
        # as in HSC's pixels, and no larger than the stamp can show
        radius = (0.9 * scale, min(18, size / 7) * scale)
        return CutoutSimulation(
            survey=survey,
            galaxies=GalaxyPopulation(half_light_radius=radius),
            shape=(size, size),
        )


# -- large galaxies -------------------------------------------------------------------------------

SURVEY = get_survey()
LARGE = CutoutSimulation(
    galaxies=GalaxyPopulation(
        half_light_radius=(20 * SURVEY.pixel_scale, 60 * SURVEY.pixel_scale), snr=(100.0, 10_000.0)
    ),
    shape=(501, 501),
)


# -- galaxies of any shape, real ones among them --------------------------------------------------

REAL_DATA = 'ASTROFLUX_REAL_DATA'


def real_data(name):
    """Return the path of a real image."""
    return Path(os.environ[REAL_DATA]) / name


class ShapeSource(CutoutSource):
    """Galaxies of any shape in HSC's pixels and noise, of which there is no bound."""

    pixel_scale = 0.168
    noise = 0.05
    shape = (143, 143)
    snr = (5.0, 3000.0)
    accuracy = None

    def __init__(self, n, *, seed):
        self.n = n
        self.seed = seed

    def __len__(self):
        return self.n

    def draw_profile(self, rng):
        """Return a galaxy of unit flux, and what is to be told of it."""
        raise NotImplementedError

    def load(self, start, stop):
        """Return `~astropy.nddata.CCDData`, and their truth."""
        drawn = [self._draw(index) for index in range(start, stop)]
        truth = QTable(Table([row for _, row in drawn]))
        truth['flux'] *= u.adu
        return [cutout for cutout, _ in drawn], truth

    def _draw(self, index):
        rng = np.random.default_rng([self.seed, index])
        galaxy, row = self.draw_profile(rng)
        psf_truth = dict(PSFPopulation().draw(1, rng)[0])
        psf = psf_profile(psf_truth)
        offset = rng.uniform(-0.5, 0.5, 2)
        unit = draw_galaxy(
            galaxy, psf, self.shape, self.pixel_scale, offset=offset, accuracy=self.accuracy
        ).astype(float)
        snr = np.exp(rng.uniform(*np.log(self.snr)))
        flux = snr * self.noise / np.sqrt((unit**2).sum())
        image = flux * unit + self.noise * rng.standard_normal(self.shape)
        image += 0.02 * self.noise * rng.standard_normal()
        cutout = CCDData(
            image.astype(np.float32),
            unit=u.adu,
            uncertainty=StdDevUncertainty(np.full(self.shape, self.noise, np.float32)),
            psf=draw_psf(psf, self.pixel_scale),
        )
        return cutout, {'flux': flux, 'snr': snr, **row, **psf_truth}


@lru_cache(maxsize=1)
def cosmos_galaxies():
    """Return images of galaxies by name, each with that of its PSF, of unit flux."""
    with fits.open(real_data('hst_cosmos_galaxies.fits')) as hdus:
        return {
            hdu.name: tuple(
                image / image.sum()
                for image in (hdu.data.astype(float), hdus[f'PSF{hdu.name[3:]}'].data.astype(float))
            )
            for hdu in hdus
            if hdu.name.startswith('GAL')
        }


class CosmosSource(ShapeSource):
    """
    Twenty HST COSMOS galaxies, seen again from the ground.

    Each galaxy's stamp is deconvolved from its PSF, turned, convolved with a PSF of HSC and given
    a random flux. The light of the whole stamp, with its noise, is the galaxy: its sum is the
    truth.
    """

    hst_scale = 0.03
    title = 'real COSMOS galaxies, seen again from the ground'

    def draw_profile(self, rng):
        """Return one of the galaxies, and its name."""
        import galsim

        galaxies = cosmos_galaxies()
        name = [*galaxies][rng.integers(len(galaxies))]
        galaxy, psf = (
            galsim.InterpolatedImage(galsim.Image(image), scale=self.hst_scale)
            for image in galaxies[name]
        )
        galaxy = galsim.Convolve(galaxy, galsim.Deconvolve(psf))
        return galaxy.rotate(rng.uniform(0, 360) * galsim.degrees), {'galaxy': name}


class StructureSource(ShapeSource):
    """
    Spirals, clumpy discs, mergers and other galaxies that are not smooth, alone on white noise.

    The truth is the flux of the whole galaxy, also of what lies outside the stamp.
    """

    title = 'galaxies that are not smooth'
    richer_fraction = 0.6
    # halos are large, and GalSim's own accuracy would need gigabytes for some
    accuracy = MappingProxyType({'folding_threshold': 1e-2, 'maxk_threshold': 5e-3})

    def draw_profile(self, rng):
        """Return one of the galaxies, and of which of the two families it is."""
        import galsim

        row = dict(GalaxyPopulation().draw(1, rng, derived=False)[0])
        axis_ratio, angle = row['axis_ratio_1'], row['position_angle_1'] * galsim.degrees
        is_richer = rng.random() < self.richer_fraction
        if is_richer:
            galaxy = morphological_profile(row, rng).shear(q=axis_ratio, beta=0 * galsim.degrees)
            galaxy = galaxy.rotate(angle)
        else:
            galaxy = structured_profile(row, rng).shear(q=axis_ratio, beta=angle)
        return galaxy, {'is_richer': is_richer}


# -- a real sky -----------------------------------------------------------------------------------

# A place is blank if the image, smoothed by so many pixels, is nowhere above so many standard
# deviations within so many pixels.
SMOOTHING, LARGEST_PEAK, BLANK_RADIUS = 2.0, 4.0, 9
FIELD_STAMP = 143


@dataclass(frozen=True)
class RealField:
    """
    The real image that galaxies are injected into.

    Attributes
    ----------
    image : 2D `~numpy.ndarray`
        In ADU.
    detected : 2D `~numpy.ndarray` of bool
        The footprints of all that the survey detected.
    places : 2D `~numpy.ndarray`
        ``(n, 2)``, the rows and columns of blank places.
    noise : float
        Scatter of neighboring pixels.
    """

    image: np.ndarray
    detected: np.ndarray
    places: np.ndarray
    noise: float

    def draw(self, shape, rng):
        """Return image and footprints around a blank place, turned at random."""
        y, x = self.places[rng.integers(len(self.places))]
        top, left = y - shape[0] // 2, x - shape[1] // 2
        turns, flipped = rng.integers(4), rng.random() < 0.5
        stamps = []
        for array in (self.image, self.detected):
            stamp = np.rot90(array[top : top + shape[0], left : left + shape[1]], turns)
            stamps.append((stamp[:, ::-1] if flipped else stamp).copy())
        return stamps


def _is_blank(image):
    """Return which pixels of an image have no source near them."""
    smooth = gaussian_filter(image, SMOOTHING)
    smooth /= mad_std(smooth)
    return maximum_filter(smooth, 2 * BLANK_RADIUS + 1) < LARGEST_PEAK


def blank_places():
    """Return which pixels of the field have no source near them."""
    return _is_blank(real_field().image)


@lru_cache(maxsize=1)
def real_field():
    """Read the field."""
    with fits.open(real_data('hsc_r_field.fits')) as hdus:
        image = hdus[1].data.astype(float)
        planes = hdus[2].data.astype(int)
        detected = planes & (1 << hdus[2].header['MP_DETECTED']) != 0
    is_blank = _is_blank(image)
    margin = FIELD_STAMP // 2 + 1
    inside = np.zeros(image.shape, bool)
    inside[margin:-margin, margin:-margin] = True
    noise = mad_std((image[:, 1:] - image[:, :-1]) / np.sqrt(2))
    return RealField(image, detected, np.argwhere(is_blank & inside), noise)


@dataclass(frozen=True)
class FieldSimulation(CutoutSimulation):
    """
    Galaxies injected into blank places of a real image.

    Attributes
    ----------
    is_masked : bool
        Whether the footprints of what was detected in the image are masked, but for those that
        reach into the blank place.
    """

    is_masked: bool = False

    def draw(self, rng):
        """Simulate one cutout."""
        galaxy, psf, truth = self._draw_galaxy(rng)
        sky, detected = real_field().draw(self.shape, rng)
        around = tuple(
            slice(length // 2 - BLANK_RADIUS, length // 2 + BLANK_RADIUS + 1)
            for length in self.shape
        )
        detected[around] = False
        return self._cutout(sky + galaxy, psf, mask=detected if self.is_masked else None), truth


class FieldSource(SimulatedSource):
    """Galaxies in the sky of a real image, whose noise is read when it is needed."""

    def simulation_of(self, index):
        """Return the simulation with the noise of the image."""
        survey = replace(SURVEY, name='hsc-r-field', noise=real_field().noise)
        return replace(self.simulation, survey=survey)
