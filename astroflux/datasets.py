# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The cutouts that ship with the package."""

from importlib import resources

from astropy.table import QTable

from astroflux.cutouts import read_cutout

__all__ = ['load_demo']


def load_demo():
    """
    Read the simulated cutouts in the package, and their truth.

    Returns
    -------
    cutouts : list of `~astropy.nddata.CCDData`
        Galaxies as HSC Wide would see them, in ADU at zero point 27, with
        noise, PSF image and WCS.
    truth : `~astropy.table.QTable`
        Their true total flux, shape, and S/N; see
        `~astroflux.simulation.write_dataset`.
    """
    with resources.as_file(resources.files('astroflux') / 'data' / 'demo') as folder:
        truth = QTable.read(folder / 'truth.ecsv')
        cutouts = [read_cutout(folder / name) for name in truth['file_name']]
    return cutouts, truth
