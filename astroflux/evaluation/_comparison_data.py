# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What a comparison of methods is: tables, and the worst cases."""

from dataclasses import dataclass, field

import numpy as np
from astropy import units as u
from astropy.table import QTable

__all__ = ['Comparison', 'ExtremeCase']


@dataclass
class ExtremeCase:
    """
    A cutout that a method measured badly.

    Attributes
    ----------
    cutout : int
        Number of the cutout.
    name : str
        File name or label of the cutout; empty if it has none.
    image : 2D `~numpy.ndarray`
        Pixel values; ignored pixels are 0.
    mask : 2D `~numpy.ndarray` of bool
        `True` where a pixel is ignored.
    noise : float
        Median noise per pixel.
    flux, flux_err, reference : `~astropy.units.Quantity`
        What the method measured, and the true flux (without truth: the median of the methods, where
        there are two or more).
    ln_ratio : float
        ln(flux / reference).
    flags : tuple of str
        Names of the method's flags.
    details : dict of str to float
        Parameters of the galaxy, such as ``snr``, as far as they are known.
    """

    cutout: int
    name: str
    image: np.ndarray
    mask: np.ndarray
    noise: float
    flux: u.Quantity
    flux_err: u.Quantity
    reference: u.Quantity
    ln_ratio: float
    flags: tuple[str, ...]
    details: dict[str, float]


@dataclass
class Comparison:
    """
    Several methods on the same cutouts.

    Attributes
    ----------
    title : str
        What was measured, for people.
    labels : dict of str to str
        Name of each method, in the order of the call, and how it is called in figures.
    measurements : `~astropy.table.QTable`
        One row for every method on every cutout: ``method``, ``cutout`` (its number), ``name``,
        ``flux``, ``flux_err``, ``flux_lower``, ``flux_upper``, ``snr``, ``flags`` and, with
        truth, ``ln_error``, ``covered_68``, ``covered_95`` and ``pull`` (see
        `~astroflux.evaluation.flux_errors`). A slow method may have been given the first
        cutouts only.
    truth : `~astropy.table.QTable` or None
        One row per cutout: ``flux``, the columns of ``astroflux.evaluation.PARAMETERS`` that are
        known, and ``bound``, the smallest standard deviation of ln flux that is possible (NaN
        where not known). Only of cutouts that any method was given.
    speed : `~astropy.table.QTable`
        One row per method: ``method``, ``n`` cutouts, ``cpu_time`` in seconds of one core.
    extremes : dict of str to list of `ExtremeCase`
        The worst cases of each method, the worst first; with truth of galaxies of S/N above 20,
        if that is known.
    meta : dict
        How it was made.
    """

    title: str
    labels: dict[str, str]
    measurements: QTable
    truth: QTable | None
    speed: QTable
    extremes: dict[str, list[ExtremeCase]]
    meta: dict = field(default_factory=dict)

    @property
    def label_text(self):
        """What all methods are called, with commas between them."""
        return ', '.join(self.labels.values())

    @property
    def knows_snr(self):
        """Whether the true S/N of the galaxies is known."""
        return self.truth is not None and 'snr' in self.truth.colnames

    def of_method(self, method):
        """Return the rows of the measurements that are of one method."""
        return self.measurements[self.measurements['method'] == method]
