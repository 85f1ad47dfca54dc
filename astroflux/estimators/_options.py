# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The keywords that say something of the cutouts: every method has those of `iter_cutouts`.

But for ``zeropoint``: fluxes do not depend on it, so only `measure` has that.
"""

from functools import wraps
from inspect import Parameter, signature

from astroflux.cutouts import iter_cutouts

__all__ = ['CUTOUT_OPTIONS', 'takes_cutout_options']

_KEYWORDS = {
    name: parameter
    for name, parameter in signature(iter_cutouts).parameters.items()
    if parameter.kind is Parameter.KEYWORD_ONLY and name != 'zeropoint'
}

CUTOUT_OPTIONS = tuple(_KEYWORDS)


def takes_cutout_options(method):
    """
    Give a method that ends in ``**options`` the keywords of `~astroflux.cutouts.iter_cutouts`.

    They are in its signature, which `help` and completion show, and others are refused.
    """
    own = signature(method)
    first = [item for item in own.parameters.values() if item.kind is not Parameter.VAR_KEYWORD]
    last = [item for item in first if item.kind is Parameter.KEYWORD_ONLY]
    first = [item for item in first if item.kind is not Parameter.KEYWORD_ONLY]
    whole = own.replace(parameters=[*first, *_KEYWORDS.values(), *last])

    @wraps(method)
    def checked(*arguments, **keywords):
        try:
            whole.bind(*arguments, **keywords)
        except TypeError as exc:
            msg = f'{method.__name__}() {exc}'
            raise TypeError(msg) from None
        return method(*arguments, **keywords)

    checked.__signature__ = whole
    return checked
