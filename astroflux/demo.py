# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Measure the simulated galaxies that ship with the package."""

from pathlib import Path

import numpy as np
from astropy.table import QTable
from astropy.utils.decorators import deprecated

from astroflux import datasets
from astroflux._work import write_whole
from astroflux.estimators import CNNFluxEstimator, KronFluxEstimator

__all__ = ['run_demo']

FIGURE_NAME = 'astroflux_demo.png'

load_demo = deprecated('0.1', name='load_demo', alternative='astroflux.datasets.load_demo')(
    datasets.load_demo
)


def run_demo(output_dir):
    """
    Measure the demo cutouts with the network and with Kron apertures.

    Parameters
    ----------
    output_dir : path-like
        Folder of the figure; it must exist.

    Returns
    -------
    table : `~astropy.table.QTable`
        Per galaxy: ``true_flux``, ``flux`` and ``flux_err`` of the network,
        ``kron_flux``, ``half_light_radius`` and ``true_half_light_radius``,
        ``flags``.
    path : `~pathlib.Path`
        The figure.
    """
    cutouts, truth = datasets.load_demo()
    cnn = CNNFluxEstimator().measure(cutouts)
    kron = KronFluxEstimator().measure(cutouts)
    table = QTable(
        {
            'name': truth['file_name'],
            'true_flux': truth['flux'],
            'flux': cnn['flux'],
            'flux_err': cnn['flux_err'],
            'kron_flux': kron['flux'],
            'true_half_light_radius': truth['half_light_radius'],
            'half_light_radius': cnn['half_light_radius'],
            'flags': cnn['flags'],
        }
    )
    path = Path(output_dir) / FIGURE_NAME
    with write_whole(path) as part:
        _draw(cutouts, truth, table).savefig(part, dpi=120, format='png')
    return table, path


def _draw(cutouts, truth, table):
    from matplotlib.figure import Figure

    from astroflux.evaluation.plots import plot_cutout, plot_flux_ratio

    n_columns = len(cutouts) // 2
    figure = Figure(figsize=(2.1 * n_columns, 7.2), layout='constrained')
    upper, lower = figure.subfigures(2, 1, height_ratios=[1.35, 1])
    panels = upper.subplots(2, n_columns).ravel()
    for ax, cutout, row in zip(panels, cutouts, table, strict=True):
        title = (
            f'true {row["true_flux"].value:.4g}\n{row["flux"].value:.4g} ± {row["flux_err"]:.2g}'
        )
        plot_cutout(ax, cutout.data, float(np.median(cutout.uncertainty.array)), title=title)
    upper.suptitle('Simulated galaxies as HSC Wide sees them: true and measured flux')

    ax = lower.subplots()
    snr = np.asarray(truth['snr'])
    for name, error, label, color, marker in (
        ('kron_flux', None, 'Kron (photutils)', 'tab:orange', 's'),
        ('flux', 'flux_err', 'astroflux CNN', 'tab:blue', 'o'),
    ):
        ratio = (table[name] / table['true_flux']).value
        ratio_err = None if error is None else (table[error] / table['true_flux']).value
        plot_flux_ratio(ax, snr, ratio, ratio_err, label=label, color=color, marker=marker)
    ax.legend()
    return figure
