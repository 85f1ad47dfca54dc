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

from astropy.table import vstack
from set_sources import (
    FIELD_STAMP,
    LARGE,
    REAL_DATA,
    CosmosSource,
    FieldSimulation,
    FieldSource,
    PixelScaleSource,
    StructureSource,
    give_wrong_psf,
    mask_pixels,
    withhold_psf,
)

from astroflux._progress import progress_bar
from astroflux.cutouts import write_cutout
from astroflux.evaluation import SNR_BINS, SimulatedSource
from astroflux.simulation import (
    CutoutSimulation,
    GalaxyPopulation,
    PSFPopulation,
    SceneSimulation,
)
from astroflux.simulation.dataset import TRUTH_NAME

__all__ = ['SETS', 'TestSet']

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
    for index in progress_bar(range(n), desc=name):
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
