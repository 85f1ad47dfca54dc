# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""How good fluxes are: metrics, the information bound, comparisons, figures and reports."""

from astropy.utils.decorators import deprecated as _deprecated

from astroflux.evaluation.comparison import (
    Comparison,
    ExtremeCase,
    compare_methods,
    merge_comparisons,
)
from astroflux.evaluation.comparison_files import read_comparison, write_comparison
from astroflux.evaluation.information import ImageModel, ln_flux_bound
from astroflux.evaluation.inject import inject_galaxies
from astroflux.evaluation.injection_report import write_injection_report
from astroflux.evaluation.injection_result import InjectedField, InjectionResult
from astroflux.evaluation.metrics import (
    SNR_BINS,
    flux_error_statistics,
    flux_errors,
    scatter_at_bound,
    summarize_by,
)
from astroflux.evaluation.paired import paired_ratios
from astroflux.evaluation.parameters import PARAMETERS, Parameter, derive_parameters
from astroflux.evaluation.report import write_report
from astroflux.evaluation.sources import (
    CutoutSource,
    DatasetSource,
    FileSource,
    ListSource,
    SimulatedSource,
)
from astroflux.evaluation.summary import (
    compare_pairs,
    summarize_bound,
    summarize_comparison,
    summarize_speed,
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
    'InjectedField',
    'InjectionResult',
    'ListSource',
    'Parameter',
    'SimulatedSource',
    'compare_methods',
    'compare_pairs',
    'derive_parameters',
    'flux_error_statistics',
    'flux_errors',
    'inject_galaxies',
    'ln_flux_bound',
    'merge_comparisons',
    'paired_ratios',
    'read_comparison',
    'scatter_at_bound',
    'summarize_bound',
    'summarize_by',
    'summarize_comparison',
    'summarize_speed',
    'write_comparison',
    'write_injection_report',
    'write_report',
]


def _formerly(name, function):
    """A function under its former name, which warns."""
    return _deprecated('0.1', name=name, alternative=function.__name__)(function)


summarise_bound = _formerly('summarise_bound', summarize_bound)
summarise_by = _formerly('summarise_by', summarize_by)
summarise_comparison = _formerly('summarise_comparison', summarize_comparison)
summarise_speed = _formerly('summarise_speed', summarize_speed)
