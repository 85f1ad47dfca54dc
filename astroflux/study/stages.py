# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The stages of the study, in the order of its report."""

from importlib import import_module

__all__ = ['STAGE_NAMES', 'load_stages']

# Name of a stage -> module of `astroflux.study` and function in it.
FUNCTIONS = {
    'data': ('stages', 'make_data'),
    'exploration': ('exploration', 'explore'),
    'linear': ('tabular', 'linear'),
    'logistic': ('tabular', 'logistic'),
    'forest': ('tabular', 'forest'),
    'cnn': ('cnn_results', 'cnn'),
    'explanations': ('explanations', 'explanations'),
    'joined': ('joined', 'joined'),
    'components': ('components', 'components'),
    'today': ('today', 'today'),
    'accuracy': ('accuracy', 'accuracy'),
}
STAGE_NAMES = tuple(FUNCTIONS)


def load_stages():
    """
    Load the functions of all stages.

    Returns
    -------
    stages : dict of str to callable
        The name of each stage, in their order, and its function: it takes a
        `~astroflux.study.context.Context` and returns a `dict`.
    """
    return {
        name: getattr(import_module(f'astroflux.study.{module}'), function)
        for name, (module, function) in FUNCTIONS.items()
    }


def make_data(context):
    """
    Draw the data set, as far as it is not there, and describe it.

    Parameters
    ----------
    context : `~astroflux.study.context.Context`
        What every stage is given.

    Returns
    -------
    results : dict
        See `~astroflux.study.exploration.describe_data`.
    """
    from astroflux.study.dataset import write_study_dataset
    from astroflux.study.exploration import describe_data

    write_study_dataset(
        context.data, context.preset.settings, workers=context.workers, progress=context.progress
    )
    return describe_data(context)
