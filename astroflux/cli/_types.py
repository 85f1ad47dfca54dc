# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Types of options: what is wrong with a value is told before any work is done."""

import math
import re
from importlib import import_module
from pathlib import Path

import click

__all__ = [
    'DEVICE',
    'WEIGHTS',
    'AngleOrPixels',
    'Background',
    'ImageUnit',
    'NoiseCorrelation',
    'NumberOrName',
    'OutputFolder',
    'TablePath',
]


class AngleOrPixels(click.ParamType):
    """A length in an image: ``0.7arcsec``, ``4pix`` or ``4px``."""

    name = 'length'

    def convert(self, value, param, ctx):
        """Parse the text as a positive `~astropy.units.Quantity`."""
        from astropy import units as u

        if isinstance(value, u.Quantity):
            return value
        try:
            length = u.Quantity(re.sub(r'px$', 'pix', value.strip()))
        except (TypeError, ValueError):
            self.fail(f'{value!r} is not a length such as 0.7arcsec or 4pix', param, ctx)
        if length.unit == u.dimensionless_unscaled:
            self.fail(f'{value!r} lacks its unit: want 0.7arcsec or 4pix', param, ctx)
        if not (length.unit.is_equivalent(u.arcsec) or length.unit.is_equivalent(u.pix)):
            unit = (getattr(length.unit, 'long_names', None) or [str(length.unit)])[0]
            msg = f'{value!r} is in {unit}, neither an angle nor pixels: want 0.7arcsec or 4pix'
            self.fail(msg, param, ctx)
        if not (length.isscalar and 0 < length.value < float('inf')):
            self.fail(f'{value!r} is not a positive length', param, ctx)
        return length


class NoiseCorrelation(click.ParamType):
    """How noise is correlated: a number, or ``estimate``."""

    name = 'correlation'

    def convert(self, value, param, ctx):
        """Parse the text as a number if it is none of the words."""
        from astroflux.cutouts._correlation import parse_noise_correlation

        if isinstance(value, float) or value == 'estimate':
            return value
        try:
            number = float(value)
        except ValueError:
            self.fail(f'{value!r} is neither a number such as 1.2 nor estimate', param, ctx)
        try:
            parse_noise_correlation(number)
        except ValueError as exc:
            self.fail(str(exc), param, ctx)
        return number


class Checked(click.ParamType):
    """
    A text that a function of the package checks.

    Parameters
    ----------
    name : str
        What it is, for the help.
    module, function : str
        Where the function is, which is imported when there is something to check. It raises
        `ValueError` for what it refuses.
    """

    def __init__(self, name, module, function):
        self.name, self._module, self._function = name, module, function

    def convert(self, value, param, ctx):
        """Check the text, and return it as it is."""
        try:
            getattr(import_module(self._module), self._function)(value)
        except ValueError as exc:
            self.fail(str(exc), param, ctx)
        return value


# Where torch computes; and weights of a network, of which it is seen later if they can be read.
DEVICE = Checked('device', 'astroflux.networks.devices', 'find_device')
WEIGHTS = Checked('weights', 'astroflux.networks.registry', 'check_weights_name')


class Background(click.ParamType):
    """The sky: ``none``, ``local`` or a value."""

    name = 'background'

    def convert(self, value, param, ctx):
        """Parse the text as a number if it is none of the words."""
        if isinstance(value, float) or value in ('none', 'local'):
            return value
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            self.fail(f'{value!r} is none of none, local and a finite number', param, ctx)
        return number


class ImageUnit(click.ParamType):
    """A unit of flux or surface brightness, as headers have it or as astropy writes it."""

    name = 'unit'

    def convert(self, value, param, ctx):
        """Parse the text as an `~astropy.units.UnitBase`."""
        from astropy.units import UnitBase, UnitsError

        from astroflux.cutouts._headers import unit_of
        from astroflux.cutouts._units import check_flux_unit

        if isinstance(value, UnitBase):
            return value
        try:
            unit = unit_of(value)
            check_flux_unit(unit)
        except UnitsError as exc:
            self.fail(str(exc), param, ctx)
        except ValueError:
            self.fail(
                f"{value!r} is not understood: want nJy, 'electron / s' or the like", param, ctx
            )
        return value


class NumberOrName(click.ParamType):
    """Something that has a number, counted from 0, and perhaps a name."""

    name = 'number or name'

    def convert(self, value, param, ctx):
        """Parse the text as a number if it is one."""
        return int(value) if isinstance(value, int) or value.isdecimal() else value


class OutputFolder(click.Path):
    """A folder for what a command writes; it need not exist yet."""

    def __init__(self):
        super().__init__(file_okay=False, path_type=Path)

    def convert(self, value, param, ctx):
        """Check that files can be written there."""
        from astroflux._work import check_writable

        path = super().convert(value, param, ctx)
        try:
            check_writable(path)
        except OSError as exc:
            self.fail(str(exc), param, ctx)
        return path


class TablePath(click.ParamType):
    """Where a table can be written."""

    name = 'file'

    def convert(self, value, param, ctx):
        """Check all but whether there is a table already."""
        from astroflux._table_files import check_table_path

        try:
            check_table_path(value, overwrite=True)
        except (OSError, ValueError) as exc:
            self.fail(str(exc), param, ctx)
        return Path(value)
