# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What is the network's own; the contract is in test_contract.py."""

import os
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import CCDData, NDData, StdDevUncertainty
from astropy.utils.exceptions import AstropyUserWarning
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from astroflux import CNNFluxEstimator, decode_flags
from astroflux.networks import WeightsError, load_weights
from astroflux.networks.pyramid import CANVAS_SIZE


@pytest.fixture(scope='module')
def estimator():
    return CNNFluxEstimator()


def flags_of(table):
    return decode_flags(table['flags'])[0]


# -- accuracy ----------------------------------------------------------------------------------


@pytest.mark.parametrize(('number', 'reference'), [(2, 3757.0), (3, 1639.0)])
def test_real_galaxies(estimator, number, reference):
    folder = os.environ.get('ASTROFLUX_REAL_DATA')
    if not folder:
        pytest.skip('ASTROFLUX_REAL_DATA names no folder of real images')
    with np.load(Path(folder) / f'hsc_galaxy_{number}.npz') as file:
        ccd = CCDData(
            file['image'],
            unit=u.adu,
            mask=file['mask'].astype(bool),
            uncertainty=StdDevUncertainty(file['sigma']),
            psf=file['psf'],
        )
    flux = estimator.predict(ccd)
    assert flux.unit == u.adu
    assert flux.value == pytest.approx(reference, rel=0.1)


def test_simulated_galaxies(estimator):
    pytest.importorskip('galsim')
    from astroflux.simulation import CutoutSimulation, GalaxyPopulation, simulate_cutouts

    simulation = CutoutSimulation(galaxies=GalaxyPopulation(snr=(50.0, 3000.0)))
    cutouts, truth = zip(*simulate_cutouts(40, simulation, seed=31), strict=True)
    true_flux = np.array([row['flux'] for row in truth])
    table = estimator.measure(cutouts)
    error = np.log(table['flux'].value / true_flux)
    assert np.all(np.abs(error) < 0.3)
    assert np.median(np.abs(error)) < 0.02
    within = (table['flux_lower'].value < true_flux) & (true_flux < table['flux_upper'].value)
    # 68 % of 40 are 27 +- 3
    assert 17 <= within.sum() <= 37
    radius = table['half_light_radius'].to_value(u.arcsec)
    expected = np.array([row['half_light_radius'] for row in truth])
    assert np.median(np.abs(np.log(radius / expected))) < 0.1


def test_unknown_psf_still_measures(estimator, make_ccd):
    table = estimator.measure([make_ccd(), make_ccd()], psf_fwhm=[np.nan, 3.0])
    assert 'PSF_UNKNOWN' in decode_flags(table['flags'][0])
    assert 'PSF_UNKNOWN' not in decode_flags(table['flags'][1])
    ratio = table['flux'][0] / table['flux'][1]
    assert 0.85 < ratio < 1.15
    assert ratio != 1


# -- shapes and masks --------------------------------------------------------------------------


@pytest.mark.parametrize(
    'shape', [(32, 32), (33, 40), (64, 64), (147, 147), (200, 149), (512, 512)]
)
def test_shapes(estimator, make_ccd, shape):
    table = estimator.measure(make_ccd(shape, flux=5000.0), psf_fwhm=3.0)
    assert table['flux'][0].value == pytest.approx(5000, rel=0.1)
    assert ('STAMP_CROPPED' in flags_of(table)) == (max(shape) > CANVAS_SIZE)


def test_turns_and_flips_agree(estimator, make_ccd):
    ccd = make_ccd(flux=20000.0)
    images = [np.rot90(ccd.data, k) for k in range(4)] + [ccd.data.T]
    noise = StdDevUncertainty(np.ones(ccd.shape))
    flux = estimator.predict([NDData(image, uncertainty=noise) for image in images])
    assert np.ptp(flux) / np.mean(flux) < 0.02


def test_position(estimator, make_ccd):
    ccd = make_ccd((101, 101), centre=(30.0, 62.0), flux=8000.0)
    flux = estimator.predict(ccd, positions=(30.0, 62.0))
    assert flux.value == pytest.approx(8000, rel=0.1)


def test_masked_neighbour_is_ignored(estimator, make_ccd):
    ccd = make_ccd(flux=8000.0)
    alone = estimator.predict(ccd)
    y, x = np.indices(ccd.shape)
    ccd.mask = np.hypot(x - 48, y - 40) < 7
    ccd.data[ccd.mask] = 1e6
    assert estimator.predict(ccd).value == pytest.approx(alone.value, rel=0.03)


def test_value_of_a_masked_pixel_does_not_matter(estimator, make_ccd):
    ccd = make_ccd()
    ccd.mask = np.zeros(ccd.shape, bool)
    ccd.mask[20:23, 40] = True
    expected = estimator.predict(ccd)
    ccd.data[ccd.mask] = [np.nan, np.inf, -1e30]
    assert estimator.predict(ccd) == expected


def test_batch_size_does_not_matter(many):
    one, other = (CNNFluxEstimator(batch_size=n).predict(many) for n in (2, 256))
    np.testing.assert_allclose(one.value, other.value, rtol=1e-5)


# -- flags -------------------------------------------------------------------------------------


def test_pure_noise_is_not_detected(estimator, make_ccd):
    noise = np.random.default_rng(8).normal(size=(61, 61))
    stack = [
        make_ccd(),
        CCDData(noise, unit='nJy', uncertainty=StdDevUncertainty(np.ones((61, 61)))),
    ]
    table = estimator.measure(stack)
    assert np.isfinite(table['flux'][0])
    assert np.isnan(table['flux'][1])
    assert 'NOT_DETECTED' in decode_flags(table['flags'][1])
    assert 'no source at the position: S/N' in table.meta['messages'][1]


def test_faint_source_is_flagged(estimator, make_ccd):
    table = estimator.measure(make_ccd(flux=60.0, seed=4, sigma=1.2))
    assert np.isfinite(table['flux'][0])
    assert 'LOW_SNR' in flags_of(table)


@pytest.mark.parametrize(('fwhm', 'outside'), [(1.0, True), (4.0, False), (12.0, True)])
def test_psf_outside_the_training(estimator, make_ccd, fwhm, outside):
    table = estimator.measure(make_ccd(), psf_fwhm=fwhm)
    assert ('OUT_OF_RANGE' in flags_of(table)) == outside


def test_galaxy_larger_than_the_training(estimator, make_ccd):
    large = make_ccd((400, 400), flux=3e6, scale=30.0, axis_ratio=1.0)
    table = estimator.measure([make_ccd(), large], psf_fwhm=4.0)
    assert decode_flags(table['flags'][0]) == ()
    assert {'OUT_OF_RANGE', 'STAMP_CROPPED'} <= set(decode_flags(table['flags'][1]))


# -- weights -----------------------------------------------------------------------------------


def test_meta_names_the_weights(estimator, make_ccd):
    meta = estimator.measure(make_ccd()).meta
    assert meta['weights'] == 'profile-1'
    assert meta['weights_sha256'] == load_weights('profile-1').sha256
    assert 'torch' in meta['versions']


def test_constructor_loads_nothing(make_ccd):
    estimator = CNNFluxEstimator(weights='nonsense')
    assert repr(estimator) == "CNNFluxEstimator(weights='nonsense')"
    with pytest.raises(WeightsError, match="unknown weights 'nonsense': want one of 'profile-1'"):
        estimator.predict(make_ccd())


def test_untrained(make_ccd):
    with pytest.raises(NotFittedError, match=r'CNNFluxEstimator\(weights=None\) is untrained'):
        CNNFluxEstimator(weights=None).predict(make_ccd())


def test_set_params_takes_other_weights(make_ccd, tmp_path):
    estimator = CNNFluxEstimator()
    estimator.predict(make_ccd())
    path = tmp_path / 'copy.safetensors'
    estimator.save(path)
    estimator.set_params(weights='nonsense')
    with pytest.raises(WeightsError):
        estimator.predict(make_ccd())
    estimator.set_params(weights=path)
    assert estimator.predict(make_ccd()) == CNNFluxEstimator().predict(make_ccd())


# -- fit ---------------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def lesson(make_ccd):
    """Galaxies whose stated flux is 1.3 times what the pretrained network says."""
    ccds = [make_ccd(seed=seed, flux=1000.0 + 300 * seed) for seed in range(12)]
    return ccds, 1.3 * CNNFluxEstimator().predict(ccds)


def test_fine_tuning_learns_and_is_repeatable(lesson, tmp_path):
    ccds, flux = lesson
    estimator = CNNFluxEstimator(epochs=30, learning_rate=1e-3)
    assert estimator.fit(ccds, flux) is estimator
    fitted = estimator.predict(ccds)
    assert np.median(fitted / flux).value == pytest.approx(1, abs=0.1)
    np.testing.assert_allclose(clone(estimator).fit(ccds, flux).predict(ccds), fitted, rtol=1e-4)
    # a clone is not fitted, and the pretrained weights are as they were
    assert np.median(clone(estimator).predict(ccds) / flux).value == pytest.approx(
        1 / 1.3, rel=1e-3
    )
    path = tmp_path / 'tuned.safetensors'
    estimator.save(path)
    loaded = CNNFluxEstimator.load(path)
    np.testing.assert_allclose(loaded.predict(ccds), fitted)
    assert load_weights(path).name == 'profile-1, fine-tuned'


def test_training_from_nothing(lesson):
    ccds, flux = lesson
    estimator = CNNFluxEstimator(weights=None, epochs=2).fit(ccds, flux)
    assert np.isfinite(estimator.predict(ccds)).all()
    assert estimator.measure(ccds).meta['weights'] == 'fitted'


def test_fit_takes_other_units(lesson):
    ccds, flux = lesson
    one, other = (
        CNNFluxEstimator(epochs=1).fit(ccds, f).predict(ccds[0]) for f in (flux, flux.to('Jy'))
    )
    np.testing.assert_allclose(one, other, rtol=1e-4)


def test_fit_leaves_out_what_cannot_be_measured(lesson):
    ccds, flux = lesson
    bad = [*ccds[:3], np.full((61, 61), np.nan) * u.nJy]
    with pytest.warns(AstropyUserWarning, match='1 of 4 cutouts cannot be measured'):
        CNNFluxEstimator(epochs=1).fit(bad, flux[:4])


def test_fit_refuses(lesson):
    ccds, flux = lesson
    estimator = CNNFluxEstimator(epochs=1)
    with pytest.raises(ValueError, match='one value per cutout'):
        estimator.fit(ccds, flux[:3])
    with pytest.raises(ValueError, match='positive'):
        estimator.fit(ccds, -flux)
    with pytest.raises(u.UnitsError, match='adu'):
        estimator.fit(ccds, flux.value * u.adu)
    with pytest.raises(ValueError, match='at least 2 usable cutouts, got 1 of 1'):
        estimator.fit(ccds[:1], flux[:1])
