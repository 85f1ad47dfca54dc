# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""How good fluxes are: metrics, the information bound, comparisons, figures and reports."""

from astroflux.evaluation.comparison import (
    Comparison,
    ExtremeCase,
    compare_methods,
    merge_comparisons,
)
from astroflux.evaluation.information import (
    ImageModel,
    fisher_information,
    ln_flux_bound,
    population_prior,
)
from astroflux.evaluation.metrics import (
    SNR_BINS,
    flux_error_statistics,
    flux_errors,
    scatter_at_bound,
    summarise_by,
)
from astroflux.evaluation.parameters import PARAMETERS, Parameter, derive_parameters
from astroflux.evaluation.sources import (
    CutoutSource,
    DatasetSource,
    FileSource,
    SimulatedSource,
)

__all__ = [
    'PARAMETERS',
    'SNR_BINS',
    'Comparison',
    'CutoutSource',
    'DatasetSource',
    'ExtremeCase',
    'FileSource',
    'ImageModel',
    'Parameter',
    'SimulatedSource',
    'compare_methods',
    'derive_parameters',
    'fisher_information',
    'flux_error_statistics',
    'flux_errors',
    'ln_flux_bound',
    'merge_comparisons',
    'population_prior',
    'scatter_at_bound',
    'summarise_by',
]
