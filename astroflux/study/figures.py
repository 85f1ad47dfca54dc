# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Every figure of the study: arrays in, axes out."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator, StrMethodFormatter

from astroflux.evaluation.plots import plot_cutout


def panels(width, height, n_rows=1, n_columns=1, **options):
    """Return the panels of a new figure of so many inches: axes, or an array of them."""
    return Figure(figsize=(width, height), layout='constrained').subplots(
        n_rows, n_columns, **options
    )


# Figures of the networks and of the estimators of today
