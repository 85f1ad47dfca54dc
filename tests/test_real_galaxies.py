# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What the shipped network says of real galaxies."""

import importlib
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import CCDData, StdDevUncertainty
from astropy.stats import sigma_clipped_stats

from astroflux import CNNFluxEstimator, SersicFluxEstimator

FOLDER = os.environ.get('ASTROFLUX_REAL_DATA')
pytestmark = pytest.mark.skipif(
    not FOLDER, reason='ASTROFLUX_REAL_DATA names no folder of real images'
)

# Farther than this from the galaxy, in pixels, a stamp of 120 pixels shows nothing but sky.
SKY_RADIUS = 50


def hsc_galaxy(number):
    """Return one of three galaxies of HSC, with its mask, noise and PSF."""
    with np.load(Path(FOLDER) / f'hsc_galaxy_{number}.npz') as file:
        return CCDData(
            file['image'].astype(float),
            unit=u.adu,
            mask=file['mask'].astype(bool),
            uncertainty=StdDevUncertainty(file['sigma']),
            psf=file['psf'],
        )


def sky_of(cutout, radius=SKY_RADIUS):
    """Return the mean of the pixels far from the middle, and its error."""
    rows, columns = np.indices(cutout.shape) - np.array(cutout.shape)[:, None, None] // 2
    usable = np.hypot(rows, columns) > radius
    if cutout.mask is not None:
        usable &= ~cutout.mask
    values = cutout.data[usable]
    mean, _, scatter = sigma_clipped_stats(values, sigma=3, maxiters=10)
    return mean, scatter / np.sqrt(values.size)


def without_sky(cutout):
    same = cutout.copy()
    same.data = cutout.data - sky_of(cutout)[0]
    return same


def shortfall(cutout, row):
    """Return by how much a flux is less than the sum of the usable pixels, in its errors."""
    usable = np.ones(cutout.shape, bool) if cutout.mask is None else ~cutout.mask
    sky, sky_error = sky_of(cutout)
    pixels = (cutout.data[usable] - sky).sum()
    noise = np.sqrt((cutout.uncertainty.array[usable] ** 2).sum())
    error = np.sqrt(row['flux_err'].value ** 2 + noise**2 + (sky_error * usable.sum()) ** 2)
    return (pixels - row['flux'].value) / error


@pytest.mark.parametrize(('number', 'reference'), [(2, 3757.0), (3, 1639.0)])
def test_fluxes_of_a_sersic_fit(number, reference):
    row = CNNFluxEstimator().measure(hsc_galaxy(number))[0]
    assert row['flux'].unit == u.adu
    assert row['flux'].value == pytest.approx(reference, rel=0.1)


def test_a_galaxy_on_a_sky_that_is_off():
    """The sum of this stamp holds 7 % of sky, as every pixel is too bright by 0.18 sigma."""
    cutout = hsc_galaxy(3)
    sky, error = sky_of(cutout)
    noise = np.median(cutout.uncertainty.array)
    assert sky / noise == pytest.approx(0.18, abs=0.02)
    assert sky > 10 * error
    subtracted = without_sky(cutout)
    total = subtracted.data[~cutout.mask].sum()
    assert cutout.data[~cutout.mask].sum() > 1.07 * total
    estimator = CNNFluxEstimator()
    # what is left of the galaxy behind the masks and beyond the stamp is little
    for ccd in (cutout, subtracted):
        assert estimator.predict(ccd).value == pytest.approx(total, rel=0.05)


def test_what_is_said_of_that_galaxy():
    """Of its flux as it is, and with the sky subtracted."""
    cutout = hsc_galaxy(3)
    both = [cutout, without_sky(cutout)]
    sums = [ccd.data[~ccd.mask].sum() for ccd in both]
    fluxes = CNNFluxEstimator().measure(both)
    page = ' '.join((Path(__file__).parents[1] / 'docs' / 'accuracy.rst').read_text().split())
    assert f'{sums[0]:.0f} ADU as it is, {sums[1]:.0f} with' in page
    said = [f'{row["flux"].value:.0f} ± {row["flux_err"].value:.0f}' for row in fluxes]
    assert f'says {said[0]} as it is, and {said[1]} with' in page


def test_what_is_said_of_the_sersic_fit_of_that_galaxy():
    pytest.importorskip('pyimfit')
    flux = SersicFluxEstimator().predict(hsc_galaxy(3)).value
    page = (Path(__file__).parents[1] / 'docs' / 'accuracy.rst').read_text()
    said = float(re.search(r'a Sersic fit says (\d+)', page).group(1))
    assert flux == pytest.approx(said, rel=0.005)


@pytest.mark.parametrize('number', [1, 2, 3])
def test_no_flux_of_hsc_is_below_the_sum_of_its_pixels(number):
    cutout = hsc_galaxy(number)
    row = CNNFluxEstimator().measure(cutout)[0]
    assert row['n_neighbors'] == 0
    assert shortfall(cutout, row) < 2


def test_no_flux_of_cosmos_is_below_the_sum_of_its_pixels():
    pytest.importorskip('galsim')
    benchmarks = str(Path(__file__).parents[1] / 'benchmarks')
    sys.path.insert(0, benchmarks)
    try:
        sources = importlib.import_module('set_sources')
    finally:
        sys.path.remove(benchmarks)
    # each galaxy once
    cutouts, truth = sources.CosmosSource(200, seed=71003).load(0, 200)
    bright = truth['snr'] > 500
    names, first = np.unique(truth['galaxy'][bright], return_index=True)
    assert len(names) == 20
    chosen = np.flatnonzero(bright)[first]
    table = CNNFluxEstimator().measure([cutouts[index] for index in chosen])
    # a companion is told as a neighbor
    alone = table['n_neighbors'] == 0
    assert alone.sum() >= 15
    for index, row in zip(chosen[alone], table[alone], strict=True):
        assert shortfall(cutouts[index], row) < 2
    ratio = table['flux'].value / truth['flux'][chosen].value
    np.testing.assert_allclose(ratio[alone], 1, atol=0.03)
