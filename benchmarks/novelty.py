# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Does the network know what it has never seen?

    python benchmarks/novelty.py

measures galaxies like those of its training, and cutouts that nobody should trust, and
prints which part of each has the flag ``UNFAMILIAR``. With ``--write`` it also rewrites the
table and the figure of the documentation.
"""

import textwrap

import numpy as np
from astropy import units as u
from astropy.nddata import CCDData, StdDevUncertainty
from matplotlib.figure import Figure
from report import DOCS, command_line, put_out, rst_table

from astroflux import CNNFluxEstimator
from astroflux._progress import progress_bar
from astroflux.evaluation.plots import plot_cutout
from astroflux.flags import MeasurementFlag
from astroflux.simulation import CutoutSimulation, GalaxyPopulation, PSFPopulation, get_survey

SEED = 90012

GALAXIES = GalaxyPopulation(snr=(30.0, 1000.0))
SHAPE = (143, 143)
REACH = SHAPE[0] // 2


def _pixels():
    return np.mgrid[: SHAPE[0], : SHAPE[1]] - REACH


def _simulated(**options):
    simulation = CutoutSimulation(galaxies=GALAXIES, shape=SHAPE, **options)
    return lambda rng: simulation.draw(rng)[0]


def _altered(alter, **options):
    """Simulate a galaxy and spoil it; its noise and PSF stay."""
    draw = _simulated(**options)

    def spoilt(rng):
        cutout = draw(rng)
        noise = float(cutout.uncertainty.array[0, 0])
        image = alter(cutout.data / noise, rng)
        return CCDData(
            (noise * image).astype(np.float32),
            unit=u.adu,
            uncertainty=StdDevUncertainty(np.full(SHAPE, noise, np.float32)),
            psf=cutout.psf,
        )

    return spoilt


def star_trail(image, rng):
    """Add a satellite's trail across the stamp, not masked."""
    y, x = _pixels()
    angle = rng.uniform(0, np.pi)
    distance = x * np.sin(angle) - y * np.cos(angle) - rng.uniform(-20, 20)
    return image + np.exp(rng.uniform(*np.log([5, 100]))) * np.exp(-0.5 * (distance / 2.0) ** 2)


def half_empty(image, rng):
    """Set one side of the stamp to zero, as beyond the edge of a survey, not masked."""
    empty = np.rot90(_pixels()[1], rng.integers(4)) > rng.uniform(-10, 30)
    return np.where(empty, 0, image)


def saturated(image, rng):
    """Cut the core off at a part of its peak."""
    return np.minimum(image, rng.uniform(0.1, 0.4) * image.max())


def cosmic_rays(image, rng):
    """Add a few sharp tracks near the centre."""
    image = image.copy()
    for _ in range(rng.integers(2, 6)):
        y, x = rng.integers(REACH - 12, REACH + 13, 2)
        length = rng.integers(2, 8)
        image[y : y + length, x] += rng.uniform(50, 500)
    return image


def diffraction_spikes(image, rng):
    """Put a bright star with spikes nearby."""
    y, x = _pixels()
    dy, dx = rng.uniform(15, 35, 2) * rng.choice([-1, 1], 2)
    peak = np.exp(rng.uniform(*np.log([1000, 20000])))
    star = peak / (1 + ((x - dx) ** 2 + (y - dy) ** 2) / 9) ** 2.5
    for across, along in ((x - dx, y - dy), (y - dy, x - dx)):
        star += 0.02 * peak * np.exp(-0.5 * (across / 1.2) ** 2) / (1 + np.abs(along) / 4)
    return image + star


def large_spiral(image, rng):
    """Fill the frame with a face-on spiral galaxy with knots."""
    y, x = _pixels()
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    scale, pitch = rng.uniform(25, 45), rng.uniform(0.2, 0.5)
    arms = 1 + 0.9 * np.cos(2 * (angle - np.log(radius + 3) / pitch) + rng.uniform(0, 6))
    spiral = rng.uniform(10, 100) * np.exp(-radius / scale) * arms
    for _ in range(40):
        r, phi = rng.uniform(10, 70), rng.uniform(0, 2 * np.pi)
        d2 = (x - r * np.cos(phi)) ** 2 + (y - r * np.sin(phi)) ** 2
        spiral += rng.uniform(10, 60) * np.exp(-0.5 * d2 / 6)
    return spiral + rng.standard_normal(SHAPE)


def wrong_noise(image, rng):
    """Let the noise be three to six times what is stated."""
    return image + np.sqrt(rng.uniform(3, 6) ** 2 - 1) * rng.standard_normal(SHAPE)


SURVEY = get_survey()
WIDE = PSFPopulation(fwhm=(10 * SURVEY.pixel_scale, 16 * SURVEY.pixel_scale))
NARROW = PSFPopulation(fwhm=(0.8 * SURVEY.pixel_scale, 1.2 * SURVEY.pixel_scale))


def _without_psf(draw):
    def cutout(rng):
        drawn = draw(rng)
        drawn.psf = None
        return drawn

    return cutout


# What is shown, and whether it is like the training.
KINDS = {
    'isolated galaxies': (_simulated(), True),
    'galaxies with a neighbour': (_simulated(neighbors=(1, 1)), True),
    'galaxies, PSF not given': (_without_psf(_simulated()), True),
    'a trail across the stamp': (_altered(star_trail), False),
    'half of the stamp empty, not masked': (_altered(half_empty), False),
    'a saturated core': (_altered(saturated), False),
    'cosmic rays, not masked': (_altered(cosmic_rays), False),
    'a bright star with spikes beside': (_altered(diffraction_spikes), False),
    'a spiral galaxy that fills the frame': (_altered(large_spiral), False),
    'noise three to six times as stated': (_altered(wrong_noise), False),
    'PSF of 10 to 16 pixels': (_simulated(psfs=WIDE), False),
    'PSF of 10 to 16 pixels, not given': (_without_psf(_simulated(psfs=WIDE)), False),
    'PSF of 0.8 to 1.2 pixels': (_simulated(psfs=NARROW), False),
}


def measure(draw, n, number):
    """Return the table of some cutouts of a kind, and the first of these."""
    cutouts = [draw(np.random.default_rng([SEED, number, i])) for i in range(n)]
    return CNNFluxEstimator().measure(cutouts, progress=False), cutouts[0]


def has(table, flag):
    """Return the part of a table that has a flag."""
    return np.mean(table['flags'] & int(flag) != 0)


def main():
    """Run from the command line."""
    arguments = command_line(__doc__, n=(200, 'cutouts of each kind')).parse_args()
    figure = Figure(figsize=(10, 6.4), layout='constrained')
    axes = figure.subplots(3, 5).ravel()
    rows = []
    for number, (title, (draw, familiar)) in enumerate(progress_bar(KINDS.items(), desc='kinds')):
        table, example = measure(draw, arguments.n, number)
        unfamiliar = has(table, MeasurementFlag.UNFAMILIAR)
        any_flag = has(table, MeasurementFlag.UNFAMILIAR | MeasurementFlag.OUT_OF_RANGE)
        rows.append(
            [
                title,
                'like the training' if familiar else 'strange',
                f'{100 * unfamiliar:.1f}',
                f'{100 * any_flag:.1f}',
                f'{np.nanmedian(table["novelty"]):.2f}',
            ]
        )
        noise = float(example.uncertainty.array[0, 0])
        plot_cutout(axes[number], example.data, noise, title=textwrap.fill(title, 24))
    for ax in axes[len(KINDS) :]:
        ax.set_axis_off()
    header = ['cutouts', 'kind', 'UNFAMILIAR [%]', '... or OUT_OF_RANGE [%]', 'median novelty']
    put_out(rst_table(header, rows), 'novelty', write=arguments.write)
    if arguments.write:
        figure.savefig(DOCS / 'novelty.png', dpi=100)


if __name__ == '__main__':
    main()
