# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The fixed test sets are what they say, and nothing is trained on them."""

import importlib
import os
import sys
import tomllib
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('galsim')

from astroflux.cutouts import iter_cutouts
from astroflux.evaluation import SimulatedSource
from astroflux.flags import MeasurementFlag

BENCHMARKS = Path(__file__).parents[1] / 'benchmarks'

# they import each other by plain names
sys.path.insert(0, str(BENCHMARKS))
set_sources, sets = (importlib.import_module(name) for name in ('set_sources', 'sets'))
sys.path.remove(str(BENCHMARKS))


def load(name, n=2):
    test_set = sets.SETS[name]
    if not test_set.is_available:
        pytest.skip(f'{test_set.needs} names no folder')
    return test_set.source(n).load(0, n)


@pytest.mark.parametrize('name', sets.SETS)
def test_set_is_the_same_each_time_and_can_be_measured(name):
    cutouts, truth = load(name)
    again, truth_again = load(name)
    np.testing.assert_array_equal(truth['flux'], truth_again['flux'])
    for one, other in zip(cutouts, again, strict=True):
        np.testing.assert_array_equal(one.data, other.data)
    assert not [c for c in iter_cutouts(cutouts) if c.is_failed]
    low, high = sets.SETS[name].snr_bins[0], sets.SETS[name].snr_bins[-1]
    assert np.all((truth['snr'] >= low) & (truth['snr'] <= high))
    is_simulated = isinstance(sets.SETS[name].source(2), SimulatedSource)
    assert ('bound' in truth.colnames) == is_simulated


def test_no_seed_is_used_twice_or_trained_on():
    seed_of = {name: test_set.source(1).seed for name, test_set in sets.SETS.items()}
    # but for sets that are to be compared galaxy by galaxy
    seeds = [seed_of[name] for name in seed_of if not sets.SETS[name].same_galaxies]
    assert len(set(seeds)) == len(seeds)
    for path in (resources.files('astroflux.training') / 'configs').iterdir():
        config = tomllib.loads(path.read_text())
        trained = {section['seed'] for section in config.values() if 'seed' in section}
        assert trained
        assert not trained & set(seeds)


def test_masked_pixels_are_spoilt():
    cutouts, _ = load('masked')
    for cutout, parsed in zip(cutouts, iter_cutouts(cutouts), strict=True):
        assert 0.005 < cutout.mask.mean() < 0.3
        assert np.abs(cutout.data[cutout.mask]).max() > 100
        assert parsed.flags & MeasurementFlag.MASKED_PIXELS
        assert parsed.psf is not None


def test_wrong_and_unknown_psf():
    wrong, truth = load('wrong-psf', 4)
    widths = np.array([cutout.psf_fwhm * 0.168 for cutout in iter_cutouts(wrong)])
    ratio = widths / truth['psf_fwhm'].value
    assert np.all(np.abs(ratio - 1) < 0.12)
    assert np.std(ratio) > 0.01
    for cutout in iter_cutouts(load('psf-unknown')[0]):
        assert cutout.flags & MeasurementFlag.PSF_UNKNOWN


def test_pixel_scales_and_stamp_sizes():
    cutouts, _ = load('pixel-scales', 12)
    parsed = list(iter_cutouts(cutouts))
    assert len({round(c.pixel_scale, 3) for c in parsed}) >= 3
    sizes = {c.data.shape[0] for c in parsed}
    assert len(sizes) > 6
    assert min(sizes) >= 64
    assert max(sizes) <= 201


def test_real_galaxies_keep_their_flux():
    if not os.environ.get('ASTROFLUX_REAL_DATA'):
        pytest.skip('ASTROFLUX_REAL_DATA names no folder')
    cutouts, truth = load('cosmos', 3)
    for cutout, row in zip(cutouts, truth, strict=True):
        # the noise of the sum of all pixels, and the sky that is left
        error = 0.05 * np.hypot(143, 0.02 * 143**2)
        assert abs(cutout.data.sum() - row['flux'].value) < 4 * error


def test_galaxies_in_a_real_sky():
    cutouts, truth = load('sky', 12)
    masked, same = load('sky-masked', 12)
    assert sets.SETS['sky-masked'].same_galaxies == 'sky'
    np.testing.assert_array_equal(truth['flux'], same['flux'])
    for one, other in zip(cutouts, masked, strict=True):
        np.testing.assert_array_equal(one.data, other.data)
        assert one.mask is None
        assert other.mask.any()
        # the galaxy has been put where nothing is
        assert not other.mask[62:81, 62:81].any()
    noise = set_sources.real_field().noise
    assert noise == pytest.approx(0.0513, abs=1e-4)
    assert (cutouts[0].uncertainty.array == np.float32(noise)).all()
    # of pixels, as it is correlated and there is light in it, the sum scatters more
    blank = cutouts[0].data[~masked[0].mask]
    assert np.median(abs(blank - np.median(blank))) * 1.4826 == pytest.approx(noise, rel=0.1)
    np.testing.assert_array_equal(truth['psf_fwhm'].value, 0.75)


def test_places_in_the_real_sky():
    if not sets.SETS['sky'].is_available:
        pytest.skip('ASTROFLUX_REAL_DATA names no folder')
    field = set_sources.real_field()
    ny, nx = field.image.shape
    y, x = field.places.T
    assert (np.minimum(y, x) >= 72).all()
    assert (np.minimum(ny - 1 - y, nx - 1 - x) >= 72).all()
    # so many that the galaxies do not lie upon each other
    assert len(field.places) > 10_000
    stamps = {field.draw((143, 143), np.random.default_rng(seed))[0].tobytes() for seed in range(5)}
    assert len(stamps) == 5


def test_masks_and_sky_turn_together():
    field = set_sources.RealField(
        image=np.arange(49.0).reshape(7, 7),
        detected=np.arange(49).reshape(7, 7) == 17,
        places=np.array([[3, 3]]),
        noise=1.0,
    )
    drawn = [field.draw((5, 5), np.random.default_rng(seed)) for seed in range(30)]
    assert len({image.tobytes() for image, _ in drawn}) == 8
    for image, detected in drawn:
        assert image[detected] == 17


def test_scenes_have_sources_and_a_higher_bound():
    cutouts, truth = load('scene', 3)
    assert all(len(cutout.meta['sources']) > 10 for cutout in cutouts)
    assert np.isfinite(truth['bound']).all()
    assert (truth['bound'] > 1 / truth['snr']).all()


def test_structured_galaxies_are_of_both_families():
    cutouts, truth = load('structure', 12)
    assert 0 < np.mean(truth['is_richer']) < 1
    for cutout, row in zip(cutouts, truth, strict=True):
        # what lies outside is missing, and the sky residual and the noise are there
        error = 0.05 * np.hypot(143, 0.02 * 143**2)
        assert cutout.data.sum() < row['flux'].value + 4 * error
        assert cutout.data.sum() > 0.5 * row['flux'].value - 4 * error
