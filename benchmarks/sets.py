# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The fixed test sets. Nothing is trained on them, tuned on them or picked from them.

    python benchmarks/sets.py SET DIRECTORY

writes a set, or its first ``-n`` galaxies, as FITS files with a table of truth.
"""

import argparse
import os
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData, StdDevUncertainty
from astropy.table import QTable, Table, vstack
from scipy.ndimage import gaussian_filter, maximum_filter
from tqdm import tqdm

from astroflux.cutouts import write_cutout
from astroflux.evaluation import SNR_BINS, CutoutSource, SimulatedSource
from astroflux.simulation import (
    CutoutSimulation,
    GalaxyPopulation,
    PSFPopulation,
    SceneSimulation,
    Survey,
    draw_galaxy,
    draw_psf,
    get_survey,
    psf_profile,
)
from astroflux.simulation.dataset import TRUTH_NAME
from astroflux.simulation.morphology import morphological_profile
from astroflux.simulation.structure import structured_profile

__all__ = ['SETS', 'CosmosSource', 'TestSet']

N_GALAXIES = 2000


@dataclass(frozen=True)
class TestSet:
    """
    A seeded set of galaxies.

    Attributes
    ----------
    title : str
        For tables.
    source : callable
        Called with the number of galaxies, makes the `~astroflux.evaluation.CutoutSource`.
    n_sersic, n_two : int
        How many of the first galaxies the light-profile fits measure, of one and of two
        components.
    snr_bins : tuple of float
        Edges of the bins of its table.
    parameters : tuple of str
        By what its errors are drawn, beside S/N; for galaxies of S/N above 20.
    needs : str
        Environment variable that must name a folder of data; empty if none.
    same_galaxies : str
        Set whose galaxies and seed it has, to be compared with; empty if none.
    """

    title: str
    source: object
    n_sersic: int = 60
    n_two: int = 16
    snr_bins: tuple[float, ...] = SNR_BINS
    parameters: tuple[str, ...] = ()
    needs: str = ''
    same_galaxies: str = ''

    @property
    def is_available(self):
        """Whether the data that it needs are there."""
        return not self.needs or os.path.isdir(os.environ.get(self.needs, ''))


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


def robust_scatter(values):
    """Return the standard deviation of what is not an outlier."""
    return 1.4826 * np.median(abs(values - np.median(values)))


@lru_cache(maxsize=1)
def real_field():
    """Read the field."""
    with fits.open(real_data('hsc_r_field.fits')) as hdus:
        image = hdus[1].data.astype(float)
        planes = hdus[2].data.astype(int)
        detected = planes & (1 << hdus[2].header['MP_DETECTED']) != 0
    smooth = gaussian_filter(image, SMOOTHING)
    smooth /= robust_scatter(smooth)
    is_blank = maximum_filter(smooth, 2 * BLANK_RADIUS + 1) < LARGEST_PEAK
    margin = FIELD_STAMP // 2 + 1
    inside = np.zeros(image.shape, bool)
    inside[margin:-margin, margin:-margin] = True
    noise = robust_scatter((image[:, 1:] - image[:, :-1]) / np.sqrt(2))
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


def _in_field(seed, **options):
    simulation = FieldSimulation(
        galaxies=GalaxyPopulation(snr=(10.0, 1000.0), half_light_radius=(0.15, 1.5)),
        psfs=PSFPopulation(
            fwhm=(0.75, 0.75), moffat_beta=(3.0, 3.0), moffat_fraction=1.0, max_ellipticity=0.0
        ),
        shape=(FIELD_STAMP, FIELD_STAMP),
        **options,
    )
    return lambda n: FieldSource(n, simulation, seed=seed)


# -- the sets -------------------------------------------------------------------------------------


def _simulated(seed, simulation=None, **options):
    return lambda n: SimulatedSource(n, simulation, seed=seed, **options)


SETS = {
    'isolated': TestSet(
        'isolated galaxies, PSF given',
        _simulated(90001),
        n_sersic=500,
        n_two=100,
        parameters=('sersic_index', 'size_over_fwhm', 'axis_ratio', 'bulge_to_total'),
    ),
    'uniform-index': TestSet(
        'isolated, Sersic index uniform instead of log-uniform, PSF given',
        _simulated(
            90003, CutoutSimulation(galaxies=GalaxyPopulation(sersic_index_spacing='linear'))
        ),
    ),
    'blended': TestSet(
        'a neighbour of flux ratio 0.1 to 2 at 1.2 to 4 arcsec, PSF given',
        _simulated(90002, CutoutSimulation(neighbors=(1, 1))),
        parameters=('neighbour_distance', 'neighbour_flux_ratio'),
    ),
    'faint': TestSet(
        'isolated galaxies of S/N 3 to 20, PSF given',
        _simulated(90004, CutoutSimulation(galaxies=GalaxyPopulation(snr=(3.0, 20.0)))),
        snr_bins=(3, 5, 10, 20),
    ),
    'pixel-scales': TestSet(
        'pixels of 0.06 to 0.4 arcsec, stamps of 64 to 201 pixels, PSF given',
        lambda n: PixelScaleSource(n, seed=90005),
    ),
    'masked': TestSet(
        'isolated galaxies with masked columns, blobs and pixels, PSF given',
        _simulated(90006, alter=mask_pixels),
    ),
    'wrong-psf': TestSet(
        'isolated galaxies; the PSF given is of the other family, its width off by up to 10 %',
        _simulated(90007, alter=give_wrong_psf),
    ),
    'psf-unknown': TestSet(
        'isolated galaxies, no PSF given',
        _simulated(90008, alter=withhold_psf),
    ),
    'large': TestSet(
        'half-light radii of 20 to 60 pixels, stamps of 501 pixels, PSF given',
        _simulated(90010, LARGE),
        n_sersic=20,
        n_two=8,
        snr_bins=(100, 500, 2000, 10_000),
    ),
    'cosmos': TestSet(
        'real COSMOS galaxies, seen again from the ground, PSF given',
        lambda n: CosmosSource(n, seed=90009),
        needs=REAL_DATA,
    ),
    'scene': TestSet(
        'galaxies of S/N 5 to 1000 in simulated skies, PSF given',
        _simulated(90021, SceneSimulation(galaxies=GalaxyPopulation(snr=(5.0, 1000.0)))),
        snr_bins=(5, 10, 30, 100, 1000),
        parameters=('neighbour_light',),
    ),
    'sky': TestSet(
        'simulated galaxies in a real sky, nothing masked, PSF given',
        _in_field(90022),
        snr_bins=(10, 30, 100, 1000),
        needs=REAL_DATA,
    ),
    'sky-masked': TestSet(
        'simulated galaxies in a real sky, footprints of a detection masked, PSF given',
        _in_field(90022, is_masked=True),
        snr_bins=(10, 30, 100, 1000),
        needs=REAL_DATA,
        same_galaxies='sky',
    ),
    'structure': TestSet(
        'isolated galaxies that are not smooth, PSF given',
        lambda n: StructureSource(n, seed=90023),
        snr_bins=(5, 10, 30, 100, 1000, 3000),
    ),
}


def write_set(name, directory, n):
    """Write a test set to disk, as `astroflux.simulation.write_dataset` does."""
    directory.mkdir(parents=True, exist_ok=True)
    source = SETS[name].source(n)
    tables = []
    for index in tqdm(range(n), desc=name):
        (cutout,), truth = source.load(index, index + 1)
        file_name = f'{index:06d}.fits'
        write_cutout(cutout, directory / file_name, overwrite=True)
        truth.add_column([file_name], name='file_name', index=0)
        tables.append(truth)
    vstack(tables).write(directory / TRUTH_NAME, overwrite=True)


def main():
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.strip().split('\n')[0])
    parser.add_argument('set', choices=SETS)
    parser.add_argument('directory', type=Path)
    parser.add_argument('-n', type=int, default=N_GALAXIES, help='how many galaxies')
    arguments = parser.parse_args()
    write_set(arguments.set, arguments.directory, arguments.n)


if __name__ == '__main__':
    main()
