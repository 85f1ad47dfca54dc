# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The parameters of galaxies by which errors are looked at."""

from dataclasses import dataclass

import numpy as np
from astropy import units as u

from astroflux.evaluation.metrics import SNR_BINS

__all__ = ['PARAMETERS', 'Parameter', 'derive_parameters']


@dataclass(frozen=True)
class Parameter:
    """
    A parameter of galaxies, with its bins.

    Attributes
    ----------
    name : str
        Column of the table of truth.
    label : str
        For axes and tables.
    edges : tuple of float
        Edges of the bins.
    is_log : bool
        Whether to draw it on a logarithmic axis.
    """

    name: str
    label: str
    edges: tuple[float, ...]
    is_log: bool = False


PARAMETERS = {
    parameter.name: parameter
    for parameter in (
        Parameter('snr', 'S/N', SNR_BINS, is_log=True),
        Parameter('magnitude', 'magnitude [AB]', (16, 18, 20, 22, 24, 26, 28)),
        Parameter('sersic_index', 'Sersic index', (0.5, 1, 1.5, 2.5, 4, 6.5), is_log=True),
        Parameter(
            'size_over_fwhm',
            'half-light radius / PSF FWHM',
            (0.1, 0.35, 0.7, 1.4, 2.8, 8),
            is_log=True,
        ),
        Parameter('axis_ratio', 'axis ratio', (0.2, 0.4, 0.6, 0.8, 1)),
        Parameter('bulge_to_total', 'bulge-to-total ratio', (0, 0.2, 0.4, 0.6, 0.8, 1)),
        Parameter('neighbour_distance', 'distance of the neighbour [arcsec]', (1.2, 2, 3, 4)),
        Parameter(
            'neighbour_flux_ratio', 'flux of the neighbour / galaxy', (0.1, 0.3, 1, 2), is_log=True
        ),
        Parameter(
            'neighbour_light',
            'light of neighbours on the galaxy / galaxy',
            (0.0001, 0.001, 0.01, 0.1, 1, 10),
            is_log=True,
        ),
    )
}


def derive_parameters(truth):
    """
    Add the columns of `PARAMETERS` to a table of truth, as far as it allows.

    Parameters
    ----------
    truth : `~astropy.table.QTable`
        One row per galaxy, with columns of `astroflux.simulation.CutoutSimulation.draw`.

    Returns
    -------
    table : `~astropy.table.QTable`
        A copy, with plain numbers in the columns of the parameters. ``sersic_index`` is that of
        galaxies of one component, ``bulge_to_total`` of those of two; ``axis_ratio`` is the
        first component's.
    """
    table = truth.copy()
    names = table.colnames
    if {'n_components', 'sersic_index_1'} <= {*names}:
        single = np.asarray(table['n_components']) == 1
        table['sersic_index'] = np.where(single, table['sersic_index_1'], np.nan)
        if 'bulge_to_total' in names:
            table['bulge_to_total'] = np.where(single, np.nan, table['bulge_to_total'])
    if 'axis_ratio_1' in names:
        table['axis_ratio'] = table['axis_ratio_1']
    if {'half_light_radius', 'psf_fwhm'} <= {*names}:
        ratio = u.Quantity(table['half_light_radius']) / u.Quantity(table['psf_fwhm'])
        table['size_over_fwhm'] = ratio.to_value(u.dimensionless_unscaled)
    for name in PARAMETERS:
        if name in table.colnames:
            table[name] = u.Quantity(table[name]).value
    return table
