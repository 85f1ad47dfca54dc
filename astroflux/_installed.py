# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The version of the package."""

__all__ = ['__version__']


def _find_version():
    # setuptools_scm writes _version.py when the package is built; a bare checkout lacks it
    try:
        from astroflux._version import version
    except ImportError:
        from importlib.metadata import PackageNotFoundError
        from importlib.metadata import version as installed_version

        try:
            return installed_version('astroflux')
        except PackageNotFoundError:
            return '0.0.0+unknown'
    return version


__version__ = _find_version()
