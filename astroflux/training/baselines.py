# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""``python -m astroflux.training.baselines``: what the classical regressions are trained on."""

import json
from dataclasses import asdict
from pathlib import Path

import click
import numpy as np

from astroflux._progress import progress_bar
from astroflux.estimators.regression._features import join_features, measure_features
from astroflux.estimators.regression._training_table import (
    TrainingTable,
    achievable_scatter,
    write_training_table,
)
from astroflux.training.configuration import read_configuration
from astroflux.training.library import load_library, render_library
from astroflux.training.observe import draw_indices, observe
from astroflux.training.run import trained_ranges

__all__ = ['make_training_table']

# Observations in memory at a time, 200 kB each.
BATCH = 256
# A network of before, whose galaxies and observations the shipped table is made of.
CONFIGURATION = 'profile-4'


def make_training_table(
    directory,
    configuration=CONFIGURATION,
    *,
    n_galaxies=11_264,
    n_observations=40_000,
    seed=1,
    name='simulated-3',
    workers=2,
    progress=None,
):
    """
    Observe galaxies as for the network's training, and measure their features.

    Parameters
    ----------
    directory : path-like
        Folder for the rendered stamps; those that are there are used again.
    configuration : str or path-like
        Configuration of a network's training: a shipped name, or a TOML file.
    n_galaxies : int
        How many of its galaxies to render; they are the first of the network's.
    n_observations : int
        How many observations to make of them.
    seed : int
        Of the observations.
    name : str
        Name of the table.
    workers : int
        Processes for rendering.
    progress : bool, optional
        Whether to show progress: a bar on a terminal or in a notebook, lines in a log. By
        default it appears when the work takes long.

    Returns
    -------
    table : `~astroflux.estimators.regression._training_table.TrainingTable`
    """
    config = read_configuration(configuration)
    settings = {**config.training.library, 'n_galaxies': n_galaxies}
    render_library(directory, settings, workers=workers, progress=progress)
    library = load_library(directory, settings)
    observation = config.training.observation
    rng = np.random.default_rng([settings['seed'], seed])
    indices = draw_indices(library, n_observations, observation, rng)
    parts, truth = [], []
    starts = range(0, n_observations, BATCH)
    for start in progress_bar(starts, desc='observe', unit=' batches', progress=progress):
        seen = observe(library, indices[start : start + BATCH], observation, rng)
        parts.append(
            measure_features(seen.image, (seen.weight > 0).astype(seen.image.dtype), seen.psf)
        )
        truth.append((seen.ln_flux, achievable_scatter(seen.snr, seen.floor)))
    ln_flux, scatter = (np.concatenate(column) for column in zip(*truth, strict=True))
    return TrainingTable.from_features(
        join_features(parts),
        ln_flux,
        scatter=scatter,
        group=indices,
        name=name,
        metadata={
            'description': f'Simulated galaxies, observed as for the network {config.name}.',
            'psf_fwhm_range': trained_ranges(settings)['psf_fwhm_range'],
            'library': settings,
            'observation': json.loads(json.dumps(asdict(observation))),
            'seed': seed,
        },
    )


@click.command()
@click.option('-o', '--output', required=True, type=click.Path(dir_okay=False), help='The file.')
@click.option(
    '--library',
    type=click.Path(file_okay=False),
    help='Folder of the rendered stamps.  [default: that of the file, with "-stamps"]',
)
@click.option('--configuration', default=CONFIGURATION, show_default=True)
@click.option('--galaxies', default=11_264, show_default=True, help='How many to render.')
@click.option('--observations', default=40_000, show_default=True, help='How many to make.')
@click.option('--seed', default=1, show_default=True, help='Of the observations.')
@click.option('--name', default='simulated-3', show_default=True, help='Name of the table.')
@click.option('--workers', default=2, show_default=True, help='Processes for rendering.')
@click.option('--quiet', is_flag=True, help='Show no progress.')
def main(output, library, configuration, galaxies, observations, seed, name, workers, quiet):
    """Make the training table of the classical regressions; go on where a run was stopped."""
    output = Path(output)
    table = make_training_table(
        library or output.with_name(f'{output.stem}-stamps'),
        configuration,
        n_galaxies=galaxies,
        n_observations=observations,
        seed=seed,
        name=name,
        workers=workers,
        progress=False if quiet else None,
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    write_training_table(output, table)
    click.echo(f'wrote {output}')


if __name__ == '__main__':
    main()
