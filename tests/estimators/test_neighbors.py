# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Galaxies beside others, as the shipped network measures them."""

import numpy as np
import pytest
from astropy.nddata import CCDData, StdDevUncertainty

from astroflux import CNNFluxEstimator
from astroflux.flags import MeasurementFlag as Flag
from astroflux.flags import decode_flags
from astroflux.networks import load_weights

if not load_weights().network.settings['n_neighbors']:
    pytest.skip('the weights that ship know no neighbors', allow_module_level=True)

SIZE, FWHM = 121, 4.5
SIGMA = FWHM / 2.355
FLUX, NOISE = 2000.0, 1.0


def gaussian(flux, x=0.0, y=0.0, sigma=2.5):
    rows, columns = np.mgrid[:SIZE, :SIZE] - SIZE // 2
    image = np.exp(-0.5 * ((columns - x) ** 2 + (rows - y) ** 2) / sigma**2)
    return flux * image / (2 * np.pi * sigma**2)


def exponential(flux, x, y, scale):
    rows, columns = np.mgrid[:SIZE, :SIZE] - SIZE // 2
    radius = np.hypot(columns - x, rows - y)
    return flux * np.exp(-radius / scale) / (2 * np.pi * scale**2)


def measure(*sources, seed=0):
    """Return the row of a galaxy in the middle of a stamp with some sources."""
    image = sum(sources) + np.random.default_rng(seed).normal(0, NOISE, (SIZE, SIZE))
    noise = StdDevUncertainty(np.full(image.shape, NOISE))
    cutout = CCDData(image, unit='adu', uncertainty=noise, psf=gaussian(1.0, sigma=SIGMA))
    return CNNFluxEstimator().measure([cutout])[0]


def flags(row):
    return decode_flags(row['flags'])


GALAXY = gaussian(FLUX)


def test_a_galaxy_alone_has_no_neighbors():
    row = measure(GALAXY)
    assert row['n_neighbors'] == 0
    assert np.isnan(row['neighbor_distance'])
    assert row['neighbor_light'] == 0
    assert row['flux'].value == pytest.approx(FLUX, rel=0.05)
    assert not {'NEIGHBOUR', 'AMBIGUOUS'} & set(flags(row))


def test_columns_of_a_neighbor():
    row = measure(GALAXY, gaussian(2 * FLUX, 9, 6))
    assert row['n_neighbors'] >= 1
    assert row['neighbor_distance'].value == pytest.approx(np.hypot(9, 6), abs=1.5)
    assert row['neighbor_light'] > 0
    assert row['flux'].value == pytest.approx(FLUX, rel=0.1)


def test_light_of_a_near_neighbor_is_flagged():
    assert 'NEIGHBOUR' in flags(measure(GALAXY, gaussian(FLUX, 7, 0)))


@pytest.mark.parametrize('ratio', [3, 10])
def test_a_brighter_neighbor_within_two_widths_is_ambiguous(ratio):
    row = measure(GALAXY, gaussian(ratio * FLUX, 8, 0))
    assert 'AMBIGUOUS' in flags(row)
    # of the source at the position, not of the brighter one, as far as its error says
    assert row['flux'].value == pytest.approx(FLUX, rel=0.35)
    assert row['flux_lower_95'].value < FLUX < row['flux_upper_95'].value


def test_the_interval_is_wide_where_little_can_be_known():
    """Nearer than that two sources look like one, and nobody knows."""
    alone = measure(GALAXY)
    beside = measure(GALAXY, gaussian(3 * FLUX, 1.3 * FWHM, 0))
    width = [row['flux_err'].value / row['flux'].value for row in (alone, beside)]
    assert width[1] > 4 * width[0]
    assert 'AMBIGUOUS' in flags(beside)


def test_more_neighbors_than_the_fit_holds():
    rng = np.random.default_rng(4)
    # not in a ring, which a galaxy may have
    angles, distances = rng.uniform(0, 2 * np.pi, 8), rng.uniform(13, 30, 8)
    places = zip(distances * np.cos(angles), distances * np.sin(angles), strict=True)
    others = [gaussian(FLUX, x, y) for x, y in places]
    row = measure(GALAXY, *others)
    assert row['n_neighbors'] == 4
    assert row['flux'].value == pytest.approx(FLUX, rel=0.15)


@pytest.mark.parametrize('place', [(60, 0), (30, 30), (31, -10), (-60, -60)])
def test_a_neighbor_on_the_edge_of_the_stamp_or_of_the_search(place):
    row = measure(GALAXY, gaussian(10 * FLUX, *place))
    assert row['flux'].value == pytest.approx(FLUX, rel=0.1)


def test_the_halo_of_a_star_beyond_the_stamp():
    # its light has no maximum inside; it falls from 2 to 0.3 times the noise across the stamp
    rows, columns = np.mgrid[:SIZE, :SIZE] - SIZE // 2
    halo = 2e4 / ((columns + 160) ** 2 + rows**2)
    row = measure(GALAXY, halo)
    error = max(row['flux_err'].value, 0.1 * FLUX)
    assert abs(row['flux'].value - FLUX) < 2 * error


def test_a_stamp_that_is_all_neighbor():
    # nothing at the position but the disc of a galaxy that is far larger than the stamp
    row = measure(exponential(2e6, 45, 30, 30.0))
    assert row['flags'] & (
        Flag.NEIGHBOUR | Flag.AMBIGUOUS | Flag.UNFAMILIAR | Flag.NOT_DETECTED | Flag.OUT_OF_RANGE
    )
