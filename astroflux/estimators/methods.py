# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The methods by their short names, as the command line and the benchmarks know them."""

import shutil
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec

__all__ = [
    'ESTIMATOR_MODULES',
    'KNOWN_METHODS',
    'SEXTRACTOR_PROGRAMS',
    'Method',
    'available_methods',
    'make_estimator',
]

# what Debian, and what its authors call the program
SEXTRACTOR_PROGRAMS = ('source-extractor', 'sex')


@dataclass(frozen=True)
class Method:
    """
    A way of measuring.

    Attributes
    ----------
    name : str
        On the command line.
    label : str
        In tables and figures.
    estimator : str
        Name of the class.
    module : str
        Module that defines it, below ``astroflux.estimators``.
    arguments : dict
        Of its constructor.
    needs : str
        An optional package or program that must be installed; empty if none.
    is_slow : bool
        Whether a cutout takes more than a tenth of a second.
    """

    name: str
    label: str
    estimator: str
    module: str
    arguments: dict = field(default_factory=dict)
    needs: str = ''
    is_slow: bool = False

    @property
    def is_available(self):
        """Whether what it needs is installed."""
        if self.needs == 'source-extractor':
            return any(shutil.which(program) for program in SEXTRACTOR_PROGRAMS)
        return not self.needs or find_spec(self.needs) is not None

    @property
    def how_to_install(self):
        """What it needs and how to get that, for messages."""
        if self.needs == 'source-extractor':
            programs = ' or '.join(SEXTRACTOR_PROGRAMS)
            return f"the program {programs} (in Debian: the package 'source-extractor')"
        return f"{self.needs}: pip install 'astroflux[compare]'"


KNOWN_METHODS = {
    method.name: method
    for method in (
        Method('cnn', 'CNN', 'CNNFluxEstimator', 'cnn'),
        Method('kron', 'Kron', 'KronFluxEstimator', 'photometry.kron'),
        Method('aperture', 'aperture', 'ApertureFluxEstimator', 'photometry.aperture'),
        Method('growth', 'curve of growth', 'CurveOfGrowthFluxEstimator', 'photometry.growth'),
        Method(
            'petrosian',
            'Petrosian',
            'PetrosianFluxEstimator',
            'photometry.petrosian',
            needs='statmorph',
        ),
        Method('sep', 'AUTO (sep)', 'SEPFluxEstimator', 'photometry.sep', needs='sep'),
        Method(
            'sextractor',
            'AUTO (SExtractor)',
            'SExtractorFluxEstimator',
            'photometry.sextractor',
            needs='source-extractor',
        ),
        Method(
            'sersic',
            'Sersic fit',
            'SersicFluxEstimator',
            'profile.sersic',
            needs='pyimfit',
            is_slow=True,
        ),
        Method(
            'bulge-disc',
            'bulge + disc fit',
            'SersicFluxEstimator',
            'profile.sersic',
            {'n_components': 2},
            needs='pyimfit',
            is_slow=True,
        ),
        *(
            Method(
                model, label, 'RegressionFluxEstimator', 'regression.estimator', {'model': model}
            )
            for model, label in (
                ('linear', 'linear model'),
                ('forest', 'random forest'),
                ('boosting', 'boosted trees'),
            )
        ),
    )
}
"""All methods, by name: the one place where an estimator is named."""

ESTIMATOR_MODULES = {
    method.estimator: f'astroflux.estimators.{method.module}'
    for method in sorted(KNOWN_METHODS.values(), key=lambda method: method.estimator)
}
"""Modules of the classes, by public name."""


def make_estimator(name, **arguments):
    """
    Make the estimator of a method.

    Parameters
    ----------
    name : str
        One of `KNOWN_METHODS`.
    **arguments
        Further arguments of its constructor.

    Returns
    -------
    estimator : `~astroflux.estimators.FluxEstimator`

    Raises
    ------
    ValueError
        If the name is not known.
    """
    if name not in KNOWN_METHODS:
        msg = f'unknown method {name!r}: want one of {", ".join(KNOWN_METHODS)}'
        raise ValueError(msg)
    method = KNOWN_METHODS[name]
    estimator = getattr(import_module('astroflux'), method.estimator)
    return estimator(**{**method.arguments, **arguments})


def available_methods(*, slow=False):
    """
    Names of the methods whose optional packages and programs are installed.

    Parameters
    ----------
    slow : bool, optional
        Whether to name the slow ones, too.

    Returns
    -------
    names : list of str
    """
    return [
        method.name
        for method in KNOWN_METHODS.values()
        if method.is_available and (slow or not method.is_slow)
    ]
