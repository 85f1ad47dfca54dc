# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The fixed test sets. Nothing is trained on them, tuned on them or picked from them.

    python benchmarks/sets.py SET DIRECTORY

writes a set, or its first ``-n`` galaxies, as FITS files with a table of truth.
"""

import argparse
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData, StdDevUncertainty
from astropy.table import QTable, Table, vstack
from tqdm import tqdm

from astroflux.cutouts import write_cutout
from astroflux.evaluation import SNR_BINS, CutoutSource, SimulatedSource
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
from astroflux.simulation.dataset import TRUTH_NAME

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
    """

    title: str
    source: object
    n_sersic: int = 60
    n_two: int = 16
    snr_bins: tuple[float, ...] = SNR_BINS
    parameters: tuple[str, ...] = ()
    needs: str = ''

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


# -- real galaxies --------------------------------------------------------------------------------

REAL_DATA = 'ASTROFLUX_REAL_DATA'


class CosmosSource(CutoutSource):
    """
    Twenty HST COSMOS galaxies, seen again from the ground.

    Each galaxy's stamp is deconvolved from its PSF, turned, convolved with a PSF of HSC and given
    a random flux. The light of the whole stamp, with its noise, is the galaxy: its sum is the
    truth.
    """

    pixel_scale = 0.168
    hst_scale = 0.03
    noise = 0.05
    shape = (143, 143)
    snr = (5.0, 3000.0)
    title = 'real COSMOS galaxies, seen again from the ground'

    def __init__(self, n, *, seed):
        self.n = n
        self.seed = seed

    def __len__(self):
        return self.n

    def load(self, start, stop):
        """Return `~astropy.nddata.CCDData`, and their truth."""
        with fits.open(Path(os.environ[REAL_DATA]) / 'hst_cosmos_galaxies.fits') as hdus:
            names = [hdu.name for hdu in hdus if hdu.name.startswith('GAL')]
            drawn = [self._draw(index, hdus, names) for index in range(start, stop)]
        truth = QTable(Table([row for _, row in drawn]))
        truth['flux'] *= u.adu
        return [cutout for cutout, _ in drawn], truth

    def _draw(self, index, hdus, names):
        import galsim

        rng = np.random.default_rng([self.seed, index])
        name = names[rng.integers(len(names))]
        stamp = hdus[name].data.astype(float)
        hst_psf = hdus[name.replace('GAL', 'PSF')].data.astype(float)
        galaxy = galsim.InterpolatedImage(galsim.Image(stamp / stamp.sum()), scale=self.hst_scale)
        hst_psf = galsim.InterpolatedImage(
            galsim.Image(hst_psf / hst_psf.sum()), scale=self.hst_scale
        )
        galaxy = galsim.Convolve(galaxy, galsim.Deconvolve(hst_psf))
        galaxy = galaxy.rotate(rng.uniform(0, 360) * galsim.degrees)
        psf_truth = dict(PSFPopulation().draw(1, rng)[0])
        psf = psf_profile(psf_truth)
        offset = rng.uniform(-0.5, 0.5, 2)
        unit = draw_galaxy(galaxy, psf, self.shape, self.pixel_scale, offset=offset).astype(float)
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
        return cutout, {'flux': flux, 'snr': snr, 'galaxy': name, **psf_truth}


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
