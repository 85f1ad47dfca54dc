# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Take the network to another survey with 2,000 cutouts of known flux.

    python docs/examples/transfer.py

simulates a space telescope (an obscured aperture's diffraction rings, pixels that hardly
sample them, noise that drizzling has correlated), fine-tunes the shipped weights on 2,000 of
its cutouts, tests both on 1,000 others, and rewrites the table and the figure of
``docs/transfer.rst``.
"""

from pathlib import Path

import galsim
import numpy as np
from astropy import units as u
from astropy.nddata import CCDData, StdDevUncertainty
from astropy.stats import mad_std
from astropy.table import Table
from matplotlib.figure import Figure
from tqdm.auto import tqdm

from astroflux import CNNFluxEstimator
from astroflux.evaluation import flux_errors, summarize_by
from astroflux.evaluation.plots import use_plain_log_ticks
from astroflux.simulation import GalaxyPopulation, draw_galaxy, draw_psf, galaxy_profile

DOCS = Path(__file__).parents[1] / 'transfer'
SEED = 90013
N_FIT, N_TEST = 2000, 1000

PIXEL_SCALE = 0.1  # arcsec
SHAPE = (101, 101)
# The diffraction pattern of a mirror with a central obscuration, in red light.
PSF = galsim.OpticalPSF(lam_over_diam=0.13, obscuration=0.35, nstruts=3)
GALAXIES = GalaxyPopulation(half_light_radius=(0.1, 1.4), snr=(10.0, 2000.0))
CORRELATION = 0.4
EDGES = (10, 30, 100, 500, 2000)


def correlated_noise(rng):
    """Return noise of unit variance that adjacent pixels share, as drizzling makes it."""
    noise = rng.standard_normal(SHAPE)
    for axis in (0, 1):
        noise = (noise + CORRELATION * np.roll(noise, 1, axis)) / np.hypot(1, CORRELATION)
    return noise


def simulate(index):
    """Return a cutout and its true flux."""
    rng = np.random.default_rng([SEED, index])
    (row,) = GALAXIES.draw(1, rng, derived=False)
    offset = (row['x_offset'], row['y_offset'])
    unit = draw_galaxy(galaxy_profile(row), PSF, SHAPE, PIXEL_SCALE, offset=offset)
    flux = row['snr'] / np.sqrt(np.sum(unit.astype(float) ** 2))
    cutout = CCDData(
        flux * unit + correlated_noise(rng),
        unit=u.electron / u.s,
        uncertainty=StdDevUncertainty(np.ones(SHAPE)),
        psf=draw_psf(PSF, PIXEL_SCALE),
    )
    return cutout, flux, row['snr']


def main():
    """Simulate, fine-tune, test, and write."""
    drawn = [simulate(i) for i in tqdm(range(N_FIT + N_TEST), desc='simulate')]
    cutouts = [cutout for cutout, _, _ in drawn]
    flux = np.array([flux for _, flux, _ in drawn]) * u.electron / u.s
    snr = np.array([snr for _, _, snr in drawn])[N_FIT:]

    shipped = CNNFluxEstimator()
    tuned = CNNFluxEstimator(epochs=15).fit(cutouts[:N_FIT], flux[:N_FIT])
    rows, errors = [], {}
    for name, estimator in (('as shipped', shipped), ('fine-tuned', tuned)):
        table = estimator.measure(cutouts[N_FIT:])
        errors[name] = flux_errors(table, flux[N_FIT:])
        for row in summarize_by(snr, EDGES, errors[name]):
            rows.append(
                {
                    'S/N': f'{row["low"]:g}-{row["high"]:g}',
                    'weights': name,
                    'n': row['n'],
                    'bias [%]': f'{100 * row["bias"]:.2f} ± {100 * row["bias_err"]:.2f}',
                    'scatter [%]': f'{100 * row["scatter"]:.2f} ± {100 * row["scatter_err"]:.2f}',
                    'in 68 % interval [%]': f'{100 * row["coverage_68"]:.0f}',
                }
            )
    table = Table(sorted(rows, key=lambda row: float(row['S/N'].split('-')[0])))
    DOCS.mkdir(exist_ok=True)
    table.write(DOCS / 'result.rst.inc', format='ascii.rst', overwrite=True)
    table.pprint(max_lines=-1, max_width=-1)
    draw(snr, errors).savefig(DOCS / 'result.png', dpi=110)


def draw(snr, errors):
    """Return a figure of the errors before and after."""
    figure = Figure(figsize=(8, 3.4), layout='constrained')
    axes = figure.subplots(1, 2, sharey=True)
    for ax, (name, table) in zip(axes, errors.items(), strict=True):
        percent = 100 * np.expm1(np.asarray(table['ln_error']))
        ax.plot(snr, percent, '.', ms=3, alpha=0.5)
        ax.axhline(0, color='k', lw=0.8)
        ax.set(xscale='log', xlabel='S/N', ylim=(-30, 30), xlim=(EDGES[0], EDGES[-1]))
        ax.set_title(f'{name}: NMAD at S/N > 100 {mad_std(percent[snr > 100]):.2f} %', fontsize=10)
        use_plain_log_ticks(ax.xaxis)
    axes[0].set_ylabel('error of the flux [%]')
    return figure


if __name__ == '__main__':
    main()
