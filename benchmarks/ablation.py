# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What each choice in the design of the network buys, at the same training time.

    python benchmarks/ablation.py --run .runs/profile-5 --minutes 10

trains variants of the network one after another, each for so long, on the stamps of a run, and
measures the run's validation stamps with them: alone, with a neighbour, and on skies. How many
steps a variant takes in that time is counted first, for all of them: nothing else may run
meanwhile. What is finished is kept in the folder ``ablation`` of the run; ``--write`` also
rewrites the table of the documentation. ``--variants`` names those to train now; the table holds
all that are finished.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from report import DOCS, rst_table
from torch import nn

from astroflux.networks import ProfileNet
from astroflux.networks.neighbors import Light, NeighborFit
from astroflux.networks.orientation import Orientation
from astroflux.networks.profile_net import FIT_FLUXES
from astroflux.training.configuration import read_configuration
from astroflux.training.loop import Stamps, Trainer
from astroflux.training.run import make_stamps

# Steps that tell how many fit into the time; the first ones are slower.
TRIAL_STEPS, TRIAL_START = 30, 10


# -- variants -------------------------------------------------------------------------------------


class _Blank(nn.Module):
    """Stand in for a convolutional stack that sees nothing."""

    def __init__(self, n_out):
        super().__init__()
        self.n_out = n_out

    def forward(self, picture):
        return picture.new_zeros(len(picture), self.n_out)


class WithoutStacks(ProfileNet):
    """Apertures, filters and the fit alone."""

    def __init__(self, **settings):
        super().__init__(**settings)
        n_out = 16 * self.settings['maps']
        self.fine, self.coarse = _Blank(n_out), _Blank(n_out)


class WithoutFreeGaussians(ProfileNet):
    """The fit of a Sersic profile, and no other."""

    def _fit(self, *arguments):
        fit, features = super()._fit(*arguments)
        return {**fit, 'ln_free': fit['ln_sersic']}, features


class FitAlone(ProfileNet):
    """The fits' fluxes; no aperture or filter joins the mixture."""

    def __init__(self, **settings):
        super().__init__(**settings)
        first = 2 * self.photometry.n_fluxes
        fits = slice(first, first + len(FIT_FLUXES))
        with torch.no_grad():
            bias = self.mix.bias[fits].clone()
            self.mix.bias.fill_(-1e4)
            self.mix.bias[fits] = bias


@dataclass
class SmoothStamps(Stamps):
    """Galaxies of one or two Sersic components, and no others."""

    def draw(self, n, rng):
        drawn = super().draw(8 * n, rng)
        return drawn[self.library.truth.n_components[drawn] > 0][:n]


class SubtractedLight(Light):
    """Light that the galaxy's parameters know nothing of."""

    def eliminate(self, modes, weight, residual):
        left = super().eliminate(modes, weight, residual)
        left.forget_galaxy()
        return left


class SubtractedNeighborFit(NeighborFit):
    """Neighbors that are fitted beside the galaxy as it is, and subtracted, in each step."""

    def light(self, *arguments):
        return SubtractedLight(**vars(super().light(*arguments)))


class SubtractedNeighbors(ProfileNet):
    """Neighbors that are subtracted before the galaxy is fitted."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.fit.neighbors = SubtractedNeighborFit(settings['n_neighbors'], self.fit.n_steps)


_ORIENTATIONS = np.random.default_rng(0)


def any_orientation(data, position):
    """Return any of the eight orientations, whatever the stamp shows."""
    return Orientation(*_ORIENTATIONS.integers(0, 2, 3).astype(bool))


@dataclass(frozen=True)
class Variant:
    """A network that differs from the shipped one, or is trained in another way."""

    network: type = ProfileNet
    settings: dict = field(default_factory=dict)
    optimiser: dict = field(default_factory=dict)
    observation: dict = field(default_factory=dict)
    stamps: type = Stamps
    orient: Callable = Orientation.of


VARIANTS = {
    'as shipped': Variant(),
    'no skies': Variant(observation={'sky_fraction': 0.0, 'sky_offset_fraction': 0.0}),
    'no neighbors in the fit': Variant(settings={'n_neighbors': 0}),
    'neighbors subtracted, not solved for': Variant(SubtractedNeighbors),
    'smooth galaxies alone': Variant(stamps=SmoothStamps),
    'no fit: apertures and filters': Variant(settings={'n_steps': 0}),
    'no apertures or filters in the mixture': Variant(FitAlone),
    'one step of the fit': Variant(settings={'n_steps': 1}),
    'three steps of the fit': Variant(settings={'n_steps': 3}),
    'no free Gaussians': Variant(WithoutFreeGaussians),
    'no convolutional stacks': Variant(WithoutStacks),
    'stacks of twice the channels': Variant(
        settings={'channels': [32, 48, 64, 96], 'coarse_channels': [16, 32, 48, 64]}
    ),
    'half the width': Variant(settings={'width': 128}),
    'stamps in any orientation': Variant(orient=any_orientation),
    'no average of the weights': Variant(optimiser={'average_decay': 0.0}),
    'PSF always exact': Variant(
        observation={'exact_psf_fraction': 1.0, 'unknown_psf_fraction': 0.0}
    ),
}


# -- training and measuring -----------------------------------------------------------------------


def average_decay(optimiser, steps):
    """Return the decay with which weights are averaged over the same part of a shorter training."""
    part = 1 / (1 - optimiser.average_decay) / sum(length for length, _ in optimiser.cycles)
    return max(0.0, 1 - 1 / (part * steps))


def make_trainer(variant, config, stamps, directory, steps):
    """Return a trainer of a variant that takes so many steps."""
    optimiser = replace(
        config.optimiser,
        cycles=((steps, config.optimiser.cycles[0][1]),),
        warmup=min(config.optimiser.warmup, max(1, steps // 10)),
        standardise_steps=min(config.optimiser.standardise_steps, steps // 5),
        calibration_steps=0,
        average_decay=average_decay(config.optimiser, steps),
    )
    optimiser = replace(optimiser, **variant.optimiser)
    stamps = {name: replace(part, orient=variant.orient) for name, part in stamps.items()}
    training = stamps['training']
    settings = replace(training.settings, **variant.observation)
    training = variant.stamps(training.library, settings, variant.orient)
    return Trainer(
        directory,
        **{**stamps, 'training': training},
        network_settings={**config.network, **variant.settings},
        optimiser_settings=optimiser,
        architecture=variant.network,
        n_observers=1,
    )


def seconds_per_step(variant, config, stamps, directory):
    """Return how long a step of a variant takes."""
    trial = make_trainer(variant, config, stamps, directory, TRIAL_STEPS)
    for batch in trial.batches(trial.training, range(TRIAL_STEPS)):
        if trial.step == TRIAL_START:
            started = time.monotonic()
        trial.one_step(batch)
    return (time.monotonic() - started) / (TRIAL_STEPS - TRIAL_START)


def train(variant, config, stamps, directory, steps):
    """Train a variant for a number of steps; return the trainer at its last step."""
    trainer = make_trainer(variant, config, stamps, directory, steps)
    trainer.run(steps_per_validation=10**9)
    return trainer


def measure(trainer):
    """Return the scatter of galaxies alone and on skies, and how many are off by 30 per cent."""
    validation = trainer.validation

    def seen(**observation):
        settings = replace(validation.settings, **observation)
        trainer.validation = replace(validation, settings=settings)
        return trainer.validate()

    isolated, skies = seen(), seen(sky_fraction=1.0)
    blended = seen(blend_fraction=1.0, max_neighbours=1, neighbour_mask_fraction=0)
    return {
        'bins': [[float(row['low']), float(row['high'])] for row in isolated],
        'scatter': [float(value) for value in isolated['scatter']],
        'error': [float(value) for value in isolated['scatter_err']],
        'on_skies': [float(value) for value in skies['scatter']],
        'blends_beyond_30': _beyond_30(blended),
        'skies_beyond_30': _beyond_30(skies),
        'steps': trainer.step,
    }


def _beyond_30(rows):
    """Return the part of galaxies of S/N above 20 that are off by more than 30 per cent."""
    bright = rows['low'] >= 20
    return float(np.average(rows['outliers'][bright], weights=rows['n'][bright]))


def run(directory, minutes, names):
    """Train and measure some variants that have not been; return the results of all that have."""
    # the folder of a run has the name of its configuration
    config = read_configuration(directory.name)
    stamps = make_stamps(config, directory)
    parent = directory / 'ablation'
    folders = {name: parent / name.replace(' ', '-').replace(':', '') for name in VARIANTS}
    paths = {name: folder / f'result-{minutes:g}.json' for name, folder in folders.items()}
    steps = {}
    # all before the first training, under the same conditions
    for name in names:
        if not paths[name].exists():
            # checkpoints of an interrupted run are of another length
            folders[name].mkdir(parents=True, exist_ok=True)
            pace = seconds_per_step(VARIANTS[name], config, stamps, folders[name])
            steps[name] = int(60 * minutes / pace)
    for name, n_steps in steps.items():
        print(f'{name}: {n_steps} steps', flush=True)
        trainer = train(VARIANTS[name], config, stamps, folders[name], n_steps)
        paths[name].write_text(json.dumps(measure(trainer), indent=1))
    return {name: json.loads(path.read_text()) for name, path in paths.items() if path.exists()}


def table_of(results):
    """Return the results as a table: of the first variant its values, of the others ratios."""
    first = next(iter(results.values()))
    header = ['network', 'steps', *(f'S/N {low:g}-{high:g}' for low, high in first['bins'])]
    header += ['blends beyond 30 %', 'on skies', 'skies beyond 30 %']
    rows = []
    for name, result in results.items():
        values = []
        for value, error, of_first in zip(
            result['scatter'], result['error'], first['scatter'], strict=True
        ):
            ratio = f'{value / of_first:.2f} ± {error / of_first:.2f}'
            values.append(f'{100 * value:.2f} %' if result is first else ratio)
        # of all bins alike
        on_skies = np.exp(np.mean(np.log(np.divide(result['on_skies'], first['on_skies']))))
        values += [
            f'{100 * result["blends_beyond_30"]:.1f} %',
            f'{on_skies:.2f}',
            f'{100 * result["skies_beyond_30"]:.1f} %',
        ]
        rows.append([name, str(result['steps']), *values])
    return rst_table(header, rows)


def main():
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.strip().split('\n')[0])
    parser.add_argument('--run', type=Path, required=True, help='folder with rendered stamps')
    parser.add_argument('--minutes', type=float, default=10.0, help='of training for each')
    parser.add_argument(
        '--variants', nargs='+', choices=VARIANTS, default=[*VARIANTS], metavar='VARIANT'
    )
    parser.add_argument('--write', action='store_true', help='rewrite the documents')
    arguments = parser.parse_args()
    table = table_of(run(arguments.run, arguments.minutes, arguments.variants))
    print(f'\n{arguments.minutes:g} minutes of training each\n\n{table}')
    if arguments.write:
        caption = f'Each was trained for {arguments.minutes:g} minutes.\n\n'
        (DOCS / 'ablation.rst.inc').write_text(caption + table)


if __name__ == '__main__':
    main()
