# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Whole surveys: many images, and the catalogue of their sources.

The names below load what they need at their first use.
"""

from astroflux._lazy import lazy_names

# public name -> module that defines it
_MODULES = {
    'Assignment': 'astroflux.survey.assignment',
    'SurveyImage': 'astroflux.survey.images',
    'SurveyResult': 'astroflux.survey.run',
    'assign': 'astroflux.survey.assignment',
    'find_images': 'astroflux.survey.images',
    'measure_partition': 'astroflux.survey.partition',
    'measure_survey': 'astroflux.survey.run',
    'partition_meta': 'astroflux.survey.partition',
    'read_catalogue': 'astroflux.survey.catalogues',
    'worst_residuals': 'astroflux.survey.residuals',
    'write_residuals': 'astroflux.survey.residuals',
    'write_summary': 'astroflux.survey.summary',
}

__all__ = [*_MODULES]

__getattr__, __dir__ = lazy_names(__name__, _MODULES)
