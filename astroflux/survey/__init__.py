# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Whole surveys: images and a catalogue in, a table of every source out."""

from astroflux._lazy import lazy_names

_MODULES = {
    'SurveyPlan': 'astroflux.survey.plan',
    'SurveyResult': 'astroflux.survey.run',
    'measure_survey': 'astroflux.survey.run',
}

__all__ = [*_MODULES]

__getattr__, __dir__ = lazy_names(__name__, _MODULES)
