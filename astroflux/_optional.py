# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Import what only an extra installs, or say which extra does."""

from importlib import import_module


def import_optional(name, *, extra):
    """Import a module that an extra of the package installs; `ImportError` names the extra."""
    try:
        return import_module(name)
    except ImportError as exc:
        msg = f"{name} is needed here; install it with: pip install 'astroflux[{extra}]'"
        raise ImportError(msg) from exc
