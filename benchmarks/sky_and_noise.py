# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
How often a wrong sky or noise is noticed, and what noise without the source's photons does.

    python benchmarks/sky_and_noise.py --write

takes galaxies of S/N 30 to 300, of other seeds than those of the test sets: alone in white noise,
and on skies with the noise of a coadd. Their stamps are cut to several sizes, and their sky or the
stated noise is made wrong. Then galaxies are observed with their photons, and measured with the
noise of the sky alone and with the gain.
"""

from dataclasses import replace

import numpy as np
from astropy.nddata import CCDData, StdDevUncertainty
from report import command_line, put_out, rst_table
from sets import SETS
from tqdm.auto import tqdm

from astroflux import CNNFluxEstimator
from astroflux.cutouts import iter_cutouts
from astroflux.evaluation import SimulatedSource
from astroflux.flags import MeasurementFlag as Flag
from astroflux.simulation import (
    GalaxyPopulation,
    draw_galaxy,
    draw_psf,
    galaxy_profile,
    psf_profile,
)

SEED = 41017
SIDES = (41, 64, 101, 143)

# What is done to the cutouts: a factor on the stated noise, and a sky in units of the true one.
FAULTS = {
    'none': (1.0, 0.0),
    'noise 20 times too small': (0.05, 0.0),
    'noise half of the true one': (0.5, 0.0),
    'noise twice the true one': (2.0, 0.0),
    'noise 20 times too large': (20.0, 0.0),
    'sky +0.5 sigma': (1.0, 0.5),
    'sky -0.2 sigma': (1.0, -0.2),
}

# Photons of the sky in a pixel, and S/N of the galaxies in the noise of the sky alone.
SKY_PHOTONS = (1000.0, 100.0, 10.0, 1.0, 0.1)
PHOTON_SNR = (300.0, 1000.0)


def galaxies(name, n):
    """Return cutouts like those of a test set, but of S/N 30 to 300."""
    simulation = SETS[name].source(1).simulation
    simulation = replace(simulation, galaxies=replace(simulation.galaxies, snr=(30.0, 300.0)))
    return SimulatedSource(n, simulation, seed=SEED, with_bound=False).load(0, n)[0]


def spoilt(cutout, side, factor, sky):
    """Return the middle of a cutout with a noise or a sky that is wrong."""
    first = (cutout.shape[0] - side) // 2
    middle = slice(first, first + side)
    (own,) = iter_cutouts(cutout)
    noise = own.noise[middle, middle]
    mask = None if cutout.mask is None else cutout.mask[middle, middle]
    data = cutout.data[middle, middle] + sky * np.median(noise)
    uncertainty = StdDevUncertainty(factor * noise)
    return CCDData(data, unit=cutout.unit, mask=mask, uncertainty=uncertainty)


def flagged(cutouts, flag):
    """Return the part of cutouts with a flag."""
    return np.mean([bool(cutout.flags & flag) for cutout in iter_cutouts(cutouts)])


def faults_table(n):
    """Return how often faults are flagged."""
    rows = []
    for name, sky in (('isolated', 'alone, white noise'), ('scene', 'skies, noise of a coadd')):
        cutouts = galaxies(name, n)
        for fault, wrong in FAULTS.items():
            row = [sky, fault]
            for side in SIDES:
                made = [spoilt(cutout, side, *wrong) for cutout in cutouts]
                parts = [flagged(made, flag) for flag in (Flag.SKY_RESIDUAL, Flag.NOISE_SUSPECT)]
                row.append(' / '.join(f'{100 * part:.1f}' for part in parts))
            rows.append(row)
    return rst_table(['galaxies', 'fault', *(f'{side} pixels' for side in SIDES)], rows)


def with_photons(n, sky):
    """Return galaxies on a sky of so many photons, their noise that of the sky, and the truth."""
    rng = np.random.default_rng([SEED, int(sky)])
    psf = psf_profile({'psf_fwhm': 0.7, 'moffat_beta': 3.0, 'psf_g1': 0.0, 'psf_g2': 0.0})
    image_of_psf = draw_psf(psf, 0.168)
    population = GalaxyPopulation(snr=PHOTON_SNR, half_light_radius=(0.2, 1.0))
    cutouts, fluxes = [], []
    for galaxy in population.draw(n, rng):
        unit = draw_galaxy(galaxy_profile(dict(galaxy)), psf, (101, 101), 0.168).astype(float)
        flux = galaxy['snr'] * np.sqrt(sky / np.square(unit).sum())
        data = rng.poisson(np.maximum(flux * unit, 0) + sky) - sky
        noise = StdDevUncertainty(np.full(data.shape, np.sqrt(sky)))
        cutouts.append(CCDData(data, unit='adu', uncertainty=noise, psf=image_of_psf))
        fluxes.append(flux)
    return cutouts, np.array(fluxes)


def photons_table(n):
    """Return what noise without the photons of the source does to fluxes and errors."""
    rows = []
    for sky in SKY_PHOTONS:
        cutouts, truth = with_photons(n, sky)
        for told, options in (('no', {}), ('yes', {'effective_gain': 1.0})):
            table = CNNFluxEstimator().measure(cutouts, progress=False, **options)
            flux, error = table['flux'].value, table['flux_err'].value
            lower, upper = table['flux_lower'].value, table['flux_upper'].value
            ratio = flux / truth
            rows.append(
                [
                    f'{sky:g}',
                    told,
                    f'{100 * (np.median(ratio) - 1):+.2f}',
                    f'{100 * np.std(ratio):.2f}',
                    f'{100 * np.median(error / flux):.2f}',
                    f'{100 * np.mean((lower <= truth) & (truth <= upper)):.0f}',
                ]
            )
    header = ['photons of the sky', 'effective_gain', 'bias [%]', 'scatter [%]']
    return rst_table([*header, 'flux_err [%]', 'in 68 % interval [%]'], rows)


def main():
    """Run from the command line."""
    arguments = command_line(__doc__, n=(400, 'galaxies')).parse_args()
    makers = {'faults': faults_table, 'photons': photons_table}
    for name, make in tqdm(makers.items(), desc='sky and noise', unit='table'):
        put_out(make(arguments.n), f'sky-and-noise-{name}', write=arguments.write)


if __name__ == '__main__':
    main()
