# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""``python -m astroflux.training``: train a network from a configuration."""

import click

from astroflux.training.run import train


@click.command()
@click.argument('configuration')
@click.option('-o', '--output', required=True, type=click.Path(), help='Folder of the run.')
@click.option('--network', help='Finished weights: train only what is for blocks of pixels.')
@click.option('--resume', is_flag=True, help='Go on from the checkpoint in the folder.')
@click.option('--device', default='auto', show_default=True, help='cpu, cuda or auto.')
@click.option(
    '--workers',
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    help='Processes for rendering, and for observing beside the training.',
)
def main(configuration, output, network, resume, device, workers):
    """Train the network of CONFIGURATION (a shipped name or a TOML file)."""
    path = train(
        configuration, output, network=network, resume=resume, device=device, workers=workers
    )
    click.echo(f'wrote {path}')


if __name__ == '__main__':
    main()
