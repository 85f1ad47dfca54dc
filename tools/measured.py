# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Write what all methods measure on fixed cutouts, for the test that they still do.

    python tools/measured.py

Run it after a change that is meant to change numbers, and look at what the file's difference says.
"""

import json
from importlib import metadata
from pathlib import Path

import numpy as np
from astropy.nddata import CCDData, StdDevUncertainty

from astroflux.datasets import load_demo
from astroflux.estimators import make_estimator

PATH = Path(__file__).parents[1] / 'tests' / 'estimators' / 'measured.json'

METHODS = (
    *('cnn', 'kron', 'aperture', 'growth', 'petrosian', 'sep'),
    *('sersic', 'bulge-disc', 'linear', 'forest', 'boosting'),
)

# Fits take seconds.
N_FITTED = 1

# The numbers are those of these packages.
PACKAGES = ('photutils', 'scikit-learn', 'sep', 'statmorph', 'pyimfit')


def versions():
    """Return the versions of the packages; `None` for one that is not installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def fixed_cutouts():
    """Return the demo's galaxies, each lacking or having something else, and a large one."""
    rng = np.random.default_rng(1)
    plain, masked, noiseless, without_psf, small, tiny, uneven, shifted = load_demo()[0]
    masked.mask = rng.random(masked.shape) < 0.03
    masked.mask[:, 90:92] = True
    noiseless.uncertainty = None
    without_psf.psf = None
    small, tiny = _part(small, slice(40, 104), slice(36, 101)), _part(tiny, *[slice(60, 83)] * 2)
    tiny.uncertainty = None
    slope = np.linspace(1, 2, uneven.shape[1]) * uneven.uncertainty.array
    uneven.uncertainty = StdDevUncertainty(slope)
    shifted = _part(shifted, slice(0, 141), slice(2, 143))
    y, x = np.mgrid[-150:151, -150:151]
    disc = 20 * np.exp(-np.hypot(x, 1.5 * y) / 25) + 0.05 * rng.standard_normal(x.shape)
    noise = StdDevUncertainty(np.full(x.shape, 0.05))
    large = CCDData(disc, unit='adu', uncertainty=noise, psf=plain.psf)
    return [plain, masked, noiseless, without_psf, small, tiny, uneven, shifted, large]


def _part(ccd, rows, columns):
    noise = StdDevUncertainty(ccd.uncertainty.array[rows, columns])
    return CCDData(ccd.data[rows, columns], unit=ccd.unit, uncertainty=noise, psf=ccd.psf)


def measure(name, cutouts):
    """Return the columns of numbers of a method's table, by name."""
    if name in ('sersic', 'bulge-disc'):
        cutouts = cutouts[:N_FITTED]
    table = make_estimator(name).measure(cutouts)
    columns = {column: table[column] for column in table.colnames if column != 'name'}
    return {
        column: _plain(np.asarray(getattr(values, 'value', values)))
        for column, values in columns.items()
    }


def _plain(values):
    """Return a list fit for JSON, `None` for NaN."""
    return [None if value != value else value for value in values.tolist()]


def main():
    """Run from the command line."""
    cutouts = fixed_cutouts()
    measured = {name: measure(name, cutouts) for name in METHODS}
    content = {'versions': versions(), 'measured': measured}
    PATH.write_text(json.dumps(content, indent=1) + '\n')


if __name__ == '__main__':
    main()
