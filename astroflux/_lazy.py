# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Names of a package that load what they need at their first use."""

import sys
from importlib import import_module

__all__ = ['lazy_names']


def lazy_names(package, modules):
    """
    Return the functions ``__getattr__`` and ``__dir__`` of a package.

    Parameters
    ----------
    package : str
        Name of the package.
    modules : dict of str to str
        Public name and the module that defines it.

    Returns
    -------
    getattr_function, dir_function : callable
    """
    namespace = vars(sys.modules[package])

    def load(name):
        if name not in modules:
            msg = f'module {package!r} has no attribute {name!r}'
            raise AttributeError(msg)
        # kept, so that the next access does not come here
        namespace[name] = getattr(import_module(modules[name]), name)
        return namespace[name]

    return load, lambda: sorted({*namespace, *modules})
