# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""How good fluxes are: metrics, the information bound, comparisons, figures and reports."""

from astroflux.evaluation.comparison import (
    Comparison,
    ExtremeCase,
    compare_methods,
    merge_comparisons,
)
from astroflux.evaluation.comparison_files import read_comparison, write_comparison
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
from astroflux.evaluation.paired import paired_ratios
from astroflux.evaluation.parameters import PARAMETERS, Parameter, derive_parameters
from astroflux.evaluation.sources import (
    CutoutSource,
    DatasetSource,
    FileSource,
    SimulatedSource,
)
from astroflux.evaluation.summary import (
    compare_pairs,
    summarise_bound,
    summarise_comparison,
    summarise_speed,
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
    'compare_pairs',
    'derive_parameters',
    'fisher_information',
    'flux_error_statistics',
    'flux_errors',
    'ln_flux_bound',
    'merge_comparisons',
    'paired_ratios',
    'population_prior',
    'read_comparison',
    'scatter_at_bound',
    'summarise_bound',
    'summarise_by',
    'summarise_comparison',
    'summarise_speed',
    'write_comparison',
]
