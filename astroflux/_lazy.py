# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Names of a package that load what they need at their first use."""

import sys
from importlib import import_module

__all__ = ['lazy_names']


def lazy_names(package, modules):
    """
    Return the functions ``__getattr__`` and ``__dir__`` of a package.

    ``modules`` tells the module that defines each of its public names.
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
