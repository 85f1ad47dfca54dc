# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
From an image of many galaxies to a catalogue.

    python docs/examples/fields.py

draws the figure of ``docs/fields.rst``, as the build of the documentation does. The script of the
README is run on a simulated field of which the truth is known.
"""

import contextlib
import re
import tempfile
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import QTable
from matplotlib.figure import Figure

from astroflux.evaluation.plots import plot_cutout

TOP = Path(__file__).parents[2]
FIGURE = TOP / 'docs' / '_generated' / 'fields.png'

# A source is found if it was detected so many pixels from where it is.
NEAR = 2.0

# What is too faint is left out of the figure of fluxes.
FAINTEST = 5.0


def blocks(path=TOP / 'README.rst'):
    """Return the code of the README that makes a field, and that which measures it."""
    text = path.read_text()
    names = ('field-simulated', 'field-measured')
    found = (re.search(rf':name: {name}\n\n((?: +.*\n|\n)+)', text)[1] for name in names)
    return [re.sub(r'^   ', '', code, flags=re.MULTILINE) for code in found]


def true_flux(catalog, truth):
    """Return the true flux of each source of the catalogue, NaN where none is near."""
    distance = np.hypot(
        *(np.subtract.outer(catalog[name].value, truth[name].value) for name in ('x', 'y'))
    )
    # of two that are near, the brighter one was detected
    flux = np.where(distance < NEAR, truth['flux'].value, np.nan)
    return np.nanmax(np.column_stack([flux, np.full(len(catalog), -1)]), axis=1)


def draw(field, catalog, truth):
    """Return a figure of the field and of the measured over the true fluxes."""
    figure = Figure(figsize=(10, 4.6), layout='constrained')
    image, fluxes = figure.subplots(1, 2)
    noise = float(np.median(field['VARIANCE'].data)) ** 0.5
    plot_cutout(image, field['IMAGE'].data, noise, title='sources by their label')
    for row in catalog:
        image.annotate(
            str(row['label']),
            (row['x'].value, row['y'].value),
            xytext=(5, 5),
            textcoords='offset points',
            color='tab:orange',
            fontsize=8,
            clip_on=True,
        )
    flux = true_flux(catalog, truth)
    kept = (flux > 0) & (catalog['snr'] > FAINTEST)
    for name, error, marker in (('kron_flux', None, 'x'), ('flux', 'flux_err', 'o')):
        values = np.asarray(catalog[name], float)[kept] / flux[kept]
        errors = None if error is None else np.asarray(catalog[error], float)[kept] / flux[kept]
        label = 'Kron, photutils' if error is None else 'CNNFluxEstimator'
        fluxes.errorbar(catalog['mag'].value[kept], values, errors, fmt=marker, label=label)
    fluxes.axhline(1, color='0.5', linewidth=1)
    fluxes.set(xlabel='AB magnitude', ylabel='measured / true flux', ylim=(0.5, 1.5))
    fluxes.legend()
    return figure


def main():
    """Draw the figure."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        scope = {}
        for code in blocks():
            exec(code, scope)
        catalog = QTable.read('catalog.ecsv')
        with fits.open('field.fits') as field:
            figure = draw(field, catalog, scope['truth'])
    FIGURE.parent.mkdir(exist_ok=True)
    figure.savefig(FIGURE, dpi=100)


if __name__ == '__main__':
    main()
