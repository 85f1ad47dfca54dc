# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What came of galaxies that were put into an image: a table, and what sums it up."""

from dataclasses import dataclass, field, replace

import numpy as np
from astropy import units as u
from astropy.table import QTable

from astroflux._table_files import read_table, write_table
from astroflux.evaluation._comparison_data import Comparison, ExtremeCase
from astroflux.evaluation.metrics import N_BOOTSTRAP, flux_errors
from astroflux.evaluation.parameters import PARAMETERS
from astroflux.evaluation.summary import SUMMARY_COLUMNS, summarize_comparison

__all__ = ['INJECTION_COLUMNS', 'InjectedField', 'InjectionResult']

# What `summary` may be by: the parameter, and the column of the result.
BY = {
    'snr': ('snr', 'true_snr'),
    'magnitude': ('magnitude', 'true_mag'),
    'size': ('size_over_fwhm', 'true_size_over_fwhm'),
    'neighbor_light': ('neighbour_light', 'true_neighbor_light'),
    'sersic_index': ('sersic_index', 'true_sersic_index'),
    'axis_ratio': ('axis_ratio', 'true_axis_ratio'),
    'bulge_to_total': ('bulge_to_total', 'true_bulge_to_total'),
}

# The columns of a summary, as people see them: no method, and no bound.
INJECTION_COLUMNS = tuple(
    replace(column, title='galaxies') if column.name == 'n' else column
    for column in SUMMARY_COLUMNS
    if column.name not in ('method', 'scatter_over_bound')
)

# What a bin of neighbors' light holds at its lower end: all that is fainter.
LEAST_LIGHT = PARAMETERS['neighbour_light'].edges[0]


@dataclass
class InjectedField:
    """
    The image of the first round, for people.

    Attributes
    ----------
    before, after : 2D `~numpy.ndarray`
        The image without its sky, and with galaxies in it.
    places : `~numpy.ndarray`
        ``(n, 2)``, where these are.
    noise : float
        Of a pixel.
    """

    before: np.ndarray
    after: np.ndarray
    places: np.ndarray
    noise: float


@dataclass
class InjectionResult:
    """
    Galaxies that were put into an image, and what was measured of them.

    Attributes
    ----------
    table : `~astropy.table.QTable`
        One row per galaxy: ``round``, ``x`` and ``y``; the truth in ``true_flux``, ``true_snr``,
        ``true_mag`` (if the zero point is known), ``true_half_light_radius``,
        ``true_size_over_fwhm``, ``true_sersic_index`` (of one component),
        ``true_bulge_to_total`` (of two), ``true_axis_ratio`` and ``true_neighbor_light``, the
        light of the real sources at the place over that of the galaxy, weighted with its
        profile; and the columns of the measurement. Its ``meta['injection']`` tells how the
        galaxies were made.
    first_round : `InjectedField` or None
        For the report; `None` if the result was read from a file.
    cases : list of `~astroflux.evaluation.ExtremeCase`
        Those farthest from the truth, the worst first; each image has the place before and, at
        its right, after. Empty if the result was read from a file.
    """

    table: QTable
    first_round: InjectedField | None = None
    cases: list[ExtremeCase] = field(default_factory=list)

    def __len__(self):
        return len(self.table)

    @property
    def meta(self):
        """How the galaxies were made and measured, a dict."""
        return self.table.meta

    @property
    def errors(self):
        """Errors of the fluxes, see `~astroflux.evaluation.flux_errors`."""
        return flux_errors(self.table, self.table['true_flux'])

    @property
    def comparison(self):
        """The result as a `~astroflux.evaluation.Comparison` of one method."""
        method = str(self.meta['method'])
        n = len(self.table)
        measured = QTable({'method': np.full(n, method), 'cutout': np.arange(n)})
        measured['name'] = np.full(n, '')
        for name in ('flux', 'flux_err', 'flux_lower', 'flux_upper', 'snr', 'flags'):
            measured[name] = self.table[name]
        errors = self.errors
        for name in errors.colnames:
            measured[name] = errors[name]
        truth = QTable({'flux': self.table['true_flux']})
        for parameter, column in BY.values():
            if column in self.table.colnames:
                truth[parameter] = u.Quantity(self.table[column]).value
        # the noise of the model makes what is fainter
        light = truth['neighbour_light']
        truth['neighbour_light'] = np.maximum(light, LEAST_LIGHT)
        return Comparison(
            title=self.meta['injection'].get('image') or 'an image',
            labels={method: method.removesuffix('FluxEstimator')},
            measurements=measured,
            truth=truth,
            speed=None,
            extremes={method: self.cases},
            meta=self.meta,
        )

    def summary(self, by='snr', *, edges=None, snr_min=None, n_bootstrap=N_BOOTSTRAP):
        """
        Completeness, bias, scatter, outliers and coverage in bins.

        Parameters
        ----------
        by : str or None, optional
            ``'snr'``, ``'magnitude'``, ``'size'`` (over the FWHM), ``'neighbor_light'``,
            ``'sersic_index'``, ``'axis_ratio'`` or ``'bulge_to_total'``; `None` for all galaxies
            in one bin.
        edges, snr_min, n_bootstrap
            As of `~astroflux.evaluation.summarize_comparison`.

        Returns
        -------
        summary : `~astropy.table.Table`
            One row per bin: ``low``, ``high`` and the entries of
            `~astroflux.evaluation.flux_error_statistics`.

        Raises
        ------
        ValueError
            If the result has no such parameter.
        """
        known = [name for name, (_, column) in BY.items() if column in self.table.colnames]
        if by is not None and by not in known:
            msg = f'by must be one of {known} or None, got {by!r}'
            raise ValueError(msg)
        parameter = None if by is None else BY[by][0]
        options = {'edges': edges, 'snr_min': snr_min, 'n_bootstrap': n_bootstrap}
        summary = summarize_comparison(self.comparison, parameter, **options)
        summary.remove_column('method')
        return summary

    def write_report(self, directory, *, overwrite=False):
        """
        Write a page about the result: `~astroflux.evaluation.write_injection_report`.

        Returns
        -------
        path : `~pathlib.Path`
            The page.
        """
        from astroflux.evaluation.injection_report import write_injection_report

        return write_injection_report(self, directory, overwrite=overwrite)

    def write(self, path, *, overwrite=False):
        """
        Write the table, with its metadata.

        Parameters
        ----------
        path : path-like
            ``.ecsv`` or ``.parquet``.
        overwrite : bool, optional
            Whether a file that exists may be replaced.
        """
        if not str(path).lower().endswith(('.ecsv', '.parquet')):
            msg = f'the name of the result must end in .ecsv or .parquet, got {str(path)!r}'
            raise ValueError(msg)
        write_table(self.table, path, overwrite=overwrite)

    @classmethod
    def read(cls, path):
        """
        Read what `write` wrote, without pictures.

        Raises
        ------
        ValueError
            If the file holds another table.
        """
        table = read_table(path)
        if 'injection' not in table.meta or 'true_flux' not in table.colnames:
            msg = f'{path} holds no injected galaxies'
            raise ValueError(msg)
        return cls(table)
