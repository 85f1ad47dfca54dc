# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
A real field of HSC: detection, the network with neighbors modelled, and Kron.

    python benchmarks/real_field.py --write

detects the sources of the r field in the folder ``ASTROFLUX_REAL_DATA`` and measures them. It
writes the tables and the picture of the page. The true fluxes are not known: the tables say
how far two methods agree, and what the model leaves of the image.
"""

from itertools import pairwise

import numpy as np
from astropy.visualization import AsinhStretch, ImageNormalize
from injection import read_field, star_fwhm
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from report import DOCS, command_line, put_out, rst_table

from astroflux import CNNFluxEstimator, KronFluxEstimator, decode_flags
from astroflux.estimators import FieldDetector, FieldMeasurement
from astroflux.evaluation.metrics import nmad
from astroflux.flags import FATAL_FLAGS, MeasurementFlag

# Bins of the S/N that the network gives with neighbors modelled, and how many sources are listed.
SNR_BINS = (5, 10, 30, 100, 3000)
BRIGHTEST = 12

# Flags of rows whose fluxes are not compared.
DOUBTFUL = (
    MeasurementFlag.OFF_CENTRE
    | MeasurementFlag.MASKED_CORE
    | MeasurementFlag.TRUNCATED
    | MeasurementFlag.BLENDED
)

# What pictures show, in units of the noise; of the residual, as much on either side.
HIGHEST, RESIDUAL = 300.0, 10.0
BRIGHT_TICKS = (0, 10, 30, 100, 300)


def measure(ccd):
    """Return the field after its measurement, and the tables of all methods."""
    options = {'psf_fwhm': star_fwhm(ccd), 'progress': False}
    found = FieldDetector().detect(ccd, psf_fwhm=options['psf_fwhm'])
    network, kron = CNNFluxEstimator(), KronFluxEstimator()
    field = FieldMeasurement(network, ccd, found, **options)
    tables = {('CNN', 'model'): field.run()}
    for method, neighbors in (('CNN', 'none'), ('Kron', 'none'), ('Kron', 'model')):
        estimator = network if method == 'CNN' else kron
        tables[method, neighbors] = estimator.measure_field(
            ccd, found, neighbors=neighbors, **options
        )
    return field, tables


def list_brightest(tables):
    """Return a table of the brightest sources."""
    reference = tables['CNN', 'model']
    order = np.argsort(-np.nan_to_num(reference['snr']))[:BRIGHTEST]
    rows = []
    for row in order:
        magnitudes = [table['mag'].value[row] for table in tables.values()]
        rows.append(
            [
                str(reference['id'][row]),
                *(f'{reference[name].value[row]:.0f}' for name in ('x', 'y')),
                f'{reference["snr"][row]:.0f}',
                f'{magnitudes[0]:.3f} ± {reference["mag_err"].value[row]:.3f}',
                *(f'{magnitude - magnitudes[0]:+.3f}' for magnitude in magnitudes[1:]),
                ', '.join(decode_flags(int(reference['flags'][row]))),
            ]
        )
    others = [f'{method}, {neighbors}' for method, neighbors in list(tables)[1:]]
    header = ['id', 'x', 'y', 'S/N', 'AB mag', *others, 'flags']
    return rst_table(header, rows)


def compare(tables):
    """Return a table of how far each way to measure differs from the network's."""
    reference = tables['CNN', 'model']
    is_good = (reference['flags'] & int(DOUBTFUL | FATAL_FLAGS)) == 0
    rows = []
    for (method, neighbors), table in list(tables.items())[1:]:
        for low, high in pairwise(SNR_BINS):
            with np.errstate(invalid='ignore'):
                chosen = is_good & (reference['snr'] >= low) & (reference['snr'] < high)
                chosen &= table['flux'] > 0
                ln_ratio = np.log(table['flux'][chosen] / reference['flux'][chosen]).value
            if not len(ln_ratio):
                continue
            error = 1.25 * nmad(ln_ratio) / np.sqrt(len(ln_ratio))
            rows.append(
                [
                    f'{method}, {neighbors}',
                    f'{low}-{high}',
                    str(len(ln_ratio)),
                    f'{100 * np.median(ln_ratio):+.1f} ± {100 * error:.1f}',
                    f'{100 * nmad(ln_ratio):.1f}',
                ]
            )
    return rst_table(['method, neighbors', 'S/N', 'n', 'median [%]', 'scatter [%]'], rows)


def describe(ccd, field, tables):
    """Return a table of what was found, and of what the model leaves."""
    noise = ccd.uncertainty.array
    used = field.residual != 0
    left = np.abs(field.residual[used] / noise[used])
    image = np.abs(ccd.data[used] / noise[used])
    table = tables['CNN', 'model']
    rows = [
        ['sources that are detected', str(len(table))],
        ['... of these measured', str(int(np.isfinite(table['flux']).sum()))],
        ['FWHM of the PSF [pixels]', f'{star_fwhm(ccd):.2f}'],
        ['pixels beyond 5 sigma in the image [%]', f'{100 * np.mean(image > 5):.2f}'],
        ['pixels beyond 5 sigma in the residual image [%]', f'{100 * np.mean(left > 5):.3f}'],
    ]
    return rst_table(['', ''], rows).replace('\n\n', '\n')


def draw(ccd, field, table):
    """Return a figure of image, model and residual."""
    noise = float(np.median(ccd.uncertainty.array))
    figure = Figure(figsize=(12, 3.8), layout='constrained')
    axes = figure.subplots(1, 3, sharex=True, sharey=True)
    bright = ImageNormalize(vmin=-3, vmax=HIGHEST, stretch=AsinhStretch(0.02), clip=True)
    pictures = (
        ('image, with the sources', ccd.data, 'gray_r', bright),
        ('model', field.model, 'gray_r', bright),
        ('image without the model', field.residual, 'RdBu_r', Normalize(-RESIDUAL, RESIDUAL)),
    )
    for ax, (title, image, cmap, norm) in zip(axes, pictures, strict=True):
        shown = ax.imshow(image / noise, origin='lower', cmap=cmap, norm=norm)
        ax.set(title=title, xlabel='x [pixels]')
        ticks = BRIGHT_TICKS if norm is bright else None
        figure.colorbar(shown, ax=ax, label='units of the noise', ticks=ticks)
    axes[0].set_ylabel('y [pixels]')
    axes[0].plot(
        table['x'].value, table['y'].value, 'o', markersize=9, mfc='none', mec='tab:orange', mew=0.8
    )
    return figure


def main():
    """Run from the command line."""
    arguments = command_line(__doc__).parse_args()
    ccd = read_field()
    field, tables = measure(ccd)
    for name, table in (
        ('real-field', describe(ccd, field, tables)),
        ('real-field-brightest', list_brightest(tables)),
        ('real-field-compared', compare(tables)),
    ):
        put_out(table, name, write=arguments.write)
    if arguments.write:
        figure = draw(ccd, field, tables['CNN', 'model'])
        figure.savefig(DOCS / 'real-field.png', dpi=100)


if __name__ == '__main__':
    main()
