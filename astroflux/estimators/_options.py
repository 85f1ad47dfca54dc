# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The keywords that say something of the cutouts: every method has those of `iter_cutouts`.

But for ``zeropoint``: fluxes do not depend on it, so only `measure` has that.
"""

from functools import partial, wraps
from inspect import Parameter, signature

from astroflux.cutouts import iter_cutouts

__all__ = ['CUTOUT_OPTIONS', 'takes_cutout_options']

_KEYWORDS = {
    name: parameter
    for name, parameter in signature(iter_cutouts).parameters.items()
    if parameter.kind is Parameter.KEYWORD_ONLY and name != 'zeropoint'
}

CUTOUT_OPTIONS = tuple(_KEYWORDS)


def takes_cutout_options(method=None, *, without=()):
    """
    Give a method that ends in ``**options`` the keywords of `~astroflux.cutouts.iter_cutouts`.

    They are in its signature, which `help` and completion show, and others are refused; but for
    those whose names are in ``without``.
    """
    if method is None:
        return partial(takes_cutout_options, without=without)
    own = signature(method)
    first = [item for item in own.parameters.values() if item.kind is not Parameter.VAR_KEYWORD]
    last = [item for item in first if item.kind is Parameter.KEYWORD_ONLY]
    first = [item for item in first if item.kind is not Parameter.KEYWORD_ONLY]
    keywords = [item for name, item in _KEYWORDS.items() if name not in without]
    whole = own.replace(parameters=[*first, *keywords, *last])

    @wraps(method)
    def checked(*arguments, **named):
        try:
            whole.bind(*arguments, **named)
        except TypeError as exc:
            msg = f'{method.__name__}() {exc}'
            raise TypeError(msg) from None
        return method(*arguments, **named)

    checked.__signature__ = whole
    return checked
