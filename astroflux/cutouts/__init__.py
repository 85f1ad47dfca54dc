# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""From NDData, arrays and FITS files to stamps that are ready to measure."""

from astroflux.cutouts._correlation import noise_growth
from astroflux.cutouts._cutout import Cutout
from astroflux.cutouts._parse import iter_cutouts
from astroflux.cutouts.psf_field import GriddedPSF, PSFExPSF, PSFField
from astroflux.cutouts.readers import CutoutFile, CutoutReadError, read_cutout
from astroflux.cutouts.star_psf import StarPSF, psf_from_stars
from astroflux.cutouts.writers import write_cutout

__all__ = [
    'Cutout',
    'CutoutFile',
    'CutoutReadError',
    'GriddedPSF',
    'PSFExPSF',
    'PSFField',
    'StarPSF',
    'iter_cutouts',
    'noise_growth',
    'psf_from_stars',
    'read_cutout',
    'write_cutout',
]
