# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
A simulated field, measured with the light of neighbors and without.

    python docs/examples/survey_tutorial.py

runs the code of ``docs/survey_tutorial.rst`` and draws its figures, as the build of the
documentation does.
"""

import re
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from astroflux.evaluation.plots import plot_cutout, use_plain_log_ticks

DOCS = Path(__file__).parents[1]
FOLDER = DOCS / '_generated'

# What is shown of the image beside its model.
PART = np.s_[270:520, 190:440]


def blocks(path=DOCS / 'survey_tutorial.rst'):
    """Return the pieces of code of the page that have a name, in their order."""
    found = re.findall(r':name: tutorial-.*\n\n((?: +.*\n|\n)+)', path.read_text())
    return [re.sub(r'^   ', '', code, flags=re.MULTILINE) for code in found]


def field_figure(image, truth):
    """Return a figure of the field, with a circle around each source."""
    figure = Figure(figsize=(6.5, 6.5), layout='constrained')
    ax = plot_cutout(figure.subplots(), image.data, image.uncertainty.array[0, 0])
    size = 10 + 400 * truth['half_light_radius'].value
    ax.scatter(truth['x'], truth['y'], s=size, facecolor='none', edgecolor='tab:orange')
    return figure


def models_figure(image, model, residual):
    """Return a figure of a part of the image, the model and the residual."""
    figure = Figure(figsize=(10, 3.6), layout='constrained')
    noise = image.uncertainty.array[0, 0]
    panels = {'image': image.data, 'model': model, 'residual': residual}
    axes = figure.subplots(1, 3)
    for ax, (title, pixels) in zip(axes, panels.items(), strict=True):
        plot_cutout(ax, pixels[PART], noise, title=title)
        ax.images[0].set_norm(axes[0].images[0].norm)
    return figure


def fluxes_figure(truth, has_neighbor, tables):
    """Return a figure of the measured over the true fluxes of some tables."""
    figure = Figure(figsize=(10, 4), layout='constrained')
    axes = figure.subplots(1, len(tables), sharex=True, sharey=True)
    for ax, (title, table) in zip(axes, tables.items(), strict=True):
        for which, color, label in (
            (~has_neighbor, 'tab:blue', 'all others'),
            (has_neighbor, 'tab:orange', 'with a brighter neighbor'),
        ):
            ratio, low, high = (
                (table[name] / truth['flux']).value[which]
                for name in ('flux', 'flux_lower', 'flux_upper')
            )
            error = np.maximum([ratio - low, high - ratio], 0)
            style = {'fmt': 'o', 'markersize': 4, 'elinewidth': 1, 'color': color}
            ax.errorbar(truth['snr'][which], ratio, error, label=label, **style)
        ax.axhline(1, color='0.5', linewidth=1)
        ax.set(xscale='log', yscale='log', ylim=(0.3, 8), title=title, xlabel='true S/N')
        use_plain_log_ticks(ax.xaxis)
        use_plain_log_ticks(ax.yaxis)
    axes[0].set_ylabel('measured / true flux')
    axes[0].legend()
    return figure


def main():
    """Draw the figures."""
    scope = {}
    for code in blocks():
        exec(code, scope)
    image, truth = scope['image'], scope['truth']
    tables = {'one pass': scope['one_pass'], 'neighbors modelled': scope['table']}
    figures = {
        'field': field_figure(image, truth),
        'models': models_figure(image, scope['model'], scope['residual']),
        'fluxes': fluxes_figure(truth, scope['has_neighbor'], tables),
    }
    FOLDER.mkdir(exist_ok=True)
    for name, figure in figures.items():
        figure.savefig(FOLDER / f'survey-{name}.png', dpi=100)


if __name__ == '__main__':
    main()
